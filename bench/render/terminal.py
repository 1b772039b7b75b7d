"""Boards and lists of names on a terminal; on a pipe, the same as plain text."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from typing import Literal

from rich import box
from rich.console import Console
from rich.padding import Padding
from rich.table import Table as RichTable
from rich.text import Text

from bench.board.leaderboard import Row
from bench.render.footnotes import ALARM, PARETO, PARTIAL, STATUS_MARKS, Note
from bench.render.layout import GUTTER, pairs
from bench.render.table import Line, Table, board

# Names of recipes and models beyond this give way before figures do.
_ROOMY_NAME, _ROOMY_MODEL, _ROOMY_PUBLISHED = 28, 20, 42
_POINTER = "▸"
_RULE = box.Box("    \n    \n ── \n    \n    \n    \n    \n    \n")
_SHADES = {"clean": "", "interval": "dim", "model": "dim", "macs": "dim", "parameters": "dim", "rank": "dim"}
_MARKS = {PARETO: "cyan", PARTIAL: "yellow", ALARM: "red", STATUS_MARKS["self-reported"]: "yellow"}


def print_board(rows: Sequence[Row], console: Console, *, highlight: str | None = None) -> None:
    """Print a track's board in as many columns as fit.

    Args:
        rows: the board's rows; may be empty.
        console: where to print.
        highlight: name of the entry to point at, such as the one just measured.
    """
    if rows:
        print_table(board(rows), console, highlight=highlight)
    else:
        console.print(Text("No entries yet.", style="dim"))


def print_table(table: Table, console: Console, *, highlight: str | None = None) -> None:
    """Print a board that is written as text already; see `print_board`."""
    table = fitting(table, console.width)
    console.print()
    console.print(_title(table))
    console.print()
    console.print(_grid(table, console.width, highlight))
    console.print()
    console.print(pairs(_note(note) for note in table.notes))
    console.print()


def _note(note: Note) -> tuple[Text, Text]:
    urgent = note.mark in (ALARM, PARTIAL)
    return Text(note.mark, style=_MARKS.get(note.mark, "dim")), Text(note.text, style="" if urgent else "dim")


def print_names(names: Iterable[tuple[str, str]], title: str, console: Console) -> None:
    """Print names with a line about each, in two columns.

    Args:
        names: each with what it is.
        title: what the names are, "recipes".
        console: where to print.
    """
    body = pairs((Text(name, style="bold"), Text(about, style="dim")) for name, about in names)
    console.print(Text(title, style="cyan"))
    console.print(Padding(body, (0, 0, 0, GUTTER), expand=False))


def print_record(name: str, record: Mapping[str, object], console: Console) -> None:
    """Print a recipe or a track: a line a key, and a line a step.

    Args:
        name: what it is called.
        record: what its file says.
        console: where to print.
    """
    lines: list[tuple[str, str]] = []
    for key, value in record.items():
        if key == "steps" and isinstance(value, list):
            for i, step in enumerate(value):
                given = "  ".join(f"{k} = {v}" for k, v in step.items() if k != "step")
                lines.append((f"step {i}", f"{step['step']}  {given}".rstrip()))
        elif key != "name":
            lines.append((key, f"{value:,}" if isinstance(value, int) else str(value)))
    print_names(lines, name, console)


def fitting(table: Table, width: int) -> Table:
    """Return the table less the columns that do not fit; rank, recipe, robust and clean accuracy always stay."""
    while width_of(table) > width:
        victim = max(reversed(table.columns), key=lambda column: column.drop)
        if not victim.drop:
            break
        table = table.without(victim.key)
    return table


def width_of(table: Table) -> int:
    """Return the columns a terminal needs, long names cut short."""
    widths = [_least(table, i) for i in range(len(table.columns))]
    return len(_POINTER) + GUTTER * len(widths) + sum(widths)


def _least(table: Table, index: int) -> int:
    """Return the width that a column needs at least."""
    most = {"recipe": _roomy(table), "model": _ROOMY_MODEL}.get(table.columns[index].key)
    return table.width_of(index) if most is None else min(table.width_of(index), most)


def _roomy(table: Table) -> int:
    """Published rows have no costs to give way to, and their names say what was compressed, and how."""
    return _ROOMY_PUBLISHED if any(line.standing == "published" for line in table.lines) else _ROOMY_NAME


def _title(table: Table) -> Text:
    lines = [Text(table.track, style="bold"), Text(table.about), Text(" · ".join(table.facts), style="dim")]
    return Text("\n").join(line for line in lines if line)


def _grid(table: Table, width: int, highlight: str | None) -> RichTable:
    grid = RichTable(
        box=_RULE, show_edge=False, pad_edge=False, padding=(0, GUTTER - 1, 0, 0), border_style="dim", header_style=""
    )
    grid.add_column(width=len(_POINTER), no_wrap=True)
    for column, size in zip(table.columns, _sizes(table, width), strict=True):
        heading = Text(column.title, style="bold").append(f"\n{column.unit}", style="not bold dim")
        justify: Literal["right", "left"] = "right" if column.right else "left"
        grid.add_column(heading, justify=justify, no_wrap=True, overflow="ellipsis", width=size)
    for line in table.lines:
        chosen = line.name == highlight
        cells = [_cell(table.columns[i].key, text, line) for i, text in enumerate(line.cells)]
        grid.add_row(Text(_POINTER if chosen else "", style="cyan"), *cells, style="bold" if chosen else "")
    return grid


def _sizes(table: Table, width: int) -> list[int]:
    """Return the columns' widths; names take what is left, recipes first."""
    sizes, spare = [_least(table, i) for i in range(len(table.columns))], width - width_of(table)
    for key in ("recipe", "model"):
        for i in (i for i, column in enumerate(table.columns) if column.key == key):
            size = min(table.width_of(i), max(8, sizes[i] + spare))
            sizes[i], spare = size, spare - (size - sizes[i])
    return sizes


def _cell(key: str, text: str, line: Line) -> Text:
    if key in ("mark", "flags"):
        cell = Text(text)
        for mark, style in _MARKS.items():
            cell.highlight_words([mark], style)
        return cell
    if line.standing != "ranked":
        return Text(text, style="dim")
    if key == "robust":
        return Text(text, style="bold cyan" if line.pareto else "bold")
    if key == "delta" and text.startswith("+"):
        return Text(text, style="green")
    return Text(text, style=_SHADES.get(key, ""))
