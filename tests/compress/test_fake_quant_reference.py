"""The integers of an independent implementation: PyTorch's own operators, on the same ranges."""

import pytest
import torch

from bench.compress.fake_quant import ActivationQuantizer, quantize_weight
from bench.compress.ranges import LeastSquares, MinMax, Percentile, least_squares_scale, weight_scale

BITS = [8, 6, 4, 3, 2]
RANGES = [(-1.5, 2.0), (0.0, 6.0), (-3.0, 0.0), (-0.01, 5.0)]
STORED = pytest.mark.skipif(not hasattr(torch, "quantize_per_tensor"), reason="later releases drop stored integers")
EACH_RANGE = pytest.mark.parametrize(("low", "high"), RANGES)


def values(seed: int, *shape: int) -> torch.Tensor:
    return 2 * torch.randn(*shape, generator=torch.Generator().manual_seed(seed))


def calibrated(bits: int, low: float, high: float) -> ActivationQuantizer:
    quantizer = ActivationQuantizer(bits, MinMax())
    quantizer.set_range(torch.tensor(low), torch.tensor(high))
    return quantizer


def levels(quantizer: ActivationQuantizer, x: torch.Tensor) -> torch.Tensor:
    return (quantizer(x) / quantizer.scale + quantizer.zero_point).round().int()


@EACH_RANGE
@pytest.mark.parametrize("bits", BITS)
def test_activations_as_fake_quantize_per_tensor_affine(bits, low, high):
    quantizer, x = calibrated(bits, low, high), values(bits, 4000)
    zero = quantizer.zero_point.int()
    expected = torch.fake_quantize_per_tensor_affine(x, quantizer.scale, zero, 0, 2**bits - 1)
    assert torch.equal(levels(quantizer, x), (expected / quantizer.scale + zero).round().int())
    assert torch.allclose(quantizer(x), expected, rtol=1e-6, atol=0)


@STORED
@pytest.mark.filterwarnings("ignore:torch.quantize_per_tensor")
@EACH_RANGE
def test_activations_as_the_stored_integers_of_quantize_per_tensor(low, high):
    quantizer, x = calibrated(8, low, high), values(1, 4000)
    stored = torch.quantize_per_tensor(x, float(quantizer.scale), int(quantizer.zero_point), torch.quint8)
    assert torch.equal(levels(quantizer, x), stored.int_repr().int())


@pytest.mark.parametrize("find", [weight_scale, least_squares_scale])
@pytest.mark.parametrize("bits", BITS)
def test_weights_as_fake_quantize_per_channel_affine(bits, find):
    weight, top = values(bits, 7, 3, 5, 5), 2 ** (bits - 1) - 1
    scale = find(weight, bits)
    zero = torch.zeros(7, dtype=torch.int32)
    expected = torch.fake_quantize_per_channel_affine(weight, scale, zero, 0, -top, top)
    step = scale.view(-1, 1, 1, 1)
    ours = (quantize_weight(weight, bits, scale) / step).round()
    assert torch.equal(ours, (expected / step).round())
    assert ours.abs().amax() == top


@STORED
@pytest.mark.filterwarnings("ignore:torch.quantize_per_tensor")
def test_weights_as_the_stored_integers_of_quantize_per_channel():
    weight = values(3, 7, 3, 5, 5)
    scale = weight_scale(weight, 8)
    stored = torch.quantize_per_channel(weight, scale.double(), torch.zeros(7, dtype=torch.long), 0, torch.qint8)
    ours = (quantize_weight(weight, 8) / scale.view(-1, 1, 1, 1)).round()
    assert torch.equal(ours.to(torch.int8), stored.int_repr())


@pytest.mark.parametrize("bits", BITS)
def test_gradients_of_values_as_pytorchs(bits):
    """PyTorch, too, passes the gradient wherever the rounded value needed no clipping."""
    quantizer = calibrated(bits, -1.5, 2.0)
    ends = torch.stack([quantizer.scale * (level - quantizer.zero_point) for level in (0, 2**bits - 1)])
    x = torch.cat([values(bits, 500), ends, ends * 1.001, ends * 3])
    ours, theirs = x.clone().requires_grad_(), x.clone().requires_grad_()
    quantizer(ours).sum().backward()
    torch.fake_quantize_per_tensor_affine(
        theirs, quantizer.scale, quantizer.zero_point.int(), 0, 2**bits - 1
    ).sum().backward()
    assert torch.equal(ours.grad, theirs.grad)
    assert 0 < ours.grad.mean() < 1


@pytest.mark.parametrize("bits", BITS)
def test_gradients_of_steps_as_pytorchs(bits):
    """PyTorch's learnable operator has LSQ's gradient, too; ours adds LSQ's damping by values and levels."""
    x, top = values(bits, 1, 400), 2**bits - 1
    quantizer = ActivationQuantizer(bits, MinMax(), learned=True)
    quantizer.set_range(torch.tensor(-1.5), torch.tensor(2.0))
    quantizer(x).square().sum().backward()
    scale = quantizer.scale.detach().clone().view(1).requires_grad_()
    zero = quantizer.zero_point.view(1)
    torch._fake_quantize_learnable_per_tensor_affine(x, scale, zero, 0, top, 1.0).square().sum().backward()
    assert torch.allclose(quantizer.scale.grad, scale.grad[0] / (400 * top) ** 0.5, rtol=1e-4)


@pytest.mark.parametrize("bits", BITS)
@pytest.mark.parametrize("relu", [True, False])
def test_least_squares_range_is_no_worse_than_any_other(bits, relu):
    x = values(5, 64, 50)
    x = x.relu() if relu else x

    def error(observer) -> float:
        observer.update(x)
        low, high = observer.range()
        quantizer = calibrated(bits, float(low), float(high))
        return float((quantizer(x) - x).square().mean())

    ours = error(LeastSquares(bits))
    assert ours <= 1.001 * min(error(observer) for observer in (MinMax(), Percentile(99.9), Percentile(99.0)))
    if bits <= 4:
        assert ours < 0.8 * error(MinMax())
    widest = [(float(x.min()) * a / 20, float(x.max()) * b / 20) for a in range(1, 21) for b in range(1, 21)]
    best = min(float((calibrated(bits, *ends)(x) - x).square().mean()) for ends in widest)
    assert ours <= 1.03 * best


@pytest.mark.parametrize("bits", [2, 3, 4, 6])
def test_least_squares_scales_are_no_worse_than_any_other(bits):
    weight = values(6, 4, 300)
    widest = weight_scale(weight, bits)

    def error(scale: torch.Tensor) -> torch.Tensor:
        return (quantize_weight(weight, bits, scale) - weight).square().sum(1)

    ours = error(least_squares_scale(weight, bits))
    best = torch.stack([error(widest * share / 100) for share in range(10, 101)]).amin(0)
    assert (ours <= 1.05 * best).all()
    assert (ours <= error(widest)).all()
    assert (ours < 0.7 * error(widest)).all() or bits > 3


def test_a_channel_of_zeros_has_a_scale():
    assert least_squares_scale(torch.zeros(2, 9), 2).tolist() == [1.0, 1.0]
