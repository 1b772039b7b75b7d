"""How much each channel matters: size, batch-norm scale, Taylor expansion of the loss, or chance."""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Literal

import torch
from torch import Tensor, nn
from torch.nn import functional as F
from torch.nn.modules.batchnorm import _BatchNorm
from torch.nn.modules.conv import _ConvNd, _ConvTransposeNd

from bench.errors import UsageError
from bench.progress import Event

if TYPE_CHECKING:
    from bench.recipe import Ingredients

Importance = Literal["l1", "l2", "bn-scale", "taylor", "random"]

_SCORED = (_ConvNd, nn.Linear, _BatchNorm, nn.LayerNorm)
_BATCH = 64
_LEAST = 0.05  # share of its channels that a layer keeps when layers are ranked together


@dataclass(frozen=True, kw_only=True)
class Part:
    """What some channels are to one module: its outputs (or inputs) `index` belong to the channels `channel`.

    Attributes:
        name: the module's name in the network.
        module: usually has a `weight`.
        dim: 0 for outputs, 1 for inputs.
        index: (n,) int64.
        channel: (n,) int64; one channel may own several indices (a flattened map).
    """

    name: str
    module: nn.Module
    dim: int
    index: Tensor
    channel: Tensor


Saliency = Callable[[Part], Tensor | None]
"""Maps a part to a score for each output (or input) of its module; None where it has no say."""

Scorer = Callable[[Sequence[Part], int], Tensor | None]
"""Maps the parts of `width` channels to their scores, (width,) on the CPU; None where nothing can be said."""


def make_scorer(
    importance: Importance, model: nn.Module, ingredients: Ingredients, taylor_images: int, seed: int
) -> Scorer:
    """Return the scorer of that name for a model that is on the ingredients' device.

    Args:
        importance: "l1", "l2", "bn-scale", "taylor" or "random".
        model: maps (N, C, H, W) to (N, K), in eval mode; left as it is.
        ingredients: training images for "taylor".
        taylor_images: how many images "taylor" looks at.
        seed: of "taylor" and "random".

    Raises:
        UsageError: "bn-scale" on a network without batch-norm.
    """
    generator = torch.Generator().manual_seed(seed)
    if importance == "random":
        return lambda parts, width: torch.rand(width, generator=generator)
    if importance == "bn-scale":
        if not any(isinstance(module, _BatchNorm) for module in model.modules()):
            raise UsageError("Importance 'bn-scale' needs batch-norm, and this network has none; use 'l1'.")

        def scale_or_size(parts: Sequence[Part], width: int) -> Tensor | None:
            # Channels that meet no batch-norm have no such score, and would silently be left alone.
            score = score_channels(parts, width, batch_norm_scale)
            return score_channels(parts, width, size(1)) if score is None else score

        return scale_or_size
    if importance == "taylor":
        saliency = taylor(model, ingredients, taylor_images, generator)
    else:
        saliency = size(1 if importance == "l1" else 2)
    return lambda parts, width: score_channels(parts, width, saliency)


def score_channels(parts: Sequence[Part], width: int, saliency: Saliency) -> Tensor | None:
    """Return the mean over the parts of what each channel is worth to them, scaled to a mean of 1.

    This is the group score of DepGraph (Fang et al., 2023): what is removed together is judged together.
    """
    total, n = torch.zeros(width), 0
    for part in parts:
        values = saliency(part)
        if values is not None:
            total.scatter_add_(0, part.channel, values.detach().float().cpu()[part.index])
            n += 1
    if n == 0:
        return None
    total /= n
    return total / total.mean()


def rank_together(scores: Sequence[Tensor], ratio: float) -> list[int]:
    """Return how many channels each layer keeps when the worst `ratio` of all their channels together go.

    Guarantees:
        The total is `ratio` of all channels, to the nearest; each layer keeps at least a twentieth of its channels,
        or half of what is left of it under a uniform ratio if that is less, and at least one.

    Args:
        scores: (width,) of each layer, comparable to each other.
        ratio: share of channels to remove.
    """
    floors = [max(1, math.ceil(len(layer) * min(_LEAST, (1.0 - ratio) / 2))) for layer in scores]
    candidates = [layer.sort(descending=True).values[floor:] for layer, floor in zip(scores, floors, strict=True)]
    owner = torch.cat([torch.full((len(layer),), number) for number, layer in enumerate(candidates)])
    everything = torch.cat(candidates)
    removed = min(len(everything), round(ratio * sum(len(layer) for layer in scores)))
    gone = owner[everything.argsort(stable=True)[:removed]].bincount(minlength=len(scores))
    return [len(layer) - int(lost) for layer, lost in zip(scores, gone, strict=True)]


def size(p: int) -> Saliency:
    """Return Σ|w|^p over the weights of each output or input (Li et al., 2017, for p = 1)."""

    def saliency(part: Part) -> Tensor | None:
        weight = _weight(part.module)
        return None if weight is None else _sums(part.module, part.dim, weight.detach().abs().pow(p))

    return saliency


def batch_norm_scale(part: Part) -> Tensor | None:
    """Return |γ| of a batch-norm (network slimming, Liu et al., 2017); other modules have no say."""
    return size(1)(part) if isinstance(part.module, _BatchNorm) else None


def taylor(model: nn.Module, ingredients: Ingredients, n: int, generator: torch.Generator) -> Saliency:
    """Return |Σ w·∂L/∂w| over the weights of each output or input (Molchanov et al., 2019).

    It is, to first order, how much the cross-entropy changes when they are set to zero. The sum is taken batch by
    batch and its size averaged: over all images of a trained network the gradient is nearly zero.

    Args:
        model: in eval mode, on the ingredients' device.
        ingredients: `n` of its training images are drawn; they count as images forward and backward, not against the
            budget of fine-tuning.
        n: number of images.
        generator: draws them.
    """
    train, device = ingredients.train, ingredients.device
    order = torch.randperm(len(train), generator=generator)[:n]
    scored = [(name, m, weight) for name, m in model.named_modules() if (weight := _weight(m)) is not None]
    totals: dict[tuple[str, int], Tensor] = {}
    for start in range(0, len(order), _BATCH):
        index = order[start : start + _BATCH].to(train.images.device)
        with torch.enable_grad():
            loss = F.cross_entropy(model(train.pixels(index).to(device)), train.labels[index].to(device))
            weights = [weight for _, _, weight in scored]
            gradients = torch.autograd.grad(loss, weights, allow_unused=True, materialize_grads=True)
        for (name, module, weight), gradient in zip(scored, gradients, strict=True):
            for dim in (0, 1):
                change = _sums(module, dim, weight.detach() * gradient).abs() * (len(index) / len(order))
                totals[name, dim] = totals.get((name, dim), 0.0) + change
        ingredients.meter.forward += len(index)
        ingredients.meter.backward += len(index)
        ingredients.report(Event(stage="prune-channels", done=start + len(index), total=len(order)))
    return lambda part: totals.get((part.name, part.dim))


def _weight(module: nn.Module) -> Tensor | None:
    """Return the weight of a module whose channels are scored, where it has one."""
    weight = getattr(module, "weight", None) if isinstance(module, _SCORED) else None
    return weight if isinstance(weight, Tensor) else None


def _sums(module: nn.Module, dim: int, values: Tensor) -> Tensor:
    """Sum values, shaped as a module's weight, over all but its outputs (dim 0) or inputs (dim 1)."""
    if values.dim() == 1:  # norms: each output is one input
        return values
    if isinstance(module, _ConvTransposeNd):
        dim = 1 - dim
    sums = values.transpose(0, dim).flatten(1).sum(1)
    return sums.repeat(module.groups) if isinstance(module, _ConvNd) and dim == 1 else sums
