import cv2
import numpy as np
import pytest

from pusa.synthetic.renderer_b import Look, coat_map
from pusa.synthetic.renderer_b.body import radius
from pusa.synthetic.renderer_b.coat import COLUMNS, ROWS
from pusa.synthetic.renderer_b.fields import cells, sample, spectral


def test_a_coat_belongs_to_its_seed():
    first = coat_map(3, Look())
    assert first.dtype == bool
    assert first.shape == (ROWS, COLUMNS)
    assert (coat_map(3, Look()) == first).all()
    other = coat_map(4, Look())
    agreement = np.corrcoef(first[:, 150:550].ravel(), other[:, 150:550].ravel())[0, 1]
    assert agreement < 0.35  # not 0: both have no rings on the belly


def test_theta_is_periodic():
    edge, inside = [], []
    for identity in range(4):
        rings = coat_map(identity, Look())
        edge.append((rings[-1] != rings[0]).mean())  # the back, where the map is cut
        inside.append((rings[20:60] != rings[21:61]).mean())
    assert np.mean(edge) < 2 * np.mean(inside)


@pytest.mark.parametrize("identity", range(3))
def test_rings_are_3_to_10_percent_of_the_length_and_thin(identity):
    rings = coat_map(identity, Look())
    _, _, stats, centres = cv2.connectedComponentsWithStats(np.uint8(~rings), connectivity=4)
    across = []
    for (x, _, _, _, area), (middle, _) in zip(stats, centres, strict=True):
        girth = 2 * np.pi * radius(np.array(middle / COLUMNS))
        size = np.sqrt(4 / np.pi * area * girth / (ROWS * COLUMNS))  # of the dark inside, in body lengths
        if x > 0 and size > 0.012:  # smaller ones are gaps between lines
            across.append(size + 0.01)  # from middle to middle of the line
    whole = [a for a in across if a < 0.3]  # the rest is all that is not closed
    assert len(whole) > 15
    assert 0.03 < np.median(whole) < 0.08
    assert np.mean([0.022 < a < 0.105 for a in whole]) > 0.8
    flank = rings[ROWS // 12 : ROWS // 4, 200:450]  # columns and rows are about equally long here
    line = cv2.distanceTransform(np.uint8(flank), cv2.DIST_L2, 5)
    ridge = line[(line >= cv2.dilate(line, np.ones((3, 3)))) & (line > 0)]
    assert 0.006 < 2 * np.median(ridge) / COLUMNS < 0.016


def test_few_rings_on_head_and_belly():
    rings = np.mean([coat_map(i, Look()) for i in range(4)], axis=0)
    trunk = rings[: ROWS // 4, 200:500].mean()
    assert trunk > 0.15
    assert rings[:, : COLUMNS // 10].mean() < 0.01
    assert rings[ROWS * 7 // 16 : ROWS * 9 // 16].mean() < 0.2 * trunk


def test_noise_and_cells_wrap_around():
    rng = np.random.default_rng(0)
    noise = spectral(rng, (64, 96), 6, 40)
    assert noise.dtype == np.float32
    assert abs(noise.std() - 1) < 1e-3
    assert np.abs(noise[0] - noise[-1]).mean() < 2 * np.abs(noise[1:] - noise[:-1]).mean()
    got = sample(noise, np.array([3.0, 99.0, -93.0]), np.array([5.0, 5.0, 69.0]))
    assert got == pytest.approx(np.full(3, noise[5, 3]), abs=1e-5)
    labels, edge = cells(rng, 64, 16)
    assert labels.shape == edge.shape == (64, 64)
    assert (labels[0] == labels[-1]).mean() > 0.8
    assert edge.min() >= 0
