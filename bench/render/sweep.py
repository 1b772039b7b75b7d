"""A sweep for whoever watches: a table that moves on a terminal, lines elsewhere; then a summary."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import replace
from typing import Protocol

from rich.console import Console, Group, RenderableType
from rich.live import Live
from rich.padding import Padding
from rich.table import Table
from rich.text import Text

from bench.progress import Event
from bench.render import numbers
from bench.render.footnotes import ALARM, PARTIAL
from bench.render.layout import GUTTER, grid
from bench.render.progress import Plain
from bench.sweep import Cell, Cost, Result, State

_SIGNS: dict[State, tuple[str, str]] = {
    "waiting": ("·", "dim"),
    "done": ("✓", "dim"),
    "running": ("▸", "cyan"),
    "measured": ("✓", "green"),
    "failed": ("✗", "red"),
}
_FRAMES_PER_S = 4
_AROUND = 8
"""Lines of the terminal that the table leaves to its heading, its last lines and the prompt."""


class Audience(Protocol):
    """Whoever watches a sweep."""

    def changed(self, number: int, result: Result) -> None:
        """Hear of a cell that starts or ends."""

    def report(self, event: Event) -> None:
        """Hear how far the running cell is."""


@contextmanager
def watching_cells(results: Sequence[Result], console: Console) -> Iterator[Audience]:
    """Show a sweep while the block runs; leave the terminal as it was however the block ends.

    Guarantees:
        On anything but a terminal no control codes are written.
    """
    if not console.is_terminal or console.is_dumb_terminal:
        yield _Lines(results, console)
        return
    board = _Moving(results, console)
    # What is printed meanwhile must reach standard output, not this console.
    with Live(
        get_renderable=board.render, console=console, refresh_per_second=_FRAMES_PER_S, transient=True,
        redirect_stdout=False, redirect_stderr=False,
    ):  # fmt: skip
        yield board


class _Moving:
    """The table of a terminal: as many cells around the running one as fit, drawn anew a few times a second."""

    def __init__(
        self, results: Sequence[Result], console: Console, clock: Callable[[], float] = time.monotonic
    ) -> None:
        self._results, self._console, self._clock = list(results), console, clock
        self._current, self._began, self._event = 0, clock(), Event(stage="")

    def changed(self, number: int, result: Result) -> None:
        self._results[number] = result
        self._current = number
        if result.state == "running":
            self._began, self._event = self._clock(), Event(stage="start")

    def report(self, event: Event) -> None:
        if not event.total and event.stage == self._event.stage:
            event = replace(self._event, note=event.note)
        self._event = event

    def _around(self, room: int) -> list[Result]:
        """Return so many cells around the running one."""
        first = max(0, min(self._current - room // 2, len(self._results) - room))
        return self._results[first : first + room]

    def render(self) -> RenderableType:
        """Return the table as it is now."""
        room = max(3, self._console.height - _AROUND)
        groups = sum(map(bool, _headings(self._around(room))))
        room = max(3, room - 2 * groups)
        shown = self._around(room)
        named = dict(zip((result.cell.title for result in self._results), _names(self._results), strict=True))
        names = [named[result.cell.title] for result in shown]
        table = _table(shown, names, running=(self._clock() - self._began, _how_far(self._event)))
        return Group(Text(_tally(self._results), style="bold"), Text(), table)


class _Lines:
    """What a pipe gets: a line when a cell starts or ends, and now and then how far it is."""

    def __init__(
        self, results: Sequence[Result], console: Console, clock: Callable[[], float] = time.monotonic
    ) -> None:
        self._total, self._console, self._clock = len(results), console, clock
        self._place, self._plain = "", Plain(console, clock)
        done = sum(result.state == "done" for result in results)
        self._write(f"{len(results)} cells, {done} done before")

    def changed(self, number: int, result: Result) -> None:
        self._place = f"{number + 1}/{self._total}"
        if result.state == "running":
            self._plain = Plain(self._console, self._clock)
            self._write(f"{self._place} {result.cell.title}: started")
        else:
            took = numbers.duration(result.seconds or 0.0)
            self._write(f"{self._place} {result.cell.title}: {result.state} after {took}{_outcome(result)}")

    def report(self, event: Event) -> None:
        self._plain(replace(event, stage=f"{self._place} {event.stage}"))

    def _write(self, line: str) -> None:
        self._console.out(line, highlight=False)


def print_summary(results: Sequence[Result], console: Console) -> None:
    """Print what became of all cells, and why some failed."""
    console.print()
    console.print(Text(_tally(results), style="bold"))
    console.print()
    console.print(_table(results, _names(results)))
    _print_reasons([(result.cell, result.reason) for result in results if result.state == "failed"], console)
    console.print()


def print_forecast(results: Sequence[Result], costs: Mapping[str, Cost | str], console: Console) -> None:
    """Print the cells, which of them are done, and the most that each of the others may cost.

    Args:
        results: before anything runs.
        costs: by the cells' titles; a sentence where it cannot be told.
        console: where to print.
    """
    heads = ("", "cell", "state", "fine-tuning", "attack", "MACs", "time")
    table = _columns(3, 4)
    table.add_row(*(Text(head, style="dim") for head in heads))
    for result, name, heading in zip(results, _names(results), _headings(results), strict=True):
        _begin(table, heading)
        sign, style = _SIGNS[result.state]
        cells = [Text(sign, style=style), Text(name), Text(result.state, style=style)]
        cost = costs.get(result.cell.title)
        if cost is not None and not isinstance(cost, str):
            marks = "*" if cost.untrained else ""
            both = (cost.finetune_forward + cost.finetune_backward, cost.attack_forward + cost.attack_backward)
            cells += [Text(numbers.amount(passes)) for passes in both]
            cells += [Text(numbers.amount(cost.total_macs)), Text(f"{marks}{numbers.duration(cost.seconds)}")]
        table.add_row(*cells)
    known = [cost for cost in costs.values() if not isinstance(cost, str)]
    console.print()
    console.print(Text(_tally(results), style="bold"))
    console.print()
    console.print(table)
    _print_reasons([(r.cell, c) for r in results if isinstance(c := costs.get(r.cell.title), str)], console)
    console.print()
    console.print(Text(_together(known, unknown=len(costs) - len(known)), style="dim"))
    notes = [
        "Images forward and backward: fine-tuning spends the track's whole budget unless the recipe says less. "
        "Time: by a short timing of each parent, doubled where a twin is quantised.",
        *(["* The parent is trained first, which is not in the figure."] if any(c.untrained for c in known) else []),
    ]
    for note in notes if known else ():
        console.print(Text(note, style="dim"))
    console.print()


def _together(known: Sequence[Cost], *, unknown: int) -> str:
    if not known:
        return "What the cells may cost cannot be told." if unknown else "No cell is left to run."
    seconds = numbers.duration(sum(cost.seconds for cost in known))
    beside = f", beside {unknown:,} that nobody can tell the cost of" if unknown else ""
    return (
        f"At most about {seconds} on this machine{beside}, should every image survive every attack (further runs "
        "of Square apart); one that falls costs a handful of passes."
    )


def _print_reasons(reasons: Sequence[tuple[Cell, str]], console: Console) -> None:
    """Print sentences, each below the cells that it is about."""
    for sentence in dict.fromkeys(reason for _, reason in reasons):
        about = [cell.title for cell, reason in reasons if reason == sentence]
        console.print()
        console.print(Text("\n".join(about), style="red"))
        console.print(Padding(Text(sentence), (0, 0, 0, GUTTER), expand=False))


def _table(results: Sequence[Result], names: Sequence[str], *, running: tuple[float, str] = (0.0, "")) -> Table:
    table = _columns(3, 3)
    heads = ("", "cell", "state", "robust %", "clean %", "time")
    table.add_row(*(Text(head, style="dim") for head in heads))
    for result, name, heading in zip(results, names, _headings(results), strict=True):
        _begin(table, heading)
        sign, style = _SIGNS[result.state]
        now = result.state == "running"
        seconds = running[0] if now else result.seconds
        table.add_row(
            Text(sign, style=style),
            Text(name, style="bold" if now else ""),
            Text(running[1] if now else result.state, style=style),
            Text(*_robust(result)),
            Text(_clean(result)),
            Text("" if seconds is None else numbers.duration(seconds), style="dim"),
        )
    return table


def _columns(left: int, right: int) -> Table:
    """Return a grid of so many columns on either side; only the names and states give way."""
    table = grid(*[False] * left, *[True] * right)
    for i, column in enumerate(table.columns):
        column.no_wrap, column.overflow = i != 1, "fold" if i == 1 else "ellipsis"
    return table


def _begin(table: Table, heading: str) -> None:
    """Begin a group of cells, if there is a heading."""
    if heading:
        table.add_row()
        table.add_row(Text(), Text(heading, style="bold"))


def _names(results: Sequence[Result]) -> list[str]:
    """Name cells by their recipe, and by what else they differ in; `_headings` tells models and tracks."""
    parts: list[Callable[[Cell], str]] = [
        lambda cell: cell.request.recipe.name,
        lambda cell: f"seed {cell.request.seed}",
        lambda cell: f"{cell.request.images:,} images",
    ]
    cells = [result.cell for result in results]
    told = [part for i, part in enumerate(parts) if i == 0 or len({part(cell) for cell in cells}) > 1]
    return [" · ".join(part(cell) for part in told) for cell in cells]


def _headings(results: Sequence[Result]) -> list[str]:
    """Return what stands above each cell: model and track where they change, "" elsewhere and if there is but one."""
    places = [f"{one.cell.request.model} · {one.cell.request.track.name}" for one in results]
    if len(set(places)) == 1:
        return [""] * len(places)
    return ["" if place == before else place for place, before in zip(places, ["", *places], strict=False)]


def _robust(result: Result) -> tuple[str, str]:
    if result.entry is None:
        return "", ""
    verdicts = result.entry.verdicts
    decimals = numbers.decimals_for(len(verdicts.letters))
    marks = (PARTIAL if result.entry.partial else "") + (ALARM if verdicts.fatal else "")
    text = f"{numbers.percent(verdicts.robust, decimals)} {numbers.half_width(verdicts.robust, decimals)}"
    return f"{marks} {text}".strip(), "red" if verdicts.fatal else "bold"


def _clean(result: Result) -> str:
    if result.entry is None:
        return ""
    verdicts = result.entry.verdicts
    return numbers.percent(verdicts.clean, numbers.decimals_for(len(verdicts.letters)))


def _outcome(result: Result) -> str:
    if result.entry is None:
        return f": {result.reason}"
    return f", robust {_robust(result)[0]} %, clean {_clean(result)} %"


def _how_far(event: Event) -> str:
    share = f" {100 * event.done / event.total:.0f} %" if event.total else ""
    note = f", {event.note}" if event.note else ""
    return f"{event.stage}{share}{note}"


def _tally(results: Sequence[Result]) -> str:
    states = [result.state for result in results]
    names: tuple[tuple[State, str], ...] = (
        ("done", "done before"), ("measured", "measured now"), ("failed", "failed"), ("waiting", "waiting"),
    )  # fmt: skip
    parts = [f"{states.count(state):,} {name}" for state, name in names if state in states]
    return f"{len(results):,} cells: {', '.join(parts) or 'one running'}"
