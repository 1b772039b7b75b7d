"""How cuDNN convolves on CUDA: in TensorFloat-32 (10 bits of mantissa, several times as fast) or not, autotuned or not.

Elsewhere none of this makes a difference.
"""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import AbstractContextManager, contextmanager

import torch


def forbid_tensor_float() -> None:
    """Convolve in full precision from here on, unless told otherwise: what is judged must be what ships."""
    torch.backends.cudnn.allow_tf32 = False


def tensor_float(*, allowed: bool) -> AbstractContextManager[None]:
    """Allow TensorFloat-32, or forbid it, for a while."""
    return _set("allow_tf32", allowed)


def autotuned() -> AbstractContextManager[None]:
    """Have cuDNN try all algorithms on each shape that convolutions meet, and keep to the fastest, for a while."""
    return _set("benchmark", True)


@contextmanager
def _set(flag: str, value: bool) -> Iterator[None]:
    before = getattr(torch.backends.cudnn, flag)
    setattr(torch.backends.cudnn, flag, value)
    try:
        yield
    finally:
        setattr(torch.backends.cudnn, flag, before)
