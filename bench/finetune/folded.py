"""What an attack sees of a network in training: batch-norms folded into the convolutions before them.

In evaluation a batch-norm is a factor and a shift for each channel. As part of a convolution they spare every step of
an attack a pass over each map, forward and backward, for one multiplication of the weights an attack.
"""

from __future__ import annotations

import copy
from dataclasses import dataclass
from weakref import WeakKeyDictionary

import torch
from torch import Tensor, fx, nn


@dataclass(frozen=True, kw_only=True)
class _View:
    """A copy of a model that shares what is not folded; it is kept with the tensors that it was made from.

    Attributes:
        network: in evaluation mode.
        weights: (of its convolution, of the model's).
        biases: of its convolutions, one after the other.
        norms: of the norms behind them: factors, shifts, means and variances, and what the convolutions add.
        eps: of the norms, one for each channel.
        tensors: all of the model's; a model that has others needs another view.
    """

    network: nn.Module
    weights: tuple[tuple[Tensor, Tensor], ...]
    biases: Tensor
    norms: tuple[tuple[Tensor, ...], ...]
    eps: Tensor
    tensors: tuple[Tensor, ...]

    @torch.no_grad()
    def follow(self) -> nn.Module:
        """Return the network, with the weights that the model has now, where they were before."""
        # All norms at once: a device takes longer to be told than to compute.
        gamma, beta, mean, variance, added = (torch.cat(each) for each in self.norms)
        factor = (variance + self.eps).rsqrt() * gamma
        torch.add(beta, (added - mean) * factor, out=self.biases)
        own = factor.split([len(mine) for mine, _ in self.weights])
        for (mine, weight), each in zip(self.weights, own, strict=True):
            torch.mul(weight, each.view(-1, 1, 1, 1), out=mine)
        return self.network


_views: WeakKeyDictionary[nn.Module, _View | None] = WeakKeyDictionary()


def folded(model: nn.Module) -> nn.Module:
    """Return a network that computes what the model computes in evaluation, up to rounding, for the next attack on it.

    It is the model itself where there is nothing to fold, or nothing that can be traced.

    Args:
        model: whose weights are those of the network until they change.
    """
    tensors = (*model.parameters(), *model.buffers())
    view = _views.get(model)
    if model not in _views or (view and not _same(view.tensors, tensors)):
        view = _views[model] = _new_view(model, tensors)
    return view.follow() if view else model


@torch.no_grad()
def _new_view(model: nn.Module, tensors: tuple[Tensor, ...]) -> _View | None:
    try:
        names = _foldable(model)
        if not names:
            return None
        network = copy.deepcopy(model, {id(tensor): tensor for tensor in tensors}).eval()
    except Exception:  # tracing runs the network's own code on stand-ins for tensors
        return None
    weights, norms, eps = [], [], []
    for name, behind in names:
        conv, norm = model.get_submodule(name), model.get_submodule(behind)
        assert isinstance(conv, nn.Conv2d)
        assert isinstance(norm, nn.BatchNorm2d)
        assert norm.running_mean is not None
        assert norm.running_var is not None
        zeros = torch.zeros_like(norm.running_mean)
        gamma, beta = (zeros + 1, zeros) if norm.weight is None else (norm.weight, norm.bias)
        norms.append((gamma, beta, norm.running_mean, norm.running_var, zeros if conv.bias is None else conv.bias))
        weights.append((torch.empty_like(conv.weight), conv.weight))
        eps.append(torch.full_like(zeros, norm.eps))
    biases = torch.cat([torch.empty_like(each) for each in eps])
    for (name, behind), (weight, _), bias in zip(names, weights, biases.split([len(e) for e in eps]), strict=True):
        mine = network.get_submodule(name)
        mine.weight, mine.bias = (nn.Parameter(tensor, requires_grad=False) for tensor in (weight, bias))
        network.set_submodule(behind, nn.Identity())
    return _View(
        network=network,
        weights=tuple(weights),
        biases=biases,
        norms=tuple(zip(*norms, strict=True)),
        eps=torch.cat(eps),
        tensors=tensors,
    )


def _foldable(model: nn.Module) -> list[tuple[str, str]]:
    """Return the names of (convolution, batch-norm) where that norm is all that reads that convolution."""
    if not any(isinstance(module, nn.BatchNorm2d) for module in model.modules()):
        return []
    names = [name for name, _ in model.named_modules(remove_duplicate=False)]
    modules = {name: model.get_submodule(name) for name in names}
    graph = fx.Tracer().trace(model)
    called = [modules[str(node.target)] for node in graph.nodes if node.op == "call_module"]
    read = {modules[str(node.target).rpartition(".")[0]] for node in graph.nodes if node.op == "get_attr"}

    def plain(module: nn.Module, kind: type[nn.Module]) -> bool:
        """Whether a module is called once, and does what all of its kind do."""
        hooked = module._forward_hooks or module._forward_pre_hooks
        return type(module) is kind and called.count(module) == 1 and module not in read and not hooked

    found = []
    for node in graph.nodes:
        before = node.args[0] if node.op == "call_module" and node.args else None
        if not isinstance(before, fx.Node) or before.op != "call_module" or len(before.users) != 1:
            continue
        conv, norm = modules[str(before.target)], modules[str(node.target)]
        if plain(conv, nn.Conv2d) and plain(norm, nn.BatchNorm2d) and norm.running_mean is not None:
            found.append((str(before.target), str(node.target)))
    return found


def _same(some: tuple[Tensor, ...], others: tuple[Tensor, ...]) -> bool:
    return len(some) == len(others) and all(one is other for one, other in zip(some, others, strict=True))
