import copy
import dataclasses

import pytest
import torch
from small_networks import SHAPE, train

import bench.compress.quantize
from bench.compress.fake_quant import ActivationQuantizer, is_quantized
from bench.compress.prune_channels import PruneChannels
from bench.compress.quantize import Quantize
from bench.compress.trace import trace
from bench.errors import UsageError


def accuracy(model, examples):
    return (model(examples.pixels()).argmax(1) == examples.labels).float().mean().item()


def input_gradient(model, images):
    images = images.clone().requires_grad_(True)
    weights = torch.randn(4, generator=torch.Generator().manual_seed(3))
    (model(images) * weights).sum().backward()
    return images.grad


def test_eight_bits_keep_the_accuracy(either, ingredients, examples):
    twin = Quantize()(either, ingredients()).twin
    assert is_quantized(twin)
    assert accuracy(either.parent, examples) > 0.9
    assert accuracy(twin, examples) >= accuracy(either.parent, examples) - 0.01


def test_no_pixel_loses_its_gradient(either, ingredients, unseen):
    images = torch.cat([unseen[:20], torch.zeros(1, *SHAPE), torch.ones(1, *SHAPE)])
    assert ((images == 0) | (images == 1)).float().mean() > 0.2
    twin = Quantize()(either, ingredients()).twin
    ours, float32 = input_gradient(twin, images), input_gradient(either.parent, images)
    assert (ours != 0).float().mean() == pytest.approx((float32 != 0).float().mean().item(), abs=1e-3)
    assert torch.cosine_similarity(ours[:20].flatten(), float32[:20].flatten(), 0) > 0.9


def test_range_of_normalised_pixels_is_that_of_the_box_not_of_the_data(conv, ingredients):
    twin = Quantize()(conv, ingredients()).twin
    pixels = [m for m in twin.modules() if isinstance(m, ActivationQuantizer) and m.pixels]
    image, normalised = sorted(pixels, key=lambda quantizer: quantizer.scale.item())
    assert image.scale.item() == pytest.approx(1 / 255)
    assert image.zero_point == 0
    low, high = (normalised.scale * (level - normalised.zero_point) for level in (0, 255))
    assert -2.45 < low <= -0.6 / 0.25
    assert 0.6 / 0.25 <= high < 2.45


def test_logits_of_an_image_do_not_depend_on_its_batch(either, ingredients, unseen):
    twin = Quantize()(either, ingredients()).twin
    with torch.no_grad():
        together, alone = twin(unseen[:40]), torch.cat([twin(image[None]) for image in unseen[:40]])
        extreme = twin(torch.cat([unseen[:1], 50 * unseen[1:2]]))[:1]
    # Float32 sums in another order may move a value by one step; nothing else may.
    assert (together - alone).abs().max() < 0.02 * together.abs().max()
    assert torch.allclose(extreme, alone[:1], atol=0.02 * together.abs().max().item())


@pytest.mark.parametrize(
    ("weight_bits", "activation_bits"),
    [(2, 2), (3, 3), (4, 4), (6, 6), (8, 8), (16, 16), (1, 8), (1, 1), (4, 8), (8, 4)],
)
def test_every_bit_width_can_be_trained(conv, ingredients, examples, weight_bits, activation_bits):
    step = Quantize(weight_bits=weight_bits, activation_bits=activation_bits, first_last_bits=8, range="percentile")
    twin = step(conv, ingredients()).twin
    before = copy.deepcopy(twin.state_dict())
    losses = train(twin.train(), examples, 24)
    assert torch.tensor(losses).isfinite().all()
    assert sum(losses[-4:]) <= max(sum(losses[:4]), 0.4)
    changed = {name for name, value in twin.state_dict().items() if not torch.equal(value, before[name])}
    norms = {name for name in before if name.endswith(("running_mean", "running_var", "num_batches_tracked"))}
    assert len(norms) == 6
    assert changed == {name for name, _ in twin.named_parameters()} | norms
    assert (input_gradient(twin.eval(), examples.pixels(slice(8))) != 0).float().mean() > 0.5


def test_sixteen_bits_are_nearly_float(either, ingredients, examples):
    twin = Quantize(weight_bits=16, activation_bits=16)(either, ingredients()).twin
    images = examples.pixels(slice(100))
    ours, theirs = twin(images), either.parent(images)
    assert (ours - theirs).norm() < 1e-2 * (theirs - theirs.mean(0)).norm()


def test_first_and_last_layer_have_their_own_bits(conv, ingredients):
    twin = Quantize(weight_bits=2, activation_bits=3, first_last_bits=6)(conv, ingredients()).twin
    bits = {name.removeprefix("quantizers."): m.bits for name, m in twin.named_modules() if hasattr(m, "bits")}
    weights = [value for name, value in bits.items() if name.endswith("_weight")]
    assert weights == [6, 2, 2, 6]
    assert bits["x"] == 8
    assert bits["div"] == 8
    assert sorted(value for name, value in bits.items() if not name.endswith("_weight"))[:3] == [3, 3, 6]


def test_the_subject_given_is_left_alone(either, ingredients, monkeypatch):
    monkeypatch.setattr(bench.compress.quantize, "trace", trace)  # not a copy of what was traced before
    twin, state = either.twin, copy.deepcopy(either.twin.state_dict())
    new = Quantize()(either, ingredients())
    for tensor in new.twin.state_dict().values():
        tensor.zero_()
    assert either.twin is twin
    assert new.parent is either.parent
    assert not is_quantized(twin)
    assert new.deployed is new.twin
    assert not new.twin.training
    assert all(torch.equal(value, state[name]) for name, value in twin.state_dict().items())


def test_the_same_generator_gives_the_same_twin(either, ingredients):
    step = Quantize(calibration_images=64)
    first, again, other = (step(either, ingredients(seed)).twin.state_dict() for seed in (0, 0, 1))
    assert all(torch.equal(value, again[name]) for name, value in first.items())
    assert any(not torch.equal(value, other[name]) for name, value in first.items())


def test_a_frozen_parent_gives_a_trainable_twin(conv, ingredients):
    conv.parent.requires_grad_(False)
    assert all(p.requires_grad for p in Quantize()(conv, ingredients()).twin.parameters())


def test_quantising_twice_and_pruning_afterwards_are_refused(conv, ingredients):
    once = Quantize()(conv, ingredients())
    with pytest.raises(UsageError, match="quantised already"):
        Quantize()(once, ingredients())
    with pytest.raises(UsageError, match="before quantize"):
        PruneChannels()(once, ingredients())


@pytest.mark.parametrize(
    "settings",
    [
        {"weight_bits": 0},
        {"activation_bits": 17},
        {"first_last_bits": 0},
        {"percentile": 30.0},
        {"calibration_images": 0},
    ],
)
def test_settings_out_of_range_are_refused(settings):
    with pytest.raises(UsageError, match=next(iter(settings))):
        Quantize(**settings)


class Branching(torch.nn.Module):
    def forward(self, x):
        return x.flatten(1)[:, :4] if x.sum() > 0 else x.flatten(1)[:, 4:8]


def test_a_network_that_cannot_be_traced_is_named(conv, ingredients):
    with pytest.raises(UsageError, match=r"Cannot trace Branching"):
        Quantize()(dataclasses.replace(conv, twin=Branching()), ingredients())
