"""Adversarial fine-tuning: PGD adversarial training (Madry et al., 2018) continued on the compressed model."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

from torch import Tensor, nn

from bench.finetune.clean import cross_entropy
from bench.finetune.descent import Descent
from bench.finetune.loop import finetune
from bench.finetune.pgd import check_attack, grown, pgd

if TYPE_CHECKING:
    from bench.model import Subject
    from bench.recipe import Ingredients


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
        check_attack(self.attack_steps, self.step_ratio, self.ramp)

    def __call__(self, subject: Subject, ingredients: Ingredients) -> Subject:
        """Return the subject with a fine-tuned twin."""

        def objective(model: nn.Module, images: Tensor, labels: Tensor, done: float) -> Tensor:
            ingredients.meter.passes(len(images), forward=self.attack_steps + 1, backward=self.attack_steps + 1)
            ball = grown(ingredients.threat, self.ramp, done)
            adversarial = pgd(
                model,
                images,
                labels,
                ball,
                steps=self.attack_steps,
                step_size=self.step_ratio * float(ball.eps),
                generator=ingredients.generator if self.random_start else None,
            )
            return cross_entropy(model, adversarial, labels, smoothing=self.label_smoothing)

        return finetune(subject, ingredients, self, objective, "finetune-adversarial")
