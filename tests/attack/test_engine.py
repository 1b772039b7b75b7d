import dataclasses
import re

import pytest
import torch
from memory_journal import MemoryJournal
from small_classifiers import L2, LINF, Linear, linear_task, weights, whole

from bench.attack import driver, randomness, reference
from bench.attack.engine import Trial, estimate_seconds, run_suite
from bench.attack.engines import new_engine
from bench.attack.judge import correct
from bench.attack.probe import Record
from bench.attack.reference import ReferenceEngine
from bench.attack.suites import SQUARE_AGAIN, SUITES
from bench.compress.bake import bake
from bench.errors import UsageError
from bench.model import Subject
from bench.progress import silent
from bench.run.journal import FileJournal
from bench.verdicts import AUTOATTACK

CPU = torch.device("cpu")


def trial(threat=LINF, **changes) -> Trial:
    model, examples, _ = linear_task(threat)
    settings = {
        "subject": whole(bake(model)),
        "examples": examples,
        "threat": threat,
        "n_classes": 4,
        "seed": 0,
        "device": CPU,
    }
    return Trial(**settings | changes)


def run(trial: Trial, journal=None):
    return run_suite(trial, "standard", journal=MemoryJournal() if journal is None else journal, report=silent)


def idle(attack, model, images, *args, **kwargs):
    return images


class Scripted:
    """Brings down one image in five of those it is shown, and remembers what it was shown."""

    def __init__(self, model: Linear) -> None:
        self.model, self.shown = model, []

    def __call__(self, attack, model, images, labels, threat, *, seed, n_classes):
        self.shown.append((attack, seed, [round(float(image.sum()), 4) for image in images]))
        model(images)
        side = (1 - 2 * labels).view(-1, 1, 1, 1)
        worst = images - float(threat.eps) * side * self.model.weight.sign().view(images.shape[1:])
        chosen = torch.arange(len(images)).view(-1, 1, 1, 1) % 5 == len(self.shown) % 5
        return torch.where(chosen, worst, images).detach()


def test_only_standing_images_reach_the_next_attack():
    model, examples, _ = linear_task(LINF)
    propose = Scripted(model)
    outcome = run(trial(engine=ReferenceEngine(propose=propose)))
    sums = [round(float(image.sum()), 4) for image in examples.pixels()]
    assert [attack for attack, _, _ in propose.shown] == list(AUTOATTACK)
    assert any(letter in outcome.letters for letter in "abcd")
    for position, (_, _, shown) in enumerate(propose.shown):
        gone = "x" + "abcd"[:position]
        assert shown == [one for one, letter in zip(sums, outcome.letters, strict=True) if letter not in gone]


class Counted:
    """Brings down so many of the images that reach an attack, by the attack's name; without a look at them."""

    name = "counted 1"

    def __init__(self, **falls: int) -> None:
        self.falls, self.asked = {name.replace("_", "-"): count for name, count in falls.items()}, []

    def __call__(self, trial, attack, images, report):
        self.asked.append(attack)
        yield {image: i >= self.falls.get(attack, 0) for i, image in enumerate(images)}, Record()


@pytest.mark.parametrize(("by_square", "again"), [(0, False), (2, False), (3, True)])
def test_square_runs_again_where_it_found_what_every_gradient_missed(by_square, again):
    engine = Counted(square=by_square, transfer=1, square_3=2)
    outcome = run_suite(trial(engine=engine), "standard", further=("transfer",), journal=MemoryJournal(), report=silent)
    assert outcome.attacks == (*AUTOATTACK, "transfer", *(SQUARE_AGAIN if again else ()))
    assert engine.asked == list(outcome.attacks)
    assert [outcome.letters.count(letter) for letter in "deg"] == [by_square, 1, 2 * again]


def test_square_again_draws_other_squares():
    keys = [randomness.keys(0, attack, torch.arange(3)) for attack in ("square", *SQUARE_AGAIN)]
    assert len({tuple(one.tolist()) for one in keys}) == 5


def test_the_clean_letters_come_from_the_deployed_model():
    model, examples, _ = linear_task(LINF)
    wrong_on_class_1 = Linear(weights(), bias=model.bias + 100.0)
    subject = Subject(twin=bake(model), parent=model, deployed=bake(wrong_on_class_1))
    outcome = run(trial(subject=subject, engine=ReferenceEngine(propose=idle)))
    assert [letter == "x" for letter in outcome.letters] == (examples.labels == 1).tolist()
    assert set(outcome.letters) == {"x", "."}


def test_an_image_the_twin_gets_wrong_is_not_robust():
    model, examples, _ = linear_task(LINF)
    subject = Subject(twin=bake(Linear(weights(), bias=model.bias + 100.0)), parent=model, deployed=bake(model))
    outcome = run(trial(subject=subject, engine=ReferenceEngine(propose=idle)))
    assert [letter == "a" for letter in outcome.letters] == (examples.labels == 1).tolist()


def test_the_judge_alone_decides():
    """An attack that claims success with images out of bounds changes no letter."""
    model, examples, _ = linear_task(LINF)

    def boaster(attack, model, images, labels, threat, *, seed, n_classes):
        return torch.full_like(images, torch.nan)

    outcome = run(trial(engine=ReferenceEngine(propose=boaster)))
    assert correct(model, examples.pixels(), examples.labels).all()
    assert set(outcome.letters) == {"."}


def test_a_failed_attack_never_reads_as_a_robust_model():
    """An attack that crashes stops the evaluation."""

    def crashing(attack, model, images, *args, **kwargs):
        if attack == "fab-t":
            raise ZeroDivisionError("broken attack")
        return images

    journal = MemoryJournal()
    with pytest.raises(ZeroDivisionError):
        run(trial(engine=ReferenceEngine(propose=crashing)), journal)
    assert journal.recall("fab-t") == {}


def test_the_reference_refuses_fewer_than_four_classes():
    with pytest.raises(UsageError, match="at least 4 classes"):
        run(trial(n_classes=3, engine=ReferenceEngine()))


def test_one_class_is_no_question():
    with pytest.raises(UsageError, match="at least 2 classes"):
        trial(n_classes=1)


def test_images_with_no_room_for_square_under_l2_are_refused():
    examples = linear_task(LINF)[1]
    small = dataclasses.replace(examples, images=examples.images[..., :4])
    with pytest.raises(UsageError, match="at least 5×5 pixels"):
        trial(L2, examples=small)
    assert trial(LINF, examples=small).threat == LINF
    assert trial(L2, examples=dataclasses.replace(examples, images=examples.images[..., :5, :5])).threat == L2


class Interrupted:
    """The reference, stopped by Ctrl-C at its n-th call."""

    def __init__(self, at: int = -1) -> None:
        self.at, self.calls = at, []

    def __call__(self, attack, model, images, *args, seed, **kwargs):
        if len(self.calls) == self.at:
            raise KeyboardInterrupt
        self.calls.append((attack, seed, len(images)))
        return reference.propose(attack, model, images, *args, seed=seed, **kwargs)


@pytest.mark.parametrize("at", [0, 1, 5, 8])
def test_an_interrupted_evaluation_loses_at_most_one_shard(tmp_path, monkeypatch, short_reference, at):
    monkeypatch.setattr(reference, "SHARD", 9)
    undisturbed = Interrupted()
    expected = run(trial(engine=ReferenceEngine(propose=undisturbed)), FileJournal(tmp_path / "whole.json"))
    assert len(undisturbed.calls) >= 9
    first, second, path = Interrupted(at), Interrupted(), tmp_path / "cut.json"
    with pytest.raises(KeyboardInterrupt):
        run(trial(engine=ReferenceEngine(propose=first)), FileJournal(path))
    found = run(trial(engine=ReferenceEngine(propose=second)), FileJournal(path))
    assert found == expected
    assert first.calls + second.calls == undisturbed.calls
    third = Interrupted()
    assert run(trial(engine=ReferenceEngine(propose=third)), FileJournal(path)) == expected
    assert third.calls == []


def test_shards_draw_different_squares(monkeypatch):
    monkeypatch.setattr(reference, "SHARD", 9)
    model, _, _ = linear_task(LINF)
    propose = Scripted(model)
    run(trial(engine=ReferenceEngine(propose=propose)))
    seeds = [seed for attack, seed, _ in propose.shown if attack == "square"]
    assert len(set(seeds)) == len(seeds) > 1


def test_progress_never_runs_past_its_total(either, monkeypatch):
    monkeypatch.setattr(driver, "REPORT_EVERY_S", 0.0)
    events = []
    run_suite(trial(engine=either), "standard", journal=MemoryJournal(), report=events.append)
    counted = [event for event in events if event.total]
    assert counted
    assert all(0 <= event.done <= event.total for event in counted)
    # What an engine counts becomes a sentence: of how many images so many stand, and how fast it goes.
    assert all(re.fullmatch(r"standing \d+/40, [\d.e+-]+ images/s", event.note) for event in counted)
    assert [event.note for event in events if event.stage == "square"][-1].startswith("standing ")


@pytest.mark.parametrize("attack", SUITES["standard"])
@pytest.mark.parametrize("threat", [LINF, L2], ids=str)
def test_the_reference_leaves_the_global_random_state_alone(short_reference, attack, threat):
    model, examples, _ = linear_task(threat, n=8)
    torch.manual_seed(7)
    expected = torch.rand(3)
    torch.manual_seed(7)
    arguments = (attack, bake(model), examples.pixels(), examples.labels, threat)
    first = reference.propose(*arguments, seed=1, n_classes=4)
    assert torch.equal(torch.rand(3), expected)
    assert torch.equal(reference.propose(*arguments, seed=1, n_classes=4), first)
    assert first.shape == examples.pixels().shape
    assert not first.requires_grad


def test_the_reference_leaves_the_images_alone(short_reference):
    model, examples, _ = linear_task(LINF, n=8)
    images, labels = examples.pixels(), examples.labels.clone()
    before = images.clone()
    for attack in SUITES["standard"]:
        reference.propose(attack, bake(model), images, labels, LINF, seed=0, n_classes=4)
    assert torch.equal(images, before)
    assert torch.equal(labels, examples.labels)


def test_the_reference_aims_at_no_more_classes_than_there_are():
    for n_classes, targets in [(4, 3), (10, 9), (100, 9)]:
        for attack in ("apgd-t", "fab-t"):
            made = reference._attacker(attack, Linear(weights()), LINF, seed=5, n_classes=n_classes, device=CPU)
            assert (made.n_target_classes, made.seed, made.n_restarts) == (targets, 5, 1)
            assert made.eps == float(LINF.eps)


def test_the_reference_has_the_settings_of_autoattack_standard():
    made = {
        attack: reference._attacker(attack, Linear(weights()), L2, seed=0, n_classes=10, device=CPU)
        for attack in AUTOATTACK
    }
    assert [made[name].n_iter for name in ("apgd-ce", "apgd-t", "fab-t")] == [100, 100, 100]
    assert (made["apgd-ce"].loss, made["apgd-ce"].n_restarts, made["apgd-t"].loss) == ("ce", 1, "dlr-targeted")
    assert made["fab-t"].targeted
    assert (made["fab-t"].alpha_max, made["fab-t"].eta, made["fab-t"].beta) == (0.1, 1.05, 0.9)
    assert (made["square"].n_queries, made["square"].p_init, made["square"].loss) == (5000, 0.8, "margin")
    assert not made["square"].rescale_schedule
    assert {each.norm for each in made.values()} == {"L2"}


def test_the_estimate_is_a_positive_number_of_seconds():
    assert 0 < estimate_seconds(trial(), "standard") < 3600


def test_the_estimate_makes_do_without_a_gradient():
    model, _, _ = linear_task(LINF)
    hard = whole(lambda images: torch.nn.functional.one_hot(bake(model)(images).argmax(1), 4).float())
    assert 0 < estimate_seconds(trial(subject=hard), "standard") < 3600


def test_engines_go_by_name():
    assert [new_engine(name).name for name in ("bench", "reference")] == [driver.NAME, reference.NAME]
    with pytest.raises(UsageError, match="Did you mean 'reference'"):
        new_engine("refrence")
