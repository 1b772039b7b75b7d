"""A sweep: many questions in one file. A grid of recipes, models, tracks and seeds; further cells; cells left out."""

from __future__ import annotations

import dataclasses
import json
import re
import tomllib
from collections.abc import Iterator
from contextlib import suppress
from dataclasses import dataclass
from functools import cached_property
from itertools import product
from pathlib import Path
from typing import Annotated, Any, Literal, Self

from pydantic import BaseModel, ConfigDict, Field, ValidationError

from bench.entry import Entry, load_entry
from bench.errors import BenchError, MissingError, UsageError
from bench.faults import first_fault
from bench.files import read_toml
from bench.model import ModelSpec
from bench.recipe import Recipe, load_recipe
from bench.recipe_changes import override
from bench.recipe_form import LARGEST_SEED
from bench.request import Request
from bench.track import Track, load_track

Seed = Annotated[int, Field(ge=0, le=LARGEST_SEED)]
State = Literal["waiting", "done", "running", "measured", "failed"]
"""Of a cell: `done` by an earlier run, `measured` by this one."""


class _Table(BaseModel):
    model_config = ConfigDict(frozen=True, extra="forbid", strict=True)


class Answer(_Table):
    """A recipe, and settings of its steps that are tried: `{recipe = "quant8", set = ["steps.0.weight_bits=4"]}`."""

    recipe: str
    set: tuple[str, ...] = ()


class Extra(Answer):
    """A cell beside the grid; what it leaves out is the first of the grid's own."""

    model: str | None = None
    track: str | None = None
    seed: Seed | None = None
    n_examples: Annotated[int, Field(gt=0)] | None = None


class Without(_Table):
    """Cells of the grid to leave out: those that have every value named here."""

    recipe: str | None = None
    model: str | None = None
    track: str | None = None
    seed: Seed | None = None


class SweepFile(_Table):
    """What a sweep's file may say.

    Attributes:
        about: one line for people.
        recipes: names, `.toml` files, or tables with settings (`Answer`); a bare string is a table without.
        models: parents; empty for the tracks' own.
        tracks: names, or `.toml` files.
        seeds: of training, calibration and fine-tuning.
        n_examples: attack only the first so many images; None for as many as the track asks.
        engine: who attacks.
        cells: further cells.
        without: cells to leave out.
    """

    about: str = ""
    recipes: tuple[Answer, ...] = ()
    models: tuple[str, ...] = ()
    tracks: tuple[str, ...] = Field(min_length=1)
    seeds: tuple[Seed, ...] = Field(default=(0,), min_length=1)
    n_examples: Annotated[int, Field(gt=0)] | None = None
    engine: Literal["bench", "bench-tf32", "bench-bf16", "reference"] = "bench"
    cells: tuple[Extra, ...] = ()
    without: tuple[Without, ...] = ()


@dataclass(frozen=True, kw_only=True)
class Cell:
    """One question of a sweep: what `bench evaluate` is asked.

    Attributes:
        answer: the recipe as the file names it, with its settings.
        track_name: as the file names it, which may be a path.
        request: the question itself, checked.
    """

    answer: Answer
    track_name: str
    request: Request

    @cached_property
    def name(self) -> str:
        """The name that its entry will have."""
        return self.request.name

    @property
    def title(self) -> str:
        """Track and entry in one word, as `bench show` takes them."""
        return f"{self.request.track.name}/{self.name}"

    @cached_property
    def steps(self) -> tuple[dict[str, Any], ...]:
        """Every setting of every step, as the entry keeps them; of a submission's own steps those that are written."""
        return self.request.recipe.declared()

    @property
    def arguments(self) -> list[str]:
        """What to put after `bench evaluate` to have this cell measured."""
        request = self.request
        words = ["--recipe", self.answer.recipe, "--track", self.track_name, "--model", str(request.model)]
        words += ["--seed", str(request.seed), "--device", request.device]
        words += ["--engine", request.engine] if request.engine != "bench" else []
        words += ["--n-examples", str(request.n_examples)] if request.n_examples is not None else []
        words += [word for assignment in self.answer.set for word in ("--set", assignment)]
        return words + (["--trust"] if request.trust else [])

    def find(self, board: Path) -> Entry | None:
        """Return the entry that answers this cell, on as many images or on more; None where there is none.

        An entry of other settings or of another track answers nothing. One that cannot be read is none either:
        measuring the cell writes it anew.
        """
        for path in self._places(board):
            with suppress(UsageError):
                entry = load_entry(path)
                ours = (self.request.track.fingerprint, self.request.seed, self.request.engine)
                same = ours == (entry.track.fingerprint, entry.seed, entry.attacker)
                enough = len(entry.verdicts.letters) >= self.request.images
                if same and enough and not entry.recipe.difference(self.steps, self.request.recipe.own_code):
                    return entry
        return None

    def _places(self, board: Path) -> list[Path]:
        """Return the files that may hold its entry, those of them that are there, the likeliest first.

        They are its own, and those on other numbers of images. The digits of changed settings stand for what differed
        from the recipe of their time, which the same settings may do otherwise today.
        """
        folder, request = board / self.request.track.name, self.request
        stem = dataclasses.replace(request, n_examples=None, engine="bench").name
        whole = dataclasses.replace(request, n_examples=None).name
        any_digits, end = re.sub(r"[+][0-9a-f]{6}", "+??????", stem), whole.removeprefix(stem)
        others = [*folder.glob(f"{any_digits}{end}.json"), *folder.glob(f"{any_digits}--n*{end}.json")]
        names = [self.name, whole, *sorted(path.stem for path in others)]
        return [path for name in dict.fromkeys(names) if (path := folder / f"{name}.json").is_file()]


@dataclass(frozen=True, kw_only=True)
class Result:
    """What became of a cell.

    Attributes:
        cell: the question.
        state: how far it is.
        entry: the answer, once there is one.
        reason: why it failed, in one sentence.
        seconds: what it took this time, or the time before.
    """

    cell: Cell
    state: State
    entry: Entry | None = None
    reason: str = ""
    seconds: float | None = None

    @classmethod
    def before(cls, cell: Cell, board: Path) -> Self:
        """Return a cell's state before the sweep starts."""
        entry = cell.find(board)
        if entry is None:
            return cls(cell=cell, state="waiting")
        return cls(cell=cell, state="done", entry=entry, seconds=sum(entry.effort.seconds.values()))


@dataclass(frozen=True, kw_only=True)
class Cost:
    """The most that a cell may cost.

    Attributes:
        macs: multiply-accumulates of one image through the parent; a pruned child needs fewer.
        finetune_forward: images forward: the whole budget of the track, unless the recipe says how many epochs.
        finetune_backward: images backward.
        attack_forward: images forward if every image survives every attack; one that falls costs a handful. Further
            runs of Square are not in it.
        attack_backward: images backward.
        seconds: all of that at the parent's pace on this device, and twice the time for a quantised child.
        untrained: whether the parent has to be trained first, which is in none of these.
    """

    macs: int
    finetune_forward: int
    finetune_backward: int
    attack_forward: int
    attack_backward: int
    seconds: float
    untrained: bool

    @property
    def total_macs(self) -> int:
        """Multiply-accumulates of all passes; a pass backward counts as two forward."""
        forward, backward = (
            self.finetune_forward + self.attack_forward,
            self.finetune_backward + self.attack_backward,
        )
        return self.macs * (forward + 2 * backward)


def load_sweep(path: Path, *, device: str = "auto", trust: bool = False) -> list[Cell]:
    """Read a sweep's file; every recipe, track and model it names is checked, and every setting.

    Returns:
        Its cells as written: track by track, in each model by model, recipe by recipe, seed by seed; then the further
        ones.

    Raises:
        UsageError: the file, or something it names, says what the bench cannot act on; the same cell is there twice.
        MissingError: there is no such file, or it names one that is not there.
    """
    if not path.is_file():
        raise MissingError(f"There is no sweep file {path}; docs/sweeps.md shows one.")
    file = _parse(path)
    try:
        cells = [_cell(extra, file, device, trust) for extra in (*_grid(file, path), *file.cells)]
        for cell in cells:
            cell.steps  # noqa: B018  (every setting is checked before the first hour of work)
    except BenchError as error:
        raise type(error)(f"{path}: {error}") from error
    if not cells:
        raise UsageError(f"{path} names no cell: expected recipes = [...], or [[cells]].")
    titles = [cell.title for cell in cells]
    for title in titles:
        if titles.count(title) > 1:
            raise UsageError(f"{path} names the cell {title} twice: remove one.")
    return cells


def _parse(path: Path) -> SweepFile:
    try:
        raw = tomllib.loads(read_toml(path))
        if isinstance(recipes := raw.get("recipes"), list):
            raw["recipes"] = [{"recipe": recipe} if isinstance(recipe, str) else recipe for recipe in recipes]
        # Through JSON: pydantic is then strict about values, but lets a list stand for a tuple.
        return SweepFile.model_validate_json(json.dumps(raw, default=str))
    except tomllib.TOMLDecodeError as error:
        raise UsageError(f"{path} is not valid TOML: {error}.") from error
    except ValidationError as error:
        raise UsageError(f"{path}: {first_fault(error, SweepFile, _TABLES)}") from error


_TABLES: dict[str, type[BaseModel]] = {"recipes": Answer, "cells": Extra, "without": Without}


def _grid(file: SweepFile, path: Path) -> Iterator[Extra]:
    used: set[int] = set()
    for track, model, answer, seed in product(file.tracks, file.models or (None,), file.recipes, file.seeds):
        values = {"recipe": answer.recipe, "model": model, "track": track, "seed": seed}
        out = {i for i, rule in enumerate(file.without) if _fits(rule, values)}
        used |= out
        if not out:
            yield Extra(recipe=answer.recipe, set=answer.set, model=model, track=track, seed=seed)
    for i, rule in enumerate(file.without):
        if i not in used:
            raise UsageError(f"without.{i} leaves out no cell: {rule.model_dump(exclude_none=True)}.")


def _fits(rule: Without, values: dict[str, Any]) -> bool:
    named = rule.model_dump(exclude_none=True)
    return bool(named) and all(values[key] == value for key, value in named.items())


def _cell(extra: Extra, file: SweepFile, device: str, trust: bool) -> Cell:
    """Fill in what a cell leaves out, and check what it names.

    Raises:
        UsageError: there is no such recipe, track, model or setting.
    """
    track_name = extra.track or file.tracks[0]
    track: Track = load_track(track_name)
    recipe: Recipe = override(load_recipe(extra.recipe), list(extra.set))
    model = extra.model or (file.models[0] if file.models else recipe.model or track.model)
    wanted = extra.n_examples or file.n_examples
    request = Request(
        recipe=recipe,
        track=track,
        model=ModelSpec.parse(model),
        n_examples=wanted,
        seed=file.seeds[0] if extra.seed is None else extra.seed,
        device=device,
        engine=file.engine,
        trust=trust,
    )
    return Cell(answer=Answer(recipe=extra.recipe, set=extra.set), track_name=track_name, request=request)
