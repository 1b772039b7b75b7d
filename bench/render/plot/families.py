"""Which recipes differ in the level of one compression alone, so that a line may join them."""

from __future__ import annotations

import re
from collections.abc import Iterator, Sequence
from dataclasses import dataclass

from bench.compression import Kind, is_finetuning
from bench.entry import Entry
from bench.recipe_changes import changed_settings, own_name
from bench.recipe_record import RecipeRecord
from bench.recipe_words import spell

_LEVELS = {
    "prune-channels": "ratio", "prune-weights": "sparsity", "low-rank": "ratio", "quantize": "weight_bits",
}  # fmt: skip
"""The setting of each step that says how far it goes."""
_PLAIN = ("prune…", "sparse…", "lowrank…", "quant…")
USUAL = {(): "no fine-tuning", ("ft",): "clean fine-tuning", ("advft",): "adversarial fine-tuning"}
"""What plain compression is followed by in the figures of papers: these families are called after it."""

_Key = tuple[tuple[str, ...], tuple[str, ...]]
"""Words and settings: recipes that agree in both are joined."""


@dataclass(frozen=True, kw_only=True)
class Family:
    """Entries whose recipes differ in the level of one compression alone.

    Attributes:
        name: for the legend.
        levels: the compressed entries, each with its level, from the least value to the largest.
        whole: those made the same way without the compression.
    """

    name: str
    levels: tuple[tuple[Entry, float], ...]
    whole: tuple[Entry, ...]


@dataclass(frozen=True, kw_only=True)
class _Make:
    """How a recipe is made, apart from its level.

    Attributes:
        family: whom it is joined with.
        also: another family that it is the first member of.
        whole: the family key of the same recipe without its compression.
    """

    family: _Key
    also: _Key
    whole: _Key


def families(entries: Sequence[Entry], kind: Kind) -> list[Family]:
    """Group the entries that have one kind of compression, or none, and differ in its level alone.

    Recipes of the same words are one family whatever the level makes of the other settings, as few bits do. Of those
    changed with --set, and of people's own, each setting but the level has to be the same.

    Args:
        entries: of one track and model.
        kind: of the compression.

    Returns:
        Families, the usual ones first, then those that have several levels, then the most robust. An entry may be in
        two: `quant8` is one of the words `quant…`, and the first of those whose bits were changed with --set.
    """
    done = [(entry, entry.recipe.compression) for entry in entries]
    levelled = [(entry, does.levels[kind]) for entry, does in done if does.kinds == (kind,) and kind in does.levels]
    uncompressed = [(entry, _make(entry.recipe).family) for entry, does in done if not does.kinds]
    made = [(_make(entry.recipe), entry, level) for entry, level in levelled]
    found = []
    for key, whole in {make.family: make.whole for make, _, _ in made}.items():
        levels = sorted(
            ((entry, level) for make, entry, level in made if key in (make.family, make.also)),
            key=lambda member: (member[1], member[0].recipe.name),
        )
        same = tuple(entry for entry, theirs in uncompressed if theirs == whole)
        found.append(Family(name=_name(key, levels), levels=tuple(levels), whole=same))
    return sorted(found, key=_place)


def _make(recipe: RecipeRecord) -> _Make:
    base = own_name(recipe.name)
    steps, spelt = recipe.steps, spell(base)
    if recipe.file or spelt is None or len(spelt[1]) != len(steps):
        return _make_own(recipe)
    words = [] if base == "none" else base.split("-")
    settings, level_set = [], set()
    for path, (value, _) in changed_settings(recipe.name, steps).items():
        _, place, setting = path.split(".", 2)
        if setting == _LEVELS.get(steps[int(place)]["step"]):
            level_set.add(steps[int(place)]["step"])
        else:
            settings.append((steps[int(place)]["step"], f"{setting}={value}"))
    spoken = tuple(sorted(f"{step}.{text}" for step, text in settings))
    template = tuple(re.sub(r"\d+", "…", word) for word in words)  # words that fine-tune have no digits
    literal = (tuple(words), spoken)
    return _Make(
        # The word for 4 bits says more than the number of bits, which is all that --set has changed.
        family=literal if "quantize" in level_set else (template, spoken),
        also=literal,
        whole=(
            tuple(word for word, step in zip(words, steps, strict=True) if is_finetuning(step["step"])),
            tuple(sorted(f"{step}.{text}" for step, text in settings if is_finetuning(step))),
        ),
    )


def _make_own(recipe: RecipeRecord) -> _Make:
    """Take a recipe by its settings alone: nobody knows what its name says."""
    steps = [(str(step["step"]), step) for step in recipe.steps]
    code = (recipe.own_code.sha256,) if recipe.own_code else ()

    def spoken(only_finetuning: bool) -> tuple[str, ...]:
        chosen = ((name, step) for name, step in steps if is_finetuning(name) or not only_finetuning)
        return tuple(
            f"{name}.{setting}={value}"
            for name, step in chosen
            for setting, value in step.items()
            if setting != _LEVELS.get(name)
        )

    family = ((), code + spoken(only_finetuning=False))
    return _Make(family=family, also=family, whole=((), code + spoken(only_finetuning=True)))


def _name(key: _Key, levels: Sequence[tuple[Entry, float]]) -> str:
    words, settings = key
    if words and words[0] in _PLAIN and words[1:] in USUAL and not settings:
        return USUAL[words[1:]]
    names = list(dict.fromkeys(_recipes(levels)))
    if len(names) == 1:
        return names[0]
    spelt = not settings and any("…" in word for word in words)
    return "-".join(words) if spelt else f"{names[0]} … {names[-1]}"


def _recipes(levels: Sequence[tuple[Entry, float]]) -> Iterator[str]:
    return (entry.recipe.name for entry, _ in levels)


def _place(family: Family) -> tuple[int, bool, float, str]:
    names = list(USUAL.values())
    usual = names.index(family.name) if family.name in names else len(names)
    several = len({level for _, level in family.levels}) > 1 or bool(family.whole)
    return usual, not several, -max(entry.verdicts.robust.rate for entry, _ in family.levels), family.name
