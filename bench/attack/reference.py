"""The reference engine: the attacks of the `pyautoattack` package, seeded, one at a time (Croce & Hein, 2020)."""

from __future__ import annotations

import logging
from collections.abc import Iterator
from dataclasses import dataclass, field
from importlib import metadata
from typing import TYPE_CHECKING, Any, Protocol

import torch
from torch import Tensor, nn

from bench.attack.driver import BenchEngine
from bench.attack.judge import judge
from bench.attack.probe import Probe, Record
from bench.attack.suites import passes
from bench.errors import UsageError
from bench.progress import Event, Report
from bench.threat_model import ThreatModel
from bench.verdicts import AUTOATTACK

if TYPE_CHECKING:
    from bench.attack.engine import Trial

NAME = f"pyautoattack {metadata.version('pyautoattack')}"
SHARD = 200
"""Images attacked together. Part of the protocol, not a tuning knob: the reference draws its randomness per batch."""


class Propose(Protocol):
    """Proposes adversarial images for a batch, of which the judge thinks what it likes."""

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


def propose(
    attack: str, model: nn.Module, images: Tensor, labels: Tensor, threat: ThreatModel, *, seed: int, n_classes: int
) -> Tensor:
    """Run one attack of AutoAttack standard on a batch the model classifies correctly.

    Args:
        attack: "apgd-ce", "apgd-t", "fab-t" or "square".
        model: maps [0, 1] to logits and lets gradients through.
        images: (N, C, H, W) in [0, 1].
        labels: (N,) true classes.
        threat: norm and eps.
        seed: of the attack's random starts and squares.
        n_classes: K; targeted attacks aim at min(9, K − 1) classes.

    Returns:
        (N, C, H, W) proposals; for an image that APGD could not break, the point of highest loss.
    """
    # The package draws from the global generators after seeding them; the caller's randomness is not its business.
    with torch.random.fork_rng(devices=range(torch.cuda.device_count())):
        attacker = _attacker(attack, model, threat, seed=seed, n_classes=n_classes, device=images.device)
        runs = _remember_runs(attacker) if attack.startswith("apgd") else []
        proposals: Tensor = attacker.perturb(images.clone(), labels.clone()).detach()
    if runs:
        # Every image that still stands took part in the first run, which aims at the likeliest other class.
        for image, strongest in zip(*runs[0], strict=True):
            proposals[(proposals == image).flatten(1).all(1)] = strongest
    return proposals


def _remember_runs(attacker: Any) -> list[tuple[Tensor, Tensor]]:
    """Keep what each APGD run begins with, the images, and what it ends with, the points of highest loss.

    The package hands back the clean image where it did not fool the network it was given. The deployed model may well
    fall at the point where its twin barely stood; the judge can only find out if it is shown that point.
    """
    runs: list[tuple[Tensor, Tensor]] = []
    single_run = attacker.attack_single_run

    def remembering(*arguments: Any, **options: Any) -> Any:
        result = single_run(*arguments, **options)
        runs.append((arguments[0].detach(), result[0].detach()))
        return result

    attacker.attack_single_run = remembering
    return runs


def _attacker(
    attack: str, model: nn.Module, threat: ThreatModel, *, seed: int, n_classes: int, device: torch.device
) -> Any:
    from pyautoattack import AutoAttack

    suite = AutoAttack(model, norm=threat.norm, eps=float(threat.eps), seed=seed, version="standard", device=device)
    suite.logger.setLevel(logging.ERROR)
    targets = min(9, n_classes - 1)
    suite.apgd.loss = "ce"
    suite.fab.targeted = True
    suite.apgd_targeted.n_target_classes = suite.fab.n_target_classes = targets
    return {
        "apgd-ce": suite.apgd,
        "apgd-t": suite.apgd_targeted,
        "fab-t": suite.fab,
        "square": suite.square,
    }[attack]


@dataclass(frozen=True, kw_only=True)
class ReferenceEngine:
    """Attacks shard after shard, and lets the judge see one proposal for each image.

    Attributes:
        propose: the attacks.
        others: runs the attacks that the package does not have.
    """

    propose: Propose = propose
    others: BenchEngine = field(default_factory=BenchEngine)

    @property
    def name(self) -> str:
        """The package and its release."""
        return NAME

    def __call__(
        self, trial: Trial, attack: str, images: list[int], report: Report
    ) -> Iterator[tuple[dict[int, bool], Record]]:
        """Yield, shard after shard, image → survived and what the probe saw.

        Raises:
            UsageError: fewer classes than the package's targeted loss needs.
        """
        if attack not in AUTOATTACK:
            yield from self.others(trial, attack, images, report)
            return
        if trial.n_classes < 4:
            raise UsageError(
                f"Expected at least 4 classes for the reference's targeted loss, got {trial.n_classes}; "
                "the bench engine (--engine bench) takes 2 and more."
            )
        budget, finished, fallen = passes(attack, trial.n_classes).total, 0, 0

        def watch(record: Record) -> None:
            done = min(record.forward + record.backward, len(shard) * budget)
            report(Event(stage=attack, done=finished * budget + done, total=len(images) * budget, fallen=fallen))

        for shard in (images[start : start + SHARD] for start in range(0, len(images), SHARD)):
            originals, labels = trial.batch(shard)
            probe = Probe(trial.subject.twin, on_pass=watch)
            # The first image's number makes shards draw different squares, and the same ones after an interruption.
            seed = trial.seed + shard[0]
            proposals = self.propose(
                attack, probe, originals, labels, trial.threat, seed=seed, n_classes=trial.n_classes
            )
            judgement = judge(trial.subject, proposals, originals, labels, trial.threat)
            standing = judgement.standing.tolist()
            if trial.album is not None:
                trial.album.take(torch.tensor(shard)[~judgement.standing.cpu()], judgement.images[~judgement.standing])
            finished, fallen = finished + len(shard), fallen + standing.count(False)
            probe.record.judged, probe.record.disagreed = len(shard), int(judgement.disagreed.sum())
            yield dict(zip(shard, standing, strict=True)), probe.record
