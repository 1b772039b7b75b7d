"""Runs a suite against a subject: propose, judge, write the letter; image by image, shard by shard."""

from __future__ import annotations

import time
from collections.abc import Callable
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

Propose = Callable[..., Tensor]


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


def run_suite(
    subject: Subject,
    examples: Examples,
    threat: ThreatModel,
    *,
    suite: str,
    seed: int,
    n_classes: int,
    device: torch.device,
    journal: Journal,
    report: Report,
    propose: Propose = reference.propose,
) -> Outcome:
    """Attack every image with every attack of the suite until it falls.

    Guarantees:
        The judge alone decides; what an attack says of itself counts for nothing.
        An attack that crashes stops the evaluation: a failed attack must never read as a robust model.

    Raises:
        UsageError: fewer than four classes, for which AutoAttack's targeted loss is not defined.
    """
    if n_classes < 4:
        raise UsageError(f"Expected at least 4 classes (the targeted DLR loss needs 4 logits), got {n_classes}.")
    letters = _clean_letters(subject, examples, device)
    attacks = SUITES[suite]
    records: dict[str, Record] = {}
    for number, attack in enumerate(attacks):
        known = journal.recall(attack)
        standing = [i for i, letter in enumerate(letters) if letter == STANDING]
        for shard in _shards([i for i in standing if i not in known]):
            watch = _watcher(report, attack, standing=letters.count(STANDING), shard=len(shard), n_classes=n_classes)
            outcomes, seen = _attack_shard(
                subject, examples, shard, attack, threat,
                seed=seed, n_classes=n_classes, device=device, propose=propose, watch=watch,
            )  # fmt: skip
            journal.record(attack, outcomes, vars(seen))
            known |= outcomes
            letters = _write(letters, known, LETTERS[number])
        letters = _write(letters, known, LETTERS[number])
        records[attack] = Record(**journal.seen(attack))
        report(Event(stage=attack, note=f"standing {letters.count(STANDING)}/{len(letters)}"))
    return Outcome(attacks=attacks, letters="".join(letters), records=records)


def _clean_letters(subject: Subject, examples: Examples, device: torch.device) -> list[str]:
    right = []
    for shard in _shards(list(range(len(examples)))):
        images, labels = _batch(examples, shard, device)
        right.append(correct(subject.deployed, images, labels).cpu())
    return [STANDING if ok else MISCLASSIFIED for ok in torch.cat(right).tolist()]


def _attack_shard(
    subject: Subject,
    examples: Examples,
    shard: list[int],
    attack: str,
    threat: ThreatModel,
    *,
    seed: int,
    n_classes: int,
    device: torch.device,
    propose: Propose,
    watch: Callable[[Record], None],
) -> tuple[dict[int, bool], Record]:
    images, labels = _batch(examples, shard, device)
    probe = Probe(subject.twin, on_pass=watch)
    # The first image's number makes shards draw different squares, and the same ones again after an interruption.
    proposals = propose(attack, probe, images, labels, threat, seed=seed + shard[0], n_classes=n_classes)
    standing = survives(subject, proposals, images, labels, threat)
    return dict(zip(shard, standing.tolist(), strict=True)), probe.record


def _batch(examples: Examples, shard: list[int], device: torch.device) -> tuple[Tensor, Tensor]:
    index = torch.tensor(shard)
    return examples.pixels(index).to(device), examples.labels[index].to(device)


def _shards(indices: list[int]) -> list[list[int]]:
    return [indices[start : start + SHARD] for start in range(0, len(indices), SHARD)]


def _write(letters: list[str], outcomes: dict[int, bool], letter: str) -> list[str]:
    return [letter if old == STANDING and outcomes.get(i, True) is False else old for i, old in enumerate(letters)]


def _watcher(report: Report, attack: str, *, standing: int, shard: int, n_classes: int) -> Callable[[Record], None]:
    """Turn the probe's counts into progress: passes done, of those the shard needs if every image survives."""
    budget = passes(attack, n_classes)
    total = shard * (budget.forward + budget.backward)

    def watch(record: Record) -> None:
        done = min(record.forward + record.backward, total)
        report(Event(stage=attack, done=done, total=total, note=f"standing {standing}"))

    return watch


def estimate_seconds(
    model: nn.Module, examples: Examples, *, suite: str, n_classes: int, device: torch.device
) -> float:
    """Return how long the suite takes if every image survives everything: an upper bound, timed on one shard."""
    images, _ = _batch(examples, list(range(min(SHARD, len(examples)))), device)
    forward = _seconds(lambda: model(images))
    both = _seconds(lambda: _input_gradient(model, images))
    total = 0.0
    for attack in SUITES[suite]:
        budget = passes(attack, n_classes)
        total += budget.backward * both + (budget.forward - budget.backward) * forward
    return total * len(examples) / len(images)


def _input_gradient(model: nn.Module, images: Tensor) -> None:
    images = images.detach().requires_grad_()
    torch.autograd.grad(model(images).sum(), images)[0].flatten()[0].item()


def _seconds(work: Callable[[], object]) -> float:
    work()
    start = time.perf_counter()
    for _ in range(3):
        work()
    return (time.perf_counter() - start) / 3
