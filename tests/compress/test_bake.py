import copy

import pytest
import torch
from small_networks import SHAPE, subject
from torch import Tensor, fx, nn

from bench.compress.bake import bake, fold
from bench.compress.fake_quant import ActivationQuantizer, BiasQuantizer, WeightQuantizer
from bench.compress.prune_channels import PruneChannels
from bench.compress.quantize import Quantize
from bench.compress.trace import operation, trace


def answers(model: nn.Module, images: Tensor) -> tuple[Tensor, Tensor]:
    images = images.clone().requires_grad_()
    logits = model(images)
    weights = torch.randn(logits.shape, generator=torch.Generator().manual_seed(5))
    (gradient,) = torch.autograd.grad((logits * weights).sum(), images)
    return logits.detach(), gradient


def same_answers(model: nn.Module, images: Tensor) -> None:
    """Guarantees: the same logits and the same input gradients, bit for bit."""
    (logits, gradient), (baked_logits, baked_gradient) = answers(model, images), answers(bake(model), images)
    assert gradient.abs().sum() > 0
    assert torch.equal(logits, baked_logits)
    assert torch.equal(gradient, baked_gradient)


@pytest.mark.parametrize("bits", [8, 4, 1])
def test_the_same_logits_and_the_same_input_gradients(either, ingredients, unseen, bits):
    twin = Quantize(weight_bits=bits, activation_bits=max(bits, 2))(either, ingredients()).twin
    same_answers(twin, unseen[:32])


def test_the_same_for_a_pruned_and_quantised_network(conv, ingredients, unseen):
    pruned = PruneChannels(ratio=0.5)(conv, ingredients())
    same_answers(Quantize()(pruned, ingredients()).twin, unseen[:32])


def test_the_same_for_a_float_network(either, unseen):
    same_answers(either.twin, unseen[:32])


def test_a_network_left_in_training_mode_is_baked_in_evaluation_mode(conv, unseen):
    expected = answers(conv.twin, unseen[:8])[0]
    assert torch.equal(answers(bake(copy.deepcopy(conv.twin).train()), unseen[:8])[0], expected)


def test_no_weight_is_rounded_again(conv, ingredients):
    baked = bake(Quantize()(conv, ingredients()).twin)
    called = {node.target for node in baked.graph.nodes if node.op == "call_module"}
    assert called
    assert not [name for name in called if isinstance(baked.get_submodule(name), WeightQuantizer | BiasQuantizer)]


@pytest.mark.parametrize("quantised", [False, True])
def test_no_parameter_asks_for_a_gradient_and_the_original_is_untouched(conv, ingredients, unseen, quantised):
    model = Quantize()(conv, ingredients()).twin if quantised else conv.twin
    before = {name: value.clone() for name, value in model.state_dict().items()}
    asking = {name: parameter.requires_grad for name, parameter in model.named_parameters()}
    baked = bake(model)
    assert not any(parameter.requires_grad for parameter in baked.parameters())
    assert not any(module.training for module in baked.modules())
    with torch.no_grad():
        for parameter in baked.parameters():
            parameter.zero_()
    assert all(asking.values())
    assert asking == {name: parameter.requires_grad for name, parameter in model.named_parameters()}
    assert before.keys() == model.state_dict().keys()
    assert all(torch.equal(before[name], value) for name, value in model.state_dict().items())


def test_baking_twice_changes_nothing(conv, ingredients, unseen):
    once = bake(Quantize()(conv, ingredients()).twin)
    assert torch.equal(answers(once, unseen[:8])[0], answers(bake(once), unseen[:8])[0])
    assert subject(once).twin(torch.rand(2, *SHAPE)).shape[0] == 2


def test_folding_batch_norm_keeps_the_logits(either, unseen):
    traced = trace(either.twin, SHAPE, torch.device("cpu"))
    before = {name: value.clone() for name, value in traced.state_dict().items()}
    folded = fold(traced)
    norms = [sum("batch_norm" in str(node.target) for node in net.graph.nodes) for net in (traced, folded)]
    assert norms[1] < norms[0]
    with torch.no_grad():
        assert torch.allclose(folded(unseen[:32]), traced(unseen[:32]), atol=1e-4)
    assert all(torch.equal(value, before[name]) for name, value in traced.state_dict().items())
    assert fold(either.twin) is either.twin  # not a graph


class Raw(nn.Module):
    """Two convolutions whose weights lie in one module, and norms that fold or must not."""

    def __init__(self, norm: nn.Module, **norms) -> None:
        super().__init__()
        self.first, self.second = nn.Parameter(torch.randn(4, 3, 3, 3)), nn.Parameter(torch.randn(4, 4, 3, 3))
        self.one, self.two = nn.BatchNorm2d(4), norm
        self.last = nn.Linear(4, 4)
        for statistics in (self.one, norm):
            if statistics.running_mean is not None:
                statistics.running_mean.uniform_(-1, 1)
                statistics.running_var.uniform_(0.5, 2)

    def forward(self, images):
        x = self.one(nn.functional.conv2d(images, self.first)).relu()
        return self.last(self.two(nn.functional.conv2d(x, self.second)).mean((2, 3)))


@pytest.mark.parametrize("norm", [nn.BatchNorm2d(4), nn.BatchNorm2d(4, track_running_stats=False)])
def test_what_cannot_be_folded_stays(norm, unseen):
    torch.manual_seed(0)
    traced = trace(Raw(norm).eval(), SHAPE, torch.device("cpu"))
    with torch.no_grad():
        expected, found = traced(unseen), fold(traced)(unseen)
    assert (expected - found).norm() / expected.norm() < 1e-5


class Flattened(nn.Module):
    """A map that is flattened, and rectifiers before and after which somebody else reads."""

    def __init__(self) -> None:
        super().__init__()
        self.first, self.second = nn.Conv2d(3, 4, 3, padding=1), nn.Conv2d(4, 4, 3, padding=1)
        self.last = nn.Linear(4 * SHAPE[1] * SHAPE[2], 4)

    def forward(self, images):
        x = self.first(images)
        y = (x.relu() + x).relu()
        return self.last(self.second(y).relu().flatten(1))


class Watched(fx.Interpreter):
    """Keeps the gradient of every operation's outcome."""

    def __init__(self, module) -> None:
        super().__init__(module)
        self.gradients = {}

    def run_node(self, n):
        outcome = super().run_node(n)
        if outcome.requires_grad and n.op == "call_function":
            outcome.register_hook(lambda gradient: self.gradients.__setitem__(n.name, gradient))
        return outcome


def alike(model: nn.Module, images: Tensor) -> nn.Module:
    """Guarantees: the same logits up to the order of a sum, the same input gradients; return the baked model."""
    baked = bake(model)
    (logits, gradient), (baked_logits, baked_gradient) = answers(model, images), answers(baked, images)
    assert torch.allclose(logits, baked_logits, rtol=0, atol=1e-5 * float(logits.abs().max()))
    assert torch.allclose(gradient, baked_gradient, rtol=0, atol=1e-6 * float(gradient.abs().max()))
    return baked


def flattened(*layers: nn.Module) -> fx.GraphModule:
    """A channels-last network whose flattened map meets a linear layer."""
    torch.manual_seed(0)
    network = nn.Sequential(nn.Conv2d(3, 4, 3, padding=1), *layers, nn.Flatten(), nn.LazyLinear(4)).eval()
    network(torch.rand(2, *SHAPE))
    return trace(network.to(memory_format=torch.channels_last), SHAPE, torch.device("cpu"))


@pytest.mark.parametrize("between", [nn.ReLU(), nn.MaxPool2d(2), nn.Sequential(nn.ReLU6(), nn.AvgPool2d(2))])
def test_a_flattened_map_is_read_as_it_lies(between, unseen):
    network = flattened(between)
    alike(network, unseen[:8])
    laid = []
    for model in (network, bake(network)):
        watched = Watched(model)
        answers(watched.run, unseen[:8].contiguous(memory_format=torch.channels_last))
        maps = [gradient for gradient in watched.gradients.values() if gradient.dim() == 4 and gradient.shape[1] == 4]
        laid.append([gradient.stride(1) == 1 for gradient in maps])
    assert not all(laid[0])
    assert all(laid[1])


def test_a_quantised_map_is_read_as_it_lies_and_no_grid_is_found_twice(ingredients, unseen):
    network = flattened(nn.ReLU(), nn.MaxPool2d(2))
    twin = Quantize()(subject(network), ingredients()).twin
    baked = alike(twin, unseen[:8])
    before, after = (
        sum(
            node.op == "call_module" and isinstance(net.get_submodule(node.target), ActivationQuantizer)
            for node in net.graph.nodes
        )
        for net in (twin, baked)
    )
    assert (before, after) == (4, 2)
    assert torch.equal(answers(bake(baked), unseen[:8])[0], answers(baked, unseen[:8])[0])


@pytest.mark.parametrize("between", [nn.GELU(), nn.Sequential(nn.ReLU(), nn.BatchNorm2d(4)), nn.Softmax(1)])
def test_what_may_not_keep_its_channels_is_flattened_as_before(between, unseen):
    same_answers(flattened(between), unseen[:6])


def test_a_rectifier_overwrites_only_what_nobody_else_reads(unseen):
    torch.manual_seed(0)
    baked = bake(trace(Flattened().eval(), SHAPE, torch.device("cpu")))
    relus = [str(node.target) for node in baked.graph.nodes if "relu" in str(node.target)]
    assert relus == ["aten.relu.default", "aten.relu.default", "aten.relu_.default"]


def test_names_that_baking_would_give_may_be_taken(ingredients, unseen):
    """A sealed network may come from anybody."""
    twin = Quantize()(subject(flattened(nn.ReLU())), ingredients()).twin
    taken = []
    for node in list(twin.graph.nodes):
        if operation(node) == "linear":
            taken.append(f"moved_{node.name}_weight")
        if node.op == "call_module" and isinstance(twin.get_submodule(node.target), WeightQuantizer):
            taken.append(f"baked_{node.name}")
    for name in taken:
        twin.register_buffer(name, torch.full((1,), torch.nan))
    baked = alike(twin, unseen[:8])
    stored = {str(node.target) for node in baked.graph.nodes if node.op == "get_attr"}
    assert {f"{name}_" for name in taken if "linear" not in name or "moved" in name} <= stored


def test_only_what_is_read_is_kept(ingredients, unseen):
    baked = bake(Quantize()(subject(flattened(nn.ReLU())), ingredients()).twin)
    read = {str(node.target) for node in baked.graph.nodes if node.op == "get_attr"}
    assert {name for name in baked.state_dict() if not name.startswith("quantizers.")} <= read
    assert "moved_linear_weight" in read


def test_a_graph_that_overwrites_tensors_keeps_its_quantisers(ingredients, unseen):
    twin = Quantize()(subject(flattened(nn.ReLU())), ingredients()).twin
    quantized = next(node for node in twin.graph.nodes if "quantizers.relu" in str(node.target))
    with twin.graph.inserting_after(quantized):
        twin.graph.call_function(torch.ops.aten.mul_.Scalar, (quantized, 0.9))
    twin.recompile()
    same_answers(twin, unseen[:8])


def test_an_operation_may_have_its_input_by_name(unseen):
    torch.manual_seed(0)
    network = trace(Flattened().eval(), SHAPE, torch.device("cpu"))
    for node in network.graph.nodes:
        if "relu" in str(node.target) or "flatten" in str(node.target):
            first, *rest = node.args
            node.args, node.kwargs = (), {"self": first} | dict(zip(("start_dim",), rest, strict=True) if rest else ())
    network.recompile()
    same_answers(network, unseen[:8])
