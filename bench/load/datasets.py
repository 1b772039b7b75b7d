"""Data sets by name: built in, from the user's folder, from torchvision's files, or downloaded."""

from __future__ import annotations

import re
import shutil
import socket
import sys
import tempfile
from collections.abc import Callable
from contextlib import redirect_stdout, suppress
from dataclasses import dataclass, replace
from functools import partial
from http.client import HTTPException
from pathlib import Path
from typing import TYPE_CHECKING, Any

from bench import files
from bench.dataset import Dataset
from bench.errors import MissingError, UsageError
from bench.load.dataset_files import from_arrays, load_class_folders, load_imagenet, load_npz
from bench.load.plugged import DATASETS, plugged_dataset
from bench.registry import did_you_mean

if TYPE_CHECKING:
    from numpy import ndarray

    Array = ndarray[Any, Any]

NETWORK_TIMEOUT_S = 30


@dataclass(frozen=True, kw_only=True)
class Known:
    """What a set the bench knows must look like, and how torchvision calls it (its class, and its folder)."""

    image_shape: tuple[int, int, int]
    n_classes: int
    torchvision: str = ""
    folder: str = ""


KNOWN = {
    "digits": Known(image_shape=(1, 8, 8), n_classes=10),
    "mnist": Known(image_shape=(1, 28, 28), n_classes=10, torchvision="MNIST", folder="MNIST/raw"),
    "fashion-mnist": Known(
        image_shape=(1, 28, 28), n_classes=10, torchvision="FashionMNIST", folder="FashionMNIST/raw"
    ),
    "cifar10": Known(image_shape=(3, 32, 32), n_classes=10, torchvision="CIFAR10", folder="cifar-10-batches-py"),
    "cifar100": Known(image_shape=(3, 32, 32), n_classes=100, torchvision="CIFAR100", folder="cifar-100-python"),
    "imagenet": Known(image_shape=(3, 224, 224), n_classes=1000),
}


@dataclass(frozen=True, kw_only=True)
class Place:
    """Somewhere a set may be: it is there when one of `signs` exists, and then `load()` reads it."""

    what: str
    signs: tuple[Path, ...]
    load: Callable[[], Dataset]

    def found(self) -> bool:
        """Whether the set is here, as far as one can tell without reading it."""
        return any(sign.exists() for sign in self.signs)


def dataset_names() -> list[str]:
    """Return the sets the bench knows and those in BENCH_DATA_DIR and of plugins, sorted; nothing is loaded."""
    own: set[str] = set()
    if (root := files.data_dir()) and root.is_dir():
        own = {path.stem for path in root.glob("*.npz")} | {path.parent.name for path in root.glob("*/train")}
    return sorted({*KNOWN, *DATASETS, *filter(_is_name, own)})


def find_dataset(name: str) -> str:
    """Return one line that says where `name` would be read from, or begins "not found"; nothing is loaded."""
    if name == "digits":
        return "built in (scikit-learn)"
    if "/" in name:
        return "from a plugin" if name in DATASETS else "not found"
    if place := next((place for place in _places(name) if place.found()), None):
        return place.what
    return "not found; downloaded on first use" if _downloads(name) and not files.offline() else "not found"


def load_dataset(name: str) -> Dataset:
    """Load a set by name: built in, then BENCH_DATA_DIR, then the cache, then torchvision's download.

    In BENCH_DATA_DIR it may be `NAME.npz` (`load_npz`), folders of images (`load_class_folders`, `load_imagenet`), or
    a torchvision folder, there or in `NAME/`. `digits` is always the built-in one.

    Raises:
        UsageError: there is no such set, or its files are damaged or not of the form expected.
        MissingError: a set the bench knows is nowhere to be found and could not be downloaded.
    """
    if name == "digits":
        return load_digits()
    if "/" in name:
        return replace(plugged_dataset(name), name=name)
    places = _places(name)
    if place := next((place for place in places if place.found()), None):
        return _checked(place.load(), place.what)
    if name not in KNOWN:
        raise UsageError(
            f"There is no data set '{name}'.{did_you_mean(name.lower(), dataset_names())} A set of your own is "
            "BENCH_DATA_DIR/NAME.npz with uint8 train_x and test_x (N×H×W or N×H×W×C) and integer train_y and test_y, "
            "or image files in BENCH_DATA_DIR/NAME/train/CLASS/ and BENCH_DATA_DIR/NAME/test/CLASS/ "
            f"(BENCH_DATA_DIR is {files.data_dir() or 'not set'})."
        )
    looked = [f"looked for {'; '.join(place.what for place in places)}"] if places else []
    unset = [] if files.data_dir() else ["BENCH_DATA_DIR is unset"]
    nowhere = f"The data set '{name}' is nowhere to be found ({'; '.join(unset + looked)})"
    if not _downloads(name):
        raise MissingError(f"{nowhere}, and it cannot be downloaded; set BENCH_DATA_DIR to a folder that holds it.")
    if files.offline():
        raise MissingError(
            f"{nowhere}, and BENCH_OFFLINE forbids the download; set BENCH_DATA_DIR to a folder with {name}.npz or "
            "torchvision's files, or unset BENCH_OFFLINE."
        )
    try:
        return _checked(_download(name), "torchvision's download")
    except (OSError, RuntimeError, HTTPException) as error:
        why = " ".join(str(error).split())  # torchvision lists its mirrors on several lines
        raise MissingError(
            f"{nowhere}, and the download failed ({why}); set BENCH_DATA_DIR to a folder with {name}.npz or "
            "torchvision's files, or run once on a machine with network and copy its cache."
        ) from error


def load_digits() -> Dataset:
    """Return scikit-learn's 1,797 handwritten digits, 1×8×8: 1,397 to train, 400 to test.

    Guarantees:
        The split is the same on every machine: it is drawn from numpy's legacy `RandomState`, whose stream NEP 19
        freezes for good, while `default_rng` and scikit-learn's own splits may change with a release.
    """
    import numpy as np
    from sklearn.datasets import load_digits as scikit_digits

    levels, labels = scikit_digits(return_X_y=True)
    # The 17 levels 0 … 16 spread over 0 … 255; the one half, 127.5, goes to the even 128.
    images = np.rint(levels.reshape(-1, 8, 8) * 255 / 16).astype(np.uint8)
    order = np.random.RandomState(0).permutation(len(labels))
    test, train = order[:400], order[400:]
    return from_arrays("digits", images[train], labels[train], images[test], labels[test])


def load_torchvision(name: str, root: Path, download: bool = False) -> Dataset:
    """Read torchvision's own files of `name` under `root`, downloading them there if asked.

    Raises:
        UsageError: the files are incomplete or damaged.
    """
    import numpy as np
    import torchvision

    splits: list[Array] = []
    try:
        for train in (True, False):
            split = getattr(torchvision.datasets, KNOWN[name].torchvision)(root, train=train, download=download)
            splits += [np.asarray(split.data), np.asarray(split.targets)]
    except Exception as error:  # torchvision says "damaged" with whatever its parsers happen to raise
        if download:
            raise
        raise UsageError(
            f"Expected torchvision's complete {name} files in {root / KNOWN[name].folder}, but they cannot be read "
            f"({error or type(error).__name__}); delete that folder or replace it."
        ) from error
    return from_arrays(name, *splits)


def _downloads(name: str) -> bool:
    return name in KNOWN and bool(KNOWN[name].torchvision)


def _download(name: str) -> Dataset:
    """Download with torchvision into the cache, which gets the folder only once it is complete and readable."""
    target = files.cache_dir() / "data" / name
    target.parent.mkdir(parents=True, exist_ok=True)
    unfinished = Path(tempfile.mkdtemp(dir=target.parent, prefix=f".{name}."))
    # torchvision opens its addresses without a time limit and would wait for ever behind a silent firewall.
    patience = socket.getdefaulttimeout()
    socket.setdefaulttimeout(NETWORK_TIMEOUT_S)
    try:
        # torchvision prints, and standard output belongs to --json.
        with redirect_stdout(sys.stderr):
            dataset = load_torchvision(name, unfinished, download=True)
        unfinished.chmod(0o755)
        # Another process may have finished first; its files are the same, and these may go.
        with suppress(OSError):
            if not (target / KNOWN[name].folder).exists():
                shutil.rmtree(target, ignore_errors=True)
            unfinished.replace(target)
        return dataset
    finally:
        socket.setdefaulttimeout(patience)
        shutil.rmtree(unfinished, ignore_errors=True)


def _is_name(name: str) -> bool:
    # A name becomes a part of a path, and it may come from someone else's track or card.
    return re.fullmatch(r"[A-Za-z0-9][\w.-]*", name) is not None


def _places(name: str) -> list[Place]:
    """Return where `name` may be, in the order of search."""
    if not _is_name(name):
        return []
    places: list[Place] = []
    roots = [files.cache_dir() / "data" / name]
    if root := files.data_dir():
        npz, folder = root / f"{name}.npz", root / name
        splits = tuple(folder / split for split in ("train", "test", "val"))
        read = load_imagenet if name == "imagenet" else load_class_folders
        places = [
            Place(what=f"{npz}", signs=(npz,), load=partial(load_npz, name, npz)),
            Place(what=f"image folders in {folder}", signs=splits, load=partial(read, name, folder)),
        ]
        roots = [root, folder, *roots]
    if _downloads(name):
        for each in roots:
            files_folder = each / KNOWN[name].folder
            load = partial(load_torchvision, name, each)
            places.append(Place(what=f"torchvision's {files_folder}", signs=(files_folder,), load=load))
    return places


def _checked(dataset: Dataset, where: str) -> Dataset:
    """Return `dataset`, with the number of classes that a known name stands for even if the files lack some."""
    known = KNOWN.get(dataset.name)
    if known is None:
        return dataset
    if dataset.image_shape != known.image_shape:
        form, got = ("×".join(map(str, shape)) for shape in (known.image_shape, dataset.image_shape))
        raise UsageError(
            f"Expected {dataset.name} images of {form} (channels×height×width), got {got} in {where}; convert them, or "
            "give the set another name."
        )
    if dataset.n_classes > known.n_classes:
        raise UsageError(
            f"Expected {dataset.name} labels 0 … {known.n_classes - 1}, got {dataset.n_classes - 1} in {where}; "
            "correct them, or give the set another name."
        )
    return replace(dataset, n_classes=known.n_classes)
