"""Our attack engine against the reference: same model, same images, alternately, each run in a process of its own.

    python benchmarks/attack.py --threads 2              # digits: a standard network and a robust one, trained here
    python benchmarks/attack.py --model autoattack:resnet18 --track cifar10-linf-v1 --images 16

Prints, for each model and engine: seconds (wall, and of the processor, whose ratio other programs disturb less), how
many images survive, image-passes done in relation to those that the bench engine's attacks are charged with (forward
and backward passes until each image's fate is known), and the share of time spent inside the model. A process of its
own, because the bench engine tells the C library to keep freed memory, which would help the reference, too. With
several threads the reference has them inside each pass, and the bench engine a process for each, whose start counts.
"""

from __future__ import annotations

import argparse
import math
import multiprocessing
import os
import tempfile
import time
from dataclasses import dataclass, replace
from pathlib import Path
from statistics import median

import torch
from torch import fx, nn

from bench.attack.crew import crew
from bench.attack.driver import BenchEngine
from bench.attack.engine import Trial, run_suite
from bench.attack.engines import new_engine
from bench.attack.field import Work
from bench.attack.suites import SUITES
from bench.compress.bake import bake, fold
from bench.compress.trace import trace
from bench.dataset import Dataset, Examples
from bench.finetune.adversarial import FinetuneAdversarial
from bench.load.datasets import load_dataset
from bench.load.layout import channels_last
from bench.machine.tensor_float import forbid_tensor_float
from bench.model import ModelSpec, Subject
from bench.parent import load_parent
from bench.progress import silent
from bench.recipe import Ingredients, Meter, load_recipe
from bench.request import Request
from bench.run.journal import FileJournal
from bench.threat_model import ThreatModel
from bench.track import Track, load_track

CPU = torch.device("cpu")


@dataclass(frozen=True, kw_only=True)
class Job:
    """What each engine is to do; it travels to another process."""

    file: str
    examples: Examples
    threat: ThreatModel
    n_classes: int
    attacks: tuple[str, ...]
    threads: int
    device: str


@dataclass(frozen=True, kw_only=True)
class Measured:
    """One run of one engine."""

    seconds: float
    cpu: float
    letters: str
    counted: int
    done: int
    inside: float


def measure(engine: str, job: Job) -> Measured:
    """Run the attacks once."""
    torch.set_num_threads(job.threads)
    forbid_tensor_float()
    SUITES["standard"] = job.attacks
    ours, work = engine == "bench", Work()
    twin = torch.load(job.file, weights_only=False).to(job.device)
    if ours:  # as an evaluation does; the reference has the network as its owner wrote it
        image_shape = tuple(job.examples.images.shape[1:])
        twin = channels_last(twin, image_shape)
        traced = twin if isinstance(twin, fx.GraphModule) else trace(twin, image_shape, torch.device(job.device))
        twin = bake(fold(traced))
    trial = Trial(
        subject=Subject.of(twin),
        examples=job.examples,
        threat=job.threat,
        n_classes=job.n_classes,
        seed=0,
        device=torch.device(job.device),
        engine=BenchEngine(work=work) if ours else new_engine(engine),
    )
    hands = job.threads if ours and trial.device.type == "cpu" else 1
    with tempfile.TemporaryDirectory() as folder:
        journal = FileJournal(Path(folder) / "journal.json")
        wall, cpu = time.perf_counter(), _processor_seconds()
        with crew(trial, hands, pace=math.inf) as crewed:
            outcome = run_suite(replace(trial, engine=crewed), "standard", journal=journal, report=silent)
        wall, cpu = time.perf_counter() - wall, _processor_seconds() - cpu
    counted = sum(record.forward + record.backward for record in outcome.records.values())
    done = work.forward + work.backward if ours else counted
    return Measured(
        seconds=wall, cpu=cpu, letters=outcome.letters, counted=counted, done=done, inside=work.seconds / wall / hands
    )


def _processor_seconds() -> float:
    """Return what this process and those it has waited for have used."""
    used = os.times()
    return used.user + used.system + used.children_user + used.children_system


def compare(name: str, model: nn.Module, examples: Examples, threat: ThreatModel, options: argparse.Namespace) -> None:
    """Print the table of one model."""
    runs: dict[str, list[Measured]] = {"reference": [], "bench": []}
    with tempfile.TemporaryDirectory() as folder:
        job = Job(
            file=str(Path(folder) / "model.pt"),
            examples=examples,
            threat=threat,
            n_classes=model(examples.first(2).pixels()).shape[1],
            attacks=tuple(options.attacks.split(",")) if options.attacks else SUITES["standard"],
            threads=options.threads,
            device=options.device,
        )
        torch.save(bake(model).to(memory_format=torch.contiguous_format), job.file)
        for _ in range(options.repeats):
            for engine, measured in runs.items():
                with multiprocessing.get_context("spawn").Pool(1) as pool:
                    measured.append(pool.apply(measure, (engine, job)))
    needed = runs["bench"][0].counted
    print(f"\n{name}, {threat}, {len(examples)} images, {options.threads} threads, {options.device}")
    print(f"{'engine':<10} {'wall s':>8} {'cpu s':>8} {'robust':>7} {'passes':>9} {'/needed':>8} {'in model':>9}")
    for engine, measured in runs.items():
        wall, cpu = median(each.seconds for each in measured), median(each.cpu for each in measured)
        inside = f"{median(each.inside for each in measured):.1%}" if engine == "bench" else ""
        first = measured[0]
        survivors = first.letters.count(".")
        print(f"{engine:<10} {wall:>8.1f} {cpu:>8.1f} {survivors:>7}", end="")
        print(f" {first.done:>9} {first.done / needed:>8.2f} {inside:>9}")
    pairs = list(zip(runs["reference"], runs["bench"], strict=True))
    wall, cpu = median(a.seconds / b.seconds for a, b in pairs), median(a.cpu / b.cpu for a, b in pairs)
    fates = zip(pairs[0][0].letters, pairs[0][1].letters, strict=True)
    differ = sum((one in ".") != (other in ".") for one, other in fates)
    print(f"{'ratio':<10} {wall:>8.2f} {cpu:>8.2f}   {differ} verdicts differ", flush=True)


def hardened(model: nn.Module, dataset: Dataset, track: Track) -> nn.Module:
    """Return the model after adversarial training under the track's threat."""
    ingredients = Ingredients(
        train=dataset.train,
        threat=track.threat,
        finetune_images=10 * len(dataset.train),
        generator=torch.Generator().manual_seed(0),
        device=CPU,
        report=silent,
        meter=Meter(),
    )
    step = FinetuneAdversarial(epochs=10, attack_steps=5, learning_rate=0.01, step_ratio=0.5)
    return step(Subject.of(model), ingredients).twin


def main() -> None:
    """Read the options, pair the engines."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    parser.add_argument("--model", default="", help="SOURCE:NAME; left out: the track's own, standard and hardened")
    parser.add_argument("--track", default="digits-linf-v1")
    parser.add_argument("--images", type=int, default=100)
    parser.add_argument("--repeats", type=int, default=1)
    parser.add_argument("--threads", type=int, default=1)
    parser.add_argument("--device", default="cpu")
    parser.add_argument("--attacks", default="", help="only these, with commas between them")
    options = parser.parse_args()
    torch.set_num_threads(options.threads)
    forbid_tensor_float()
    track = load_track(options.track)
    dataset = load_dataset(track.dataset)
    spec = ModelSpec.parse(options.model or track.model)
    model = load_parent(Request(recipe=load_recipe("none"), track=track, model=spec), dataset, CPU, silent)
    examples = dataset.test.first(options.images)
    compare(str(spec), model, examples, track.threat, options)
    if not options.model:
        compare(f"{spec}, hardened", hardened(model, dataset, track), examples, track.threat, options)


if __name__ == "__main__":
    main()
