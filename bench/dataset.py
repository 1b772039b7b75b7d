"""Images with labels, as the bench holds them: uint8 in memory, [0, 1] when a model sees them."""

from __future__ import annotations

import hashlib
from dataclasses import dataclass
from functools import cached_property
from typing import TYPE_CHECKING

from bench.errors import UsageError

if TYPE_CHECKING:
    import torch
    from torch import Tensor


TEST_SETS = {
    "cifar10": "815bee49b92162b075142619fb16b9562d1186e49d0509d9cf0af8940f739265",
    "digits": "ff68fe1f7ca54f45f3aed7aa08ec7fb7d2c3cc8b6675bd81a42ec6f23bd580f8",
    "fashion-mnist": "3581bf52f521803120533f28e81ae934decd1771980630083c739dc6da7d3bc6",
    "mnist": "4718853ea946af656684509414983beff2e65cf414265c27966161014c003b8b",
}
"""`Examples.digest` of the test images that rows on a public data set are compared on: all of them, in the order in
which their authors published them (of the digits: the embedded track's)."""


@dataclass(frozen=True, kw_only=True)
class Examples:
    """A fixed list of labelled images.

    Attributes:
        images: (N, C, H, W) uint8, 0 … 255.
        labels: (N,) int64.
    """

    images: Tensor
    labels: Tensor

    def __post_init__(self) -> None:
        if self.images.dim() != 4 or str(self.images.dtype) != "torch.uint8":
            raise UsageError(
                f"Expected images of shape N×C×H×W in uint8, got {tuple(self.images.shape)} {self.images.dtype}."
            )
        if len(self.images) != len(self.labels):
            raise UsageError(f"Expected one label an image, got {len(self.labels)} for {len(self.images)} images.")

    def __len__(self) -> int:
        return len(self.labels)

    @cached_property
    def digest(self) -> str:
        """Sha256 of all images and labels, in their order."""
        digest = hashlib.sha256(repr(tuple(self.images.shape)).encode())
        for tensor in (self.images, self.labels):
            digest.update(tensor.cpu().contiguous().numpy().tobytes())
        return digest.hexdigest()

    def first(self, n: int) -> Examples:
        """Return the first `n` examples (all, if there are fewer)."""
        return Examples(images=self.images[:n], labels=self.labels[:n])

    def to(self, device: torch.device) -> Examples:
        """Return the same examples on `device`."""
        return Examples(images=self.images.to(device), labels=self.labels.to(device))

    def pixels(self, index: Tensor | slice = slice(None)) -> Tensor:
        """Return the chosen images as float32 in [0, 1], (n, C, H, W)."""
        return self.images[index].float().div(255.0)


@dataclass(frozen=True, kw_only=True)
class Dataset:
    """Training and test images of one name. Steps see `train`; only the attack and the judge see `test`."""

    name: str
    train: Examples
    test: Examples
    n_classes: int

    @property
    def image_shape(self) -> tuple[int, int, int]:
        """(channels, height, width)."""
        channels, height, width = self.test.images.shape[1:]
        return channels, height, width
