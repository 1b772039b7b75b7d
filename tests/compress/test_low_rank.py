import copy
import dataclasses

import pytest
import torch
from small_networks import train
from torch import nn

from bench.compress.low_rank import LowRank, factorize
from bench.compress.prune_weights import PruneWeights
from bench.compress.quantize import Quantize
from bench.errors import UsageError
from bench.measure.macs import count_macs


def names_of_layers(model: nn.Module) -> list[str]:
    return [name for name, module in model.named_modules() if isinstance(module, nn.Conv2d | nn.Linear)]


@pytest.mark.parametrize("memory_format", [torch.contiguous_format, torch.channels_last])
def test_full_rank_gives_the_same_logits(either, unseen, memory_format):
    model = copy.deepcopy(either.parent).to(memory_format=memory_format)
    ranks = {}
    for name in names_of_layers(model):
        weight = model.get_submodule(name).weight
        ranks[name] = min(weight.shape[0], weight[0].numel())
    factorize(model, ranks)
    assert names_of_layers(model) == [f"{name}.{i}" for name in ranks for i in (0, 1)]
    with torch.no_grad():
        expected, got = either.parent(unseen), model(unseen)
    assert torch.allclose(got, expected, atol=1e-4 * expected.abs().max().item())


@pytest.mark.parametrize(
    "conv",
    [
        nn.Conv2d(6, 8, (3, 5), stride=(2, 1), padding=(1, 2), dilation=(1, 2)),
        nn.Conv2d(6, 8, 3, padding="same", padding_mode="reflect", bias=False),
        nn.Conv2d(6, 8, 1, stride=2),
    ],
    ids=["strided", "reflecting", "pointwise"],
)
def test_geometry_bias_and_the_best_approximation(conv):
    model, images = nn.Sequential(conv), torch.rand(2, 6, 9, 9)
    exact = copy.deepcopy(model)
    factorize(model, {"0": 3})
    first, second = model[0]
    assert (first.out_channels, second.kernel_size, first.bias) == (3, (1, 1), None)
    assert (second.bias is None) == (conv.bias is None)
    assert model(images).shape == exact(images).shape
    # Eckart and Young: what is left out are the smaller singular values, whatever the factors.
    product = torch.einsum("or,rihw->oihw", second.weight[:, :, 0, 0], first.weight).detach()
    sizes = torch.linalg.svdvals(conv.weight.detach().flatten(1))
    assert (product - conv.weight.detach()).norm() == pytest.approx(sizes[3:].norm().item(), rel=1e-4)
    whole = copy.deepcopy(exact)
    factorize(whole, {"0": min(8, conv.weight[0].numel())})
    assert torch.allclose(whole(images), exact(images), atol=1e-5)


@pytest.mark.parametrize("ratio", [0.25, 0.5, 0.8])
def test_every_layer_replaced_loses_its_share_of_macs_and_weights(conv, ingredients, ratio):
    twin = LowRank(ratio=ratio)(conv, ingredients()).twin
    # 16 outputs × 144 inputs of the second convolution, 32 × 144 of the hidden layer; rank r costs r · (in + out).
    ranks = [int((1 - ratio) * 16 * 144 / 160), int((1 - ratio) * 32 * 144 / 176)]
    assert [twin.conv2[0].out_channels, twin.hidden[0].out_features] == ranks
    by_hand = [144 * 3 * 9 * 16, 36 * ranks[0] * 160, ranks[1] * 176, 32 * 4]
    counted = count_macs(twin, (3, 12, 12))
    assert counted.macs == sum(by_hand)
    before = [layer.macs for layer in count_macs(conv.parent, (3, 12, 12)).layers]
    for full, left in zip(before[1:3], by_hand[1:3], strict=True):
        assert left <= (1 - ratio) * full
    weights = sum(parameter.numel() for parameter in (*twin.conv2.parameters(), *twin.hidden.parameters()))
    assert weights <= (1 - ratio) * (16 * 144 + 32 * 144) + 16 + 32


def test_ends_and_grouped_layers_stay(conv, ingredients):
    model = nn.Sequential(
        nn.Conv2d(3, 16, 3), nn.Conv2d(16, 16, 3, groups=4), nn.Conv2d(16, 16, 3), nn.Flatten(), nn.Linear(576, 4)
    ).eval()
    subject = dataclasses.replace(conv, twin=model)
    assert [type(layer) is nn.Sequential for layer in LowRank()(subject, ingredients()).twin] == [0, 0, 1, 0, 0]
    everywhere = LowRank(first_last=True)(subject, ingredients()).twin
    assert [type(layer) is nn.Sequential for layer in everywhere] == [1, 0, 1, 0, 1]


def test_a_layer_used_twice_stays_one_layer(conv, ingredients):
    shared = nn.Conv2d(16, 16, 3, padding=1)
    model = nn.Sequential(nn.Conv2d(3, 16, 3), shared, nn.ReLU(), shared, nn.Flatten(), nn.Linear(1600, 4)).eval()
    twin = LowRank()(dataclasses.replace(conv, twin=model), ingredients()).twin
    assert twin[1] is twin[3]
    assert type(twin[1]) is nn.Sequential


def test_quantises_and_trains_afterwards(either, ingredients, examples):
    new = LowRank()(either, ingredients())
    quantized = Quantize(calibration_images=128)(new, ingredients())
    losses = train(quantized.twin.train(), examples, 16)
    assert sum(losses[-4:]) < max(sum(losses[:4]), 0.4)


def test_the_subject_given_is_left_alone(either, ingredients):
    state = copy.deepcopy(either.parent.state_dict())
    new = LowRank()(either, ingredients())
    assert new.parent is either.parent
    assert new.deployed is new.twin
    assert not new.twin.training
    assert all(torch.equal(value, state[name]) for name, value in either.parent.state_dict().items())
    again = LowRank()(either, ingredients()).twin.state_dict()
    assert all(torch.equal(value, again[name]) for name, value in new.twin.state_dict().items())


class Peeking(nn.Module):
    """Reads a layer's shape in its forward pass."""

    def __init__(self) -> None:
        super().__init__()
        self.first, self.middle, self.head = nn.Linear(432, 64), nn.Linear(64, 64), nn.Linear(64, 4)

    def forward(self, x):
        return self.head(self.middle(self.first(x.flatten(1))).view(-1, self.middle.out_features))


def test_what_cannot_be_done_is_said_in_a_sentence(conv, ingredients):
    with pytest.raises(UsageError, match="low-rank step before quantize"):
        LowRank()(Quantize(calibration_images=8)(conv, ingredients()), ingredients())
    with pytest.raises(UsageError, match="low-rank step before prune-weights"):
        LowRank()(PruneWeights()(conv, ingredients()), ingredients())
    with pytest.raises(UsageError, match=r"ratio 0.99 left 100% of the MACs: no layer can be replaced"):
        LowRank(ratio=0.99)(conv, ingredients())
    with pytest.raises(UsageError, match=r"Cannot replace the layers of Peeking .*AttributeError"):
        LowRank()(dataclasses.replace(conv, twin=Peeking().eval()), ingredients())


@pytest.mark.parametrize("settings", [{"ratio": 0.0}, {"ratio": 1.0}, {"recalibration_images": -1}])
def test_settings_out_of_range_are_refused(settings):
    with pytest.raises(UsageError, match="Expected"):
        LowRank(**settings)
