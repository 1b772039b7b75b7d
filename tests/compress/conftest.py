import pytest
import torch
from small_networks import ConvNet, ResidualNet, striped, subject, trained
from torch import Tensor, nn

from bench.dataset import Examples
from bench.model import Subject
from bench.progress import silent
from bench.recipe import Ingredients, Meter
from bench.threat_model import ThreatModel, parse_eps


@pytest.fixture(scope="session")
def examples() -> Examples:
    return striped(512, seed=1)


@pytest.fixture(scope="session")
def unseen() -> Tensor:
    return striped(400, seed=2).pixels()


@pytest.fixture(scope="session")
def _networks(examples: Examples) -> dict[str, nn.Module]:
    return {"conv": trained(ConvNet, examples), "residual": trained(ResidualNet, examples)}


@pytest.fixture
def conv(_networks) -> Subject:
    return subject(_networks["conv"])


@pytest.fixture
def residual(_networks) -> Subject:
    return subject(_networks["residual"])


@pytest.fixture(params=["conv", "residual"])
def either(request, _networks) -> Subject:
    return subject(_networks[request.param])


@pytest.fixture
def ingredients(examples):
    def make(seed: int = 0) -> Ingredients:
        return Ingredients(
            train=examples,
            threat=ThreatModel(norm="Linf", eps=parse_eps("8/255")),
            finetune_images=0,
            generator=torch.Generator().manual_seed(seed),
            device=torch.device("cpu"),
            report=silent,
            meter=Meter(),
        )

    return make
