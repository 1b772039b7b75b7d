"""Searches that aim at several classes aim at all of them side by side: an image in a slot has a lane for each class.

One class after another would take as many passes for an image that survives, and more or fewer for one that falls; but
on a small network a pass of the hundred images that still stand takes hardly less time than one of the thousand that
their classes make of them. Few fall here: APGD on cross-entropy comes first.
"""

from __future__ import annotations

from abc import ABC, abstractmethod
from dataclasses import fields
from typing import Any, Generic, Protocol, TypeVar

import torch
from torch import Tensor

from bench.attack.search import Arrivals, likeliest


class Tabled(Protocol):
    """What every table of lanes holds, a row a lane: whose it is, and the class it aims at, (L,) int64."""

    slot: Tensor
    target: Tensor


Table = TypeVar("Table", bound=Tabled)


class Laned(ABC, Generic[Table]):
    """The part that such searches share: lanes that open with an image, branch into one a class, and end one by one.

    A slot's lanes keep step with each other whoever else is there, so that what an image costs depends on nobody.

    Args:
        lanes: the most that a slot may have.
    """

    def __init__(self, lanes: int) -> None:
        self.lanes = lanes
        self.size = 0
        self.table: Table | None = None

    @property
    def rows(self) -> Table:
        """The lanes that are open."""
        assert self.table is not None
        return self.table

    @abstractmethod
    def enter(self, slots: Tensor, arrivals: Arrivals) -> Table:
        """Return one lane for each new image, which is to ask about the image itself."""

    @abstractmethod
    def begin(self, lanes: Table, logits: Tensor) -> Table:
        """Return lanes ready to search: their images' logits, (L, K), are known, and they have their targets."""

    def seat(self, gone: Tensor, arrivals: Arrivals) -> None:
        """Give the slots `gone`, (m,) int64, to at most m arrivals, and close those that nobody takes."""
        n = len(arrivals.images)
        if self.table is None:
            self.size, self.table = n, self.enter(torch.arange(n, device=gone.device), arrivals)
            return
        stays = torch.ones(self.size, dtype=torch.bool, device=gone.device)
        stays[gone] = False
        kept = take(self.table, stays[self.table.slot].nonzero().flatten())
        numbers = stays.index_fill(0, gone[:n], True).cumsum(0) - 1  # slots behind a closed one move up
        kept.slot = numbers[kept.slot]
        self.table = join(kept, self.enter(numbers[gone[:n]], arrivals))
        self.size -= len(gone) - n

    def turn(self, clean: Tensor, ended: Tensor, points: Tensor, logits: Tensor) -> tuple[Tensor, Tensor, Tensor]:
        """Let lanes that asked about the image branch, and close those that are at their end.

        Args:
            clean: (L,) bool, which asked about the image.
            ended: (L,) bool, which are at their end.
            points: (L, C, H, W), what each would offer.
            logits: (L, K), what was answered.

        Returns:
            A move's `offered`, `offers` and `done`.
        """
        over = clean | ended
        if not over.any():
            return self.rows.slot[:0], points[:0], torch.zeros(self.size, dtype=torch.bool, device=over.device)
        offered, kept = self.rows.slot[ended], take(self.rows, (~over).nonzero().flatten())
        branching = clean.nonzero().flatten().repeat_interleave(self.lanes)
        if len(branching):
            begun = take(self.rows, branching)
            begun.target = likeliest(logits[clean], self.lanes).flatten()
            kept = join(kept, self.begin(begun, logits[branching]))
        self.table = kept
        done = torch.ones(self.size, dtype=torch.bool, device=over.device).index_fill(0, kept.slot, False)
        return offered, points[ended], done


def take(table: Table, rows: Tensor) -> Table:
    """Return a table of some rows, (n,) int64, of another."""
    every: Any = table
    return type(table)(**{field.name: getattr(table, field.name)[rows] for field in fields(every)})


def join(first: Table, second: Table) -> Table:
    """Return a table of the rows of both."""
    every: Any = first
    columns = ((field.name, getattr(first, field.name), getattr(second, field.name)) for field in fields(every))
    return type(first)(**{name: torch.cat([one, other]) for name, one, other in columns})
