"""A tiny network, and ingredients for it."""

import pytest
import torch
from torch import nn

from bench.dataset import Examples
from bench.model import Subject
from bench.progress import silent
from bench.recipe import Ingredients, Meter
from bench.threat_model import ThreatModel, parse_eps


@pytest.fixture
def tiny():
    def make(seed: int = 0) -> nn.Module:
        with torch.random.fork_rng():
            torch.manual_seed(seed)
            layers = [nn.Conv2d(1, 4, 3), nn.BatchNorm2d(4), nn.ReLU(), nn.Flatten(), nn.Linear(144, 5)]
        return nn.Sequential(*layers).eval()

    return make


@pytest.fixture
def pupil(tiny) -> Subject:
    model = tiny()
    return Subject(twin=model, parent=tiny(1), deployed=model)


@pytest.fixture
def given():
    def make(budget: int = 1000, report=silent, checkpoints=None, n: int = 96) -> Ingredients:
        generator = torch.Generator().manual_seed(9)
        return Ingredients(
            train=Examples(
                images=torch.randint(256, (n, 1, 8, 8), generator=generator).to(torch.uint8),
                labels=torch.randint(5, (n,), generator=generator),
            ),
            threat=ThreatModel(norm="Linf", eps=parse_eps("8/255")),
            finetune_images=budget,
            generator=torch.Generator().manual_seed(0),
            device=torch.device("cpu"),
            report=report,
            meter=Meter(),
            checkpoints=checkpoints,
        )

    return make
