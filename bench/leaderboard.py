"""A track's board: who ranks where, who is on the Pareto front, and by how much each row differs from its parent."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from bench.entry import Entry, load_entry
from bench.errors import UsageError
from bench.registry import did_you_mean
from bench.verdicts import compare

UNTOUCHED = "none"
"""Name of the recipe that leaves the parent as it is."""


@dataclass(frozen=True, kw_only=True)
class Row:
    """An entry with its place on the board.

    Attributes:
        entry: the measurement.
        rank: one more than the number of rows a paired test finds better; None where the row is not ranked.
        pareto: whether no ranked row is at least as robust and as cheap (BOPs), and better in one of the two.
        delta: robust accuracy minus that of the same model under recipe `none`, in points; None where unknown.
    """

    entry: Entry
    rank: int | None
    pareto: bool
    delta: float | None


def load_entries(board: Path, track: str) -> list[Entry]:
    """Read every entry of a track, in file order.

    Raises:
        UsageError: a file that is not an entry.
    """
    return [load_entry(path) for path in sorted((board / track).glob("*.json"))]


def load_boards(board: Path, track: str = "") -> dict[str, list[Row]]:
    """Rank the entries of every track that has any, or of one.

    Raises:
        UsageError: no entries, or a file that is not an entry.
    """
    known = tracks_on(board)
    if track and track not in known:
        raise UsageError(f"There are no entries of track '{track}' in {board}.{did_you_mean(track, known)}")
    if not known:
        raise UsageError(f"There are no entries in {board}: run bench evaluate, or name another folder with --board.")
    return {name: rank(load_entries(board, name)) for name in known if track in ("", name)}


def tracks_on(board: Path) -> list[str]:
    """Names of the tracks that have entries."""
    return sorted({path.parent.name for path in board.glob("*/*.json")} - {"published"})


def rank(entries: Sequence[Entry]) -> list[Row]:
    """Order a track's entries: ranked rows first, by robust accuracy, then the rest.

    Rows that a paired test (McNemar, 5 %) cannot separate may share a rank.

    Raises:
        UsageError: the entries answer different questions.
    """
    if len({entry.track.fingerprint for entry in entries}) > 1:
        names = sorted({f"{entry.track.name} ({entry.track.fingerprint})" for entry in entries})
        raise UsageError(f"Expected entries of one track, got {', '.join(names)}; a changed track needs a new name.")
    ranked = [entry for entry in entries if entry.ranked]
    rows = [
        Row(
            entry=entry,
            rank=_rank(entry, ranked) if entry.ranked else None,
            pareto=entry.ranked and not any(_dominates(other, entry) for other in ranked),
            delta=_delta(entry, entries),
        )
        for entry in entries
    ]
    return sorted(rows, key=_order)


def _order(row: Row) -> tuple[bool, float, float, int, str]:
    verdicts = row.entry.verdicts
    return (row.rank is None, -verdicts.robust.rate, -verdicts.clean.rate, row.entry.efficiency.bops, row.entry.name)


def _rank(entry: Entry, ranked: Sequence[Entry]) -> int:
    return 1 + sum(compare(other.verdicts.letters, entry.verdicts.letters) == "better" for other in ranked)


def _dominates(other: Entry, entry: Entry) -> bool:
    ours = (entry.verdicts.robust.count, -entry.efficiency.bops)
    theirs = (other.verdicts.robust.count, -other.efficiency.bops)
    return theirs != ours and all(t >= o for t, o in zip(theirs, ours, strict=True))


def _delta(entry: Entry, entries: Sequence[Entry]) -> float | None:
    """Compare with the untouched parent on the images both were asked about."""
    for other in entries:
        if other.recipe.name == UNTOUCHED and other.model == entry.model and other.seed == entry.seed:
            n = min(len(entry.verdicts.letters), len(other.verdicts.letters))
            ours, theirs = (e.verdicts.letters[:n].count(".") for e in (entry, other))
            return None if other is entry else 100 * (ours - theirs) / n
    return None
