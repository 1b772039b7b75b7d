"""`bench check`: everything about a submission that can be known in seconds, without data and without a GPU."""

from __future__ import annotations

from collections.abc import Callable
from functools import partial
from pathlib import Path

from bench.errors import BenchError, UsageError
from bench.model import ModelSpec
from bench.recipe import Recipe, load_recipe
from bench.scrutiny import Finding
from bench.submission import Card, load_card
from bench.submit.scaffold import check_name
from bench.track import load_track


def check_submission(folder: Path, *, trust: bool) -> list[Finding]:
    """Check a submission's folder; what depends on something that does not hold is left out.

    Args:
        folder: the submission's.
        trust: whether its own steps may run.
    """
    findings: list[Finding] = []

    def ask(what: str, question: Callable[[], str]) -> bool:
        findings.append(_asked(what, question))
        return findings[-1].holds is True

    ask("name", lambda: _name(folder))
    if ask("card", lambda: _card(load_card(folder))):
        card = load_card(folder)
        ask("tracks", lambda: ", ".join(load_track(track).name for track in card.tracks))
        ask("claim", lambda: _claim(card))
    if ask("recipe", lambda: load_recipe(str(folder), submissions=folder.parent).summary):
        recipe = load_recipe(str(folder), submissions=folder.parent)
        ask("pins", lambda: _pins(recipe))
        if ask("steps", lambda: ", ".join(step["step"] for step in recipe.declared()) or "none"):
            findings += _runs(recipe, trust=trust)
    return findings


def submission_folders(submissions: Path = Path("submissions")) -> list[Path]:
    """Return the folders in which submissions are, whole or not."""
    return sorted(path for path in submissions.glob("*") if path.is_dir() and not path.name.startswith((".", "_")))


def _runs(recipe: Recipe, *, trust: bool) -> list[Finding]:
    if recipe.own_code is not None and not trust:
        note = f"not run: {recipe.own_code.file} is code; read it, then --trust"
        return [Finding(name="own steps", holds=None, text=note), Finding(name="mock run", holds=None, text=note)]
    from bench.load.own_steps import own_steps
    from bench.submit.rehearsal import rehearse, rehearse_step

    findings: list[Finding] = []
    try:
        with own_steps(recipe):
            for position, table in enumerate(recipe.steps):
                if recipe.is_own(table["step"]):
                    findings.append(_asked(table["step"], partial(rehearse_step, recipe, position)))
            findings.append(_asked("mock run", partial(rehearse, recipe)))
    except BenchError as error:
        findings.append(Finding(name="own steps", holds=False, text=str(error)))
    return findings


def _asked(what: str, question: Callable[[], str]) -> Finding:
    try:
        return Finding(name=what, holds=True, text=question())
    except BenchError as error:
        return Finding(name=what, holds=False, text=str(error))


def _name(folder: Path) -> str:
    if not folder.is_dir():
        raise UsageError(f"There is no folder {folder}.")
    check_name(folder.name)
    return folder.name


def _card(card: Card) -> str:
    return f"{card.title}; {card.licence}"


def _claim(card: Card) -> str:
    claim = card.claim
    if claim is None:
        return "none"
    track = load_track(claim.track)
    if claim.track not in card.tracks:
        raise UsageError(
            f"Expected a claim under one of the card's tracks, {', '.join(card.tracks)}, got {claim.track}."
        )
    if claim.n > track.n_examples:
        raise UsageError(f"Expected a claim on at most {track.n_examples:,} images of {claim.track}, got {claim.n:,}.")
    return f"robust {claim.robust} %, clean {claim.clean} % under {claim.attack}"


def _pins(recipe: Recipe) -> str:
    told = []
    if recipe.track:
        told.append(load_track(recipe.track).name)
    if recipe.model:
        told.append(str(ModelSpec.parse(recipe.model)))
    if recipe.seeds:
        told.append(f"seeds {', '.join(map(str, recipe.seeds))}")
    return ", ".join(told) or "none"
