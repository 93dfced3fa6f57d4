import cv2
import numpy as np
import pyarrow as pa
import pytest
import torch
from torch import nn

from pusa import photos, records
from pusa.embedding.embed import patches_of
from pusa.pattern import extract
from pusa.pattern.extract import PatternConfig, PatternExtractor
from pusa.pattern.patches import PatchConfig
from pusa.pattern.quality import SIGNS, Quality
from pusa.segmentation import masks

# The scale of the public extractor: lines of 2 px, half a patch between neighbours.
PLAIN = PatternConfig(
    input_size=256,
    clahe=0,
    opening=0,
    closing=0,
    speck=0,
    line_thickness=2,
    patches=PatchConfig(at="grid", stride=32),
    device="cpu",
)


class Bright(nn.Module):
    """Stands for the network: what is lighter than middle grey is ring."""

    def forward(self, x):
        return (x - 0.5) * 50


def one_photo(instances):
    row = {f.name: None for f in records.PHOTOS} | {"photo_id": "p", "status": "ok", "instances": instances}
    return pa.Table.from_pylist([row], records.PHOTOS)


def seal(width=400, height=200, at=(30, 20), mask=True, lines=8, every=40):
    """An instance whose crop box shows white lines, `lines` px wide, one `every` px, on dark fur."""
    crop = np.full((height, width, 3), 40, np.uint8)
    for x in range(20, width, every):
        crop[:, x : x + lines] = 220
    x0, y0 = at
    box = [x0, y0, x0 + width, y0 + height]
    rle = masks.encode(np.ones((height, width), bool), (1000, 1500), (x0, y0)) if mask else None
    return records.new_instance("p#0", crop_box=box, crop=photos.encode_jpeg(crop), mask=rle)


def extracted(instance, config=PLAIN):
    table = PatternExtractor(config, network=Bright())(one_photo([instance]))
    return records.instances(table)[0][0]


def test_lines_become_pattern_and_patches():
    found = extracted(seal())
    pattern = photos.decode_mask_png(found["pattern"])
    assert pattern.shape == (200, 400)  # the crop box, not the network's 256 px
    assert found["pattern_fraction"] == pytest.approx(0.2, abs=0.03)
    assert found["usable"]
    assert found["unusable_reason"] is None
    # Lines of 8 px become 2 px: the pattern of 400 x 200 px is 100 x 50 px, two patches wide and one high.
    sides = np.diff(np.array(found["patch_boxes"]).reshape(-1, 2, 2), axis=1).ravel()
    assert sides == pytest.approx(np.full(len(sides), 256), rel=0.1)


def test_embedding_finds_the_same_patches():
    found = extracted(seal(width=611, height=333, at=(17, 503)))
    pattern = photos.decode_mask_png(found["pattern"])
    normalised, _ = extract.normalise_thickness(pattern, PLAIN)
    expected, _ = extract.patches.extract(normalised, PLAIN.patches)
    assert len(expected) > 1
    assert np.array_equal(patches_of(found), expected)


def test_a_shrunk_crop_gives_a_pattern_of_the_crop_box():
    instance = seal(width=1000, height=500, lines=12)
    small = cv2.resize(photos.decode_jpeg(instance["crop"]), (500, 250), interpolation=cv2.INTER_AREA)
    instance["crop"] = photos.encode_jpeg(small)
    assert photos.decode_mask_png(extracted(instance)["pattern"]).shape == (500, 1000)


@pytest.mark.parametrize(
    ("instance", "reason"),
    [
        (seal(width=63, height=40), "too small"),
        (seal(width=3, height=2), "too small"),
        (seal(lines=0), "no pattern"),
        (seal() | {"mask": masks.encode(np.zeros((1000, 1500), bool))}, "no pattern"),  # an empty mask
        (seal(every=200), "pattern too sparse"),  # 4 % white
    ],
)
def test_unusable_crops_say_why(instance, reason):
    found = extracted(instance)
    assert (found["usable"], found["unusable_reason"]) == (False, reason)
    assert found["patch_boxes"] == []


@pytest.mark.parametrize(
    ("min_quality", "reason"),
    [
        (0.0, None),  # the default: all are let through
        (0.39, None),  # the judge below says 0.4 of every pattern
        (0.41, "too small"),
        (None, "too small"),  # its own threshold is 0.5
    ],
)
def test_patterns_of_little_quality_are_turned_down_and_kept(min_quality, reason):
    extractor = PatternExtractor(PLAIN.model_copy(update={"min_quality": min_quality}), network=Bright())
    zeros = (0.0,) * len(SIGNS)
    extractor.quality = Quality(
        mean=zeros, scale=(1.0,) * len(SIGNS), weights=zeros, bias=float(np.log(0.4 / 0.6)), threshold=0.5
    )
    found = records.instances(extractor(one_photo([seal()])))[0][0]
    assert found["unusable_reason"] == reason
    assert found["usable"] == (reason is None)
    assert (len(found["patch_boxes"]) > 0) == (reason is None)
    assert found["pattern"] is not None


def test_an_instance_without_mask_uses_all_of_the_crop():
    assert extracted(seal(mask=False))["usable"]


def test_an_instance_without_crop_and_a_photo_without_animals_pass():
    extractor = PatternExtractor(PLAIN, network=Bright())
    table = extractor(one_photo([records.new_instance("p#0")]))
    assert records.instances(table)[0][0]["pattern"] is None
    assert records.instances(extractor(one_photo([]))) == [[]]


def test_probabilities_keep_order_and_shape():
    sizes = [(256, 100), (100, 256), (256, 90), (30, 256)]
    inputs = [np.full(s, 250 - 60 * i, np.uint8) for i, s in enumerate(sizes)]
    found = PatternExtractor(PLAIN, network=Bright()).probabilities(inputs)
    assert [p.shape for p in found] == sizes
    for grey, p in zip(inputs, found, strict=True):
        logit = (torch.tensor(float(grey[0, 0])) / 255 - 0.5) * 50
        np.testing.assert_allclose(p, torch.sigmoid(logit).item(), atol=0.03)  # a CPU may compute in bfloat16


@pytest.mark.parametrize(
    ("settings", "expected"),
    [
        ({}, {"line", "gap", "dot"}),
        ({"opening": 3}, {"line", "gap"}),  # the dot of 2 x 2 px goes
        ({"speck": 5}, {"line", "gap"}),
        ({"closing": 5}, {"line", "dot"}),  # the line's gap of 2 px is filled
    ],
)
def test_morphology(settings, expected):
    probability = np.zeros((40, 60))
    probability[10:16, 5:25] = probability[10:16, 27:50] = 0.9  # a line of 6 px with a gap of 2 px
    probability[30:32, 30:32] = 0.9
    probability[35:39, 5:50] = 0.5  # below the threshold
    pattern = extract.binary_mask(probability, np.ones((40, 60), bool), PLAIN.model_copy(update=settings))
    seen = {
        "line": pattern[12, 8:23].all() and pattern[12, 30:45].all(),
        "gap": not pattern[12, 25:27].any(),
        "dot": pattern[28:34, 28:34].any(),
    }
    assert {name for name, there in seen.items() if there} == expected
    assert not pattern[35:39].any()


def test_pattern_stays_inside_the_mask():
    mask = np.zeros((20, 20), bool)
    mask[:, :10] = True
    pattern = extract.binary_mask(np.ones((20, 20)), mask, PLAIN.model_copy(update={"closing": 5}))
    assert np.array_equal(pattern, mask)


@pytest.mark.parametrize("width", [2, 4, 8, 14])
def test_thickness_of_bars(width):
    pattern = np.zeros((300, 300), bool)
    for x in range(20, 280, 40):
        pattern[10:290, x : x + width] = True
    assert extract.thickness(pattern) == pytest.approx(width, rel=0.1)
    normalised, scale = extract.normalise_thickness(pattern, PLAIN)
    assert scale == pytest.approx(2 / width, rel=0.1)
    assert extract.thickness(normalised) == pytest.approx(2, rel=0.2)


@pytest.mark.parametrize(
    ("pattern", "scale"),
    [
        (np.zeros((50, 80), bool), 1.0),  # empty: unchanged
        (np.ones((300, 300), bool), 0.1),  # a blob: the limit
        (np.eye(90, dtype=bool), 2.0),  # a line of 1 px: the other limit
    ],
)
def test_normalisation_at_the_limits(pattern, scale):
    normalised, found = extract.normalise_thickness(pattern, PLAIN)
    assert found == pytest.approx(scale)
    assert normalised.shape == tuple(round(n * scale) for n in pattern.shape)


def test_background_is_black_and_longer_side_fits():
    crop = np.full((100, 50, 3), 200, np.uint8)
    mask = np.zeros((100, 50), bool)
    mask[:50] = True
    grey = extract.network_input(*extract.prepare(crop, mask, PLAIN), PLAIN)
    assert grey.shape == (256, 128)
    assert (grey[:128] == 200).all()
    assert (grey[128:] == 0).all()
