import numpy as np
import pytest

from pusa.synthetic.renderer_a.noise import fractal


@pytest.mark.parametrize(
    ("shape", "cell", "stretch"),
    [
        ((64, 96), 16, 1.0),  # plain
        ((101, 57), 30, 3.0),  # sizes that the cells do not divide, blobs wider than high
        ((1, 200), 40, 1.0),  # one row: a shoreline
        ((40, 40), 1, 1.0),  # cells of one pixel
    ],
)
def test_standardised_and_repeatable(shape, cell, stretch):
    a = fractal(np.random.default_rng(1), shape, cell, stretch=stretch)
    b = fractal(np.random.default_rng(1), shape, cell, stretch=stretch)
    assert a.shape == shape
    assert a.dtype == np.float32
    assert abs(a.mean()) < 1e-4
    assert abs(a.std() - 1) < 1e-3
    np.testing.assert_array_equal(a, b)


def test_opposite_borders_fit_together():
    a = fractal(np.random.default_rng(2), (97, 131), 24, octaves=2)
    inner = np.abs(np.diff(a, axis=0)).mean(), np.abs(np.diff(a, axis=1)).mean()
    assert np.abs(a[0] - a[-1]).mean() < 1.6 * inner[0]
    assert np.abs(a[:, 0] - a[:, -1]).mean() < 1.6 * inner[1]
