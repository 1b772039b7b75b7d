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
    """A copy that shares what is not folded.

    Attributes:
        network: in evaluation mode.
        pairs: (its convolution, the model's, the batch-norm behind that).
        tensors: of the model; a model that has others needs another view.
    """

    network: nn.Module
    pairs: tuple[tuple[nn.Conv2d, nn.Conv2d, nn.BatchNorm2d], ...]
    tensors: tuple[Tensor, ...]

    @torch.no_grad()
    def follow(self) -> nn.Module:
        """Return the network, with the weights that the model has now, where they were before."""
        norms = [norm for _, _, norm in self.pairs]
        factors = [(_running(norm)[1] + norm.eps).rsqrt() for norm in norms]
        for (mine, conv, norm), factor in zip(self.pairs, factors, strict=True):
            assert mine.bias is not None
            factor = factor if norm.weight is None else factor * norm.weight
            shift = -_running(norm)[0] if conv.bias is None else conv.bias - _running(norm)[0]
            torch.mul(conv.weight, factor.view(-1, 1, 1, 1), out=mine.weight)
            torch.mul(shift, factor, out=mine.bias)
            if norm.bias is not None:
                mine.bias.add_(norm.bias)
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


def _new_view(model: nn.Module, tensors: tuple[Tensor, ...]) -> _View | None:
    try:
        names = _foldable(model)
        network = copy.deepcopy(model, {id(tensor): tensor for tensor in tensors}) if names else model
    except Exception:  # tracing runs the network's own code on stand-ins for tensors
        return None
    pairs = []
    for name, norm in names:
        mine, conv, behind = (at.get_submodule(path) for at, path in ((network, name), (model, name), (model, norm)))
        assert isinstance(mine, nn.Conv2d)
        assert isinstance(conv, nn.Conv2d)
        assert isinstance(behind, nn.BatchNorm2d)
        mine.weight = nn.Parameter(torch.empty_like(conv.weight), requires_grad=False)
        mine.bias = nn.Parameter(conv.weight.new_empty(conv.out_channels), requires_grad=False)
        network.set_submodule(norm, nn.Identity())
        pairs.append((mine, conv, behind))
    return _View(network=network.eval(), pairs=tuple(pairs), tensors=tensors) if pairs else None


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
        if node.op != "call_module" or not isinstance(norm := modules[str(node.target)], nn.BatchNorm2d):
            continue
        conv = node.args[0] if node.args else None
        if not isinstance(conv, fx.Node) or conv.op != "call_module" or len(conv.users) != 1:
            continue
        if (
            plain(modules[str(conv.target)], nn.Conv2d)
            and plain(norm, nn.BatchNorm2d)
            and norm.running_mean is not None
        ):
            found.append((str(conv.target), str(node.target)))
    return found


def _running(norm: nn.BatchNorm2d) -> tuple[Tensor, Tensor]:
    """Return the mean and variance that it remembers."""
    assert norm.running_mean is not None
    assert norm.running_var is not None
    return norm.running_mean, norm.running_var


def _same(some: tuple[Tensor, ...], others: tuple[Tensor, ...]) -> bool:
    return len(some) == len(others) and all(one is other for one, other in zip(some, others, strict=True))
