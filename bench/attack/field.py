"""The slots of one attack: who is in them, what the model says of them, and who leaves."""

from __future__ import annotations

import time
from contextlib import nullcontext
from dataclasses import dataclass
from typing import TYPE_CHECKING, Literal, NamedTuple, Self

import torch
from torch import Tensor

from bench.attack import randomness
from bench.attack.capacity import Capacity, in_parts
from bench.attack.guides import guide
from bench.attack.judge import judge
from bench.attack.probe import VANISHED, Record
from bench.attack.search import Answer, Arrivals, Move, Question, Search, seat
from bench.machine.tensor_float import tensor_float

if TYPE_CHECKING:
    from bench.attack.engine import Trial

SEEN = ("forward", "backward", "zero_gradients", "broken_gradients", "broken_logits", "judged", "disagreed")
_FORWARD, _GRADIENTS, _BROKEN_LOGITS, _JUDGED = 0, slice(1, 4), 4, 5


Precision = Literal["float32", "tf32", "bf16"]
"""Of a search: the network's own, products on CUDA in TensorFloat-32, everything in bfloat16 by autocast."""


@dataclass(kw_only=True)
class Work:
    """What was really computed, in vain or not.

    Attributes:
        forward: images that went forward through the network that was asked.
        backward: images that went backward.
        seconds: spent inside that network; on an accelerator, spent launching it.
    """

    forward: int = 0
    backward: int = 0
    seconds: float = 0.0


@dataclass(frozen=True, kw_only=True)
class Means:
    """With what networks are asked.

    Attributes:
        work: counts what is computed.
        capacity: how many images fit into a pass; fewer than there are slots where memory ran out.
        precision: in which the attack asks; the judge asks in full precision whatever this says.
    """

    work: Work
    capacity: Capacity
    precision: Precision


class Room(NamedTuple):
    """How many images are attacked abreast at most, and how many points of theirs a search is to ask about at once.

    Attributes:
        images: abreast.
        points: where some may be asked in vain.
        lanes: none of which is.
    """

    images: int
    points: int
    lanes: int

    @classmethod
    def of(cls, n: int) -> Self:
        """Return room for n of whatever it is, 1 at least."""
        return cls(images=max(1, n), points=max(1, n), lanes=max(1, n))

    def shared(self, n: int) -> Room:
        """Return what is left for each of n."""
        return Room(*(max(1, each // n) for each in self))

    def slots(self, each: int) -> int:
        """Return how many images a search attacks abreast that has so many lanes for each."""
        return min(self.images, max(1, self.lanes // each))


class Through(NamedTuple):
    """An image whose attack is over."""

    number: int
    survived: bool
    seen: Record


@dataclass(kw_only=True)
class _Register:
    """Who is in the slots, (S,), their images, (S, C, H, W), and what was seen of them, (S, len(SEEN))."""

    numbers: Tensor
    images: Tensor
    labels: Tensor
    seen: Tensor


class Field:
    """The slots of one attack.

    Args:
        trial: who is attacked.
        attack: its key.
        search: the attack itself, with empty slots.
        room: how many images at most, and how many points.
        means: with what networks are asked.
    """

    def __init__(self, trial: Trial, attack: str, search: Search, *, room: Room, means: Means) -> None:
        self.trial, self.attack, self.search, self.room, self.means = trial, attack, search, room, means
        self.guide = guide(attack, trial.subject)
        self.register: _Register | None = None
        self.gone = torch.zeros(0, dtype=torch.int64, device=trial.device)

    def __len__(self) -> int:
        return 0 if self.register is None else len(self.register.numbers)

    def passes_under_way(self) -> int:
        """Return the passes spent on images whose verdict is still open."""
        return 0 if self.register is None else int(self.register.seen[:, :2].sum())

    @torch.no_grad()
    def admit(self, waiting: list[int]) -> None:
        """Take images from the end of `waiting` into the free slots; close the slots that nobody takes."""
        vacant = self.room.slots(self.search.lanes) if self.register is None else len(self.gone)
        if not vacant:
            return
        entering = [waiting.pop() for _ in range(min(vacant, len(waiting)))]
        images, labels = self.trial.batch(entering)
        numbers = torch.tensor(entering, dtype=torch.int64, device=self.trial.device)
        keys = randomness.keys(self.trial.seed, self.attack, numbers)
        self.search.seat(self.gone, Arrivals(images=images, labels=labels, keys=keys))
        fresh = _Register(  # copies of its own: it writes in place, and the search may hold the arrivals themselves
            numbers=numbers,
            images=images.clone(),
            labels=labels.clone(),
            seen=numbers.new_zeros(len(numbers), len(SEEN)),
        )
        self.register = seat(self.register, self.gone, fresh)
        self.gone = self.gone[:0]

    @torch.no_grad()
    def tick(self) -> list[Through]:
        """Ask, answer and judge once; return the images that are through."""
        assert self.register is not None
        question = self.search.ask(room=self.room.points)
        with tensor_float(allowed=True) if self.means.precision == "tf32" else nullcontext():
            answer, counts = self._answer(question)
        move = self.search.tell(question, answer)
        seen = self.register.seen
        seen.index_add_(0, question.slots, counts * move.counted.unsqueeze(1))
        fallen = torch.zeros_like(move.done)
        claims = move.counted if self.guide.foreign else move.claims
        if len(move.offered) or bool(claims.any()):
            fallen = self._hear(question, move, claims)
        self.gone = (fallen | move.done).nonzero().flatten()
        if not len(self.gone):
            return []
        numbers, survived = self.register.numbers[self.gone].tolist(), (~fallen[self.gone]).tolist()
        records = [Record(**dict(zip(SEEN, row, strict=True))) for row in seen[self.gone].tolist()]
        return [Through(*each) for each in zip(numbers, survived, records, strict=True)]

    def _hear(self, question: Question, move: Move, claims: Tensor) -> Tensor:
        """Let the judge see what the attack claims and offers; return which slots fall, (S,) bool."""
        assert self.register is not None
        claimed = claims.nonzero().flatten()
        slots = torch.cat([question.slots[claimed], move.offered])
        proposals = torch.cat([question.points[claimed], move.offers])
        originals, labels = self.register.images[slots], self.register.labels[slots]
        standing, disagreed, shown = judge(
            self.trial.subject, proposals, originals, labels, self.trial.threat, capacity=self.means.capacity
        )
        fallen = torch.zeros_like(move.done)
        fallen[slots[~standing]] = True
        if self.trial.album is not None:
            self.trial.album.take(self.register.numbers[slots[~standing]], shown[~standing])
        # Of several proposals of one slot the last is on record: it is the one that a surviving image ends with.
        order = torch.arange(len(slots), device=slots.device)
        last = torch.full_like(move.done, -1, dtype=torch.int64).scatter_reduce(0, slots, order, "amax")
        ending = last[slots] == order
        self.register.seen[slots[ending], _JUDGED] = 1
        self.register.seen[slots[ending], _JUDGED + 1] = disagreed[ending].to(slots)
        if self.guide.foreign:  # an attack that knows the subject has paid for what it claims
            self.register.seen[:, _FORWARD].index_add_(0, slots, torch.ones_like(slots))
        return fallen

    def _answer(self, question: Question) -> tuple[Answer, Tensor]:
        """Return what the network asked says, and for each row what is counted, (R, len(SEEN))."""
        assert self.register is not None
        points, wanted = question.points, question.differentiate
        both = wanted.nonzero().flatten()
        if 0 < len(both) == len(points):
            logits, loss, gradient = self._differentiate(points, both)
        elif not len(both):
            logits = self._classify(points)
            loss, gradient = logits.new_zeros(len(points)), logits.new_zeros(()).expand_as(points)
        else:
            logits = points.new_zeros(len(points), self.trial.n_classes)
            loss, gradient = points.new_zeros(len(points)), torch.zeros_like(points)
            plain = (~wanted).nonzero().flatten()
            logits[both], loss[both], gradient[both] = self._differentiate(points[both], both)
            logits[plain] = self._classify(points[plain])
        broken = ~logits.isfinite().all(1)
        counts = torch.zeros(len(points), len(SEEN), dtype=torch.int64, device=points.device)
        counts[:, _FORWARD] = 1
        counts[:, _BROKEN_LOGITS] = broken
        if len(both):
            flat = gradient.flatten(1)
            largest = torch.maximum(flat.amax(1), -flat.amin(1))
            finite = largest.isfinite()
            counts[:, _GRADIENTS] = torch.stack([wanted, wanted & (largest <= VANISHED), wanted & ~finite], 1).long()
            if gradient.is_cuda or not finite.all():
                gradient = gradient.nan_to_num(0.0, 0.0, 0.0)
        wrong = broken | (logits.argmax(1) != self.register.labels[question.slots])
        return Answer(logits=logits, wrong=wrong, loss=loss, gradient=gradient), counts

    def _logits(self, points: Tensor) -> Tensor:
        """Ask the network that shows the way."""
        if self.means.precision != "bf16":
            return self.guide.ask(points)
        with torch.autocast(points.device.type, dtype=torch.bfloat16):
            return self.guide.ask(points).to(points.dtype)

    def _classify(self, points: Tensor) -> Tensor:
        """Return logits."""
        if not len(points):  # Square may find no patch that changes anything; not every network bears an empty batch
            return points.new_zeros(0, self.trial.n_classes)
        start = time.perf_counter()
        (logits,) = in_parts(len(points), lambda part: (self._logits(points[part]),), self.means.capacity)
        self.means.work.seconds += time.perf_counter() - start
        self.means.work.forward += len(points)
        return logits.to(points.dtype)

    def _differentiate(self, points: Tensor, rows: Tensor) -> tuple[Tensor, Tensor, Tensor]:
        """Return logits, the search's loss, and its gradient at the points, which are rows of the question."""

        def ask(part: slice) -> tuple[Tensor, Tensor, Tensor]:
            some = points[part].detach().requires_grad_()
            with torch.enable_grad():
                logits = self._logits(some)
                loss = self.search.loss(logits, rows[part])
                # A network that cuts the graph has no gradient; the alarms will say so.
                found = torch.autograd.grad(loss.sum(), some, allow_unused=True) if loss.requires_grad else (None,)
            gradient = torch.zeros_like(some) if found[0] is None else found[0]
            # Whatever the network computes in, the search keeps one type: it must not matter who shares the batch.
            return logits.detach().to(points.dtype), loss.detach().to(points.dtype), gradient

        start = time.perf_counter()
        logits, loss, gradient = in_parts(len(points), ask, self.means.capacity)
        self.means.work.seconds += time.perf_counter() - start
        self.means.work.forward += len(points)
        self.means.work.backward += len(points)
        return logits, loss, gradient
