"""Sequences by folder, gap and CSV."""

import datetime as dt

import pytest
from hypothesis import given
from hypothesis import strategies as st

from pusa.config import load_config
from pusa.errors import UserError
from pusa.sequences import SequenceConfig, Taken, in_order, parse_duration, sequence_ids, split_at_gaps

START = dt.datetime(2021, 5, 1, 10)


def at(minutes, path="a/1.jpg", camera="c", deployment=None):
    return Taken(path, None if minutes is None else START + dt.timedelta(minutes=minutes), camera, deployment)


def by_gap(photos, gap="60min"):
    return sequence_ids(photos, SequenceConfig(by="gap", gap=gap))[0]


@pytest.mark.parametrize(("text", "seconds"), [
    ("90s", 90), ("60min", 3600), ("1.5h", 5400), ("2d", 172800), (" 10 min ", 600), ("0s", 0),
])  # fmt: skip
def test_durations(text, seconds):
    assert parse_duration(text) == seconds


@pytest.mark.parametrize("text", ["", "60", "min", "60m", "-5min", "1,5h", "1h30min", "nan s", "1e3s", "60 MIN"])
def test_no_durations(text):
    with pytest.raises(UserError, match="60min"):
        parse_duration(text)


@given(st.integers(0, 10**6), st.sampled_from(["s", "min", "h", "d"]))
def test_durations_in_all_units(number, unit):
    seconds = {"s": 1, "min": 60, "h": 60 * 60, "d": 24 * 60 * 60}[unit]
    assert parse_duration(f"{number}{unit}") == number * seconds


def test_by_folder():
    photos = [at(0, "a/b/1.jpg"), at(9999, "a/b/2.jpg"), at(0, "a/3.jpg"), at(0, "4.jpg")]
    assert sequence_ids(photos, SequenceConfig()) == (["a/b", "a/b", "a", "."], [])


@pytest.mark.parametrize(("minutes", "runs"), [
    ([0, 60, 120], [[0, 1, 2]]),  # exactly the gap still belongs
    ([0, 60.01, 120], [[0], [1, 2]]),
    ([120, 0, 61], [[1], [2, 0]]),  # in the order of time
    ([5, 5, 5], [[0, 1, 2]]),
    ([7], [[0]]),
    ([], []),
])  # fmt: skip
def test_cut_at_gaps(minutes, runs):
    assert split_at_gaps([at(m).taken_at for m in minutes], 3600) == runs


TIMES = st.lists(st.integers(0, 3000), max_size=30).map(lambda ms: [at(m).taken_at for m in ms])


@given(TIMES, st.integers(0, 7200))
def test_runs_concatenate_to_all_photos_and_gaps_lie_between_them(times, gap):
    runs = split_at_gaps(times, gap)
    joined = [i for run in runs for i in run]
    assert sorted(joined) == list(range(len(times)))
    assert [times[i] for i in joined] == sorted(times)
    borders = {sum(map(len, runs[:k])) for k in range(1, len(runs))}
    for k in range(1, len(joined)):
        assert ((times[joined[k]] - times[joined[k - 1]]).total_seconds() > gap) == (k in borders)


@given(st.lists(st.tuples(st.one_of(st.none(), st.integers(0, 500)), st.sampled_from("ab"), st.sampled_from("xy"))),
       st.randoms())  # fmt: skip
def test_the_order_of_photos_does_not_matter(rows, random):
    photos = [at(m, f"{folder}/{i}.jpg", camera) for i, (m, folder, camera) in enumerate(rows)]
    expected = dict(zip(photos, by_gap(photos), strict=True))
    random.shuffle(photos)
    assert dict(zip(photos, by_gap(photos), strict=True)) == expected


@pytest.mark.parametrize(("photos", "ids"), [
    # One camera, one pause.
    ([at(0), at(30), at(100)], ["a@2021-05-01T10-00-00"] * 2 + ["a@2021-05-01T11-40-00"]),
    # Two cameras at one place are two sequences, even from the same second on.
    ([at(0, camera="c"), at(0, camera="d"), at(1, camera="c")],
     ["a@2021-05-01T10-00-00", "a@2021-05-01T10-00-00-2", "a@2021-05-01T10-00-00"]),
    # A camera's card rolls over to the next folder: the same place.
    ([at(0, "a/DCIM/100CANON/1.jpg"), at(1, "a/DCIM/101CANON/2.jpg"), at(2, "a/102_0501/3.jpg")],
     ["a@2021-05-01T10-00-00"] * 3),
    # Folders of dates are the user's, not the camera's.
    ([at(0, "20210501/1.jpg"), at(1, "20210502/2.jpg")],
     ["20210501@2021-05-01T10-00-00", "20210502@2021-05-01T10-01-00"]),
    # Two places, no serial numbers: told apart by folder.
    ([at(0, "2021/a/1.jpg"), at(1, "2021/b/1.jpg")], ["2021/a@2021-05-01T10-00-00", "2021/b@2021-05-01T10-01-00"]),
    # A deployment joins its folders.
    ([at(0, "a/x/1.jpg", deployment="D1"), at(1, "a/y/1.jpg", deployment="D1")], ["D1@2021-05-01T10-00-00"] * 2),
    # No time: the folder. At the root of the archive: ".".
    ([at(None, "a/1.jpg"), at(0, "1.jpg"), at(None, "2.jpg")], ["a", ".@2021-05-01T10-00-00", "."]),
    # No camera known is one stream of its own.
    ([at(0, camera=None), at(1, camera="c"), at(2, camera=None)],
     ["a@2021-05-01T10-00-00", "a@2021-05-01T10-01-00", "a@2021-05-01T10-00-00"]),
])  # fmt: skip
def test_by_gap(photos, ids):
    assert by_gap(photos) == ids


def test_order_within_a_sequence():
    photos = [at(None, "b"), at(5, "c"), at(5, "a"), at(None, "a"), at(1, "z")]
    assert [(p.path, p.taken_at is None) for p in sorted(photos, key=in_order)] == [
        ("z", False), ("a", False), ("c", False), ("a", True), ("b", True)
    ]  # fmt: skip


def by_csv(tmp_path, content, paths=("a/1.jpg", "a/2.jpg", "b/3.jpg"), encoding="utf-8"):
    (tmp_path / "s.csv").write_text(content, encoding=encoding)
    return sequence_ids([Taken(p) for p in paths], SequenceConfig(by="csv", csv=str(tmp_path / "s.csv")))


@pytest.mark.parametrize("content", [
    "path,sequence_id\na/1.jpg,s1\na/2.jpg,s2\nb/3.jpg,s1\n",
    "sequence_id;path;observer\ns1;a/1.jpg;Eva\ns2;a/2.jpg;\ns1;b/3.jpg;\n",  # semicolons, other order, more columns
    "path\tsequence_id\r\na\\1.jpg\ts1\r\n./a/2.jpg\ts2\r\nb/3.jpg\ts1\r\n",  # from Windows
    'path,sequence_id,,\n"a/1.jpg", s1 ,,\na/2.jpg,s2,,\n,,,\n\nb/3.jpg,s1,,\n',  # a spreadsheet's empty cells
    "\ufeffpath,sequence_id\na/1.jpg,s1\na/1.jpg,s1\na/2.jpg,s2\nb/3.jpg,s1",  # a byte order mark; a row twice
])  # fmt: skip
def test_by_csv(tmp_path, content):
    assert by_csv(tmp_path, content) == (["s1", "s2", "s1"], [])


def test_csv_and_archive_may_differ(tmp_path):
    ids, notices = by_csv(tmp_path, "path,sequence_id\na/1.jpg,s1\nx.jpg,s1\ny.jpg,s2\n")
    assert ids == ["s1", "a/2.jpg", "b/3.jpg"]  # a photo of which nothing is said joins no other
    assert "2 photos (x.jpg, y.jpg)" in notices[0]
    assert "2 photos (a/2.jpg, b/3.jpg)" in notices[1]


def test_names_are_compared_as_people_read_them(tmp_path):
    ids, _ = by_csv(tmp_path, "path,sequence_id\nS\u00e4rkk\u00e4/1.jpg,s1\n", ["Sa\u0308rkka\u0308/1.jpg"])
    assert ids == ["s1"]


@pytest.mark.parametrize(("content", "message"), [
    ("", "`path` is missing"),
    ("path,sequnce_id\na/1.jpg,s1\n", "`sequence_id` is missing. Found: path, sequnce_id"),
    ("path,sequence_id,path\na/1.jpg,s1,b\n", "`path` is there twice"),
    ("path,sequence_id\na/1.jpg,s1\na/2.jpg,\n", "line 3: `sequence_id` is empty"),
    ("path,sequence_id\n,s1\n", "line 2: `path` is empty"),
    ("path,sequence_id\na/1.jpg,s1\na/1.jpg,s2\n", "line 3: a/1.jpg is in two sequences, s1 and s2"),
    ("path,sequence_id\na/1.jpg\n", "line 2: expected 2 values, found 1"),
    ("path,sequence_id\na/1.jpg,s1,oops\n", "line 2: expected 2 values, found 3"),
    ("path,sequence_id\nphotos/a/1.jpg,s1\n", "none of the photos. The CSV has photos/a/1.jpg, the archive a/1.jpg"),
    ("path,sequence_id\n", "none of the photos"),
])  # fmt: skip
def test_bad_csv(tmp_path, content, message):
    with pytest.raises(UserError, match=message):
        by_csv(tmp_path, content)


def test_csv_that_cannot_be_read(tmp_path):
    with pytest.raises(UserError, match="Cannot read"):
        sequence_ids([at(0)], SequenceConfig(by="csv", csv=str(tmp_path / "none.csv")))
    with pytest.raises(UserError, match="CSV UTF-8"):
        by_csv(tmp_path, "path,sequence_id\nSärkkä/1.jpg,s1\n", encoding="latin-1")


@pytest.mark.parametrize(("settings", "message"), [
    ({"by": "csv"}, "go together"),
    ({"by": "gap", "csv": "x.csv"}, "go together"),
    ({"gap": "soon"}, "is no duration"),
    ({"by": "day"}, "folder"),
    ({"gaps": "60min"}, "gaps"),
])  # fmt: skip
def test_bad_settings(settings, message):
    with pytest.raises(UserError, match=message):
        load_config(SequenceConfig, overrides=settings)
