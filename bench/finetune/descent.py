"""How to descend: optimiser, schedule, and everything else about training that is not the objective."""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import Any, Literal

import torch
from torch import nn

from bench.errors import UsageError
from bench.model import grid_parameters


@dataclass(frozen=True, kw_only=True)
class Descent:
    """Settings that every fine-tuning step has.

    Attributes:
        epochs: passes over the training images, 0.2 for a fifth of them; None spends the track's whole budget.
        optimizer: "sgd" (with momentum) or "adamw" (Loshchilov & Hutter, 2019).
        learning_rate: the first step's; of "one-cycle" the highest.
        momentum: of SGD.
        weight_decay: on every parameter but the learned steps of grids.
        batch_size: images a step.
        clip: largest norm of a step's gradient; longer ones are shortened to it.
        schedule: "constant"; "cosine" (Loshchilov & Hutter, 2017, one period); "step": a tenth after each of one half
            and three quarters of the training; "one-cycle" (Smith, 2018): up in a line for 30 % of it, then down to 0.
        average: decay of an exponential moving average of the weights, which is the network in the end; 0 for none.
        crop: pixels by which images are padded with black before a random crop; 0 for none.
        flip: whether every other image is mirrored.
        label_smoothing: share of the label given to all classes alike.
        precision: "bf16" computes the objective in bfloat16 where PyTorch's autocast deems it safe; "float32"
            multiplies in TensorFloat-32 on CUDA.
        holdout: training images kept aside (at most a tenth), on which each epoch's network is checked.
        keep: the network of the "last" epoch, or of the "best" on the images held out.
        patience: epochs without a better one after which training stops; None for never.
    """

    epochs: float | None = None
    optimizer: Literal["sgd", "adamw"] = "sgd"
    learning_rate: float = 0.01
    momentum: float = 0.9
    weight_decay: float = 5e-4
    batch_size: int = 64
    clip: float = 5.0
    schedule: Literal["cosine", "constant", "step", "one-cycle"] = "cosine"
    average: float = 0.0
    crop: int = 0
    flip: bool = False
    label_smoothing: float = 0.0
    precision: Literal["float32", "bf16"] = "float32"
    holdout: int = 0
    keep: Literal["last", "best"] = "last"
    patience: int | None = None

    def __post_init__(self) -> None:
        for name in ("epochs", "learning_rate", "batch_size", "clip", "patience"):
            if (value := getattr(self, name)) is not None and not 0 < value < math.inf:
                raise UsageError(f"expected {name} > 0, got {value}.")
        if not 0 <= self.momentum < 1 or not 0 <= self.weight_decay < math.inf:
            raise UsageError(
                f"expected 0 ≤ momentum < 1 and weight_decay ≥ 0, got {self.momentum}, {self.weight_decay}."
            )
        for name in ("average", "label_smoothing"):
            if not 0 <= (value := getattr(self, name)) < 1:
                raise UsageError(f"expected 0 ≤ {name} < 1, got {value}.")
        for name in ("crop", "holdout"):
            if (value := getattr(self, name)) < 0:
                raise UsageError(f"expected {name} ≥ 0, got {value}.")
        if self.holdout == 0 and (self.keep == "best" or self.patience is not None):
            raise UsageError("keep = 'best' and patience need images that are held out: set holdout, to 512 say.")

    def images(self, n: int, budget: int) -> int:
        """Return how many training images to go through.

        Raises:
            UsageError: more epochs than the track's budget allows.
        """
        wanted = budget if self.epochs is None else self.epochs * n
        if budget <= 0:
            raise UsageError(
                "the track leaves this step no training images: fine-tuning before it took them all. Set its epochs."
            )
        if wanted > budget:
            raise UsageError(
                f"the track leaves {budget:,} training images to this step, {budget / n:.3g} epochs of {n:,}; "
                f"got epochs = {self.epochs:g}. Leave epochs out to use what is left."
            )
        if wanted < 1:
            raise UsageError(f"expected epochs of at least one of {n:,} training images, got {self.epochs:g}.")
        return round(wanted)

    def rate(self, step: int, steps: int) -> float:
        """Return the learning rate of a step, counted from 0."""
        done = step / steps
        match self.schedule:
            case "cosine":
                return self.learning_rate * 0.5 * (1 + math.cos(math.pi * step / steps))
            case "step":
                return self.learning_rate * (0.1 if done >= 0.5 else 1.0) * (0.1 if done >= 0.75 else 1.0)
            case "one-cycle":
                # Counted from 1, so that neither the first step nor the last is one of length 0.
                return self.learning_rate * min((step + 1) / (0.3 * steps), (steps - step) / (0.7 * steps), 1.0)
        return self.learning_rate


def new_optimizer(model: nn.Module, descent: Descent) -> torch.optim.Optimizer:
    """Return the optimiser of a model's parameters.

    Raises:
        UsageError: the model has none that can be trained.
    """
    parameters = [parameter for parameter in model.parameters() if parameter.requires_grad]
    if not parameters:
        raise UsageError("the model has no parameter that can be trained.")
    steps = {id(parameter) for parameter in grid_parameters(model)}
    groups: list[dict[str, Any]] = [
        {"params": [parameter for parameter in parameters if id(parameter) not in steps]},
        {"params": [parameter for parameter in parameters if id(parameter) in steps], "weight_decay": 0.0},
    ]
    groups = [group for group in groups if group["params"]]
    if descent.optimizer == "adamw":
        return torch.optim.AdamW(groups, lr=descent.learning_rate, weight_decay=descent.weight_decay)
    return torch.optim.SGD(
        groups, lr=descent.learning_rate, momentum=descent.momentum, weight_decay=descent.weight_decay
    )


@torch.no_grad()
def move(optimizer: torch.optim.Optimizer, grids: list[nn.Parameter], rate: float) -> None:
    """Take one step, which changes no learned step of a grid by more than the learning rate's share of it.

    LSQ balances its gradient for the steps it starts from; finer ones (8 bits) it throws across 0 within 200 steps.
    """
    for group in optimizer.param_groups:
        group["lr"] = rate
    before = [parameter.clone() for parameter in grids]
    optimizer.step()
    for parameter, old in zip(grids, before, strict=True):
        reach = old.abs() * min(rate, 0.5)
        parameter.clamp_(old - reach, old + reach)
