"""MART (Wang et al., 2020): adversarial training that presses hardest where the clean prediction is wrong."""

from __future__ import annotations

import math
from dataclasses import dataclass

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from bench.errors import UsageError
from bench.finetune.descent import Descent
from bench.finetune.loop import finetune
from bench.finetune.pgd import check_attack, grown, logits_of, pgd
from bench.model import Subject
from bench.recipe import Ingredients


@dataclass(frozen=True, kw_only=True)
class FinetuneMart(Descent):
    """BCE(f(x′), y) + beta · KL(f(x) ‖ f(x′)) · (1 − p_y(x)), with x′ from PGD through the compressed network itself.

    Attributes:
        beta: price of the divergence, which counts most for images that the network gets wrong (the paper: 5 or 6).
        attack_steps: PGD steps for each batch.
        step_ratio: length of such a step as a share of eps.
        ramp: share of the training during which eps grows from 0 to the track's.
    """

    beta: float = 5.0
    attack_steps: int = 7
    step_ratio: float = 0.25
    ramp: float = 0.1

    def __post_init__(self) -> None:
        """Refuse settings that no training can use."""
        super().__post_init__()
        check_attack(self.attack_steps, self.step_ratio, self.ramp)
        if not 0 <= self.beta < math.inf:
            raise UsageError(f"expected beta ≥ 0, got {self.beta}.")
        if self.label_smoothing:
            raise UsageError("MART has no label smoothing; leave label_smoothing out.")

    def __call__(self, subject: Subject, ingredients: Ingredients) -> Subject:
        """Return the subject with a fine-tuned twin."""

        def objective(model: nn.Module, images: Tensor, labels: Tensor, done: float) -> Tensor:
            # PGD's passes, then one of the clean images and one of the adversarial ones, which are trained on.
            passes = self.attack_steps + 2
            ingredients.meter.passes(len(images), forward=passes, backward=passes)
            ball = grown(ingredients.threat, self.ramp, done)
            adversarial = pgd(
                model,
                images,
                labels,
                ball,
                steps=self.attack_steps,
                step_size=self.step_ratio * float(ball.eps),
                generator=ingredients.generator,
            )
            return mart(logits_of(model, images), logits_of(model, adversarial), labels, self.beta)

        return finetune(subject, ingredients, self, objective, "mart-w8a8/finetune-mart")


def mart(clean: Tensor, moved: Tensor, labels: Tensor, beta: float) -> Tensor:
    """Return the loss of a batch from the logits of its clean and its adversarial images, (N, K) each."""
    log_clean, log_moved = clean.log_softmax(1), moved.log_softmax(1)
    right = F.one_hot(labels, clean.shape[1]).bool()
    rival = log_moved.masked_fill(right, -math.inf).amax(1).exp()
    # Boosted cross-entropy: a margin from the likeliest wrong class on top; finite even where that class is certain.
    boosted = F.nll_loss(log_moved, labels) - torch.log(1.0001 - rival).mean()
    doubt = 1 - log_clean[right].exp()
    divergence = F.kl_div(log_moved, log_clean, log_target=True, reduction="none").sum(1)
    return boosted + beta * (divergence * doubt).mean()


STEPS = {"finetune-mart": FinetuneMart}
