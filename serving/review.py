"""Review: which encounter to look at next, what is known about it, and what is decided."""

from __future__ import annotations

import asyncio
import math
import uuid
from collections.abc import Iterable
from dataclasses import dataclass
from typing import Any

from pusa.gallery.candidate_set import CandidateSet
from pusa.gallery.index import ALL
from pusa.gallery.journal import Decision, Key, Kind
from serving.access import Who
from serving.database import Database
from serving.problems import Problem
from serving.shelf import Contents, Entry, Shelf
from serving.stages import Stages
from serving.workers import Pair

NAMESPACE = uuid.UUID("6f1a5b0e-5a0e-4a37-9d1d-0b2f5d1c7a11")
Candidate = dict[str, Any]
SAME = ("kind", "encounters", "individual", "other", "instance_id", "undoes")  # what an idempotency key stands for


@dataclass(frozen=True)
class Waiting:
    """An encounter that nobody has decided about, its candidates (None: not asked yet), and how much is open, in bits;
    -1 where nothing can be said, since it has no pattern."""

    entry: Entry
    candidates: list[Candidate] | None
    bits: float


def bits(candidates: list[Candidate]) -> float:
    """Entropy of the answer, in bits: what a decision would tell. Individuals beyond the candidates count as one."""
    if not candidates or candidates[0]["probability"] is None:
        return 0.0
    shares = [c["probability"] for c in candidates] + [candidates[0]["new_probability"]]
    shares.append(max(0.0, 1 - sum(shares)))
    return -sum(p * math.log2(p) for p in shares if p > 0)


class Desk:
    """The reviewers' desk: questions to the identifier, and decisions into the gallery."""

    def __init__(self, shelf: Shelf, database: Database, stages: Stages) -> None:
        self.shelf, self.database, self.stages = shelf, database, stages

    def queue(self, contents: Contents) -> list[Waiting]:
        """All undecided encounters, the most informative first: those where the answer is most open, then those that
        were not asked about yet, then those that cannot be compared."""
        known = self.database.answers()
        waiting = []
        for entry in contents.undecided():
            _, candidates = known.get(entry.key, ("", None))
            unsure = -1.0 if not entry.n_patches else bits(candidates) if candidates is not None else 0.0
            waiting.append(Waiting(entry, candidates, unsure))
        return sorted(waiting, key=lambda w: (-w.bits, w.entry.token))

    def after(self, contents: Contents, token: str | None) -> Entry | None:
        """The next encounter to look at, behind the one of `token`; from the beginning again after the last."""
        order = [w.entry for w in self.queue(contents)]
        tokens = [e.token for e in order]
        if token in tokens:
            order = order[tokens.index(token) + 1 :] + order[: tokens.index(token)]
        return order[0] if order else None

    def kept(self, key: Key, version: str, among: CandidateSet = ALL) -> tuple[list[Candidate] | None, bool]:
        """What was last found about an encounter, None where it was not asked about; and whether that is from another
        version of the gallery."""
        kept = self.database.answer(key, among)
        return (kept[1], kept[0] != version) if kept else (None, True)

    async def candidates(self, key: Key, version: str, among: CandidateSet = ALL) -> list[Candidate]:
        """The candidates of an enrolled encounter in the gallery as it is now; empty where it cannot be compared."""
        kept, stale = self.kept(key, version, among)
        if kept is not None and not stale:
            return kept
        query = await asyncio.to_thread(self.shelf.query, key)
        if query is None:
            return []
        answer = await self.stages.identify(query, among)
        self.database.keep_answer(key, answer.version, answer.candidates, among)
        return answer.candidates

    async def ask_all(self) -> int:
        """Asks about the undecided encounters that were never asked about; how many that was."""
        contents = await asyncio.to_thread(self.shelf.contents)
        open_ = [w.entry for w in self.queue(contents) if w.candidates is None and w.entry.n_patches]
        for entry in open_:
            await self.candidates(entry.key, contents.version)
        return len(open_)

    async def pair(self, key: Key, nearest: Key) -> Pair | None:
        """What matches between an enrolled encounter and one that stands for a candidate."""
        query = await asyncio.to_thread(self.shelf.query, key)
        return None if query is None else await self.stages.pair(query, nearest)

    def decide(
        self, who: Who, kind: Kind, entries: Iterable[Entry] = (), idempotency: str | None = None,
        among: CandidateSet = ALL, **fields: Any,
    ) -> Decision:  # fmt: skip
        """Writes a decision, signed by who asks, with the candidates that they were shown. The same idempotency key
        again gives the decision that was made then. Raises UserError where it would have no effect."""
        keys = tuple(e.key for e in entries)
        kept = self.database.answer(keys[0], among) if keys else None
        shown = tuple(c["individual"] for c in kept[1]) if kept else ()
        name = f"{who.name}\0{idempotency}" if idempotency else uuid.uuid4().hex
        made = Decision(
            kind, keys, by=who.name, shown=shown, weights=self.shelf.gallery.about["codebook"],
            decision_id=uuid.uuid5(NAMESPACE, name).hex, **fields,
        )  # fmt: skip
        fresh = self.shelf.gallery.decide(made)
        if fresh:
            return fresh[0]
        old = next(d for d in self.shelf.gallery.decisions() if d.decision_id == made.decision_id)
        if any(getattr(old, name) != getattr(made, name) for name in SAME):
            raise Problem(422, "Idempotency key used twice", f"It stands for another decision: {old.told()}.")
        return old


def last_of(contents: Contents, who: str) -> Decision | None:
    """The last decision of a person that can be undone."""
    catalogue = contents.catalogue
    for d in reversed(contents.decisions):
        if d.by == who and d.kind != "undo" and d.decision_id not in catalogue.undone | catalogue.void:
            return d
    return None
