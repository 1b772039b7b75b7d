import pytest
import torch
from torch import Tensor

from bench.compress import quantize
from bench.compress.fake_quant import WeightQuantizer
from bench.compress.quantize import Quantize
from bench.compress.ranges import LeastSquares, MinMax, Observer, Percentile, Ranges, weight_scale

MAKE = {"minmax": MinMax, "percentile": lambda: Percentile(99.0), "mse": lambda: LeastSquares(3)}
EACH = pytest.mark.parametrize("make", MAKE.values(), ids=MAKE)


def images(n: int = 48) -> Tensor:
    return torch.randn(n, 4, 20, 21, generator=torch.Generator().manual_seed(0)) ** 3


def found(observer: Observer, batches) -> tuple[float, float]:
    for batch in batches:
        observer.update(batch)
    low, high = observer.range()
    return low.item(), high.item()


@EACH
def test_the_range_depends_neither_on_the_batches_nor_on_their_order(make):
    x = images()
    expected = found(make(), [x])
    assert expected[0] < 0 < expected[1]
    order = torch.randperm(len(x), generator=torch.Generator().manual_seed(1))
    for batches in (x.split(1), x.split(7), reversed(x.split(16)), x[order].split(5)):
        assert found(make(), batches) == expected


@EACH
def test_a_range_of_nothing_is_empty(make):
    assert found(make(), []) == (0.0, 0.0)


@EACH
def test_a_range_of_one_value(make):
    assert found(make(), [torch.full((3, 5), 2.0)])[1] == pytest.approx(2.0, rel=0.05)
    assert found(make(), [torch.zeros(3, 5)]) == (0.0, 0.0)


def test_least_squares_keeps_zero_and_gives_up_outliers():
    x = torch.cat([torch.rand(100, 99), torch.full((100, 1), 1.0)], 1)
    x[0, 0] = 40.0
    low, high = found(LeastSquares(2), [x])
    assert low == 0.0
    assert 0.7 < high < 1.5
    assert found(LeastSquares(16), [x]) == (0.0, 40.0)


@pytest.mark.parametrize("method", ["minmax", "percentile", "mse"])
def test_the_twin_does_not_depend_on_the_calibration_batch(conv, ingredients, monkeypatch, method):
    step = Quantize(weight_bits=4, activation_bits=4, range=method, calibration_images=96)
    expected = step(conv, ingredients()).twin.state_dict()
    monkeypatch.setattr(quantize, "_BATCH", 5)
    for name, value in step(conv, ingredients()).twin.state_dict().items():
        # Convolutions of another batch size may sum in another order.
        assert torch.allclose(value, expected[name], rtol=1e-5, atol=0), name


def test_weights_of_few_bits_get_scales_of_their_own_by_least_squares():
    weight = torch.randn(4, 50, generator=torch.Generator().manual_seed(0))
    least = Ranges(method="mse")
    assert [least.weight_scale(weight, bits) is None for bits in (1, 2, 7, 8, 16)] == [True, False, False, True, True]
    assert (least.weight_scale(weight, 2) < weight_scale(weight, 2)).all()
    learned = Ranges(method="mse", learned=True)
    assert torch.equal(learned.weight_scale(weight, 8), weight_scale(weight, 8))
    assert Ranges(method="percentile").weight_scale(weight, 2) is None


def test_at_eight_bits_least_squares_leaves_weights_alone(conv, ingredients):
    twin = Quantize(range="mse")(conv, ingredients()).twin
    assert all(module.scale is None for module in twin.modules() if isinstance(module, WeightQuantizer))


def test_least_squares_helps_where_bits_are_few(conv, ingredients, unseen):
    with torch.no_grad():
        expected = conv.parent(unseen)
        gaps = [
            (Quantize(weight_bits=2, activation_bits=2, range=method)(conv, ingredients()).twin(unseen) - expected)
            .norm()
            .item()
            for method in ("minmax", "mse")
        ]
    assert gaps[1] < 0.9 * gaps[0]
