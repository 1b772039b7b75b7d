"""Gradient ascent inside a threat model: the attacks that training uses, all through the network in evaluation mode."""

from __future__ import annotations

import math
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from fractions import Fraction

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from bench.errors import UsageError
from bench.model import grid_parameters
from bench.threat_model import ThreatModel

Project = Callable[[Tensor], Tensor]
"""Maps images to the nearest allowed ones."""


@contextmanager
def attacked(model: nn.Module) -> Iterator[None]:
    """Hold a model still: batch-norm statistics neither move nor depend on the attack, weights ask for no gradient.

    Frozen weights spare an attack the tensors that only their gradients need. Learned steps of grids are not frozen:
    convolutions would then round the image's gradient in another order. The model is left as it was found.
    """
    steps = {id(parameter) for parameter in grid_parameters(model)}
    mode = model.training
    weights = [weight for weight in model.parameters() if weight.requires_grad and id(weight) not in steps]
    model.eval()
    for weight in weights:
        weight.requires_grad_(False)
    try:
        yield
    finally:
        for weight in weights:
            weight.requires_grad_()
        model.train(mode)


def logits_of(model: nn.Module, images: Tensor) -> Tensor:
    """Return logits in float32, whatever precision the network computes in."""
    logits: Tensor = model(images).float()
    return logits


def ascend(
    model: nn.Module,
    start: Tensor,
    loss: Callable[[Tensor], Tensor],
    threat: ThreatModel,
    project: Project,
    *,
    steps: int,
    step_size: float,
) -> Tensor:
    """Return images of higher loss by projected gradient ascent (Madry et al., 2018).

    Args:
        model: maps [0, 1] to logits; held still.
        start: (N, C, H, W) in [0, 1].
        loss: maps logits to a scalar, a sum over images, so that no image's step depends on another.
        threat: its norm says which direction is steepest.
        project: brings each step's images back.
        steps: gradient steps.
        step_size: length of a step in the threat's norm, units of [0, 1].
    """
    adversarial = start
    with attacked(model):
        for _ in range(steps):
            adversarial = adversarial.detach().requires_grad_()
            value = loss(logits_of(model, adversarial))
            if not value.requires_grad:  # a network that cuts the graph has nothing to follow
                break
            (gradient,) = torch.autograd.grad(value, adversarial, materialize_grads=True)
            adversarial = project(adversarial.detach() + step_size * _direction(gradient, threat))
    return adversarial.detach()


def pgd(
    model: nn.Module,
    images: Tensor,
    labels: Tensor,
    threat: ThreatModel,
    *,
    steps: int,
    step_size: float,
    generator: torch.Generator | None,
) -> Tensor:
    """Return adversarial images by projected gradient ascent on the cross-entropy (Madry et al., 2018).

    Args:
        model: maps [0, 1] to logits; attacked in evaluation mode.
        images: (N, C, H, W) in [0, 1].
        labels: (N,) true classes.
        threat: norm and eps.
        steps: gradient steps.
        step_size: length of a step in the threat's norm, units of [0, 1].
        generator: of the random start, on the CPU; None starts at the image itself.
    """

    def project(moved: Tensor) -> Tensor:
        return threat.project(moved, images)

    start = images if generator is None else project(images + noise(images, threat, generator))
    return ascend(model, start, cross_entropy_of(labels), threat, project, steps=steps, step_size=step_size)


def pgd_on_divergence(
    model: nn.Module,
    images: Tensor,
    probabilities: Tensor,
    threat: ThreatModel,
    *,
    steps: int,
    step_size: float,
    generator: torch.Generator,
) -> Tensor:
    """Return images whose prediction diverges (KL) from `probabilities` (Zhang et al., 2019; Zi et al., 2021).

    It starts close to each image, with Gaussian noise of standard deviation 0.001: where both agree, as they may at the
    image itself, the divergence has no gradient.

    Args:
        model: maps [0, 1] to logits; attacked in evaluation mode.
        images: (N, C, H, W) in [0, 1].
        probabilities: (N, K), what the prediction should move away from.
        threat: norm and eps.
        steps: gradient steps.
        step_size: length of a step in the threat's norm, units of [0, 1].
        generator: of the noise, on the CPU.
    """

    def project(moved: Tensor) -> Tensor:
        return threat.project(moved, images)

    def loss(logits: Tensor) -> Tensor:
        return F.kl_div(logits.log_softmax(1), probabilities, reduction="sum")

    start = project(images + 0.001 * torch.randn(images.shape, generator=generator).to(images))
    return ascend(model, start, loss, threat, project, steps=steps, step_size=step_size)


def cross_entropy_of(labels: Tensor) -> Callable[[Tensor], Tensor]:
    """Return the loss that maps logits to the sum of their cross-entropies with the labels."""

    def loss(logits: Tensor) -> Tensor:
        return F.cross_entropy(logits, labels, reduction="sum")

    return loss


def noise(images: Tensor, threat: ThreatModel, generator: torch.Generator, radius: float | None = None) -> Tensor:
    """Return a random perturbation: uniform in the cube of Linf, of full length in L2.

    Args:
        images: (N, C, H, W), for shape and device.
        threat: its norm, and eps where no radius is given.
        generator: on the CPU.
        radius: size of the noise, units of [0, 1].
    """
    radius = float(threat.eps) if radius is None else radius
    cube = torch.rand(images.shape, generator=generator).to(images) * 2 - 1
    if threat.norm == "Linf":
        return cube * radius
    return cube * (radius / threat.size(cube).clamp_min(1e-12))


def _direction(gradient: Tensor, threat: ThreatModel) -> Tensor:
    """Return the steepest ascent direction of unit length in the threat's norm."""
    if threat.norm == "Linf":
        return gradient.sign()
    return gradient / threat.size(gradient).clamp_min(1e-12)


def grown(threat: ThreatModel, ramp: float, done: float) -> ThreatModel:
    """Return the threat model with eps as it is when a share `done` of the training is over.

    Args:
        threat: what it grows to.
        ramp: share of the training during which eps grows from nearly 0.
        done: from 0 to 1.
    """
    share = min(1.0, max(0.01, done / ramp)) if ramp else 1.0
    return ThreatModel(norm=threat.norm, eps=threat.eps * Fraction(share))


def check_attack(attack_steps: int, step_ratio: float, ramp: float) -> None:
    """Refuse settings of an attack that no attack can use.

    Raises:
        UsageError: with the setting's name.
    """
    if attack_steps < 1 or not 0 < step_ratio < math.inf:
        raise UsageError("expected attack_steps ≥ 1 and step_ratio > 0.")
    if not 0 <= ramp <= 1:
        raise UsageError(f"expected ramp from 0 to 1, got {ramp}.")
