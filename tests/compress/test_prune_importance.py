import pytest
import torch
import torch_pruning as tp
from small_networks import SHAPE
from torch import nn
from torch.nn import functional as F

from bench.compress.prune_importance import Part, batch_norm_scale, score_channels, size, taylor
from bench.dataset import Examples

EVERY = torch.arange(2)


def part(name, module, dim):
    return Part(name=name, module=module, dim=dim, index=EVERY, channel=EVERY)


@pytest.mark.parametrize(
    ("ours", "theirs"),
    [
        (size(1), tp.importance.GroupMagnitudeImportance(p=1)),
        (size(2), tp.importance.GroupMagnitudeImportance(p=2)),
        (batch_norm_scale, tp.importance.BNScaleImportance()),
    ],
)
def test_scores_are_those_of_torch_pruning(either, ours, theirs):
    graph = tp.DependencyGraph().build_dependency(either.parent, example_inputs=torch.rand(2, *SHAPE))
    compared = 0
    for group in graph.get_all_groups():
        expected = theirs(group)
        parts = [
            Part(
                name="",
                module=item.dep.target.module,
                dim=int(item.dep.handler in (tp.prune_conv_in_channels, tp.prune_linear_in_channels)),
                index=torch.tensor(item.idxs),
                channel=torch.tensor(item.root_idxs),
            )
            for item in group
            if isinstance(item.dep.target.module, nn.Conv2d | nn.Linear | nn.BatchNorm2d)
        ]
        got = score_channels(parts, len(group[0].idxs), ours)
        assert (got is None) == (expected is None)
        if expected is not None:
            assert torch.equal(got, expected)
            compared += 1
    assert compared > 1


def test_taylor_on_a_linear_network_by_hand(ingredients):
    """One image, logits W2 (W1 x): the loss changes with row i of W1 by w·∂L/∂w = h_i (W2ᵀ (p - y))_i."""
    given = ingredients()
    image, label = given.train.images[:1], given.train.labels[:1]
    net = nn.Sequential(nn.Flatten(), nn.Linear(432, 2, bias=False), nn.Linear(2, 4, bias=False))
    object.__setattr__(given, "train", Examples(images=image, labels=label))
    saliency = taylor(net, given, 8, torch.Generator())
    with torch.no_grad():
        hidden = net[1](image.flatten(1).float() / 255)
        error = F.softmax(net[2](hidden), 1) - F.one_hot(label, 4)
        expected = (hidden * (error @ net[2].weight)).abs().squeeze(0)
    # What the first layer writes is what the second reads: both see the same change.
    assert torch.allclose(saliency(part("1", net[1], 0)), expected, rtol=1e-4, atol=1e-7)
    assert torch.allclose(saliency(part("2", net[2], 1)), expected, rtol=1e-4, atol=1e-7)
    assert (given.meter.forward, given.meter.backward) == (1, 1)


def test_taylor_predicts_what_removing_a_channel_costs(conv, ingredients):
    """Scaling a channel by 1 - t changes each batch's loss by about t times its Σ w·∂L/∂w."""
    given, model = ingredients(), conv.parent
    train = given.train.first(64)
    object.__setattr__(given, "train", train)
    scores = taylor(model, given, 64, torch.Generator())(
        Part(name="conv2", module=model.conv2, dim=1, index=torch.arange(16), channel=torch.arange(16))
    )

    def loss():
        with torch.no_grad():
            return F.cross_entropy(model.double()(train.pixels().double()), train.labels)

    base = loss()
    for channel in range(0, 16, 5):
        with torch.no_grad():
            model.conv2.weight[:, channel] *= 1 - 1e-4
            change = (loss() - base).abs() / 1e-4
            model.conv2.weight[:, channel] /= 1 - 1e-4
        assert scores[channel].item() == pytest.approx(change.item(), rel=0.05, abs=1e-5)
