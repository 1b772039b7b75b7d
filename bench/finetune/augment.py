"""Random crops and flips, for a whole batch at once."""

from __future__ import annotations

import torch
from torch import Tensor
from torch.nn import functional as F


def augment(images: Tensor, generator: torch.Generator, *, crop: int, flip: bool) -> Tensor:
    """Return a batch with each image shifted by up to `crop` pixels (black moves in) and half of them mirrored.

    Args:
        images: (N, C, H, W).
        generator: on the CPU; draws three numbers an image, whatever the device.
        crop: padding in pixels before a crop of the old size at random; 0 for none.
        flip: whether to mirror left and right.
    """
    n, channels, height, width = images.shape
    device = images.device
    if crop:
        corners = torch.randint(2 * crop + 1, (2, n, 1), generator=generator).to(device)
        rows = corners[0] + torch.arange(height, device=device)
        columns = corners[1] + torch.arange(width, device=device)
        image = torch.arange(n, device=device).view(n, 1, 1, 1)
        channel = torch.arange(channels, device=device).view(1, channels, 1, 1)
        padded = F.pad(images, (crop, crop, crop, crop))
        images = padded[image, channel, rows.view(n, 1, height, 1), columns.view(n, 1, 1, width)]
    if flip:
        mirrored = (torch.rand(n, 1, 1, 1, generator=generator) < 0.5).to(device)
        images = torch.where(mirrored, images.flip(3), images)
    return images
