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


@pytest.mark.parametrize(("bits", "pixels"), [*((bits, False) for bits in BITS), (8, True), (16, True)])
def test_activations(bits, pixels):
    quantizer = ActivationQuantizer(bits, MinMax(), pixels=pixels)
    quantizer.set_range(torch.tensor(-1.3), torch.tensor(2.0))
    rebuilt = again(quantizer)
    assert torch.equal(rebuilt(values(200)), quantizer(values(200)))
    assert (rebuilt.bits, rebuilt.pixels, rebuilt.observer) == (bits, pixels, None)


@pytest.mark.parametrize("bits", BITS)
def test_weights_and_biases(bits):
    weight, bias, scale = values(5, 3, 3, 3), values(5), torch.tensor(0.1)
    assert torch.equal(again(WeightQuantizer(bits))(weight), WeightQuantizer(bits)(weight))
    original = BiasQuantizer(bits)
    assert torch.equal(again(original)(bias, weight, scale), original(bias, weight, scale))


def test_every_quantiser_of_a_twin(either, ingredients, unseen):
    twin = Quantize(weight_bits=4, activation_bits=3, first_last_bits=8)(either, ingredients()).twin
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
        {"kind": "weight", "bits": 17},
        {"kind": "weight", "bits": True},
        {"kind": "weight", "bits": "8"},
        {"kind": "weight", "bits": 8, "colour": "red"},
        {"kind": "bias", "weight_bits": 0},
        {"kind": "activation", "bits": 8},
        {"kind": "activation", "bits": 8, "pixels": 1},
    ],
)
def test_a_description_that_says_something_else_is_refused(description):
    with pytest.raises(UsageError, match="Expected the description of a quantiser"):
        rebuild(description)
