"""Hand out the model behind an entry, in the form its user needs."""

from __future__ import annotations

import shutil
import warnings
from pathlib import Path
from typing import Literal, get_args

import torch

from bench.compress.export import deploy
from bench.compress.sealed import PLAN, TENSORS, Sealed, unseal
from bench.compress.trace import any_batch
from bench.entry import Entry
from bench.errors import UsageError
from bench.files import atomic, check_writable
from bench.model import Subject
from bench.prepare import sealed_folder
from bench.registry import did_you_mean

Form = Literal["safetensors", "onnx", "torch-export"]
FORMS: tuple[str, ...] = get_args(Form)


def export(entry: Entry, form: str, beside: Path, to: Path | None = None) -> Path:
    """Write the model of an entry, and return where.

    Args:
        entry: measured on a model that is published beside it, or still in the cache.
        form: "safetensors": the folder `checkpoint:FOLDER` names; "onnx": the file that was judged and timed;
            "torch-export": the twin as a `.pt2` program with a free batch size.
        beside: the folder that the entry is in.
        to: folder or file; named after the entry when left out.

    Raises:
        UsageError: no such form, a place that is taken, or a model that has no such form.
        MissingError: the model is not here.
    """
    if form not in FORMS:
        raise UsageError(f"There is no format '{form}'.{did_you_mean(form, FORMS)}")
    folder = sealed_folder(entry, beside)
    suffix = {"onnx": ".onnx", "torch-export": ".pt2"}.get(form, "")
    path = to or Path(f"{entry.name}{suffix}")
    if path.exists():
        raise UsageError(f"{path} is there already; choose another place with --to.")
    sealed = unseal(folder, torch.device("cpu"))
    if form == "safetensors":
        check_writable(path)
        for name in (TENSORS, PLAN):
            shutil.copyfile(folder / name, path / name)
    elif form == "onnx":
        _write(path, _onnx(sealed, entry))
    else:
        _torch_export(sealed, path)
    return path


def _onnx(sealed: Sealed, entry: Entry) -> bytes:
    shape = sealed.image_shape
    artefact = deploy(Subject(twin=sealed.network, parent=sealed.network, deployed=sealed.network), shape)
    if not artefact.kind.startswith("onnx"):
        raise UsageError(
            f"{entry.name} has no ONNX form ({artefact.note or 'no runtime has kernels for its bit widths'}); "
            "choose --format safetensors or torch-export."
        )
    return artefact.data


def _torch_export(sealed: Sealed, path: Path) -> None:
    images = torch.rand(2, *sealed.image_shape)
    batch = any_batch()
    with warnings.catch_warnings(), torch.no_grad():
        warnings.simplefilter("ignore")
        program = torch.export.export(sealed.network, (images,), dynamic_shapes=({0: batch},))
    with atomic(path) as temporary:
        program_file = temporary.with_suffix(".pt2")  # torch insists on the ending
        torch.export.save(program, program_file)
        program_file.replace(temporary)


def _write(path: Path, data: bytes) -> None:
    with atomic(path) as temporary:
        temporary.write_bytes(data)
