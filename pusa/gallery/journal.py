"""The journal of a gallery: who decided what about which encounter, and which animal each encounter therefore is.

Identity is written down nowhere: it follows from all decisions in their order, and `catalogue` works it out. Decisions
are only ever added; a wrong one is undone by another. "Unknown" (looked at, nobody can say) is a decision like "new".
"""

from __future__ import annotations

import getpass
import uuid
from collections import Counter
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from datetime import UTC, datetime
from typing import Literal, TypeGuard, get_args

from pusa.errors import UserError

Key = tuple[str, str]  # of an encounter: run, encounter_id
Look = Literal["one_animal", "two_animals", "cannot_say"]  # what a person says about a pair
Kind = Literal["same", "new", "unknown", "not_animal", "other_animal", "merge", "split", "undo", Look]
NOT_NAMES = ("", "unknown", "na", "n/a", "nan", "none", "null")  # what tables write where nobody knows the animal


@dataclass(frozen=True)
class Decision:
    """One decision. What each kind needs:

    same          encounters, individual: they show this known animal
    new           encounters, individual: they show an animal seen for the first time, to be called so
    unknown       encounters: looked at, but nobody can say
    not_animal    encounters: they show no animal; with instance_id: that crop of the one encounter does not
    other_animal  encounters (one), instance_id: that crop shows another animal than the rest
    merge         individual, other: the first is the second, whose name stays
    split         encounters, individual, other: these encounters of `individual` are another animal, called `other`
    one_animal    encounters (two): looked at side by side, they show one animal. It names nobody; `pusa catalogue`
    two_animals   goes by it, as by these: they show two, and
    cannot_say    nobody can say
    undo          undoes: the decision_id of a decision that shall not count
    """

    kind: Kind
    encounters: tuple[Key, ...] = ()
    individual: str | None = None
    other: str | None = None
    instance_id: str | None = None
    undoes: str | None = None
    by: str = field(default_factory=getpass.getuser)
    reason: str = ""
    shown: tuple[str, ...] = ()  # the candidates that were offered, nearest first
    weights: str = ""  # SHA-256 of the codebook behind them
    decision_id: str = field(default_factory=lambda: uuid.uuid4().hex)  # the same one twice counts once
    # Larger than that of every decision known to who made it, so that no clock has to be right (Lamport 1978)
    number: int = 0
    made_at: datetime = field(default_factory=lambda: datetime.now(UTC))

    def told(self) -> str:
        """It in a line: "same Aino: 2020-05-01#3 and 2 more"."""
        names = " -> ".join(name for name in (self.individual, self.other) if name)
        what = [f"crop {self.instance_id}"] if self.instance_id else []
        what += [self.undoes[:8]] if self.undoes else []
        what += [e for _, e in self.encounters[:1]]
        more = f" and {len(self.encounters) - 1} more" if len(self.encounters) > 1 else ""
        if _is_look(self.kind):
            more = "".join(f" and {e}" for _, e in self.encounters[1:])
        return " ".join(part for part in (self.kind, names) if part) + (": " if what else "") + " of ".join(what) + more


@dataclass
class Catalogue:
    """What follows from decisions: the `names` of encounters; what was last decided about each of them (`verdicts`);
    `crops` that were taken out of their encounter; `looks`: pairs, and what was said about each, in order; `merged`:
    individuals and the one whose name they go by; `void`: decisions without effect, by id, and why."""

    names: dict[Key, str] = field(default_factory=dict)
    verdicts: dict[Key, Kind] = field(default_factory=dict)
    crops: dict[Key, set[str]] = field(default_factory=dict)
    looks: list[tuple[Key, Key, Look]] = field(default_factory=list)
    known: set[str] = field(default_factory=set)
    merged: dict[str, str] = field(default_factory=dict)
    undone: dict[str, str] = field(default_factory=dict)
    void: dict[str, str] = field(default_factory=dict)

    def individuals(self) -> Counter[str]:
        """Encounters of each individual that has one."""
        return Counter(self.names.values())


def catalogue(decisions: Iterable[Decision]) -> Catalogue:
    """What follows from decisions, in whatever order they are given."""
    ordered = sorted(decisions, key=lambda d: (d.number, d.made_at, d.decision_id))
    found = Catalogue()
    kinds: dict[str, Kind] = {}
    for d in ordered:
        if d.kind == "undo" and (problem := _cannot_undo(d, kinds, found.undone)):
            found.void[d.decision_id] = problem
        elif d.kind == "undo":
            found.undone[str(d.undoes)] = d.decision_id
        kinds.setdefault(d.decision_id, d.kind)
    seen: set[str] = set()
    for d in ordered:
        if d.kind == "undo" or d.decision_id in found.undone or d.decision_id in seen:
            continue
        seen.add(d.decision_id)
        if problem := _problem(d, found):
            found.void[d.decision_id] = problem
        else:
            _apply(d, found)
    return found


def checked(decisions: Sequence[Decision], added: Sequence[Decision]) -> list[Decision]:
    """The `added` decisions, numbered, less those made before (same id). Raises UserError for one that would have no
    effect, or that would take the ground from under another one."""
    known = {d.decision_id for d in decisions}
    last = max((d.number for d in decisions), default=0)
    fresh = [
        Decision(**(d.__dict__ | {"number": last + k}))
        for k, d in enumerate((d for d in added if d.decision_id not in known), 1)
    ]
    for d in fresh:
        for name in (d.individual, d.other):
            if name is not None and name.strip().lower() in NOT_NAMES:
                raise UserError(
                    f"{name!r} is not the name of an individual. Leave the name out where the animal is not known."
                )
    before, after = catalogue(decisions).void, catalogue([*decisions, *fresh])
    for d in fresh:
        if d.decision_id in after.void:
            raise UserError(after.void[d.decision_id])
    lost = [d for d in decisions if d.decision_id in after.void and d.decision_id not in before]
    if lost:
        raise UserError(
            f"Not done: {len(lost)} later decisions rest on it ({lost[-1].told()}: "
            f"{after.void[lost[-1].decision_id]}) Undo these first."
        )
    return fresh


def naming(names: Mapping[Key, str], decisions: Sequence[Decision]) -> list[Decision]:
    """The decisions that give encounters these names where they have others, or none, after those made before. Raises
    UserError for a name that is none."""
    known = catalogue(decisions)
    wanted: dict[str, list[Key]] = {}
    for key, given in names.items():
        name = known.merged.get(given, given)
        if known.names.get(key) != name:
            wanted.setdefault(name, []).append(key)
    added = [
        Decision("same" if name in known.known else "new", tuple(keys), name, reason="enrolled with this name")
        for name, keys in wanted.items()
    ]
    return checked(decisions, added)


def _cannot_undo(d: Decision, kinds: dict[str, Kind], undone: dict[str, str]) -> str | None:
    if d.undoes not in kinds:
        return f"There is no decision {d.undoes} to undo."
    if kinds[d.undoes] == "undo":
        return f"{d.undoes} undid a decision; that stays. Decide anew instead."
    if d.undoes in undone:
        return f"The decision {d.undoes} has been undone already, by {undone[d.undoes]}."
    return None


def _problem(d: Decision, found: Catalogue) -> str | None:
    """Why a decision has no effect on what is `found` so far; None where it has."""
    if d.kind not in get_args(Kind):
        return f"{d.kind!r} is no kind of decision; expected one of {', '.join(get_args(Kind))}."
    if d.kind == "merge":
        return _cannot_merge(d, found)
    if not d.encounters:
        return f"A decision of the kind {d.kind!r} needs an encounter."
    if _is_look(d.kind):
        return None if len(set(d.encounters)) == len(d.encounters) == 2 else "Expected two encounters to compare."
    if d.kind == "same":
        return _not_known(d.individual, found)
    if d.kind == "new":
        return _taken(d.individual, found)
    if d.kind == "split":
        return _not_known(d.individual, found) or _taken(d.other, found) or _cannot_split(d, found)
    if d.kind == "other_animal" and d.instance_id is None:
        return "Which crop shows another animal? The decision needs its instance_id."
    if d.instance_id is not None and len(d.encounters) > 1:
        return "A decision about a crop needs the one encounter that it belongs to."
    return None


def _is_look(kind: Kind) -> TypeGuard[Look]:
    return kind in get_args(Look)


def _not_known(name: str | None, found: Catalogue) -> str | None:
    if name in found.known:
        return None
    if name in found.merged:
        return f"{name} was merged: it is called {found.merged[name]} now."
    return f"There is no individual {name!r}. An animal seen for the first time is decided to be new."


def _taken(name: str | None, found: Catalogue) -> str | None:
    if not name:
        return "A new individual needs a name."
    if name in found.known or name in found.merged:
        return f"The name {name!r} is taken. Give the new individual another one."
    return None


def _cannot_merge(d: Decision, found: Catalogue) -> str | None:
    if d.individual == d.other:
        return f"{d.individual} cannot be merged with itself."
    return _not_known(d.individual, found) or _not_known(d.other, found)


def _cannot_split(d: Decision, found: Catalogue) -> str | None:
    foreign = [key for key in d.encounters if found.names.get(key) != d.individual]
    if foreign:
        return f"The encounter {foreign[0][1]} is not one of {d.individual}'s."
    if len(set(d.encounters)) == found.individuals()[str(d.individual)]:
        return f"These are all encounters of {d.individual}: nothing would be left of it."
    return None


def _apply(d: Decision, found: Catalogue) -> None:
    if d.kind == "merge":
        gone, stays = str(d.individual), str(d.other)
        found.known.remove(gone)
        found.merged |= {name: stays for name, by in found.merged.items() if by == gone} | {gone: stays}
        found.names = {key: stays if name == gone else name for key, name in found.names.items()}
        return
    if _is_look(d.kind):
        first, second = d.encounters
        found.looks.append((first, second, d.kind))
        return
    if d.instance_id is not None:
        found.crops.setdefault(d.encounters[0], set()).add(d.instance_id)
        return
    name = {"same": d.individual, "new": d.individual, "split": d.other}.get(d.kind)
    for key in d.encounters:
        found.verdicts[key] = d.kind
        if name is None:
            found.names.pop(key, None)
        else:
            found.names[key] = name
    if name is not None:
        found.known.add(name)
