"""Table 3's ways of counting, worked out by hand: animals are points on a line, the nearest one is the answer."""

from __future__ import annotations

import numpy as np
import pytest

from pusa.ranking import NOT_RANKED
from pusa.reid import Instances, rank

# Database: Anna at 0 and at 10, Bert at 4. Queries: encounter 1 shows Anna at 1, 3 and nowhere (no pattern); encounter
# 2 shows Bert at 5, and, grouped wrongly, Anna at 1; encounter 3 shows Cora, whom the database does not have.
PLACES = np.array([0, 10, 4, 1, 3, np.nan, 5, 1, 7])
INSTANCES = Instances(
    encounter=np.array(["d1", "d2", "d3", "q1", "q1", "q1", "q2", "q2", "q3"]),
    sequence=np.array(["d1", "d2", "d3", "s1", "s1", "s1", "s1", "s1", "s2"]),
    individual=np.array(["Anna", "Anna", "Bert", "Anna", "Anna", "Anna", "Bert", "Anna", "Cora"]),
    database=np.arange(9) < 3,
)


def nearest(queries, gallery, allowed):
    """Distance of the means of the groups' places; what has no place cannot be compared."""
    mine, theirs = (np.array([np.nanmean(PLACES[g]) if np.isfinite(PLACES[g]).any() else np.nan for g in groups])
                    for groups in (queries, gallery))  # fmt: skip
    distance = np.abs(mine[:, None] - theirs)
    return np.where(np.isnan(distance), np.inf, distance)


def test_without_grouping():
    found = rank(INSTANCES, nearest, grouping=False, grouped_gallery=False).by_image(INSTANCES)
    # Anna at 1: 0 is nearest, right. At 3: Bert's 4 is. Without pattern: a miss. Bert at 5: right. Anna at 1: right.
    assert found.ranks.tolist() == [1, 2, NOT_RANKED, 1, 1]
    assert found.dropped == 1  # Cora
    assert found.top(1)[0] == 3 / 5
    # Of the order of the gallery: Anna at 1: 0, 4, 10 -> places 1 and 3; at 3: 4, 0, 10 -> 2 and 3.
    np.testing.assert_allclose(found.precision, [(1 + 2 / 3) / 2, (1 / 2 + 2 / 3) / 2, 0, 1, (1 + 2 / 3) / 2])


def test_with_grouping_an_image_takes_the_answer_of_its_group():
    found = rank(INSTANCES, nearest, grouping=True, grouped_gallery=False)
    # Encounter 1 is at 2: 0 and 4 are equally far, and ties count against. Encounter 2 is at 3: Bert first, then Anna.
    assert found.by_image(INSTANCES).ranks.tolist() == [2, 2, 2, 1, 2]
    # Encounter 2 shows Anna and Bert once each: Anna by the alphabet.
    assert found.by_group(INSTANCES).ranks.tolist() == [2, 2]
    assert found.by_group(INSTANCES).clusters.tolist() == ["q1", "q2"]


def test_with_a_grouped_database():
    found = rank(INSTANCES, nearest, grouping=True, grouped_gallery=True)
    # Anna is at 5 now: encounter 1 (at 2) is 3 from her, 2 from Bert; encounter 2 (at 3) is 2 and 1.
    assert found.by_image(INSTANCES).ranks.tolist() == [2, 2, 2, 1, 2]
    np.testing.assert_allclose(found.by_image(INSTANCES).precision, [0.5, 0.5, 0.5, 1, 0.5])


def test_without_a_database_every_image_is_compared_with_other_sequences():
    instances = Instances(
        encounter=np.array(["a", "a", "b", "c"]),
        sequence=np.array(["1", "1", "2", "2"]),
        individual=np.array(["Anna", "Anna", "Anna", "Cora"]),
        database=np.zeros(4, bool),
    )

    def cost(queries, gallery, allowed):
        assert allowed.tolist() == [[False, False, True, True]] * 2 + [[True, True, False, False]] * 2
        return np.ones(allowed.shape)  # a method that knows nothing

    found = rank(instances, cost, grouping=False, grouped_gallery=False).by_image(instances)
    # Anna ties with Cora in sequence 2; the Anna there sees nobody but Anna; Cora has nobody to be found.
    assert found.ranks.tolist() == [2, 2, 1]
    assert found.dropped == 1


@pytest.mark.parametrize("n", [1, 5])
def test_interval_holds_the_share(n):
    found = rank(INSTANCES, nearest, grouping=False, grouped_gallery=False).by_image(INSTANCES)
    share, low, high = found.top(n)
    assert 0 <= low <= share <= high <= 1
