"""What a recipe may say, what it may not, and the one sentence that says where it went wrong."""

import re
from pathlib import Path

import pytest

from bench.errors import MissingError, UsageError
from bench.recipe import STEPS, fingerprint, load_recipe, parse_recipe, settings, submission_names
from bench.recipe_changes import override
from bench.recipe_words import listed_names, spell


def parse(steps, summary="A recipe"):
    return parse_recipe(f'summary = "{summary}"\n{steps}', name="mine")


def step(name, setting=""):
    return f'[[steps]]\nstep = "{name}"\n{setting}\n'


def digits_of(recipe):
    return fingerprint(settings(recipe.resolve(), recipe))


def sentence(act):
    with pytest.raises(UsageError) as caught:
        act()
    text = str(caught.value)
    assert "\n" not in text
    assert text.endswith((".", "?"))
    return text


# What comes with the bench:


def test_every_recipe_loads_and_resolves():
    for name in listed_names():
        recipe = load_recipe(name)
        assert recipe.name == name
        assert recipe.summary, name
        assert not recipe.summary.endswith("."), name
        assert len(recipe.resolve()) == len(recipe.steps), name


def test_the_untouched_parent_is_a_recipe_without_steps():
    assert load_recipe("none").resolve() == ()


def test_recipes_do_what_their_names_say():
    for name in listed_names():
        parts, steps = name.split("-"), [table["step"] for table in load_recipe(name).steps]
        assert ("quantize" in steps) == any(part.startswith("quant") for part in parts)
        assert ("prune-channels" in steps) == any(part.startswith("prune") for part in parts)
        assert ("finetune-clean" in steps) == ("ft" in parts)
        assert ("finetune-adversarial" in steps) == ("advft" in parts)
        for objective in ("trades", "distill"):
            assert (f"finetune-{objective}" in steps) == (objective in parts)
        assert ("finetune-fast" in steps) == ("fast" in parts or "nfgsm" in parts)


@pytest.mark.parametrize(
    ("name", "steps"),
    [
        ("prune30-quant4-advft", ["prune-channels", "quantize", "finetune-adversarial"]),
        ("prune50-ft-quant8", ["prune-channels", "finetune-clean", "quantize"]),
        ("advft", ["finetune-adversarial"]),
    ],
)
def test_any_sequence_of_words_is_a_recipe(name, steps):
    recipe = load_recipe(name)
    assert [table["step"] for table in recipe.steps] == steps
    assert len(recipe.resolve()) == len(steps)


def test_words_carry_their_numbers():
    (prune, quantize) = load_recipe("prune30-quant4").steps
    assert prune["ratio"] == 0.3
    assert (quantize["weight_bits"], quantize["activation_bits"], quantize["first_last_bits"]) == (4, 4, 8)
    (binary,) = load_recipe("quant1w").steps
    assert (binary["weight_bits"], binary["activation_bits"]) == (1, 8)
    assert "first_last_bits" not in load_recipe("quant8").steps[0]


@pytest.mark.parametrize("name", ["prune90-ft", "prune90-advft", "prune90-quant8-trades", "prune95-nfgsm"])
def test_fine_tuning_begins_gently_where_little_is_left(name):
    *_, tuning = load_recipe(name).resolve()
    assert (tuning.schedule, tuning.learning_rate) == ("one-cycle", 0.02)
    assert getattr(tuning, "ramp", 0.5) == 0.5
    rest = name.partition("-")[2]
    assert load_recipe(f"prune80-{rest}").resolve()[-1] == load_recipe(rest).resolve()[-1]


@pytest.mark.parametrize(
    "name", ["", "quant", "quant1", "quant17", "quant08", "prune5", "prune05", "none-ft", "quant8-"]
)
def test_a_name_that_is_not_made_of_words_spells_nothing(name):
    assert spell(name) is None


def test_no_two_recipes_are_the_same():
    assert len({digits_of(load_recipe(name)) for name in listed_names()}) == len(listed_names())


@pytest.mark.parametrize("name", sorted(STEPS))
def test_every_step_has_defaults_and_is_frozen(name):
    (built,) = parse(step(name)).resolve()
    field = next(iter(vars(built)))
    with pytest.raises(AttributeError):
        setattr(built, field, None)


# What a file may not say:


@pytest.mark.parametrize(
    ("setting", "expected"),
    [
        ('weight_bits = "8"', "weight_bits: expected a valid integer, got '8'."),
        ("weight_bits = 8.0", "weight_bits: expected a valid integer, got 8.0."),
        ("weight_bits = true", "weight_bits: expected a valid integer, got True."),
        ("weight_bits = [8]", "weight_bits: expected a valid integer, got [8]."),
        ("weight_bits = 0", "Expected weight_bits from 1 to 16, got 0."),
        ("weight_bits = 17", "Expected weight_bits from 1 to 16, got 17."),
        ("weight_bits = 2026-11-22", "weight_bits: expected a valid integer, got '2026-11-22'."),
        ('range = "median"', "range: expected 'minmax', 'percentile' or 'mse', got 'median'."),
        ("percentile = nan", "Expected percentile above 50 and at most 100, got nan."),
        ("weigth_bits = 8", "unknown setting 'weigth_bits'. Did you mean 'weight_bits'?"),
    ],
)
def test_a_bad_quantize_setting_is_one_sentence_that_names_the_place(setting, expected):
    assert sentence(parse(step("quantize", setting)).resolve) == f"Recipe mine, step 0 (quantize): {expected}"


@pytest.mark.parametrize(
    ("name", "setting", "key"),
    [
        ("prune-channels", "ratio = 2", "ratio"),
        ("prune-channels", "ratio = 0", "ratio"),
        ("prune-channels", "ratio = nan", "ratio"),
        ("prune-channels", 'ratio = "half"', "ratio"),
        ("prune-channels", 'importance = "l3"', "importance"),
        ("prune-channels", "round_to = 0", "round_to"),
        ("prune-weights", "sparsity = 1.0", "sparsity"),
        ("prune-weights", 'pattern = "4:8"', "pattern"),
        ("prune-weights", 'pattern = "2:4"\nsparsity = 0.9', "sparsity"),
        ("low-rank", "ratio = 0.0", "ratio"),
        ("finetune-clean", "epochs = 0", "epochs"),
        ("finetune-clean", 'epochs = "many"', "epochs"),
        ("finetune-clean", "batch_size = -1", "batch_size"),
        ("finetune-clean", 'optimizer = "adam"', "optimizer"),
        ("finetune-adversarial", "attack_steps = 0", "attack_steps"),
        ("finetune-adversarial", 'random_start = "yes"', "random_start"),
        ("finetune-adversarial", "[steps.attack]\nsteps = 7", "attack"),
    ],
)
def test_every_step_checks_its_settings(name, setting, key):
    text = sentence(parse(step("prune-channels") + step(name, setting)).resolve)
    assert text.startswith(f"Recipe mine, step 1 ({name}): ")
    assert key in text


@pytest.mark.parametrize(
    "setting", ["learning_rate = nan", "learning_rate = inf", "momentum = -3", "weight_decay = -1"]
)
def test_fine_tuning_refuses_figures_no_descent_can_use(setting):
    for name in ("finetune-clean", "finetune-adversarial"):
        text = sentence(parse(step(name, setting)).resolve)
        assert text.startswith(f"Recipe mine, step 0 ({name}): expected ")
        assert setting.partition(" ")[0] in text


@pytest.mark.parametrize("value", ["nan", "inf", "0", "-1"])
def test_adversarial_fine_tuning_refuses_steps_no_attack_can_take(value):
    text = sentence(parse(step("finetune-adversarial", f"step_ratio = {value}")).resolve)
    assert text == "Recipe mine, step 0 (finetune-adversarial): expected attack_steps ≥ 1 and step_ratio > 0."


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("", "Recipe mine: expected summary ="),
        ("summary = 3", "got 3."),
        ('sumary = "s"', "unknown key 'sumary'. Did you mean 'summary'?"),
        ('summary = "s"\n[[step]]', "unknown key 'step'. Did you mean 'steps'?"),
        ('summary = "s"\n[steps]\nstep = "quantize"', "expected steps as [[steps]] tables, got"),
        ('summary = "s"\nsteps = ["quantize"]', "expected steps as [[steps]] tables, got"),
        ('summary = "s"\n[[steps]]\nweight_bits = 8', 'step 0: expected step = "NAME"'),
        ('summary = "s"\n[[steps]]\nstep = ["quantize"]', 'step 0: expected step = "NAME"'),
        ("summary == 3", "Recipe mine is not valid TOML"),
    ],
)
def test_a_file_of_another_form_is_refused_before_any_step_is_built(text, expected):
    assert expected in sentence(lambda: parse_recipe(text, name="mine"))


def test_an_unknown_step_names_the_place_and_is_answered_with_the_nearest():
    assert sentence(lambda: parse(step("finetune-clean") + step("quantise"))) == (
        "Recipe mine, step 1: there is no step 'quantise'. Did you mean 'quantize'?"
    )


# Finding one:


def test_an_unknown_recipe_is_answered_with_the_nearest():
    assert sentence(lambda: load_recipe("quant8-advtf")) == (
        "There is no recipe 'quant8-advtf'. Did you mean 'quant8-advft'? Recipes are made of the words "
        "prune10 … prune99, sparse10 … sparse99, lowrank10 … lowrank99, nm24, quant2 … quant16, quant1w, ft, advft, "
        "trades, fast, nfgsm, distill."
    )


def test_a_recipe_in_a_file_of_ones_own(tmp_path):
    (tmp_path / "mine.toml").write_text('summary = "Mine"\n' + step("quantize", "weight_bits = 4"))
    assert load_recipe(str(tmp_path / "mine.toml")).resolve()[0].weight_bits == 4
    with pytest.raises(MissingError, match="There is no recipe file"):
        load_recipe(str(tmp_path / "other.toml"))


def test_a_submission_is_found_by_its_recipes_file_as_well(tmp_path):
    (tmp_path / "ours").mkdir()
    (tmp_path / "ours" / "recipe.toml").write_text('summary = "Ours"\n' + step("quantize"))
    found = load_recipe(str(tmp_path / "ours" / "recipe.toml"))
    assert (found.name, found.folder) == ("ours", str(tmp_path / "ours"))


def test_submissions_are_found_by_their_folder(tmp_path):
    (tmp_path / "ours").mkdir()
    (tmp_path / "ours" / "recipe.toml").write_text('summary = "Ours"\n' + step("quantize"))
    (tmp_path / "not-one").mkdir()
    assert submission_names(tmp_path) == ["ours"]
    assert load_recipe("ours", submissions=tmp_path).summary == "Ours"
    assert "Did you mean 'ours'?" in sentence(lambda: load_recipe("our", submissions=tmp_path))


def test_a_recipe_file_that_is_not_text(tmp_path):
    (tmp_path / "mine.toml").write_bytes(b'summary = "\xff"')
    text = sentence(lambda: load_recipe(str(tmp_path / "mine.toml")))
    assert text.startswith(f"Cannot read {tmp_path / 'mine.toml'} as text in UTF-8: ")


def test_no_file_takes_the_name_of_a_recipe(tmp_path):
    (tmp_path / "ours").mkdir()
    for path in (tmp_path / "ours" / "recipe.toml", tmp_path / "quant8.toml", tmp_path / "ours.toml"):
        path.write_text('summary = "Another"')
    for name in ("quant8", "ours"):
        path = tmp_path / f"{name}.toml"
        text = sentence(lambda path=path: load_recipe(str(path), submissions=tmp_path))
        assert text == f"There is a recipe called {name} already; give {path} a name of its own."


def test_no_folder_elsewhere_takes_the_name_of_a_submission(tmp_path):
    ours, other = tmp_path / "submissions" / "ours", tmp_path / "other" / "ours"
    for folder in (ours, other):
        folder.mkdir(parents=True)
        (folder / "recipe.toml").write_text('summary = "Ours"\n' + step("quantize"))
    assert load_recipe(str(ours), submissions=ours.parent).name == "ours"
    text = sentence(lambda: load_recipe(str(other), submissions=ours.parent))
    assert text == f"There is a recipe called ours already; give {other} a name of its own."
    assert load_recipe(str(other), submissions=tmp_path).name == "ours"


def test_a_submission_named_like_a_built_in_recipe_is_hidden(tmp_path):
    (tmp_path / "quant8").mkdir()
    (tmp_path / "quant8" / "recipe.toml").write_text('summary = "Another"')
    assert submission_names(tmp_path) == []
    assert load_recipe("quant8", submissions=tmp_path) == load_recipe("quant8")


# --set:


def test_override_changes_one_setting_and_leaves_the_original():
    original = load_recipe("prune50-quant8-advft")
    changed = override(original, ["steps.1.weight_bits=4", "steps.2.schedule=constant", "steps.0.ratio = 0.25"])
    prune, quantize, finetune = changed.resolve()
    assert (prune.ratio, quantize.weight_bits, finetune.schedule) == (0.25, 4, "constant")
    assert quantize.activation_bits == 8
    assert original.resolve()[1].weight_bits == 8
    assert digits_of(changed) != digits_of(original)


def test_a_changed_recipe_has_a_name_of_its_own():
    original = load_recipe("quant8")
    two, four, again = (override(original, [f"steps.0.weight_bits={bits}"]) for bits in (2, 4, 4))
    assert re.fullmatch(r"quant8\+[0-9a-f]{6}", two.name)
    assert len({original.name, two.name, four.name}) == 3
    assert four == again
    assert override(original, []) == original
    assert two.summary == f"{original.summary}, with steps.0.weight_bits=2"


@pytest.mark.parametrize(
    "assignment",
    [
        "weight_bits=4",
        "steps.0.weight_bits",
        "steps.x.weight_bits=4",
        "steps.-1.weight_bits=4",
        "summary=x",
        "=",
        "",
    ],
)
def test_override_says_how_it_is_written(assignment):
    text = sentence(lambda: override(load_recipe("quant8"), [assignment]))
    assert text == f"Expected --set steps.INDEX.KEY=VALUE (steps.0.weight_bits=4), got '{assignment}'."


def test_override_does_not_change_which_step_it_is():
    text = sentence(lambda: override(load_recipe("quant8"), ["steps.0.step=5"]))
    assert text == "--set changes settings, not which step it is: got 'steps.0.step=5'; write a recipe."


def test_override_counts_the_steps():
    text = sentence(lambda: override(load_recipe("quant8"), ["steps.1.weight_bits=4"]))
    assert text == "--set steps.1.weight_bits=4: recipe quant8 has 1 steps, counted from 0."


@pytest.mark.parametrize("assignment", ["steps.0.weight_bit=4", "steps.0.weight_bits=four", "steps.0.weight_bits="])
def test_overridden_settings_are_checked_like_written_ones(assignment):
    text = sentence(lambda: override(load_recipe("quant8"), [assignment]))
    assert text.startswith("Recipe quant8, step 0 (quantize): ")


def test_what_changes_nothing_is_the_recipe_itself():
    recipe = load_recipe("quant8")
    assert override(recipe, ["steps.0.calibration_images=512", "steps.0.weight_bits=8"]) == recipe


def test_the_same_settings_have_the_same_name_however_they_are_written():
    recipe = load_recipe("quant8-ft")
    ways = [["steps.1.epochs=1"], ["steps.1.epochs=1.0"], ["steps.1.epochs=1e0", "steps.1.batch_size=64"]]
    names = {override(recipe, changes).name for changes in ways}
    assert len(names) == 1
    assert override(recipe, ["steps.1.epochs=2"]).name not in names


@pytest.mark.parametrize("change", ["steps.0.weight_bits=4\nx=3", "steps.0.range=m\x1bse"])
def test_a_setting_is_one_line(change):
    assert "got 'steps.0." in sentence(lambda: override(load_recipe("quant8"), [change]))


@pytest.mark.parametrize("stem", ["quant8+better", "w8+0a1b2c", "mine--seed2", "two\nlines"])
def test_a_file_whose_name_a_row_could_not_bear_is_refused(tmp_path, monkeypatch, stem):
    monkeypatch.chdir(tmp_path)
    Path(f"{stem}.toml").write_text('summary = "One line"\nextends = "quant8"\n')
    assert "without '+' and '--'" in sentence(lambda: load_recipe(f"{stem}.toml"))


def test_a_file_extends_one_beside_it(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    Path("sub").mkdir()
    Path("sub/base.toml").write_text('summary = "Base"\nextends = "quant8"\n[set]\nsteps.0.weight_bits = 4\n')
    Path("sub/kid.toml").write_text('summary = "Kid"\nextends = "base.toml"\n')
    assert load_recipe("sub/kid.toml").steps[0]["weight_bits"] == 4
    with pytest.raises(MissingError, match=r"no recipe file base\.toml"):
        load_recipe("base.toml")


# Fingerprints:


@pytest.mark.parametrize(
    "assignment",
    ["steps.0.ratio=0.51", "steps.1.calibration_images=513", "steps.1.first_last_bits=8", "steps.2.weight_decay=0"],
)
def test_fingerprint_changes_with_any_setting(assignment):
    recipe = load_recipe("prune50-quant8-advft")
    assert digits_of(override(recipe, [assignment])) != digits_of(recipe)


def test_fingerprint_changes_with_the_order_of_steps():
    there, back = step("finetune-clean"), step("prune-channels")
    assert digits_of(parse(there + back)) != digits_of(parse(back + there))


def test_fingerprint_minds_neither_summary_nor_spelling():
    recipe = parse(step("finetune-clean", "weight_decay = 0"))
    assert digits_of(recipe) == digits_of(parse(step("finetune-clean", "weight_decay = 0.0"), summary="Other words"))
    spelled_out = "momentum = 0.9\nlearning_rate = 0.01\nweight_decay = 0"
    assert digits_of(recipe) == digits_of(parse(step("finetune-clean", spelled_out)))


def test_settings_spell_out_the_defaults():
    recipe = load_recipe("quant8")
    (complete,) = settings(recipe.resolve(), recipe)
    assert complete["step"] == "quantize"
    assert complete["calibration_images"] == 512
    assert len(fingerprint((complete,))) == 12
