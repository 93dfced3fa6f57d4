import cv2
import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from pusa.synthetic.renderer_a.coats import coat
from pusa.synthetic.renderer_a.rings import ring_map

BOTH = ("placed", "reaction")

SIZE = 384


def _overlap(a: np.ndarray, b: np.ndarray) -> float:
    return (a & b).sum() / (a | b).sum()


def test_same_seed_same_coat_and_true_aspect():
    a, b = coat(5, BOTH, SIZE), coat.__wrapped__(5, BOTH, SIZE)
    assert a.rings.shape == (round(2 * np.pi * 0.14 * SIZE), SIZE)
    assert a.base.shape == (*a.rings.shape, 3)
    assert a.base.dtype == a.soft.dtype == np.uint8
    np.testing.assert_array_equal(a.rings, b.rings)
    np.testing.assert_array_equal(a.base, b.base)
    np.testing.assert_array_equal(a.soft, b.soft)
    np.testing.assert_array_equal(a.moult, b.moult)


def test_a_share_of_the_coat_is_old_fur():
    order = coat(5, BOTH, SIZE).moult
    for share in (0.2, 0.5, 0.8):
        assert (order < 255 * share).mean() == pytest.approx(share, abs=0.03)


def test_individuals_differ_and_so_do_flanks():
    maps = [coat(seed, BOTH, SIZE).rings for seed in range(4)]
    for i in range(4):
        left, right = np.array_split(maps[i], 2)
        n = min(len(left), len(right))
        assert _overlap(left[:n], right[::-1][:n]) < 0.4  # not a mirror image
        assert all(_overlap(maps[i], maps[j]) < 0.4 for j in range(i))


@settings(max_examples=16, deadline=None)
@given(st.integers(0, 2**31), st.sampled_from(BOTH))
def test_every_coat_has_rings_of_the_right_size(seed, model):
    rings = ring_map(np.random.default_rng(seed), SIZE, model)
    assert 0.05 < rings.mean() < 0.45
    # Line width: twice the distance from the middle of the lines to their edge.
    wide = cv2.copyMakeBorder(rings.astype(np.uint8), 8, 8, 0, 0, cv2.BORDER_WRAP)
    distance = cv2.distanceTransform(wide, cv2.DIST_L2, 5)
    ridge = (distance == cv2.dilate(distance, np.ones((3, 3)))) & (wide > 0)
    assert 0.006 < 2 * np.median(distance[ridge]) / SIZE < 0.016
    # Face and tail have none, and the belly has fewer than the back.
    assert not rings[:, : int(0.07 * SIZE)].any()
    rows = len(rings)
    belly = rings[int(0.42 * rows) : int(0.58 * rows)].mean()
    back = np.concatenate([rings[: int(0.08 * rows)], rings[int(0.92 * rows) :]]).mean()
    assert belly < back


def test_insides_of_grown_rings_measure_3_to_10_percent():
    """Of rings that are closed and lie apart, the hole and its line: the median of a coat."""
    for seed in range(4):
        rings = ring_map(np.random.default_rng(seed), SIZE, "reaction")
        n, _, stats, _ = cv2.connectedComponentsWithStats((~rings).astype(np.uint8), connectivity=4)
        holes = [s[cv2.CC_STAT_AREA] for s in stats[1:n] if 12 < s[cv2.CC_STAT_AREA] < 0.02 * SIZE**2]
        assert len(holes) >= 5
        diameter = 2 * np.sqrt(np.median(holes) / np.pi) / SIZE + 0.01  # and half a line on each side
        assert 0.03 < diameter < 0.10


@pytest.mark.parametrize("model", BOTH)
def test_map_is_periodic_around_the_body(model):
    steps = [[], []]
    for seed in range(12):
        rings = ring_map(np.random.default_rng(seed), SIZE, model)
        steps[0].append((rings[0] ^ rings[-1]).mean())
        steps[1].append((rings[1:] ^ rings[:-1]).mean())
    assert np.mean(steps[0]) < 1.8 * np.mean(steps[1])


@pytest.mark.parametrize("seed", [0, 1, 2])
def test_dark_back_pale_belly_light_rings(seed):
    c = coat(seed, BOTH, SIZE)
    rows = len(c.base)
    middle = slice(SIZE // 3, 2 * SIZE // 3)
    back, belly = c.base[: rows // 20, middle].mean(), c.base[int(0.48 * rows) : int(0.52 * rows), middle].mean()
    assert belly > back + 30
    assert c.light.mean() > back + 60
