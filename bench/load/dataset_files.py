"""Data sets as the user brings them: one npz file, folders of images, or ImageNet as RobustBench uses it."""

from __future__ import annotations

import importlib.util
import json
from collections.abc import Callable, Iterable
from concurrent.futures import ThreadPoolExecutor
from hashlib import sha256
from pathlib import Path
from typing import TYPE_CHECKING, Any

from bench.dataset import Dataset, Examples
from bench.errors import BenchError, MissingError, UsageError

if TYPE_CHECKING:
    from numpy import ndarray
    from PIL.Image import Image

    Array = ndarray[Any, Any]

ENDINGS = (".png", ".jpg", ".jpeg", ".bmp")
TRAIN_IMAGES_PER_SYNSET = 10


def from_arrays(name: str, train_x: Array, train_y: Array, test_x: Array, test_y: Array) -> Dataset:
    """Return a data set from uint8 images N×H×W[×C] and integer labels (N,); `n_classes` is the greatest label + 1."""
    n_classes = 1 + max(int(labels.max()) for labels in (train_y, test_y) if len(labels))
    train, test = _examples(_channels_first(train_x), train_y), _examples(_channels_first(test_x), test_y)
    return Dataset(name=name, train=train, test=test, n_classes=n_classes)


def load_npz(name: str, path: Path) -> Dataset:
    """Read `path`: train_x and test_x, N×H×W or N×H×W×C uint8 (C 1 or 3), train_y and test_y, N integers from 0.

    Images keep the order of the file.

    Raises:
        UsageError: the file is damaged, or an array is absent or not of that form.
    """
    import numpy as np

    arrays: dict[str, Array] = {}
    key = ""
    try:
        with np.load(path, allow_pickle=False) as archive:
            for key in ("train_x", "train_y", "test_x", "test_y"):
                if key not in archive:
                    raise UsageError(f"Expected {key} in {path}, got only {', '.join(archive) or 'nothing'}; add it.")
                arrays[key] = archive[key]
    except BenchError:
        raise
    except Exception as error:  # the zip, zlib and NumPy readers raise a dozen kinds on damaged bytes
        what = f"{key} of {path} as a plain array" if key else f"{path} as a NumPy archive"
        # NumPy's reasons may run over several lines, and advise to trust the file.
        why = " ".join(str(error).split()).partition(" If you trust")[0]
        raise UsageError(
            f"Expected to read {what}, but it is damaged or of another kind ({why}); replace it."
        ) from error
    _check_arrays(path, arrays)
    return from_arrays(name, *arrays.values())


def load_class_folders(name: str, folder: Path) -> Dataset:
    """Read `folder`/{train, test or val}/CLASS/*.{png,jpg,jpeg,bmp}; `train`'s class folders, sorted, are the labels.

    Guarantees:
        Both splits are in an order fixed by the file names alone and mixed over the classes, because tracks and
        calibration take the first n images and must not get n images of one class.

    Raises:
        MissingError: a split is absent or holds no image.
        UsageError: classes differ, an image cannot be read, or sizes or modes differ.
    """
    train = folder / "train"
    test = next((folder / split for split in ("test", "val") if (folder / split).is_dir()), folder / "test")
    classes = _class_folders(train)
    if strange := sorted(set(_class_folders(test)) - set(classes)):
        raise UsageError(
            f"Expected the class folders of {test} to be among those of {train}, got '{strange[0]}' only for testing; "
            "rename it or add it there."
        )
    labels = {label: index for index, label in enumerate(classes)}
    splits = {split: _mixed(file for label in classes for file in _images(split / label)) for split in (train, test)}
    for split, files in splits.items():
        if not files:
            raise MissingError(f"Expected images in {split}/CLASS/ ({', '.join(ENDINGS)}), found none; put them there.")
    images = _decode([*splits[train], *splits[test]], lambda image: image)
    n = len(splits[train])
    return Dataset(
        name=name,
        train=_examples(images[:n], [labels[file.parent.name] for file in splits[train]]),
        test=_examples(images[n:], [labels[file.parent.name] for file in splits[test]]),
        n_classes=len(classes),
    )


def load_imagenet(name: str, folder: Path) -> Dataset:
    """Read ImageNet: RobustBench's 5,000 validation images in its order, and a small part of the training images.

    Images are resized to 256 (shorter side) and cropped to the central 224×224. Labels are positions in the sorted
    list of all 1,000 synsets, so a folder that holds only some of them keeps the standard labels.
    The training split does not fit in memory: of each synset in `folder`/train only the first
    `TRAIN_IMAGES_PER_SYNSET` files are decoded, in an order fixed by a hash of their names, 1.5 GB in all; without
    `folder`/train the training split is empty and recipes that fine-tune or calibrate cannot run.

    Raises:
        MissingError: validation images or RobustBench's lists are absent.
        UsageError: an image cannot be read.
    """
    ids, labels = imagenet_test_ids(), imagenet_labels()
    tests = [folder / "val" / each for each in ids]
    if absent := [file for file in tests if not file.is_file()]:
        raise MissingError(
            f"Expected RobustBench's {len(tests)} validation images at {folder}/val/SYNSET/*.JPEG, {len(absent)} are "
            f"absent, the first is {absent[0]}; unpack ILSVRC2012_img_val there, one folder a synset."
        )
    trains = _mixed(
        file for synset in labels for file in _mixed(_images(folder / "train" / synset))[:TRAIN_IMAGES_PER_SYNSET]
    )
    return Dataset(
        name=name,
        train=_examples(_decode(trains, _central_224, empty=(3, 224, 224)), [labels[f.parent.name] for f in trains]),
        test=_examples(_decode(tests, _central_224, empty=(3, 224, 224)), [labels[f.parent.name] for f in tests]),
        n_classes=len(labels),
    )


def imagenet_test_ids() -> list[str]:
    """Return RobustBench's validation ids in its order, each `"SYNSET/FILE.JPEG"`."""
    return _robustbench_file("imagenet_test_image_ids.txt").split()


def imagenet_labels() -> dict[str, int]:
    """Return synset → label for all 1,000 synsets, in label order."""
    return dict(json.loads(_robustbench_file("imagenet_class_to_id_map.json")))


def _check_arrays(path: Path, arrays: dict[str, Array]) -> None:
    """Raise UsageError unless the four arrays have the form that `load_npz` promises."""
    shape = arrays["test_x"].shape[1:]
    n_images = sum(len(arrays[key]) if arrays[key].ndim else 0 for key in ("train_x", "test_x"))
    for split in ("train", "test"):
        images, labels = arrays[f"{split}_x"], arrays[f"{split}_y"]
        got = f"{images.dtype} of shape {images.shape}"
        if str(images.dtype) != "uint8" or images.ndim not in (3, 4) or images.shape[3:] not in ((), (1,), (3,)):
            raise UsageError(
                f"Expected {split}_x of {path} as uint8 N×H×W or N×H×W×C (C 1 or 3), got {got}; convert it."
            )
        if images.shape[1:] != shape:
            raise UsageError(f"Expected train_x and test_x of {path} of one image shape, got {got} beside {shape}.")
        got = f"{labels.dtype} of shape {labels.shape}"
        if labels.dtype.kind not in "iu" or labels.shape != images.shape[:1]:
            raise UsageError(
                f"Expected {split}_y of {path} as {len(images)} integers, one an image, got {got}; correct it."
            )
        # More classes than images can only be a mistake, such as identifiers in place of labels.
        if len(labels) and not 0 <= labels.min() <= labels.max() < n_images:
            got = f"{labels.min()} … {labels.max()}"
            raise UsageError(f"Expected {split}_y of {path} to number the classes from 0, got {got}; renumber them.")
    if not len(arrays["test_x"]):
        raise UsageError(f"Expected at least one image in test_x of {path}, got none; add some.")
    trained, asked = ({*arrays[key].tolist()} for key in ("train_y", "test_y"))
    if trained and (unknown := sorted(asked - trained)):  # without training images it is there to be evaluated alone
        raise UsageError(
            f"Expected train_y of {path} to have every class that test_y has, got none of class "
            f"{', '.join(map(str, unknown[:5]))}; add some."
        )


def _channels_first(images: Array) -> Array:
    import numpy as np

    return images[:, None] if images.ndim == 3 else np.ascontiguousarray(images.transpose(0, 3, 1, 2))


def _robustbench_file(file: str) -> str:
    # robustbench cannot be imported as it comes from PyPI (it wants `autoattack`), but its lists can be read.
    found = importlib.util.find_spec("robustbench")
    for package in (found.submodule_search_locations or []) if found else []:
        if (path := Path(package) / "helper_files" / file).is_file():
            return path.read_text(encoding="utf-8")
    raise MissingError(f"Expected {file} in the installed robustbench, found none; run: pip install robustbench==1.1.1")


def _class_folders(split: Path) -> list[str]:
    if not split.is_dir():
        raise MissingError(f"Expected the folder {split} with one folder of images a class, found none; create it.")
    # Folders such as .ipynb_checkpoints and __MACOSX are left by tools and must not shift the labels.
    return sorted(each.name for each in split.iterdir() if each.is_dir() and not each.name.startswith((".", "__")))


def _images(folder: Path) -> list[Path]:
    files = folder.iterdir() if folder.is_dir() else ()
    return [file for file in files if file.suffix.lower() in ENDINGS and not file.name.startswith(".")]


def _mixed(files: Iterable[Path]) -> list[Path]:
    # A hash of CLASS/FILE as the sort key: the same order on every machine and with every version of every library.
    return sorted(files, key=lambda file: sha256(f"{file.parent.name}/{file.name}".encode()).digest())


def _examples(images: Array, labels: Array | list[int]) -> Examples:
    import numpy as np
    import torch

    return Examples(images=torch.from_numpy(images), labels=torch.from_numpy(np.array(labels, dtype=np.int64)))


def _decode(files: list[Path], prepare: Callable[[Image], Image], empty: tuple[int, int, int] = (1, 1, 1)) -> Array:
    """Decode `files` with threads into one (N, C, H, W) uint8 array; `empty` is (C, H, W) when there are none."""
    import numpy as np

    if not files:
        return np.zeros((0, *empty), np.uint8)
    first = _read(files[0], prepare)
    images = np.empty((len(files), *first.shape), np.uint8)

    def fill(index: int) -> None:
        image = _read(files[index], prepare)
        if image.shape != first.shape:
            raise UsageError(
                f"Expected all images of one set to have one size and mode, got {image.shape} in {files[index]} and "
                f"{first.shape} in {files[0]} (channels, height, width); convert them to one form."
            )
        images[index] = image

    with ThreadPoolExecutor() as pool:
        for _ in pool.map(fill, range(len(files))):
            pass
    return images


def _read(file: Path, prepare: Callable[[Image], Image]) -> Array:
    """Return one image as (C, H, W) uint8, C = 1 (greyscale) or 3 (RGB)."""
    import numpy as np
    from PIL import Image

    try:
        with Image.open(file) as opened:
            image = prepare(opened)
            pixels = np.asarray(image)
    except (OSError, ValueError, SyntaxError, Image.DecompressionBombError) as error:
        raise UsageError(f"Expected an image in {file}, but it cannot be read ({error}); replace the file.") from error
    if image.mode not in ("L", "RGB"):
        raise UsageError(f"Expected greyscale (L) or RGB images, got mode {image.mode} in {file}; convert the images.")
    return pixels[None] if image.mode == "L" else pixels.transpose(2, 0, 1)


def _central_224(image: Image) -> Image:
    # RobustBench's `Res256Crop224`, by the same library, so that the pixels are the same.
    from torchvision.transforms.functional import center_crop, resize

    cropped: Image = center_crop(resize(image.convert("RGB"), 256), 224)
    return cropped
