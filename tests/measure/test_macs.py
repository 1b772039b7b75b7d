import pytest
import torch
from torch import nn
from torch.nn import functional as F

from bench.compress.prune_channels import PruneChannels
from bench.compress.quantize import Quantize
from bench.compress.trace import trace
from bench.load.architectures import build
from bench.measure.macs import count_macs

CONV8, RESNET18 = (1, 28, 28), (3, 32, 32)


def conv8_by_hand(keep=1.0):
    """MACs of each layer of conv8 on 28×28 pixels, with a share of the channels kept."""
    sides = [28, 14, 14, 7, 7, 4]
    channels = [1, *(round(keep * width) for width in (32, 32, 64, 64, 128, 128))]
    convolutions = [s * s * 9 * i * o for s, i, o in zip(sides, channels[:-1], channels[1:], strict=True)]
    hidden = round(keep * 128)
    return [*convolutions, 4 * 4 * channels[-1] * hidden, hidden * 10]


def resnet18_by_hand(keep=1.0):
    """MACs of each layer of ResNet-18 on 32×32 pixels, in the order they run."""
    stem = round(keep * 64)
    layers = [32 * 32 * 27 * stem]
    inputs = stem
    for full, side in ((64, 32), (128, 16), (256, 8), (512, 4)):
        width = round(keep * full)
        for block in range(2):
            layers += [side * side * 9 * inputs * width, side * side * 9 * width * width]
            if block == 0 and full != 64:
                layers.append(side * side * inputs * width)
            inputs = width
    return [*layers, inputs * 10]


BY_HAND = pytest.mark.parametrize(
    ("name", "shape", "by_hand", "total"),
    [("conv8", CONV8, conv8_by_hand, 13_686_528), ("resnet18", RESNET18, resnet18_by_hand, 555_422_720)],
)


@BY_HAND
def test_layers_count_as_by_hand(name, shape, by_hand, total):
    counted = count_macs(build(name, shape, 10), shape)
    assert [layer.macs for layer in counted.layers] == by_hand()
    assert counted.macs == sum(by_hand()) == total
    assert counted.bops == total * 32 * 32


@BY_HAND
def test_pruned_layers_count_as_by_hand(name, shape, by_hand, total, given):
    twin = PruneChannels(ratio=0.5, recalibration_images=0)(*given(build(name, shape, 10), shape)).twin
    assert [layer.macs for layer in count_macs(twin, shape).layers] == by_hand(0.5)
    assert count_macs(twin, shape).macs == sum(by_hand(0.5))


@pytest.mark.parametrize(
    ("name", "shape", "by_hand"),
    [("conv8", CONV8, conv8_by_hand), pytest.param("resnet18", RESNET18, resnet18_by_hand, marks=pytest.mark.slow)],
)
def test_the_traced_graph_counts_as_by_hand(name, shape, by_hand):
    counted = count_macs(trace(build(name, shape, 10).eval(), shape, torch.device("cpu")), shape)
    assert [layer.macs for layer in counted.layers] == by_hand()
    assert counted.macs == sum(by_hand())


class Block(nn.Module):
    """A vision transformer of one block on 16 tokens of 12 channels and 3 heads; attention in one of two spellings."""

    def __init__(self, fused):
        super().__init__()
        self.patch = nn.Conv2d(3, 12, 2, stride=2)
        self.qkv, self.project = nn.Linear(12, 36), nn.Linear(12, 12)
        self.mlp = nn.Sequential(nn.Linear(12, 48), nn.GELU(), nn.Linear(48, 12))
        self.head = nn.Linear(12, 10)
        self.fused = fused

    def forward(self, images):
        x = self.patch(images).flatten(2).transpose(1, 2)
        q, k, v = self.qkv(x).view(-1, 16, 3, 3, 4).permute(2, 0, 3, 1, 4)
        fused = F.scaled_dot_product_attention
        mixed = fused(q, k, v) if self.fused else (q @ k.transpose(-2, -1) / 2).softmax(-1) @ v
        x = x + self.project(mixed.transpose(1, 2).reshape(-1, 16, 12))
        return self.head((x + self.mlp(x)).mean(1))


LINEARS = 16 * (12 * 12 + 12 * 36 + 12 * 12 + 2 * 12 * 48) + 12 * 10
ATTENTION = 2 * 3 * 16 * 16 * 4  # queries times keys, then weights times values, for each head


@pytest.mark.parametrize("fused", [False, True])
def test_attention_counts_both_of_its_products(fused):
    counted = count_macs(Block(fused), (3, 8, 8))
    assert sum(layer.macs for layer in counted.layers) == LINEARS
    assert counted.macs == LINEARS + ATTENTION
    assert counted.bops == counted.macs * 32 * 32


@pytest.mark.parametrize("fused", [False, True])
def test_attention_of_a_twin_counts_as_float(fused, given):
    twin = Quantize(calibration_images=4)(*given(Block(fused).eval(), (3, 8, 8))).twin
    counted = count_macs(twin, (3, 8, 8))
    assert counted.macs == LINEARS + ATTENTION
    assert counted.bops == LINEARS * 64 + ATTENTION * 32 * 32


class Packed(nn.Module):
    """Attention as `nn.MultiheadAttention` and `nn.TransformerEncoderLayer` do it: fused when nothing is trained."""

    def __init__(self):
        super().__init__()
        self.attention = nn.MultiheadAttention(12, 3, batch_first=True)
        self.block = nn.TransformerEncoderLayer(12, 3, 48, batch_first=True)

    def forward(self, images):
        x = images.view(-1, 16, 12)
        return self.block(self.attention(x, x, x, need_weights=False)[0]).mean(1)


def test_attention_that_runs_as_one_operation_is_counted_too():
    before = torch.backends.mha.get_fastpath_enabled()
    attention = 16 * (12 * 36 + 12 * 12) + ATTENTION
    assert count_macs(Packed().eval(), (3, 8, 8)).macs == 2 * attention + 16 * 2 * 12 * 48
    assert torch.backends.mha.get_fastpath_enabled() == before


class ByHand(nn.Module):
    """A linear layer of 64 → 10, written as products of single numbers in one of several ways."""

    def __init__(self, way):
        super().__init__()
        self.weight, self.bias, self.way = nn.Parameter(torch.randn(10, 64)), nn.Parameter(torch.randn(10)), way

    def forward(self, images):
        x, w = images.flatten(1), self.weight
        match self.way:
            case "broadcast":
                products = x[:, None, :] * w
            case "expanded":
                products = x[:, None, :].expand(-1, 10, -1) * w[None]
            case "fused":
                products = torch.addcmul(torch.zeros(()), x[:, None, :], w)
            case "along other dimensions":
                return (x[:, :, None] * w.t()).sum(1) + self.bias
        return products.sum(-1) + self.bias


@pytest.mark.parametrize("traced", [False, True])
@pytest.mark.parametrize("way", ["broadcast", "expanded", "fused", "along other dimensions"])
def test_a_layer_written_as_products_is_counted_in_float(way, traced):
    model = ByHand(way).eval()
    counted = count_macs(trace(model, (1, 8, 8), torch.device("cpu")) if traced else model, (1, 8, 8))
    assert (counted.macs, counted.bops, counted.layers) == (640, 640 * 32 * 32, ())


class Rare(nn.Module):
    """A linear layer of 64 → 10 by an operation that PyTorch's own counter does not know."""

    def __init__(self, way):
        super().__init__()
        self.weight, self.way = nn.Parameter(torch.randn(10, 64)), way

    def forward(self, images):
        x, w = images.flatten(1), self.weight
        match self.way:
            case "mv":
                return torch.stack([torch.mv(w, row) for row in x])
            case "addmv":
                return torch.stack([torch.addmv(torch.zeros(10), w, row) for row in x])
            case "dot":
                return torch.stack([torch.stack([torch.dot(row, weight) for weight in w]) for row in x])
            case "addbmm":
                return torch.addbmm(torch.zeros(len(x), 10), x[None], w.t()[None])
            case "distances":
                return torch.cdist(x, w, p=1)
            case "distances of many":
                return torch.cdist(x, w.repeat(4, 1))[:, ::4]
            case "distances of batches":
                return torch.cdist(x[:, None], w[None], p=1)[:, 0]
            case "bilinear":
                return F.bilinear(x, torch.ones(len(x), 1), w[:, :, None])


@pytest.mark.parametrize("way", ["mv", "addmv", "dot", "addbmm", "distances", "distances of batches", "bilinear"])
def test_operations_that_the_counter_does_not_know_are_counted(way):
    assert 640 <= count_macs(Rare(way), (1, 8, 8)).macs <= 2 * 640


def test_distances_of_many_are_counted_though_another_operation_computes_them():
    assert 4 * 640 <= count_macs(Rare("distances of many"), (1, 8, 8)).macs <= 5 * 640


def test_a_convolution_in_the_frequency_domain_is_counted():
    class Fourier(nn.Module):
        def forward(self, images):
            spectrum = torch.fft.rfft2(images)[:, None] * torch.ones(6, 3, 8, 5, dtype=torch.complex64)
            return torch.fft.irfft2(spectrum.sum(2)).flatten(1)

    products = 4 * 6 * 3 * 8 * 5
    assert products < count_macs(Fourier(), (3, 8, 8)).macs < products + 2 * 9 * 8 * 8 * 6 * 4


def test_a_convolution_written_as_products_is_counted():
    class Unfolded(nn.Module):
        def forward(self, images):
            patches = F.unfold(images, 3, padding=1)[:, None]
            return (patches * torch.ones(5, 27, 1)).sum(2)

    assert count_macs(Unfolded(), (3, 6, 6)).macs == 36 * 27 * 5


class Factors(nn.Module):
    """What multiplies values one by one in honest networks."""

    def __init__(self):
        super().__init__()
        self.stem, self.squeeze, self.head = nn.Conv2d(3, 8, 1), nn.Linear(8, 8), nn.Linear(8, 10)
        self.scale, self.shift = nn.Parameter(torch.rand(8, 1, 1)), nn.Parameter(torch.rand(8, 1, 1))
        self.temperature = nn.Parameter(torch.ones(2, 1, 1))

    def forward(self, images):
        x = self.stem(images * torch.tensor(2.0) / torch.ones(3, 1, 1))
        x = torch.addcmul(self.shift, x, self.scale) * x.std() + self.scale * x  # norms
        x = x * self.squeeze(x.mean((2, 3)))[:, :, None, None].sigmoid()  # a gate
        x = F.gelu(x) + x * torch.sigmoid(1.702 * x) * torch.special.ndtr(x)  # nonlinearities
        tokens = F.normalize(x.view(-1, 2, 4, x[0, 0].numel()), dim=-1) * 0.5
        attention = (tokens @ tokens.transpose(-1, -2) * self.temperature).softmax(-1)
        return self.head((attention @ tokens).flatten(1, 2).mean(-1))


def test_factors_of_honest_networks_cost_nothing():
    assert count_macs(Factors(), (3, 6, 6)).macs == 36 * 24 + 64 + 80 + 2 * 2 * 4 * 4 * 36


def test_grouped_and_token_layers_count_right():
    grouped = nn.Conv2d(8, 16, 3, groups=4, padding=1)
    assert count_macs(grouped, (8, 5, 5)).macs == count_macs(grouped, (8, 5, 5)).layers[0].macs == 25 * 16 * 2 * 9
    tokens = nn.Sequential(nn.Flatten(2), nn.Linear(9, 7))
    assert count_macs(tokens, (4, 3, 3)).layers[0].macs == 4 * 9 * 7


def test_the_model_keeps_its_mode():
    model = nn.Sequential(nn.Conv2d(1, 2, 1), nn.BatchNorm2d(2), nn.Flatten()).train()
    model[1].eval()
    count_macs(model, (1, 2, 2))
    assert [module.training for module in model] == [True, False, True]


def test_w8a8_costs_64_bit_operations_a_mac(quantized):
    model, twin = quantized()
    counted = count_macs(twin, (1, 8, 8))
    assert counted.macs == count_macs(model, (1, 8, 8)).macs
    assert counted.bops == counted.macs * 64


def test_bops_follow_the_bits_of_each_layer(quantized):
    model, twin = quantized(weight_bits=2, activation_bits=4, first_last_bits=8)
    layers = count_macs(twin, (1, 8, 8)).layers
    assert [layer.macs for layer in layers] == [layer.macs for layer in count_macs(model, (1, 8, 8)).layers]
    assert [(layer.weight_bits, layer.activation_bits) for layer in layers] == [
        (8, 8),
        *[(2, 4)] * (len(layers) - 2),
        (8, 8),
    ]
    assert count_macs(twin, (1, 8, 8)).bops == sum(
        layer.macs * (64 if i in (0, len(layers) - 1) else 8) for i, layer in enumerate(layers)
    )
