"""Small networks that take minutes of nobody's time: trained for a few steps on striped images."""

import copy

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from bench.dataset import Examples
from bench.model import Subject

SHAPE = (3, 12, 12)
CLASSES = 4


class ConvNet(nn.Module):
    """Normalisation, convolutions with batch-norm, pooling, two linear layers."""

    def __init__(self) -> None:
        super().__init__()
        self.register_buffer("mean", torch.tensor([0.4, 0.5, 0.6]).view(1, 3, 1, 1))
        self.conv1 = nn.Conv2d(3, 16, 3, padding=1, bias=False)
        self.norm1 = nn.BatchNorm2d(16)
        self.conv2 = nn.Conv2d(16, 16, 3, padding=1)
        self.norm2 = nn.BatchNorm2d(16)
        self.relu = nn.ReLU(inplace=True)
        self.dropout = nn.Dropout(0.2)
        self.hidden = nn.Linear(16 * 9, 32)
        self.head = nn.Linear(32, CLASSES)

    def forward(self, x: Tensor) -> Tensor:
        x = (x - self.mean) / 0.25
        x = F.max_pool2d(self.relu(self.norm1(self.conv1(x))), 2)
        x = F.max_pool2d(self.relu(self.norm2(self.conv2(x))), 2)
        return self.head(self.dropout(F.relu(self.hidden(x.flatten(1)))))


class ResidualNet(nn.Module):
    """A residual addition, a pre-activation batch-norm that cannot be folded, a projection, global pooling."""

    def __init__(self) -> None:
        super().__init__()
        self.stem = nn.Conv2d(3, 16, 3, padding=1, bias=False)
        self.norm0 = nn.BatchNorm2d(16)
        self.conv1 = nn.Conv2d(16, 16, 3, padding=1, bias=False)
        self.norm1 = nn.BatchNorm2d(16)
        self.conv2 = nn.Conv2d(16, 16, 3, padding=1, bias=False)
        self.norm2 = nn.BatchNorm2d(16)
        self.conv3 = nn.Conv2d(16, 32, 3, stride=2, padding=1, bias=False)
        self.project = nn.Conv2d(16, 32, 1, stride=2)
        self.head = nn.Linear(32, CLASSES)
        self.num_channels = 32

    def forward(self, x: Tensor) -> Tensor:
        x = F.relu(self.norm0(self.stem(x)), inplace=True)
        x = x + self.conv2(F.relu(self.norm1(self.conv1(x))))
        y = F.relu(self.norm2(x))
        x = F.relu_(self.conv3(y) + self.project(y))
        return self.head(F.adaptive_avg_pool2d(x, 1).view(-1, self.num_channels))


def striped(n: int, seed: int) -> Examples:
    """Images whose class is the direction and width of their stripes; many pixels are exactly 0 or 1."""
    generator = torch.Generator().manual_seed(seed)
    labels = torch.randint(CLASSES, (n,), generator=generator)
    rows, columns = torch.meshgrid(torch.arange(12), torch.arange(12), indexing="ij")
    patterns = torch.stack([(axis // width) % 2 for axis in (rows, columns) for width in (1, 3)]).float()
    images = patterns[labels].unsqueeze(1) + 0.8 * torch.randn(n, *SHAPE, generator=generator)
    return Examples(images=(images.clamp(0, 1) * 255).round().to(torch.uint8), labels=labels)


def train(model: nn.Module, examples: Examples, steps: int, rate: float = 3e-3) -> list[float]:
    """Train in place; return the loss of every step."""
    optimizer = torch.optim.Adam(model.parameters(), rate)
    losses = []
    for step in range(steps):
        index = torch.arange(64).add(64 * step).remainder(len(examples))
        loss = F.cross_entropy(model(examples.pixels(index)), examples.labels[index])
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
        losses.append(loss.item())
    return losses


def trained(network: type[nn.Module], examples: Examples) -> nn.Module:
    torch.manual_seed(0)
    model = network().train()
    train(model, examples, 60)
    return model.eval()


def subject(model: nn.Module) -> Subject:
    model = copy.deepcopy(model)
    return Subject.of(model)
