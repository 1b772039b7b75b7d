"""A baked graph's passes made shorter, where only input gradients are wanted."""

from __future__ import annotations

import torch
from torch import fx

from bench.compress.fake_quant import ActivationQuantizer
from bench.compress.trace import attribute, free_name, operation
from bench.compress.twin import KEEP_GRID

_CHANNELS_STAY = {"relu", "relu_", "relu6", "hardtanh", "max_pool2d", "avg_pool2d", "adaptive_avg_pool2d"}


def quicken(baked: fx.GraphModule) -> None:
    """Rewrite, in place, what takes more memory traffic than it needs.

    Guarantees:
        The same logits and the same input gradients, bit for bit; where a linear layer reads a flattened channels-last
        map, which it adds up in another order, as far as a network answers batches of another size.
    """
    if any(_writes(node) for node in baked.graph.nodes):
        return
    for node in list(baked.graph.nodes):
        if _is_quantizer(baked, node):
            _quantize_once(baked, node)
        elif operation(node) == "linear":
            _read_as_it_lies(baked, node)
        elif node.target is torch.ops.aten.relu.default:
            _rectify_in_place(node)


def _quantize_once(baked: fx.GraphModule, node: fx.Node) -> None:
    """Drop a quantiser whose input it has put on its grid before: max-pooling or flattening leaves it there."""
    source = _first(node)
    while source and operation(source) in KEEP_GRID:
        source = _first(source)
    if source and _is_quantizer(baked, source) and source.target == node.target:
        node.replace_all_uses_with(node.args[0])  # type: ignore[arg-type]
        node.graph.erase_node(node)


def _read_as_it_lies(baked: fx.GraphModule, linear: fx.Node) -> None:
    """Let a linear layer take a flattened channels-last map in the map's order, its weight's columns moved instead.

    Copying the map into the usual order, and its gradient back, takes a seventh of the digits network's time.
    """
    flat = _first(linear)
    while flat and _is_quantizer(baked, flat) and len(flat.users) == 1:
        flat = _first(flat)
    maps = _first(flat) if flat and operation(flat) == "flatten" and flat.args[1:] == (1,) else None
    if not flat or not maps or len(flat.users) > 1 or (columns := _constant(linear)) is None:
        return
    source: fx.Node | None = maps
    while source and (operation(source) in _CHANNELS_STAY or _is_quantizer(baked, source)):
        source = _first(source)
    if not source or operation(source) != "conv2d" or (kernel := _constant(source)) is None:
        return
    kernels, weight = attribute(baked, kernel), attribute(baked, columns).detach()
    channels_last = not kernels.is_contiguous() and kernels.is_contiguous(memory_format=torch.channels_last)
    if not channels_last or weight.shape[1] == len(kernels):  # a map of one pixel
        return
    name = free_name(baked, f"moved_{linear.name}_weight")
    baked.register_buffer(name, weight.unflatten(1, (len(kernels), -1)).transpose(1, 2).flatten(1))
    with flat.graph.inserting_before(flat):
        flat.replace_input_with(maps, flat.graph.call_function(torch.ops.aten.permute.default, (maps, [0, 2, 3, 1])))
    with linear.graph.inserting_before(linear):
        linear.update_arg(1, linear.graph.get_attr(name))


def _rectify_in_place(node: fx.Node) -> None:
    """Let a rectifier overwrite what only it reads, and what no gradient needs."""
    source = _first(node)
    if source and operation(source) in {"conv2d", "linear"} and len(source.users) == 1:
        node.target = torch.ops.aten.relu_.default


def _writes(node: fx.Node) -> bool:
    """Whether an operation overwrites a tensor: what its readers see then depends on the order of the graph."""
    return isinstance(node.target, torch._ops.OpOverload) and node.target._schema.is_mutable


def _is_quantizer(baked: fx.GraphModule, node: fx.Node) -> bool:
    return node.op == "call_module" and isinstance(baked.get_submodule(str(node.target)), ActivationQuantizer)


def _first(node: fx.Node) -> fx.Node | None:
    """Return the node's first input, if that is another node."""
    return node.args[0] if node.args and isinstance(node.args[0], fx.Node) else None


def _constant(layer: fx.Node) -> str | None:
    """Return the path of a layer's weight, if that is stored and not computed."""
    weight = layer.args[1] if len(layer.args) > 1 else None
    return str(weight.target) if isinstance(weight, fx.Node) and weight.op == "get_attr" else None
