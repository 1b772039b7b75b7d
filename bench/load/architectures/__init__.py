"""The bench's own networks, by name: what `bench:NAME` and `checkpoint:FILE@bench:NAME` build."""

from __future__ import annotations

from collections.abc import Callable

from torch import nn

from bench.load.architectures.schedule import Schedule
from bench.registry import Registry

Shape = tuple[int, int, int]
Builder = Callable[[Shape, int], nn.Module]
"""Builds a network with fresh weights for images of shape (C, H, W) and a number of classes."""

ARCHITECTURES = Registry(
    "architecture",
    {
        "digits-cnn": "bench.load.architectures.plain_cnn:digits_cnn",
        "digits-cnn-adv": "bench.load.architectures.plain_cnn:digits_cnn",
        "conv8": "bench.load.architectures.plain_cnn:conv8",
        "conv8-adv": "bench.load.architectures.plain_cnn:conv8",
        "resnet20": "bench.load.architectures.resnet:resnet20",
        "resnet56": "bench.load.architectures.resnet:resnet56",
        "resnet18": "bench.load.architectures.resnet:resnet18",
        "resnet18-adv": "bench.load.architectures.resnet:resnet18",
        "preact-resnet18": "bench.load.architectures.preact_resnet:preact_resnet18",
        "wrn-28-10": "bench.load.architectures.wide_resnet:wrn_28_10",
    },
)

SCHEDULES = {
    "digits-cnn": Schedule(epochs=30, learning_rate=1e-3, batch_size=32),
    "digits-cnn-adv": Schedule(epochs=30, learning_rate=1e-3, batch_size=32, adversarial=True),
    "conv8": Schedule(epochs=5, learning_rate=1e-3, batch_size=128),
    "conv8-adv": Schedule(epochs=8, learning_rate=1e-3, batch_size=64, adversarial=True),
    # For a GPU, which batches of 256 keep busy: on two cores this takes days.
    "resnet18-adv": Schedule(
        epochs=30,
        learning_rate=0.2,
        batch_size=256,
        optimizer="sgd",
        adversarial=True,
        attack_steps=3,
        step_ratio=7 / 12,  # together as far as PGD-7's
        crop=4,
        flip=True,
        precision="bf16",
    ),
}
"""Networks that are trained on first use, and how; those ending in -adv adversarially."""


def build(name: str, image_shape: Shape, n_classes: int) -> nn.Module:
    """Return the untrained network `name`.

    Raises:
        UsageError: no such architecture.
    """
    builder: Builder = ARCHITECTURES.get(name)
    return builder(image_shape, n_classes)


def note(name: str) -> str:
    """Return one line about the architecture `name`: the first of its builder's docstring."""
    return (ARCHITECTURES.get(name).__doc__ or "").partition("\n")[0]
