"""The protocol for real photographs, on similarities small enough to rank by eye."""

import numpy as np

from pusa.sightings import TopN, by_photo, by_sighting

# Five photos: animal A in sightings 1 and 2, B in 3; C in 4 only.      photo:  0    1    2    3    4
INDIVIDUAL = np.array(["A", "A", "A", "B", "C"])
SIDE = np.array(["left", "right", "left", "left", "left"])
SIGHTING = np.array(["1", "1", "2", "3", "4"])
SIMILARITY = np.array(
    [
        [1.0, 0.9, 0.5, 0.2, 0.6],
        [0.9, 1.0, 0.1, 0.1, 0.1],
        [0.5, 0.1, 1.0, 0.5, 0.4],
        [0.2, 0.1, 0.5, 1.0, 0.3],
        [0.6, 0.1, 0.4, 0.3, 1.0],
    ]
)


def test_by_photo():
    found = by_photo(SIMILARITY, INDIVIDUAL, SIDE, SIGHTING)
    # Photo 0 (A, left): photo 2 (A) .5, photo 3 (B) .2, photo 4 (C) .6 -> rank 2. Photo 1 is of another side.
    # Photo 2 (A, left): photo 0 (A) .5, photo 3 (B) .5: a tie counts against -> rank 2.
    # Photo 1 (right) has nothing to compare with; B and C have no other sighting: three are dropped.
    assert found.ranks.tolist() == [2, 2]
    assert found.dropped == 3
    assert (found.share(1), found.share(2)) == (0.0, 1.0)


def test_by_sighting_takes_the_best_pair_per_side():
    similarity = SIMILARITY.copy()
    similarity[0, 2] = similarity[2, 0] = 0.7
    found = by_sighting(similarity, INDIVIDUAL, SIDE, SIGHTING)
    # Sighting 1: A offers left only, .7; C .6; B .2 -> rank 1. Sighting 2: A .7, B .5, C .4 -> rank 1. 3 and 4 dropped.
    assert found.ranks.tolist() == [1, 1]
    assert found.dropped == 2


def test_a_photo_without_a_vector_never_scores():
    similarity = np.full((3, 3), -np.inf)
    found = by_photo(similarity, np.array(["A", "A", "B"]), np.array(["left"] * 3), np.array(["1", "2", "3"]))
    assert found.ranks.tolist() == [2, 2]  # behind B, which ties at -inf


def test_interval_contains_the_share():
    top = TopN(np.array([1, 1, 2, 5]), 0)
    low, high = top.interval(1)
    assert low < top.share(1) == 0.5 < high
