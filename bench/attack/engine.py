"""Runs a suite against a subject: attack by attack, and a letter for each image."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field, replace
from typing import Protocol

import torch
from torch import Tensor

from bench.attack.capacity import Capacity, in_parts
from bench.attack.driver import BenchEngine
from bench.attack.guides import guide
from bench.attack.judge import correct
from bench.attack.probe import Record
from bench.attack.suites import SQUARE_AGAIN, SUITES, passes, too_late
from bench.dataset import Examples
from bench.errors import MissingError, UsageError
from bench.model import Classifier, Subject
from bench.progress import Event, Report
from bench.threat_model import ThreatModel
from bench.verdicts import LETTERS, MISCLASSIFIED, STANDING

TOGETHER = 200
"""Images in one pass, where nothing depends on how many they are."""
TIMED = {"cpu": 32, "cuda": 200}
"""Images in the passes that are timed for an estimate, by device."""


class Engine(Protocol):
    """Attacks images and has them judged; what an attack says of itself counts for nothing."""

    @property
    def name(self) -> str:
        """What an entry remembers of the engine; another name means that verdicts may differ."""
        ...

    def __call__(
        self, trial: Trial, attack: str, images: list[int], report: Report
    ) -> Iterator[tuple[dict[int, bool], Record]]:
        """Yield, part after part, image → survived and what was seen while these images were attacked."""
        ...


class Journal(Protocol):
    """Remembers what was judged, so that an interrupted attack goes on where it stopped."""

    def recall(self, attack: str) -> dict[int, bool]:
        """Return image → survived for every image this attack has been judged on."""
        ...

    def record(self, attack: str, outcomes: dict[int, bool], seen: dict[str, int]) -> None:
        """Add a finished shard: its outcomes, and what the probe counted."""
        ...

    def seen(self, attack: str) -> dict[str, int]:
        """Return what the probe counted over all recorded shards of an attack."""
        ...


class Album(Protocol):
    """Keeps the images that decided a verdict, so that anybody can have them judged again."""

    def take(self, numbers: Tensor, images: Tensor) -> None:
        """Hold images that were shown and fooled, (n, C, H, W), of the test images `numbers`, (n,)."""
        ...

    def save(self, attack: str) -> None:
        """Put away what was taken during an attack: its outcomes are about to be recorded."""
        ...

    def holds(self, attack: str) -> set[int]:
        """Return the numbers of the images put away during an attack."""
        ...


@dataclass(frozen=True, kw_only=True)
class Trial:
    """Who is attacked, on which images, within which limits.

    Attributes:
        subject: twin and deployed model, and where `further` attacks are to come from them, parent and surrogate.
        examples: the test images under attack.
        threat: what the adversary may do.
        n_classes: number of logits.
        seed: of every attack.
        device: where the twin is.
        engine: who attacks.
        album: keeps the images that fooled; None to keep none.
    """

    subject: Subject
    examples: Examples
    threat: ThreatModel
    n_classes: int
    seed: int
    device: torch.device
    engine: Engine = field(default_factory=BenchEngine)
    album: Album | None = None

    def __post_init__(self) -> None:
        if self.n_classes < 2:
            raise UsageError(f"Expected at least 2 classes, got {self.n_classes}.")
        if self.threat.norm == "L2" and min(self.examples.images.shape[2:]) < 5:
            raise UsageError("Expected images of at least 5×5 pixels: smaller ones have no room for Square under L2.")

    def batch(self, shard: list[int]) -> tuple[Tensor, Tensor]:
        """Return the chosen images, (n, C, H, W) in [0, 1], and their labels, on the device."""
        index = torch.tensor(shard, dtype=torch.int64)
        return self.examples.pixels(index).to(self.device), self.examples.labels[index].to(self.device)


@dataclass(frozen=True, kw_only=True)
class Outcome:
    """What a suite did to a subject.

    Attributes:
        attacks: the attacks that ran, in order.
        letters: one letter per image, as `Verdicts` defines them.
        records: what the probe saw, per attack.
    """

    attacks: tuple[str, ...]
    letters: str
    records: dict[str, Record] = field(default_factory=dict)


def run_suite(trial: Trial, suite: str, *, further: tuple[str, ...] = (), journal: Journal, report: Report) -> Outcome:
    """Attack every image with every attack of the suite, then with further ones, until it falls.

    A subject of whose images Square brought down too many (`too_late`) then faces further runs of it.

    Guarantees:
        The judge alone decides; what an attack says of itself counts for nothing.
        An attack that crashes stops the evaluation: a failed attack must never read as a robust model.
    """
    attacks, letters = list[str](), _clean_letters(trial)

    def face(these: tuple[str, ...]) -> None:
        for attack in these:
            letter = LETTERS[len(attacks)]
            fallen = _face(trial, attack, letters, journal, report)
            letters[:] = [letter if i in fallen else old for i, old in enumerate(letters)]
            attacks.append(attack)
            report(Event(stage=attack, note=f"standing {letters.count(STANDING)}/{len(letters)}"))

    face(SUITES[suite] + further)
    # Where random squares find what every gradient missed, other random squares find more of it.
    if "square" in attacks and too_late(letters.count(LETTERS[attacks.index("square")]), len(letters)):
        face(SQUARE_AGAIN)
    records = {attack: Record(**journal.seen(attack)) for attack in attacks}
    return Outcome(attacks=tuple(attacks), letters="".join(letters), records=records)


def _face(trial: Trial, attack: str, letters: list[str], journal: Journal, report: Report) -> set[int]:
    """Run one attack on the images that stand, as far as the journal does not know; return those that fall."""
    standing = [i for i, old in enumerate(letters) if old == STANDING]
    known = journal.recall(attack)
    todo = [i for i in standing if i not in known]
    watch = _counting(report, standing=len(standing), of=len(letters), todo=len(todo))
    _attack(trial, attack, todo, journal, watch)
    if trial.album is not None:
        # What an interrupted run brought down while nobody kept the images is brought down again, and counted once.
        kept = trial.album.holds(attack)
        if lost := [i for i in standing if not journal.recall(attack)[i] and i not in kept]:
            _attack(trial, attack, lost, journal, report, counted=False)
            kept = trial.album.holds(attack)
            if gone := [i for i in lost if i not in kept]:
                raise MissingError(
                    f"Expected the images of {len(lost)} that fell to {attack} before they were to be kept, got "
                    f"{len(lost) - len(gone)}: this engine does not find them again; start afresh with --fresh."
                )
    survived = journal.recall(attack)
    return {i for i in standing if not survived[i]}


def _attack(
    trial: Trial, attack: str, images: list[int], journal: Journal, report: Report, *, counted: bool = True
) -> None:
    for outcomes, seen in trial.engine(trial, attack, images, report):
        if trial.album is not None:
            trial.album.save(attack)  # first the images: whatever is on record has its own
        journal.record(attack, outcomes, vars(seen) if counted else {})


def _counting(report: Report, *, standing: int, of: int, todo: int) -> Report:
    """Return a report that adds to an engine's events how many images stand, and how many it gets through a second."""
    began = time.monotonic()

    def tell(event: Event) -> None:
        through = todo * event.done / event.total if event.total else 0.0
        rate = through / max(time.monotonic() - began, 1e-3)
        report(replace(event, note=f"standing {standing - event.fallen}/{of}, {rate:.3g} images/s"))

    return tell


def _clean_letters(trial: Trial) -> list[str]:
    every = list(range(len(trial.examples)))
    parts = [every[start : start + TOGETHER] for start in range(0, len(every), TOGETHER)]
    right = torch.cat([correct(trial.subject.deployed, *trial.batch(part)).cpu() for part in parts])
    return [STANDING if ok else MISCLASSIFIED for ok in right.tolist()]


def estimate_seconds(trial: Trial, suite: str, *, further: tuple[str, ...] = ()) -> float:
    """Return how long the attacks take if every image survives everything: an upper bound, timed on a few images."""
    images, _ = trial.batch(list(range(min(TIMED[trial.device.type], len(trial.examples)))))

    def ask(part: slice) -> tuple[Tensor]:
        some = images[part]
        return (torch.full((len(some),), _seconds_to_survive(trial, SUITES[suite] + further, some) / len(some)),)

    (each,) = in_parts(len(images), ask, Capacity())
    return float(each.mean()) * len(trial.examples)


def _seconds_to_survive(trial: Trial, attacks: tuple[str, ...], images: Tensor) -> float:
    """Return how long the attacks take on images that all survive."""
    subject = trial.subject

    @torch.no_grad()
    def forward(network: Classifier) -> float:
        return _seconds(lambda: network(images).sum().item())

    def both(network: Classifier) -> float:
        return _seconds(lambda: _input_gradient(network, images))

    twin, differentiated = forward(subject.twin), both(subject.twin)
    deployed = twin if subject.deployed is subject.twin else forward(subject.deployed)
    total = 0.0
    for attack in attacks:
        budget, asked = passes(attack, trial.n_classes), guide(attack, subject)
        # What a foreign guide does not differentiate is what the judge is shown, and puts to twin and deployed model.
        alone = twin + deployed if asked.foreign else deployed if asked.ask is subject.deployed else twin
        gradient = both(asked.ask) if asked.foreign else differentiated
        total += budget.backward * gradient + (budget.forward - budget.backward) * alone
    return total


def _input_gradient(model: Classifier, images: Tensor) -> None:
    images = images.detach().requires_grad_()
    total = model(images).sum()
    if total.requires_grad:  # an alarm says so where it does not
        torch.autograd.grad(total, images, materialize_grads=True)[0].sum().item()


def _seconds(work: Callable[[], object]) -> float:
    start = time.perf_counter()
    work()
    if (first := time.perf_counter() - start) > 1:  # what a first call sets up does not show beside a whole second
        return first
    start = time.perf_counter()
    for _ in range(3):
        work()
    return (time.perf_counter() - start) / 3
