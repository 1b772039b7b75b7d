"""What each stage of the line needs to know of the others; `evaluate.py` says in which order they come."""

from __future__ import annotations

import dataclasses
import hashlib
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import torch
from torch import Tensor, nn

from bench.attack import alarms
from bench.attack.beyond import out_of_reach
from bench.attack.crew import crew, hands_for
from bench.attack.engine import Outcome, Trial, estimate_seconds, run_suite
from bench.attack.suites import SUITES, further, passes
from bench.compress.bake import bake, fold, unrounded
from bench.compress.export import Artefact, OnnxClassifier, agreement
from bench.contract import digest_of_weights
from bench.dataset import Dataset, Examples
from bench.efficiency import Efficiency
from bench.entry import Agreement, Entry
from bench.files import cache_dir
from bench.measure.latency import measure_latency
from bench.measure.macs import count_macs
from bench.measure.size import compressed_bytes, count_parameters
from bench.model import Subject
from bench.prepare import Prepared, own_code
from bench.progress import Event, Report
from bench.provenance import code_digest
from bench.recipe import Recipe, fingerprint
from bench.recipe_record import RecipeRecord
from bench.request import Request
from bench.run.album import FileAlbum
from bench.run.evidence import Deciding, write_evidence
from bench.run.journal import FileJournal
from bench.scrutiny import Evidence
from bench.verdicts import Alarm

AGREEMENT_IMAGES = 1000
_PROBED = 64
EVIDENCE = ".adversarial.npz"
"""What follows an entry's name in that of the file of its adversarial images."""


class Clock:
    """Wall seconds by stage."""

    def __init__(self) -> None:
        self.seconds: dict[str, float] = {}

    @contextmanager
    def stage(self, name: str) -> Iterator[None]:
        """Add the time of the block to the stage `name`."""
        start = time.perf_counter()
        yield
        self.seconds[name] = round(self.seconds.get(name, 0.0) + time.perf_counter() - start, 2)


def compare_twin(subject: Subject, artefact: Artefact, examples: Examples, device: torch.device) -> Agreement | None:
    """Compare the file that ships with the network that is attacked: a float model's file must be that model, too.

    Args:
        subject: as it stands trial, so that neither folding nor baking goes unnoticed.
        artefact: what ships.
        examples: the test images; those beyond `AGREEMENT_IMAGES` are not asked about.
        device: where the twin is.
    """
    if not artefact.kind.startswith("onnx"):
        return None
    images = examples.first(AGREEMENT_IMAGES).pixels().to(device)
    return agreement(subject.twin, OnnxClassifier(artefact.data), images)


def compare_under_attack(agrees: Agreement | None, trial: Trial, outcome: Outcome) -> Agreement | None:
    """Add what the judge saw of twin and deployed model on the adversarial images of the first attack."""
    seen = outcome.records.get(outcome.attacks[0])
    if agrees is None or seen is None or not seen.judged or trial.subject.deployed is trial.subject.twin:
        return agrees
    top1 = 1 - seen.disagreed / seen.judged
    return agrees.model_copy(update={"adversarial_n": seen.judged, "adversarial_top1": top1})


def stand_trial(subject: Subject, artefact: Artefact, *, compressed: bool) -> Subject:
    """Return the subject as it is attacked: baked, with what ships as the deployed model.

    Args:
        subject: as the steps left it.
        artefact: of its twin.
        compressed: whether any step was taken; if not, there is no parent but the network itself.
    """
    twin = bake(fold(subject.twin))
    return Subject(
        twin=twin,
        parent=bake(subject.parent) if compressed else twin,
        deployed=twin if artefact.classifier is subject.twin else artefact.classifier,
        surrogate=unrounded(twin),
        sparse=subject.sparse,
    )


def attack(trial: Trial, suite: str, *, journal: FileJournal, report: Report) -> Outcome:
    """Attack with the whole suite and what else this subject is to face, by as many processes as it is worth."""
    faced = further(trial.subject)
    seconds = estimate_seconds(trial, suite, further=faced)
    amount = f"{seconds:.0f} s" if seconds < 120 else f"{seconds / 60:,.0f} min"
    note = f"at most about {amount}, should all {len(trial.examples):,} images survive"
    report(Event(stage="estimate", note=note))
    each = sum(passes(attack, trial.n_classes).total for attack in SUITES[suite] + faced)
    with crew(trial, hands_for(trial), pace=seconds / len(trial.examples) / each) as engine:
        trial = dataclasses.replace(trial, engine=engine)
        return run_suite(trial, suite, further=faced, journal=journal, report=report)


def open_journal(
    request: Request, trial: Trial, artefact: Artefact, sealed: str | None, *, purpose: str = "evaluate"
) -> FileJournal:
    """Open the journal of exactly this evaluation: same model, same question, same engine, same images, same purpose.

    What one purpose left unfinished is no answer to another: a verification repeats the attack itself.

    Raises:
        MissingError: another process is at it.
    """
    digest = hashlib.sha256(artefact.data)
    for tensor in (trial.examples.images, trial.examples.labels):
        digest.update(tensor.cpu().contiguous().numpy().tobytes())
    weights = (digest_of_weights(trial.subject.twin), digest_of_weights(trial.subject.parent))
    decisive = (purpose, request.track.fingerprint, *weights, trial.engine.name)
    # Rounding's gradients are of `compress`, the box and the ball of `threat_model`.
    code = (
        str(request.model),
        *own_code(request.model),
        code_digest("attack", "compress", "threat_model.py", "machine/tensor_float.py"),
    )
    digest.update("\n".join((*decisive, sealed or "", *code)).encode())
    journal = FileJournal(cache_dir() / "unfinished" / f"{digest.hexdigest()[:24]}.json")
    journal.hold()
    if request.fresh:
        journal.forget()
    return journal


def keep_evidence(entry: Entry, album: FileAlbum, examples: Examples, folder: Path) -> Evidence:
    """Write the image that decided each fallen image's letter to a file in `folder`, named after the entry.

    Raises:
        MissingError: the folder cannot be written.
    """
    letters = entry.verdicts.letters
    found = album.deciding(entry.verdicts.attacks, letters)
    numbers = sorted(found)
    deciding = Deciding(
        numbers=torch.tensor(numbers, dtype=torch.int64),
        letters="".join(letters[number] for number in numbers),
        images=torch.stack([found[n] for n in numbers]) if numbers else torch.zeros(0, *examples.images.shape[1:]),
    )
    return write_evidence(folder / f"{entry.name}{EVIDENCE}", deciding, examples, entry.track.threat)


def raise_alarms(trial: Trial, outcome: Outcome, agrees: Agreement | None) -> tuple[Alarm, ...]:
    """Question the networks, and read what the whole attack and the agreement say."""
    raised = alarms.question(trial.subject, probes(trial)) + alarms.inspect(outcome, n_classes=trial.n_classes)
    raised += out_of_reach(trial, outcome) + alarms.protocol(trial.engine.name)
    return raised + disagreement_of(agrees)


def probes(trial: Trial) -> Tensor:
    """Return the first test images, and the same moved at random within the ball: (2n, C, H, W), on the device.

    A model may behave on 8-bit pixels and nowhere else.
    """
    images = trial.examples.first(_PROBED).pixels()
    moved = torch.empty_like(images).uniform_(-1, 1, generator=torch.Generator().manual_seed(trial.seed))
    moved = trial.threat.project(images + float(trial.threat.eps) * moved, images)
    return torch.cat([images, moved]).to(trial.device)


def disagreement_of(agrees: Agreement | None) -> tuple[Alarm, ...]:
    """Raise when twin and deployed model differ on clean images."""
    return alarms.disagreement(agrees.top1, agrees.gap, agrees.noise, agrees.n) if agrees else ()


def measure(
    subject: Subject, artefact: Artefact, parent_artefact: Artefact, dataset: Dataset, *, timed: bool = True
) -> tuple[Efficiency, Efficiency]:
    """Return what the deployed model costs, and what its parent did; `timed` for the latency, too."""
    parent = count_cost(subject.parent, parent_artefact, dataset)
    latency = None
    if timed and {artefact.kind, parent_artefact.kind} <= {"onnx-int8", "onnx-float32"}:
        latency = measure_latency(artefact.data, parent_artefact.data, dataset.image_shape)
    ours = count_cost(subject.twin, artefact, dataset, sparse=subject.sparse)
    return ours.model_copy(update={"latency": latency}), parent


def count_cost(model: nn.Module, artefact: Artefact, dataset: Dataset, *, sparse: bool = False) -> Efficiency:
    """Return what a prediction and the model itself cost; how long it takes is for a clock to say.

    Args:
        model: a float network or a twin, not baked.
        artefact: what it ships as.
        dataset: whose images it takes.
        sparse: whether its zeros are there for good.
    """
    count, size = count_macs(model, dataset.image_shape), count_parameters(model)
    return Efficiency(
        macs=count.macs,
        bops=count.bops,
        parameters=size.parameters,
        nonzeros=size.nonzeros,
        bytes=artefact.n_bytes,
        compressed_bytes=compressed_bytes(model) if sparse else None,
        artefact=artefact.kind,
        integer_macs=artefact.integer_macs_share,
    )


def recipe_record(recipe: Recipe, made: Prepared) -> RecipeRecord:
    """Return the answer as the entry keeps it: every setting spelled out."""
    own = recipe.own_code
    if own is not None:
        own = dataclasses.replace(own, file="/".join(Path(own.file).parts[-2:]), isolated=made.isolated)
    digits = fingerprint(made.steps, own)
    return RecipeRecord(
        name=recipe.name, summary=recipe.summary, steps=made.steps, fingerprint=digits, own_code=own, file=recipe.file,
        changes=recipe.changes,
    )  # fmt: skip
