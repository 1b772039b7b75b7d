"""Proof that removing channels did what it should: the same logits as a network that never reads them."""

from __future__ import annotations

import copy
from collections.abc import Iterable
from typing import Any

import torch
from torch import Tensor, nn
from torch.nn.modules.conv import _ConvNd

from bench.compress.prune_structure import Removed


def _mixes(module: nn.Module) -> bool:
    """Whether a module's statistics mix all channels, so that removing one changes the others."""
    # timm's norm of ConvNeXt V2 is told by its name: timm takes seconds to import.
    return isinstance(module, nn.LayerNorm | nn.GroupNorm) or type(module).__name__ == "GlobalResponseNorm"


class _Affine(nn.Module):
    """The scales and shifts of a norm, without its statistics."""

    def __init__(self, norm: Any) -> None:
        super().__init__()
        self.weight, self.bias = norm.weight, norm.bias
        # Whether channels are the second dimension, and not the last.
        self.leading = (
            isinstance(norm, nn.GroupNorm) or "2d" in type(norm).__name__ or getattr(norm, "channel_dim", -1) == 1
        )

    def forward(self, x: Tensor) -> Tensor:
        shape = (-1, *[1] * (x.dim() - 2)) if self.leading else (-1,)
        x = x if self.weight is None else x * self.weight.view(shape)
        return x if self.bias is None else x + self.bias.view(shape)


def removes_what_it_says(before: nn.Module, after: nn.Module, removed: Iterable[Removed], images: Tensor) -> bool:
    """Whether a pruned network is the whole one with the weights of the removed inputs at zero.

    Guarantees:
        True when every reader lost exactly the inputs that its writers no longer write; a dependency that was
        followed wrongly is found though all shapes fit. Norms over channels keep their scales and shifts in both
        networks, not their statistics.

    Args:
        before: the whole network; changed in place.
        after: the pruned network; left as it is.
        removed: which inputs of which layers went, in the order they went.
        images: (N, C, H, W).
    """
    layers = dict(before.named_modules())
    left: dict[str, Tensor] = {}  # a layer that reads several writers loses inputs several times
    with torch.no_grad():
        for loss in removed:
            layer = layers[loss.layer]
            assert isinstance(layer, _ConvNd | nn.Linear)
            inputs = left.get(loss.layer, torch.arange(inputs_of(layer)))
            going = torch.zeros(len(inputs), dtype=torch.bool)
            going[list(loss.index)] = True
            _zero_inputs(layer, inputs[going].to(images.device))
            left[loss.layer] = inputs[~going]
        whole, pruned = _without_statistics(before), _without_statistics(copy.deepcopy(after))
        try:
            expected, got, tolerance = whole.double()(images.double()), pruned.double()(images.double()), 1e-6
        except RuntimeError:  # it makes tensors of its own, in float32
            expected, got, tolerance = whole.float()(images), pruned.float()(images), 1e-3
        return bool((expected - got).norm() <= tolerance * expected.norm())


def inputs_of(layer: nn.Module) -> int:
    """Return the number of inputs of a convolution or linear layer."""
    return int(layer.in_channels if isinstance(layer, _ConvNd) else layer.in_features)  # type: ignore[arg-type]


def _zero_inputs(layer: nn.Module, inputs: Tensor) -> None:
    assert isinstance(layer, _ConvNd | nn.Linear)
    if isinstance(layer, _ConvNd) and layer.groups > 1:
        per_group, outputs = layer.in_channels // layer.groups, layer.out_channels // layer.groups
        grouped = layer.weight.view(layer.groups, outputs, *layer.weight.shape[1:])
        grouped[inputs // per_group, :, inputs % per_group] = 0
    else:
        layer.weight[:, inputs] = 0


def _without_statistics(model: nn.Module) -> nn.Module:
    for parent in list(model.modules()):
        for name, child in parent.named_children():
            if _mixes(child):
                setattr(parent, name, _Affine(child))
    return model
