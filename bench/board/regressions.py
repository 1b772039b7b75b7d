"""Two boards entry by entry: what got worse, for continuous integration."""

from __future__ import annotations

import json
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from pathlib import Path

from pydantic import ValidationError

from bench.board.leaderboard import load_entries, tracks_on
from bench.efficiency import COUNTED
from bench.entry import Entry, load_entry
from bench.errors import MissingError, UsageError
from bench.files import Skip
from bench.verdicts import compare, mcnemar

CLEAN_POINTS = 1.0
"""Clean accuracy may fall by this many points."""
COST_SHARE = 0.05
"""A cost may grow by this share."""

Board = Mapping[tuple[str, str], Entry]
"""Entries by track and name."""


@dataclass(frozen=True, kw_only=True)
class Regression:
    """One thing that got worse.

    Attributes:
        track: the track's name.
        name: the entry's.
        kind: "gone", "question", "robust", "clean", "cost" or "alarm".
        text: what happened, with figures.
    """

    track: str
    name: str
    kind: str
    text: str


def load_board(path: Path, *, track: str = "", skip: Skip | None = None) -> dict[tuple[str, str], Entry]:
    """Read every entry of a folder of entries, of what `bench leaderboard --json` printed, or of one entry's file.

    Args:
        path: the folder or the file.
        track: only this one; empty for all.
        skip: is told of each file in a folder that is not an entry.

    Raises:
        UsageError: it is something else.
        MissingError: nothing is there.
    """
    found: Iterable[Entry]
    if path.is_dir():
        found = (entry for name in tracks_on(path) for entry in load_entries(path, name, skip=skip))
    elif path.is_file():
        found = _entries_in(path)
    else:
        raise MissingError(f"There is no board {path}: expected a folder of entries, or what --json printed.")
    board = {(entry.track.name, entry.name): entry for entry in found if track in ("", entry.track.name)}
    if not board:
        raise MissingError(f"There are no entries{f' of track {track}' if track else ''} in {path}.")
    return board


def _entries_in(path: Path) -> Iterable[Entry]:
    try:
        record = json.loads(path.read_bytes())
        rows = [row for rows in record.values() for row in rows]
        records = [one for row in rows for one in (row["entry"], *row["others"])]
    except (OSError, ValueError) as error:
        raise UsageError(f"Cannot read the board {path}: {error}.") from error
    except (AttributeError, KeyError, TypeError):
        return [load_entry(path)]
    try:
        return [Entry.model_validate_json(json.dumps(one)) for one in records]
    except ValidationError as error:
        raise UsageError(f"{path} is not a board of this bench: {error.errors()[0]['msg']}.") from error


def regressions(before: Board, after: Board) -> list[Regression]:
    """Return what got worse for the entries of `before`; entries that only `after` has cannot get worse.

    Worse is: the entry is gone; it answers another question; fewer images are robust, beyond chance on the same images
    (McNemar, 5 %); clean accuracy fell by more than a point; a cost grew by more than 5 % (latency is left out: it
    depends on the machine and the hour); it raised an alarm that it did not raise before.
    """
    found = []
    for (track, name), old in sorted(before.items()):
        new = after.get((track, name))
        worse = [("gone", "is gone, or cannot be read")] if new is None else list(_worse(old, new))
        found += [Regression(track=track, name=name, kind=kind, text=text) for kind, text in worse]
    return found


def _worse(old: Entry, new: Entry) -> Iterable[tuple[str, str]]:
    if old.track.fingerprint != new.track.fingerprint:
        yield "question", f"answers another version of the track: {old.track.fingerprint}, now {new.track.fingerprint}"
        return
    if not old.same_images(new):
        yield "question", "has other test images than before"
        return
    ours, theirs = new.verdicts, old.verdicts
    if len(ours.letters) == len(theirs.letters) and compare(ours.letters, theirs.letters) == "worse":
        p = mcnemar(ours.letters, theirs.letters)
        yield (
            "robust",
            f"robust accuracy fell from {_percent(theirs.robust.rate)} to {_percent(ours.robust.rate)}, p = {p:.2g}",
        )
    if round(100 * (theirs.clean.rate - ours.clean.rate), 9) > CLEAN_POINTS:
        yield "clean", f"clean accuracy fell from {_percent(theirs.clean.rate)} to {_percent(ours.clean.rate)}"
    for cost in COUNTED:
        was, now = getattr(old.efficiency, cost), getattr(new.efficiency, cost)
        if now > was * (1 + COST_SHARE):
            growth = f" ({now / was - 1:+.0%})".replace("%", " %") if was else ""
            yield "cost", f"{cost} grew from {was:,} to {now:,}{growth}"
    known = {alarm.name for alarm in theirs.alarms}
    for alarm in ours.alarms:
        if alarm.name not in known:
            yield "alarm", f"new alarm {alarm.name}{' (fatal)' * alarm.fatal}: {alarm.evidence.rstrip('.')}"


def _percent(rate: float) -> str:
    return f"{100 * rate:.2f} %"
