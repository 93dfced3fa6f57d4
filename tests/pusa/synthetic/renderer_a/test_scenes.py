from dataclasses import replace

import cv2
import numpy as np
import pytest
from pydantic import ValidationError

from pusa.errors import UserError
from pusa.synthetic.photo import MIN_PIXELS, SIDES, Animal
from pusa.synthetic.renderer_a import Look, body, coat_map, developing, make_scene, shoot
from pusa.synthetic.renderer_a.backgrounds import GROUNDS, Light, Sprite, backdrop
from pusa.synthetic.renderer_a.painting import Painting, Placement

SMALL = {"width": 480, "height": 360, "length": (70.0, 220.0)}
LIGHT = Light(np.array([0.0, 0.0, 1.0]), 0.5, np.ones(3, np.float32))
CLEAR = {"contrast": (1.0, 1.0), "moult": (0.0, 0.0), "hidden": 0.0, "in_water": 0.0, "crowded": 0.0, "infrared": 0.0}


def small(**changes) -> Look:
    return Look(**(SMALL | changes))


def herd(n: int) -> list[Animal]:
    return [Animal(100 + i, SIDES[i % 6], pup=i % 4 == 3) for i in range(n)]


@pytest.mark.parametrize("seed", range(4))
def test_truth_fits_the_photo(seed):
    rng = np.random.default_rng(seed)
    photo = shoot(make_scene(rng, small(in_water=0.5), herd(5), fixed=seed % 2 == 0), rng)
    assert photo.image.shape == (360, 480, 3)
    assert photo.image.dtype == np.uint8
    assert photo.image.std() > 8  # not a flat picture
    assert len(photo.instances) <= 5
    shown = np.zeros((360, 480), int)
    for i in photo.instances:
        x0, y0, x1, y1 = i.box
        assert i.mask[y0:y1, x0:x1].sum() == i.mask.sum() >= MIN_PIXELS
        for edge in (i.mask[y0], i.mask[y1 - 1], i.mask[:, x0], i.mask[:, x1 - 1]):
            assert edge.any()  # the box is tight
        assert not (i.rings & ~i.mask).any()
        assert i.surface.shape == (y1 - y0, x1 - x0, 3)
        assert not i.surface[~i.mask[y0:y1, x0:x1]].any()
        assert 0 < i.visible <= 1
        assert i.side in SIDES
        shown += i.mask
    assert shown.max() <= 1  # a pixel shows one animal
    assert len({i.identity for i in photo.instances}) == len(photo.instances)


def test_same_seed_same_photo():
    photos = []
    for seed in (3, 3, 4):
        rng = np.random.default_rng(seed)
        photos.append(shoot(make_scene(rng, small(), herd(3)), rng))
    a, b, c = photos
    np.testing.assert_array_equal(a.image, b.image)
    assert [i.box for i in a.instances] == [i.box for i in b.instances]
    assert a.settings == b.settings
    assert (a.image != c.image).any()


def test_no_animals():
    rng = np.random.default_rng(0)
    assert shoot(make_scene(rng, small(), []), rng).instances == []


def test_absent_animals_are_not_in_the_photo():
    scene = make_scene(np.random.default_rng(0), small(), herd(3))
    photo = shoot(scene, np.random.default_rng(1), present=[False, True, False])
    assert {i.identity for i in photo.instances} <= {101}


def test_shots_of_a_scene_keep_animals_in_relative_places():
    animals = [Animal(1, "left"), Animal(2, "right")]
    scene = make_scene(np.random.default_rng(5), small(**CLEAR), animals)
    shots = [shoot(scene, np.random.default_rng(s)) for s in range(6)]
    orders = set()
    for photo in shots:
        centre = {i.identity: (i.box[0] + i.box[2]) / 2 for i in photo.instances if i.visible > 0.9}
        if len(centre) == 2:
            orders.add(centre[1] < centre[2])
    assert len(orders) == 1
    assert (shots[0].image != shots[1].image).any()


@pytest.mark.parametrize("side", SIDES)
def test_the_side_that_is_asked_for_is_mostly_seen(side):
    seen = []
    for seed in range(6):
        rng = np.random.default_rng(seed)
        look = small(**CLEAR, horizon=(-0.3, 0.2))
        seen += [i.side for i in shoot(make_scene(rng, look, [Animal(seed, side)]), rng).instances]
    assert seen.count(side) >= 4


def test_surface_says_where_on_the_coat_a_pixel_lies():
    """The rings of a photo are those of the coat at the place that `surface` names."""
    rng, look = np.random.default_rng(2), Look(**CLEAR, zoom=(1, 1), length=(500, 600))
    photo = shoot(make_scene(rng, look, [Animal(9, "left")]), rng)
    (i,) = photo.instances
    x0, y0, x1, y1 = i.box
    trunk, rings = i.surface[..., 2] > 100, i.rings[y0:y1, x0:x1]  # facing > 0.4
    coat = coat_map(9, look)
    s, theta = i.surface[trunk][:, 0] / 255, i.surface[trunk][:, 1] / 255
    near = cv2.dilate(coat.astype(np.uint8), np.ones((5, 5)))  # 255 steps around the body are 3 px of the map
    expected = near[(theta * (len(coat) - 1)).astype(int), (s * (coat.shape[1] - 1)).astype(int)] > 0
    assert rings[trunk].mean() > 0.05
    assert expected[rings[trunk]].mean() > 0.95
    assert expected[~rings[trunk]].mean() < 0.5


def test_water_hides_the_lower_part():
    look = small(**(CLEAR | {"in_water": 1.0}), horizon=(0.05, 0.05))
    visible = []
    for seed in range(12):
        rng = np.random.default_rng(seed)
        scene = make_scene(rng, look, [Animal(1, "left")])
        if scene.animals[0].sunk:
            visible += [i.visible for i in shoot(scene, rng).instances]
    assert len(visible) >= 2
    assert max(visible) < 0.95


def test_a_fixed_camera_does_not_move_and_prints_a_bar():
    scene = make_scene(np.random.default_rng(1), small(), herd(4), fixed=True)
    first, second = (shoot(scene, np.random.default_rng(s), present=[False] * 4).image for s in (1, 2))
    bar = max(round(0.035 * 360), 6)
    assert np.abs(first[-bar:].astype(int) - second[-bar:]).max() == 0
    assert (first[-bar:] > 150).sum() > 50  # text
    steady = cv2.blur(first[:-bar], (9, 9)).astype(int) - cv2.blur(second[:-bar], (9, 9))
    assert np.abs(steady - np.median(steady)).mean() < 12  # exposure and noise differ, nothing else
    assert not any(i.mask[-bar:].any() for i in shoot(scene, np.random.default_rng(3)).instances)


def _one(identity: int, y: float, contrast: float = 1.0) -> Placement:
    return Placement(Animal(identity, "left"), 150.0, y, 200.0, body.Pose(), contrast, wet=0.3, pale=0.0)


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


def test_old_fur_shows_hardly_any_rings():
    view = body.render(body.Shape(), body.Pose(), 260, (150.0, 130.0), elevation=10)
    contrast = []
    for moult in (0.0, 1.0):
        painting = Painting(np.full((200, 300, 3), 150, np.float32), LIGHT, 10)
        painting.animal(np.random.default_rng(0), 0, replace(_one(7, 130.0), length=260.0, moult=moult), view)
        fur = (painting.owner == 0) & ~cv2.dilate(painting.rings.astype(np.uint8), np.ones((3, 3))).astype(bool)
        upper = np.arange(200)[:, None] < 110
        contrast.append(painting.image[painting.rings & upper].mean() - painting.image[fur & upper].mean())
    assert contrast[1] < 0.4 * contrast[0]


@pytest.mark.parametrize(
    ("film", "check"),
    [
        # Infrared is grey.
        (developing.Film(0.5, 3, infrared=True), lambda image: (np.ptp(image, axis=2) == 0).all()),
        # Haze makes the upper, far part paler and flatter than the lower one.
        (developing.Film(0.5, 0, haze=0.8), lambda image: image[:10].std() < 0.5 * image[-10:].std()),
    ],
)
def test_developing(film, check):
    picture = np.random.default_rng(1).uniform(0, 255, (60, 80, 3)).astype(np.float32)
    image, bar = developing.develop(np.random.default_rng(0), picture, film)
    assert check(image)
    assert bar == 0


def test_smear_softens():
    picture = np.random.default_rng(1).uniform(0, 255, (60, 80, 3)).astype(np.float32)
    sharp, soft = (
        developing.develop(np.random.default_rng(0), picture.copy(), developing.Film(0.3, 0), smear=s)[0].std()
        for s in (0, 4)
    )
    assert soft < 0.6 * sharp


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


@pytest.mark.parametrize("seed", range(4))  # seven scenes in ten have a far shore
def test_less_than_a_row_of_sky_shows_no_shore(seed):
    image = backdrop(np.random.default_rng(seed), "ice", (120, 160), horizon=0.4, shoreline=70.0, light=LIGHT)
    assert np.isfinite(image).all()


@pytest.mark.parametrize(
    ("values", "message"),
    [
        ({"length": (300.0, 100.0)}, "upside down"),
        ({"grounds": ("lava",)}, "pebbles"),
        ({"grounds": ()}, "pebbles"),
        ({"ring_models": ()}, "placed"),
        ({"hidden": 1.2}, "share from 0 to 1"),
        ({"contrast": (-0.5, 0.5)}, "values from 0 to 1"),
        ({"noise": (-1.0, 2.0)}, "negative"),
        ({"width": 10}, "64"),
    ],
)
def test_impossible_settings(values, message):
    with pytest.raises(UserError, match=message):
        Look(**values)
    with pytest.raises(ValidationError):
        Look(unknown=1)  # type: ignore[call-arg]
