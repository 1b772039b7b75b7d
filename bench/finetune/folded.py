"""What an attack sees of a network in training: batch-norms folded into the convolutions before them.

In evaluation a batch-norm is a factor and a shift for each channel. As part of a convolution they spare every step of
an attack a pass over each map, forward and backward, for one multiplication of the weights an attack.
"""

from __future__ import annotations

import copy
from collections import Counter
from dataclasses import dataclass
from weakref import WeakKeyDictionary

import torch
from torch import Tensor, fx, nn

from bench.machine.tensor_float import tensor_float

Pair = tuple[nn.Conv2d, nn.BatchNorm2d]
TOLERANCE = 1e-3
"""By which logits may differ, relative to the largest: where norms are folded, float32 rounds otherwise."""


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


def folded(model: nn.Module, images: Tensor) -> nn.Module:
    """Return a network that computes what the model computes in evaluation, up to rounding, for the next attack on it.

    It is the model itself where there is nothing to fold, where it cannot be traced, or where the copy turns out to
    compute something else. The first attack decides that; modules must not be put in the place of others afterwards.

    Args:
        model: in evaluation mode; its weights are those of the network until they change.
        images: (N, C, H, W) in [0, 1], such as it takes.
    """
    tensors = (*model.parameters(), *model.buffers())
    view = _views.get(model)
    if model not in _views or (view and not _same(view.tensors, tensors)):
        view = _views[model] = _new_view(model, tensors, images[:2])
    return view.follow() if view else model


def forget_view(model: nn.Module) -> None:
    """Let go of the copy, and of whatever was kept for it."""
    _views.pop(model, None)


@torch.no_grad()
def _new_view(model: nn.Module, tensors: tuple[Tensor, ...], images: Tensor) -> _View | None:
    try:
        names = _foldable(model)
        if not names:
            return None
        network = copy.deepcopy(model, {id(tensor): tensor for tensor in tensors}).eval()
        theirs, mine = ([_pair(root, *each) for each in names] for root in (model, network))
        view = _folded_copy(network, mine, theirs, tensors)
        return view if _computes_the_same(view, model, mine, theirs, images) else None
    except Exception:  # tracing runs the network's own code on stand-ins for tensors, and copies anything
        return None


def _pair(root: nn.Module, conv: str, norm: str) -> Pair:
    pair = root.get_submodule(conv), root.get_submodule(norm)
    assert isinstance(pair[0], nn.Conv2d)
    assert isinstance(pair[1], nn.BatchNorm2d)
    return pair[0], pair[1]


def _folded_copy(network: nn.Module, mine: list[Pair], theirs: list[Pair], tensors: tuple[Tensor, ...]) -> _View:
    """Give the copy's convolutions weights of their own, and make its norms pass on what they get."""
    norms = []
    for conv, norm in theirs:
        assert norm.running_mean is not None
        assert norm.running_var is not None
        zeros = torch.zeros_like(norm.running_mean)
        gamma = zeros + 1 if norm.weight is None else norm.weight
        beta = zeros if norm.bias is None else norm.bias
        norms.append((gamma, beta, norm.running_mean, norm.running_var, zeros if conv.bias is None else conv.bias))
    eps = [torch.full_like(mean, norm.eps) for (_, norm), (_, _, mean, *_) in zip(theirs, norms, strict=True)]
    biases = torch.cat(eps)  # to be written to
    for (conv, norm), bias in zip(mine, biases.split([len(each) for each in eps]), strict=True):
        conv.weight = nn.Parameter(torch.empty_like(conv.weight), requires_grad=False)
        conv.bias = nn.Parameter(bias, requires_grad=False)
        norm.__class__ = nn.Identity  # type: ignore[assignment]  # under whatever name the network calls it
    return _View(
        network=network,
        weights=tuple((own.weight.data, conv.weight) for (own, _), (conv, _) in zip(mine, theirs, strict=True)),
        biases=biases,
        norms=tuple(zip(*norms, strict=True)),
        eps=torch.cat(eps),
        tensors=tensors,
    )


def _computes_the_same(view: _View, model: nn.Module, mine: list[Pair], theirs: list[Pair], images: Tensor) -> bool:
    """Whether the copy gives the model's logits, by its own folded modules alone, each called once.

    Logits alone would not tell: a norm that has not seen anything yet changes next to nothing.
    """
    calls = Counter[nn.Module]()
    own, others = ([module for pair in pairs for module in pair] for pairs in (mine, theirs))
    hooks = [module.register_forward_pre_hook(lambda module, _: calls.update([module])) for module in (*own, *others)]
    try:
        with torch.autocast(images.device.type, enabled=False), tensor_float(allowed=False):
            found = view.follow()(images)
            if calls != Counter(own):
                return False
            wanted = model(images)
    finally:
        for hook in hooks:
            hook.remove()
    return bool((found - wanted).abs().max() <= TOLERANCE * wanted.abs().max())


def _foldable(model: nn.Module) -> list[tuple[str, str]]:
    """Return the names of (convolution, batch-norm) where that norm is all that reads that convolution.

    None in a network with hooks: they would meet a copy, and run when nobody asks the network.
    """
    hooked = any(module._forward_hooks or module._forward_pre_hooks for module in model.modules())
    if hooked or not any(isinstance(module, nn.BatchNorm2d) for module in model.modules()):
        return []
    names = [name for name, _ in model.named_modules(remove_duplicate=False)]
    modules = {name: model.get_submodule(name) for name in names}
    graph = fx.Tracer().trace(model)
    called = [modules[str(node.target)] for node in graph.nodes if node.op == "call_module"]
    read = {modules[str(node.target).rpartition(".")[0]] for node in graph.nodes if node.op == "get_attr"}

    def plain(module: nn.Module, kind: type[nn.Module]) -> bool:
        """Whether a module is called once, and does what all of its kind do."""
        return type(module) is kind and called.count(module) == 1 and module not in read

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
