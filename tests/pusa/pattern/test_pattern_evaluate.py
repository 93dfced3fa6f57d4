import numpy as np
import pytest
import torch
from PIL import Image
from torch import nn

from pusa import photos
from pusa.pattern import evaluate, ridge
from pusa.pattern.compare import difference_interval
from pusa.pattern.data import Example
from pusa.pattern.evaluate import Examined, filtering
from pusa.pattern.extract import PatternConfig, PatternExtractor
from pusa.pattern.quality import SIGNS, Quality

PLAIN = PatternConfig(clahe=0, opening=0, closing=0, speck=0, threshold=0.5)


@pytest.mark.parametrize(
    ("crop_box", "shift", "f1"),
    [
        ((10, 20, 110, 70), 0, 1.0),  # the same box
        ((4, 14, 120, 80), 0, 1.0),  # a crop that is wider
        ((30, 20, 120, 80), 0, 1.0),  # one that cuts the left part off: the line there is not asked for
        ((10, 20, 110, 70), 6, 0.0),  # 6 px beside, 31 at the scale of the network
    ],
)
def test_patterns_are_compared_where_crop_and_truth_overlap(tmp_path, crop_box, shift, f1):
    """True rings: vertical lines at x = 25, 60 and 95 of the photo, in a box that begins at (10, 20)."""
    true = np.zeros((50, 100), bool)
    true[5:45, [15, 50, 85]] = True
    Image.fromarray(true).save(tmp_path / "rings.png")
    x0, y0, x1, y1 = crop_box
    photo = np.zeros((100, 140), bool)
    photo[25:65, [25 + shift, 60 + shift, 95 + shift]] = True
    instance = {"crop_box": list(crop_box), "pattern": photos.encode_mask_png(photo[y0:y1, x0:x1])}
    counts = evaluate.instance_counts(instance, tmp_path / "rings.png", (10, 20))
    assert evaluate.scores(counts)["f1"] == pytest.approx(f1, abs=0.02)


def test_no_pattern_is_nothing_found(tmp_path):
    true = np.zeros((50, 100), bool)
    true[5:45, 50] = True
    Image.fromarray(true).save(tmp_path / "rings.png")
    instance = {"crop_box": [10, 20, 110, 70], "pattern": None}
    scores = evaluate.scores(evaluate.instance_counts(instance, tmp_path / "rings.png", (10, 20)))
    assert scores == {"iou": 0, "precision": 0, "recall": 0, "f1": 0, "cldice": 0}


def example(light=60, lines=True, **about) -> Example:
    """Vertical lines, 3 px wide, on an oval animal of grey level 60 in a crop of 120 x 240 px."""
    y, x = np.mgrid[:120, :240]
    mask = ((x - 120) / 110) ** 2 + ((y - 60) / 50) ** 2 < 1
    rings = mask & (x % 20 < 3) & lines
    grey = np.where(mask, 60 + light * rings, 200)
    return Example(np.dstack([grey, mask * 255, rings * 255]).astype(np.uint8), 240, about)


def maps(*patterns):
    """What a network that is sure of the given patterns says."""
    return [p.astype(np.float32) for p in patterns]


def test_f1_of_a_crop():
    e, blank = example(), example(lines=False)
    none = np.zeros_like(e.rings)
    examined = evaluate.examine(maps(e.rings, none, none, e.rings), [e, e, blank, blank], PLAIN)
    # All found; nothing found; rightly nothing found; found what is not there.
    assert examined.f1.tolist() == pytest.approx([1, 0, 1, 0])


def test_filtering_by_hand():
    """Two crops of Anna, one of Bert, one of Cora; the filter lets through what has contrast."""
    quality = Quality(
        mean=(0,) * 10, scale=(1,) * 10, weights=tuple(float(n == "contrast") for n in SIGNS), bias=-30, threshold=0.5
    )
    clear, faint = {"ring_clarity": 2.0}, {"ring_clarity": 0.1}
    examples = [
        example(60, sequence_id="s", identity="Anna", **clear),  # right and let through
        example(10, sequence_id="s", identity="Anna", **clear),  # right, but turned down
        example(60, sequence_id="s", identity="Bert", **faint),  # wrong, but let through
        example(10, sequence_id="s", identity="Cora", **clear),  # wrong and turned down
    ]
    right, wrong = examples[0].rings, np.roll(examples[0].rings, 10, axis=1)
    examined = evaluate.examine(maps(right, right, wrong, wrong), examples, PLAIN)
    signs = examined.signs.copy()
    signs[:, list(SIGNS).index("contrast")] = [60, 10, 60, 10]
    found = filtering(quality, Examined(examined.counts, signs), examples)
    assert found == {
        "crops": 4,
        "usable": 0.5,
        "chosen": 0.5,
        "precision": 0.5,
        "balanced_accuracy": 0.5,
        "groups": 0.5,  # of Anna and Cora, whose rings a person sees, Anna has a pattern
    }


def test_ridge_filter_finds_light_lines_and_no_outline():
    e = example()
    (strength,) = ridge.ridge_maps([e], PLAIN, (1.5, 2.0))
    assert strength[e.rings].mean() > 0.7
    inner = evaluate.cv2.erode(e.mask.astype(np.uint8), np.ones((15, 15))).astype(bool)
    beside = ~evaluate.cv2.dilate(e.rings.astype(np.uint8), np.ones((9, 9))).astype(bool)
    assert strength[e.mask & ~inner & beside].mean() < 0.1
    assert not strength[~e.mask].any()


def test_tuning_takes_the_scale_and_threshold_that_find_the_lines():
    sigmas, judged = ridge.tuned([example(30), example(60)], PLAIN)
    assert sigmas in ridge.SIGMAS
    examined = evaluate.examine(ridge.ridge_maps([example(45)], judged, sigmas), [example(45)], judged)
    assert examined.f1[0] > 0.95


def test_interval_of_a_difference():
    e = example()
    good = evaluate.examine(maps(*[e.rings] * 6), [e] * 6, PLAIN)
    mixed = evaluate.examine(maps(*[e.rings] * 3, *[np.roll(e.rings, 10, 1)] * 3), [e] * 6, PLAIN)
    assert difference_interval(good, good, samples=50) == (0, 0)
    low, high = difference_interval(good, mixed, samples=200)
    assert 0 <= low < 0.5 < high <= 1


class Bright(nn.Module):
    """Stands for the network: its probability is 0.55 where the picture is lighter than 100, 0.2 elsewhere."""

    def forward(self, x):
        return torch.where(x > 100 / 255, 0.2, -1.4)


def test_calibration_takes_a_threshold_that_finds_the_lines_and_judges_by_what_is_right():
    extractor = PatternExtractor(PLAIN.model_copy(update={"device": "cpu"}), network=Bright())
    good, faint = [example(60 + i) for i in range(12)], [example(20 + i) for i in range(12)]
    threshold, quality = evaluate.calibrate(extractor, good + faint)
    assert threshold in (0.3, 0.4, 0.5)  # between what lines and fur get
    examined = evaluate.examine(evaluate.unet_maps(extractor, good + faint), good + faint, PLAIN)
    assert [quality.judge(s)[1] is None for s in examined.signs] == [True] * 12 + [False] * 12
    with pytest.raises(ValueError, match="both kinds"):
        evaluate.calibrate(extractor, faint)
