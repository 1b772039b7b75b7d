import copy
import dataclasses

import pytest
import torch
from small_networks import train
from torch import nn
from torch.nn import functional as F

from bench.compress.prune_channels import PruneChannels, recalibrate_batch_norm
from bench.errors import UsageError


class OptionA(nn.Module):
    """Two stages joined by a shortcut without parameters: every second pixel, zeros for the new channels."""

    def __init__(self) -> None:
        super().__init__()
        self.stem = nn.Conv2d(3, 8, 3, padding=1)
        self.conv1 = nn.Conv2d(8, 64, 3, stride=2, padding=1)
        self.conv2 = nn.Conv2d(64, 16, 3, padding=1)
        self.head = nn.Linear(16, 4)

    def forward(self, x):
        x = F.relu(self.stem(x))
        y = self.conv2(F.relu(self.conv1(x)))
        extra = y.shape[1] - x.shape[1]
        x = F.relu(y + F.pad(x[:, :, ::2, ::2], (0, 0, 0, 0, extra // 2, extra - extra // 2)))
        return self.head(x.mean((2, 3)))


def parameters(model):
    return sum(p.numel() for p in model.parameters())


@pytest.mark.parametrize("importance", ["l1", "l2", "bn-scale", "random"])
@pytest.mark.parametrize("ratio", [0.1, 0.5, 0.9])
def test_channels_are_gone_and_the_rest_trains(either, ingredients, examples, importance, ratio):
    twin = PruneChannels(ratio=ratio, importance=importance)(either, ingredients()).twin
    convs = [m.out_channels for m in twin.modules() if isinstance(m, nn.Conv2d)]
    wide = [m.out_channels for m in either.parent.modules() if isinstance(m, nn.Conv2d)]
    assert convs == [max(1, round(width * (1 - ratio))) for width in wide]
    assert twin(examples.pixels(slice(3))).shape == (3, 4)
    if ratio < 0.9:
        losses = train(twin.train(), examples, 20)
        assert sum(losses[-4:]) < sum(losses[:4]) + 0.05


def test_l1_keeps_the_largest_filters(conv, ingredients):
    with torch.no_grad():
        conv.parent.conv1.weight[::2] *= 1e-4
        conv.parent.norm1.weight[::2] *= 1e-4
        conv.parent.norm1.bias[::2] *= 1e-4
        conv.parent.conv2.weight[:, ::2] *= 1e-4
    twin = PruneChannels(ratio=0.5, recalibration_images=0)(conv, ingredients()).twin
    assert torch.equal(twin.conv1.weight, conv.parent.conv1.weight[1::2])


def test_the_subject_given_is_left_alone(either, ingredients):
    state = copy.deepcopy(either.parent.state_dict())
    new = PruneChannels()(either, ingredients())
    assert new.parent is either.parent
    assert new.deployed is new.twin
    assert parameters(new.twin) < 0.5 * parameters(new.parent)
    assert all(torch.equal(value, state[name]) for name, value in either.parent.state_dict().items())
    assert not new.twin.training


@pytest.mark.parametrize("importance", ["l1", "random"])
def test_the_same_generator_gives_the_same_network(either, ingredients, importance):
    step = PruneChannels(importance=importance)
    torch.manual_seed(1)
    first = step(either, ingredients(0)).twin.state_dict()
    torch.manual_seed(2)
    again = step(either, ingredients(0)).twin.state_dict()
    assert all(torch.equal(value, again[name]) for name, value in first.items())


def test_widths_are_multiples_and_never_left_unpruned(either, ingredients):
    for ratio in (0.3, 0.9):
        twin = PruneChannels(ratio=ratio, round_to=8)(either, ingredients()).twin
        assert all(m.out_channels % 8 == 0 for m in twin.modules() if isinstance(m, nn.Conv2d))


def test_pruning_that_saves_nothing_is_refused(either, ingredients):
    with pytest.raises(UsageError, match=r"ratio 0.5 left 100% of its MACs"):
        PruneChannels(ratio=0.5, round_to=64)(either, ingredients())


def test_remembered_widths_follow(residual, ingredients):
    twin = PruneChannels(ratio=0.25)(residual, ingredients()).twin
    assert twin.num_channels == twin.head.in_features == 24


def test_option_a_shortcuts_are_pruned_inside_their_blocks(conv, ingredients, examples):
    torch.manual_seed(0)
    subject = dataclasses.replace(conv, twin=OptionA().eval())
    twin = PruneChannels(ratio=0.5)(subject, ingredients()).twin
    assert (twin.stem.out_channels, twin.conv1.out_channels, twin.conv2.out_channels) == (8, 32, 16)
    assert twin(examples.pixels(slice(2))).shape == (2, 4)


def test_bn_scale_needs_batch_norm(conv, ingredients):
    with pytest.raises(UsageError, match="needs batch-norm"):
        PruneChannels(importance="bn-scale")(dataclasses.replace(conv, twin=OptionA().eval()), ingredients())


def test_recalibration_measures_statistics_and_changes_nothing_else(conv, examples):
    model, images = conv.parent, examples.pixels(slice(256))
    before = copy.deepcopy(model.state_dict())
    model.norm1.running_mean.fill_(7.0)
    recalibrate_batch_norm(model, images)
    normalised = (images - model.mean) / 0.25
    expected = model.conv1(normalised).mean((0, 2, 3))
    assert torch.allclose(model.norm1.running_mean, expected, atol=1e-4)
    assert model.norm1.momentum == 0.1
    assert not any(module.training for module in model.modules())
    parameters = dict(model.named_parameters())
    assert all(torch.equal(value, before[name]) for name, value in parameters.items())


@pytest.mark.parametrize("settings", [{"ratio": 0.0}, {"ratio": 1.0}, {"round_to": 0}, {"recalibration_images": -1}])
def test_settings_out_of_range_are_refused(settings):
    with pytest.raises(UsageError, match="Expected"):
        PruneChannels(**settings)
