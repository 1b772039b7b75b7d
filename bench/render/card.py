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
from bench.render import numbers
from bench.render.footnotes import ALARM, PARTIAL
from bench.render.layout import GUTTER, flow, grid, pairs
from bench.render.letters import bar
from bench.threat_model import ThreatModel
from bench.verdicts import Proportion, Verdicts

_WIDEST = 100
_INDENT = 2


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
    yield "accuracy", Group(_accuracies(entry.verdicts), Text(), *bar(entry.verdicts, width, colour=colour))
    if len(seeds) > 1:
        yield "seeds", _seeds(entry, seeds)
    if entry.verdicts.alarms:
        yield "alarms", pairs(_alarms(entry.verdicts))
    yield "cost of one prediction", _costs(entry.efficiency, entry.parent)
    if steps := entry.recipe.steps:
        yield "recipe", pairs(_steps(steps, width))
    yield "evidence", pairs((Text(name, style="dim"), Text(fact)) for name, fact in _evidence(entry))


def _title(entry: Entry) -> Text:
    track = entry.track
    threat = ThreatModel(norm=track.norm, eps=track.eps)
    facts = [track.name, track.dataset, str(threat), entry.model] + ([f"seed {entry.seed}"] if entry.seed else [])
    lines = [
        Text(entry.recipe.name, style="bold"),
        Text(entry.recipe.summary),
        Text(" · ".join(facts), style="dim"),
    ]
    if entry.partial:
        asked = f"{len(entry.verdicts.letters):,} of {track.n_examples:,} test images"
        lines.append(Text(f"{PARTIAL} partial, {asked}: not ranked", style="yellow"))
    if entry.verdicts.fatal:
        lines.append(Text(f"{ALARM} fatal alarm: not ranked", style="red"))
    return Text("\n").join(line for line in lines if line)


def _accuracies(verdicts: Verdicts) -> Table:
    decimals = numbers.decimals_for(len(verdicts.letters))
    table = grid(False, True, False, False)
    for name, proportion in (
        ("robust", verdicts.robust),
        ("AutoAttack", verdicts.autoattack),
        ("clean", verdicts.clean),
    ):
        low, high = (f"{100 * bound:.{decimals}f}" for bound in proportion.interval)
        table.add_row(
            Text(name),
            Text(f"{numbers.percent(proportion, decimals)} %", style="bold"),
            Text(f"{low} to {high} with 95 % confidence", style="dim"),
            Text(_of(proportion), style="dim"),
        )
    return table


def _seeds(entry: Entry, seeds: Sequence[Entry]) -> Table:
    decimals = numbers.decimals_for(len(entry.verdicts.letters))
    table = grid(True, True, True, False)
    table.add_row(*(Text(text, style="dim") for text in ("", "robust", "clean", "")))
    for one in seeds:
        cells = [numbers.percent(proportion, decimals) for proportion in (one.verdicts.robust, one.verdicts.clean)]
        fate = f"{ALARM} not ranked" if one.verdicts.fatal else "this one" if one.seed == entry.seed else ""
        table.add_row(Text(str(one.seed), style="dim"), *(Text(f"{cell} %") for cell in cells), Text(fate, style="dim"))
    for name, of in (("mean", fmean), ("± std", stdev)):
        rates = [[one.verdicts.robust.rate for one in seeds], [one.verdicts.clean.rate for one in seeds]]
        table.add_row(
            Text(name, style="dim"), *(Text(f"{100 * of(values):.{decimals}f} %", style="bold") for values in rates)
        )
    return table


def _of(proportion: Proportion) -> str:
    return f"{proportion.count:,} of {proportion.total:,} images"


def _costs(ours: Efficiency, parent: Efficiency) -> Table:
    table = grid(False, True, True, True, False)
    table.add_row(*(Text(text, style="dim") for text in ("", "deployed", "parent", "ratio", "")))
    rows: list[tuple[str, int, int, str]] = [("BOPs", ours.bops, parent.bops, ""), ("MACs", ours.macs, parent.macs, "")]
    rows.append(("parameters", ours.parameters, parent.parameters, ""))
    if ours.nonzeros != ours.parameters:
        rows.append(("  not zero", ours.nonzeros, parent.nonzeros, ""))
    rows.append(("size", ours.bytes, parent.bytes, "B"))
    remarks = {}
    if ours.compressed_bytes is not None:
        rows.append(("  less zeros", ours.compressed_bytes, parent.bytes, "B"))
        remarks = {"MACs": "zeros counted", "  not zero": f"{numbers.share(ours.sparsity)} zero"}
    for name, mine, theirs, unit in rows:
        ratio = Text(numbers.ratio(mine / theirs) if theirs else numbers.UNKNOWN, style="bold")
        remark = Text(remarks.get(name, ""), style="dim")
        table.add_row(Text(name), numbers.amount(mine, unit=unit), numbers.amount(theirs, unit=unit), ratio, remark)
    for line in _latency(ours, parent):
        table.add_row(*line)
    if ours.integer_macs is not None and ours.artefact != "simulated":
        table.add_row(Text("integer MACs"), f"{ours.integer_macs:.1%}".replace("%", " %"))
    return table


def _latency(ours: Efficiency, parent: Efficiency) -> Iterable[tuple[RenderableType, ...]]:
    mine, theirs = ours.latency, parent.latency
    if mine is None:
        why = "simulated: no integer kernels" if ours.artefact == "simulated" else "not measured"
        yield Text("latency"), Text(numbers.UNKNOWN), Text(""), Text(""), Text(why, style="dim")
        return
    busy = "~ " if mine.noisy else ""
    yield (
        Text("latency"),
        numbers.milliseconds(mine.median_ms),
        numbers.milliseconds(theirs.median_ms) if theirs else "",
        Text(busy + numbers.ratio(mine.ratio), style="bold"),
        Text(f"p90 {numbers.milliseconds(mine.p90_ms)}", style="dim"),
    )
    yield (
        Text("images/s"),
        f"{mine.images_per_s:,.0f}",
        f"{theirs.images_per_s:,.0f}" if theirs else "",
        Text(busy + numbers.ratio(1 / mine.ratio_64) if mine.ratio_64 else "", style="bold"),
        Text("batch 64", style="dim"),
    )
    if mine.noisy:
        yield Text(""), "", "", "", Text("~ the machine was busy", style="yellow")


def _steps(steps: Sequence[dict[str, Any]], width: int) -> Iterable[tuple[Text, Text]]:
    names = [f"{i} {step['step']}" for i, step in enumerate(steps)]
    room = width - max(map(len, names)) - GUTTER
    for name, step in zip(names, steps, strict=True):
        yield Text(name), flow([_setting(key, value) for key, value in step.items() if key != "step"], room)


def _setting(key: str, value: object) -> Text:
    shown = str(value).lower() if isinstance(value, bool) else "none" if value is None else str(value)
    return Text(f"{key} ", style="dim").append(shown, style="not dim")


def _alarms(verdicts: Verdicts) -> Iterable[tuple[Text, Text]]:
    for alarm in verdicts.alarms:
        fate = "fatal" if alarm.fatal else "a warning"
        what = Text(alarm.name, style="bold").append(f" ({fate}): ", style="not bold")
        mark = Text(ALARM, style="bold red" if alarm.fatal else "yellow")
        yield mark, what.append(alarm.evidence, style="not bold")


def _evidence(entry: Entry) -> Iterable[tuple[str, str]]:
    runtime, place, effort = entry.efficiency.latency, entry.provenance, entry.effort
    if entry.agreement:
        asked = entry.agreement
        same = f"{asked.top1:.2%}".replace("%", " %")
        gap = f"logits differ by {asked.gap:.2g} (rounding alone: {asked.noise:.2g})"
        yield "twin, deployed", f"same class on {same} of {asked.n:,} images; {gap}"
    for stage, forward, backward in (
        ("fine-tuning", effort.finetune_forward, effort.finetune_backward),
        ("attack", effort.attack_forward, effort.attack_backward),
    ):
        if forward:
            yield stage, f"{numbers.amount(forward)} images forward, {numbers.amount(backward)} backward"
    if effort.seconds:
        total = numbers.duration(sum(effort.seconds.values()))
        yield "time", f"{total}: " + ", ".join(f"{k} {numbers.duration(v)}" for k, v in effort.seconds.items())
    artefact = entry.efficiency.artefact
    threads = f", {runtime.runtime}, {runtime.threads} thread{'s' * (runtime.threads != 1)}" if runtime else ""
    yield "artefact", artefact + threads
    yield "engine", f"{entry.engine}, recipe {entry.recipe.fingerprint}, track {entry.track.fingerprint}"
    commit = f"commit {place.commit[:10]}" if place.commit else "outside git"
    yield "code", f"bench {place.bench}, {commit}{', with uncommitted changes' * place.dirty}"
    packages = {"python": place.python, **place.packages}
    yield "packages", ", ".join(f"{name} {version}" for name, version in packages.items())
    machine = place.machine if place.device == "cpu" else f"{place.device}; {place.machine}"
    yield "machine", f"{machine}; {place.when.replace('T', ' ').replace('+00:00', ' UTC')}"
