"""A board with published rows among the measured ones: labelled, never ranked, never on the Pareto front."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace

from bench.entry import Entry
from bench.leaderboard import Row
from bench.published import AUTOATTACK, MEANING, Published
from bench.render import numbers
from bench.render.footnotes import Note
from bench.render.published import MARKS, marks
from bench.render.table import Column, Line, Table, board
from bench.track import Track
from bench.verdicts import AUTOATTACK as FOUR

LABEL = "published"


def board_beside(rows: Sequence[Row], published: Sequence[Published], left_out: int = 0) -> Table:
    """Write a board as text, with published rows where their robust accuracy puts them.

    Args:
        rows: at least one, in the order of the board.
        published: of the same question, most robust first.
        left_out: how many published rows of this question are not among them.
    """
    table, track = board(rows), rows[0].entry.track
    if not published:
        return table
    for column, texts in _extra_columns(rows, published):
        table = _with(table, column, texts)
    lines = [_line(table, track, row) for row in published]
    return replace(table, lines=_merged(table.lines, lines), notes=(*table.notes, *_notes(published, left_out)))


def _extra_columns(rows: Sequence[Row], published: Sequence[Published]) -> list[tuple[Column, list[str]]]:
    """Return what must be said of each row because not all rows share it, with the texts of the measured ones."""
    track, found = rows[0].entry.track, []
    if any(row.attack != AUTOATTACK for row in published):
        found.append((Column(key="attack", title="attack", right=False), [_attack(row.entry) for row in rows]))
    if any(row.eps != track.eps for row in published):
        found.append((Column(key="eps", title="eps", right=False), [track.threat.eps_text] * len(rows)))
    return found


def _attack(entry: Entry) -> str:
    """Name AutoAttack, and how many attacks more there were; else how many there were."""
    attacks = set(entry.verdicts.attacks)
    more = len(attacks - set(FOUR))
    if set(FOUR) <= attacks:
        return f"{AUTOATTACK} +{more}" if more else AUTOATTACK
    return f"{len(attacks)} attacks"


def _with(table: Table, column: Column, texts: Sequence[str]) -> Table:
    """Put a column behind the recipe."""
    at = next(i for i, one in enumerate(table.columns) if one.key == "recipe") + 1
    lines = tuple(
        replace(line, cells=(*line.cells[:at], text, *line.cells[at:]))
        for line, text in zip(table.lines, texts, strict=True)
    )
    return replace(table, columns=(*table.columns[:at], column, *table.columns[at:]), lines=lines)


def _line(table: Table, track: Track, row: Published) -> Line:
    decimals = numbers.decimals_for(track.n_examples)
    method = row.method if not row.compression.kinds else f"{row.method}, {row.compression}"
    autoattack = row.autoattack or (row.robust if row.attack == AUTOATTACK else None)
    texts = {
        "rank": LABEL,
        "mark": marks(row),
        "recipe": method,
        "attack": row.attack,
        "eps": row.threat.eps_text,
        "model": row.architecture,
        "robust": f"{row.robust:.{decimals}f}",
        "interval": numbers.half_width(row.robust_count, decimals) if row.robust_count else "",
        "autoattack": "" if autoattack is None else f"{autoattack:.{decimals}f}",
        "clean": numbers.UNKNOWN if row.clean is None else f"{row.clean:.{decimals}f}",
    }
    cells = tuple(texts.get(column.key, "") for column in table.columns)
    return Line(name=row.name, cells=cells, standing="published", pareto=False, robust=float(row.robust))


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
    return notes
