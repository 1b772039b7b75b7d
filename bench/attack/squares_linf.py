"""Square's patches under Linf (Andriushchenko et al., 2020): squares that go to the ball's surface."""

from __future__ import annotations

import torch
from torch import Tensor
from torch.nn import functional

from bench.attack import randomness

FEW = 0.1
"""Share of an image's pixels below which a square is written pixel by pixel."""


class PatchesLinf:
    """Squares in which each channel goes to x + eps or to x − eps, within the box.

    Args:
        eps: radius.
        image_shape: (C, H, W).
        sides: of the squares, in pixels.
    """

    def __init__(self, eps: float, image_shape: tuple[int, int, int], sides: list[int]) -> None:
        self.eps, (self.channels, self.height, self.width) = eps, image_shape
        self.draws = 1 + self.channels

    def start(self, images: Tensor, keys: Tensor, counter: int) -> Tensor:
        """Return vertical stripes, one pixel wide, of random sign in each channel."""
        n = self.channels * self.width
        words = randomness.bits(keys.unsqueeze(1), counter + torch.arange(n, device=keys.device))
        return self._corner(images, (words < 0).view(len(keys), self.channels, 1, self.width))

    def marks(self, points: Tensor, images: Tensor) -> Tensor:
        """Return how many pixels above and left of each place are raised: (n, C, H + 1, W + 1) int32."""
        # A pixel that could not move is at the bound of the box towards which it was to go.
        raised = torch.where(points == images, images > 0.5, points > images).int()
        return functional.pad(raised.cumsum(2, dtype=torch.int32).cumsum(3, dtype=torch.int32), (1, 0, 1, 0))

    def changes(self, marks: Tensor, words: Tensor, sizes: Tensor) -> Tensor:
        """Say whether some channel of the square has a pixel of the other sign."""
        top, left, rise = self._read(words, sizes)
        slot = torch.arange(len(marks), device=marks.device).view(-1, 1, 1)
        channel = torch.arange(self.channels, device=marks.device)
        top, left, side = top.unsqueeze(-1), left.unsqueeze(-1), sizes.unsqueeze(-1)
        bottom, right = top + side, left + side
        raised = marks[slot, channel, bottom, right] - marks[slot, channel, top, right]
        raised = raised - marks[slot, channel, bottom, left] + marks[slot, channel, top, left]
        return torch.where(rise, raised < side * side, raised > 0).any(-1)

    def paste(self, points: Tensor, images: Tensor, slots: Tensor, words: Tensor, sizes: Tensor) -> Tensor:
        """Return the points with their squares; they themselves are lost."""
        top, left, rise = self._read(words, sizes)
        largest = int(sizes.max()) if len(sizes) else 0
        if largest**2 > FEW * self.height * self.width:
            inside = window(top, left, sizes, self.height, self.width)
            return torch.where(inside, self._corner(images[slots], rise[:, :, None, None]), points)
        inside = torch.arange(largest, device=sizes.device) < sizes.unsqueeze(1)
        row, down, right = (inside.unsqueeze(2) & inside.unsqueeze(1)).nonzero(as_tuple=True)
        y, x = top[row] + down, left[row] + right
        points.movedim(1, 3)[row, y, x] = self._corner(images.movedim(1, 3)[slots[row], y, x], rise[row])
        return points

    def _read(self, words: Tensor, sizes: Tensor) -> tuple[Tensor, Tensor, Tensor]:
        """Return top, left, and for each channel whether it rises; the last row and column begin no square."""
        place = words[..., 0]
        top = randomness.below(self.height - sizes, place, shift=40)
        left = randomness.below(self.width - sizes, place, shift=16)
        return top, left, words[..., 1:] < 0

    def _corner(self, images: Tensor, rise: Tensor) -> Tensor:
        return torch.where(rise, (images + self.eps).clamp_max(1), (images - self.eps).clamp_min(0))


def window(top: Tensor, left: Tensor, side: Tensor, height: int, width: int) -> Tensor:
    """Return the pixels of each square, (R, 1, H, W) bool."""
    row = torch.arange(height, device=top.device)
    column = torch.arange(width, device=top.device)
    top, left, side = top.unsqueeze(1), left.unsqueeze(1), side.unsqueeze(1)
    rows, columns = (row >= top) & (row < top + side), (column >= left) & (column < left + side)
    return rows[:, None, :, None] & columns[:, None, None, :]
