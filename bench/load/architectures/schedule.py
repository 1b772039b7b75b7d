"""How a small network is trained from scratch."""

from __future__ import annotations

from dataclasses import dataclass

from bench.errors import UsageError


@dataclass(frozen=True, kw_only=True)
class Schedule:
    """Settings of the one training run behind `bench:NAME`; part of the key under which its result is cached.

    Attributes:
        epochs: passes over the training images.
        learning_rate: Adam's largest step size.
        batch_size: images a step.
        weight_decay: decoupled weight decay.
        seed: of the initial weights; the caller's training draws its order of images from it too.
        adversarial: whether it learns from N-FGSM's images (de Jorge et al., 2022) within the track's threat model.
    """

    epochs: int
    learning_rate: float
    batch_size: int
    weight_decay: float = 5e-4
    seed: int = 0
    adversarial: bool = False

    def __post_init__(self) -> None:
        if self.epochs < 0 or self.batch_size < 1 or not self.learning_rate > 0 or self.weight_decay < 0:
            raise UsageError(f"Expected epochs ≥ 0, batch_size ≥ 1, learning_rate > 0, weight_decay ≥ 0, got {self}.")

    @property
    def passes(self) -> int:
        """Passes forward and backward for each training image; N-FGSM adds one of each to the training's own."""
        return self.epochs * (4 if self.adversarial else 2)
