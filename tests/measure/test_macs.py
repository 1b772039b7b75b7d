import pytest
import torch
from torch import nn

from bench.dataset import Examples
from bench.load.architectures import build
from bench.measure.macs import count_macs


def conv8_by_hand():
    sides = [28, 14, 14, 7, 7, 4]
    channels = [1, 32, 32, 64, 64, 128, 128]
    convolutions = sum(s * s * 9 * i * o for s, i, o in zip(sides, channels[:-1], channels[1:], strict=True))
    return convolutions


def resnet18_by_hand():
    total = 32 * 32 * 27 * 64
    inputs = 64
    for width, side in ((64, 32), (128, 16), (256, 8), (512, 4)):
        for block in range(2):
            total += side * side * 9 * (inputs + width) * width
            if block == 0 and width != 64:
                total += side * side * inputs * width
            inputs = width
    return total + 512 * 10


def test_resnet18_counts_as_by_hand():
    counted = count_macs(build("resnet18", (3, 32, 32), 10), (3, 32, 32))
    assert counted.macs == resnet18_by_hand() == 555_422_720
    assert counted.bops == counted.macs * 32 * 32
    assert sum(layer.macs for layer in counted.layers) == counted.macs
    assert len(counted.layers) == 21


def test_conv8_counts_as_by_hand():
    model = build("conv8", (1, 28, 28), 10)
    linear = sum(m.in_features * m.out_features for m in model.modules() if isinstance(m, nn.Linear))
    convolutions = sum(
        layer.macs
        for layer, module in zip(
            count_macs(model, (1, 28, 28)).layers,
            [m for m in model.modules() if isinstance(m, nn.Conv2d | nn.Linear)],
            strict=True,
        )
        if isinstance(module, nn.Conv2d)
    )
    counted = count_macs(model, (1, 28, 28))
    assert convolutions == counted.macs - linear
    assert convolutions == conv8_by_hand()


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


@pytest.fixture
def quantized():
    from bench.compress.quantize import Quantize
    from bench.model import Subject
    from bench.progress import silent
    from bench.recipe import Ingredients, Meter
    from bench.threat_model import ThreatModel, parse_eps

    def make(**settings):
        torch.manual_seed(0)
        model = build("digits-cnn", (1, 8, 8), 10).eval()
        ingredients = Ingredients(
            train=Examples(images=torch.randint(256, (16, 1, 8, 8)).byte(), labels=torch.zeros(16, dtype=torch.long)),
            threat=ThreatModel(norm="Linf", eps=parse_eps("8/255")),
            finetune_images=0,
            generator=torch.Generator().manual_seed(0),
            device=torch.device("cpu"),
            report=silent,
            meter=Meter(),
        )
        return model, Quantize(**settings)(Subject(twin=model, parent=model, deployed=model), ingredients).twin

    return make


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


def test_parameters_of_a_twin_are_counted_once(quantized):
    from bench.measure.size import count_parameters

    model, twin = quantized(weight_bits=2, activation_bits=8)
    full, small = count_parameters(model), count_parameters(twin)
    assert small.parameters <= full.parameters == sum(p.numel() for p in model.parameters())
    assert small.nonzeros < 0.9 * small.parameters  # most small weights round to 0 at two bits


def test_zeros_and_shared_weights():
    from bench.measure.size import count_parameters

    layer = nn.Linear(4, 4)
    with torch.no_grad():
        layer.weight[0] = 0
        layer.bias.fill_(1)
    size = count_parameters(nn.Sequential(layer, nn.ReLU(), layer))
    assert (size.parameters, size.nonzeros) == (20, 16)
