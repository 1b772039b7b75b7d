"""How much faster compressed networks run: float32, W8A8, prune50 and prune50+W8A8 in each runtime that is installed.

python benchmarks/latency.py --models conv8 resnet18 --batch 1 64 --threads 1

Each compressed network is timed in alternation with the float32 one, in this process; a ratio whose windows spread too
widely is measured again, and marked if that did not help. Weights are untrained, and the images made up, those that
quantisers are calibrated on included: neither changes the time.
"""

from __future__ import annotations

import argparse
import dataclasses
import json
from collections.abc import Iterator
from dataclasses import dataclass
from statistics import median

import torch
from rich.console import Console
from rich.table import Table

from bench.compress.export import Artefact, deploy
from bench.compress.prune_channels import PruneChannels
from bench.compress.quantize import Quantize
from bench.dataset import Examples
from bench.load.architectures import build
from bench.measure.latency import Comparison, compare, made_up_images
from bench.measure.runtimes import Runtime, available, runner, version
from bench.model import Subject
from bench.progress import silent
from bench.provenance import machine
from bench.recipe import Ingredients, Meter, Step
from bench.threat_model import ThreatModel, parse_eps

Shape = tuple[int, int, int]

SHAPES: dict[str, Shape] = {"conv8": (1, 28, 28), "resnet18": (3, 32, 32), "digits-cnn": (1, 8, 8)}
FLOAT = "float32"
PRUNE, QUANTIZE = PruneChannels(ratio=0.5, recalibration_images=0), Quantize(calibration_images=64)
RECIPES: dict[str, tuple[Step, ...]] = {
    FLOAT: (),
    "W8A8": (QUANTIZE,),
    "prune50": (PRUNE,),
    "prune50+W8A8": (PRUNE, QUANTIZE),
}
GOALS = {("conv8", "W8A8"): 0.5, ("resnet18", "W8A8"): 0.35, ("resnet18", "prune50+W8A8"): 0.12}
"""Largest share of the float32 time, on a processor with VNNI."""


@dataclass(frozen=True, kw_only=True)
class Options:
    """What the command line asks for."""

    models: list[str]
    batch: list[int]
    threads: int
    seconds: float
    json: bool


@dataclass(frozen=True, kw_only=True)
class Row:
    """One network in one runtime at one batch size.

    Attributes:
        model: "conv8".
        runtime: "onnxruntime 1.31.1".
        batch: images at once.
        recipe: a key of `RECIPES`.
        ms: median time of a batch, milliseconds.
        ratio: median over windows of its time relative to float32's.
        spread: interquartile range of that ratio over windows, relative to it; None for float32 itself.
        noisy: whether the spread is too wide, after a second try.
        integer_macs: share of the MACs that run as integer operations; None where none is meant to, or it is not known.
    """

    model: str
    runtime: str
    batch: int
    recipe: str
    ms: float
    ratio: float
    spread: float | None
    noisy: bool
    integer_macs: float | None


def compressed(name: str, threads: int) -> dict[str, Artefact]:
    """Return each recipe's artefact of the network `name`."""
    shape = SHAPES[name]
    torch.manual_seed(0)
    network = build(name, shape, 10).eval()
    images = torch.randint(256, (64, *shape), dtype=torch.uint8)
    ingredients = Ingredients(
        train=Examples(images=images, labels=torch.zeros(64, dtype=torch.long)),
        threat=ThreatModel(norm="Linf", eps=parse_eps("8/255")),
        finetune_images=0,
        generator=torch.Generator().manual_seed(0),
        device=torch.device("cpu"),
        report=silent,
        meter=Meter(),
    )
    artefacts = {}
    for recipe, steps in RECIPES.items():
        subject = Subject.of(network)
        for step in steps:
            subject = step(subject, ingredients)
        artefacts[recipe] = deploy(subject, shape, threads=threads)
    return artefacts


def rows(name: str, runtime: Runtime, batch: int, artefacts: dict[str, Artefact], options: Options) -> Iterator[Row]:
    """Time every artefact of one network against its float32 one; float32 comes first."""
    images = made_up_images(batch, SHAPES[name])
    runs = {
        recipe: runner(artefact.data, images, threads=options.threads, runtime=runtime)
        for recipe, artefact in artefacts.items()
    }
    times = {
        recipe: compare(run, runs[FLOAT], budget_s=options.seconds) for recipe, run in runs.items() if recipe != FLOAT
    }

    def row(recipe: str, ms: float, found: Comparison | None) -> Row:
        return Row(
            model=name,
            runtime=version(runtime),
            batch=batch,
            recipe=recipe,
            ms=1e3 * ms,
            ratio=found.ratio if found else 1.0,
            spread=found.spread if found else None,
            noisy=found is not None and found.noisy,
            integer_macs=artefacts[recipe].integer_macs_share if runtime == "onnxruntime" else None,
        )

    yield row(FLOAT, median(second for found in times.values() for second in found.parent_s), None)
    for recipe, found in times.items():
        yield row(recipe, median(found.child_s), found)


def closing(found: list[Row]) -> str:
    """Say whether the goals hold, or why they cannot."""
    if "vnni" not in machine():
        return (
            "No VNNI here: such a processor widens 8-bit numbers to 16, multiplies, and adds in a second instruction, "
            "where VNNI does four products of 8 bits and their sum in one; integers then gain far less. The goals "
            "(W8A8 at most 0.5 of float32 on conv8 and 0.35 on resnet18, prune50+W8A8 0.12 on resnet18) are for "
            "processors that have it."
        )
    judged = [(row, GOALS[row.model, row.recipe]) for row in found if (row.model, row.recipe) in GOALS]
    return "Goals, with VNNI: " + "; ".join(
        f"{row.model} {row.recipe} at batch {row.batch} in {row.runtime}: {row.ratio:.2f}, at most {goal} "
        f"{'met' if row.ratio <= goal else 'missed'}"
        for row, goal in judged
    )


def print_table(found: list[Row], console: Console) -> None:
    """Print all rows as one table."""
    table = Table(box=None, pad_edge=False, padding=(0, 3, 0, 0))
    for heading in ("model", "runtime", "batch", "recipe", "ms", "/ float32", "spread", "", "integer MACs"):
        left = heading in ("model", "runtime", "recipe", "")
        table.add_column(heading, justify="left" if left else "right", no_wrap=True)
    for row in found:
        table.add_row(
            row.model,
            row.runtime,
            str(row.batch),
            row.recipe,
            f"{row.ms:.3g}" if row.ms < 100 else f"{row.ms:.0f}",
            f"{row.ratio:.2f}",
            "" if row.spread is None else f"{100 * row.spread:.0f} %",
            "noisy" if row.noisy else "",
            "" if row.integer_macs is None else f"{100 * row.integer_macs:.1f} %",
        )
    console.print(table)


def parse(arguments: list[str] | None) -> Options:
    """Read the command line."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").partition("\n")[0])
    parser.add_argument("--models", nargs="+", choices=list(SHAPES), default=["conv8", "resnet18"])
    parser.add_argument("--batch", nargs="+", type=int, default=[1, 64], help="images at once")
    parser.add_argument("--threads", type=int, default=1, help="inside one operator")
    parser.add_argument("--seconds", type=float, default=8.0, help="for each comparison, its second try included")
    parser.add_argument("--json", action="store_true", help="print data instead of a table")
    return Options(**vars(parser.parse_args(arguments)))


def main(arguments: list[str] | None = None) -> None:
    """Measure and print."""
    options = parse(arguments)
    found: list[Row] = []
    for name in options.models:
        artefacts = compressed(name, options.threads)
        for runtime in available():
            for batch in options.batch:
                found += rows(name, runtime, batch, artefacts, options)
    where = f"{machine()}; {options.threads} thread{'s' * (options.threads != 1)}; weights untrained, images made up"
    if options.json:
        record = {"where": where, "rows": [dataclasses.asdict(row) for row in found], "closing": closing(found)}
        print(json.dumps(record, indent=2))
        return
    console = Console() if Console().is_terminal else Console(width=120)
    console.print(where, highlight=False)
    print_table(found, console)
    console.print(closing(found), highlight=False)


if __name__ == "__main__":
    main()
