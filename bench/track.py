"""A track: the question the bench asks. It is never edited, only succeeded by a new version."""

from __future__ import annotations

import hashlib
import json
import tomllib
from fractions import Fraction
from functools import lru_cache
from importlib import resources
from pathlib import Path
from typing import Annotated, Literal, Self

from pydantic import (
    BaseModel,
    BeforeValidator,
    ConfigDict,
    Field,
    PlainSerializer,
    ValidationError,
    model_validator,
)

from bench.errors import MissingError, UsageError
from bench.faults import Line, first_fault
from bench.files import read_toml
from bench.recipe_form import LARGEST_SEED
from bench.registry import did_you_mean
from bench.threat_model import ThreatModel, parse_eps


def _eps(value: object) -> Fraction:
    """Take exact numbers only: 0.1 without quotes is a binary fraction that nobody meant."""
    if not isinstance(value, str | Fraction):
        raise ValueError(f"expected a string such as '8/255' or '0.1', got {value!r}")
    return _read_eps(str(value))


@lru_cache  # a board has thousands of entries and few radii
def _read_eps(text: str) -> Fraction:
    try:
        return ThreatModel(norm="Linf", eps=parse_eps(text)).eps
    except UsageError as error:
        raise ValueError(str(error)) from error


Eps = Annotated[Fraction, BeforeValidator(_eps), PlainSerializer(str)]


class Track(BaseModel):
    """What every entry of one leaderboard has in common.

    Attributes:
        name: with its version, "cifar10-linf-v1".
        about: one line for people.
        dataset: a data set's name; its test images, from the first on, are attacked.
        norm: "Linf" or "L2".
        eps: radius in units of [0, 1], exact ("8/255").
        n_examples: number of test images attacked; fewer make an entry partial.
        suite: the attack suite; what is compressed faces further attacks after it (`bench.attack.suites.further`).
        seed: seeds the attacks.
        finetune_images: how many training images a recipe may use for fine-tuning (epochs × images).
        model: the model that is evaluated when the user names none.
    """

    model_config = ConfigDict(frozen=True, extra="forbid", strict=True)
    name: str
    about: Line
    dataset: str
    norm: Literal["Linf", "L2"]
    eps: Eps
    n_examples: int = Field(gt=0)
    suite: Literal["standard"] = "standard"
    seed: int = Field(default=0, ge=0, le=LARGEST_SEED)
    finetune_images: int = Field(gt=0)
    model: str

    @model_validator(mode="after")
    def _leaves_something_to_see(self) -> Self:
        if self.norm == "Linf" and self.eps >= 1:
            grey = f"; in grey levels write '{self.eps}/255'" if self.eps <= 255 else ""
            raise ValueError(f"expected eps below 1 under Linf, where 1 is from black to white, got '{self.eps}'{grey}")
        return self

    @property
    def threat(self) -> ThreatModel:
        """What the adversary may do."""
        return ThreatModel(norm=self.norm, eps=self.eps)

    @property
    def fingerprint(self) -> str:
        """Twelve digits that change when anything that decides a verdict or a budget does."""
        decisive = self.model_dump(mode="json", exclude={"about", "model"})
        return hashlib.sha256(json.dumps(decisive, sort_keys=True).encode()).hexdigest()[:12]


def track_names() -> list[str]:
    """Names of the tracks that come with the bench."""
    folder = resources.files("bench") / "tracks"
    return sorted(file.name.removesuffix(".toml") for file in folder.iterdir() if file.name.endswith(".toml"))


def load_track(name: str) -> Track:
    """Load a track by name, or from a `.toml` file of your own.

    Raises:
        UsageError: nothing has that name, or the file says something a track cannot say.
        MissingError: no such file.
    """
    if name.endswith(".toml"):
        path = Path(name)
        if not path.is_file():
            raise MissingError(f"There is no track file {path}.")
        if path.stem in track_names():
            raise UsageError(f"There is a track called {path.stem} already; give {path} a name of its own.")
        return parse_track(read_toml(path), name=path.stem)
    if name not in track_names():
        raise UsageError(f"There is no track '{name}'.{did_you_mean(name, track_names())}")
    text = (resources.files("bench") / "tracks" / f"{name}.toml").read_text(encoding="utf-8")
    return parse_track(text, name=name)


def parse_track(text: str, *, name: str) -> Track:
    """Read a track from TOML.

    Raises:
        UsageError: not TOML, an unknown key, or a value of the wrong type.
    """
    try:
        raw = tomllib.loads(text)
        if "name" in raw:
            raise UsageError(f"Track {name}: unknown key 'name'; a track is called as its file is.")
        return Track(name=name, **raw)
    except tomllib.TOMLDecodeError as error:
        raise UsageError(f"Track {name} is not valid TOML: {error}.") from error
    except ValidationError as error:
        raise UsageError(f"Track {name}: {first_fault(error, Track)}") from error
