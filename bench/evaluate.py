"""THE LINE: load → compress → fine-tune → attack → judge → measure → record."""

from __future__ import annotations

import hashlib
import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass

import torch
from torch import nn

from bench.attack import alarms, reference
from bench.attack.engine import Outcome, Trial, estimate_seconds, run_suite
from bench.compress.bake import bake
from bench.compress.export import Artefact, agreement, deploy
from bench.dataset import Dataset, Examples
from bench.efficiency import Efficiency, Latency
from bench.entry import Agreement, Effort, Entry, RecipeRecord, TrackRecord
from bench.errors import MissingError, UsageError
from bench.files import cache_dir
from bench.finetune.clean import cross_entropy
from bench.finetune.loop import Descent, train
from bench.load.architectures.schedule import Schedule
from bench.load.datasets import load_dataset
from bench.load.layout import channels_last
from bench.load.models import load_model
from bench.measure.latency import measure_latency
from bench.measure.macs import count_macs
from bench.measure.size import count_parameters
from bench.model import ModelSpec, Subject, Task
from bench.progress import Event, Report
from bench.provenance import here
from bench.recipe import Ingredients, Meter, Recipe, Step, fingerprint, settings
from bench.run.journal import FileJournal
from bench.track import Track
from bench.verdicts import Alarm, Verdicts

AGREEMENT_IMAGES = 1000


@dataclass(frozen=True, kw_only=True)
class Request:
    """What somebody wants to know.

    Attributes:
        recipe: what to do to the model.
        track: under which question to judge it.
        model: the parent.
        n_examples: number of test images to attack, from the first on; None for the track's own.
        seed: of training, calibration and fine-tuning.
        device: "auto", "cpu", "cuda", "cuda:1".
        trust: whether the user's own Python files may run.
        fresh: whether to forget what an interrupted run left.
    """

    recipe: Recipe
    track: Track
    model: ModelSpec
    n_examples: int | None = None
    seed: int = 0
    device: str = "auto"
    trust: bool = False
    fresh: bool = False


def evaluate(request: Request, report: Report) -> Entry:
    """Measure one recipe on one model under one track.

    Raises:
        BenchError: anything the user can mend, before the long work where possible.
    """
    track, device, clock, meter = request.track, pick_device(request.device), Clock(), Meter()
    steps = request.recipe.resolve()

    with clock.stage("load"):
        report(Event(stage="load", note=f"{request.model} on {track.dataset}"))
        dataset = load_dataset(track.dataset)
        examples = _test_images(dataset, request)
        parent = _load_parent(request, dataset, device, report)
        subject = Subject(twin=parent, parent=parent, deployed=parent)

    with clock.stage("compress and fine-tune"):
        ingredients = Ingredients(
            train=dataset.train,
            threat=track.threat,
            finetune_images=track.finetune_images,
            generator=torch.Generator().manual_seed(request.seed),
            device=device,
            report=report,
            meter=meter,
        )
        subject = take_steps(subject, steps, request.recipe, ingredients)

    with clock.stage("deploy"):
        report(Event(stage="deploy"))
        artefact = deploy(subject, dataset.image_shape)
        parent_artefact = deploy(Subject(twin=parent, parent=parent, deployed=parent), dataset.image_shape)
        agrees = _agreement(subject, artefact, examples, device)
        attacked = bake(subject.twin)
        deployed = attacked if artefact.classifier is subject.twin else artefact.classifier

    with clock.stage("attack"):
        trial = Trial(
            subject=Subject(twin=attacked, parent=parent, deployed=deployed),
            examples=examples,
            threat=track.threat,
            n_classes=dataset.n_classes,
            seed=track.seed,
            device=device,
        )
        report(Event(stage="estimate", note=_estimate(trial, track.suite)))
        outcome = run_suite(trial, track.suite, journal=_journal(request, trial, artefact), report=report)
        raised = _alarms(trial, outcome, agrees)

    with clock.stage("measure"):
        report(Event(stage="measure"))
        efficiency, parent_efficiency = _measure(subject, artefact, parent_artefact, dataset)

    return Entry(
        track=_track_record(track),
        recipe=_recipe_record(request.recipe, steps),
        model=str(request.model),
        seed=request.seed,
        engine=reference.NAME,
        verdicts=Verdicts.of(attacks=outcome.attacks, letters=outcome.letters, alarms=raised),
        agreement=agrees,
        efficiency=efficiency,
        parent=parent_efficiency,
        effort=Effort(
            finetune_forward=meter.forward,
            finetune_backward=meter.backward,
            attack_forward=sum(record.forward for record in outcome.records.values()),
            attack_backward=sum(record.backward for record in outcome.records.values()),
            seconds=clock.seconds,
        ),
        provenance=here(_device_name(device)),
    )


def take_steps(subject: Subject, steps: tuple[Step, ...], recipe: Recipe, ingredients: Ingredients) -> Subject:
    """Apply a recipe's steps in order.

    Raises:
        UsageError: a step refuses the subject it is given; the sentence names the step.
    """
    for table, step in zip(recipe.steps, steps, strict=True):
        ingredients.report(Event(stage=table["step"]))
        try:
            subject = step(subject, ingredients)
        except UsageError as error:
            raise UsageError(f"Recipe {recipe.name}, step {table['step']}: {error}") from error
    return subject


def pick_device(name: str) -> torch.device:
    """Return the device called `name`; "auto" takes CUDA where there is one.

    Raises:
        UsageError: no such device.
        MissingError: a device this machine does not have.
    """
    if name == "auto":
        return torch.device("cuda" if torch.cuda.is_available() else "cpu")
    try:
        device = torch.device(name)
    except RuntimeError as error:
        raise UsageError(f"Expected --device auto, cpu or cuda, got '{name}'.") from error
    if device.type not in ("cpu", "cuda"):
        raise UsageError(f"Expected --device auto, cpu or cuda, got '{name}'.")
    if device.type == "cuda" and (device.index or 0) >= torch.cuda.device_count():
        raise MissingError(f"There is no device '{name}' here ({torch.cuda.device_count()} CUDA devices); use cpu.")
    return device


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


def _test_images(dataset: Dataset, request: Request) -> Examples:
    wanted = request.n_examples or request.track.n_examples
    if wanted > request.track.n_examples:
        raise UsageError(f"{request.track.name} attacks {request.track.n_examples:,} images; got {wanted:,}.")
    return dataset.test.first(wanted)


def _load_parent(request: Request, dataset: Dataset, device: torch.device, report: Report) -> nn.Module:
    task = Task(
        dataset=dataset.name, image_shape=dataset.image_shape, n_classes=dataset.n_classes, norm=request.track.norm
    )

    def fit(network: nn.Module, schedule: Schedule) -> None:
        descent = Descent(
            optimizer="adamw",
            learning_rate=schedule.learning_rate,
            weight_decay=schedule.weight_decay,
            batch_size=schedule.batch_size,
        )
        train(
            channels_last(network, dataset.image_shape),
            dataset.train,
            cross_entropy,
            descent,
            images=schedule.epochs * len(dataset.train),
            generator=torch.Generator().manual_seed(schedule.seed),
            device=device,
            report=report,
            stage="train the parent",
        )

    network = load_model(request.model, task, trust=request.trust, fit=fit)
    return channels_last(network, dataset.image_shape).to(device)


def _agreement(subject: Subject, artefact: Artefact, examples: Examples, device: torch.device) -> Agreement | None:
    if artefact.classifier is subject.twin:
        return None
    images = examples.first(AGREEMENT_IMAGES).pixels().to(device)
    found = agreement(subject.twin, artefact.classifier, images)
    return Agreement(n=len(images), top1=found.top1, gap=found.gap, noise=found.noise)


def _estimate(trial: Trial, suite: str) -> str:
    seconds = estimate_seconds(trial, suite)
    amount = f"{seconds:.0f} s" if seconds < 120 else f"{seconds / 60:,.0f} min"
    return f"{len(trial.examples):,} images, {trial.threat}: at most about {amount}, if every image survives"


def _journal(request: Request, trial: Trial, artefact: Artefact) -> FileJournal:
    """Open the journal of exactly this evaluation: same weights, same question, same engine, same images."""
    digest = hashlib.sha256()
    for name, tensor in sorted(trial.subject.twin.state_dict().items()):
        digest.update(name.encode())
        digest.update(tensor.detach().cpu().contiguous().numpy().tobytes())
    for part in (request.track.fingerprint, str(request.model), reference.NAME, str(len(trial.examples))):
        digest.update(part.encode())
    digest.update(artefact.data)
    journal = FileJournal(cache_dir() / "unfinished" / f"{digest.hexdigest()[:24]}.json")
    if request.fresh:
        journal.forget()
    return journal


def _alarms(trial: Trial, outcome: Outcome, agrees: Agreement | None) -> tuple[Alarm, ...]:
    images = trial.examples.first(64).pixels().to(trial.device)
    raised = alarms.question(trial.subject, images) + alarms.inspect(outcome, n_classes=trial.n_classes)
    return raised + (alarms.disagreement(agrees.top1, agrees.n) if agrees else ())


def _measure(
    subject: Subject, artefact: Artefact, parent_artefact: Artefact, dataset: Dataset
) -> tuple[Efficiency, Efficiency]:
    parent = _efficiency(subject.parent, parent_artefact, None, dataset)
    latency = None
    if {artefact.kind, parent_artefact.kind} <= {"onnx-int8", "onnx-float32"}:
        latency = measure_latency(artefact.data, parent_artefact.data, dataset.image_shape)
    return _efficiency(subject.twin, artefact, latency, dataset), parent


def _efficiency(model: nn.Module, artefact: Artefact, latency: Latency | None, dataset: Dataset) -> Efficiency:
    count, size = count_macs(model, dataset.image_shape), count_parameters(model)
    return Efficiency(
        macs=count.macs,
        bops=count.bops,
        parameters=size.parameters,
        nonzeros=size.nonzeros,
        bytes=artefact.n_bytes,
        artefact=artefact.kind,
        integer_macs=artefact.integer_macs_share,
        latency=latency,
    )


def _track_record(track: Track) -> TrackRecord:
    return TrackRecord(
        name=track.name,
        fingerprint=track.fingerprint,
        dataset=track.dataset,
        norm=track.norm,
        eps=track.eps,
        n_examples=track.n_examples,
    )


def _recipe_record(recipe: Recipe, steps: tuple[Step, ...]) -> RecipeRecord:
    complete = settings(steps, recipe)
    return RecipeRecord(name=recipe.name, summary=recipe.summary, steps=complete, fingerprint=fingerprint(complete))


def _device_name(device: torch.device) -> str:
    return torch.cuda.get_device_name(device) if device.type == "cuda" else "cpu"
