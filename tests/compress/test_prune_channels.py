import copy
import dataclasses

import pytest
import torch
from small_networks import train
from torch import nn
from torch.nn import functional as F

from bench.compress.prune_channels import PruneChannels, recalibrate_batch_norm
from bench.compress.prune_importance import rank_together
from bench.errors import UsageError

IMPORTANCES = ["l1", "l2", "bn-scale", "taylor", "random"]


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


@pytest.mark.parametrize("importance", IMPORTANCES)
@pytest.mark.parametrize("ratio", [0.1, 0.5, 0.9])
def test_channels_are_gone_and_the_rest_trains(either, ingredients, examples, importance, ratio):
    twin = PruneChannels(ratio=ratio, importance=importance, taylor_images=64)(either, ingredients()).twin
    convs = [m.out_channels for m in twin.modules() if isinstance(m, nn.Conv2d)]
    wide = [m.out_channels for m in either.parent.modules() if isinstance(m, nn.Conv2d)]
    assert convs == [max(1, round(width * (1 - ratio))) for width in wide]
    assert twin(examples.pixels(slice(3))).shape == (3, 4)
    if ratio == 0.5:
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


@pytest.mark.parametrize("importance", ["l1", "taylor", "random"])
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


@pytest.mark.parametrize("importance", IMPORTANCES)
def test_global_ranking_keeps_every_layer_alive(residual, ingredients, examples, importance):
    step = PruneChannels(ratio=0.9, importance=importance, scope="global", taylor_images=64)
    twin = step(residual, ingredients()).twin
    for name, layer in twin.named_modules():
        if isinstance(layer, nn.Conv2d):
            assert layer.out_channels >= max(1, 0.05 * residual.parent.get_submodule(name).out_channels)
    assert twin(examples.pixels(slice(3))).isfinite().all()


def test_global_ranking_takes_more_from_the_layer_that_matters_less():
    important, idle = 1.0 + torch.rand(20), 0.5 * torch.rand(20)
    assert rank_together([important, idle], 0.25) == [20, 10]
    assert rank_together([important, idle], 0.5) == [19, 1]  # the idle layer keeps its twentieth
    assert sum(rank_together([important, idle], 0.9)) == 4
    assert rank_together([important, idle], 0.99) == [1, 1]


def test_global_ranking_shares_a_ratio_between_layers(conv, ingredients):
    torch.manual_seed(0)
    with torch.no_grad():
        net = nn.Sequential(*[nn.Conv2d(8 if i else 3, 8, 3) for i in range(5)], nn.Flatten(), nn.Linear(32, 4)).eval()
        for layer in net[1:3]:
            layer.weight[2:] *= 0.05
    widths = {}
    for scope in ("uniform", "global"):
        subject = dataclasses.replace(conv, twin=net)
        twin = PruneChannels(ratio=0.5, scope=scope, recalibration_images=0)(subject, ingredients()).twin
        widths[scope] = [layer.out_channels for layer in twin if isinstance(layer, nn.Conv2d)]
    assert widths["uniform"] == [4, 4, 4, 4, 4]
    # The last convolution is read by a linear layer, another structure: it is ranked by itself.
    assert sum(widths["global"][:4]) == 16
    assert widths["global"][4] == 4
    assert widths["global"][1] < 4 < widths["global"][3]


def test_taylor_counts_what_it_costs_but_not_against_the_budget(conv, ingredients):
    given = ingredients()
    PruneChannels(importance="taylor", taylor_images=96)(conv, given)
    assert (given.meter.forward, given.meter.backward, given.meter.images) == (96, 96, 0)


def test_the_note_says_what_was_saved(conv, ingredients):
    notes = []
    given = dataclasses.replace(ingredients(), report=lambda event: notes.append(event.note))
    twin = PruneChannels(ratio=0.5)(conv, given).twin
    assert notes[-1].endswith(f"parameters {parameters(conv.parent):,} → {parameters(twin):,}")


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


@pytest.mark.parametrize(
    "settings", [{"ratio": 0.0}, {"ratio": 1.0}, {"round_to": 0}, {"recalibration_images": -1}, {"taylor_images": 0}]
)
def test_settings_out_of_range_are_refused(settings):
    with pytest.raises(UsageError, match="Expected"):
        PruneChannels(**settings)
