import pytest
import torch
from torch import Tensor, nn
from torch.nn import functional

from bench.dataset import Dataset
from bench.load.datasets import load_digits

EPS = 0.15


@pytest.fixture(scope="session")
def digits() -> Dataset:
    return load_digits()


@pytest.fixture(scope="session")
def undefended(digits) -> nn.Module:
    """Right, and not robust."""
    return fit(digits, adversarial=False)


@pytest.fixture(scope="session")
def defended(digits) -> nn.Module:
    """The same network, adversarially trained."""
    return fit(digits, adversarial=True)


def fit(digits: Dataset, *, adversarial: bool) -> nn.Module:
    """Train 64 hidden units for a second or two, all images at once."""
    generator = torch.Generator().manual_seed(0)
    network = nn.Sequential(nn.Flatten(), nn.Linear(64, 64), nn.ReLU(), nn.Linear(64, 10))
    with torch.no_grad():
        for layer in (network[1], network[3]):
            layer.weight.normal_(0, 0.2, generator=generator)
            layer.bias.zero_()
    images, labels = digits.train.pixels(), digits.train.labels
    optimizer = torch.optim.Adam(network.parameters(), lr=5e-3)
    for _ in range(150):
        points = worst(network, images, labels, generator) if adversarial else images
        optimizer.zero_grad()
        functional.cross_entropy(network(points), labels).backward()
        optimizer.step()
    return network.eval()


def worst(network: nn.Module, images: Tensor, labels: Tensor, generator: torch.Generator) -> Tensor:
    """Return what four steps of PGD find."""
    low, high = (images - EPS).clamp_min(0), (images + EPS).clamp_max(1)
    points = low + (high - low) * torch.rand(images.shape, generator=generator)
    for _ in range(4):
        points = points.detach().requires_grad_()
        loss = functional.cross_entropy(network(points), labels, reduction="sum")
        (gradient,) = torch.autograd.grad(loss, points)
        points = torch.minimum(torch.maximum(points + 0.4 * EPS * gradient.sign(), low), high)
    return points.detach()
