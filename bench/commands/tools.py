"""`bench export`, `bench plot` and `bench doctor`: what an entry leaves for elsewhere, and what this machine has."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from bench.commands.output import Board, Json, console, print_json


def export(
    name: Annotated[str, typer.Argument(metavar="ENTRY", help="An entry: its name or its file.")],
    form: Annotated[str, typer.Option("--format", help="safetensors, onnx or torch-export.")] = "safetensors",
    to: Annotated[Path | None, typer.Option(help="Folder or file; named after the entry when left out.")] = None,
    board: Board = Path("leaderboard"),
) -> None:
    """Write the model behind an entry. As --model checkpoint:FOLDER it is a parent."""
    from bench.catalogue import entry_file
    from bench.entry import load_entry
    from bench.export import export

    path = entry_file(name, board)
    entry = load_entry(path)
    typer.echo(f"Wrote {export(entry, form, path.parent, to)}")
    if form == "onnx" and entry.efficiency.artefact == "onnx-int8":
        note = "open it with session.x64quantprecision = 1: the fastest int8 kernels of ONNX Runtime overflow there."
        typer.echo(f"On x86 processors without VNNI, {note}")


def plot(
    kind: Annotated[str, typer.Argument(metavar="KIND", help="pareto, compression or eps.")] = "pareto",
    track: Annotated[str, typer.Option(help="Only this track.")] = "",
    cost: Annotated[str, typer.Option(help="Of pareto: bops, macs, bytes or latency.")] = "bops",
    out: Annotated[Path | None, typer.Option(help="File, .svg or .png; both, named KIND, when left out.")] = None,
    board: Board = Path("leaderboard"),
) -> None:
    """Draw a figure for a paper. Robust accuracy by cost, compression level or eps."""
    from bench.board.leaderboard import load_boards
    from bench.render.plot.draw import write_figure
    from bench.render.plot.figures import figure

    panels = figure(kind, load_boards(board, track, by_seed=True), cost)
    for path in [out] if out else [Path(f"{kind}.svg"), Path(f"{kind}.png")]:
        typer.echo(f"Wrote {write_figure(panels, path)}")


def doctor(as_json: Json = False) -> None:
    """Say what is installed and what data is found."""
    from bench.doctor import diagnose
    from bench.render.terminal import print_names

    findings = diagnose()
    if as_json:
        print_json({title: dict(facts) for title, facts in findings.items()})
    else:
        for title, facts in findings.items():
            print_names(facts, title, console())
