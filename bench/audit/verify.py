"""Does an entry hold? Recompute from its sealed model and its evidence what can be recomputed in minutes."""

from __future__ import annotations

import random
import tempfile
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, replace
from pathlib import Path

import torch
from torch import Tensor

from bench.attack.alarms import question
from bench.attack.driver import BenchEngine
from bench.attack.engine import Trial
from bench.audit.rejudge import rejudge_adversarial, rejudge_clean
from bench.audit.repeat import repeat
from bench.audit.retrial import Retrial, find_model, stand_again
from bench.compress.sealed import Sealed
from bench.entry import Entry
from bench.errors import UsageError
from bench.machine.device import device_name, pick_device
from bench.pgd20 import pgd20
from bench.progress import Event, Report
from bench.provenance import here
from bench.run.album import FileAlbum
from bench.run.evidence import digest_of_file
from bench.scrutiny import Evidence, Finding, Verification
from bench.stages import compare_twin, count_cost, disagreement_of, probes
from bench.track import load_track, track_names
from bench.verdicts import STANDING, Proportion

SHARE_STANDING = 0.98
"""Of the surviving images that are attacked again so many may be expected to stand: other seeds find a few more, the
reference itself one image in 150. The sample speaks against an entry when its 95 % interval lies below."""
ROUNDED = 0.01
"""Another machine rounds otherwise: so large a share of the images, or two, may stand PGD-20 there or fall to it."""
ENOUGH = 20
"""So many survivors, or all of fewer, are attacked again before a row is called verified."""
BYTES = 0.01
"""Exporters of another release name things differently: by so much, relatively, may a file's size differ."""


@dataclass(frozen=True, kw_only=True)
class Inquiry:
    """How to verify.

    Attributes:
        model: folder of the sealed model; None for the one beside the entry, or in the cache.
        beside: the folder that the entry is in.
        evidence: folder of the adversarial images.
        sample: surviving images to attack again, at most.
        seed: of choosing and attacking them.
        full: whether to repeat the whole attack.
        device: "auto", "cpu", "cuda".
        trust: whether a `python:` parent may run its code, in a full repetition.
    """

    model: Path | None
    beside: Path
    evidence: Path
    sample: int
    seed: int
    full: bool = False
    device: str = "auto"
    trust: bool = False


@dataclass(frozen=True, kw_only=True)
class Outcome:
    """What came of it.

    Attributes:
        findings: of each check.
        verification: what a verified entry says of them; None where anything disagrees.
        fallen: by number, images that brought down what the entry calls robust.
        trial: of the entry's model; None where it is another one.
    """

    findings: tuple[Finding, ...]
    verification: Verification | None
    fallen: Mapping[int, Tensor]
    trial: Trial | None


def verify(entry: Entry, inquiry: Inquiry, report: Report) -> Outcome:
    """Check an entry against its sealed model, its evidence, and a few attacks of our own.

    Raises:
        MissingError: the model is not here, or the data set.
    """
    device = pick_device(inquiry.device)
    report(Event(stage="load", note=entry.name))
    sealed = find_model(entry, inquiry.model, inquiry.beside, device)
    findings = [_record(entry), _model(entry, sealed)]
    sampled, fallen, trial = Proportion(count=0, total=0), dict[int, Tensor](), None
    if findings[-1].holds:
        report(Event(stage="deploy"))
        retrial = stand_again(entry, sealed, device)
        report(Event(stage="judge", note=f"{len(entry.verdicts.letters):,} images"))
        findings.append(rejudge_clean(retrial.trial, entry))
        findings += list(_evidence(entry, retrial, inquiry.evidence))
        findings += [_cost(entry, sealed, retrial), _effort(entry, sealed), _alarms(entry, retrial)]
        if entry.pgd20 is not None:
            findings.append(_pgd20(entry.pgd20, retrial.trial))
        found, sampled, fallen = _sample(entry, retrial, inquiry, report)
        findings.append(found)
        if inquiry.full:
            more, again = repeat(entry, sealed, device, report, trust=inquiry.trust)
            findings, fallen = findings + more, again | fallen
        trial = retrial.trial
    return Outcome(
        findings=tuple(findings),
        verification=_verification(findings, sampled, entry.verdicts.robust.count, inquiry, device),
        fallen=fallen,
        trial=trial,
    )


def _verification(
    findings: list[Finding], sampled: Proportion, robust: int, inquiry: Inquiry, device: torch.device
) -> Verification | None:
    """Return what a verified entry says; None where anything disagrees, or too few survivors were attacked again."""
    enough = min(ENOUGH, robust)
    if any(one.holds is False for one in findings) or not (inquiry.full or sampled.total >= enough):
        return None
    return Verification(
        held=tuple(one.name for one in findings if one.holds),
        unchecked=tuple(one.name for one in findings if one.holds is None),
        full=inquiry.full,
        sampled=sampled.total,
        standing=sampled.count,
        seed=inquiry.seed,
        provenance=here(device_name(device)),
    )


def _record(entry: Entry) -> Finding:
    """That counts and letters agree was checked when the entry was read."""
    track, letters = entry.track, f"{len(entry.verdicts.letters):,} letters agree with their counts"
    if not entry.whole_suite:
        text = f"it faced {', '.join(entry.verdicts.attacks)}: not all of AutoAttack"
        return Finding(name="record", holds=False, text=text)
    if track.name not in track_names():
        return Finding(name="record", holds=None, text=f"{letters}; track {track.name} is not one of this bench's")
    known = load_track(track.name).fingerprint
    if known != track.fingerprint:
        text = f"track {track.name} is {track.fingerprint} on record, and {known} in this bench"
        return Finding(name="record", holds=False, text=text)
    return Finding(name="record", holds=True, text=f"{letters}; track and recipe have their fingerprints")


def _model(entry: Entry, sealed: Sealed) -> Finding:
    if sealed.digest != entry.sealed:
        text = (
            f"the model here is {sealed.digest[:16]}, the entry's {(entry.sealed or 'none')[:16]}: nothing else checked"
        )
        return Finding(name="model", holds=False, text=text)
    stated = {"model": entry.model, "seed": entry.seed, "steps": list(entry.recipe.steps)}
    other = [key for key, value in stated.items() if key in sealed.about and sealed.about[key] != value]
    if other:
        text = f"its plan names another {' and '.join(other)} than the entry does"
        return Finding(name="model", holds=False, text=text)
    return Finding(
        name="model", holds=True, text=f"sha256 {sealed.digest[:16]}, by {entry.recipe.name} from {entry.model}"
    )


def _evidence(entry: Entry, retrial: Retrial, folder: Path) -> Iterator[Finding]:
    """Check the files, then show twin and deployed model what is in them."""
    missing: list[str] = []
    files: list[Path] = []
    for stated in [entry.evidence, *(one.evidence for one in entry.challenges)]:
        if stated is None:
            missing.append("the images were not kept (bench evaluate --keep-adversarial)")
        elif not (folder / stated.file).is_file():
            missing.append(f"{folder / stated.file} is not there (--evidence FOLDER)")
        elif (found := digest_of_file(folder / stated.file)) != stated.digest:
            text = f"{stated.file} has sha256 {found[:16]}, and the entry says {stated.digest[:16]}"
            yield Finding(name="evidence", holds=False, text=text)
            return
        else:
            files.append(folder / stated.file)
    stated_images = _images(entry)
    if missing:
        yield Finding(name="evidence", holds=None, text="; ".join(missing))
    else:
        yield Finding(name="evidence", holds=True, text=f"{stated_images:,} images, of the digest on record")
    if files:
        try:
            yield rejudge_adversarial(retrial.trial, entry, files, complete=not missing)
        except UsageError as error:
            yield Finding(name="adversarial", holds=False, text=str(error))
    else:
        yield Finding(name="adversarial", holds=None, text="there are no images to judge again")


def _images(entry: Entry) -> int:
    stated: list[Evidence | None] = [entry.evidence, *(one.evidence for one in entry.challenges)]
    return sum(one.images for one in stated if one is not None)


def _cost(entry: Entry, sealed: Sealed, retrial: Retrial) -> Finding:
    stated = entry.efficiency
    found = count_cost(
        retrial.network, retrial.artefact, retrial.dataset, sparse=bool(sealed.about.get("sparse", False))
    )
    exact = ("macs", "bops", "parameters", "nonzeros", "compressed_bytes", "artefact")
    wrong = [
        f"{name} {getattr(found, name)} here, {getattr(stated, name)} on record"
        for name in exact
        if getattr(found, name) != getattr(stated, name)
    ]
    if abs(found.bytes - stated.bytes) > BYTES * stated.bytes:
        wrong.append(f"bytes {found.bytes} here, {stated.bytes} on record")
    if wrong:
        return Finding(name="cost", holds=False, text="; ".join(wrong))
    text = f"{found.macs:,} MACs, {found.bops:,} BOPs, {found.parameters:,} parameters, {found.bytes:,} bytes"
    return Finding(name="cost", holds=True, text=text)


def _effort(entry: Entry, sealed: Sealed) -> Finding:
    """Compare what fine-tuning took with what the model's plan says of it."""
    stated = (entry.effort.finetune_forward, entry.effort.finetune_backward)
    tuned = sealed.about.get("finetuning")
    if tuned is None:
        return Finding(name="effort", holds=None, text="the model's plan does not say how it was fine-tuned")
    if not isinstance(tuned, dict) or not all(isinstance(tuned.get(way), int) for way in ("forward", "backward")):
        return Finding(name="effort", holds=False, text="the model's plan says it in another form: it was edited")
    found = (tuned["forward"], tuned["backward"])
    text = f"{found[0]:,} images forward and {found[1]:,} backward in fine-tuning"
    if found != stated:
        text += f", and {stated[0]:,} and {stated[1]:,} on record"
    return Finding(name="effort", holds=found == stated, text=text)


def _pgd20(stated: Proportion, trial: Trial) -> Finding:
    """Attack every image by PGD-20 again: it begins at the image, so that only rounding tells two runs apart."""
    found = sum(pgd20(trial))
    text = f"{found:,} of {stated.total:,} images stand PGD-20"
    if found != stated.count:
        text += f", {stated.count:,} on record"
    return Finding(name="pgd-20", holds=abs(found - stated.count) <= max(2, ROUNDED * stated.total), text=text)


def _alarms(entry: Entry, retrial: Retrial) -> Finding:
    """Ask what no honest classifier answers wrongly; alarms of the attack itself take the whole attack."""
    trial = retrial.trial
    raised = question(trial.subject, probes(trial))
    agrees = compare_twin(trial.subject, retrial.artefact, trial.examples, trial.device)
    raised += disagreement_of(agrees)
    stated = {alarm.name for alarm in entry.verdicts.alarms}
    new = [alarm for alarm in raised if alarm.fatal and alarm.name not in stated]
    if new:
        return Finding(name="alarms", holds=False, text="; ".join(f"{one.name}: {one.evidence}" for one in new))
    return Finding(name="alarms", holds=True, text="neither model raises a fatal alarm that the entry does not state")


def _sample(
    entry: Entry, retrial: Retrial, inquiry: Inquiry, report: Report
) -> tuple[Finding, Proportion, dict[int, Tensor]]:
    """Attack some of the surviving images again, with seeds that nobody could know; return also what made some fall."""
    letters = entry.verdicts.letters
    surviving = [number for number, letter in enumerate(letters) if letter == STANDING]
    chosen = sorted(random.Random(inquiry.seed).sample(surviving, min(inquiry.sample, len(surviving))))
    if not chosen:
        why = "no image survives" if not surviving else "none was asked for"
        return Finding(name="sample", holds=None if surviving else True, text=why), Proportion(count=0, total=0), {}
    standing, fallen = chosen, dict[int, Tensor]()
    attacks = ["apgd-ce", "apgd-t", "square"]
    attacks += ["surrogate", "apgd-scaled"] * (retrial.trial.subject.surrogate is not None)
    with tempfile.TemporaryDirectory() as folder:
        album = FileAlbum(Path(folder))
        trial = replace(retrial.trial, seed=inquiry.seed, album=album)
        for attack in attacks:
            outcomes: dict[int, bool] = {}
            for part, _ in BenchEngine()(trial, attack, standing, report):
                outcomes |= part
            album.save(attack)
            fallen |= {number: torch.from_numpy(image) for number, image in album.load(attack).items()}
            standing = [number for number in standing if outcomes[number]]
            report(Event(stage=attack, note=f"standing {len(standing)}/{len(chosen)}"))
    sampled = Proportion(count=len(standing), total=len(chosen))
    low, high = sampled.interval
    worst = entry.verdicts.robust.rate * low
    text = (
        f"{sampled.count} of {sampled.total} surviving images stand against {', '.join(attacks)} with seed "
        f"{inquiry.seed} ({100 * low:.1f} to {100 * high:.1f} %): robust accuracy is {100 * worst:.1f} % at worst"
    )
    if fell := sorted({*chosen} - {*standing}):
        text += f"; fell: {', '.join(map(str, fell))}"
    return Finding(name="sample", holds=high >= SHARE_STANDING, text=text), sampled, fallen
