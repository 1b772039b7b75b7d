"""The whole attack of an entry once more, letter by letter."""

from __future__ import annotations

from dataclasses import replace

import torch
from torch import Tensor

from bench.attack.engines import new_engine
from bench.attack.suites import SQUARE_AGAIN
from bench.audit.retrial import stand_again
from bench.compress.export import deploy
from bench.compress.sealed import Sealed
from bench.entry import Entry
from bench.load.datasets import load_dataset
from bench.model import ModelSpec, Subject
from bench.parent import load_parent
from bench.pgd20 import NAME as PGD20
from bench.pgd20 import after_pgd20, pgd20
from bench.progress import Report
from bench.recipe import Recipe
from bench.request import Request
from bench.run.album import FileAlbum
from bench.scrutiny import Finding
from bench.stages import attack, compare_twin, count_cost, open_journal, raise_alarms
from bench.verdicts import LEVEL, STANDING, mcnemar


def repeat(
    entry: Entry, sealed: Sealed, device: torch.device, report: Report, *, trust: bool
) -> tuple[list[Finding], dict[int, Tensor]]:
    """Attack every image again, as the entry says it was done, and compare letters; interrupted, it goes on.

    The parent takes part: its images are one of the attacks, and its cost stands in the entry. Without CUDA a search in
    TensorFloat-32 is repeated in full precision.

    Returns:
        The findings, and by number the images that brought down what is robust on record.
    """
    attacker = "bench" if entry.attacker == "bench-tf32" and device.type != "cuda" else entry.attacker
    recipe = Recipe(name=entry.recipe.name, summary=entry.recipe.summary, steps=entry.recipe.steps)
    request = Request(
        recipe=recipe, track=entry.track, model=ModelSpec.parse(entry.model), n_examples=len(entry.verdicts.letters),
        seed=entry.seed, device=str(device), trust=trust, engine=attacker,
    )  # fmt: skip
    dataset = load_dataset(entry.track.dataset)
    parent = load_parent(request, dataset, device, report)
    retrial = stand_again(entry, sealed, device, parent if entry.recipe.steps else None)
    trial = replace(retrial.trial, engine=new_engine(attacker))
    journal = open_journal(request, trial, retrial.artefact, entry.sealed, purpose="verify")
    album = FileAlbum(journal.images)
    trial = replace(trial, album=album)
    outcome = attack(trial, entry.track.suite, journal=journal, report=report)
    agrees = compare_twin(trial.subject, retrial.artefact, trial.examples, device)
    raised = {alarm.name for alarm in raise_alarms(trial, outcome, agrees) if alarm.fatal}
    if PGD20 in entry.verdicts.attacks:
        outcome = after_pgd20(outcome, pgd20(trial))
    fallen = album.deciding(outcome.attacks, outcome.letters)
    journal.forget()
    stated = {alarm.name for alarm in entry.verdicts.alarms if alarm.fatal}
    own = deploy(Subject.of(parent), dataset.image_shape)
    cost = count_cost(parent, own, dataset)
    findings = [
        _letters(entry, outcome.attacks, outcome.letters),
        Finding(
            name="alarms again",
            holds=raised <= stated,
            text=f"fatal here: {', '.join(sorted(raised)) or 'none'}; on record: {', '.join(sorted(stated)) or 'none'}",
        ),
        Finding(
            name="parent",
            holds=(cost.macs, cost.bops) == (entry.parent.macs, entry.parent.bops),
            text=f"{cost.macs:,} MACs, {cost.bops:,} BOPs; on record {entry.parent.macs:,}, {entry.parent.bops:,}",
        ),
    ]  # fmt: skip
    return findings, {number: image for number, image in fallen.items() if entry.verdicts.letters[number] == STANDING}


def _letters(entry: Entry, attacks: tuple[str, ...], letters: str) -> Finding:
    stated = entry.unchallenged
    if _but_again(attacks) != _but_again(stated.attacks):
        text = f"the suite is {', '.join(attacks)} here, and {', '.join(stated.attacks)} on record"
        return Finding(name="letters", holds=False, text=text)
    differing = sum(ours != theirs for ours, theirs in zip(letters, stated.letters, strict=True))
    p = mcnemar(letters, stated.letters)
    text = (
        f"{differing:,} of {len(letters):,} letters differ; {letters.count(STANDING):,} images robust here, "
        f"{stated.robust.count:,} on record (McNemar p = {p:.2g})"
    )
    return Finding(name="letters", holds=p >= LEVEL, text=text)


def _but_again(attacks: tuple[str, ...]) -> tuple[str, ...]:
    """Leave out the further runs of Square: an image more or less on another machine decides whether there are any."""
    return tuple(attack for attack in attacks if attack not in SQUARE_AGAIN)
