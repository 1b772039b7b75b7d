"""Residual networks for small images: He, Zhang, Ren, Sun 2016, *Deep Residual Learning for Image Recognition*."""

from __future__ import annotations

import torch
from torch import Tensor, nn
from torch.nn import functional as F


class BasicBlock(nn.Module):
    """Two 3×3 convolutions with batch-norm and a shortcut around them.

    Args:
        inputs: channels in.
        outputs: channels out.
        stride: of the first convolution and of the shortcut.
        projection: whether a shortcut that changes shape is a 1×1 convolution (the paper's option B) or free of
            parameters (option A).
    """

    def __init__(self, inputs: int, outputs: int, *, stride: int, projection: bool) -> None:
        super().__init__()
        self.conv1 = nn.Conv2d(inputs, outputs, kernel_size=3, stride=stride, padding=1, bias=False)
        self.bn1 = nn.BatchNorm2d(outputs)
        self.conv2 = nn.Conv2d(outputs, outputs, kernel_size=3, padding=1, bias=False)
        self.bn2 = nn.BatchNorm2d(outputs)
        self.stride = stride
        self.shortcut = nn.Sequential()
        if projection and (stride != 1 or inputs != outputs):
            convolution = nn.Conv2d(inputs, outputs, kernel_size=1, stride=stride, bias=False)
            self.shortcut = nn.Sequential(convolution, nn.BatchNorm2d(outputs))
        self.pads = not projection

    def forward(self, features: Tensor) -> Tensor:
        """Map (N, inputs, H, W) to (N, outputs, ⌈H/stride⌉, ⌈W/stride⌉)."""
        residual: Tensor = F.relu(self.bn1(self.conv1(features)))
        residual = self.bn2(self.conv2(residual))
        short = self._pad(features, residual.shape[1]) if self.pads else self.shortcut(features)
        return F.relu(residual + short)

    def _pad(self, features: Tensor, outputs: int) -> Tensor:
        """Option A: keep every `stride`-th pixel and add channels of zeros on both sides.

        torch-pruning takes padding for an elementwise operation and would couple channels of different stages, so
        only channels inside the blocks (what `conv1` puts out) can be pruned safely.
        """
        if self.stride != 1:
            features = features[:, :, :: self.stride, :: self.stride]
        # Counted from the tensors, not remembered: pruning changes both numbers.
        extra = outputs - features.shape[1]
        return F.pad(features, (0, 0, 0, 0, extra // 2, extra - extra // 2)) if extra > 0 else features


class ResNet(nn.Module):
    """A 3×3 stem, stages of basic blocks (each but the first halves the image), global mean, linear layer."""

    def __init__(
        self, channels: int, n_classes: int, *, widths: tuple[int, ...], blocks: int, projection: bool
    ) -> None:
        super().__init__()
        self.conv1 = nn.Conv2d(channels, widths[0], kernel_size=3, padding=1, bias=False)
        self.bn1 = nn.BatchNorm2d(widths[0])
        self.n_stages = len(widths)
        inputs = widths[0]
        for number, outputs in enumerate(widths, start=1):
            stage = []
            for position in range(blocks):
                stride = 2 if number > 1 and position == 0 else 1
                stage.append(BasicBlock(inputs, outputs, stride=stride, projection=projection))
                inputs = outputs
            self.add_module(f"layer{number}", nn.Sequential(*stage))
        self.linear = nn.Linear(inputs, n_classes)

    def forward(self, images: Tensor) -> Tensor:
        """Map images (N, C, H, W) to logits (N, K)."""
        features: Tensor = F.relu(self.bn1(self.conv1(images)))
        for number in range(1, self.n_stages + 1):
            features = self.get_submodule(f"layer{number}")(features)
        logits: Tensor = self.linear(torch.flatten(F.adaptive_avg_pool2d(features, 1), 1))
        return logits


def resnet20(image_shape: tuple[int, int, int], n_classes: int) -> nn.Module:
    """ResNet-20 for CIFAR (He et al. 2016): widths 16, 32, 64, shortcuts without parameters."""
    return ResNet(image_shape[0], n_classes, widths=(16, 32, 64), blocks=3, projection=False)


def resnet56(image_shape: tuple[int, int, int], n_classes: int) -> nn.Module:
    """ResNet-56 for CIFAR (He et al. 2016): ResNet-20 with nine blocks a stage."""
    return ResNet(image_shape[0], n_classes, widths=(16, 32, 64), blocks=9, projection=False)


def resnet18(image_shape: tuple[int, int, int], n_classes: int) -> nn.Module:
    """ResNet-18 with a 3×3 stem for small images (He et al. 2016): widths 64 to 512, 1×1 shortcuts."""
    return ResNet(image_shape[0], n_classes, widths=(64, 128, 256, 512), blocks=2, projection=True)
