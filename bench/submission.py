"""A submission's card: who made the recipe, under which licence, and what they measured themselves."""

from __future__ import annotations

import re
import tomllib
from pathlib import Path
from typing import Annotated

from pydantic import BaseModel, ConfigDict, Field, ValidationError, field_validator, model_validator

from bench.errors import MissingError, UsageError
from bench.faults import Line, first_fault
from bench.files import read_toml

Percent = Annotated[float, Field(ge=0, le=100)]
Text = Annotated[Line, Field(min_length=1)]


class Claim(BaseModel):
    """What the authors say they measured.

    Attributes:
        track: under which question.
        clean: clean accuracy, per cent.
        robust: robust accuracy, per cent.
        n: number of test images.
        attack: the attack that `robust` withstood, "AutoAttack" or "PGD-20".
    """

    model_config = ConfigDict(frozen=True, extra="forbid", strict=True, allow_inf_nan=False)
    track: Text
    clean: Percent
    robust: Percent
    n: int = Field(gt=0)
    attack: Text

    @model_validator(mode="after")
    def _per_cent(self) -> Claim:
        if self.robust > self.clean:
            raise ValueError(f"expected robust no higher than clean, got {self.robust} and {self.clean}")
        if 0 < self.clean <= 1:
            raise ValueError(f"expected per cent (97.5, not 0.975), got clean = {self.clean}")
        return self


class Card(BaseModel):
    """`card.toml`.

    Attributes:
        title: one line.
        authors: names.
        licence: an SPDX identifier, "MIT", of recipe and code.
        paper: a reference or a link; "" where there is none.
        tracks: the tracks it was made for.
        extra_data: training data beyond the track's, in words; "" for none.
        claim: what the authors measured; None where they say nothing.
    """

    model_config = ConfigDict(frozen=True, extra="forbid", strict=True)
    title: Text
    authors: list[Text] = Field(min_length=1)
    licence: Text
    paper: Line = ""
    tracks: list[Text] = Field(min_length=1)
    extra_data: Line = ""
    claim: Claim | None = None

    @field_validator("licence")
    @classmethod
    def _like_spdx(cls, licence: str) -> str:
        if not re.fullmatch(r"[A-Za-z0-9][A-Za-z0-9.+-]*( (AND|OR|WITH) [A-Za-z0-9][A-Za-z0-9.+-]*)*", licence):
            raise ValueError(f"expected an SPDX identifier such as MIT, Apache-2.0 or CC-BY-4.0, got '{licence}'")
        return licence


def load_card(folder: Path) -> Card:
    """Read the card in a submission's folder.

    Raises:
        MissingError: there is none.
        UsageError: it says something a card cannot say.
    """
    path = folder / "card.toml"
    if not path.is_file():
        raise MissingError(f"Expected a card in {path}: title, authors, licence and tracks; see submissions/README.md.")
    try:
        return Card(**tomllib.loads(read_toml(path)))
    except tomllib.TOMLDecodeError as error:
        raise UsageError(f"{path} is not valid TOML: {error}.") from error
    except ValidationError as error:
        raise UsageError(f"{path}: {first_fault(error, Card, {'claim': Claim})}") from error


def claim_on(folder: str, track: str) -> Claim | None:
    """Return what a submission's authors claim under a track; None where they claim nothing, or there is no card.

    Raises:
        UsageError: the card says something a card cannot say.
    """
    if not folder or not (Path(folder) / "card.toml").is_file():
        return None
    claim = load_card(Path(folder)).claim
    return claim if claim is not None and claim.track == track else None
