"""Adversarial training with one gradient step: FGSM from a random start (Wong et al., 2020), N-FGSM (de Jorge, 2022).

Both cost two passes an image instead of PGD's eight. Their danger is catastrophic overfitting: within an epoch the
network may learn to withstand one step only, and lose all robustness against ten.
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import TYPE_CHECKING, Literal

import torch
from torch import Tensor, nn

from bench.errors import UsageError
from bench.finetune.clean import cross_entropy
from bench.finetune.descent import Descent
from bench.finetune.loop import finetune
from bench.finetune.pgd import ascend, check_attack, cross_entropies, grown, noise
from bench.threat_model import ThreatModel

if TYPE_CHECKING:
    from bench.model import Subject
    from bench.recipe import Ingredients


@dataclass(frozen=True, kw_only=True)
class FinetuneFast(Descent):
    """The step `finetune-fast`: train on images moved by one gradient step from a random point.

    Attributes:
        kind: "random-start" starts inside the ball and stays there (Wong et al., 2020); "noise" starts in a ball twice
            as wide and is not clipped to the ball afterwards (N-FGSM, de Jorge et al., 2022), which overfits later.
        alpha: length of the step as a share of eps; None for the kind's own, 1.25 or 1.
        noise: radius of the random start as a share of eps; None for the kind's own, 1 or 2.
        ramp: share of the training during which eps grows from 0 to the track's.
        holdout: as for every step; 0 switches the guard against catastrophic overfitting off.
        on_collapse: what the guard does at the end of an epoch in which it happened: "restore" ends the training with
            the network of the last epoch before, "report" only says so.
    """

    kind: Literal["random-start", "noise"] = "random-start"
    alpha: float | None = None
    noise: float | None = None
    ramp: float = 0.1
    holdout: int = 512
    on_collapse: Literal["restore", "report"] = "restore"

    def __post_init__(self) -> None:
        super().__post_init__()
        check_attack(1, 1.0, self.ramp)
        for name in ("alpha", "noise"):
            if (value := getattr(self, name)) is not None and not 0 < value < math.inf:
                raise UsageError(f"expected {name} > 0, got {value}.")

    def __call__(self, subject: Subject, ingredients: Ingredients) -> Subject:
        """Return the subject with a fine-tuned twin."""

        def objective(model: nn.Module, images: Tensor, labels: Tensor, done: float) -> Tensor:
            ingredients.meter.passes(len(images), forward=2, backward=2)
            ball = grown(ingredients.threat, self.ramp, done)
            adversarial = self.move(model, images, labels, ball, ingredients.generator)
            return cross_entropy(model, adversarial, labels, smoothing=self.label_smoothing)

        return finetune(subject, ingredients, self, objective, "finetune-fast", restore=self.on_collapse == "restore")

    def move(
        self, model: nn.Module, images: Tensor, labels: Tensor, threat: ThreatModel, generator: torch.Generator
    ) -> Tensor:
        """Return the images to train on; those of "noise" may lie outside the ball, but not outside the box."""
        wide = self.kind == "noise"
        alpha, radius = self.alpha or (1.0 if wide else 1.25), self.noise or (2.0 if wide else 1.0)
        eps = float(threat.eps)

        def project(moved: Tensor) -> Tensor:
            return moved.clamp(0.0, 1.0) if wide else threat.project(moved, images)

        start = project(images + noise(images, threat, generator, radius * eps))
        return ascend(model, start, cross_entropies, labels, threat, project, steps=1, step_size=alpha * eps)
