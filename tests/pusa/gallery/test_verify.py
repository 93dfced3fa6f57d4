"""Verification: votes and inliers go to the encounters that earn them."""

import cv2
import numpy as np
import pytest

from pusa.gallery.geometry import Features, GeometryConfig, features
from pusa.gallery.verify import Evidence, Verifier, VerifyConfig, spread

CONFIG = GeometryConfig(side=320)
SETTINGS = VerifyConfig(geometry=CONFIG, neighbours=3)
EMPTY = Features(np.zeros((0, 2), np.float32), np.zeros((0, 128), np.uint8), 1.0)


@pytest.fixture(scope="module")
def animals(marks, instance):
    """Four animals, one crop each, and another view of the third."""
    view = cv2.warpAffine(marks(2), cv2.getRotationMatrix2D((160, 100), 10, 1), (320, 200))
    return [features(instance(marks(n)), CONFIG) for n in range(4)], features(instance(view), CONFIG)


def test_the_right_encounter_has_most_votes_and_inliers(animals):
    gallery, query = animals
    found = Verifier([[crop] for crop in gallery], SETTINGS)([query], np.ones(4, bool))
    assert found.votes.argmax() == found.inliers.argmax() == 2
    assert found.inliers[2] > 20
    assert np.delete(found.inliers, 2).max() < SETTINGS.least


def test_what_is_not_compared_gets_nothing(animals):
    gallery, query = animals
    found = Verifier([[crop] for crop in gallery], SETTINGS)([query], np.array([True, True, False, True]))
    assert found.votes[2] == found.inliers[2] == 0
    assert found.votes[[0, 1, 3]].min() > 0


def test_an_encounter_is_as_near_as_its_best_crop(animals):
    gallery, query = animals
    found = Verifier([[EMPTY, gallery[0], gallery[2]], [gallery[1]], []], SETTINGS)([EMPTY, query], np.ones(3, bool))
    assert found.votes.argmax() == found.inliers.argmax() == 0
    assert found.votes[2] == 0  # an encounter without crops


@pytest.mark.parametrize("gallery", [[], [[]], [[EMPTY]]])
def test_nothing_to_compare_with(animals, gallery):
    found = Verifier(gallery, SETTINGS)([animals[1]], np.ones(len(gallery), bool))
    assert found.votes.tolist() == found.inliers.tolist() == [0] * len(gallery)


def test_cost_by_hand():
    found = Evidence(np.array([1.0, 3.0, 0.0, 0.0, 1.0]), np.array([30, 9, 0, 0, 12]))
    cost = found.cost(np.array([1.0, 0.5, 0.2, np.inf, 0.9]), least=10)
    # 30 inliers and 1/2; 9 count as none: 3/4; no vote: the distance alone, infinite stays so; 12 and 1/2.
    np.testing.assert_allclose(cost, [-30.5, -0.75, 0.0002, np.inf, -12.5])


@pytest.mark.parametrize(("n", "limit", "expected"), [(3, 8, [0, 1, 2]), (6, 3, [0, 2, 4]), (5, 2, [0, 2]), (0, 2, [])])
def test_spread(n, limit, expected):
    assert spread(range(n), limit) == expected
