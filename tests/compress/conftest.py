import copy
import io

import pytest
import torch
from small_networks import ConvNet, ResidualNet, striped, subject, trained
from torch import Tensor, nn

import bench.compress.quantize
import bench.compress.sealed
from bench.compress.trace import trace
from bench.dataset import Examples
from bench.model import Subject
from bench.progress import silent
from bench.recipe import Ingredients, Meter
from bench.threat_model import ThreatModel, parse_eps


@pytest.fixture(autouse=True, scope="session")
def traced_once():
    """Let whoever quantises or seals a small network have a copy of its graph, where the same network was traced.

    The file of a network tells which is the same: it has all its numbers and whatever else `forward` may read.
    """
    graphs = {}

    def remembered(model, image_shape, device, **options):
        if type(model) not in (ConvNet, ResidualNet):
            return trace(model, image_shape, device, **options)
        torch.save(model, file := io.BytesIO())
        key = (file.getvalue(), image_shape, device, *options.items())
        if key not in graphs:
            graphs[key] = trace(model, image_shape, device, **options)
        return copy.deepcopy(graphs[key])

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(bench.compress.quantize, "trace", remembered)
        patch.setattr(bench.compress.sealed, "trace", remembered)
        yield


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


@pytest.fixture(scope="session")
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
