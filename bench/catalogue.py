"""What there is, by name: for `bench list` and `bench show`."""

from __future__ import annotations

import dataclasses
import inspect
import re
import tomllib
from collections.abc import Hashable, Sequence
from pathlib import Path
from typing import Any

from bench.board.comparison import attack_of
from bench.board.leaderboard import check_board, entry_files, tracks_on
from bench.board.published import FOLDER, Published, best, find_published, load_published
from bench.compression import Compression
from bench.entry import Entry, load_entry
from bench.errors import BenchError, MissingError, UsageError
from bench.files import read_toml
from bench.model import SOURCES
from bench.plugins import packages_of
from bench.recipe import STEPS, load_recipe, submission_names
from bench.recipe_words import listed_names, spell, words
from bench.registry import did_you_mean
from bench.render.facts import shown
from bench.track import load_track, track_names
from bench.verdicts import AUTOATTACK

Names = list[tuple[str, str]]
"""Pairs of a name and one line about it."""

KINDS = ("recipes", "tracks", "models", "datasets", "steps", "entries", "published")
PUBLISHED = "published:"


def catalogue(what: str, board: Path) -> Names:
    """Return the names of a kind of thing.

    Raises:
        UsageError: no such kind.
        MissingError: no such board.
    """
    match what:
        case "recipes":
            return [(name, _recipe_summary(name)) for name in listed_names() + submission_names()]
        case "tracks":
            return [(name, load_track(name).about) for name in track_names()]
        case "models":
            from bench.load.models import list_models

            return list_models() + [(f"{source}:…", note) for source, note in SOURCES.items() if source != "bench"]
        case "datasets":
            from bench.load.datasets import dataset_names, find_dataset

            return [(name, find_dataset(name)) for name in dataset_names()]
        case "steps":
            return [(name, _first_line(STEPS.get(name)) + _package(name)) for name in STEPS]
        case "entries":
            check_board(board)
            return [(_title(path), _summary(path)) for path in all_entry_files(board)]
        case "published":
            rows = _published(board)
            return [(row.name, f"{row.dataset}, {row.threat}: {row.robust} under {row.attack}") for row in rows]
    raise UsageError(f"There is nothing called '{what}' to list.{did_you_mean(what, KINDS)}")


def find(name: str, board: Path) -> Entry | Published | dict[str, Any]:
    """Return the recipe, step, track, entry or published row called `name`; or the recipe, track or entry in that file.

    Raises:
        UsageError: nothing has that name, several entries do, or a file says something that it cannot say.
    """
    if name in track_names() or _is_track(Path(name)):
        track = load_track(name)
        return {**track.model_dump(mode="json"), "eps": track.threat.eps_text, "fingerprint": track.fingerprint}
    if spell(name) is not None or name in submission_names() or _is_recipe(Path(name)):
        recipe = load_recipe(name)
        recipe.declared()  # a setting that no step has is not shown as if one had it
        pinned = {"model": recipe.model, "track": recipe.track, "seeds": list(recipe.seeds)}
        own = {"own_code": f"{recipe.own_code.file}, sha256 {recipe.own_code.sha256}"} if recipe.own_code else {}
        told = {key: value for key, value in pinned.items() if value} | own
        return {"name": recipe.name, "summary": recipe.summary, **told, "steps": list(recipe.steps)}
    if name in STEPS:
        step = STEPS.get(name)
        return {"name": name, "summary": _first_line(step) + _package(name), **_settings(step)}
    return find_row(name, board, kind="recipe, step, track or entry", others=[*track_names(), *listed_names(), *STEPS])


def _settings(step: type) -> dict[str, str]:
    """Return each setting of a step with its default and what its docstring says of it."""
    told: dict[str, str] = {}
    for owner in reversed(step.__mro__):
        attributes = inspect.cleandoc(vars(owner).get("__doc__") or "").partition("\nAttributes:\n")[2]
        for name, text in re.findall(r"^    (\w+): ((?:.+\n?)(?:     +.+\n?)*)", attributes, re.MULTILINE):
            told[name] = " ".join(text.split())
    return {
        field.name: f"{shown(field.default)}: {told.get(field.name, '')}".rstrip(": ")
        for field in dataclasses.fields(step)
    }


def find_row(
    name: str, board: Path, *, kind: str = "entry or published row", others: Sequence[str] = ()
) -> Entry | Published:
    """Return the published row called `name` ("published:" in front lets a part do), or else the entry.

    Args:
        name: of the row, or an entry's file.
        board: folder of entries and published rows.
        kind: what is sought.
        others: names of what is sought besides, for who nearly writes one.

    Raises:
        UsageError: nothing has that name, or several things do.
    """
    if name.startswith(PUBLISHED):
        return find_published(name.removeprefix(PUBLISHED), _published(board))
    rows = _published(board) if (board / FOLDER).is_dir() and not name.endswith(".json") else []
    for row in rows:
        if row.name == name:
            return row
    return load_entry(entry_file(name, board, kind=kind, others=[*others, *(row.name for row in rows)]))


def find_rows(names: Sequence[str], board: Path) -> list[Entry | Published]:
    """Return the rows to compare, in the order of their names.

    Args:
        names: entries and published rows; after the first also `best-published`, the best published figure at the first
            row's compression, or `published:best@WORDS`, the best at the compression that a recipe of these words makes
            (`sparse90`, `prune50-quant8`, `none`), or `published:best@any`. See `bench.board.published.best`.
        board: folder of entries and published rows.

    Raises:
        UsageError: nothing has such a name, several things do, or nothing was published that is to be beaten.
    """
    found: list[Entry | Published] = []
    for name in names:
        word, _, words = name.removeprefix(PUBLISHED).partition("@")
        if name != "best-published" and (word != "best" or not name.startswith(PUBLISHED)):
            found.append(find_row(name, board))
        elif found:
            found.append(_best(found[0], words, board))
        else:
            raise UsageError(
                f"Expected an entry before '{name}': the first row says what the best is to be compared with."
            )
    return found


def _best(first: Entry | Published, words: str, board: Path) -> Published:
    rows = _published(board)
    if isinstance(first, Published):
        dataset, attack, compression = first.dataset, first.attack, first.compression
    else:
        dataset, compression = first.track.dataset, first.recipe.compression
        attack = "AutoAttack" if set(AUTOATTACK) <= set(first.verdicts.attacks) else attack_of(first)
    if words and words != "any":
        spelt = spell(words)
        if spelt is None:
            raise UsageError(f"Expected published:best@any, or the words of a recipe such as sparse90, got '@{words}'.")
        compression = Compression.of_steps(spelt[1])
    threat = first.threat if isinstance(first, Published) else first.track.threat
    return best(
        rows, dataset=dataset, threat=threat, attack=attack, compression=None if words == "any" else compression
    )


def entry_file(name: str, board: Path, *, kind: str = "entry", others: Sequence[str] = ()) -> Path:
    """Return the file of the entry called `name` ("TRACK/NAME" where several tracks have one), or the file `name`.

    Args:
        name: the entry's, or its file's.
        board: folder of entries.
        kind: what is sought.
        others: names of what is sought besides entries, for who nearly writes one.

    Raises:
        UsageError: nothing has that name, or several entries do.
        MissingError: there is no such file, or no such board.
    """
    if name.endswith(".json"):
        if not Path(name).is_file():
            raise MissingError(f"There is no entry file {name}.")
        return Path(name)
    if not others:
        check_board(board)
    files = [path for path in all_entry_files(board) if name in (path.stem, _title(path))]
    if len(files) > 1:
        full = [_title(path) for path in files]
        raise UsageError(f"Several tracks have an entry '{name}': say {', '.join(full[:-1])} or {full[-1]}.")
    if not files:
        raise UsageError(f"There is no {kind} '{name}'.{_way_on(name, board, others)}")
    return files[0]


def _way_on(name: str, board: Path, others: Sequence[str]) -> str:
    """Name the entries of the recipe `name`, or what is nearly called so, or the lists to look into."""
    files = all_entry_files(board)
    if of_recipe := [_title(path) for path in files if name in path.stem.split("--")[1:]]:
        return f" Did you mean {', '.join(of_recipe[:3])}{', …' if len(of_recipe) > 3 else ''}?"
    entries = [_title(path) if "/" in name else path.stem for path in files]
    see = "recipes, tracks, entries or published" if others else "entries"
    hint = did_you_mean(name, [*others, *entries], see=f"bench list {see}")
    if any(f"'{recipe}'?" in hint for recipe in listed_names()):
        hint += f" Recipes are made of the words {', '.join(words())}."
    return hint


def _title(path: Path) -> str:
    return f"{path.parent.name}/{path.stem}"


def all_entry_files(board: Path) -> list[Path]:
    """Return the files of all entries under `board`."""
    return [path for track in tracks_on(board) for path in entry_files(board, track)]


def seeds_of(entry: Entry, board: Path) -> list[Entry]:
    """Return the entries that differ from this one in nothing but the seed, itself among them, by seed."""
    found = {entry.seed: entry}
    for path in entry_files(board, entry.track.name):
        if not path.stem.startswith(entry.name.partition("--seed")[0]):
            continue
        try:
            other = load_entry(path)
        except UsageError:  # `bench leaderboard` names such files
            continue
        if _question(other) == _question(entry):
            found.setdefault(other.seed, other)
    return [found[seed] for seed in sorted(found)]


def _question(entry: Entry) -> Hashable:
    """Return all that two seeds of one measurement share."""
    recipe = (entry.recipe.name, entry.recipe.fingerprint)
    return *recipe, entry.model, entry.track.fingerprint, entry.partial, entry.attacker


def _is_track(path: Path) -> bool:
    """Whether somebody's TOML is a track's: only they have a radius."""
    try:
        return path.suffix == ".toml" and path.is_file() and "eps" in tomllib.loads(read_toml(path))
    except tomllib.TOMLDecodeError:
        return False


def _is_recipe(path: Path) -> bool:
    return path.suffix == ".toml" or (path / "recipe.toml").is_file()


def _recipe_summary(name: str) -> str:
    try:
        return load_recipe(name).summary
    except BenchError as error:  # one broken submission does not hide the others
        return f"cannot be read: {error}"


def _published(board: Path) -> list[Published]:
    """Read what can be read: `bench leaderboard --published` names the lines that are no rows."""
    return load_published(board, skip=lambda sentence: None)


def _summary(path: Path) -> str:
    try:
        verdicts = load_entry(path).verdicts
    except UsageError as error:
        return f"cannot be read: {error}"
    return f"robust {verdicts.robust.count}/{verdicts.robust.total}, clean {verdicts.clean.count}"


def _package(name: str) -> str:
    return "".join(f" (package {package} {version})" for package, version in packages_of([name]).items())


def _first_line(thing: object) -> str:
    first = (thing.__doc__ or "").partition("\n")[0]
    return first.partition("`: ")[2] or first
