import math

import pytest
import torch
from torch import nn

from bench.dataset import Examples
from bench.errors import UsageError
from bench.finetune.adversarial import FinetuneAdversarial
from bench.finetune.clean import FinetuneClean, cross_entropy
from bench.finetune.descent import Descent
from bench.finetune.loop import _batches, train
from bench.model import Subject
from bench.prepare import COLLAPSED, take_steps
from bench.progress import silent
from bench.recipe import Ingredients, Meter, Recipe
from bench.threat_model import ThreatModel, parse_eps

N = 96
STEPS = [FinetuneClean(epochs=2, batch_size=32), FinetuneAdversarial(epochs=2, batch_size=32, attack_steps=2)]
EACH = pytest.mark.parametrize("step", STEPS, ids=lambda step: type(step).__name__)


def network() -> nn.Module:
    with torch.random.fork_rng():
        torch.manual_seed(0)
        layers = [nn.Conv2d(1, 4, 3), nn.BatchNorm2d(4), nn.ReLU(), nn.Flatten(), nn.Linear(144, 5)]
    return nn.Sequential(*layers).eval()


@pytest.fixture
def subject() -> Subject:
    model = network()
    return Subject(twin=model, parent=network(), deployed=model)


@pytest.fixture
def ingredients():
    def make(budget: int = 1000, seed: int = 0, events=None) -> Ingredients:
        generator = torch.Generator().manual_seed(9)
        return Ingredients(
            train=Examples(
                images=torch.randint(256, (N, 1, 8, 8), generator=generator).to(torch.uint8),
                labels=torch.randint(5, (N,), generator=generator),
            ),
            threat=ThreatModel(norm="Linf", eps=parse_eps("8/255")),
            finetune_images=budget,
            generator=torch.Generator().manual_seed(seed),
            device=torch.device("cpu"),
            report=silent if events is None else events.append,
            meter=Meter(),
        )

    return make


def state(model: nn.Module) -> dict[str, torch.Tensor]:
    return {name: value.clone() for name, value in model.state_dict().items()}


def same(left: dict[str, torch.Tensor], right: dict[str, torch.Tensor]) -> bool:
    return left.keys() == right.keys() and all(torch.equal(left[name], right[name]) for name in left)


@EACH
def test_the_subject_that_is_passed_in_is_left_as_it_was(subject, ingredients, step):
    before, parent = state(subject.twin), state(subject.parent)
    after = step(subject, ingredients())
    assert same(state(subject.twin), before)
    assert same(state(subject.parent), parent)
    assert not same(state(after.twin), before)
    assert after.parent is subject.parent
    assert after.deployed is after.twin
    assert not any(module.training for module in [*after.twin.modules(), *subject.twin.modules()])


@EACH
def test_the_same_generator_gives_the_same_weights(subject, ingredients, step):
    torch.manual_seed(1)
    first = state(step(subject, ingredients()).twin)
    torch.manual_seed(2)
    assert same(state(step(subject, ingredients()).twin), first)
    assert not same(state(step(subject, ingredients(seed=1)).twin), first)


def test_clean_training_counts_each_image_once(subject, ingredients):
    given = ingredients()
    FinetuneClean(epochs=2, batch_size=32)(subject, given)
    assert given.meter == Meter(images=2 * N, forward=2 * N, backward=2 * N)


def test_adversarial_training_counts_the_attacks_passes_too(subject, ingredients):
    given = ingredients()
    FinetuneAdversarial(epochs=2, batch_size=32, attack_steps=3)(subject, given)
    assert given.meter == Meter(images=2 * N, forward=4 * 2 * N, backward=4 * 2 * N)


def test_the_meter_tells_the_truth(subject, ingredients):
    """Count the images that really pass through the model."""
    seen = []
    counted = subject.twin
    counted.register_forward_pre_hook(lambda module, arguments: seen.append(len(arguments[0])))
    given = ingredients()
    FinetuneAdversarial(epochs=1, batch_size=32, attack_steps=3)(subject, given)
    assert sum(seen) == given.meter.forward


@EACH
def test_more_epochs_than_the_track_allows_are_refused(subject, ingredients, step):
    with pytest.raises(UsageError, match=r"leaves 191 training images to this step, 1\.99 epochs of 96; got"):
        step(subject, ingredients(budget=2 * N - 1))
    given = ingredients(budget=2 * N)
    step(subject, given)
    assert given.meter.images == 2 * N


def test_no_epochs_spend_the_whole_budget(subject, ingredients):
    given = ingredients(budget=3 * N + 32)
    FinetuneClean(batch_size=32)(subject, given)
    assert given.meter.forward == 3 * N + 32


def test_part_of_an_epoch_is_part_of_the_images(subject, ingredients):
    given = ingredients(budget=3 * N)
    FinetuneClean(epochs=0.5, batch_size=8)(subject, given)
    assert given.meter == Meter(images=N // 2, forward=N // 2, backward=N // 2)


def spent(subject: Subject, given: Ingredients, *epochs: int | None) -> Meter:
    """Fine-tune in as many steps; an attack costs passes, and no training images."""
    kinds = [{"step": "finetune-clean"}, {"step": "finetune-adversarial", "attack_steps": 1}]
    tables = [{**kinds[i % 2], "batch_size": 32, **({"epochs": n} if n else {})} for i, n in enumerate(epochs)]
    recipe = Recipe(name="twice", summary="", steps=tuple(tables))
    take_steps(subject, recipe.resolve(), recipe, given)
    return given.meter


@pytest.mark.parametrize(("shift", "said"), [(0.0, False), (-100.0, True)])
def test_a_network_that_names_one_class_only_is_reported(subject, ingredients, shift, said):
    events = []
    with torch.no_grad():
        subject.twin[1].bias.fill_(shift)  # far below zero, no ReLU behind it passes anything on
    recipe = Recipe(name="once", summary="", steps=({"step": "finetune-clean", "epochs": 1, "batch_size": 32},))
    take_steps(subject, recipe.resolve(), recipe, ingredients(events=events))
    assert (COLLAPSED in [event.note for event in events]) is said


@pytest.mark.parametrize(("epochs", "left"), [((2, 2), 1), ((3, 1), 2), ((4, None), 3)])
def test_steps_that_ask_for_more_than_the_budget_are_refused_before_the_first(subject, ingredients, epochs, left):
    expected = f"Recipe twice, step finetune-clean: the track leaves {left * N} training images to this step"
    given = ingredients(budget=3 * N)
    with pytest.raises(UsageError, match=expected):
        spent(subject, given, *epochs)
    assert given.meter.images == 0


def test_a_step_to_which_nothing_is_left_is_told_by_whom(subject, ingredients):
    with pytest.raises(UsageError, match="step finetune-adversarial: the track leaves this step no training images"):
        spent(subject, ingredients(budget=3 * N), 3, None)


@pytest.mark.parametrize("epochs", [1e-6, 1e308])
def test_epochs_of_no_image_or_of_too_many_are_refused(subject, ingredients, epochs):
    with pytest.raises(UsageError, match=r"epochs of at least one|leaves 96 training images"):
        spent(subject, ingredients(budget=96), epochs)


@pytest.mark.parametrize(("epochs", "clean"), [((2, 1), 2), ((1, None), 1), ((None, 1), 2)])
def test_two_steps_share_one_budget(subject, ingredients, epochs, clean):
    clean, adversarial = round(clean * N), round((3 - clean) * N)
    passes = clean + 2 * adversarial
    assert spent(subject, ingredients(budget=3 * N), *epochs) == Meter(images=3 * N, forward=passes, backward=passes)


def test_steps_without_epochs_have_equal_shares(subject, ingredients):
    given = ingredients(budget=4 * N)
    assert spent(subject, given, None, None).forward == 2 * N + 2 * 2 * N


def rates(schedule: str, monkeypatch) -> list[float]:
    seen = []
    real = torch.optim.SGD.step

    def step(self, closure=None):
        seen.append(self.param_groups[0]["lr"])
        return real(self, closure)

    monkeypatch.setattr(torch.optim.SGD, "step", step)
    train(
        network(),
        Examples(images=torch.zeros(N, 1, 8, 8, dtype=torch.uint8), labels=torch.zeros(N, dtype=torch.long)),
        cross_entropy,
        Descent(learning_rate=0.1, batch_size=32, schedule=schedule),
        images=10 * 32,
        generator=torch.Generator().manual_seed(0),
        device=torch.device("cpu"),
        report=silent,
        stage="fine-tune",
    )
    return seen


def test_a_cosine_falls_to_zero(monkeypatch):
    expected = [0.05 * (1 + math.cos(math.pi * step / 10)) for step in range(10)]
    assert rates("cosine", monkeypatch) == pytest.approx(expected)


def test_a_constant_rate_stays(monkeypatch):
    assert rates("constant", monkeypatch) == [0.1] * 10


def test_a_loss_that_is_not_finite_is_an_error_with_advice(subject, ingredients):
    with pytest.raises(UsageError, match=r"loss is (nan|inf) at step \d+; try a smaller learning rate"):
        FinetuneClean(epochs=9, batch_size=32, learning_rate=1e30)(subject, ingredients())


def test_every_image_is_seen_once_an_epoch():
    generator = torch.Generator().manual_seed(0)
    epochs = [torch.cat(_batches(N, 32, generator)) for _ in range(2)]
    for epoch in epochs:
        assert sorted(epoch.tolist()) == list(range(N))
    assert not torch.equal(*epochs)


def test_progress_ends_with_the_last_step(subject, ingredients):
    events = []
    STEPS[0](subject, ingredients(events=events))
    assert (events[-1].done, events[-1].total) == (6, 6)
    assert len({event.stage for event in events}) == 1


@pytest.mark.parametrize(
    "setting", [{"epochs": 0}, {"learning_rate": 0.0}, {"batch_size": -1}], ids=lambda setting: next(iter(setting))
)
def test_settings_out_of_range_are_refused(setting):
    with pytest.raises(UsageError, match=f"expected {next(iter(setting))} > 0"):
        FinetuneClean(**setting)


@pytest.mark.parametrize("setting", [{"epochs": math.inf}, {"learning_rate": math.nan}, {"learning_rate": math.inf}])
def test_settings_that_are_not_finite_are_refused(setting):
    with pytest.raises(UsageError, match=f"expected {next(iter(setting))} > 0"):
        FinetuneClean(**setting)


@pytest.mark.parametrize("setting", [{"momentum": 1.0}, {"momentum": -0.1}, {"weight_decay": -1.0}])
def test_a_descent_that_cannot_settle_is_refused(setting):
    with pytest.raises(UsageError, match="expected 0 ≤ momentum < 1 and weight_decay ≥ 0"):
        FinetuneClean(**setting)


def test_a_batch_larger_than_the_training_images_is_all_of_them(subject, ingredients):
    given = ingredients()
    FinetuneClean(epochs=3, batch_size=10 * N)(subject, given)
    assert given.meter == Meter(images=3 * N, forward=3 * N, backward=3 * N)


def test_a_network_with_nothing_to_train_is_refused(subject, ingredients):
    subject.twin.requires_grad_(False)
    with pytest.raises(UsageError, match="no parameter that can be trained"):
        FinetuneClean(epochs=1)(subject, ingredients())


@pytest.mark.parametrize("setting", [{"attack_steps": 0}, {"step_ratio": 0.0}, {"step_ratio": math.inf}])
def test_an_attack_that_does_nothing_is_refused(setting):
    with pytest.raises(UsageError, match="attack_steps"):
        FinetuneAdversarial(**setting)


def test_training_learns(ingredients):
    """Dark and bright images: any learner tells them apart."""
    labels = torch.arange(N) % 2
    examples = Examples(images=(labels.view(-1, 1, 1, 1) * 200).expand(N, 1, 8, 8).to(torch.uint8), labels=labels)
    model = network()
    settings = {"images": 20 * N, "generator": torch.Generator().manual_seed(0), "device": torch.device("cpu")}
    train(model, examples, cross_entropy, Descent(batch_size=32), report=silent, stage="", **settings)
    assert (model(examples.pixels()).argmax(1) == labels).all()
