"""What an entry's recipe does, in few words: what the page filters by, and what the plots draw lines through."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

FLOAT, CLEAN, ADVERSARIAL, NO_FINETUNING = "float32", "clean", "adversarial", "none"
_KINDS = {
    "prune-channels": "channels pruned",
    "prune-weights": "weights pruned",
    "low-rank": "low rank",
    "quantize": "quantised",
}
_FINETUNING = {"finetune-clean": CLEAN, "finetune-adversarial": ADVERSARIAL}


@dataclass(frozen=True, kw_only=True)
class Facets:
    """What a recipe does.

    Attributes:
        kinds: of compression, "channels pruned"; empty where nothing is compressed.
        bits: "W8A8", or "float32" where nothing is quantised.
        finetuning: "none", "clean", "adversarial", or the step's own name.
        levels: how far each kind goes: the share removed, or weight bits.
    """

    kinds: tuple[str, ...]
    bits: str
    finetuning: str
    levels: dict[str, float]


def facets(steps: Sequence[dict[str, Any]]) -> Facets:
    """Read a recipe's steps, every setting spelled out; a step of somebody's own is a kind of its own."""
    bits, finetuning = FLOAT, NO_FINETUNING
    levels: dict[str, float | None] = {}
    for step in steps:
        name = str(step["step"])
        _, _, kind = name.rpartition("/")
        if kind.startswith("finetune-"):
            finetuning = _FINETUNING.get(name, kind.removeprefix("finetune-"))
            continue
        if name == "quantize":
            bits = f"W{step.get('weight_bits')}A{step.get('activation_bits')}"
        levels[_KINDS.get(name, name)] = _level(step)
    known = {kind: level for kind, level in levels.items() if level is not None}
    return Facets(kinds=tuple(levels), bits=bits, finetuning=finetuning, levels=known)


def _level(step: dict[str, Any]) -> float | None:
    if step.get("pattern") == "2:4":
        return 0.5
    values = (step.get(key) for key in ("weight_bits", "ratio", "sparsity"))
    return next((float(value) for value in values if isinstance(value, int | float)), None)
