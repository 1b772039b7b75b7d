"""What an attack is to the driver: a search over slots that asks about points and is told what the model says.

A slot holds one image with all that the attack knows about it. Attacks never touch the model: they ask, the driver
computes, counts and judges. So every slot may be at another iteration, and a freed slot takes the next image at once.
"""

from __future__ import annotations

from dataclasses import dataclass, fields
from typing import Any, Protocol, TypeVar

import torch
from torch import Tensor

State = TypeVar("State")


@dataclass(frozen=True, kw_only=True)
class Arrivals:
    """Images that enter the attack.

    Attributes:
        images: (n, C, H, W) in [0, 1].
        labels: (n,) true classes.
        keys: (n,) int64, for `randomness`.
    """

    images: Tensor
    labels: Tensor
    keys: Tensor


@dataclass(frozen=True, kw_only=True)
class Question:
    """Points to classify.

    Attributes:
        points: (R, C, H, W) in [0, 1].
        slots: (R,) int64, whose they are.
        differentiate: (R,) bool, where the search wants its loss and the gradient of it, too.
    """

    points: Tensor
    slots: Tensor
    differentiate: Tensor


@dataclass(frozen=True, kw_only=True)
class Answer:
    """What the model says.

    Attributes:
        logits: (R, K).
        wrong: (R,) bool: another class wins, or a logit is not finite.
        loss: (R,), 0 where not asked.
        gradient: (R, C, H, W), 0 where not asked or not finite.
    """

    logits: Tensor
    wrong: Tensor
    loss: Tensor
    gradient: Tensor


@dataclass(frozen=True, kw_only=True)
class Move:
    """What a search makes of an answer.

    Attributes:
        claims: (R,) bool, points of the question that lie within the ball and fool the model.
        counted: (R,) bool, points that the attack's budget pays for; others were asked in vain.
        offered: (m,) int64, slots at the end of a search, once for each lane that ends.
        offers: (m, C, H, W), the strongest points of those lanes: a deployed model weaker than its twin falls there.
        done: (S,) bool, slots whose budget is spent.
    """

    claims: Tensor
    counted: Tensor
    offered: Tensor
    offers: Tensor
    done: Tensor


class Search(Protocol):
    """An attack as a state machine, all slots abreast.

    Attributes:
        lanes: points of a slot that the search cannot but ask about together, at most.
    """

    lanes: int

    def seat(self, gone: Tensor, arrivals: Arrivals) -> None:
        """Give the slots `gone`, (m,) int64, to at most m arrivals, and close those that nobody takes."""
        ...

    def ask(self, *, room: int) -> Question:
        """Return at most max(room, lanes × S) points; at least one a slot, unless all its moves change nothing."""
        ...

    def loss(self, logits: Tensor, rows: Tensor) -> Tensor:
        """Return what the search wants to grow, (n,), for logits (n, K) of some rows of its question, (n,) int64."""
        ...

    def tell(self, question: Question, answer: Answer) -> Move:
        """Take in the answer and move on."""
        ...


def seat(state: State | None, gone: Tensor, fresh: State) -> State:
    """Return the table of slots with `fresh` rows in place of those that are gone; written in place where it fits."""
    if state is None:
        return fresh
    for field in fields(state):  # type: ignore[arg-type]
        old, new = getattr(state, field.name), getattr(fresh, field.name)
        if len(new):
            old[gone[: len(new)]] = new
        if len(new) < len(gone):
            keep = torch.ones(len(old), dtype=torch.bool, device=old.device)
            keep[gone[len(new) :]] = False
            setattr(state, field.name, old[keep])
    return state


def per_image(values: Tensor, images: Tensor) -> Tensor:
    """Return (N,) values so shaped that they broadcast over (N, C, H, W)."""
    return values.view(-1, *[1] * (images.dim() - 1))


def choose(condition: Tensor, yes: Tensor, no: Tensor) -> Tensor:
    """Return `yes` for the images where the condition, (N,), holds, else `no`."""
    return torch.where(per_image(condition, no), yes, no)


def overwrite(target: Tensor, condition: Tensor, source: Tensor) -> Tensor:
    """Return `choose(condition, source, target)`; where rows can be counted without waiting for it, in place."""
    if target.is_cuda or 0 in target.stride():  # autograd hands out expanded zeros, whose rows share their memory
        return choose(condition, source, target)
    rows = condition.nonzero().flatten()
    if len(rows):
        target[rows] = source[rows]
    return target


def likeliest(logits: Tensor, n: int) -> Tensor:
    """Return the classes that come second, third, … in the logits, (N, n) int64: the order of AutoAttack's targets."""
    order: Any = logits.argsort(dim=1, descending=True)
    found: Tensor = order[:, 1 : n + 1]
    return found


def unit(delta: Tensor) -> Tensor:
    """Return each image's perturbation at L2 norm 1."""
    return delta / (per_image(delta.flatten(1).norm(dim=1), delta) + 1e-12)


def lead(logits: Tensor, labels: Tensor) -> Tensor:
    """Return how far the true class is ahead of the best other one, (N,); below 0 where it is behind."""
    true = logits.gather(1, labels.unsqueeze(1)).squeeze(1)
    return true - logits.scatter(1, labels.unsqueeze(1), -torch.inf).amax(1)
