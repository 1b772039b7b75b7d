"""On CUDA, what puts numbers on a grid, and their gradients: one kernel each.

In PyTorch's operations it takes eight kernels forward, each of which reads and writes the whole map: longer than the
convolutions beside them. Division and rounding are those of PyTorch's operations, to the last bit.
"""

from __future__ import annotations

from functools import cache
from typing import Any

import torch
from torch import Tensor, nn

_LEVEL = "template <typename T> T level(T x, T scale, T zero) { return rintf(x / scale) + zero; }"
_VALUE = """
template <typename T> T on_grid(T x, T scale, T zero, T low, T high) {
    T k = level(x, scale, zero);
    k = k < low ? low : k > high ? high : k;
    return (k - zero) * scale;
}
"""
_TO_X = """
template <typename T> T to_x(T gradient, T x, T scale, T zero, T low, T high) {
    T k = level(x, scale, zero);
    return gradient * (k >= low && k <= high ? T(1) : T(0));
}
"""
_TO_SCALE = """
template <typename T> T to_scale(T gradient, T x, T scale, T zero, T low, T high) {
    T k = level(x, scale, zero);
    if (k < low) return gradient * (low - zero);
    if (k > high) return gradient * (high - zero);
    return gradient * ((k - zero) - x / scale);
}
"""


def can_fuse(*tensors: Tensor) -> bool:
    """Return whether these are numbers on a device that runs the kernels; what stands for them in a trace is not."""
    plain = all(type(t) in (Tensor, nn.Parameter) and t.is_cuda and t.dtype == torch.float32 for t in tensors)
    return plain and _kernels_work()


def values(x: Tensor, scale: Tensor, zero_point: Tensor, low: float, high: float) -> Tensor:
    """Return the nearest points of the grid; shapes broadcast."""
    found: Tensor = _kernel(_VALUE)(x, scale, zero_point, low=low, high=high)
    return found


def gradient_to_x(gradient: Tensor, x: Tensor, scale: Tensor, zero_point: Tensor, low: float, high: float) -> Tensor:
    """Return the gradient where x needed no clipping, 0 elsewhere."""
    found: Tensor = _kernel(_TO_X)(gradient, x, scale, zero_point, low=low, high=high)
    return found


def gradient_to_scale(
    gradient: Tensor, x: Tensor, scale: Tensor, zero_point: Tensor, low: float, high: float
) -> Tensor:
    """Return each number's share of the gradient of the scale (LSQ, equation 3), in the shape of x."""
    found: Tensor = _kernel(_TO_SCALE)(gradient, x, scale, zero_point, low=low, high=high)
    return found


@cache
def _kernel(code: str) -> Any:
    return torch.cuda.jiterator._create_jit_fn(_LEVEL + code, low=0.0, high=0.0)


@cache
def _kernels_work() -> bool:
    """Compile them, once: PyTorch calls what does that a beta, and not every installation can."""
    try:
        x, scale = torch.tensor([-9.0, 0.25, 0.75, 9.0], device="cuda"), torch.tensor(0.5, device="cuda")
        arguments = x, scale, scale.new_zeros(()), -2.0, 2.0
        found = [values(*arguments), gradient_to_x(x, *arguments), gradient_to_scale(x, *arguments)]
        return [each.tolist() for each in found] == [
            [-1.0, 0.0, 1.0, 1.0], [0.0, 0.25, 0.75, 0.0], [18.0, -0.125, 0.375, 18.0],
        ]  # fmt: skip
    except Exception:  # whatever the compiler, or its absence, raises
        return False
