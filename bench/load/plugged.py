"""Models and data sets that installed packages bring."""

from __future__ import annotations

from typing import TYPE_CHECKING

from bench.dataset import Dataset
from bench.errors import UsageError
from bench.load.foreign import blaming
from bench.registry import Registry

if TYPE_CHECKING:
    from torch import nn

MODELS = Registry("model of a plugin", {}, more="bench.plugins:register_all")
DATASETS = Registry("data set of a plugin", {}, more="bench.plugins:register_all")


def plugged_model(name: str) -> nn.Module:
    """Return what the function registered as `PACKAGE/NAME` makes.

    Raises:
        UsageError: no such name, the function raises, or its result is no nn.Module.
    """
    from torch import nn

    network = _made(MODELS, name)
    if not isinstance(network, nn.Module):
        raise UsageError(f"Expected plugin:{name} to be an nn.Module, got a {type(network).__name__}.")
    return network


def plugged_dataset(name: str) -> Dataset:
    """Return what the function registered as `PACKAGE/NAME` makes.

    Raises:
        UsageError: no such name, the function raises, or its result is no data set.
    """
    dataset = _made(DATASETS, name)
    if not isinstance(dataset, Dataset):
        raise UsageError(f"Expected the plugin's data set {name} to be a Dataset, got a {type(dataset).__name__}.")
    return dataset


def _made(registry: Registry, name: str) -> object:
    with blaming(None):
        return registry.get(name)()
