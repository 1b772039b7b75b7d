"""The nearest point of a hyperplane within the box [0, 1], in Linf or L2: FAB's projections (Croce & Hein, 2020)."""

from __future__ import annotations

import torch
from torch import Tensor

from bench.threat_model import Norm

MOST_STEPS = 64
"""Newton's method ends after finitely many steps, usually fewer than ten; float rounding must not keep it going."""


def to_hyperplane(points: Tensor, normal: Tensor, excess: Tensor, norm: Norm) -> Tensor:
    """Return the smallest perturbations after which ⟨normal, point⟩ has lost the excess, within the box.

    Every coordinate moves against the sign of its weight, by λ under Linf and by λ·|weight| under L2, but no further
    than the box allows. What the movement gains grows with λ as a concave, piecewise linear function; Newton's method
    from the left finds the λ that gains the excess exactly. Where the box has no such point, the perturbation leads to
    the box's corner nearest to the hyperplane.

    Args:
        points: (N, D) in [0, 1].
        normal: (N, D).
        excess: (N,), ⟨normal, point⟩ − b for the hyperplane ⟨normal, x⟩ = b.
        norm: "Linf" or "L2".
    """
    # Neither the size of the weights nor the side on which the point lies matters.
    scale = normal.abs().amax(1, keepdim=True).clamp_min(torch.finfo(normal.dtype).tiny)
    side = torch.where(excess >= 0, 1.0, -1.0).to(normal.dtype).unsqueeze(1)
    toward = -side * normal.sign()
    weight, excess = normal.abs() / scale, (excess.abs() / scale.squeeze(1))
    room = (1 + toward) / 2 - toward * points  # to the box's face; where the weight is 0 it does not matter
    pace = torch.ones_like(weight) if norm == "Linf" else weight
    slope, gain = weight * pace, weight * room
    step = excess.new_zeros(len(excess))
    for _ in range(MOST_STEPS):
        moving = _positive(room - pace * _finite(step))
        rest = excess - (gain - gain * moving).sum(1)
        last, step = step, rest / (slope * moving).sum(1)
        # Nothing moves any more and the excess is not gained: everything goes as far as it can.
        step = torch.maximum(last, step.nan_to_num(torch.inf, posinf=torch.inf))
        if not (step > last).any():
            break
    return toward * torch.minimum(pace * _finite(step), room)


def _finite(step: Tensor) -> Tensor:
    """Return the steps as a column, without infinity, which times 0 would be nothing."""
    return step.unsqueeze(1).clamp_max(torch.finfo(step.dtype).max)


def _positive(values: Tensor) -> Tensor:
    """Return 1 where a value is above 0, else 0; the values are lost. On a CPU `torch.where` takes 7 times longer."""
    return values.sign_().clamp_(min=0)
