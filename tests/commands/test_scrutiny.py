"""An honest entry is verified; each way of cheating is found; and a stronger attack changes letters."""

import json
import sys
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch
from factories import make_entry
from torch import nn

import bench.repeat
import bench.retrial
import bench.verify
from bench import cli
from bench.attack.driver import BenchEngine
from bench.attack.engine import Trial, run_suite
from bench.attack.engines import ENGINES
from bench.attack.suites import Budget, further
from bench.compress.export import deploy
from bench.compress.quantize import Quantize
from bench.compress.sealed import seal, unseal
from bench.efficiency import Efficiency
from bench.entry import Entry, load_entry
from bench.finetune.adversarial import FinetuneAdversarial
from bench.load.datasets import load_digits
from bench.model import Subject
from bench.progress import silent
from bench.recipe import Ingredients, Meter
from bench.run.album import FileAlbum
from bench.run.evidence import read_evidence, write_evidence
from bench.run.journal import FileJournal
from bench.stages import count_cost, keep_evidence, stand_trial
from bench.threat_model import ThreatModel
from bench.track import load_track
from bench.verdicts import STANDING, Verdicts

CPU, SHAPE, N = torch.device("cpu"), (1, 8, 8), 60
TRACK = load_track("digits-linf-v1")
STRONG = Budget(iterations=20, targets=3, queries=100, deployed_queries=20)
HALF = ThreatModel(norm="Linf", eps=TRACK.eps / 2)
PARENT = Efficiency(macs=64 * 48 + 48 * 10, bops=0, parameters=0, nonzeros=0, bytes=0, artefact="onnx-float32")
NAME = f"bench-digits-cnn--quant8--n{N}"


@pytest.fixture(scope="module")
def digits():
    return load_digits()


@pytest.fixture(scope="module")
def parent() -> nn.Module:
    with torch.random.fork_rng():
        torch.manual_seed(0)
        return nn.Sequential(nn.Flatten(), nn.Linear(64, 48), nn.ReLU(), nn.Linear(48, 10)).eval()


@pytest.fixture(scope="module")
def world(digits, parent, tmp_path_factory):
    """A sealed W8A8 network that is somewhat robust, what it ships as, and an honest entry with its evidence."""
    threads = torch.get_num_threads()
    torch.set_num_threads(1)
    root = tmp_path_factory.mktemp("world")
    ingredients = Ingredients(
        train=digits.train, threat=TRACK.threat, finetune_images=80_000, generator=torch.Generator().manual_seed(0),
        device=CPU, report=silent, meter=Meter(),
    )  # fmt: skip
    subject = Subject(twin=parent, parent=parent, deployed=parent)
    subject = FinetuneAdversarial(epochs=10, attack_steps=3, learning_rate=0.05, step_ratio=0.5)(subject, ingredients)
    subject = Quantize(weight_bits=8, activation_bits=8)(subject, ingredients)
    seal(subject.twin, SHAPE, {"sparse": False}, root / "model")
    sealed = unseal(root / "model", CPU)
    artefact = deploy(Subject(twin=sealed.network, parent=parent, deployed=sealed.network), SHAPE)
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(bench.retrial, "deploy", lambda *args: artefact)
        patch.setattr(bench.repeat, "deploy", lambda *args: artefact)
        patch.setattr(bench.repeat, "load_parent", lambda *args: parent)
        patch.setitem(ENGINES, "bench", lambda: BenchEngine(budget=STRONG))
        patch.setattr(bench.verify, "BenchEngine", lambda: BenchEngine(budget=STRONG))
        made = Subject(twin=sealed.network, parent=parent, deployed=sealed.network)
        trial = Trial(
            subject=stand_trial(made, artefact, compressed=True), examples=digits.test.first(N), threat=TRACK.threat,
            n_classes=10, seed=TRACK.seed, device=CPU,
        )  # fmt: skip
        cost = count_cost(sealed.network, artefact, digits)
        yield {"root": root, "trial": trial, "digest": sealed.digest, "cost": cost, "artefact": artefact}
    torch.set_num_threads(threads)


def measured(world, threat: ThreatModel) -> tuple[Entry, Path]:
    """Attack, as an evaluation does; return the entry and the folder of its evidence."""
    folder = world["root"] / f"attacked-at-{threat.eps_text}"
    journal = FileJournal(folder / "journal.json")
    album = FileAlbum(journal.images)
    trial = replace(world["trial"], engine=BenchEngine(budget=STRONG), album=album, threat=threat)
    outcome = run_suite(trial, "standard", further=further(trial.subject), journal=journal, report=silent)
    entry = make_entry("quant8", outcome.letters, track=TRACK.name, attacks=outcome.attacks)
    entry = entry.changed(sealed=world["digest"], efficiency=world["cost"], engine="bench 1", parent=PARENT)
    return entry.changed(evidence=keep_evidence(entry, album, trial.examples, folder)), folder


@pytest.fixture(scope="module")
def honest(world):
    return measured(world, TRACK.threat)


@pytest.fixture(scope="module")
def weak(world):
    """An entry that says 0.15 and was attacked at half of it."""
    return measured(world, HALF)


@pytest.fixture
def board(tmp_path, monkeypatch):
    monkeypatch.setenv("BENCH_CACHE_DIR", str(tmp_path / "cache"))
    monkeypatch.setenv("COLUMNS", "200")
    return tmp_path / "board"


@pytest.fixture
def place(board):
    """Put an entry on the board, changed or not, and its evidence beside it; return its file."""

    def placed(measurement, **changes):
        entry, folder = measurement
        entry = entry.changed(**changes)
        entry.save(board)
        path = entry.path(board)
        path.with_name(f"{NAME}.adversarial.npz").write_bytes((folder / f"{NAME}.adversarial.npz").read_bytes())
        return path

    return placed


@pytest.fixture
def run(world, board, monkeypatch, capsys):
    """Run a command; return its exit code, output and complaints."""

    def command(*arguments: str, model: str = "model"):
        given = ["--board", str(board), "--model", str(world["root"] / model), "--device", "cpu"]
        monkeypatch.setattr(sys, "argv", ["bench", *arguments, *(given if model else given[:2])])
        with pytest.raises(SystemExit) as ended:
            cli.main()
        out, err = capsys.readouterr()
        return ended.value.code or 0, out, err

    return command


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


# Verify:


def test_an_honest_entry_is_verified(run, place, honest):
    path = place(honest)
    code, out, err = run("verify", NAME, "--seed", "5", "--sample", "4")
    assert code == 0, out + err
    assert out.count("✓") == 8
    assert "4 of 4 surviving images stand" in out
    found = load_entry(path)
    assert (found.status, found.verification.sampled, found.verification.standing) == ("verified", 4, 4)
    assert found.verification.held == (
        "record", "model", "clean", "evidence", "adversarial", "cost", "alarms", "sample",
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


@pytest.mark.slow
def test_repeating_the_attack_finds_letters_that_no_attack_gives(run, place, honest):
    entry, _ = honest
    lied = flipped(entry, "a", STANDING)
    place(honest, verdicts=lied, evidence=None)
    answer = run("verify", NAME, "--full", "--sample", "0", "--json")
    assert answer[0] == 1
    assert [name for name, holds in findings(answer).items() if holds is False] == ["letters"]


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
    "another model": (lambda entry: {"sealed": "0" * 64}, {"model"}),
    "an easier track": (
        lambda entry: {"track": TRACK.model_copy(update={"eps": TRACK.eps / 2})}, {"record", "adversarial"},
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
    place(honest, verdicts=flipped(honest[0], "a", STANDING), evidence=None)
    answer = run("verify", NAME, "--seed", "1", "--sample", "12", "--json")
    assert answer[0] == 1
    assert [name for name, holds in findings(answer).items() if holds is False] == ["sample"]


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
    assert "make it with bench evaluate --recipe quant8 --track digits-linf-v1 --n-examples 60, or name a folder" in err


# Challenge:


def stronger(world, numbers: list[int], restarts: int = 4, steps: int = 20) -> torch.Tensor:
    """Plain PGD from many starts (Madry et al., 2018), each image the first that fools; not of the bench's attacks."""
    trial, eps = world["trial"], float(TRACK.eps)
    clean, labels = trial.batch(numbers)
    found, generator = clean.clone(), torch.Generator().manual_seed(0)
    open_ = torch.ones(len(numbers), dtype=torch.bool)
    for _ in range(restarts):
        point = (clean + eps * (2 * torch.rand(clean.shape, generator=generator) - 1)).clamp(0, 1)
        for _ in range(steps):
            point.requires_grad_()
            logits = trial.subject.twin(point)
            fooled = open_ & (logits.argmax(1) != labels)
            found[fooled], open_ = point.detach()[fooled], open_ & ~fooled
            (gradient,) = torch.autograd.grad(nn.functional.cross_entropy(logits, labels, reduction="sum"), point)
            ahead = point.detach() + eps / 8 * gradient.sign()
            point = torch.minimum(torch.maximum(ahead, clean - eps), clean + eps).clamp(0, 1)
    return found


def test_a_stronger_attack_changes_letters_and_the_new_entry_is_verified(run, place, weak, world, tmp_path):
    path = place(weak)
    before = load_entry(path)
    standing = [i for i, letter in enumerate(before.verdicts.letters) if letter == STANDING]
    np.savez(tmp_path / "mine.npz", images=stronger(world, standing).numpy(), indices=np.array(standing))
    url = "https://example.org/pgd"
    code, out, err = run("challenge", NAME, str(tmp_path / "mine.npz"), "--by", "A. Nobody", "--reference", url)
    assert code == 0, err
    after = load_entry(path)
    (record,) = after.challenges
    assert record.held >= 3
    assert f"{record.held} holds" in out
    assert f"robust on {len(standing) - record.held} of {N} images instead of {len(standing)}" in out
    assert (record.attack, record.by, record.reference) == ("challenge:A.-Nobody", "A. Nobody", url)
    assert (record.submitted, after.verdicts.robust.count) == (len(standing), len(standing) - record.held)
    assert after.verdicts.attacks == (*before.verdicts.attacks, "challenge:A.-Nobody")
    assert after.verdicts.autoattack == before.verdicts.autoattack
    assert after.unchallenged == before.verdicts
    code, out, _ = run("verify", NAME, "--sample", "0")
    assert code == 0, out
    assert load_entry(path).status == "verified"

    # The same again changes nothing; what another finds later has a letter of its own.
    assert "Nothing holds" in run("challenge", NAME, str(tmp_path / "mine.npz"), "--by", "A. Nobody")[1]
    assert load_entry(path).status == "verified"


def test_images_of_another_run_are_read_as_they_were_kept(run, place, weak, honest):
    path = place(weak)
    file = honest[1] / f"{NAME}.adversarial.npz"
    assert run("challenge", NAME, str(file), "--by", "them", "--dry-run")[0] == 0
    assert load_entry(path) == weak[0]
    _, out, _ = run("challenge", NAME, str(file), "--by", "them", "--json")
    fates, after = json.loads(out)["fates"], load_entry(path)
    fell = lambda entry: {i for i, letter in enumerate(entry.verdicts.letters) if letter not in ".x"}  # noqa: E731
    assert set(fates["already fallen"]) == fell(weak[0]) & fell(honest[0])
    assert set(fates["holds"]) == fell(honest[0]) - fell(weak[0])
    assert fell(after) == fell(weak[0]) | fell(honest[0])
    assert after.challenges[0].held == len(fates["holds"])


def test_every_image_that_does_not_hold_is_counted_and_named(run, place, weak, world, tmp_path):
    entry = weak[0]
    path = place(weak)
    letters, trial = entry.verdicts.letters, world["trial"]
    standing = [i for i, letter in enumerate(letters) if letter == STANDING]
    good = stronger(world, standing)
    labels = trial.examples.labels[standing]
    fooling = next(i for i, ok in enumerate(trial.subject.twin(good).argmax(1) != labels) if ok)
    first, target = good[fooling], standing[fooling]
    clean = trial.examples.pixels()
    fallen, wrong = letters.index("a"), letters.index("x")
    rows = [
        (first, target, "holds"), (first, target, "more of the same"), (first, N, "wrong index"),
        (first, -1, "wrong index"), (clean[fallen], fallen, "already fallen"),
        (clean[wrong], wrong, "wrong without any attack"), (first / 0, target, "not finite"),
        (clean[target] - 0.1, target, "outside the box"), (1 - clean[target], target, "outside the ball"),
        (clean[standing[0]], standing[0], "not fooling"),
    ]  # fmt: skip
    assert clean[target].min() < 0.1
    torch.save(
        {"images": torch.stack([image for image, _, _ in rows]), "indices": torch.tensor([i for _, i, _ in rows])},
        tmp_path / "mine.pt",
    )
    _, out, _ = run("challenge", NAME, str(tmp_path / "mine.pt"), "--by", "me", "--json")
    expected = {}
    for _, number, fate in rows:
        expected.setdefault(fate, []).append(number)
    assert {fate: found for fate, found in json.loads(out)["fates"].items() if found} == expected
    assert load_entry(path).challenges[0].submitted == len(rows)


def test_a_little_beyond_the_ball_is_outside_and_rounding_is_not(run, place, weak, world, tmp_path):
    place(weak)
    numbers = [i for i, letter in enumerate(weak[0].verdicts.letters) if letter == STANDING]
    good, (clean, _) = stronger(world, numbers), world["trial"].batch(numbers)
    away = good - clean
    for beyond, outside in ((5e-7, False), (5e-6, True)):
        farther = clean + away.sign() * (away.abs() + (away.abs() > 0.1499) * beyond)
        np.savez(tmp_path / "mine.npz", images=farther.clamp(0, 1).numpy(), indices=np.array(numbers))
        out = run("challenge", NAME, str(tmp_path / "mine.npz"), "--by", "me", "--dry-run", "--json")[1]
        assert bool(json.loads(out)["fates"]["outside the ball"]) == outside


def test_one_image_for_each_test_image_needs_no_indices_and_bytes_are_divided_by_255(
    run, place, honest, world, tmp_path
):
    path = place(honest)
    np.savez(tmp_path / "mine.npz", images=world["trial"].examples.images.numpy())
    code, out, _ = run("challenge", NAME, str(tmp_path / "mine.npz"), "--by", "me")
    assert code == 0
    assert f"{honest[0].verdicts.robust.count} not fooling" in out
    assert "Nothing holds" in out
    assert load_entry(path) == honest[0]


@pytest.mark.parametrize(
    ("arrays", "sentence"),
    [
        ({"images": np.zeros((3, 8, 8), np.float32)}, r"Expected images of shape (N, 1, 8, 8), got (3, 8, 8)"),
        ({"images": np.zeros((3, 1, 8, 8), np.float32)}, "has 3 images and no 'indices'"),
        ({"images": np.zeros((3, 1, 8, 8), np.int64)}, "as floats in [0, 1] or as uint8"),
        ({"images": np.zeros((2, 1, 8, 8)), "indices": np.zeros(2)}, "'indices' to be 2 whole numbers"),
        ({"images": np.zeros((2, 1, 8, 8)), "indices": np.zeros(3, int)}, "'indices' to be 2 whole numbers"),
        ({"pictures": np.zeros((2, 1, 8, 8))}, "under the name 'images'"),
        ({"images": np.array([{"a": 1}], dtype=object)}, "is not an .npz file of plain arrays"),
    ],
)
def test_a_file_of_another_form_is_refused_in_a_sentence(run, place, honest, tmp_path, arrays, sentence):
    place(honest)
    np.savez(tmp_path / "mine.npz", **arrays)
    code, out, err = run("challenge", NAME, str(tmp_path / "mine.npz"), "--by", "me")
    assert (code, out) == (2, "")
    assert sentence in err


def test_no_pickle_is_opened(run, place, honest, tmp_path):
    place(honest)
    torch.save({"images": torch.zeros(2, 1, 8, 8), "more": FileJournal(tmp_path / "x")}, tmp_path / "mine.pt")
    code, _, err = run("challenge", NAME, str(tmp_path / "mine.pt"), "--by", "me")
    assert code == 2
    assert "is not a .pt file of tensors alone" in err


def test_a_missing_file_and_another_model_are_named(run, place, honest, tmp_path, world, parent):
    place(honest)
    assert run("challenge", NAME, str(tmp_path / "none.npz"), "--by", "me")[0] == 3
    seal(parent, SHAPE, {}, world["root"] / "other")
    np.savez(tmp_path / "mine.npz", images=np.zeros((N, 1, 8, 8)))
    code, _, err = run("challenge", NAME, str(tmp_path / "mine.npz"), "--by", "me", model="other")
    assert code == 2
    assert f"Expected the model of {NAME}" in err


def test_an_entry_that_changed_meanwhile_is_not_overwritten(run, place, honest, monkeypatch):
    path = place(honest)
    changed = honest[0].changed(seed=0, model="bench:digits-cnn", engine="bench 2")

    def meanwhile(*args):
        changed.write(path)
        return ()

    monkeypatch.setattr("bench.verify.question", meanwhile)
    code, _, err = run("verify", NAME, "--sample", "0")
    assert code == 1
    assert "changed meanwhile" in err
    assert load_entry(path) == changed
