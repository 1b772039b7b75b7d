"""An attack asks a network without batch-norms, which is always the one that training has reached."""

import gc
import weakref

import pytest
import torch
from torch import nn
from torch.nn import functional as F

from bench.finetune.folded import _views, folded
from bench.finetune.pgd import attacked, pgd
from bench.load.architectures import build
from bench.load.layout import channels_last
from bench.threat_model import ThreatModel, parse_eps

THREAT = ThreatModel(norm="Linf", eps=parse_eps("8/255"))


def images(n: int = 6, shape: tuple[int, int, int] = (3, 16, 16)) -> torch.Tensor:
    return torch.rand(n, *shape, generator=torch.Generator().manual_seed(3)).double()


def disturbed(model: nn.Module) -> nn.Module:
    """Give norms something to do."""
    generator = torch.Generator().manual_seed(4)
    for module in model.modules():
        if isinstance(module, nn.BatchNorm2d):
            for tensor in (module.running_mean, module.running_var, module.weight, module.bias):
                if tensor is not None:
                    tensor.data = torch.rand(tensor.shape, generator=generator) + 0.5
    return model.eval().double()


def norms(model: nn.Module) -> int:
    return sum(isinstance(module, nn.BatchNorm2d) for module in model.modules())


def outputs(model: nn.Module, points: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor]:
    points = points.clone().requires_grad_()
    logits = model(points)
    (gradient,) = torch.autograd.grad(logits.square().sum(), points)
    return logits.detach(), gradient


def alike(one: nn.Module, other: nn.Module, points: torch.Tensor) -> None:
    for mine, theirs in zip(outputs(one, points), outputs(other, points), strict=True):
        assert (mine - theirs).norm() < 1e-9 * theirs.norm()


@pytest.mark.parametrize("name", ["resnet18", "resnet20"])
def test_it_computes_the_same_without_norms(name):
    model = disturbed(channels_last(build(name, (3, 16, 16), 5), (3, 16, 16)))
    view = folded(model, images())
    alike(view, model, images())
    expected = {"resnet18": 0, "resnet20": norms(model)}  # option A asks how many channels there are: no trace
    assert norms(view) == expected[name]
    assert (view is model) == (name == "resnet20")


def test_it_follows_the_training_in_the_same_memory():
    model = disturbed(build("resnet18", (3, 16, 16), 5))
    view = folded(model, images())
    before = {name: tensor.data_ptr() for name, tensor in view.named_parameters()}
    optimizer = torch.optim.SGD(model.parameters(), lr=0.1)
    for _ in range(2):
        model.train()
        optimizer.zero_grad()
        F.cross_entropy(model(images()), torch.zeros(6, dtype=torch.int64)).backward()
        optimizer.step()
        model.eval()
        assert folded(model, images()) is view
        alike(view, model, images())
    assert {name: tensor.data_ptr() for name, tensor in view.named_parameters()} == before


def test_a_network_with_other_tensors_is_folded_anew():
    model = disturbed(nn.Sequential(nn.Conv2d(3, 4, 3), nn.BatchNorm2d(4), nn.Flatten()))
    view = folded(model, images())
    model[0].weight = nn.Parameter(torch.randn_like(model[0].weight))
    assert folded(model, images()) is not view
    alike(folded(model, images()), model, images())


class Awkward(nn.Module):
    """A convolution and a norm, called in a way that folding has to notice, or to bear."""

    def __init__(self, reason: str) -> None:
        super().__init__()
        self.reason = reason
        self.conv, self.norm = nn.Conv2d(3, 3, 3, padding=1), nn.BatchNorm2d(3)
        if reason == "statistics of the batch":
            self.norm = nn.BatchNorm2d(3, track_running_stats=False)
        if reason == "hook":
            self.conv.register_forward_hook(lambda module, arguments, output: output + 1)
        self.plain = [self.conv, self.norm]
        self.function = lambda x: self.conv(x)
        if reason == "a kind of its own":
            self.conv = type("Odd", (nn.Conv2d,), {})(3, 3, 3)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        if self.reason == "modules in a plain list":
            return self.plain[1](self.plain[0](x)).flatten(1)
        if self.reason == "a function of its own":
            return self.norm(self.function(x)).flatten(1)
        seen = self.conv(x)
        out = self.norm(seen)
        match self.reason:
            case "convolution read twice":
                out = out + seen
            case "norm called twice":
                out = self.norm(out)
            case "weight read elsewhere":
                out = out + self.conv.weight.mean()
            case "branch on values":
                out = out if out.mean() > 0 else -out
            case "no convolution before":
                out = self.norm(seen.relu())
            case "norm read elsewhere":
                out = out + self.norm.running_mean.mean()
        return out.flatten(1)


@pytest.mark.parametrize(
    "reason",
    ["convolution read twice", "norm called twice", "weight read elsewhere", "branch on values",
     "no convolution before", "statistics of the batch", "hook", "a kind of its own", "a function of its own"],
)  # fmt: skip
def test_what_would_not_be_the_same_stays(reason):
    model = disturbed(Awkward(reason))
    assert folded(model, images()) is model


@pytest.mark.parametrize("reason", ["", "modules in a plain list", "norm read elsewhere"])
def test_whatever_name_a_module_is_called_by(reason):
    model = Awkward(reason).double().eval()
    model.features = nn.Sequential(model.conv, model.norm)  # a second name
    view = folded(model, images())
    assert view is not model
    disturbed(model)
    alike(folded(model, images()), model, images())


def test_a_norm_that_has_a_factor_and_no_shift():
    model = disturbed(nn.Sequential(nn.Conv2d(3, 4, 3), nn.BatchNorm2d(4), nn.Flatten()))
    model[1].bias = None
    assert norms(folded(model, images())) == 0
    alike(folded(model, images()), model, images())


@pytest.mark.parametrize("affine", [True, False])
@pytest.mark.parametrize("bias", [True, False])
def test_a_norm_without_weights_and_a_convolution_with_bias(affine, bias):
    model = disturbed(nn.Sequential(nn.Conv2d(3, 4, 3, bias=bias), nn.BatchNorm2d(4, affine=affine), nn.Flatten()))
    assert norms(folded(model, images())) == 0
    alike(folded(model, images()), model, images())


def test_an_attack_leaves_the_model_as_it_was():
    model = disturbed(build("resnet18", (3, 16, 16), 5)).train()
    state = {name: value.clone() for name, value in model.state_dict().items()}
    wanted = [parameter.requires_grad for parameter in model.parameters()]
    moved = pgd(model, images(), torch.zeros(6, dtype=torch.int64), THREAT, steps=3, step_size=0.01, generator=None)
    assert THREAT.contains(moved, images()).all()
    assert model.training
    assert [parameter.requires_grad for parameter in model.parameters()] == wanted
    assert all(torch.equal(value, state[name]) for name, value in model.state_dict().items())


def test_a_view_goes_with_its_model():
    model = disturbed(build("resnet18", (3, 16, 16), 5))
    with attacked(model):
        folded(model, images())
    assert model in _views
    alive = [weakref.ref(model), weakref.ref(folded(model, images()))]
    del model
    gc.collect()  # tracing left a cycle
    assert [each() for each in alive] == [None, None]
