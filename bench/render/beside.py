"""A board with published rows among the measured ones: labelled, never ranked, never on the Pareto front."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace

from bench.board.leaderboard import Row
from bench.board.published import AUTOATTACK, MEANING, Published
from bench.render import numbers
from bench.render.footnotes import Note
from bench.render.published import MARKS, marks
from bench.render.table import Column, Line, Table, board
from bench.track import Track

LABEL = "published"


def board_beside(
    rows: Sequence[Row], published: Sequence[Published], left_out: int = 0, *, brief: bool = True
) -> Table:
    """Write a board as text, with published rows where their robust accuracy puts them.

    Args:
        rows: at least one, in the order of the board.
        published: of the same question, most robust first.
        left_out: how many published rows of this question are not among them.
        brief: whether a row names its attack only where that is not AutoAttack; there always is a column without it.
    """
    table, track = board(rows), rows[0].entry.track
    if not published:
        return table
    if any(_asked(row, track, brief=brief) for row in published):
        table = _with(table, Column(key="asked", title="attack", unit="eps", right=False))
    lines = [_line(table, track, row, brief=brief) for row in published]
    return replace(table, lines=_merged(table.lines, lines), notes=(*table.notes, *_notes(published, left_out)))


def _asked(row: Published, track: Track, *, brief: bool) -> str:
    """Say how the row's question is not quite the board's; not `brief`, name the attack in any case."""
    attack = "" if brief and row.attack == AUTOATTACK else row.attack
    eps = f"eps {row.threat.eps_text}" if row.eps != track.eps else ""
    return ", ".join(filter(None, (attack, eps)))


def _with(table: Table, column: Column) -> Table:
    """Put a column behind the recipe, empty for the measured rows."""
    at = table.index("recipe") + 1
    lines = tuple(replace(line, cells=(*line.cells[:at], "", *line.cells[at:])) for line in table.lines)
    return replace(table, columns=(*table.columns[:at], column, *table.columns[at:]), lines=lines)


def _line(table: Table, track: Track, row: Published, *, brief: bool) -> Line:
    decimals = numbers.decimals_for(track.n_examples)
    autoattack = row.autoattack or (row.robust if row.attack == AUTOATTACK else None)
    texts = {
        "rank": LABEL,
        "mark": marks(row),
        "recipe": _short(row),
        "asked": _asked(row, track, brief=brief),
        "model": row.architecture,
        "robust": f"{row.robust:.{decimals}f}",
        "interval": numbers.half_width(row.robust_count, decimals) if row.robust_count else "",
        "autoattack": "" if autoattack is None else f"{autoattack:.{decimals}f}",
        "clean": numbers.UNKNOWN if row.clean is None else f"{row.clean:.{decimals}f}",
    }
    cells = tuple(texts.get(column.key, "") for column in table.columns)
    return Line(name=row.name, cells=cells, standing="published", pareto=False, robust=float(row.robust))


def _short(row: Published) -> str:
    """Leave out of the name what the board says already; `bench show published:` takes the rest."""
    return row.name.removeprefix(f"{row.dataset}-").removeprefix(f"{row.norm.lower()}-")


def _merged(ours: Sequence[Line], theirs: Sequence[Line]) -> tuple[Line, ...]:
    """Put each published line above the first ranked line that is less robust; what is not ranked stays at the end."""
    merged, waiting = [], list(theirs)
    for line in ours:
        while waiting and (line.standing != "ranked" or waiting[0].robust > line.robust):
            merged.append(waiting.pop(0))
        merged.append(line)
    return (*merged, *waiting)


def _notes(published: Sequence[Published], left_out: int) -> list[Note]:
    text = "Figures from papers and public leaderboards, not measured here: no rank, never ◆."
    found = {how for row in published for how in row.obtained}
    notes = [Note(mark=LABEL, text=f"{text} Attacked with {AUTOATTACK} unless another attack is named.")]
    notes += [Note(mark=mark, text=f"{how}: {MEANING[how]}.") for how, mark in MARKS.items() if how in found]
    if left_out:
        notes.append(Note(mark=f"+{left_out}", text="dense rows are left out; bench list published has them."))
    return [replace(note, column="asked") for note in notes]
