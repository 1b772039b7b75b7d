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
        points: (..., D) in [0, 1].
        normal: (..., D); several points may share one.
        excess: (...), ⟨normal, point⟩ − b for the hyperplane ⟨normal, x⟩ = b.
        norm: "Linf" or "L2".
    """
    # Few passes over the images, and in place: on a small network they are what costs.
    linf, size = norm == "Linf", normal.abs()
    # Neither the size of the weights nor the side on which the point lies matters.
    scale = size.amax(-1, keepdim=True).clamp_min_(torch.finfo(normal.dtype).tiny)
    weight, need = size.div_(scale), excess.abs() / scale.squeeze(-1)
    toward = normal.sign() * torch.where(excess >= 0, -1.0, 1.0).to(normal.dtype).unsqueeze(-1)
    room = (1 + toward).mul_(0.5).sub_(toward * points)  # to the box's face; where the weight is 0 it does not matter
    slope, gain = weight if linf else weight.square(), weight * room
    step = torch.zeros_like(need)
    for _ in range(MOST_STEPS):
        moving = (room - _far(step, weight, linf=linf)).gt_(0)  # 1 or 0
        rest = need + (gain * moving).sub_(gain).sum(-1)
        last, step = step, rest / moving.mul_(slope).sum(-1)
        # Nothing moves any more and the excess is not gained: everything goes as far as it can.
        step = torch.maximum(last, step.nan_to_num(torch.inf, posinf=torch.inf))
        if not (step > last).any():
            break
    return toward.mul_(torch.minimum(_far(step, weight, linf=linf), room))


def _far(step: Tensor, weight: Tensor, *, linf: bool) -> Tensor:
    """Return how far each coordinate goes, as broadcasts over points; not infinity, which times 0 would be nothing."""
    finite = step.unsqueeze(-1).clamp_max(torch.finfo(step.dtype).max)
    return finite if linf else weight * finite
