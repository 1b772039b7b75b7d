"""Recipes that extend others, and pin what they were made for."""

import pytest

from bench.errors import UsageError
from bench.recipe import load_recipe, parse_recipe

STEP = '[[steps]]\nstep = "quantize"\n'


def sentence(text: str, **more) -> str:
    with pytest.raises(UsageError) as refused:
        parse_recipe('summary = "S"\n' + text, name="mine", **more)
    return str(refused.value)


def submit(folder, name: str, text: str):
    (folder / name).mkdir()
    (folder / name / "recipe.toml").write_text('summary = "S"\n' + text)


def test_the_base_comes_first_then_what_is_set_then_the_own_steps():
    text = 'summary = "S"\nextends = "quant8-advft"\n[set]\nsteps.0.weight_bits = 4\n"steps.1.epochs" = 3\n'
    recipe = parse_recipe(text + '[[steps]]\nstep = "finetune-clean"\n', name="mine")
    quantize, robust, _clean = recipe.resolve()
    assert [table["step"] for table in recipe.steps] == ["quantize", "finetune-adversarial", "finetune-clean"]
    assert (quantize.weight_bits, quantize.activation_bits, robust.epochs) == (4, 8, 3)
    assert load_recipe("quant8-advft").resolve()[0].weight_bits == 8


def test_pins_are_inherited_unless_said_otherwise(tmp_path):
    submit(tmp_path, "base", 'track = "fashion-mnist-linf-v1"\nmodel = "bench:conv8"\nseeds = [1, 2]\n' + STEP)
    submit(tmp_path, "heir", 'extends = "base"\nseeds = [0]\n')
    heir = load_recipe("heir", submissions=tmp_path)
    assert (heir.track, heir.model, heir.seeds) == ("fashion-mnist-linf-v1", "bench:conv8", (0,))
    assert heir.steps == ({"step": "quantize"},)


def test_a_folder_is_a_name(tmp_path):
    submit(tmp_path, "ours", STEP)
    assert load_recipe(str(tmp_path / "ours")).name == "ours"


def test_a_circle_is_refused(tmp_path):
    submit(tmp_path, "one", 'extends = "two"\n')
    submit(tmp_path, "two", 'extends = "one"\n')
    with pytest.raises(UsageError, match="Recipe two: it extends itself, by way of one"):
        load_recipe("one", submissions=tmp_path)


def test_a_summary_that_would_write_to_the_terminal_is_refused():
    with pytest.raises(UsageError, match="expected summary = "):
        parse_recipe(r'summary = "\u001b[31mred"', name="mine")


def test_a_circle_of_files_is_refused(tmp_path):
    (tmp_path / "mine.toml").write_text(f'summary = "S"\nextends = "{tmp_path}/other.toml"\n')
    (tmp_path / "other.toml").write_text(f'summary = "S"\nextends = "{tmp_path}/mine.toml"\n')
    with pytest.raises(UsageError, match=r"Recipe other: it extends itself, by way of .*mine\.toml"):
        load_recipe(f"{tmp_path}/mine.toml")


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("extends = 3\n", 'expected extends = "NAME" ("quant8-advft", say), got 3.'),
        ('extends = "quant8-advtf"\n', "There is no recipe 'quant8-advtf'. Did you mean 'quant8-advft'?"),
        ("[set]\nsteps.0.weight_bits = 4\n", "expected [set] as a table of settings"),
        ('extends = "quant8"\n[set]\nsteps.3.weight_bits = 4\n', "quant8 has 1 steps, counted from 0."),
        ('extends = "quant8"\n[set]\nweight_bits = 4\n', "expected steps.INDEX.KEY = VALUE"),
        ('extends = "quant8"\n[set]\nsteps.0.step = "low-rank"\n', "expected steps.INDEX.KEY = VALUE"),
        ('model = "conv8"\n', "Recipe mine, model: Expected a model as SOURCE:NAME"),
        ("track = 1\n", "expected track ="),
        ("seeds = 3\n", "expected seeds = [0, 1, 2]"),
        ("seeds = []\n", "got []."),
        ("seeds = [1, 1]\n", "got [1, 1]."),
        ("seeds = [-1]\n", "got [-1]."),
        ("seeds = [true]\n", "got [True]."),
        ('extend = "quant8"\n', "unknown key 'extend'. Did you mean 'extends'?"),
        ('[[steps]]\nstep = "other/mine"\n', "step 0: there is no step 'other/mine'."),
    ],
)
def test_what_a_file_may_not_say_is_one_sentence(text, expected):
    assert expected in sentence(text)


def test_settings_of_an_extended_recipe_are_checked_like_written_ones():
    recipe = parse_recipe('summary = "S"\nextends = "quant8"\n[set]\nsteps.0.weight_bit = 4\n', name="mine")
    with pytest.raises(UsageError, match=r"unknown setting 'weight_bit'\. Did you mean 'weight_bits'"):
        recipe.resolve()
