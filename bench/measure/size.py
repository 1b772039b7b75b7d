"""How many numbers a model consists of, how many of them are not zero, and what they weigh without the zeros."""

from __future__ import annotations

import math
from dataclasses import dataclass

import torch
from torch import Tensor, fx, nn

from bench.model import grid_parameters

_FLOAT_BITS = 32


@dataclass(frozen=True, kw_only=True)
class Size:
    """Trainable numbers of a model, each counted once however often it is used.

    Attributes:
        parameters: weights, biases, batch-norm scales and shifts; not the steps of grids, learned or not.
        nonzeros: those that are not zero; in a twin, after rounding to the grid.
    """

    parameters: int
    nonzeros: int


@dataclass(frozen=True, kw_only=True)
class _Weight:
    """A parameter as it is used: its values, their bits, and the numbers that give the values their scale."""

    values: Tensor
    bits: int
    scales: int


def count_parameters(model: nn.Module) -> Size:
    """Count the parameters of a model or of a twin (whose batch-norms are part of its convolutions)."""
    steps = {id(parameter) for parameter in grid_parameters(model)}
    weights = [weight for name, weight in _as_used(model).items() if name not in steps]
    return Size(
        parameters=sum(weight.values.numel() for weight in weights),
        nonzeros=sum(int(torch.count_nonzero(weight.values)) for weight in weights),
    )


def compressed_bytes(model: nn.Module) -> int:
    """Return the bytes of a model's numbers with the zeros of its weights left out.

    A weight (of two dimensions or more) takes one bit a value, which says where it is not zero, and the values that
    are not, at their bits; or all values, if that is less. For 2:4 sparsity this is what sparse tensor cores store,
    two bits of position for each value kept: both come to one bit a value. All other numbers (biases, batch-norms,
    scales of grids) take 4 bytes each.
    """
    used = _as_used(model)
    total = 0
    for tensor in {id(tensor): tensor for tensor in (*model.parameters(), *model.buffers())}.values():
        weight = used.get(id(tensor))
        if weight is None or tensor.dim() < 2:
            total += 4 * tensor.numel()
            continue
        n, kept = tensor.numel(), int(torch.count_nonzero(weight.values))
        total += math.ceil(min(n + kept * weight.bits, n * weight.bits) / 8) + 4 * weight.scales
    return total


def _as_used(model: nn.Module) -> dict[int, _Weight]:
    """Return id of a parameter → the parameter, on its grid where a twin passes it through a quantiser by itself."""
    used = {id(p): _Weight(values=p.detach(), bits=_FLOAT_BITS, scales=0) for p in model.parameters()}
    if not isinstance(model, fx.GraphModule):
        return used
    parameters = dict(model.named_parameters(remove_duplicate=False))
    for node in model.graph.nodes:
        source = node.args[0] if node.op == "call_module" and len(node.args) == 1 else None
        if isinstance(source, fx.Node) and source.op == "get_attr" and source.target in parameters:
            parameter, quantizer = parameters[str(source.target)], model.get_submodule(str(node.target))
            with torch.no_grad():
                values = quantizer(parameter).detach()
            # A scale that the quantiser keeps itself is among the model's own numbers.
            scales = 0 if [*quantizer.parameters(), *quantizer.buffers()] else parameter.shape[0]
            used[id(parameter)] = _Weight(
                values=values, bits=int(getattr(quantizer, "bits", _FLOAT_BITS)), scales=scales
            )
    return used
