"""Numbers on a grid, with straight-through gradients (Bengio et al., 2013) and learned steps (LSQ, Esser et al., 2020).

Every gradient is written out: `torch.clamp` has had gradient 0 *at* its bounds since torch 2.14, and a pixel that is
exactly 0 or 1 must not lose its gradient, or a network looks robust because the attack is blind.
"""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor

from bench.compress import grid_kernels


def on_grid(x: Tensor, scale: Tensor, zero_point: Tensor, low: int, high: int, damping: float = 1.0) -> Tensor:
    """Return the nearest points (k − zero_point) × scale with low ≤ k ≤ high; gradient 1 where k needed no clipping.

    The scale's gradient, if it wants one, is LSQ's: how far rounding moved a value inside, and the bound's level
    outside, times `damping`.

    Args:
        x: numbers of any shape; those in half precision are answered in float32, since they cannot count to 2^15.
        scale: step of the grid, a shape that broadcasts to that of x.
        zero_point: the level that stands for 0, a whole number, ().
        low: lowest level.
        high: highest level.
        damping: of the scale's gradient.
    """
    if x.dtype in (torch.float16, torch.bfloat16):
        x = x.float()
    form = _Fused if grid_kernels.can_fuse(x, scale, zero_point) else _Grid
    return form.apply(x, scale, zero_point, low, high, damping)  # type: ignore[no-any-return]


class _Grid(torch.autograd.Function):
    """In PyTorch's operations."""

    @staticmethod
    def forward(ctx: Any, x: Tensor, scale: Tensor, zero_point: Tensor, low: int, high: int, damping: float) -> Tensor:
        ratio = torch.div(x, scale)
        level = ratio.round().add_(zero_point) if ctx.needs_input_grad[1] else ratio.round_().add_(zero_point)
        inside = None
        if any(ctx.needs_input_grad):
            # On a CPU a bool takes three times as long as a number to write and to multiply by.
            clipped = level.clamp(low, high)
            inside = clipped.eq(level) if x.is_cuda else clipped.eq_(level)
        # In place: a new tensor may have other strides where a dimension is 1, and convolutions then round otherwise.
        steps = level.clamp_(low, high).sub_(zero_point)
        ctx.damping, ctx.shape = damping, scale.shape
        # Rounding taken as the identity, steps × scale grows with the scale by this (LSQ, equation 3).
        slope = None
        if inside is not None and ctx.needs_input_grad[1]:
            slope = torch.where(inside.bool(), steps - ratio, steps)
        ctx.save_for_backward(inside, slope)
        return steps.mul_(scale)

    @staticmethod
    def backward(ctx: Any, *gradients: Tensor) -> tuple[Tensor | None, ...]:
        inside, slope = ctx.saved_tensors
        to_scale = None if slope is None else (gradients[0] * slope).sum_to_size(ctx.shape) * ctx.damping
        return gradients[0] * inside if ctx.needs_input_grad[0] else None, to_scale, None, None, None, None


class _Fused(torch.autograd.Function):
    """In kernels of our own, which compute the levels again for the gradient; what they keep for it is x itself."""

    @staticmethod
    def forward(ctx: Any, x: Tensor, scale: Tensor, zero_point: Tensor, low: int, high: int, damping: float) -> Tensor:
        ctx.save_for_backward(x, scale, zero_point)
        ctx.bounds, ctx.damping = (float(low), float(high)), damping
        return grid_kernels.values(x, scale, zero_point, *ctx.bounds)

    @staticmethod
    def backward(ctx: Any, *gradients: Tensor) -> tuple[Tensor | None, ...]:
        x, scale, zero_point = ctx.saved_tensors
        # Kernels leave no graph. Who wants the gradient's own gradient gets it from what the gradient is multiplied by.
        twice, gradient = torch.is_grad_enabled(), gradients[0]
        given = torch.ones_like(gradient) if twice else gradient, x, scale, zero_point, *ctx.bounds
        to_x = to_scale = None
        if ctx.needs_input_grad[0]:
            to_x = grid_kernels.gradient_to_x(*given)
            to_x = gradient * to_x if twice else to_x
        if ctx.needs_input_grad[1]:
            to_scale = grid_kernels.gradient_to_scale(*given)
            to_scale = (gradient * to_scale if twice else to_scale).sum_to_size(scale.shape) * ctx.damping
        return to_x, to_scale, None, None, None, None
