"""The bench's own networks: sizes by the book, gradients everywhere, exportable and prunable."""

import warnings

import pytest
import torch
import torch_pruning
from torch import nn

from bench.load.architectures import ARCHITECTURES, SCHEDULES, build, note

COUNTS = {
    # He et al. with option A; 272,474 would be option B, whose shortcuts have weights.
    "resnet20": 269_722,
    "resnet56": 853_018,
    "resnet18": 11_173_962,
    "preact-resnet18": 11_172_170,
    "wrn-28-10": 36_479_194,
    "conv8": 550_570,
}


def parameters(network: nn.Module) -> int:
    return sum(parameter.numel() for parameter in network.parameters())


@pytest.mark.parametrize("name", sorted(COUNTS))
def test_parameter_counts(name):
    assert parameters(build(name, (3, 32, 32), 10)) == COUNTS[name]


def test_digits_cnn_is_tiny():
    assert parameters(build("digits-cnn", (1, 8, 8), 10)) == 89_546


@pytest.mark.parametrize("shape", [(3, 32, 32), (1, 28, 28), (1, 8, 8)])
@pytest.mark.parametrize("name", [name for name in ARCHITECTURES if name != "wrn-28-10"])
def test_forward_and_backward(name, shape):
    network = build(name, shape, 7)
    images = torch.rand(2, *shape, requires_grad=True)
    logits = network(images)
    assert logits.shape == (2, 7)
    logits.square().sum().backward()
    assert images.grad is not None
    assert images.grad.abs().sum() > 0
    assert all(parameter.grad is not None for parameter in network.parameters())


def test_wide_resnet_forward():
    with torch.no_grad():
        assert build("wrn-28-10", (3, 8, 8), 10).eval()(torch.rand(1, 3, 8, 8)).shape == (1, 10)


@pytest.mark.parametrize("name", list(ARCHITECTURES))
def test_every_architecture_has_a_note(name):
    assert note(name).endswith(".")


def test_what_is_trained_on_first_use_is_an_architecture():
    assert set(SCHEDULES) <= set(ARCHITECTURES)


def test_option_a_shortcut_subsamples_and_pads_with_zeros():
    from bench.load.architectures.resnet import BasicBlock

    block = BasicBlock(2, 4, stride=2, projection=False)
    features = torch.rand(1, 2, 4, 4)
    short = block._pad(features, 4)
    assert torch.equal(short[:, 1:3], features[:, :, ::2, ::2])
    assert not short[:, 0].any()
    assert not short[:, 3].any()


@pytest.mark.parametrize("name", ["conv8", "resnet20"])
def test_exports_with_a_dynamic_batch(name):
    network = build(name, (3, 32, 32), 10).eval()
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        batch = torch.export.Dim("batch")
        program = torch.export.export(network, (torch.rand(2, 3, 32, 32),), dynamic_shapes=({0: batch},))
    images = torch.rand(5, 3, 32, 32)
    torch.testing.assert_close(program.module()(images), network(images))


@pytest.mark.parametrize("name", ["digits-cnn", "conv8", "resnet20", "resnet18"])
def test_survives_torch_pruning(name):
    network = build(name, (3, 16, 16), 10).eval()
    before = parameters(network)
    ignored = [network.get_submodule("linear")]
    if name == "resnet20":  # option A: only the channels inside the blocks, not the stream that the padding joins
        inside = [module for path, module in network.named_modules() if path.endswith("conv2")]
        ignored += [network.get_submodule("conv1"), *inside]
    pruner = torch_pruning.pruner.MagnitudePruner(
        network,
        torch.rand(1, 3, 16, 16),
        importance=torch_pruning.importance.MagnitudeImportance(p=1),
        pruning_ratio=0.5,
        ignored_layers=ignored,
    )
    pruner.step()
    assert parameters(network) < before * 0.55
    assert network(torch.rand(2, 3, 16, 16)).shape == (2, 10)
