"""Plain stacks of 3×3 convolutions: small enough to train here, no batch-norm, nothing in the way of compression."""

from __future__ import annotations

import math
from collections import OrderedDict

from torch import nn


def digits_cnn(image_shape: tuple[int, int, int], n_classes: int) -> nn.Module:
    """Three 3×3 convolutions (16, 32 stride 2, 64) and two linear layers, for the 8×8 digits."""
    return _stack(image_shape, n_classes, widths=(16, 32, 64), strides=(1, 2, 1), hidden=64)


def conv8(image_shape: tuple[int, int, int], n_classes: int) -> nn.Module:
    """Six 3×3 convolutions (32 to 128) and two linear layers, after Thorsteinsson et al. 2024 (arXiv 2403.09441)."""
    widths, strides = (32, 32, 64, 64, 128, 128), (1, 2, 1, 2, 1, 2)
    return _stack(image_shape, n_classes, widths=widths, strides=strides, hidden=128)


def _stack(
    image_shape: tuple[int, int, int],
    n_classes: int,
    *,
    widths: tuple[int, ...],
    strides: tuple[int, ...],
    hidden: int,
) -> nn.Module:
    """Return convolution, ReLU, … , flatten, linear, ReLU, linear as one `nn.Sequential` with readable names."""
    channels, height, width = image_shape
    layers: OrderedDict[str, nn.Module] = OrderedDict()
    for number, (filters, stride) in enumerate(zip(widths, strides, strict=True), start=1):
        layers[f"conv{number}"] = nn.Conv2d(channels, filters, kernel_size=3, stride=stride, padding=1)
        layers[f"relu{number}"] = nn.ReLU()
        # A 3×3 convolution with padding 1 and stride s rounds up: 7 pixels become 4.
        channels, height, width = filters, math.ceil(height / stride), math.ceil(width / stride)
    layers["flatten"] = nn.Flatten()
    layers["hidden"] = nn.Linear(channels * height * width, hidden)
    layers["relu"] = nn.ReLU()
    layers["linear"] = nn.Linear(hidden, n_classes)
    return nn.Sequential(layers)
