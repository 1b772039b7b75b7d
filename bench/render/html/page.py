"""The page, assembled: the tables stand in the HTML itself, and the script only adds to them."""

from __future__ import annotations

import base64
import hashlib
from collections.abc import Mapping, Sequence
from html import escape
from importlib import resources
from string import Template
from urllib.parse import quote

from bench.leaderboard import Row
from bench.render.footnotes import ALARM, PARETO, Note
from bench.render.html.data import order, page_data
from bench.render.table import Column, Line, Table, board

_UNTITLED = {"mark": f'<span aria-hidden="true">{PARETO}</span><span class="hidden">marks</span>'}
_CLASSES = {"robust": "r", "model": "n"}
_WHY = {"partial": "partial, not ranked", "alarmed": "fatal alarm, not ranked"}

# Until the script has chosen what to show, a browser lays out no more rows of a long board than it will (style.css).
_EARLY = 'document.documentElement.classList.add("early");'


def render_html(boards: Mapping[str, Sequence[Row]]) -> str:
    """Write leaderboard/index.html.

    Args:
        boards: rows by the track's name; tracks without rows are left out.

    Guarantees:
        The same boards give the same text: no date, no place.
        The page asks nobody for anything: styles, script and data stand in it, and its own policy forbids the rest.
    """
    boards = {track: boards[track] for track in sorted(boards) if boards[track]}
    tables = {track: board(rows) for track, rows in boards.items()}
    numbers = order(boards)
    style, script = _asset("style.css"), _asset("app.js")
    return Template(_asset("page.html")).substitute(
        policy=escape(_policy([style], [_EARLY, script])),
        style=style,
        early=_EARLY,
        script=script,
        summary=_summary(boards),
        sections="\n".join(_section(table, numbers) for table in tables.values()) or "<p>No entries yet.",
        data=page_data(boards, tables),
    )


def _asset(name: str) -> str:
    return (resources.files(__package__) / name).read_text(encoding="utf-8").strip()


def _policy(styles: Sequence[str], scripts: Sequence[str]) -> str:
    """Allow these very styles and scripts, and no request at all."""

    def allowed(texts: Sequence[str]) -> str:
        # The element's content has a line break on either side, as in page.html.
        digests = (hashlib.sha256(f"\n{text}\n".encode()).digest() for text in texts)
        return " ".join(f"'sha256-{base64.b64encode(digest).decode()}'" for digest in digests)

    rules = {
        "default-src": "'none'",
        "style-src": allowed(styles),
        "script-src": allowed(scripts),
        "img-src": "data:",
        "base-uri": "'none'",
        "form-action": "'none'",
    }
    return "; ".join(f"{name} {value}" for name, value in rules.items())


def _summary(boards: Mapping[str, Sequence[Row]]) -> str:
    n = sum(map(len, boards.values()))
    return f"{n:,} {'entry' if n == 1 else 'entries'} on {len(boards)} track{'s' * (len(boards) != 1)}"


def _section(table: Table, numbers: Mapping[tuple[str, str], int]) -> str:
    track = escape(table.track)
    one_model = len(table.facts) > 3
    shown = table.without("model") if one_model else table
    about = [escape(table.about.rstrip(".") + ".")] if table.about else []
    intro = " ".join([*about, f"<span>{escape(' · '.join(table.facts))}</span>"])
    rows = "row" if len(table.lines) == 1 else "rows"
    headings = "".join(map(_heading, shown.columns))
    lines = "\n".join(_row(shown, line, numbers.get((table.track, line.name))) for line in shown.lines)
    notes = "".join(map(_note, table.notes))
    return f"""<section data-track="{track}" aria-labelledby="h-{track}">
<h2 id="h-{track}">{track}</h2>
<p class="about">{intro}</p>
<div class="plot"></div>
<div class="scroll" tabindex="0" role="region" aria-label="Table of {track}">
<table>
<caption>{len(table.lines):,} {rows}, the most robust first</caption>
<thead><tr>{headings}</thead>
<tbody>
{lines}
</tbody>
</table>
</div>
<ul class="notes">{notes}</ul>
</section>"""


def _heading(column: Column) -> str:
    name = escape(column.title) or _UNTITLED.get(column.key, f'<span class="hidden">{escape(column.key)}</span>')
    unit = f" <small>{escape(column.unit)}</small>" if column.unit else ""
    return f'<th scope="col" data-key="{escape(column.key)}"{"" if column.right else " class=l"}>{name}{unit}'


def _row(table: Table, line: Line, number: int | None) -> str:
    cells = zip(table.columns, line.cells, strict=True)
    # Only rows of our own have a number, a file and a panel; published ones have neither.
    href = "" if number is None else f"{quote(table.track)}/{quote(line.name)}.json"
    known = "" if number is None else f" data-e={number}"
    standing = "" if line.standing == "ranked" else f' class="{escape(line.standing)}"'
    return f"<tr{known}{standing}>{''.join(_cell(column, text, line, href) for column, text in cells)}"


def _cell(column: Column, text: str, line: Line, href: str) -> str:
    """Write a cell; optional end tags are left out to save bytes."""
    shown = escape(text)
    if column.key == "recipe":
        # Without the script the name leads to the entry's file.
        name = f'<a href="{href}">{shown}</a>' if href else shown
        why = f' <span class="hidden">({_WHY[line.standing]})</span>' if line.standing in _WHY else ""
        return f'<th scope="row" class=l>{name}{why}'
    if column.key == "mark":
        shown = shown.replace(PARETO, f"<i>{PARETO}</i>")
        return f'<td class="m w">{shown}' if ALARM in text else f"<td class=m>{shown}"
    kind = _CLASSES.get(column.key, "" if column.right else "l")
    return f"<td class={kind}>{shown}" if kind else f"<td>{shown}"


def _note(note: Note) -> str:
    text = escape(note.text)
    if note.mark == PARETO:
        # The script names another cost here when the reader chooses one.
        text = text.replace("BOPs", '<span class="cost">BOPs</span>', 1)
    return f"<li><b>{escape(note.mark)}</b> <span>{text}</span>"
