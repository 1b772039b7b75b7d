"""Multiply-accumulates of whatever runs, by PyTorch's own counter of floating-point operations."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import TypeVar

import torch
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
    """Keep `nn.MultiheadAttention` from running as one fused operation, of which the counter sees nothing."""
    before = torch.backends.mha.get_fastpath_enabled()
    torch.backends.mha.set_fastpath_enabled(False)
    try:
        yield
    finally:
        torch.backends.mha.set_fastpath_enabled(before)
