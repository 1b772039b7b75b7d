"""Residual networks with activation first: He et al. 2016, *Identity Mappings in Deep Residual Networks*."""

from __future__ import annotations

import torch
from torch import Tensor, nn
from torch.nn import functional as F


class PreActBlock(nn.Module):
    """Batch-norm, ReLU, 3×3 convolution, twice, added to what came in."""

    def __init__(self, inputs: int, outputs: int, *, stride: int) -> None:
        super().__init__()
        self.bn1 = nn.BatchNorm2d(inputs)
        self.conv1 = nn.Conv2d(inputs, outputs, kernel_size=3, stride=stride, padding=1, bias=False)
        self.bn2 = nn.BatchNorm2d(outputs)
        self.conv2 = nn.Conv2d(outputs, outputs, kernel_size=3, padding=1, bias=False)
        self.shortcut = nn.Sequential()
        self.projects = stride != 1 or inputs != outputs
        if self.projects:
            self.shortcut.append(nn.Conv2d(inputs, outputs, kernel_size=1, stride=stride, bias=False))

    def forward(self, features: Tensor) -> Tensor:
        """Map (N, inputs, H, W) to (N, outputs, ⌈H/stride⌉, ⌈W/stride⌉)."""
        active = F.relu(self.bn1(features))
        # A projection sees the activated features, an identity the raw ones (the paper's figure 4e and section 4.1).
        short: Tensor = self.shortcut(active) if self.projects else features
        residual: Tensor = self.conv2(F.relu(self.bn2(self.conv1(active))))
        return residual + short


class PreActResNet(nn.Module):
    """A 3×3 stem, four stages of blocks, a last batch-norm and ReLU, global mean, linear layer."""

    def __init__(self, channels: int, n_classes: int, *, blocks: int) -> None:
        super().__init__()
        self.conv1 = nn.Conv2d(channels, 64, kernel_size=3, padding=1, bias=False)
        self.layer1 = _stage(64, 64, blocks, stride=1)
        self.layer2 = _stage(64, 128, blocks, stride=2)
        self.layer3 = _stage(128, 256, blocks, stride=2)
        self.layer4 = _stage(256, 512, blocks, stride=2)
        self.bn = nn.BatchNorm2d(512)
        self.linear = nn.Linear(512, n_classes)

    def forward(self, images: Tensor) -> Tensor:
        """Map images (N, C, H, W) to logits (N, K)."""
        features = self.layer4(self.layer3(self.layer2(self.layer1(self.conv1(images)))))
        features = F.relu(self.bn(features))
        logits: Tensor = self.linear(torch.flatten(F.adaptive_avg_pool2d(features, 1), 1))
        return logits


def _stage(inputs: int, outputs: int, blocks: int, *, stride: int) -> nn.Sequential:
    """Return `blocks` blocks of which the first changes width and size."""
    rest = [PreActBlock(outputs, outputs, stride=1) for _ in range(blocks - 1)]
    return nn.Sequential(PreActBlock(inputs, outputs, stride=stride), *rest)


def preact_resnet18(image_shape: tuple[int, int, int], n_classes: int) -> nn.Module:
    """PreActResNet-18 for small images (He et al. 2016, Identity Mappings)."""
    return PreActResNet(image_shape[0], n_classes, blocks=2)
