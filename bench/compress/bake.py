"""A twin whose weights stay as they are: what the attack asks a hundred thousand times."""

from __future__ import annotations

import copy

import torch
from torch import Tensor, fx, nn

from bench.compress.fake_quant import ActivationQuantizer, BiasQuantizer, WeightQuantizer
from bench.compress.norms import keep_norms, settle_norms
from bench.compress.quicken import quicken
from bench.compress.ranges import MinMax
from bench.compress.trace import attribute, free_name


def bake(model: nn.Module) -> nn.Module:
    """Return a copy for inference and input gradients only: weights rounded once, and none that asks for a gradient.

    Guarantees:
        The same logits and the same input gradients as the model it was made from, bit for bit; where a linear layer
        reads a flattened channels-last map, as far as the model answers batches of another size.

    Args:
        model: a twin, or any float model.
    """
    baked = copy.deepcopy(model).eval().requires_grad_(False)
    if isinstance(baked, fx.GraphModule):
        for node in list(baked.graph.nodes):
            if node.op == "call_module":
                _store(baked, node)
        quicken(baked)
        baked.graph.eliminate_dead_code()
        _forget_unread(baked)
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
    return settle_norms(keep_norms(copy.deepcopy(model))) if isinstance(model, fx.GraphModule) else model


def _forget_unread(baked: fx.GraphModule) -> None:
    """Delete the tensors that the graph no longer reads: each process and each surrogate has a copy."""
    nodes = baked.graph.nodes
    read = {str(node.target) for node in nodes if node.op == "get_attr"}
    called = tuple(f"{node.target}." for node in nodes if node.op == "call_module")
    for path, _ in [*baked.named_parameters(), *baked.named_buffers()]:
        if path not in read and not path.startswith(called):
            module, _, name = path.rpartition(".")
            delattr(baked.get_submodule(module), name)


def _store(twin: fx.GraphModule, node: fx.Node) -> None:
    """Replace a quantiser of a weight or a bias by the values it gives."""
    quantizer = twin.get_submodule(str(node.target))
    sources = [source for source in node.args if isinstance(source, fx.Node)]
    if not isinstance(quantizer, WeightQuantizer | BiasQuantizer) or any(s.op != "get_attr" for s in sources):
        return
    values: list[Tensor] = [attribute(twin, str(source.target)) for source in sources]
    name = free_name(twin, f"baked_{node.name}")
    with torch.no_grad():
        twin.register_buffer(name, quantizer(*values))
    with twin.graph.inserting_before(node):
        node.replace_all_uses_with(twin.graph.get_attr(name))
    twin.graph.erase_node(node)
