"""How CUDA multiplies: in TensorFloat-32 (10 bits of mantissa, several times as fast) or not; cuDNN autotuned or not.

Elsewhere none of this makes a difference.
"""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager

import torch


def forbid_tensor_float() -> None:
    """Multiply in full precision from here on, unless told otherwise: what is judged must be what ships."""
    _allow(convolutions=False, products=False)


@contextmanager
def tensor_float(*, allowed: bool) -> Iterator[None]:
    """Allow TensorFloat-32, or forbid it, for a while."""
    convolutions, products = tensor_float_allowed()
    _allow(convolutions=allowed, products=allowed)
    try:
        yield
    finally:
        _allow(convolutions=convolutions, products=products)


def tensor_float_allowed() -> tuple[bool, bool]:
    """Return whether convolutions may use TensorFloat-32, and whether products of matrices may."""
    # PyTorch has two names for each. Once somebody has set the new ones alone, it refuses to read the old ones.
    names = torch.backends.cudnn.conv, torch.backends.cuda.matmul  # type: ignore[attr-defined]
    convolutions, products = (name.fp32_precision == "tf32" for name in names)
    return convolutions, products


def _allow(*, convolutions: bool, products: bool) -> None:
    # Setting the old names sets the new ones along, so that whoever reads either is told the same.
    torch.backends.cudnn.allow_tf32 = convolutions
    torch.backends.cuda.matmul.allow_tf32 = products
    if not convolutions:  # that leaves them to what may have been said for all of cuDNN, or of PyTorch
        torch.backends.cudnn.conv.fp32_precision = "ieee"  # type: ignore[attr-defined]
        torch.backends.cudnn.rnn.fp32_precision = "ieee"  # type: ignore[attr-defined]


@contextmanager
def autotuned() -> Iterator[None]:
    """Have cuDNN try all algorithms on each shape that convolutions meet, and keep to the fastest, for a while."""
    before = torch.backends.cudnn.benchmark
    torch.backends.cudnn.benchmark = True
    try:
        yield
    finally:
        torch.backends.cudnn.benchmark = before
