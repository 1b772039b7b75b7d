"""A baked graph's passes made shorter, where only input gradients are wanted."""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor, fx, nn

from bench.compress.trace import operation

LAYOUT = "_bench_layout"
"""What the graph calls the module that lays out gradients; no network has one of this name."""


def quicken(baked: fx.GraphModule) -> None:
    """Rewrite, in place, what takes more memory traffic than it needs.

    Guarantees:
        The same logits and the same input gradients, bit for bit.
    """
    baked.add_submodule(LAYOUT, LaidGradient().eval())
    for node in list(baked.graph.nodes):
        match operation(node):
            case "flatten" | "reshape":
                _lay_gradient(node)
            case "relu":
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


def _lay_gradient(node: fx.Node) -> None:
    maps = node.args[0]
    assert isinstance(maps, fx.Node)
    if maps.target != LAYOUT:
        with node.graph.inserting_before(node):
            node.replace_input_with(maps, node.graph.call_module(LAYOUT, (maps,)))


def _rectify_in_place(node: fx.Node) -> None:
    """Let a rectifier overwrite what only it reads, and what no gradient needs."""
    source = node.args[0]
    assert isinstance(source, fx.Node)
    if operation(source) in {"conv2d", "linear"} and len(source.users) == 1:
        node.target = torch.ops.aten.relu_.default
