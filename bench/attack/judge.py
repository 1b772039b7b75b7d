"""The only one who says "robust"."""

from __future__ import annotations

from typing import NamedTuple

import torch
from torch import Tensor

from bench.model import Classifier, Subject
from bench.threat_model import ThreatModel


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
def correct(classifier: Classifier, images: Tensor, labels: Tensor, *, batch: int = 250) -> Tensor:
    """Say for each image whether the classifier gets it right; shape (N,), bool.

    Logits that are not finite count as wrong: a model that answers nothing is not robust.
    """
    return _classes(classifier, images, batch).to(labels.device) == labels


def judge(subject: Subject, proposals: Tensor, originals: Tensor, labels: Tensor, threat: ThreatModel) -> Judgement:
    """Say for each proposal whether the subject withstands it.

    The proposal is first brought into the threat model, so that an attack that oversteps gains nothing, and one that
    returns garbage loses nothing. Robust means that neither the twin nor the deployed model is fooled.

    Args:
        subject: twin and deployed model.
        proposals: (N, C, H, W), what an attack claims is adversarial.
        originals: (N, C, H, W) in [0, 1].
        labels: (N,) true classes.
        threat: what the adversary may do.
    """
    return show(subject, threat.project(proposals, originals), labels)


def show(subject: Subject, images: Tensor, labels: Tensor) -> Judgement:
    """Show twin and deployed model the images as they are, and say which images they withstand.

    Args:
        subject: twin and deployed model.
        images: (N, C, H, W) that the adversary is allowed.
        labels: (N,) true classes.
    """
    twin = _classes(subject.twin, images, 250).to(labels.device)
    if subject.deployed is subject.twin:
        return Judgement(twin == labels, torch.zeros_like(labels, dtype=torch.bool), images)
    deployed = _classes(subject.deployed, images, 250).to(labels.device)
    return Judgement((twin == labels) & (deployed == labels), twin != deployed, images)


@torch.no_grad()
def _classes(classifier: Classifier, images: Tensor, batch: int) -> Tensor:
    """Return the classes named, (N,) int64; −1 where the logits are not finite."""
    answers = []
    for part in images.split(batch):
        logits = classifier(part)
        answers.append(logits.argmax(1).masked_fill(~logits.isfinite().all(1), -1))
    return torch.cat(answers) if answers else torch.zeros(0, dtype=torch.int64, device=images.device)
