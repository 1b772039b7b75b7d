"""One measurement on one screen: what was asked, what came out, what it costs, how far to trust it."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from statistics import fmean, stdev
from typing import Any

from rich.console import Console, Group, RenderableType
from rich.padding import Padding
from rich.table import Table
from rich.text import Text

from bench.efficiency import Efficiency
from bench.entry import Entry
from bench.render import facts, numbers
from bench.render.footnotes import ALARM
from bench.render.layout import GUTTER, flow, grid, pairs
from bench.render.letters import bar
from bench.verdicts import Verdicts

_WIDEST = 100
_INDENT = 2
_SHADES = {"verified": "green", "self-reported": "yellow", "partial": "yellow", "alarmed": "red"}


def print_entry(entry: Entry, console: Console, *, seeds: Sequence[Entry] = ()) -> None:
    """Print an entry's card, 80 columns or narrower where the terminal is.

    Args:
        entry: what was measured.
        console: where to print.
        seeds: the same under each of its seeds, this one among them.
    """
    width = min(console.width, _WIDEST)
    colour = console.color_system is not None and not console.no_color
    console.print()
    for heading, body in _parts(entry, seeds, width - _INDENT, colour=colour):
        if heading:
            console.print(Text(heading, style="cyan"), width=width)
        console.print(Padding(body, (0, 0, 0, _INDENT if heading else 0), expand=False), width=width)
        console.print()


def _parts(entry: Entry, seeds: Sequence[Entry], width: int, *, colour: bool) -> Iterable[tuple[str, RenderableType]]:
    yield "", _title(entry)
    yield "accuracy", Group(_accuracies(entry), Text(), *bar(entry.verdicts, width, colour=colour))
    if len(seeds) > 1:
        yield "seeds", _seeds(entry, seeds)
    if entry.verdicts.alarms:
        yield "alarms", pairs(_alarms(entry.verdicts))
    yield "cost of one prediction", _costs(entry.efficiency, entry.parent)
    if steps := entry.recipe.steps:
        yield "recipe", pairs(_steps(steps, width))
    told = [*facts.evidence(entry), ("measure again", entry.command)]
    yield "evidence", pairs((Text(name, style="dim"), Text(fact)) for name, fact in told)


def _title(entry: Entry) -> Text:
    lines = [
        Text(entry.recipe.name, style="bold"),
        Text(entry.recipe.summary),
        Text(" · ".join(facts.about(entry)), style="dim"),
    ]
    lines += [Text(text, style=_SHADES[kind]) for kind, text in facts.badges(entry)]
    return Text("\n").join(line for line in lines if line)


def _accuracies(entry: Entry) -> Table:
    table = grid(False, True, False, False, *[False] * (entry.claim is not None))
    for one in facts.accuracies(entry.verdicts):
        cells = [Text(one.name), Text(one.percent, style="bold"), Text(one.interval, style="dim")]
        cells.append(Text(one.count, style="dim"))
        if entry.claim is not None:
            claimed = {"robust": entry.claim.robust, "clean": entry.claim.clean}.get(one.name)
            cells.append(Text("" if claimed is None else f"claimed {claimed:.1f} %", style="yellow"))
        table.add_row(*cells)
    return table


def _seeds(entry: Entry, seeds: Sequence[Entry]) -> Table:
    decimals = numbers.decimals_for(len(entry.verdicts.letters))
    table = grid(True, True, True, False)
    table.add_row(*(Text(text, style="dim") for text in ("", "robust", "clean", "")))
    for one in seeds:
        cells = [numbers.percent(proportion, decimals) for proportion in (one.verdicts.robust, one.verdicts.clean)]
        fate = (
            f"{ALARM} not ranked"
            if one.standing in ("alarmed", "self-reported")
            else "this one"
            if one.seed == entry.seed
            else ""
        )
        table.add_row(Text(str(one.seed), style="dim"), *(Text(f"{cell} %") for cell in cells), Text(fate, style="dim"))
    for name, of in (("mean", fmean), ("± std", stdev)):
        rates = [[one.verdicts.robust.rate for one in seeds], [one.verdicts.clean.rate for one in seeds]]
        table.add_row(
            Text(name, style="dim"), *(Text(f"{100 * of(values):.{decimals}f} %", style="bold") for values in rates)
        )
    return table


def _costs(ours: Efficiency, parent: Efficiency) -> Table:
    table = grid(False, True, True, True, False)
    table.add_row(*(Text(text, style="dim") for text in ("", "deployed", "parent", "ratio", "")))
    for cost in facts.costs(ours, parent):
        remark = Text(cost.remark, style="yellow" if cost.remark.startswith("~") else "dim")
        table.add_row(Text(cost.name), cost.deployed, cost.parent, Text(cost.ratio, style="bold"), remark)
    return table


def _steps(recipe: Sequence[dict[str, Any]], width: int) -> Iterable[tuple[Text, Text]]:
    steps = facts.steps(recipe)
    room = width - max(len(step.name) for step in steps) - GUTTER
    for step in steps:
        settings = [Text(f"{key} ", style="dim").append(value, style="not dim") for key, value in step.settings]
        yield Text(step.name), flow(settings, room)


def _alarms(verdicts: Verdicts) -> Iterable[tuple[Text, Text]]:
    for alarm in verdicts.alarms:
        fate = "fatal" if alarm.fatal else "a warning"
        what = Text(alarm.name, style="bold").append(f" ({fate}): ", style="not bold")
        mark = Text(ALARM, style="bold red" if alarm.fatal else "yellow")
        yield mark, what.append(alarm.evidence, style="not bold")
