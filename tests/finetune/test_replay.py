"""On CUDA an attack's kernels are captured; what comes out is what comes out without."""

import gc
import weakref
from contextlib import nullcontext

import pytest
import torch
from torch import nn

from bench.compress.quantize import Quantize
from bench.dataset import Examples
from bench.finetune import replay
from bench.finetune.folded import folded
from bench.finetune.pgd import cross_entropies, gradient_at, pgd
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


def batch(device: str, seed: int = 1) -> tuple[torch.Tensor, torch.Tensor]:
    generator = torch.Generator().manual_seed(seed)
    images, labels = torch.rand(16, 1, 8, 8, generator=generator), torch.randint(5, (16,), generator=generator)
    return images.to(device), labels.to(device)


def attack(model: nn.Module, images: torch.Tensor, labels: torch.Tensor) -> torch.Tensor:
    generator = torch.Generator().manual_seed(2)
    return pgd(model, images, labels, THREAT, steps=3, step_size=0.01, generator=generator)


def directly(model: nn.Module, monkeypatch: pytest.MonkeyPatch, images: torch.Tensor, labels: torch.Tensor):
    with monkeypatch.context() as patch:
        patch.setattr("bench.finetune.pgd.replayed", lambda gradient, model, images, loss, target: (
            lambda points: gradient(model, points, loss, target)))  # fmt: skip
        return attack(model, images, labels)


def same(one: torch.Tensor, other: torch.Tensor) -> bool:
    """Whether they are the same but for a few pixels, whose gradient is so close to 0 that its sign is chance."""
    return bool((one != other).float().mean() < 0.01)


def graphs(model: nn.Module) -> list[object]:
    return [
        state
        for state in replay._states.get(folded(model, batch("cuda")[0]), {}).values()
        if not isinstance(state, str)
    ]


def test_nothing_is_recorded_on_a_cpu():
    model = network()
    for _ in range(3):
        attack(model, *batch("cpu"))
    assert folded(model, batch("cpu")[0]) not in replay._states


class OnCuda(torch.Tensor):
    """Images that only say so."""

    is_cuda = True


def calls(monkeypatch: pytest.MonkeyPatch, recorded: object, images: torch.Tensor, times: int) -> tuple[list, int]:
    """Ask for slopes again and again; return what was handed out, and how often a recording was tried."""
    model, tried = network(), []
    monkeypatch.setattr(replay, "_capture", lambda *arguments: tried.append(arguments) or recorded)
    labels = torch.zeros(len(images), dtype=torch.int64)
    handed = [replay.replayed(gradient_at, model, images, cross_entropies, labels) for _ in range(times)]
    return handed, len(tried)


def test_the_second_call_records_and_a_network_that_refuses_is_asked_once(monkeypatch):
    monkeypatch.setattr(torch.cuda, "device", lambda device: nullcontext())
    images = batch("cpu")[0].as_subclass(OnCuda)
    handed, tried = calls(monkeypatch, None, images, 4)
    assert tried == 1
    assert all(find(batch("cpu")[0]).shape == images.shape for find in handed)
    graph = replay._Graph(kernels=Kernels(), images=images.clone(), target=torch.ones(16), gradient=torch.ones(16))
    handed, tried = calls(monkeypatch, graph, images, 4)
    assert tried == 1
    assert [find is graph for find in handed] == [False, True, True, True]
    assert torch.equal(graph.target, torch.zeros(16))
    assert graph(images + 1) is graph.gradient
    assert torch.equal(graph.images, images + 1)


class Kernels:
    """Compute nothing."""

    def replay(self) -> None:
        """Do nothing."""


def test_few_graphs_are_kept_for_a_network(monkeypatch):
    monkeypatch.setattr(replay, "_capture", lambda *arguments: None)
    model = network()
    for n in [1, 2, 3, 4, 5, 6, 6]:
        images = torch.zeros(n, 1, 8, 8).as_subclass(OnCuda)
        replay.replayed(gradient_at, model, images, cross_entropies, torch.zeros(n, dtype=torch.int64))
    assert [*replay._states[model].values()] == ["warmed up"] * 3 + ["cannot be captured"]


@pytest.mark.gpu
def test_a_recorded_attack_finds_the_same_images(monkeypatch):
    model = network().to("cuda")
    for seed in range(4):
        images, labels = batch("cuda", seed)
        assert same(attack(model, images, labels), directly(model, monkeypatch, images, labels))
    assert len(graphs(model)) == 1


@pytest.mark.gpu
def test_it_follows_weights_that_training_moves_and_those_put_in_their_place(monkeypatch):
    model = network().to("cuda")
    images, labels = batch("cuda")
    before = [attack(model, images, labels) for _ in range(2)][-1]
    model.load_state_dict(network(seed=1).state_dict())
    after = attack(model, images, labels)
    assert same(after, directly(model, monkeypatch, images, labels))
    assert not same(after, before)
    for module in model.modules():
        if isinstance(module, nn.Conv2d):
            module.weight = nn.Parameter(torch.randn_like(module.weight))
    assert same(attack(model, images, labels), directly(model, monkeypatch, images, labels))


@pytest.mark.gpu
def test_a_quantised_network_is_recorded_too(monkeypatch):
    parent, images, labels = network(), (255 * batch("cpu")[0]).byte(), batch("cpu")[1]
    given = Ingredients(
        train=Examples(images=images, labels=labels), threat=THREAT, finetune_images=16,
        generator=torch.Generator().manual_seed(0), device=torch.device("cpu"), report=silent, meter=Meter(),
    )  # fmt: skip
    twin = Quantize()(Subject(twin=parent, parent=parent, deployed=parent), given).twin.to("cuda")
    images, labels = batch("cuda")
    for _ in range(3):
        assert same(attack(twin, images, labels), directly(twin, monkeypatch, images, labels))
    assert len(graphs(twin)) == 1


class AsksTheHost(nn.Module):
    """Cannot be recorded: it waits for a number."""

    def __init__(self) -> None:
        super().__init__()
        self.last = nn.Linear(64, 5)

    def forward(self, images: torch.Tensor) -> torch.Tensor:
        scores: torch.Tensor = self.last(images.flatten(1))
        return scores * 2 if scores.sum().item() > 0 else scores


@pytest.mark.gpu
def test_a_network_that_cannot_be_recorded_is_attacked_all_the_same(monkeypatch):
    model = AsksTheHost().to("cuda")
    images, labels = batch("cuda")
    found = [attack(model, images, labels) for _ in range(4)]
    assert all(same(found[0], other) for other in found[1:])
    assert [*replay._states[model].values()] == ["cannot be captured"]
    assert torch.randn(3, device="cuda").isfinite().all()  # the device is as usable as before


@pytest.mark.gpu
def test_the_network_goes_with_its_graphs():
    model = network().to("cuda")
    for _ in range(2):
        attack(model, *batch("cuda"))
    assert len(graphs(model)) == 1
    alive = [weakref.ref(model), weakref.ref(folded(model, batch("cuda")[0]))]
    del model
    gc.collect()
    assert [each() for each in alive] == [None, None]
