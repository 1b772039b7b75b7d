"""Two proportions, and the 95 % interval of their difference: of two samples, and of one sample asked twice."""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import Self

from bench.verdicts import Proportion, discordant, exact

Interval = tuple[float, float]


@dataclass(frozen=True, kw_only=True)
class Paired:
    """Two strings of letters on the same images.

    Attributes:
        n: images that both were asked about, the first ones.
        only_ours: the images on which ours alone is robust.
        only_theirs: the images on which theirs alone is.
        points: robust accuracy of ours minus theirs, in points.
        interval: of that, 95 % (Newcombe, 1998b).
        p: McNemar's, exact and two-sided.
    """

    n: int
    only_ours: tuple[int, ...]
    only_theirs: tuple[int, ...]
    points: float
    interval: Interval
    p: float

    @classmethod
    def of(cls, ours: str, theirs: str) -> Self:
        """Compare two strings of letters as far as both reach."""
        n = min(len(ours), len(theirs))
        wins, losses = discordant(ours[:n], theirs[:n])
        both = ours.count(".", 0, n) - len(wins)
        low, high = paired(both, len(wins), len(losses), n - both - len(wins) - len(losses))
        return cls(
            n=n,
            only_ours=tuple(wins),
            only_theirs=tuple(losses),
            points=100 * (len(wins) - len(losses)) / n,
            interval=(100 * low, 100 * high),
            p=exact(len(wins), len(losses)),
        )


def unpaired(ours: Proportion, theirs: Proportion) -> Interval:
    """Return the interval of ours − theirs for independent samples (Newcombe, 1998a, method 10), in [−1, 1]."""
    return _squared_and_added(ours, theirs, correlation=0.0)


def paired(both: int, only_ours: int, only_theirs: int, neither: int) -> Interval:
    """Return the interval of ours − theirs on the same images (Newcombe, 1998b, method 10), in [−1, 1].

    Args:
        both: images on which both models are robust.
        only_ours: images on which only ours is.
        only_theirs: images on which only theirs is.
        neither: images on which none is.
    """
    total = both + only_ours + only_theirs + neither
    ours = Proportion(count=both + only_ours, total=total)
    theirs = Proportion(count=both + only_theirs, total=total)
    margins = ours.count * (total - ours.count) * theirs.count * (total - theirs.count)
    product = float(both * neither - only_ours * only_theirs)
    # A correction for continuity, which never turns a positive correlation into a negative one.
    product = max(product - total / 2, 0.0) if product > 0 else product
    return _squared_and_added(ours, theirs, correlation=product / math.sqrt(margins) if margins else 0.0)


def _squared_and_added(ours: Proportion, theirs: Proportion, *, correlation: float) -> Interval:
    (low, high), (their_low, their_high) = ours.interval, theirs.interval
    a, b = ours.rate - low, their_high - theirs.rate
    c, d = high - ours.rate, theirs.rate - their_low
    difference = ours.rate - theirs.rate
    below = math.sqrt(max(0.0, a * a - 2 * correlation * a * b + b * b))
    above = math.sqrt(max(0.0, c * c - 2 * correlation * c * d + d * d))
    return max(-1.0, difference - below), min(1.0, difference + above)
