"""Robust soft-label distillation (RSLAD, Zi et al., 2021): a robust teacher's probabilities instead of labels.

This needs a robust teacher: the network before compression, so a robust parent, or recipes such as `advft-prune50-
distill`, whose teacher is the parent as `advft` left it. Soft labels of a standard network teach no robustness.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from bench.errors import UsageError
from bench.finetune.descent import Descent
from bench.finetune.loop import finetune
from bench.finetune.pgd import check_attack, grown, logits_of, pgd_on_divergence
from bench.finetune.watch import PGD_STEPS, check
from bench.progress import Event

if TYPE_CHECKING:
    from bench.model import Subject
    from bench.recipe import Ingredients

_ASKED = 256


@dataclass(frozen=True, kw_only=True)
class FinetuneDistill(Descent):
    """The step `finetune-distill`: (1 − share) · KL(T(x) ‖ S(x)) + share · KL(T(x) ‖ S(x′)).

    T is the teacher (the network before compression), S the compressed one, and x′ maximises the second divergence
    inside the ball, found through S. Labels are not used.

    Attributes:
        adversarial_share: weight of the second term.
        attack_steps: steps of the inner maximisation.
        step_ratio: length of such a step as a share of eps.
        ramp: share of the training during which eps grows from 0 to the track's.
    """

    adversarial_share: float = 5 / 6
    attack_steps: int = 10
    step_ratio: float = 0.25
    ramp: float = 0.1

    def __post_init__(self) -> None:
        super().__post_init__()
        check_attack(self.attack_steps, self.step_ratio, self.ramp)
        if not 0 < self.adversarial_share <= 1:
            raise UsageError(f"expected 0 < adversarial_share ≤ 1, got {self.adversarial_share}.")
        if self.label_smoothing:
            raise UsageError("expected no label_smoothing: the teacher's probabilities stand in for labels.")

    def __call__(self, subject: Subject, ingredients: Ingredients) -> Subject:
        """Return the subject with a fine-tuned twin."""
        teacher = subject.teacher
        question_teacher(teacher, ingredients)

        def objective(model: nn.Module, images: Tensor, labels: Tensor, done: float) -> Tensor:
            ingredients.meter.passes(len(images), forward=self.attack_steps + 3, backward=self.attack_steps + 2)
            ball = grown(ingredients.threat, self.ramp, done)
            with torch.no_grad():
                taught = logits_of(teacher, images).softmax(1)
            adversarial = pgd_on_divergence(
                model,
                images,
                taught,
                ball,
                steps=self.attack_steps,
                step_size=self.step_ratio * float(ball.eps),
                generator=ingredients.generator,
            )
            clean, moved = (logits_of(model, seen).log_softmax(1) for seen in (images, adversarial))
            on_clean = F.kl_div(clean, taught, reduction="batchmean")
            on_moved = F.kl_div(moved, taught, reduction="batchmean")
            return (1 - self.adversarial_share) * on_clean + self.adversarial_share * on_moved

        return finetune(subject, ingredients, self, objective, "finetune-distill")


def question_teacher(teacher: nn.Module, ingredients: Ingredients) -> None:
    """Say how robust the teacher is on a few training images: a standard network makes a poor one."""
    examples = ingredients.train.first(_ASKED).to(ingredients.device)
    seen = check(teacher, examples, ingredients.threat, ingredients.meter)
    note = f"teacher: clean {seen.clean:.1%}, PGD-{PGD_STEPS} {seen.robust:.1%} of {len(examples)} training images"
    warning = "; it is not robust, and cannot teach it" if seen.robust < 0.25 * seen.clean else ""
    ingredients.report(Event(stage="finetune-distill", note=note + warning))
