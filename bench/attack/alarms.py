"""Signs that a model only looks robust, from questions put to it and from the whole attack."""

from __future__ import annotations

from collections.abc import Callable
from contextlib import suppress

import torch
from torch import Tensor, nn

from bench.attack.engine import Outcome
from bench.attack.probe import Record
from bench.attack.suites import FOREIGN, too_late
from bench.model import Classifier, Subject, in_double
from bench.verdicts import LETTERS, LOW_PRECISION, Alarm, Proportion

# Two answers to the same question may differ by float rounding; relative to the logits' spread, never by this much.
ROUNDING = 1e-2
# Images on which they may: a value can lie on a quantiser's step exactly.
FEW = 0.03
# Share of the gradients of the margin losses that may vanish. Honest networks: none, or an image or two.
ZERO_GRADIENTS = 0.05
# Share of the test images that one attack may bring down after every gradient of the twin had failed.
CONVICTS = 0.05
# The surrogate's gradients and the rescaled ones are further white-box attacks: what they find is in the worst case,
# and says that the four were not the last word, not that nobody can know.
LATECOMERS = {"square": True, "transfer": True, "surrogate": False, "apgd-scaled": False, "square-deployed": True}
"""Attacks that should find next to nothing, and whether a large find is fatal."""
# Share of the pixels at the box's bounds that may lose their gradient there. Honest networks: none.
LOST_AT_BOUNDS = 0.05
JUST_INSIDE = 1e-3
TOP1_AGREEMENT = 0.995
# Honest int8 exports stayed within 1.4 times the noise of rounding.
DRIFT, DRIFT_TO_NOISE = 0.01, 5.0


@torch.no_grad()
def question(subject: Subject, images: Tensor) -> tuple[Alarm, ...]:
    """Ask both networks what no honest classifier answers wrongly.

    Args:
        subject: twin and deployed model.
        images: (N, C, H, W) in [0, 1], N ≥ 2, unlabelled: test images, and such as an attack would ask about.
    """
    alarms = []
    asked: dict[str, Classifier] = {"twin": subject.twin}
    if subject.deployed is not subject.twin:
        asked["deployed"] = subject.deployed
    for name, ask in asked.items():
        logits = ask(images)
        if not logits.isfinite().all():
            share = float((~logits.isfinite().all(1)).float().mean())
            alarms.append(_fatal("not-finite", f"{share:.1%} of the {name} model's logits are not finite"))
        elif (again := _beyond_rounding(ask, images, _twice)) > ROUNDING:
            alarms.append(_fatal("randomised", f"asked twice, the {name} model's logits differ by {again:.1%}"))
        elif (alone := _beyond_rounding(ask, images, _one_by_one)) > ROUNDING:
            alarms.append(_fatal("batch-dependent", f"one by one, the {name} model's logits differ by {alone:.1%}"))
        if logits.min() >= 0 and (logits.sum(1) - 1).abs().max() < 1e-4:
            alarms.append(_fatal("probabilities", f"the {name} model returns probabilities, expected logits"))
    if (lost := _lost_at_the_bounds(subject.twin, images)) > LOST_AT_BOUNDS:
        sentence = (
            f"{lost:.1%} of the pixels that are 0 or 1 have a gradient only inside the box: does the model clamp?"
        )
        alarms.append(_fatal("no-gradient-at-bounds", sentence))
    if any(module.training for module in subject.twin.modules()):
        alarms.append(_fatal("training-mode", "the model was handed over in training mode"))
    return tuple(alarms)


def _lost_at_the_bounds(model: nn.Module, images: Tensor) -> float:
    """Return the share of the pixels at 0 or 1 whose gradient vanishes there, and does not just inside the box.

    Since PyTorch 2.14 `clamp` passes no gradient at its bounds: a model that clamps its input hides the pixels there,
    and no gradient attack ever moves them.
    """
    bound = (images == 0) | (images == 1)
    here = _margin_gradient(model, images) == 0
    inside = _margin_gradient(model, images.clamp(JUST_INSIDE, 1 - JUST_INSIDE)) == 0
    return float((here & ~inside & bound).sum() / bound.sum().clamp_min(1))


def _margin_gradient(model: nn.Module, images: Tensor) -> Tensor:
    """Return the gradient of the difference between the two largest logits, (N, C, H, W); 0 where there is none."""
    points = images.detach().clone().requires_grad_()
    with torch.enable_grad():
        top = model(points).topk(2, dim=1).values
        margin = (top[:, 0] - top[:, 1]).sum()
        (gradient,) = torch.autograd.grad(margin, points, allow_unused=True) if margin.requires_grad else (None,)
    return torch.zeros_like(points) if gradient is None else gradient


Answers = Callable[[Classifier, Tensor], tuple[Tensor, Tensor]]
"""Asks a classifier the same in two ways; returns both answers, (N, K) each."""


def _twice(ask: Classifier, images: Tensor) -> tuple[Tensor, Tensor]:
    return ask(images), ask(images)


def _one_by_one(ask: Classifier, images: Tensor) -> tuple[Tensor, Tensor]:
    return ask(images), torch.cat([ask(image[None]) for image in images])


def _beyond_rounding(ask: Classifier, images: Tensor, answers: Answers) -> float:
    """Return how far two answers differ, relative to the spread of an image's logits, on all but a few images.

    Rounding in float32 can push a value over a quantiser's step and move an honest network's logits by per cents. In
    float64 it cannot, so a network that seems to differ is asked again with double precision. Where there is none, as
    in a runtime, the median counts of the answers to batches of another size.
    """
    found = _difference(*answers(ask, images))
    if found > ROUNDING and isinstance(ask, nn.Module):
        with suppress(RuntimeError):  # a network that insists on float32
            return _difference(*answers(in_double(ask), images.double()))
    if found > ROUNDING and answers is _one_by_one:
        return _difference(*answers(ask, images), share=0.5)
    return found


def _difference(one: Tensor, other: Tensor, share: float = FEW) -> float:
    """Return the relative difference that only a share of the images exceeds; infinite where an answer is no number."""
    one, other = one.double(), other.double()
    spread = (one - one.mean(1, keepdim=True)).norm(dim=1).clamp_min(torch.finfo(torch.float32).tiny)
    each = ((other - one).norm(dim=1) / spread).nan_to_num(torch.inf)
    return float(each.sort(descending=True).values[int(share * len(each))])


def inspect(outcome: Outcome, *, n_classes: int) -> tuple[Alarm, ...]:
    """Read the alarms off what the attacks saw and did.

    Robust above clean is no alarm: an image has one letter, and whatever is wrong when clean is never robust.
    """
    alarms = []
    total = len(outcome.letters)
    margin = [outcome.records.get(attack, Record()) for attack in ("apgd-t", "fab-t")]
    backward = sum(record.backward for record in margin)
    zero = sum(record.zero_gradients for record in margin)
    if backward and zero / backward > ZERO_GRADIENTS:
        alarms.append(_fatal("zero-gradients", f"{zero / backward:.1%} of the margin losses' gradients are zero"))
    own = [record for attack, record in outcome.records.items() if attack not in FOREIGN]
    broken = sum(record.broken_gradients for record in own)
    if broken:
        alarms.append(_fatal("not-finite-gradients", f"{broken} gradients met along the attack are not finite"))
    if silent := sum(record.broken_logits for record in own):
        alarms.append(_fatal("not-finite-logits", f"{silent} logits met along the attack are not finite"))
    for attack, letter in zip(outcome.attacks, LETTERS, strict=False):
        fallen = outcome.letters.count(letter)
        if attack in LATECOMERS and too_late(fallen, total):
            sentence = f"{fallen} of {total} images fell to {attack} alone, after the gradient attacks had failed"
            convicts = LATECOMERS[attack] and fallen / total > CONVICTS
            alarms.append(Alarm(name=f"{attack}-beats-white-box", fatal=convicts, evidence=sentence))
    if n_classes < 4:
        sentence = f"the targeted loss needs 4 classes; with {n_classes}, apgd-t climbed the plain difference of logits"
        alarms.append(Alarm(name="few-classes", fatal=False, evidence=sentence))
    clean = Proportion(count=total - outcome.letters.count("x"), total=total)
    if clean.interval[0] <= 1 / n_classes:
        sentence = f"{clean.count} of {total} clean images right; chance is {1 / n_classes:.1%}"
        alarms.append(Alarm(name="chance-level", fatal=False, evidence=sentence))
    return tuple(alarms)


def uncounted(macs: int) -> tuple[Alarm, ...]:
    """Say that a network's cost is unknown: one of nothing but operations that nobody counts would cost nothing."""
    return () if macs else (_fatal("nothing-counted", "no multiply-accumulate was counted: its cost is not known"),)


def protocol(engine: str) -> tuple[Alarm, ...]:
    """Say that an engine of this name searches more coarsely than the protocol asks."""
    if not engine.endswith(f" {LOW_PRECISION}"):
        return ()
    return (_fatal("low-precision-search", "the attacks asked the network in bfloat16; only the judge did not"),)


def disagreement(top1: float, gap: float, noise: float, n: int) -> tuple[Alarm, ...]:
    """Raise when the deployed model is not the network that was attacked.

    Args:
        top1: share of clean images on which both name the same class.
        gap: relative distance of their logits.
        noise: the same between the twin in float32 and in float64.
        n: images asked.
    """
    if top1 < TOP1_AGREEMENT and round(n * (1 - top1)) > 1:
        return (_fatal("twin-disagrees", f"twin and deployed model agree on {top1:.2%} of {n} clean images"),)
    if gap > max(DRIFT, DRIFT_TO_NOISE * noise):
        sentence = f"the logits of twin and deployed model differ by {gap:.2%}, where rounding explains {noise:.2%}"
        return (Alarm(name="twin-drifts", fatal=False, evidence=sentence),)
    return ()


def _fatal(name: str, evidence: str) -> Alarm:
    return Alarm(name=name, fatal=True, evidence=evidence)
