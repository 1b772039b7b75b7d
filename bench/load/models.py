"""From a model's name to a classifier on the CPU that takes the task's images in [0, 1]."""

from __future__ import annotations

import importlib.util
from collections.abc import Callable
from pathlib import Path

import torch
from torch import Tensor, nn

from bench.errors import MissingError, UsageError, described
from bench.load.architectures import ARCHITECTURES, SCHEDULES, build, note
from bench.load.architectures.schedule import Schedule
from bench.load.checkpoints import fill, load_checkpoint, read_state_dict
from bench.load.plugged import MODELS, plugged_model
from bench.load.python_file import load_function
from bench.model import ModelSpec, Task
from bench.registry import did_you_mean

Fit = Callable[[nn.Module, Schedule], None]
"""Trains a network in place, on training images that whoever made the function has chosen."""

Unseal = Callable[[Path], nn.Module]
"""Loads a compressed model that the bench saved in a folder."""


def load_model(spec: ModelSpec, task: Task, *, trust: bool, fit: Fit, unseal: Unseal) -> nn.Module:
    """Return the model `spec` names, checked against `task`.

    Args:
        spec: source and name.
        task: the data set it must classify.
        trust: whether code in the user's own files may run.
        fit: called at most once, when a small network of the bench's own has to be trained first.
        unseal: opens the folder of a compressed model.

    Returns:
        A float32 network on the CPU in eval mode: images (N, C, H, W) in [0, 1] → logits (N, K), with any
        normalisation inside.

    Guarantees:
        On the task's image shape it gives finite logits of shape (N, task.n_classes).

    Raises:
        UsageError: the name is wrong, or the model does not fit the task.
        MissingError: weights, a file or a package are absent.
    """
    folder = Path(spec.name).expanduser() if spec.source == "checkpoint" else None
    if folder is not None and folder.is_dir():
        network = unseal(folder)
    else:
        network = _SOURCES[spec.source](spec.name, task, trust, fit)
    network = network.cpu().float().eval()
    _check_fits(network, spec, task)
    return network


def list_models() -> list[tuple[str, str]]:
    """Return (name, one-line note) of the models that need no download, and of the architectures."""
    trained = [
        (f"bench:{name}", f"{note(name)} {'Adversarially trained' if plan.adversarial else 'Trained'} on first use.")
        for name, plan in SCHEDULES.items()
    ]
    bare = [
        (f"bench:{name}", f"{note(name)} Architecture only: checkpoint:FILE@bench:{name}.")
        for name in ARCHITECTURES
        if name not in SCHEDULES
    ]
    plugged = [(f"plugin:{name}", "From an installed package.") for name in MODELS]
    return [
        *trained,
        *plugged,
        ("autoattack:resnet18", "CIFAR-10 ResNet-18 from AutoAttack's wheel, not robust."),
        *bare,
    ]


def _bench(name: str, task: Task, trust: bool, fit: Fit) -> nn.Module:
    """A network of the bench's own, trained on first use."""
    from bench.load.first_use import trained

    ARCHITECTURES.check(name)
    if name not in SCHEDULES:
        raise MissingError(f"bench:{name} has no weights of its own; name a file: checkpoint:FILE@bench:{name}.")
    return trained(name, task, fit)


def _robustbench(name: str, task: Task, trust: bool, fit: Fit) -> nn.Module:
    """A model of RobustBench's zoo."""
    from bench.load.robustbench_zoo import load_zoo, parse_zoo_name

    return load_zoo(parse_zoo_name(name, task))


def _timm(name: str, task: Task, trust: bool, fit: Fit) -> nn.Module:
    """A pretrained timm model."""
    from bench.load.timm_models import pretrained

    return pretrained(name, task)


def _torchvision(name: str, task: Task, trust: bool, fit: Fit) -> nn.Module:
    """A pretrained torchvision model."""
    from bench.load.torchvision_models import pretrained

    return pretrained(name, task)


def _autoattack(name: str, task: Task, trust: bool, fit: Fit) -> nn.Module:
    """The ResNet-18 in pyautoattack's wheel: CIFAR-10, no normalisation."""
    if name != "resnet18":
        raise UsageError(f"There is no model autoattack:{name}.{did_you_mean(name, ['resnet18'])}")
    # Found without importing the package, which would pull in its attacks.
    found = importlib.util.find_spec("pyautoattack")
    if found is None or not found.submodule_search_locations:
        raise MissingError(
            "autoattack:resnet18 ships with pyautoattack, which is absent; pip install pyautoattack==0.2.0."
        )
    path = Path(found.submodule_search_locations[0]) / "examples" / "model_test.pt"
    network = build("resnet18", (3, 32, 32), 10)
    fill(network, read_state_dict(path), path=path, architecture="bench:resnet18")
    return network


def _checkpoint(name: str, task: Task, trust: bool, fit: Fit) -> nn.Module:
    """Weights in a file, with an architecture from any source that has one."""
    return load_checkpoint(name, task, lambda spec, for_task: _untrained(spec, for_task, trust))


def _python(name: str, task: Task, trust: bool, fit: Fit) -> nn.Module:
    """What a function in the user's own file returns."""
    return load_function(name, trust=trust)


def _plugin(name: str, task: Task, trust: bool, fit: Fit) -> nn.Module:
    """What a function that an installed package registered returns."""
    return plugged_model(name)


_SOURCES: dict[str, Callable[[str, Task, bool, Fit], nn.Module]] = {
    "bench": _bench,
    "robustbench": _robustbench,
    "timm": _timm,
    "torchvision": _torchvision,
    "autoattack": _autoattack,
    "checkpoint": _checkpoint,
    "python": _python,
    "plugin": _plugin,
}


def _untrained(spec: ModelSpec, task: Task, trust: bool) -> nn.Module:
    """Return the architecture that a checkpoint names."""
    if spec.source == "python":
        return load_function(spec.name, trust=trust)
    if spec.source == "robustbench":
        from bench.load.robustbench_zoo import parse_zoo_name, zoo_architecture

        return zoo_architecture(parse_zoo_name(spec.name, task))
    if spec.source == "timm":
        from bench.load import timm_models

        return timm_models.untrained(spec.name, task)
    if spec.source == "torchvision":
        from bench.load import torchvision_models

        return torchvision_models.untrained(spec.name, task)
    return build(spec.name, task.image_shape, task.n_classes)


def _check_fits(network: nn.Module, spec: ModelSpec, task: Task) -> None:
    """Run two made-up images through the network.

    Raises:
        UsageError: it refuses the images' shape, or its logits are not (2, K) finite numbers.
    """
    generator = torch.Generator().manual_seed(0)
    images = torch.rand((2, *task.image_shape), generator=generator)
    shape = "×".join(str(size) for size in task.image_shape)
    try:
        with torch.no_grad():
            logits = network(images)
    except Exception as error:  # a foreign network may raise anything
        raise UsageError(
            f"{spec} does not take the {shape} images of {task.dataset} ({described(error)}); choose a "
            "model made for that size and number of channels."
        ) from error
    if not isinstance(logits, Tensor) or logits.dim() != 2 or len(logits) != len(images):
        got = f"shape {tuple(logits.shape)}" if isinstance(logits, Tensor) else f"a {type(logits).__name__}"
        raise UsageError(
            f"Expected {spec} to return logits of shape (2, {task.n_classes}) for {task.dataset}, got {got}."
        )
    if logits.shape[1] != task.n_classes:
        raise UsageError(
            f"{spec} has {logits.shape[1]} classes, but {task.dataset} has {task.n_classes}; choose one made for it."
        )
    if not logits.isfinite().all():
        raise UsageError(
            f"{spec} gives logits that are not finite on images of {task.dataset}; its weights are broken."
        )
