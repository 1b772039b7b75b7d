"""TensorFloat-32: convolutions on CUDA with 10 bits of mantissa, several times as fast; elsewhere no difference."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager

import torch


def forbid_tensor_float() -> None:
    """Convolve in full precision from here on: what is judged must be what ships."""
    torch.backends.cudnn.allow_tf32 = False


@contextmanager
def tensor_float(*, same_shapes: bool = False) -> Iterator[None]:
    """Allow it for a while.

    Args:
        same_shapes: try all algorithms on each shape, and keep to the fastest.
    """
    cudnn = torch.backends.cudnn
    before = cudnn.allow_tf32, cudnn.benchmark
    cudnn.allow_tf32, cudnn.benchmark = True, same_shapes
    try:
        yield
    finally:
        cudnn.allow_tf32, cudnn.benchmark = before
