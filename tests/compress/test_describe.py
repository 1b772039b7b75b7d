import json

import pytest
import torch
from torch import Tensor, nn

from bench.compress.fake_quant import (
    ActivationQuantizer,
    BiasQuantizer,
    WeightQuantizer,
    describe,
    rebuild,
)
from bench.compress.norms import settle_norms
from bench.compress.quantize import Quantize
from bench.compress.ranges import MinMax
from bench.errors import UsageError

BITS = [1, 2, 3, 4, 6, 8, 16]


def again(module: nn.Module) -> nn.Module:
    """Describe a quantiser, as text; rebuild it, and load its numbers."""
    rebuilt = rebuild(json.loads(json.dumps(describe(module))))
    rebuilt.load_state_dict(module.state_dict(), strict=True)
    return rebuilt


def values(*shape: int) -> Tensor:
    return torch.randn(*shape, generator=torch.Generator().manual_seed(0))


LEARNED = pytest.mark.parametrize("learned", [False, True])


@LEARNED
@pytest.mark.parametrize(("bits", "pixels"), [*((bits, False) for bits in BITS), (8, True), (16, True)])
def test_activations(bits, pixels, learned):
    quantizer = ActivationQuantizer(bits, MinMax(), pixels=pixels, learned=learned)
    quantizer.set_range(torch.tensor(-1.3), torch.tensor(2.0))
    rebuilt = again(quantizer)
    assert torch.equal(rebuilt(values(200)), quantizer(values(200)))
    assert (rebuilt.bits, rebuilt.pixels, rebuilt.observer) == (bits, pixels, None)
    assert rebuilt.learned == quantizer.learned == (learned and not pixels)


@pytest.mark.parametrize("bits", BITS)
def test_weights_and_biases(bits):
    weight, bias, scale = values(5, 3, 3, 3), values(5), torch.tensor(0.1)
    assert torch.equal(again(WeightQuantizer(bits))(weight), WeightQuantizer(bits)(weight))
    original = BiasQuantizer(bits)
    assert torch.equal(again(original)(bias, weight, scale), original(bias, weight, scale))


@LEARNED
@pytest.mark.parametrize("bits", BITS)
def test_weights_with_scales_of_their_own(bits, learned):
    weight, bias, scale = values(5, 3, 3, 3), values(5), torch.tensor(0.1)
    quantizer = WeightQuantizer(bits, values(5).abs() + 0.01, learned=learned)
    rebuilt = again(quantizer)
    assert torch.equal(rebuilt(weight), quantizer(weight))
    assert rebuilt.learned == learned
    original = BiasQuantizer(bits, own_scale=True)
    assert torch.equal(again(original)(bias, quantizer.scale, scale), original(bias, quantizer.scale, scale))


@pytest.mark.parametrize("more", [{}, {"learn_steps": True, "range": "mse"}], ids=["fixed", "learned"])
def test_every_quantiser_of_a_twin(either, ingredients, unseen, more):
    quantize = Quantize(weight_bits=4, activation_bits=3, first_last_bits=8, **more)
    twin = settle_norms(quantize(either, ingredients()).twin)
    expected = twin(unseen[:16])
    for name in {node.target for node in twin.graph.nodes if node.op == "call_module"}:
        twin.set_submodule(name, again(twin.get_submodule(name)))
    assert torch.equal(twin(unseen[:16]), expected)


@pytest.mark.parametrize(
    "module", [nn.ReLU(), ActivationQuantizer(8, MinMax())], ids=["no quantiser", "not calibrated"]
)
def test_what_cannot_be_described_is_refused(module):
    with pytest.raises(UsageError, match="Expected a"):
        describe(module)


@pytest.mark.parametrize(
    "description",
    [
        {},
        {"kind": "logarithm", "bits": 8},
        {"kind": "weight"},
        {"kind": "weight", "bits": 17, "channels": None, "learned": False},
        {"kind": "weight", "bits": True, "channels": None, "learned": False},
        {"kind": "weight", "bits": "8", "channels": None, "learned": False},
        {"kind": "weight", "bits": 8, "channels": None, "learned": True},
        {"kind": "weight", "bits": 8, "channels": -5, "learned": True},
        {"kind": "weight", "bits": 8, "channels": True, "learned": True},
        {"kind": "weight", "bits": 8, "channels": None, "learned": False, "colour": "red"},
        {"kind": "bias", "weight_bits": 0, "own_scale": False},
        {"kind": "activation", "bits": 8, "pixels": False},
        {"kind": "activation", "bits": 8, "pixels": 1, "learned": False},
        {"kind": "activation", "bits": 8, "pixels": True, "learned": True},
    ],
)
def test_a_description_that_says_something_else_is_refused(description):
    with pytest.raises(UsageError, match="Expected the description of a quantiser"):
        rebuild(description)
