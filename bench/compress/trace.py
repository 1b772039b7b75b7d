"""A network as a plain graph of operations, so that quantisers can be put on its edges."""

from __future__ import annotations

import copy
import inspect
from collections.abc import Iterator
from functools import reduce
from typing import Any

import torch
from torch import Tensor, fx, nn

from bench.errors import UsageError, described

# Operations that do nothing when a network is evaluated.
_IDENTITIES = {"dropout", "feature_dropout", "alpha_dropout", "lift_fresh_copy", "detach", "alias"}


def operation(node: fx.Node) -> str:
    """Return a node's operation without name space and overload ("conv2d"), or "" where it calls none."""
    if node.op != "call_function":
        return ""
    name = str(node.target)
    return name.split(".")[1] if name.startswith("aten.") else name


def free_name(module: nn.Module, wanted: str) -> str:
    """Return the name, longer by as many underscores as it takes for the module to have nothing that is called so."""
    while hasattr(module, wanted):
        wanted += "_"
    return wanted


def attribute(module: nn.Module, path: str) -> Any:
    """Return what a dotted path names inside a module."""
    return reduce(getattr, path.split("."), module)


def any_batch() -> torch.export.Dim:
    """Return the dimension whose size an exported network leaves free; cuDNN takes no more than that."""
    return torch.export.Dim("batch", min=1, max=65535)


def trace(model: nn.Module, image_shape: tuple[int, int, int], device: torch.device) -> fx.GraphModule:
    """Return a copy of the network as a graph, in eval mode.

    Guarantees:
        The model is left as it was, and the graph computes the same logits, bit for bit.

    Args:
        model: maps (N, C, H, W) to (N, K).
        image_shape: (C, H, W).
        device: where the graph will run; tensors made in `forward` stay there.

    Raises:
        UsageError: torch.export cannot follow the network.
    """
    model = copy.deepcopy(model).eval().to(device)
    images = torch.rand(4, *image_shape, generator=torch.Generator().manual_seed(0)).to(device)
    batch = any_batch()
    try:
        with torch.enable_grad():
            exported = torch.export.export(model, (images,), dynamic_shapes=({0: batch},))
    except Exception as error:
        raise UsageError(
            f"Cannot trace {type(model).__name__}: torch.export cannot follow it with a free batch size "
            f"({described(error)}); this needs a network without data-dependent Python branches."
        ) from error
    guards = {"check_guards": False} if "check_guards" in inspect.signature(exported.module).parameters else {}
    root = exported.module(**guards)
    graph = root.graph
    _plain_signature(graph)
    _out_of_place(graph)
    _drop_identities(graph)
    graph.eliminate_dead_code()
    for node in graph.nodes:
        node.meta.clear()
    graph.lint()
    # The exported module refuses train() and eval(); a fresh one accepts them.
    traced = fx.GraphModule(root, graph, class_name=type(model).__name__)
    _check(model, traced, images)
    for parameter in traced.parameters():
        parameter.requires_grad_(True)
    return traced.eval()


def _plain_signature(graph: fx.Graph) -> None:
    """Let the graph take one tensor and return one tensor, without torch.export's packing and guards."""
    graph.set_codegen(fx.graph.CodeGen())
    for node in list(graph.nodes):
        if node.op == "call_module" and "guard" in str(node.target):
            graph.erase_node(node)
    output = graph.output_node()
    result = output.args[0]
    while isinstance(result, tuple | list):
        if len(result) != 1:
            raise UsageError(f"Expected a network that returns only logits, got {len(result)} results.")
        result = result[0]
    output.args = (result,)


def _out_of_place(graph: fx.Graph) -> None:
    """Replace `relu_` by `relu` and so on; whoever read the changed tensor later reads the new one."""
    order = {node: position for position, node in enumerate(graph.nodes)}
    for node in list(graph.nodes):
        name = operation(node)
        if not name.endswith("_") or name.startswith("_"):
            continue
        packet = getattr(torch.ops.aten, name[:-1], None)
        if packet is None:
            continue
        node.target = getattr(packet, str(node.target).split(".")[-1])
        changed = node.args[0]
        assert isinstance(changed, fx.Node)
        for user in [user for user in changed.users if order[user] > order[node]]:
            user.replace_input_with(changed, node)


def _drop_identities(graph: fx.Graph) -> None:
    for node in list(graph.nodes):
        if operation(node) in _IDENTITIES:
            node.replace_all_uses_with(node.args[0])
            graph.erase_node(node)


def foldable(graph: fx.Graph) -> Iterator[tuple[fx.Node, fx.Node]]:
    """Yield (convolution, batch-norm) where the norm can become part of the convolution.

    Not where somebody else reads that convolution (pre-activation networks) or shares its weight: folding would change
    what they see. Nor where the norm takes the statistics of each batch.
    """
    uses = [node.target for node in graph.nodes if node.op == "get_attr" for _ in node.users]
    for norm in list(graph.nodes):
        if operation(norm) != "batch_norm":
            continue
        conv, _, _, mean, _, training, *_ = norm.args
        assert isinstance(conv, fx.Node)
        if operation(conv) != "conv2d" or len(conv.users) != 1 or mean is None or training:
            continue
        weight, *bias = conv.all_input_nodes[1:]
        if weight.op == "get_attr" and uses.count(weight.target) == 1 and all(one.op == "get_attr" for one in bias):
            yield conv, norm


def _check(model: nn.Module, traced: nn.Module, images: Tensor) -> None:
    """Make sure that the rewriting changed nothing."""
    with torch.no_grad():
        expected, got = model(images), traced(images)
    gap = float((expected - got).norm() / expected.norm().clamp_min(1e-12))
    if not gap < 1e-3:
        raise UsageError(
            f"Cannot trace {type(model).__name__}: its traced graph differs from it by {gap:.2g} (relative); "
            "in-place operations on views may be the reason."
        )
