"""On CUDA an attack's kernels are captured; what comes out is what comes out without.

Each test runs on a device, where there is one, and on an imitation of what a device does with graphs.
"""

import gc
import weakref
from collections.abc import Callable

import pytest
import torch
from imitated_cuda import OnCuda, imitate
from torch import Tensor, nn

from bench.compress.quantize import Quantize
from bench.dataset import Examples
from bench.finetune import replay
from bench.finetune.folded import folded
from bench.finetune.pgd import pgd
from bench.machine.tensor_float import tensor_float
from bench.model import Subject
from bench.progress import silent
from bench.recipe import Ingredients, Meter
from bench.threat_model import ThreatModel, parse_eps

THREAT = ThreatModel(norm="Linf", eps=parse_eps("8/255"))


def network(seed: int = 0) -> nn.Module:
    with torch.random.fork_rng(devices=[]):
        torch.default_generator.manual_seed(seed)
        return nn.Sequential(
            nn.Conv2d(1, 4, 3), nn.BatchNorm2d(4), nn.ReLU(), nn.Flatten(), nn.Linear(144, 5)
        )  # fmt: skip


def without_norms(seed: int = 0) -> nn.Module:
    with torch.random.fork_rng(devices=[]):
        torch.default_generator.manual_seed(seed)
        return nn.Sequential(nn.Flatten(), nn.Linear(64, 5))


Batch = tuple[Tensor, Tensor]
"""Images and labels."""


def batch(seed: int = 1) -> Batch:
    generator = torch.Generator().manual_seed(seed)
    return torch.rand(16, 1, 8, 8, generator=generator), torch.randint(5, (16,), generator=generator)


@pytest.fixture(params=["imitated", pytest.param("cuda", marks=pytest.mark.gpu)])
def on_device(request, monkeypatch):
    """Bring a network or a batch to the device."""
    if request.param == "imitated":
        imitate(monkeypatch)
        return lambda what: what if isinstance(what, nn.Module) else (what[0].as_subclass(OnCuda), what[1])
    return lambda what: what.to("cuda") if isinstance(what, nn.Module) else tuple(each.to("cuda") for each in what)


def attack(model: nn.Module, images: Tensor, labels: Tensor) -> Tensor:
    generator = torch.Generator().manual_seed(2)
    return pgd(model, images, labels, THREAT, steps=3, step_size=0.01, generator=generator)


def directly(model: nn.Module, monkeypatch: pytest.MonkeyPatch, images: Tensor, labels: Tensor) -> Tensor:
    with monkeypatch.context() as patch:
        patch.setattr("bench.finetune.pgd.replayed", lambda gradient, model, images, loss, target: (
            lambda points: gradient(model, points, loss, target)))  # fmt: skip
        return attack(model, images, labels)


def same(one: Tensor, other: Tensor) -> bool:
    """Whether they are the same but for a few pixels, whose gradient is so close to 0 that its sign is chance."""
    return bool((one != other).float().mean() < 0.01)


def states(model: nn.Module, images: Tensor) -> list[object]:
    """Return "a graph" for each, and what else is remembered."""
    known = replay._states.get(folded(model, images), {})
    return [state if isinstance(state, str) else "a graph" for state in known.values()]


def test_nothing_is_captured_on_a_cpu():
    model = network()
    for _ in range(3):
        attack(model, *batch())
    assert folded(model, batch()[0]) not in replay._states


def test_a_captured_attack_finds_the_same_images(on_device, monkeypatch):
    model = on_device(network())
    batches = [on_device(batch(seed)) for seed in range(4)]
    before = [[each.clone() for each in given] for given in batches]
    for images, labels in batches:
        assert same(attack(model, images, labels), directly(model, monkeypatch, images, labels))
    assert states(model, batches[0][0]) == ["a graph"]
    for given, was in zip(batches, before, strict=True):
        assert all(torch.equal(*each) for each in zip(given, was, strict=True))


@pytest.mark.parametrize("make", [network, without_norms])
def test_it_follows_weights_that_training_moves_and_those_put_in_their_place(on_device, monkeypatch, make):
    model = on_device(make())
    images, labels = on_device(batch())
    before = [attack(model, images, labels) for _ in range(2)][-1]
    model.load_state_dict(make(seed=1).state_dict())
    after = attack(model, images, labels)
    assert same(after, directly(model, monkeypatch, images, labels))
    assert not same(after, before)
    for module in model.modules():
        if isinstance(module, nn.Conv2d | nn.Linear):
            module.weight = nn.Parameter(torch.randn_like(module.weight))
    assert same(attack(model, images, labels), directly(model, monkeypatch, images, labels))


@pytest.mark.parametrize("quantize", [Quantize(), Quantize(weight_bits=4, activation_bits=4, learn_steps=True)])
def test_a_quantised_network_is_captured_too(on_device, monkeypatch, quantize):
    parent, (images, labels) = network(), batch()
    given = Ingredients(
        train=Examples(images=(255 * images).byte(), labels=labels), threat=THREAT, finetune_images=16,
        generator=torch.Generator().manual_seed(0), device=torch.device("cpu"), report=silent, meter=Meter(),
    )  # fmt: skip
    twin = on_device(quantize(Subject.of(parent), given).twin)
    for seed in range(3):
        images, labels = on_device(batch(seed))
        assert same(attack(twin, images, labels), directly(twin, monkeypatch, images, labels))
    assert states(twin, images) == ["a graph"]


class AsksTheHost(nn.Module):
    """Cannot be captured: it waits for a number."""

    def __init__(self) -> None:
        super().__init__()
        self.last = nn.Linear(64, 5)

    def forward(self, images: Tensor) -> Tensor:
        scores: Tensor = self.last(images.flatten(1))
        return scores * 2 if scores.sum().item() > 0 else scores


class Remembers(nn.Module):
    """Computes by what happened before it was called: a graph of it would give yesterday's answer."""

    def __init__(self) -> None:
        super().__init__()
        self.last = nn.Linear(64, 5)
        self.calls = 0

    def forward(self, images: Tensor) -> Tensor:
        self.calls += 1
        scores: Tensor = self.last(images.flatten(1))
        return scores * (1 + self.calls % 2)


class CutsTheGraph(nn.Module):
    """Gives no gradient to follow."""

    def __init__(self) -> None:
        super().__init__()
        self.last = nn.Linear(64, 5)

    def forward(self, images: Tensor) -> Tensor:
        scores: Tensor = self.last(images.flatten(1).detach())
        return scores


@pytest.mark.parametrize("kind", [AsksTheHost, CutsTheGraph])
def test_a_network_that_cannot_be_captured_is_attacked_all_the_same(on_device, kind: Callable[[], nn.Module]):
    model = on_device(kind())
    images, labels = on_device(batch())
    found = [attack(model, images, labels) for _ in range(4)]
    assert all(same(found[0], other) for other in found[1:])
    assert states(model, images) == ["cannot be captured"]
    assert torch.randn(3, device=images.device).isfinite().all()  # the device is as usable as before


def test_a_graph_that_finds_something_else_is_not_used(on_device):
    model = on_device(Remembers())
    images, labels = on_device(batch())
    for _ in range(3):
        attack(model, images, labels)
    assert states(model, images) == ["cannot be captured"]


def test_a_network_is_asked_once_whether_it_can_be_captured(on_device, monkeypatch):
    model: nn.Module = on_device(network())
    tried: list[object] = []
    monkeypatch.setattr(replay, "_capture", lambda *arguments: tried.append(arguments))
    for _ in range(4):
        attack(model, *on_device(batch()))
    assert len(tried) == 1


@tensor_float(allowed=False)
def test_a_graph_is_of_one_precision(on_device):
    model = on_device(network())
    images, labels = on_device(batch())
    for products in (False, False, True):
        torch.backends.cuda.matmul.allow_tf32 = products
        attack(model, images, labels)
    assert states(model, images) == ["a graph", "warmed up"]


def test_few_graphs_are_kept_for_a_network(on_device):
    model = on_device(network())
    for n in [1, 2, 3, 4, 5, 6, 6]:
        images, labels = on_device(batch())
        attack(model, images[:n], labels[:n])
    assert states(model, images) == ["warmed up"] * 3 + ["a graph"]


def test_the_network_goes_with_its_graphs(on_device):
    model = on_device(network())
    images, labels = on_device(batch())
    for _ in range(2):
        attack(model, images, labels)
    assert states(model, images) == ["a graph"]
    alive = [weakref.ref(model), weakref.ref(folded(model, images))]
    del model
    gc.collect()
    assert [each() for each in alive] == [None, None]
