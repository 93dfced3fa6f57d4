"""Verification: votes and inliers go to the encounters that earn them."""

from dataclasses import replace

import cv2
import numpy as np
import pytest
import torch

from pusa.gallery import geometry, verify
from pusa.gallery.geometry import NO_MARKS, NO_MATCH, Features, GeometryConfig, Points, features
from pusa.gallery.verify import Descriptors, Evidence, Verifier, VerifyConfig, Voting, spread

CONFIG = GeometryConfig(side=320)
SETTINGS = VerifyConfig(geometry=CONFIG, neighbours=3)
EMPTY = Features(NO_MARKS, 1.0)


@pytest.fixture(scope="module")
def animals(marks, instance):
    """Four animals, one crop each, and another view of the third."""
    view = cv2.warpAffine(marks(2), cv2.getRotationMatrix2D((160, 100), 10, 1), (320, 200))
    return [features(instance(marks(n)), CONFIG) for n in range(4)], features(instance(view), CONFIG)


def test_the_right_encounter_has_most_votes_and_inliers(animals):
    gallery, query = animals
    found = Verifier([[crop] for crop in gallery], SETTINGS)([query], np.ones(4, bool))
    assert found.score.argmax() == found.inliers.argmax() == 2
    assert found.inliers[2] > 20
    assert np.delete(found.inliers, 2).max() < 10


def test_what_is_not_compared_gets_nothing(animals):
    gallery, query = animals
    found = Verifier([[crop] for crop in gallery], SETTINGS)([query], np.array([True, True, False, True]))
    assert found.score[2] == found.inliers[2] == 0
    assert found.score[[0, 1, 3]].min() > 0


def test_an_encounter_is_as_near_as_its_best_crop(animals):
    gallery, query = animals
    found = Verifier([[EMPTY, gallery[0], gallery[2]], [gallery[1]], []], SETTINGS)([EMPTY, query], np.ones(3, bool))
    assert found.score.argmax() == found.inliers.argmax() == 0
    assert found.score[2] == 0  # an encounter without crops


@pytest.mark.parametrize("gallery", [[], [[]], [[EMPTY]]])
def test_nothing_to_compare_with(animals, gallery):
    found = Verifier(gallery, SETTINGS)([animals[1]], np.ones(len(gallery), bool))
    assert found.score.tolist() == found.inliers.tolist() == [0] * len(gallery)


def test_cost_by_hand():
    found = Evidence(np.array([0.5, 0.0, 0.0, 2.0]), np.array([0, 0, 0, 9]))
    # Evidence leads, the more the nearer; without any the distance decides, and an infinite one stays so.
    assert found.cost(np.array([0.9, 0.2, np.inf, 1.0])).tolist() == [-0.5, 0.2, np.inf, -2.0]


def test_score_by_hand():
    """Two crops of one key point each, with cosines of 0.8 and 0.6 to the query's; one neighbour votes."""

    def crop(cosine: float) -> Features:  # RootSIFT of shares c^2 and 1 - c^2 is (c, sqrt(1 - c^2))
        d = np.zeros((1, 128), np.uint8)
        d[0, :2] = round(200 * cosine**2), round(200 * (1 - cosine**2))
        return Features(Points(np.zeros((1, 2), np.float32), d), 1.0)

    found = Verifier([[crop(0.6)], [crop(0.8)]], VerifyConfig(neighbours=1, unmapped=0.5))(
        [crop(1.0)], np.ones(2, bool)
    )
    # The nearest gets 2 (0.8 - 0.6) votes, the next is the background; one point makes no map, so half of them count.
    np.testing.assert_allclose(found.score, [0, 0.2], atol=1e-6)
    assert found.inliers.tolist() == [0, 0]


def test_both_kinds_of_points_by_hand():
    """Patches with cosines of 0.6 and 0.8 to the query's, and marks the other way round; one neighbour votes."""

    def crop(mark: float, patch: float) -> Features:
        d = np.zeros((1, 128), np.uint8)
        d[0, :2] = round(200 * mark**2), round(200 * (1 - mark**2))
        at, x = np.zeros((1, 2), np.float32), np.array([[patch, (1 - patch**2) ** 0.5]], np.float16)
        return Features(Points(at, d), 1.0, patches=Points(at, 3 * x))  # a vector's length says nothing

    gallery = [[crop(0.8, 0.6)], [crop(0.6, 0.8)], [crop(0.0, 0.0)]]
    found = Verifier(gallery, VerifyConfig(neighbours=2, unmapped=1))([crop(1.0, 1.0)], np.ones(3, bool))
    # The background is the third's, at 0: 2 x 0.8 and 2 x 0.6 votes; 2.6 x 2.2^0.25 - 1 and 2.2 x 2.6^0.25 - 1.
    np.testing.assert_allclose(found.score, [2.1665, 1.7936, 0], atol=5e-3)
    patches = Verifier(gallery, VerifyConfig(neighbours=2, unmapped=1, kinds=("patches",), patch_weight=1))
    found = patches([crop(1.0, 1.0)], np.ones(3, bool))
    np.testing.assert_allclose(found.score, [1.2, 1.6, 0], atol=5e-3)


def test_patches_alone_are_evidence(animals):
    """A crop without a key point, whose patches are those of the query, in the same arrangement."""
    rng = np.random.default_rng(0)
    at, x = rng.uniform(0, 100, (12, 2)).astype(np.float32), rng.normal(size=(12, 8)).astype(np.float16)
    other = rng.normal(size=(12, 8)).astype(np.float16)
    query = Features(NO_MARKS, 100.0, patches=Points(at + 5, x))
    gallery = [[Features(NO_MARKS, 100.0, patches=Points(at, d))] for d in (other, x)]
    verifier = Verifier(gallery, SETTINGS)
    found = verifier([query], np.ones(2, bool))
    assert found.inliers.tolist()[1] == 12
    assert found.score.argmax() == 1
    assert verifier.best_pair([query], 1)[2].inliers == 12


@pytest.mark.parametrize("tries", [0, 1, 3, 1000])
def test_a_time_budget_leaves_out_the_maps_of_those_least_alike(animals, monkeypatch, tries):
    """A clock that ticks once a look: after so many maps the time is up. Votes count all the same; a map adds what its
    inliers are nearer than the background, and multiplies by how many they are."""
    gallery, query = animals
    clock = iter(range(10_000))
    monkeypatch.setattr(verify.time, "monotonic", lambda: next(clock))
    limited = SETTINGS.model_copy(update={"seconds": tries, "kinds": ("marks",)})
    voting = Voting("marks", [Descriptors.of([crop], "marks") for crop in gallery], limited)
    seen = voting.seen([query])
    sought = []
    match = geometry.match
    monkeypatch.setattr(geometry, "match", lambda a, b, *rest: sought.append(b) or match(a, b, *rest))
    found = Verifier([[crop] for crop in gallery], limited)([query], np.ones(4, bool))
    chosen = [int(i) for i in np.argsort(-seen.alike[0], kind="stable")[:tries] if seen.alike[0, i] > 0]
    assert [id(crop) for crop in sought] == [id(gallery[i]) for i in chosen]
    expected = 0.2 * seen.votes[0]
    for i in chosen:
        mapped = match(query, gallery[i], CONFIG)
        gains = np.maximum(2 * (mapped.similarity - seen.background[0][mapped.places]), 0)
        expected[i] = (expected[i] + gains.sum()) * np.exp(0.08 * voting.surprise(mapped))
    np.testing.assert_allclose(found.score, expected, rtol=1e-6)


@pytest.mark.parametrize(
    ("inliers", "pairs", "expected"),
    [
        (0, 0, 0.0),  # no map
        (17, 100, 0.0),  # 5 + 0.12 x 100: as many as by chance
        (12, 100, 0.0),  # fewer say nothing against
        (34, 100, 34 * np.log(2)),  # twice as many
        (34, 242, 0.0),  # as many of more pairs
    ],
)
def test_surprise_by_hand(inliers, pairs, expected):
    match = replace(NO_MATCH, first=np.zeros((inliers, 2)), pairs=pairs)
    assert Voting("marks", [], SETTINGS).surprise(match) == pytest.approx(expected)


def test_likeness_by_hand():
    """A query of two crops with two points and one, against two crops with one point and two."""
    similarity = torch.tensor([[0.9, 0.5, 0.3],   # nearest in both crops; of the second to its first point only
                               [0.6, 0.2, 0.7],   # of the first crop's point not the nearest; of the second's last
                               [0.8, 0.1, 0.3]])  # of the second crop nearest, but too far  # fmt: skip
    found = verify.likeness(similarity, np.array([0, 2, 3]), np.array([0, 1, 3]))
    np.testing.assert_allclose(found, [[0.5, 0.1 + 0.3], [0.4, 0.0]], atol=1e-6)


def test_maps_are_sought_for_the_pairs_of_crops_most_alike_of_each_encounter():
    voting = Voting("marks", [], VerifyConfig(maps=2))
    voting.count, voting.encounter = 2, np.array([0, 0, 0, 1])
    alike = np.array([[3.0, 5.0, 0.0, 0.0], [4.0, 1.0, 2.0, 0.5]])
    assert voting.worth_a_map(alike) == [(0, 1), (1, 0), (1, 3)]  # 5 and 4 of the first, all there is of the second


@pytest.mark.parametrize(("n", "limit", "expected"), [(3, 8, [0, 1, 2]), (6, 3, [0, 2, 4]), (5, 2, [0, 2]), (0, 2, [])])
def test_spread(n, limit, expected):
    assert spread(range(n), limit) == expected


def test_votes_are_for_the_nearest_points_of_all_encounters(animals):
    """As one comparison of everything has it: each encounter by itself, some of them without a point."""
    gallery, query = animals
    encounters = [[gallery[0], gallery[1]], [], [gallery[2]], [EMPTY], [gallery[3]]]
    found = Voting("marks", [Descriptors.of(e, "marks") for e in encounters], SETTINGS).seen([EMPTY, query]).votes
    rows = [geometry.unit(f.marks.descriptors) for f in (query, *gallery)]
    similarity = rows[0] @ np.concatenate(rows[1:]).T
    owner = np.repeat(np.arange(4), [len(r) for r in rows[1:]])
    expected = np.zeros(4)
    for row in similarity:
        *nearest, background = np.argsort(-row, kind="stable")[:4]
        np.add.at(expected, owner[nearest], 2 * (row[nearest] - row[background]))
    assert not found[0].any()
    # Neighbours are sought in bfloat16 where the processor has it: one in thousands may be missed.
    np.testing.assert_allclose(found[1], expected, rtol=1e-3)


def test_the_pair_with_most_inliers(animals):
    gallery, query = animals
    verifier = Verifier([[gallery[0]], [EMPTY, gallery[1], gallery[2]]], SETTINGS)
    first, second, found = verifier.best_pair([gallery[3], query], 1)
    assert first is query
    assert second is gallery[2]
    assert found.inliers > 20
