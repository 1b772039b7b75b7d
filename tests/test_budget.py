"""A recipe that asks for more training images than there are is refused before anything is loaded or trained."""

import pytest

from bench.budget import check_budget
from bench.errors import UsageError
from bench.recipe import Recipe, load_recipe
from bench.recipe_changes import override


def recipe(*steps: dict) -> Recipe:
    return Recipe(name="mine", summary="", steps=steps)


CLEAN, ROBUST = {"step": "finetune-clean"}, {"step": "finetune-adversarial"}


@pytest.mark.parametrize(
    ("steps", "found"),
    [
        ([CLEAN | {"epochs": 4}], "Recipe mine, step finetune-clean: the track leaves 300 training images .* = 4"),
        ([CLEAN | {"epochs": 2}, ROBUST | {"epochs": 2}], "step finetune-clean: the track leaves 100 training images"),
        ([CLEAN | {"epochs": 3}, ROBUST], "step finetune-adversarial: the track leaves this step no training images"),
    ],
)  # fmt: skip
def test_what_is_too_much_is_said(steps, found):
    with pytest.raises(UsageError, match=found):
        check_budget(recipe(*steps), 100, 300)


@pytest.mark.parametrize(
    "steps",
    [[], [CLEAN], [CLEAN | {"epochs": 3}], [CLEAN, ROBUST], [CLEAN | {"epochs": 3.3, "holdout": 50}]],
)
def test_what_fits_is_let_through(steps):
    check_budget(recipe({"step": "quantize"}, *steps), 100, 300)


def test_the_catalogue_fits_every_track():
    check_budget(load_recipe("prune50-quant8-advft"), 50_000, 150_000)


def test_a_recipe_quantises_once():
    with pytest.raises(UsageError, match="quant8-quant4: expected one quantize step, got 2"):
        load_recipe("quant8-quant4")


def test_settings_of_the_command_line_are_checked_too():
    with pytest.raises(UsageError, match="the track leaves 300 training images"):
        check_budget(override(load_recipe("advft"), ["steps.0.epochs=5"]), 100, 300)
