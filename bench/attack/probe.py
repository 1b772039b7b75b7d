"""What is seen of the model under attack: passes, logits, gradients; and a wrapper that sees it for the reference."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor, nn

# The reference adds 1e-12 to gradients under L2 and drops those below 1e-8: what is this small guides no attack.
VANISHED = 1e-10


@dataclass(kw_only=True)
class Record:
    """What was seen during one attack, in images.

    Attributes:
        forward: images that went forward through the twin on the attack's behalf.
        backward: images whose loss was differentiated.
        zero_gradients: gradients that vanished.
        broken_gradients: gradients that are not finite.
        broken_logits: logits that are not finite.
        judged: images of which the judge saw a proposal.
        disagreed: those of them whose last proposal twin and deployed model put into different classes.
    """

    forward: int = 0
    backward: int = 0
    zero_gradients: int = 0
    broken_gradients: int = 0
    broken_logits: int = 0
    judged: int = 0
    disagreed: int = 0

    def __add__(self, other: Record) -> Record:
        return Record(**{name: count + getattr(other, name) for name, count in vars(self).items()})


class _Watch(torch.autograd.Function):
    """The identity; on its way back it looks at the gradient that reaches the input image."""

    @staticmethod
    def forward(ctx: Any, images: Tensor, record: Record) -> Tensor:
        ctx.record = record
        return images.view_as(images)

    @staticmethod
    def backward(ctx: Any, *gradients: Tensor) -> tuple[Tensor, None]:
        (gradient,) = gradients
        largest = gradient.detach().flatten(1).abs().amax(1)
        ctx.record.backward += len(gradient)
        ctx.record.zero_gradients += int((largest <= VANISHED).sum())
        ctx.record.broken_gradients += int((~largest.isfinite()).sum())
        return gradient, None


class Probe(nn.Module):
    """Behaves as the model it wraps and keeps a `Record` of how it was used."""

    def __init__(self, model: nn.Module, *, on_pass: Callable[[Record], None] = lambda record: None) -> None:
        super().__init__()
        self.model = model
        self.record = Record()
        self.on_pass = on_pass

    def forward(self, images: Tensor) -> Tensor:
        """Map (N, C, H, W) to the model's logits (N, K)."""
        record = self.record
        record.forward += len(images)
        if torch.is_grad_enabled() and images.requires_grad:
            images = _Watch.apply(images, record)
        logits: Tensor = self.model(images)
        record.broken_logits += int((~logits.detach().isfinite()).flatten(1).any(1).sum())
        self.on_pass(record)
        return logits
