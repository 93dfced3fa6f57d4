import json
from pathlib import Path

import cv2
import numpy as np
import pytest

from pusa.errors import UserError
from pusa.synthetic import renderer_b
from pusa.synthetic.photo import MIN_PIXELS, SIDES, Animal
from pusa.synthetic.renderer_b import Look, coat_map, make_scene, shoot

SMALL = Look(width=320, height=240, length=(60, 120), infrared=0.0)
CLEAR = {"hidden": 0.0, "in_water": 0.0, "infrared": 0.0, "overcast": 1.0, "wet": (0.0, 0.0), "haze": (0.0, 0.0)}
CLOSE = {"width": 320, "height": 240, "length": (230, 250), "noise": (0.0, 0.0), "shake": 0.0, "blur": (0.0, 0.0)}
HERD = [Animal(1, "left"), Animal(2, "right"), Animal(3, "front"), Animal(4, "up", pup=True)]


def photo(seed, look, animals, fixed=False):
    rng = np.random.default_rng(seed)
    return shoot(make_scene(rng, look, animals, fixed), rng)


def looked_up(instance, identity):
    """How well ring pixels agree with a coat map at their surface coordinates: a correlation."""
    x0, y0, x1, y1 = instance.box
    s, theta, facing = np.moveaxis(instance.surface.astype(int), 2, 0)
    rings = instance.rings[y0:y1, x0:x1]
    use = facing > 80
    chart = cv2.blur(np.float32(coat_map(identity, Look())), (3, 3))
    rows, columns = chart.shape
    there = chart[np.round(theta / 255 * rows).astype(int) % rows, np.minimum(s * columns // 255, columns - 1)]
    return np.corrcoef(rings[use], there[use])[0, 1]


def test_the_same_state_gives_the_same_bytes():
    one, two = photo(0, SMALL, HERD), photo(0, SMALL, HERD)
    assert (one.image == two.image).all()
    assert one.settings == two.settings
    assert len(one.instances) == len(two.instances)
    assert all((a.surface == b.surface).all() for a, b in zip(one.instances, two.instances, strict=True))


@pytest.mark.parametrize("fixed", [False, True])
def test_a_photo_keeps_the_contract(fixed):
    for seed in range(2):
        made = photo(seed, SMALL, HERD, fixed)
        assert made.image.shape == (240, 320, 3)
        assert made.image.dtype == np.uint8
        assert 60 <= made.quality <= 92
        assert json.loads(json.dumps(made.settings)) == made.settings
        assert made.settings["fixed"] is fixed
        assert made.instances
        total = np.zeros((240, 320), int)
        for one in made.instances:
            assert one.mask.shape == one.rings.shape == (240, 320)
            assert one.mask.sum() >= MIN_PIXELS
            assert not (one.rings & ~one.mask).any()
            x0, y0, x1, y1 = one.box
            rows, columns = np.flatnonzero(one.mask.any(1)), np.flatnonzero(one.mask.any(0))
            assert (x0, y0, x1, y1) == (columns[0], rows[0], columns[-1] + 1, rows[-1] + 1)
            assert one.surface.shape == (y1 - y0, x1 - x0, 3)
            facing = one.surface[..., 2]
            assert not (facing > 0)[~one.mask[y0:y1, x0:x1]].any()
            assert (facing[one.rings[y0:y1, x0:x1]] > 0.19 * 255).all()  # nor on flippers, where it is 0
            assert one.side in SIDES
            assert 0 < one.visible <= 1
            assert 0 <= one.contrast <= 1
            assert 0 <= one.yaw < 360
            total += one.mask
        assert total.max() == 1


@pytest.mark.parametrize("side", ["left", "right", "front", "back", "up", "down"])
def test_side_is_the_one_asked_for(side):
    made = photo(1, SMALL, [Animal(k, side) for k in range(1, 6)])
    assert len(made.instances) > 2
    assert {i.side for i in made.instances} == {side}
    yaws = [i.yaw for i in made.instances]
    middle = {"left": 0, "front": 90, "right": 180, "back": 270}.get(side)
    if middle is not None:
        off = (np.array(yaws) - middle + 180) % 360 - 180
        assert np.abs(off).max() < 38 + 4 * 2.5  # and a little more from shot to shot
        assert np.std(off) > 5


def test_an_individual_looks_the_same_in_every_scene():
    look = Look(**CLEAR, **CLOSE)
    for seed in (11, 12):
        for identity, other in ((1, 2), (2, 1)):
            seen = photo(seed, look, [Animal(identity, "left")]).instances[0]
            assert seen.identity == identity
            assert looked_up(seen, identity) > 0.7
            assert looked_up(seen, other) < 0.3


def _visible(look):
    made = [photo(seed, look, [Animal(k, "left") for k in (1, 2, 3)], fixed=True) for seed in range(2)]
    return np.mean([sum(i.visible for i in p.instances) / 3 for p in made])


def test_hidden_and_floating_animals_show_less():
    free = _visible(SMALL.model_copy(update={"hidden": 0.0, "in_water": 0.0}))
    assert free > 0.85
    assert _visible(SMALL.model_copy(update={"hidden": 1.0, "in_water": 0.0})) < free - 0.08
    assert _visible(SMALL.model_copy(update={"hidden": 0.0, "in_water": 1.0})) < free - 0.08


def test_infrared_is_grey_with_a_bar():
    made = photo(3, SMALL.model_copy(update={"infrared": 1.0}), HERD)
    assert made.settings["infrared"] is True
    assert (made.image.min(2) == made.image.max(2)).all()
    bar = made.image[-10:, :, 0]
    assert np.median(bar) < 20
    assert bar.max() > 150  # text
    assert not any(i.mask[-10:].any() for i in made.instances)
    by_day = photo(3, SMALL, HERD)
    assert by_day.settings["infrared"] is False
    assert (by_day.image.min(2) != by_day.image.max(2)).mean() > 0.5


def test_no_animals_and_nineteen():
    assert photo(0, SMALL, []).instances == []
    crowd = [Animal(k % 6, SIDES[k % 6], pup=k % 9 == 0) for k in range(19)]
    look = Look(width=640, height=480, length=(60, 110), infrared=0.0)
    assert 8 <= len(photo(0, look, crowd).instances) <= 19


def test_only_those_present_are_drawn():
    rng = np.random.default_rng(5)
    scene = make_scene(rng, Look(**CLEAR, width=320, height=240, length=(80, 110)), HERD, fixed=True)
    state = rng.bit_generator.state
    everyone = shoot(scene, rng)
    rng.bit_generator.state = state
    some = shoot(scene, rng, [True, False, True, False])
    assert {i.identity for i in everyone.instances} >= {i.identity for i in some.instances}
    assert {i.identity for i in some.instances} <= {1, 3}
    again = shoot(scene, rng)
    assert (again.image != everyone.image).any()


def _ring_difference(contrast):
    values = []
    for seed in range(2):
        made = photo(seed, Look(**CLEAR, **CLOSE, contrast=(contrast, contrast)), [Animal(1, "left")])
        one = made.instances[0]
        assert one.contrast == pytest.approx(contrast)
        grey = made.image.mean(2)
        near = cv2.dilate(np.uint8(one.rings), np.ones((5, 5))) > 0  # near, as the back is darker than the belly
        values.append(grey[one.rings].mean() - grey[near & one.mask & ~one.rings].mean())
    return np.mean(values)


def test_rings_without_contrast_cannot_be_seen():
    assert abs(_ring_difference(0.0)) < 3  # of 255
    assert _ring_difference(0.9) > 15


@pytest.mark.parametrize(
    ("values", "message"),
    [
        ({"length": (300.0, 200.0)}, "`length`: expected a range from low to high, came 300.0 to 200.0"),
        ({"quality": (90, 60)}, "`quality`"),
        ({"hidden": 1.5}, "`hidden`: expected a share from 0 to 1, came 1.5"),
        ({"infrared": -0.1}, "`infrared`"),
        ({"noise": (-0.1, 0.2)}, "`noise`: expected values from 0 up"),
        ({"width": 63}, "`width`: expected at least 64 pixels, came 63"),
    ],
)
def test_impossible_looks(values, message):
    with pytest.raises(UserError, match=message):
        Look(**values)


def test_nothing_is_shared_with_the_other_renderer():
    sources = list(Path(renderer_b.__file__).parent.glob("*.py"))
    assert len(sources) > 5
    assert not [p.name for p in sources if "renderer_a" in p.read_text()]
