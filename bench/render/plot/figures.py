"""What each kind of figure shows, before anybody draws it: lines of points with their 95 % intervals."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace
from itertools import compress

from bench.board.leaderboard import Row
from bench.board.ranking import front
from bench.compression import Kind
from bench.entry import Entry
from bench.errors import UsageError
from bench.registry import did_you_mean
from bench.render.costs import find_cost
from bench.render.footnotes import label
from bench.render.plot.families import USUAL, Family, families
from bench.verdicts import Proportion

QUIET = -1
"""The grey style, for points that others are compared with."""
COLOURS = 8
"""Styles that are so far apart have one colour, and different markers."""
MOST = 6
"""So many recipes share a panel: of more, nobody can follow one."""
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
        name: for the legend; robust and clean accuracy of one recipe share it.
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
        note: below the title: what a reader has to know besides, such as what is not shown.
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
    note: str = ""
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
        names = _names(entries)
        points = [_point(names[entry.name], values[entry.name], entry.verdicts.robust) for entry in entries]
        best, others = (list(compress(points, mask)) for mask in (on, [not one for one in on]))
        lines = [
            _line("ranked", others, style=QUIET, joined=False),
            _line("Pareto front", best, style=0, joined="steps"),
        ]
        unit = {"bops": " of one prediction", "macs": " of one prediction", "bytes": " [B]"}.get(cost, " [ms]")
        panels.append(
            Panel(
                title=track,
                note=f"{entries[0].track.model} unless named" if len({entry.model for entry in entries}) > 1 else "",
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

    One panel a track, model and kind of compression; two lines a family of recipes. Uncompressed models stand at the
    left.
    """
    panels = []
    for track, rows in boards.items():
        entries = _measured([row.entry for row in rows])
        done = [entry.recipe.compression for entry in entries]
        kinds = sorted({does.kinds[0] for does in done if len(does.kinds) == 1 and does.levels})
        for model in sorted({entry.model for entry in entries}):
            ours = [entry for entry in entries if entry.model == model]
            panels += [_by_level(families(ours, kind), f"{track}, {model}", kind) for kind in kinds]
    return _styled(_drawn(panels, "no rows that differ in one kind of compression alone"), tuple(USUAL.values()))


def eps(boards: Mapping[str, Sequence[Row]], cost: str = "") -> list[Panel]:
    """Robust accuracy against eps, one panel a data set, norm and model; a line joins entries of one recipe."""
    entries = _measured([row.entry for rows in boards.values() for row in rows])
    panels = []
    for dataset, norm, model in sorted({(one.track.dataset, one.track.norm, one.model) for one in entries}):
        points: dict[str, list[Point]] = {}
        spelt: dict[float, str] = {}
        for entry in entries:
            track = entry.track
            if (track.dataset, track.norm, entry.model) == (dataset, norm, model):
                at = float(track.eps)
                points.setdefault(entry.recipe.name, []).append(_point(label(entry), at, entry.verdicts.robust))
                spelt[at] = track.threat.eps_text
        several = {name: _mean(found) for name, found in points.items() if len({point.x for point in found}) > 1}
        robust = {name: sum(point.y for point in found) / len(found) for name, found in several.items()}
        ordered = sorted(several, key=lambda name: (-robust[name], name))
        lines = tuple(_line(name, several[name]) for name in ordered[:MOST])
        panels.append(
            Panel(
                title=f"{dataset}, {model}",
                note=_left_out(len(ordered) - len(lines)),
                x_label=f"{norm} eps, images in [0, 1]",
                y_label="robust accuracy [%]",
                lines=lines,
                ticks=tuple((x, spelt[x]) for x in sorted({point.x for line in lines for point in line.points})),
            )
        )
    return _styled(_drawn(panels, "no recipe with entries on tracks of several eps"))


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


def _names(entries: Sequence[Entry]) -> dict[str, str]:
    """Return what each entry is called in a figure: the model, too, where it is not the track's."""
    models = {entry.model for entry in entries}
    short = {model: model.rpartition(":")[2] for model in models}
    if len(set(short.values())) < len(models):
        short = {model: model for model in models}
    unusual = {model: f" ({name})" if len(models) > 1 else "" for model, name in short.items()}
    return {entry.name: label(entry) + unusual[entry.model] * (entry.model != entry.track.model) for entry in entries}


def _measured(entries: Sequence[Entry]) -> list[Entry]:
    """Return what may be drawn, one entry a model: that of most images, else of the usual engine or name.

    A model that several engines attacked, or on parts of the images, is still one model and no second seed.
    """
    best: dict[tuple[str, str, str, int], Entry] = {}
    for entry in filter(_drawable, entries):
        key = (entry.track.name, entry.model, entry.recipe.fingerprint, entry.seed)
        best[key] = max(best.get(key, entry), entry, key=_weight)
    return list(best.values())


def _weight(entry: Entry) -> tuple[int, bool, bool]:
    return len(entry.verdicts.letters), entry.attacker == "bench", not entry.recipe.changed


def _left_out(count: int) -> str:
    return f"{count} less robust recipe{'s' * (count > 1)} not shown" if count else ""


def _by_level(found: Sequence[Family], title: str, kind: Kind) -> Panel:
    shares = kind in _SHARES
    lines = []
    for family in found[:MOST]:
        levels = [(entry, (100 if shares else 1) * level) for entry, level in family.levels]
        levels += [(entry, 0 if shares else 32) for entry in family.whole]
        for what in ("robust", "clean"):
            points = [_point(label(entry), x, getattr(entry.verdicts, what)) for entry, x in levels]
            lines.append(_line(family.name, _mean(points), dashed=what == "clean"))
    xs = {point.x for line in lines for point in line.points}
    return Panel(
        title=title,
        note=_left_out(len(found[MOST:])),
        x_label=_SHARES.get(kind, "bits of a weight"),
        lines=tuple(lines),
        log_x=not shares,
        reverse_x=not shares,
        ticks=tuple((x, f"{x:g}") for x in sorted(xs)),
    )


def _styled(panels: Sequence[Panel], first: Sequence[str] = ()) -> list[Panel]:
    """Give lines of one name one style throughout the figure, those named first the first styles.

    No style has two names, and names that meet in a panel have different colours as long as there are enough.
    """
    meet: dict[str, set[str]] = {name: set(first) for name in first}
    for panel in panels:
        for line in panel.lines:
            meet.setdefault(line.name, set()).update(other.name for other in panel.lines)
    styles: dict[str, int] = {}
    for name, others in meet.items():
        near = {styles[other] % COLOURS for other in others if other in styles}
        free = [style for style in range(len(meet) + COLOURS) if style not in styles.values()]
        styles[name] = next((style for style in free if style % COLOURS not in near), free[0])
    return [
        replace(panel, lines=tuple(replace(line, style=styles[line.name]) for line in panel.lines)) for panel in panels
    ]


def _point(name: str, x: float, proportion: Proportion) -> Point:
    low, high = proportion.interval
    return Point(name=name, x=x, y=100 * proportion.rate, low=100 * low, high=100 * high)


def _line(
    name: str, points: Sequence[Point], *, style: int = 0, dashed: bool = False, joined: bool | str = True
) -> Line:
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
