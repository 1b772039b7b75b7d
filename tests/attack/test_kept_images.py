"""The images that decided verdicts: one for each that fell, those that the judge saw, whatever interrupts."""

import pytest
import torch
from small_classifiers import LINF, linear_task
from test_driver import BRIEF, Curved, examples, run, trial

from bench.attack import driver
from bench.attack.beyond import out_of_reach
from bench.attack.driver import BenchEngine
from bench.attack.field import Room
from bench.attack.judge import show
from bench.run.album import FileAlbum
from bench.run.journal import FileJournal
from bench.verdicts import AUTOATTACK, LETTERS, STANDING


def kept(trial, letters: str) -> dict[int, torch.Tensor]:
    """Return each fallen image's, and check that it is kept under the attack whose letter it has."""
    found = {}
    for attack, letter in zip(AUTOATTACK, LETTERS, strict=False):
        for number, image in trial.album.load(attack).items():
            if letters[number] == letter:
                found[number] = torch.from_numpy(image)
    return found


def check(trial, letters: str) -> None:
    """Every fallen image has one that is allowed, and that fools when it is shown again, all at once."""
    found = kept(trial, letters)
    assert sorted(found) == [i for i, letter in enumerate(letters) if letter not in ".x"]
    numbers, images = sorted(found), torch.stack([found[number] for number in sorted(found)])
    originals, labels = trial.batch(numbers)
    assert trial.threat.contains(images, originals).all()
    assert not show(trial.subject, images, labels).standing.any()


@pytest.mark.parametrize("norm", ["Linf", "L2"])
def test_each_fallen_image_is_kept_as_the_judge_saw_it(tmp_path, norm):
    made = trial(norm=norm, album=FileAlbum(tmp_path))
    outcome = run(made)
    assert outcome == run(trial(norm=norm))
    check(made, outcome.letters)


def test_the_reference_keeps_them_too(tmp_path, short_reference):
    model, images, _ = linear_task(LINF)
    made = trial(short_reference, model, threat=LINF, examples=images, n_classes=4, album=FileAlbum(tmp_path))
    letters = run(made).letters
    assert 0 < letters.count(STANDING) < len(letters)
    check(made, letters)


@pytest.mark.parametrize("at", [5, 30, 70])
def test_an_interruption_loses_no_image(tmp_path, monkeypatch, at):
    monkeypatch.setattr(driver, "SAVE_EVERY_S", 0.0)
    model = Curved()
    outcome = run(trial())
    journal = tmp_path / "cut.json"
    cut = trial(BenchEngine(room=Room.of(6), budget=BRIEF), model=model, album=FileAlbum(FileJournal(journal).images))
    cut.subject.twin.stop_at = at
    with pytest.raises(KeyboardInterrupt):
        run(cut, FileJournal(journal))
    again = trial(album=FileAlbum(FileJournal(journal).images))
    assert run(again, FileJournal(journal)) == outcome
    check(again, outcome.letters)


def test_images_that_fell_while_nobody_kept_them_fall_again_and_are_counted_once(tmp_path):
    journal = tmp_path / "journal.json"
    outcome = run(trial(), FileJournal(journal))
    late = trial(album=FileAlbum(FileJournal(journal).images))
    assert run(late, FileJournal(journal)) == outcome
    check(late, outcome.letters)


def test_a_journal_that_is_forgotten_takes_the_images_with_it(tmp_path):
    journal = FileJournal(tmp_path / "journal.json")
    run(trial(album=FileAlbum(journal.images)), journal)
    assert journal.images.is_dir()
    journal.forget()
    assert not any(tmp_path.iterdir())


def test_images_from_beyond_the_radius_are_not_kept(tmp_path):
    made = trial(examples=examples(40), album=FileAlbum(tmp_path))
    outcome = run(made)
    assert outcome.letters.count(STANDING) >= 4
    before = sorted(tmp_path.iterdir())
    out_of_reach(made, outcome)
    made.album.save("beyond")
    assert sorted(tmp_path.iterdir()) == before
