"""Entries find their cell in the paper's grid, and the paper's figures stay with their own radius."""

import pytest
from papers_grid import FIGURES, entry, grid

from bench.paper.study import NOTHING, is_adversarial, place_of
from bench.recipe import load_recipe
from bench.verdicts import Alarm

FATAL = Alarm(name="twin-disagrees", fatal=True, evidence="made up")


@pytest.mark.parametrize(
    ("recipe", "expected"),
    [
        ("none", ("none", "none")),
        ("ft", ("none", "clean")),
        ("advft", ("none", "adversarial")),
        ("prune50", ("channels −50 %", "none")),
        ("prune50-ft", ("channels −50 %", "clean")),
        ("quant1w-advft", ("W1A8", "adversarial")),
        ("quant8-trades", None),
        ("prune50-quant8-advft", None),
        ("prune50-advft-advft", None),
        ("advft-prune50", None),
        ("sparse90-advft", None),
    ],
)
def test_a_recipe_has_a_cell_if_the_paper_has_it(recipe, expected):
    place = place_of(entry(recipe, 500))
    assert (place and (str(place.compression), place.finetuning)) == expected
    assert load_recipe(recipe).steps == entry(recipe, 500).recipe.steps


def test_rows_are_in_order_whatever_was_measured():
    found = grid(entry("quant2", 500), entry("prune30", 500), entry("prune50-quant8", 500))
    assert [str(row) for row in found.rows] == [
        "none", "channels −10 %", "channels −30 %", "channels −50 %", "W16A16", "W4A4", "W2A2",
    ]  # fmt: skip
    assert [str(level) for level in found.levels] == ["channels −10 %", "channels −50 %", "W16A16", "W4A4"]
    assert [one.recipe.name for one in found.others] == ["prune50-quant8"]
    assert found.parents == ("bench:conv8", "bench:conv8-adv")
    assert len(found.missing("bench:conv8")) == len(found.missing("bench:conv8-adv")) == 3 * 5


def test_settings_of_its_own_then_the_most_images_stand_in_a_cell():
    few, first, second = entry("quant4", 5, n=10), entry("quant4", 50, n=500), entry("quant4", 60, n=500, seed=1)
    tried = entry("quant4+abc123", 70, n=1000)
    fatal = entry("quant16", 900, alarms=(FATAL,))
    found = grid(tried, second, few, first, fatal)
    assert list(found.cells.values()) == [first]
    assert found.variants == (tried,)
    assert found.left_out == (fatal,)
    assert len(found.missing("bench:conv8")) == 3 * 5 - 1


def test_figures_stay_at_their_own_radius_and_with_their_own_network():
    level = FIGURES[2].compression
    here = grid()
    assert here.figure("bench:conv8", level) == FIGURES[2]
    assert here.figure("bench:conv8-adv", level) == FIGURES[4]
    assert here.figure("bench:resnet20", level) is None
    assert here.figure("bench:conv8", NOTHING) is None
    elsewhere = grid(track="fashion-mnist-linf-v1")
    assert elsewhere.figure("bench:conv8", level) is None
    assert elsewhere.levels == here.levels
    assert grid(track="cifar10-adverfine-v1").levels == ()


@pytest.mark.parametrize(
    ("model", "expected"),
    [
        ("bench:conv8", False), ("bench:conv8-adv", True), ("autoattack:resnet18", False),
        ("robustbench:Wong2020Fast", True), ("robustbench:Standard", False),
    ],
)  # fmt: skip
def test_who_was_trained_adversarially(model, expected):
    assert is_adversarial(model) is expected
