"""Whatever has a name is listed, and found by it."""

import dataclasses
import shutil
from importlib import resources
from pathlib import Path

import pytest
from factories import make_entry

from bench.catalogue import KINDS, all_entry_files, catalogue, find, find_rows, seeds_of
from bench.errors import UsageError
from bench.model import SOURCES
from bench.recipe import STEPS
from bench.recipe_words import listed_names
from bench.track import load_track, track_names


@pytest.fixture(autouse=True)
def elsewhere(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("BENCH_DATA_DIR", str(tmp_path / "data"))
    monkeypatch.setenv("BENCH_CACHE_DIR", str(tmp_path / "cache"))
    monkeypatch.setenv("BENCH_OFFLINE", "1")


@pytest.fixture
def board(tmp_path):
    make_entry("none").save(tmp_path / "board")
    make_entry("quant8").save(tmp_path / "board")
    make_entry("quant8", track="another-v1").save(tmp_path / "board")
    return tmp_path / "board"


@pytest.mark.parametrize("what", [kind for kind in KINDS if kind != "published"])
def test_every_name_has_a_line_about_it(what, board):
    names = catalogue(what, board)
    assert names
    for name, about in names:
        assert name
        assert about
        assert "\n" not in name + about


def test_nothing_is_left_out(board):
    assert [name for name, _ in catalogue("recipes", board)] == listed_names()
    assert [name for name, _ in catalogue("tracks", board)] == track_names()
    assert [name for name, _ in catalogue("steps", board)] == list(STEPS)
    assert {name.partition(":")[0] for name, _ in catalogue("models", board)} == set(SOURCES)
    assert {load_track(name).dataset for name in track_names()} <= {name for name, _ in catalogue("datasets", board)}
    assert len(catalogue("entries", board)) == len(all_entry_files(board)) == 3


def test_submissions_are_listed_with_the_recipes(tmp_path, board):
    folder = tmp_path / "submissions" / "ours"
    folder.mkdir(parents=True)
    (folder / "recipe.toml").write_text('summary = "Ours"')
    assert ("ours", "Ours") in catalogue("recipes", board)
    assert find("ours", board) == {"name": "ours", "summary": "Ours", "steps": []}


def test_an_unknown_kind_is_answered_with_the_nearest(board):
    with pytest.raises(UsageError, match=r"There is nothing called 'recipe' to list\. Did you mean 'recipes'\?"):
        catalogue("recipe", board)


def test_every_recipe_and_track_is_found(board):
    for name in (*listed_names(), *track_names()):
        assert find(name, board)["name"] == name


def test_a_track_is_shown_with_its_fingerprint(board):
    found = find("cifar10-linf-v1", board)
    assert found["eps"] == "8/255"
    assert found["fingerprint"] == load_track("cifar10-linf-v1").fingerprint


def test_a_track_of_ones_own_is_shown(board, tmp_path):
    text = (resources.files("bench") / "tracks" / "digits-linf-v1.toml").read_text(encoding="utf-8")
    (tmp_path / "mine.toml").write_text(text.replace("0.15", "0.2"), encoding="utf-8")
    found = find(str(tmp_path / "mine.toml"), board)
    assert (found["name"], found["eps"]) == ("mine", "0.2")


def test_a_setting_that_no_step_has_is_not_shown(board, tmp_path):
    (tmp_path / "mine.toml").write_text('summary = "Mine"\nextends = "quant8"\n[set]\nsteps.0.wieght_bits = 4\n')
    with pytest.raises(UsageError, match="unknown setting 'wieght_bits'"):
        find(str(tmp_path / "mine.toml"), board)


def test_entries_are_found_by_name_by_track_and_by_file(board):
    entry = make_entry("none")
    assert find("bench-digits-cnn--none", board) == entry
    assert find("made-up-v1/bench-digits-cnn--none", board) == entry
    assert find(str(board / "made-up-v1" / "bench-digits-cnn--none.json"), board) == entry


def test_an_entry_of_several_tracks_must_be_told_apart(board):
    name = "bench-digits-cnn--quant8"
    with pytest.raises(UsageError, match=rf"Several tracks .*: say another-v1/{name} or made-up-v1/{name}\."):
        find("bench-digits-cnn--quant8", board)
    assert find("another-v1/bench-digits-cnn--quant8", board).track.name == "another-v1"


def test_a_recipe_is_no_row_but_has_some(board):
    rows = "another-v1/bench-digits-cnn--quant8, made-up-v1/bench-digits-cnn--quant8"
    with pytest.raises(UsageError, match=f"There is no entry or published row 'quant8'. Did you mean {rows}"):
        find_rows(["quant8", "none"], board)


@pytest.mark.parametrize(
    ("name", "near"), [("quant99", "quant8"), ("digits", "digits-linf-v1"), ("bench-digits-cnn--non", "--none")]
)
def test_an_unknown_name_is_answered_with_the_nearest(name, near, board):
    with pytest.raises(UsageError, match=f"There is no recipe, step, track or entry '{name}'.*{near}"):
        find(name, board)


def test_names_of_entries_tell_them_apart_and_find_them(board):
    listed = dict(catalogue("entries", board))
    assert list(listed) == [
        "another-v1/bench-digits-cnn--quant8",
        "made-up-v1/bench-digits-cnn--none",
        "made-up-v1/bench-digits-cnn--quant8",
    ]
    for name, about in listed.items():
        entry = find(name, board)
        assert f"{entry.track.name}/{entry.name}" == name
        assert about == "robust 3/5, clean 4"


def test_a_submission_cannot_take_the_name_of_a_recipe(tmp_path, board):
    folder = tmp_path / "submissions" / "quant8"
    folder.mkdir(parents=True)
    (folder / "recipe.toml").write_text('summary = "Not the built-in one"')
    assert [name for name, _ in catalogue("recipes", board)] == listed_names()
    assert "Not the built-in one" not in dict(catalogue("recipes", board)).values()
    assert find("quant8", board)["steps"]


# Published rows:


@pytest.fixture
def with_published(board):
    shutil.copytree(Path(__file__).parents[1] / "leaderboard" / "published", board / "published")
    return board


def test_a_published_row_is_found_by_name_and_by_the_end_of_it(with_published):
    row = find("cifar10-linf-Sehwag2020Hydra", with_published)
    assert (str(row.clean), str(row.robust)) == ("88.98", "57.14")
    assert find("published:Sehwag2020Hydra", with_published) == row
    assert "cifar10-linf-Sehwag2020Hydra" in dict(catalogue("published", with_published))


def test_several_published_rows_that_end_alike_must_be_told_apart(with_published):
    with pytest.raises(UsageError, match=r"Several published rows end in 'harp-resnet18-sparse90': say cifar10-"):
        find("published:harp-resnet18-sparse90", with_published)


@pytest.mark.parametrize("name", ["cifar10-linf-Sehwag2020Hydr", "published:cifar10-linf-Sehwag2020Hydr"])
def test_a_published_row_nearly_named_is_answered_with_it(name, with_published):
    with pytest.raises(UsageError, match=r"Did you mean 'cifar10-linf-Sehwag2020Hydra'\?"):
        find(name, with_published)


def best_for(entry, name, board):
    entry.save(board)
    return find_rows([entry.name, name], board)[1].name


def test_the_best_published_is_of_the_same_kind_and_goes_at_least_as_far(with_published):
    pruned = make_entry("sparse", "..a", track="cifar10-linf-v1", bits=32, sparsity=0.9)
    assert best_for(pruned, "best-published", with_published) == "cifar10-linf-Sehwag2020Hydra"
    more = make_entry("sparser", "..a", track="cifar10-linf-v1", bits=32, sparsity=0.91)
    assert best_for(more, "best-published", with_published) == "cifar10-flyingbird-resnet18-sparse95"
    assert best_for(more, "published:best@sparse99", with_published) == "cifar10-harp-resnet18-sparse99"
    assert best_for(more, "published:best@prune90", with_published) == "cifar10-twinrep-resnet18-prune90"
    assert best_for(more, "published:best@any", with_published) == "cifar10-linf-Bartoldson2024Adversarial_WRN-94-16"


@pytest.mark.parametrize(
    ("names", "sentence"),
    [
        (["best-published", "x"], "Expected an entry before 'best-published'"),
        (["bench-digits-cnn--none", "best-published"], "no published AutoAttack figure for digits, Linf 0.15 with"),
        (["bench-digits-cnn--none", "published:best@any"], "digits, Linf 0.15: see bench list published"),
        (["bench-digits-cnn--none", "published:best@sprase90"], "or the words of a recipe such as sparse90"),
    ],
)
def test_a_best_that_cannot_be_is_one_sentence(names, sentence, with_published):
    with pytest.raises(UsageError, match=sentence):
        find_rows(names, with_published)


# Bad files and seeds:


def test_a_file_that_is_not_an_entry_hides_no_other(board):
    (board / "made-up-v1" / "odd.json").write_text("{}")
    listed = dict(catalogue("entries", board))
    assert listed["made-up-v1/odd"].startswith("cannot be read: ")
    assert listed["made-up-v1/bench-digits-cnn--none"] == "robust 3/5, clean 4"


def test_the_seeds_of_an_entry_are_those_of_its_recipe_model_and_track(board):
    for seed in (2, 1):
        make_entry("quant8", seed=seed).save(board)
    make_entry("quant8-ft", seed=1).save(board)
    make_entry("quant8", model="bench:conv8", seed=1).save(board)
    make_entry("quant8", "..", n_examples=5, seed=3).save(board)
    (board / "made-up-v1" / "bench-digits-cnn--quant8--seed9.json").write_text("{")
    assert [one.seed for one in seeds_of(make_entry("quant8", seed=1), board)] == [0, 1, 2]


def test_a_broken_submission_does_not_hide_the_other_recipes(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    (tmp_path / "submissions" / "ours").mkdir(parents=True)
    (tmp_path / "submissions" / "ours" / "recipe.toml").write_text("summary = 3")
    recipes = dict(catalogue("recipes", tmp_path))
    assert recipes["ours"].startswith("cannot be read: Recipe ours: expected summary")
    assert "quant8" in recipes


def test_a_step_is_shown_with_every_setting_its_default_and_what_it_does(board):
    told = find("finetune-fast", board)
    fields = [field.name for field in dataclasses.fields(STEPS.get("finetune-fast"))]
    assert list(told) == ["name", "summary", *fields]
    assert told["learning_rate"].startswith("0.01: ")
    assert told["on_collapse"].startswith("restore: what the guard does at the end of an epoch")
    assert told["on_collapse"].endswith('"report" only says so.')
    for name in STEPS:
        assert all(": " in text for key, text in find(name, board).items() if key not in ("name", "summary")), name
