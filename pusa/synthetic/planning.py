"""The plan of an archive: which individuals are seen together, where, when, by which camera and from which side."""

from __future__ import annotations

import datetime as dt
from dataclasses import dataclass

import numpy as np

from pusa.synthetic.photo import Animal
from pusa.synthetic.settings import SynthConfig

SEASON = 40  # days, from 5 May: the moult, when seals lie on the shore
FIRST_COAT = 1_000_000  # coats of archives are never those that a training draws for itself

PLACES = (  # islands in Lake Ladoga; degrees WGS84
    ("Valaam", 61.372, 30.943),
    ("Konevets", 60.862, 30.609),
    ("Mantsinsaari", 61.380, 31.610),
    ("Heinasenmaa", 61.270, 30.830),
    ("Lunkulansaari", 61.490, 31.620),
    ("Putsaari", 61.527, 30.567),
)
CAMERAS = (("Canon", "Canon EOS 80D"), ("NIKON CORPORATION", "NIKON D500"), ("Panasonic", "DMC-FZ1000"))
GAME_CAMERA = ("RECONYX", "HYPERFIRE 2")
SHIFTS = ("00:00:00", "+01:00:00", "00:00:00", "-00:07:30")  # what to add to a camera's clock


@dataclass(frozen=True)
class Sequence:
    """The plan of one sequence. individuals: numbers from 1; animals: the same, as a renderer gets them."""

    number: int
    sequence_id: str
    deployment_id: str
    database: bool
    fixed: bool
    first_photo: int
    n_photos: int
    individuals: tuple[int, ...]
    animals: tuple[Animal, ...]
    start: dt.datetime
    place: tuple[str, float, float]
    camera: tuple[str, str]
    clock_shift: str


def plan_sequences(config: SynthConfig) -> list[Sequence]:
    """All sequences in the order of time; those of the database, of one photo each, come first."""
    rng = np.random.default_rng([config.seed, 1])
    members, once = _members(rng, config)
    lengths = [1] * config.database + _spread(rng, config.photos, config.sequences, config.sequence_photos)
    order = rng.permutation(config.individuals)
    members = [[int(order[i % config.individuals]) + 1] for i in range(config.database)] + members
    n = len(members)
    days = rng.choice(4 * SEASON, n, replace=n > 4 * SEASON)  # four seasons; one sequence a day while there is room
    times = np.sort(86400 * days + rng.integers(7 * 3600, 18 * 3600, n))
    favourite = rng.integers(2, size=config.individuals + 1)  # the flank that an individual shows most
    pups = {i for i in sorted(once) if rng.random() < config.pups}
    plan: list[Sequence] = []
    used: set[str] = set()
    first = 1
    for k in range(n):
        where = int(rng.integers(config.places))
        season, seconds = divmod(int(times[k]), 86400 * SEASON)
        start = dt.datetime(2019 + season, 5, 5) + dt.timedelta(seconds=seconds)
        place = PLACES[where]
        sequence_id = f"{place[0]}/{start:%Y-%m-%d}"
        if sequence_id in used:
            sequence_id += f"-{k + 1}"
        used.add(sequence_id)
        sides = []
        for who in members[k]:
            side = ("left", "right")[favourite[who]]
            if rng.random() > config.same_side:
                others = [s for s in ("left", "right", "front", "back", "up", "down") if s != side]
                side = others[rng.integers(len(others))]
            sides.append(side)
        fixed = k >= config.database and rng.random() < config.fixed
        coat = FIRST_COAT + 10_000 * config.seed
        plan.append(
            Sequence(
                number=k,
                sequence_id=sequence_id,
                deployment_id=f"D{where + 1:02d}",
                database=k < config.database,
                fixed=fixed,
                first_photo=first,
                n_photos=lengths[k],
                individuals=tuple(members[k]),
                animals=tuple(Animal(coat + i, s, i in pups) for i, s in zip(members[k], sides, strict=True)),
                start=start,
                place=place,
                camera=GAME_CAMERA if fixed else CAMERAS[where % len(CAMERAS)],
                clock_shift=SHIFTS[where % len(SHIFTS)],
            )
        )
        first += lengths[k]
    return plan


def _members(rng: np.random.Generator, config: SynthConfig) -> tuple[list[list[int]], set[int]]:
    """Individuals (numbers from 1) of each sequence, and those who are in one sequence only.

    Every individual is in one, if there are encounters enough; those that return are in as many as there is room for.
    """
    n, total = config.sequences, config.individuals
    low, high = config.animals[0], min(config.animals[1], total)
    who = rng.permutation(total)[: config.encounters]  # fewer encounters than individuals: some are not seen
    once = round((1 - config.returning) * len(who))
    returners = len(who) - once
    most = min(high * n, once + returners * n)
    wanted = config.encounters or once + 2 * returners + n * (returners > 0)
    encounters = int(np.clip(wanted, low * n, most))
    quota = np.ones(len(who), int)
    if returners:
        quota[:returners] = _spread(rng, encounters - once, returners, (1, n), even=True)
    capacity = np.array(_spread(rng, encounters, n, (low, high)))
    late = set(who[: round(config.newcomers * len(who))]) if n >= 4 and len(who) >= 4 else set()
    members: list[list[int]] = [[] for _ in range(n)]
    # While there is choice: first those who come late, then those who come often.
    for i in sorted(range(len(who)), key=lambda i: (who[i] not in late, -quota[i])):
        room = np.flatnonzero(capacity > 0)
        if who[i] in late and (later := room[room >= (n + 1) // 2]).size:
            room = later
        # The sequences with most room, or the last individuals would find it in too few; ties and more at random.
        emptiest = np.argsort(-(capacity[room] + 2 * rng.random(len(room))))
        for k in room[emptiest[: quota[i]]]:
            members[k].append(int(who[i]) + 1)
            capacity[k] -= 1
    for k in np.flatnonzero(capacity):  # places that remained since an animal is in a sequence once
        others = [int(i) + 1 for i in who[:returners] if int(i) + 1 not in members[k]]
        members[k] += [int(i) for i in rng.permutation(others)[: capacity[k]]]
    counts = np.bincount([i for m in members for i in m], minlength=total + 1)
    return [sorted(m) for m in members], {int(i) for i in np.flatnonzero(counts == 1)}


def _spread(rng: np.random.Generator, total: int, n: int, limits: tuple[int, int], even: bool = False) -> list[int]:
    """`total` as `n` numbers within `limits` (which must be possible): as even as can be, or some far larger."""
    low, high = limits
    parts = np.full(n, low)
    weights = np.ones(n) if even else rng.dirichlet(np.full(n, 2.0))
    while (rest := total - int(parts.sum())) > 0:
        free = np.flatnonzero(parts < high)
        if even:
            more = np.full(len(free), rest // len(free))
            more[rng.permutation(len(free))[: rest % len(free)]] += 1
        else:
            more = rng.multinomial(rest, weights[free] / weights[free].sum())
        parts[free] = np.minimum(parts[free] + more, high)
    return [int(p) for p in parts]
