"""An entry's letters, sorted and stacked into one bar."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from rich.text import Text

from bench.render.layout import flow
from bench.verdicts import LETTERS, MISCLASSIFIED, STANDING, Verdicts

_ROBUST, _WRONG = "#5fb36a", "#767676"
# From the attack that strikes first to the one that strikes last: what falls late almost stood.
_ATTACKS = (
    *("#d7575f", "#e08e4f", "#e6b450", "#efe08f", "#c490d1", "#8f9fe8", "#6fb7d6", "#7fd0c0"),
    "#a9c77b",
)
_LATE = {"square-": "#b7c3e8", "pgd-20": "#e3a7bf", "challenge:": "#c9b08f"}
"""Of what comes after: Square again, PGD-20, and whoever challenges."""


@dataclass(frozen=True, kw_only=True)
class Segment:
    """A part of the bar: one outcome, its letter, and how many images met it."""

    letter: str
    outcome: str
    count: int
    colour: str


def segments(verdicts: Verdicts) -> list[Segment]:
    """Return robust first, then the attacks from last to first, then what was wrong anyway.

    Images that fell late stand next to those that never fell, and clean accuracy is where the first attack's part ends.
    """
    attacks = [
        Segment(letter=LETTERS[i], outcome=name, count=verdicts.counts[name], colour=_colour(i, name))
        for i, name in enumerate(verdicts.attacks)
    ]
    robust = Segment(letter=STANDING, outcome="robust", count=verdicts.counts["robust"], colour=_ROBUST)
    wrong_count = verdicts.counts["misclassified"]
    wrong = Segment(letter=MISCLASSIFIED, outcome="misclassified", count=wrong_count, colour=_WRONG)
    return [robust, *reversed(attacks), wrong]


def _colour(position: int, attack: str) -> str:
    late = [colour for begins, colour in _LATE.items() if attack.startswith(begins) and attack != "square-deployed"]
    return late[0] if late else _ATTACKS[min(position, len(_ATTACKS) - 1)]


def cells(counts: Sequence[int], width: int) -> list[int]:
    """Share `width` cells out in proportion to `counts`.

    Guarantees:
        Whatever occurs gets at least one cell, and what does not gets none.
        The cells add up to `width`, unless more than `width` counts are above zero.
    """
    total = sum(counts)
    exact = [count * width / total for count in counts]
    shares = [max(int(share), 1 if count else 0) for share, count in zip(exact, counts, strict=True)]
    while sum(shares) != width:
        step = 1 if sum(shares) < width else -1
        able = [i for i, share in enumerate(shares) if counts[i] and (step > 0 or share > 1)]
        if not able:
            break
        shares[max(able, key=lambda i: step * (exact[i] - shares[i]))] += step
    return shares


def bar(verdicts: Verdicts, width: int, *, colour: bool) -> tuple[Text, Text, Text]:
    """Draw the bar and, after an empty line, the legend.

    Args:
        verdicts: the letters.
        width: of the bar, in terminal cells.
        colour: whether the terminal shows colours; without them the bar spells the letters out.
    """
    parts = segments(verdicts)
    drawing = Text(no_wrap=True)
    for part, share in zip(parts, cells([part.count for part in parts], width), strict=True):
        text = part.letter.center(share) if colour and share else part.letter * share
        drawing.append(text, style=f"black on {part.colour}")
    keys = []
    for part in parts:
        key = Text(f" {part.letter} " if colour else part.letter, style=f"black on {part.colour}")
        key.append(f" {part.outcome} ", style="default on default" if part.count else "dim default on default")
        keys.append(key.append(f"{part.count:,}", style=f"{'bold' if part.count else 'dim'} default on default"))
    return drawing, Text(), flow(keys, width)
