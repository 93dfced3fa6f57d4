from dataclasses import replace

import cv2
import numpy as np
import pytest
from pydantic import ValidationError

from pusa.errors import UserError
from pusa.synthetic import body
from pusa.synthetic.backgrounds import GROUNDS, Light, Sprite, backdrop
from pusa.synthetic.painting import Painting, Placement, develop
from pusa.synthetic.scenes import MIN_PIXELS, PRESETS, SceneSettings, make_scene, preset, render_photo, shoot

SMALL = {"width": 480, "height": 360, "length": (70.0, 220.0)}
LIGHT = Light(np.array([0.0, 0.0, 1.0]), 0.5, np.ones(3, np.float32))


def small(name: str, **changes) -> SceneSettings:
    return PRESETS[name].model_copy(update=SMALL | changes)


@pytest.mark.parametrize("name", sorted(PRESETS))
@pytest.mark.parametrize("seed", [0, 1])
def test_truth_fits_the_photo(name, seed):
    photo = render_photo(np.random.default_rng(seed), small(name), n_animals=5)
    assert photo.image.shape == (360, 480, 3)
    assert photo.image.dtype == np.uint8
    assert photo.image.std() > 10  # not a flat picture
    assert 1 <= len(photo.instances) <= 5
    shown = np.zeros((360, 480), int)
    for i in photo.instances:
        x0, y0, x1, y1 = i.box
        assert i.mask[y0:y1, x0:x1].sum() == i.mask.sum() >= MIN_PIXELS
        for edge in (i.mask[y0], i.mask[y1 - 1], i.mask[:, x0], i.mask[:, x1 - 1]):
            assert edge.any()  # the box is tight
        assert not (i.rings & ~i.mask).any()
        assert 0 < i.visible <= 1
        assert i.side in ("left", "right", "front", "back", "up", "down")
        shown += i.mask
    assert shown.max() == 1  # a pixel shows one animal
    assert len({i.identity for i in photo.instances}) == len(photo.instances)


def test_same_seed_same_photo():
    a, b, c = (render_photo(np.random.default_rng(s), small("shore")) for s in (3, 3, 4))
    np.testing.assert_array_equal(a.image, b.image)
    assert [i.box for i in a.instances] == [i.box for i in b.instances]
    assert (a.image != c.image).any()


def test_no_animals():
    assert render_photo(np.random.default_rng(0), small("shore"), n_animals=0).instances == []


def test_absent_animals_are_not_in_the_photo():
    scene = make_scene(np.random.default_rng(0), small("shore"), [11, 12, 13])
    photo = shoot(scene, np.random.default_rng(1), present=[False, True, False])
    assert {i.identity for i in photo.instances} <= {12}


def test_shots_of_a_scene_keep_animals_in_relative_places():
    scene = make_scene(np.random.default_rng(5), small("shore", hidden=0.0, animals=(2, 2)), [1, 2], [0.0, 180.0])
    shots = [shoot(scene, np.random.default_rng(s)) for s in range(6)]
    orders = set()
    for photo in shots:
        centre = {i.identity: (i.box[0] + i.box[2]) / 2 for i in photo.instances if i.visible > 0.9}
        if len(centre) == 2:
            orders.add(centre[1] < centre[2])
    assert len(orders) == 1
    assert (shots[0].image != shots[1].image).any()


def _one(identity: int, y: float, contrast: float = 1.0) -> Placement:
    return Placement(identity, 150.0, y, 200.0, body.Pose(), contrast, wet=0.3, pale=0.0)


def test_nearer_things_hide_farther_ones():
    painting = Painting(np.full((200, 300, 3), 150, np.float32), LIGHT, 10)
    rng = np.random.default_rng(0)
    far = body.render(body.Shape(), body.Pose(), 200, (150.0, 100.0), elevation=10)
    painting.animal(rng, 0, _one(1, 100.0), far)
    alone = int((painting.owner == 0).sum())
    assert alone == far.mask.sum()
    near = body.render(body.Shape(), body.Pose(), 200, (150.0, 115.0), elevation=10)
    painting.animal(rng, 1, _one(2, 115.0), near)
    assert (painting.owner == 1).sum() == near.mask.sum()
    assert 0 < (painting.owner == 0).sum() < alone
    everything = Sprite(np.full((200, 300, 3), 90, np.float32), np.ones((200, 300), np.float32), 0, 0, 199.0)
    painting.sprite(everything, np.array([[1.0, 0, 0], [0, 1.0, 0]]))
    assert (painting.owner == -1).all()
    assert not painting.rings.any()
    assert np.allclose(painting.image, 90)


@pytest.mark.parametrize(
    ("contrast", "least", "most"),
    [
        (1.0, 25, 200),  # rings are plainly lighter
        (0.0, -8, 8),  # invisible, but still in the truth
    ],
)
def test_contrast_of_rings(contrast, least, most):
    painting = Painting(np.full((200, 300, 3), 150, np.float32), LIGHT, 10)
    view = body.render(body.Shape(), body.Pose(), 260, (150.0, 130.0), elevation=10)
    painting.animal(np.random.default_rng(0), 0, replace(_one(7, 130.0, contrast), length=260.0), view)
    fur = (painting.owner == 0) & ~cv2.dilate(painting.rings.astype(np.uint8), np.ones((3, 3))).astype(bool)
    upper = np.arange(200)[:, None] < 110  # the belly is as light as rings are
    difference = painting.image[painting.rings & upper].mean() - painting.image[fur & upper].mean()
    assert painting.rings.sum() > 300
    assert least < difference < most


def test_infrared_is_grey():
    image = develop(np.random.default_rng(0), np.random.default_rng(1).uniform(0, 255, (60, 80, 3)).astype(np.float32),
                    blur=0.5, noise=3, infrared=True)  # fmt: skip
    assert (np.ptp(image, axis=2) == 0).all()


@pytest.mark.parametrize("ground", GROUNDS)
@pytest.mark.parametrize(
    ("horizon", "shoreline"),
    [
        (40.0, 70.0),  # sky, water, ground
        (40.0, -1.0),  # ground up to the horizon
        (-60.0, 50.0),  # looking down: no sky
        (-60.0, -1.0),  # ground only
    ],
)
def test_backdrops_are_whole(ground, horizon, shoreline):
    image = backdrop(np.random.default_rng(0), ground, (120, 160), horizon=horizon, shoreline=shoreline, light=LIGHT)
    assert image.shape == (120, 160, 3)
    assert np.isfinite(image).all()
    assert image.min() >= 0
    assert image.max() <= 255
    assert image[100:].std() > 1


def test_presets_share_no_ground():
    assert not set(PRESETS["shore"].grounds) & set(PRESETS["shifted"].grounds)
    with pytest.raises(UserError, match="shore, shifted"):
        preset("beach")


@pytest.mark.parametrize(
    ("values", "message"),
    [
        ({"length": (300.0, 100.0)}, "upside down"),
        ({"grounds": ("lava",)}, "pebbles"),
        ({"grounds": ()}, "pebbles"),
        ({"animals": (-1, 3)}, "negative"),
        ({"width": 10}, "64"),
    ],
)
def test_impossible_settings(values, message):
    with pytest.raises(UserError, match=message):
        SceneSettings(**values)
    with pytest.raises(ValidationError):
        SceneSettings(unknown=1)  # type: ignore[call-arg]
