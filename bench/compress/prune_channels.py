"""Structured pruning: whole channels are removed, dependent layers with them (DepGraph, Fang et al., 2023)."""

from __future__ import annotations

import copy
import dataclasses
import warnings
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Literal

import torch
from torch import Tensor, nn
from torch.nn.modules.batchnorm import _BatchNorm
from torch.utils.flop_counter import FlopCounterMode

from bench.compress.fake_quant import is_quantized
from bench.errors import UsageError
from bench.progress import Event

if TYPE_CHECKING:
    from bench.model import Subject
    from bench.recipe import Ingredients

Importance = Literal["l1", "l2", "bn-scale", "random"]
_BATCH = 64


class _DoesNotFitError(UsageError):
    """What is left after pruning does not fit together."""


@dataclass(frozen=True, kw_only=True)
class PruneChannels:
    """Remove the same share of channels from every layer but the classifier's head, the least important first.

    Attributes:
        ratio: share of channels removed; MACs fall to about (1 - ratio)².
        importance: "l1", "l2" (size of its weights; Li et al., 2017), "bn-scale" (Liu et al., 2017; "l1" where no
            batch-norm follows) or "random".
        round_to: keep a multiple of so many channels, and at least as many (8 runs faster on most CPUs).
        recalibration_images: training images on which batch-norm statistics are measured again; 0 leaves them.
    """

    ratio: float = 0.5
    importance: Importance = "l1"
    round_to: int | None = None
    recalibration_images: int = 1024

    def __post_init__(self) -> None:
        if not 0.0 < self.ratio < 1.0:
            raise UsageError(f"Expected a pruning ratio between 0 and 1, both left out, got {self.ratio}.")
        if self.round_to is not None and self.round_to < 1:
            raise UsageError(f"Expected round_to of at least 1, got {self.round_to}.")
        if self.recalibration_images < 0:
            raise UsageError(f"Expected recalibration_images of at least 0, got {self.recalibration_images}.")

    def __call__(self, subject: Subject, ingredients: Ingredients) -> Subject:
        """Return the subject with a narrower twin.

        Raises:
            UsageError: it is quantised or sparse already, has no head that can be told, or came out no cheaper.
        """
        if is_quantized(subject.twin):
            raise UsageError("Pruning cannot follow quantisation; put the prune-channels step before quantize.")
        if subject.sparse:
            raise UsageError(
                "Removing channels would break the pattern of zeros; put prune-channels before prune-weights."
            )
        device, train = ingredients.device, ingredients.train
        model = copy.deepcopy(subject.twin).eval().to(device)
        for parameter in model.parameters():  # dependencies are found by following gradients
            parameter.requires_grad_(True)
        probe = train.pixels(slice(2)).to(device)
        before = _macs(model, probe)
        seed = int(torch.randint(2**31, (1,), generator=ingredients.generator))
        try:
            model = self._pruned(model, probe, seed, inside=False)
        except _DoesNotFitError:
            # Shortcuts without parameters (option A) tie stages of different widths; what lies inside a block is free.
            model = self._pruned(model, probe, seed, inside=True)
        after = self._check_macs(model, probe, before)
        order = torch.randperm(len(train), generator=ingredients.generator)[: self.recalibration_images]
        recalibrate_batch_norm(model, train.pixels(order.to(train.images.device)).to(device))
        ingredients.report(Event(stage="prune-channels", note=f"MACs {before:,} → {after:,}"))
        return dataclasses.replace(subject, twin=model.eval(), deployed=model)

    def _pruned(self, model: nn.Module, probe: Tensor, seed: int, *, inside: bool) -> nn.Module:
        """Return a narrower copy; with `inside`, only layers that share no channels with others are touched."""
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")  # it uses a part of torch that is deprecated
            import torch_pruning as tp

        model = copy.deepcopy(model)
        head = find_head(model, probe)
        width = head.in_features
        importance = self._importance(model, tp)
        try:
            with torch.enable_grad(), torch.random.fork_rng(devices=[]):
                torch.manual_seed(seed)  # torch-pruning draws "random" from the global generator
                tp.pruner.BasePruner(
                    model,
                    probe,
                    importance=importance,
                    pruning_ratio=self.ratio,
                    pruning_ratio_dict=self._ratios(model, head),
                    ignored_layers=[head, *(_shared(model, probe, tp) if inside else ())],
                ).step()
            _patch_widths(model, width, head.in_features)
            with torch.no_grad():
                model(probe)
        except Exception as error:
            raise _DoesNotFitError(
                f"Cannot prune channels of {_name(model)}: torch-pruning does not follow its structure "
                f"({type(error).__name__}: {_first_line(error)}); choose another architecture."
            ) from error
        return model

    def _importance(self, model: nn.Module, tp: Any) -> Any:
        if self.importance == "random":
            return tp.importance.RandomImportance()
        if self.importance == "bn-scale":
            if not any(isinstance(module, _BatchNorm) for module in model.modules()):
                raise UsageError(f"Importance 'bn-scale' needs batch-norm, and {_name(model)} has none; use 'l1'.")
            by_scale, by_size = tp.importance.BNScaleImportance(), tp.importance.GroupMagnitudeImportance(p=1)

            def importance(group: Any) -> Any:
                # Channels that meet no batch-norm have no such score, and would silently be left alone.
                score = by_scale(group)
                return by_size(group) if score is None else score

            return importance
        return tp.importance.GroupMagnitudeImportance(p=1 if self.importance == "l1" else 2)

    def _ratios(self, model: nn.Module, head: nn.Linear) -> dict[nn.Module, float]:
        """Return the ratio that leaves each layer its rounded width.

        torch-pruning's own `round_to` leaves a layer *unpruned* if it would round to nothing, and says nothing.
        """
        step = self.round_to or 1
        ratios: dict[nn.Module, float] = {}
        for module in model.modules():
            if isinstance(module, nn.Conv2d | nn.Linear) and module is not head:
                width = module.out_channels if isinstance(module, nn.Conv2d) else module.out_features
                kept = max(step, round(width * (1.0 - self.ratio) / step) * step)
                if kept < width:
                    ratios[module] = 1.0 - (kept + 1e-3) / width  # the pruner truncates the width it keeps
                else:
                    ratios[module] = 0.0
        return ratios

    def _check_macs(self, model: nn.Module, probe: Tensor, before: int) -> int:
        """Return the MACs left, having made sure that the model really got cheaper."""
        after = _macs(model, probe)
        if after > before * (1.0 - self.ratio / 2):
            raise UsageError(
                f"Pruning {_name(model)} at ratio {self.ratio} left {after / before:.0%} of its MACs, where about "
                f"{(1.0 - self.ratio) ** 2:.0%} was expected; lower round_to or choose another ratio or architecture."
            )
        return after


def _shared(model: nn.Module, probe: Tensor, tp: Any) -> list[nn.Module]:
    """Return the layers whose channels must be removed together with another layer's, or cannot be followed."""
    graph = tp.DependencyGraph().build_dependency(model, example_inputs=probe)
    shared: list[nn.Module] = []
    for layer in [module for module in model.modules() if isinstance(module, nn.Conv2d | nn.Linear)]:
        remove = tp.prune_conv_out_channels if isinstance(layer, nn.Conv2d) else tp.prune_linear_out_channels
        try:
            group = graph.get_pruning_group(layer, remove, idxs=[0])
            tied = {dep.target.module for dep, _ in group if graph.is_out_channel_pruning_fn(dep.handler)}
            free = {module for module in tied if isinstance(module, nn.Conv2d | nn.Linear)} == {layer}
        except Exception:  # torch-pruning raises whatever its index arithmetic runs into
            free = False
        if not free:
            shared.append(layer)
    return shared


def find_head(model: nn.Module, images: Tensor) -> nn.Linear:
    """Return the linear layer that produces the logits: the last layer to run, as wide as the output.

    Raises:
        UsageError: the last layer is of another kind or width.
    """
    ran: list[nn.Module] = []
    layers = [module for module in model.modules() if isinstance(module, nn.Conv2d | nn.Linear)]
    hooks = [layer.register_forward_pre_hook(lambda module, _: ran.append(module)) for layer in layers]
    with torch.no_grad():
        classes = model(images).shape[1]
    for hook in hooks:
        hook.remove()
    if not ran or not isinstance(ran[-1], nn.Linear) or ran[-1].out_features != classes:
        raise UsageError(f"Expected {_name(model)} to end in a linear layer with {classes} outputs; it does not.")
    return ran[-1]


def recalibrate_batch_norm(model: nn.Module, images: Tensor) -> None:
    """Measure batch-norm statistics again, in place, as plain averages over the images; only statistics change.

    Channels that are gone change what the next layer sees; this alone wins back much of the accuracy.

    Args:
        model: on the images' device; left in eval mode.
        images: (N, C, H, W) in [0, 1]; none, and nothing changes.
    """
    norms = [m for m in model.modules() if isinstance(m, _BatchNorm) and m.track_running_stats]
    model.eval()
    if not norms or len(images) < 2:
        return
    momenta = [norm.momentum for norm in norms]
    for norm in norms:
        norm.reset_running_stats()
        norm.momentum = None  # plain average
        norm.train()
    with torch.no_grad():
        for start in range(0, len(images) - 1, _BATCH):  # never a last batch of one image: it has no variance
            model(images[start : start + _BATCH])
    for norm, momentum in zip(norms, momenta, strict=True):
        norm.momentum = momentum
    model.eval()


def _patch_widths(model: nn.Module, old: int, new: int) -> None:
    """Correct widths that architectures remember as attributes: `view(-1, self.nChannels)` and the like."""
    for module in model.modules():
        if type(module).__module__.startswith("torch.nn"):
            continue
        for name, value in vars(module).items():
            if type(value) is int and value == old and not name.startswith("_"):
                setattr(module, name, new)


def _macs(model: nn.Module, images: Tensor) -> int:
    counter = FlopCounterMode(display=False)
    with torch.no_grad(), counter:
        model(images[:1])
    return int(counter.get_total_flops()) // 2


def _name(model: nn.Module) -> str:
    """Return the class of the network, looking through a wrapper that normalises."""
    inner = model[1] if isinstance(model, nn.Sequential) and len(model) == 2 else model
    return "this network" if isinstance(inner, nn.Sequential) else type(inner).__name__


def _first_line(error: Exception) -> str:
    return next(iter(str(error).strip().splitlines()), "no reason given")
