"""Which recipes a line may join."""

import pytest
from factories import make_entry, make_letters

from bench.recipe import Recipe, fingerprint
from bench.recipe_words import spell
from bench.render.plot.families import families


def entry_of(name, *, robust=0.5, **settings):
    """Make an entry of a spelt recipe, or of one changed with --set: settings as in `quantize__weight_bits`."""
    steps = Recipe(name="made-up", summary="", steps=tuple(spell(name.partition("+")[0])[1])).declared()
    return with_steps(name, [step | changes(step, settings) for step in steps], robust=robust)


def changes(step, settings):
    split = (key.partition("__") for key in settings)
    return {what: settings[f"{of}__{what}"] for of, _, what in split if of == step["step"].replace("-", "_")}


def with_steps(name, steps, *, robust=0.5):
    entry = make_entry(name, make_letters(robust, 0.9))
    record = entry.recipe.model_copy(update={"steps": tuple(steps), "fingerprint": fingerprint(tuple(steps))})
    return entry.model_copy(update={"recipe": record})


def joined(entries, kind):
    return {
        family.name: ([one.recipe.name for one, _ in family.levels], [one.recipe.name for one in family.whole])
        for family in families(entries, kind)
    }


def test_the_same_words_are_one_family_whatever_few_bits_make_of_the_settings():
    names = ["none", "advft", "quant8", "quant4", "quant8-advft", "quant4-advft", "quant4-trades", "quant2-trades"]
    found = joined([entry_of(name) for name in names], "quantised")
    assert found == {
        "no fine-tuning": (["quant4", "quant8"], ["none"]),
        "adversarial fine-tuning": (["quant4-advft", "quant8-advft"], ["advft"]),
        "quant…-trades": (["quant2-trades", "quant4-trades"], []),
    }


def test_fine_tuning_that_begins_gently_after_deep_pruning_is_in_the_family():
    found = joined([entry_of(name) for name in ("prune50-advft", "prune90-advft", "prune90-ft-advft")], "structured")
    assert found == {
        "adversarial fine-tuning": (["prune50-advft", "prune90-advft"], []),
        "prune90-ft-advft": (["prune90-ft-advft"], []),
    }


@pytest.mark.parametrize("other", ["quant4-advft+ac28e8", "averaged-w4a4"])
def test_another_rate_of_fine_tuning_is_another_family(other):
    slow = entry_of("quant4-advft", finetune_adversarial__learning_rate=0.03)
    entries = [entry_of("quant8-advft"), with_steps(other, slow.recipe.steps), entry_of("quant2-advft")]
    assert joined(entries, "quantised") == {
        "adversarial fine-tuning": (["quant2-advft", "quant8-advft"], []),
        other: ([other], []),
    }


def test_recipes_changed_alike_are_joined_with_each_other_and_the_uncompressed_one():
    alike = [
        entry_of(name, finetune_clean__batch_size=256, finetune_clean__learning_rate=0.04)
        for name in ("ft+000001", "quant8-ft+000002", "quant4-ft+000003")
    ]
    found = joined([*alike, entry_of("quant8-ft"), entry_of("ft")], "quantised")
    assert found == {
        "clean fine-tuning": (["quant8-ft"], ["ft"]),
        "quant4-ft+000003 … quant8-ft+000002": (["quant4-ft+000003", "quant8-ft+000002"], ["ft+000001"]),
    }


def test_bits_changed_with_set_make_no_second_point_of_the_spelt_line():
    changed = entry_of("quant8+000001", quantize__weight_bits=4)
    found = joined([entry_of("none"), entry_of("quant8"), entry_of("quant4"), changed], "quantised")
    assert found == {
        "no fine-tuning": (["quant4", "quant8"], ["none"]),
        "quant8+000001 … quant8": (["quant8+000001", "quant8"], ["none"]),
    }
    ratio = entry_of("prune50+000001", prune_channels__ratio=0.3)
    assert joined([entry_of("prune50"), ratio], "structured") == {"no fine-tuning": (["prune50+000001", "prune50"], [])}


def test_the_usual_come_first_then_lines_then_the_most_robust():
    names = {"quant8-trades": 0.7, "quant4-fast": 0.2, "quant8-fast": 0.3, "quant1w": 0.8, "quant8": 0.1}
    found = families([entry_of(name, robust=robust) for name, robust in names.items()], "quantised")
    assert [family.name for family in found] == ["no fine-tuning", "quant…-fast", "quant1w", "quant8-trades"]
