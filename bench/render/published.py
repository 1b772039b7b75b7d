"""Published rows on a terminal: kept apart by question and attack, and one in full."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from itertools import groupby

from rich.console import Console
from rich.padding import Padding
from rich.table import Table
from rich.text import Text

from bench.board.published import MEANING, Obtained, Published
from bench.render import numbers
from bench.render.layout import GUTTER, pairs

MARKS: dict[Obtained, str] = {
    "lowered": "↓", "disputed": "?", "plot": "~", "non-adaptive": "!", "randomised": "!", "unreliable": "!",
}  # fmt: skip
"""The marks of how a figure was obtained; the usual ways have none."""
_NARROWEST_NAME = 24


def print_published(rows: Sequence[Published], console: Console) -> None:
    """Print rows under a heading for each data set, threat model and attack.

    Args:
        rows: sorted by question.
        console: where to print.
    """
    if not rows:
        console.print(Text("No published row answers all of these filters.", style="dim"))
        return
    for question, group in groupby(rows, key=lambda row: (row.dataset, str(row.threat), row.attack)):
        console.print()
        console.print(Text(" · ".join(question), style="cyan"))
        console.print(Padding(_table(list(group), console.width - GUTTER), (0, 0, 0, GUTTER), expand=False))
    console.print()
    console.print(pairs(_legend(rows)))


def _table(rows: Sequence[Published], width: int) -> Table:
    columns = [
        ("", True, [str(row.robust) for row in rows], "bold"),
        ("", True, [numbers.UNKNOWN if row.clean is None else str(row.clean) for row in rows], ""),
        ("", False, [marks(row) for row in rows], "yellow"),
        ("name", False, [row.name for row in rows], ""),
        ("compression", False, [str(row.compression) for row in rows], "dim"),
        ("network", False, [row.architecture for row in rows], "dim"),
        ("data", False, ["extra data" if row.extra_data else "" for row in rows], "dim"),
        ("paper", False, [row.venue or "" for row in rows], "dim"),
    ]
    titles = ["robust", "clean", "", "name", "compression", "network", "", ""]
    widths = [
        max(len(text) for text in (title, *cells)) for title, (_, _, cells, _) in zip(titles, columns, strict=True)
    ]
    # The name is what `bench show` wants, so it stays whole; what it tells already goes first.
    shown = [i for i, size in enumerate(widths) if size]
    for victim in (7, 6, 5, 4):
        if sum(widths[i] + GUTTER for i in shown) - GUTTER > width and victim in shown:
            shown.remove(victim)
    table = Table.grid(padding=(0, GUTTER, 0, 0))
    for i in shown:
        narrow = {"min_width": min(_NARROWEST_NAME, widths[i]), "overflow": "fold"} if i == 3 else {"no_wrap": True}
        table.add_column(justify="right" if columns[i][1] else "left", **narrow)
    table.add_row(*(Text(titles[i], style="dim") for i in shown))
    for j, row in enumerate(rows):
        doubt = "" if row.trusted else "dim"
        table.add_row(*(Text(columns[i][2][j], style=columns[i][3] if not doubt or i == 2 else doubt) for i in shown))
    return table


def marks(row: Published) -> str:
    """Return the marks that say how a row's figure was obtained."""
    return "".join(dict.fromkeys(MARKS[how] for how in row.obtained if how in MARKS))


def _legend(rows: Sequence[Published]) -> Iterable[tuple[Text, Text]]:
    found = {how for row in rows for how in row.obtained}
    for how, mark in MARKS.items():
        if how in found:
            yield Text(mark, style="yellow"), Text(f"{how}: {MEANING[how]}.", style="dim")
    yield Text(f"{len(rows):,}", style="dim"), Text("rows; bench show NAME has the source of each.", style="dim")


def print_published_row(row: Published, console: Console) -> None:
    """Print everything that is known about one row."""
    console.print()
    console.print(Text(row.method, style="bold").append(f"  {row.name}", style="not bold dim"))
    console.print(Text("published, not measured here", style="yellow"))
    console.print()
    console.print(pairs((Text(name, style="dim"), _styled(name, text)) for name, text in published_facts(row)))
    console.print()


def published_facts(row: Published) -> Iterable[tuple[str, str]]:
    """Yield what is known about a row, as pairs of a heading and a text: for the terminal and for the page."""
    yield "robust", f"{row.robust} %" + _interval(row)
    if row.autoattack is not None:
        yield "AutoAttack", f"{row.autoattack} %"
    if row.claim is not None:
        yield "claimed", f"{row.claim} %"
    yield "clean", numbers.UNKNOWN if row.clean is None else f"{row.clean} %"
    stated = f" (the source: {row.stated_eps})" if row.stated_eps else ""
    yield "question", f"{row.dataset} · {row.threat}{stated}"
    images = f"{row.n_examples:,} test images" if row.n_examples else "number of images not stated"
    yield "attack", f"{row.attack}, {images}" + _stated(row.stated_attack)
    yield "network", row.architecture
    yield "compression", str(row.compression) + _stated(row.stated_compression)
    yield "extra data", {True: "yes", False: "no", None: "not stated"}[row.extra_data]
    for how in row.obtained:
        yield "obtained", f"{how}: {MEANING[how]}"
    for name, text in (("note", row.note), ("source", row.source), ("paper", row.paper), ("venue", row.venue)):
        if text:
            yield name, text


def _stated(words: str | None) -> str:
    return f" (the source: {words})" if words else ""


def _styled(name: str, text: str) -> Text:
    styled = Text(text)
    if name in ("robust", "clean"):
        styled.highlight_regex(r"^\S+ %", "bold")
    if name == "obtained" and text.partition(":")[0] in MARKS:
        styled.highlight_regex(r"^[\w-]+", "yellow")
    return styled


def _interval(row: Published) -> str:
    if row.robust_count is None:
        return ""
    low, high = (f"{100 * bound:.2f}" for bound in row.robust_count.interval)
    return f", {low} to {high} with 95 % confidence"
