"""REPAIR: what is left of a network without norms keeps the moments it had, and its accuracy with them."""

import copy

import pytest
import torch
from torch import nn

from bench.compress.prune_channels import PruneChannels
from bench.compress.repair import Moments, repair
from bench.dataset import Examples
from bench.model import Subject
from bench.progress import silent
from bench.recipe import Ingredients, Meter
from bench.threat_model import ThreatModel, parse_eps

IMAGES = torch.rand(64, 1, 8, 8, generator=torch.Generator().manual_seed(0))


def deep(*, norm=False, depth=8):
    """A stack of convolutions whose signal fades when channels go."""
    generator = torch.Generator().manual_seed(1)
    layers, channels = [], 1
    for _ in range(depth):
        layers += [nn.Conv2d(channels, 8, 3, padding=1), *([nn.BatchNorm2d(8)] if norm else []), nn.ReLU()]
        channels = 8
    network = nn.Sequential(*layers, nn.Flatten(), nn.Linear(8 * 64, 4))
    with torch.no_grad():
        for parameter in network.parameters():
            if parameter.dim() > 1:
                fan_in = parameter[0].numel()
                parameter.copy_(torch.randn(parameter.shape, generator=generator) * (2 / fan_in) ** 0.5)
    return network.eval()


def pruned(network, **settings):
    given = Ingredients(
        train=Examples(images=(IMAGES * 255).to(torch.uint8), labels=torch.zeros(len(IMAGES), dtype=torch.int64)),
        threat=ThreatModel(norm="Linf", eps=parse_eps("0.1")),
        finetune_images=0,
        generator=torch.Generator().manual_seed(0),
        device=torch.device("cpu"),
        report=silent,
        meter=Meter(),
    )
    return PruneChannels(ratio=0.5, **settings)(Subject.of(network), given).twin


def outputs_of(network, images):
    """The outputs of every convolution and linear layer, by name."""
    seen = {}
    handles = [
        layer.register_forward_hook(lambda layer, inputs, out, name=name: seen.update({name: out.detach()}))
        for name, layer in network.named_modules()
        if isinstance(layer, nn.Conv2d | nn.Linear)
    ]
    with torch.no_grad():
        network(images)
    for handle in handles:
        handle.remove()
    return seen


@torch.no_grad()
def test_every_kept_channel_has_its_moments_again():
    whole = deep()
    narrow = copy.deepcopy(whole)
    kept = {"0": [1, 2, 5], "2": [0, 7]}
    for name, reader in (("0", "2"), ("2", "4")):
        left = kept[name]
        layer, after = narrow.get_submodule(name), narrow.get_submodule(reader)
        layer.weight, layer.bias = nn.Parameter(layer.weight[left]), nn.Parameter(layer.bias[left])
        after.weight = nn.Parameter(after.weight[:, left])
    repair(narrow, whole, kept, IMAGES)
    before, after = outputs_of(whole, IMAGES), outputs_of(narrow, IMAGES)
    for name, layer in whole.named_modules():
        if name in after:
            wanted, found = Moments.of(before[name], layer), Moments.of(after[name], layer)
            index = kept.get(name, list(range(len(wanted.mean))))
            # A channel that ended up almost constant is amplified by a hundred at most.
            alive = wanted.std[index] > 1e-3
            assert alive.any()
            torch.testing.assert_close(found.mean, wanted.mean[index], rtol=1e-3, atol=1e-3)
            torch.testing.assert_close(found.std[alive], wanted.std[index][alive], rtol=1e-2, atol=1e-3)


def test_the_logits_still_tell_images_apart():
    whole = deep()
    spread = {flag: pruned(whole, repair=flag)(IMAGES).std(0).mean() for flag in (True, False)}
    assert spread[True] > 0.9 * whole(IMAGES).std(0).mean()
    assert spread[False] < 0.5 * spread[True]


def test_a_network_with_norms_mends_itself():
    whole = deep(norm=True)
    with_repair, without = (pruned(whole, repair=flag).state_dict() for flag in (True, False))
    assert all(torch.equal(value, without[name]) for name, value in with_repair.items())


@pytest.mark.parametrize("settings", [{"repair": False}, {"recalibration_images": 0}])
def test_it_can_be_left_out(settings):
    whole = deep()
    narrow = pruned(whole, **settings)
    rows = {tuple(row.flatten().tolist()) for row in whole[0].weight}
    assert all(tuple(row.flatten().tolist()) in rows for row in narrow[0].weight)


def test_the_whole_network_stays_as_it_was():
    whole = deep()
    before = copy.deepcopy(whole.state_dict())
    pruned(whole)
    assert all(torch.equal(value, before[name]) for name, value in whole.state_dict().items())
    assert not any(layer._forward_hooks for layer in whole.modules())
