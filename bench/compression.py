"""What kind of compression a model went through, and how far: what its published and measured rows have in common."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from typing import Any, Literal, Self, get_args

from pydantic import BaseModel, ConfigDict, Field, ValidationError, field_validator

Kind = Literal["structured", "unstructured", "pruned", "low-rank", "quantised", "other"]
"""`pruned` is for sources that do not say which of the two prunings it was; `other` for steps we know nothing about."""
KINDS: tuple[Kind, ...] = get_args(Kind)
NONE, FLOAT = "none", "float32"


def is_finetuning(step: str) -> bool:
    """Whether a step fine-tunes: its name begins so, after that of the package or submission it comes with."""
    return step.rpartition("/")[2].startswith("finetune")


class Compression(BaseModel):
    """The kinds of compression, and the level of each where it is known.

    Attributes:
        kinds: in the order of `KINDS`; empty for a dense model in floating point.
        pruning_ratio: share of channels removed.
        sparsity: share of weights that are zero.
        low_rank: share of MACs that low rank removed.
        weight_bits: bits of a weight; None for floating point.
        activation_bits: bits of an activation; None for floating point.
    """

    model_config = ConfigDict(frozen=True, extra="forbid")
    kinds: tuple[Kind, ...] = ()
    pruning_ratio: float | None = Field(default=None, gt=0, lt=1)
    sparsity: float | None = Field(default=None, gt=0, lt=1)
    low_rank: float | None = Field(default=None, gt=0, lt=1)
    weight_bits: int | None = Field(default=None, ge=1, le=32)
    activation_bits: int | None = Field(default=None, ge=1, le=32)

    @field_validator("kinds")
    @classmethod
    def _each_once_and_in_order(cls, kinds: tuple[Kind, ...]) -> tuple[Kind, ...]:
        if list(kinds) != [kind for kind in KINDS if kind in kinds]:
            raise ValueError(f"expected each kind once, in the order {', '.join(KINDS)}")
        return kinds

    @classmethod
    def of_steps(cls, steps: Iterable[Mapping[str, Any]]) -> Self:
        """Read the compression off a recipe's steps; fine-tuning does not compress."""
        found: dict[str, Any] = {}
        kinds: set[str] = set()
        for step in steps:
            match step["step"]:
                case "prune-channels":
                    kinds.add("structured")
                    found["pruning_ratio"] = step.get("ratio")
                case "prune-weights":
                    kinds.add("unstructured")
                    found["sparsity"] = _sparsity(step)
                case "low-rank":
                    kinds.add("low-rank")
                    found["low_rank"] = step.get("ratio")
                case "quantize":
                    kinds.add("quantised")
                    found |= {key: step.get(key) for key in ("weight_bits", "activation_bits")}
                case name if not is_finetuning(name):
                    kinds.add("other")
        try:
            return cls(kinds=tuple(kind for kind in KINDS if kind in kinds), **found)
        except ValidationError:  # a foreign step that borrowed a built-in step's name
            return cls(kinds=("other",))

    @property
    def levels(self) -> dict[Kind, float]:
        """How far each kind goes where that is known: the share removed, or the bits of a weight."""
        levels: dict[Kind, float | None] = {
            "structured": self.pruning_ratio, "unstructured": self.sparsity, "pruned": self.sparsity,
            "low-rank": self.low_rank, "quantised": self.weight_bits,
        }  # fmt: skip
        return {kind: level for kind in self.kinds if (level := levels.get(kind)) is not None}

    @property
    def precision(self) -> str:
        """Bits of weights and activations: "W8A8", "W1" for float activations, "float32", "quantised" if unknown."""
        return self._bits() if "quantised" in self.kinds else FLOAT

    def at_least(self, other: Compression) -> bool:
        """Say whether this is the same kind of compression as `other`, and goes as far or further in every figure.

        A level that one of the two does not state is not comparable, so it is never "at least"; float activations
        count as 32 bits.
        """
        if self.kinds != other.kinds or "other" in self.kinds:
            return False
        shares = ((self.pruning_ratio, other.pruning_ratio), (self.sparsity, other.sparsity))
        for ours, theirs in (*shares, (self.low_rank, other.low_rank)):
            if theirs is not None and (ours is None or ours < theirs):
                return False
        if "pruned" in self.kinds and self.sparsity is None:
            return False
        bits = ((self.weight_bits, other.weight_bits), (self.activation_bits, other.activation_bits))
        return all((ours or 32) <= (theirs or 32) for ours, theirs in bits)

    def __str__(self) -> str:
        """Write it in a few words: `none`, `channels −50 %`, `sparse 90 % + W8A8`."""
        parts = []
        for kind in self.kinds:
            match kind:
                case "structured":
                    parts.append(_level("channels", self.pruning_ratio, before=MINUS))
                case "unstructured" | "pruned":
                    parts.append(_level("sparse" if kind == "unstructured" else "pruned", self.sparsity))
                case "low-rank":
                    parts.append(_level("low rank", self.low_rank, before=MINUS))
                case "quantised":
                    parts.append(self._bits())
                case _:
                    parts.append("other")
        return " + ".join(parts) or NONE

    def _bits(self) -> str:
        if self.weight_bits is None:
            return "quantised"
        return f"W{self.weight_bits}" + (f"A{self.activation_bits}" if self.activation_bits else "")


MINUS = "\u2212"


def _sparsity(step: Mapping[str, Any]) -> float | None:
    """Two of every four weights are half of them, whatever `sparsity` says beside a pattern."""
    kept, _, block = str(step.get("pattern") or "").partition(":")
    if kept.isdigit() and block.isdigit():
        return 1 - int(kept) / int(block)
    return step.get("sparsity")


def _level(word: str, share: float | None, *, before: str = "") -> str:
    return word if share is None else f"{word} {before}{100 * share:.4g} %"
