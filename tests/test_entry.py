"""One row and its evidence: what is written is what is read, and nothing else loads."""

import hashlib
import json
import re
import shlex

import pytest
from factories import make_entry, save_entry
from pydantic import ValidationError
from submissions_made_up import write_submission

from bench.dataset import TEST_SETS
from bench.effort import Effort
from bench.entry import Entry, load_entry
from bench.errors import UsageError
from bench.own_code import OwnCode
from bench.recipe import fingerprint, load_recipe
from bench.recipe_changes import override
from bench.recipe_record import RecipeRecord
from bench.verdicts import AUTOATTACK, Alarm, Proportion, Verdicts


@pytest.fixture
def saved(tmp_path):
    return save_entry(make_entry(alarms=(Alarm(name="chance-level", fatal=False, evidence="10 %"),)), tmp_path)


def edit(path, *where, to):
    record = json.loads(path.read_text())
    part = record
    for key in where[:-1]:
        part = part[key]
    part[where[-1]] = to
    path.write_text(json.dumps(record))


def sentence(path):
    with pytest.raises(UsageError) as caught:
        load_entry(path)
    text = str(caught.value)
    assert "\n" not in text
    assert text.endswith(".")
    assert path.name in text
    return text


def test_json_round_trip(saved):
    entry = load_entry(saved)
    assert entry == make_entry(alarms=entry.verdicts.alarms)
    assert entry.verdicts.alarms[0].name == "chance-level"
    assert save_entry(entry, saved.parent / "again").read_bytes() == saved.read_bytes()


def test_the_file_is_diffable_text(saved):
    text = saved.read_text()
    assert text.endswith("}\n")
    assert '    "eps": "3/20"' in text
    assert max(map(len, text.splitlines())) < 200


def test_edited_letters_do_not_load(saved):
    edit(saved, "verdicts", "letters", to="....x")
    assert "verdicts: the counts disagree with the letters" in sentence(saved)


def test_edited_counts_do_not_load(saved):
    edit(saved, "verdicts", "counts", "robust", to=4)
    assert "the counts disagree with the letters" in sentence(saved)


def test_more_letters_than_the_track_has_images_do_not_load(saved):
    edit(saved, "track", "n_examples", to=4)
    assert "5 letters for 4 images" in sentence(saved)


@pytest.mark.parametrize(
    ("where", "to"),
    [
        (("extra",), 1),
        (("status",), "sworn"),
        (("track", "norm"), "L1"),
        (("verdicts", "attacks"), []),
        (("model",), None),
        (("efficiency", "macs"), "many"),
    ],
)
def test_a_record_of_another_form_is_refused_and_names_the_place(saved, where, to):
    edit(saved, *where, to=to)
    place = "verdicts" if where[0] == "verdicts" else ".".join(where)  # letters and attacks are checked together
    assert f" is not an entry of this bench: {place}: " in sentence(saved)


@pytest.mark.parametrize("content", [b"", b"{", b"[]", b"null", b"3", b"\xff\xfe", b"name,robust\n", b"\x00" * 9])
def test_a_file_that_is_no_entry_gives_one_sentence(tmp_path, content):
    path = tmp_path / "odd.json"
    path.write_bytes(content)
    sentence(path)


def test_a_file_that_is_absent_gives_one_sentence(tmp_path):
    assert "No such file" in sentence(tmp_path / "none.json")
    (tmp_path / "folder.json").mkdir()
    sentence(tmp_path / "folder.json")


@pytest.mark.parametrize(
    ("where", "to", "expected"),
    [
        (("track", "eps"), [1], "expected a string such as '8/255' or '0.1', got [1]"),
        (("track", "eps"), 0.15, "expected a string such as '8/255' or '0.1', got 0.15"),
        (("track", "eps"), "big", "Expected eps as a string such as '8/255' or '0.1', got 'big'"),
        (("track", "eps"), "0", "eps > 0"),
        (("verdicts", "attacks"), [f"attack-{i}" for i in range(26)], "expected at most 25 attacks, got 26"),
        (("verdicts", "attacks"), ["apgd-ce", "apgd-ce"], "expected attacks of different names"),
    ],
)
def test_odd_values_deep_inside_give_one_sentence_that_names_the_place(saved, where, to, expected):
    edit(saved, *where, to=to)
    text = sentence(saved)
    assert f": {'.'.join(where)}: " in text
    assert expected in text


@pytest.mark.parametrize(
    ("where", "to"),
    [
        (("steps", 0, "weight_bits"), 2),
        (("steps", 0, "weight_bits"), 8.0),
        (("steps", 0, "learned"), True),
        (("steps",), []),
        (("fingerprint",), "ffffffffffff"),
    ],
)
def test_edited_steps_do_not_load(saved, where, to):
    edit(saved, "recipe", *where, to=to)
    assert ": recipe: the fingerprint is not that of the steps" in sentence(saved)


def test_a_partial_entry_never_overwrites_a_full_one(tmp_path):
    full = save_entry(make_entry(letters="..a.x"), tmp_path)
    some = save_entry(make_entry(letters="..a", n_examples=5), tmp_path)
    fewer = save_entry(make_entry(letters="..", n_examples=5), tmp_path)
    assert [path.stem for path in (full, some, fewer)] == [
        "bench-digits-cnn--quant8",
        "bench-digits-cnn--quant8--n3",
        "bench-digits-cnn--quant8--n2",
    ]
    assert not load_entry(full).partial
    assert load_entry(some).partial


def test_different_measurements_have_different_files(tmp_path):
    entries = [
        make_entry(),
        make_entry(seed=1),
        make_entry(recipe="quant8-ft"),
        make_entry(model="bench:conv8"),
        make_entry(track="cifar10-linf-v1"),
        make_entry(model="checkpoint:a/net.pt@bench:conv8"),
        make_entry(model="checkpoint:a/net.pt@bench:resnet18"),
        make_entry(model="robustbench:Linf/Wong2020Fast"),
        make_entry(model="robustbench:L2/Wong2020Fast"),
    ]
    assert len({save_entry(entry, tmp_path) for entry in entries}) == len(entries)


def test_a_changed_setting_never_overwrites(tmp_path):
    recipe = load_recipe("quant8")
    recipes = [recipe, *(override(recipe, [f"steps.0.weight_bits={bits}"]) for bits in (2, 4))]
    assert len({save_entry(make_entry(recipe.name), tmp_path) for recipe in recipes}) == len(recipes)


@pytest.mark.parametrize("model", ["checkpoint:{}/net.pt@bench:conv8", "python:{}/nets.py:build"])
def test_a_namesake_in_another_folder_never_overwrites(tmp_path, model):
    here, there = (make_entry(model=model.format(folder)) for folder in "ab")
    assert save_entry(here, tmp_path) != save_entry(there, tmp_path)
    assert here.name == make_entry(model=model.format("a")).name


def test_names_are_fit_for_files():
    entry = make_entry(model="checkpoint:/home/me/my nets/net 1.pt@robustbench:cifar10/Linf/X@0.5,0.5/0.2,0.2")
    digest = hashlib.sha256(entry.model.encode()).hexdigest()[:6]
    assert entry.name == f"checkpoint-net-1.pt-robustbench-cifar10-Linf-X-0.5-0.5-0.2-0.2-{digest}--quant8"
    assert re.fullmatch(r"python-nets\.py-build-[0-9a-f]{6}--quant8", make_entry(model="python:../nets.py:build").name)
    assert make_entry(model="robustbench:cifar10/Linf/X").name == "robustbench-cifar10-Linf-X--quant8"


def test_what_is_ranked():
    fatal = Alarm(name="randomised", fatal=True, evidence="3 %")
    warning = Alarm(name="chance-level", fatal=False, evidence="10 %")
    assert make_entry().ranked
    assert make_entry(alarms=(warning,)).ranked
    assert not make_entry(alarms=(fatal,)).ranked
    assert not make_entry(n_examples=400).ranked


@pytest.mark.parametrize("missing", AUTOATTACK)
def test_what_faced_less_than_autoattack_is_not_ranked(missing):
    attacks = tuple(attack for attack in (*AUTOATTACK, "transfer") if attack != missing)
    entry = make_entry("none", "..xa", attacks=(*AUTOATTACK, "transfer"))
    assert entry.ranked
    less = entry.changed(verdicts=Verdicts.of(attacks=attacks, letters="..xa"))
    assert (less.standing, less.verdicts.alarms) == ("alarmed", ())


def test_an_entry_is_frozen():
    with pytest.raises(ValidationError):
        make_entry().seed = 3
    assert Entry.model_config["extra"] == "forbid"


def test_entries_from_before_sparsity_still_load(saved):
    record = json.loads(saved.read_text())
    for cost in (record["efficiency"], record["parent"]):
        assert cost.pop("compressed_bytes", 0) is None
    saved.write_text(json.dumps(record))
    assert load_entry(saved).efficiency.compressed_bytes is None


@pytest.mark.parametrize("schema", [0, 2, "1.0", None])
def test_another_schema_is_named(saved, schema):
    edit(saved, "schema_version", to=schema)
    assert f"has schema {schema!r}, and this bench reads schema 1: " in sentence(saved)


def test_a_file_that_was_cut_off_is_not_json(saved):
    saved.write_text(saved.read_text()[:700])
    assert "is not JSON, or was cut off: EOF while parsing" in sentence(saved)


@pytest.mark.parametrize("value", [float("nan"), float("inf"), -1.0])
def test_a_latency_that_is_no_time_does_not_load(saved, value):
    edit(saved, "efficiency", "latency", "ratio", to=value)
    assert "efficiency.latency.ratio: " in sentence(saved)


def test_costs_are_not_negative(saved):
    edit(saved, "efficiency", "bops", to=-1)
    assert "efficiency.bops: " in sentence(saved)


def test_relative_cost_counts_passes_against_twenty_epochs_of_pgd7():
    effort = Effort(finetune_forward=0, finetune_backward=0, attack_forward=0, attack_backward=0, seconds={})
    assert effort.relative_cost is None
    scratch = 20 * 8 * 1000
    paid = {"finetune_forward": scratch, "finetune_backward": scratch, "train_images": 1000}
    assert effort.model_copy(update=paid).relative_cost == 1.0
    assert effort.model_copy(update=paid | {"finetune_backward": 0}).relative_cost == 0.5


# What others made of it:


def challenge(attack="challenge:me", held=1) -> dict:
    evidence = {"file": "x.challenge1.npz", "digest": "0" * 64, "images": held}
    return {"attack": attack, "by": "me", "submitted": 9, "held": held, "evidence": evidence, "when": "2026-11-22"}


def test_verdicts_before_a_challenge_are_those_that_were_measured():
    attacks = (*AUTOATTACK, "challenge:me", "challenge:you")
    made = make_entry("quant8", "..a...x")
    later = Verdicts.of(attacks=attacks, letters="..afeex")
    challenged = made.changed(verdicts=later, challenges=(challenge(held=2), challenge("challenge:you", 1)))
    assert challenged.unchallenged == made.verdicts == made.unchallenged
    assert challenged.verdicts.autoattack == made.verdicts.autoattack
    assert Entry.model_validate_json(challenged.model_dump_json()) == challenged


@pytest.mark.parametrize(
    "challenges", [(), (challenge("challenge:you"),), (challenge(held=2),), (challenge(), challenge("challenge:you"))]
)
def test_challenges_and_letters_say_the_same(challenges):
    later = Verdicts.of(attacks=(*AUTOATTACK, "challenge:me"), letters="..ea..x")
    with pytest.raises(ValidationError, match="challenge"):
        make_entry("quant8", "..a...x").changed(verdicts=later, challenges=challenges)


def test_nobody_is_verified_by_nobody():
    with pytest.raises(ValidationError, match="verified exactly when it says by what"):
        make_entry("quant8", "..a.x").changed(status="verified")
    assert make_entry("quant8", "..a.x").changed(status="self-reported").status == "self-reported"


@pytest.mark.parametrize(
    ("steps", "word"),
    [
        ([], "none"),
        (["quantize"], "none"),
        (["finetune-clean"], "clean"),
        (["finetune-clean", "quantize", "finetune-adversarial"], "adversarial"),
        (["finetune-trades", "ours/magic"], "trades"),
        (["quantize", "ours/finetune-mart"], "mart"),
    ],
)
def test_a_recipe_says_how_it_fine_tunes(steps, word):
    recipe = make_entry("r").recipe.model_copy(update={"steps": tuple({"step": name} for name in steps)})
    assert recipe.finetuning == word


def test_code_that_ran_beside_the_judge_keeps_a_row_off_the_ranking():
    made = make_entry("quant8", "..a...x")
    for isolated in (True, False):
        code = OwnCode(file="ours/steps.py", sha256="0" * 64, isolated=isolated)
        steps = made.recipe.steps
        recipe = RecipeRecord(name="r", summary="s", steps=steps, fingerprint=fingerprint(steps, code), own_code=code)
        assert made.changed(recipe=recipe).ranked == isolated


def test_the_command_of_changed_settings_measures_the_same_recipe_again():
    """What an entry tells people to type, typed."""
    changes = ["steps.1.learning_rate=0.05", "steps.1.schedule=one-cycle", "steps.1.flip=true", "steps.0.range=mse"]
    tried = override(load_recipe("quant8-advft"), changes)
    record = RecipeRecord(
        name=tried.name, summary="", steps=tried.declared(), fingerprint=fingerprint(tried.declared())
    )
    words = shlex.split(make_entry("quant8-advft").changed(recipe=record).command)
    assert words[words.index("--recipe") + 1] == "quant8-advft"
    given = [words[i + 1] for i, word in enumerate(words) if word == "--set"]
    assert sorted(given) == sorted(changes)
    assert override(load_recipe("quant8-advft"), given).declared() == tried.declared()


def test_the_command_of_a_changed_submission_spells_every_setting():
    steps = ({"step": "quantize", "weight_bits": 8, "first_last_bits": None},)
    record = RecipeRecord(name="mine+123456", summary="", steps=steps, fingerprint=fingerprint(steps))
    assert make_entry("quant8").changed(recipe=record).command.endswith(" --set steps.0.weight_bits=8")


def from_file(name, file, model="bench:digits-cnn"):
    made = make_entry(name, model=model)
    return made.changed(recipe=made.recipe.model_copy(update={"file": file}))


def test_the_command_names_the_files_of_recipes_and_tracks_that_have_no_other_name(tmp_path):
    assert "--recipe quant8 --track digits-linf-v1" in make_entry("quant8", track="digits-linf-v1").command
    assert "--recipe mine.toml --track made-up-v1.toml" in from_file("mine", "mine.toml").command
    assert "--recipe mine.toml " in from_file("mine+123456", "mine.toml").command
    assert "--recipe mine " in make_entry("mine").command
    (tmp_path / "mine.toml").write_text('summary = "S"\nextends = "quant8"\n')
    mine = load_recipe(str(tmp_path / "mine.toml"))
    assert (mine.file, override(mine, ["steps.0.weight_bits=4"]).file) == ("mine.toml", "mine.toml")
    write_submission(tmp_path / "submissions", name="ours")
    assert load_recipe("ours", submissions=tmp_path / "submissions").file is None


def test_the_command_can_be_pasted_whatever_the_file_is_called():
    entry = from_file("my recipe", "my recipe.toml", model="checkpoint:my net.pt@bench:conv8")
    words = shlex.split(entry.command)
    assert words[words.index("--recipe") + 1] == "my recipe.toml"
    assert words[words.index("--model") + 1] == "checkpoint:my net.pt@bench:conv8"


def test_a_network_from_somebodys_own_file_is_not_ranked_and_needs_trust():
    """Its code runs where the judge does, and could change it."""
    entry = make_entry("quant8", model="python:net.py:make")
    assert (entry.standing, entry.ranked) == ("alarmed", False)
    assert entry.command.endswith(" --model python:net.py:make --trust")
    entry = make_entry("quant8", model="plugin:ours/net")
    assert (entry.standing, entry.command.endswith(" --model plugin:ours/net")) == ("alarmed", True)


def test_other_images_under_the_name_of_a_public_set_are_not_ranked():
    """Row by row, letters are compared with those of other entries, image by image."""
    entry = make_entry("quant8", track="made-up-v1")
    ours, other = TEST_SETS["digits"], "0" * 64
    assert [entry.changed(test_set=test_set).standing for test_set in (None, ours, other)] == [
        "ranked", "ranked", "alarmed",
    ]  # fmt: skip


@pytest.mark.parametrize(("count", "total"), [(3, 0), (6, 5), (-1, 5), (3, 4)])
def test_more_images_cannot_stand_pgd20_than_were_attacked(count, total):
    entry = make_entry("quant8", letters="..a.x")
    assert entry.changed(pgd20=Proportion(count=3, total=5)).pgd20
    with pytest.raises(ValidationError, match="stand PGD-20, and 5 have letters"):
        entry.changed(pgd20=Proportion(count=count, total=total))


@pytest.mark.parametrize("written", [r"\u001b[31m", r"\r", r"\b", r"\u009b31m", "\x9b31m", "\x7f"])
def test_an_entry_that_would_write_to_the_terminal_does_not_load(tmp_path, written):
    entry = make_entry("quant8")
    entry.write(tmp_path / "mine.json")
    assert load_entry(tmp_path / "mine.json") == entry
    text = (tmp_path / "mine.json").read_text()
    (tmp_path / "mine.json").write_text(text.replace(f'"{entry.recipe.summary}"', f'"{written} red"'))
    with pytest.raises(UsageError, match="control characters"):
        load_entry(tmp_path / "mine.json")


def test_a_packages_steps_are_not_ranked_either():
    steps = ({"step": "ours/prune"},)
    record = RecipeRecord(name="mine", summary="", steps=steps, fingerprint=fingerprint(steps))
    assert make_entry("quant8").ranked
    assert make_entry("quant8").changed(recipe=record).standing == "alarmed"
    # Nor beside an own step that ran apart: whoever names the recipe imports the package.
    steps, code = (
        ({"step": "ours/prune"}, {"step": "mine/x"}),
        OwnCode(file="mine/steps.py", sha256="0" * 64, isolated=True),
    )
    both = RecipeRecord(name="mine", summary="", steps=steps, fingerprint=fingerprint(steps, code), own_code=code)
    assert make_entry("quant8").changed(recipe=both).standing == "alarmed"
    alone = RecipeRecord(
        name="mine", summary="", steps=steps[1:], fingerprint=fingerprint(steps[1:], code), own_code=code
    )
    assert make_entry("quant8").changed(recipe=alone).standing == "ranked"
