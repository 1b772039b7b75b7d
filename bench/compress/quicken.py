"""A baked graph's passes made shorter, where only input gradients are wanted."""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor, fx, nn

from bench.compress.trace import free_name, operation


def quicken(baked: fx.GraphModule) -> None:
    """Rewrite, in place, what takes more memory traffic than it needs.

    Guarantees:
        The same logits and the same input gradients, bit for bit.
    """
    for node in list(baked.graph.nodes):
        if operation(node) in {"flatten", "reshape"}:
            _lay_gradient(baked, node)
        elif node.target is torch.ops.aten.relu.default:
            _rectify_in_place(node)


class LaidGradient(nn.Module):
    """Changes nothing; the gradient comes back as the map's values lie in memory.

    Behind a flattened map it comes row by row. Where the map is channels-last, the rectifier before it would then go
    through memory in two ways at once: a sixth of all the time that the digits network takes forward and backward.
    """

    def forward(self, maps: Tensor) -> Tensor:
        """Return maps (N, C, H, W), or whatever is flattened."""
        laid: Tensor = _Laid.apply(maps)
        return laid


class _Laid(torch.autograd.Function):
    @staticmethod
    def forward(ctx: Any, maps: Tensor) -> Tensor:
        ctx.channels_last = maps.dim() == 4 and maps.is_contiguous(memory_format=torch.channels_last)
        return maps.view_as(maps)

    @staticmethod
    def backward(ctx: Any, gradient: Tensor) -> Tensor:
        return gradient.contiguous(memory_format=torch.channels_last) if ctx.channels_last else gradient


def _lay_gradient(baked: fx.GraphModule, node: fx.Node) -> None:
    """Lay out the gradient of a flattened map that comes from a rectified convolution, perhaps through quantisers.

    What comes from elsewhere may add up its gradient in an order that depends on the layout.
    """
    if not (maps := _first(node)):
        return
    source: fx.Node | None = maps
    while source and source.op == "call_module":
        if isinstance(baked.get_submodule(str(source.target)), LaidGradient):
            return  # baked before
        source = _first(source)
    rectified = _first(source) if source and operation(source) in {"relu", "relu_"} else None
    if not rectified or operation(rectified) != "conv2d":
        return
    name = free_name(baked, "laid_gradient")
    baked.add_submodule(name, LaidGradient().eval())
    with node.graph.inserting_before(node):
        node.replace_input_with(maps, node.graph.call_module(name, (maps,)))


def _rectify_in_place(node: fx.Node) -> None:
    """Let a rectifier overwrite what only it reads, and what no gradient needs."""
    source = _first(node)
    if source and operation(source) in {"conv2d", "linear"} and len(source.users) == 1:
        node.target = torch.ops.aten.relu_.default


def _first(node: fx.Node) -> fx.Node | None:
    """Return the node's first input, if that is another node."""
    return node.args[0] if node.args and isinstance(node.args[0], fx.Node) else None
