"""Tables: nesting and flattening instances, runs on disk, ids."""

import numpy as np
import pyarrow as pa
import pytest
from hypothesis import given
from hypothesis import strategies as st

from pusa import records
from pusa.errors import UserError
from pusa.records import Run


def photos(*nested):
    """A photos table of one row a list of instances."""
    rows = [{"photo_id": f"p{n}", "status": "ok", "instances": found} for n, found in enumerate(nested)]
    return pa.Table.from_pylist(rows, records.PHOTOS)


def instance(name, **fields):
    return records.new_instance(name, **fields)


def test_instances_and_with_instances_are_inverse():
    vector = np.array([1, -0.5, 0.25], np.float16)
    table = photos(
        [instance("a", descriptor=vector, box=[1, 2, 3, 4])], [], [instance("b"), instance("c", usable=True)]
    )
    again = records.with_instances(table, records.instances(table))
    assert again.equals(table)
    assert again.schema.equals(records.PHOTOS)


def test_instances_of_a_slice():
    table = photos([instance("a")], [instance("b", descriptor=np.ones(2, np.float16))], [])
    (found, none) = records.instances(table.slice(1))
    assert [i["instance_id"] for i in found] == ["b"]
    assert found[0]["descriptor"].tolist() == [1, 1]
    assert none == []


@given(st.lists(st.integers(0, 3), max_size=6))
def test_flatten_keeps_every_instance_beside_its_photo(counts):
    table = photos(*[[instance(f"{p}.{i}") for i in range(n)] for p, n in enumerate(counts)])
    flat = records.flatten_instances(table)
    assert list(zip(flat["photo_id"].to_pylist(), flat["instance_id"].to_pylist(), strict=True)) == [
        (f"p{p}", f"{p}.{i}") for p, n in enumerate(counts) for i in range(n)
    ]


def test_new_instance_refuses_unknown_fields():
    with pytest.raises(ValueError, match="colour"):
        records.new_instance("a", colour="grey")


@pytest.mark.parametrize(
    ("one", "other"),
    [
        (("a/b.jpg", 10, 5), ("a/c.jpg", 10, 5)),  # another path
        (("a/b.jpg", 10, 5), ("a/b.jpg", 11, 5)),  # another size
        (("a/b.jpg", 10, 5), ("a/b.jpg", 10, 6)),  # another time of change
        (("a", 11, 1), ("a1", 1, 1)),  # fields do not run together
    ],
)
def test_photo_id_tells_apart(one, other):
    assert records.photo_id(*one) != records.photo_id(*other)
    assert len(records.photo_id(*one)) == 16


def test_run_round_trip(tmp_path):
    run = Run(str(tmp_path / "run"))
    table = photos([instance("a", descriptor=np.ones(2, np.float16))], [])
    run.write("photos", table, "one")
    run.write("photos", table.slice(1), "two")
    assert len(run.read("photos")) == 3
    only = run.read("photos", ["photo_id", "instances.list.element.instance_id"])
    assert [list(i) for i in records.instances(only)[0]] == [["instance_id"]]  # nothing else was read
    assert run.read("encounters", ["encounter_id"]).num_rows == 0  # a table never written is empty, not an error


def test_run_write_leaves_no_half_file(tmp_path):
    run = Run(str(tmp_path))
    run.write("photos", photos([]), "one")
    assert [p.name for p in (tmp_path / "photos").iterdir()] == ["one.parquet"]


@pytest.mark.parametrize(
    ("content", "message"),
    [
        (None, "is not a run"),  # no manifest
        ("{", "not valid JSON"),  # a damaged one
        ('{"state": "running", "command": "pusa process A --out B"}', "pusa process A --out B"),  # not finished
    ],
)
def test_manifest_errors_say_what_to_do(tmp_path, content, message):
    if content is not None:
        (tmp_path / "manifest.json").write_text(content)
    with pytest.raises(UserError, match=message):
        Run(str(tmp_path)).finished_manifest()
