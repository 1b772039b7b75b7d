"""Give what is left of a network the activations it had: REPAIR (Jordan et al., 2023), for networks without norms."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from functools import partial

import torch
from torch import Tensor, nn
from torch.nn.modules.batchnorm import _NormBase
from torch.nn.modules.conv import _ConvNd

_NORMS = (_NormBase, nn.LayerNorm, nn.GroupNorm, nn.RMSNorm)
LARGEST = 100.0
"""By how much a channel is amplified at most: what hardly varies is rounding, not signal."""


@dataclass(frozen=True, kw_only=True)
class Moments:
    """Mean and standard deviation of each output channel of a layer, before its activation function; (C,) both."""

    mean: Tensor
    std: Tensor

    @classmethod
    def of(cls, outputs: Tensor, layer: nn.Module) -> Moments:
        """Measure them over images and positions."""
        dim = 1 if isinstance(layer, _ConvNd) else -1
        flat = outputs.detach().movedim(dim, 0).flatten(1)
        return cls(mean=flat.mean(1), std=flat.std(1, correction=0))


@torch.no_grad()
def repair(model: nn.Module, whole: nn.Module, kept: Mapping[str, Sequence[int]], images: Tensor) -> None:
    """Rescale each layer of a narrower network, so that its channels keep the moments they had in the whole one.

    Removed channels take signal away from every layer that read them. Layer by layer it fades, until a deep network
    without norms tells no two images apart and cannot even be fine-tuned. Where norms are, they do this themselves:
    nothing is changed then.

    Args:
        model: the narrower network, changed in place: weights and biases of its convolutions and linear layers.
        whole: the network before.
        kept: for layers that lost outputs, the ones that are left, by the layer's name.
        images: (N, C, H, W) in [0, 1], in one batch; fewer than two, and nothing changes.
    """
    if len(images) < 2 or any(isinstance(module, _NORMS) for module in model.modules()):
        return
    wanted: dict[str, Moments] = {}

    def measure(layer: nn.Module, inputs: object, outputs: Tensor, name: str) -> None:
        wanted.setdefault(name, Moments.of(outputs, layer))

    def mend(layer: nn.Module, inputs: object, outputs: Tensor, name: str) -> Tensor:
        moments = wanted.pop(name, None)
        if moments is None:  # a layer that is used twice is mended where it is used first
            return outputs
        index = torch.tensor(kept.get(name, range(len(moments.mean))), device=outputs.device)
        return _mend(layer, outputs, Moments(mean=moments.mean[index], std=moments.std[index]))

    for network, hook in ((whole, measure), (model, mend)):
        handles = [
            layer.register_forward_hook(partial(hook, name=name))
            for name, layer in network.named_modules()
            if isinstance(layer, _ConvNd | nn.Linear)
        ]
        try:
            network(images)
        finally:
            for handle in handles:
                handle.remove()


def _mend(layer: nn.Module, outputs: Tensor, wanted: Moments) -> Tensor:
    """Change a layer's weights; return the outputs that it has then."""
    assert isinstance(layer, _ConvNd | nn.Linear)
    found = Moments.of(outputs, layer)
    scale = (wanted.std / found.std.clamp_min(1e-12)).clamp_max(LARGEST)
    shift = wanted.mean - scale * found.mean if layer.bias is not None else torch.zeros_like(scale)
    layer.weight.mul_(scale.view(-1, *[1] * (layer.weight.dim() - 1)))
    if layer.bias is not None:
        layer.bias.mul_(scale).add_(shift)
    shape = (-1, *[1] * (outputs.dim() - 2)) if isinstance(layer, _ConvNd) else (-1,)
    return outputs * scale.view(shape) + shift.view(shape)
