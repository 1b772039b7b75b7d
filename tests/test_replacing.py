"""A new entry replaces an older one of its own question and answer, and nothing else."""

import pytest
from factories import make_entry
from submissions_made_up import write_submission

from bench.errors import GateError, UsageError
from bench.own_code import OwnCode
from bench.recipe import fingerprint
from bench.recipe_record import RecipeRecord
from bench.replacing import refuse_another, refuse_to_forget
from bench.scrutiny import Challenge, Evidence
from bench.verdicts import AUTOATTACK, Verdicts


def quantised(name, steps=("quantize",), own_code=None, **settings):
    """The record of a recipe that quantises, with these settings."""
    tables = tuple({"step": step, "calibration_images": 512, **settings} for step in steps)
    return RecipeRecord(
        name=name, summary="", steps=tables, fingerprint=fingerprint(tables, own_code), own_code=own_code
    )


CODE = OwnCode(file="mine/steps.py", sha256="0" * 64)


@pytest.mark.parametrize(
    ("came", "said"),
    [
        (quantised("mine", weight_bits=4), "its steps.0.weight_bits is 8, and this one's 4."),
        (quantised("mine", clip=1, weight_bits=8), "its steps.0.clip is None, and this one's 1."),
        (quantised("mine", ("quantize", "low-rank")), "its steps are quantize, and this one's quantize, low-rank."),
        (quantised("mine", (), None), "its steps are quantize, and this one's none."),
        (quantised("mine", own_code=CODE, weight_bits=8), "the code of its own steps is another."),
        (quantised("mine", weight_bits=8), ""),
    ],
)
def test_another_recipe_of_the_same_name_does_not_replace_an_entry(came, said, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    standing = make_entry("mine").changed(recipe=quantised("mine", weight_bits=8))
    standing.save(tmp_path)
    path = standing.path(tmp_path)
    if not said:
        refuse_another(path, standing.track, came.name, came.steps, came.own_code)
        return
    with pytest.raises(UsageError) as found:
        refuse_another(path, standing.track, came.name, came.steps, came.own_code)
    assert str(found.value) == (
        f"{path} holds another recipe that is called mine: {said} Rename your recipe's file, or move that entry away."
    )


@pytest.mark.parametrize("name", ["quant8", "quant8+123456", "mine", "mine+123456"])
def test_a_name_that_only_one_recipe_can_have_follows_that_recipe(name, tmp_path, monkeypatch):
    """Defaults of the bench's own recipes change, and people edit their submissions."""
    monkeypatch.chdir(tmp_path)
    write_submission(tmp_path / "submissions", name="mine")
    standing = make_entry(name).changed(recipe=quantised(name, weight_bits=8))
    standing.save(tmp_path)
    refuse_another(standing.path(tmp_path), standing.track, name, quantised(name, weight_bits=4).steps, None)


def test_another_track_of_the_same_name_does_not_take_its_place(tmp_path):
    standing = make_entry("quant8", track="tiny")
    standing.save(tmp_path)
    asked = standing.track.model_copy(update={"eps": 2 * standing.track.eps})
    path, steps = standing.path(tmp_path), standing.recipe.steps
    refuse_another(path, standing.track, "quant8", steps, None)
    with pytest.raises(UsageError, match=r"another question that is called tiny: its eps is 3/20, and this one's 3/10"):
        refuse_another(path, asked, "quant8", steps, None)


def test_a_file_that_is_no_entry_is_replaced(tmp_path):
    (tmp_path / "mine.json").write_text("{")
    refuse_another(tmp_path / "mine.json", make_entry("mine").track, "mine", (), None)


def test_measuring_again_does_not_erase_a_challenge(tmp_path):
    made = make_entry("quant8", "..a...x")
    refuse_to_forget(made.path(tmp_path), made)
    evidence = Evidence(file="x.challenge1.npz", digest="0" * 64, images=1)
    mine = Challenge(attack="challenge:me", by="me", submitted=9, held=1, evidence=evidence, when="2026-11-22")
    later = Verdicts.of(attacks=(*AUTOATTACK, "challenge:me"), letters="..ae..x")
    challenged = made.changed(verdicts=later, challenges=(mine,))
    challenged.save(tmp_path)
    refuse_to_forget(made.path(tmp_path), challenged)
    for new in (None, made):
        with pytest.raises(GateError, match="challenged by me"):
            refuse_to_forget(made.path(tmp_path), new)
