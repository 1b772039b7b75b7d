"""An honest entry is verified, and each way of cheating is found."""

import json
import shutil
from dataclasses import replace

import pytest
from scrutinised import NAME, SHAPE, TRACK, N

import bench.audit.repeat
import bench.audit.verify
from bench.attack.suites import SQUARE_AGAIN
from bench.compress.sealed import seal
from bench.entry import Entry, load_entry
from bench.errors import GateError
from bench.replacing import refuse_to_forget
from bench.run.evidence import read_evidence, write_evidence
from bench.scrutiny import VERIFIER, Challenge, Evidence
from bench.verdicts import LETTERS, STANDING, Proportion, Verdicts


def findings(answer) -> dict[str, bool | None]:
    return {one["name"]: one["holds"] for one in json.loads(answer[1])["findings"]}


def flipped(entry: Entry, old: str, new: str, most: int = N) -> Verdicts:
    verdicts = entry.verdicts
    return Verdicts.of(attacks=verdicts.attacks, letters=verdicts.letters.replace(old, new, most))


def test_the_world_has_what_the_tests_need(honest, weak):
    letters = honest[0].verdicts.letters
    assert 5 <= letters.count(STANDING) <= N - 10
    assert "x" in letters
    assert weak[0].verdicts.letters.count(STANDING) > letters.count(STANDING) + 2


def test_a_few_survivors_are_too_few(run, place, honest, monkeypatch):
    path = place(honest)
    monkeypatch.setattr(bench.audit.verify, "ENOUGH", 20)
    code, _, err = run("verify", NAME, "--sample", "1")
    assert code == 1
    assert "1 of its survivors are too few to call it verified" in err
    assert load_entry(path).status == "measured"


def test_an_honest_entry_is_verified(run, place, honest):
    path = place(honest)
    code, out, err = run("verify", NAME, "--seed", "5", "--sample", "4")
    assert code == 0, out + err
    assert out.count("✓") == 10
    assert "4 of 4 surviving images stand" in out
    found = load_entry(path)
    assert (found.status, found.verification.sampled, found.verification.standing) == ("verified", 4, 4)
    assert found.verification.held == (
        "record", "model", "clean", "evidence", "adversarial", "cost", "effort", "alarms", "pgd-20", "sample",
    )  # fmt: skip
    assert found.changed(status="measured", verification=None) == honest[0]


def test_without_evidence_it_says_what_it_could_not_check(run, place, honest):
    path = place(honest, evidence=None)
    code, out, _ = run("verify", str(path), "--sample", "0")
    assert code == 0
    assert "not checked: evidence, adversarial, sample" in out
    assert load_entry(path).verification.unchecked == ("evidence", "adversarial", "sample")


def test_repeating_the_whole_attack_gives_the_same_letters(run, place, honest):
    path = place(honest)
    code, out, err = run("verify", NAME, "--full", "--sample", "0")
    assert code == 0, out + err
    assert f"0 of {N} letters differ" in out
    assert load_entry(path).verification.full


def test_an_image_that_decides_whether_square_runs_again_decides_no_more_than_its_letter(honest):
    entry, _ = honest
    stated = entry.verdicts
    again = (*stated.attacks, *SQUARE_AGAIN)
    found = bench.audit.repeat._letters(entry, again, stated.letters)
    assert found.holds, found.text
    assert bench.audit.repeat._letters(entry, (*stated.attacks, "another"), stated.letters).holds is False


@pytest.mark.slow
def test_repeating_the_attack_finds_letters_that_no_attack_gives(run, place, honest):
    entry, _ = honest
    lied = flipped(entry, "a", STANDING)
    path = place(honest, verdicts=lied, evidence=None)
    answer = run("verify", NAME, "--full", "--sample", "0", "--json")
    assert answer[0] == 1
    assert [name for name, holds in findings(answer).items() if holds is False] == ["letters"]
    assert load_entry(path).verdicts.robust == entry.verdicts.robust


def test_images_that_fall_lose_their_dot_even_where_too_few_fall_to_say_that_it_does_not_hold(run, place, honest):
    entry, _ = honest
    lied = flipped(entry, "a", STANDING, 3)
    path = place(honest, verdicts=lied, evidence=None)
    code, out, err = run("verify", NAME, "--full", "--sample", "0")
    assert code == 0, err
    assert f"robust on {entry.verdicts.robust.count} of {N} images instead of {lied.robust.count}" in out
    found = load_entry(path)
    assert (found.status, found.verdicts.robust) == ("verified", entry.verdicts.robust)
    (conceded,) = found.challenges
    assert (conceded.by, conceded.held) == ("bench verify", 3)
    # Its images are evidence as any challenger's are: they hold again.
    code, out, err = run("verify", NAME, "--sample", "4", "--json")
    assert code == 0, err
    assert findings((code, out))["adversarial"] is True


CHEATS = {
    "fallen images called robust": (lambda entry: {"verdicts": flipped(entry, "a", STANDING, 1)}, {"adversarial"}),
    "wrong images called robust": (lambda entry: {"verdicts": flipped(entry, "x", STANDING)}, {"clean"}),
    "right images called wrong": (lambda entry: {"verdicts": flipped(entry, STANDING, "x", 1)}, {"clean"}),
    "fallen images of which there is no version": (
        lambda entry: {"verdicts": flipped(entry, STANDING, "a", 1)}, {"adversarial"},
    ),
    "another attack's letters": (lambda entry: {"verdicts": flipped(entry, "a", "b", 1)}, {"adversarial"}),
    "fewer operations": (
        lambda entry: {"efficiency": entry.efficiency.model_copy(update={"macs": entry.efficiency.macs - 1})}, {"cost"},
    ),
    "fewer bytes": (
        lambda entry: {"efficiency": entry.efficiency.model_copy(update={"bytes": entry.efficiency.bytes // 2})},
        {"cost"},
    ),
    "less fine-tuning": (
        lambda entry: {"effort": entry.effort.model_copy(update={"finetune_forward": 1})}, {"effort"},
    ),
    "more that stand PGD-20": (lambda entry: {"pgd20": Proportion(count=N, total=N)}, {"pgd-20"}),
    "less than AutoAttack": (
        lambda entry: {
            "verdicts": Verdicts.of(attacks=entry.verdicts.attacks[:3], letters=flipped(entry, "d", STANDING).letters),
            "evidence": None,
        },
        {"record"},
    ),
    "another model": (lambda entry: {"sealed": "0" * 64}, {"model"}),
    "an easier track": (
        lambda entry: {"track": TRACK.model_copy(update={"eps": TRACK.eps / 2})}, {"record", "adversarial", "pgd-20"},
    ),
}  # fmt: skip


@pytest.mark.parametrize("cheat", CHEATS)
def test_a_cheat_is_found_and_the_status_stays(run, place, honest, cheat):
    changes, expected = CHEATS[cheat]
    path = place(honest, **changes(honest[0]))
    before = path.read_bytes()
    answer = run("verify", NAME, "--sample", "0", "--json")
    assert answer[0] == 1
    assert {name for name, holds in findings(answer).items() if holds is False} == expected
    assert "does not hold (" in answer[2]
    assert "its status stays 'measured'" in answer[2]
    assert path.read_bytes() == before


def test_fallen_images_called_robust_without_evidence_fall_in_the_sample(run, place, honest):
    path = place(honest, verdicts=flipped(honest[0], "a", STANDING), evidence=None)
    before = load_entry(path)
    answer = run("verify", NAME, "--seed", "1", "--sample", "12", "--json")
    assert answer[0] == 1
    assert [name for name, holds in findings(answer).items() if holds is False] == ["sample"]
    fell = json.loads(answer[1])["conceded"]
    assert fell >= 3
    after = load_entry(path)
    assert (after.status, after.unchallenged) == ("measured", before.verdicts)
    assert after.verdicts.robust.count == before.verdicts.robust.count - fell


def test_a_model_beside_its_entry_is_the_one_that_is_asked(run, place, honest, world, parent, monkeypatch, tmp_path):
    path = place(honest)
    published = path.with_name(f"{NAME}.model")
    shutil.copytree(world["root"] / "model", published)
    assert run("verify", NAME, "--sample", "0", model="")[0] == 0
    seal(parent, SHAPE, {"sparse": False}, published)
    code, out, err = run("verify", NAME, "--sample", "0", model="")
    assert (code, "nothing else checked" in out) == (1, True), err
    # After another measurement what is published may be of the former; the cache has the right one.
    monkeypatch.setenv("BENCH_CACHE_DIR", str(tmp_path))
    shutil.copytree(world["root"] / "model", tmp_path / "compressed" / "one")
    assert run("verify", NAME, "--sample", "0", model="")[0] == 0


def test_other_test_images_under_the_same_name_are_no_retrial(run, place, honest):
    place(honest, test_set="0" * 64)
    code, _, err = run("verify", NAME)
    assert code == 2
    assert "was measured on other test images of digits than those here" in err


def test_another_verification_adds_to_the_letter_of_the_last(run, place, honest):
    entry, _ = honest
    path = place(honest, verdicts=flipped(entry, "a", STANDING, 6), evidence=None)
    answers = [run("verify", NAME, "--seed", str(seed), "--sample", "6", "--json") for seed in range(6)]
    found = load_entry(path)
    assert sum(json.loads(answer[1])["conceded"] > 0 for answer in answers) >= 2
    (conceded,) = found.challenges
    assert conceded.held == sum(json.loads(answer[1])["conceded"] for answer in answers)
    assert findings(run("verify", NAME, "--sample", "0", "--json"))["adversarial"] is True


def test_what_verify_found_goes_with_the_model_that_it_concerns(place, honest):
    entry, _ = honest
    path = place(honest, verdicts=flipped(entry, "a", STANDING, 1), evidence=None)
    old = load_entry(path)
    images = Evidence(file="x.npz", digest="0" * 64, images=1)
    conceded = Challenge(attack="challenge:v", by=VERIFIER, submitted=1, held=1, evidence=images, when="now")
    letters = old.verdicts.letters.replace(STANDING, LETTERS[len(old.verdicts.attacks)], 1)
    verdicts = Verdicts.of(attacks=(*old.verdicts.attacks, "challenge:v"), letters=letters)
    old.changed(verdicts=verdicts, challenges=(conceded,)).write(path)
    refuse_to_forget(path)
    refuse_to_forget(path, old.changed(sealed="1" * 64))
    with pytest.raises(GateError, match="was challenged by bench verify"):
        refuse_to_forget(path, old)


def test_an_edited_letter_does_not_load(run, place, honest):
    path = place(honest)
    path.write_text(path.read_text().replace('"letters": "', '"letters": ".', 1))
    code, out, err = run("verify", NAME)
    assert (code, out) == (1, "")
    assert "the counts disagree with the letters" in err


@pytest.mark.parametrize("where", [100, -40])
def test_tampered_evidence_is_found(run, place, honest, where):
    path = place(honest)
    file = path.with_name(f"{NAME}.adversarial.npz")
    content = bytearray(file.read_bytes())
    content[where] ^= 1
    file.write_bytes(content)
    answer = run("verify", NAME, "--sample", "0", "--json")
    assert answer[0] == 1
    assert findings(answer)["evidence"] is False


@pytest.mark.parametrize(
    ("by", "complaint"), [("clean", "1 fool nobody"), ("far", "1 are outside Linf 0.15"), ("grey", "outside Linf 0.15")]
)
def test_evidence_that_proves_nothing_is_found_though_its_digest_is_right(run, place, honest, world, by, complaint):
    path, trial = place(honest), world["trial"]
    file = path.with_name(f"{NAME}.adversarial.npz")
    stored = read_evidence(file, trial.examples, trial.threat)
    images, original = stored.images.clone(), trial.examples.pixels(stored.numbers[:1])
    images[:1] = {"clean": original, "far": 1 - original, "grey": original - 0.01}[by]
    evidence = write_evidence(file, replace(stored, images=images), trial.examples, trial.threat)
    load_entry(path).changed(evidence=evidence).write(path)
    answer = run("verify", NAME, "--sample", "0", "--json")
    assert answer[0] == 1
    (found,) = [one for one in json.loads(answer[1])["findings"] if one["holds"] is False]
    assert found["name"] == "adversarial"
    assert complaint in found["text"]


def test_a_swapped_model_is_found_and_nothing_else_is_asked_of_it(run, place, honest, world, parent):
    place(honest)
    seal(parent, SHAPE, {}, world["root"] / "other")
    answer = run("verify", NAME, "--json", model="other")
    assert answer[0] == 1
    assert findings(answer) == {"record": True, "model": False}


def test_a_damaged_model_is_named(run, place, honest, world):
    place(honest)
    damaged = world["root"] / "damaged"
    damaged.mkdir(exist_ok=True)
    for file in (world["root"] / "model").iterdir():
        (damaged / file.name).write_bytes(file.read_bytes()[:-1])
    code, _, err = run("verify", NAME, model="damaged")
    assert code == 2
    assert "Cannot load the compressed model" in err


def test_a_model_that_is_not_here_can_be_made_or_named(run, place, honest):
    place(honest)
    code, out, err = run("verify", NAME, model="")
    assert (code, out) == (3, "")
    command = "bench evaluate --recipe quant8 --track digits-linf-v1 --n-examples 60 --board AGAIN"
    assert f"make it with {command}, or name a folder" in err


def test_an_entry_that_changed_meanwhile_is_not_overwritten(run, place, honest, monkeypatch):
    path = place(honest)
    changed = honest[0].changed(seed=0, model="bench:digits-cnn", engine="bench 3")

    def meanwhile(*args):
        changed.write(path)
        return ()

    monkeypatch.setattr("bench.audit.verify.question", meanwhile)
    code, _, err = run("verify", NAME, "--sample", "0")
    assert code == 1
    assert "changed meanwhile" in err
    assert load_entry(path) == changed
