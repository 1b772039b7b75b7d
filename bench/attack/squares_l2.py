"""Square's patches under L2 (Andriushchenko et al., 2020): one window pays for another, which takes a random bump."""

from __future__ import annotations

import torch
from torch import Tensor

from bench.attack import randomness
from bench.attack.search import per_image, unit
from bench.attack.squares_linf import window


class PatchesL2:
    """Windows of the perturbation that are emptied and refilled with more of the same and a random bump.

    Args:
        eps: radius.
        image_shape: (C, H, W), H and W at least 5.
        sides: of the windows, in pixels.
    """

    def __init__(self, eps: float, image_shape: tuple[int, int, int], sides: list[int]) -> None:
        self.eps, (self.channels, self.height, self.width) = eps, image_shape
        self.draws = 2 + self.channels
        self.tile = self.height // 5
        self.bumps = _bumps({*sides, self.tile})

    def start(self, images: Tensor, keys: Tensor, counter: int) -> Tensor:
        """Return the images under a carpet of bumps, each turned and signed at random."""
        side, first = self.tile, (self.height - 5 * self.tile) // 2
        delta = torch.zeros_like(images)
        for row in range(self.height // side):
            for column in range(self.width // side):
                words = randomness.bits(keys.unsqueeze(1), counter + torch.arange(self.draws, device=keys.device))
                counter += self.draws
                top, left = (torch.full_like(keys, first + side * index) for index in (row, column))
                sides = torch.full_like(keys, side)
                bump = self._bump(top, left, sides, words[:, 0] & 1)
                delta += bump * self._signs(words)
        return (images + unit(delta) * self.eps).clamp_(0, 1)

    def marks(self, points: Tensor, images: Tensor) -> Tensor:
        """Return nothing: every query moves something."""
        return points.new_zeros(len(points), 0)

    def changes(self, marks: Tensor, words: Tensor, sizes: Tensor) -> Tensor:
        """Say yes."""
        return torch.ones_like(sizes, dtype=torch.bool)

    def paste(self, points: Tensor, images: Tensor, slots: Tensor, words: Tensor, sizes: Tensor) -> Tensor:
        """Return the points with one window refilled at the other's cost, back on the ball's surface."""
        images = images[slots]
        delta = points - images
        (top, left), (top2, left2) = self._place(words[:, 0], sizes), self._place(words[:, 1], sizes)
        refilled = window(top, left, sizes, self.height, self.width)
        emptied = window(top2, left2, sizes, self.height, self.width)
        here = delta * refilled
        spent = _size(delta * (refilled | emptied))
        patch = self._bump(top, left, sizes, words[:, 0] & 1) * self._signs(words) + here / (1e-12 + _size(here))
        left_over = (self.eps**2 - per_image(delta.square().flatten(1).sum(1), delta)).clamp_min(0) / self.channels
        patch = patch / (1e-12 + _size(patch)) * (left_over + spent.square()).sqrt()
        delta = torch.where(refilled, patch, delta.masked_fill(emptied, 0))
        return (images + unit(delta) * self.eps).clamp_(0, 1)

    def _place(self, words: Tensor, sizes: Tensor) -> tuple[Tensor, Tensor]:
        """Return top and left; the last row and column begin no window."""
        top = randomness.below(self.height - sizes, words, shift=40)
        return top, randomness.below(self.width - sizes, words, shift=16)

    def _signs(self, words: Tensor) -> Tensor:
        signs = torch.where(words[:, 2:] < 0, 1.0, -1.0)
        return signs.to(torch.float32)[:, :, None, None]

    def _bump(self, top: Tensor, left: Tensor, side: Tensor, turned: Tensor) -> Tensor:
        """Return each row's bump at its place, 0 elsewhere; (R, 1, H, W)."""
        self.bumps = self.bumps.to(top.device)
        last = self.bumps.shape[-1] - 1
        row = (torch.arange(self.height, device=top.device) - top.unsqueeze(1)).clamp(0, last)
        column = (torch.arange(self.width, device=top.device) - left.unsqueeze(1)).clamp(0, last)
        values = self.bumps[side[:, None, None], turned[:, None, None], row[:, :, None], column[:, None, :]]
        return values.unsqueeze(1) * window(top, left, side, self.height, self.width)


def _size(delta: Tensor) -> Tensor:
    """Return the L2 norm of each channel, (R, C, 1, 1)."""
    return delta.square().sum((2, 3), keepdim=True).sqrt()


def _bumps(sides: set[int]) -> Tensor:
    """Return the bumps of all sides, upright and turned: (largest + 1, 2, largest, largest)."""
    largest = max(sides)
    table = torch.zeros(largest + 1, 2, largest, largest)
    for side in sides:
        upright = bump(side)
        table[side, 0, :side, :side], table[side, 1, :side, :side] = upright, upright.T
    return table


def bump(side: int) -> Tensor:
    """Return a square of L2 norm 1, its upper half a pyramid above zero, its lower half one below; (side, side)."""
    upper = side // 2
    both = torch.cat([_pyramid(upper, side), -_pyramid(side - upper, side)])
    size: Tensor = both.norm()
    return both / size


def _pyramid(height: int, width: int) -> Tensor:
    """Return a pyramid of L2 norm 1 that rises in steps of 1/k² towards its middle; (height, width)."""
    if height == 0:
        return torch.zeros(0, width)
    levels = max(height, width) // 2 + 1
    away = torch.maximum(
        (torch.arange(height) - height // 2).abs().unsqueeze(1), (torch.arange(width) - width // 2).abs().unsqueeze(0)
    )
    steps = torch.arange(1, levels + 1).double().pow(-2)
    heights = steps.flip(0).cumsum(0).flip(0)
    pyramid = heights[away]
    size: Tensor = pyramid.norm()
    return (pyramid / size).float()
