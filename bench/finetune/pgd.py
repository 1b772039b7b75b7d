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
from bench.finetune.folded import folded, forget_view
from bench.finetune.replay import Loss, forget_graphs, replayed
from bench.model import grid_parameters
from bench.threat_model import ThreatModel

Project = Callable[[Tensor], Tensor]
"""Maps images to the nearest allowed ones."""


@contextmanager
def attacked(model: nn.Module) -> Iterator[None]:
    """Hold a model still: batch-norm statistics neither move nor depend on the attack, weights ask for no gradient.

    Frozen weights spare an attack the tensors that only their gradients need, and learned steps of maps their own
    gradients. Steps of weights, one for each channel, are not frozen: convolutions would then round the image's
    gradient in another order. The model is left as it was found.
    """
    steps = {id(parameter) for parameter in grid_parameters(model) if parameter.dim()}
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
    loss: Loss,
    target: Tensor,
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
        loss: maps logits and target to a scalar, a sum over images, so that no image's step depends on another.
        target: labels, or whatever else the loss compares logits with.
        threat: its norm says which direction is steepest.
        project: brings each step's images back.
        steps: gradient steps.
        step_size: length of a step in the threat's norm, units of [0, 1].
    """
    adversarial = start.detach()
    with attacked(model):
        find = replayed(gradient_at, folded(model, start), adversarial, loss, target)
        for _ in range(steps):
            gradient = find(adversarial)
            if gradient is None:
                break
            adversarial = project(adversarial + step_size * _direction(gradient, threat))
    return adversarial


def forget(model: nn.Module) -> None:
    """Let go of what attacks on a model keep for the next attack on it."""
    forget_view(model)
    forget_graphs(model)


def gradient_at(model: nn.Module, images: Tensor, loss: Loss, target: Tensor) -> Tensor | None:
    """Return the gradient of the loss at the images; None where the network cuts the graph: nothing to follow."""
    images = images.detach().requires_grad_()
    value = loss(logits_of(model, images), target)
    if not value.requires_grad:
        return None
    (gradient,) = torch.autograd.grad(value, images, materialize_grads=True)
    return gradient


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
    return ascend(model, start, cross_entropies, labels, threat, project, steps=steps, step_size=step_size)


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

    start = project(images + 0.001 * _drawn(torch.randn, images, generator))
    return ascend(model, start, divergences, probabilities, threat, project, steps=steps, step_size=step_size)


def cross_entropies(logits: Tensor, labels: Tensor) -> Tensor:
    """Return the sum of the images' cross-entropies."""
    return F.cross_entropy(logits, labels, reduction="sum")


def divergences(logits: Tensor, probabilities: Tensor) -> Tensor:
    """Return the sum of the images' divergences (KL) from the probabilities."""
    return F.kl_div(logits.log_softmax(1), probabilities, reduction="sum")


def noise(images: Tensor, threat: ThreatModel, generator: torch.Generator, radius: float | None = None) -> Tensor:
    """Return a random perturbation: uniform in the cube of Linf, of full length in L2.

    Args:
        images: (N, C, H, W), for shape and device.
        threat: its norm, and eps where no radius is given.
        generator: on the CPU.
        radius: size of the noise, units of [0, 1].
    """
    radius = float(threat.eps) if radius is None else radius
    cube = _drawn(torch.rand, images, generator) * 2 - 1
    if threat.norm == "Linf":
        return cube * radius
    return cube * (radius / threat.size(cube).clamp_min(1e-12))


def _drawn(draw: Callable[..., Tensor], images: Tensor, generator: torch.Generator) -> Tensor:
    """Return random numbers of the images' shape, drawn on their device, as the generator on the CPU decides."""
    if not images.is_cuda:
        return draw(images.shape, generator=generator).to(images)
    seed = int(torch.randint(2**62, (), generator=generator))
    there = torch.Generator(images.device).manual_seed(seed)
    return draw(images.shape, generator=there, device=images.device).to(images)


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
