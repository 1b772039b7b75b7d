"""What every registered step promises, asked of each: a new step is tested the moment it is registered."""

import copy

import pytest
import torch
from torch import nn

from bench.compress.sealed import seal, unseal
from bench.dataset import Examples
from bench.model import Subject
from bench.progress import silent
from bench.recipe import STEPS, Ingredients, Meter, Recipe
from bench.threat_model import ThreatModel, parse_eps

SHAPE, CLASSES = (1, 8, 8), 10


@pytest.fixture(scope="module")
def train() -> Examples:
    generator = torch.Generator().manual_seed(0)
    images = torch.randint(0, 256, (192, *SHAPE), dtype=torch.uint8, generator=generator)
    return Examples(images=images, labels=torch.randint(CLASSES, (192,), generator=generator))


@pytest.fixture
def parent() -> nn.Module:
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(0)
        body = [nn.Conv2d(1, 16, 3, padding=1), nn.BatchNorm2d(16), nn.ReLU(), nn.Conv2d(16, 16, 3, stride=2)]
        return nn.Sequential(*body, nn.ReLU(), nn.Flatten(), nn.Linear(16 * 9, 32), nn.ReLU(), nn.Linear(32, 10)).eval()


def ingredients(train: Examples) -> Ingredients:
    return Ingredients(
        train=train,
        threat=ThreatModel(norm="Linf", eps=parse_eps("8/255")),
        finetune_images=192,
        generator=torch.Generator().manual_seed(0),
        device=torch.device("cpu"),
        report=silent,
        meter=Meter(),
    )


def taken(name: str, parent: nn.Module, given: Ingredients) -> Subject:
    (step,) = Recipe(name="contract", summary="", steps=({"step": name},)).resolve()
    return step(Subject.of(parent), given)


@pytest.fixture(params=sorted(STEPS))
def name(request) -> str:
    return request.param


def test_a_step_maps_images_to_as_many_logits_in_evaluation_mode(name, parent, train):
    twin = taken(name, parent, ingredients(train)).twin
    assert not any(module.training for module in twin.modules())
    with torch.no_grad():
        logits = twin(train.pixels(slice(7)))
        alone = twin(train.pixels(slice(1)))
    assert logits.shape == (7, CLASSES)
    assert logits.isfinite().all()
    assert torch.allclose(logits[:1], alone, atol=1e-4)


def test_a_step_leaves_the_subject_it_was_given_as_it_was(name, parent, train):
    before, images, labels = copy.deepcopy(parent), train.images.clone(), train.labels.clone()
    found = taken(name, parent, ingredients(train))
    assert found.parent is parent
    assert found.twin is not parent
    assert not any(module.training for module in parent.modules())
    assert parent.state_dict().keys() == before.state_dict().keys()
    assert all(torch.equal(value, before.state_dict()[key]) for key, value in parent.state_dict().items())
    assert all(parameter.grad is None for parameter in parent.parameters())
    assert torch.equal(train.images, images)
    assert torch.equal(train.labels, labels)


def test_a_step_depends_on_its_generator_alone(name, parent, train):
    torch.manual_seed(1)
    one = taken(name, parent, ingredients(train)).twin
    state = torch.manual_seed(2).get_state().clone()
    other = taken(name, parent, ingredients(train)).twin
    assert torch.equal(torch.get_rng_state(), state)
    with torch.no_grad():
        assert torch.equal(one(train.pixels(slice(16))), other(train.pixels(slice(16))))


def test_gradients_reach_the_image_through_what_a_step_makes(name, parent, train):
    images = train.pixels(slice(8)).requires_grad_()
    taken(name, parent, ingredients(train)).twin(images)[:, 0].sum().backward()
    assert (images.grad != 0).float().mean() > 0.5


def test_what_a_step_makes_can_be_saved_and_loaded(name, parent, train, tmp_path):
    twin = taken(name, parent, ingredients(train)).twin
    seal(twin, SHAPE, {}, tmp_path)
    with torch.no_grad():
        images = train.pixels(slice(8))
        assert torch.equal(unseal(tmp_path, torch.device("cpu")).network(images), twin(images))


def test_a_step_that_uses_training_images_counts_them(name, parent, train):
    given = ingredients(train)
    taken(name, parent, given)
    fine_tunes = name.startswith("finetune-")
    assert (given.meter.images == 192) == fine_tunes
    assert (given.meter.backward > 0) == fine_tunes or given.meter.images == 0
