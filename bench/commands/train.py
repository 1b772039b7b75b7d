"""`bench train`: make the parents that recipes start from."""

from __future__ import annotations

from dataclasses import asdict
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from bench.commands.output import Json, console, print_json

if TYPE_CHECKING:
    from bench.train import Trained


def train(
    model: Annotated[
        str, typer.Argument(metavar="MODEL", help="bench:conv8, bench:conv8-adv: bench list models names them.")
    ],
    track: Annotated[str, typer.Option(help="Data set and threat model: a track's name, or file.")] = "digits-linf-v1",
    settings: Annotated[
        list[str] | None, typer.Option("--set", metavar="KEY=VALUE", help="Another schedule: epochs=20 (needs --out)")
    ] = None,
    out: Annotated[Path | None, typer.Option(help="File for the weights, .safetensors.")] = None,
    device: Annotated[str, typer.Option(help="auto, cpu, cuda, cuda:1.")] = "auto",
    as_json: Json = False,
) -> None:
    """Train a small network from scratch, to be a parent. Clean or adversarially, as its name says."""
    from bench.errors import InterruptedRunError
    from bench.machine.device import pick_device
    from bench.model import ModelSpec
    from bench.render.progress import watching
    from bench.track import load_track
    from bench.train import train

    spec, the_track, where = ModelSpec.parse(model), load_track(track), pick_device(device)
    try:
        with watching(console(stderr=True)) as report:
            trained = train(spec, the_track, settings or [], out, where, report)
    except KeyboardInterrupt as interrupt:
        raise InterruptedRunError("Interrupted. The same command goes on after the last whole epoch.") from interrupt
    facts = _facts(trained)
    if as_json:
        print_json({**facts, "weights": str(trained.file), "schedule": asdict(trained.schedule)})
        return
    from bench.render.terminal import print_names

    print_names(list(facts.items()), f"{model} for {the_track.name}", console())
    option = "" if the_track.model == trained.model else f" --model {trained.model}"
    typer.echo(f"\nWrote {trained.file}\nbench evaluate --recipe none --track {track}{option}")


def _facts(trained: Trained) -> dict[str, str]:
    cost = trained.meter
    passes = f"{cost.forward:,} images forward, {cost.backward:,} backward, {cost.seconds:.0f} s" if cost else ""
    return {
        "clean": f"{trained.clean.rate:.1%} of the first {trained.clean.total:,} test images",
        "PGD-20": f"{trained.pgd20.rate:.1%} of the same; bench evaluate says what stands AutoAttack",
        "training": passes or "done by an earlier run",
    }
