"""THE LINE: load → compress → fine-tune → attack → judge → measure → record."""

from __future__ import annotations

import dataclasses
from collections.abc import Callable, Iterator, Sequence
from contextlib import AbstractContextManager, nullcontext
from pathlib import Path

from bench.attack.alarms import uncounted
from bench.attack.engine import Trial
from bench.attack.engines import new_engine
from bench.budget import check_budget
from bench.compress.export import deploy
from bench.contract import digest_of_weights
from bench.dataset import TEST_SETS
from bench.effort import Effort
from bench.entry import Entry
from bench.files import locked
from bench.load.datasets import load_dataset
from bench.machine.device import deployed_threads, device_name, pick_device
from bench.machine.tensor_float import forbid_tensor_float
from bench.model import Subject
from bench.parent import load_parent
from bench.pgd20 import after_pgd20, beats_the_suite, pgd20
from bench.plugins import packages_of
from bench.prepare import MODEL, prepare, publish
from bench.progress import Event, Report
from bench.provenance import here
from bench.replacing import refuse_another, refuse_to_forget
from bench.request import Request
from bench.run.album import FileAlbum
from bench.run.journal import FileJournal
from bench.stages import (
    Clock,
    attack,
    compare_twin,
    compare_under_attack,
    keep_evidence,
    measure,
    open_journal,
    raise_alarms,
    recipe_record,
    stand_trial,
)
from bench.verdicts import Proportion, Verdicts


def evaluate(request: Request, board: Path, report: Report) -> Entry:
    """Measure one recipe on one model under one track, and save the entry under `board`.

    Raises:
        BenchError: anything the user can mend, before the long work where possible.
    """
    (entry,) = evaluate_each([request], board, lambda: nullcontext(report))
    return entry


def evaluate_each(
    requests: Sequence[Request], board: Path, watch: Callable[[], AbstractContextManager[Report]]
) -> Iterator[Entry]:
    """Evaluate one request after the other; yield each entry when it is saved.

    What was judged is forgotten when all are done, so that the same requests, interrupted, go on with the unfinished
    one: for those before it the letters are on record.
    """
    journals = []
    for request in requests:
        with watch() as report:
            entry, journal = _evaluate(request, board, report)
        journals.append(journal)
        yield entry
    for journal in journals:
        journal.forget()


def _evaluate(request: Request, board: Path, report: Report) -> tuple[Entry, FileJournal]:
    """Take one request down the line."""
    track, device, clock = request.track, pick_device(request.device), Clock()
    forbid_tensor_float()
    declared, engine = (
        request.recipe.declared(),
        new_engine(request.engine, batch_size=request.batch_size, device=device),
    )

    with clock.stage("load"):
        report(Event(stage="load", note=f"{request.model} on {track.dataset}"))
        dataset = load_dataset(track.dataset)
        if TEST_SETS.get(dataset.name, dataset.test.digest) != dataset.test.digest:
            report(Event(stage="load", note=f"other test images than everybody's {dataset.name}: not to be ranked"))
        check_budget(request.recipe, len(dataset.train), track.finetune_images)
        examples = dataset.test.first(request.images)
        place = board / track.name / f"{dataclasses.replace(request, n_examples=len(examples)).name}.json"
        refuse_another(place, track, request.recipe.name, declared, request.recipe.own_code)
        refuse_to_forget(place)
        if len(dataset.test) < track.n_examples:
            short = f"{len(dataset.test):,} test images, and {track.name} asks for {track.n_examples:,}: a partial row"
            report(Event(stage="load", note=short))
        parent = load_parent(request, dataset, device, report)

    made = prepare(request, parent, dataset, device, report)
    subject = made.subject
    clock.seconds["compress and fine-tune"] = made.seconds

    with clock.stage("deploy"):
        report(Event(stage="deploy"))
        artefact = deploy(subject, dataset.image_shape, threads=deployed_threads(device))
        parent_artefact = deploy(Subject.of(parent), dataset.image_shape)
        accused = stand_trial(subject, artefact, compressed=bool(made.steps))
        agrees = compare_twin(accused, artefact, examples, device)

    with clock.stage("attack"):
        trial = Trial(
            subject=accused,
            examples=examples,
            threat=track.threat,
            n_classes=dataset.n_classes,
            seed=track.seed,
            device=device,
            engine=engine,
        )
        journal = open_journal(request, trial, artefact, made.digest)
        clock.seconds["attack"] = journal.spent
        # A row that was published with its model and images is published with the new ones.
        published = place.with_name(f"{place.stem}{MODEL}")
        keep = request.keep or (place.parent if published.is_dir() else None)
        album = FileAlbum(journal.images) if keep else None
        trial = dataclasses.replace(trial, album=album)
        outcome = attack(trial, track.suite, journal=journal, report=report)
        report(Event(stage="pgd-20, alarms"))
        stand_pgd20 = pgd20(trial)
        raised = raise_alarms(trial, outcome, agrees)
        agrees = compare_under_attack(agrees, trial, outcome)
        outcome = after_pgd20(outcome, stand_pgd20)
        raised += beats_the_suite(outcome)

    with clock.stage("measure"):
        report(Event(stage="measure"))
        efficiency, parent_efficiency = measure(subject, artefact, parent_artefact, dataset)
        raised += uncounted(efficiency.macs)

    entry = Entry(
        track=track,
        recipe=recipe_record(request.recipe, made),
        model=str(request.model),
        seed=request.seed,
        sealed=made.digest,
        test_set=dataset.test.digest,
        parent_weights=digest_of_weights(parent),
        engine=engine.name,
        verdicts=Verdicts.of(attacks=outcome.attacks, letters=outcome.letters, alarms=raised),
        pgd20=Proportion(count=sum(stand_pgd20), total=len(stand_pgd20)),
        agreement=agrees,
        efficiency=efficiency,
        parent=parent_efficiency,
        effort=Effort(
            finetune_forward=made.meter.forward,
            finetune_backward=made.meter.backward,
            attack_forward=sum(record.forward for record in outcome.records.values()),
            attack_backward=sum(record.backward for record in outcome.records.values()),
            seconds=clock.seconds,
            finetune_seconds=round(made.meter.seconds, 2),
            finetune_peak_bytes=made.meter.peak_bytes,
            train_images=len(dataset.train),
        ),
        provenance=here(device_name(device), packages_of(step["step"] for step in made.steps)),
        claim=request.claim,
    )
    with locked(board):
        # Another's entry may have come meanwhile, or a challenge, whose row keeps its images, too.
        refuse_another(place, track, entry.recipe.name, entry.recipe.steps, entry.recipe.own_code)
        refuse_to_forget(place, entry)
        if album is not None and keep is not None:
            entry = entry.changed(evidence=keep_evidence(entry, album, examples, keep))
        if published.is_dir():
            publish(entry, published)
        entry.save(board)
    return entry, journal
