"""The convolutions and linear layers of a network, in the order they run."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import torch
from torch import Tensor, nn


@dataclass(frozen=True, kw_only=True)
class Layer:
    """One convolution or linear layer, and how much it works.

    Attributes:
        names: where the network keeps it; several if it is used under several names.
        module: the layer itself.
        positions: how often each output channel is computed for one image.
    """

    names: tuple[str, ...]
    module: nn.Conv2d | nn.Linear
    positions: int

    @property
    def plain(self) -> bool:
        """Whether its weight is an ordinary parameter, used as it is.

        A subclass may do anything with its weight before it multiplies: standardise it, say, which undoes zeros.
        """
        return type(self.module) in (nn.Conv2d, nn.Linear) and isinstance(self.module.weight, nn.Parameter)

    @property
    def grouped(self) -> bool:
        """Whether an output channel sees only some of the input channels."""
        return isinstance(self.module, nn.Conv2d) and self.module.groups > 1

    @property
    def depthwise(self) -> bool:
        """Whether an output channel sees a single input channel out of several."""
        return self.grouped and self.module.weight.shape[1] == 1

    @property
    def macs(self) -> int:
        """Multiply-accumulates on one image."""
        return self.positions * self.module.weight.numel()


def layers_that_run(model: nn.Module, image: Tensor) -> list[Layer]:
    """Return the convolutions and linear layers that one forward pass calls, by their first call.

    Args:
        model: in evaluation mode, left as it is.
        image: (1, C, H, W) in [0, 1], on the model's device.
    """
    names: dict[nn.Module, list[str]] = {}
    for name, module in model.named_modules(remove_duplicate=False):
        if isinstance(module, nn.Conv2d | nn.Linear):
            names.setdefault(module, []).append(name)
    positions: dict[nn.Module, int] = {}

    def note(module: nn.Module, arguments: tuple[Tensor, ...], result: Tensor) -> None:
        assert isinstance(module.weight, Tensor)
        positions[module] = positions.get(module, 0) + result.numel() // module.weight.shape[0]

    hooks = [module.register_forward_hook(note) for module in names]
    try:
        with torch.no_grad():
            model(image)
    finally:
        for hook in hooks:
            hook.remove()
    return [
        Layer(names=tuple(names[module]), module=module, positions=count)
        for module, count in positions.items()
        if isinstance(module, nn.Conv2d | nn.Linear)
    ]


def between_ends(layers: Sequence[Layer]) -> list[Layer]:
    """Return the layers less the first and the last, which are small and which accuracy depends on most."""
    return list(layers[1:-1])
