"""`bench paper`: the paper this project grew from, beside what was measured here."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path
from typing import Annotated, Any

import typer

from bench.commands.output import Board, Json, print_json, skipped
from bench.errors import GateError, UsageError


def paper(
    board: Board = Path("leaderboard"),
    check: Annotated[bool, typer.Option("--check", help="Write nothing, fail when the page is stale.")] = False,
    as_json: Json = False,
) -> None:
    """Render LEADERBOARD/paper.md: the paper and our entries."""
    from bench.board.leaderboard import check_board
    from bench.files import locked
    from bench.paper.study import load_studies
    from bench.render.pages import write_page
    from bench.render.paper import render_paper

    if check and as_json:
        raise UsageError("--check asks whether the page is fresh: leave --json out.")
    check_board(board)
    complaints: list[str] = []
    with locked(board):  # from reading to writing, as for the other pages
        studies = [replace(study, scratch=_scratch()) for study in load_studies(board, skip=complaints.append)]
        stale = [] if as_json else write_page(render_paper(studies), board / "paper.md", check=check)
    for sentence in complaints:
        skipped(sentence)
    if as_json:
        print_json([_record(study) for study in studies])
    elif check and (stale or complaints):
        found = [f"{stale[0]} is stale: run bench paper."] if stale else []
        found += [f"{len(complaints)} of the files, named above, are no entries."] if complaints else []
        raise GateError(" ".join(found))
    else:
        typer.echo("\n".join(f"Wrote {path}" for path in stale) or "Everything is fresh.")


def _scratch() -> dict[str, float]:
    """Return what training the bench's own networks takes, relative to adversarial training with PGD-7."""
    from bench.effort import REFERENCE_EPOCHS, REFERENCE_PASSES
    from bench.load.architectures import SCHEDULES

    reference = REFERENCE_EPOCHS * REFERENCE_PASSES
    return {f"bench:{name}": schedule.passes / reference for name, schedule in SCHEDULES.items()}


def _record(study: Any) -> dict[str, Any]:
    from bench.paper.claims import CLAIMS

    rulings = {title: judge(study) for title, _, judge in CLAIMS}
    return {
        "track": study.track.name,
        "claims": {
            title: {
                "verdict": ruling.verdict,
                "why": list(ruling.why),
                "evidence": [
                    {
                        "entry": one.ours.name, "against": one.theirs.name, "images": one.n, "points": one.points,
                        "interval": list(one.interval), "p": one.p, "fate": one.fate,
                    }
                    for _, one in ruling.evidence
                ],
            }
            for title, ruling in rulings.items()
        },
    }  # fmt: skip
