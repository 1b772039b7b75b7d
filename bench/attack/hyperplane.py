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
    room = torch.where(toward < 0, points, 1 - points)
    pace = torch.ones_like(weight) if norm == "Linf" else weight
    slope, gain = weight * pace, weight * room
    step = excess.new_zeros(len(excess))
    for _ in range(MOST_STEPS):
        moving = pace * step.unsqueeze(1) < room
        rest = excess - torch.where(moving, 0.0, gain).sum(1)
        last, step = step, rest / torch.where(moving, slope, 0.0).sum(1)
        # Nothing moves any more and the excess is not gained: everything goes as far as it can.
        step = torch.maximum(last, step.nan_to_num(torch.inf, posinf=torch.inf))
        if not (step > last).any():
            break
    return toward * torch.minimum(pace * step.unsqueeze(1).clamp_max(torch.finfo(pace.dtype).max), room)
