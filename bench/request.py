"""What somebody wants to know: one recipe on one model under one track."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

from bench.entry_name import entry_name
from bench.errors import UsageError
from bench.model import ModelSpec
from bench.recipe import Recipe
from bench.submission import Claim
from bench.track import Track


@dataclass(frozen=True, kw_only=True)
class Request:
    """A question to the bench.

    Attributes:
        recipe: what to do to the model.
        track: under which question to judge it.
        model: the parent.
        n_examples: number of test images to attack, from the first on; None for the track's own.
        seed: of training, calibration and fine-tuning.
        device: "auto", "cpu", "cuda", "cuda:1".
        trust: whether the user's own Python files may run: `python:` models, and the recipe's own steps.
        own_steps: whether the recipe's own steps may run, if nothing else may.
        claim: what the recipe's authors say they measured.
        engine: who attacks: "bench", "bench-tf32", "bench-bf16" or "reference".
        fresh: whether to forget what an interrupted run left.
        keep: the folder to keep the adversarial images in that decided the verdicts; None to keep none.
        batch_size: images in a pass of the attack, which changes no verdict; None for what suits the device.
    """

    recipe: Recipe
    track: Track
    model: ModelSpec
    n_examples: int | None = None
    seed: int = 0
    device: str = "auto"
    trust: bool = False
    engine: str = "bench"
    fresh: bool = False
    batch_size: int | None = None
    keep: Path | None = None
    own_steps: bool = False
    claim: Claim | None = None

    def __post_init__(self) -> None:
        if self.recipe.own_code is not None and not (self.trust or self.own_steps):
            raise UsageError(
                f"Recipe {self.recipe.name} would run the code in {self.recipe.own_code.file}; "
                "read it, and add --trust to allow it."
            )
        most = self.track.n_examples
        if self.n_examples is not None and not 1 <= self.n_examples <= most:
            raise UsageError(
                f"{self.track.name} attacks {most:,} images: expected 1 to {most:,}, got {self.n_examples:,}."
            )

        if self.batch_size is not None and self.batch_size < 1:
            raise UsageError(f"Expected --batch-size auto, or 1 or more, got {self.batch_size}.")

    @property
    def images(self) -> int:
        """Number of test images to attack."""
        return self.n_examples or self.track.n_examples

    @property
    def name(self) -> str:
        """What the entry that answers it will be called."""
        return entry_name(
            model=str(self.model),
            recipe=self.recipe.name,
            seed=self.seed,
            images=self.images,
            asked=self.track.n_examples,
            engine=self.engine,
        )


def parse_batch_size(text: str) -> int | None:
    """Read `auto`, None, or a number.

    Raises:
        UsageError: neither.
    """
    if text == "auto":
        return None
    try:
        return int(text)
    except ValueError as error:
        raise UsageError(f"Expected --batch-size auto, or 1 or more, got '{text}'.") from error
