"""The report of a gallery: figures by hand, and a page that loads nothing."""

import datetime as dt
import re

import pytest
from made_dataset import dataset, encounter

from pusa.report.catalogue import csv_tables, write_catalogue_report
from pusa.report.plots import plots
from pusa.report.sightings import Period, discovery, sightings, unit_of

# In order of time: A new, B new, A again, C new, A and C again
SEEN = [
    encounter("1#0", "A", "2020-05-01", "C"), encounter("2#0", "B", "2020-05-02", "B1"),
    encounter("3#0", "A", "2020-06-01", "C"), encounter("4#0", "C", "2021-05-01", "C"),
    encounter("5#0", "A", "2021-05-02", "B1"), encounter("6#0", "C", "2021-05-03", "C"),
    encounter("7#0", None, "2021-05-03", "C"), encounter("8#0", "B", None, "C"),
]  # fmt: skip


@pytest.fixture
def found():
    return sightings(dataset(SEEN[::-1]))


def test_discovery_counts_each_individual_once(found):
    assert found.curve == [1, 2, 2, 3, 3, 3]
    assert discovery([]) == []


def test_resightings_by_year(found):
    assert (found.unit, found.periods) == ("year", [Period("2020", 2, 0, 3), Period("2021", 2, 1, 3)])
    assert [p.rate for p in found.periods] == [0, 0.5]  # of A and C, A had been seen in 2020
    assert [p.new for p in found.periods] == [2, 1]


def test_individuals_places_and_what_is_left_out(found):
    assert [(r["individual"], r["encounters"], r["places"]) for r in found.individuals] == [
        ("A", 3, "Bay; Cape"), ("B", 2, "Bay; Cape"), ("C", 2, "Cape")]  # fmt: skip
    assert (found.individuals[1]["first_seen"], found.individuals[1]["last_seen"]) == (dt.date(2020, 5, 2),) * 2
    assert found.by_place == {"Bay": {"2020": 1, "2021": 1}, "Cape": {"2020": 2, "2021": 2}}
    assert (found.undecided, found.undated, found.repeated) == (1, 1, 2)


def test_tables(found):
    tables = csv_tables(found)
    assert tables["resightings.csv"] == (
        "period,encounters,individuals,new,seen_before,resighting_rate\n2020,3,2,2,0,0.0\n2021,3,2,1,1,0.5\n"
    )
    assert tables["places.csv"] == "place,2020,2021,all\nBay,1,1,2\nCape,2,2,4\n"
    assert tables["discovery.csv"].splitlines()[1:3] == ["1,2020-05-01 12:00:00,1", "2,2020-05-02 12:00:00,2"]


@pytest.mark.parametrize(("days", "unit"), [
    ([0, 23], "day"), (range(24), "day"), (range(25), "month"), ([0, 400], "year"), ([], "day"),
])  # fmt: skip
def test_the_finest_period_with_at_most_24(days, unit):
    assert unit_of([dt.datetime(2021, 1, 1) + dt.timedelta(d) for d in days]) == unit


def test_the_page_loads_nothing_and_says_rule_and_limit(tmp_path):
    import dataclasses

    nasty = dataclasses.replace(SEEN[0], individual="<script>alert(1)</script>")
    data = dataset([nasty, *SEEN[1:]], notices=["a <b> notice"])
    files = write_catalogue_report(data, str(tmp_path), dt.date(2026, 1, 2))
    html = (tmp_path / "report.html").read_text()
    assert "<script" not in html
    assert "a &lt;b&gt; notice" in html
    assert re.findall(r'(?:src|href)="(?!data:)', html) == []
    assert html.count("<dt>Rule</dt>") == html.count("<dt>Limit</dt>") == 4
    assert [f.rsplit("/", 1)[1] for f in files] == [
        "report.html", "discovery.png", "resightings.png", "places.png", "individuals.csv", "places.csv",
        "resightings.csv", "discovery.csv"]  # fmt: skip
    assert write_catalogue_report(data, str(tmp_path), dt.date(2026, 1, 2)) == files  # and over an older one
    assert (tmp_path / "report.html").read_text() == html


def test_plots_of_one_encounter_and_of_none(found):
    assert all(png.startswith(b"\x89PNG") for png in plots(sightings(dataset(SEEN[:1]))).values())
    assert plots(sightings(dataset(SEEN[6:7]))) == {}
