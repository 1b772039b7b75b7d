"""Batch-norms of a traced network: kept as modules while it is trained, and folded away when that is over.

A trace freezes batch-norms as they are in evaluation. Training such a network on attacked images begins with a huge
loss, and shrinking what each layer hands on until the logits are constant is the fastest way down; statistics of the
batch forbid it. So a quantised network keeps its norms until the recipe's last step is done (docs/finetune.md), and one
that comes from a folder gets them back.
"""

from __future__ import annotations

import copy
from typing import Any

import torch
from torch import Tensor, fx, nn

from bench.compress.fake_quant import ActivationQuantizer, BiasQuantizer, WeightQuantizer, wide_enough
from bench.compress.trace import attribute, foldable


def keep_norms(traced: fx.GraphModule) -> fx.GraphModule:
    """Return the network with its foldable norms as modules, which obey `train` and `eval`; `traced` is used up.

    Guarantees:
        In evaluation, the same logits up to float rounding.

    Args:
        traced: from `trace`, not folded.
    """
    graph = traced.graph
    for conv, norm in foldable(graph):
        gamma, beta, mean, variance = (_value(traced, node) for node in norm.args[1:5])
        momentum, epsilon = float(norm.args[6]) or 0.1, float(norm.args[7])  # type: ignore[arg-type]
        assert mean is not None
        assert variance is not None
        bias = _value(traced, conv.args[2] if len(conv.args) > 2 else None)
        if bias is not None:  # whatever is added before a norm shifts its mean, and nothing else
            mean = mean - bias
            conv.args = (*conv.args[:2], None, *conv.args[3:])
        module = nn.BatchNorm2d(len(mean), epsilon, momentum, affine=gamma is not None).to(mean)
        state = {"weight": gamma, "bias": beta, "running_mean": mean, "running_var": variance}
        module.load_state_dict({name: value for name, value in state.items() if value is not None}, strict=False)
        traced.add_submodule(f"norms.{norm.name}", module)
        with graph.inserting_before(norm):
            norm.replace_all_uses_with(graph.call_module(f"norms.{norm.name}", (conv,)))
        graph.erase_node(norm)
    graph.eliminate_dead_code()
    return fx.GraphModule(traced, graph, class_name=type(traced).__name__).eval()


def norm_after(root: nn.Module, node: fx.Node) -> fx.Node:
    """Return the kept norm that alone reads a node, or the node itself."""
    users = list(node.users)
    return users[0] if len(users) == 1 and _is_norm(root, users[0]) else node


def settle_norms(model: nn.Module) -> nn.Module:
    """Return the network with its kept norms folded into their convolutions; itself where none are kept.

    Guarantees:
        Weights keep their levels, up to the sign: their grids are symmetric, one for each output channel, and scale
        with it. The logits differ by float rounding, and at 8 bits by that of the biases, which get the grids that an
        integer kernel adds them on.

    Args:
        model: a twin or a traced float network, in evaluation mode; left as it is.
    """
    if not isinstance(model, fx.GraphModule) or not any(_is_norm(model, node) for node in model.graph.nodes):
        return model
    settled = copy.deepcopy(model)
    for node in list(settled.graph.nodes):
        if _is_norm(settled, node):
            _fold(settled, node.args[0], node)
    settled.graph.eliminate_dead_code()
    settled.delete_all_unused_submodules()
    return fx.GraphModule(settled, settled.graph, class_name=type(model).__name__).eval()


@torch.no_grad()
def _fold(twin: fx.GraphModule, conv: fx.Node, node: fx.Node) -> None:
    norm = twin.get_submodule(str(node.target))
    assert isinstance(norm, nn.BatchNorm2d)
    assert norm.running_mean is not None
    assert norm.running_var is not None
    factor = (norm.running_var.double() + norm.eps).rsqrt()
    factor = factor if norm.weight is None else factor * norm.weight.double()
    shift = -norm.running_mean.double() * factor
    bias = (shift if norm.bias is None else shift + norm.bias.double()).to(norm.running_mean)
    twin.register_parameter(f"{conv.name}_bias", nn.Parameter(bias))
    node.replace_all_uses_with(conv)
    twin.graph.erase_node(node)
    with twin.graph.inserting_before(conv):
        added = twin.graph.get_attr(f"{conv.name}_bias")
    conv.args = (*conv.args[:2], added, *conv.args[3:])
    source, weight = conv.all_input_nodes[:2]
    if weight.op == "get_attr":  # a float network
        attribute(twin, str(weight.target)).mul_(factor.view(-1, 1, 1, 1))
        return
    reader, quantizer = twin.get_submodule(str(source.target)), twin.get_submodule(str(weight.target))
    assert isinstance(reader, ActivationQuantizer)
    assert isinstance(quantizer, WeightQuantizer)
    values = attribute(twin, str(weight.all_input_nodes[0].target))
    step = quantizer.step(values).double() * factor.abs()
    values.mul_(factor.view(-1, 1, 1, 1))
    integer = quantizer.bits == reader.bits == 8
    if integer:  # a channel that its norm all but switched off would have too fine a grid for its bias
        step = wide_enough(step, bias.double(), reader.step)
    step = step.to(values)
    if quantizer.bits > 1:
        step = torch.where(step > 0, step, 1.0)
    twin.set_submodule(str(weight.target), WeightQuantizer(quantizer.bits, step, learned=quantizer.learned))
    # The grid of fewer bits is coarse, and training has not seen it: there the shift is part of the rescaling.
    if integer:
        quantize_bias(twin, conv)


def quantize_bias(twin: fx.GraphModule, layer: fx.Node) -> None:
    """Put the bias of a layer whose input and weight are on grids on the product of those, if float32 can count on it.

    A finer product than that is no int32 grid: the bias then stays float.
    """
    source, rounded = layer.args[0], layer.args[1]
    bias = layer.args[2] if len(layer.args) > 2 else None
    assert isinstance(source, fx.Node)
    assert isinstance(rounded, fx.Node)
    reader, quantizer = twin.get_submodule(str(source.target)), twin.get_submodule(str(rounded.target))
    assert isinstance(reader, ActivationQuantizer)
    assert isinstance(quantizer, WeightQuantizer)
    if bias is None or quantizer.bits + reader.bits > 24:
        return
    own = quantizer.scale is not None
    name = f"quantizers.{layer.name}_bias"
    twin.add_submodule(name, BiasQuantizer(quantizer.bits, own_scale=own))
    with twin.graph.inserting_before(layer):
        divisor = twin.graph.get_attr(f"{rounded.target}.scale") if own else rounded.args[0]
        input_scale = twin.graph.get_attr(f"{source.target}.scale")
        added = twin.graph.call_module(name, (bias, divisor, input_scale))
    layer.args = (source, rounded, added, *layer.args[3:])


def _is_norm(root: nn.Module, node: fx.Node) -> bool:
    return node.op == "call_module" and isinstance(root.get_submodule(str(node.target)), nn.BatchNorm2d)


def _value(root: nn.Module, node: Any) -> Tensor | None:
    return None if node is None else attribute(root, str(node.target)).detach().clone()
