"""Post-training quantisation, ranges from training images (Jacob et al., 2018; Nagel et al., 2021)."""

from __future__ import annotations

import dataclasses
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from typing import TYPE_CHECKING

import torch
from torch import Tensor, nn

from bench.compress.draw import draw
from bench.compress.fake_quant import ActivationQuantizer, is_quantized
from bench.compress.norms import keep_norms
from bench.compress.ranges import RangeMethod, Ranges
from bench.compress.trace import trace
from bench.compress.twin import Bits, insert_quantizers
from bench.errors import UsageError
from bench.progress import Event, Report

if TYPE_CHECKING:
    from bench.model import Subject
    from bench.recipe import Ingredients

_BATCH = 64


@dataclass(frozen=True, kw_only=True)
class Quantize:
    """Quantise weights and activations; ready as it is, and as the start of quantisation-aware fine-tuning.

    Weights: symmetric, one scale for each output channel. Activations: unsigned affine, one scale for each tensor,
    fixed after calibration. Anything but W8A8 is simulated: no runtime has kernels for it.

    For 4 bits and fewer, range "mse" and learn_steps are the place to start, with 8 bits at either end. Measured on a
    CIFAR-10 residual network of 70 % (W2A2 inside, 400 steps of clean fine-tuning): min-max 46 %, mse 63 %.

    Attributes:
        weight_bits: 1 (sign × mean size) … 16.
        activation_bits: 1 … 16. The image itself always has 8.
        first_last_bits: for weights and inputs of the first and last layer, if they differ (8 is usual for few bits).
        range: "minmax"; "percentile" to leave out outliers of activations; "mse" for the least squared error of
            activations, and of weights below 8 bits.
        percentile: the share kept at either end of the range, in per cent.
        learn_steps: whether fine-tuning moves the steps of the grids on from there (LSQ, Esser et al., 2020).
        calibration_images: how many training images the ranges come from.
    """

    weight_bits: int = 8
    activation_bits: int = 8
    first_last_bits: int | None = None
    range: RangeMethod = "minmax"
    percentile: float = 99.9
    learn_steps: bool = False
    calibration_images: int = 512

    def __post_init__(self) -> None:
        for name in ("weight_bits", "activation_bits", "first_last_bits"):
            bits = getattr(self, name)
            if bits is not None and not 1 <= bits <= 16:
                raise UsageError(f"Expected {name} from 1 to 16, got {bits}.")
        if not 50.0 < self.percentile <= 100.0:
            raise UsageError(f"Expected percentile above 50 and at most 100, got {self.percentile}.")
        if self.calibration_images < 1:
            raise UsageError(f"Expected calibration_images of at least 1, got {self.calibration_images}.")

    def __call__(self, subject: Subject, ingredients: Ingredients) -> Subject:
        """Return the subject with a quantised twin, frozen on training images.

        Raises:
            UsageError: it is quantised already, is sparse and would get 1-bit weights, or torch.export cannot trace it.
        """
        if is_quantized(subject.twin):
            raise UsageError("The model is quantised already; keep one quantize step in the recipe.")
        if subject.sparse and 1 in (self.weight_bits, self.first_last_bits):
            raise UsageError("The model is sparse, and 1-bit weights have no zero; choose 2 bits or more.")
        train, device = ingredients.train, ingredients.device
        channels, height, width = train.images.shape[1:]
        traced = keep_norms(trace(subject.twin, (channels, height, width), device))
        bits = Bits(weight=self.weight_bits, activation=self.activation_bits, first_last=self.first_last_bits)
        ranges = Ranges(method=self.range, percentile=self.percentile, learned=self.learn_steps)
        twin = insert_quantizers(traced, bits, ranges)
        calibrate(twin, draw(self.calibration_images, ingredients), ingredients.report)
        return dataclasses.replace(subject, twin=twin, deployed=twin)


def calibrate(twin: nn.Module, images: Tensor, report: Report) -> None:
    """Find and freeze the range of every activation quantiser, in place.

    Quantisers of (normalised) pixels see the images 0 and 1 and nothing else: a range from the data would clip the
    brightest pixels of an adversarial image, and their gradients with them.

    Args:
        twin: from `insert_quantizers`.
        images: (N, C, H, W) in [0, 1].
        report: told once a batch.
    """
    quantizers = [module for module in twin.modules() if isinstance(module, ActivationQuantizer)]
    pixels = [quantizer for quantizer in quantizers if quantizer.pixels]
    with torch.no_grad():
        with _observing(pixels):
            twin(torch.stack([torch.zeros_like(images[0]), torch.ones_like(images[0])]))
        with _observing([quantizer for quantizer in quantizers if not quantizer.pixels]):
            for start in range(0, len(images), _BATCH):
                twin(images[start : start + _BATCH])
                report(Event(stage="quantize", done=min(start + _BATCH, len(images)), total=len(images)))


@contextmanager
def _observing(quantizers: list[ActivationQuantizer]) -> Iterator[None]:
    """Let the quantisers record, then freeze them."""
    for quantizer in quantizers:
        quantizer.observing = True
    yield
    for quantizer in quantizers:
        quantizer.observing = False
        quantizer.freeze()
