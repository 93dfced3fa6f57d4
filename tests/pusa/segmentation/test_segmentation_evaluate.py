"""Three photos of 40 x 30 with known detections: one right, one that misses, one with a false animal."""

import re

import cv2
import numpy as np
import pytest

from pusa.report.detections import write_worst
from pusa.segmentation import masks
from pusa.segmentation.data import LabelledPhoto
from pusa.segmentation.evaluate import GREEN, RED, draw, evaluate
from pusa.segmentation.masks import Detections
from pusa.segmentation.segmenter import SegmentationConfig


def rectangle(x0, y0, x1, y1):
    mask = np.zeros((30, 40), bool)
    mask[y0:y1, x0:x1] = True
    return masks.encode(mask)


ANIMAL, STONE = rectangle(5, 5, 25, 20), rectangle(30, 20, 38, 28)


class Known:
    """A segmenter that gives the same answers whatever it is shown: (mask, score) by the grey level of the photo."""

    config = SegmentationConfig(score_threshold=0.8)
    answers = {10: [(ANIMAL, 0.9)], 20: [(ANIMAL, 0.5)], 30: [(ANIMAL, 0.9), (STONE, 0.85)]}  # noqa: RUF012

    def segment(self, photos, score_threshold):
        assert score_threshold == 0.05  # the mAP wants the low scores, too
        rows = self.answers[int(photos[0][0, 0, 0])]
        found = [mask for mask, _ in rows]
        boxes = np.array([masks.box(mask) for mask in found])
        return [Detections(boxes, np.array([score for _, score in rows], np.float32), found)]


@pytest.fixture
def labelled(tmp_path):
    result = []
    for name, grey in (("right", 10), ("missed", 20), ("false", 30)):
        cv2.imwrite(str(tmp_path / f"{name}.png"), np.full((30, 40, 3), grey, np.uint8))
        result.append(LabelledPhoto(tmp_path / f"{name}.png", [ANIMAL]))
    return result


def test_figures_and_the_photos_that_are_wrong(labelled):
    figures, judged = evaluate(Known(), labelled)
    assert figures["animals"] == 3
    assert figures["found"] == 3  # two animals and a stone
    assert figures["mask_precision"] == pytest.approx(2 / 3)
    assert figures["mask_recall"] == pytest.approx(2 / 3)
    # By score: right, right, stone, right. The precision is 1 up to a recall of 2/3, and 3/4 up to 1.
    assert figures["mask_map50"] == pytest.approx((67 * 1 + 34 * 0.75) / 101)  # COCO's 101 points of recall, from 0 on
    assert [j.photo.path.stem for j in judged] == ["false", "missed", "right"]  # worst first, then by name
    assert [(j.wrong, j.missed, j.right.tolist()) for j in judged] == [
        (1, 0, [True, False]), (1, 1, []), (0, 0, [True])
    ]  # fmt: skip


def test_outlines(labelled):
    _, judged = evaluate(Known(), labelled)
    picture = draw(judged[0])
    assert picture.shape == (30, 40, 3)
    assert picture[5, 15] == pytest.approx(np.array(GREEN), abs=40)  # the upper edge of the animal
    assert picture[20, 34] == pytest.approx(np.array(RED), abs=40)  # of the stone
    assert (picture[12, 15] == 30).all()  # inside, the photo


def test_page_of_the_worst_photos(labelled, tmp_path):
    _, judged = evaluate(Known(), labelled)
    file = tmp_path / "new" / "worst.html"
    assert write_worst(file, judged, "<weights>", 0.8) == 2
    page = file.read_text()
    assert re.findall(r'class="path">(\w+)', page) == ["false", "missed"]
    assert "&lt;weights&gt;" in page
    assert "2 of 3 photos have an error" in page
    assert "0 of 1 animals missed; wrong: 1, with a score of 0.85" in page
    assert not re.search(r"(src|href)=\"(?!data:)", page)  # it opens offline
