"""A whole evaluation on the embedded track."""

import dataclasses
from contextlib import nullcontext
from functools import partial

import pytest
import torch

import bench.evaluate
import bench.parent
import bench.stages
from bench.attack.driver import BenchEngine
from bench.attack.engines import ENGINES
from bench.attack.suites import Budget
from bench.compress.export import deploy
from bench.compress.sealed import digest_of
from bench.dataset import TEST_SETS
from bench.entry import load_entry
from bench.errors import MissingError, UsageError
from bench.evaluate import evaluate, evaluate_each
from bench.load.architectures import SCHEDULES
from bench.machine.device import pick_device
from bench.measure.latency import measure_latency
from bench.model import ModelSpec
from bench.prepare import published_model
from bench.progress import silent
from bench.recipe import fingerprint, load_recipe
from bench.recipe_changes import override
from bench.recipe_record import RecipeRecord
from bench.request import Request
from bench.run.evidence import digest_of_file
from bench.stages import measure
from bench.track import load_track
from bench.verdicts import AUTOATTACK, LETTERS

IMAGES = 12
SUITE = (*AUTOATTACK, "transfer", "surrogate", "apgd-scaled", "square-deployed")
FACED = (*SUITE, "pgd-20")
SHORT = BenchEngine(budget=Budget(iterations=20, targets=4, queries=200))


@pytest.fixture(scope="module")
def cache(tmp_path_factory):
    """One cache, three epochs for the parent and short attacks for the whole file."""
    with pytest.MonkeyPatch.context() as patch:
        path = tmp_path_factory.mktemp("cache")
        patch.setenv("BENCH_CACHE_DIR", str(path))
        patch.setitem(SCHEDULES, "digits-cnn", dataclasses.replace(SCHEDULES["digits-cnn"], epochs=3))
        patch.setitem(ENGINES, "bench", lambda: SHORT)
        patch.setattr(bench.evaluate, "deploy", exported_once())
        patch.setattr(bench.stages, "measure_latency", partial(measure_latency, budget_s=1.0))
        yield path


def exported_once():
    """The export to ONNX, which takes longer than an attack, once for each network of the same weights."""
    done = {}

    def remembering(subject, image_shape, **settings):
        state = sorted(subject.twin.state_dict().items())
        key = b"".join(name.encode() + value.contiguous().numpy().tobytes() for name, value in state)
        if key not in done:
            done[key] = deploy(subject, image_shape, **settings)
        # As from a fresh export: a float model is its own classifier, and that is an object of this evaluation.
        own = done[key].kind == "onnx-float32"
        return dataclasses.replace(done[key], classifier=subject.twin) if own else done[key]

    return remembering


def request(recipe: str = "quant8", *changes: str, **settings) -> Request:
    track = load_track("digits-linf-v1")
    defaults = {"model": ModelSpec.parse(track.model), "n_examples": IMAGES, "device": "cpu"}
    return Request(recipe=override(load_recipe(recipe), list(changes)), track=track, **defaults | settings)


@pytest.fixture(scope="module")
def board(tmp_path_factory):
    return tmp_path_factory.mktemp("board")


@pytest.fixture(scope="module")
def entry(cache, board):
    return evaluate(request(), board, silent)


@pytest.fixture
def asked(monkeypatch):
    """The attacks that really ran, in order; `asked.stop_at` names one at which Ctrl-C comes."""

    class Asked(list):
        stop_at, name = "", SHORT.name

        def __call__(self, trial, attack, images, report):
            if not images:
                return
            if attack == self.stop_at:
                raise KeyboardInterrupt
            self.append(attack)
            yield from SHORT(trial, attack, images, report)

    calls = Asked()
    monkeypatch.setitem(ENGINES, "bench", lambda: calls)
    return calls


def journals(cache) -> list:
    return list((cache / "unfinished").glob("*"))


@pytest.fixture
def untimed(monkeypatch):
    """Leave out the latency, which takes longer than all the rest."""
    monkeypatch.setattr(bench.stages, "measure_latency", lambda *args: None)


def test_a_finished_evaluation_leaves_its_entry_and_no_journal(entry, cache, board):
    path = board / "digits-linf-v1" / f"bench-digits-cnn--quant8--n{IMAGES}.json"
    assert entry.path(board) == path
    assert load_entry(path) == entry
    assert (cache / "unfinished").is_dir()
    assert journals(cache) == []


def test_fewer_images_make_a_partial_entry(entry):
    assert entry.partial
    assert not entry.ranked
    assert len(entry.verdicts.letters) == sum(entry.verdicts.counts.values()) == IMAGES
    assert set(entry.verdicts.letters) <= {".", "x", *LETTERS[:8]}
    assert entry.verdicts.attacks == FACED


def test_a_published_row_is_published_with_what_is_made_anew(entry, cache, tmp_path, untimed):
    first = evaluate(request(), tmp_path, silent)
    published = published_model(first, first.path(tmp_path).parent)
    published.mkdir()
    (published / "model.safetensors").write_bytes(b"another")
    found = evaluate(request(), tmp_path, silent)
    assert (first.evidence, digest_of(published)) == (None, found.sealed)
    assert digest_of_file(published.parent / found.evidence.file) == found.evidence.digest


def test_the_test_images_are_named(entry):
    assert entry.test_set == TEST_SETS["digits"]


def test_w8a8_costs_64_bops_a_mac_and_ships_as_integers(entry):
    assert entry.efficiency.bops == 64 * entry.efficiency.macs
    assert entry.parent.bops == 32 * 32 * entry.parent.macs
    assert (entry.efficiency.artefact, entry.parent.artefact) == ("onnx-int8", "onnx-float32")
    assert entry.efficiency.integer_macs == pytest.approx(1.0)
    assert entry.efficiency.bytes < entry.parent.bytes
    assert entry.efficiency.latency is not None
    assert entry.efficiency.macs == entry.parent.macs


def test_twin_and_deployed_model_agree(entry):
    assert entry.agreement is not None
    assert (entry.agreement.n, entry.agreement.top1) == (IMAGES, 1.0)
    assert entry.agreement.gap < 0.05
    assert entry.agreement.adversarial_n == IMAGES - entry.verdicts.letters.count("x")
    assert entry.agreement.adversarial_top1 > 0.8


def test_the_recipe_the_question_and_the_effort_are_on_record(entry):
    assert (entry.track.name, entry.track.norm, entry.track.eps) == (
        "digits-linf-v1",
        "Linf",
        load_track("digits-linf-v1").eps,
    )
    assert entry.recipe.steps[0]["calibration_images"] == 512
    assert (entry.effort.finetune_forward, entry.effort.finetune_backward) == (0, 0)
    assert entry.effort.attack_forward > entry.effort.attack_backward > 0
    assert set(entry.effort.seconds) == {"load", "compress and fine-tune", "deploy", "attack", "measure"}
    assert not entry.verdicts.fatal


def test_the_same_request_attacks_afresh_and_gives_the_same_letters(entry, tmp_path, untimed, asked):
    again = evaluate(request(), tmp_path, silent)
    assert asked
    assert asked == list(SUITE)[: len(asked)]
    assert again.verdicts == entry.verdicts
    assert again.agreement == entry.agreement
    assert again.effort.attack_forward == entry.effort.attack_forward


def test_the_second_parent_comes_from_the_cache(entry, cache, tmp_path, untimed, monkeypatch):
    assert len(list((cache / "models").glob("*.safetensors"))) == 1

    def train(*args, **kwargs):
        raise AssertionError("the parent was trained again")

    monkeypatch.setattr(bench.parent, "fit_schedule", train)
    found = evaluate(request("none"), tmp_path, silent)
    # Nothing was compressed, and its gradients are its own: AutoAttack is enough.
    assert found.verdicts.attacks == (*AUTOATTACK, "pgd-20")
    # What ships is an ONNX file, in float too, and must be the network that was attacked.
    assert found.efficiency.artefact == "onnx-float32"
    assert found.agreement is not None
    assert (found.agreement.n, found.agreement.top1) == (IMAGES, 1.0)
    assert found.agreement.gap < 1e-3


def test_seeds_that_are_done_are_not_attacked_again(entry, cache, tmp_path, untimed, asked):
    seeds = [request(seed=0), request(seed=1)]

    def watch():
        return nullcontext(silent)

    line = evaluate_each(seeds, tmp_path, watch)
    first = next(line)
    asked.clear()
    asked.stop_at = "fab-t"
    with pytest.raises(KeyboardInterrupt):
        next(line)
    assert asked == list(SUITE[:2])
    asked.clear()
    asked.stop_at = ""
    again = list(evaluate_each(seeds, tmp_path, watch))
    assert asked == list(SUITE[2:])
    assert journals(cache) == []
    assert again[0].verdicts == first.verdicts
    assert again[0].effort.seconds["attack"] > first.effort.seconds["attack"] / 2 > 0


def test_nothing_is_asked_twice_of_an_interrupted_attack(entry, cache, tmp_path, untimed, asked):
    """Stop between two attacks, go on, and reach the same letters; or start afresh, and reach them, too."""
    robust = request("quant8-advft", "steps.1.epochs=1", "steps.1.attack_steps=2", keep=tmp_path / "kept")
    asked.stop_at = "fab-t"
    with pytest.raises(KeyboardInterrupt):
        evaluate(robust, tmp_path, silent)
    assert len(list((cache / "unfinished").glob("*.json"))) == 1
    assert list(tmp_path.rglob("*.json")) == []
    asked.clear()
    asked.stop_at = ""
    found = evaluate(robust, tmp_path, silent)
    assert asked == list(SUITE[2:])
    assert journals(cache) == []
    assert load_entry(found.path(tmp_path)) == found
    assert found.evidence.images == IMAGES - found.verdicts.letters.count(".") - found.verdicts.letters.count("x")
    assert digest_of_file(tmp_path / "kept" / found.evidence.file) == found.evidence.digest
    assert found.effort.finetune_forward == 3 * (1397 // 64) * 64
    assert found.recipe.fingerprint != entry.recipe.fingerprint
    assert (found.efficiency.artefact, found.efficiency.bops) == ("onnx-int8", 64 * found.efficiency.macs)
    assert not found.verdicts.fatal

    asked.stop_at = "fab-t"
    with pytest.raises(KeyboardInterrupt):
        evaluate(robust, tmp_path, silent)
    asked.clear()
    asked.stop_at = ""
    expected = evaluate(dataclasses.replace(robust, fresh=True), tmp_path, silent)
    assert asked == list(SUITE)
    assert found.verdicts == expected.verdicts
    assert found.effort.attack_forward == expected.effort.attack_forward
    assert journals(cache) == []


def test_an_l2_track_runs_from_end_to_end(cache, tmp_path, untimed):
    track = load_track("digits-linf-v1").model_copy(update={"name": "digits-l2", "norm": "L2"})
    found = evaluate(dataclasses.replace(request(n_examples=6), track=track), tmp_path, silent)
    assert (found.track.norm, len(found.verdicts.letters)) == ("L2", 6)
    assert not found.verdicts.fatal


def test_another_recipe_file_of_the_same_name_is_refused_before_any_work(entry, cache, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    mine = entry.changed(recipe=entry.recipe.model_copy(update={"name": "mine"}))
    mine.save(tmp_path)
    (tmp_path / "mine.toml").write_text('summary = "Mine"\nextends = "quant4"\n')
    monkeypatch.setattr(bench.evaluate, "load_parent", lambda *arguments: pytest.fail("too late"))
    with pytest.raises(UsageError, match=r"holds another recipe that is called mine: its steps\.0\.weight_bits is 8, "):
        evaluate(request("mine.toml"), tmp_path, silent)
    assert load_entry(mine.path(tmp_path)) == mine


def test_an_entry_that_came_meanwhile_is_not_replaced_by_another_recipes(
    entry, cache, tmp_path, untimed, asked, monkeypatch
):
    monkeypatch.chdir(tmp_path)
    steps = tuple(step | {"calibration_images": 256} for step in entry.recipe.steps)
    record = RecipeRecord(name="mine", summary="", steps=steps, fingerprint=fingerprint(steps))
    theirs = entry.changed(recipe=record)
    (tmp_path / "mine.toml").write_text('summary = "Mine"\nextends = "quant8"\n')

    def meanwhile(*args):
        theirs.save(tmp_path)
        return measure(*args)

    monkeypatch.setattr(bench.evaluate, "measure", meanwhile)
    with pytest.raises(UsageError, match="calibration_images is 256, and this one's 512"):
        evaluate(request("mine.toml"), tmp_path, silent)
    assert load_entry(theirs.path(tmp_path)) == theirs
    theirs.path(tmp_path).unlink()
    asked.clear()
    monkeypatch.setattr(bench.evaluate, "measure", measure)
    assert evaluate(request("mine.toml"), tmp_path, silent).recipe.steps == entry.recipe.steps
    assert asked == [], "what was attacked is not attacked again"


@pytest.mark.parametrize("name", ["gpu", "mps", "cuda:x", "cpux"])
def test_a_device_nobody_knows_is_refused(name):
    with pytest.raises(UsageError, match=f"Expected --device auto, cpu or cuda, got '{name}'"):
        pick_device(name)


def test_a_device_this_machine_lacks_is_missing(monkeypatch):
    monkeypatch.setattr(torch.cuda, "device_count", lambda: 1)
    with pytest.raises(MissingError, match="no device 'cuda:7' here"):
        pick_device("cuda:7")
    monkeypatch.setattr(torch.cuda, "device_count", lambda: 0)
    with pytest.raises(MissingError, match="no device 'cuda' here"):
        pick_device("cuda")


@pytest.mark.parametrize(("n_examples", "got"), [(0, "0"), (-1, "-1"), (401, "401"), (10_000, "10,000")])
def test_fewer_images_than_one_and_more_than_the_track_has_are_refused(n_examples, got):
    with pytest.raises(UsageError, match=rf"digits-linf-v1 attacks 400 images: expected 1 to 400, got {got}\."):
        request(n_examples=n_examples)


def test_the_track_says_how_many_images_unless_told():
    assert request(n_examples=None).images == 400
    assert [request(n_examples=n).images for n in (1, 400)] == [1, 400]
