"""A sweep for whoever watches: a table that moves on a terminal, lines elsewhere; then a summary."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator, Sequence
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
from bench.render.layout import GUTTER, grid, pairs
from bench.render.progress import Plain
from bench.sweep import Cell, Result, State

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

    def render(self) -> RenderableType:
        """Return the table as it is now."""
        room = max(3, self._console.height - _AROUND)
        first = max(0, min(self._current - room // 2, len(self._results) - room))
        shown = self._results[first : first + room]
        table = _table(shown, running=(self._clock() - self._began, _how_far(self._event)))
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
    console.print(_table(results))
    if failed := [result for result in results if result.state == "failed"]:
        console.print()
        reasons = pairs((Text(result.cell.title, style="red"), Text(result.reason)) for result in failed)
        console.print(Padding(reasons, (0, 0, 0, GUTTER), expand=False))
    console.print()


def _table(results: Sequence[Result], *, running: tuple[float, str] = (0.0, "")) -> Table:
    several = len({result.cell.request.track.name for result in results}) > 1
    table = grid(False, False, False, True, True, True)
    table.columns[5].no_wrap = True
    heads = ("", "cell", "state", "robust %", "clean %", "time")
    table.add_row(*(Text(head, style="dim") for head in heads))
    for result in results:
        sign, style = _SIGNS[result.state]
        now = result.state == "running"
        seconds = running[0] if now else result.seconds
        table.add_row(
            Text(sign, style=style),
            Text(_name(result.cell, track=several), style="bold" if now else "dim" if result.state != "failed" else ""),
            Text(running[1] if now else result.state, style=style),
            Text(*_robust(result)),
            Text(_clean(result)),
            Text("" if seconds is None else numbers.duration(seconds), style="dim"),
        )
    return table


def _name(cell: Cell, *, track: bool) -> str:
    return cell.title if track else cell.name


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
