"""Mean and standard deviation inside the model, so that every attack works on images in [0, 1]."""

from __future__ import annotations

import math
from dataclasses import dataclass

import torch
from torch import Tensor, nn

from bench.errors import UsageError
from bench.registry import did_you_mean


@dataclass(frozen=True, kw_only=True)
class Normalization:
    """What a network expects of its input: `(image - mean) / std`, one number a channel, or one for all."""

    mean: tuple[float, ...]
    std: tuple[float, ...]


NORMALIZATIONS: dict[str, Normalization | None] = {
    "none": None,
    "half": Normalization(mean=(0.5,), std=(0.5,)),
    "cifar10": Normalization(mean=(0.4914, 0.4822, 0.4465), std=(0.2471, 0.2435, 0.2616)),
    "cifar100": Normalization(mean=(0.5071, 0.4867, 0.4408), std=(0.2675, 0.2565, 0.2761)),
    "imagenet": Normalization(mean=(0.485, 0.456, 0.406), std=(0.229, 0.224, 0.225)),
}


class Normalized(nn.Module):
    """A network with its normalisation in front: images (N, C, H, W) in [0, 1] → logits (N, K).

    The inner network is called `model` and the constants stay out of the state dict, so that a state dict saved
    from here loads into the bare network once the usual prefix `model.` is stripped.
    """

    mean: Tensor
    std: Tensor

    def __init__(self, model: nn.Module, normalization: Normalization) -> None:
        super().__init__()
        self.model = model
        self.register_buffer("mean", torch.tensor(normalization.mean).view(1, -1, 1, 1), persistent=False)
        self.register_buffer("std", torch.tensor(normalization.std).view(1, -1, 1, 1), persistent=False)

    def forward(self, images: Tensor) -> Tensor:
        """Return the logits (N, K) for images (N, C, H, W) in [0, 1]."""
        logits: Tensor = self.model((images - self.mean) / self.std)
        return logits


def parse_normalization(text: str, channels: int) -> Normalization | None:
    """Read a name (`"cifar10"`) or `"0.485,0.456,0.406/0.229,0.224,0.225"`; None for `"none"`.

    Raises:
        UsageError: neither a name nor numbers, a std that is not above zero, or not one number for each of `channels`.
    """
    if text in NORMALIZATIONS:
        chosen = NORMALIZATIONS[text]
    elif "/" in text:
        chosen = _numbers(text)
    else:
        raise UsageError(
            f"There is no normalisation '{text}'; name one or write MEAN,MEAN,MEAN/STD,STD,STD."
            f"{did_you_mean(text, NORMALIZATIONS)}"
        )
    for part in (chosen.mean, chosen.std) if chosen else ():
        if len(part) not in (1, channels):
            raise UsageError(
                f"The normalisation '{text}' has {len(part)} numbers in each half, and the images {channels} channels: "
                f"expected as many, or one for all."
            )
    return chosen


def normalized(model: nn.Module, normalization: Normalization | None) -> nn.Module:
    """Put `normalization` in front of `model`; None leaves it as it is."""
    return model if normalization is None else Normalized(model, normalization)


def _numbers(text: str) -> Normalization:
    """Read the explicit form, `MEAN,…/STD,…`."""
    try:
        mean, std = (tuple(float(number) for number in half.split(",")) for half in text.split("/"))
    except ValueError as error:
        raise UsageError(
            f"Expected a normalisation such as '0.485,0.456,0.406/0.229,0.224,0.225', got '{text}'."
        ) from error
    if not all(math.isfinite(number) for number in mean + std) or min(std) <= 0:
        raise UsageError(f"Expected finite means and standard deviations above zero, got '{text}'.")
    return Normalization(mean=mean, std=std)
