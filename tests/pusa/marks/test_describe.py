"""Surroundings of key points by hand, and what brightness, size and the form of the network do to a descriptor."""

import cv2
import numpy as np
import pytest
import torch

from pusa import photos, weights
from pusa.errors import UserError
from pusa.gallery import geometry
from pusa.gallery.geometry import GeometryConfig, Points
from pusa.marks import describe
from pusa.marks.describe import MarkDescriber, levels
from pusa.marks.network import LENGTH, SIDE, MarkNetwork
from pusa.segmentation import masks

SPAN = 8.0
FULL = SIDE / SPAN  # size of a key point whose surroundings are cut pixel by pixel


@pytest.fixture(scope="module")
def network() -> MarkNetwork:
    torch.manual_seed(0)
    made = MarkNetwork(width=4).train()
    for _ in range(20):  # so that the normalisation has seen something
        made(torch.randint(0, 255, (64, 1, SIDE, SIDE)))
    return made.eval()


def cut(grey: np.ndarray, marks: np.ndarray) -> np.ndarray:
    return describe.cut(levels(grey), marks, SPAN)


def picture() -> np.ndarray:
    noise = np.random.default_rng(0).integers(0, 256, (96, 96)).astype(np.uint8)
    return cv2.GaussianBlur(noise, (0, 0), 2)


@pytest.mark.parametrize(
    ("angle", "turns"),
    [
        (0, 0),  # as it is
        (90, 1),  # SIFT's angles go with y downwards, clockwise: what lay below lies to the right
        (180, 2),
        (270, 3),
    ],
)
def test_surroundings_are_turned_upright(angle, turns):
    grey = picture()
    middle = 32 + (SIDE - 1) / 2  # of the 32 px from 32 on
    found = cut(grey, np.array([[middle, middle, FULL, angle]]))[0]
    expected = np.rot90(grey[32:64, 32:64], turns)
    assert np.abs(found.astype(int) - expected).max() <= 1


def test_surroundings_have_the_size_of_the_key_point_and_end_with_the_picture():
    grey = picture()
    twice = cv2.resize(grey, (192, 192), interpolation=cv2.INTER_LINEAR)
    first = cut(grey, np.array([[48, 48, FULL / 2, 30]]))[0].astype(int)
    second = cut(twice, np.array([[96.5, 96.5, FULL, 30]]))[0].astype(int)  # pixel centres: 2 (x + .5) - .5
    assert np.abs(first - second).max() <= 3
    corner = cut(grey, np.array([[0, 0, FULL, 0]]))[0]
    assert (corner[:16, :16] == grey[0, 0]).all()  # beyond the edge its last pixel goes on
    assert cut(grey, np.zeros((0, 4))).shape == (0, SIDE, SIDE)


@pytest.mark.parametrize("times", [2, 4])
def test_large_surroundings_are_made_smaller_without_aliasing(times):
    """Stripes of a pixel become the grey between them, where every other pixel would be all black or all white; larger
    shapes stay where they are."""
    stripes = np.tile(np.array([[0, 255]], np.uint8), (256, 128))
    found = cut(stripes, np.array([[127, 127, times * FULL, 0]]))[0]
    assert 110 < found.min() <= found.max() < 145
    grey = cv2.GaussianBlur(cv2.resize(picture(), (256, 256), interpolation=cv2.INTER_CUBIC), (0, 0), 8)
    mark = np.array([[120, 130, times * FULL, 0]])
    reach = (np.arange(SIDE) - (SIDE - 1) / 2) * times
    expected = cv2.remap(grey, *np.meshgrid(*(np.float32(c + reach) for c in (120, 130))), cv2.INTER_LINEAR)
    assert np.abs(cut(grey, mark)[0].astype(int) - expected).mean() < 3


def test_brightness_and_contrast_say_nothing(network):
    x = cut(picture(), np.array([[48, 48, FULL, 0], [40, 60, FULL, 70]])).astype(float)
    describer = MarkDescriber(device="cpu", network=network)
    found, again = describer(x.astype(np.uint8)), describer((0.5 * x + 60).astype(np.uint8))
    assert found.dtype == np.int8
    a, b = (geometry.unit(d) for d in (found, again))
    assert ((a * b).sum(1) > 0.98).all()
    assert (a[0] * a[1]).sum() < 0.98


def test_folded_network_and_batches_change_nothing(network, monkeypatch):
    """The describer's copy, whose normalisation is folded in, gives what the network gives, however it is fed; the
    caller's network is as it was."""
    monkeypatch.setattr(describe, "BATCH", 7)
    x = np.random.default_rng(1).integers(0, 256, (20, SIDE, SIDE)).astype(np.uint8)
    found = geometry.unit(MarkDescriber(device="cpu", network=network)(x))
    with torch.inference_mode():
        expected = network(torch.from_numpy(x)[:, None]).numpy()
    assert ((found * expected).sum(1) > 0.995).all()  # int8, and bfloat16 where the CPU has it
    assert expected.shape == (20, LENGTH)
    assert any(isinstance(layer, torch.nn.BatchNorm2d) for layer in network.layers)


def test_weights_are_saved_and_found(network, tmp_path, marks, instance):
    file = tmp_path / "marks.safetensors"
    weights.save(file, "marks", {"network": {"width": 4, "span": SPAN}}, network.state_dict())
    assert (describe.load(str(file)).span, describe.load(str(file)).upright) == (SPAN, False)
    found = geometry.features(instance(marks(0)), GeometryConfig(marks=str(file))).marks
    sift = geometry.features(instance(marks(0)), GeometryConfig(marks=None)).marks
    np.testing.assert_array_equal(found.at, sift.at)
    assert (found.descriptors.dtype, sift.descriptors.dtype) == (np.int8, np.uint8)
    assert found.descriptors.shape == sift.descriptors.shape
    with pytest.raises(UserError, match="expected marks weights"):
        describe.load("starter/codebook")


@pytest.mark.parametrize("turned", [0, 35, 80])
def test_upright_marks_turn_with_the_body(network, tmp_path, turned):
    """A body, an ellipse of noise, and the same turned in the photo: the same places look the same to the network."""
    file = tmp_path / "marks.safetensors"
    weights.save(file, "marks", {"network": {"width": 4, "span": 12.0, "upright": True}}, network.state_dict())
    noise = cv2.GaussianBlur(np.random.default_rng(3).integers(0, 256, (320, 320)).astype(np.uint8), (0, 0), 3)
    noise = cv2.normalize(noise, None, 0, 255, cv2.NORM_MINMAX)
    body = cv2.ellipse(np.zeros((320, 320), np.uint8), (160, 160), (130, 70), 0, 0, 360, 255, -1)
    turn = cv2.getRotationMatrix2D((159.5, 159.5), -turned, 1)  # with the clock, as angles count
    shown = []
    for matrix in (np.eye(2, 3), turn):
        grey, mask = (cv2.warpAffine(p, matrix, (320, 320)) for p in (noise, body))
        found = {"crop_box": (0, 0, 320, 320), "mask": masks.encode(mask > 127)}
        found["crop"] = photos.encode_jpeg(np.dstack([grey] * 3), 95)
        shown.append(geometry.features(found, GeometryConfig(marks=str(file), clahe=0)).marks)
    first, second = shown
    there = first.at @ turn[:, :2].T + turn[:, 2]
    apart = np.linalg.norm(there[:, None] - second.at, axis=2)
    i = np.flatnonzero(apart.min(1) < 1)
    assert len(i) > 40
    like = (geometry.unit(first.descriptors)[i] * geometry.unit(second.descriptors)[apart[i].argmin(1)]).sum(1)
    assert np.median(like) > 0.9
    own = GeometryConfig(marks=None, clahe=0)
    assert len(geometry.features(found, own).marks.at) >= len(second.at)  # a place may have several angles of its own


def test_lengths_of_rows():
    assert np.allclose(np.linalg.norm(geometry.unit(np.array([[3, -4], [0, 0]], np.int8)), axis=1), [1, 0])
    assert Points(np.zeros((0, 2)), np.zeros((0, LENGTH), np.int8)).descriptors.shape == (0, LENGTH)
