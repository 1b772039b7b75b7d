"""RobustBench's model zoo (Croce et al. 2021, arXiv 2010.09670): the one place that imports `robustbench`."""

from __future__ import annotations

import importlib
import importlib.util
import sys
import types
import warnings
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from torch import nn

from bench.errors import MissingError, UsageError, described
from bench.files import cache_dir
from bench.load.checkpoints import DamagedError, harmless_types, read_content
from bench.load.download import fetch
from bench.model import Task
from bench.registry import did_you_mean

CLASSES = {"cifar10": 10, "cifar100": 100, "imagenet": 1000}
THREATS = ("Linf", "L2", "corruptions", "corruptions_3d")


@dataclass(frozen=True, kw_only=True)
class ZooName:
    """One model of the zoo: the data set and the threat it was made for, and its name there."""

    dataset: str
    threat: str
    name: str

    def __str__(self) -> str:
        return f"robustbench:{self.dataset}/{self.threat}/{self.name}"

    @property
    def shelf(self) -> str:
        """The zoo's folder; both kinds of corruption share one."""
        return self.threat.removesuffix("_3d")

    @property
    def timm_name(self) -> str:
        """The name under which RobustBench registers a few of its models with timm."""
        return f"{self.name.lower().replace('-', '_')}_{self.dataset}_{self.shelf.lower()}"


def parse_zoo_name(text: str, task: Task) -> ZooName:
    """Read `[DATASET/][THREAT/]NAME`; what is left out comes from the task.

    Raises:
        UsageError: an unknown data set or threat.
    """
    *folders, name = text.split("/")
    dataset, threat = task.dataset, task.norm
    if folders and folders[-1] in THREATS:
        threat = folders.pop()
    if folders:
        dataset = folders.pop()
    if folders or dataset not in CLASSES or not name:
        raise UsageError(
            f"Expected robustbench:[DATASET/][THREAT/]NAME with a data set of {', '.join(CLASSES)} and a threat of "
            f"{', '.join(THREATS)}, got 'robustbench:{text}' for {task.dataset}."
        )
    return ZooName(dataset=dataset, threat=threat, name=name)


def zoo_names(dataset: str, threat: str) -> list[str]:
    """Return the names of the zoo's models for one data set and threat; empty where it has none."""
    return list(_shelf(dataset, threat.removesuffix("_3d")))


def zoo_architecture(zoo: ZooName) -> nn.Module:
    """Return the untrained network of a zoo model.

    Raises:
        UsageError: no such model, or one that exists only with weights.
    """
    entry = _entry(zoo)
    with _quiet():
        import timm

        if timm.is_model(zoo.timm_name):
            network: nn.Module = timm.create_model(zoo.timm_name, pretrained=False, num_classes=CLASSES[zoo.dataset])
            return network
        if not entry["gdrive_id"]:
            raise UsageError(f"{zoo} is torchvision's own network; use torchvision:resnet50 as the architecture.")
        try:
            built: nn.Module = entry["model"]()
        except Exception as error:
            raise UsageError(f"RobustBench cannot build {zoo} ({described(error)}).") from error
        return built


def load_zoo(zoo: ZooName) -> nn.Module:
    """Return a zoo model with its weights, from the cache or downloaded.

    Raises:
        UsageError: no such model, or its file does not fit it.
        MissingError: the weights are not here and cannot be downloaded, or the file is damaged (and now deleted).
    """
    entry = _entry(zoo)
    with _quiet():
        import timm

        if timm.is_model(zoo.timm_name):
            from bench.load.timm_models import with_weights

            return with_weights(zoo.timm_name, timm.get_pretrained_cfg(zoo.timm_name), what=str(zoo))
        if not entry["gdrive_id"]:
            from bench.load.torchvision_models import pretrained

            # RobustBench's only such entry wraps what torchvision called `pretrained=True` before it had versions.
            task = Task(dataset="imagenet", image_shape=(3, 224, 224), n_classes=1000, norm=zoo.threat)
            return pretrained("resnet50", task, "IMAGENET1K_V1")
        for drive_id, path in _files(zoo, entry):
            _fetch_drive(drive_id, path, zoo)
        return _load(zoo)


def _files(zoo: ZooName, entry: dict[str, Any]) -> list[tuple[str, Path]]:
    """Return (Google Drive id, path in the cache) of each file; ensembles have several."""
    ids = entry["gdrive_id"]
    path = cache_dir() / "robustbench" / zoo.dataset / zoo.shelf / f"{zoo.name}.pt"
    if isinstance(ids, str):
        return [(ids, path)]
    return [(drive_id, path.with_name(f"{path.name}_m{number}.pt")) for number, drive_id in enumerate(ids)]


def _fetch_drive(drive_id: str, path: Path, zoo: ZooName) -> None:
    """Make sure that a sound checkpoint lies at `path`: Google Drive's error pages come with status 200."""

    def download(temporary: Path) -> None:
        if importlib.import_module("gdown").download(id=drive_id, output=str(temporary), quiet=True) is None:
            raise ConnectionError("Google Drive gave no file")
        read_content(temporary)

    address = f"https://drive.google.com/uc?id={drive_id}"
    fetch(path, download, what=str(zoo), address=address)
    try:
        read_content(path)
    except DamagedError as error:
        path.unlink(missing_ok=True)
        raise MissingError(
            f"{path} was no checkpoint (a web page or a broken download) and is deleted; run again, or download "
            f"{address} by hand and save it there."
        ) from error


def _load(zoo: ZooName) -> nn.Module:
    """Let RobustBench load the verified files: it knows each checkpoint's quirks."""
    load_model = importlib.import_module("robustbench.utils").load_model
    folder = cache_dir() / "robustbench"
    try:
        with harmless_types():
            network: nn.Module = load_model(
                model_name=zoo.name, model_dir=folder, dataset=zoo.dataset, threat_model=zoo.shelf
            )
    except Exception as error:
        raise UsageError(
            f"RobustBench cannot load the file of {zoo} under {folder} ({described(error)}); delete it and run again."
        ) from error
    return network


def _entry(zoo: ZooName) -> dict[str, Any]:
    """Return the zoo's record of a model.

    Raises:
        UsageError: no such name; says so if it exists for another data set or threat.
    """
    shelf = _shelf(zoo.dataset, zoo.shelf)
    if zoo.name in shelf:
        record: dict[str, Any] = shelf[zoo.name]
        return record
    elsewhere = [
        f"robustbench:{dataset}/{threat}/{zoo.name}"
        for dataset in CLASSES
        for threat in THREATS[:3]
        if zoo.name in _shelf(dataset, threat)
    ]
    if elsewhere:
        raise UsageError(
            f"RobustBench has no '{zoo.name}' for {zoo.dataset}, {zoo.threat}, but {' and '.join(elsewhere)}."
        )
    hint = did_you_mean(zoo.name, shelf, see="https://robustbench.github.io for the names")
    raise UsageError(
        f"RobustBench has no model '{zoo.name}' for {zoo.dataset}, {zoo.threat}, among {len(shelf)}.{hint}"
    )


def _shelf(dataset: str, threat: str) -> dict[str, Any]:
    """Return the zoo's table for one data set and threat, empty where there is none."""
    for key, shelves in _zoo().items():
        if key.value == dataset:
            return next((dict(models) for kind, models in shelves.items() if kind.value == threat), {})
    return {}


def _zoo() -> dict[Any, dict[Any, Any]]:
    """Import RobustBench, which wants two modules it never uses for loading, and return its table of models.

    Raises:
        MissingError: it is not installed, or cannot be imported.
    """
    try:
        with _quiet(), _stand_ins():
            zoo: dict[Any, dict[Any, Any]] = importlib.import_module("robustbench.model_zoo").model_dicts
    except Exception as error:
        raise MissingError(
            f"RobustBench cannot be imported ({type(error).__name__}: {error}); pip install robustbench==1.1.1."
        ) from error
    return zoo


@contextmanager
def _stand_ins() -> Iterator[None]:
    """Put empty modules where RobustBench's imports would fail: `autoattack` (not on PyPI) and `pkg_resources`."""
    modules = {name: types.ModuleType(name) for name in ("autoattack", "autoattack.state", "pkg_resources")}
    modules["autoattack"].__dict__.update(AutoAttack=object, state=modules["autoattack.state"], __path__=[])
    modules["autoattack.state"].__dict__.update(EvaluationState=object)
    modules["pkg_resources"].__dict__.update(resource_filename=None)
    known = {
        name: name in sys.modules or importlib.util.find_spec(name) is not None for name in modules if "." not in name
    }
    absent = {name: module for name, module in modules.items() if not known[name.partition(".")[0]]}
    sys.modules.update(absent)
    try:
        yield
    finally:
        # Others must not find the stand-ins and take them for the real thing.
        for name in absent:
            sys.modules.pop(name, None)


@contextmanager
def _quiet() -> Iterator[None]:
    """Hide the deprecation warnings of RobustBench and of what it imports."""
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        yield
