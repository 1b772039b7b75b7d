"""Networks from timm, with its pretrained weights or without."""

from __future__ import annotations

import warnings
from typing import Any

from torch import nn

from bench.errors import UsageError, described
from bench.load.checkpoints import read_state_dict
from bench.load.download import fetch_hub, fetch_url
from bench.load.normalize import Normalization, normalized
from bench.model import Task
from bench.registry import did_you_mean


def pretrained(name: str, task: Task) -> nn.Module:
    """Return `timm:NAME` with pretrained weights and its normalisation in front.

    Raises:
        UsageError: unknown name, or made for other images or another number of classes.
        MissingError: the weights are not here and cannot be downloaded.
    """
    import timm

    _check(name)
    config = timm.get_pretrained_cfg(name)
    if config is None or not (config.url or config.hf_hub_id):
        raise UsageError(
            f"timm has no pretrained weights for '{name}'; use checkpoint:FILE@timm:{name} with weights of your own."
        )
    # Before hundreds of megabytes travel for nothing.
    if config.num_classes != task.n_classes or config.input_size[0] != task.image_shape[0]:
        raise UsageError(
            f"timm:{name} has {config.num_classes} classes and takes {config.input_size[0]} channels, but "
            f"{task.dataset} has {task.n_classes} classes and {task.image_shape[0]} channels; fine-tune it and load it "
            f"as checkpoint:FILE@timm:{name}."
        )
    network = with_weights(name, config, what=f"timm:{name}")
    return normalized(network, Normalization(mean=tuple(config.mean), std=tuple(config.std)))


def with_weights(name: str, config: Any, *, what: str) -> nn.Module:
    """Build a registered timm model and let timm adapt the weights that its `config` points to.

    The file is fetched and read here, as tensors only: timm's own way unpickles, and its link to the Hugging Face
    hub is broken between timm 1.0.9 and huggingface_hub 2.
    """
    import timm

    if config.hf_hub_id:
        path = fetch_hub(config.hf_hub_id, config.hf_hub_filename or "model.safetensors", what=what)
    else:
        path = fetch_url(config.url, what=what)
    overlay = {"state_dict": read_state_dict(path), "custom_load": False, "source": None}
    try:
        network: nn.Module = timm.create_model(name, pretrained=True, pretrained_cfg_overlay=overlay)
    except Exception as error:
        raise UsageError(
            f"timm cannot fit the weights in {path} into {what}; delete the file and try again."
        ) from error
    return network


def untrained(name: str, task: Task) -> nn.Module:
    """Return the architecture `timm:NAME` for the task's channels and classes.

    Raises:
        UsageError: unknown name, or timm cannot build it that way.
    """
    import timm

    _check(name)
    config = timm.get_pretrained_cfg(name, allow_unregistered=True)
    channels, height, width = task.image_shape
    # Transformers have the number of patches in their weights; convolutions do not ask.
    size = {"img_size": (height, width)} if config is not None and config.fixed_input_size else {}
    try:
        network: nn.Module = timm.create_model(
            name, pretrained=False, num_classes=task.n_classes, in_chans=channels, **size
        )
    except Exception as error:
        raise UsageError(
            f"timm cannot build '{name}' for images of {channels}×{height}×{width} ({described(error)}); "
            "choose another architecture."
        ) from error
    return network


def _check(name: str) -> None:
    """Raise UsageError unless timm knows `name`, with or without a tag."""
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        import timm

    architecture, _, tag = name.partition(".")
    tagged = timm.list_pretrained(f"{architecture}.*") if tag and timm.is_model(architecture) else []
    if name in tagged or (timm.is_model(architecture) and not tag):
        return
    hint = did_you_mean(name, tagged or timm.list_models(), see="timm.list_models()")
    raise UsageError(f"timm has no model '{name}'.{hint}")
