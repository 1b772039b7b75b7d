"""What there is, by name: for `bench list` and `bench show`."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from bench.entry import Entry, load_entry
from bench.errors import UsageError
from bench.leaderboard import tracks_on
from bench.model import SOURCES
from bench.recipe import STEPS, load_recipe, submission_names
from bench.recipe_words import listed_names, spell
from bench.registry import did_you_mean
from bench.track import load_track, track_names

Names = list[tuple[str, str]]
"""Pairs of a name and one line about it."""


def catalogue(what: str, board: Path) -> Names:
    """Return the names of a kind of thing.

    Raises:
        UsageError: no such kind.
    """
    match what:
        case "recipes":
            return [(name, load_recipe(name).summary) for name in listed_names() + submission_names()]
        case "tracks":
            return [(name, load_track(name).about) for name in track_names()]
        case "models":
            from bench.load.models import list_models

            return list_models() + [(f"{source}:…", note) for source, note in SOURCES.items() if source != "bench"]
        case "datasets":
            from bench.load.datasets import dataset_names, find_dataset

            return [(name, find_dataset(name)) for name in dataset_names()]
        case "steps":
            return [(name, _first_line(STEPS.get(name))) for name in STEPS]
        case "entries":
            return [(f"{path.parent.name}/{path.stem}", _summary(path)) for path in entry_files(board)]
    kinds = ["recipes", "tracks", "models", "datasets", "steps", "entries"]
    raise UsageError(f"There is nothing called '{what}' to list.{did_you_mean(what, kinds)}")


def find(name: str, board: Path) -> Entry | dict[str, Any]:
    """Return the recipe, track or entry called `name`, or the entry in the file `name`.

    Raises:
        UsageError: nothing has that name, or several entries do.
    """
    if name in track_names():
        track = load_track(name)
        return {**track.model_dump(mode="json"), "fingerprint": track.fingerprint}
    if spell(name) is not None or name in submission_names():
        recipe = load_recipe(name)
        return {"name": recipe.name, "summary": recipe.summary, "steps": list(recipe.steps)}
    return find_entry(name, board)


def find_entry(name: str, board: Path) -> Entry:
    """Return the entry called `name` ("TRACK/NAME" where several tracks have one), or the one in the file `name`.

    Raises:
        UsageError: nothing has that name, or several entries do.
    """
    if name.endswith(".json"):
        return load_entry(Path(name))
    files = [path for path in entry_files(board) if name in (path.stem, f"{path.parent.name}/{path.stem}")]
    if len(files) > 1:
        raise UsageError(f"Several tracks have an entry '{name}': say {files[0].parent.name}/{name}, or another's.")
    if not files:
        known = [*track_names(), *listed_names(), *(path.stem for path in entry_files(board))]
        raise UsageError(f"There is no recipe, track or entry '{name}'.{did_you_mean(name, known)}")
    return load_entry(files[0])


def entry_files(board: Path) -> list[Path]:
    """Return the files of all entries under `board`."""
    return [path for track in tracks_on(board) for path in sorted((board / track).glob("*.json"))]


def _summary(path: Path) -> str:
    verdicts = load_entry(path).verdicts
    return f"robust {verdicts.robust.count}/{verdicts.robust.total}, clean {verdicts.clean.count}"


def _first_line(thing: object) -> str:
    first = (thing.__doc__ or "").partition("\n")[0]
    return first.partition("`: ")[2] or first
