import pytest
import torch

from bench.compress.quantize import Quantize
from bench.dataset import Examples
from bench.load.architectures import build
from bench.model import Subject
from bench.progress import silent
from bench.recipe import Ingredients, Meter
from bench.threat_model import ThreatModel, parse_eps


@pytest.fixture
def given():
    """What a compression step is called with."""

    def make(model, shape):
        subject = Subject.of(model)
        images = torch.randint(256, (16, *shape), generator=torch.Generator().manual_seed(0)).byte()
        return subject, Ingredients(
            train=Examples(images=images, labels=torch.zeros(16, dtype=torch.long)),
            threat=ThreatModel(norm="Linf", eps=parse_eps("8/255")),
            finetune_images=0,
            generator=torch.Generator().manual_seed(0),
            device=torch.device("cpu"),
            report=silent,
            meter=Meter(),
        )

    return make


@pytest.fixture
def quantized(given):
    def make(**settings):
        torch.manual_seed(0)
        model = build("digits-cnn", (1, 8, 8), 10).eval()
        return model, Quantize(**settings)(*given(model, (1, 8, 8))).twin

    return make
