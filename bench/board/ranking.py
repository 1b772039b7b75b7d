"""Who is beaten by whom beyond chance, for ten thousand rows at once, and who is on the Pareto front."""

from __future__ import annotations

from collections.abc import Callable, Hashable, Sequence
from dataclasses import dataclass
from itertools import accumulate, groupby

from bench.verdicts import LETTERS, MISCLASSIFIED, STANDING, most_losses

MANY = 1000
"""From so many rows on, pairs of rows are counted by numpy."""

_FLAGS = str.maketrans(dict.fromkeys(LETTERS + MISCLASSIFIED, "0") | {STANDING: "1"})


@dataclass(frozen=True, kw_only=True)
class Mask:
    """Which images a model is robust on: bit i of `bits` is image i, counted from the last."""

    bits: int
    count: int

    @classmethod
    def of(cls, letters: str) -> Mask:
        """Read the mask off letters."""
        return cls(bits=int(letters.translate(_FLAGS), 2), count=letters.count(STANDING))


def ranks(rows: Sequence[Mask], n: int) -> list[int]:
    """Return for each row one more than the number of rows above that a paired test (McNemar, 5 %) finds better.

    A row never ranks better than one above it.

    Args:
        rows: in falling order of `count`.
        n: number of images.

    Guarantees:
        The same as testing every pair. Most pairs need no test: a lead is decided by the number of images on which the
        row that trails wins, and for a large or a small lead every such number decides it the same way.
    """
    groups = [(count, [row.bits for row in group]) for count, group in groupby(rows, key=lambda row: row.count)]
    above = list(accumulate((len(bits) for _, bits in groups), initial=0))
    better: list[int] = []
    sharing = _sharing([row.bits for row in rows], n)
    for place, (count, members) in enumerate(groups):
        certain, doubtful = _split(groups, place, n)
        # The trailing row may win at most `most` images alone, so it shares all its others with the leader.
        leaders = [(slice(above[leader], above[leader + 1]), count - most) for leader, most in reversed(doubtful)]
        shared = sharing(slice(above[place], above[place + 1]), leaders) if leaders else [0] * len(members)
        better += [above[certain] + found for found in shared]
    return list(accumulate((found + 1 for found in better), max))


def _sharing(masks: Sequence[int], n: int) -> Callable[[slice, Sequence[tuple[slice, int]]], list[int]]:
    """Return what counts, for each of some rows, the leaders it shares at least so many images with.

    Its leaders are slices that follow each other, each with the number to be shared. Thousands of rows make millions of
    pairs: those are left to numpy, which a smaller board does not wait for.
    """

    def plainly(rows: slice, leaders: Sequence[tuple[slice, int]]) -> list[int]:
        return [
            sum((bits & other).bit_count() >= least for others, least in leaders for other in masks[others])
            for bits in masks[rows]
        ]

    if len(masks) < MANY:
        return plainly
    import numpy as np

    if not hasattr(np, "bitwise_count"):  # numpy 1
        return plainly
    width = -(-n // 64)
    words = np.frombuffer(b"".join(bits.to_bytes(8 * width, "little") for bits in masks), np.uint64)
    table = np.ascontiguousarray(words.reshape(len(masks), width).T)

    def at_once(rows: slice, leaders: Sequence[tuple[slice, int]]) -> list[int]:
        others = table[:, leaders[0][0].start : leaders[-1][0].stop]
        least = np.repeat([least for _, least in leaders], [who.stop - who.start for who, _ in leaders])
        shared = (np.bitwise_count(others & row[:, None]).sum(0, dtype=np.int32) for row in table.T[rows])
        return [int(np.count_nonzero(counts >= least)) for counts in shared]

    return at_once


def _split(groups: Sequence[tuple[int, list[int]]], place: int, n: int) -> tuple[int, list[tuple[int, int]]]:
    """Return how many of the first groups are better for certain, and (group, most losses) of those to be tested."""
    count = groups[place][0]
    doubtful: list[tuple[int, int]] = []
    for leader in range(place - 1, -1, -1):
        theirs = groups[leader][0]
        losses = min(count, n - theirs)  # no more images can be robust for the trailing row alone
        most = most_losses(theirs - count, n)
        if most >= losses:  # and so for every group further up: its lead is larger, its possible losses are fewer
            return leader + 1, doubtful
        if most >= 0:
            doubtful.append((leader, most))
    return 0, doubtful


def front(points: Sequence[tuple[int, float | None, Hashable]]) -> list[bool]:
    """Say for each row whether nobody beats it in robustness or cost without losing in the other.

    Args:
        points: (robust images, cost, where it was measured) of each row; a cost of None is never on the front, and rows
            measured in different places are not compared.
    """
    on = [False] * len(points)
    places = {place for _, cost, place in points if cost is not None}
    for place in places:
        here = [
            (-count, cost, i) for i, (count, cost, where) in enumerate(points) if cost is not None and where == place
        ]
        cheapest: float | None = None  # of all rows that are more robust
        for _, group in groupby(sorted(here), key=lambda point: point[0]):
            members = list(group)
            least = members[0][1]
            if cheapest is None or least < cheapest:
                cheapest = least
                for _, cost, i in members:
                    on[i] = cost == least
    return on
