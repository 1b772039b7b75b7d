"""Options of the loop: schedules, averages, checks, and training that is interrupted."""

import math

import pytest
import torch

from bench.errors import UsageError
from bench.finetune import loop, watch
from bench.finetune.adversarial import FinetuneAdversarial
from bench.finetune.augment import augment
from bench.finetune.average import Average
from bench.finetune.clean import FinetuneClean
from bench.finetune.descent import Descent
from bench.finetune.fast import FinetuneFast
from bench.finetune.watch import Check

EVERYTHING = {"average": 0.9, "crop": 1, "flip": True, "holdout": 9, "keep": "best", "schedule": "one-cycle"}


def same(left, right) -> bool:
    left, right = left.twin.state_dict(), right.twin.state_dict()
    return all(torch.equal(left[name], right[name]) for name in left)


def test_schedules_at_known_points():
    rates = {
        name: [Descent(learning_rate=1.0, schedule=name).rate(step, 100) for step in range(100)]
        for name in ("constant", "step", "cosine", "one-cycle")
    }
    assert rates["constant"] == [1.0] * 100
    assert [rates["step"][at] for at in (0, 49, 50, 74, 75, 99)] == pytest.approx([1, 1, 0.1, 0.1, 0.01, 0.01])
    assert rates["cosine"][50] == pytest.approx(0.5)
    assert max(rates["one-cycle"]) == 1.0
    assert rates["one-cycle"].index(1.0) in (29, 30)
    assert min(rates["one-cycle"]) > 0


def test_an_average_follows_with_its_decay(tiny):
    model = tiny()
    average = Average(model, 0.5)
    average.steps = 1000
    old = model[-1].weight.detach().clone()
    with torch.no_grad():
        model[-1].weight.add_(1.0)
    average.update(model)
    assert torch.allclose(average.network[-1].weight, old + 0.5)
    assert not average.network.training


def test_crops_are_windows_and_flips_are_mirrors():
    images = torch.arange(1, 65.0).view(1, 1, 8, 8).repeat(40, 1, 1, 1)
    generator = torch.Generator().manual_seed(0)
    padded = torch.nn.functional.pad(images[:1], (2, 2, 2, 2))
    windows = [padded[..., row : row + 8, column : column + 8][0] for row in range(5) for column in range(5)]
    cropped = augment(images, generator, crop=2, flip=False)
    assert all(any(torch.equal(image, window) for window in windows) for image in cropped)
    assert len({tuple(image.flatten().tolist()) for image in cropped}) > 10
    flipped = augment(images, generator, crop=0, flip=True)
    mirrored = [torch.equal(image, images[0].flip(2)) for image in flipped]
    assert all(flip or torch.equal(image, images[0]) for flip, image in zip(mirrored, flipped, strict=True))
    assert 5 < sum(mirrored) < 35
    assert augment(images, generator, crop=0, flip=False) is images


@pytest.mark.parametrize("options", [{}, EVERYTHING], ids=["defaults", "everything"])
@pytest.mark.parametrize("optimizer", ["sgd", "adamw"])
def test_interrupted_training_gives_the_same_weights(pupil, given, tmp_path, options, optimizer):
    """Promise of `train`."""
    step = FinetuneAdversarial(epochs=3, batch_size=6, attack_steps=1, optimizer=optimizer, **options)
    whole = given()
    expected = step(pupil, whole)

    def interrupt(event) -> None:
        if event.done == 26:  # an epoch has 16 steps, or 14
            raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        step(pupil, given(report=interrupt, checkpoints=tmp_path / "0"))
    events = []
    resumed = given(report=events.append, checkpoints=tmp_path / "0")
    assert same(step(pupil, resumed), expected)
    assert events[0].note.startswith(f"goes on after step {14 if options else 16} ")
    assert resumed.meter == whole.meter
    assert torch.equal(resumed.generator.get_state(), whole.generator.get_state())
    again = given(checkpoints=tmp_path / "0")
    assert same(step(pupil, again), expected)


def test_a_damaged_checkpoint_is_no_checkpoint(pupil, given, tmp_path):
    step = FinetuneClean(epochs=1, batch_size=32)
    (tmp_path / "epoch.pt").write_bytes(b"half a file")
    assert same(step(pupil, given(checkpoints=tmp_path)), step(pupil, given()))


def checks(monkeypatch, *seen: Check) -> None:
    answers = iter(seen)
    monkeypatch.setattr(watch, "check", lambda *arguments: next(answers))


def robust(value: float) -> Check:
    return Check(clean=0.9, single=value, robust=value)


def test_the_best_epoch_is_kept_and_patience_ends(pupil, given, monkeypatch):
    checks(monkeypatch, robust(0.3), robust(0.5), robust(0.4), robust(0.4))
    ingredients, events = given(), []
    settings = {"batch_size": 29, "holdout": 9, "schedule": "constant"}
    step = FinetuneAdversarial(epochs=9, attack_steps=1, ramp=0.0, keep="best", patience=2, **settings)
    found = step(pupil, given(report=events.append))
    assert events[-1].note == "stopped: no epoch since 2 was better"
    checks(monkeypatch, robust(0.3), robust(0.5))
    assert same(found, FinetuneAdversarial(epochs=2, attack_steps=1, ramp=0.0, **settings)(pupil, ingredients))


def test_catastrophic_overfitting_goes_back_to_the_epoch_before(pupil, given, monkeypatch):
    lost = Check(clean=0.9, single=0.85, robust=0.01)
    settings = {"batch_size": 29, "schedule": "constant", "ramp": 0.0}
    checks(monkeypatch, robust(0.3), lost)
    events = []
    ingredients = given(report=events.append)
    found = FinetuneFast(epochs=9, **settings)(pupil, ingredients)
    assert events[-1].note.startswith("catastrophic overfitting in epoch 2: 85.0% withstand one step, 1.0% withstand")
    assert events[-1].note.endswith("back to the network of epoch 1")
    assert ingredients.meter.images == 2 * 87
    checks(monkeypatch, robust(0.3))
    assert same(found, FinetuneFast(epochs=1, **settings)(pupil, given()))
    checks(monkeypatch, robust(0.3), lost, lost)
    reported = given()
    FinetuneFast(epochs=3, on_collapse="report", **settings)(pupil, reported)
    assert reported.meter.images == 3 * 87


def test_a_loss_that_is_not_finite_keeps_the_last_good_epoch(tiny, given):
    model, states = tiny(), []

    def objective(network, images, labels, done):
        if len(states) < 4:
            states.append({name: value.clone() for name, value in network.state_dict().items()})
        loss = network(images).square().mean()
        return loss if done < 0.4 else loss * math.nan

    ingredients = given()
    with pytest.raises(UsageError, match=r"loss is nan at step \d; .*The network of epoch 1 is the last good one"):
        loop.train(
            model,
            ingredients.train,
            objective,
            Descent(batch_size=32),
            images=3 * 96,
            generator=ingredients.generator,
            device=ingredients.device,
            report=ingredients.report,
            stage="",
        )
    assert all(torch.equal(value, states[3][name]) for name, value in model.state_dict().items())
    assert not model.training


def test_the_held_out_images_are_the_same_for_every_step(given):
    examples = given().train
    kept, held = loop.hold_out(examples, 512)
    assert (len(kept), len(held)) == (87, 9)
    assert torch.equal(loop.hold_out(examples, 512)[1].images, held.images)
    assert loop.hold_out(examples, 0) == (examples, None)


def test_bfloat16_trains_and_leaves_float32_weights(pupil, given):
    twin = FinetuneAdversarial(epochs=1, batch_size=32, attack_steps=1, precision="bf16")(pupil, given()).twin
    exact = FinetuneAdversarial(epochs=1, batch_size=32, attack_steps=1)(pupil, given()).twin
    assert all(weight.dtype == torch.float32 for weight in twin.parameters())
    assert not torch.equal(twin[-1].weight, exact[-1].weight)
    assert torch.allclose(twin[-1].weight, exact[-1].weight, atol=0.01)


@pytest.mark.parametrize("setting", [{"keep": "best"}, {"patience": 2}])
def test_choosing_an_epoch_needs_images_held_out(setting):
    with pytest.raises(UsageError, match="set holdout"):
        FinetuneClean(**setting)


@pytest.mark.parametrize("setting", [{"average": 1.0}, {"label_smoothing": -0.1}, {"crop": -1}, {"patience": 0}])
def test_options_out_of_range_are_refused(setting):
    with pytest.raises(UsageError, match=f"expected .*{next(iter(setting))}"):
        FinetuneClean(**setting)
