"""Adversarial images in a small file, bit by bit as the judge saw them.

Most pixels of an adversarial image lie where the clean one's did, or on a face of the ball: three values that anybody
can compute. The file says which of the three is nearest, and how the bits of the true value differ from it: mostly not
at all, and zeros take no room. There is no pickle in it.
"""

from __future__ import annotations

import hashlib
import zipfile
import zlib
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import numpy.typing as npt
import torch
from torch import Tensor

from bench.dataset import Examples
from bench.errors import UsageError
from bench.files import atomic
from bench.scrutiny import Evidence
from bench.threat_model import ThreatModel

FORMAT = 1
UNREADABLE = (
    *(OSError, ValueError, KeyError, IndexError, TypeError, EOFError, RuntimeError),
    *(zipfile.BadZipFile, zlib.error),
)
"""What numpy raises for a damaged .npz."""
_TOGETHER = 500
"""Images packed at a time: several times their size is needed meanwhile."""

Bytes = npt.NDArray[np.uint8]
Pixels = npt.NDArray[np.float32]


@dataclass(frozen=True, kw_only=True)
class Deciding:
    """Images that decided verdicts.

    Attributes:
        numbers: (n,) int64, which test images they are adversarial versions of, in rising order.
        letters: one for each, of the attack that made it.
        images: (n, C, H, W) float32.
    """

    numbers: Tensor
    letters: str
    images: Tensor


def write_evidence(path: Path, deciding: Deciding, examples: Examples, threat: ThreatModel) -> Evidence:
    """Write images to a file, and return what an entry says of it.

    Guarantees:
        `read_evidence` returns them bit for bit.

    Raises:
        MissingError: the folder cannot be written.
    """
    parts = [
        _pack(images.numpy(), _predictions(examples, numbers, threat))
        for numbers, images in zip(
            deciding.numbers.split(_TOGETHER), deciding.images.split(_TOGETHER), strict=True
        )
    ]  # fmt: skip
    nearest, planes = (np.concatenate(arrays, axis=-1) for arrays in zip(*parts, strict=True))
    with atomic(path) as temporary:
        with temporary.open("wb") as file:
            np.savez_compressed(
                file,
                format=np.int64(FORMAT),
                numbers=deciding.numbers.numpy(),
                letters=np.frombuffer(deciding.letters.encode("ascii"), np.uint8),
                shape=np.array(deciding.images.shape[1:], np.int64),
                nearest=nearest,
                planes=planes,
            )
        digest = digest_of_file(temporary)
    return Evidence(file=path.name, digest=digest, images=len(deciding.numbers))


def read_evidence(path: Path, examples: Examples, threat: ThreatModel) -> Deciding:
    """Read what `write_evidence` wrote.

    Args:
        path: the file.
        examples: the test images.
        threat: of the same track.

    Raises:
        UsageError: it is not such a file, or speaks of images that are not among the examples.
    """
    try:
        with np.load(path, allow_pickle=False) as stored:
            if int(stored["format"]) != FORMAT:
                raise UsageError(f"{path} has format {int(stored['format'])}, and this bench reads {FORMAT}.")
            numbers, letters = torch.from_numpy(stored["numbers"]), stored["letters"].tobytes().decode("ascii")
            shape, nearest, planes = tuple(stored["shape"].tolist()), stored["nearest"], stored["planes"]
        if shape != tuple(examples.images.shape[1:]):
            raise UsageError(f"{path} holds images {shape}, and those of the track are {examples.images.shape[1:]}.")
        if numbers.dim() != 1 or len(letters) != len(numbers) or len(torch.unique(numbers)) != len(numbers):
            raise UsageError(f"{path} does not say of each image once which it is, and what it fell to.")
        if len(numbers) and not 0 <= int(numbers.min()) <= int(numbers.max()) < len(examples):
            raise UsageError(f"{path} speaks of test images beyond the {len(examples):,} that were attacked.")
        size = int(np.prod(shape))
        chunks = [
            torch.from_numpy(
                _unpack(
                    nearest[start * size : (start + len(part)) * size],
                    planes[:, start * size : (start + len(part)) * size],
                    _predictions(examples, part, threat),
                ).reshape(-1, *shape)
            )
            for start, part in zip(range(0, len(numbers), _TOGETHER), numbers.split(_TOGETHER), strict=False)
        ]
    except UNREADABLE as error:
        raise UsageError(f"{path} is not a file of adversarial images, or is damaged: {error}.") from error
    return Deciding(numbers=numbers, letters=letters, images=torch.cat(chunks) if chunks else torch.zeros(0, *shape))


def digest_of_file(path: Path) -> str:
    """Return the sha256 of a file."""
    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()


def _predictions(examples: Examples, numbers: Tensor, threat: ThreatModel) -> Pixels:
    """Return for every pixel the values it may well have, (3 or 1, n·C·H·W); the same on every machine (IEEE 754)."""
    clean: Pixels = examples.images[numbers].numpy().astype(np.float32).reshape(-1) / np.float32(255)
    if threat.norm != "Linf":
        return clean[None]
    eps = np.float32(float(threat.eps))
    return np.stack([clean, np.clip(clean - eps, 0, 1), np.clip(clean + eps, 0, 1)]).astype(np.float32)


def _pack(images: Pixels, predictions: Pixels) -> tuple[Bytes, Bytes]:
    """Return for each pixel the number of the nearest prediction, and the bytes of its difference in four planes."""
    flat = np.ascontiguousarray(images, np.float32).reshape(-1)
    nearest = np.abs(predictions - flat).argmin(0).astype(np.uint8)
    predicted = np.take_along_axis(predictions, nearest[None].astype(np.int64), 0)[0]
    differing = np.ascontiguousarray(flat.view(np.uint32) ^ predicted.view(np.uint32), "<u4")
    return nearest, np.ascontiguousarray(differing.view(np.uint8).reshape(-1, 4).T)


def _unpack(nearest: Bytes, planes: Bytes, predictions: Pixels) -> Pixels:
    predicted = np.take_along_axis(predictions, nearest[None].astype(np.int64), 0)[0]
    differing = np.ascontiguousarray(planes.T).view("<u4")[:, 0].astype(np.uint32)
    pixels: Pixels = (predicted.view(np.uint32) ^ differing).view(np.float32)
    return pixels
