"""Capture histories: three animals by hand in five formats, flanks, and data that cannot be."""

import datetime as dt
from dataclasses import replace

import pytest
from hypothesis import given
from hypothesis import strategies as st
from made_dataset import DEPLOYMENTS, EFFORT, ENCOUNTERS, dataset, deployment, encounter

from pusa.deployments import Deployment
from pusa.errors import UserError
from pusa.exchange import captures, mark, scr
from pusa.exchange.captures import histories
from pusa.exchange.dataset import effort


@pytest.fixture
def by_hand():
    found, _ = histories(dataset())
    return found["pooled"]


def test_histories(by_hand):
    assert [o.name for o in by_hand.occasions] == ["2021-01", "2021-02", "2021-03", "2021-04"]
    assert {name: by_hand.history(name) for name in by_hand.captures} == {"S1": "0110", "S2": "1001", "S 3": "0001"}
    assert captures.effort_csv(by_hand) == EFFORT
    assert captures.occasions_csv(by_hand) == (
        "occasion,first,last,interval\n"
        "2021-01,2021-01-01,2021-01-31,1\n"
        "2021-02,2021-02-01,2021-02-28,1\n"
        "2021-03,2021-03-01,2021-03-31,1\n"
        "2021-04,2021-04-01,2021-04-30,\n"
    )


def test_mark(by_hand):
    assert mark.inp(by_hand, "a */ comment") == (
        "/* a * / comment */\n/* S 3 */ 0001 1 ;\n/* S1 */ 0110 1 ;\n/* S2 */ 1001 1 ;\n"
    )


def test_rmark(by_hand):
    assert mark.rmark_csv(by_hand) == ('"ch","freq","individual"\n"0001","1","S 3"\n"0110","1","S1"\n"1001","1","S2"\n')
    assert 'colClasses = c(ch = "character")' in mark.rmark_script({"left": by_hand})
    assert "time.intervals = c(1, 1, 1)" in mark.rmark_script({"left": by_hand})


def test_secr(by_hand):
    at, projection = scr.traps(dataset())
    assert projection == "EPSG:32636"
    assert scr.secr_captures(by_hand) == (
        "# Session ID Occasion Detector\n"
        "1 S_3 4 Bay\n"  # twice in April: a count of 2
        "1 S_3 4 Bay\n"
        "1 S1 2 Cape\n"
        "1 S1 3 Bay\n"
        "1 S2 1 Bay\n"
        "1 S2 4 Cape\n"
    )
    assert scr.secr_traps(by_hand, at, projection) == (
        "# Detector X Y Usage (EPSG:32636, metres)\nBay 500000.0 0.0 1011\nCape 500000.0 110.5 1111\n"
    )


def test_oscr(by_hand):
    at, _ = scr.traps(dataset())
    assert scr.oscr_edf(by_hand) == (
        "session,individual,occasion,trap\n1,S 3,4,Bay\n1,S 3,4,Bay\n1,S1,2,Cape\n1,S1,3,Bay\n1,S2,1,Bay\n1,S2,4,Cape\n"
    )
    assert scr.oscr_tdf(by_hand, at) == (
        "TrapID,X,Y,1,2,3,4,sep,days\nBay,500000.0,0.0,1,0,1,1,/,92\nCape,500000.0,110.5,1,1,1,1,/,120\n"
    )


def test_a_merge_changes_two_rows_and_no_other(by_hand):
    merged = [replace(e, individual="S2") if e.individual == "S1" else e for e in ENCOUNTERS]
    after = histories(dataset(merged))[0]["pooled"]
    before, lines = mark.inp(by_hand).splitlines(), mark.inp(after).splitlines()
    assert set(before) - set(lines) == {"/* S1 */ 0110 1 ;", "/* S2 */ 1001 1 ;"}
    assert set(lines) - set(before) == {"/* S2 */ 1111 1 ;"}


def test_a_capture_without_effort_names_animal_place_and_occasion():
    wrong = [*ENCOUNTERS, encounter("h#0", "S2", "2021-02-03", "B1")]
    with pytest.raises(UserError, match=r"S2 was seen at Bay in the occasion 2021-02 \(h#0, 2021-02-03\).*clock_shift"):
        histories(dataset(wrong))


def test_only_decided_and_dated_encounters_count():
    found, notices = histories(dataset([*ENCOUNTERS, encounter("h#0", "S9", None, "C")]))
    assert set(found["pooled"].captures) == {"S1", "S2", "S 3"}
    assert any(n.startswith("1 encounters of no decided individual") for n in notices)
    assert any(n.startswith("1 encounters without a time") for n in notices)
    with pytest.raises(UserError, match="decided individual and a time, found none"):
        histories(dataset([encounter("g#0", None, "2021-04-12", "B2")]))


@pytest.mark.parametrize(("side", "expected"), [
    # L: from the left only; R: from the right; B: one encounter shows both flanks, so all of its count in both
    (None, {"left": {"L": "1100", "B": "0111"}, "right": {"R": "0010", "B": "0111"}}),
    ("left", {"left": {"L": "1100", "B": "0111"}}),
    ("right", {"right": {"R": "0010", "B": "0111"}}),
    ("any", {"pooled": {"L": "1100", "R": "0010", "B": "0111", "?": "0001"}}),
])  # fmt: skip
def test_flanks_are_never_added_up(side, expected):
    seen = [
        encounter("1#0", "L", "2021-01-05", "C", "left"),
        encounter("2#0", "L", "2021-02-05", "C", "left", "front"),
        encounter("3#0", "R", "2021-03-05", "C", "right"),
        encounter("4#0", "B", "2021-02-06", "C", "left"),
        encounter("5#0", "B", "2021-03-06", "C", "left", "right"),
        encounter("6#0", "B", "2021-04-06", "C", "right"),
        encounter("7#0", "?", "2021-04-07", "C", "front"),
    ]
    found, notices = histories(dataset(seen), side=side)
    assert {name: {i: h.history(i) for i in h.captures} for name, h in found.items()} == expected
    assert (side == "any") == (not any("none of the flanks" in n for n in notices))


def test_an_animal_named_from_both_flanks_without_an_encounter_of_both_is_told():
    seen = [encounter("1#0", "X", "2021-01-05", "C", "left"), encounter("2#0", "X", "2021-03-05", "C", "right")]
    found, notices = histories(dataset(seen))
    assert {name: h.history("X") for name, h in found.items()} == {"left": "1000", "right": "0010"}
    assert any("known from both flanks though no encounter shows both" in n for n in notices)


def test_periods_without_effort_are_no_occasions():
    """Two field seasons: the months between are not zeros, and the interval says so."""
    seasons = {
        "1": deployment("1", "Bay", "2020-05-01", "2020-05-31"),
        "2": deployment("2", "Bay", "2021-05-01", "2021-06-30"),
    }
    seen = [replace(ENCOUNTERS[0], taken_from=dt.datetime(2020, 5, 3), place="Bay"),
            replace(ENCOUNTERS[1], taken_from=dt.datetime(2021, 6, 3), place="Bay")]  # fmt: skip
    found, notices = histories(dataset(seen, deployments=seasons))
    h = found["pooled"]
    assert ([o.name for o in h.occasions], h.intervals) == (["2020-05", "2021-05", "2021-06"], [12, 1])
    assert h.history("S1") == "101"
    assert "11 months without effort are no occasions" in " ".join(notices)


def test_without_start_and_end_the_days_with_photos_are_the_effort():
    bay = effort(Deployment("B", "", "Bay"), {dt.date(2021, 1, 5), dt.date(2021, 4, 5)})
    seen = [replace(ENCOUNTERS[0], taken_from=dt.datetime(2021, 1, 5), place="Bay", deployment_id="B")]
    found, notices = histories(dataset(seen, deployments={"B": bay}))
    assert [o.name for o in found["pooled"].occasions] == ["2021-01", "2021-04"]
    assert found["pooled"].effort == {"Bay": [1, 1]}
    assert "have no start and end" in " ".join(notices)


def test_without_any_deployment_the_days_with_photos_are_the_effort():
    homeless = frozenset({dt.date(2021, 1, 10), dt.date(2021, 2, 10)})
    found, notices = histories(dataset([encounter("a#0", "S1", "2021-02-10", None)], deployments={}, homeless=homeless))
    assert found["pooled"].history("S1") == "01"
    assert "lie in no deployment" in " ".join(notices)


@pytest.mark.parametrize(("text", "message"), [
    ("occasion,first,last\nA,2021-01-01,2021-01-31\nB,2022-01-01,2022-01-31\n",
     r"occasion B \(2022-01-01 to.*no effort"),
    ("occasion,first\nA,2021-01-01\n", "column `last` is missing"),
    ("occasion,first,last\nA,1.1.2021,2021-01-31\n", "line 2: expected days like 2021-05-01, found '1.1.2021'"),
    ("occasion,first,last\nA,2021-01-01,2021-02-28\nB,2021-02-01,2021-03-01\n", "line 3: expected occasions in order"),
    ("occasion,first,last\n", "found none"),
])  # fmt: skip
def test_bad_occasions(tmp_path, text, message):
    (tmp_path / "o.csv").write_text(text)
    with pytest.raises(UserError, match=message):
        histories(dataset(), str(tmp_path / "o.csv"))


def test_own_occasions(tmp_path):
    (tmp_path / "o.csv").write_text("occasion,first,last\nwinter,2021-01-01,2021-02-28\nspring,2021-03-01,2021-04-11\n")
    found, notices = histories(dataset(), str(tmp_path / "o.csv"))
    assert {n: found["pooled"].history(n) for n in ("S1", "S2", "S 3")} == {"S1": "11", "S2": "11", "S 3": "01"}
    assert any(n.startswith("1 encounters are from outside all occasions") for n in notices)  # f#0, on April 12


@pytest.mark.parametrize(("change", "message"), [
    ({"C": deployment("C", "Bay", "2021-01-01", "2021-04-30", latitude=0.01)},
     "Expected one position of the place Bay"),
    ({"C": effort(Deployment("C", "", "Cape"), {dt.date(2021, 1, 1)})}, "secr and oSCR need where Cape is"),
    ({}, None),
])  # fmt: skip
def test_places(change, message):
    if message is None:
        assert set(scr.traps(dataset())[0]) == {"Bay", "Cape"}
        return
    with pytest.raises(UserError, match=message):
        scr.traps(dataset(deployments={**DEPLOYMENTS, **change}))


def test_degrees_are_refused(by_hand):
    with pytest.raises(UserError, match=r"metres.*look like degrees"):
        scr.secr_traps(by_hand, {"Bay": (33.0, 0.0), "Cape": (33.0, 0.001)}, "none")


def test_names_that_become_one_without_blanks():
    seen = [replace(ENCOUNTERS[0], individual="S 1"), replace(ENCOUNTERS[1], individual="S_1")]
    with pytest.raises(UserError, match="'S 1' and 'S_1' become one"):
        scr.secr_captures(histories(dataset(seen))[0]["pooled"])


def test_mark_reads_no_more_than_240_characters_of_a_line():
    days = [
        replace(ENCOUNTERS[0], taken_from=dt.datetime(2021, 1, 1) + dt.timedelta(k), place="Cape") for k in (0, 110)
    ]
    long = [replace(e, individual="x" * 150) for e in days]
    text = mark.inp(histories(dataset(long), "day")[0]["pooled"])
    assert max(map(len, text.splitlines())) <= 240
    assert text.splitlines()[1] == "1" + 109 * "0" + "1" + 9 * "0" + " 1 ;"
    year = {"C": deployment("C", "Cape", "2021-01-01", "2021-12-31")}
    with pytest.raises(UserError, match="365 occasions are too many"):
        mark.inp(histories(dataset(days, deployments=year), "day")[0]["pooled"])


@given(st.lists(st.tuples(st.integers(0, 119), st.sampled_from("ABC")), min_size=1), st.sampled_from(captures.PERIODS))
def test_every_encounter_is_a_capture_in_the_period_of_its_day(seen, period):
    encounters = [
        replace(ENCOUNTERS[0], encounter_id=f"{n}#0", individual=name,
                taken_from=dt.datetime(2021, 1, 1, 23) + dt.timedelta(k), place="Cape")
        for n, (k, name) in enumerate(seen)
    ]  # fmt: skip
    h = histories(dataset(encounters), period)[0]["pooled"]
    assert sum(c.total() for c in h.captures.values()) == len(seen)
    assert sum(h.effort["Cape"]) == 120  # every day is in one occasion
    for k, name in seen:
        day = dt.date(2021, 1, 1) + dt.timedelta(k)
        (occasion,) = (n for n, o in enumerate(h.occasions) if o.first <= day <= o.last)
        assert h.history(name)[occasion] == "1"
