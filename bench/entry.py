"""One row of a leaderboard and its evidence; JSON in and out."""

from __future__ import annotations

import json
import re
import shlex
from collections.abc import Iterator
from pathlib import Path
from typing import Any, Literal, Self

from pydantic import BaseModel, ConfigDict, ValidationError, model_validator

from bench.dataset import TEST_SETS
from bench.efficiency import Efficiency
from bench.effort import Effort
from bench.entry_name import entry_name
from bench.errors import UsageError
from bench.faults import is_line
from bench.files import locked, write_text
from bench.provenance import Provenance
from bench.recipe_changes import own_name
from bench.recipe_record import RecipeRecord
from bench.recipe_words import spell
from bench.scrutiny import CHALLENGE, Challenge, Evidence, Verification
from bench.submission import Claim
from bench.track import Track, track_names
from bench.verdicts import AUTOATTACK, LETTERS, LOW_PRECISION, STANDING, TENSOR_FLOAT, Proportion, Verdicts

_UNPRINTABLE = re.compile(rb"\x7f|\xc2[\x80-\x9f]")
"""Control characters that JSON allows as they are."""
Status = Literal["measured", "verified", "self-reported"]
Standing = Literal["ranked", "partial", "alarmed", "self-reported"]


class Agreement(BaseModel):
    """How far the deployed model and its differentiable twin answer alike.

    Attributes:
        n: clean test images asked.
        top1: share of them given the same class.
        gap: ‖twin − deployed‖ / ‖twin − mean‖ over logits.
        noise: the same between the twin in float32 and in float64: what rounding alone does.
        adversarial_n: images whose strongest adversarial version of the first attack both were asked about; None where
            the deployed model is the twin itself.
        adversarial_top1: share of those given the same class. Many lie close to a border between classes.
    """

    model_config = ConfigDict(frozen=True, extra="forbid", allow_inf_nan=False)
    n: int
    top1: float
    gap: float
    noise: float
    adversarial_n: int | None = None
    adversarial_top1: float | None = None


class Entry(BaseModel):
    """One measured row.

    Attributes:
        schema_version: version of this record's form.
        status: "measured": made by this code on the machine that `provenance` names; "verified": `verification` says
            when and by what it was found to hold; "self-reported": sent in and not measured again, so it is shown and
            not ranked.
        track: the question, whole: the track's file may have a successor by now.
        recipe: the answer.
        model: the parent's name, "bench:digits-cnn".
        seed: seeds training, calibration and fine-tuning.
        sealed: sha256 of the saved model that was attacked (graph and tensors); None where it could not be saved.
        test_set: digest of all the data set's test images and labels; None in older records.
        parent_weights: sha256 of the weights that the recipe started from: a network that is trained on first use is
            another one on another processor, under the same name. None in older records.
        engine: the attack implementation and its version.
        verdicts: the letters.
        pgd20: images that stand PGD-20 alone, which many papers stop at; None in older records. It is the last of the
            attacks, too, but in records of before.
        agreement: of the twin and the file that ships; None where no ONNX file ships.
        efficiency: of the deployed model.
        parent: efficiency of the model before compression.
        effort: what the row cost to make.
        provenance: where it was measured.
        evidence: the file of the adversarial images that decided the letters; None where they were not kept.
        verification: of a verified row.
        challenges: whose images brought down what the suite had left standing, in their order.
        claim: what the recipe's authors say they measured under this track; None where they say nothing.
    """

    model_config = ConfigDict(frozen=True, extra="forbid")
    schema_version: Literal[1] = 1
    status: Status = "measured"
    track: Track
    recipe: RecipeRecord
    model: str
    seed: int
    sealed: str | None = None
    test_set: str | None = None
    parent_weights: str | None = None
    engine: str
    verdicts: Verdicts
    pgd20: Proportion | None = None
    agreement: Agreement | None
    efficiency: Efficiency
    parent: Efficiency
    effort: Effort
    provenance: Provenance
    claim: Claim | None = None
    evidence: Evidence | None = None
    verification: Verification | None = None
    challenges: tuple[Challenge, ...] = ()

    @model_validator(mode="after")
    def _verified_by_somebody(self) -> Self:
        if (self.status == "verified") != (self.verification is not None):
            raise ValueError("a row is verified exactly when it says by what")
        return self

    @model_validator(mode="after")
    def _challenges_come_last_among_the_attacks(self) -> Self:
        named = [attack for attack in self.verdicts.attacks if attack.startswith(CHALLENGE)]
        last = self.verdicts.attacks[len(self.verdicts.attacks) - len(self.challenges) :]
        if not named == [one.attack for one in self.challenges] == list(last):
            raise ValueError("the challenges are not the last of the attacks, in their order")
        if any(self.verdicts.counts[one.attack] != one.held for one in self.challenges):
            raise ValueError("a challenge says another number of images than the letters do")
        return self

    @model_validator(mode="after")
    def _pgd20_of_the_same_images(self) -> Self:
        stand, letters = self.pgd20, len(self.verdicts.letters)
        if stand and not 0 <= stand.count <= stand.total == letters:
            raise ValueError(f"{stand.count} of {stand.total} images stand PGD-20, and {letters} have letters")
        return self

    @model_validator(mode="after")
    def _no_more_letters_than_images(self) -> Self:
        if len(self.verdicts.letters) > self.track.n_examples:
            raise ValueError(f"{len(self.verdicts.letters)} letters for {self.track.n_examples} images")
        return self

    @property
    def partial(self) -> bool:
        """Whether fewer images were attacked than the track asks for: such a row is never ranked."""
        return len(self.verdicts.letters) < self.track.n_examples

    @property
    def standing(self) -> Standing:
        """Whether the row takes part in the ranking, and if not, the gravest reason."""
        if self.verdicts.fatal or self.low_precision or self.unguarded or self.other_images or not self.whole_suite:
            return "alarmed"
        if self.status == "self-reported":
            return "self-reported"
        return "partial" if self.partial else "ranked"

    @property
    def whole_suite(self) -> bool:
        """Whether the images faced all of AutoAttack; what faced less is never ranked."""
        return set(AUTOATTACK) <= set(self.verdicts.attacks)

    @property
    def unguarded(self) -> bool:
        """Whether somebody's own code ran in the process that attacked and judged, where it could change both."""
        own = self.recipe.own_code
        owner = Path(own.file).parent.name if own else ""
        packages = {str(step["step"]).rpartition("/")[0] for step in self.recipe.steps} - {"", owner}
        return bool(packages) or (own is not None and not own.isolated) or self.own_network

    @property
    def other_images(self) -> bool:
        """Whether the data set's name stands for other images than everybody's, or for another order of them."""
        return self.test_set is not None and TEST_SETS.get(self.track.dataset, self.test_set) != self.test_set

    def same_images(self, other: Entry) -> bool:
        """Whether two entries of one data set may be compared image by image; older ones do not say."""
        return self.test_set == other.test_set or None in (self.test_set, other.test_set)

    @property
    def own_network(self) -> bool:
        """Whether the parent came out of somebody's own Python file or package."""
        return "python:" in self.model or self.model.startswith("plugin:")

    @property
    def low_precision(self) -> bool:
        """Whether the attacks searched in bfloat16, which is not the official protocol: never ranked either."""
        return self.engine.endswith(f" {LOW_PRECISION}")

    @property
    def attacker(self) -> str:
        """What `--engine` calls whoever attacked."""
        if self.engine.startswith("pyautoattack"):
            return "reference"
        search = self.engine.rpartition(" ")[2]
        return f"bench-{search}" if search in (LOW_PRECISION, TENSOR_FLOAT) else "bench"

    @property
    def ranked(self) -> bool:
        """Whether the row takes part in the ranking."""
        return self.standing == "ranked"

    @property
    def name(self) -> str:
        """Its file's name, too."""
        return entry_name(
            model=self.model,
            recipe=self.recipe.name,
            seed=self.seed,
            images=len(self.verdicts.letters),
            asked=self.track.n_examples,
            engine=self.attacker,
        )

    @property
    def command(self) -> str:
        """The command that measures it again."""
        recipe, code = own_name(self.recipe.name), self.recipe.own_code
        # Of somebody's own files the names are known, not where they lie.
        track = self.track.name + ".toml" * (self.track.name not in track_names())
        words = [f"bench evaluate --recipe {shlex.quote(self.recipe.file or recipe)} --track {shlex.quote(track)}"]
        pins = spell(recipe) is None  # a submission may pin another model, and other seeds
        words += [f"--model {shlex.quote(self.model)}"] if pins or self.model != self.track.model else []
        words += [f"--seed {self.seed}"] if pins or self.seed else []
        words += ["--trust"] if code or "python:" in self.model else []
        words += [f"--n-examples {len(self.verdicts.letters)}"] if self.partial else []
        words += [f"--engine {self.attacker}"] if self.attacker != "bench" else []
        words += [f"--set {shlex.quote(change)}" for change in self.recipe.assignments]
        return " ".join(words)

    def path(self, board: Path) -> Path:
        """Return the entry's place under `board`."""
        return board / self.track.name / f"{self.name}.json"

    @property
    def unchallenged(self) -> Verdicts:
        """The verdicts as they were measured, before any challenge."""
        if not self.challenges:
            return self.verdicts
        attacks = self.verdicts.attacks[: -len(self.challenges)]
        later = LETTERS[len(attacks) : len(self.verdicts.attacks)]
        letters = self.verdicts.letters.translate(dict.fromkeys(map(ord, later), STANDING))
        return Verdicts.of(attacks=attacks, letters=letters, alarms=self.verdicts.alarms)

    def save(self, board: Path) -> None:
        """Write the entry under `board`, atomically and while nobody else does; `bench.replacing` says over what."""
        with locked(board):
            self.write(self.path(board))

    def write(self, path: Path) -> None:
        """Write the entry to a file, atomically."""
        text = json.dumps(self.model_dump(mode="json"), indent=2, ensure_ascii=False, allow_nan=False)
        write_text(path, text + "\n")

    def changed(self, **fields: Any) -> Entry:
        """Return the entry with other values in some fields, checked as any entry is."""
        return Entry(**{name: getattr(self, name) for name in Entry.model_fields} | fields)


def load_entry(path: Path) -> Entry:
    """Read an entry.

    Raises:
        UsageError: not JSON, not an entry, or letters and counts that disagree.
    """
    try:
        with path.open("rb", buffering=0) as file:  # a board has thousands: half the time of read_bytes
            text = file.read()
        entry = Entry.model_validate_json(text)
    except OSError as error:
        raise UsageError(f"Cannot read the entry {path}: {error}.") from error
    except ValidationError as error:
        raise UsageError(_complaint(path, error)) from error
    # The bench's own entries have neither, so that few are looked through.
    if (b"\\" in text or _UNPRINTABLE.search(text)) and not all(map(is_line, _strings(json.loads(text)))):
        raise UsageError(f"{path} holds control characters, which may write anything to a terminal: remove it.")
    return entry


def _strings(value: Any) -> Iterator[str]:
    if isinstance(value, str):
        yield value
    elif isinstance(value, list | dict):
        for part in (*value, *value.values()) if isinstance(value, dict) else value:
            yield from _strings(part)


def _complaint(path: Path, error: ValidationError) -> str:
    """Say what is wrong with a file, by its first fault: cut off, of another schema, edited, or something else."""
    first = error.errors()[0]
    if first["type"] == "json_invalid":
        return f"{path} is not JSON, or was cut off: {first['msg'].removeprefix('Invalid JSON: ')}."
    if first["loc"] == ("schema_version",):
        return f"{path} has schema {first['input']!r}, and this bench reads schema 1: measure it again, or remove it."
    where = ".".join(map(str, first["loc"])) or "the record"
    return f"{path} is not an entry of this bench: {where}: {first['msg'].removeprefix('Value error, ')}."
