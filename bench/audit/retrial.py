"""The classifier behind an entry on trial again, from its sealed artefact: nothing of its recipe is run."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

import torch
from torch import nn

from bench.attack.engine import Trial
from bench.compress.export import Artefact, deploy
from bench.compress.sealed import Sealed, unseal
from bench.dataset import Dataset
from bench.entry import Entry
from bench.errors import MissingError, UsageError
from bench.load.datasets import load_dataset
from bench.machine.device import deployed_threads
from bench.machine.tensor_float import forbid_tensor_float
from bench.model import Subject
from bench.prepare import published_model, sealed_folder
from bench.stages import stand_trial


@dataclass(frozen=True, kw_only=True)
class Retrial:
    """What an entry was measured on, here again.

    Attributes:
        trial: twin and deployed model, and the test images that have letters.
        network: the model as it was sealed.
        artefact: what ships, exported anew.
        dataset: the track's.
    """

    trial: Trial
    network: nn.Module
    artefact: Artefact
    dataset: Dataset


def find_model(entry: Entry, folder: Path | None, beside: Path, device: torch.device) -> Sealed:
    """Load the sealed model from a folder; when None is given, from beside the entry, else from the cache.

    Raises:
        MissingError: it is not there.
        UsageError: it is damaged.
    """
    published = published_model(entry, beside)
    if folder is None and entry.sealed is not None:
        try:
            folder = sealed_folder(entry, beside)
        except MissingError as error:
            if published.is_dir():
                return unseal(published, device)  # which is not the entry's: whoever asks will say so
            raise MissingError(
                f"The model of {entry.name} is neither beside it nor in the cache: make it with {entry.command} "
                "--board AGAIN, or name a folder that bench export wrote, --model FOLDER."
            ) from error
    return unseal(folder or sealed_folder(entry, beside), device)


def same_model(entry: Entry, sealed: Sealed) -> Sealed:
    """Return the model if it is the entry's.

    Raises:
        UsageError: it is another one.
    """
    if sealed.digest != entry.sealed:
        raise UsageError(
            f"Expected the model of {entry.name}, sha256 {(entry.sealed or 'none')[:16]}, got {sealed.digest[:16]}."
        )
    return sealed


def stand_again(entry: Entry, sealed: Sealed, device: torch.device, parent: nn.Module | None = None) -> Retrial:
    """Put a sealed model on trial for the images that an entry has letters for.

    Args:
        entry: whose track and letters.
        sealed: its model.
        device: where the twin is to be.
        parent: for attacks by transfer; None where none is to run.

    Raises:
        UsageError: the data set has other images than the entry speaks of.
    """
    forbid_tensor_float()  # as in the line itself
    dataset, n = load_dataset(entry.track.dataset), len(entry.verdicts.letters)
    if n > len(dataset.test) or dataset.image_shape != sealed.image_shape:
        raise UsageError(
            f"{entry.name} has letters for {n:,} images, and its model takes {sealed.image_shape}; {dataset.name} has "
            f"{len(dataset.test):,} test images {dataset.image_shape}."
        )
    if entry.test_set not in (None, dataset.test.digest):
        raise UsageError(
            f"{entry.name} was measured on other test images of {dataset.name} than those here, or in another order: "
            f"expected sha256 {(entry.test_set or '')[:16]}, got {dataset.test.digest[:16]}."
        )
    network = sealed.network
    subject = Subject(twin=network, parent=network if parent is None else parent, deployed=network)
    artefact = deploy(subject, dataset.image_shape, threads=deployed_threads(device))
    trial = Trial(
        subject=stand_trial(subject, artefact, compressed=parent is not None),
        examples=dataset.test.first(n),
        threat=entry.track.threat,
        n_classes=dataset.n_classes,
        seed=entry.track.seed,
        device=device,
    )
    return Retrial(trial=trial, network=network, artefact=artefact, dataset=dataset)
