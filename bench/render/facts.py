"""What there is to say about one entry, as plain text: the terminal's card and the page's panel both start here."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from typing import Any

from bench.efficiency import Efficiency
from bench.entry import Entry
from bench.render import numbers
from bench.render.footnotes import ALARM, PARTIAL, STATUS_MARKS, STATUS_TEXTS
from bench.verdicts import Verdicts


@dataclass(frozen=True, kw_only=True)
class Accuracy:
    """One accuracy: `77.8 %`, its interval in words, and the count behind it."""

    name: str
    percent: str
    interval: str
    count: str


@dataclass(frozen=True, kw_only=True)
class Cost:
    """One line of the table of costs; texts may be empty."""

    name: str
    deployed: str
    parent: str = ""
    ratio: str = ""
    remark: str = ""


@dataclass(frozen=True, kw_only=True)
class StepFacts:
    """A step of the recipe: `0 quantize`, and its settings as pairs."""

    name: str
    settings: tuple[tuple[str, str], ...]


def about(entry: Entry) -> tuple[str, ...]:
    """Return what was asked of what: track, data set, threat model, parent, and a seed that is not the usual one."""
    track = entry.track
    facts = (track.name, track.dataset, str(track.threat), entry.model)
    return (*facts, f"seed {entry.seed}") if entry.seed else facts


def badges(entry: Entry) -> list[tuple[str, str]]:
    """Return what a reader must know first, each as (kind, sentence): a status, too few images, a fatal alarm."""
    found = []
    if entry.status in STATUS_MARKS:
        found.append((str(entry.status), f"{STATUS_MARKS[entry.status]} {STATUS_TEXTS[entry.status]}"))
    if entry.partial:
        asked = f"{len(entry.verdicts.letters):,} of {entry.track.n_examples:,} test images"
        found.append(("partial", f"{PARTIAL} partial, {asked}: not ranked"))
    if entry.verdicts.fatal:
        found.append(("alarmed", f"{ALARM} fatal alarm: not ranked"))
    if not entry.whole_suite:
        found.append(("alarmed", f"{ALARM} attacked by less than AutoAttack: not ranked"))
    return found


def accuracies(verdicts: Verdicts) -> list[Accuracy]:
    """Return the accuracies that an entry has, the one that ranks first."""
    decimals = numbers.decimals_for(len(verdicts.letters))
    found = []
    for name, proportion in (
        ("robust", verdicts.robust),
        ("AutoAttack", verdicts.autoattack),
        ("clean", verdicts.clean),
    ):
        low, high = (f"{100 * bound:.{decimals}f}" for bound in proportion.interval)
        found.append(
            Accuracy(
                name=name,
                percent=f"{numbers.percent(proportion, decimals)} %",
                interval=f"{low} to {high} with 95 % confidence",
                count=f"{proportion.count:,} of {proportion.total:,} images",
            )
        )
    return found


def costs(ours: Efficiency, parent: Efficiency) -> list[Cost]:
    """Return the costs of one prediction and of the model, beside the parent's."""
    rows: list[tuple[str, int, int, str]] = [
        ("BOPs", ours.bops, parent.bops, ""),
        ("MACs", ours.macs, parent.macs, ""),
        ("FLOPs", ours.flops, parent.flops, ""),
        ("parameters", ours.parameters, parent.parameters, ""),
    ]
    if ours.nonzeros != ours.parameters:
        rows.append(("  not zero", ours.nonzeros, parent.nonzeros, ""))
    rows.append(("size", ours.bytes, parent.bytes, "B"))
    remarks = {}
    if ours.compressed_bytes is not None:
        rows.append(("  less zeros", ours.compressed_bytes, parent.bytes, "B"))
        remarks = {"MACs": "zeros counted", "  not zero": f"{numbers.share(ours.sparsity)} zero"}
    found = [
        Cost(
            name=name,
            deployed=numbers.amount(mine, unit=unit),
            parent=numbers.amount(theirs, unit=unit),
            ratio=numbers.ratio(mine / theirs) if theirs else numbers.UNKNOWN,
            remark=remarks.get(name, ""),
        )
        for name, mine, theirs, unit in rows
    ]
    found += _latency(ours, parent)
    if ours.integer_macs is not None and ours.artefact != "simulated":
        found.append(Cost(name="integer MACs", deployed=f"{ours.integer_macs:.1%}".replace("%", " %")))
    return found


def _latency(ours: Efficiency, parent: Efficiency) -> Iterable[Cost]:
    mine, theirs = ours.latency, parent.latency
    if mine is None:
        why = "simulated: no integer kernels" if ours.artefact == "simulated" else "not measured"
        yield Cost(name="latency", deployed=numbers.UNKNOWN, remark=why)
        return
    busy = "~ " if mine.noisy else ""
    yield Cost(
        name="latency",
        deployed=numbers.milliseconds(mine.median_ms),
        parent=numbers.milliseconds(theirs.median_ms) if theirs else "",
        ratio=busy + numbers.ratio(mine.ratio),
        remark=f"p90 {numbers.milliseconds(mine.p90_ms)}",
    )
    yield Cost(
        name="images/s",
        deployed=f"{mine.images_per_s:,.0f}",
        parent=f"{theirs.images_per_s:,.0f}" if theirs else "",
        ratio=busy + numbers.ratio(1 / mine.ratio_64) if mine.ratio_64 else "",
        remark="batch 64",
    )
    if mine.noisy:
        yield Cost(name="", deployed="", remark="~ the machine was busy")


def steps(recipe: Sequence[dict[str, Any]]) -> list[StepFacts]:
    """Return the steps of a recipe as they ran, every setting spelled out."""
    return [
        StepFacts(
            name=f"{i} {step['step']}",
            settings=tuple((key, shown(value)) for key, value in step.items() if key != "step"),
        )
        for i, step in enumerate(recipe)
    ]


def shown(value: object) -> str:
    """Write the value of a setting."""
    return str(value).lower() if isinstance(value, bool) else "none" if value is None else str(value)


def evidence(entry: Entry) -> Iterable[tuple[str, str]]:
    """Yield what lets a reader judge and repeat the measurement, as pairs of a heading and a sentence."""
    runtime, place, effort = entry.efficiency.latency, entry.provenance, entry.effort
    if claim := entry.claim:
        figures = f"robust {claim.robust:.1f} %, clean {claim.clean:.1f} %"
        yield "authors' claim", f"{figures} under {claim.attack} on {claim.n:,} images"
    if own := entry.recipe.own_code:
        where = "taken in a process of their own" if own.isolated else "taken in the process that attacked"
        yield "own steps", f"{own.file}, sha256 {own.sha256[:16]}, {where}"
    elif entry.unguarded and not entry.own_network:
        yield "own steps", "a package's, taken in the process that attacked: not ranked"
    if entry.own_network:
        where = "its code ran in the process that attacked: not ranked. bench export writes it without code"
        yield "own network", f"{where}, and as --model checkpoint:FOLDER it can be ranked"
    if entry.other_images:
        yield "test images", f"not those that everybody's {entry.track.dataset} has, in their order: not ranked"
    if entry.agreement:
        asked = entry.agreement
        same = f"same class on {numbers.share(asked.top1)} of {asked.n:,} images"
        if asked.adversarial_n and asked.adversarial_top1 is not None:
            same += f" and {numbers.share(asked.adversarial_top1)} of {asked.adversarial_n:,} adversarial ones"
        yield "twin, deployed", f"{same}; logits differ by {asked.gap:.2g} (rounding alone: {asked.noise:.2g})"
    if entry.pgd20:
        stand = numbers.percent(entry.pgd20, numbers.decimals_for(entry.pgd20.total))
        yield "PGD-20", f"{stand} % stand this one attack, at which many papers stop"
    if effort.finetune_forward:
        share, seconds, peak = effort.relative_cost, effort.finetune_seconds, effort.finetune_peak_bytes
        parts = [_passes(effort.finetune_forward, effort.finetune_backward)]
        parts += [f"{numbers.ratio(share)} of adversarial training from scratch"] if share else []
        parts += [numbers.duration(seconds)] if seconds else []
        parts += [f"peak memory {numbers.amount(peak, unit='B')}"] if peak else []
        yield "fine-tuning", "; ".join(parts)
    if effort.attack_forward:
        yield "attack", _passes(effort.attack_forward, effort.attack_backward)
    if effort.seconds:
        total = numbers.duration(sum(effort.seconds.values()))
        yield "time", f"{total}: " + ", ".join(f"{k} {numbers.duration(v)}" for k, v in effort.seconds.items())
    artefact = entry.efficiency.artefact
    threads = f", {runtime.runtime}, {runtime.threads} thread{'s' * (runtime.threads != 1)}" if runtime else ""
    yield "artefact", artefact + threads
    if entry.sealed:
        yield "model", f"sha256 {entry.sealed[:16]} (bench export {entry.name})"
    if entry.parent_weights:
        yield "parent", f"{entry.model}, weights sha256 {entry.parent_weights[:16]}"
    if entry.evidence:
        kept = entry.evidence
        yield "images", f"{kept.images:,} adversarial ones in {kept.file}, sha256 {kept.digest[:16]}"
    if entry.verification:
        seen = entry.verification
        stood = f"{seen.standing} of {seen.sampled} surviving images stood again" if seen.sampled else ""
        missing = f"not checked: {', '.join(seen.unchecked)}" if seen.unchecked else ""
        parts = ["the whole attack again" * seen.full, stood, missing, seen.provenance.when.partition("T")[0]]
        yield "verified", "; ".join(part for part in parts if part)
    for one in entry.challenges:
        source = f", {one.reference}" if one.reference else ""
        yield "challenged", f"{one.by}: {one.held} of {one.submitted} images hold{source}; {one.when.partition('T')[0]}"
    yield "engine", f"{entry.engine}, recipe {entry.recipe.fingerprint}, track {entry.track.fingerprint}"
    commit = f"commit {place.commit[:10]}" if place.commit else "outside git"
    yield "code", f"bench {place.bench}, {commit}{', with uncommitted changes' * place.dirty}"
    packages = {"python": place.python, **place.packages}
    yield "packages", ", ".join(f"{name} {version}" for name, version in packages.items())
    machine = place.machine if place.device == "cpu" else f"{place.device}; {place.machine}"
    yield "machine", f"{machine}; {place.when.replace('T', ' ').replace('+00:00', ' UTC')}"


def _passes(forward: int, backward: int) -> str:
    return f"{numbers.amount(forward)} images forward, {numbers.amount(backward)} backward"
