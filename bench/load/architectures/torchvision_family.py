"""Networks from torchvision, with its default pretrained weights or without."""

from __future__ import annotations

import inspect
from difflib import get_close_matches
from typing import Any

from torch import nn

from bench.errors import UsageError
from bench.load.architectures.download import fetch_url
from bench.load.checkpoints import fill, read_state_dict
from bench.load.normalize import Normalization, normalized
from bench.model import Task
from bench.registry import did_you_mean


def pretrained(name: str, task: Task) -> nn.Module:
    """Return `torchvision:NAME` with its default weights and their normalisation in front.

    Raises:
        UsageError: unknown name, or made for other images or another number of classes.
        MissingError: the weights are not here and cannot be downloaded.
    """
    from torchvision.models import get_model_weights

    _check(name)
    weights: Any = get_model_weights(name).DEFAULT
    classes = len(weights.meta["categories"])
    if classes != task.n_classes or task.image_shape[0] != 3:
        raise UsageError(
            f"torchvision:{name} has {classes} classes and takes 3 channels, but {task.dataset} has {task.n_classes} "
            f"classes and {task.image_shape[0]} channels; fine-tune it and load it as checkpoint:FILE@torchvision:{name}."
        )
    path = fetch_url(weights.url, what=f"torchvision:{name}")
    network = _build(name, classes)
    fill(network, read_state_dict(path), path=path, architecture=f"torchvision:{name}")
    transforms = weights.transforms()
    return normalized(network, Normalization(mean=tuple(transforms.mean), std=tuple(transforms.std)))


def untrained(name: str, task: Task) -> nn.Module:
    """Return the architecture `torchvision:NAME` for the task's classes.

    Raises:
        UsageError: unknown name.
    """
    _check(name)
    return _build(name, task.n_classes)


def _build(name: str, classes: int) -> nn.Module:
    from torchvision.models import get_model, get_model_builder

    # Inception and GoogLeNet draw their weights from scipy, slowly, unless told not to; all of them are replaced.
    quick = {"init_weights": True} if "init_weights" in inspect.signature(get_model_builder(name)).parameters else {}
    network: nn.Module = get_model(name, weights=None, num_classes=classes, **quick)
    return network


def _check(name: str) -> None:
    """Raise UsageError unless `name` is one of torchvision's image classifiers."""
    import torchvision.models as zoo

    known = zoo.list_models(module=zoo)
    if name not in known:
        near = get_close_matches(name, known, n=1, cutoff=0.6)
        hint = did_you_mean(name, near) or " See torchvision.models.list_models()."
        raise UsageError(f"torchvision has no image classifier '{name}'.{hint}")
