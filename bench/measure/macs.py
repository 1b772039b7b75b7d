"""Multiply-accumulates of one prediction, and the same weighted by bits (BOPs; Baskin et al., 2021, without adders)."""

from __future__ import annotations

import math
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor, fx, nn

from bench.flop_counter import macs_during, outer_products_during

_FLOAT_BITS = 32


@dataclass(frozen=True, kw_only=True)
class LayerMacs:
    """The share of one convolution or linear layer.

    Attributes:
        name: the layer's name in the model, or its node's in a twin.
        macs: multiply-accumulates on one image.
        weight_bits: bits of its weights, 32 if not quantised.
        activation_bits: bits of its input, 32 if not quantised.
    """

    name: str
    macs: int
    weight_bits: int
    activation_bits: int

    @property
    def bops(self) -> int:
        """MACs × weight bits × activation bits."""
        return self.macs * self.weight_bits * self.activation_bits


@dataclass(frozen=True, kw_only=True)
class MacCount:
    """What one forward pass on one image computes.

    Attributes:
        macs: all multiply-accumulates, attention's products and outer ones included.
        bops: sum over layers of MACs × weight bits × activation bits; what is in no layer counts 32 × 32.
        layers: convolutions and linears, in the order they run.
    """

    macs: int
    bops: int
    layers: tuple[LayerMacs, ...]


def count_macs(model: nn.Module, image_shape: tuple[int, int, int]) -> MacCount:
    """Count the MACs and BOPs of one image, (C, H, W); the model is left in the mode it was in.

    Linear layers written as products of single numbers are found only as far as `outer_products_during` tells.
    """
    tensor = next(iter((*model.parameters(), *model.buffers())), torch.zeros(()))
    image = torch.rand(1, *image_shape, generator=torch.Generator().manual_seed(0)).to(tensor.device)
    with _evaluating(model), torch.no_grad():
        macs, _ = macs_during(lambda: model(image))
        # Of two images: a product of one image's values by the weights has no more elements than the weights.
        macs += math.ceil(outer_products_during(lambda: model(image.expand(2, -1, -1, -1).contiguous())) / 2)
        layers = _layers_of_graph(model, image) if _is_traced(model) else _layers_of_modules(model, image)
    elsewhere = macs - sum(layer.macs for layer in layers)
    bops = sum(layer.bops for layer in layers) + elsewhere * _FLOAT_BITS**2
    return MacCount(macs=macs, bops=bops, layers=tuple(layers))


@contextmanager
def _evaluating(model: nn.Module) -> Iterator[None]:
    training = {module: module.training for module in model.modules()}
    model.eval()
    yield
    for module, mode in training.items():
        module.training = mode


def _is_traced(model: nn.Module) -> bool:
    """Whether the model is a graph of operations (a twin) rather than of modules."""
    return isinstance(model, fx.GraphModule) and any(_is_layer(node) for node in model.graph.nodes)


def _is_layer(node: fx.Node) -> bool:
    return node.op == "call_function" and str(node.target).startswith(("aten.conv", "aten.linear"))


def _layers_of_graph(model: nn.Module, image: Tensor) -> list[LayerMacs]:
    """Count each layer of a twin, with the bits of the quantisers that feed it."""
    assert isinstance(model, fx.GraphModule)
    recorder = _Recorder(model)
    recorder.run(image)
    return recorder.layers


class _Recorder(fx.Interpreter):
    """Runs a graph and notes what each layer costs."""

    def __init__(self, model: fx.GraphModule) -> None:
        super().__init__(model)
        self.layers: list[LayerMacs] = []

    def run_node(self, node: fx.Node) -> Any:
        if not _is_layer(node):
            return super().run_node(node)
        run_node = super().run_node
        macs, result = macs_during(lambda: run_node(node))
        self.layers.append(
            LayerMacs(
                name=node.name,
                macs=macs,
                weight_bits=self._bits(node.args[1]),
                activation_bits=self._bits(node.args[0]),
            )
        )
        return result

    def _bits(self, source: Any) -> int:
        """Return the bits of the quantiser that made a tensor; any module with `bits` counts as one."""
        if isinstance(source, fx.Node) and source.op == "call_module":
            return int(getattr(self.module.get_submodule(str(source.target)), "bits", _FLOAT_BITS))
        return _FLOAT_BITS


def _layers_of_modules(model: nn.Module, image: Tensor) -> list[LayerMacs]:
    """Count each convolution and linear of a float model, by its shapes."""
    layers: list[LayerMacs] = []

    def note(name: str, module: nn.Module, result: Tensor) -> None:
        weight = module.weight
        assert isinstance(weight, Tensor)
        # Every output value is one weight row (all inputs of one output channel) times some input.
        macs = result.numel() // result.shape[0] * weight[0].numel()
        layers.append(LayerMacs(name=name, macs=macs, weight_bits=_FLOAT_BITS, activation_bits=_FLOAT_BITS))

    hooks = [
        module.register_forward_hook(lambda module, _, result, name=name: note(name, module, result))
        for name, module in model.named_modules()
        if isinstance(module, nn.Conv1d | nn.Conv2d | nn.Conv3d | nn.Linear)
    ]
    try:
        model(image)
    finally:
        for hook in hooks:
            hook.remove()
    return layers
