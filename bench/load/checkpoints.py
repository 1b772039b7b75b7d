"""Weights from files nobody vouches for: read as tensors only, matched to an architecture, or refused in a sentence."""

from __future__ import annotations

import argparse
import re
import warnings
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor, nn

from bench.errors import MissingError, UsageError
from bench.files import weights_file
from bench.load.normalize import normalized, parse_normalization
from bench.model import ModelSpec, Task

CONTAINERS = ("state_dict", "model_state_dict", "model", "last", "net")
"""Where training scripts put the weights when they save more than weights."""

PREFIXES = ("module.", "model.", "_orig_mod.")
"""What nn.DataParallel, a wrapper with a normalisation, and torch.compile put in front of every key."""

_EXAMPLE = "checkpoint:weights.pth@bench:resnet20@cifar10"
_ARCHITECTURE = re.compile(r"@(?=(?:bench|timm|torchvision|robustbench|python):)")


class DamagedError(UsageError):
    """The file is no checkpoint at all: a web page, a broken download, something else."""


def load_checkpoint(name: str, task: Task, build: Callable[[ModelSpec, Task], nn.Module]) -> nn.Module:
    """Return the network that `FILE@ARCHITECTURE[@NORMALIZATION]` describes.

    Args:
        name: what follows `checkpoint:`.
        task: the data set the network must fit.
        build: makes an untrained network from an architecture's name.

    Raises:
        UsageError: the name is not of that form, or file and architecture do not fit each other.
        MissingError: there is no such file.
    """
    path, architecture, normalization = parse_checkpoint(name)
    path = weights_file(path)
    front = parse_normalization(normalization, task.image_shape[0])
    tensors = read_state_dict(path)
    network = build(architecture, task)
    fill(network, tensors, path=path, architecture=str(architecture))
    return normalized(network, front)


def parse_checkpoint(name: str) -> tuple[Path, ModelSpec, str]:
    """Split `FILE@ARCHITECTURE[@NORMALIZATION]`, from the right, so that FILE may contain an @.

    Raises:
        UsageError: no file or no architecture.
        MissingError: no architecture, and nothing of that name that one could be asked for.
    """
    marks = list(_ARCHITECTURE.finditer(name))
    if not marks or not name[: marks[-1].start()]:
        if "@" not in name:
            weights_file(Path(name).expanduser())
        raise UsageError(
            "Expected checkpoint:FILE@ARCHITECTURE[@NORMALIZATION], with an architecture such as bench:resnet20, "
            f"timm:resnet18 or python:FILE.py:FUNCTION (for example {_EXAMPLE}), or the folder of an exported model; "
            f"got 'checkpoint:{name}'."
        )
    architecture, normalization = name[marks[-1].end() :], "none"
    if "@" in architecture:
        head, _, tail = architecture.rpartition("@")
        if ":" not in tail:  # else the @ belongs to the path of a Python file
            architecture, normalization = head, tail
    return Path(name[: marks[-1].start()]).expanduser(), ModelSpec.parse(architecture), normalization


def read_state_dict(path: Path) -> dict[str, Tensor]:
    """Return the tensors in a .safetensors, .pt, .pth or .th file, out of whatever container holds them.

    Guarantees:
        Nothing in the file is executed.

    Raises:
        MissingError: no such file.
        DamagedError: a web page, a truncated file, or no checkpoint.
        UsageError: the file needs code to be read, or holds no weights.
    """
    content = read_content(path)
    for _ in range(2):
        inner = next((content[key] for key in CONTAINERS if isinstance(content.get(key), Mapping)), None)
        content = content if inner is None else inner
    tensors = {str(key): value for key, value in content.items() if isinstance(value, Tensor)}
    if not tensors:
        held = ", ".join(str(key) for key in list(content)[:5]) or "nothing"
        raise UsageError(
            f"Expected weights in {path}, as a state dict or under {', '.join(CONTAINERS)}; it has {held}."
        )
    return tensors


def read_content(path: Path) -> Mapping[str, Any]:
    """Return what a checkpoint file holds, on the CPU; see `read_state_dict` for the errors."""
    if not path.is_file():
        raise MissingError(f"There is no checkpoint file {path}; check the path.")
    with path.open("rb") as stream:
        head = stream.read(512)
    if head.lstrip().startswith(b"<"):
        raise DamagedError(f"{path} is a web page saved as a checkpoint; download the file itself again.")
    # A safetensors file opens with eight bytes of length and a JSON object, whatever its name.
    safe = path.suffix == ".safetensors" or head[8:9] == b"{"
    content = _read_safetensors(path) if safe else _read_torch(path, head)
    if not isinstance(content, Mapping):
        raise UsageError(f"Expected a state dict in {path}, got a {type(content).__name__}; save model.state_dict().")
    return content


def fill(network: nn.Module, tensors: Mapping[str, Tensor], *, path: Path, architecture: str) -> None:
    """Copy `tensors` into `network`, after dropping the usual prefixes from their keys.

    Raises:
        UsageError: keys are missing or too many, or shapes differ.
    """
    wanted = network.state_dict()
    found = _strip(dict(tensors), set(wanted))
    # Counters of batches are younger than some checkpoints, and no prediction depends on them.
    missing = [key for key in wanted if key not in found and not key.endswith("num_batches_tracked")]
    extra = [key for key in found if key not in wanted and not key.endswith("num_batches_tracked")]
    if missing or extra:
        raise UsageError(
            f"The weights in {path} are not those of {architecture}: {_some(missing)} missing, {_some(extra)} "
            "unexpected; name the architecture they were trained with."
        )
    for key, value in found.items():
        if key in wanted and value.shape != wanted[key].shape:
            raise UsageError(
                f"The weights in {path} do not fit {architecture}: '{key}' has shape {tuple(value.shape)}, expected "
                f"{tuple(wanted[key].shape)}; check the architecture, its input size and the number of classes."
            )
    network.load_state_dict(found, strict=False)


def _read_safetensors(path: Path) -> Mapping[str, Any]:
    from safetensors import SafetensorError
    from safetensors.torch import load_file

    try:
        content: Mapping[str, Any] = load_file(path, device="cpu")
    except (SafetensorError, OSError) as error:
        raise DamagedError(f"{path} is truncated or not a safetensors file; write or download it again.") from error
    return content


def _read_torch(path: Path, head: bytes) -> Any:
    try:
        with harmless_types(), warnings.catch_warnings():
            warnings.simplefilter("ignore")  # about a pickle's protocol; what matters is said below
            return torch.load(path, map_location="cpu", weights_only=True)
    except Exception as error:  # torch.load has no error type of its own
        # A pickle that asks for a class, or speaks a dialect that torch.save never does; noise has unknown opcodes too.
        refused = r"global|torchscript|persistent" + (r"|unsupported operand" if head.startswith(b"\x80") else "")
        if re.search(refused, str(error), re.IGNORECASE):
            raise UsageError(
                f"{path} holds pickled code, not only weights, and is not opened; save model.state_dict() instead."
            ) from error
        raise DamagedError(f"{path} is truncated or not a PyTorch checkpoint; write or download it again.") from error


@contextmanager
def harmless_types() -> Iterator[None]:
    """Let torch.load(weights_only=True) also read the numpy numbers and options that training scripts leave behind."""
    scalar: Any = np.float64(0).__reduce__()[0]
    kinds: list[Any] = [argparse.Namespace, np.dtype, *{type(np.dtype(code)) for code in "?bBhHiIlLfd"}]
    # numpy moved this constructor; old files still ask for it under the old name.
    renamed: list[Any] = [(scalar, "numpy.core.multiarray.scalar"), (scalar, "numpy._core.multiarray.scalar")]
    with torch.serialization.safe_globals([*kinds, *renamed]):
        yield


def _strip(tensors: dict[str, Tensor], wanted: set[str]) -> dict[str, Tensor]:
    """Drop prefixes, the same one from every key that has it, and keep the form that matches the most keys."""
    forms = [tensors]
    for form in forms:  # grows as shorter forms appear; every round shortens keys, so it ends
        for prefix in PREFIXES:
            shorter = {key.removeprefix(prefix): value for key, value in form.items()}
            if len(shorter) == len(form) and all(shorter.keys() != other.keys() for other in forms):
                forms.append(shorter)
    return max(forms, key=lambda form: len(wanted & form.keys()))


def _some(keys: list[str]) -> str:
    """Return `"3 ('conv1.weight', …)"`, or `"0"`."""
    return f"{len(keys)} ('{keys[0]}'{', …' if len(keys) > 1 else ''})" if keys else "0"
