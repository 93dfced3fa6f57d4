"""Deployments from CSV files as biologists write them."""

import datetime as dt

import pytest
from hypothesis import given
from hypothesis import strategies as st

from pusa.deployments import Deployment, deployment_of, deployments_table, parse_shift, read_deployments
from pusa.errors import UserError
from pusa.records import DEPLOYMENTS

HEADER = "deployment_id,folder,place,latitude,longitude,time_zone,clock_shift,start,end\n"


def read(tmp_path, content):
    (tmp_path / "d.csv").write_text(content, encoding="utf-8")
    return read_deployments(str(tmp_path / "d.csv"))


@pytest.mark.parametrize(("text", "seconds"), [
    ("3600", 3600), ("-90.5", -90.5), ("+1h", 3600), ("-2d", -172800), ("30min", 1800),
    ("-00:30:00", -1800), ("+01:00", 3600), ("8760:00:00", 365 * 86400), ("0", 0),
])  # fmt: skip
def test_shifts(text, seconds):
    assert parse_shift(text) == seconds


@pytest.mark.parametrize("text", ["", "h", "+", "1:60", "00:00:99", "--5", "1h30", "9" * 400, "1 hour", "+inf"])
def test_no_shifts(text):
    with pytest.raises(UserError):
        parse_shift(text)


@given(st.sampled_from("+-"), st.integers(0, 9999), st.integers(0, 59), st.integers(0, 59))
def test_shifts_in_hours_minutes_seconds(sign, hours, minutes, seconds):
    expected = dt.timedelta(hours=hours, minutes=minutes, seconds=seconds).total_seconds()
    assert parse_shift(f"{sign}{hours:02}:{minutes:02}:{seconds:02}") == (expected if sign == "+" else -expected)


def test_reading(tmp_path):
    rows = read(
        tmp_path, HEADER + "D1,saimaa\\a/,Särkkä,62.1,-28.5,Europe/Helsinki,-1h,2021-05-01,2021-09-30\nD2,.,,,,,,,\n"
    )
    assert rows == [
        Deployment("D1", "saimaa/a", "Särkkä", 62.1, -28.5, "Europe/Helsinki", -3600.0, dt.datetime(2021, 5, 1),
                   dt.datetime(2021, 9, 30, 23, 59, 59, 999000)),  # the last day is part of it
        Deployment("D2", ""),
    ]  # fmt: skip
    table = deployments_table(rows)
    assert table.schema == DEPLOYMENTS
    assert table.column("place").to_pylist() == ["Särkkä", None]
    assert table.column("end").to_pylist()[0] == rows[0].end


def test_columns_may_be_few_and_decimals_commas(tmp_path):
    (row,) = read(tmp_path, "folder;deployment_id;latitude\na;D1;62,1\n")
    assert (row.folder, row.latitude, row.clock_shift) == ("a", 62.1, 0)


@pytest.mark.parametrize(("row", "message"), [
    ("D1,a,,91,,,,,", "line 2, column latitude: expected degrees from -90 to 90, found 91"),
    ("D1,a,,,nan,,,,", "line 2, column longitude"),
    ("D1,a,,north,,,,,", "line 2, column latitude"),
    ("D1,a,,,,Europe/Saimaa,,,", "line 2, column time_zone: no time zone is called 'Europe/Saimaa'"),
    ("D1,a,,,,../etc/passwd,,,", "line 2, column time_zone"),
    ("D1,a,,,,,an hour,,", "line 2, column clock_shift"),
    ("D1,a,,,,,,1.5.2021,", "line 2, column start: expected a time like 2021-05-01"),
    ("D1,a,,,,,,2021-05-01T10:00+03:00,", "line 2, column start: expected local time"),
    ("D1,a,,,,,,2021-05-02,2021-05-01", "line 2, column end"),
    (",a,,,,,,,", "line 2, column deployment_id: it is empty"),
    ("D1,,,,,,,,", "line 2, column folder: it is empty"),
    ("D1,a,,,,,,,\nD1,b,,,,,,,", "line 3, column deployment_id: D1 is there twice"),
    ("D1,a,,,,,,,\nD2,./a/,,,,,,,", "line 3, column folder: ./a/ is there twice"),
    ("D1,a", "line 2: expected 9 values"),
])  # fmt: skip
def test_bad_rows(tmp_path, row, message):
    with pytest.raises(UserError, match=message):
        read(tmp_path, HEADER + row + "\n")


def test_bad_columns(tmp_path):
    with pytest.raises(UserError, match="`clock` is not known"):
        read(tmp_path, "deployment_id,folder,clock\nD1,a,1h\n")
    with pytest.raises(UserError, match="`folder` is missing"):
        read(tmp_path, "deployment_id\nD1\n")


@pytest.mark.parametrize(("path", "expected"), [
    ("a/1.jpg", "A"),
    ("a/b/1.jpg", "AB"),  # the deepest wins
    ("a/b/c/d/1.jpg", "AB"),
    ("ab/1.jpg", None),  # a folder, not the beginning of a name
    ("a", None),  # a file
])  # fmt: skip
def test_the_deepest_folder_wins(path, expected):
    by_folder = {d.folder: d for d in (Deployment("A", "a"), Deployment("AB", "a/b"))}
    found = deployment_of(path, by_folder)
    assert (found and found.deployment_id) == expected
    everywhere = by_folder | {"": Deployment("ALL", "")}
    assert deployment_of(path, everywhere).deployment_id == (expected or "ALL")


def test_corrected_time():
    assert Deployment("D", "", clock_shift=-90).local(dt.datetime(2021, 1, 1)) == dt.datetime(2020, 12, 31, 23, 58, 30)
    assert Deployment("D", "", clock_shift=9e8).local(dt.datetime(9999, 1, 1)) == dt.datetime(9999, 1, 1)
