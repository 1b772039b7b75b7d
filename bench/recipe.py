"""A recipe: the answer a submitter gives, as steps with settings; TOML in, fingerprint out."""

from __future__ import annotations

import dataclasses
import hashlib
import json
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any, Protocol

from pydantic import TypeAdapter, ValidationError

from bench.errors import MissingError, UsageError
from bench.faults import is_line
from bench.files import read_toml
from bench.own_code import OwnCode
from bench.progress import Report
from bench.recipe_form import assign, assignments, read_form
from bench.recipe_words import listed_names, spell, words
from bench.registry import Registry, did_you_mean

if TYPE_CHECKING:
    import torch

    from bench.dataset import Examples
    from bench.model import Subject
    from bench.threat_model import ThreatModel

STEPS = Registry(
    "step",
    {
        "quantize": "bench.compress.quantize:Quantize",
        "prune-channels": "bench.compress.prune_channels:PruneChannels",
        "prune-weights": "bench.compress.prune_weights:PruneWeights",
        "low-rank": "bench.compress.low_rank:LowRank",
        "finetune-clean": "bench.finetune.clean:FinetuneClean",
        "finetune-adversarial": "bench.finetune.adversarial:FinetuneAdversarial",
        "finetune-trades": "bench.finetune.trades:FinetuneTrades",
        "finetune-fast": "bench.finetune.fast:FinetuneFast",
        "finetune-distill": "bench.finetune.distill:FinetuneDistill",
    },
    more="bench.plugins:register_all",
)


@dataclass(kw_only=True)
class Meter:
    """Counts what fine-tuning costs: images, and what they took of this machine.

    Attributes:
        images: training images gone through, counted against the track's budget.
        forward: images forward through the network, those of attacks, checks and a teacher included.
        backward: images backward.
        seconds: wall time of whole epochs; what an interruption lost is not in it.
        peak_bytes: most memory held while fine-tuning: the device's, or the process's resident memory on a CPU, which
            includes what came before; None where the system does not tell.
    """

    images: int = 0
    forward: int = 0
    backward: int = 0
    seconds: float = dataclasses.field(default=0.0, compare=False)
    peak_bytes: int | None = dataclasses.field(default=None, compare=False)

    def passes(self, images: int, *, forward: int, backward: int) -> None:
        """Count a batch of so many images, so many times forward and backward."""
        self.forward += images * forward
        self.backward += images * backward


@dataclass(frozen=True, kw_only=True)
class Ingredients:
    """All that a step may use; the test images are not among them.

    Attributes:
        train: the track's training images.
        threat: the track's threat model.
        finetune_images: how many training images (epochs × images) the track allows.
        generator: the only source of randomness, on the CPU.
        device: where to work.
        report: tells whoever watches how far the work is.
        meter: counts images forward and backward.
        checkpoints: where a step leaves what an interruption must not lose, a folder of its own; None for nowhere.
    """

    train: Examples
    threat: ThreatModel
    finetune_images: int
    generator: torch.Generator
    device: torch.device
    report: Report
    meter: Meter
    checkpoints: Path | None = None


class Step(Protocol):
    """One move of a recipe: a frozen dataclass whose fields are the TOML keys.

    Guarantees:
        The subject that is passed in, its parent included, is left as it was.
    """

    def __call__(self, subject: Subject, ingredients: Ingredients) -> Subject:
        """Return a new subject."""
        ...


@dataclass(frozen=True, kw_only=True)
class Recipe:
    """Named steps with settings, not yet checked against the steps themselves.

    Attributes:
        name: "quant8-advft".
        summary: one line for people.
        steps: one table per step, each with its `step` key and the settings the author wrote.
        own_code: where steps called `NAME/…` come from; None where the recipe has none.
        folder: the submission's; "" for other recipes, and for one whose settings were changed on the command line.
        file: the name of the TOML file that it is, or of its folder; None where its name alone is enough.
        model: the parent it was made for; "" for the track's.
        track: the track it was made for; "" for any.
        seeds: under which it is measured, unless the user names one; none for the usual one.
        changes: settings changed on the command line, as they were written.
    """

    name: str
    summary: str
    steps: tuple[dict[str, Any], ...]
    own_code: OwnCode | None = None
    folder: str = ""
    file: str | None = None
    model: str = ""
    track: str = ""
    seeds: tuple[int, ...] = ()
    changes: tuple[str, ...] = ()

    def __post_init__(self) -> None:
        n = [table.get("step") for table in self.steps].count("quantize")
        if n > 1:
            raise UsageError(f"Recipe {self.name}: expected one quantize step, got {n}: nothing is quantised twice.")

    def resolve(self) -> tuple[Step, ...]:
        """Build the steps, checking every setting.

        Raises:
            UsageError: an unknown setting, a wrong type, a value out of range, or an own step whose code may not run.
        """
        return tuple(self._resolve(i, dict(table)) for i, table in enumerate(self.steps))

    def declared(self) -> tuple[dict[str, Any], ...]:
        """Return each step's complete settings, checked; those of own steps as written: their code stays unread.

        Raises:
            UsageError: an unknown setting, a wrong type, or a value out of range.
        """
        return tuple(
            dict(table) if self.is_own(table["step"]) else _complete(table, self._resolve(i, dict(table)))
            for i, table in enumerate(self.steps)
        )

    def is_own(self, step: str) -> bool:
        """Whether a step comes from the submission's own file."""
        return self.own_code is not None and step.partition("/")[0] == Path(self.own_code.file).parent.name

    def _resolve(self, position: int, table: dict[str, Any]) -> Step:
        name = table.pop("step")
        where = f"Recipe {self.name}, step {position} ({name}): "
        if self.own_code and self.is_own(name) and name not in STEPS:
            raise UsageError(f"{where}expected a step that {self.own_code.file} registers, and may run (--trust).")
        step_class = STEPS.get(name)
        known = [field.name for field in dataclasses.fields(step_class)]
        for key in table:
            if key not in known:
                raise UsageError(f"{where}unknown setting '{key}'.{did_you_mean(key, known)}")
        try:
            # Through JSON: pydantic is then strict about values, but lets a table stand for the dataclass.
            step: Step = TypeAdapter(step_class).validate_json(json.dumps(table, default=str), strict=True)
        except ValidationError as error:
            first = error.errors()[0]
            message = first["msg"].replace("Input should be", "expected")
            raise UsageError(
                f"{where}{'.'.join(map(str, first['loc']))}: {message}, got {first['input']!r}."
            ) from error
        except UsageError as error:
            raise UsageError(f"{where}{error}") from error
        return step


def settings(steps: tuple[Step, ...], recipe: Recipe) -> tuple[dict[str, Any], ...]:
    """Return each step's complete settings, defaults included, as they go into the entry."""
    return tuple(_complete(table, step) for table, step in zip(recipe.steps, steps, strict=True))


def _complete(table: dict[str, Any], step: Step) -> dict[str, Any]:
    return {"step": table["step"], **dataclasses.asdict(step)}  # type: ignore[call-overload]


def fingerprint(complete: tuple[dict[str, Any], ...], own_code: OwnCode | None = None) -> str:
    """Return twelve digits that change when any setting of any step does, or the code of the recipe's own steps."""
    text = json.dumps(complete, sort_keys=True, default=str) + (own_code.sha256 if own_code else "")
    return hashlib.sha256(text.encode()).hexdigest()[:12]


def submission_names(submissions: Path = Path("submissions")) -> list[str]:
    """Names of the submissions in the current folder; one that spells a recipe of the bench is out of reach."""
    names = {path.parent.name for path in submissions.glob("*/recipe.toml")}
    return sorted(name for name in names if spell(name) is None)


def is_named(name: str, submissions: Path = Path("submissions")) -> bool:
    """Whether a name alone is a recipe: a spelt one, or a submission's in the current folder."""
    return spell(name) is not None or (submissions / name / "recipe.toml").is_file()


def load_recipe(name: str, *, submissions: Path = Path("submissions")) -> Recipe:
    """Find a recipe: one that its name spells, a submission's (its name or its folder), or a `.toml` file of your own.

    Raises:
        UsageError: nothing has that name, or the file says something a recipe cannot say.
        MissingError: no such file or folder.
    """
    return _load(name, submissions, ())


def _load(name: str, submissions: Path, heirs: tuple[str, ...]) -> Recipe:
    """Find a recipe that each of the heirs extends, the last one directly."""
    if name.endswith(".toml"):
        path = Path(name)
        if path.name == "recipe.toml" and path.parent.name:  # of a submission, and its steps stand beside it
            return _load(path.parent.as_posix(), submissions, heirs)
        if not path.is_file():
            raise MissingError(f"There is no recipe file {path}.")
        if is_named(path.stem, submissions):
            raise UsageError(f"There is a recipe called {path.stem} already; give {path} a name of its own.")
        _check_name(path.stem)
        if (file := path.resolve().as_posix()) in heirs:
            raise UsageError(f"Recipe {path.stem}: it extends itself, by way of {path}.")
        read = _read(read_toml(path), path.stem, submissions, None, (*heirs, file), beside=path.parent)
        return dataclasses.replace(read, file=path.name)
    if (spelt := spell(name)) is not None:
        summary, steps = spelt
        return Recipe(name=name, summary=summary, steps=tuple(steps))
    for path in (submissions / name, Path(name)):
        if (path / "recipe.toml").is_file() and spell(path.name) is None:
            if is_named(path.name, submissions) and not path.samefile(submissions / path.name):
                raise UsageError(f"There is a recipe called {path.name} already; give {path} a name of its own.")
            _check_name(path.name)
            read = _read(read_toml(path / "recipe.toml"), path.name, submissions, path, heirs, beside=path)
            return read if path == submissions / name else dataclasses.replace(read, file=path.name)
    if "/" in name:
        raise MissingError(f"There is no recipe in {name}: expected a folder with recipe.toml, or a .toml file.")
    hint = did_you_mean(name, listed_names() + submission_names(submissions), see="bench list recipes")
    raise UsageError(f"There is no recipe '{name}'.{hint} Recipes are made of the words {', '.join(words())}.")


def _check_name(name: str) -> None:
    """Refuse a name that a row could not bear: '+' marks changed settings, and '--' what stands beside the recipe."""
    if "+" in name or "--" in name or not is_line(name):
        raise UsageError(
            f"Expected the name of a recipe's file or folder without '+' and '--', got {name!r}: rename it."
        )


def parse_recipe(text: str, *, name: str, submissions: Path = Path("submissions")) -> Recipe:
    """Read a recipe from TOML; settings of steps are checked later, by `Recipe.resolve`.

    Raises:
        UsageError: not TOML, an unknown key, no summary, or a step nobody knows.
    """
    return _read(text, name, submissions, None, ())


def _read(
    text: str, name: str, submissions: Path, folder: Path | None, heirs: tuple[str, ...], beside: Path = Path()
) -> Recipe:
    raw = read_form(text, name)
    base = Recipe(name=name, summary="", steps=())
    if extended := raw.get("extends"):
        if extended in (*heirs, name):
            raise UsageError(f"Recipe {name}: it extends itself, by way of {extended}.")
        if extended.endswith(".toml") and (beside / extended).is_file():
            extended = (beside / extended).as_posix()
        base = _load(extended, submissions, (*heirs, name))
    inherited = [dict(table) for table in base.steps]
    for path, value in assignments(raw.get("set", {})):
        assign(inherited, path, value, f"Recipe {name}, set {path}: {base.name}")
    own_code = base.own_code
    for position, table in enumerate(raw.get("steps", []), start=len(inherited)):
        if folder is not None and table["step"].startswith(f"{folder.name}/"):
            own_code = _own_code(folder / "steps.py", f"Recipe {name}, step {position} ({table['step']})", own_code)
        elif table["step"] not in STEPS:
            hint = did_you_mean(table["step"], STEPS)
            raise UsageError(f"Recipe {name}, step {position}: there is no step '{table['step']}'.{hint}")
    return Recipe(
        name=name,
        summary=raw["summary"],
        steps=(*inherited, *raw.get("steps", [])),
        own_code=own_code,
        folder=folder.as_posix() if folder else "",
        model=raw.get("model", base.model),
        track=raw.get("track", base.track),
        seeds=tuple(raw.get("seeds", base.seeds)),
    )


def _own_code(file: Path, where: str, inherited: OwnCode | None) -> OwnCode:
    if not file.is_file():
        raise MissingError(f"{where}: expected its code in {file}, which is not there.")
    if inherited is not None and inherited.file != file.as_posix():
        raise UsageError(
            f"{where}: the recipe it extends has own steps, too; copy them into {file}, and do not extend."
        )
    return OwnCode.of(file)
