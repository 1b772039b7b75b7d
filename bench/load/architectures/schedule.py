"""How a small network is trained from scratch."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

from bench.errors import UsageError


@dataclass(frozen=True, kw_only=True)
class Schedule:
    """Settings of the one training run behind `bench:NAME`; part of the key under which its result is cached.

    Attributes:
        epochs: passes over the training images.
        learning_rate: the largest step size.
        batch_size: images a step.
        weight_decay: decoupled for "adamw".
        seed: of the initial weights; the caller's training draws its order of images from it too.
        adversarial: whether it learns from adversarial images within the track's threat model.
        attack_steps: of PGD (Madry et al., 2018), which finds them; 0 for N-FGSM (de Jorge et al., 2022), a fourth of
            the passes of PGD-7.
        step_ratio: length of one of these steps as a share of eps.
        optimizer: "adamw" or "sgd" with momentum 0.9.
        crop: pixels by which images are padded before a random crop; 0 for none.
        flip: whether every other image is mirrored.
        precision: "bf16" computes in bfloat16 where PyTorch's autocast deems it safe; "float32" multiplies in
            TensorFloat-32 on CUDA.
    """

    epochs: int
    learning_rate: float
    batch_size: int
    weight_decay: float = 5e-4
    seed: int = 0
    adversarial: bool = False
    attack_steps: int = 0
    step_ratio: float = 0.25
    optimizer: Literal["adamw", "sgd"] = "adamw"
    crop: int = 0
    flip: bool = False
    precision: Literal["float32", "bf16"] = "float32"

    def __post_init__(self) -> None:
        if self.epochs < 0 or self.batch_size < 1 or not self.learning_rate > 0 or self.weight_decay < 0:
            raise UsageError(f"Expected epochs ≥ 0, batch_size ≥ 1, learning_rate > 0, weight_decay ≥ 0, got {self}.")
        if not self.step_ratio > 0:
            raise UsageError(f"Expected step_ratio > 0, got {self}.")
        if self.attack_steps < 0 or (self.attack_steps and not self.adversarial):
            raise UsageError(f"Expected attack_steps ≥ 0, and 0 where training is not adversarial, got {self}.")

    @property
    def passes(self) -> int:
        """Passes forward and backward for each training image; N-FGSM adds one of each to the training's own."""
        attack = (self.attack_steps or 1) if self.adversarial else 0
        return self.epochs * 2 * (attack + 1)
