"""The only one who says "robust"."""

from __future__ import annotations

import torch
from torch import Tensor

from bench.model import Classifier, Subject
from bench.threat_model import ThreatModel


@torch.no_grad()
def correct(classifier: Classifier, images: Tensor, labels: Tensor, *, batch: int = 250) -> Tensor:
    """Say for each image whether the classifier gets it right; shape (N,), bool.

    Logits that are not finite count as wrong: a model that answers nothing is not robust.
    """
    answers = []
    for part, truth in zip(images.split(batch), labels.split(batch), strict=True):
        logits = classifier(part)
        answers.append(logits.isfinite().all(1) & (logits.argmax(1) == truth.to(logits.device)))
    return torch.cat(answers) if answers else torch.zeros(0, dtype=torch.bool, device=images.device)


def survives(subject: Subject, proposals: Tensor, originals: Tensor, labels: Tensor, threat: ThreatModel) -> Tensor:
    """Say for each proposal whether the subject withstands it; shape (N,), bool.

    The proposal is first brought into the threat model, so that an attack that oversteps gains nothing, and one that
    returns garbage loses nothing. Robust means that neither the twin nor the deployed model is fooled.

    Args:
        subject: twin and deployed model.
        proposals: (N, C, H, W), what an attack claims is adversarial.
        originals: (N, C, H, W) in [0, 1].
        labels: (N,) true classes.
        threat: what the adversary may do.
    """
    allowed = threat.project(proposals, originals)
    standing = correct(subject.twin, allowed, labels)
    if subject.deployed is not subject.twin:
        standing = standing & correct(subject.deployed, allowed, labels).to(standing.device)
    return standing
