"""The names of the recipes that come with the bench: `prune50-quant8-advft` is three words, and each word is a step."""

from __future__ import annotations

import re
from collections.abc import Callable, Iterable, Iterator
from typing import Any

Table = dict[str, Any]

_DEEP = 0.9
"""Share of channels removed, from which on fine-tuning begins gently."""

_COMPRESSIONS = (
    "none",
    *(f"quant{bits}" for bits in (16, 8, 6, 4, 3, 2)),
    "quant1w",
    *(f"prune{percent}" for percent in range(10, 100, 10)),
    "sparse90",
    "nm24",
    "lowrank50",
    "prune50-quant8",
    "prune50-quant4",
)


_CORNERS = ("prune50", "prune90", "quant8", "quant4", "prune50-quant8")
_OTHER_OBJECTIVES = ("trades", "fast", "nfgsm", "distill")


def listed_names() -> list[str]:
    """Return the names worth listing: each kind of compression by itself, then fine-tuned clean, then adversarially.

    A few of them come with the other objectives, too. Any other sequence of the same words is a recipe as well.
    """
    tried = [name + end for name in _COMPRESSIONS[1:] for end in ("", "-ft", "-advft")]
    return ["none", *tried, *(f"{name}-{objective}" for name in _CORNERS for objective in _OTHER_OBJECTIVES)]


def spell(name: str) -> tuple[str, list[Table]] | None:
    """Return (one-line summary, step tables) of the recipe that a name spells; None if it spells none."""
    if name == "none":
        return "The parent as it is: what every other row is compared with", []
    found = [_read(word) for word in name.split("-")]
    if not all(found):
        return None
    phrases, steps = zip(*(pair for pair in found if pair), strict=True)
    summary = ", then ".join(phrases)
    return summary[0].upper() + summary[1:], _eased_in(steps)


def _eased_in(steps: Iterable[Table]) -> list[Table]:
    """Let fine-tuning after deep pruning begin with a low rate, which then rises, and a small eps.

    At full rate and radius its first steps can kill every path through the few channels that are left: the network
    names one class for all images from then on (docs/pruning.md).
    """
    eased, deep = [], False
    for table in steps:
        deep = deep or (table["step"] == "prune-channels" and table["ratio"] >= _DEEP)
        if deep and table["step"].startswith("finetune-"):
            table = table | {"schedule": "one-cycle", "learning_rate": 0.02}
            if table["step"] != "finetune-clean":
                table |= {"ramp": 0.5}
        eased.append(table)
    return eased


def _read(word: str) -> tuple[str, Table] | None:
    """Return (phrase, step table) of one word."""
    for pattern, make in _WORDS.items():
        if match := re.fullmatch(pattern, word):
            return make(*match.groups())
    return None


def _quantize(weight: int, activation: int) -> tuple[str, Table]:
    table: Table = {"step": "quantize", "weight_bits": weight, "activation_bits": activation}
    if min(weight, activation) < 8:
        # Few levels need the best range, steps that learn, and ends that are finer (Esser et al., 2020).
        table |= {"first_last_bits": 8, "range": "mse", "learn_steps": True}
    return f"W{weight}A{activation}", table


_TWO_DIGITS = r"([1-9]\d)"
_WORDS: dict[str, Callable[..., tuple[str, Table]]] = {
    rf"prune{_TWO_DIGITS}": lambda percent: (
        f"{percent} % of all channels removed",
        {"step": "prune-channels", "ratio": int(percent) / 100},
    ),
    rf"sparse{_TWO_DIGITS}": lambda percent: (
        f"{percent} % of all weights zero",
        {"step": "prune-weights", "sparsity": int(percent) / 100},
    ),
    r"nm24": lambda: ("two of every four weights zero", {"step": "prune-weights", "pattern": "2:4"}),
    rf"lowrank{_TWO_DIGITS}": lambda percent: (
        f"{percent} % of MACs removed by low rank",
        {"step": "low-rank", "ratio": int(percent) / 100},
    ),
    r"quant([2-9]|1[0-6])": lambda bits: _quantize(int(bits), int(bits)),
    r"quant1w": lambda: _quantize(1, 8),
    r"ft": lambda: ("clean fine-tuning", {"step": "finetune-clean"}),
    r"advft": lambda: ("adversarial fine-tuning", {"step": "finetune-adversarial"}),
    r"trades": lambda: ("fine-tuning with TRADES", {"step": "finetune-trades"}),
    r"fast": lambda: ("single-step adversarial fine-tuning", {"step": "finetune-fast"}),
    r"nfgsm": lambda: ("single-step adversarial fine-tuning with noise", {"step": "finetune-fast", "kind": "noise"}),
    r"distill": lambda: ("distillation from the uncompressed network", {"step": "finetune-distill"}),
}


def words() -> Iterator[str]:
    """Yield the words as people write them."""
    ranges = (f"{word}10 … {word}99" for word in ("prune", "sparse", "lowrank"))
    yield from (*ranges, "nm24", "quant2 … quant16", "quant1w", "ft", "advft", *_OTHER_OBJECTIVES)
