"""Compact codes: distances by hand, a law of angles, neighbours that are found, and bits that may never change."""

from __future__ import annotations

import hashlib

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from pusa.gallery.codes import BYTES, codes, distances


def pair(angle: float, length: int, seed: int) -> np.ndarray:
    """Two vectors (2, length) at an angle, in degrees."""
    rng = np.random.default_rng(seed)
    a, b = rng.standard_normal((2, length))
    a /= np.linalg.norm(a)
    b -= (a @ b) * a
    b /= np.linalg.norm(b)
    return np.stack([a, np.cos(np.radians(angle)) * a + np.sin(np.radians(angle)) * b])


def test_one_vector_and_its_opposite():
    v = np.random.default_rng(0).standard_normal((1, 100))
    found = distances(codes(v), codes(np.concatenate([v, 7 * v, -v])))
    np.testing.assert_allclose(found, [[0, 0, 2]], atol=1e-6)  # lengths do not matter
    assert (codes(v).shape, codes(v).dtype, BYTES) == ((1, 1024), np.uint8, 1024)


def test_distance_by_hand():
    """Half of the bits differ: a right angle. An eighth: 22.5 degrees."""
    a, b, c = (
        np.zeros((1, BYTES), np.uint8),
        np.full((1, BYTES), 0b00001111, np.uint8),
        np.full((1, BYTES), 1, np.uint8),
    )
    np.testing.assert_allclose(distances(a, np.concatenate([b, c])), [[1, 1 - np.cos(np.pi / 8)]], atol=1e-6)


@settings(deadline=None, max_examples=60)
@given(st.floats(0, 180), st.sampled_from([200, 8192, 9000, 65536]), st.integers(0, 2**32))
def test_codes_tell_angles(angle, length, seed):
    """Within six standard deviations: of bits that differ by chance, and of the sums in front of them."""
    a, b = codes(pair(angle, length, seed).astype(np.float16))
    assert distances(a[None], b[None])[0, 0] == pytest.approx(1 - np.cos(np.radians(angle)), abs=6 * 0.018)


def test_vectors_of_mostly_zeros():
    """Patches of one component only: few numbers of a Fisher vector are not 0."""
    v = np.zeros((2, 65536), np.float32)
    v[:, 640:704] = pair(60, 64, 3)
    assert distances(codes(v[:1]), codes(v[1:]))[0, 0] == pytest.approx(0.5, abs=0.1)


def test_neighbours_are_found_again():
    """Five vectors at cosines of .35 to .5 to the query among 3,000 at .2 to .3: all on a shortlist of 40."""
    rng = np.random.default_rng(1)
    query = rng.standard_normal(16384) / 128
    cosine = np.concatenate([np.linspace(0.35, 0.5, 5), rng.uniform(0.2, 0.3, 3000)])
    other = rng.standard_normal((len(cosine), 16384), np.float32) / 128
    known = cosine[:, None] * query + np.sqrt(1 - cosine**2)[:, None] * other
    found = distances(codes(query[None]), codes(known))[0]
    assert set(range(5)) <= set(np.argsort(found)[:40].tolist())


def test_bits_never_change():
    """A store keeps them: another code of the same vector would be a gallery that finds nobody."""
    v = np.cos(np.arange(3 * 20000).reshape(3, -1) ** 2 % 977)
    assert hashlib.sha256(codes(v).tobytes()).hexdigest()[:16] == "bf333600b9ecc6b8"


@pytest.mark.parametrize(("n", "e"), [(0, 3), (2, 0), (0, 0)])
def test_nothing_to_compare(n, e):
    assert distances(np.zeros((n, BYTES), np.uint8), np.zeros((e, BYTES), np.uint8)).shape == (n, e)
    assert codes(np.zeros((n, 100))).shape == (n, BYTES)
