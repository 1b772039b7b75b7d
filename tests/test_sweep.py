"""A sweep's file: which cells it names, in which order, and what is said about a mistake in it."""

from pathlib import Path
from typing import get_args

import pytest
from factories import make_entry
from submissions_made_up import write_submission

from bench.attack.engines import ENGINES
from bench.errors import MissingError, UsageError
from bench.recipe import fingerprint, load_recipe, settings
from bench.recipe_record import RecipeRecord
from bench.sweep import Result, SweepFile, load_sweep

SWEEPS = Path(__file__).parents[1] / "sweeps"
TWO = 'tracks = ["digits-linf-v1"]\nrecipes = ["none", "quant8"]\n'


@pytest.fixture
def write(tmp_path):
    def write(text):
        path = tmp_path / "sweep.toml"
        path.write_text(text)
        return path

    return write


def titles(cells):
    return [cell.title.removeprefix("digits-linf-v1/") for cell in cells]


def test_a_grid_comes_in_the_order_it_is_written(write):
    text = """
    tracks = ["fashion-mnist-linf-v1", "digits-linf-v1"]
    models = ["bench:b", "bench:a"]
    recipes = ["quant8", "none"]
    seeds = [1, 0]
    """
    cells = load_sweep(write(text))
    assert [c.request.track.name for c in cells] == ["fashion-mnist-linf-v1"] * 8 + ["digits-linf-v1"] * 8
    assert titles(cells)[8:] == [
        "bench-b--quant8--seed1", "bench-b--quant8", "bench-b--none--seed1", "bench-b--none",
        "bench-a--quant8--seed1", "bench-a--quant8", "bench-a--none--seed1", "bench-a--none",
    ]  # fmt: skip


def test_the_track_names_the_model_where_the_file_does_not(write):
    (cell, _) = load_sweep(write(TWO))
    assert str(cell.request.model) == "bench:digits-cnn"
    assert cell.request.images == 400
    assert cell.name == "bench-digits-cnn--none"


def test_a_file_names_its_engine(write):
    usual, quick = load_sweep(write(TWO))[0], load_sweep(write(f'{TWO}engine = "bench-tf32"\n'))[0]
    assert quick.name == f"{usual.name}--tf32"
    assert " ".join(quick.arguments).endswith("--device auto --engine bench-tf32")
    assert "--engine" not in usual.arguments


def test_it_knows_every_engine():
    assert set(get_args(SweepFile.model_fields["engine"].annotation)) == set(ENGINES)


def test_settings_further_cells_and_cells_left_out(write):
    text = """
    tracks = ["digits-linf-v1"]
    models = ["bench:digits-cnn", "bench:other"]
    recipes = ["none", {recipe = "quant8", set = ["steps.0.weight_bits=4"]}]
    n_examples = 12
    [[without]]
    recipe = "none"
    model = "bench:other"
    [[cells]]
    recipe = "prune50"
    seed = 7
    n_examples = 400
    """
    cells = load_sweep(write(text))
    tried = cells[1].request.recipe.name
    assert tried.startswith("quant8+")
    assert titles(cells) == [
        "bench-digits-cnn--none--n12", f"bench-digits-cnn--{tried}--n12", f"bench-other--{tried}--n12",
        "bench-digits-cnn--prune50--seed7",
    ]  # fmt: skip
    assert cells[1].steps[0]["weight_bits"] == 4
    words = " ".join(cells[1].arguments)
    assert "--recipe quant8 --track digits-linf-v1 --model bench:digits-cnn --seed 0" in words
    assert "--n-examples 12 --set steps.0.weight_bits=4" in words


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ('recipes = ["none"]', "the key 'tracks' is missing."),
        (TWO + 'recipe = "none"', "unknown key 'recipe'. Did you mean 'recipes'?"),
        (TWO + '[[cells]]\nrecipe = "none"\nsead = 1', "unknown key 'sead' in cells.0. Did you mean 'seed'?"),
        (TWO + '[[cells]]\nmodel = "bench:a"', "the key 'recipe' is missing in cells.0."),
        (TWO + '[[without]]\nrecipes = "none"', "unknown key 'recipes' in without.0. Did you mean 'recipe'?"),
        (TWO + '[[without]]\nrecipe = "prune50"', "without.0 leaves out no cell"),
        (TWO + "n_examples = 0", "n_examples: expected greater than 0, got 0."),
        (TWO + 'engine = "bench-tf64"', "engine: expected 'bench', 'bench-tf32', 'bench-bf16' or 'reference'"),
        (TWO + 'seeds = ["1"]', "seeds.0: expected a valid integer, got '1'."),
        (TWO + '[[cells]]\nrecipe = "quant8"', "names the cell digits-linf-v1/bench-digits-cnn--quant8 twice"),
        ('tracks = ["digits-linf-v1"]', "names no cell: expected recipes = [...], or [[cells]]."),
        ('tracks = ["digits-linf-v1"]\nrecipes = ["quant99"]', "There is no recipe 'quant99'. Did you mean 'quant8'?"),
        ('tracks = ["digits-linf-v2"]\nrecipes = ["none"]', "There is no track 'digits-linf-v2'. Did you mean"),
        (TWO + 'models = ["conv8"]', "Expected a model as SOURCE:NAME"),
        (TWO + "n_examples = 401", "digits-linf-v1 attacks 400 images: expected 1 to 400, got 401."),
        (
            'tracks = ["digits-linf-v1"]\nrecipes = [{recipe = "quant8", set = ["steps.0.bits=4"]}]',
            "unknown setting 'bits'.",
        ),
        ("tracks = [", "is not valid TOML"),
    ],
)
def test_a_mistake_is_one_sentence(write, text, expected):
    with pytest.raises(UsageError) as error:
        load_sweep(write(text))
    assert expected in str(error.value)
    assert "sweep.toml" in str(error.value)
    assert "\n" not in str(error.value)


def test_no_file(tmp_path):
    with pytest.raises(MissingError, match=r"There is no sweep file .*absent\.toml"):
        load_sweep(tmp_path / "absent.toml")


def answer(**changed):
    """An entry of quant8 on the digits, as the bench of today would write it."""
    entry = make_entry("quant8", "." * 400, track="digits-linf-v1", **changed)
    recipe = load_recipe("quant8")
    steps = settings(recipe.resolve(), recipe)
    record = entry.recipe.model_copy(update={"steps": steps, "fingerprint": fingerprint(steps)})
    return entry.model_copy(update={"recipe": record})


def test_a_cell_is_done_when_its_entry_is_on_the_board(write, tmp_path):
    _, cell = load_sweep(write(TWO))
    assert Result.before(cell, tmp_path).state == "waiting"
    entry = answer()
    entry.save(tmp_path)
    before = Result.before(cell, tmp_path)
    assert (before.state, before.entry) == ("done", entry)
    assert before.seconds == pytest.approx(142.5)


def test_a_cell_is_not_done_by_another_answer(write, tmp_path):
    _, cell = load_sweep(write(TWO))
    make_entry("quant8", "." * 400, track="digits-linf-v1").save(tmp_path)
    assert Result.before(cell, tmp_path).state == "waiting"  # other settings
    entry = answer()
    entry.model_copy(update={"track": entry.track.model_copy(update={"seed": 1})}).save(tmp_path)
    assert Result.before(cell, tmp_path).state == "waiting"  # another version of the track
    answer(seed=1).save(tmp_path)
    assert Result.before(cell, tmp_path).state == "waiting"  # another seed
    entry.path(tmp_path).write_text("{")
    assert Result.before(cell, tmp_path).state == "waiting"  # cut off


def test_a_submission_with_own_steps_is_done_by_the_same_code_only(write, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    file = write_submission(tmp_path / "submissions") / "steps.py"
    text = 'tracks = ["digits-linf-v1"]\nrecipes = ["ours"]\n'
    with pytest.raises(UsageError, match="add --trust"):
        load_sweep(write(text))
    (cell,) = load_sweep(write(text), trust=True)
    recipe, own = cell.request.recipe, cell.request.recipe.own_code
    steps = ({"step": "ours/mine", "size": 1},)
    entry = make_entry("ours", "." * 400, track="digits-linf-v1")
    record = {"name": "ours", "summary": recipe.summary, "steps": steps, "own_code": own}
    entry = entry.changed(recipe=RecipeRecord(**record, fingerprint=fingerprint(steps, own)))
    entry.save(tmp_path / "board")
    assert Result.before(cell, tmp_path / "board").state == "done"
    file.write_text(file.read_text() + "\n")
    (cell,) = load_sweep(write(text), trust=True)
    assert Result.before(cell, tmp_path / "board").state == "waiting"


@pytest.mark.parametrize("path", sorted(SWEEPS.glob("*.toml")), ids=lambda path: path.stem)
def test_the_sweeps_that_come_with_the_project(path):
    cells = load_sweep(path)
    assert len({cell.title for cell in cells}) == len(cells)
    if path.stem == "fashion-mnist-paper":
        assert len(cells) == 2 * 2 * 3 * (1 + 9 + 5)


def test_the_example_in_the_documentation(write):
    page = (SWEEPS.parent / "docs" / "sweeps.md").read_text()
    cells = load_sweep(write(page.partition("```toml\n")[2].partition("```")[0]))
    assert len(cells) == 2 * 3 - 1 + 1
    assert [cell.request.images for cell in cells] == [100] * 5 + [400]


@pytest.mark.parametrize(
    ("n", "changes", "found"),
    [
        (6, {}, True),
        (8, {}, True),
        (4, {}, False),
        (8, {"engine": "pyautoattack 0.2.0"}, False),
        (8, {"seed": 1}, False),
    ],
)
def test_a_row_on_more_images_answers_a_cell(write, tmp_path, n, changes, found):
    """Six images are asked for, of the twelve of which the track would be whole."""
    cell = load_sweep(write(f"{TWO}n_examples = 6\n"))[1]
    steps = cell.steps
    record = RecipeRecord(name="quant8", summary="", steps=steps, fingerprint=fingerprint(steps))
    entry = make_entry("quant8", "." * n, track="digits-linf-v1").changed(recipe=record, **changes)
    entry.save(tmp_path / "board")
    assert cell.find(tmp_path / "board") == (entry if found else None)


@pytest.mark.parametrize("bits", [7, 6])
def test_so_does_one_of_the_same_settings_under_other_digits(write, tmp_path, bits):
    """What a recipe's own settings were changes with the bench, and with it the digits of those that differ."""
    cell = load_sweep(
        write(f"{TWO}n_examples = 6\n[[cells]]\nrecipe = 'quant8'\nset = ['steps.0.weight_bits={bits}']\n")
    )[-1]
    steps = ({**cell.steps[0], "weight_bits": 7}, *cell.steps[1:])
    record = RecipeRecord(name="quant8+0000ff", summary="", steps=steps, fingerprint=fingerprint(steps))
    entry = make_entry("quant8", "." * 12, track="digits-linf-v1").changed(recipe=record)
    entry.save(tmp_path / "board")
    assert cell.find(tmp_path / "board") == (entry if bits == 7 else None)


@pytest.mark.parametrize("n", [4, 6, 8, 12])
def test_so_does_one_of_the_same_engine(write, tmp_path, n):
    cell = load_sweep(write(f'{TWO}n_examples = 6\nengine = "bench-tf32"\n'))[1]
    record = RecipeRecord(name="quant8", summary="", steps=cell.steps, fingerprint=fingerprint(cell.steps))
    quick = make_entry("quant8", "." * n, track="digits-linf-v1").changed(recipe=record, engine="bench 1 tf32")
    quick.changed(engine="bench 1").save(tmp_path / "board")
    assert cell.find(tmp_path / "board") is None
    quick.save(tmp_path / "board")
    assert cell.find(tmp_path / "board") == (quick if n >= 6 else None)
