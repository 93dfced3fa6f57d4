"""`pusa index`: flags, and the distributions that it prints."""

import datetime as dt
import io

import pytest
import typer
from PIL import Image
from typer.testing import CliRunner

from commands.index import by_period, index, index_config
from pusa.errors import UserError
from pusa.records import Run
from pusa.sequences import by_size

app = typer.Typer()
app.command()(index)


def run(*arguments):
    return CliRunner().invoke(app, [str(a) for a in arguments])


@pytest.fixture
def archive(tmp_path):
    exif = Image.Exif()
    exif[0x110] = "X [100]"  # brackets are markup for rich
    exif[0x0132] = "2021:05:01 12:00:00"
    buffer = io.BytesIO()
    Image.new("RGB", (4, 3)).save(buffer, "JPEG", exif=exif)
    folder = tmp_path / "archive"
    for name in ("a/1.jpg", "a/2.jpg", "b/3.jpg"):
        (folder / name).parent.mkdir(parents=True, exist_ok=True)
        (folder / name).write_bytes(buffer.getvalue())
    (folder / "b/[bad].jpg").write_bytes(b"")
    return folder


def test_prints_what_a_biologist_wants(archive):
    result = run(archive)
    assert result.exit_code == 0
    for text in ("4 photos, 3 readable, 0 without a time", "2 sequences of 2 to 2 photos, median 2", "2021-05-01  3",
                 "X [100]  3", "1 unreadable: the file is empty (0 bytes) (b/[bad].jpg)"):  # fmt: skip
        assert text in result.stdout


def test_out_writes_the_index(tmp_path, archive):
    assert run(archive, "--out", tmp_path / "run", "--gap", "30min").exit_code == 0
    assert Run(str(tmp_path / "run")).read("index").num_rows == 4


def test_mistakes_are_user_errors(tmp_path, archive):
    assert isinstance(run(tmp_path / "none").exception, UserError)
    assert isinstance(run(archive, "--gap", "soon").exception, UserError)


@pytest.mark.parametrize(("flags", "by"), [
    ({}, "folder"),
    ({"by": "folder"}, "folder"),
    ({"by": "gap"}, "gap"),
    ({"gap": "5min"}, "gap"),
    ({"sequences": "s.csv"}, "csv"),
    ({"by": "csv", "sequences": "s.csv"}, "csv"),
])  # fmt: skip
def test_flags_imply_how_sequences_are_made(flags, by):
    config = index_config(**{"by": None, "gap": None, "sequences": None, "deployments": None} | flags)
    assert config.sequences.by == by
    assert config.sequences.gap == flags.get("gap", "60min")


@pytest.mark.parametrize(("flags", "message"), [
    ({"by": "folder", "gap": "5min"}, "contradict"),
    ({"gap": "5min", "sequences": "s.csv"}, "contradict"),
    ({"by": "csv"}, "needs --sequences"),
    ({"by": "day"}, "day"),
    ({"gap": "5"}, "is no duration"),
])  # fmt: skip
def test_flags_that_contradict(flags, message):
    with pytest.raises(UserError, match=message):
        index_config(**{"by": None, "gap": None, "sequences": None, "deployments": None} | flags)


DAY = dt.date(2021, 1, 30)


@pytest.mark.parametrize(("dates", "periods"), [
    ({}, {}),
    ({DAY: 5}, {"2021-01-30": 5}),
    ({DAY: 5, DAY + dt.timedelta(3): 1}, {"2021-01-30": 5, "2021-01-31": 0, "2021-02-01": 0, "2021-02-02": 1}),
    ({DAY: 5, dt.date(2021, 4, 1): 1}, {"2021-01": 5, "2021-02": 0, "2021-03": 0, "2021-04": 1}),
    ({dt.date(1970, 1, 1): 1, DAY: 2, dt.date(2021, 5, 5): 3}, {"1970": 1, "2021": 5}),  # a wrong clock among them
])  # fmt: skip
def test_dates_by_the_finest_period_that_fits(dates, periods):
    assert by_period(dates) == periods


@pytest.mark.parametrize("days", [39, 40, 41, 1200, 1290, 5000])
def test_no_photo_is_lost_in_periods(days):
    dates = {DAY: 1, DAY + dt.timedelta(days): 2, DAY + dt.timedelta(days // 2): 4}
    periods = by_period(dates)
    assert sum(periods.values()) == 7
    assert len(periods) <= 24
    assert list(periods) == sorted(periods)


@pytest.mark.parametrize(("sizes", "bins"), [
    ([1, 1, 2, 3, 4, 5, 8, 9], {"1": 2, "2": 1, "3 to 4": 2, "5 to 8": 2, "9 to 16": 1}),
    ([8], {"1": 0, "2": 0, "3 to 4": 0, "5 to 8": 1}),
    ([1], {"1": 1}),
])  # fmt: skip
def test_bins_of_sequences(sizes, bins):
    assert by_size(sizes) == bins
