"""Tensors of few bits, as a network computes with them in training and under attack (Jacob et al., 2018).

What is put on which grid; `grid` puts it there. A step may be learned with the weights (LSQ, Esser et al., 2020); what
the input gets as gradient is then the same.
"""

from __future__ import annotations

import math
from typing import Any

import torch
from torch import Tensor, nn

from bench.compress.grid import on_grid
from bench.compress.ranges import MinMax, Observer, affine_grid, weight_scale
from bench.errors import UsageError

_SMALLEST, _LARGEST = 1e-12, 1e12  # of a learned step
_MOST_LEVELS = 2**30  # of a bias on its grid, half of what an int32 holds


class _Sign(torch.autograd.Function):
    """±scale after the sign of x (0 counts as positive); gradient 1 everywhere."""

    @staticmethod
    def forward(ctx: Any, x: Tensor, scale: Tensor, damping: float = 1.0) -> Tensor:
        ctx.damping, ctx.shape = damping, scale.shape
        ctx.save_for_backward(x >= 0 if ctx.needs_input_grad[1] else None)
        return torch.where(x >= 0, scale, -scale)

    @staticmethod
    def backward(ctx: Any, *gradients: Tensor) -> tuple[Tensor | None, ...]:
        (positive,) = ctx.saved_tensors
        if positive is None:
            return gradients[0], None, None
        signed = torch.where(positive, gradients[0], -gradients[0])
        return gradients[0], signed.sum_to_size(ctx.shape) * ctx.damping, None


class _UsableStep(torch.autograd.Function):
    """A learned step as it is, or, wherever an optimiser has thrown it, a positive finite one."""

    @staticmethod
    def forward(ctx: Any, scale: Tensor) -> Tensor:
        ctx.save_for_backward(scale < 0)
        size = scale.abs()
        # A NaN fails both comparisons. A step that jumps across 0 lands as far from it on this side.
        return torch.where((size > _SMALLEST) & (size < _LARGEST), size, torch.full_like(size, _SMALLEST))

    @staticmethod
    def backward(ctx: Any, *gradients: Tensor) -> Tensor:
        (crossed,) = ctx.saved_tensors
        return torch.where(crossed, -gradients[0], gradients[0])


def _usable(scale: Tensor) -> Tensor:
    """Return a scale, made positive and finite if it is a learned one."""
    return _UsableStep.apply(scale) if isinstance(scale, nn.Parameter) else scale


def quantize_weight(weight: Tensor, bits: int, scale: Tensor | None = None) -> Tensor:
    """Return the weights on their grids: symmetric, one grid for each output channel, straight-through gradient.

    Args:
        weight: (C_out, ...).
        bits: 1 … 16.
        scale: steps of the grids, (C_out,); without, they follow the weight and none is clipped.
    """
    top = max(2 ** (bits - 1) - 1, 1)
    damping = 1.0 / math.sqrt(max(math.prod(weight.shape[1:]), 1) * top)
    scale = (weight_scale(weight, bits) if scale is None else scale).view(-1, *[1] * (weight.dim() - 1))
    if bits == 1:
        return _Sign.apply(weight, scale, damping)  # type: ignore[no-any-return]
    return on_grid(weight, scale, scale.new_zeros(()), -top, top, damping)


def wide_enough(step: Tensor, bias: Tensor, input_step: Tensor) -> Tensor:
    """Return the steps of a weight's grids, (C_out,), widened where a bias on them × the input's is too much for int32.

    Args:
        step: of the weight's grids, (C_out,); weights that need so fine ones are nothing beside the bias.
        bias: (C_out,).
        input_step: of the layer's input, ().
    """
    return torch.maximum(step, bias.abs() / (_MOST_LEVELS * input_step))


def quantize_activation(x: Tensor, scale: Tensor, zero_point: Tensor, bits: int) -> Tensor:
    """Return x on the grid of levels 0 … 2^bits − 1; gradient 1 in the range, bounds included, and 0 outside.

    Args:
        x: (N, ...).
        scale: step of the grid, ().
        zero_point: the level that stands for 0, a whole number, ().
        bits: 1 … 16.
    """
    top = 2**bits - 1
    # LSQ's N: values that share the step, of one image, lest the batch size matter.
    damping = 1.0 / math.sqrt(max(math.prod(x.shape[1:]), 1) * top)
    return on_grid(x, scale, zero_point, 0, top, damping)


class ActivationQuantizer(nn.Module):
    """Puts one tensor on an unsigned affine grid; the grid is fixed once calibration is over.

    It starts out transparent and records while `observing`; after `freeze` it quantises, and its output for one image
    does not depend on the rest of the batch. The grid always contains 0, so that padding is exact.

    Args:
        bits: 1 … 16.
        observer: what chooses the range.
        pixels: whether the tensor is the image itself, at most normalised: its range is then that of [0, 1].
        learned: whether training moves the step on (the zero point stays); never that of pixels.
    """

    grid_parameters = ("scale",)
    scale: Tensor
    zero_point: Tensor

    def __init__(self, bits: int, observer: Observer, *, pixels: bool = False, learned: bool = False) -> None:
        super().__init__()
        self.bits = bits
        self.pixels = pixels
        self.observer: Observer | None = observer
        self.observing = False
        _hold(self, torch.ones(()), learned and not pixels)
        self.register_buffer("zero_point", torch.zeros(()))

    @property
    def learned(self) -> bool:
        """Whether training moves the step."""
        return isinstance(self.scale, nn.Parameter)

    @property
    def step(self) -> Tensor:
        """The step of the grid, ()."""
        return _usable(self.scale)

    def forward(self, x: Tensor) -> Tensor:
        """Quantise, or record and pass on; (N, ...)."""
        if self.observer is None:
            return quantize_activation(x, self.step, self.zero_point, self.bits)
        if self.observing:
            self.observer.update(x)
        return x

    def freeze(self) -> None:
        """Fix the grid to the range observed; does nothing the second time."""
        if self.observer is not None:
            self.set_range(*self.observer.range())

    @torch.no_grad()
    def set_range(self, low: Tensor, high: Tensor) -> None:
        """Fix the grid to [min(low, 0), max(high, 0)], its zero moved to the nearest level."""
        top = 2**self.bits - 1
        low, high = low.to(self.scale).clamp_max(0.0), high.to(self.scale).clamp_min(0.0)
        scale, zero_point = affine_grid(low, high, self.bits)
        if self.pixels and low < 0 < high:
            # Moving the zero pushed one end half a step out, where a saturated pixel would lose its gradient.
            zero_point = zero_point.clamp(1, top - 1)
            scale = torch.maximum(-low / zero_point, high / (top - zero_point))
        self.scale.copy_(scale)
        self.zero_point.copy_(zero_point)
        self.observer = None

    def settle(self) -> None:
        """Stop learning, with the step reached."""
        if self.learned:
            step = self.step.detach().clone()
            del self.scale
            _hold(self, step, False)


class WeightQuantizer(nn.Module):
    """Puts a weight on its per-channel symmetric grids.

    Args:
        bits: 1 … 16.
        scale: steps of the grids, (C_out,); without, they follow the weight while it is trained.
        learned: whether training moves the steps given.
    """

    grid_parameters = ("scale",)
    scale: Tensor | None

    def __init__(self, bits: int, scale: Tensor | None = None, *, learned: bool = False) -> None:
        super().__init__()
        self.bits = bits
        _hold(self, scale, learned and scale is not None)

    @property
    def learned(self) -> bool:
        """Whether training moves the steps."""
        return isinstance(self.scale, nn.Parameter)

    def step(self, weight: Tensor) -> Tensor:
        """Return the steps of the grids of a weight, (C_out,)."""
        return weight_scale(weight, self.bits) if self.scale is None else _usable(self.scale)

    def forward(self, weight: Tensor) -> Tensor:
        """Return the quantised weight, (C_out, ...)."""
        return quantize_weight(weight, self.bits, self.step(weight))


def _hold(quantizer: nn.Module, scale: Tensor | None, learned: bool) -> None:
    """Keep a copy of the scale: as a parameter if it is learned, else as a buffer."""
    if scale is not None:
        scale = scale.detach().clone()
    if learned and scale is not None:
        quantizer.register_parameter("scale", nn.Parameter(scale))
    else:
        quantizer.register_buffer("scale", scale)


class BiasQuantizer(nn.Module):
    """Puts a bias on the grid input scale × weight scale, where an integer kernel adds it (int32).

    Leaving this out of the twin costs a factor 2 to 15 of its agreement with the deployed model. Where the weight scale
    is too fine for that, the kernel gets a wider one (`wide_enough`), and the bias is on the grid of that.

    Args:
        weight_bits: of the layer's weight.
        own_scale: whether the weight quantiser has a scale of its own, which then stands in for the weight.
    """

    def __init__(self, weight_bits: int, *, own_scale: bool = False) -> None:
        super().__init__()
        self.weight_bits = weight_bits
        self.own_scale = own_scale

    @torch.no_grad()
    def weight_step(self, bias: Tensor, weight: Tensor, input_scale: Tensor) -> Tensor:
        """Return the steps of the weight's grids, (C_out,), as wide as an integer kernel needs them."""
        scale = _usable(weight) if self.own_scale else weight_scale(weight, self.weight_bits)
        return wide_enough(scale, bias, _usable(input_scale))

    @torch.no_grad()
    def step(self, bias: Tensor, weight: Tensor, input_scale: Tensor) -> Tensor:
        """Return the steps of the grids, (C_out,), to which nothing passes a gradient."""
        step = self.weight_step(bias, weight, input_scale) * _usable(input_scale)
        return torch.where(step > 0, step, torch.ones_like(step))  # 0 where weights of 1 bit and their bias are

    def forward(self, bias: Tensor, weight: Tensor, input_scale: Tensor) -> Tensor:
        """Return the quantised bias, (C_out,).

        Args:
            bias: (C_out,).
            weight: before quantisation, (C_out, ...); or, where `own_scale`, its scale (C_out,).
            input_scale: step of the layer's input, ().
        """
        scale = self.step(bias, weight, input_scale)
        top = 2**31 - 1
        return on_grid(bias, scale, scale.new_zeros(()), -top, top)


def is_quantized(model: nn.Module) -> bool:
    """Whether a model has already been through quantisation."""
    return any(isinstance(module, ActivationQuantizer | WeightQuantizer) for module in model.modules())


def describe(module: nn.Module) -> dict[str, Any]:
    """Return what `rebuild` needs to make a quantiser anew; its numbers travel in its state_dict.

    Guarantees:
        JSON can hold it, and `rebuild(describe(q))` loads the state_dict of `q` and then gives the same values.

    Raises:
        UsageError: not a quantiser, or one that is not calibrated yet.
    """
    match module:
        case ActivationQuantizer(observer=None):
            return {"kind": "activation", "bits": module.bits, "pixels": module.pixels, "learned": module.learned}
        case ActivationQuantizer():
            raise UsageError("Expected a calibrated quantiser to describe, got one that is still observing.")
        case WeightQuantizer():
            channels = None if module.scale is None else len(module.scale)
            return {"kind": "weight", "bits": module.bits, "channels": channels, "learned": module.learned}
        case BiasQuantizer():
            return {"kind": "bias", "weight_bits": module.weight_bits, "own_scale": module.own_scale}
    raise UsageError(f"Expected a quantiser to describe, got {type(module).__name__}.")


def rebuild(description: dict[str, Any]) -> nn.Module:
    """Make the quantiser that `describe` described, ready for its state_dict.

    Raises:
        UsageError: an unknown kind, a missing or unknown field, or a value out of range.
    """
    quantizer: nn.Module | None = None
    match description:
        case {"kind": "activation", "bits": bits, "pixels": bool(pixels), "learned": bool(learned)} if _bits(bits):
            quantizer = ActivationQuantizer(bits, MinMax(), pixels=pixels, learned=learned)
            quantizer.observer = None
        case {"kind": "weight", "bits": bits, "channels": None} if _bits(bits):
            quantizer = WeightQuantizer(bits)
        case {"kind": "weight", "bits": bits, "channels": n, "learned": bool(learned)} if _bits(bits) and _channels(n):
            quantizer = WeightQuantizer(bits, torch.ones(n), learned=learned)
        case {"kind": "bias", "weight_bits": bits, "own_scale": bool(own_scale)} if _bits(bits):
            quantizer = BiasQuantizer(bits, own_scale=own_scale)
    if quantizer is None or describe(quantizer) != description:
        raise UsageError(f"Expected the description of a quantiser, as describe() gives it, got {description}.")
    return quantizer


def _bits(value: object) -> bool:
    return type(value) is int and 1 <= value <= 16


def _channels(value: object) -> bool:
    return type(value) is int and 1 <= value <= 1 << 20
