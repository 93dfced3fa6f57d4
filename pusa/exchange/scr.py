"""Spatial capture histories for R's secr (Efford; read.capthist) and oSCR (Sutherland et al. 2019; data2oscr).

A detector is a place, where cameras may have stood several times; its usage is 1 on occasions on which one was at work.
Places are projected from WGS84 to metres: UTM in the zone of their middle. A capture is an encounter, so several of one
animal at one place in one occasion are counts; secr's reduce() and oSCR's remove.extracaps make them one.
"""

from __future__ import annotations

from collections.abc import Mapping

from pusa.errors import UserError
from pusa.exchange.captures import Histories
from pusa.exchange.dataset import Dataset
from pusa.exchange.tables import csv_text

Traps = dict[str, tuple[float, float]]  # x (east), y (north) in metres by place


def traps(dataset: Dataset) -> tuple[Traps, str]:
    """Projected places and the name of the projection (EPSG:326xx north, 327xx south). Raises UserError for a place
    without coordinates, or with several that differ by more than 0.001 degrees (some 100 m)."""
    degrees: dict[str, tuple[float, float]] = {}
    for name, e in dataset.deployments.items():
        place = e.deployment.place or name
        if e.deployment.latitude is None or e.deployment.longitude is None:
            raise UserError(
                f"secr and oSCR need where {place} is; the deployment {name} has no latitude and longitude. Give "
                "them with "
                "--deployments FILE."
            )
        here = e.deployment.longitude, e.deployment.latitude
        other = degrees.setdefault(place, here)
        if max(abs(a - b) for a, b in zip(here, other, strict=True)) > 0.001:
            raise UserError(
                f"Expected one position of the place {place}, found {other[1]}, {other[0]} and {here[1]}, {here[0]} "
                f"(deployment {name}). Give the places different names, or the deployments the same position."
            )
    if not degrees or any(e.place is None and e.deployment_id is None for e in dataset.named()):
        raise UserError(
            "secr and oSCR need the place of every encounter; some lie in no deployment. Give --deployments FILE, "
            "a CSV "
            "with deployment_id, folder, place, latitude, longitude, start, end."
        )
    return _projected(degrees)


def _projected(degrees: Mapping[str, tuple[float, float]]) -> tuple[Traps, str]:
    from pyproj import Transformer

    middle = [sum(at) / len(degrees) for at in zip(*degrees.values(), strict=True)]
    zone = min(int((middle[0] + 180) // 6) + 1, 60)
    name = f"EPSG:{32600 + zone if middle[1] >= 0 else 32700 + zone}"
    project = Transformer.from_crs("EPSG:4326", name, always_xy=True).transform
    return {place: project(*at) for place, at in sorted(degrees.items())}, name


def secr_captures(found: Histories, session: str = "1") -> str:
    """The capture file: Session ID Occasion Detector, one line an encounter."""
    lines = ["# Session ID Occasion Detector"]
    for name in sorted(found.captures):
        for (k, place), n in sorted(found.captures[name].items()):
            lines += [f"{session} {_word(name)} {k + 1} {_word(place)}"] * n
    _check_words(found.captures)
    return "\n".join(lines) + "\n"


def secr_traps(found: Histories, at: Traps, projection: str) -> str:
    """The trap file: Detector X Y Usage, with one 0 or 1 an occasion."""
    _check(at)
    lines = [f"# Detector X Y Usage ({projection}, metres)"]
    for place, (x, y) in _used(found, at).items():
        lines.append(f"{_word(place)} {x:.1f} {y:.1f} {''.join(map(str, _usage(found, place)))}")
    _check_words(at)
    return "\n".join(lines) + "\n"


def oscr_edf(found: Histories, session: int = 1) -> str:
    """The encounter data file: session, individual, occasion, trap; one row an encounter."""
    rows = [
        {"session": session, "individual": name, "occasion": k + 1, "trap": place}
        for name in sorted(found.captures)
        for (k, place), n in sorted(found.captures[name].items())
        for _ in range(n)
    ]
    return csv_text(["session", "individual", "occasion", "trap"], rows)


def oscr_tdf(found: Histories, at: Traps) -> str:
    """The trap deployment file: TrapID, X, Y, a column 0 or 1 an occasion, a column "/", and days at work."""
    _check(at)
    ks = [str(k + 1) for k in range(len(found.occasions))]
    rows = [
        {"TrapID": place, "X": f"{x:.1f}", "Y": f"{y:.1f}", **dict(zip(ks, _usage(found, place), strict=True)),
         "sep": "/", "days": sum(found.effort[place])}
        for place, (x, y) in _used(found, at).items()
    ]  # fmt: skip
    return csv_text(["TrapID", "X", "Y", *ks, "sep", "days"], rows)


def secr_script(names: list[str], found: Histories) -> str:
    """Lines of R that read the files of each data set."""
    lines = ['library(secr)  # counts of encounters; reduce(x, outputdetector = "proximity") makes them 0 or 1']
    lines += [
        f'{n} <- read.capthist("{n}-captures.txt", "{n}-traps.txt", detector = "count", '
        f"noccasions = {len(found.occasions)})"
        for n in names
    ]
    return "\n".join(lines) + "\n"


def oscr_script(names: list[str], found: Histories) -> str:
    """Lines of R that read the files of each data set."""
    lines = ["library(oSCR)"]
    for n in names:
        lines += [
            f'edf <- read.csv("{n}-edf.csv", colClasses = c(individual = "character", trap = "character"))',
            f'tdf <- read.csv("{n}-tdf.csv", colClasses = c(TrapID = "character"))',
            f"{n} <- data2oscr(edf, sess.col = 1, id.col = 2, occ.col = 3, trap.col = 4, tdf = list(tdf), "
            f'K = {len(found.occasions)}, ntraps = nrow(tdf), trapcov.names = "days", tdf.sep = "/")',
        ]
    return "\n".join(lines) + "\n"


def _usage(found: Histories, place: str) -> list[int]:
    return [int(days > 0) for days in found.effort[place]]


def _used(found: Histories, at: Traps) -> Traps:
    """The places that were at work on any occasion."""
    lost = {place for captures in found.captures.values() for _, place in captures} - set(at)
    if lost:
        raise UserError(
            f"Animals were seen at {min(lost)}, whose position is not known. Give it with --deployments FILE."
        )
    return {place: xy for place, xy in sorted(at.items()) if any(found.effort[place])}


def _check(at: Traps) -> None:
    """Raises UserError for coordinates that look like degrees: distances would be nonsense."""
    if at and all(abs(x) <= 180 and abs(y) <= 90 for x, y in at.values()):
        raise UserError(
            "Expected projected coordinates in metres (such as UTM), found values within 180 and 90, which look like "
            "degrees. Project them first."
        )


def _word(name: str) -> str:
    """A name as secr takes it: without blanks."""
    return "_".join(name.replace("#", "_").replace(",", "_").replace('"', "_").replace("'", "_").split())


def _check_words(names: Mapping[str, object]) -> None:
    words: dict[str, str] = {}
    for name in names:
        if (other := words.setdefault(_word(name), name)) != name:
            raise UserError(
                f"secr's files separate by blanks, so names are written without: {other!r} and {name!r} become "
                "one. Rename "
                "one of them (`pusa gallery merge` into a new name, or the place in the deployments)."
            )
