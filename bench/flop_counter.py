"""Multiply-accumulates of whatever runs, by PyTorch's own counter of floating-point operations."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import TypeVar

import torch
from torch.nn.attention import SDPBackend, sdpa_kernel
from torch.utils.flop_counter import FlopCounterMode

Result = TypeVar("Result")


def macs_during(run: Callable[[], Result]) -> tuple[int, Result]:
    """Return (multiply-accumulates, result) of a call, without gradients."""
    counter = FlopCounterMode(display=False)
    with torch.no_grad(), _attention_in_parts(), counter:
        result = run()
    return int(counter.get_total_flops()) // 2, result


@contextmanager
def _attention_in_parts() -> Iterator[None]:
    """Keep attention from running as one fused operation, of which the counter may see nothing.

    It never sees `nn.MultiheadAttention`'s, and on a CPU in some releases (2.14) not `scaled_dot_product_attention`.
    """
    before = torch.backends.mha.get_fastpath_enabled()
    torch.backends.mha.set_fastpath_enabled(False)
    try:
        with sdpa_kernel(SDPBackend.MATH):
            yield
    finally:
        torch.backends.mha.set_fastpath_enabled(before)
