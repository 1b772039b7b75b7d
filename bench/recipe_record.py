"""A recipe as an entry remembers it: as it ran."""

from __future__ import annotations

import json
from collections.abc import Sequence
from typing import Any, Self

from pydantic import BaseModel, ConfigDict, model_validator

from bench.compression import Compression, is_finetuning
from bench.own_code import OwnCode
from bench.recipe import fingerprint
from bench.recipe_changes import changed_settings, own_name

FINETUNE, UNTUNED = "finetune-", "none"


class RecipeRecord(BaseModel):
    """The recipe as it ran, every setting spelled out; the file that its own steps came from; and its own TOML file.

    Both are None where there is none; that of a recipe in `submissions` is not named. `changes` are settings as --set
    wrote them, which older records do not say.
    """

    model_config = ConfigDict(frozen=True, extra="forbid")
    name: str
    summary: str
    steps: tuple[dict[str, Any], ...]
    fingerprint: str
    own_code: OwnCode | None = None
    file: str | None = None
    changes: tuple[str, ...] = ()

    @property
    def changed(self) -> bool:
        """Whether settings of a recipe were changed with --set: "quant8-advft+5981e0"."""
        return own_name(self.name) != self.name

    @property
    def assignments(self) -> tuple[str, ...]:
        """What --set takes to change the same settings; an older record does not say how they were written."""
        changed = changed_settings(self.name, self.steps)
        # TOML has no word for None: it is what the setting is without a value.
        values = {path: value for path, (value, _) in changed.items() if value is not None}
        return self.changes or tuple(
            f"{path}={json.dumps(value) if isinstance(value, bool) else value}" for path, value in values.items()
        )

    @property
    def compression(self) -> Compression:
        """What the steps remove, and how far."""
        return Compression.of_steps(self.steps)

    @property
    def finetuning(self) -> str:
        """How the last step that fine-tunes does it: "clean", "adversarial", "trades"; "none" where none does."""
        steps = [str(step["step"]).rpartition("/")[2] for step in self.steps if is_finetuning(str(step["step"]))]
        return steps[-1].removeprefix(FINETUNE) if steps else UNTUNED

    def difference(self, steps: Sequence[dict[str, Any]], own_code: OwnCode | None) -> str:
        """Say in what a recipe is another one, by its settings as far as they are written; "" where it is this one."""
        asked = json.loads(json.dumps(steps, default=str))
        here, theirs = (", ".join(step["step"] for step in each) or "none" for each in (self.steps, asked))
        if here != theirs:
            return f"its steps are {here}, and this one's {theirs}"
        for i, (step, other) in enumerate(zip(self.steps, asked, strict=True)):
            for key, value in other.items():
                if key not in step or step[key] != value:
                    return f"its steps.{i}.{key} is {step.get(key)}, and this one's {value}"
        codes = {code.sha256 if code else None for code in (self.own_code, own_code)}
        return "the code of its own steps is another" if len(codes) > 1 else ""

    @model_validator(mode="after")
    def _fingerprint_of_these_steps(self) -> Self:
        if fingerprint(self.steps, self.own_code) != self.fingerprint:
            raise ValueError("the fingerprint is not that of the steps: somebody edited one of them")
        return self
