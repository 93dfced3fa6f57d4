"""Contact sheets: who is in doubt, where pictures lie, and the sheets of a run."""

from __future__ import annotations

import datetime as dt

import numpy as np
import pyarrow as pa

from pusa import photos as photo_files
from pusa import records
from pusa.records import Run
from pusa.report.sheets import CELL, DOUBT, HEAD, LABEL, Member, doubtful, sheet, write_sheets


def member(group: int, photo: int, at: float, grey: int = 128) -> Member:
    crop = photo_files.encode_jpeg(np.full((60, 90, 3), grey, np.uint8))
    return Member(group, photo, np.array([at, 0.0]), crop)


def test_doubtful_by_hand():
    """Group 0 at 0, 1 and 9; group 1 at 10 and 11: the one at 9 is 8.5 from its own, 1.5 from the others."""
    members = [member(0, 0, 0), member(0, 1, 1), member(0, 2, 9), member(1, 0, 10), member(1, 1, 11)]
    assert doubtful(members).tolist() == [False, False, True, False, False]
    assert not doubtful(members[:2]).any()  # one group: nothing to doubt
    assert not doubtful([member(0, 0, 0), member(1, 0, 5)]).any()  # groups of one


def test_pictures_lie_in_the_row_of_their_group_and_the_column_of_their_photo():
    members = [member(0, 0, 0), member(0, 1, 1), member(0, 2, 9, 0), member(1, 0, 10), member(1, 1, 11)]
    found = sheet("a sequence", ["08:00:00", "08:01:00", "08:02:00"], ["#0", "#1"], members)
    assert found.shape[1] == max(LABEL + 3 * CELL, 640)
    middle = found[2 * HEAD + 35, LABEL + 2 * CELL + 50]
    assert middle.max() < 20  # the black picture: group 0, third photo
    assert (found[2 * HEAD + 70 + 35, LABEL + 2 * CELL + 20] > 200).all()  # group 1 is not in the third photo
    marked = (found == DOUBT).all(axis=2)
    assert marked[2 * HEAD :, LABEL:].any()
    assert not marked[:, LABEL : LABEL + 2 * CELL].any()


def test_sheets_of_a_run(tmp_path):
    """Two sequences; the photos of one lie in two files, one has no time; an instance without an encounter is left."""
    run = Run(str(tmp_path))
    crop = photo_files.encode_jpeg(np.full((40, 40, 3), 90, np.uint8))

    def photo(path: str, sequence: str, minute: int | None, *ids: str) -> dict:
        nested = [records.new_instance(i, crop=crop, descriptor=np.ones(3, np.float16)) for i in ids]
        time = None if minute is None else dt.datetime(2020, 5, 1, 8, minute)
        return {"photo_id": path, "path": path, "sequence_id": sequence, "taken_at": time, "nested": nested}

    def rows(*photos: dict) -> pa.Table:
        columns = {f.name: pa.array([p.get(f.name) for p in photos], f.type) for f in records.PHOTOS}
        table = pa.table(columns, schema=records.PHOTOS)
        return records.with_instances(table, [p["nested"] for p in photos])

    run.write("photos", rows(photo("b.jpg", "s1", 2, "b#0", "b#1"), photo("c.jpg", "s2", 1, "c#0")), "0")
    run.write("photos", rows(photo("a.jpg", "s1", 1, "a#0"), photo("d.jpg", "s1", None, "d#0")), "1")
    groups = [("s1#0", "s1", ["a#0", "b#0", "d#0"]), ("s2#0", "s2", ["c#0"])]
    fields = [dict.fromkeys(records.ENCOUNTERS.names) | {"encounter_id": e, "sequence_id": s, "instance_ids": ids}
              for e, s, ids in groups]  # fmt: skip
    run.write("encounters", pa.Table.from_pylist(fields, records.ENCOUNTERS), "0")
    run.write_manifest({"state": "finished"})
    first, second = write_sheets(run)
    with open(first, "rb") as f:
        decoded = photo_files.decode_jpeg(f.read())
    # Columns in the order of time: a, b, then d, which has none.
    grey = [decoded[2 * HEAD + 32, LABEL + CELL * column + 20].mean() for column in range(3)]
    assert all(abs(g - 90) < 10 for g in grey)
    assert second.endswith("00002.jpg")
    assert write_sheets(run) == [first, second]  # again: replaced
