"""Is there one recipe better than the paper's: at least as robust as each of them, at equal or lower BOPs?"""

from __future__ import annotations

from dataclasses import dataclass

from bench.entry import Entry
from bench.paper.claims import LEAST, Pair, pair
from bench.paper.study import NOTHING, Study
from bench.verdicts import LEVEL


@dataclass(frozen=True, kw_only=True)
class Better:
    """The best of the other recipes on a track.

    Attributes:
        entry: the best one: first by how many of the paper's it dominates, then by robust accuracy, then by BOPs.
        dominated: pairs with the paper's recipes that cost at least as much and are at most as robust.
        cheaper: pairs with those that cost less.
        stronger: pairs with those that cost at least as much, and are more robust.
    """

    entry: Entry
    dominated: tuple[Pair, ...]
    cheaper: tuple[Pair, ...]
    stronger: tuple[Pair, ...]

    @property
    def beyond_chance(self) -> int:
        """How many of the dominated are less robust by McNemar's test."""
        return sum(one.points > 0 and one.p < LEVEL for one in self.dominated)

    @property
    def dominates_all(self) -> bool:
        """Whether no measured recipe of the paper is left over."""
        return bool(self.dominated) and not self.cheaper and not self.stronger


def papers_recipes(study: Study) -> list[Entry]:
    """Return the paper's own recipes as measured on a track: compressed in one way, whatever their fine-tuning.

    Those that are not robust are left out: to be better than them proves nothing. So are those with changed settings:
    trained for less, say.
    """
    compressed = [
        entry for place, entry in study.cells.items() if place.compression != NOTHING and not entry.recipe.changed
    ]
    return [entry for entry in compressed if entry.verdicts.robust.interval[0] > LEAST]


def better(study: Study) -> Better | None:
    """Compare each other compressed recipe with all of the paper's, and return the best.

    None where there is nothing to compare, or no other recipe dominates any of the paper's.
    """
    against = papers_recipes(study)
    found = [_against(entry, against) for entry in study.others if entry.recipe.steps]
    found = [one for one in found if one.dominated]
    return min(found, key=_order) if found else None


def _against(entry: Entry, against: list[Entry]) -> Better:
    pairs = sorted((pair(entry, other) for other in against), key=lambda one: (-one.points, one.theirs.name))
    dear = [one for one in pairs if entry.efficiency.bops <= one.theirs.efficiency.bops]
    return Better(
        entry=entry,
        dominated=tuple(one for one in dear if one.points >= 0),
        cheaper=tuple(one for one in pairs if entry.efficiency.bops > one.theirs.efficiency.bops),
        stronger=tuple(one for one in dear if one.points < 0),
    )


def _order(one: Better) -> tuple[int, float, int, str]:
    robust = one.entry.verdicts.robust.rate
    return (-len(one.dominated), -robust, one.entry.efficiency.bops, one.entry.name)
