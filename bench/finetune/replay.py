"""On CUDA, the gradient of an attack as a captured graph of kernels, launched at once.

One by one, the kernels of a small network, and the many of a quantised one, take longer to launch than to run; an
attack launches the same ones at every step of every batch.
"""

from __future__ import annotations

import warnings
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any, Literal
from weakref import WeakKeyDictionary

import torch
from torch import Tensor, nn

from bench.machine.tensor_float import tensor_float_allowed

Loss = Callable[[Tensor, Tensor], Tensor]
"""Maps (logits, target) to a scalar."""
Gradient = Callable[[nn.Module, Tensor, Loss, Tensor], Tensor | None]
"""Returns that of loss(model(images), target) at the images; None where the network cuts the graph."""
MOST = 4
"""Graphs kept for a network: the shapes of its batches, and of those held out."""
TOLERANCE = 0.05
"""By which a graph's gradient may differ from the one without; algorithms that add up in any order differ by less."""


@dataclass(frozen=True, kw_only=True)
class _Graph:
    """Kernels that read `images` and `target` and write `gradient`."""

    kernels: torch.cuda.CUDAGraph
    images: Tensor
    target: Tensor
    gradient: Tensor

    def __call__(self, images: Tensor) -> Tensor:
        """Return the gradient, in memory that the next call writes to again."""
        with torch.cuda.device(images.device):
            self.images.copy_(images)
            self.kernels.replay()
        return self.gradient


State = _Graph | Literal["warmed up", "cannot be captured"]
_states: WeakKeyDictionary[nn.Module, dict[Any, State]] = WeakKeyDictionary()


def replayed(
    gradient: Gradient, model: nn.Module, images: Tensor, loss: Loss, target: Tensor
) -> Callable[[Tensor], Tensor | None]:
    """Return what finds gradients at images like these: a graph, captured where this is asked for the second time.

    A network that cannot be captured, because it asks the host for a number on the way, goes on without.

    Args:
        gradient: what is captured.
        model: held still, so that only its weights change between two calls, and they in place.
        images: (N, C, H, W), for shape and device.
        loss: a function, the same one at each call.
        target: of the loss; its values may change between calls.
    """

    def direct(points: Tensor) -> Tensor | None:
        return gradient(model, points, loss, target)

    if not images.is_cuda:
        return direct
    known, key = _states.setdefault(model, {}), _key(model, images, loss, target)
    if key not in known:  # the first time compiles kernels and chooses algorithms, which no graph may hold
        known[key] = "warmed up"
        while len(known) > MOST:
            del known[next(iter(known))]
        return direct
    if known[key] == "warmed up":
        known[key] = _capture(gradient, model, images, loss, target) or "cannot be captured"
    if not isinstance(graph := known[key], _Graph):
        return direct
    graph.target.copy_(target)
    return graph


def forget_graphs(model: nn.Module) -> None:
    """Give back the memory that a model's graphs hold."""
    _states.pop(model, None)


def _key(model: nn.Module, images: Tensor, loss: Loss, target: Tensor) -> tuple[Any, ...]:
    """Return what a graph is tied to: shapes, precision, and where the network lies in memory."""
    places = tuple(tensor.data_ptr() for tensor in (*model.parameters(), *model.buffers()))
    precision = torch.is_autocast_enabled("cuda"), tensor_float_allowed()
    return images.shape, images.dtype, target.shape, target.dtype, loss, precision, places


def _capture(gradient: Gradient, model: nn.Module, images: Tensor, loss: Loss, target: Tensor) -> _Graph | None:
    """Return a graph that finds what is found without one; None where there is none."""
    points, goal = images.detach().clone(), target.clone()
    try:
        with torch.cuda.device(images.device):
            with _no_waiting():  # a capture that fails would leave the device's random numbers unusable
                wanted = gradient(model, points, loss, goal)
            kernels = torch.cuda.CUDAGraph()
            with torch.cuda.graph(kernels, stream=torch.cuda.Stream(images.device)):
                found = gradient(model, points, loss, goal)
            if wanted is None or found is None:
                return None
            graph = _Graph(kernels=kernels, images=points, target=goal, gradient=found)
            same = (graph(images) - wanted).norm() <= TOLERANCE * wanted.norm()
    except RuntimeError:
        return None
    return graph if bool(same) else None


@contextmanager
def _no_waiting() -> Iterator[None]:
    """Make whatever waits for the device an error, for a while."""
    before = torch.cuda.get_sync_debug_mode()
    with warnings.catch_warnings(action="ignore"):  # PyTorch calls it a prototype
        torch.cuda.set_sync_debug_mode("error")
    try:
        yield
    finally:
        torch.cuda.set_sync_debug_mode(before)
