"""The journal: what follows from decisions, worked out by hand, and what is refused."""

from __future__ import annotations

import random
from datetime import UTC, datetime

import pytest
from hypothesis import given
from hypothesis import strategies as st

from pusa.errors import UserError
from pusa.gallery.journal import Decision, catalogue, checked

A, B, C, D = (("r", e) for e in "abcd")


def journal(*decisions: Decision) -> list[Decision]:
    """The decisions one after the other, each checked when it is made."""
    made: list[Decision] = []
    for d in decisions:
        made += checked(made, [d])
    return made


def new(key, name, **more) -> Decision:
    return Decision("new", (key,), name, **more)


AINO_AND_BO = (new(A, "Aino"), Decision("same", (B,), "Aino"), new(C, "Bo"))


@pytest.mark.parametrize(
    ("decision", "names"),
    [
        # what is decided on top of a = b = Aino, c = Bo
        (Decision("same", (D,), "Bo"), {A: "Aino", B: "Aino", C: "Bo", D: "Bo"}),
        (Decision("same", (B,), "Bo"), {A: "Aino", B: "Bo", C: "Bo"}),  # the later one counts
        (Decision("unknown", (B,)), {A: "Aino", C: "Bo"}),
        (Decision("not_animal", (A,)), {B: "Aino", C: "Bo"}),
        (Decision("not_animal", (A,), instance_id="i"), {A: "Aino", B: "Aino", C: "Bo"}),  # one crop of it only
        (Decision("merge", individual="Bo", other="Aino"), {A: "Aino", B: "Aino", C: "Aino"}),
        (Decision("split", (B,), "Aino", "Cleo"), {A: "Aino", B: "Cleo", C: "Bo"}),
        (Decision("new", (A, B), "Cleo"), {A: "Cleo", B: "Cleo", C: "Bo"}),
    ],
)
def test_what_follows(decision, names):
    assert catalogue(journal(*AINO_AND_BO, decision)).names == names


def test_undone_is_as_if_it_had_never_been():
    made = journal(*AINO_AND_BO, Decision("merge", individual="Bo", other="Aino", decision_id="m"))
    made = [*made, *checked(made, [Decision("same", (D,), "Aino")])]
    made = [*made, *checked(made, [Decision("undo", undoes="m")])]
    found = catalogue(made)
    assert found.names == {A: "Aino", B: "Aino", C: "Bo", D: "Aino"}
    assert found.merged == {}
    assert found.verdicts[C] == "new"


def test_names_of_merged_animals_lead_to_the_one_that_stays():
    merges = Decision("merge", individual="Aino", other="Bo"), Decision("merge", individual="Bo", other="Cleo")
    found = catalogue(journal(*AINO_AND_BO, new(D, "Cleo"), *merges))
    assert found.merged == {"Aino": "Cleo", "Bo": "Cleo"}
    assert set(found.names.values()) == {"Cleo"}


@pytest.mark.parametrize(
    ("decision", "message"),
    [
        (Decision("same", (D,), "Nobody"), "There is no individual 'Nobody'"),
        (new(D, "Aino"), "The name 'Aino' is taken"),
        (new(D, " unknown "), "' unknown ' is not the name"),
        (new(D, ""), "'' is not the name"),
        (Decision("new", (D,)), "needs a name"),
        (Decision("same", (), "Aino"), "needs an encounter"),
        (Decision("other_animal", (A,)), "needs its instance_id"),
        (Decision("not_animal", (A, B), instance_id="i"), "needs the one encounter"),
        (Decision("merge", individual="Aino", other="Aino"), "cannot be merged with itself"),
        (Decision("merge", individual="Aino", other="Nobody"), "no individual 'Nobody'"),
        (Decision("split", (C,), "Aino", "Cleo"), "c is not one of Aino's"),
        (Decision("split", (A, B), "Aino", "Cleo"), "nothing would be left"),
        (Decision("split", (A,), "Aino", "Bo"), "The name 'Bo' is taken"),
        (Decision("undo", undoes="x"), "no decision x"),
        (Decision("guess", (A,)), "'guess' is no kind"),  # type: ignore[arg-type]
    ],
)
def test_what_cannot_be_decided_is_refused(decision, message):
    made = journal(*AINO_AND_BO)
    with pytest.raises(UserError, match=message):
        checked(made, [decision])


def test_nothing_is_undone_twice_nor_undoing_undone():
    made = journal(*AINO_AND_BO, Decision("same", (D,), "Bo", decision_id="s"))
    made = [*made, *checked(made, [Decision("undo", undoes="s", decision_id="u")])]
    with pytest.raises(UserError, match="undone already, by u"):
        checked(made, [Decision("undo", undoes="s")])
    with pytest.raises(UserError, match="u undid a decision"):
        checked(made, [Decision("undo", undoes="u")])


def test_what_others_rest_on_is_not_undone():
    made = journal(new(A, "Aino", decision_id="n"), Decision("same", (B,), "Aino"))
    with pytest.raises(UserError, match=r"1 later decisions rest on it \(same Aino: b: There"):
        checked(made, [Decision("undo", undoes="n")])


def test_a_merged_name_is_not_given_again():
    made = journal(*AINO_AND_BO, Decision("merge", individual="Bo", other="Aino"))
    with pytest.raises(UserError, match="Bo was merged: it is called Aino now"):
        checked(made, [Decision("same", (D,), "Bo")])
    with pytest.raises(UserError, match="'Bo' is taken"):
        checked(made, [new(D, "Bo")])


KEYS, NAMES = st.sampled_from([A, B, C, D]), st.sampled_from(["Aino", "Bo", "Cleo"])
ANY = st.one_of(
    st.builds(Decision, st.sampled_from(["same", "new"]), st.tuples(KEYS), NAMES, by=st.just("x")),
    st.builds(Decision, st.just("merge"), individual=NAMES, other=NAMES, by=st.just("x")),
    st.builds(Decision, st.just("split"), st.tuples(KEYS), NAMES, NAMES, by=st.just("x")),
    st.builds(Decision, st.just("unknown"), st.tuples(KEYS), by=st.just("x")),
)


@given(st.lists(ANY, max_size=12), st.randoms(use_true_random=False))
def test_laws(decisions, rng: random.Random):
    """Of any history: the order in which rows are read does not matter, a copy of a row changes nothing, and the last
    decision undone leaves what was before it."""
    when = datetime(2026, 1, 1, tzinfo=UTC)
    history = [Decision(**(d.__dict__ | {"number": k, "made_at": when})) for k, d in enumerate(decisions)]
    found = catalogue(history)
    shuffled = rng.sample(history, len(history))
    assert catalogue(shuffled) == found
    assert catalogue([*history, *history[:3]]) == found
    if history:
        undo = Decision("undo", undoes=history[-1].decision_id, number=len(history), made_at=when)
        after = catalogue([*history, undo])
        assert (after.names, after.known) == (catalogue(history[:-1]).names, catalogue(history[:-1]).known)
    assert set(found.names.values()) <= found.known


def test_looks_at_pairs_name_nobody():
    """They are kept in order, and can be undone; what they need is two encounters."""
    made = journal(
        *AINO_AND_BO,
        Decision("two_animals", (A, C), decision_id="x"),
        Decision("one_animal", (A, B)),
        Decision("cannot_say", (B, D)),
    )
    found = catalogue(made)
    assert found.names == {A: "Aino", B: "Aino", C: "Bo"}
    assert found.verdicts == {A: "new", B: "same", C: "new"}
    assert found.looks == [(A, C, "two_animals"), (A, B, "one_animal"), (B, D, "cannot_say")]
    assert made[3].told() == "two_animals: a and c"
    undone = [*made, *checked(made, [Decision("undo", undoes="x")])]
    assert catalogue(undone).looks == [(A, B, "one_animal"), (B, D, "cannot_say")]
    for wrong in ((A,), (A, A), (A, B, C)):
        with pytest.raises(UserError, match="Expected two encounters to compare"):
            checked(made, [Decision("one_animal", wrong)])
