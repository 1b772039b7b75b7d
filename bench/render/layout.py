"""The two shapes everything on a terminal is laid out in: aligned pairs, and pieces that flow over lines unbroken."""

from __future__ import annotations

from collections.abc import Iterable, Sequence

from rich.table import Table
from rich.text import Text

GUTTER = 2


def grid(*right: bool) -> Table:
    """Return an empty grid with a gutter of two; each argument is a column, true where its cells align right."""
    table = Table.grid(padding=(0, GUTTER, 0, 0))
    for flag in right:
        table.add_column(justify="right" if flag else "left", overflow="fold")
    return table


def pairs(items: Iterable[tuple[Text, Text]], *, width: int = 0) -> Table:
    """Lay out marks or names, each with a text that wraps beside it.

    Args:
        items: what stands on the left, and the text.
        width: of the left side; 0 for the widest.
    """
    table = Table.grid(padding=(0, GUTTER, 0, 0))
    table.add_column(no_wrap=True, min_width=width or None)
    table.add_column(overflow="fold")
    for name, text in items:
        table.add_row(name, text)
    return table


def flow(pieces: Sequence[Text], width: int, *, gap: int = GUTTER) -> Text:
    """Join pieces into lines of at most `width`, breaking only between pieces."""
    lines = [Text()]
    for piece in pieces:
        if lines[-1].cell_len and lines[-1].cell_len + gap + piece.cell_len > width:
            lines.append(Text())
        if lines[-1].cell_len:
            lines[-1].append(" " * gap)
        lines[-1].append_text(piece)
    return Text("\n").join(lines)
