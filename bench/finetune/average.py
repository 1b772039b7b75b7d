"""Weight averaging: the network that is kept is an exponential moving average (Polyak & Juditsky, 1992)."""

from __future__ import annotations

import copy

import torch
from torch import nn


class Average:
    """A second network whose weights and batch-norm statistics follow those of the one that is trained.

    The first steps count for more, so that a short training is not held back by where it began: after t steps the
    decay is at most (1 + t) / (10 + t).

    Attributes:
        network: the average, in evaluation mode.
        steps: how often it was updated.
    """

    def __init__(self, model: nn.Module, decay: float) -> None:
        self.network = copy.deepcopy(model).eval().requires_grad_(False)
        self.decay = decay
        self.steps = 0

    @torch.no_grad()
    def update(self, model: nn.Module) -> None:
        """Move the average towards the model."""
        decay = min(self.decay, (1 + self.steps) / (10 + self.steps))
        self.steps += 1
        for old, new in zip(self.network.state_dict().values(), model.state_dict().values(), strict=True):
            if old.is_floating_point():
                old.lerp_(new, 1 - decay)
            else:
                old.copy_(new)
