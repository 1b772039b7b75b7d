"""Pruning of structures that torch-pruning alone gets wrong, on networks small enough for every run."""

import copy
import dataclasses

import pytest
import torch
from small_networks import CLASSES, subject
from timm.models.convnext import ConvNeXt
from timm.models.swin_transformer import SwinTransformer
from timm.models.vision_transformer import VisionTransformer
from timm.models.xcit import Xcit
from torch import nn
from torch.nn import functional as F

from bench.compress.prune_channels import PruneChannels
from bench.compress.prune_importance import score_channels, size
from bench.compress.prune_proof import removes_what_it_says
from bench.compress.prune_structure import Removed
from bench.compress.prune_transformers import free_widths, head_dims
from bench.compress.quantize import Quantize
from bench.compress.trace import trace
from bench.dataset import Examples
from bench.errors import UsageError

SIDE = 16


def vit():
    return VisionTransformer(img_size=SIDE, patch_size=4, num_classes=CLASSES, embed_dim=32, depth=2, num_heads=4)


def xcit():
    return Xcit(
        img_size=SIDE, patch_size=8, num_classes=CLASSES, embed_dim=32, depth=1, cls_attn_layers=1, num_heads=4, eta=1.0
    )


def swin():
    return SwinTransformer(
        img_size=SIDE, patch_size=2, num_classes=CLASSES, embed_dim=16, depths=(2, 1), num_heads=(2, 4), window_size=4
    )


def convnext():
    return ConvNeXt(num_classes=CLASSES, depths=(1, 1, 1, 1), dims=(8, 8, 16, 16), patch_size=1, ls_init_value=1.0)


def convnext_v2():
    return ConvNeXt(num_classes=CLASSES, depths=(1, 1, 1, 1), dims=(8, 8, 16, 16), patch_size=1, use_grn=True)


class Mobile(nn.Module):
    """An inverted residual with a depthwise convolution; the classifier is a 1×1 convolution, then a temperature."""

    def __init__(self):
        super().__init__()
        self.stem = nn.Conv2d(3, 8, 3, padding=1)
        self.widen, self.norm = nn.Conv2d(8, 32, 1), nn.BatchNorm2d(32)
        self.depthwise = nn.Conv2d(32, 32, 3, padding=1, groups=32)
        self.narrow = nn.Conv2d(32, 8, 1)
        self.grouped = nn.Conv2d(8, 16, 3, padding=1, groups=4)
        self.classifier = nn.Conv2d(16, CLASSES, 1)

    def forward(self, x):
        x = F.relu6(self.stem(x))
        x = x + self.narrow(F.relu6(self.depthwise(F.relu6(self.norm(self.widen(x))))))
        return 2.0 * F.adaptive_avg_pool2d(self.classifier(F.relu(self.grouped(x))), 1).flatten(1)


class Committee(nn.Module):
    """Two networks, each with a classifier of its own, whose logits are averaged."""

    def __init__(self):
        super().__init__()
        self.members = nn.ModuleList(
            nn.Sequential(nn.Conv2d(3, 16, 3), nn.ReLU(), nn.Flatten(), nn.Linear(16 * 14 * 14, CLASSES))
            for _ in range(2)
        )

    def forward(self, x):
        return sum(member(x) for member in self.members) / 2


class Shuffled(nn.Module):
    """Channels change places between two convolutions, which torch-pruning does not see."""

    def __init__(self):
        super().__init__()
        self.conv1, self.conv2 = nn.Conv2d(3, 16, 3), nn.Conv2d(16, 16, 3)
        self.head = nn.Linear(16, CLASSES)

    def forward(self, x):
        x = F.relu(self.conv1(x))
        n, _, height, width = x.shape
        x = x.view(n, 2, -1, height, width).transpose(1, 2).reshape(n, -1, height, width)
        return self.head(F.relu(self.conv2(x)).mean((2, 3)))


@pytest.fixture
def square(ingredients):
    def make(notes=None):
        generator = torch.Generator().manual_seed(0)
        images = torch.randint(256, (16, 3, SIDE, SIDE), generator=generator).to(torch.uint8)
        train = Examples(images=images, labels=torch.randint(CLASSES, (16,), generator=generator))
        report = (lambda event: notes.append(event.note)) if notes is not None else ingredients().report
        return dataclasses.replace(ingredients(), train=train, report=report)

    return make


def prune(make, given, **settings):
    torch.manual_seed(0)
    model = make().eval()
    with torch.no_grad():  # scales of one and shifts of zero would hide that they were mixed up
        for module in model.modules():
            if isinstance(module, nn.LayerNorm | nn.BatchNorm2d):
                module.weight.uniform_(0.5, 1.5)
                module.bias.uniform_(-0.5, 0.5)
    return PruneChannels(**settings)(subject(model), given).twin


def gradients(twin, given):
    """Gradients of a training loss reach the image and every weight."""
    images, trained = given.train.pixels(slice(4)).requires_grad_(), copy.deepcopy(twin).train()
    F.cross_entropy(trained(images), given.train.labels[:4]).backward()
    assert images.grad.any()
    assert all(parameter.grad.isfinite().all() for parameter in trained.parameters())


def works(twin, given):
    """Gradients, a copy, a trace and quantisation."""
    gradients(twin, given)
    images = given.train.pixels(slice(4))
    with torch.no_grad():
        logits = twin(images)
        assert torch.equal(copy.deepcopy(twin)(images), logits)
        assert torch.allclose(trace(twin, (3, SIDE, SIDE), torch.device("cpu"))(images[:3]), logits[:3], atol=1e-4)
        assert Quantize(calibration_images=8)(subject(twin), given).twin(images).isfinite().all()


@pytest.mark.parametrize("ratio", [0.3, 0.75])
def test_a_vision_transformer_narrows_everywhere(square, ratio):
    notes = []
    twin = prune(vit, square(notes), ratio=ratio)
    kept = round(8 * (1 - ratio))
    assert twin.patch_embed.proj.out_channels == twin.head.in_features == round(32 * (1 - ratio))
    assert [block.attn.qkv.out_features for block in twin.blocks] == [3 * 4 * kept] * 2
    assert [block.mlp.fc1.out_features for block in twin.blocks] == [round(128 * (1 - ratio))] * 2
    assert not notes[-1].endswith("only")
    if ratio == 0.3:
        works(twin, square())


def test_widths_of_a_transformer_are_rounded_too(square):
    twin = prune(vit, square(), ratio=0.4, round_to=8)
    layers = [layer for layer in twin.modules() if isinstance(layer, nn.Linear) and layer is not twin.head]
    assert {layer.out_features % 8 for layer in layers} == {0}
    assert twin.blocks[0].attn.proj.in_features == 16


@pytest.mark.parametrize("importance", ["taylor", "random"])
def test_heads_are_ranked_over_layers_too(square, importance):
    twin = prune(vit, square(), ratio=0.5, importance=importance, scope="global")
    widths = [block.attn.qkv.out_features // 12 for block in twin.blocks]
    assert sum(widths) == 8
    assert min(widths) >= 1
    gradients(twin, square())


@pytest.mark.parametrize("make", [convnext, convnext_v2, Mobile, Committee])
def test_narrows_everywhere(square, make):
    notes = []
    twin = prune(make, square(notes), ratio=0.5)
    assert not notes[-1].endswith("only")
    gradients(twin, square())


def test_swin_narrows_its_windows_and_merges_the_right_channels(square):
    notes = []
    twin = prune(swin, square(notes), ratio=0.5)
    block = twin.layers[0].blocks[1]  # shifted windows
    assert (block.attn.qkv.weight.shape, block.mlp.fc1.weight.shape) == ((24, 8), (32, 8))
    assert twin.layers[1].downsample.reduction.weight.shape == (16, 32)
    assert not notes[-1].endswith("only")
    gradients(twin, square())


@pytest.mark.slow
@pytest.mark.parametrize("make", [xcit, swin, convnext, Mobile, Committee])
@pytest.mark.parametrize("scope", ["uniform", "global"])
def test_works_afterwards(square, make, scope):
    works(prune(make, square(), ratio=0.5, scope=scope), square())


def test_widths_that_only_look_like_the_classifiers_are_left_alone(square):
    notes = []
    twin = prune(xcit, square(notes), ratio=0.5)
    assert twin.pos_embed.hidden_dim == 32  # of the Fourier features, not of the tokens
    assert twin.head.in_features == 16
    assert not notes[-1].endswith("only")
    gradients(twin, square())


def test_groups_lose_equally_many_and_classifiers_none(square):
    twin = prune(Mobile, square(), ratio=0.5)
    assert (twin.stem.out_channels, twin.depthwise.groups, twin.grouped.weight.shape) == (4, 16, (8, 1, 3, 3))
    assert twin.classifier.out_channels == CLASSES


@pytest.mark.parametrize("make", [vit, xcit, swin])
def test_freed_modules_compute_the_same(make):
    model = make().eval()
    free = copy.deepcopy(model)
    free_widths(free)
    images = torch.rand(2, 3, SIDE, SIDE)
    assert {type(module) for module in free.modules()} != {type(module) for module in model.modules()}
    assert free.state_dict().keys() == model.state_dict().keys()
    assert torch.allclose(free(images), model(images), atol=1e-5)


def test_heads_lose_the_dimensions_that_matter_least():
    torch.manual_seed(0)
    model = vit().eval()
    free_widths(model)
    with torch.no_grad():  # dimensions 0 and 5 of each head do nothing: neither queries nor values
        for block in model.blocks:
            for part in (0, 2):
                block.attn.qkv.weight.view(3, 4, 8, 32)[part, :, [0, 5]] = 0
                block.attn.qkv.bias.view(3, 4, 8)[part, :, [0, 5]] = 0
            block.attn.qkv.weight.view(3, 4, 8, 32)[1, :, [0, 5]] *= 1e-3
            block.attn.proj.weight.view(32, 4, 8)[:, :, [0, 5]] *= 1e-3
    images = torch.rand(2, 3, SIDE, SIDE)
    expected = model(images)
    for heads in head_dims(model, lambda parts, width: score_channels(parts, width, size(1))):
        assert heads.scores[:2].max() < 0.1 * heads.scores[2:].min()
        heads.keep(6)
    assert torch.allclose(model(images), expected, atol=1e-5)
    assert model.blocks[0].attn.qkv.weight.shape == (72, 32)


def test_a_dependency_followed_wrongly_is_found_and_refused(square):
    with pytest.raises(UsageError, match=r"Cannot prune channels of Shuffled: .*that the network still reads"):
        prune(Shuffled, square(), ratio=0.5)


def test_a_network_with_nothing_to_spare_is_refused(square):
    with pytest.raises(UsageError, match="finds no layer whose channels could go"):
        prune(lambda: nn.Sequential(nn.Conv2d(3, CLASSES, 3), nn.AdaptiveAvgPool2d(1), nn.Flatten()), square())


@pytest.mark.parametrize(("inputs", "clean"), [((1, 3), True), ((0, 3), False)])
def test_the_proof_knows_which_inputs_went(inputs, clean):
    whole = nn.Sequential(nn.Flatten(), nn.Linear(12, 4), nn.LayerNorm(4), nn.Linear(4, 3))
    nn.init.normal_(whole[2].weight)
    nn.init.normal_(whole[2].bias)
    pruned = copy.deepcopy(whole)
    pruned[1].weight, pruned[1].bias = (nn.Parameter(p.detach()[[0, 2]]) for p in (whole[1].weight, whole[1].bias))
    pruned[2].weight, pruned[2].bias = (nn.Parameter(p.detach()[[0, 2]]) for p in (whole[2].weight, whole[2].bias))
    pruned[3].weight = nn.Parameter(whole[3].weight.detach()[:, [0, 2]])
    removed = [Removed(layer="3", index=inputs)]
    assert removes_what_it_says(whole, pruned, removed, torch.rand(2, 3, 2, 2)) is clean
