"""A twin whose weights stay as they are: what the attack asks a hundred thousand times."""

from __future__ import annotations

import copy
from typing import Any

import torch
from torch import Tensor, fx, nn

from bench.compress.fake_quant import ActivationQuantizer, BiasQuantizer, WeightQuantizer
from bench.compress.ranges import MinMax
from bench.compress.trace import attribute, fold_batch_norm, operation

LAYOUT = "_bench_layout"
"""What a baked graph calls the module that lays out gradients; no network has one of this name."""


def bake(model: nn.Module) -> nn.Module:
    """Return a copy for inference and input gradients only: weights rounded once, and none that asks for a gradient.

    Guarantees:
        The same logits and the same input gradients as the model it was made from, bit for bit.

    Args:
        model: a twin, or any float model.
    """
    baked = copy.deepcopy(model).eval().requires_grad_(False)
    if isinstance(baked, fx.GraphModule):
        baked.add_submodule(LAYOUT, _Layout().eval())
        for node in list(baked.graph.nodes):
            if node.op == "call_module":
                _store(baked, node)
            elif operation(node) in {"flatten", "reshape"}:
                _insert_layout(node)
            elif operation(node) == "relu":
                _rectify_in_place(node)
        baked.graph.eliminate_dead_code()
        baked.recompile()
    for module in baked.modules():
        if isinstance(module, ActivationQuantizer):
            module.settle()
    return baked


def unrounded(model: nn.Module) -> nn.Module | None:
    """Return a copy whose activations are left as they are, its weights as rounded as ever: a surrogate's gradients.

    Straight-through gradients stop where a range clips, and belong to points that lie half a step aside; the copy's do
    neither, and no rounding hides a small step from it.

    Args:
        model: a baked twin, or any float model.

    Returns:
        None where nothing is rounded but weights: the copy would be the model itself.
    """
    surrogate = copy.deepcopy(model)
    quantizers = [module for module in surrogate.modules() if isinstance(module, ActivationQuantizer)]
    for quantizer in quantizers:
        quantizer.observer = MinMax()  # waiting to be calibrated, it lets everything through
    return surrogate if quantizers else None


def fold(model: nn.Module) -> nn.Module:
    """Return a traced network with batch-norm folded into its convolutions, which saves a fifth of a pass.

    Guarantees:
        The same logits up to float rounding.

    Args:
        model: left as it is; comes back itself where it is no traced network.
    """
    if not isinstance(model, fx.GraphModule):
        return model
    folded = copy.deepcopy(model)
    fold_batch_norm(folded, folded.graph)
    folded.graph.eliminate_dead_code()
    folded.recompile()
    return folded


def _store(twin: fx.GraphModule, node: fx.Node) -> None:
    """Replace a quantiser of a weight or a bias by the values it gives."""
    quantizer = twin.get_submodule(str(node.target))
    sources = [source for source in node.args if isinstance(source, fx.Node)]
    if not isinstance(quantizer, WeightQuantizer | BiasQuantizer) or any(s.op != "get_attr" for s in sources):
        return
    values: list[Tensor] = [attribute(twin, str(source.target)) for source in sources]
    name = f"baked_{node.name}"
    with torch.no_grad():
        twin.register_buffer(name, quantizer(*values))
    with twin.graph.inserting_before(node):
        node.replace_all_uses_with(twin.graph.get_attr(name))
    twin.graph.erase_node(node)


class _Layout(nn.Module):
    """Changes nothing; the gradient comes back as the images' values lie in memory.

    Behind a flattened map it comes row by row. Where the map is channels-last, the rectifier before it would then go
    through memory in two ways at once: a sixth of all the time that the digits network takes forward and backward.
    """

    def forward(self, maps: Tensor) -> Tensor:
        laid: Tensor = _LaidGradient.apply(maps)
        return laid


class _LaidGradient(torch.autograd.Function):
    @staticmethod
    def forward(ctx: Any, maps: Tensor) -> Tensor:
        ctx.channels_last = maps.dim() == 4 and maps.is_contiguous(memory_format=torch.channels_last)
        return maps.view_as(maps)

    @staticmethod
    def backward(ctx: Any, gradient: Tensor) -> Tensor:
        return gradient.contiguous(memory_format=torch.channels_last) if ctx.channels_last else gradient


def _insert_layout(node: fx.Node) -> None:
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
