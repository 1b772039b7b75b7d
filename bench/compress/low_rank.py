"""Low rank: one layer becomes two thin ones by its truncated SVD (Denton et al., 2014; Zhang et al., 2015)."""

from __future__ import annotations

import copy
import dataclasses
import math
from collections.abc import Mapping
from dataclasses import dataclass
from typing import TYPE_CHECKING

import torch
from torch import Tensor, nn

from bench.compress.draw import draw
from bench.compress.fake_quant import is_quantized
from bench.compress.layers import Layer, between_ends, layers_that_run
from bench.compress.prune_channels import recalibrate_batch_norm
from bench.errors import UsageError
from bench.progress import Event

if TYPE_CHECKING:
    from bench.model import Subject
    from bench.recipe import Ingredients


@dataclass(frozen=True, kw_only=True)
class LowRank:
    """Replace convolutions and linear layers by two thinner ones each: rank r, the best in the sense of least squares.

    A k×k convolution becomes one with r outputs and a 1×1 convolution; a linear layer becomes two. Grouped
    convolutions stay as they are, and so do the first and the last layer unless told.

    Attributes:
        ratio: share of a layer's MACs, and of its weights, that goes at least; r is the largest rank that does it. A
            layer too small for rank 1 to do it stays.
        first_last: whether the first and the last layer are replaced, too.
        recalibration_images: training images on which batch-norm statistics are measured again; 0 leaves them.
    """

    ratio: float = 0.5
    first_last: bool = False
    recalibration_images: int = 1024

    def __post_init__(self) -> None:
        if not 0.0 < self.ratio < 1.0:
            raise UsageError(f"Expected a ratio between 0 and 1, both left out, got {self.ratio}.")
        if self.recalibration_images < 0:
            raise UsageError(f"Expected recalibration_images of at least 0, got {self.recalibration_images}.")

    def __call__(self, subject: Subject, ingredients: Ingredients) -> Subject:
        """Return the subject with a thinner twin.

        Raises:
            UsageError: it is quantised or sparse already, cannot live with the replacements, or came out no cheaper.
        """
        if is_quantized(subject.twin):
            raise UsageError("Low rank cannot follow quantisation; put the low-rank step before quantize.")
        if subject.sparse:
            raise UsageError("Low rank would fill the zeros again; put the low-rank step before prune-weights.")
        device, train = ingredients.device, ingredients.train
        model, image = copy.deepcopy(subject.twin).eval().to(device), train.pixels(slice(1)).to(device)
        before = layers_that_run(model, image)
        ranks = {name: rank for layer in before for name, rank in self._ranks(layer, before).items()}
        factorize(model, ranks)
        macs, left = sum(layer.macs for layer in before), self._macs_left(model, image)
        if left >= macs:
            raise UsageError(
                f"Low rank at ratio {self.ratio} left {left / macs:.0%} of the MACs: no layer can be replaced; choose "
                "a lower ratio or another architecture."
            )
        recalibrate_batch_norm(model, draw(self.recalibration_images, ingredients))
        ingredients.report(Event(stage="low-rank", note=f"{len(ranks)} layers replaced, MACs {macs:,} → {left:,}"))
        return dataclasses.replace(subject, twin=model, deployed=model)

    def _ranks(self, layer: Layer, layers: list[Layer]) -> dict[str, int]:
        """Return name → rank for a layer that is replaced, nothing for one that stays."""
        ends = {id(end.module) for end in layers} - {id(inner.module) for inner in between_ends(layers)}
        if not layer.plain or layer.grouped or "" in layer.names or (id(layer.module) in ends and not self.first_last):
            return {}
        outputs, inputs = layer.module.weight.shape[0], layer.module.weight[0].numel()
        rank = math.floor((1 - self.ratio) * outputs * inputs / (outputs + inputs) + 1e-9)
        return dict.fromkeys(layer.names, rank) if rank else {}

    @staticmethod
    def _macs_left(model: nn.Module, image: Tensor) -> int:
        try:
            return sum(layer.macs for layer in layers_that_run(model, image))
        except Exception as error:  # whatever a forward pass that reads its layers' attributes runs into
            raise UsageError(
                f"Cannot replace the layers of {type(model).__name__} by thinner ones: its forward pass does more with "
                f"them than call them ({type(error).__name__}); choose another architecture."
            ) from error


def factorize(model: nn.Module, ranks: Mapping[str, int]) -> None:
    """Replace layers by two thin ones each, in place.

    Args:
        model: holds convolutions or linear layers under these names.
        ranks: name of a layer → rank; a layer under several names is replaced by the same two under all of them.
    """
    made: dict[nn.Module, nn.Sequential] = {}
    for name, rank in ranks.items():
        layer = model.get_submodule(name)
        assert isinstance(layer, nn.Conv2d | nn.Linear)
        if layer not in made:
            with torch.random.fork_rng(devices=[]):  # new layers are first filled at random
                made[layer] = _thin_conv(layer, rank) if isinstance(layer, nn.Conv2d) else _thin_linear(layer, rank)
        model.set_submodule(name, made[layer].train(layer.training))


def _thin_conv(conv: nn.Conv2d, rank: int) -> nn.Sequential:
    """Return a convolution with `rank` outputs and a 1×1 convolution after it."""
    first = nn.Conv2d(
        conv.in_channels,
        rank,
        conv.kernel_size,  # type: ignore[arg-type]
        stride=conv.stride,  # type: ignore[arg-type]
        padding=conv.padding,  # type: ignore[arg-type]
        dilation=conv.dilation,  # type: ignore[arg-type]
        padding_mode=conv.padding_mode,
        bias=False,
    )
    return _filled(conv, first, nn.Conv2d(rank, conv.out_channels, 1, bias=conv.bias is not None))


def _thin_linear(linear: nn.Linear, rank: int) -> nn.Sequential:
    first = nn.Linear(linear.in_features, rank, bias=False)
    return _filled(linear, first, nn.Linear(rank, linear.out_features, bias=linear.bias is not None))


def _filled(layer: nn.Conv2d | nn.Linear, first: nn.Module, second: nn.Module) -> nn.Sequential:
    """Return two layers whose weights multiply to about a third's, on its device, in its layout."""
    thin = nn.Sequential(first, second).to(layer.weight)
    if isinstance(layer, nn.Conv2d) and layer.weight.is_contiguous(memory_format=torch.channels_last):
        thin = thin.to(memory_format=torch.channels_last)
    left, sizes, right = torch.linalg.svd(layer.weight.detach().double().flatten(1), full_matrices=False)
    weights = [parameter for name, parameter in thin.named_parameters() if name.endswith("weight")]
    root = sizes[: len(weights[0])].sqrt()  # half to each, so that neither needs a wider grid when quantised
    with torch.no_grad():
        weights[0].copy_((root[:, None] * right[: len(root)]).view_as(weights[0]))
        weights[1].copy_((left[:, : len(root)] * root).view_as(weights[1]))
        if layer.bias is not None:
            thin.get_parameter("1.bias").copy_(layer.bias)
    return thin
