"""The reference engine: the attacks of the `pyautoattack` package, seeded, one at a time (Croce & Hein, 2020)."""

from __future__ import annotations

import logging
from importlib import metadata
from typing import Any

import torch
from torch import Tensor, nn

from bench.threat_model import ThreatModel

NAME = f"pyautoattack {metadata.version('pyautoattack')}"


def propose(
    attack: str, model: nn.Module, images: Tensor, labels: Tensor, threat: ThreatModel, *, seed: int, n_classes: int
) -> Tensor:
    """Run one attack of AutoAttack standard on a batch the model classifies correctly.

    Args:
        attack: "apgd-ce", "apgd-t", "fab-t" or "square".
        model: maps [0, 1] to logits and lets gradients through.
        images: (N, C, H, W) in [0, 1].
        labels: (N,) true classes.
        threat: norm and eps.
        seed: of the attack's random starts and squares.
        n_classes: K; targeted attacks aim at min(9, K − 1) classes.

    Returns:
        (N, C, H, W) proposals; images the attack could not break come back in any state.
    """
    # The package draws from the global generator after seeding it; the caller's randomness is none of its business.
    devices = [images.device] if images.device.type == "cuda" else []
    with torch.random.fork_rng(devices=devices):
        attacker = _attacker(attack, model, threat, seed=seed, n_classes=n_classes, device=images.device)
        proposals: Tensor = attacker.perturb(images.clone(), labels.clone())
    return proposals.detach()


def _attacker(
    attack: str, model: nn.Module, threat: ThreatModel, *, seed: int, n_classes: int, device: torch.device
) -> Any:
    from pyautoattack import AutoAttack

    suite = AutoAttack(model, norm=threat.norm, eps=float(threat.eps), seed=seed, version="standard", device=device)
    suite.logger.setLevel(logging.ERROR)
    targets = min(9, n_classes - 1)
    suite.apgd.loss = "ce"
    suite.fab.targeted = True
    suite.apgd_targeted.n_target_classes = suite.fab.n_target_classes = targets
    return {
        "apgd-ce": suite.apgd,
        "apgd-t": suite.apgd_targeted,
        "fab-t": suite.fab,
        "square": suite.square,
    }[attack]
