"""Multiply-accumulates of whatever runs, by PyTorch's own counter, and outer products, which that leaves out."""

from __future__ import annotations

import math
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Any, TypeVar

import torch
from torch import Tensor
from torch.nn.attention import SDPBackend, sdpa_kernel
from torch.utils._python_dispatch import TorchDispatchMode
from torch.utils.flop_counter import FlopCounterMode

_FACTORS = {torch.ops.aten.mul.Tensor: slice(0, 2), torch.ops.aten.addcmul.default: slice(1, 3)}
Result = TypeVar("Result")


def macs_during(run: Callable[[], Result]) -> tuple[int, Result]:
    """Return (multiply-accumulates, result) of a call, without gradients."""
    counter = FlopCounterMode(display=False)
    with torch.no_grad(), _attention_in_parts(), counter:
        result = run()
    return int(counter.get_total_flops()) // 2, result


def outer_products_during(run: Callable[[], object]) -> int:
    """Return the multiplications of a call, without gradients, of each value of one tensor by several of another.

    `(x[:, None, :] * w).sum(-1)` is a linear layer of which the counter sees nothing. What gives it away is that there
    are more products than either has values (repeated ones not counted). A norm, a gate, attention's scale and a
    nonlinearity give as many as one of the two. What is computed one output at a time, from copies that repeat a value,
    or by quotients or logarithms, is not found.
    """
    counter = _OuterProducts()
    with torch.no_grad(), counter:
        run()
    return counter.count


class _OuterProducts(TorchDispatchMode):
    """Counts the elements of products that are larger than either factor."""

    def __init__(self) -> None:
        super().__init__()  # type: ignore[no-untyped-call]
        self.count = 0

    def __torch_dispatch__(self, function: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        result = function(*args, **(kwargs or {}))
        if function in _FACTORS and result.is_floating_point():
            factors = [_values(factor) for factor in args[_FACTORS[function]] if isinstance(factor, Tensor)]
            self.count += result.numel() if len(factors) == 2 and result.numel() > max(factors) else 0
        return result


def _values(factor: Tensor) -> int:
    """Return the elements of a tensor but for those that `expand` repeats."""
    return math.prod(size for size, stride in zip(factor.shape, factor.stride(), strict=True) if stride)


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
