"""Progress for whoever watches: one line per stage on a terminal, a line now and then on a pipe."""

from __future__ import annotations

import json
import os
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import asdict, replace
from typing import Protocol

from rich.console import Console, RenderableType
from rich.progress import Progress, ProgressColumn, Task, TaskID, TextColumn
from rich.spinner import Spinner
from rich.table import Column
from rich.text import Text

from bench.progress import EVENTS, Event, Report
from bench.render.numbers import duration

# A terminal is redrawn at most this often, however fast events come.
_FRAME_S = 0.1
_BAR_WIDTH, _SHORT_BAR = 24, 10
# On a pipe: never more than one line in ten seconds, and then only if there is something to say.
_QUIET_S, _PATIENCE_S, _STRIDE = 10.0, 60.0, 0.1


class _Audience(Protocol):
    def __call__(self, event: Event) -> None: ...

    def close(self, *, finished: bool) -> None: ...


@contextmanager
def watching(console: Console | None = None, *, clock: Callable[[], float] = time.monotonic) -> Iterator[Report]:
    """Give a callback that shows events, and leave the terminal as it was however the block ends.

    Args:
        console: where to show them; standard error by default, since standard output is for results.
        clock: seconds, for tests.

    Guarantees:
        On anything but a terminal no control codes are written.
    """
    console = console or Console(stderr=True)
    audience: _Audience
    if os.environ.get(EVENTS) == "json":
        audience = Lines(console, clock)
    elif console.is_terminal and not console.is_dumb_terminal:
        audience = Live(console, clock)
    else:
        audience = Plain(console, clock)
    finished = False
    try:
        yield audience
        finished = True
    finally:
        audience.close(finished=finished)


class Live:
    """Redraws one line per stage; those that are over keep a ✓ and how long they took."""

    def __init__(self, console: Console, clock: Callable[[], float]) -> None:
        self._clock = clock
        self._lock = threading.Lock()
        self._progress = Progress(
            _Sign(),
            TextColumn("{task.description}", style="none", table_column=Column(no_wrap=True)),
            _Bar(_BAR_WIDTH if console.width >= 76 else _SHORT_BAR),
            _Time(),
            _Note(),
            console=console,
            # Results printed meanwhile must reach standard output, not this console.
            redirect_stdout=False,
            refresh_per_second=1 / _FRAME_S,
        )
        self._task: TaskID | None = None
        self._latest: Event | None = None
        self._shown = 0.0

    def __call__(self, event: Event) -> None:
        """Show an event, now or with the next frame."""
        with self._lock:
            if self._latest is None:
                self._progress.start()
            if self._latest is None or event.stage != self._latest.stage:
                self._finish("done")
                self._task = self._progress.add_task(event.stage, total=None, note="", state="running")
                self._shown = -_FRAME_S
            elif not event.total:
                # An announcement says nothing about how far the stage is.
                event = replace(self._latest, note=event.note)
            self._latest = event
            if self._clock() - self._shown >= _FRAME_S:
                self._show()

    def close(self, *, finished: bool) -> None:
        """Settle the last stage and hand the terminal back."""
        with self._lock:
            self._finish("done" if finished else "stopped")
            self._progress.stop()

    def _show(self) -> None:
        if self._task is not None and (event := self._latest) is not None:
            self._progress.update(self._task, completed=event.done, total=event.total or None, note=event.note)
            self._shown = self._clock()

    def _finish(self, state: str) -> None:
        if self._task is not None:
            self._show()
            self._progress.stop_task(self._task)
            self._progress.update(self._task, state=state)
            self._task = None


class Plain:
    """Writes whole lines: when a stage starts, now and then, and when it ends."""

    def __init__(self, console: Console, clock: Callable[[], float]) -> None:
        self._console, self._clock = console, clock
        self._latest: Event | None = None
        self._began = self._written = 0.0
        self._share_written = 0.0

    def __call__(self, event: Event) -> None:
        """Write a line where one is due."""
        now = self._clock()
        if self._latest is None or event.stage != self._latest.stage:
            self._end("done", now)
            self._began, self._written, self._share_written = now, now, 0.0
            self._write(f"{event.stage}: started", "" if event.total else event.note)
        else:
            self._go_on(event, now)
        if event.total or self._latest is None or event.stage != self._latest.stage:
            self._latest = event
        else:
            self._latest = replace(self._latest, note=event.note)

    def _go_on(self, event: Event, now: float) -> None:
        quiet = now - self._written
        if quiet < _QUIET_S:
            return
        if not event.total:
            self._written = now
            self._write(event.stage, event.note)
            return
        share = event.done / event.total
        # A stage that starts over, shard after shard, moves backwards: that is movement too.
        if round(abs(share - self._share_written), 6) >= _STRIDE or quiet >= _PATIENCE_S:
            self._written, self._share_written = now, share
            took = now - self._began
            left = f"{duration(took / share * (1 - share))} left" if share else ""
            self._write(f"{event.stage}: {share:.0%}".replace("%", " %"), event.note, duration(took), left)

    def close(self, *, finished: bool) -> None:
        """Write the last stage's last line."""
        self._end("done" if finished else "stopped", self._clock())

    def _end(self, how: str, now: float) -> None:
        if self._latest is not None:
            self._write(f"{self._latest.stage}: {how} after {duration(now - self._began)}", self._latest.note)

    def _write(self, *parts: str) -> None:
        # `out` neither wraps nor styles: one event, one line, whatever the width.
        self._console.out(", ".join(part for part in parts if part), highlight=False)


class Lines:
    """Writes events as lines of JSON, a few a second: the process that runs this one shows them."""

    def __init__(self, console: Console, clock: Callable[[], float]) -> None:
        self._file, self._clock = console.file, clock
        self._stage, self._written = "", 0.0

    def __call__(self, event: Event) -> None:
        """Write an event, unless it would be the second within a moment."""
        now = self._clock()
        if event.stage != self._stage or not event.total or now - self._written >= _FRAME_S:
            self._stage, self._written = event.stage, now
            self._file.write(json.dumps(asdict(event)) + "\n")
            self._file.flush()

    def close(self, *, finished: bool) -> None:
        """Write nothing: how the process ends is told by its exit code."""


class _Sign(ProgressColumn):
    """A spinner, then ✓ or ✗."""

    def __init__(self) -> None:
        super().__init__(Column(no_wrap=True))
        self._spinner = Spinner("dots", style="cyan")

    def render(self, task: Task) -> RenderableType:
        """Return the sign of a stage's state."""
        if task.fields["state"] == "running":
            return self._spinner.render(task.get_time())
        return Text("✓", style="green") if task.fields["state"] == "done" else Text("✗", style="red")


class _Bar(ProgressColumn):
    """A bar while the stage runs; nothing once it is over."""

    def __init__(self, width: int) -> None:
        super().__init__(Column(no_wrap=True))
        self._width = width

    def render(self, task: Task) -> RenderableType:
        """Return the bar."""
        if task.fields["state"] != "running" or not task.total:
            return Text("")
        full = round(min(task.percentage / 100, 1.0) * self._width)
        return Text("━" * full, style="cyan").append("━" * (self._width - full), style="bright_black")


class _Time(ProgressColumn):
    """Time left while the stage runs; then what it took."""

    def __init__(self) -> None:
        super().__init__(Column(no_wrap=True, justify="right", min_width=11))

    def render(self, task: Task) -> RenderableType:
        """Return the time."""
        if task.fields["state"] != "running":
            return Text(duration(task.elapsed or 0.0), style="dim")
        if task.time_remaining is None or not task.total:
            return Text(duration(task.elapsed or 0.0))
        return Text(f"{duration(task.time_remaining)} left")


class _Note(ProgressColumn):
    """The latest fact, cut where the line ends."""

    def __init__(self) -> None:
        # The only column that may shrink: the others say `no_wrap` to their column, this one to its text.
        super().__init__(Column())

    def render(self, task: Task) -> RenderableType:
        """Return the note."""
        return Text(task.fields["note"], style="dim", no_wrap=True, overflow="ellipsis")
