"""The command line. Every command is a few lines here; torch is imported only by those that need it."""

from __future__ import annotations

import errno
import io
import sys
import warnings
from importlib import metadata
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from bench.commands.boards import compare, leaderboard
from bench.commands.consent import may_run
from bench.commands.names import list_, show
from bench.commands.output import Board, Json, complain, console, print_json, skipped
from bench.commands.paper import paper
from bench.commands.scrutiny import challenge, verify
from bench.commands.submissions import check, new
from bench.commands.sweep import sweep
from bench.commands.train import train
from bench.errors import BenchError, InterruptedRunError, MissingError

if TYPE_CHECKING:
    from bench.entry import Entry

app = typer.Typer(
    help="Robustness benchmark and leaderboard for compressed image classifiers.",
    epilog="Exit codes: 0 done; 1 a check does not hold; 2 usage or configuration; 3 something is missing; "
    "130 interrupted, the same command goes on.",
    add_completion=False,
    no_args_is_help=True,
    rich_markup_mode=None,  # rich alone would take longer to import than all the rest
    pretty_exceptions_enable=False,
    context_settings={"help_option_names": ["-h", "--help"]},
)


def _print_version(asked: bool) -> None:
    if asked:
        typer.echo(metadata.version("bench"))
        raise typer.Exit


@app.callback()
def bench(
    version: Annotated[
        bool, typer.Option("--version", callback=_print_version, is_eager=True, help="Print the version.")
    ] = False,
) -> None:
    """Hold what stands before a command."""


@app.command()
def evaluate(
    recipe: Annotated[str, typer.Option(help="Recipe: a name, a submission, or a .toml file.")],
    track: Annotated[
        str, typer.Option(help="A name, or a .toml file; if left out the recipe's, or digits-linf-v1.")
    ] = "",
    model: Annotated[str, typer.Option(help="Parent, SOURCE:NAME; if left out the recipe's, or the track's.")] = "",
    n_examples: Annotated[
        int | None, typer.Option(min=1, metavar="N", help="Attack only the first N images: a partial entry.")
    ] = None,
    device: Annotated[str, typer.Option(help="auto, cpu, cuda, cuda:1.")] = "auto",
    seed: Annotated[
        int | None,
        typer.Option(min=0, metavar="N", help="Of calibration and training; if left out the recipe's, or 0."),
    ] = None,
    settings: Annotated[
        list[str] | None, typer.Option("--set", metavar="KEY=VALUE", help="Try a setting: steps.0.weight_bits=4")
    ] = None,
    board: Board = Path("leaderboard"),
    engine: Annotated[
        str, typer.Option(help="Who attacks: bench, bench-tf32 (CUDA), reference; bench-bf16 is not ranked.")
    ] = "bench",
    trust: Annotated[bool, typer.Option("--trust", help="Let python: models and steps.py run their code.")] = False,
    fresh: Annotated[bool, typer.Option("--fresh", help="Forget what an interrupted run left.")] = False,
    batch_size: Annotated[str, typer.Option(help="Images in a pass: auto, or a number.")] = "auto",
    keep: Annotated[bool, typer.Option("--keep-adversarial", help="Keep the images that decided verdicts.")] = False,
    keep_in: Annotated[Path | None, typer.Option(help="Keep them here instead of beside the entry.")] = None,
    as_json: Json = False,
) -> None:
    """Make a model small, attack it, measure it; write its row."""
    from bench.files import cache_dir, check_writable
    from bench.model import ModelSpec
    from bench.recipe import load_recipe, override
    from bench.request import Request, parse_batch_size
    from bench.submission import claim_on
    from bench.track import load_track

    the_recipe = override(load_recipe(recipe), settings or [])
    the_track = load_track(track or the_recipe.track or "digits-linf-v1")
    spec = ModelSpec.parse(model or the_recipe.model or the_track.model)
    agreed = may_run(the_recipe, trust=trust)
    requests = [
        Request(
            recipe=the_recipe, track=the_track, model=spec, n_examples=n_examples, seed=each, device=device,
            trust=trust, engine=engine, fresh=fresh, batch_size=parse_batch_size(batch_size), own_steps=agreed,
            claim=claim_on(the_recipe.folder, the_track.name),
            keep=keep_in or (board / the_track.name if keep else None),
        )
        for each in ([seed] if seed is not None else the_recipe.seeds or [0])
    ]  # fmt: skip
    for folder in filter(None, (board, cache_dir(), keep_in)):
        check_writable(folder)

    from bench.evaluate import evaluate_each
    from bench.render.progress import watching

    entries = []
    try:
        for entry in evaluate_each(requests, board, lambda: watching(console(stderr=True))):
            entries.append(entry)
            if not as_json:
                _present(entry, board)
    except KeyboardInterrupt as interrupt:
        way_on = "The same command goes on: fine-tuning after its last whole epoch, the attack where it stopped."
        raise InterruptedRunError(f"Interrupted. {way_on}") from interrupt
    if as_json:
        plain = [entry.model_dump(mode="json") for entry in entries]
        print_json(plain[0] if len(plain) == 1 else plain)


app.command()(train)
app.command(name="list")(list_)
app.command()(show)
app.command()(compare)
app.command()(leaderboard)
app.command()(sweep)
app.command()(paper)
app.command()(verify)
app.command()(challenge)
app.command()(new)
app.command()(check)


@app.command()
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


@app.command()
def plot(
    kind: Annotated[str, typer.Argument(metavar="KIND", help="pareto, compression or eps.")] = "pareto",
    track: Annotated[str, typer.Option(help="Only this track.")] = "",
    cost: Annotated[str, typer.Option(help="Of pareto: bops, macs, bytes or latency.")] = "bops",
    out: Annotated[Path | None, typer.Option(help="File, .svg or .png; both, named KIND, when left out.")] = None,
    board: Board = Path("leaderboard"),
) -> None:
    """Draw a figure for a paper. Robust accuracy by cost, compression level or eps."""
    from bench.leaderboard import load_boards
    from bench.render.plot.draw import write_figure
    from bench.render.plot.figures import figure

    panels = figure(kind, load_boards(board, track, by_seed=True), cost)
    for path in [out] if out else [Path(f"{kind}.svg"), Path(f"{kind}.png")]:
        typer.echo(f"Wrote {write_figure(panels, path)}")


@app.command()
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


def main() -> None:
    """Run the command line: a mistake becomes one sentence and an exit code, never a traceback."""
    if not sys.warnoptions:
        # Libraries warn each other of deprecations that a user can do nothing about; python -W default shows them.
        warnings.simplefilter("ignore")
    for stream in (sys.stdout, sys.stderr):
        if isinstance(stream, io.TextIOWrapper):
            stream.reconfigure(errors="replace")  # a narrow encoding may lack a sign; that is no reason to fail
    try:
        app()
    except BenchError as error:
        complain("error", str(error), style="bold red")
        sys.exit(error.exit_code)
    except OSError as error:
        if error.errno != errno.ENOSPC:
            raise
        complain("error", f"There is no room for what is printed or written ({error}).", style="bold red")
        sys.exit(MissingError.exit_code)


def _present(entry: Entry, board: Path) -> None:
    from bench.leaderboard import load_entries, rank
    from bench.render.card import print_entry
    from bench.render.terminal import print_board

    screen = console()
    print_entry(entry, screen)
    rows = rank(load_entries(board, entry.track.name, skip=skipped))
    place = next((row.entry.name for row in rows if entry in row.seeds), entry.name)
    print_board(rows, screen, highlight=place)
    screen.print(f"Wrote {entry.path(board)}", style="dim", highlight=False, soft_wrap=True)
