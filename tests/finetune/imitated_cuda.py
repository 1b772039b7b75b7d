"""CUDA as far as graphs go, without a device: a capture writes down what is computed, a replay computes it again.

As on a device, a replay reads and writes the memory that was there at capture, whatever has become of the variables;
waiting for a number is an error while that is asked for; and a capture that fails takes the random numbers with it.
"""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager, nullcontext
from typing import Any

import pytest
import torch
from torch import Tensor
from torch.utils._python_dispatch import TorchDispatchMode
from torch.utils._pytree import tree_leaves

WAITS = torch.ops.aten._local_scalar_dense.default


class OnCuda(Tensor):
    """Images that only say so."""

    is_cuda = True


class Kernels(TorchDispatchMode):
    """What was computed, in order, each with where it read and wrote."""

    def __init__(self) -> None:
        super().__init__()
        self.calls: list[tuple[Any, Any, Any, Any]] = []

    def __torch_dispatch__(self, function: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        if function is WAITS:
            raise RuntimeError("operation not permitted when stream is capturing")
        found = function(*args, **(kwargs or {}))
        self.calls.append((function, args, kwargs or {}, found))
        return found

    @torch.no_grad()
    def replay(self) -> None:
        """Compute all of it again."""
        for function, args, kwargs, found in self.calls:
            for old, new in zip(tree_leaves(found), tree_leaves(function(*args, **kwargs)), strict=True):
                if isinstance(old, Tensor) and old.data_ptr() != new.data_ptr():  # no view, not in place
                    old.copy_(new)


class Impatient(TorchDispatchMode):
    """Waiting for a number is an error."""

    def __torch_dispatch__(self, function: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        if function is WAITS:
            raise RuntimeError("called a synchronizing CUDA operation")
        return function(*args, **(kwargs or {}))


def imitate(patch: pytest.MonkeyPatch) -> None:
    """Put the imitation in the place of what `torch.cuda` has, until the patch is undone."""
    modes: list[Impatient] = []

    def set_sync_debug_mode(mode: object) -> None:
        if mode == "error":
            modes.append(Impatient())
            modes[-1].__enter__()
        elif modes:
            modes.pop().__exit__(None, None, None)

    @contextmanager
    def graph(kernels: Kernels, stream: object) -> Iterator[None]:
        with kernels:
            try:
                yield
            except RuntimeError:
                patch.setattr(torch, "randn", broken)
                raise

    def broken(*shape: int, device: object = None) -> Tensor:
        raise RuntimeError("offset increment outside graph capture encountered unexpectedly")

    patch.setattr(torch.cuda, "CUDAGraph", Kernels)
    patch.setattr(torch.cuda, "graph", graph)
    patch.setattr(torch.cuda, "Stream", lambda device: None)
    patch.setattr(torch.cuda, "device", lambda device: nullcontext())
    patch.setattr(torch.cuda, "get_sync_debug_mode", lambda: 0)
    patch.setattr(torch.cuda, "set_sync_debug_mode", set_sync_debug_mode)
