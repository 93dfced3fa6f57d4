"""The plots of a catalogue's report, as PNGs to paste into a document: white, 150 dots an inch, no titles."""

from __future__ import annotations

import io
from typing import TYPE_CHECKING

from pusa.report.sightings import Sightings

if TYPE_CHECKING:
    from matplotlib.axes import Axes

INK, ACCENT, PALE, LINE = "#17212b", "#0b6077", "#9fc9d5", "#d3dbe2"
DPI = 150
WIDTH = 6.4  # inches: a text column


def plots(found: Sightings) -> dict[str, bytes]:
    """PNGs by name: discovery, resightings, places. None of them without a dated encounter."""
    if not found.curve:
        return {}
    return {"discovery": _discovery(found), "resightings": _resightings(found), "places": _places(found)}


def _discovery(found: Sightings) -> bytes:
    figure, axes = _axes(3.6)
    n = len(found.curve)
    axes.plot([0, n], [0, n], color=LINE, linewidth=1.2, linestyle=(0, (4, 3)))
    axes.step(range(n + 1), [0, *found.curve], color=ACCENT, linewidth=2, where="post")
    top = max(found.curve) * 1.12
    at = min(n, top) * 0.6
    note = {"textcoords": "offset points", "color": "#4c5a67", "fontsize": 8.5}
    axes.annotate("every one new", (at, at), (-6, 2), ha="right", **note)  # above the line nothing is ever drawn
    axes.set(xlabel="encounters with a decided individual, in order of time", ylabel="different individuals",
             xlim=(0, n * 1.01), ylim=(0, top))  # fmt: skip
    return _png(figure)


def _resightings(found: Sightings) -> bytes:
    figure, axes = _axes(3.2)
    names = [p.name for p in found.periods]
    again = [p.again for p in found.periods]
    axes.bar(names, again, color=ACCENT, width=0.62, label="had been seen before")
    axes.bar(
        names, [p.new for p in found.periods], bottom=again, color=PALE, width=0.62, label="seen for the first time"
    )
    for k, p in enumerate(found.periods):
        axes.annotate(
            f"{p.rate:.0%}" if k else "", (k, p.seen), (0, 3), textcoords="offset points", ha="center", fontsize=8.5
        )
    axes.set(xlabel=found.unit, ylabel="individuals", ylim=(0, max(p.seen for p in found.periods) * 1.3),
             xlim=(-0.7, max(len(names), 3) - 0.3))  # fmt: skip
    axes.tick_params(axis="x", rotation=0 if len(names) <= 8 else 60)
    axes.legend(frameon=False, fontsize=8.5, loc="upper left", ncols=2, borderaxespad=0.2)
    return _png(figure)


def _places(found: Sightings) -> bytes:
    from matplotlib.dates import AutoDateLocator, ConciseDateFormatter

    names = list(found.by_place)[::-1]
    row, font = (0.32, 9) if len(names) <= 40 else (0.13, 6)  # inches, points: all of them, whatever it takes
    figure, axes = _axes(0.9 + row * max(len(names), 2))
    rows = {name: k for k, name in enumerate(names)}
    axes.plot(
        found.when, [rows[w] for w in found.where], "o", color=ACCENT, alpha=0.45, markersize=6, markeredgewidth=0
    )
    axes.set_yticks(range(len(names)), names, fontsize=font)
    axes.set(ylim=(-0.6, len(names) - 0.4))
    axes.grid(axis="y", color=LINE, linewidth=0.8)
    locator = AutoDateLocator()
    axes.xaxis.set_major_locator(locator)
    axes.xaxis.set_major_formatter(ConciseDateFormatter(locator))
    return _png(figure)


def _axes(height: float):  # type: ignore[no-untyped-def]
    from matplotlib.figure import Figure
    from matplotlib.ticker import MaxNLocator

    figure = Figure(figsize=(WIDTH, height), layout="constrained")
    axes: Axes = figure.subplots()
    axes.spines[["top", "right"]].set_visible(False)
    axes.spines[["left", "bottom"]].set_color("#8a97a3")
    axes.tick_params(colors=INK, labelsize=9)
    axes.xaxis.label.set_fontsize(9.5)
    axes.yaxis.label.set_fontsize(9.5)
    axes.set_axisbelow(True)
    axes.yaxis.set_major_locator(MaxNLocator(integer=True))  # halves of an animal are none
    return figure, axes


def _png(figure) -> bytes:  # type: ignore[no-untyped-def]
    buffer = io.BytesIO()
    figure.savefig(buffer, format="png", dpi=DPI, metadata={"Software": None})  # the same figures, the same file
    return buffer.getvalue()
