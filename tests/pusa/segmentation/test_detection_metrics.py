import numpy as np
import pytest

from pusa import metrics
from pusa.segmentation import masks
from pusa.segmentation.masks import Detections


def photo(*animals, scores=None):
    """Detections of rectangles x0, y0, x1, y1 in a photo of 40 x 20."""
    found = []
    for x0, y0, x1, y1 in animals:
        mask = np.zeros((20, 40), bool)
        mask[y0:y1, x0:x1] = True
        found.append(masks.encode(mask))
    boxes = np.array(animals, np.float32).reshape(-1, 4)
    return Detections(boxes, np.array(scores or [1.0] * len(found), np.float32), found)


@pytest.mark.parametrize(
    ("iou", "expected"),
    [
        ([[0.9, 0.2]], [True]),
        ([[0.49, 0.2]], [False]),  # too little overlap
        ([[0.5, 0.2]], [True]),  # exactly the threshold counts
        ([[0.6], [0.9]], [True, False]),  # the better score takes the animal, though the other fits it better
        ([[0.6, 0.7], [0.0, 0.8]], [True, False]),  # greedy: the first takes the second animal away
        ([[0.7, 0.6], [0.8, 0.55]], [True, True]),  # the second finds its best taken and is content with the other
        (np.zeros((2, 0)), [False, False]),  # no animal in the photo
        (np.zeros((0, 2)), []),  # nothing found
    ],
)
def test_match(iou, expected):
    assert metrics.match(np.array(iou)).tolist() == expected


def test_precision_recall_f1_by_hand():
    precision, recall, f1 = metrics.precision_recall_f1(right=3, found=4, animals=6)
    assert (precision, recall) == (0.75, 0.5)
    assert f1 == pytest.approx(2 * 0.75 * 0.5 / 1.25)
    assert metrics.precision_recall_f1(0, 0, 0) == (0, 0, 0)


def test_box_iou_by_hand():
    first = np.array([[0, 0, 4, 2], [10, 10, 12, 12]], np.float32)
    second = np.array([[2, 0, 6, 2], [0, 0, 4, 2]], np.float32)
    np.testing.assert_allclose(metrics.box_iou(first, second), [[4 / 12, 1], [0, 0]])
    assert metrics.box_iou(first, np.zeros((0, 4), np.float32)).shape == (2, 0)


def test_perfect_detections():
    truth = [photo((0, 0, 10, 10), (20, 5, 30, 15)), photo((5, 5, 25, 15))]
    measured = metrics.detection_metrics(truth, truth, 0.8)
    assert (measured["photos"], measured["animals"], measured["found"]) == (2, 3, 3)
    for kind in ("mask", "box"):
        for name in ("map", "map50", "precision", "recall", "f1", "f1_mean"):
            assert measured[f"{kind}_{name}"] == pytest.approx(1), (kind, name)
        assert measured[f"{kind}_ar1"] == pytest.approx(2 / 3)  # one detection a photo: two of three animals
        assert measured[f"{kind}_f1_ap_ar"] == pytest.approx(2 * (2 / 3) / (1 + 2 / 3))


def test_f1_and_map_by_hand():
    """Two animals. Found: the first exactly (.9), a false one (.85), the second at IoU 6/10 (.7)."""
    truth = [photo((0, 0, 10, 10), (20, 0, 30, 10))]
    found = [photo((0, 0, 10, 10), (0, 12, 10, 18), (20, 0, 26, 10), scores=[0.9, 0.85, 0.7])]
    measured = metrics.detection_metrics(found, truth, 0.8)
    for kind in ("mask", "box"):
        # At .8: two found, one right, two animals
        assert measured[f"{kind}_precision"] == 0.5
        assert measured[f"{kind}_recall"] == 0.5
        assert measured[f"{kind}_f1"] == 0.5
        assert measured[f"{kind}_f1_mean"] == pytest.approx(0.5)
        # COCO: the mean precision at 101 recalls. It is 1 up to recall .5 (51 of them), then 2/3.
        at50 = (51 + 50 * 2 / 3) / 101
        assert measured[f"{kind}_map50"] == pytest.approx(at50)
    low = metrics.detection_metrics(found, truth, 0.5)
    assert low["mask_precision"] == pytest.approx(2 / 3)
    assert low["mask_recall"] == 1


def test_mask_and_box_are_measured_apart():
    """A box that fits with a mask that covers a third of the animal."""
    animal = photo((0, 0, 12, 12))
    third = photo((0, 0, 12, 4))
    found = [Detections(animal.boxes, animal.scores, third.masks)]
    measured = metrics.detection_metrics(found, [animal], 0.8)
    assert measured["box_f1"] == 1
    assert measured["mask_f1"] == 0


@pytest.mark.parametrize(
    ("found", "truth"),
    [
        (photo(), photo((0, 0, 5, 5))),  # nothing found
        (photo((0, 0, 5, 5)), photo()),  # nothing to find
        (photo(), photo()),
    ],
)
def test_nothing_on_one_side(found, truth):
    measured = metrics.detection_metrics([found], [truth], 0.8)
    assert measured["mask_f1"] == measured["mask_map"] == measured["box_f1_ap_ar"] == 0


def test_photos_without_animals_cost_precision():
    animal, nothing = photo((0, 0, 10, 10)), photo()
    measured = metrics.detection_metrics([animal, animal], [animal, nothing], 0.8)
    assert measured["mask_precision"] == 0.5
    assert measured["mask_map50"] == pytest.approx(1)  # found at the same score as the true one, but later in the order


def test_counts_of_photos_must_agree():
    with pytest.raises(ValueError, match="2 photos, truth of 1"):
        metrics.detection_metrics([photo(), photo()], [photo()], 0.8)
