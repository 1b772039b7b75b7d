import pytest
import torch
from torch import nn
from torch.nn import functional as F

from bench.finetune.pgd import pgd
from bench.threat_model import ThreatModel, parse_eps

THREATS = [ThreatModel(norm="Linf", eps=parse_eps("8/255")), ThreatModel(norm="L2", eps=parse_eps("0.5"))]
EACH = pytest.mark.parametrize("threat", THREATS, ids=str)


@pytest.fixture
def model() -> nn.Module:
    with torch.random.fork_rng():
        torch.manual_seed(0)
        return nn.Sequential(
            nn.Conv2d(1, 4, 3), nn.BatchNorm2d(4), nn.ReLU(), nn.Dropout(0.5), nn.Flatten(), nn.Linear(144, 5)
        )


@pytest.fixture
def batch() -> tuple[torch.Tensor, torch.Tensor]:
    generator = torch.Generator().manual_seed(1)
    images = torch.rand(16, 1, 8, 8, generator=generator)
    images[0], images[1] = 0.0, 1.0
    return images, torch.randint(5, (16,), generator=generator)


def attacked(model, batch, threat, seed=0, steps=5):
    generator = None if seed is None else torch.Generator().manual_seed(seed)
    return pgd(model, *batch, threat, steps=steps, step_size=float(threat.eps) / 2, generator=generator)


@EACH
@pytest.mark.parametrize("seed", [0, None])
@pytest.mark.parametrize("steps", [0, 1, 5])
def test_it_stays_in_the_threat_model(model, batch, threat, seed, steps):
    adversarial = attacked(model, batch, threat, seed, steps)
    assert threat.contains(adversarial, batch[0]).all()
    assert not adversarial.requires_grad


@EACH
def test_it_goes_to_the_edge(model, batch, threat):
    sizes = threat.size(attacked(model, batch, threat) - batch[0])
    assert sizes[2:].min() > 0.8 * float(threat.eps)


@EACH
def test_it_increases_the_loss(model, batch, threat):
    images, labels = batch
    model.eval()
    adversarial = attacked(model, batch, threat)
    with torch.no_grad():
        before = F.cross_entropy(model(images), labels, reduction="none")
        after = F.cross_entropy(model(adversarial), labels, reduction="none")
    assert (after > before).all()


@EACH
def test_it_depends_on_nothing_but_its_generator(model, batch, threat):
    torch.manual_seed(1)
    first = attacked(model, batch, threat)
    torch.manual_seed(2)
    assert torch.equal(attacked(model, batch, threat), first)
    assert not torch.equal(attacked(model, batch, threat, seed=1), first)


@pytest.mark.parametrize("training", [True, False])
def test_it_leaves_the_model_as_it_was(model, batch, training):
    model.train(training)
    before = {name: value.clone() for name, value in model.state_dict().items()}
    attacked(model, batch, THREATS[0])
    assert all(module.training is training for module in model.modules())
    assert all(torch.equal(before[name], value) for name, value in model.state_dict().items())
    assert all(parameter.grad is None for parameter in model.parameters())


def test_without_a_generator_it_starts_at_the_image(model, batch):
    assert torch.equal(attacked(model, batch, THREATS[0], seed=None, steps=0), batch[0])


def test_the_images_are_left_as_they_were(model, batch):
    before = batch[0].clone()
    attacked(model, batch, THREATS[1])
    assert torch.equal(batch[0], before)
    assert not batch[0].requires_grad
