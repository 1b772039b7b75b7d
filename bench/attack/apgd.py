"""APGD (Croce & Hein, 2020, arXiv 2003.01690): gradient ascent with momentum that halves its own step.

On cross-entropy in one lane, or on the targeted difference-of-logits ratio in one for each target class.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

import torch
from torch import Tensor
from torch.nn import functional

from bench.attack import randomness
from bench.attack.lanes import Laned
from bench.attack.search import Answer, Arrivals, Move, Question, lead, overwrite, per_image, unit
from bench.attack.suites import Budget
from bench.threat_model import ThreatModel

Loss = Literal["ce", "scaled", "targeted"]
RHO, MOMENTUM, FIRST_STEP = 0.75, 0.75, 2.0
CLEAN, START = 0, 1
"""The first moments of a lane: it asks about the image itself, then about the start of the search."""
LEAST_MARGIN = 1e-3
"""Share of the logits' spread below which a margin counts as a tie."""


@dataclass(kw_only=True)
class _Lanes:
    """One row a lane; images are (L, C, H, W), the others (L,)."""

    slot: Tensor
    images: Tensor
    labels: Tensor
    keys: Tensor
    low: Tensor  # the corners of the box around the image, under Linf
    high: Tensor
    target: Tensor
    scale: Tensor  # what the logits are divided by
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


class Apgd(Laned[_Lanes]):
    """Searches for the point of highest loss within the ball.

    Args:
        loss: "ce", cross-entropy; "scaled", the same of logits divided by the image's clean margin; "targeted", the
            targeted DLR loss, in a lane for each target class.
        threat: norm and eps.
        budget: iterations and targets.
        n_classes: K.
    """

    def __init__(self, *, loss: Loss, threat: ThreatModel, budget: Budget, n_classes: int) -> None:
        self.targeted, self.scaled = loss == "targeted", loss == "scaled"
        super().__init__(min(budget.targets, n_classes - 1) if self.targeted else 1)
        self.linf, self.eps = threat.norm == "Linf", float(threat.eps)
        self.iterations = budget.iterations
        self.periods = checkpoints(budget.iterations)

    def enter(self, slots: Tensor, arrivals: Arrivals) -> _Lanes:
        """Return lanes that ask about the images themselves; nothing is better than their best loss, infinity."""
        x, n = arrivals.images, len(arrivals.images)
        self.periods = self.periods.to(x.device)
        zeros, count = x.new_zeros(n), torch.zeros_like(arrivals.labels)
        # The lower corner first: where both bounds are out of the box they must not cross.
        low, high = ((x - self.eps).clamp(0, 1), (x + self.eps).clamp(0, 1)) if self.linf else (x, x)
        return _Lanes(
            slot=slots, images=x, labels=arrivals.labels, keys=arrivals.keys, low=low, high=high, target=count,
            scale=torch.ones_like(zeros), moment=torch.full_like(count, CLEAN), point=x, previous=x,
            best=x.clone(), best_gradient=torch.zeros_like(x), best_loss=torch.full_like(zeros, torch.inf),
            checked_loss=zeros, last_loss=zeros, ups=count.clone(), halved=count.bool(), step_size=zeros,
        )  # fmt: skip

    def ask(self, *, room: int) -> Question:
        """Ask about every lane's current point."""
        s = self.rows
        return Question(points=s.point, slots=s.slot, differentiate=s.moment != CLEAN)

    def loss(self, logits: Tensor, rows: Tensor) -> Tensor:
        """Return cross-entropy, or the DLR towards the lane's target; (n,)."""
        s = self.rows
        if self.targeted:
            return targeted_dlr(logits, s.labels[rows], s.target[rows])
        if self.scaled:
            logits = logits / s.scale[rows].to(logits.dtype).unsqueeze(1)
        return functional.cross_entropy(logits, s.labels[rows], reduction="none")

    def tell(self, question: Question, answer: Answer) -> Move:
        """Keep the best point, halve the step at a checkpoint without progress, and climb."""
        s = self.rows
        better = answer.loss > s.best_loss
        s.best = overwrite(s.best, better, s.point)
        s.best_gradient = overwrite(s.best_gradient, better, answer.gradient)
        s.best_loss = torch.where(better, answer.loss, s.best_loss)
        clean, ended = s.moment == CLEAN, s.moment == START + self.iterations
        point, gradient = self._checkpoint(answer.loss, answer.gradient)
        s.point, s.previous = self._climb(point, gradient), point
        s.moment = s.moment + 1
        offered, offers, done = self.turn(clean, ended, s.best, answer.logits)
        return Move(
            claims=answer.wrong, counted=torch.ones_like(answer.wrong), offered=offered, offers=offers, done=done
        )

    def _checkpoint(self, loss: Tensor, gradient: Tensor) -> tuple[Tensor, Tensor]:
        """Return where to climb from and along which gradient: back at the best point where the step was halved."""
        s = self.rows
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
        s = self.rows
        step = per_image(s.step_size, point)
        # The first step of a lane has no movement behind it.
        share = per_image(torch.where(s.moment == START, 1.0, MOMENTUM).to(point.dtype), point)
        # Few passes over the images, and in place: on a small network they are what costs.
        direction = gradient.sign() if self.linf else unit(gradient)
        ahead = self._project(direction.mul_(step).add_(point))
        behind = (point - s.previous).mul_(1 - share)
        return self._project(ahead.sub_(point).mul_(share).add_(point).add_(behind))

    def _project(self, points: Tensor) -> Tensor:
        """Return the points within the threat model; they themselves are lost."""
        s = self.rows
        if self.linf:
            return points.clamp_(s.low, s.high)
        delta = points.sub_(s.images)
        size = per_image(delta.flatten(1).norm(dim=1), delta)
        return delta.div_(size + 1e-12).mul_(size.clamp_max(self.eps)).add_(s.images).clamp_(0, 1)

    def begin(self, lanes: _Lanes, logits: Tensor) -> _Lanes:
        """Return lanes at random points on the surface of the ball."""
        s, rank = lanes, torch.arange(len(logits), device=logits.device) % self.lanes
        if self.scaled:
            s.scale = margin(logits, s.labels)
        pixels = s.images[0].numel()
        counter = rank.unsqueeze(1) * pixels + torch.arange(pixels, device=logits.device)
        draw = randomness.uniform if self.linf else randomness.normal
        noise = draw(s.keys.unsqueeze(1), counter).view_as(s.images)
        noise = per_image_largest(2 * noise - 1) if self.linf else unit(noise)
        start = (s.images + self.eps * noise).clamp_(0, 1)
        s.point, s.previous, s.best = start, start, start.clone()
        s.best_loss = torch.full_like(s.best_loss, -torch.inf)
        s.moment, s.ups = torch.full_like(s.moment, START), torch.zeros_like(s.ups)
        s.halved, s.step_size = torch.ones_like(s.halved), torch.full_like(s.step_size, FIRST_STEP * self.eps)
        return s


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
    """Return how far the true class is ahead, or behind, (N,): a positive size to divide logits (N, K) by.

    Of a tie it is a small share of the logits' spread: divided by nothing, they would overflow.
    """
    spread = (logits.amax(1) - logits.amin(1)).nan_to_num(1.0, 1.0, 1.0).clamp_min(torch.finfo(torch.float32).tiny)
    return lead(logits, labels).abs().nan_to_num(1.0, 1.0, 1.0).maximum(LEAST_MARGIN * spread)


def per_image_largest(delta: Tensor) -> Tensor:
    """Return each image's perturbation at Linf norm 1."""
    return delta / (per_image(delta.flatten(1).abs().amax(1), delta) + 1e-12)
