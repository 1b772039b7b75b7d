import pytest
import torch

from bench.compress.fake_quant import (
    ActivationQuantizer,
    BiasQuantizer,
    quantize_activation,
    quantize_weight,
)
from bench.compress.ranges import MinMax, Percentile, weight_scale


def gradient(function, x):
    x = x.clone().requires_grad_(True)
    function(x).sum().backward()
    return x.grad


@pytest.mark.parametrize("bits", [1, 2, 4, 8, 16])
def test_activation_gradient_is_one_inside_and_at_the_bounds_and_zero_outside(bits):
    scale, zero_point = torch.tensor(1.0 / (2**bits - 1)), torch.tensor(0.0)
    x = torch.tensor([-2.0, -0.6, 0.0, 0.3, 1.0, 1.6, 2.0])
    got = gradient(lambda x: quantize_activation(x, scale, zero_point, bits), x)
    # Half a step beyond a bound still rounds to the bound, and counts as inside.
    assert got[2:5].tolist() == [1, 1, 1]
    assert got[[0, 1, 5, 6]].tolist() == [0, 0, 0, 0]


def test_saturated_pixels_keep_their_gradient():
    quantizer = ActivationQuantizer(8, MinMax(), pixels=True)
    quantizer.set_range(torch.tensor(0.0), torch.tensor(1.0))
    assert quantizer.scale.item() == pytest.approx(1 / 255)
    assert gradient(quantizer, torch.tensor([0.0, 1.0, 0.5])).tolist() == [1, 1, 1]


@pytest.mark.parametrize("bits", [1, 2, 3, 4, 6, 8, 16])
def test_weight_gradient_is_one_everywhere(bits):
    weight = torch.randn(5, 3, 3, 3, generator=torch.Generator().manual_seed(0))
    weight[0] = 0.0
    got = gradient(lambda w: quantize_weight(w, bits), weight)
    assert torch.equal(got, torch.ones_like(got))


@pytest.mark.parametrize("bits", [2, 3, 4, 6, 8, 16])
def test_weights_are_the_integers_of_torch(bits):
    weight = torch.randn(7, 3, 5, 5, generator=torch.Generator().manual_seed(bits))
    scale, top = weight_scale(weight, bits), 2 ** (bits - 1) - 1
    expected = torch.fake_quantize_per_channel_affine(weight, scale, torch.zeros(7, dtype=torch.int32), 0, -top, top)
    levels = (quantize_weight(weight, bits) / scale.view(-1, 1, 1, 1)).round()
    differences = (levels - (expected / scale.view(-1, 1, 1, 1)).round()).abs()
    # torch multiplies by 1 / scale where ONNX and we divide: near a tie 16 bits may tell the two apart.
    assert differences.sum() <= (2 if bits == 16 else 0)
    assert levels.abs().amax() == top


@pytest.mark.parametrize("bits", [1, 2, 3, 4, 6, 8, 16])
def test_activations_are_the_integers_of_torch(bits):
    x = torch.randn(4000, generator=torch.Generator().manual_seed(bits))
    quantizer = ActivationQuantizer(bits, MinMax())
    quantizer.set_range(torch.tensor(-1.5), torch.tensor(2.0))
    zero = quantizer.zero_point
    expected = torch.fake_quantize_per_tensor_affine(x, quantizer.scale, zero.int(), 0, 2**bits - 1)
    differences = ((quantizer(x) - expected) / quantizer.scale).round().abs()
    assert differences.sum() <= (40 if bits == 16 else 0)  # ties, as above


def test_one_bit_weights_are_sign_times_mean_size():
    weight = torch.tensor([[1.0, -3.0, 0.0], [0.5, 0.5, -0.5]])
    expected = torch.tensor([[4 / 3, -4 / 3, 4 / 3], [0.5, 0.5, -0.5]])
    assert torch.allclose(quantize_weight(weight, 1), expected)


def test_one_bit_weights_that_are_all_zero_stay_zero():
    weight = torch.tensor([[0.0, -0.0, 0.0], [0.5, 0.5, -0.5]])
    assert torch.equal(quantize_weight(weight, 1), weight)
    assert BiasQuantizer(1)(torch.tensor([3.0, 0.0]), weight, torch.tensor(0.5)).tolist() == [3.0, 0.0]


def test_bias_is_on_the_grid_of_the_accumulator():
    weight, scale = torch.tensor([[127.0], [12.7]]), torch.tensor(0.5)
    bias = torch.tensor([0.8, 0.12])
    got = BiasQuantizer(8)(bias, weight, scale)
    assert torch.allclose(got, torch.tensor([1.0, 0.1]))
    assert gradient(lambda b: BiasQuantizer(8)(b, weight, scale), bias).tolist() == [1, 1]


def test_a_bias_is_kept_where_its_grid_would_be_finer_than_int32():
    weight, scale, bias = torch.tensor([[1e-12], [-1e-30], [1e-45]]), torch.tensor(0.01), torch.tensor([0.5, -0.5, 3e5])
    for quantizer, divisor in (
        (BiasQuantizer(8), weight),
        (BiasQuantizer(8, own_scale=True), weight_scale(weight, 8)),
    ):
        got = quantizer(bias, divisor, scale)
        assert torch.allclose(got, bias, rtol=1e-6)
        assert (got / quantizer.step(bias, divisor, scale)).abs().max() < 2**31
        assert gradient(lambda b, q=quantizer, d=divisor: q(b, d, scale), bias).tolist() == [1, 1, 1]


def test_range_contains_zero_and_survives_a_constant():
    quantizer = ActivationQuantizer(8, MinMax())
    quantizer.observing = True
    quantizer(torch.full((4,), 3.0))
    quantizer.freeze()
    assert quantizer(torch.tensor([0.0, 3.0])).tolist() == [0.0, 3.0]
    dead = ActivationQuantizer(8, MinMax())
    dead.observing = True
    dead(torch.zeros(4))
    dead.freeze()
    assert dead(torch.zeros(4)).tolist() == [0.0] * 4


def test_percentile_leaves_out_outliers_and_minmax_does_not():
    x = torch.cat([torch.linspace(0, 1, 10_000), torch.tensor([100.0])])
    narrow, wide = Percentile(99.9), MinMax()
    narrow.update(x)
    wide.update(x)
    assert narrow.range()[1] == pytest.approx(0.999, abs=1e-3)
    assert wide.range()[1] == 100.0


def test_half_precision_input_is_quantised_as_exactly_as_float():
    x = torch.randn(100, generator=torch.Generator().manual_seed(0)).bfloat16()
    quantizer = ActivationQuantizer(8, MinMax())
    quantizer.set_range(torch.tensor(-1.0), torch.tensor(1.0))
    assert torch.equal(quantizer(x), quantizer(x.float()))
    assert gradient(quantizer, x).dtype == torch.bfloat16


@pytest.mark.parametrize("strides", [(9, 9, 3, 1), (9, 1, 3, 1)])
def test_values_lie_in_memory_as_they_do_without_a_gradient(strides):
    """Else the convolution that reads them rounds otherwise, and a network trains otherwise."""
    weight = torch.rand(16, 1, 3, 3).as_strided((16, 1, 3, 3), strides)
    asked = quantize_weight(weight.clone().requires_grad_(), 8)
    assert torch.equal(asked, quantize_weight(weight, 8))
    assert asked.stride() == quantize_weight(weight, 8).stride()
