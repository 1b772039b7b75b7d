"""Runs a suite against a subject: propose, judge, write the letter; attack by attack, shard by shard."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from typing import Protocol

import torch
from torch import Tensor, nn

from bench.attack import reference
from bench.attack.judge import correct, survives
from bench.attack.probe import Probe, Record
from bench.attack.suites import SUITES, passes
from bench.dataset import Examples
from bench.errors import UsageError
from bench.model import Subject
from bench.progress import Event, Report
from bench.threat_model import ThreatModel
from bench.verdicts import LETTERS, MISCLASSIFIED, STANDING

SHARD = 200
"""Images attacked together. Part of the protocol, not a tuning knob: the reference draws its randomness per batch."""


class Propose(Protocol):
    """An attack engine: proposes adversarial images, of which the judge thinks what it likes."""

    def __call__(
        self,
        attack: str,
        model: nn.Module,
        images: Tensor,
        labels: Tensor,
        threat: ThreatModel,
        *,
        seed: int,
        n_classes: int,
    ) -> Tensor:
        """Return (N, C, H, W) proposals for (N, C, H, W) images."""
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


@dataclass(frozen=True, kw_only=True)
class Trial:
    """Who is attacked, on which images, within which limits.

    Attributes:
        subject: twin and deployed model.
        examples: the test images under attack.
        threat: what the adversary may do.
        n_classes: number of logits.
        seed: of every attack.
        device: where the twin is.
        propose: the attack engine.
    """

    subject: Subject
    examples: Examples
    threat: ThreatModel
    n_classes: int
    seed: int
    device: torch.device
    propose: Propose = reference.propose

    def __post_init__(self) -> None:
        if self.n_classes < 4:
            raise UsageError(f"Expected at least 4 classes (the targeted DLR loss needs 4), got {self.n_classes}.")
        if self.threat.norm == "L2" and min(self.examples.images.shape[2:]) < 5:
            raise UsageError("Expected images of at least 5×5 pixels: smaller ones have no room for Square under L2.")

    def batch(self, shard: list[int]) -> tuple[Tensor, Tensor]:
        """Return the chosen images, (n, C, H, W) in [0, 1], and their labels, on the device."""
        index = torch.tensor(shard)
        return self.examples.pixels(index).to(self.device), self.examples.labels[index].to(self.device)

    def shards(self, indices: list[int]) -> list[list[int]]:
        """Cut a list of images into what is attacked together."""
        return [indices[start : start + SHARD] for start in range(0, len(indices), SHARD)]


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


def run_suite(trial: Trial, suite: str, *, journal: Journal, report: Report) -> Outcome:
    """Attack every image with every attack of the suite until it falls.

    Guarantees:
        The judge alone decides; what an attack says of itself counts for nothing.
        An attack that crashes stops the evaluation: a failed attack must never read as a robust model.
    """
    letters = _clean_letters(trial)
    for attack, letter in zip(SUITES[suite], LETTERS, strict=False):
        standing = [i for i, old in enumerate(letters) if old == STANDING]
        for outcomes, seen in _attack(trial, attack, [i for i in standing if i not in journal.recall(attack)], report):
            journal.record(attack, outcomes, vars(seen))
        fallen = {i for i, survived in journal.recall(attack).items() if not survived}
        letters = [letter if old == STANDING and i in fallen else old for i, old in enumerate(letters)]
        report(Event(stage=attack, note=f"standing {letters.count(STANDING)}/{len(letters)}"))
    records = {attack: Record(**journal.seen(attack)) for attack in SUITES[suite]}
    return Outcome(attacks=SUITES[suite], letters="".join(letters), records=records)


def _clean_letters(trial: Trial) -> list[str]:
    shards = trial.shards(list(range(len(trial.examples))))
    right = torch.cat([correct(trial.subject.deployed, *trial.batch(shard)).cpu() for shard in shards])
    return [STANDING if ok else MISCLASSIFIED for ok in right.tolist()]


def _attack(trial: Trial, attack: str, images: list[int], report: Report) -> Iterator[tuple[dict[int, bool], Record]]:
    """Yield, shard after shard, image → survived and what the probe saw."""
    budget, finished, fallen = passes(attack, trial.n_classes).total, 0, 0

    def watch(record: Record) -> None:
        done = min(record.forward + record.backward, len(shard) * budget)
        note = f"{fallen} of {finished} fell" if finished else ""
        report(Event(stage=attack, done=finished * budget + done, total=len(images) * budget, note=note))

    for shard in trial.shards(images):
        originals, labels = trial.batch(shard)
        probe = Probe(trial.subject.twin, on_pass=watch)
        # The first image's number makes shards draw different squares, and the same ones after an interruption.
        seed = trial.seed + shard[0]
        proposals = trial.propose(attack, probe, originals, labels, trial.threat, seed=seed, n_classes=trial.n_classes)
        standing = survives(trial.subject, proposals, originals, labels, trial.threat).tolist()
        finished, fallen = finished + len(shard), fallen + standing.count(False)
        yield dict(zip(shard, standing, strict=True)), probe.record


def estimate_seconds(trial: Trial, suite: str) -> float:
    """Return how long the suite takes if every image survives everything: an upper bound, timed on one shard."""
    shard = list(range(min(SHARD, len(trial.examples))))
    images, _ = trial.batch(shard)
    twin = trial.subject.twin
    with torch.no_grad():
        forward = _seconds(lambda: twin(images).sum().item())
    both = _seconds(lambda: _input_gradient(twin, images))
    budgets = [passes(attack, trial.n_classes) for attack in SUITES[suite]]
    total = sum(budget.backward * both + (budget.forward - budget.backward) * forward for budget in budgets)
    return total * len(trial.examples) / len(shard)


def _input_gradient(model: nn.Module, images: Tensor) -> None:
    images = images.detach().requires_grad_()
    torch.autograd.grad(model(images).sum(), images)[0].sum().item()


def _seconds(work: Callable[[], object]) -> float:
    work()
    start = time.perf_counter()
    for _ in range(3):
        work()
    return (time.perf_counter() - start) / 3
