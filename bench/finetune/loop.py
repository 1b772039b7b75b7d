"""One training loop for every objective."""

from __future__ import annotations

import copy
import dataclasses
import math
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Literal

import torch
from torch import Tensor, nn

from bench.dataset import Examples
from bench.errors import UsageError
from bench.model import grid_parameters
from bench.progress import Event, Report

if TYPE_CHECKING:
    from bench.model import Subject
    from bench.recipe import Ingredients

Objective = Callable[[nn.Module, Tensor, Tensor, float], Tensor]
"""Maps (model, images in [0, 1], labels, share of the training done) to a scalar loss."""


@dataclass(frozen=True, kw_only=True)
class Descent:
    """How to descend: the optimiser, and a learning rate that is constant or falls to zero along a cosine.

    Attributes:
        epochs: passes over the training images; None spends the track's whole budget.
        optimizer: "sgd" (with momentum) or "adamw" (Loshchilov & Hutter, 2019).
        learning_rate: the first step's.
        momentum: of SGD.
        weight_decay: on every parameter but the learned steps of grids.
        batch_size: images a step.
        clip: largest norm of a step's gradient; longer ones are shortened to it.
        schedule: "cosine" (Loshchilov & Hutter, 2017, one period) or "constant".
    """

    epochs: int | None = None
    optimizer: Literal["sgd", "adamw"] = "sgd"
    learning_rate: float = 0.01
    momentum: float = 0.9
    weight_decay: float = 5e-4
    batch_size: int = 64
    clip: float = 5.0
    schedule: Literal["cosine", "constant"] = "cosine"

    def __post_init__(self) -> None:
        for name in ("epochs", "learning_rate", "batch_size", "clip"):
            if (value := getattr(self, name)) is not None and not 0 < value < math.inf:
                raise UsageError(f"expected {name} > 0, got {value}.")
        if not 0 <= self.momentum < 1 or not 0 <= self.weight_decay < math.inf:
            raise UsageError(
                f"expected 0 ≤ momentum < 1 and weight_decay ≥ 0, got {self.momentum}, {self.weight_decay}."
            )

    def images(self, n: int, budget: int) -> int:
        """Return how many training images to go through.

        Raises:
            UsageError: more epochs than the track's budget allows.
        """
        wanted = budget if self.epochs is None else self.epochs * n
        if not 0 < wanted <= budget:
            raise UsageError(
                f"the track leaves {budget:,} training images to this step, {budget // n} epochs of {n:,}; "
                f"got epochs = {self.epochs}. Leave epochs out to use what is left."
            )
        return wanted


def finetune(subject: Subject, ingredients: Ingredients, descent: Descent, objective: Objective, stage: str) -> Subject:
    """Return the subject with a further trained twin; the one passed in stays as it was."""
    twin = copy.deepcopy(subject.twin)
    left = ingredients.finetune_images - ingredients.meter.images
    images = descent.images(len(ingredients.train), left)
    ingredients.meter.images += images
    train(
        twin,
        ingredients.train,
        objective,
        descent,
        images=images,
        generator=ingredients.generator,
        device=ingredients.device,
        report=ingredients.report,
        stage=stage,
        keep_zeros=subject.sparse,
    )
    return dataclasses.replace(subject, twin=twin, deployed=twin)


def train(
    model: nn.Module,
    examples: Examples,
    objective: Objective,
    descent: Descent,
    *,
    images: int,
    generator: torch.Generator,
    device: torch.device,
    report: Report,
    stage: str,
    keep_zeros: bool = False,
) -> None:
    """Train `model` in place on `images` images, and leave it in evaluation mode.

    With `keep_zeros`, weights that are zero now are zero afterwards.

    Raises:
        UsageError: the loss stopped being finite.
    """
    examples = examples.to(device)
    model.to(device)
    batch_size = min(descent.batch_size, len(examples))
    steps = max(1, images // batch_size)
    optimizer = _optimizer(model, descent)
    sparse = _sparse(model) if keep_zeros else []
    grids, rate = grid_parameters(model), descent.learning_rate
    for step, index in enumerate(_batches(len(examples), batch_size, steps, generator)):
        if descent.schedule == "cosine":
            rate = descent.learning_rate * 0.5 * (1 + math.cos(math.pi * step / steps))
            for group in optimizer.param_groups:
                group["lr"] = rate
        index = index.to(device)
        model.train()
        loss = objective(model, examples.pixels(index), examples.labels[index], step / steps)
        optimizer.zero_grad(set_to_none=True)
        loss.backward()
        for weight, kept in sparse:
            # A weight of 0 whose every gradient is 0 stays exactly 0: momentum, decay and AdamW only scale zeros.
            if weight.grad is not None:
                weight.grad.mul_(kept)
        nn.utils.clip_grad_norm_(model.parameters(), descent.clip)
        _move(optimizer, grids, rate)
        # Reading the loss waits for the device, so not at every step.
        if step % 25 == 0 or step == steps - 1:
            value = loss.item()
            if not math.isfinite(value):
                raise UsageError(f"The training loss is {value} at step {step}; try a smaller learning rate.")
            report(Event(stage=stage, done=step + 1, total=steps, note=f"loss {value:.3f}"))
    model.eval()


def _sparse(model: nn.Module) -> list[tuple[Tensor, Tensor]]:
    """Return each weight that has zeros, and where it has none; one of zeros only was never pruned, but begins so."""
    weights = [parameter for parameter in model.parameters() if parameter.dim() > 1]
    found = [(weight, weight.detach() != 0) for weight in weights]
    return [(weight, kept) for weight, kept in found if kept.any() and not kept.all()]


def _optimizer(model: nn.Module, descent: Descent) -> torch.optim.Optimizer:
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
def _move(optimizer: torch.optim.Optimizer, grids: list[nn.Parameter], rate: float) -> None:
    """Take one step, which changes no learned step of a grid by more than the learning rate's share of it.

    LSQ balances its gradient for the steps it starts from; finer ones (8 bits) it throws across 0 within 200 steps.
    """
    before = [parameter.clone() for parameter in grids]
    optimizer.step()
    for parameter, old in zip(grids, before, strict=True):
        reach = old.abs() * min(rate, 0.5)
        parameter.clamp_(old - reach, old + reach)


def _batches(n: int, batch_size: int, steps: int, generator: torch.Generator) -> Iterator[Tensor]:
    """Yield index tensors, shuffled anew each epoch; an epoch's last, smaller batch is left out."""
    per_epoch = max(1, n // batch_size)
    for step in range(steps):
        if step % per_epoch == 0:
            order = torch.randperm(n, generator=generator).split(batch_size)
        yield order[step % per_epoch]
