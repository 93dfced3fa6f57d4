"""Assignments side by side: what is left out, what is added, and chance as the floor."""

from __future__ import annotations

import numpy as np
import pytest

from pusa.grouping.evaluate import METHODS, Shown, by_chance, missing, score, score_all, with_false


def shown(seed: int, animals: int, photos: int, noise: float = 0.05) -> Shown:
    """A sequence of animals far apart, each in every photo."""
    rng = np.random.default_rng(seed)
    centres = rng.standard_normal((animals, 16))
    x = [c / np.linalg.norm(c, axis=1, keepdims=True) for c in
         (centres + noise * rng.standard_normal(centres.shape) for _ in range(photos))]  # fmt: skip
    corners = rng.uniform(0, 1000, (animals, 2))
    boxes = np.hstack([corners, corners + 100])
    return Shown(x, [boxes] * photos, [[f"{seed}-{i}" for i in range(animals)]] * photos)


SEQUENCES = [shown(0, 6, 8), shown(1, 4, 6), shown(2, 1, 3)]


def test_easy_sequences_are_grouped_perfectly_and_chance_is_not():
    found = score_all(SEQUENCES)
    assert list(found) == list(METHODS)
    for name, result in found.items():
        if name == "chance":
            assert result.figures["adjusted_rand_index"] < 0.6  # the sequence of one animal cannot go wrong
        else:
            assert result.figures["adjusted_rand_index"] == 1


def test_with_animals_missing_only_the_open_ones_stay_right():
    found = score_all(missing(SEQUENCES, 0.6, np.random.default_rng(0)))
    assert found["greedy (the paper's)"].figures["adjusted_rand_index"] < 0.9
    assert found["agglomerative"].figures["adjusted_rand_index"] == 1
    mean, low, high = found["agglomerative"].above(found["greedy (the paper's)"])
    assert low <= mean <= high
    assert mean > 0.1


def test_missing_leaves_whole_rows_out():
    (thinned, *_) = missing(SEQUENCES, 0.5, np.random.default_rng(1))
    assert 0 < len(thinned.labels()) < len(SEQUENCES[0].labels())
    for d, b, names, full in zip(
        thinned.descriptors, thinned.boxes, thinned.names, SEQUENCES[0].descriptors, strict=True
    ):
        assert len(d) == len(b) == len(names)
        for row, name in zip(d, names, strict=True):
            np.testing.assert_array_equal(row, full[int(name.split("-")[1])])
    assert missing(SEQUENCES, 0.0, np.random.default_rng(1))[0].labels() == SEQUENCES[0].labels()


def test_false_ones_come_from_other_sequences_and_are_nobody():
    found = with_false(SEQUENCES, 1.0, np.random.default_rng(0))
    for new, old in zip(found, SEQUENCES, strict=True):
        assert [len(n) for n in new.names] == [len(n) + 1 for n in old.names]
        assert new.animals == old.animals + len(old.names)  # each false one is another nobody
        mine = {d.tobytes() for photo in old.descriptors for d in photo}
        others = {d.tobytes() for s in SEQUENCES if s is not old for photo in s.descriptors for d in photo}
        for photo in new.descriptors:
            assert photo[-1].tobytes() not in mine
            assert photo[-1].tobytes() in others


def test_chance_never_puts_one_photo_twice_in_a_group():
    for labels in by_chance(SEQUENCES[0], np.random.default_rng(0)):
        assert sorted(labels) == list(range(6))


def test_sequences_of_one_instance_do_not_count():
    with pytest.raises(ValueError, match="nothing to measure"):
        score([shown(0, 1, 1)], lambda s: [[0]])
