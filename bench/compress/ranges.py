"""Which values a grid of few bits spans: ranges of activations, found on training images, and scales of weights.

The outcome depends neither on how the training images were cut into batches nor on their order.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal, Protocol

import torch
from torch import Tensor

RangeMethod = Literal["minmax", "percentile", "mse"]

_PER_IMAGE = 1024  # values kept of each training image
_POINTS = 4096  # of the histogram that ranges are tried on
_SHRINK = 2.0 ** (-torch.arange(80, dtype=torch.float64) / 16)  # 1 … 0.03


def affine_grid(low: Tensor, high: Tensor, bits: int) -> tuple[Tensor, Tensor]:
    """Return (scale, zero point) of the unsigned grid over [low, high] with low ≤ 0 ≤ high, 0 moved to a level."""
    top = 2**bits - 1
    scale = (high - low) / top
    scale = torch.where(scale > 0, scale, torch.ones_like(scale))
    return scale, (-low / scale).round().clamp(0, top)


class Observer(Protocol):
    """Sees the values of one tensor during calibration and settles on a range."""

    def update(self, x: Tensor) -> None:
        """Take in one batch of values, (N, ...)."""
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


class _Sample:
    """The same evenly spaced values of every image."""

    def __init__(self) -> None:
        self._seen: list[Tensor] = []

    def update(self, x: Tensor) -> None:
        flat = x.detach().reshape(len(x), -1)
        # An odd stride, lest it follow one column of every image.
        self._seen.append(flat[:, :: (flat.shape[1] // _PER_IMAGE) | 1].flatten().clone())

    def values(self) -> Tensor:
        return torch.cat(self._seen).float() if self._seen else torch.zeros(1)


class Percentile:
    """The central share of the values seen, so that a few outliers do not coarsen the grid for all.

    Args:
        percent: 99.9 cuts one value in a thousand at either end.
    """

    def __init__(self, percent: float) -> None:
        self._share = percent / 100.0
        self._sample = _Sample()

    def update(self, x: Tensor) -> None:
        """Keep a sample of each image."""
        self._sample.update(x)

    def range(self) -> tuple[Tensor, Tensor]:
        """Return the two quantiles; (0, 0) before any value."""
        values = self._sample.values().sort().values
        last = values.numel() - 1
        return values[round((1.0 - self._share) * last)], values[round(self._share * last)]


class LeastSquares:
    """The range whose grid has the least squared error on the values seen (Banner et al., 2019; Nagel et al., 2021).

    Above 8 bits nothing is to be gained, and the range is that of the values.

    Args:
        bits: of the grid.
    """

    def __init__(self, bits: int) -> None:
        self._bits = bits
        self._extremes = MinMax()
        self._sample = _Sample()

    def update(self, x: Tensor) -> None:
        """Keep the extremes, and a sample of each image."""
        self._extremes.update(x)
        self._sample.update(x)

    def range(self) -> tuple[Tensor, Tensor]:
        """Return the best of the ranges tried; (0, 0) before any value."""
        low, high = self._extremes.range()
        low, high = low.double().clamp_max(0.0), high.double().clamp_min(0.0)
        if self._bits > 8 or not low < high:
            return low.float(), high.float()
        points, counts = _histogram(self._sample.values().double(), low, high)
        shrink = _SHRINK.to(low.device)
        lows, highs = shrink * low, shrink * high
        best = self._least(points, counts, lows, highs)
        for _ in range(2):  # from both ends together to each by itself
            best = self._least(points, counts, lows, best[1].expand_as(lows))
            best = self._least(points, counts, best[0].expand_as(highs), highs)
        return best[0].float(), best[1].float()

    def _least(self, points: Tensor, counts: Tensor, lows: Tensor, highs: Tensor) -> tuple[Tensor, Tensor]:
        scale, zero = (part.unsqueeze(1) for part in affine_grid(lows, highs, self._bits))
        levels = (points / scale).round().add(zero).clamp(0, 2**self._bits - 1)
        winner = ((levels - zero) * scale - points).square().mul(counts).sum(1).argmin()
        return lows[winner], highs[winner]


def _histogram(values: Tensor, low: Tensor, high: Tensor) -> tuple[Tensor, Tensor]:
    """Return evenly spaced points and how many values lie nearest to each; 0 is a point, for ReLU's many zeros."""
    step = (high - low) / (_POINTS - 1)
    first = (low / step).round()
    index = ((values / step).round() - first).long().clamp(0, _POINTS)
    points = (first + torch.arange(_POINTS + 1, device=values.device)) * step
    return points, torch.bincount(index, minlength=_POINTS + 1).double()


def weight_scale(weight: Tensor, bits: int) -> Tensor:
    """Return the step of each output channel's grid, (C_out,).

    Args:
        weight: (C_out, ...).
        bits: 2 … 16: largest |w| over the largest level, 1 for zeros; 1: mean |w| (XNOR-Net, Rastegari et al., 2016).
    """
    size = weight.detach().flatten(1).abs()
    if bits == 1:  # no level is 0: only a step of 0 keeps zeros what they are
        return size.mean(1)
    scale = size.amax(1) / (2 ** (bits - 1) - 1)
    return torch.where(scale > 0, scale, torch.ones_like(scale))


def least_squares_scale(weight: Tensor, bits: int) -> Tensor:
    """Return the step of each output channel's grid with the least squared error, (C_out,); bits 2 … 16."""
    values, top = weight.detach().flatten(1), 2 ** (bits - 1) - 1
    widest = best = weight_scale(weight, bits)
    least = torch.full_like(best, torch.inf)
    for shares in (2.0 ** (-torch.arange(15) / 4), 2.0 ** (torch.arange(-3, 4) / 16)):
        centre = widest if shares[-1] < 1 else best
        for share in shares.tolist():
            scale = (centre * share).unsqueeze(1)
            error = ((values / scale).round_().clamp_(-top, top) * scale).sub_(values).square_().sum(1)
            best = torch.where(error < least, scale.squeeze(1), best)
            least = torch.minimum(error, least)
    return best


@dataclass(frozen=True, kw_only=True)
class Ranges:
    """How ranges are found, and whether training goes on from there.

    Attributes:
        method: "minmax"; "percentile" to leave out outliers of activations; "mse" for the least squared error of
            activations, and of weights below 8 bits (from 8 bits on their largest value is always kept).
        percentile: the share kept at either end, in per cent.
        learned: whether steps are trained with the weights.
    """

    method: RangeMethod
    percentile: float = 99.9
    learned: bool = False

    def observer(self, bits: int) -> Observer:
        """Return what settles on the range of one activation."""
        if self.method == "mse":
            return LeastSquares(bits)
        return MinMax() if self.method == "minmax" else Percentile(self.percentile)

    def weight_scale(self, weight: Tensor, bits: int) -> Tensor | None:
        """Return the scales a weight starts with, (C_out,); None where they shall follow the weight."""
        if self.method == "mse" and 1 < bits < 8:
            return least_squares_scale(weight, bits)
        return weight_scale(weight, bits) if self.learned else None
