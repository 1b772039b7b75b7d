"""The adversarial images of an unfinished attack, on disk: what was recorded has its images, whatever interrupts."""

from __future__ import annotations

import zipfile
from pathlib import Path

import numpy as np
import numpy.typing as npt
import torch
from torch import Tensor

from bench.files import atomic
from bench.verdicts import LETTERS

Pixels = npt.NDArray[np.float32]


class FileAlbum:
    """Images that fooled, in one file for each shard of an attack.

    Args:
        folder: of exactly this evaluation; made when there is something to keep.
    """

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self._taken: dict[int, Tensor] = {}

    def take(self, numbers: Tensor, images: Tensor) -> None:
        """Hold images, (n, C, H, W), of the test images `numbers`, (n,); of two of one number the first."""
        for number, image in zip(numbers.tolist(), images.detach().to("cpu", torch.float32), strict=True):
            self._taken.setdefault(number, image.clone())  # not a view, which would hold the whole batch

    def save(self, attack: str) -> None:
        """Write what was taken since the last time.

        Raises:
            MissingError: the folder cannot be written.
        """
        if not self._taken:
            return
        numbers = np.array([*self._taken], dtype=np.int64)
        with atomic(self.folder / f"{attack}-{numbers[0]}.npz") as temporary, temporary.open("wb") as file:
            np.savez(file, numbers=numbers, images=torch.stack([*self._taken.values()]).numpy())
        self._taken = {}

    def holds(self, attack: str) -> set[int]:
        """Return the numbers of the images that were saved during an attack."""
        return {number for part, _ in self._parts(attack) for number in part}

    def load(self, attack: str) -> dict[int, Pixels]:
        """Return number → image, (C, H, W), for all that was saved during an attack."""
        parts = self._parts(attack)
        return {number: image for numbers, images in parts for number, image in zip(numbers, images, strict=True)}

    def deciding(self, attacks: tuple[str, ...], letters: str) -> dict[int, Tensor]:
        """Return number → image, (C, H, W), of each image that fell: the one that decided its letter."""
        found: dict[int, Tensor] = {}
        for attack, letter in zip(attacks, LETTERS, strict=False):
            own = self.load(attack).items()
            found |= {number: torch.from_numpy(image) for number, image in own if letters[number] == letter}
        return found

    def _parts(self, attack: str) -> list[tuple[list[int], Pixels]]:
        parts = []
        for path in sorted(self.folder.glob(f"{attack}-*.npz")):
            if not path.stem.removeprefix(f"{attack}-").isdecimal():  # "apgd-" begins several names
                continue
            try:
                with np.load(path, allow_pickle=False) as stored:
                    parts.append((stored["numbers"].tolist(), stored["images"]))
            except (OSError, ValueError, KeyError, zipfile.BadZipFile):  # damaged: its images are made again
                continue
        return parts
