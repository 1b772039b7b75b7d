"""What a new entry does not replace: one that was challenged, and one of another recipe or track of the same name."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any

from bench.entry import Entry, load_entry
from bench.errors import GateError, UsageError
from bench.own_code import OwnCode
from bench.recipe import is_named
from bench.recipe_changes import own_name
from bench.scrutiny import VERIFIER
from bench.track import Track, track_names


def refuse_to_forget(path: Path, new: Entry | None = None) -> None:
    """Raise GateError where an entry stands that was challenged, and what is to replace it does not say so.

    What `bench verify` found concerns that very model, and no other one that the recipe makes.

    Args:
        path: of the entry that stands there, if one does.
        new: what is to replace it; None where that is not known yet.
    """
    if (old := _standing(path)) is None:
        return
    lost = old.challenges[len(new.challenges) if new else 0 :]
    if new is None or new.sealed != old.sealed:
        lost = tuple(one for one in lost if one.by != VERIFIER)
    if lost:
        raise GateError(
            f"{path} was challenged by {', '.join(one.by for one in lost)}, which a new measurement would "
            "erase: move it and its images away to measure again, and have the new entry challenged with them."
        )


def refuse_another(
    path: Path, track: Track, name: str, steps: Sequence[dict[str, Any]], own_code: OwnCode | None
) -> None:
    """Raise UsageError where an entry of another recipe, or track, of the same name stands, from somebody's own file.

    A spelt recipe, or a submission, is the only one of its name, and so is a track of the bench: where that has
    changed, its entry follows.
    """
    named = is_named(own_name(name))
    old = None if named and track.name in track_names() else _standing(path)
    if old is None:
        return
    if track.name not in track_names() and old.track.fingerprint != track.fingerprint:
        raise UsageError(
            f"{path} answers another question that is called {track.name}: {_difference(old.track, track)}. Give your "
            f"track's file another name, or move that folder away."
        )
    if not named and (difference := old.recipe.difference(steps, own_code)):
        raise UsageError(
            f"{path} holds another recipe that is called {name}: {difference}. Rename your recipe's file, or move that "
            "entry away."
        )


def _difference(old: Track, new: Track) -> str:
    changed = {key: (getattr(old, key), getattr(new, key)) for key in Track.model_fields}
    return ", ".join(f"its {key} is {was}, and this one's {now}" for key, (was, now) in changed.items() if was != now)


def _standing(path: Path) -> Entry | None:
    """Return the entry that a new one would replace; None where there is none, or a file that is not one any more."""
    try:
        return load_entry(path) if path.is_file() else None
    except UsageError:
        return None
