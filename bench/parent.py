"""The network that recipes start from: loaded by its name, or trained here and kept."""

from __future__ import annotations

import dataclasses
import shutil
from pathlib import Path
from typing import Any

import torch
from torch import nn

from bench.compress.norms import keep_norms
from bench.compress.sealed import unseal
from bench.dataset import Dataset
from bench.files import cache_dir
from bench.finetune.adversarial import FinetuneAdversarial
from bench.finetune.clean import FinetuneClean
from bench.finetune.fast import FinetuneFast
from bench.load.architectures.schedule import Schedule
from bench.load.first_use import cached_path
from bench.load.layout import channels_last
from bench.load.models import load_model
from bench.model import Subject, Task
from bench.progress import Report
from bench.provenance import code_digest
from bench.recipe import Ingredients, Meter, Step
from bench.request import Request
from bench.threat_model import ThreatModel


def load_parent(request: Request, dataset: Dataset, device: torch.device, report: Report) -> nn.Module:
    """Return the parent on the device; a small network of our own is trained here on first use."""
    threat, task = request.track.threat, task_of(dataset, request.track.threat)

    def fit(network: nn.Module, schedule: Schedule) -> None:
        fit_schedule(request.model.name, network, schedule, dataset, threat, device, report)

    network = load_model(request.model, task, trust=request.trust, fit=fit, unseal=open_sealed)
    return channels_last(network, dataset.image_shape).to(device)


def task_of(dataset: Dataset, threat: ThreatModel) -> Task:
    """Return what a parent must fit."""
    return Task(
        dataset=dataset.name,
        image_shape=dataset.image_shape,
        n_classes=dataset.n_classes,
        norm=threat.norm,
        eps=threat.eps,
        train=dataset.train.digest,
    )


def fit_schedule(
    name: str,
    network: nn.Module,
    schedule: Schedule,
    dataset: Dataset,
    threat: ThreatModel,
    device: torch.device,
    report: Report,
) -> Meter:
    """Train a fresh network in place, as its schedule says; return what that cost.

    Under N-FGSM (de Jorge et al., 2022) held-out training images are watched for catastrophic overfitting, which ends
    training with the last good network.

    Guarantees:
        Training that was interrupted goes on after its last whole epoch; its checkpoints do not outlive the end.
    """
    stem = cached_path(name, task_of(dataset, threat), schedule).stem
    code = code_digest(
        "finetune", "load/architectures", "threat_model.py", "machine/tensor_float.py"
    )  # other code would train otherwise
    checkpoints = cache_dir() / "unfinished-training" / f"{stem}-{code[:16]}"
    step = _step(schedule)
    channels_last(network, dataset.image_shape)
    meter = Meter()
    ingredients = Ingredients(
        train=dataset.train,
        threat=threat,
        finetune_images=schedule.epochs * len(dataset.train),
        generator=torch.Generator().manual_seed(schedule.seed),
        device=device,
        report=lambda event: report(dataclasses.replace(event, stage="train the parent")),
        meter=meter,
        checkpoints=checkpoints,
    )
    trained = step(Subject.of(network), ingredients)
    network.load_state_dict(trained.twin.state_dict())
    shutil.rmtree(checkpoints, ignore_errors=True)
    return meter


def _step(schedule: Schedule) -> Step:
    """Return the fine-tuning step that trains from scratch as the schedule says."""
    descent: dict[str, Any] = {
        key: getattr(schedule, key)
        for key in ("optimizer", "learning_rate", "weight_decay", "batch_size", "crop", "flip", "precision")
    }
    if not schedule.adversarial:
        return FinetuneClean(**descent)
    if schedule.attack_steps == 0:
        return FinetuneFast(kind="noise", **descent)
    return FinetuneAdversarial(attack_steps=schedule.attack_steps, step_ratio=schedule.step_ratio, **descent)


def open_sealed(folder: Path) -> nn.Module:
    """Return the network that the bench saved in a folder, on the CPU; its norms obey training again."""
    return keep_norms(unseal(folder, torch.device("cpu")).network)
