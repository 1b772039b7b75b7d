"""Clean fine-tuning: go on training the compressed model on the images as they are."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

from torch import Tensor, nn
from torch.nn import functional as F

from bench.finetune.descent import Descent
from bench.finetune.loop import finetune
from bench.finetune.pgd import logits_of

if TYPE_CHECKING:
    from bench.model import Subject
    from bench.recipe import Ingredients


def cross_entropy(
    model: nn.Module, images: Tensor, labels: Tensor, done: float = 0.0, *, smoothing: float = 0.0
) -> Tensor:
    """Return the mean cross-entropy of a batch; the share of the training done does not matter to it."""
    return F.cross_entropy(logits_of(model, images), labels, label_smoothing=smoothing)


@dataclass(frozen=True, kw_only=True)
class FinetuneClean(Descent):
    """The step `finetune-clean`: minimise cross-entropy on clean training images, through the compressed network."""

    def __call__(self, subject: Subject, ingredients: Ingredients) -> Subject:
        """Return the subject with a fine-tuned twin."""

        def objective(model: nn.Module, images: Tensor, labels: Tensor, done: float) -> Tensor:
            ingredients.meter.passes(len(images), forward=1, backward=1)
            return cross_entropy(model, images, labels, done, smoothing=self.label_smoothing)

        return finetune(subject, ingredients, self, objective, "finetune-clean", by="clean")
