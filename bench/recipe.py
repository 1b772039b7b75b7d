"""A recipe: the answer a submitter gives, as steps with settings; TOML in, fingerprint out."""

from __future__ import annotations

import dataclasses
import hashlib
import json
import tomllib
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any, Protocol

from pydantic import TypeAdapter, ValidationError

from bench.errors import UsageError
from bench.files import read_toml
from bench.progress import Report
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
    """

    name: str
    summary: str
    steps: tuple[dict[str, Any], ...]

    def resolve(self) -> tuple[Step, ...]:
        """Build the steps, checking every setting.

        Raises:
            UsageError: an unknown setting, a wrong type, or a value out of range.
        """
        return tuple(self._resolve(i, dict(table)) for i, table in enumerate(self.steps))

    def _resolve(self, position: int, table: dict[str, Any]) -> Step:
        name = table.pop("step")
        where = f"Recipe {self.name}, step {position} ({name}): "
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
    return tuple(
        {"step": table["step"], **dataclasses.asdict(step)}  # type: ignore[call-overload]
        for table, step in zip(recipe.steps, steps, strict=True)
    )


def fingerprint(complete: tuple[dict[str, Any], ...]) -> str:
    """Return twelve digits that change when any setting of any step does."""
    return hashlib.sha256(json.dumps(complete, sort_keys=True, default=str).encode()).hexdigest()[:12]


def submission_names(submissions: Path = Path("submissions")) -> list[str]:
    """Names of the submissions in the current folder; one that spells a recipe of the bench is out of reach."""
    names = {path.parent.name for path in submissions.glob("*/recipe.toml")}
    return sorted(name for name in names if spell(name) is None)


def load_recipe(name: str, *, submissions: Path = Path("submissions")) -> Recipe:
    """Find a recipe: one that its name spells, a submission's, or a `.toml` file of your own.

    Raises:
        UsageError: no such recipe, or the file says something a recipe cannot say.
    """
    if name.endswith(".toml"):
        path = Path(name)
        if not path.is_file():
            raise UsageError(f"There is no recipe file {path}.")
        if spell(path.stem) is not None or path.stem in submission_names(submissions):
            raise UsageError(f"There is a recipe called {path.stem} already; give {path} a name of its own.")
        return parse_recipe(read_toml(path), name=path.stem)
    if (spelt := spell(name)) is not None:
        summary, steps = spelt
        return Recipe(name=name, summary=summary, steps=tuple(steps))
    if (path := submissions / name / "recipe.toml").is_file():
        return parse_recipe(read_toml(path), name=name)
    known = listed_names() + submission_names(submissions)
    raise UsageError(f"There is no recipe '{name}'.{did_you_mean(name, known)} Words: {', '.join(words())}.")


def parse_recipe(text: str, *, name: str) -> Recipe:
    """Read a recipe from TOML; settings of steps are checked later, by `Recipe.resolve`.

    Raises:
        UsageError: not TOML, an unknown key, no summary, or a step nobody knows.
    """
    try:
        raw = tomllib.loads(text)
    except tomllib.TOMLDecodeError as error:
        raise UsageError(f"Recipe {name} is not valid TOML: {error}.") from error
    for key in raw:
        if key not in ("summary", "steps"):
            raise UsageError(f"Recipe {name}: unknown key '{key}'.{did_you_mean(key, ['summary', 'steps'])}")
    summary, steps = raw.get("summary"), raw.get("steps", [])
    if not isinstance(summary, str):
        raise UsageError(f'Recipe {name}: expected summary = "one line", got {summary!r}.')
    if not isinstance(steps, list) or not all(isinstance(table, dict) for table in steps):
        raise UsageError(f"Recipe {name}: expected steps as [[steps]] tables, got {steps!r}.")
    for position, table in enumerate(steps):
        if not isinstance(table.get("step"), str):
            raise UsageError(f'Recipe {name}, step {position}: expected step = "NAME" in each [[steps]] table.')
        if table["step"] not in STEPS:
            hint = did_you_mean(table["step"], STEPS)
            raise UsageError(f"Recipe {name}, step {position}: there is no step '{table['step']}'.{hint}")
    return Recipe(name=name, summary=summary, steps=tuple(steps))


def override(recipe: Recipe, assignments: list[str]) -> Recipe:
    """Return the recipe with settings changed, each given as `steps.0.weight_bits=4`, under a name of its own.

    Raises:
        UsageError: not an assignment, no such step, or not a TOML value.
    """
    if not assignments:
        return recipe
    steps = [dict(table) for table in recipe.steps]
    for assignment in assignments:
        path, equals, value = assignment.partition("=")
        match path.strip().split("."):
            case ["steps", _, "step"]:
                raise UsageError(f"--set changes settings, not which step it is: got '{assignment}'; write a recipe.")
            case ["steps", index, key] if equals and index.isdecimal():
                pass
            case _:
                raise UsageError(f"Expected --set steps.INDEX.KEY=VALUE (steps.0.weight_bits=4), got '{assignment}'.")
        if int(index) >= len(steps):
            raise UsageError(f"--set {assignment}: recipe {recipe.name} has {len(steps)} steps, counted from 0.")
        steps[int(index)][key] = _toml_value(value.strip())
    # A measurement of something else must not take the place of the recipe's own.
    name = f"{recipe.name}+{fingerprint(tuple(steps))[:6]}"
    return dataclasses.replace(recipe, name=name, steps=tuple(steps))


def _toml_value(text: str) -> Any:
    """Read a bare TOML value; a bare word is taken as a string, so that shells need no nested quotes."""
    try:
        return tomllib.loads(f"value = {text}")["value"]
    except tomllib.TOMLDecodeError:
        return text
