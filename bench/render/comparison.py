"""A comparison on a terminal: one column a contender, as many side by side as fit."""

from __future__ import annotations

from collections.abc import Iterable, Sequence

from rich.console import Console
from rich.table import Table
from rich.text import Text

from bench.board.comparison import Comparison, Contender, Difference, Figure, cost_ratios
from bench.entry import Entry
from bench.render import numbers
from bench.render.layout import GUTTER, grid, pairs

FEW = 8
"""Indexes of images that are printed; JSON has them all."""

_NAMES = {"macs": "MACs", "bops": "BOPs", "parameters": "parameters", "bytes": "size", "latency": "latency"}
_INDENT = "  "
_Row = tuple[Text, list[Text]]


def print_comparison(comparison: Comparison, console: Console) -> None:
    """Print names, what they share, the figures, and the images on which they differ."""
    contenders, differences = comparison.contenders, comparison.differences
    console.print()
    console.print(pairs((Text(one.key, style="bold cyan"), Text(one.name, style="bold")) for one in contenders))
    console.print(Text(_shared(contenders), style="dim"))
    rows = [*_accuracies(contenders), *_differences(contenders, differences)]
    rows += [*_costs(contenders), *_kills(contenders)]
    for chosen in _blocks(rows, len(contenders), console.width):
        console.print()
        console.print(_table(rows, contenders, chosen))
    if remarks := list(_remarks(contenders[0], differences)):
        console.print()
        console.print(pairs(remarks))
    console.print()


def _shared(contenders: Sequence[Contender]) -> str:
    facts = []
    for values in (
        [one.dataset for one in contenders],
        [str(one.threat) for one in contenders],
        [one.attack for one in contenders],
        [f"{one.n:,} test images" if one.n else "" for one in contenders],
    ):
        if len(set(values)) == 1 and values[0]:
            facts.append(values[0])
    return " · ".join(facts)


def _blocks(rows: Sequence[_Row], n: int, width: int) -> Iterable[list[int]]:
    """Share the others out over tables that each have the first beside them."""
    label = max(label.cell_len for label, _ in rows)
    widths = [max(cells[i].cell_len for _, cells in rows) for i in range(n)]
    room = width - label - GUTTER - widths[0] - GUTTER
    chosen: list[int] = []
    for i in range(1, n):
        if chosen and sum(widths[j] + GUTTER for j in [*chosen, i]) > room:
            yield [0, *chosen]
            chosen = []
        chosen.append(i)
    yield [0, *chosen]


def _table(rows: Sequence[_Row], contenders: Sequence[Contender], chosen: Sequence[int]) -> Table:
    table = grid(False, *[True] * len(chosen))
    table.add_row(Text(), *(Text(contenders[i].key, style="bold cyan") for i in chosen))
    for label, cells in rows:
        heading = not any(cell.plain for cell in cells)
        if heading or any(cells[i].plain for i in chosen):
            table.add_row(label, *(cells[i] for i in chosen))
    return table


def _accuracies(contenders: Sequence[Contender]) -> Iterable[_Row]:
    decimals = max(2 if one.n is None else numbers.decimals_for(one.n) for one in contenders)
    unequal = any(one.autoattack != one.robust for one in contenders)
    for name, figures in (
        ("robust %", [one.robust for one in contenders]),
        ("AutoAttack %", [one.autoattack for one in contenders] if unequal else []),
        ("clean %", [one.clean for one in contenders]),
    ):
        if any(figures):
            texts = [f"{figure.percent:.{decimals}f}" if figure else numbers.UNKNOWN for figure in figures]
            yield Text(name), [Text(text, style="bold") for text in texts]
            yield Text(f"{_INDENT}95 %", style="dim"), [Text(_range(one, decimals), style="dim") for one in figures]


def _range(figure: Figure | None, decimals: int) -> str:
    if figure is None or figure.interval is None:
        return "unknown" if figure else ""
    return " to ".join(f"{bound:.{decimals}f}" for bound in figure.interval)


def _differences(contenders: Sequence[Contender], differences: Sequence[Difference]) -> Iterable[_Row]:
    decimals = max(2 if one.n is None else numbers.decimals_for(one.n) for one in contenders)
    first = contenders[0].key
    yield Text(), [Text()] * len(contenders)
    points = [Text(numbers.points(one.points, decimals), style=_shade(one)) for one in differences]
    yield Text(f"{first} minus it, points"), [Text(), *points]
    ranges = [
        " to ".join(numbers.points(bound, decimals) for bound in one.interval) if one.interval else "unknown"
        for one in differences
    ]
    yield Text(f"{_INDENT}95 %", style="dim"), [Text(), *(Text(text, style="dim") for text in ranges)]
    if any(one.p is not None for one in differences):
        ps = ["" if one.p is None else f"{one.p:.2g}" if one.p >= 0.0001 else "< 0.0001" for one in differences]
        yield Text(f"{_INDENT}McNemar's p", style="dim"), [Text(), *(Text(text, style="dim") for text in ps)]


def _shade(one: Difference) -> str:
    """Colour what is beyond chance: where there is a test it decides, else the interval."""
    sure = one.p < 0.05 if one.p is not None else one.interval is not None and one.interval[0] * one.interval[1] > 0
    return "bold" if not sure else "bold green" if one.points > 0 else "bold red"


def _costs(contenders: Sequence[Contender]) -> Iterable[_Row]:
    costs = [one.efficiency for one in contenders]
    if not any(costs):
        return
    yield Text(), [Text()] * len(contenders)
    ratios = [cost_ratios(contenders[0], one) for one in contenders]
    for key, name in _NAMES.items():
        if key == "latency":
            texts = [numbers.milliseconds(one.latency.median_ms) if one and one.latency else "" for one in costs]
        else:
            unit = "B" if key == "bytes" else ""
            texts = [numbers.amount(getattr(one, key), unit=unit) if one else "" for one in costs]
        if any(texts):
            yield Text(name), [Text(text or numbers.UNKNOWN) for text in texts]
        relative = [ratio[key] for ratio in ratios[1:]]
        if any(ratio is not None for ratio in relative):
            times = ["" if ratio is None else numbers.ratio(ratio) for ratio in relative]
            label = Text(f"{_INDENT}relative to {contenders[0].key}", style="dim")
            yield label, [Text(), *(Text(text, style="dim") for text in times)]


def _kills(contenders: Sequence[Contender]) -> Iterable[_Row]:
    counts = [one.row.verdicts.counts if isinstance(one.row, Entry) else {} for one in contenders]
    outcomes = list(dict.fromkeys(outcome for count in counts for outcome in count if outcome != "robust"))
    if outcomes:
        yield Text(), [Text()] * len(contenders)
        yield Text("fell first to", style="cyan"), [Text()] * len(contenders)
    for outcome in [*outcomes[1:], *outcomes[:1]]:  # the misclassified last: nobody attacked them
        cells = [f"{count[outcome]:,}" if outcome in count else "" for count in counts]
        yield Text(_INDENT + outcome.replace("misclassified", "nothing: wrong")), [Text(text) for text in cells]


def _remarks(first: Contender, differences: Sequence[Difference]) -> Iterable[tuple[Text, Text]]:
    """Name each pair once, before what is to be said of it; what several pairs have in common is said once."""
    said: set[str] = set()
    for one in differences:
        lines = [Text(f"unlike: {reason}", style="yellow") for reason in one.unlike]
        if one.test == "mcnemar":
            lines.append(Text(_discord(first.key, one)))
        lines += [Text(f"{note}.") for note in one.notes if note not in said]
        said.update(one.notes)
        for i, line in enumerate(lines):
            yield Text("" if i else f"{first.key}, {one.other}", style="cyan"), line


def _discord(first: str, one: Difference) -> str:
    differ = len(one.only_first) + len(one.only_other)
    sides = ((first, one.only_first), (one.other, one.only_other))
    parts = [f"{key} alone robust on {len(found):,}{_few(found)}" for key, found in sides]
    return f"differ on {differ:,} of {one.n:,} images{': ' + '; '.join(parts) if differ else ''}."


def _few(indexes: Sequence[int]) -> str:
    if not indexes:
        return ""
    shown = ", ".join(map(str, indexes[:FEW]))
    return f" (images {shown}{', …' if len(indexes) > FEW else ''})"
