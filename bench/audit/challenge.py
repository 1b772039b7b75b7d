"""Anybody's adversarial images against an entry: the same judge decides, and the letters change."""

from __future__ import annotations

import re
from collections.abc import Mapping
from dataclasses import dataclass
from datetime import UTC, datetime
from itertools import count
from pathlib import Path

import numpy as np
import torch
from torch import Tensor

from bench.attack.engine import TOGETHER, Trial
from bench.attack.judge import show
from bench.dataset import Examples
from bench.entry import Entry
from bench.errors import MissingError, UsageError, described
from bench.run.evidence import UNREADABLE, Deciding, digest_of_file, read_evidence, write_evidence
from bench.scrutiny import CHALLENGE, VERIFIER, Challenge
from bench.threat_model import ThreatModel
from bench.verdicts import LETTERS, MISCLASSIFIED, STANDING, Verdicts

HOLDS = "holds"
FATES = (
    HOLDS, "wrong index", "wrong without any attack", "already fallen", "not finite", "outside the box",
    "outside the ball", "not fooling", "more of the same",
)  # fmt: skip
"""What may become of a challenger's image; each has the first that fits, but for the first, which none of them does."""


@dataclass(frozen=True, kw_only=True)
class Submitted:
    """A challenger's images.

    Attributes:
        images: (N, C, H, W) float32.
        indices: (N,) int64, the test images that they are adversarial versions of.
    """

    images: Tensor
    indices: Tensor


@dataclass(frozen=True, kw_only=True)
class Judged:
    """What became of them.

    Attributes:
        fates: of every fate the test images' numbers.
        winners: the images that hold, by number.
    """

    fates: Mapping[str, tuple[int, ...]]
    winners: Mapping[int, Tensor]


def read_images(path: Path, examples: Examples, threat: ThreatModel) -> Submitted:
    """Read a challenger's images: floats in [0, 1], or uint8 that are divided by 255; never a pickle.

    Args:
        path: `.npz` with `images` and, unless there is one for each test image in order, `indices`; `.pt` with a tensor
            of images, or a dictionary of both; or the file of adversarial images of another entry of the same track.
        examples: the test images that have letters.
        threat: of the track.

    Raises:
        MissingError: there is no such file.
        UsageError: it is not such a file, or its images have another shape.
    """
    if not path.is_file():
        raise MissingError(f"There is no file {path}.")
    if path.suffix not in (".npz", ".pt"):
        raise UsageError(f"Expected images in a .npz or a .pt file, got {path}.")
    arrays = _npz(path) if path.suffix == ".npz" else _pt(path)
    if "planes" in arrays:
        kept = read_evidence(path, examples, threat)
        return Submitted(images=kept.images, indices=kept.numbers)
    if "images" not in arrays:
        raise UsageError(f"Expected images under the name 'images' in {path}, got {', '.join(arrays) or 'nothing'}.")
    images, shape = arrays["images"], tuple(examples.images.shape[1:])
    if tuple(images.shape[1:]) != shape or not len(images):
        raise UsageError(f"Expected images of shape (N, {', '.join(map(str, shape))}), got {tuple(images.shape)}.")
    if not images.is_floating_point() and images.dtype != torch.uint8:
        raise UsageError(f"Expected images as floats in [0, 1] or as uint8, got {images.dtype}.")
    indices = arrays.get("indices")
    if indices is None:
        if len(images) != len(examples):
            raise UsageError(
                f"{path} has {len(images):,} images and no 'indices', so there must be one for each of the "
                f"{len(examples):,} test images; say which they are of."
            )
        indices = torch.arange(len(images))
    if indices.shape != (len(images),) or indices.is_floating_point() or indices.dtype == torch.bool:
        got = f"{tuple(indices.shape)} of {str(indices.dtype).removeprefix('torch.')}"
        raise UsageError(f"Expected 'indices' to be {len(images):,} whole numbers, got {got}.")
    pixels = images.float().div(255.0) if images.dtype == torch.uint8 else images.float()
    return Submitted(images=pixels, indices=indices.long())


def _npz(path: Path) -> dict[str, Tensor]:
    try:
        with np.load(path, allow_pickle=False) as stored:
            wanted = [name for name in ("images", "indices", "planes") if name in stored]
            return {name: torch.from_numpy(stored[name]) for name in wanted or stored.files}
    except UNREADABLE as error:
        raise UsageError(f"{path} is not an .npz file of plain arrays, or is damaged.") from error


def _pt(path: Path) -> dict[str, Tensor]:
    try:
        stored = torch.load(path, map_location="cpu", weights_only=True)
    except Exception as error:  # of many kinds, all for a file that is not of tensors
        first = described(error).partition(". ")[0]
        raise UsageError(f"{path} is not a .pt file of tensors alone: {first}.") from error
    named = stored if isinstance(stored, dict) else {"images": stored}
    return {str(name): value.detach() for name, value in named.items() if isinstance(value, Tensor)}


def judge_challenge(trial: Trial, letters: str, submitted: Submitted) -> Judged:
    """Show the images to twin and deployed model as they are: nothing is projected.

    An image may lie beyond the ball by `bench.threat_model.TOLERANCE`, the rounding of float32 sums, as the images of
    the bench's own attacks may; the box has no rounding to allow for.
    """
    fates: dict[str, list[int]] = {fate: [] for fate in FATES}
    candidates = []
    for row, number in enumerate(submitted.indices.tolist()):
        fate = _known_fate(letters, number) or ("" if submitted.images[row].isfinite().all() else "not finite")
        fates[fate].append(number) if fate else candidates.append(row)
    winners: dict[int, Tensor] = {}
    for start in range(0, len(candidates), TOGETHER):
        rows = torch.tensor(candidates[start : start + TOGETHER])
        numbers, images = submitted.indices[rows].tolist(), submitted.images[rows].to(trial.device)
        originals, labels = trial.batch(numbers)
        flat = images.flatten(1)
        boxed = ((flat >= 0.0) & (flat <= 1.0)).all(1).tolist()
        allowed = trial.threat.contains(images, originals).tolist()
        stands = show(trial.subject, images, labels).standing.tolist()
        for image, number, in_box, in_both, standing in zip(images, numbers, boxed, allowed, stands, strict=True):
            fate = "outside the box" if not in_box else "outside the ball" if not in_both else ""
            fate = fate or ("not fooling" if standing else "more of the same" if number in winners else HOLDS)
            fates[fate].append(number)
            if fate == HOLDS:
                winners[number] = image.cpu()
    return Judged(fates={fate: tuple(found) for fate, found in fates.items()}, winners=winners)


def _known_fate(letters: str, number: int) -> str:
    if not 0 <= number < len(letters):
        return "wrong index"
    letter = letters[number]
    return {STANDING: "", MISCLASSIFIED: "wrong without any attack"}.get(letter, "already fallen")


def concede(entry: Entry, judged: Judged, examples: Examples, path: Path, *, by: str, reference: str) -> Entry:
    """Return the entry with a letter of the challenger's own for the images that hold, and write those beside it.

    The old record stays readable: see `Entry.unchallenged`. A verification was of the old letters, and is dropped.

    Args:
        entry: not changed; nothing is written to its file.
        judged: with a winner at least.
        examples: the test images that have letters.
        path: of the entry.
        by: the challenger's name.
        reference: where to read how the images were made.

    Raises:
        UsageError: there are no letters left.
        MissingError: the folder cannot be written.
    """
    verdicts, winners, former = entry.verdicts, dict(judged.winners), entry.challenges
    attacks, submitted = verdicts.attacks, sum(map(len, judged.fates.values()))
    if (
        by == VERIFIER
        and former
        and former[-1].by == VERIFIER
        and (kept := _images_of(former[-1], examples, path, entry))
    ):
        # Another verification adds to the letter of the last one: letters are few, and anybody may verify often.
        former, winners, submitted = former[:-1], kept | winners, former[-1].submitted + submitted
    elif len(attacks) == len(LETTERS):
        raise UsageError(f"{entry.name} has {len(LETTERS)} attacks, and there are no more letters: measure it again.")
    else:
        attacks = (*attacks, _attack_name(by, attacks))
    letter, numbers = LETTERS[len(attacks) - 1], sorted(winners)
    letters = "".join(letter if i in winners else old for i, old in enumerate(verdicts.letters))
    deciding = Deciding(
        numbers=torch.tensor(numbers, dtype=torch.int64),
        letters=letter * len(numbers),
        images=torch.stack([winners[number] for number in numbers]),
    )
    file = path.with_name(f"{path.stem}.challenge{len(former) + 1}.npz")
    record = Challenge(
        attack=attacks[-1],
        by=by,
        reference=reference,
        submitted=submitted,
        held=len(numbers),
        evidence=write_evidence(file, deciding, examples, entry.track.threat),
        when=datetime.now(UTC).replace(microsecond=0).isoformat(),
    )
    return entry.changed(
        status="measured" if entry.status == "verified" else entry.status,
        verification=None,
        verdicts=Verdicts.of(attacks=attacks, letters=letters, alarms=verdicts.alarms),
        challenges=(*former, record),
    )


def _images_of(challenge: Challenge, examples: Examples, path: Path, entry: Entry) -> dict[int, Tensor]:
    """Return the images of a challenge by number; none where its file is not there, or not the one on record."""
    file = path.with_name(challenge.evidence.file)
    if not file.is_file() or digest_of_file(file) != challenge.evidence.digest:
        return {}
    kept = read_evidence(file, examples, entry.track.threat)
    return dict(zip(kept.numbers.tolist(), kept.images, strict=True))


def _attack_name(by: str, taken: tuple[str, ...]) -> str:
    name = CHALLENGE + (re.sub(r"[^\w.]+", "-", by).strip("-") or "unnamed")
    others = (f"{name}-{number}" for number in count(2))
    return name if name not in taken else next(other for other in others if other not in taken)
