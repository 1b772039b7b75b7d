"""What a foreign step may not do, and what it is not given."""

import gc
import types
from fractions import Fraction

import pytest
import torch
from submissions_made_up import write_submission
from torch import nn

from bench.dataset import Dataset, Examples
from bench.errors import UsageError
from bench.load.own_steps import own_steps
from bench.model import ModelSpec, Subject
from bench.prepare import ingredients_of, take_steps
from bench.prepare_apart import without_test
from bench.progress import silent
from bench.recipe import Meter, load_recipe
from bench.request import Request
from bench.track import Track

TRACK = Track(
    name="t", about="", dataset="d", norm="Linf", eps=Fraction("0.1"), n_examples=3, finetune_images=8, model="bench:x"
)


@pytest.fixture
def dataset() -> Dataset:
    def examples(n: int) -> Examples:
        images = torch.randint(0, 256, (n, 1, 4, 4), dtype=torch.uint8, generator=torch.Generator().manual_seed(n))
        return Examples(images=images, labels=torch.arange(n) % 3)

    return Dataset(name="d", train=examples(8), test=examples(3), n_classes=3)


def taken(folder, dataset) -> Subject:
    recipe = load_recipe(folder.name, submissions=folder.parent)
    request = Request(recipe=recipe, track=TRACK, model=ModelSpec.parse("bench:x"), own_steps=True)
    given = ingredients_of(request, dataset, torch.device("cpu"), silent, Meter(), None)
    with torch.random.fork_rng(devices=[]):
        parent = nn.Sequential(nn.Flatten(), nn.BatchNorm1d(16), nn.Linear(16, 3)).eval()
    with own_steps(recipe):
        return take_steps(Subject.of(parent), recipe.resolve(), recipe, given)


def test_an_honest_step_passes(tmp_path, dataset):
    found = taken(write_submission(tmp_path, "twin[2].weight.data *= 2"), dataset)
    assert torch.equal(found.twin[2].weight, 2 * found.parent[2].weight)


@pytest.mark.parametrize(
    ("body", "expected"),
    [
        ("subject.parent[2].weight.data *= 2", "it changed the parent; work on a copy"),
        ("subject = dataclasses.replace(subject, parent=twin)", "it changed the parent; work on a copy"),
        ("twin[2] = nn.Linear(16, 4).eval()", "expected logits of 3 classes for each of 2 images, got (2, 4)."),
        ("twin[2] = nn.Linear(64, 3).eval()", "its network does not take 1×4×4 images any more"),
        ("twin.train()", "it left a network in training mode"),
        ("subject.parent.train()", "it left a network in training mode"),
        ("twin[2].bias.data[0] = float('nan')", "its network gives logits that are not finite."),
        ("ingredients.train.images.zero_()", "it changed the training images; work on a copy."),
        ("ingredients.meter.images += 9", "it used 9 training images, and 8 are allowed."),
        ("return twin", "expected it to return a Subject with an nn.Module as its twin, got a Sequential."),
        ("x = {}\nx['no']", "steps.py, line 15, raised KeyError: 'no'; fix it."),
        ("raise SystemExit(0)", "raised SystemExit: 0; fix it."),
    ],
)
def test_a_step_that_breaks_its_contract_is_refused_by_name(tmp_path, dataset, body, expected):
    with pytest.raises(UsageError) as refused:
        taken(write_submission(tmp_path, body), dataset)
    assert str(refused.value).startswith("Recipe ours, step ours/mine: ")
    assert expected in str(refused.value)


def reachable(start: object) -> list[torch.Tensor]:
    """Every tensor that attributes, containers and closures lead to; not what a module or a class holds for all."""
    seen, found, queue = set(), [], [start]
    while queue:
        thing = queue.pop()
        if id(thing) in seen or isinstance(thing, types.ModuleType | type):
            continue
        seen.add(id(thing))
        if isinstance(thing, torch.Tensor):
            found.append(thing)
        if isinstance(thing, types.FunctionType):
            queue += [cell.cell_contents for cell in thing.__closure__ or ()] + [thing.__defaults__, thing.__dict__]
        else:
            queue += gc.get_referents(thing)
    return found


def test_from_the_ingredients_no_test_image_can_be_reached(dataset):
    recipe = load_recipe("none")
    request = Request(recipe=recipe, track=TRACK, model=ModelSpec.parse("bench:x"))
    given = ingredients_of(request, dataset, torch.device("cpu"), silent, Meter(), None)
    tensors = reachable(given)
    assert {id(dataset.train.images), id(dataset.train.labels)} <= {id(tensor) for tensor in tensors}
    spots = {dataset.test.images.untyped_storage().data_ptr(), dataset.test.labels.untyped_storage().data_ptr()}
    assert not spots & {tensor.untyped_storage().data_ptr() for tensor in tensors}
    assert id(dataset.test.images) in {id(tensor) for tensor in reachable(dataset)}  # the walk would have found them


def test_the_process_of_own_steps_keeps_no_test_image(dataset):
    without = without_test(dataset)
    assert (len(without.test), without.image_shape) == (0, dataset.image_shape)
    assert without.test.images.untyped_storage().nbytes() == 0
