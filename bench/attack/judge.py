"""The only one who says "robust"."""

from __future__ import annotations

from typing import NamedTuple

import torch
from torch import Tensor

from bench.attack.capacity import Capacity, in_parts
from bench.machine.tensor_float import tensor_float
from bench.model import Classifier, Subject
from bench.threat_model import ThreatModel

BATCH = 250
"""Images in one pass, where nothing depends on how many they are."""


class Judgement(NamedTuple):
    """What became of proposals.

    Attributes:
        standing: (N,) bool, neither network was fooled.
        disagreed: (N,) bool, the two named different classes.
        images: (N, C, H, W), what the two were shown.
    """

    standing: Tensor
    disagreed: Tensor
    images: Tensor


@torch.no_grad()
def correct(classifier: Classifier, images: Tensor, labels: Tensor, *, batch: int = BATCH) -> Tensor:
    """Say for each image whether the classifier gets it right; shape (N,), bool.

    Logits that are not finite count as wrong: a model that answers nothing is not robust.
    """
    return _classes(classifier, images, batch, Capacity()).to(labels.device) == labels


def judge(
    subject: Subject,
    proposals: Tensor,
    originals: Tensor,
    labels: Tensor,
    threat: ThreatModel,
    *,
    capacity: Capacity | None = None,
) -> Judgement:
    """Say for each proposal whether the subject withstands it.

    The proposal is first brought into the threat model, so that an attack that oversteps gains nothing, and one that
    returns garbage loses nothing. Robust means that neither the twin nor the deployed model is fooled.

    Args:
        subject: twin and deployed model.
        proposals: (N, C, H, W), what an attack claims is adversarial.
        originals: (N, C, H, W) in [0, 1].
        labels: (N,) true classes.
        threat: what the adversary may do.
        capacity: how many images fit into a pass, where that is known.
    """
    return show(subject, threat.project(proposals, originals), labels, capacity=capacity)


def show(subject: Subject, images: Tensor, labels: Tensor, *, capacity: Capacity | None = None) -> Judgement:
    """Show twin and deployed model the images as they are, and say which images they withstand.

    Args:
        subject: twin and deployed model.
        images: (N, C, H, W) that the adversary is allowed.
        labels: (N,) true classes.
        capacity: how many images fit into a pass, where that is known.
    """
    capacity = capacity or Capacity()
    twin = _classes(subject.twin, images, BATCH, capacity).to(labels.device)
    if subject.deployed is subject.twin:
        return Judgement(twin == labels, torch.zeros_like(labels, dtype=torch.bool), images)
    deployed = _classes(subject.deployed, images, BATCH, capacity).to(labels.device)
    return Judgement((twin == labels) & (deployed == labels), twin != deployed, images)


@torch.no_grad()
def _classes(classifier: Classifier, images: Tensor, batch: int, capacity: Capacity) -> Tensor:
    """Return the classes named, (N,) int64; −1 where the logits are not finite."""

    def ask(part: slice) -> tuple[Tensor]:
        with tensor_float(allowed=False):
            logits = classifier(images[part])
        return (logits.argmax(1).masked_fill(~logits.isfinite().all(1), -1),)

    if not len(images):
        return torch.zeros(0, dtype=torch.int64, device=images.device)
    return in_parts(len(images), ask, capacity, most=batch)[0]
