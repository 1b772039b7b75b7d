"""What an entry says of those who looked at it again: evidence, verification, challenges."""

from __future__ import annotations

from dataclasses import dataclass

from pydantic import BaseModel, ConfigDict, Field

from bench.provenance import Provenance

CHALLENGE = "challenge:"
"""What the name of an attack begins with that came from a challenger."""


@dataclass(frozen=True, kw_only=True)
class Finding:
    """What one check of an entry, or of a submission, found.

    Attributes:
        name: of the check, "clean".
        holds: whether what is checked is right; None where it could not be checked.
        text: one sentence with the figures.
    """

    name: str
    holds: bool | None
    text: str


class Evidence(BaseModel):
    """A file of the adversarial images that decided verdicts.

    Attributes:
        file: its name; it lies beside the entry, unless its owner keeps it elsewhere.
        digest: sha256 of the file.
        images: how many it holds.
    """

    model_config = ConfigDict(frozen=True, extra="forbid")
    file: str = Field(pattern=r"^[^/\\]+$")
    digest: str
    images: int = Field(ge=0)


class Verification(BaseModel):
    """When, where and by what an entry was found to hold.

    Attributes:
        held: names of the checks that held.
        unchecked: names of those that could not be made, of an entry without evidence, say.
        full: whether the whole attack was repeated.
        sampled: surviving images that were attacked again.
        standing: those of them that still stand.
        seed: of choosing and attacking them.
        provenance: of the machine and the code that verified.
    """

    model_config = ConfigDict(frozen=True, extra="forbid")
    held: tuple[str, ...]
    unchecked: tuple[str, ...] = ()
    full: bool = False
    sampled: int
    standing: int
    seed: int
    provenance: Provenance


VERIFIER = "bench verify"
"""Who challenges an entry with what fell while it was verified."""


class Challenge(BaseModel):
    """Somebody's adversarial images that brought down images which the suite had left standing.

    The letters before the challenge are those of now, with `.` for the letter of `attack` and of any later one.

    Attributes:
        attack: "challenge:NAME", the attack's name among the verdicts.
        by: who made the images.
        reference: where to read how; empty where nobody said.
        submitted: images judged.
        held: those that changed a letter.
        evidence: the file of the images that changed a letter.
        when: UTC, ISO 8601.
    """

    model_config = ConfigDict(frozen=True, extra="forbid")
    attack: str = Field(pattern=f"^{CHALLENGE}.+")
    by: str
    reference: str = ""
    submitted: int
    held: int = Field(gt=0)
    evidence: Evidence
    when: str
