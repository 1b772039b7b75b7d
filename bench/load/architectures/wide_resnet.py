"""Wide residual networks: Zagoruyko and Komodakis 2016, *Wide Residual Networks*, without dropout."""

from __future__ import annotations

import torch
from torch import Tensor, nn
from torch.nn import functional as F


class WideBlock(nn.Module):
    """Batch-norm, ReLU, 3×3 convolution, twice, added to what came in."""

    def __init__(self, inputs: int, outputs: int, *, stride: int) -> None:
        super().__init__()
        self.bn1 = nn.BatchNorm2d(inputs)
        self.conv1 = nn.Conv2d(inputs, outputs, kernel_size=3, stride=stride, padding=1, bias=False)
        self.bn2 = nn.BatchNorm2d(outputs)
        self.conv2 = nn.Conv2d(outputs, outputs, kernel_size=3, padding=1, bias=False)
        # Spelled as in the checkpoints in circulation (TRADES, RobustBench), so that they load.
        self.convShortcut: nn.Conv2d | None = None
        if inputs != outputs:
            self.convShortcut = nn.Conv2d(inputs, outputs, kernel_size=1, stride=stride, bias=False)

    def forward(self, features: Tensor) -> Tensor:
        """Map (N, inputs, H, W) to (N, outputs, ⌈H/stride⌉, ⌈W/stride⌉)."""
        active = F.relu(self.bn1(features))
        short: Tensor = features if self.convShortcut is None else self.convShortcut(active)
        residual: Tensor = self.conv2(F.relu(self.bn2(self.conv1(active))))
        return residual + short


class Stage(nn.Module):
    """Blocks of one width; the first changes width and size."""

    def __init__(self, inputs: int, outputs: int, blocks: int, *, stride: int) -> None:
        super().__init__()
        rest = [WideBlock(outputs, outputs, stride=1) for _ in range(blocks - 1)]
        self.layer = nn.Sequential(WideBlock(inputs, outputs, stride=stride), *rest)

    def forward(self, features: Tensor) -> Tensor:
        """Run the blocks one after another."""
        outcome: Tensor = self.layer(features)
        return outcome


class WideResNet(nn.Module):
    """A 3×3 stem of 16 channels, three stages `widen` times 16, 32 and 64 wide, global mean, linear layer."""

    def __init__(self, channels: int, n_classes: int, *, depth: int, widen: int) -> None:
        super().__init__()
        blocks = (depth - 4) // 6
        self.conv1 = nn.Conv2d(channels, 16, kernel_size=3, padding=1, bias=False)
        self.block1 = Stage(16, 16 * widen, blocks, stride=1)
        self.block2 = Stage(16 * widen, 32 * widen, blocks, stride=2)
        self.block3 = Stage(32 * widen, 64 * widen, blocks, stride=2)
        self.bn1 = nn.BatchNorm2d(64 * widen)
        self.fc = nn.Linear(64 * widen, n_classes)

    def forward(self, images: Tensor) -> Tensor:
        """Map images (N, C, H, W) to logits (N, K)."""
        features = self.block3(self.block2(self.block1(self.conv1(images))))
        features = F.relu(self.bn1(features))
        logits: Tensor = self.fc(torch.flatten(F.adaptive_avg_pool2d(features, 1), 1))
        return logits


def wrn_28_10(image_shape: tuple[int, int, int], n_classes: int) -> nn.Module:
    """WRN-28-10 (Zagoruyko and Komodakis 2016): depth 28, ten times wider than a ResNet."""
    return WideResNet(image_shape[0], n_classes, depth=28, widen=10)
