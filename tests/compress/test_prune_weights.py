import copy
import dataclasses

import pytest
import torch
from small_networks import CLASSES
from torch import nn

from bench.compress.prune_channels import PruneChannels
from bench.compress.prune_weights import PruneWeights, two_of_four
from bench.compress.quantize import Quantize
from bench.errors import UsageError
from bench.finetune.adversarial import FinetuneAdversarial
from bench.finetune.clean import FinetuneClean
from bench.model import Subject
from bench.recipe import Ingredients


class Separable(nn.Module):
    """A stem, a depthwise and a pointwise convolution, a wide layer with tiny weights, a head."""

    def __init__(self) -> None:
        super().__init__()
        self.stem = nn.Conv2d(3, 16, 3)
        self.depthwise = nn.Conv2d(16, 16, 3, groups=16)
        self.pointwise = nn.Conv2d(16, 32, 1)
        self.tiny = nn.Linear(32 * 64, 24)
        self.head = nn.Linear(24, CLASSES)
        with torch.no_grad():
            self.tiny.weight.mul_(1e-3)

    def forward(self, x):
        return self.head(self.tiny(self.pointwise(self.depthwise(self.stem(x))).flatten(1)))


@pytest.fixture
def separable() -> Subject:
    torch.manual_seed(0)
    model = Separable().eval()
    return Subject.of(model)


def zeros(module: nn.Module) -> float:
    return (module.weight == 0).float().mean().item()


def inner(model: nn.Module) -> list[nn.Module]:
    """Convolutions and linears between the first and the last."""
    return [module for module in model.modules() if isinstance(module, nn.Conv2d | nn.Linear)][1:-1]


def given(ingredients, epochs: int = 2) -> Ingredients:
    """Ingredients with a budget: 2 epochs of 512 images in batches of 16 are 64 steps."""
    return dataclasses.replace(ingredients(), finetune_images=epochs * 512)


def in_fours(weight: torch.Tensor) -> torch.Tensor:
    """Count the zeros in each group of four consecutive input channels, by plain slicing."""
    groups = [weight[:, i : i + 4] for i in range(0, weight.shape[1], 4)]
    return torch.stack([(group == 0).sum(1) for group in groups])


@pytest.mark.parametrize("sparsity", [0.3, 0.9])
def test_global_removes_exactly_that_share_of_the_smallest(conv, ingredients, sparsity):
    new = PruneWeights(sparsity=sparsity, recalibration_images=0)(conv, ingredients())
    pruned = [module.weight for module in inner(new.twin)]
    before = torch.cat([module.weight.flatten() for module in inner(conv.parent)])
    after = torch.cat([weight.flatten() for weight in pruned])
    assert (after == 0).sum() == len(after) - round((1 - sparsity) * len(after))
    assert torch.equal(after[after != 0], before[after != 0])
    if sparsity == 0.3:  # no layer is at its floor, so that nothing kept is smaller than anything removed
        assert before[after == 0].abs().max() <= before[after != 0].abs().min()
    assert zeros(new.twin.conv1) == zeros(new.twin.head) == 0
    assert new.sparse
    assert not conv.sparse


def test_uniform_gives_every_layer_its_share(conv, ingredients):
    twin = PruneWeights(sparsity=0.75, pattern="uniform", first_last=True)(conv, ingredients()).twin
    assert [zeros(module) for module in (twin.conv1, *inner(twin), twin.head)] == pytest.approx([0.75] * 4, abs=2e-3)


def test_no_layer_is_wiped_out(separable, ingredients):
    twin = PruneWeights(sparsity=0.95)(separable, ingredients()).twin
    weights = 16 * 32 + 2048 * 24
    kept = torch.tensor([(module.weight != 0).sum().item() for module in (twin.pointwise, twin.tiny)])
    assert kept.sum() == round(0.05 * weights)
    assert 1 - zeros(twin.tiny) >= 0.05 / 4
    assert zeros(twin.depthwise) == 0
    # By magnitude alone the tiny layer would have kept what the pointwise one left over.
    assert zeros(twin.pointwise) == 0
    flipped = copy.deepcopy(separable.twin)
    with torch.no_grad():
        flipped.tiny.weight.mul_(1e6)
    twin = PruneWeights(sparsity=0.95)(dataclasses.replace(separable, twin=flipped), ingredients()).twin
    assert (twin.pointwise.weight != 0).sum() == 32


def test_more_zeros_than_layers_can_live_with_are_refused(separable, ingredients):
    with pytest.raises(UsageError, match="leaves 50 of 49,664 weights, and the layers have 56 output channels"):
        PruneWeights(sparsity=0.999)(separable, ingredients())


def test_two_of_four_input_channels_stay(either, ingredients):
    new = PruneWeights(pattern="2:4")(either, ingredients())
    for module, parent in zip(inner(new.twin), inner(either.parent), strict=True):
        assert (in_fours(module.weight) == 2).all()
        kept, gone = parent.weight[module.weight != 0].abs().sum(), parent.weight[module.weight == 0].abs().sum()
        assert kept > gone
    # Three input channels do not come in fours.
    assert zeros(PruneWeights(pattern="2:4", first_last=True)(either, ingredients()).twin.get_submodule("head")) == 0.5


def test_two_of_four_keeps_the_largest_two():
    weight = torch.tensor([[3.0, -4.0, 1.0, 2.0, 0.0, 0.0, 0.0, -1.0]])
    assert two_of_four(weight).tolist() == [[True, True, False, False, True, False, False, True]]
    pixels = torch.stack([weight, weight.flip(1)], -1).unsqueeze(-1)
    assert torch.equal(two_of_four(pixels)[..., 0, 0], two_of_four(weight))
    assert two_of_four(pixels).shape == pixels.shape


@pytest.mark.parametrize("settings", [{"sparsity": 0.9}, {"pattern": "2:4"}], ids=["sparse90", "nm24"])
@pytest.mark.parametrize(("network", "optimizer"), [("conv", "sgd"), ("residual", "sgd"), ("residual", "adamw")])
def test_zeros_are_the_same_zeros_after_quantisation_and_fine_tuning(
    request, ingredients, settings, network, optimizer
):
    sparse = PruneWeights(**settings)(request.getfixturevalue(network), ingredients())
    quantized = Quantize(calibration_images=64)(sparse, ingredients())
    step = FinetuneClean(
        epochs=2, batch_size=16, optimizer=optimizer, learning_rate=3e-3, momentum=0.9, weight_decay=0.05
    )
    tuned = step(quantized, given(ingredients))
    assert tuned.sparse
    before, after = dict(quantized.twin.named_parameters()), dict(tuned.twin.named_parameters())
    counts = []
    for name, weight in before.items():
        assert not torch.equal(weight, after[name])
        if weight.dim() > 1:
            assert torch.equal(weight == 0, after[name] == 0)
            counts.append(((weight == 0).sum().item(), in_fours(after[name]).min().item()))
    # Folding batch-norm neither added nor lost any.
    expected = sorted(int((module.weight == 0).sum()) for module in inner(sparse.twin))
    assert sorted(count for count, _ in counts if count) == expected
    if "pattern" in settings:
        assert [fewest for count, fewest in counts if count] == [2] * len(expected)


def test_zeros_stay_through_adversarial_fine_tuning_of_the_float_model(conv, ingredients):
    sparse = PruneWeights(sparsity=0.8)(conv, ingredients())
    tuned = FinetuneAdversarial(epochs=1, attack_steps=1, learning_rate=0.05)(sparse, given(ingredients, 1))
    for old, new in zip(inner(sparse.twin), inner(tuned.twin), strict=True):
        assert torch.equal(old.weight == 0, new.weight == 0)
        assert not torch.equal(old.weight, new.weight)


def test_without_the_mark_zeros_grow_again(conv, ingredients):
    sparse = PruneWeights(sparsity=0.8)(conv, ingredients())
    tuned = FinetuneClean(epochs=1)(dataclasses.replace(sparse, sparse=False), given(ingredients, 1))
    assert zeros(tuned.twin.conv2) < 0.1


class Attending(nn.Module):
    """A transformer in PyTorch's own words, with a class token that begins at zero."""

    def __init__(self) -> None:
        super().__init__()
        self.patch = nn.Conv2d(3, 8, 4, stride=4)
        self.token = nn.Parameter(torch.zeros(1, 1, 8))
        self.block = nn.TransformerEncoderLayer(8, 2, 16, batch_first=True)
        self.head = nn.Linear(8, CLASSES)

    def forward(self, x):
        tokens = self.patch(x).flatten(2).transpose(1, 2)
        return self.head(self.block(torch.cat([self.token.expand(len(x), -1, -1), tokens], 1))[:, 0])


def test_projections_of_attention_are_pruned_and_a_token_of_zeros_still_learns(conv, ingredients):
    torch.manual_seed(0)
    subject = dataclasses.replace(conv, twin=Attending().eval())
    for settings in ({"sparsity": 0.75, "pattern": "uniform"}, {"pattern": "2:4"}):
        sparse = PruneWeights(**settings)(subject, ingredients())
        block, share = sparse.twin.block, settings.get("sparsity", 0.5)
        weights = [block.self_attn.in_proj_weight, block.self_attn.out_proj.weight, block.linear1.weight]
        assert [(weight == 0).float().mean().item() for weight in weights] == [share] * 3
    tuned = FinetuneClean(epochs=1)(sparse, given(ingredients, 1)).twin
    assert torch.equal(tuned.block.self_attn.in_proj_weight == 0, block.self_attn.in_proj_weight == 0)
    assert (tuned.token != 0).all()


def test_fine_tuning_wins_the_accuracy_back(conv, ingredients, examples):
    def accuracy(model):
        return (model(examples.pixels()).argmax(1) == examples.labels).float().mean().item()

    sparse = PruneWeights(sparsity=0.95)(conv, ingredients())
    tuned = FinetuneClean(epochs=4)(sparse, given(ingredients, 4))
    assert accuracy(tuned.twin) > max(0.9, accuracy(sparse.twin))


def test_the_subject_given_is_left_alone(either, ingredients):
    state = copy.deepcopy(either.parent.state_dict())
    new = PruneWeights()(either, ingredients())
    assert new.parent is either.parent
    assert new.deployed is new.twin
    assert not new.twin.training
    assert all(torch.equal(value, state[name]) for name, value in either.parent.state_dict().items())


def test_pruning_again_adds_to_the_zeros(conv, ingredients):
    half = PruneWeights(sparsity=0.5)(conv, ingredients())
    more = PruneWeights(sparsity=0.9)(half, ingredients())
    for once, twice in zip(inner(half.twin), inner(more.twin), strict=True):
        assert ((twice.weight == 0) >= (once.weight == 0)).all()
        assert zeros(twice) > zeros(once)


def test_what_would_undo_zeros_is_refused(conv, ingredients):
    sparse = PruneWeights()(conv, ingredients())
    with pytest.raises(UsageError, match="1-bit weights have no zero"):
        Quantize(weight_bits=1)(sparse, ingredients())
    with pytest.raises(UsageError, match="1-bit weights have no zero"):
        Quantize(first_last_bits=1)(sparse, ingredients())
    with pytest.raises(UsageError, match="prune-channels before prune-weights"):
        PruneChannels()(sparse, ingredients())
    with pytest.raises(UsageError, match="before quantize"):
        PruneWeights()(Quantize(calibration_images=8)(conv, ingredients()), ingredients())


def test_a_network_without_layers_to_prune_is_refused(conv, ingredients):
    two = nn.Sequential(nn.Conv2d(3, 4, 3), nn.Flatten(), nn.Linear(400, CLASSES)).eval()
    with pytest.raises(UsageError, match="besides its first and its last, found none to prune"):
        PruneWeights()(dataclasses.replace(conv, twin=two), ingredients())


@pytest.mark.parametrize(
    "settings",
    [{"sparsity": 0.0}, {"sparsity": 1.0}, {"pattern": "2:4", "sparsity": 0.9}, {"recalibration_images": -1}],
)
def test_settings_out_of_range_are_refused(settings):
    with pytest.raises(UsageError, match=r"Expected|Pattern 2:4 means"):
        PruneWeights(**settings)
