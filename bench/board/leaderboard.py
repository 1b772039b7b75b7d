"""A track's board: who ranks where, who is on the Pareto front, and by how much each row differs from its parent."""

from __future__ import annotations

import gc
import os
from collections import Counter
from collections.abc import Hashable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from statistics import fmean, stdev
from typing import Literal, get_args

from bench.board.ranking import Mask, front, ranks
from bench.entry import Entry, load_entry
from bench.errors import MissingError, UsageError
from bench.files import Skip
from bench.registry import did_you_mean
from bench.track import load_track, track_names
from bench.verdicts import STANDING

UNTOUCHED = "none"
"""Name of the recipe that leaves the parent as it is."""

Cost = Literal["bops", "macs", "bytes", "latency"]
COSTS: tuple[Cost, ...] = get_args(Cost)


@dataclass(frozen=True, kw_only=True)
class Row:
    """An entry with its place on the board.

    Attributes:
        entry: the measurement; of several seeds the median one.
        rank: one more than the number of rows a paired test finds better; None where the row is not ranked.
        pareto: whether no ranked row is at least as robust and as cheap, and better in one of the two.
        delta: robust accuracy minus that of the same model under recipe `none`, in points; None where unknown. The mean
            over the seeds.
        seeds: the measurements of all seeds, `entry` among them, by seed; one where there is but one.
        cost: what the Pareto front is about.
    """

    entry: Entry
    rank: int | None
    pareto: bool
    delta: float | None
    seeds: tuple[Entry, ...]
    cost: Cost = "bops"

    @property
    def robust_mean(self) -> float:
        """Mean robust accuracy over the seeds, in [0, 1]."""
        if len(self.seeds) == 1:  # as most rows have
            return self.entry.verdicts.robust.rate
        return fmean(entry.verdicts.robust.rate for entry in self.seeds)

    @property
    def robust_std(self) -> float | None:
        """Standard deviation over the seeds (n − 1), in [0, 1]; None for a single one."""
        return stdev(entry.verdicts.robust.rate for entry in self.seeds) if len(self.seeds) > 1 else None


@contextmanager
def no_collection() -> Iterator[None]:
    """Keep the garbage collector from walking thousands of fresh records again and again: a third of the time."""
    was_on = gc.isenabled()
    gc.disable()
    try:
        yield
    finally:
        if was_on:
            if not gc.get_freeze_count():
                gc.freeze()  # and back again: what was made counts as old, and is not walked at once after all
                gc.unfreeze()
            gc.enable()


@no_collection()
def load_entries(board: Path, track: str, *, skip: Skip | None = None) -> list[Entry]:
    """Read every entry of a track, in file order.

    Args:
        board: folder of entries.
        track: the track's name.
        skip: is told of each file that is not an entry of this track, and the others are read; None to raise instead.

    Raises:
        UsageError: a file that is not an entry of this track, and no `skip`.
    """
    entries = []
    for path in entry_files(board, track):
        try:
            entries.append(_checked(load_entry(path), path, track))
        except UsageError as error:
            if skip is None:
                raise
            skip(str(error))
    return _of_one_question(entries, track, skip)


def _checked(entry: Entry, path: Path, track: str) -> Entry:
    if entry.track.name != track:
        raise UsageError(f"{path} answers {entry.track.name}, not {track}: move it to that folder.")
    if entry.name != path.stem:
        raise UsageError(f"{path} holds the entry {entry.name}: call the file that, or remove it.")
    return entry


def _of_one_question(entries: list[Entry], track: str, skip: Skip | None) -> list[Entry]:
    """Leave out what was asked under another version of the track; of a track the bench does not know, most decide."""
    if not entries:
        return entries
    prints = _questions(entries)
    if track in track_names():
        right = load_track(track).fingerprint
    elif skip is None:
        return entries
    else:
        right = Counter(prints).most_common(1)[0][0]
    kept = []
    for entry, asked in zip(entries, prints, strict=True):
        if asked == right:
            kept.append(entry)
            continue
        sentence = (
            f"{track}/{entry.name}.json was measured under another version of {track}: measure it again, or remove it."
        )
        if skip is None:
            raise UsageError(sentence)
        skip(sentence)
    return kept


def _questions(entries: Sequence[Entry]) -> list[str]:
    """Return each entry's track's fingerprint; neighbours mostly share a track, and then the work."""
    prints: list[str] = []
    for i, entry in enumerate(entries):
        prints.append(prints[-1] if i and entry.track == entries[i - 1].track else entry.track.fingerprint)
    return prints


@no_collection()
def load_boards(
    board: Path, track: str = "", *, skip: Skip | None = None, cost: Cost = "bops", by_seed: bool = False
) -> dict[str, list[Row]]:
    """Rank the entries of every track that has any, or of one.

    Args:
        board: folder of entries.
        track: only this one; empty for all.
        skip: see `load_entries`.
        cost: see `rank`.
        by_seed: see `rank`.

    Raises:
        UsageError: no entries of that track, or a file that is not an entry and no `skip`.
        MissingError: no entries at all.
    """
    known = tracks_on(board)
    if track and track not in known:
        raise UsageError(f"There are no entries of track '{track}' in {board}.{did_you_mean(track, known)}")
    if not known:
        raise MissingError(f"There are no entries in {board}: run bench evaluate, or name another folder with --board.")
    chosen = [name for name in known if track in ("", name)]
    return {name: rank(load_entries(board, name, skip=skip), cost=cost, by_seed=by_seed) for name in chosen}


def check_board(board: Path) -> None:
    """Raise MissingError unless the folder is there: what only reads a board does not make one."""
    if not board.is_dir():
        raise MissingError(f"There is no board {board}: run bench evaluate, or name another folder with --board.")


def entry_files(board: Path, track: str) -> list[Path]:
    """Return the files of a track's entries, by name."""
    folder = board / track  # names, not paths: thousands of paths sort slowly
    names = os.listdir(folder) if folder.is_dir() else []  # noqa: PTH208
    return [folder / name for name in sorted(names) if name.endswith(".json")]


def tracks_on(board: Path) -> list[str]:
    """Names of the tracks that have entries."""
    return sorted({path.parent.name for path in board.glob("*/*.json")} - {"published"})


@no_collection()
def rank(entries: Sequence[Entry], *, cost: Cost = "bops", by_seed: bool = False) -> list[Row]:
    """Order a track's entries: ranked rows first, by robust accuracy, then the rest.

    A row's rank is one more than the number of rows that a paired test (McNemar, 5 %) finds more robust, and never
    better than that of a row above it: rows that the test cannot separate share a rank.

    Ranked entries that differ in nothing but the seed are one row, and the median seed stands for it in the tests, the
    order and on the Pareto front (of an even number, the lower of the two in the middle). The test is about two models
    on the same images. Pooling the letters of k seeds would count each image k times as if it were k images, and find
    differences that are not there; the best seed would reward trying often; the median is what one run gives.

    Robust accuracy is the worst case over all attacks that a row faced. Rows that faced different ones (a compressed
    model faces more than its parent, an older entry may have faced fewer) are compared as they are: further attacks
    only ever take images from a row, so the one that faced more is, if anything, placed too low.

    Args:
        entries: of one track.
        cost: what the Pareto front weighs against robust accuracy; latency compares rows of the same machine only.
        by_seed: whether each seed gets a row of its own.

    Raises:
        UsageError: the entries answer different questions.
    """
    if len(set(_questions(entries))) > 1:
        names = sorted({f"{track.name} ({track.fingerprint})" for track in {entry.track for entry in entries}})
        raise UsageError(f"Expected entries of one track, got {', '.join(names)}; a changed track needs a new name.")
    entries = sorted(entries, key=_order)
    groups = _groups(entries, by_seed=by_seed)
    eligible = [median.ranked for median, _ in groups]
    test_sets = Counter(median.test_set for median, _ in groups if median.ranked and median.test_set)
    if len(test_sets) > 1:  # of a set that is not public: the test is about the same images, so the others stand aside
        ((most, _),) = test_sets.most_common(1)
        eligible = [
            flag and median.test_set in (None, most) for (median, _), flag in zip(groups, eligible, strict=True)
        ]
    ranked = [median for (median, _), flag in zip(groups, eligible, strict=True) if flag]
    masks = [Mask.of(entry.verdicts.letters) for entry in ranked]
    places = iter(ranks(masks, len(ranked[0].verdicts.letters)) if ranked else [])
    points: list[tuple[int, float | None, Hashable]] = [
        (mask.count, *_price(entry, cost)) for mask, entry in zip(masks, ranked, strict=True)
    ]
    paretos = iter(front(points))
    parents = _parents(entries)
    rows = []
    for (median, seeds), flag in zip(groups, eligible, strict=True):
        deltas = [delta for entry in seeds if (delta := _delta(entry, _parent_of(entry, parents))) is not None]
        rows.append(
            Row(
                entry=median,
                rank=next(places) if flag else None,
                pareto=next(paretos) if flag else False,
                delta=(fmean(deltas) if len(deltas) > 1 else deltas[0]) if deltas else None,
                seeds=seeds,
                cost=cost,
            )
        )
    return rows


def _groups(entries: Sequence[Entry], *, by_seed: bool) -> list[tuple[Entry, tuple[Entry, ...]]]:
    """Return (median seed, all seeds) of each recipe, in the order of the medians; what is not ranked stands by itself.

    Args:
        entries: in the order of the board.
        by_seed: whether every entry stands by itself.
    """
    found: dict[Hashable, list[int]] = {}
    for i, entry in enumerate(entries):
        same = (entry.recipe.name, entry.recipe.fingerprint, entry.model, entry.attacker)
        alone = by_seed or not entry.ranked
        found.setdefault(i if alone else same, []).append(i)
    medians = sorted((members[len(members) // 2], members) for members in found.values())
    return [(entries[i], tuple(sorted((entries[j] for j in members), key=_seed))) for i, members in medians]


def _seed(entry: Entry) -> int:
    return entry.seed


def _order(entry: Entry) -> tuple[bool, float, float, int, str]:
    verdicts = entry.verdicts
    return (not entry.ranked, -verdicts.robust.rate, -verdicts.clean.rate, entry.efficiency.bops, entry.name)


def _price(entry: Entry, cost: Cost) -> tuple[float | None, Hashable]:
    """Return the cost, and where it was measured if that matters."""
    if cost != "latency":
        return getattr(entry.efficiency, cost), None
    latency = entry.efficiency.latency
    return (latency.median_ms, (entry.provenance.machine, latency.threads)) if latency else (None, None)


Parents = dict[tuple[str, str | None], Entry]
"""The untouched entry of each model and weights; older entries do not name their weights (None)."""


def _parents(entries: Sequence[Entry]) -> Parents:
    """Return the untouched entries: of several the one with the most letters, the first of those; no mere claim."""
    parents: Parents = {}
    for entry in entries:
        if entry.recipe.name == UNTOUCHED and entry.status != "self-reported":
            known = parents.setdefault((entry.model, entry.parent_weights), entry)
            if len(entry.verdicts.letters) > len(known.verdicts.letters):
                parents[entry.model, entry.parent_weights] = entry
    return parents


def _parent_of(entry: Entry, parents: Parents) -> Entry | None:
    """Return the untouched entry of the network that a row started from, or of one that may be the same."""
    return parents.get((entry.model, entry.parent_weights)) or parents.get((entry.model, None))


def _delta(entry: Entry, parent: Entry | None) -> float | None:
    """Compare with the untouched parent on the images both were asked about."""
    if entry.recipe.name == UNTOUCHED or parent is None or not entry.same_images(parent):
        return None
    n = min(len(entry.verdicts.letters), len(parent.verdicts.letters))
    ours, theirs = (one.verdicts.letters.count(STANDING, 0, n) for one in (entry, parent))
    return 100 * (ours - theirs) / n
