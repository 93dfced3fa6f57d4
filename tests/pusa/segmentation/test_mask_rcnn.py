import numpy as np
import pytest
import torch
from torch.nn.functional import grid_sample
from torchvision.models.detection.image_list import ImageList

from pusa import weights
from pusa.errors import UserError
from pusa.segmentation import masks
from pusa.segmentation.mask_rcnn import build
from pusa.segmentation.segmenter import SegmentationConfig, Segmenter, paste, working_size


@pytest.fixture(scope="module")
def segmenter():
    torch.manual_seed(0)
    network = build({"architecture": "lite"})
    return Segmenter(SegmentationConfig(shorter_side=96, longer_side=160, device="cpu"), network=network)


def test_parameters_are_about_five_million():
    parameters = sum(p.numel() for p in build({"architecture": "lite"}).parameters())
    assert 4.5e6 < parameters < 5.5e6


@pytest.mark.parametrize("finest", [4, 8, 16])
def test_every_pyramid_has_anchors_for_each_of_its_maps(finest):
    network = build({"architecture": "lite", "finest": finest}).eval()
    with torch.inference_mode():
        features = network.backbone(torch.zeros(1, 3, 64, 64))
    assert next(iter(features.values())).shape[-1] == 64 / finest
    assert len(network.rpn.anchor_generator.sizes) == len(features)
    assert network.roi_heads.box_roi_pool.featmap_names == list(features)[:-1]


def test_unknown_architecture():
    with pytest.raises(UserError, match="no segmentation architecture 'yolo'"):
        build({"architecture": "yolo"})


@pytest.mark.parametrize(
    ("height", "width", "expected"),
    [
        (960, 1280, (512, 683)),  # the shorter side decides: 682.67
        (600, 2400, (200, 800)),  # a panorama: the longer side decides
        (256, 300, (512, 600)),  # small photos are enlarged
        (1024, 1025, (512, 513)),  # 512.5 is rounded up
        (1, 5000, (1, 800)),  # never less than a pixel
    ],
)
def test_working_size(height, width, expected):
    assert working_size(height, width, 512, 800) == expected


def test_detections_have_the_promised_form(segmenter):
    photo = np.random.default_rng(0).integers(0, 255, (120, 210, 3), dtype=np.uint8)
    found = segmenter.segment([photo], score_threshold=0.3)[0]
    assert 0 < len(found) <= 50
    assert found.boxes.dtype == np.float32
    assert found.boxes.shape == (len(found), 4)
    assert (found.boxes[:, :2] >= 0).all()
    assert (found.boxes[:, 2:] <= [210.01, 120.01]).all()
    assert (np.diff(found.scores) <= 0).all()
    for box, mask in zip(found.boxes, found.masks, strict=True):
        assert mask["size"] == [120, 210]
        inner = masks.box(mask)  # inside the box, but for the pixels that its edges cut
        assert (inner[:2] >= np.floor(box[:2])).all()
        assert (inner[2:] <= np.ceil(box[2:])).all()


def test_result_does_not_depend_on_the_batch(segmenter):
    rng = np.random.default_rng(1)
    photos = [rng.integers(0, 255, (h, w, 3), dtype=np.uint8) for h, w in [(90, 160), (160, 90), (100, 100)]]
    together = segmenter.segment(photos, 0.3)
    for photo, found in zip(photos, together, strict=True):
        alone = segmenter.segment([photo], 0.3)[0]
        assert alone.masks == found.masks
        np.testing.assert_array_equal(alone.boxes, found.boxes)


@pytest.mark.parametrize("architecture", ["lite", "R_50_FPN"])
def test_boxes_are_in_float32_whatever_the_network_computes_in(architecture):
    """In bfloat16 coordinates of 500 px would be multiples of 2."""
    network = build({"architecture": architecture}).eval()
    images = torch.rand(1, 3, 512, 512)
    with torch.inference_mode(), torch.autocast("cpu", torch.bfloat16):
        proposals, _ = network.rpn(ImageList(images, [(512, 512)]), network.backbone(images))
        found = network.roi_heads(network.backbone(images), proposals, [(512, 512)])[0][0]
    assert proposals[0].dtype == found["boxes"].dtype == found["scores"].dtype == torch.float32
    inside = proposals[0][(proposals[0] > 256) & (proposals[0] < 512)]
    assert len(inside) > 0
    assert (inside % 1 != 0).any()


def test_threshold_of_the_config(segmenter):
    photo = np.zeros((64, 64, 3), np.uint8)
    assert (segmenter.segment([photo])[0].scores >= 0.8).all()
    assert len(segmenter.segment([photo], score_threshold=1.01)[0]) == 0


def test_weights_bring_their_architecture(tmp_path, segmenter):
    settings = {"architecture": "lite"}
    weights.save(tmp_path / "w.safetensors", "segmentation", settings, segmenter.network.state_dict(), half=False)
    config = segmenter.config.model_copy(update={"weights": str(tmp_path / "w.safetensors")})
    photo = np.random.default_rng(2).integers(0, 255, (90, 120, 3), dtype=np.uint8)
    expected, found = segmenter.segment([photo], 0.3)[0], Segmenter(config).segment([photo], 0.3)[0]
    assert len(found) > 0
    assert found.masks == expected.masks


def test_paste_by_hand():
    """A mask of 2 x 2 cells, its left half set, over a box of 4 x 4 pixels at (1, 2)."""
    left = np.array([[1, 0], [1, 0]], np.float32)
    mask = masks.decode(paste(left, np.array([1, 2, 5, 6], np.float32), 8, 7))
    expected = np.zeros((8, 7), bool)
    # Cell centres lie at x = 2 and 4: between them the value falls from 1 to 0, and is .5 at x = 3. Pixel centres 1.5
    # and 2.5 lie left of it. Beyond the outer cell centres (y = 3 and 5) the value falls towards nothing outside the
    # box: it is .75 at the centre of the outermost pixels, and .75 * .75 in the corners.
    expected[2:6, 1:3] = True
    assert (mask == expected).all()


def test_paste_agrees_with_detectron2s_formula():
    """Sampling of the mask at every pixel centre of the photo, written with torch's grid_sample."""
    rng = np.random.default_rng(3)
    height, width = 100, 130
    y, x = torch.arange(height)[:, None] + 0.5, torch.arange(width)[None] + 0.5
    for _ in range(10):
        probability = rng.random((28, 28), np.float32)
        x0, y0 = rng.uniform(-20, 80, 2)
        x1, y1 = x0 + rng.uniform(10, 90), y0 + rng.uniform(10, 90)
        grid = torch.stack(torch.broadcast_tensors((x - x0) / (x1 - x0) * 2 - 1, (y - y0) / (y1 - y0) * 2 - 1), -1)
        sampled = torch.from_numpy(probability)[None, None]
        values = grid_sample(sampled, grid[None].float(), align_corners=False)[0, 0].numpy()
        mask = masks.decode(paste(probability, np.array([x0, y0, x1, y1], np.float32), height, width))
        clear = abs(values - 0.5) > 1e-4
        assert ((values >= 0.5) == mask)[clear].all()


def test_paste_outside_the_photo():
    full = np.ones((28, 28), np.float32)
    inside = masks.decode(paste(full, np.array([-10, -10, 5, 5], np.float32), 20, 20))
    assert inside[:4, :4].all()
    assert not inside[5:].any()
    assert masks.area(paste(full, np.array([30, 30, 40, 40], np.float32), 20, 20)) == 0
