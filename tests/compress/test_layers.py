import torch
from small_networks import SHAPE
from torch import nn
from torch.nn import functional as F

from bench.compress.layers import between_ends, layers_that_run
from bench.measure.macs import count_macs


class Standardised(nn.Conv2d):
    def forward(self, x):
        return F.conv2d(x, self.weight - self.weight.mean((1, 2, 3), keepdim=True), self.bias, padding=1)


class Mixed(nn.Module):
    """Layers registered in another order than they run, one shared, one idle."""

    def __init__(self):
        super().__init__()
        self.head = nn.Linear(8, 4)
        self.idle = nn.Linear(8, 8)
        self.shared = self.alias = nn.Conv2d(8, 8, 3, padding=1)
        self.depthwise = nn.Conv2d(8, 8, 3, padding=1, groups=8)
        self.grouped = nn.Conv2d(8, 8, 1, groups=2)
        self.odd = Standardised(8, 8, 3)
        self.stem = nn.Conv2d(3, 8, 3, stride=2)

    def forward(self, x):
        x = self.shared(self.shared(self.stem(x)))
        return self.head(self.odd(self.grouped(self.depthwise(x))).mean((2, 3)))


def test_layers_come_in_the_order_they_run_with_what_they_do():
    model = Mixed().eval()
    layers = layers_that_run(model, torch.rand(1, *SHAPE))
    names = [("stem",), ("shared", "alias"), ("depthwise",), ("grouped",), ("odd",), ("head",)]
    assert [layer.names for layer in layers] == names
    assert [layer.names for layer in between_ends(layers)] == names[1:-1]
    assert [layer.positions for layer in layers] == [25, 50, 25, 25, 25, 1]
    assert [layer.plain for layer in layers] == [True, True, True, True, False, True]
    assert [layer.grouped for layer in layers] == [False, False, True, True, False, False]
    assert [layer.depthwise for layer in layers] == [False, False, True, False, False, False]
    assert sum(layer.macs for layer in layers) == count_macs(model, SHAPE).macs


def test_tokens_count_as_positions():
    model = nn.Sequential(nn.Flatten(2), nn.Linear(144, 5), nn.Flatten(), nn.Linear(15, 2))
    assert [layer.positions for layer in layers_that_run(model, torch.rand(1, *SHAPE))] == [3, 1]


def test_weights_under_a_parametrisation_are_not_plain():
    conv = nn.utils.parametrizations.weight_norm(nn.Conv2d(3, 4, 3))
    (layer,) = layers_that_run(nn.Sequential(conv), torch.rand(1, *SHAPE))
    assert not layer.plain
