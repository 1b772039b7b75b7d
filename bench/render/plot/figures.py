"""What each kind of figure shows, before anybody draws it: lines of points with their 95 % intervals."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from itertools import compress

from bench.board.leaderboard import Row
from bench.board.ranking import front
from bench.compression import Compression, Kind
from bench.entry import Entry
from bench.errors import UsageError
from bench.recipe_record import UNTUNED
from bench.registry import did_you_mean
from bench.render.costs import find_cost
from bench.render.footnotes import label
from bench.verdicts import Proportion

QUIET = -1
"""The grey style, for points that others are compared with."""
FINETUNING = {UNTUNED: "no fine-tuning", "clean": "clean fine-tuning", "adversarial": "adversarial fine-tuning"}
_SHARES: dict[Kind, str] = {
    "structured": "channels removed [%]", "unstructured": "weights set to zero [%]", "low-rank": "MACs removed [%]",
}  # fmt: skip


@dataclass(frozen=True, kw_only=True)
class Point:
    """A point, its accuracy and the ends of its 95 % interval in per cent."""

    name: str
    x: float
    y: float
    low: float
    high: float


@dataclass(frozen=True, kw_only=True)
class Line:
    """Points that belong together.

    Attributes:
        name: for the legend.
        points: from left to right.
        style: a number that gives colour and marker; lines of two panels that have the same number look the same.
        dashed: clean accuracy is drawn dashed, robust accuracy solid.
        joined: whether a line runs through the points; "steps" for a front.
    """

    name: str
    points: tuple[Point, ...]
    style: int = 0
    dashed: bool = False
    joined: bool | str = True


@dataclass(frozen=True, kw_only=True)
class Panel:
    """One pair of axes.

    Attributes:
        title: above the axes.
        x_label: with its unit.
        y_label: with its unit.
        lines: what is drawn.
        log_x: whether x is logarithmic.
        reverse_x: whether x falls from left to right, as bits do: compression grows to the right.
        named: whether each point's name stands beside it.
        ticks: where x has its ticks, and what they say; empty for wherever they fall.
    """

    title: str
    x_label: str
    lines: tuple[Line, ...]
    y_label: str = "accuracy [%]"
    log_x: bool = False
    reverse_x: bool = False
    named: bool = False
    ticks: tuple[tuple[float, str], ...] = ()


def pareto(boards: Mapping[str, Sequence[Row]], cost: str = "bops") -> list[Panel]:
    """Robust accuracy against a cost, one panel a track; the front is a line of steps.

    Raises:
        UsageError: the entries have no such cost.
    """
    panels = []
    for track, rows in boards.items():
        entries = [row.entry for row in rows if row.rank is not None]
        chosen = find_cost(cost, entries)
        values = {entry.name: value for entry in entries if (value := chosen.of(entry))}
        entries = [entry for entry in entries if entry.name in values]
        on = front([(entry.verdicts.robust.count, values[entry.name], None) for entry in entries])
        points = [_point(label(entry), values[entry.name], entry.verdicts.robust) for entry in entries]
        best, others = (list(compress(points, mask)) for mask in (on, [not one for one in on]))
        lines = [
            _line("ranked", others, style=QUIET, joined=False),
            _line("Pareto front", best, style=0, joined="steps"),
        ]
        unit = {"bops": " of one prediction", "macs": " of one prediction", "bytes": " [B]"}.get(cost, " [ms]")
        panels.append(
            Panel(
                title=track,
                x_label=chosen.title + unit,
                y_label="robust accuracy [%]",
                lines=tuple(line for line in lines if line.points),
                log_x=True,
                named=True,
            )
        )
    return _drawn(panels, "no ranked rows")


def compression(boards: Mapping[str, Sequence[Row]], cost: str = "") -> list[Panel]:
    """Clean and robust accuracy by compression level, as in Figure 1 of Thorsteinsson et al. (2024).

    One panel a track, model and kind of compression; two lines a fine-tuning. Uncompressed models stand at the left.
    """
    panels = []
    for track, rows in boards.items():
        done = [(row.entry, row.entry.recipe.compression) for row in rows if _drawable(row.entry)]
        kinds = sorted({does.kinds[0] for _, does in done if len(does.kinds) == 1 and does.levels})
        for model in sorted({entry.model for entry, _ in done}):
            ours = [(entry, does) for entry, does in done if entry.model == model]
            panels += [_by_level(ours, track, model, kind) for kind in kinds]
    return _drawn(panels, "no rows that differ in one kind of compression alone")


def eps(boards: Mapping[str, Sequence[Row]], cost: str = "") -> list[Panel]:
    """Robust accuracy against eps: entries of one recipe and model on tracks of one data set and norm."""
    found: dict[tuple[str, str], dict[tuple[str, str], list[Point]]] = {}
    spelt: dict[float, str] = {}
    for rows in boards.values():
        for row in rows:
            entry, track = row.entry, row.entry.track
            if _drawable(entry):
                lines = found.setdefault((track.dataset, track.norm), {})
                points = lines.setdefault((entry.recipe.name, entry.model), [])
                points.append(_point(label(entry), float(track.eps), entry.verdicts.robust))
                spelt[float(track.eps)] = track.threat.eps_text
    panels = []
    for (dataset, norm), lines in sorted(found.items()):
        several = {who: points for who, points in sorted(lines.items()) if len({point.x for point in points}) > 1}
        one_model = len({model for _, model in several}) == 1
        drawn = [
            _line(recipe if one_model else f"{recipe}, {model}", _mean(points), style=i)
            for i, ((recipe, model), points) in enumerate(several.items())
        ]
        panels.append(
            Panel(
                title=dataset,
                x_label=f"{norm} eps, images in [0, 1]",
                y_label="robust accuracy [%]",
                lines=tuple(drawn),
                ticks=tuple((x, spelt[x]) for x in sorted({point.x for line in drawn for point in line.points})),
            )
        )
    return _drawn(panels, "no recipe with entries on tracks of several eps")


FIGURES: dict[str, Callable[[Mapping[str, Sequence[Row]], str], list[Panel]]] = {
    "pareto": pareto,
    "compression": compression,
    "eps": eps,
}


def figure(kind: str, boards: Mapping[str, Sequence[Row]], cost: str = "bops") -> list[Panel]:
    """Return the panels of a kind of figure.

    Raises:
        UsageError: no such kind, or nothing to show.
    """
    if kind not in FIGURES:
        raise UsageError(f"There is no figure '{kind}'.{did_you_mean(kind, FIGURES)}")
    return FIGURES[kind](boards, cost)


def _drawable(entry: Entry) -> bool:
    """Partial entries are drawn, with their wide intervals; what nobody should believe yet is not."""
    return not entry.verdicts.fatal and entry.status != "self-reported"


def _by_level(done: Sequence[tuple[Entry, Compression]], track: str, model: str, kind: Kind) -> Panel:
    shares = kind in _SHARES
    lines = []
    for style, (finetuning, name) in enumerate(FINETUNING.items()):
        levels = [
            (entry, (100 if shares else 1) * does.levels[kind])
            for entry, does in done
            if entry.recipe.finetuning == finetuning and does.kinds == (kind,) and kind in does.levels
        ]
        if levels:
            whole = [entry for entry, does in done if entry.recipe.finetuning == finetuning and not does.kinds]
            levels += [(entry, 0 if shares else 32) for entry in whole]
        for what in ("robust", "clean"):
            points = [_point(label(entry), x, getattr(entry.verdicts, what)) for entry, x in levels]
            lines.append(_line(f"{what}, {name}", _mean(points), style=style, dashed=what == "clean"))
    xs = {point.x for line in lines for point in line.points}
    return Panel(
        title=f"{track}, {model}",
        x_label=_SHARES.get(kind, "bits of a weight"),
        lines=tuple(line for line in lines if line.points),
        log_x=not shares,
        reverse_x=not shares,
        ticks=tuple((x, f"{x:g}") for x in sorted(xs)),
    )


def _point(name: str, x: float, proportion: Proportion) -> Point:
    low, high = proportion.interval
    return Point(name=name, x=x, y=100 * proportion.rate, low=100 * low, high=100 * high)


def _line(name: str, points: Sequence[Point], *, style: int, dashed: bool = False, joined: bool | str = True) -> Line:
    ordered = tuple(sorted(points, key=lambda point: (point.x, point.y)))
    return Line(name=name, points=ordered, style=style, dashed=dashed, joined=joined)


def _mean(points: Sequence[Point]) -> list[Point]:
    """Merge points at the same x, which differ in their seeds: the mean, and a bar that covers all their intervals."""
    merged = []
    for x in sorted({point.x for point in points}):
        here = [point for point in points if point.x == x]
        y = sum(point.y for point in here) / len(here)
        low, high = min(point.low for point in here), max(point.high for point in here)
        merged.append(Point(name=here[0].name, x=x, y=y, low=low, high=high))
    return merged


def _drawn(panels: Sequence[Panel], why: str) -> list[Panel]:
    drawn = [panel for panel in panels if panel.lines]
    if not drawn:
        raise UsageError(f"There is nothing to draw: {why}. Measure more, or choose another figure or track.")
    return drawn
