"""Batch-norms follow the training of a quantised network, and are folded away afterwards."""

import copy
import dataclasses

import pytest
import torch
from small_networks import SHAPE, train
from torch import nn

from bench.compress.export import agreement, deploy
from bench.compress.fake_quant import WeightQuantizer
from bench.compress.norms import keep_norms, settle_norms
from bench.compress.quantize import Quantize
from bench.compress.sealed import seal, unseal
from bench.compress.trace import attribute, operation, trace
from bench.parent import open_sealed

CPU = torch.device("cpu")


def norms(model: nn.Module) -> list[nn.BatchNorm2d]:
    return [module for module in model.modules() if isinstance(module, nn.BatchNorm2d)]


def levels(twin: nn.Module) -> list[torch.Tensor]:
    """Return the whole numbers that the weights of convolutions stand for."""
    found = []
    for node in twin.graph.nodes:
        if operation(node) == "conv2d":
            quantizer = twin.get_submodule(str(node.args[1].target))
            assert isinstance(quantizer, WeightQuantizer)
            weight = attribute(twin, str(node.args[1].args[0].target))
            found.append(quantizer(weight) / quantizer.step(weight).view(-1, 1, 1, 1))
    return found


def stirred(twin: nn.Module) -> nn.Module:
    """Return a copy with norms as training may leave them: one channel turned round, some switched off."""
    twin, generator = copy.deepcopy(twin), torch.Generator().manual_seed(0)
    with torch.no_grad():
        for norm in norms(twin):
            norm.weight.mul_(1 + 0.2 * torch.randn(len(norm.weight), generator=generator))
            norm.running_mean.add_(0.05 * torch.randn(len(norm.weight), generator=generator))
            norm.weight[0] *= -1
            norm.weight[1], norm.bias[1] = 0, 0.3
            norm.weight[2], norm.bias[2] = 1e-12, 0.3
            norm.weight[3:5], norm.bias[3:5] = torch.tensor([0, 1e-44]), 0
    return twin


def test_kept_norms_compute_what_the_network_does_and_obey_train(either, unseen):
    kept = keep_norms(trace(either.twin, SHAPE, CPU))
    assert len(norms(kept)) == 2
    with torch.no_grad():
        assert torch.allclose(kept(unseen), either.twin(unseen), atol=1e-4)
        before = [norm.running_mean.clone() for norm in norms(kept)]
        kept(unseen)
        assert all(norm.running_mean.equal(mean) for norm, mean in zip(norms(kept), before, strict=True))
        kept.train()(unseen)
        assert not any(norm.running_mean.equal(mean) for norm, mean in zip(norms(kept), before, strict=True))


@pytest.mark.parametrize(
    ("either", "bits", "learned"),
    [
        *[("conv", bits, bits in (2, 8)) for bits in (1, 2, 4, 8, 16)],
        *[("residual", bits, bits not in (2, 8)) for bits in (1, 2, 4, 8, 16)],
    ],
    indirect=["either"],
)
def test_settling_keeps_every_level(either, ingredients, unseen, bits, learned):
    step = Quantize(weight_bits=bits, activation_bits=max(bits, 2), learn_steps=learned, range="mse")
    twin = stirred(step(either, ingredients()).twin)
    settled = settle_norms(twin)
    assert norms(settled) == []
    assert settle_norms(settled) is settled
    assert len(norms(twin)) == 2
    turned, rounding = 0, 1e-3 if bits < 16 else 1.1  # float32 may round a value near a tie to either side
    for before, after in zip(levels(twin), levels(settled), strict=True):
        for channel, (old, new) in enumerate(zip(before, after, strict=True)):
            same, opposite = torch.allclose(old, new, atol=rounding), torch.allclose(old, -new, atol=rounding)
            assert same or opposite or channel in (1, 2, 3, 4)
            turned += opposite and not same
    assert turned >= 2
    with torch.no_grad():
        ours, theirs = settled(unseen), twin(unseen)
    close = (ours - theirs).norm(dim=1) < 1e-2 * (theirs - theirs.mean(0)).norm(dim=1)
    assert close.float().mean() > 0.9  # an image or two has a value on the edge of a step


@pytest.mark.parametrize("bits", [1, 8])
def test_a_channel_switched_off_is_off_in_what_ships(either, ingredients, unseen, tmp_path, bits):
    before = dataclasses.replace(either, twin=copy.deepcopy(either.twin))
    with torch.no_grad():
        norms(before.twin)[0].weight[:8] = 0
        norms(before.twin)[0].bias[:8] = 0
    subject = Quantize(weight_bits=bits)(before, ingredients())
    seal(subject.twin, SHAPE, {}, tmp_path)
    for ships in (deploy(subject, SHAPE).classifier, unseal(tmp_path, CPU).network):
        result = agreement(subject.twin, ships, unseen)
        assert result.top1 >= 0.99
        assert result.gap <= 3 * result.noise + 0.01


def test_norms_are_folded_before_a_network_is_saved(either, ingredients, unseen, tmp_path):
    twin = stirred(Quantize(weight_bits=4, activation_bits=4)(either, ingredients()).twin)
    seal(twin, SHAPE, {}, tmp_path)
    with torch.no_grad():
        assert torch.equal(unseal(tmp_path, CPU).network(unseen), settle_norms(twin)(unseen))


def test_a_network_from_a_folder_has_norms_that_follow_training(either, examples, unseen, tmp_path):
    seal(either.twin, SHAPE, {}, tmp_path / "one")
    opened = open_sealed(tmp_path / "one")
    assert len(norms(opened)) == 2
    with torch.no_grad():
        assert torch.allclose(opened(unseen), either.twin(unseen), atol=1e-4)
    before = [norm.running_mean.clone() for norm in norms(opened)]
    train(opened.train(), examples, 5)
    assert not any(norm.running_mean.equal(mean) for norm, mean in zip(norms(opened), before, strict=True))
    seal(opened.eval(), SHAPE, {}, tmp_path / "two")
    with torch.no_grad():
        assert torch.allclose(unseal(tmp_path / "two", CPU).network(unseen), opened(unseen), atol=1e-3)
