"""An image's verdict depends on the image, the model and the seed, and on nothing else."""

import random

import pytest
import torch
from memory_journal import MemoryJournal
from small_classifiers import L2, LINF, SHAPE, Linear, linear_task, weights, whole
from torch import nn

from bench.attack import driver
from bench.attack.alarms import inspect
from bench.attack.driver import BenchEngine
from bench.attack.engine import Trial, run_suite
from bench.attack.field import Field, Room, Work
from bench.attack.judge import correct
from bench.attack.probe import Record
from bench.attack.suites import SUITES, Budget
from bench.compress.bake import bake
from bench.dataset import Examples
from bench.model import Subject
from bench.progress import silent
from bench.run.journal import FileJournal
from bench.threat_model import ThreatModel, parse_eps
from bench.verdicts import AUTOATTACK, STANDING

BRIEF = Budget(iterations=8, targets=2, queries=40)
NEAR = {"Linf": ThreatModel(norm="Linf", eps=parse_eps("0.02")), "L2": ThreatModel(norm="L2", eps=parse_eps("0.06"))}


class Curved(nn.Module):
    """A random network whose robustness no short attack settles at once; in float64, so that batches round alike."""

    def __init__(self) -> None:
        super().__init__()
        generator = torch.Generator().manual_seed(0)
        self.first = nn.Parameter(torch.randn(36, 40, generator=generator, dtype=torch.float64) / 2)
        self.second = nn.Parameter(torch.randn(40, 6, generator=generator, dtype=torch.float64))
        self.passes, self.stop_at = 0, -1

    def forward(self, images):
        self.passes += 1
        if self.passes == self.stop_at:
            raise KeyboardInterrupt
        return ((images.double().flatten(1) - 0.5) @ self.first).sin() @ self.second


def examples(n: int = 14) -> Examples:
    images = torch.randint(0, 256, (n, *SHAPE), generator=torch.Generator().manual_seed(1)).to(torch.uint8)
    return Examples(images=images, labels=Curved()(images / 255).argmax(1))


def trial(engine=None, model=None, norm="Linf", **changes) -> Trial:
    settings = {
        "subject": whole(bake(model or Curved())),
        "examples": examples(),
        "threat": NEAR[norm],
        "n_classes": 6,
        "seed": 0,
        "device": torch.device("cpu"),
        "engine": engine or BenchEngine(budget=BRIEF),
    }
    return Trial(**settings | changes)


def run(trial: Trial, journal=None):
    return run_suite(trial, "standard", journal=MemoryJournal() if journal is None else journal, report=silent)


@pytest.fixture(scope="module", params=["Linf", "L2"])
def expected(request):
    outcome = run(trial(norm=request.param))
    assert 2 < outcome.letters.count(STANDING) < len(outcome.letters) - 2
    return request.param, outcome


@pytest.mark.parametrize("slots", [1, 7, 64])
def test_the_number_of_slots_changes_nothing(expected, slots):
    norm, outcome = expected
    assert run(trial(BenchEngine(room=Room.of(slots), budget=BRIEF), norm=norm)) == outcome


def test_the_order_changes_nothing(expected):
    norm, outcome = expected
    for attack in AUTOATTACK:
        found = []
        for shuffled in (False, True):
            numbers = list(range(len(outcome.letters)))
            if shuffled:
                random.Random(0).shuffle(numbers)
            each = BenchEngine(room=Room.of(5), budget=BRIEF)(trial(norm=norm), attack, numbers, silent)
            parts = [(outcomes, record) for outcomes, record in each]
            letters = {number: survived for outcomes, _ in parts for number, survived in outcomes.items()}
            found.append((letters, sum((record for _, record in parts), Record())))
        assert found[0] == found[1]


def test_the_seed_changes_what_is_drawn():
    outcomes = [run(trial(seed=seed)).records["square"].forward for seed in range(4)]
    assert len({*outcomes}) > 1


@pytest.mark.parametrize("at", [1, 5, 30, 70, 110])
def test_an_interruption_changes_nothing_and_costs_at_most_the_slots(tmp_path, monkeypatch, at):
    monkeypatch.setattr(driver, "SAVE_EVERY_S", 0.0)
    work = [Work(), Work(), Work()]
    engines = [BenchEngine(room=Room.of(6), budget=BRIEF, work=each) for each in work]
    outcome = run(trial(engines[0]), FileJournal(tmp_path / "whole.json"))
    model = Curved()
    cut = trial(engines[1], model=model)
    stopped = cut.subject.twin
    stopped.stop_at = at
    with pytest.raises(KeyboardInterrupt):
        run(cut, FileJournal(tmp_path / "cut.json"))
    found = run(trial(engines[2]), FileJournal(tmp_path / "cut.json"))
    assert found == outcome
    repeated = work[1].forward + work[2].forward - work[0].forward
    # Square asks some queries in vain, and how many depends on who else is there.
    assert repeated <= 6 * 60


class Viewing(Curved):
    """Cannot bear an empty batch, as many networks cannot: -1 is then any number."""

    def forward(self, images):
        return super().forward(images.view(len(images), -1, *SHAPE[1:]))


def test_a_question_without_images_is_put_to_no_network():
    """Square finds no patch that changes anything in its window, now and then; with one slot nobody else asks."""
    with pytest.raises(RuntimeError):
        Viewing()(torch.zeros(0, *SHAPE))
    alone = trial(BenchEngine(room=Room.of(1), budget=Budget(queries=3000)), model=Viewing(), examples=examples(2))
    outcomes, asked = {}, []
    answer = Field._classify

    def counting(self, points):
        asked.append(len(points))
        return answer(self, points)

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(Field, "_classify", counting)
        for part, _ in alone.engine(alone, "square", [0, 1], silent):
            outcomes |= part
    assert 0 in asked
    assert outcomes.keys() == {0, 1}


def test_a_fallen_image_costs_a_handful_of_passes():
    """The gain over the reference, which goes on to the end of the batch."""
    model, images, _ = linear_task(LINF)
    engine = BenchEngine()
    far = ThreatModel(norm="Linf", eps=parse_eps("0.3"))
    outcome = run(trial(engine, model=model, threat=far, examples=images, n_classes=4))
    assert set(outcome.letters) == {"a"}
    assert outcome.records["apgd-ce"].forward <= 4 * len(images)
    assert engine.work.forward == outcome.records["apgd-ce"].forward


def test_surviving_images_fill_the_budget():
    tiny = ThreatModel(norm="Linf", eps=parse_eps("0.0001"))
    work = Work()
    outcome = run(trial(BenchEngine(budget=BRIEF, work=work), threat=tiny, examples=examples(6)))
    assert outcome.letters == "." * 6
    apgd = outcome.records["apgd-t"]
    assert (apgd.forward, apgd.backward) == (6 * (1 + 2 * 9), 6 * 2 * 9)
    # Two targets, eight steps; each step takes a gradient, and a class unless one pass served both.
    assert 6 * (1 + 2 * 8) <= outcome.records["fab-t"].forward <= 6 * (1 + 2 * 16)
    assert 6 * 2 * 8 <= outcome.records["fab-t"].backward <= 6 * 2 * 12
    assert outcome.records["square"].forward <= 6 * (2 + 40)


@pytest.mark.parametrize("n_classes", [2, 3])
@pytest.mark.parametrize("threat", [LINF, L2], ids=str)
def test_two_and_three_classes_are_attacked_to_the_known_optimum(threat, n_classes):
    whole_model, images, survives = linear_task(threat)

    class Fewer(nn.Module):
        def forward(self, points):
            return whole_model(points)[:, :n_classes]

    engine = BenchEngine(budget=Budget(iterations=30, queries=60))
    for attack in ("apgd-t", "fab-t", "square"):
        some = trial(engine, model=Fewer(), threat=threat, examples=images, n_classes=n_classes)
        outcomes = {}
        for part, record in engine(some, attack, list(range(len(images))), silent):
            outcomes |= part
            assert record.zero_gradients == 0
        standing = [outcomes[number] for number in range(len(images))]
        assert all(stands for stands, truly in zip(standing, survives.tolist(), strict=True) if truly)
        assert attack == "square" or standing == survives.tolist()


def test_few_classes_say_that_the_loss_is_another():
    outcome = run(trial(examples=examples(2)))
    assert "few-classes" in [alarm.name for alarm in inspect(outcome, n_classes=3)]
    assert "few-classes" not in [alarm.name for alarm in inspect(outcome, n_classes=4)]


@pytest.mark.parametrize("attack", AUTOATTACK)
def test_every_attack_shows_the_judge_its_strongest_failures(monkeypatch, attack):
    """A deployed model that is weaker than its twin falls, and the tally says how often the two disagreed."""
    monkeypatch.setitem(SUITES, "standard", (attack,))
    model, images, twin_survives = linear_task(LINF, n=120)
    reach = float(LINF.eps) * float(weights().abs().sum())
    weaker = Linear(weights(), model.bias - 0.9 * reach)
    right = correct(weaker, images.pixels(), images.labels)
    with torch.no_grad():
        margins = weaker.margin(images.pixels())
    falls = twin_survives & right & (images.labels == 0) & (margins > 0) & (margins < 0.35 * reach)
    assert falls.sum() >= 2
    subject = Subject(twin=bake(model), parent=model, deployed=bake(weaker))
    engine = BenchEngine(budget=Budget(iterations=30, queries=1000))
    outcome = run(trial(engine, threat=LINF, examples=images, n_classes=4, subject=subject))
    assert not any(letter == STANDING for letter, fell in zip(outcome.letters, falls.tolist(), strict=True) if fell)
    record = outcome.records[attack]
    assert record.judged == len(images) - outcome.letters.count("x")
    assert 0 < record.disagreed <= record.judged
