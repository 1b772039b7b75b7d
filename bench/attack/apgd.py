"""APGD (Croce & Hein, 2020, arXiv 2003.01690): gradient ascent with momentum that halves its own step.

On cross-entropy in one run, or on the targeted difference-of-logits ratio in one run for each target class.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

import torch
from torch import Tensor
from torch.nn import functional

from bench.attack import randomness
from bench.attack.search import Answer, Arrivals, Move, Question, Seated, likeliest, overwrite, per_image, seat, unit
from bench.attack.suites import Budget
from bench.threat_model import ThreatModel

Loss = Literal["ce", "scaled", "targeted"]
RHO, MOMENTUM, FIRST_STEP = 0.75, 0.75, 2.0
CLEAN, START = 0, 1
"""The first moments of a slot: it asks about the image itself, then about the start of a run."""


@dataclass(kw_only=True)
class _Slots:
    """One row a slot; images are (S, C, H, W), the others (S,) unless they say."""

    images: Tensor
    labels: Tensor
    keys: Tensor
    low: Tensor  # the corners of the box around the image, under Linf
    high: Tensor
    targets: Tensor  # (S, runs)
    scale: Tensor  # what the logits are divided by
    run: Tensor
    moment: Tensor  # CLEAN, START, then START + iterations done
    point: Tensor
    previous: Tensor
    best: Tensor
    best_gradient: Tensor
    best_loss: Tensor
    checked_loss: Tensor  # the best at the last checkpoint
    last_loss: Tensor
    ups: Tensor  # iterations since the last checkpoint that raised the loss
    halved: Tensor  # at the last checkpoint
    step_size: Tensor


class Apgd(Seated[_Slots]):
    """Searches for the point of highest loss within the ball, run after run.

    Args:
        loss: "ce", one run of cross-entropy; "scaled", the same of logits divided by the image's clean margin;
            "targeted", one run of the targeted DLR loss for each target class.
        threat: norm and eps.
        budget: iterations and targets.
        n_classes: K.
    """

    def __init__(self, *, loss: Loss, threat: ThreatModel, budget: Budget, n_classes: int) -> None:
        self.targeted, self.scaled = loss == "targeted", loss == "scaled"
        self.linf, self.eps = threat.norm == "Linf", float(threat.eps)
        self.n_classes = n_classes
        self.runs = min(budget.targets, n_classes - 1) if self.targeted else 1
        self.iterations = budget.iterations
        self.periods = checkpoints(budget.iterations)

    def seat(self, gone: Tensor, arrivals: Arrivals) -> None:
        """Give free slots to new images."""
        x, n = arrivals.images, len(arrivals.images)
        self.periods = self.periods.to(x.device)
        zeros, count = x.new_zeros(n), torch.zeros_like(arrivals.labels)
        # The lower corner first: where both bounds are out of the box they must not cross.
        low, high = ((x - self.eps).clamp(0, 1), (x + self.eps).clamp(0, 1)) if self.linf else (x, x)
        fresh = _Slots(
            images=x, labels=arrivals.labels, keys=arrivals.keys, low=low, high=high, run=count, moment=count.clone(),
            targets=count.view(-1, 1).repeat(1, self.runs), point=x.clone(), previous=x.clone(), best=x.clone(),
            best_gradient=torch.zeros_like(x), best_loss=zeros, checked_loss=zeros.clone(), last_loss=zeros.clone(),
            ups=count.clone(), halved=count.bool(), step_size=zeros.clone(), scale=torch.ones_like(zeros),
        )  # fmt: skip
        self.state = seat(self.state, gone, fresh)

    def ask(self, *, room: int) -> Question:
        """Ask about every slot's current point."""
        s = self.slots
        return Question(
            points=s.point, slots=torch.arange(len(s.point), device=s.point.device), differentiate=s.moment != CLEAN
        )

    def loss(self, logits: Tensor, slots: Tensor) -> Tensor:
        """Return cross-entropy, or the DLR towards the run's target; (R,)."""
        s = self.slots
        labels = s.labels[slots]
        if not self.targeted:
            if self.scaled:
                logits = logits / s.scale[slots].to(logits.dtype).unsqueeze(1)
            return functional.cross_entropy(logits, labels, reduction="none")
        return targeted_dlr(logits, labels, s.targets[slots, s.run[slots]])

    def tell(self, question: Question, answer: Answer) -> Move:
        """Keep the best point, halve the step at a checkpoint without progress, and climb."""
        s = self.slots
        clean, loss = s.moment == CLEAN, answer.loss
        if clean.any() and self.targeted:
            s.targets[clean] = likeliest(answer.logits[clean], self.runs)
        if self.scaled and clean.any():
            s.scale[clean] = margin(answer.logits[clean], s.labels[clean])
        better = ~clean & (loss > s.best_loss)
        s.best = overwrite(s.best, better, s.point)
        s.best_gradient = overwrite(s.best_gradient, better, answer.gradient)
        s.best_loss = torch.where(better, loss, s.best_loss)
        ended = s.moment == START + self.iterations
        point, gradient = self._checkpoint(loss, answer.gradient)
        s.point, s.previous = self._climb(point, gradient), point
        s.moment += 1
        offered = ended.nonzero().flatten()
        offers = s.best[offered]
        s.run += ended.long()
        done = ended & (s.run == self.runs)
        starting = ((ended & ~done) | clean).nonzero().flatten()
        if len(starting):
            self._start(starting)
        return Move(
            claims=answer.wrong, counted=torch.ones_like(answer.wrong), offered=offered, offers=offers, done=done
        )

    def _checkpoint(self, loss: Tensor, gradient: Tensor) -> tuple[Tensor, Tensor]:
        """Return where to climb from and along which gradient: back at the best point where the step was halved."""
        s = self.slots
        s.checked_loss = torch.where(s.moment == START, loss, s.checked_loss)
        iterating = s.moment > START
        s.ups += iterating & (loss > s.last_loss)
        s.last_loss = torch.where(iterating, loss, s.last_loss)
        period = self.periods[s.moment]
        check = period > 0
        stuck = ~s.halved & (s.checked_loss >= s.best_loss)
        halve = check & ((s.ups <= RHO * period) | stuck)
        s.halved = torch.where(check, halve, s.halved)
        s.checked_loss = torch.where(check, s.best_loss, s.checked_loss)
        s.ups = s.ups.masked_fill(check, 0)
        s.step_size = torch.where(halve, s.step_size / 2, s.step_size)
        if not halve.is_cuda and not halve.any():
            return s.point, gradient
        # A copy of the point: the question that asked about it is still to be judged.
        return overwrite(s.point.clone(), halve, s.best), overwrite(gradient, halve, s.best_gradient)

    def _climb(self, point: Tensor, gradient: Tensor) -> Tensor:
        """Return the next point: a projected step along the gradient, averaged with the last movement."""
        s = self.slots
        step = per_image(s.step_size, point)
        # The first step of a run has no movement behind it.
        share = per_image(torch.where(s.moment == START, 1.0, MOMENTUM).to(point.dtype), point)
        # Few passes over the images, and in place: on a small network they are what costs.
        direction = gradient.sign() if self.linf else unit(gradient)
        ahead = self._project(direction.mul_(step).add_(point))
        behind = (point - s.previous).mul_(1 - share)
        return self._project(ahead.sub_(point).mul_(share).add_(point).add_(behind))

    def _project(self, points: Tensor) -> Tensor:
        """Return the points within the threat model; they themselves are lost."""
        s = self.slots
        if self.linf:
            return points.clamp_(s.low, s.high)
        delta = points.sub_(s.images)
        size = per_image(delta.flatten(1).norm(dim=1), delta)
        return delta.div_(size + 1e-12).mul_(size.clamp_max(self.eps)).add_(s.images).clamp_(0, 1)

    def _start(self, rows: Tensor) -> None:
        """Begin a run from a random point on the ball's surface."""
        s = self.slots
        x = s.images[rows]
        n = x[0].numel()
        counter = s.run[rows].unsqueeze(1) * n + torch.arange(n, device=x.device)
        draw = randomness.uniform if self.linf else randomness.normal
        noise = draw(s.keys[rows].unsqueeze(1), counter).view_as(x)
        noise = per_image_largest(2 * noise - 1) if self.linf else unit(noise)
        start = (x + self.eps * noise).clamp_(0, 1)
        s.previous = s.previous.clone()  # it may be the very points that the judge is about to see
        s.point[rows], s.previous[rows], s.best[rows] = start, start, start
        s.best_gradient[rows] = 0
        s.best_loss[rows], s.last_loss[rows] = -torch.inf, 0.0
        s.moment[rows], s.ups[rows], s.halved[rows] = START, 0, True
        s.step_size[rows] = FIRST_STEP * self.eps


def checkpoints(iterations: int) -> Tensor:
    """Return, for each moment, the number of iterations since the last checkpoint if it is one, else 0.

    The first comes after 22 % of the iterations; the gaps shrink by 3 % down to 6 %.
    """
    periods = torch.zeros(START + iterations + 1, dtype=torch.int64)
    period, smallest, decrease = (max(int(share * iterations), 1) for share in (0.22, 0.06, 0.03))
    at = START + period
    while at < len(periods):
        periods[at] = period
        period = max(period - decrease, smallest)
        at += period
    return periods


def targeted_dlr(logits: Tensor, labels: Tensor, targets: Tensor) -> Tensor:
    """Return −(z_y − z_t) / (z_1 − (z_3 + z_4)/2), (N,): unchanged by scaling or shifting the logits.

    With three classes or two, where such a ratio is constant for one target or for all, the plain difference remains.

    Args:
        logits: (N, K), K ≥ 2.
        labels: (N,) true classes.
        targets: (N,) classes aimed at.
    """
    difference = (logits.gather(1, targets.unsqueeze(1)) - logits.gather(1, labels.unsqueeze(1))).squeeze(1)
    if logits.shape[1] < 4:
        return difference
    top = logits.topk(4, dim=1).values
    return difference / (top[:, 0] - top[:, 2:].mean(1) + 1e-12)


def margin(logits: Tensor, labels: Tensor) -> Tensor:
    """Return how far the true class is ahead, or behind, (N,): a positive size to divide logits (N, K) by."""
    true = logits.gather(1, labels.unsqueeze(1)).squeeze(1)
    others = logits.scatter(1, labels.unsqueeze(1), -torch.inf).amax(1)
    return (true - others).abs().nan_to_num(1.0, 1.0, 1.0).clamp_min(torch.finfo(torch.float32).tiny)


def per_image_largest(delta: Tensor) -> Tensor:
    """Return each image's perturbation at Linf norm 1."""
    return delta / (per_image(delta.flatten(1).abs().amax(1), delta) + 1e-12)
