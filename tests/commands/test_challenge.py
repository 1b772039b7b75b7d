"""Images that hold change letters; each of the others is counted and named."""

import json

import numpy as np
import pytest
import torch
from scrutinised import NAME, SHAPE, TRACK, N
from torch import nn

from bench.compress.sealed import seal
from bench.entry import load_entry
from bench.run.journal import FileJournal
from bench.verdicts import STANDING


def stronger(world, numbers: list[int], restarts: int = 4, steps: int = 20) -> torch.Tensor:
    """Plain PGD from many starts (Madry et al., 2018), each image the first that fools; not of the bench's attacks."""
    trial, eps = world["trial"], float(TRACK.eps)
    clean, labels = trial.batch(numbers)
    found, generator = clean.clone(), torch.Generator().manual_seed(0)
    open_ = torch.ones(len(numbers), dtype=torch.bool)
    for _ in range(restarts):
        point = (clean + eps * (2 * torch.rand(clean.shape, generator=generator) - 1)).clamp(0, 1)
        for _ in range(steps):
            point.requires_grad_()
            logits = trial.subject.twin(point)
            fooled = open_ & (logits.argmax(1) != labels)
            found[fooled], open_ = point.detach()[fooled], open_ & ~fooled
            (gradient,) = torch.autograd.grad(nn.functional.cross_entropy(logits, labels, reduction="sum"), point)
            ahead = point.detach() + eps / 8 * gradient.sign()
            point = torch.minimum(torch.maximum(ahead, clean - eps), clean + eps).clamp(0, 1)
    return found


def test_a_stronger_attack_changes_letters_and_the_new_entry_is_verified(run, place, weak, world, tmp_path):
    path = place(weak)
    before = load_entry(path)
    standing = [i for i, letter in enumerate(before.verdicts.letters) if letter == STANDING]
    np.savez(tmp_path / "mine.npz", images=stronger(world, standing).numpy(), indices=np.array(standing))
    url = "https://example.org/pgd"
    for by, reference in (("", url), ("bench verify", url), ("A\x1b[31m", url), ("A. Nobody", "javascript:alert(1)")):
        given = ["--by", by, "--reference", reference]
        assert run("challenge", NAME, str(tmp_path / "mine.npz"), *given)[0] == 2
    code, out, err = run("challenge", NAME, str(tmp_path / "mine.npz"), "--by", "A. Nobody", "--reference", url)
    assert code == 0, err
    after = load_entry(path)
    (record,) = after.challenges
    assert record.held >= 3
    assert f"{record.held} holds" in out
    assert f"robust on {len(standing) - record.held} of {N} images instead of {len(standing)}" in out
    assert (record.attack, record.by, record.reference) == ("challenge:A.-Nobody", "A. Nobody", url)
    assert (record.submitted, after.verdicts.robust.count) == (len(standing), len(standing) - record.held)
    assert after.verdicts.attacks == (*before.verdicts.attacks, "challenge:A.-Nobody")
    assert after.verdicts.autoattack == before.verdicts.autoattack
    assert after.unchallenged == before.verdicts
    code, out, _ = run("verify", NAME, "--sample", "0")
    assert code == 0, out
    assert load_entry(path).status == "verified"

    # The same again changes nothing; what another finds later has a letter of its own.
    assert "Nothing holds" in run("challenge", NAME, str(tmp_path / "mine.npz"), "--by", "A. Nobody")[1]
    assert load_entry(path).status == "verified"


def test_images_of_another_run_are_read_as_they_were_kept(run, place, weak, honest):
    path = place(weak)
    file = honest[1] / f"{NAME}.adversarial.npz"
    assert run("challenge", NAME, str(file), "--by", "them", "--dry-run")[0] == 0
    assert load_entry(path) == weak[0]
    _, out, _ = run("challenge", NAME, str(file), "--by", "them", "--json")
    fates, after = json.loads(out)["fates"], load_entry(path)
    fell = lambda entry: {i for i, letter in enumerate(entry.verdicts.letters) if letter not in ".x"}  # noqa: E731
    assert set(fates["already fallen"]) == fell(weak[0]) & fell(honest[0])
    assert set(fates["holds"]) == fell(honest[0]) - fell(weak[0])
    assert fell(after) == fell(weak[0]) | fell(honest[0])
    assert after.challenges[0].held == len(fates["holds"])


def test_every_image_that_does_not_hold_is_counted_and_named(run, place, weak, world, tmp_path):
    entry = weak[0]
    path = place(weak)
    letters, trial = entry.verdicts.letters, world["trial"]
    standing = [i for i, letter in enumerate(letters) if letter == STANDING]
    good = stronger(world, standing)
    labels = trial.examples.labels[standing]
    fooling = next(i for i, ok in enumerate(trial.subject.twin(good).argmax(1) != labels) if ok)
    first, target = good[fooling], standing[fooling]
    clean = trial.examples.pixels()
    fallen, wrong = letters.index("a"), letters.index("x")
    rows = [
        (first, target, "holds"), (first, target, "more of the same"), (first, N, "wrong index"),
        (first, -1, "wrong index"), (clean[fallen], fallen, "already fallen"),
        (clean[wrong], wrong, "wrong without any attack"), (first / 0, target, "not finite"),
        (clean[target] - 0.1, target, "outside the box"), (1 - clean[target], target, "outside the ball"),
        (clean[standing[0]], standing[0], "not fooling"),
    ]  # fmt: skip
    assert clean[target].min() < 0.1
    torch.save(
        {"images": torch.stack([image for image, _, _ in rows]), "indices": torch.tensor([i for _, i, _ in rows])},
        tmp_path / "mine.pt",
    )
    _, out, _ = run("challenge", NAME, str(tmp_path / "mine.pt"), "--by", "me", "--json")
    expected = {}
    for _, number, fate in rows:
        expected.setdefault(fate, []).append(number)
    assert {fate: found for fate, found in json.loads(out)["fates"].items() if found} == expected
    assert load_entry(path).challenges[0].submitted == len(rows)


def test_a_little_beyond_the_ball_is_outside_and_rounding_is_not(run, place, weak, world, tmp_path):
    place(weak)
    numbers = [i for i, letter in enumerate(weak[0].verdicts.letters) if letter == STANDING]
    good, (clean, _) = stronger(world, numbers), world["trial"].batch(numbers)
    away = good - clean
    for beyond, outside in ((5e-7, False), (5e-6, True)):
        farther = clean + away.sign() * (away.abs() + (away.abs() > 0.1499) * beyond)
        np.savez(tmp_path / "mine.npz", images=farther.clamp(0, 1).numpy(), indices=np.array(numbers))
        out = run("challenge", NAME, str(tmp_path / "mine.npz"), "--by", "me", "--dry-run", "--json")[1]
        assert bool(json.loads(out)["fates"]["outside the ball"]) == outside


def test_one_image_for_each_test_image_needs_no_indices_and_bytes_are_divided_by_255(
    run, place, honest, world, tmp_path
):
    path = place(honest)
    np.savez(tmp_path / "mine.npz", images=world["trial"].examples.images.numpy())
    code, out, _ = run("challenge", NAME, str(tmp_path / "mine.npz"), "--by", "me")
    assert code == 0
    assert f"{honest[0].verdicts.robust.count} not fooling" in out
    assert "Nothing holds" in out
    assert load_entry(path) == honest[0]


@pytest.mark.parametrize(
    ("arrays", "sentence"),
    [
        ({"images": np.zeros((3, 8, 8), np.float32)}, r"Expected images of shape (N, 1, 8, 8), got (3, 8, 8)"),
        ({"images": np.zeros((3, 1, 8, 8), np.float32)}, "has 3 images and no 'indices'"),
        ({"images": np.zeros((3, 1, 8, 8), np.int64)}, "as floats in [0, 1] or as uint8"),
        ({"images": np.zeros((2, 1, 8, 8)), "indices": np.zeros(2)}, "'indices' to be 2 whole numbers"),
        ({"images": np.zeros((2, 1, 8, 8)), "indices": np.zeros(3, int)}, "'indices' to be 2 whole numbers"),
        ({"pictures": np.zeros((2, 1, 8, 8))}, "under the name 'images'"),
        ({"images": np.array([{"a": 1}], dtype=object)}, "is not an .npz file of plain arrays"),
    ],
)
def test_a_file_of_another_form_is_refused_in_a_sentence(run, place, honest, tmp_path, arrays, sentence):
    place(honest)
    np.savez(tmp_path / "mine.npz", **arrays)
    code, out, err = run("challenge", NAME, str(tmp_path / "mine.npz"), "--by", "me")
    assert (code, out) == (2, "")
    assert sentence in err


def test_no_pickle_is_opened(run, place, honest, tmp_path):
    place(honest)
    torch.save({"images": torch.zeros(2, 1, 8, 8), "more": FileJournal(tmp_path / "x")}, tmp_path / "mine.pt")
    code, _, err = run("challenge", NAME, str(tmp_path / "mine.pt"), "--by", "me")
    assert code == 2
    assert "is not a .pt file of tensors alone" in err


def test_a_missing_file_and_another_model_are_named(run, place, honest, tmp_path, world, parent):
    place(honest)
    assert run("challenge", NAME, str(tmp_path / "none.npz"), "--by", "me")[0] == 3
    seal(parent, SHAPE, {}, world["root"] / "other")
    np.savez(tmp_path / "mine.npz", images=np.zeros((N, 1, 8, 8)))
    code, _, err = run("challenge", NAME, str(tmp_path / "mine.npz"), "--by", "me", model="other")
    assert code == 2
    assert f"Expected the model of {NAME}" in err
