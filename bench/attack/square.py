"""Square (Andriushchenko et al., 2020, arXiv 1912.00049): random search with square patches; no gradients."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Protocol

import torch
from torch import Tensor

from bench.attack import randomness
from bench.attack.search import Answer, Arrivals, Move, Question, choose, lead, seat
from bench.attack.squares_l2 import PatchesL2
from bench.attack.squares_linf import PatchesLinf
from bench.attack.suites import Budget
from bench.threat_model import ThreatModel

P_INIT = 0.8
HALVE_AFTER = (10, 50, 200, 500, 1000, 2000, 4000, 6000, 8000)
"""Queries after which the share of the image that a patch covers is halved."""
CLEAN, START, SEARCH = 0, 1, 2
LEAST_AHEAD, LOOK_AHEAD, MOST_AT_ONCE, PATIENCE = 4, 16, 8, 50
"""Queries drawn together, at least and at most, asked about together, and done for each that is asked ahead."""
_START_DRAWS = 1 << 40  # counters from here on belong to the starting point


class Patches(Protocol):
    """What patches look like under one norm."""

    draws: int
    """Random words a query takes."""

    def start(self, images: Tensor, keys: Tensor, counter: int) -> Tensor:
        """Return starting points, (n, C, H, W)."""
        ...

    def marks(self, points: Tensor, images: Tensor) -> Tensor:
        """Return what `changes` wants to know of the points, (n, …)."""
        ...

    def changes(self, marks: Tensor, words: Tensor, sizes: Tensor) -> Tensor:
        """Say which queries would change their point at all; (n, J) bool for words (n, J, draws) and sizes (n, J)."""
        ...

    def paste(self, points: Tensor, images: Tensor, slots: Tensor, words: Tensor, sizes: Tensor) -> Tensor:
        """Return the points with one patch each, (R, C, H, W); they themselves may be lost.

        Each is of the image in its slot, (R,), among images (S, C, H, W); words are (R, draws), sizes (R,).
        """
        ...


@dataclass(kw_only=True)
class _Slots:
    """One row a slot; images are (S, C, H, W), the others (S,)."""

    images: Tensor
    labels: Tensor
    keys: Tensor
    moment: Tensor  # CLEAN, START, SEARCH
    query: Tensor  # the next query's number
    best: Tensor
    margin: Tensor  # of the best point
    marks: Tensor


class Square:
    """Changes a patch of the best point, and keeps the change when it brings the margin down.

    Queries whose patch changes nothing are passed over. With room in the batch a slot asks about several queries at
    once, each as if those before it had failed; what follows a success was then asked in vain, and does not count.
    So the search takes exactly the steps that it would take one by one.

    Args:
        threat: norm and eps.
        budget: queries.
        image_shape: (C, H, W).
    """

    lanes = 1

    def __init__(self, *, threat: ThreatModel, budget: Budget, image_shape: tuple[int, int, int]) -> None:
        self.state: _Slots | None = None
        self.queries = budget.queries
        linf = threat.norm == "Linf"
        self.sizes = patch_sizes(budget.queries, image_shape, linf=linf)
        patches = PatchesLinf if linf else PatchesL2
        self.patches: Patches = patches(float(threat.eps), image_shape, self.sizes.unique().tolist())
        self.ahead = self.sizes.new_zeros(0)
        self.position = self.asked = self.ahead

    @property
    def slots(self) -> _Slots:
        """The table."""
        assert self.state is not None
        return self.state

    def seat(self, gone: Tensor, arrivals: Arrivals) -> None:
        """Give free slots to new images."""
        x, count = arrivals.images, torch.zeros_like(arrivals.labels)
        self.sizes = self.sizes.to(x.device)
        best = self.patches.start(x, arrivals.keys, _START_DRAWS)
        fresh = _Slots(
            images=x, labels=arrivals.labels, keys=arrivals.keys, moment=count, query=count.clone(), best=best,
            margin=torch.full_like(x[:, 0, 0, 0], torch.inf), marks=self.patches.marks(best, x),
        )  # fmt: skip
        self.state = seat(self.state, gone, fresh)

    def ask(self, *, room: int) -> Question:
        """Ask about the image, then the starting point, then the next patches that change something."""
        s = self.slots
        # Early queries often succeed: what is asked ahead of them is asked in vain.
        most = max(1, min(room // len(s.images), MOST_AT_ONCE))
        each = (1 + s.query.unsqueeze(1) // PATIENCE).clamp_max(most)
        window = torch.arange(max(LEAST_AHEAD, min(2 * most, LOOK_AHEAD)), device=s.query.device)
        number = s.query.unsqueeze(1) + window
        sizes = self.sizes[number.clamp_max(self.queries - 1)]
        words = self._words(s.keys.unsqueeze(1), number)
        useful = self.patches.changes(s.marks, words, sizes) & (number < self.queries)
        searching = (s.moment == SEARCH).unsqueeze(1)
        useful = torch.where(searching, useful, window == 0)
        rank = useful.cumsum(1)
        chosen = useful & (rank <= each)
        slots, position = chosen.nonzero(as_tuple=True)
        # Without a success the search goes on behind the last query asked, or behind the window where that held few.
        last = (window * chosen).amax(1) + 1
        self.ahead = torch.where(rank[:, -1] > each.squeeze(1), last, len(window)).clamp_max(self.queries - s.query)
        self.position, self.asked = position, slots
        points = self.patches.paste(s.best[slots], s.images, slots, words[slots, position], sizes[slots, position])
        if points.is_cuda or not searching.all():
            moment = s.moment[slots]
            points = choose(moment == SEARCH, points, choose(moment == START, s.best[slots], s.images[slots]))
        return Question(points=points, slots=slots, differentiate=torch.zeros_like(slots, dtype=torch.bool))

    def loss(self, logits: Tensor, rows: Tensor) -> Tensor:
        """Return minus the margin, (n,)."""
        return -lead(logits, self.slots.labels[self.asked[rows]])

    def tell(self, question: Question, answer: Answer) -> Move:
        """Keep each slot's first success."""
        s, slots, position = self.slots, question.slots, self.position
        margin = lead(answer.logits, s.labels[slots])
        never = self.queries
        searching = s.moment == SEARCH
        success = (margin < s.margin[slots]) & searching[slots]
        first = torch.full_like(s.query, never)
        first.scatter_reduce_(0, slots, torch.where(success, position, never), "amin")
        counted = position <= first[slots]
        rows = (success & (position == first[slots])).nonzero().flatten()
        if len(rows):
            winners = slots[rows]
            s.best[winners], s.margin[winners] = question.points[rows], margin[rows]
            s.marks[winners] = self.patches.marks(question.points[rows], s.images[winners])
        advance = torch.where(first < never, first + 1, self.ahead)
        s.query += torch.where(searching, advance, 0)
        started = ~searching[slots] & (s.moment[slots] == START)
        s.margin[slots[started]] = margin[started]
        s.moment = (s.moment + 1).clamp_max(SEARCH)
        done = s.query >= self.queries
        offered = done.nonzero().flatten()
        return Move(claims=answer.wrong & counted, counted=counted, offered=offered, offers=s.best[offered], done=done)

    def _words(self, keys: Tensor, number: Tensor) -> Tensor:
        """Return the random words of queries, (…, draws)."""
        each = self.patches.draws
        counter = number.unsqueeze(-1) * each + torch.arange(each, device=number.device)
        return randomness.bits(keys.unsqueeze(-1), counter)


def patch_sizes(queries: int, image_shape: tuple[int, int, int], *, linf: bool) -> Tensor:
    """Return the side of each query's patch in pixels, (queries,) int64; odd and at least 3 under L2."""
    _, height, width = image_shape
    sizes = []
    for query in range(queries):
        share = P_INIT / 2 ** sum(query > after for after in HALVE_AFTER)
        side = max(round((share * height * width) ** 0.5), 1 if linf else 3)
        side += 0 if linf or side % 2 else 1
        sizes.append(min(side, height, width))
    return torch.tensor(sizes, dtype=torch.int64)
