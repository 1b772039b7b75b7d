"""Whatever has a name is listed, and found by it."""

import pytest
from factories import make_entry

from bench.catalogue import catalogue, entry_files, find
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


@pytest.mark.parametrize("what", ["recipes", "tracks", "models", "datasets", "steps", "entries"])
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
    assert len(catalogue("entries", board)) == len(entry_files(board)) == 3


def test_submissions_are_listed_with_the_recipes(tmp_path, board):
    folder = tmp_path / "submissions" / "ours"
    folder.mkdir(parents=True)
    (folder / "recipe.toml").write_text('summary = "Ours"')
    assert ("ours", "Ours") in catalogue("recipes", board)
    assert find("ours", board) == {"name": "ours", "summary": "Ours", "steps": []}


def test_an_unknown_kind_is_answered_with_the_nearest(board):
    with pytest.raises(UsageError, match=r"There is nothing called 'recipe' to list\. Did you mean 'recipes'\?"):
        catalogue("recipe", board)


@pytest.mark.parametrize("name", [*listed_names(), *track_names()])
def test_every_recipe_and_track_is_found(name, board):
    assert find(name, board)["name"] == name


def test_a_track_is_shown_with_its_fingerprint(board):
    found = find("cifar10-linf-v1", board)
    assert found["eps"] == "8/255"
    assert found["fingerprint"] == load_track("cifar10-linf-v1").fingerprint


def test_entries_are_found_by_name_by_track_and_by_file(board):
    entry = make_entry("none")
    assert find("bench-digits-cnn--none", board) == entry
    assert find("made-up-v1/bench-digits-cnn--none", board) == entry
    assert find(str(board / "made-up-v1" / "bench-digits-cnn--none.json"), board) == entry


def test_an_entry_of_several_tracks_must_be_told_apart(board):
    with pytest.raises(UsageError, match=r"Several tracks .*: say another-v1/bench-digits-cnn--quant8"):
        find("bench-digits-cnn--quant8", board)
    assert find("another-v1/bench-digits-cnn--quant8", board).track.name == "another-v1"


@pytest.mark.parametrize(
    ("name", "near"), [("quant99", "quant8"), ("digits", "digits-linf-v1"), ("bench-digits-cnn--non", "--none")]
)
def test_an_unknown_name_is_answered_with_the_nearest(name, near, board):
    with pytest.raises(UsageError, match=f"There is no recipe, track or entry '{name}'.*{near}"):
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
