"""Truth beside a run: instances by mask, encounters by majority."""

import numpy as np
import pyarrow as pa

from pusa import records, truth
from pusa.exchange import Given
from pusa.segmentation import masks


def square(x, y, side=10, size=(40, 60)):
    mask = np.zeros(size, bool)
    mask[y : y + side, x : x + side] = True
    return masks.encode(mask)


def photo(path, *found):
    return {"photo_id": path, "path": path, "instances": [records.new_instance(n, mask=m) for n, m in found]}


def known(mask, identity):
    return Given(box=(0, 0, 1, 1), mask=mask, identity=identity)


def test_two_animals_of_one_photo_keep_their_own_names():
    # a and b lie on the true animals, the other way round in the list; c overlaps nothing; d too little (IoU 1/3).
    table = pa.Table.from_pylist(
        [
            photo("one.jpg", ("a", square(0, 0)), ("b", square(20, 0)), ("c", square(45, 25))),
            photo("two.jpg", ("d", square(5, 0))),
            photo("three.jpg", ("e", square(0, 0))),  # a photo that the truth does not list
        ],
        records.PHOTOS,
    )
    answers = {
        "one.jpg": [known(square(21, 0), "Anna"), known(square(0, 1), "Bert")],
        "two.jpg": [known(square(0, 0), "Carl")],
    }
    assert truth.identities(truth.matches(table, answers)) == {"a": "Bert", "b": "Anna"}


def encounters(*members):
    rows = [{"encounter_id": f"s#{n}", "sequence_id": "s", "instance_ids": list(ids)} for n, ids in enumerate(members)]
    return pa.Table.from_pylist(rows, records.ENCOUNTERS)


def test_an_encounter_takes_the_name_of_most_of_its_instances():
    table = encounters("abc", "de", "f")
    names = {"a": "Anna", "b": "Bert", "c": "Bert", "d": "Dora", "e": "Carl"}
    # Two of three; a tie goes to the first of the alphabet; an encounter that matched nothing has no name.
    assert truth.encounter_identities(table, names) == {"s#0": "Bert", "s#1": "Carl"}


def test_partitions_hold_the_known_instances_only():
    ((found, true),) = truth.sequence_partitions(encounters("ab", "cx"), {"a": "Anna", "b": "Bert", "c": "Anna"})
    assert found.tolist() == [0, 0, 1]
    assert true.tolist() == [0, 1, 0]


def boxed(box, identity, fractions=False):
    return Given(box=box, identity=identity, fractions=fractions)


def test_true_animals_without_a_mask_match_by_box_or_are_the_only_one_of_their_photo():
    whole = boxed((0, 0, 1, 1), "Anna", fractions=True)
    table = pa.Table.from_pylist(
        [
            photo("boxes.jpg", ("a", square(0, 0)), ("b", square(20, 0))),
            photo("one.jpg", ("c", square(5, 5))),
            photo("several.jpg", ("d", square(0, 0)), ("e", square(30, 0))),  # nobody knows which of them is Anna
        ],
        records.PHOTOS,
    )
    answers = {
        "boxes.jpg": [boxed((20, 0, 31, 10), "Bert"), boxed((0, 0, 1 / 6, 1 / 4), "Anna", fractions=True)],  # 60 x 40
        "one.jpg": [whole],
        "several.jpg": [whole],
    }
    assert truth.identities(truth.matches(table, answers)) == {"a": "Anna", "b": "Bert", "c": "Anna"}
