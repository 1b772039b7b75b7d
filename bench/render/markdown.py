"""Boards as GitHub Markdown: the leaderboard's page, and the part of the README that repeats it."""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from functools import lru_cache
from urllib.parse import quote

from bench.board.leaderboard import Row, no_collection
from bench.errors import UsageError
from bench.render.footnotes import Note
from bench.render.table import Column, Line, Table, board

BEGIN, END = "<!-- leaderboard:begin -->", "<!-- leaderboard:end -->"
_PLAIN = re.compile(r"[A-Za-z0-9_.~-]+")  # what `quote` leaves as it is, slowly
_ESCAPES = str.maketrans({letter: f"\\{letter}" for letter in "\\`*_[]<>|~#"})


@no_collection()
def render_markdown(boards: Mapping[str, Sequence[Row]]) -> str:
    """Write leaderboard/README.md.

    Args:
        boards: rows by the track's name; tracks without rows are left out.

    Guarantees:
        The same boards give the same text: no date, no place.
    """
    parts = ["# Leaderboard", "Rendered by `bench leaderboard`; edit the entries, not this page."]
    parts += sections(boards, base="", level=2) or ["No entries yet."]
    return "\n\n".join(parts) + "\n"


def sections(
    boards: Mapping[str, Sequence[Row]], *, base: str = "leaderboard/", level: int = 3, whole: str = ""
) -> list[str]:
    """Write heading, facts, table and footnotes of every track that has rows, for a page elsewhere to take in.

    Args:
        boards: rows by the track's name.
        base: path from the page to the folder of entries, with its last slash.
        level: of the headings.
        whole: path to the page that has every row; this one then leaves out what is not ranked, and says so.
    """
    parts = []
    for track in sorted(boards):
        if rows := boards[track]:
            table = board(rows)
            line = table.about.rstrip(".")
            facts = " · ".join(table.facts)
            parts.append(f"{'#' * level} {table.track}")
            parts.append(f"{_escape(line)}. {_escape(facts)}." if line else f"{_escape(facts)}.")
            shown = [row for row in rows if row.rank is not None] if whole else rows
            if shown:
                table = board(shown)
                parts.append(markdown_table(table, base=base))
                parts += ["\n".join(map(_note, table.notes))] if table.notes else []
            if left := len(rows) - len(shown):
                also = "further " * bool(shown)
                parts.append(f"[{left:,} {also}row{'s' * (left != 1)}]({whole}#{table.track}), not ranked.")
    return parts


def markdown_table(table: Table, *, base: str = "") -> str:
    """Write the table; each recipe links to its entry's JSON under `base`."""
    # GitHub's pages are about as wide as a laptop's terminal; the facts above name the model if there is but one.
    if len({line.cells[table.index("model")] for line in table.lines}) == 1:
        table = table.without("model")
    recipe, robust = table.index("recipe"), table.index("robust")
    folder = f"{base}{quote(table.track)}/"
    rows = [
        [_heading(column) for column in table.columns],
        ["---:" if column.right else "---" for column in table.columns],
        *(_cells(line, recipe, robust, folder) for line in table.lines),
    ]
    return "\n".join([f"| {' | '.join(row)} |" for row in rows])


def splice(text: str, table: str) -> str:
    """Put `table` between the two markers of a page, in place of what stood there.

    Guarantees:
        Splicing the same table twice changes nothing; what stands outside the markers is left as it was.

    Raises:
        UsageError: the markers are missing, doubled or in the wrong order.
    """
    before, begin, rest = text.partition(BEGIN)
    _, end, after = rest.partition(END)
    if not begin or not end or BEGIN in rest or END in before + after:
        raise UsageError(f"Expected one {BEGIN} followed by one {END} in the page.")
    return f"{before}{BEGIN}\n\n{table.strip()}\n\n{END}{after}"


def _heading(column: Column) -> str:
    return _escape(f"{column.title} {column.unit}".strip())


def _cells(line: Line, recipe: int, robust: int, folder: str) -> list[str]:
    cells = [_escape(text) for text in line.cells]
    name = line.name if _PLAIN.fullmatch(line.name) else quote(line.name)
    cells[recipe] = f"[{cells[recipe]}]({folder}{name}.json)"
    if line.standing == "ranked":
        cells[robust] = f"**{cells[robust]}**"
    else:
        cells[recipe] = f"*{cells[recipe]}*"
    return cells


def _note(note: Note) -> str:
    return f"- {_escape(note.mark)} {_escape(note.text)}"


@lru_cache(maxsize=4096)  # a large board says the same thing in many rows
def _escape(text: str) -> str:
    return text.translate(_ESCAPES)
