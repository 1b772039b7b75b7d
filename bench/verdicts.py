"""One letter per test image, and the statistics that letters allow."""

from __future__ import annotations

import math
from dataclasses import dataclass
from functools import cache
from string import ascii_lowercase
from typing import Literal, Self

from pydantic import BaseModel, ConfigDict, field_validator, model_validator

STANDING, MISCLASSIFIED = ".", "x"
ROBUST, WRONG = "robust", "misclassified"
AUTOATTACK = ("apgd-ce", "apgd-t", "fab-t", "square")
"""The four attacks of AutoAttack standard (Croce & Hein, 2020), in their order."""

LOW_PRECISION, TENSOR_FLOAT = "bf16", "tf32"
"""Last words of the names of engines that search in bfloat16, which is never ranked, and in TensorFloat-32."""

# `x` already means "wrong when clean".
LETTERS = ascii_lowercase.replace(MISCLASSIFIED, "")
Z95 = 1.959963984540054
LEVEL = 0.05
"""Of significance of McNemar's test, wherever it decides; not corrected for the number of tests."""


@dataclass(frozen=True, kw_only=True)
class Proportion:
    """A count out of a total."""

    count: int
    total: int

    @property
    def rate(self) -> float:
        """The count's share of the total, in [0, 1]."""
        return self.count / self.total

    @property
    def interval(self) -> tuple[float, float]:
        """The 95 % score interval (Wilson, 1927), in [0, 1]."""
        n, p, z2 = self.total, self.rate, Z95 * Z95
        centre = (p + z2 / (2 * n)) / (1 + z2 / n)
        half = Z95 / (1 + z2 / n) * math.sqrt(p * (1 - p) / n + z2 / (4 * n * n))
        # Of none and of all, one end is the rate itself, which rounding would miss.
        return max(0.0, centre - half) if self.count else 0.0, min(1.0, centre + half) if self.count < n else 1.0


class Alarm(BaseModel):
    """A sign that the verdicts may be worth less than they look.

    Attributes:
        name: short and stable, "twin-disagrees".
        fatal: whether the row may not be ranked.
        evidence: one sentence with the figures that raised it.
    """

    model_config = ConfigDict(frozen=True, extra="forbid")
    name: str
    fatal: bool
    evidence: str


class Verdicts(BaseModel):
    """What the judge wrote: a letter for each test image, in the data set's order.

    Attributes:
        attacks: the attacks that ran, in order; the first has letter `a`, the second `b`, and so on.
        letters: `.` robust, `x` wrong when clean, else the letter of the attack that fooled it first.
        counts: how often each letter occurs; an entry whose counts disagree with its letters does not load.
        alarms: what the attack and the judge noticed.
    """

    model_config = ConfigDict(frozen=True, extra="forbid")
    attacks: tuple[str, ...]
    letters: str
    counts: dict[str, int]
    alarms: tuple[Alarm, ...] = ()

    @classmethod
    def of(cls, *, attacks: tuple[str, ...], letters: str, alarms: tuple[Alarm, ...] = ()) -> Self:
        """Count the letters and build the record."""
        return cls(attacks=attacks, letters=letters, counts=count_letters(attacks, letters), alarms=alarms)

    @field_validator("attacks")
    @classmethod
    def _attacks_have_letters_and_names(cls, attacks: tuple[str, ...]) -> tuple[str, ...]:
        if len(attacks) > len(LETTERS):
            raise ValueError(f"expected at most {len(LETTERS)} attacks, got {len(attacks)}")
        if len({*attacks, ROBUST, WRONG}) != len(attacks) + 2:
            raise ValueError(f"expected attacks of different names, none called {ROBUST} or {WRONG}")
        return attacks

    @model_validator(mode="after")
    def _letters_and_counts_agree(self) -> Self:
        if not self.letters:
            raise ValueError("expected at least one letter")
        counts = count_letters(self.attacks, self.letters)
        if sum(counts.values()) != len(self.letters):
            strange = set(self.letters) - {STANDING, MISCLASSIFIED} - set(LETTERS[: len(self.attacks)])
            raise ValueError(f"letters {sorted(strange)} belong to no attack of {list(self.attacks)}")
        if self.counts != counts:
            raise ValueError("the counts disagree with the letters: somebody edited one of them")
        return self

    @property
    def clean(self) -> Proportion:
        """Images the deployed model classifies correctly when nobody attacks."""
        return self._all_but(self.counts[WRONG])

    @property
    def autoattack(self) -> Proportion:
        """Images that survive AutoAttack's four attacks: the figure to compare with RobustBench."""
        fallen = sum(self.counts[attack] for attack in self.attacks if attack in AUTOATTACK)
        return self._all_but(self.counts[WRONG] + fallen)

    @property
    def robust(self) -> Proportion:
        """Images that survive everything that ran: the figure that ranks, the same as `autoattack` if no more ran."""
        return Proportion(count=self.counts[ROBUST], total=len(self.letters))

    @property
    def fatal(self) -> bool:
        """Whether any alarm keeps the row out of the ranking."""
        return bool(self.alarms) and any(alarm.fatal for alarm in self.alarms)

    def _all_but(self, fallen: int) -> Proportion:
        return Proportion(count=len(self.letters) - fallen, total=len(self.letters))


def count_letters(attacks: tuple[str, ...], letters: str) -> dict[str, int]:
    """Return the number of images per outcome: `robust`, `misclassified`, and each attack's first kills."""
    fallen = {attack: letters.count(letter) for attack, letter in zip(attacks, LETTERS, strict=False)}
    return {ROBUST: letters.count(STANDING), WRONG: letters.count(MISCLASSIFIED), **fallen}


def mcnemar(ours: str, theirs: str) -> float:
    """Return the exact two-sided p-value that two models are equally robust (McNemar, 1947).

    Args:
        ours: letters of one model.
        theirs: letters of the other on the same images, in the same order.

    Raises:
        ValueError: the letters cover different numbers of images.
    """
    if len(ours) != len(theirs):
        raise ValueError(f"expected letters for the same images, got {len(ours)} and {len(theirs)}")
    wins, losses = discordant(ours, theirs)
    return exact(len(wins), len(losses))


def discordant(ours: str, theirs: str) -> tuple[list[int], list[int]]:
    """Return the indexes of the images that only the first model is robust on, and those that only the second is."""
    pairs = list(zip(ours, theirs, strict=True))
    wins = [i for i, (a, b) in enumerate(pairs) if a == STANDING != b]
    losses = [i for i, (a, b) in enumerate(pairs) if a != STANDING == b]
    return wins, losses


def exact(wins: int, losses: int) -> float:
    """Return McNemar's exact two-sided p-value for so many images on which only one of two models is robust."""
    n = wins + losses
    tail, term = 0, 1  # the sum of the binomial coefficients (n, 0) … (n, fewer), each made from the one before
    for k in range(min(wins, losses) + 1):
        tail += term
        term = term * (n - k) // (k + 1)
    # Integers of thousands of bits: Python divides them exactly before turning the result into a float.
    return min(1.0, (2 * tail) / (1 << n))


@cache
def most_losses(lead: int, limit: int) -> int:
    """Return how many images a model may lose to another that it leads by `lead`, and still be better beyond chance.

    With the lead fixed, more images on which the two differ make it less telling, so there is a most; −1 for none.

    Args:
        lead: images on which it alone is robust, less those on which the other alone is.
        limit: the answer is at most this, the number of images.
    """
    if not _beyond_chance(lead, 0):
        return -1
    if _beyond_chance(lead, limit):
        return limit
    low, high = 0, limit  # significant at `low`, not at `high`
    while high - low > 1:
        middle = (low + high) // 2
        low, high = (middle, high) if _beyond_chance(lead, middle) else (low, middle)
    return low


def _beyond_chance(lead: int, losses: int) -> bool:
    """Say whether p < `LEVEL`: in floating point where that is clear, exactly where it is not."""
    n = 2 * losses + lead
    log = math.lgamma(n + 1) - math.lgamma(losses + 1) - math.lgamma(n - losses + 1) - n * math.log(2)
    tail, term = 0.0, math.exp(log)
    for k in range(losses, -1, -1):
        tail += term
        term *= k / (n - k + 1)
        if term <= tail * 1e-17:
            break
    p = 2 * tail
    return p < LEVEL if abs(p - LEVEL) > 1e-6 * LEVEL else exact(losses + lead, losses) < LEVEL


Outcome = Literal["better", "worse", "tied"]


def compare(ours: str, theirs: str) -> Outcome:
    """Say whether one model is robust on more images than another, as far as a paired test can tell."""
    if mcnemar(ours, theirs) >= LEVEL:
        return "tied"
    return "better" if ours.count(STANDING) > theirs.count(STANDING) else "worse"
