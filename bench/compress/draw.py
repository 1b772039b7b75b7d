"""Training images that a step looks at: to calibrate ranges, or statistics of batches."""

from __future__ import annotations

import torch
from torch import Tensor

from bench.recipe import Ingredients


def draw(n: int, ingredients: Ingredients) -> Tensor:
    """Return n training images, drawn without replacement, (n, C, H, W) on the device; all if there are fewer."""
    train = ingredients.train
    order = torch.randperm(len(train), generator=ingredients.generator)[:n]
    return train.pixels(order.to(train.images.device)).to(ingredients.device)
