"""Multiply-accumulates of whatever runs, by PyTorch's own counter and what it leaves out."""

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

Shape = torch.Size
_ATEN = torch.ops.aten


def _flops_mv(matrix: Shape, vector: Shape, **_: Any) -> int:
    return 2 * math.prod(matrix)


def _flops_addmv(added: Shape, matrix: Shape, vector: Shape, **_: Any) -> int:
    return 2 * math.prod(matrix)


def _flops_dot(first: Shape, second: Shape, **_: Any) -> int:
    return 2 * math.prod(first)


def _flops_addbmm(added: Shape, first: Shape, second: Shape, **_: Any) -> int:
    return 2 * math.prod(first) * second[-1]


def _flops_trilinear(
    first: Shape, second: Shape, third: Shape,
    new_first: list[int], new_second: list[int], new_third: list[int], summed: list[int], *_: Any, **__: Any,
) -> int:  # fmt: skip
    """Count a multiplication for each value of the first product, and one for each of the second: `nn.Bilinear`."""
    a, b, c = _with_ones(first, new_first), _with_ones(second, new_second), _with_ones(third, new_third)
    products = [max(sizes) for sizes in zip(a, b, strict=True)]
    return 2 * math.prod(products) + 2 * math.prod(max(sizes) for sizes in zip(products, c, strict=True))


def _flops_distances(first: Shape, second: Shape, *_: Any, **__: Any) -> int:
    batches: Shape = torch.broadcast_shapes(first[:-2], second[:-2])
    return 2 * math.prod(batches) * first[-2] * second[-2] * first[-1]


def _flops_fourier(values: Shape, dimensions: list[int], *_: Any, **__: Any) -> int:
    """Count four real multiplications for each butterfly (Cooley & Tukey, 1965), as for complex values."""
    length = math.prod(values[dimension] for dimension in dimensions)
    return 4 * math.prod(values) * max(1, round(math.log2(length)))


_FORMULAS = {
    _ATEN.mv: _flops_mv, _ATEN.addmv: _flops_addmv, _ATEN.dot: _flops_dot, _ATEN.vdot: _flops_dot,
    _ATEN.addbmm: _flops_addbmm, _ATEN._trilinear: _flops_trilinear, _ATEN._cdist_forward: _flops_distances,
    _ATEN._euclidean_dist: _flops_distances,
    _ATEN._fft_r2c: _flops_fourier, _ATEN._fft_c2r: _flops_fourier, _ATEN._fft_c2c: _flops_fourier,
}  # fmt: skip
"""Of operations that PyTorch's counter has no formula for."""
_FACTORS = {torch.ops.aten.mul.Tensor: slice(0, 2), torch.ops.aten.addcmul.default: slice(1, 3)}
Result = TypeVar("Result")


def macs_during(run: Callable[[], Result]) -> tuple[int, Result]:
    """Return (multiply-accumulates, result) of a call, without gradients."""
    counter = FlopCounterMode(display=False, custom_mapping=_FORMULAS)
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
        if function in _FACTORS and (result.is_floating_point() or result.is_complex()):
            factors = [_values(factor) for factor in args[_FACTORS[function]] if isinstance(factor, Tensor)]
            each = 4 if result.is_complex() else 1  # real multiplications
            self.count += each * result.numel() if len(factors) == 2 and result.numel() > max(factors) else 0
        return result


def _with_ones(shape: Shape, places: list[int]) -> list[int]:
    """Return a shape with dimensions of size 1 put in at these places."""
    sizes = list(shape)
    for place in sorted(places):
        sizes.insert(place, 1)
    return sizes


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
