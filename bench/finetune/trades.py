"""TRADES (Zhang et al., 2019): a clean loss, and a price on how far the prediction can be moved from there."""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import TYPE_CHECKING

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from bench.errors import UsageError
from bench.finetune.descent import Descent
from bench.finetune.loop import finetune
from bench.finetune.pgd import attacked, check_attack, grown, logits_of, pgd_on_divergence

if TYPE_CHECKING:
    from bench.model import Subject
    from bench.recipe import Ingredients


@dataclass(frozen=True, kw_only=True)
class FinetuneTrades(Descent):
    """The step `finetune-trades`: cross-entropy(f(x), y) + beta · KL(f(x) ‖ f(x′)).

    x′ maximises that divergence inside the ball, found through the compressed network itself.

    Attributes:
        beta: price of the divergence: more of it buys robust accuracy with clean accuracy.
        attack_steps: steps of the inner maximisation.
        step_ratio: length of such a step as a share of eps.
        ramp: share of the training during which eps grows from 0 to the track's.
    """

    beta: float = 6.0
    attack_steps: int = 10
    step_ratio: float = 0.25
    ramp: float = 0.1

    def __post_init__(self) -> None:
        super().__post_init__()
        check_attack(self.attack_steps, self.step_ratio, self.ramp)
        if not 0 < self.beta < math.inf:
            raise UsageError(f"expected beta > 0, got {self.beta}.")

    def __call__(self, subject: Subject, ingredients: Ingredients) -> Subject:
        """Return the subject with a fine-tuned twin."""

        def objective(model: nn.Module, images: Tensor, labels: Tensor, done: float) -> Tensor:
            ingredients.meter.passes(len(images), forward=self.attack_steps + 3, backward=self.attack_steps + 2)
            ball = grown(ingredients.threat, self.ramp, done)
            with attacked(model), torch.no_grad():
                believed = logits_of(model, images).softmax(1)
            adversarial = pgd_on_divergence(
                model,
                images,
                believed,
                ball,
                steps=self.attack_steps,
                step_size=self.step_ratio * float(ball.eps),
                generator=ingredients.generator,
            )
            clean, moved = logits_of(model, images), logits_of(model, adversarial)
            divergence = F.kl_div(moved.log_softmax(1), clean.log_softmax(1), log_target=True, reduction="batchmean")
            return F.cross_entropy(clean, labels, label_smoothing=self.label_smoothing) + self.beta * divergence

        return finetune(subject, ingredients, self, objective, "finetune-trades")
