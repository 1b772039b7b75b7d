"""The cells of a sweep, one after the other, each in a process of its own: a bad one ends itself and not the sweep."""

from __future__ import annotations

import time
from collections.abc import Callable, Sequence
from contextlib import suppress
from pathlib import Path

from bench.errors import BenchError, InterruptedRunError
from bench.files import cache_dir, write_text
from bench.progress import Report
from bench.run.child import Ended, run_child
from bench.sweep import Cell, Result

Changed = Callable[[int, Result], None]
"""Is told a cell's number, from 0, and its new result."""


def run_cells(before: Sequence[Result], board: Path, changed: Changed, report: Report) -> list[Result]:
    """Measure every cell that is not done; return what became of all of them, in the same order.

    Args:
        before: the cells, with what is known of them.
        board: folder of entries.
        changed: hears of cells that start and end.
        report: hears how far the running one is.

    Raises:
        KeyboardInterrupt: somebody wants the sweep to stop; the running cell was stopped, what it did is kept.
    """
    results = list(before)
    for number, old in enumerate(before):
        if old.state == "done":
            continue
        changed(number, Result(cell=old.cell, state="running"))
        results[number] = _measure(old.cell, board, report)
        changed(number, results[number])
    return results


def log_file(cell: Cell) -> Path:
    """Return where the complaints of a failed cell are kept."""
    return cache_dir() / "failed-cells" / f"{cell.title}.log"


def _measure(cell: Cell, board: Path, report: Report) -> Result:
    start = time.monotonic()
    ended = run_child(["evaluate", *cell.arguments, "--board", str(board), "--json"], report)
    seconds = time.monotonic() - start
    if ended.code == InterruptedRunError.exit_code:  # by a signal that was meant for all of us
        raise KeyboardInterrupt
    entry = cell.find(board) if ended.code == 0 else None
    if entry is not None:
        log_file(cell).unlink(missing_ok=True)
        return Result(cell=cell, state="measured", entry=entry, seconds=seconds)
    return Result(cell=cell, state="failed", reason=_reason(cell, ended), seconds=seconds)


def _reason(cell: Cell, ended: Ended) -> str:
    """Return the sentence, and keep all that was said."""
    if ended.code == 0:
        return f"It ended well, but its entry {cell.title} is not on the board."
    with suppress(BenchError):  # a full disk shall not hide the reason
        write_text(log_file(cell), "\n".join(ended.complaints) + "\n")
    return ended.reason
