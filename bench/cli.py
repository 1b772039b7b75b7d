"""The command line. Each command has its function in `bench.commands`; torch is imported only by those that need it."""

from __future__ import annotations

import errno
import io
import sys
import warnings
from importlib import metadata
from typing import Annotated

import typer

from bench.commands.boards import compare, leaderboard
from bench.commands.evaluate import evaluate
from bench.commands.names import list_, show
from bench.commands.output import complain
from bench.commands.paper import paper
from bench.commands.scrutiny import challenge, verify
from bench.commands.submissions import check, new
from bench.commands.sweep import sweep
from bench.commands.tools import doctor, export, plot
from bench.commands.train import train
from bench.errors import BenchError, MissingError

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
    """Options that precede a command."""


app.command()(evaluate)
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
app.command()(export)
app.command()(plot)
app.command()(doctor)


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
