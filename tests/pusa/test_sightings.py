"""The protocol for real photographs, on distances small enough to rank by eye."""

import numpy as np

from pusa import ranking
from pusa.sightings import by_photo, by_sighting

# Five photos: animal A in sightings 1 and 2, B in 3; C in 4 only.      photo:  0    1    2    3    4
INDIVIDUAL = np.array(["A", "A", "A", "B", "C"])
SIDE = np.array(["left", "right", "left", "left", "left"])
SIGHTING = np.array(["1", "1", "2", "3", "4"])
DISTANCE = np.array(
    [
        [0.0, 0.1, 0.5, 0.8, 0.4],
        [0.1, 0.0, 0.9, 0.9, 0.9],
        [0.5, 0.9, 0.0, 0.5, 0.6],
        [0.8, 0.9, 0.5, 0.0, 0.7],
        [0.4, 0.9, 0.6, 0.7, 0.0],
    ]
)


def test_by_photo():
    found = by_photo(DISTANCE, INDIVIDUAL, SIDE, SIGHTING)
    # Photo 0 (A, left): photo 2 (A) .5, photo 3 (B) .8, photo 4 (C) .4 -> rank 2. Photo 1 is of another side.
    # Photo 2 (A, left): photo 0 (A) .5, photo 3 (B) .5: a tie counts against -> rank 2.
    # Photo 1 (right) has nothing to compare with; B and C have no other sighting: three are dropped.
    assert found.ranks.tolist() == [2, 2]
    assert found.dropped == 3
    assert (ranking.top_n(found.ranks, 1), ranking.top_n(found.ranks, 2)) == (0.0, 1.0)


def test_by_sighting_takes_the_nearest_pair_per_side():
    distance = DISTANCE.copy()
    distance[0, 2] = distance[2, 0] = 0.3
    found = by_sighting(distance, INDIVIDUAL, SIDE, SIGHTING)
    # Sighting 1: A offers left only, .3; C .4; B .8 -> rank 1. Sighting 2: A .3, B .5, C .6 -> rank 1. 3 and 4 dropped.
    assert found.ranks.tolist() == [1, 1]
    assert found.dropped == 2


def test_by_sighting_is_the_mean_over_the_sides_on_offer():
    # Query 1 (left, right). A (sighting 2) offers left .2 and right .8: mean .5. B (sighting 3) offers left .4 only.
    individual = np.array(["A", "A", "A", "A", "B"])
    side = np.array(["left", "right", "left", "right", "left"])
    sighting = np.array(["1", "1", "2", "2", "3"])
    distance = np.full((5, 5), 0.9)
    distance[0, 2] = distance[2, 0] = 0.2
    distance[1, 3] = distance[3, 1] = 0.8
    distance[0, 4] = distance[4, 0] = 0.4
    found = by_sighting(distance, individual, side, sighting)
    # Sighting 2: A .5 (left .2, right .8), B .9 -> rank 1.
    assert found.ranks.tolist() == [2, 1]
    assert found.dropped == 1


def test_a_photo_without_a_vector_is_a_miss_and_not_dropped():
    distance = np.full((3, 3), np.inf)
    arrays = np.array(["A", "A", "B"]), np.array(["left"] * 3), np.array(["1", "2", "3"])
    for protocol in (by_photo, by_sighting):
        found = protocol(distance, *arrays)
        assert found.ranks.tolist() == [ranking.NOT_RANKED] * 2
        assert ranking.top_n(found.ranks, 5) == 0
