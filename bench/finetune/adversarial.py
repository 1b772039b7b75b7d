"""Adversarial fine-tuning: PGD adversarial training (Madry et al., 2018) continued on the compressed model."""

from __future__ import annotations

import math
from dataclasses import dataclass
from fractions import Fraction
from typing import TYPE_CHECKING

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from bench.errors import UsageError
from bench.finetune.clean import cross_entropy
from bench.finetune.loop import Descent, finetune
from bench.threat_model import ThreatModel

if TYPE_CHECKING:
    from bench.model import Subject
    from bench.recipe import Ingredients


def pgd(
    model: nn.Module,
    images: Tensor,
    labels: Tensor,
    threat: ThreatModel,
    *,
    steps: int,
    step_size: float,
    generator: torch.Generator | None,
) -> Tensor:
    """Return adversarial images by projected gradient ascent on the cross-entropy (Madry et al., 2018).

    The model is attacked in evaluation mode, so that its batch-norm statistics neither move nor depend on the attack.

    Args:
        model: maps [0, 1] to logits.
        images: (N, C, H, W) in [0, 1].
        labels: (N,) true classes.
        threat: norm and eps.
        steps: gradient steps.
        step_size: length of a step in the threat's norm, units of [0, 1].
        generator: of the random start, on the CPU; None starts at the image itself.
    """
    mode = model.training
    model.eval()
    adversarial = images if generator is None else threat.project(images + _start(images, threat, generator), images)
    for _ in range(steps):
        adversarial = adversarial.detach().requires_grad_()
        loss = F.cross_entropy(model(adversarial), labels, reduction="sum")
        (gradient,) = torch.autograd.grad(loss, adversarial)
        adversarial = threat.project(adversarial.detach() + step_size * _direction(gradient, threat), images)
    model.train(mode)
    return adversarial.detach()


def _start(images: Tensor, threat: ThreatModel, generator: torch.Generator) -> Tensor:
    noise = torch.rand(images.shape, generator=generator).to(images) * 2 - 1
    if threat.norm == "Linf":
        return noise * float(threat.eps)
    return noise * (float(threat.eps) / threat.size(noise).clamp_min(1e-12))


def _direction(gradient: Tensor, threat: ThreatModel) -> Tensor:
    """Return the steepest ascent direction of unit length in the threat's norm."""
    if threat.norm == "Linf":
        return gradient.sign()
    return gradient / threat.size(gradient).clamp_min(1e-12)


@dataclass(frozen=True, kw_only=True)
class FinetuneAdversarial(Descent):
    """The step `finetune-adversarial`: train on PGD's images, found through the compressed network itself.

    Attributes:
        attack_steps: PGD steps for each batch.
        step_ratio: length of a PGD step as a share of eps (Madry et al.: 2/255 at eps 8/255).
        random_start: whether PGD starts at a random point of the ball.
        ramp: share of the training during which eps grows from 0 to the track's. A network that has only seen clean
            images meets a huge loss at full eps, and one without batch-norm may answer it by going constant.
    """

    attack_steps: int = 7
    step_ratio: float = 0.25
    random_start: bool = True
    ramp: float = 0.1

    def __post_init__(self) -> None:
        super().__post_init__()
        if self.attack_steps < 1 or not 0 < self.step_ratio < math.inf:
            raise UsageError("expected attack_steps ≥ 1 and step_ratio > 0.")
        if not 0 <= self.ramp <= 1:
            raise UsageError(f"expected ramp from 0 to 1, got {self.ramp}.")

    def __call__(self, subject: Subject, ingredients: Ingredients) -> Subject:
        """Return the subject with a fine-tuned twin."""
        threat, meter = ingredients.threat, ingredients.meter

        def objective(model: nn.Module, images: Tensor, labels: Tensor, done: float) -> Tensor:
            share = min(1.0, max(0.01, done / self.ramp)) if self.ramp else 1.0
            ball = ThreatModel(norm=threat.norm, eps=threat.eps * Fraction(share))
            meter.forward += len(images) * (self.attack_steps + 1)
            meter.backward += len(images) * (self.attack_steps + 1)
            adversarial = pgd(
                model,
                images,
                labels,
                ball,
                steps=self.attack_steps,
                step_size=self.step_ratio * float(ball.eps),
                generator=ingredients.generator if self.random_start else None,
            )
            return cross_entropy(model, adversarial, labels)

        return finetune(subject, ingredients, self, objective, "finetune-adversarial")
