"""The page, assembled: the tables stand in the HTML itself, and the script only adds to them."""

from __future__ import annotations

import base64
import hashlib
from collections.abc import Mapping, Sequence
from html import escape
from importlib import resources
from string import Template
from urllib.parse import quote

from bench.board.leaderboard import Row, no_collection
from bench.board.published import Published
from bench.render.beside import board_beside
from bench.render.footnotes import ALARM, PARETO, Note
from bench.render.html.data import order, page_data
from bench.render.table import Column, Line, Table

_UNTITLED = {"mark": f'<span aria-hidden="true">{PARETO}</span><span class="hidden">marks</span>'}
_CLASSES = {"robust": "r", "model": "n", "asked": "l k"}
_WHY = {
    "partial": "partial, not ranked",
    "alarmed": "fatal alarm, not ranked",
    "self-reported": "self-reported, not ranked",
}
_SCRIPTS = (
    "record", "elements", "state", "table", "filters", "plot", "marks", "pointer", "letters", "panel", "theme", "app",
)  # fmt: skip
"""The files of the one script, in order: each uses what stands above it, and only functions what stands below."""

Beside = Mapping[str, tuple[Sequence[Published], int]]
"""By the track's name: published rows of its question, and how many more there are."""

# Until the script has chosen what to show, a browser lays out no more rows of a long board than it will (style.css).
_EARLY = 'document.documentElement.classList.add("early");'


@no_collection()
def render_html(boards: Mapping[str, Sequence[Row]], published: Beside | None = None) -> str:
    """Write leaderboard/index.html.

    Args:
        boards: rows by the track's name; tracks without rows are left out.
        published: what stands among our rows when the reader asks for it.

    Guarantees:
        The same boards give the same text: no date, no place.
        The page asks nobody for anything: styles, script and data stand in it, and its own policy forbids the rest.
    """
    boards = {track: boards[track] for track in sorted(boards) if boards[track]}
    beside = {track: (published or {}).get(track, ((), 0)) for track in boards}
    tables = {track: board_beside(rows, *beside[track], brief=False) for track, rows in boards.items()}
    theirs = {track: rows for track, (rows, _) in beside.items()}
    numbers = order(boards, theirs)
    sources = {row.name: row.source for rows in theirs.values() for row in rows}
    style, script = _asset("style.css"), script_text()
    return Template(_asset("page.html")).substitute(
        policy=escape(_policy([style], [_EARLY, script])),
        style=style,
        early=_EARLY,
        script=script,
        summary=_summary(boards),
        sections="\n".join(_section(table, numbers, sources) for table in tables.values()) or "<p>No entries yet.",
        data=page_data(boards, tables, theirs),
    )


def script_text() -> str:
    """Return the page's script: its files, one after the other."""
    return "\n\n".join(_asset(f"script/{name}.js") for name in _SCRIPTS)


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


def _section(table: Table, numbers: Mapping[tuple[str, str], int], sources: Mapping[str, str]) -> str:
    track = escape(table.track)
    one_model = len(table.facts) > 3
    shown = table.without("model") if one_model else table
    about = [escape(table.about.rstrip(".") + ".")] if table.about else []
    intro = " ".join([*about, f"<span>{escape(' · '.join(table.facts))}</span>"])
    ours = sum(line.standing != "published" for line in table.lines)
    headings = "".join(map(_heading, shown.columns))
    lines = "\n".join(_row(shown, line, numbers[table.track, line.name], sources) for line in shown.lines)
    notes = "".join(map(_note, table.notes))
    return f"""<section data-track="{track}" aria-labelledby="h-{track}">
<h2 id="h-{track}">{track}</h2>
<p class="about">{intro}</p>
<div class="plot"></div>
<div class="scroll" tabindex="0" role="region" aria-label="Table of {track}">
<table>
<caption>{ours:,} row{"s" * (ours != 1)}, the most robust first</caption>
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
    kind = ' class="l k"' if column.key == "asked" else "" if column.right else " class=l"
    return f'<th scope="col" data-key="{escape(column.key)}"{kind}>{name}{unit}'


def _row(table: Table, line: Line, number: int, sources: Mapping[str, str]) -> str:
    cells = zip(table.columns, line.cells, strict=True)
    published = line.standing == "published"
    # Without the script a name leads to the entry's file; published rows stay hidden until the reader asks for them.
    href = escape(sources[line.name]) if published else f"{quote(table.track)}/{quote(line.name)}.json"
    standing = "" if line.standing == "ranked" else f" class={line.standing}{' hidden' * published}"
    return f"<tr data-e={number}{standing}>{''.join(_cell(column, text, line, href) for column, text in cells)}"


def _cell(column: Column, text: str, line: Line, href: str) -> str:
    """Write a cell; optional end tags are left out to save bytes."""
    shown = escape(text)
    if column.key == "recipe":
        why = f' <span class="hidden">({_WHY[line.standing]})</span>' if line.standing in _WHY else ""
        return f'<th scope="row" class=l><a href="{href}">{shown}</a>{why}'
    if column.key == "mark":
        shown = shown.replace(PARETO, f"<i>{PARETO}</i>")
        return f'<td class="m w">{shown}' if ALARM in text else f"<td class=m>{shown}"
    kind = _CLASSES.get(column.key, "" if column.right else "l")
    return f'<td class="{kind}">{shown}' if " " in kind else f"<td class={kind}>{shown}" if kind else f"<td>{shown}"


def _note(note: Note) -> str:
    text = escape(note.text)
    if note.mark == PARETO:
        # The script names another cost here when the reader chooses one.
        text = text.replace("BOPs", '<span class="cost">BOPs</span>', 1)
    asked = " class=k" if note.column == "asked" else ""
    return f"<li{asked}><b>{escape(note.mark)}</b> <span>{text}</span>"
