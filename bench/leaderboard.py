"""A track's board: who ranks where, who is on the Pareto front, and by how much each row differs from its parent."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from itertools import accumulate
from pathlib import Path

from bench.entry import Entry, load_entry
from bench.errors import UsageError
from bench.registry import did_you_mean
from bench.track import load_track, track_names
from bench.verdicts import STANDING, compare

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
        UsageError: a file that is not an entry of this track.
    """
    entries = []
    for path in sorted((board / track).glob("*.json")):
        entry = load_entry(path)
        if entry.track.name != track:
            raise UsageError(f"{path} answers {entry.track.name}, not {track}: move it to that folder.")
        if entry.name != path.stem:
            raise UsageError(f"{path} holds the entry {entry.name}: call the file that, or remove it.")
        if track in track_names() and entry.track.fingerprint != load_track(track).fingerprint:
            raise UsageError(f"{path} was measured under another version of {track}: measure it again, or remove it.")
        entries.append(entry)
    return entries


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

    A row's rank is one more than the number of rows that a paired test (McNemar, 5 %) finds more robust, and never
    better than that of a row above it: rows that the test cannot separate share a rank.

    Robust accuracy is the worst case over all attacks that a row faced. Rows that faced different ones (a compressed
    model faces more than its parent, an older entry may have faced fewer) are compared as they are: further attacks
    only ever take images from a row, so the one that faced more is, if anything, placed too low.

    Raises:
        UsageError: the entries answer different questions.
    """
    if len({entry.track.fingerprint for entry in entries}) > 1:
        names = sorted({f"{entry.track.name} ({entry.track.fingerprint})" for entry in entries})
        raise UsageError(f"Expected entries of one track, got {', '.join(names)}; a changed track needs a new name.")
    entries = sorted(entries, key=_order)
    ranked = [entry for entry in entries if entry.ranked]
    ranks = list(accumulate((_better(ranked[:i], entry) + 1 for i, entry in enumerate(ranked)), max))
    places = {entry.name: place for entry, place in zip(ranked, ranks, strict=True)}
    return [
        Row(
            entry=entry,
            rank=places[entry.name] if entry.ranked else None,
            pareto=entry.ranked and not any(_dominates(other, entry) for other in ranked),
            delta=_delta(entry, entries),
        )
        for entry in entries
    ]


def _order(entry: Entry) -> tuple[bool, float, float, int, str]:
    verdicts = entry.verdicts
    return (not entry.ranked, -verdicts.robust.rate, -verdicts.clean.rate, entry.efficiency.bops, entry.name)


def _better(above: Sequence[Entry], entry: Entry) -> int:
    """Count the rows above, more robust or equally so, that are so beyond chance."""
    return sum(compare(other.verdicts.letters, entry.verdicts.letters) == "better" for other in above)


def _dominates(other: Entry, entry: Entry) -> bool:
    ours = (entry.verdicts.robust.count, -entry.efficiency.bops)
    theirs = (other.verdicts.robust.count, -other.efficiency.bops)
    return theirs != ours and all(t >= o for t, o in zip(theirs, ours, strict=True))


def _delta(entry: Entry, entries: Sequence[Entry]) -> float | None:
    """Compare with the untouched parent on the images both were asked about."""
    if entry.recipe.name == UNTOUCHED:
        return None
    parents = [other for other in entries if other.recipe.name == UNTOUCHED and other.model == entry.model]
    if not parents:
        return None
    parent = max(parents, key=lambda other: len(other.verdicts.letters))
    n = min(len(entry.verdicts.letters), len(parent.verdicts.letters))
    ours, theirs = (one.verdicts.letters[:n].count(STANDING) for one in (entry, parent))
    return 100 * (ours - theirs) / n
