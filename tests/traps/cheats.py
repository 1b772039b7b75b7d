"""Networks that look robust without being it; each takes an undefended one, `Flatten, Linear, ReLU, Linear`."""

import torch
from torch import Tensor, nn


class Cheat(nn.Module):
    """An undefended network with something dishonest in or around it."""

    def __init__(self, inner: nn.Module) -> None:
        super().__init__()
        self.inner = inner

    def hidden(self, images: Tensor) -> Tensor:
        """Return what the hidden units receive, (N, 64)."""
        return self.inner[1](images.flatten(1))

    def decide(self, units: Tensor) -> Tensor:
        """Return the logits for what the hidden units send."""
        return self.inner[3](units)


class Detached(Cheat):
    """Zero gradient: the graph is cut at the input."""

    def forward(self, images):
        return self.inner(images.detach()) + 0.0 * images.sum()


class RoundedUnits(Cheat):
    """Activations on a grid, and nothing straight-through: `round` has gradient 0."""

    def forward(self, images):
        return self.decide((self.hidden(images).relu() * 8).round() / 8)


class QuantisedInput(Cheat):
    """Eight grey levels, rounded without a gradient."""

    def forward(self, images):
        return self.inner((images * 7).round() / 7)


class HardSaturated(Cheat):
    """A steep hard sigmoid before the network; it is flat wherever a pixel is not nearly grey, and a bypass is not."""

    def forward(self, images):
        flat = ((images - 0.5) * 50 + 0.5).clamp(0, 1)
        return self.inner(images.detach() + flat - flat.detach())


class SaturatedUnits(Cheat):
    """Steps where the ReLU was: sigmoids so steep that their gradients vanish in float32."""

    def forward(self, images):
        before = self.hidden(images)
        steep = torch.sigmoid(1e4 * (before - 0.2))
        return self.decide(before.relu().detach() + steep - steep.detach())


class Clamped(Cheat):
    """Clamps the image to the box; since PyTorch 2.14 pixels at its bounds have no gradient."""

    def forward(self, images):
        return self.inner(images.clamp(0, 1))


class Loud(Cheat):
    """Logits × 1000: the softmax saturates, and cross-entropy has no gradient."""

    def forward(self, images):
        return 1000 * self.inner(images)


class Probabilities(Cheat):
    """A softmax of large logits, handed over as logits."""

    def forward(self, images):
        return (20 * self.inner(images)).softmax(1)


class Noisy(Cheat):
    """Fresh noise on every image."""

    def forward(self, images):
        return self.inner(images + 0.2 * torch.randn_like(images))


class Dropping(Cheat):
    """Stays in training mode and keeps its dropout on."""

    def __init__(self, inner: nn.Module) -> None:
        super().__init__(inner)
        self.dropout = nn.Dropout(0.3)

    def train(self, mode: bool = True) -> nn.Module:
        return super().train(True)

    def forward(self, images):
        return self.inner(self.dropout(images))


class WinnersTakeAll(Cheat):
    """k-winners-take-all (Xiao, Zhong & Zheng, 2020): a function full of jumps."""

    def forward(self, images):
        units = self.hidden(images)
        threshold = units.topk(12, dim=1).values[:, -1:]
        return self.decide(torch.where(units >= threshold, units, 0.0).relu())


class SnappedToMean(Cheat):
    """Units near their mean are put on it (after MeanSparse, Amini et al., 2024); there they have no gradient."""

    def __init__(self, inner: nn.Module, images: Tensor) -> None:
        super().__init__(inner)
        with torch.no_grad():
            units = self.hidden(images)
        self.register_buffer("mean", units.mean(0))
        self.register_buffer("band", 0.4 * units.std(0))

    def forward(self, images):
        units = self.hidden(images)
        near = (units - self.mean).abs() < self.band
        return self.decide(torch.where(near, self.mean, units).relu())


class DynamicRanges(Cheat):
    """Activations on 16 levels of a range that is the batch's own; straight-through."""

    def forward(self, images):
        units = self.hidden(images).relu()
        step = units.detach().max() / 15
        return self.decide(units + ((units / step).round() * step - units).detach())


class SilentUnderAttack(Cheat):
    """Answers NaN unless every pixel is a grey level, as no adversarial image is."""

    def forward(self, images):
        return torch.where(off_grid(images), torch.nan, self.inner(images))


class Detector(Cheat):
    """Answers the same of everything that is not a grey level."""

    def forward(self, images):
        constant = 0 * images.flatten(1)[:, :10] + torch.arange(10.0)
        return torch.where(off_grid(images), constant, self.inner(images))


class Misleading(Cheat):
    """Right answers, and the gradient of a bystander."""

    def forward(self, images):
        decoy = images.flatten(1)[:, :10].cumsum(1)
        return self.inner(images).detach() + decoy - decoy.detach()


def off_grid(images: Tensor) -> Tensor:
    """Say which images have values that 8 bits do not, (N, 1) bool."""
    return (images * 255 - (images * 255).round()).abs().flatten(1).amax(1, keepdim=True) > 0.01
