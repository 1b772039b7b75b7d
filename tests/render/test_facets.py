"""A recipe in few words."""

import pytest

from bench.recipe import load_recipe
from bench.render.facets import Facets, facets


@pytest.mark.parametrize(
    ("recipe", "levels", "bits", "finetuning"),
    [
        ("none", {}, "float32", "none"),
        ("quant8-ft", {"quantised": 8}, "W8A8", "clean"),
        ("quant1w", {"quantised": 1}, "W1A8", "none"),
        ("sparse90", {"weights pruned": 0.9}, "float32", "none"),
        ("nm24", {"weights pruned": 0.5}, "float32", "none"),
        ("lowrank50", {"low rank": 0.5}, "float32", "none"),
        ("prune30-quant4-advft", {"channels pruned": 0.3, "quantised": 4}, "W4A4", "adversarial"),
    ],
)
def test_the_words_of_the_usual_recipes(recipe, levels, bits, finetuning):
    expected = Facets(kinds=tuple(levels), bits=bits, finetuning=finetuning, levels=levels)
    assert facets(load_recipe(recipe).steps) == expected


def test_a_step_of_somebodys_own_is_a_kind_of_its_own():
    does = facets([{"step": "mine/shrink", "strength": 3}, {"step": "finetune-trades"}])
    assert does == Facets(kinds=("mine/shrink",), bits="float32", finetuning="trades", levels={})
