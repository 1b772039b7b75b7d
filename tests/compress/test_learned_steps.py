"""Steps that are learned with the weights (LSQ): gradients by hand, guarantees, and what stays as it was."""

import copy
import math

import pytest
import torch
from small_networks import SHAPE, ConvNet, subject
from torch import Tensor, nn

from bench.compress.bake import bake
from bench.compress.export import agreement, deploy, packed_bytes
from bench.compress.fake_quant import ActivationQuantizer, BiasQuantizer, WeightQuantizer, quantize_weight
from bench.compress.quantize import Quantize
from bench.compress.ranges import MinMax, weight_scale
from bench.finetune.clean import FinetuneClean, cross_entropy
from bench.finetune.descent import Descent, new_optimizer
from bench.finetune.loop import train
from bench.finetune.pgd import attacked
from bench.load.architectures import build
from bench.measure.macs import count_macs
from bench.measure.size import count_parameters
from bench.model import grid_parameters
from bench.progress import silent

BITS = [1, 2, 3, 4, 6, 8, 16]
EACH_BITS = pytest.mark.parametrize("bits", BITS)
LEARNED = pytest.mark.parametrize("learned", [False, True])


def activation(bits: int, low: float, high: float, learned: bool) -> ActivationQuantizer:
    quantizer = ActivationQuantizer(bits, MinMax(), learned=learned)
    quantizer.set_range(torch.tensor(low), torch.tensor(high))
    return quantizer


def gradient(function, x: Tensor) -> Tensor:
    x = x.clone().requires_grad_()
    function(x).sum().backward()
    return x.grad


@EACH_BITS
@LEARNED
def test_the_input_of_an_activation_gets_the_straight_through_gradient(bits, learned):
    quantizer = activation(bits, -1.0, 1.0, learned)
    step, zero = quantizer.scale.item(), quantizer.zero_point.item()
    low, high, half = -step * zero, step * (2**bits - 1 - zero), step / 2
    inside = torch.tensor([[low, (low + high) / 2, high, low - 0.9 * half, high + 0.9 * half]])
    outside = torch.tensor([[low - 1.1 * half, low - 9.0, high + 1.1 * half, high + 9.0]])
    assert gradient(quantizer, inside).tolist() == [[1.0] * 5]
    assert gradient(quantizer, outside).tolist() == [[0.0] * 4]


@EACH_BITS
def test_an_attack_finds_the_same_gradient_without_that_of_the_step(bits):
    quantizer, x = activation(bits, -1.0, 1.0, learned=True), torch.linspace(-2, 2, 41)
    wanted = gradient(quantizer, x)
    assert quantizer.scale.grad is not None
    quantizer.zero_grad()
    with attacked(quantizer):
        assert torch.equal(gradient(quantizer, x), wanted)
    assert quantizer.scale.grad is None
    assert quantizer.scale.requires_grad


@EACH_BITS
@LEARNED
def test_a_weight_gets_the_straight_through_gradient(bits, learned):
    scale, top = torch.tensor([0.1, 0.3]), 2 ** (bits - 1) - 1
    weight = torch.tensor([[-top, -0.3, 0.0, top, top + 0.4], [top + 0.6, -top - 0.6, 1e6, -1e6, 0.2]])
    got = gradient(WeightQuantizer(bits, scale, learned=learned), weight * scale.view(2, 1))
    clipped = [[1.0] * 5, [0.0] * 4 + [1.0]]
    assert got.tolist() == (clipped if bits > 1 else [[1.0] * 5] * 2)


@pytest.mark.parametrize("bits", [1, 2, 4, 8])
def test_the_gradient_of_a_step_by_hand(bits):
    """LSQ, equation 3: round(v/s) − v/s inside, the bound's level outside, damped by 1/√(values × levels)."""
    top = 2**bits - 1
    quantizer = activation(bits, 0.0, float(top), True)  # step 1, zero point 0
    x = torch.tensor([[0.3, 0.6, top + 5.0, -4.0], [0.0, 0.75, top + 1.0, -1.0]])
    upstream = torch.tensor([[1.0, 2.0, 3.0, 4.0], [5.0, 6.0, 7.0, 8.0]])
    (quantizer(x) * upstream).sum().backward()
    slope = torch.tensor([[-0.3, 0.4, top, 0.0], [0.0, 0.25, top, 0.0]])
    assert quantizer.scale.grad.item() == pytest.approx((slope * upstream).sum().item() / math.sqrt(4 * top), rel=1e-5)


@pytest.mark.parametrize("bits", [1, 3, 8])
def test_the_gradient_of_a_channels_step_by_hand(bits):
    top = max(2 ** (bits - 1) - 1, 1)
    quantizer = WeightQuantizer(bits, torch.ones(2), learned=True)
    weight = torch.tensor([[0.3, -0.6, top + 5.0], [0.0, -top - 4.0, 0.75]])
    slope = torch.tensor([[-0.3, -0.4, top], [0.0, -top, 0.25]])
    if bits == 1:
        slope = torch.tensor([[1.0, -1.0, 1.0], [1.0, -1.0, 1.0]])
    quantizer(weight).sum().backward()
    assert torch.allclose(quantizer.scale.grad, slope.sum(1) / math.sqrt(3 * top))


def test_the_step_does_not_care_how_images_come_in_batches():
    x = torch.randn(8, 30, generator=torch.Generator().manual_seed(0))
    together, apart = activation(3, -1.0, 1.0, True), activation(3, -1.0, 1.0, True)
    together(x).square().mean().backward()
    for part in x.split(2):
        (apart(part).square().mean() / 4).backward()
    assert together.scale.grad.item() == pytest.approx(apart.scale.grad.item(), rel=1e-4)


@pytest.mark.parametrize("thrown", [0.0, -0.05, -1e30, math.inf, -math.inf, math.nan, 1e-30])
def test_a_step_is_positive_and_finite_wherever_it_is_thrown(thrown):
    quantizer, weights = activation(4, -1.0, 1.0, True), WeightQuantizer(4, torch.ones(2), learned=True)
    with torch.no_grad():
        quantizer.scale.fill_(thrown)
        weights.scale[0] = thrown
    values = torch.randn(2, 5, generator=torch.Generator().manual_seed(0))
    for step, result in ((quantizer.step, quantizer(values)), (weights.step(values), weights(values))):
        assert (step > 0).all()
        assert step.isfinite().all()
        assert result.isfinite().all()
    bias = BiasQuantizer(4, own_scale=True)(torch.ones(2), weights.scale, quantizer.scale)
    assert bias.isfinite().all()


def test_pixels_are_never_learned(conv, ingredients):
    twin = Quantize(weight_bits=2, activation_bits=2, learn_steps=True)(conv, ingredients()).twin
    grids = [module for module in twin.modules() if isinstance(module, ActivationQuantizer)]
    assert [module.learned for module in grids] == [not module.pixels for module in grids]
    assert sum(module.pixels for module in grids) == 2
    weights = [module for module in twin.modules() if isinstance(module, WeightQuantizer)]
    assert all(module.learned for module in weights)
    assert len(grid_parameters(twin)) == len(grids) - 2 + len(weights)


@pytest.mark.parametrize(("bits", "method"), [(8, "minmax"), (1, "minmax"), (4, "minmax"), (8, "mse"), (1, "mse")])
def test_before_training_a_learned_step_changes_nothing(conv, ingredients, unseen, bits, method):
    settings = {"weight_bits": bits, "activation_bits": max(bits, 2), "range": method}
    fixed = Quantize(**settings)(conv, ingredients()).twin
    learned = Quantize(**settings, learn_steps=True)(conv, ingredients()).twin
    assert torch.equal(fixed(unseen[:16]), learned(unseen[:16]))


def test_a_one_bit_scale_starts_at_the_mean_size():
    weight = torch.tensor([[1.0, -3.0, 0.0], [0.5, 0.5, -0.5]])
    quantizer = WeightQuantizer(1, weight_scale(weight, 1), learned=True)
    assert torch.allclose(quantizer.scale, torch.tensor([4 / 3, 0.5]))
    assert torch.equal(quantizer(weight), quantize_weight(weight, 1))


@pytest.fixture
def learned(conv, ingredients, examples):
    """Two epochs of training, so that steps have left where they began."""

    def make(**settings):
        before = Quantize(learn_steps=True, range="mse", **settings)(conv, ingredients())
        budget = ingredients()
        object.__setattr__(budget, "finetune_images", 1024)
        return before, FinetuneClean(learning_rate=0.02)(before, budget)

    return make


def test_training_moves_every_step_and_no_zero_point(learned):
    before, after = learned(weight_bits=2, activation_bits=2, first_last_bits=8)
    moved = [
        not torch.equal(old, new) for old, new in zip(*map(grid_parameters, (before.twin, after.twin)), strict=True)
    ]
    assert len(moved) == 7
    assert all(moved)
    buffers = dict(before.twin.named_buffers())
    assert all(torch.equal(value, buffers[name]) for name, value in after.twin.named_buffers() if "norms." not in name)


@pytest.mark.parametrize("bits", [8, 2, 1])
def test_baking_and_copying_keep_learned_steps_bit_for_bit(learned, unseen, bits):
    twin = learned(weight_bits=bits, activation_bits=max(bits, 2))[1].twin
    images = unseen[:16].clone().requires_grad_()
    baked = bake(twin)
    (ours,) = torch.autograd.grad(twin(images).square().sum(), images)
    (theirs,) = torch.autograd.grad(baked(images).square().sum(), images)
    assert torch.equal(ours, theirs)
    assert torch.equal(twin(images), baked(images))
    assert torch.equal(twin(images), copy.deepcopy(twin)(images))
    assert not [m for m in baked.modules() if isinstance(m, ActivationQuantizer) and m.learned]


def test_learned_w8a8_runs_in_integers_and_agrees(learned, unseen):
    subject = learned()[1]
    artefact = deploy(subject, SHAPE)
    assert artefact.kind == "onnx-int8"
    assert artefact.integer_macs_share >= 0.95
    result = agreement(subject.twin, artefact.classifier, unseen)
    assert result.top1 >= 0.995
    assert result.gap <= 3 * result.noise + 0.01


def test_a_learned_step_is_no_parameter_of_the_network(conv, ingredients):
    """It costs what a fixed step costs: a number in the file, no weight, no operation."""
    settings = {"weight_bits": 4, "activation_bits": 4}
    fixed, learned, least = (
        Quantize(**settings, **more)(conv, ingredients()).twin for more in ({}, {"learn_steps": True}, {"range": "mse"})
    )
    assert count_parameters(learned) == count_parameters(fixed)
    assert count_macs(learned, SHAPE) == count_macs(fixed, SHAPE)
    assert packed_bytes(learned, SHAPE) == packed_bytes(fixed, SHAPE) == packed_bytes(least, SHAPE)


def test_a_learned_step_is_not_decayed_and_follows_the_cosine(conv, ingredients):
    twin = Quantize(weight_bits=2, learn_steps=True)(conv, ingredients()).twin
    for optimizer in ("sgd", "adamw"):
        weights, steps = new_optimizer(twin, Descent(optimizer=optimizer, weight_decay=0.3)).param_groups
        assert (weights["weight_decay"], steps["weight_decay"]) == (0.3, 0.0)
        assert {id(p) for p in steps["params"]} == {id(p) for p in grid_parameters(twin)}
        assert len(weights["params"]) + len(steps["params"]) == len(list(twin.parameters()))
    assert len(new_optimizer(ConvNet(), Descent()).param_groups) == 1


@pytest.mark.parametrize("optimizer", ["sgd", "adamw"])
def test_one_update_moves_a_step_by_at_most_the_rates_share(conv, ingredients, examples, optimizer):
    twin = Quantize(learn_steps=True)(conv, ingredients()).twin
    before = [parameter.detach().clone() for parameter in grid_parameters(twin)]
    settings = {"images": 64 * 3, "generator": torch.Generator().manual_seed(0), "device": torch.device("cpu")}
    descent = Descent(optimizer=optimizer, learning_rate=0.1, clip=1e6, schedule="constant")
    train(twin, examples, cross_entropy, descent, report=silent, stage="", **settings)
    for old, new in zip(before, grid_parameters(twin), strict=True):
        assert ((new / old).log().abs() <= -3 * math.log(0.9) + 1e-5).all()


def share_of_gradient(model: nn.Module, images: Tensor) -> float:
    images = images.clone().requires_grad_()
    weights = torch.randn(10, generator=torch.Generator().manual_seed(3))
    (got,) = torch.autograd.grad((model(images) * weights).sum(), images)
    return float((got != 0).double().mean())


@pytest.mark.parametrize(
    ("name", "shape", "more"),
    [
        ("conv8", (1, 28, 28), {}),
        ("conv8", (1, 28, 28), {"learn_steps": True}),
        pytest.param("resnet18", (3, 32, 32), {}, marks=pytest.mark.slow),
    ],
)
def test_as_many_pixels_have_a_gradient_as_through_the_float_network(ingredients, name, shape, more):
    torch.manual_seed(0)
    model = build(name, shape, 10).eval()
    generator = torch.Generator().manual_seed(0)
    images = torch.randint(256, (20, *shape), generator=generator)
    images = (images * 2 - 128).clamp(0, 255).to(torch.uint8)  # half of them exactly 0 or 1
    given = ingredients()
    object.__setattr__(given, "train", type(given.train)(images=images, labels=torch.zeros(20, dtype=torch.long)))
    twin = Quantize(**more)(subject(model), given).twin
    extreme = torch.cat([given.train.pixels(slice(2)), torch.zeros(1, *shape), torch.ones(1, *shape)])
    assert ((extreme == 0) | (extreme == 1)).float().mean() > 0.6
    assert share_of_gradient(twin, extreme) == pytest.approx(share_of_gradient(model, extreme), abs=1e-3)
