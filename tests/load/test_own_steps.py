"""A submission's own file: run with consent only, by itself, and forgotten afterwards."""

import sys

import pytest
from submissions_made_up import write_submission

from bench.errors import MissingError, UsageError
from bench.load.own_steps import own_steps
from bench.model import ModelSpec
from bench.recipe import STEPS, load_recipe
from bench.request import Request
from bench.track import load_track


def loaded(folder):
    return load_recipe(folder.name, submissions=folder.parent)


def sentence(folder) -> str:
    recipe = loaded(folder)
    with pytest.raises(UsageError) as refused, own_steps(recipe):
        pass
    assert "\n" not in str(refused.value)
    return str(refused.value)


def test_its_steps_are_registered_while_the_block_lasts(tmp_path):
    recipe = loaded(write_submission(tmp_path))
    with own_steps(recipe):
        (step,) = recipe.resolve()
        assert (type(step).__name__, step.size, "ours/mine" in STEPS) == ("Mine", 1, True)
    assert "ours/mine" not in STEPS
    assert not [name for name in sys.modules if "submission_ours" in name]


def test_reading_the_recipe_does_not_run_the_file(tmp_path):
    folder = write_submission(tmp_path, code="raise SystemExit('it ran')")
    recipe = loaded(folder)
    assert recipe.declared() == ({"step": "ours/mine"},)
    with pytest.raises(UsageError, match=r"expected a step that .*ours/steps.py registers, and may run \(--trust\)"):
        recipe.resolve()


def test_no_question_is_put_without_consent(tmp_path):
    recipe, track = loaded(write_submission(tmp_path)), load_track("digits-linf-v1")
    asked = {"recipe": recipe, "track": track, "model": ModelSpec.parse(track.model)}
    with pytest.raises(UsageError, match=r"would run the code in .*ours/steps.py; read it, and add --trust"):
        Request(**asked)
    assert Request(**asked, own_steps=True).trust is False
    assert Request(**asked, trust=True).recipe is recipe


def test_a_file_that_changed_since_is_not_run(tmp_path):
    folder = write_submission(tmp_path)
    recipe = loaded(folder)
    (folder / "steps.py").write_text("raise SystemExit('it ran')")
    with pytest.raises(UsageError, match="has changed since the recipe was read"), own_steps(recipe):
        pass


def test_it_cannot_import_a_file_beside_it(tmp_path):
    folder = write_submission(tmp_path, code="import neighbour\n")
    (folder / "neighbour.py").write_text("")
    assert "line 1, raised ModuleNotFoundError: No module named 'neighbour'" in sentence(folder)


@pytest.mark.parametrize(
    ("code", "expected"),
    [
        ("x = 1\n1 / 0\n", "steps.py, line 2, raised ZeroDivisionError: division by zero; fix it."),
        ("def (:\n", "ours/steps.py raised SyntaxError: "),
        ("raise SystemExit(3)\n", "raised SystemExit: 3"),
        ("pass\n", 'to say STEPS = {"NAME": CLASS}'),
        ("STEPS = {'mine': int}\n", "Expected step 'mine'"),
        (
            "from dataclasses import dataclass\n@dataclass(frozen=True)\nclass A: ...\nSTEPS = {'mine': A}\n",
            "to have __call__(self, subject, ingredients)",
        ),
    ],
)
def test_what_is_wrong_with_a_file_is_one_sentence(tmp_path, code, expected):
    assert expected in sentence(write_submission(tmp_path, code=code))


def test_a_step_without_its_file_is_named(tmp_path):
    folder = write_submission(tmp_path)
    (folder / "steps.py").unlink()
    with pytest.raises(
        MissingError, match=r"step 0 \(ours/mine\): expected its code in .*steps.py, which is not there"
    ):
        loaded(folder)
