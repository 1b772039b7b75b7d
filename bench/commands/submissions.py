"""`bench new` and `bench check`: write a submission, and see whether it holds together."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from bench.commands.output import Json, console, print_json
from bench.errors import GateError, MissingError, UsageError


def new(
    kind: Annotated[str, typer.Argument(metavar="KIND", help="submission or recipe.")],
    name: Annotated[str, typer.Argument(metavar="NAME", help="Small letters, digits and hyphens.")],
    own_step: Annotated[bool, typer.Option("--own-step", help="With a step of its own, in steps.py.")] = False,
) -> None:
    """Write a submission's folder or a recipe's file to start from."""
    from bench.submit.scaffold import new_recipe, new_submission

    if kind == "submission":
        folder = new_submission(name, own_step=own_step)
        typer.echo(f"Wrote {folder}. Edit it, then: bench check {folder}{' --trust' * own_step}")
    elif kind == "recipe" and not own_step:
        typer.echo(f"Wrote {new_recipe(name)}. Edit it, then: bench evaluate --recipe {name}.toml")
    else:
        given = f"{kind} --own-step" if kind == "recipe" else kind
        raise UsageError(f"Expected bench new submission NAME [--own-step], or bench new recipe NAME, got '{given}'.")


def check(
    folders: Annotated[
        list[Path] | None, typer.Argument(metavar="FOLDER", help="submissions/NAME; all of them when left out.")
    ] = None,
    trust: Annotated[bool, typer.Option("--trust", help="Run own steps, too.")] = False,
    as_json: Json = False,
) -> None:
    """Check submissions in seconds. Card, recipe, and a mock run of the whole line: no data, no GPU."""
    from bench.registry import did_you_mean
    from bench.render.findings import print_findings
    from bench.submit.check import check_submission, submission_folders

    chosen = folders or submission_folders()
    for folder in chosen:
        if not folder.is_dir():
            known = [each.as_posix() for each in submission_folders()]
            raise MissingError(f"There is no folder {folder}.{did_you_mean(folder.as_posix(), known)}")
    found, screen = {}, console(stderr=as_json)
    with screen.status("") as status:  # on a terminal, what runs; nothing elsewhere
        for folder in chosen:
            checks = check_submission(folder, trust=trust, starting=status.update)
            found[folder.as_posix()] = list(checks) if as_json else print_findings(str(folder), checks, screen)
    if as_json:
        print_json({folder: [vars(finding) for finding in findings] for folder, findings in found.items()})
    elif not found:
        typer.echo("There are no submissions here: bench new submission NAME writes one.")
    bad = [folder for folder, findings in found.items() if any(finding.holds is False for finding in findings)]
    if bad:
        fail = "does not hold" if len(bad) == 1 else "do not hold"
        raise GateError(f"{len(bad)} of {len(found)} submissions {fail}: {', '.join(bad)}.")
