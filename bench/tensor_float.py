"""TensorFloat-32: convolutions on CUDA with 10 bits of mantissa, several times as fast; elsewhere no difference."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager

import torch


def forbid_tensor_float() -> None:
    """Convolve in full precision from here on, unless told otherwise: what is judged must be what ships."""
    torch.backends.cudnn.allow_tf32 = False


@contextmanager
def tensor_float(*, allowed: bool) -> Iterator[None]:
    """Allow it, or forbid it, for a while."""
    before = torch.backends.cudnn.allow_tf32
    torch.backends.cudnn.allow_tf32 = allowed
    try:
        yield
    finally:
        torch.backends.cudnn.allow_tf32 = before


@contextmanager
def autotuned() -> Iterator[None]:
    """Have cuDNN try all algorithms on each shape that convolutions meet, and keep to the fastest, for a while."""
    before = torch.backends.cudnn.benchmark
    torch.backends.cudnn.benchmark = True
    try:
        yield
    finally:
        torch.backends.cudnn.benchmark = before
