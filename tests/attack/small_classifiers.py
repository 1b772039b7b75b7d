"""Classifiers whose robustness is known in closed form, and cheats that only look robust."""

import torch
from torch import Tensor, nn

from bench.dataset import Examples
from bench.model import Subject
from bench.threat_model import ThreatModel, parse_eps

SHAPE = (1, 6, 6)  # Square under L2 divides the height by five: it needs five pixels
LINF = ThreatModel(norm="Linf", eps=parse_eps("0.06"))
L2 = ThreatModel(norm="L2", eps=parse_eps("0.3"))


class Linear(nn.Module):
    """Two classes compete with logits ±(w·x + b)/2; two more stay far below, at different heights for the DLR loss."""

    def __init__(self, weight: Tensor, bias: float = 0.0) -> None:
        super().__init__()
        self.weight, self.bias = nn.Parameter(weight), bias

    def margin(self, images: Tensor) -> Tensor:
        return images.flatten(1) @ self.weight + self.bias

    def forward(self, images: Tensor) -> Tensor:
        half = self.margin(images) / 2
        return torch.stack([half, -half, torch.full_like(half, -9.0), torch.full_like(half, -11.0)], 1)


def weights() -> Tensor:
    return torch.randn(36, generator=torch.Generator().manual_seed(3))


def linear_task(threat: ThreatModel, n: int = 40) -> tuple[Linear, Examples, Tensor]:
    """Return a model, labelled images away from the box with margins around the threat's reach, and who survives."""
    weight = weights()
    reach = float(threat.eps) * (weight.abs().sum() if threat.norm == "Linf" else weight.norm())
    model = Linear(weight, bias=-0.5 * float(weight.sum()))
    generator = torch.Generator().manual_seed(0)
    images = 0.5 + 0.05 * torch.randn(n, *SHAPE, generator=generator)
    wanted = (0.2 + 1.6 * torch.rand(n, generator=generator)) * reach * (torch.arange(n) % 2 * 2 - 1)
    with torch.no_grad():
        step = (wanted - model.margin(images)) / weight.abs().sum()
    pixels = (images + step.view(-1, 1, 1, 1) * weight.sign().view(SHAPE)).mul(255).round()
    assert pixels.min() > 255 * float(LINF.eps)
    assert pixels.max() < 255 * (1 - float(LINF.eps))
    with torch.no_grad():
        margin = model.margin(pixels / 255)
    ratio = margin.abs() / reach
    clear = (ratio - 1).abs() > 1e-3
    examples = Examples(images=pixels[clear].to(torch.uint8), labels=(margin < 0).long()[clear])
    return model, examples, (ratio > 1)[clear]


class Wrapped(nn.Module):
    """An honest network with something dishonest around it."""

    def __init__(self, inner: nn.Module) -> None:
        super().__init__()
        self.inner = inner


class Randomised(Wrapped):
    def forward(self, images: Tensor) -> Tensor:
        return self.inner((images + 0.2 * torch.randn_like(images)).clamp(0, 1))


class BatchDependent(Wrapped):
    def forward(self, images: Tensor) -> Tensor:
        return self.inner(images - images.mean(0) + 0.5)


class Probabilities(Wrapped):
    def forward(self, images: Tensor) -> Tensor:
        return self.inner(images).softmax(1)


class NanOnClean(Wrapped):
    """Answers nothing for dark images."""

    def forward(self, images: Tensor) -> Tensor:
        dark = images.flatten(1).mean(1, keepdim=True) < 0.3
        return torch.where(dark, torch.nan, self.inner(images))


class NanUnderAttack(Wrapped):
    """Answers only images that lie on the grid of grey levels, as no adversarial image does."""

    def forward(self, images: Tensor) -> Tensor:
        off_grid = (images * 255 - (images * 255).round()).abs().flatten(1).amax(1, keepdim=True) > 0.01
        return torch.where(off_grid, torch.nan, self.inner(images))


class Detached(Wrapped):
    """Right answers, no gradient."""

    def forward(self, images: Tensor) -> Tensor:
        return self.inner(images.detach()) + 0.0 * images.sum()


class Rounded(Wrapped):
    """Rounds the image to 16 grey levels, and `round` has gradient 0."""

    def forward(self, images: Tensor) -> Tensor:
        return self.inner((images * 15).round() / 15)


class Decoy(Wrapped):
    """Right answers, and the gradient of a bystander."""

    def forward(self, images: Tensor) -> Tensor:
        decoy = images.flatten(1)[:, :10].cumsum(1)
        return self.inner(images).detach() + decoy - decoy.detach()


class Dropping(Wrapped):
    """Keeps its dropout on whatever mode it is put in."""

    def __init__(self, inner: nn.Module) -> None:
        super().__init__(inner)
        self.dropout = nn.Dropout(0.3)

    def train(self, mode: bool = True) -> "Dropping":
        return super().train(True)

    def forward(self, images: Tensor) -> Tensor:
        return self.inner(self.dropout(images))


class Constant(nn.Module):
    """Says class 0 of everything; the image adds next to nothing."""

    def forward(self, images: Tensor) -> Tensor:
        whisper = 1e-3 * images.flatten(1)[:, :10]
        return whisper + torch.tensor([1.0] + [0.0] * 9)


def whole(model: nn.Module) -> Subject:
    return Subject.of(model)
