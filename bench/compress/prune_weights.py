"""Unstructured and N:M sparsity: the smallest weights become zero (Han et al., 2015; Mishra et al., 2021)."""

from __future__ import annotations

import copy
import dataclasses
import math
from collections.abc import Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Literal

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

Pattern = Literal["global", "uniform", "2:4"]


@dataclass(frozen=True, kw_only=True)
class PruneWeights:
    """Set the smallest weights of convolutions and linear layers to zero, for good: fine-tuning keeps the zeros.

    Depthwise convolutions stay dense (they have nine weights a channel and few in all), and so do the first and the
    last layer unless told (as Evci et al., 2020, leave their first). The network keeps its shape, so that runtimes with
    dense kernels gain no time; what it gains is bytes.

    Attributes:
        sparsity: share of zeros among the weights of the layers that are pruned.
        pattern: where zeros may be: "global", anywhere, no layer left with less than a quarter of the average density
            or with fewer weights than output channels (whole layers would vanish); "uniform", the same share in each
            layer; "2:4", two of each four consecutive input channels, as sparse tensor cores want them: sparsity is
            then 0.5, and layers whose input channels do not come in fours stay dense.
        first_last: whether the first and the last layer are pruned, too.
        recalibration_images: training images on which batch-norm statistics are measured again; 0 leaves them.
    """

    sparsity: float = 0.5
    pattern: Pattern = "global"
    first_last: bool = False
    recalibration_images: int = 1024

    def __post_init__(self) -> None:
        if not 0.0 < self.sparsity < 1.0:
            raise UsageError(f"Expected a sparsity between 0 and 1, both left out, got {self.sparsity}.")
        if self.pattern == "2:4" and self.sparsity != 0.5:
            raise UsageError(f"Pattern 2:4 means a sparsity of 0.5, got {self.sparsity}; leave sparsity out.")
        if self.recalibration_images < 0:
            raise UsageError(f"Expected recalibration_images of at least 0, got {self.recalibration_images}.")

    def __call__(self, subject: Subject, ingredients: Ingredients) -> Subject:
        """Return the subject with a sparse twin.

        Raises:
            UsageError: it is quantised already, has no layer to prune, or would lose whole layers.
        """
        if is_quantized(subject.twin):
            raise UsageError("Pruning cannot follow quantisation; put the prune-weights step before quantize.")
        device, train = ingredients.device, ingredients.train
        model = copy.deepcopy(subject.twin).eval().to(device)
        weights = self._weights(model, train.pixels(slice(1)).to(device))
        with torch.no_grad():
            for weight, kept in zip(weights, self._kept(weights), strict=True):
                weight.masked_fill_(~kept, 0.0)
        recalibrate_batch_norm(model, draw(self.recalibration_images, ingredients))
        total, zeros = sum(weight.numel() for weight in weights), sum(int((weight == 0).sum()) for weight in weights)
        ingredients.report(Event(stage="prune-weights", note=f"{zeros:,} of {total:,} weights are zero"))
        return dataclasses.replace(subject, twin=model, deployed=model, sparse=True)

    def _weights(self, model: nn.Module, image: Tensor) -> list[Tensor]:
        """Return the weights to prune, a shared one once."""
        layers = layers_that_run(model, image)
        layers = layers if self.first_last else between_ends(layers)
        weights = [layer.module.weight for layer in layers if self._prunable(layer)] + self._of_attention(model)
        if not weights:
            ends = "" if self.first_last else " besides its first and its last"
            fours = " with input channels in fours" if self.pattern == "2:4" else ""
            raise UsageError(
                f"Expected a network with convolutions or linear layers{fours}{ends}, found none to prune."
            )
        return list({id(weight): weight for weight in weights}.values())

    def _prunable(self, layer: Layer) -> bool:
        return layer.plain and not layer.depthwise and self._fits(layer.module.weight)

    def _of_attention(self, model: nn.Module) -> list[Tensor]:
        """Return the projections that PyTorch's own attention multiplies with itself, without calling a layer."""
        attentions = [module for module in model.modules() if isinstance(module, nn.MultiheadAttention)]
        packed = [weight for module in attentions for weight in (module.in_proj_weight, module.out_proj.weight)]
        return [weight for weight in packed if isinstance(weight, nn.Parameter) and self._fits(weight)]

    def _fits(self, weight: Tensor) -> bool:
        return self.pattern != "2:4" or weight.shape[1] % 4 == 0

    def _kept(self, weights: Sequence[Tensor]) -> list[Tensor]:
        """Return for each weight where it is kept."""
        match self.pattern:
            case "2:4":
                return [two_of_four(weight) for weight in weights]
            case "uniform":
                return [_largest(weight, max(1, round((1 - self.sparsity) * weight.numel()))) for weight in weights]
            case "global":
                return self._largest_of_all(weights)

    def _largest_of_all(self, weights: Sequence[Tensor]) -> list[Tensor]:
        total = sum(weight.numel() for weight in weights)
        n_kept = round((1 - self.sparsity) * total)
        density = (1 - self.sparsity) / 4
        safe = [max(weight.shape[0], math.ceil(density * weight.numel())) for weight in weights]
        if sum(safe) > n_kept:
            least = sum(weight.shape[0] for weight in weights)
            raise UsageError(
                f"A sparsity of {self.sparsity} leaves {n_kept:,} of {total:,} weights, and the layers have {least:,} "
                "output channels that want one each; choose a lower one, or pattern uniform."
            )
        scores = torch.cat(
            [
                weight.detach().abs().masked_fill(_largest(weight, n), math.inf).flatten()
                for weight, n in zip(weights, safe, strict=True)
            ]
        )
        parts = _largest(scores, n_kept).split([weight.numel() for weight in weights])
        return [part.view(weight.shape) for part, weight in zip(parts, weights, strict=True)]


def two_of_four(weight: Tensor) -> Tensor:
    """Return where the two largest of each four consecutive input channels are.

    Args:
        weight: (C_out, C_in, ...), C_in a multiple of 4; a convolution's groups of four share their pixel.
    """
    fours = weight.detach().abs().movedim(1, -1).unflatten(-1, (-1, 4))
    best = fours.argsort(dim=-1, descending=True, stable=True)[..., :2]
    kept = torch.zeros_like(fours, dtype=torch.bool).scatter(-1, best, True)
    return kept.flatten(-2).movedim(-1, 1)


def _largest(weight: Tensor, n: int) -> Tensor:
    """Return where the `n` largest values are, the first of equals; the weight's shape."""
    best = weight.detach().abs().flatten().argsort(descending=True, stable=True)[:n]
    kept = torch.zeros(weight.numel(), dtype=torch.bool, device=weight.device)
    kept[best] = True
    return kept.view(weight.shape)
