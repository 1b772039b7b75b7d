"""How many numbers a model consists of, and how many of them are not zero."""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import Tensor, fx, nn

from bench.model import grid_parameters


@dataclass(frozen=True, kw_only=True)
class Size:
    """Trainable numbers of a model, each counted once however often it is used.

    Attributes:
        parameters: weights, biases, batch-norm scales and shifts; not the steps of grids, learned or not.
        nonzeros: those that are not zero; in a twin, after rounding to the grid.
    """

    parameters: int
    nonzeros: int


def count_parameters(model: nn.Module) -> Size:
    """Count the parameters of a model or of a twin (whose batch-norms are part of its convolutions)."""
    steps = {id(parameter) for parameter in grid_parameters(model)}
    values = {id(parameter): parameter.detach() for parameter in model.parameters() if id(parameter) not in steps}
    total = sum(value.numel() for value in values.values())
    values |= _on_their_grids(model)
    return Size(parameters=total, nonzeros=sum(int(torch.count_nonzero(value)) for value in values.values()))


def _on_their_grids(model: nn.Module) -> dict[int, Tensor]:
    """Return id of a parameter → its quantised values, for those a twin passes through a quantiser by itself."""
    if not isinstance(model, fx.GraphModule):
        return {}
    parameters = dict(model.named_parameters(remove_duplicate=False))
    quantized: dict[int, Tensor] = {}
    for node in model.graph.nodes:
        source = node.args[0] if node.op == "call_module" and len(node.args) == 1 else None
        if isinstance(source, fx.Node) and source.op == "get_attr" and source.target in parameters:
            parameter = parameters[str(source.target)]
            with torch.no_grad():
                quantized[id(parameter)] = model.get_submodule(str(node.target))(parameter).detach()
    return quantized
