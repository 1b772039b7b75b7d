"""Numbers on a grid of few bits, with straight-through gradients (Bengio et al., 2013; Jacob et al., 2018).

Every gradient is written out: `torch.clamp` has had gradient 0 *at* its bounds since torch 2.14, and a pixel that is
exactly 0 or 1 must not lose its gradient, or a network looks robust because the attack is blind.
"""

from __future__ import annotations

from typing import Any, Literal, Protocol

import torch
from torch import Tensor, nn

from bench.errors import UsageError

RangeMethod = Literal["minmax", "percentile"]


class _Grid(torch.autograd.Function):
    """The nearest point (k - zero_point) * scale with low <= k <= high; gradient 1 where k needed no clipping."""

    @staticmethod
    def forward(ctx: Any, x: Tensor, scale: Tensor, zero_point: Tensor, low: int, high: int) -> Tensor:
        if x.dtype in (torch.float16, torch.bfloat16):  # these cannot count to 2^15
            x = x.float()
        level = torch.div(x, scale).round_().add_(zero_point)
        if ctx.needs_input_grad[0]:
            ctx.save_for_backward((level >= low).logical_and_(level <= high))
        return level.clamp_(low, high).sub_(zero_point).mul_(scale)

    @staticmethod
    def backward(ctx: Any, *gradients: Tensor) -> tuple[Tensor, None, None, None, None]:
        (inside,) = ctx.saved_tensors
        return gradients[0] * inside, None, None, None, None


class _Sign(torch.autograd.Function):
    """±scale after the sign of x (0 counts as positive); gradient 1 everywhere."""

    @staticmethod
    def forward(ctx: Any, x: Tensor, scale: Tensor) -> Tensor:
        return torch.where(x >= 0, scale, -scale)

    @staticmethod
    def backward(ctx: Any, *gradients: Tensor) -> tuple[Tensor, None]:
        return gradients[0], None


def weight_scale(weight: Tensor, bits: int) -> Tensor:
    """Return the step of each output channel's grid, (C_out,).

    Args:
        weight: (C_out, ...).
        bits: 2 … 16: largest |w| over the largest level; 1: mean |w| (XNOR-Net, Rastegari et al., 2016).
    """
    size = weight.detach().flatten(1).abs()
    scale = size.mean(1) if bits == 1 else size.amax(1) / (2 ** (bits - 1) - 1)
    return torch.where(scale > 0, scale, torch.ones_like(scale))


def quantize_weight(weight: Tensor, bits: int) -> Tensor:
    """Return the weights on their grids: symmetric, one grid for each output channel, straight-through gradient."""
    scale = weight_scale(weight, bits).view(-1, *[1] * (weight.dim() - 1))
    if bits == 1:
        return _Sign.apply(weight, scale)  # type: ignore[no-any-return]
    top = 2 ** (bits - 1) - 1
    return _Grid.apply(weight, scale, scale.new_zeros(()), -top, top)  # type: ignore[no-any-return]


def quantize_activation(x: Tensor, scale: Tensor, zero_point: Tensor, bits: int) -> Tensor:
    """Return x on the grid of levels 0 … 2^bits − 1; gradient 1 in the range, bounds included, and 0 outside.

    Args:
        x: any shape.
        scale: step of the grid, ().
        zero_point: the level that stands for 0, a whole number, ().
        bits: 1 … 16.
    """
    return _Grid.apply(x, scale, zero_point, 0, 2**bits - 1)  # type: ignore[no-any-return]


class Observer(Protocol):
    """Sees the values of one tensor during calibration and settles on a range."""

    def update(self, x: Tensor) -> None:
        """Take in one batch of values."""
        ...

    def range(self) -> tuple[Tensor, Tensor]:
        """Return (lowest, highest) value worth representing."""
        ...


class MinMax:
    """The smallest and largest value seen."""

    def __init__(self) -> None:
        self._low: Tensor | None = None
        self._high: Tensor | None = None

    def update(self, x: Tensor) -> None:
        """Take in one batch of values."""
        low, high = x.detach().aminmax()
        self._low = low if self._low is None else torch.minimum(self._low, low)
        self._high = high if self._high is None else torch.maximum(self._high, high)

    def range(self) -> tuple[Tensor, Tensor]:
        """Return (lowest, highest) value seen; (0, 0) before any."""
        if self._low is None or self._high is None:
            return torch.zeros(()), torch.zeros(())
        return self._low, self._high


class Percentile:
    """The central share of the values seen, so that a few outliers do not coarsen the grid for all.

    Args:
        percent: 99.9 cuts one value in a thousand at either end.
    """

    _SAMPLE = 1 << 16  # values kept of each batch

    def __init__(self, percent: float) -> None:
        self._share = percent / 100.0
        self._seen: list[Tensor] = []

    def update(self, x: Tensor) -> None:
        """Keep an evenly spaced sample of the batch."""
        flat = x.detach().flatten()
        # An odd stride, lest it follow one column of every image.
        self._seen.append(flat[:: (flat.numel() // self._SAMPLE) | 1].clone())

    def range(self) -> tuple[Tensor, Tensor]:
        """Return the two quantiles; (0, 0) before any value."""
        if not self._seen:
            return torch.zeros(()), torch.zeros(())
        values = torch.cat(self._seen).float().sort().values
        last = values.numel() - 1
        return values[round((1.0 - self._share) * last)], values[round(self._share * last)]


class ActivationQuantizer(nn.Module):
    """Puts one tensor on an unsigned affine grid; the grid is fixed once calibration is over.

    It starts out transparent and records while `observing`; after `freeze` it quantises, and its output for one image
    does not depend on the rest of the batch. The grid always contains 0, so that padding is exact.

    Args:
        bits: 1 … 16.
        observer: what chooses the range.
        pixels: whether the tensor is the image itself, at most normalised: its range is then that of [0, 1].
    """

    scale: Tensor
    zero_point: Tensor

    def __init__(self, bits: int, observer: Observer, *, pixels: bool = False) -> None:
        super().__init__()
        self.bits = bits
        self.pixels = pixels
        self.observer: Observer | None = observer
        self.observing = False
        self.register_buffer("scale", torch.ones(()))
        self.register_buffer("zero_point", torch.zeros(()))

    def forward(self, x: Tensor) -> Tensor:
        """Quantise, or record and pass on; any shape."""
        if self.observer is None:
            return quantize_activation(x, self.scale, self.zero_point, self.bits)
        if self.observing:
            self.observer.update(x)
        return x

    def freeze(self) -> None:
        """Fix the grid to the range observed; does nothing the second time."""
        if self.observer is not None:
            self.set_range(*self.observer.range())

    def set_range(self, low: Tensor, high: Tensor) -> None:
        """Fix the grid to [min(low, 0), max(high, 0)], its zero moved to the nearest level."""
        top = 2**self.bits - 1
        low, high = low.to(self.scale).clamp_max(0.0), high.to(self.scale).clamp_min(0.0)
        scale = (high - low) / top
        scale = torch.where(scale > 0, scale, torch.ones_like(scale))
        zero_point = (-low / scale).round().clamp(0, top)
        if self.pixels and low < 0 < high:
            # Moving the zero pushed one end half a step out, where a saturated pixel would lose its gradient.
            zero_point = zero_point.clamp(1, top - 1)
            scale = torch.maximum(-low / zero_point, high / (top - zero_point))
        self.scale.copy_(scale)
        self.zero_point.copy_(zero_point)
        self.observer = None


class WeightQuantizer(nn.Module):
    """Puts a weight on its per-channel symmetric grid, which follows the weight while it is trained."""

    def __init__(self, bits: int) -> None:
        super().__init__()
        self.bits = bits

    def forward(self, weight: Tensor) -> Tensor:
        """Return the quantised weight, (C_out, ...)."""
        return quantize_weight(weight, self.bits)


class BiasQuantizer(nn.Module):
    """Puts a bias on the grid input scale × weight scale, where an integer kernel adds it (int32).

    Leaving this out of the twin costs a factor 2 to 15 of its agreement with the deployed model.
    """

    def __init__(self, weight_bits: int) -> None:
        super().__init__()
        self.weight_bits = weight_bits

    def forward(self, bias: Tensor, weight: Tensor, input_scale: Tensor) -> Tensor:
        """Return the quantised bias, (C_out,); `weight` (C_out, ...) is the one before quantisation."""
        scale = weight_scale(weight, self.weight_bits) * input_scale
        top = 2**31 - 1
        return _Grid.apply(bias, scale, scale.new_zeros(()), -top, top)  # type: ignore[no-any-return]


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
            return {"kind": "activation", "bits": module.bits, "pixels": module.pixels}
        case ActivationQuantizer():
            raise UsageError("Expected a calibrated quantiser to describe, got one that is still observing.")
        case WeightQuantizer():
            return {"kind": "weight", "bits": module.bits}
        case BiasQuantizer():
            return {"kind": "bias", "weight_bits": module.weight_bits}
    raise UsageError(f"Expected a quantiser to describe, got {type(module).__name__}.")


def rebuild(description: dict[str, Any]) -> nn.Module:
    """Make the quantiser that `describe` described, ready for its state_dict.

    Raises:
        UsageError: an unknown kind, a missing or unknown field, or a value out of range.
    """
    match description:
        case {"kind": "activation", "bits": int(bits), "pixels": bool(pixels), **rest} if not rest and _allowed(bits):
            quantizer = ActivationQuantizer(bits, MinMax(), pixels=pixels)
            quantizer.freeze()
            return quantizer
        case {"kind": "weight", "bits": int(bits), **rest} if not rest and _allowed(bits):
            return WeightQuantizer(bits)
        case {"kind": "bias", "weight_bits": int(bits), **rest} if not rest and _allowed(bits):
            return BiasQuantizer(bits)
    raise UsageError(f"Expected the description of a quantiser (kind activation, weight or bias), got {description}.")


def _allowed(bits: int) -> bool:
    return 1 <= bits <= 16 and not isinstance(bits, bool)
