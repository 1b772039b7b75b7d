"""Networks from torchvision, with its default pretrained weights or without."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import torch
from torch import nn

from bench.errors import UsageError
from bench.load.checkpoints import read_state_dict
from bench.load.download import fetch_url
from bench.load.normalize import Normalization, normalized
from bench.model import Task
from bench.registry import did_you_mean


def pretrained(name: str, task: Task, which: str = "DEFAULT") -> nn.Module:
    """Return `torchvision:NAME` with the weights `which` and their normalisation in front.

    Raises:
        UsageError: unknown name, or made for other images or another number of classes.
        MissingError: the weights are not here and cannot be downloaded.
    """
    from torchvision.models import get_model_weights

    _check(name)
    weights: Any = get_model_weights(name)[which]
    classes = len(weights.meta["categories"])
    if classes != task.n_classes or task.image_shape[0] != 3:
        raise UsageError(
            f"torchvision:{name} has {classes} classes and takes 3 channels, but {task.dataset} has {task.n_classes} "
            f"classes and {task.image_shape[0]} channels; fine-tune it, then checkpoint:FILE@torchvision:{name}."
        )
    path = fetch_url(weights.url, what=f"torchvision:{name}")
    read_state_dict(path)  # refuses whatever is not plain tensors before torchvision unpickles it
    network = _load(name, weights, path)
    transforms = weights.transforms()
    return normalized(network, Normalization(mean=tuple(transforms.mean), std=tuple(transforms.std)))


def untrained(name: str, task: Task) -> nn.Module:
    """Return the architecture `torchvision:NAME` for the task's classes.

    Raises:
        UsageError: unknown name.
    """
    from torchvision.models import get_model

    _check(name)
    network: nn.Module = get_model(name, weights=None, num_classes=task.n_classes)
    return network


def _load(name: str, weights: Any, path: Path) -> nn.Module:
    """Let torchvision load the file, because it renames keys (DenseNet) and sets options (Inception) as it does."""
    from torchvision.models import get_model

    usual = torch.hub.get_dir()
    torch.hub.set_dir(path.parent.parent)
    try:
        network: nn.Module = get_model(name, weights=weights, progress=False)
    except Exception as error:
        raise UsageError(f"torchvision cannot load {path} into '{name}'; delete the file and try again.") from error
    finally:
        torch.hub.set_dir(usual)
    return network


def _check(name: str) -> None:
    """Raise UsageError unless `name` is one of torchvision's image classifiers."""
    import torchvision.models as zoo

    known = zoo.list_models(module=zoo)
    if name not in known:
        hint = did_you_mean(name, known, see="torchvision.models.list_models()")
        raise UsageError(f"torchvision has no image classifier '{name}'.{hint}")
