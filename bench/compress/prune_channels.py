"""Structured pruning: whole channels are removed, dependent layers with them (DepGraph, Fang et al., 2023)."""

from __future__ import annotations

import copy
import dataclasses
import math
from collections.abc import Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Literal

import torch
from torch import Tensor, nn
from torch.nn.modules.batchnorm import _BatchNorm

from bench.compress.draw import draw
from bench.compress.fake_quant import is_quantized
from bench.compress.prune_importance import Importance, Scorer, make_scorer, rank_together
from bench.compress.prune_transformers import free_widths
from bench.compress.repair import repair
from bench.errors import UsageError, described
from bench.flop_counter import macs_during
from bench.progress import Event

if TYPE_CHECKING:
    from bench.compress.prune_structure import Removed, Unit
    from bench.model import Subject
    from bench.recipe import Ingredients

Scope = Literal["uniform", "global"]
_BATCH = 64


class _DoesNotFitError(UsageError):
    """What is left after pruning does not fit together."""


@dataclass(frozen=True, kw_only=True)
class PruneChannels:
    """Remove a share of the channels of every layer but the classifier, the least important first.

    Of an attention, dimensions of its heads are removed. Where the channels that several layers add up (a residual
    stream) cannot be followed, only those inside blocks go, and the note of the step says so.

    Attributes:
        ratio: share of channels removed; MACs fall to about (1 - ratio)².
        importance: "l1", "l2" (size of its weights; Li et al., 2017), "bn-scale" (Liu et al., 2017; "l1" where no
            batch-norm follows), "taylor" (effect on the loss; Molchanov et al., 2019) or "random".
        scope: "uniform" removes the same share from each layer; "global" ranks channels over all layers of the same
            structure (isomorphic pruning; Fang et al., 2024), and none loses more than 95 % of its channels (or, at
            ratios above 0.9, keeps less than half of its uniform share).
        round_to: keep a multiple of so many channels, and at least as many (8 runs faster on most CPUs).
        taylor_images: training images from which "taylor" takes gradients.
        recalibration_images: training images on which batch-norm statistics are measured again, and which `repair`
            looks at; 0 leaves both.
        repair: in a network without norms, whether layers are rescaled so that their channels keep the means and
            standard deviations they had (REPAIR; Jordan et al., 2023). Without it a deep one may not even learn again.
    """

    ratio: float = 0.5
    importance: Importance = "l1"
    scope: Scope = "uniform"
    round_to: int | None = None
    taylor_images: int = 512
    recalibration_images: int = 1024
    repair: bool = True

    def __post_init__(self) -> None:
        if not 0.0 < self.ratio < 1.0:
            raise UsageError(f"Expected a pruning ratio between 0 and 1, both left out, got {self.ratio}.")
        if self.round_to is not None and self.round_to < 1:
            raise UsageError(f"Expected round_to of at least 1, got {self.round_to}.")
        if self.taylor_images < 1:
            raise UsageError(f"Expected taylor_images of at least 1, got {self.taylor_images}.")
        if self.recalibration_images < 0:
            raise UsageError(f"Expected recalibration_images of at least 0, got {self.recalibration_images}.")

    def __call__(self, subject: Subject, ingredients: Ingredients) -> Subject:
        """Return the subject with a narrower twin.

        Raises:
            UsageError: it is quantised or sparse already, cannot be pruned, or came out no cheaper.
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
        free_widths(model)
        probe = train.pixels(slice(2)).to(device)
        before = _cost(model, probe)
        seed = int(torch.randint(2**31, (1,), generator=ingredients.generator))
        score = make_scorer(self.importance, model, ingredients, self.taylor_images, seed)
        try:
            narrow, kept, note = *self._pruned(model, probe, score, inside=False), ""
        except _DoesNotFitError:
            # Shortcuts without parameters (option A) tie stages of different widths; what lies inside a block is free.
            narrow, kept, note = *self._pruned(model, probe, score, inside=True), ", inside blocks only"
        after = self._check_cost(narrow, probe, before)
        images = draw(self.recalibration_images, ingredients)
        recalibrate_batch_norm(narrow, images)
        if self.repair:
            repair(narrow, model, kept, images)
        saved = f"MACs {before.macs:,} → {after.macs:,}, parameters {before.parameters:,} → {after.parameters:,}"
        ingredients.report(Event(stage="prune-channels", note=saved + note))
        return dataclasses.replace(subject, twin=narrow.eval(), deployed=narrow)

    def _pruned(
        self, whole: nn.Module, probe: Tensor, score: Scorer, *, inside: bool
    ) -> tuple[nn.Module, dict[str, list[int]]]:
        """Return a narrower copy, and the outputs that are left of layers that lost some.

        With `inside`, only layers that share no channels with others are touched.
        """
        # Imported late: torch-pruning takes a second to import.
        from bench.compress.prune_proof import inputs_of, removes_what_it_says
        from bench.compress.prune_structure import analyse

        model = copy.deepcopy(whole)
        try:
            structure = analyse(model, probe, score, inside=inside)
            if not structure.units:
                raise RuntimeError("it finds no layer whose channels could go")
            old = [inputs_of(layer) for layer in structure.classifiers]
            counts = self._counts(structure.units)
            _narrow(structure.dims, counts[len(structure.channels) :])
            reference = copy.deepcopy(model)
            _narrow(structure.channels, counts[: len(structure.channels)])
            if not _runs(model, probe):
                _patch_widths(model, dict(zip(old, map(inputs_of, structure.classifiers), strict=True)))
            removed = [inputs for group in structure.channels for inputs in group.removed]
            if not removes_what_it_says(reference, model, removed, probe):
                raise RuntimeError("it removes channels that the network still reads")
        except Exception as error:
            raise _DoesNotFitError(
                f"Cannot prune channels of {_name(model)}: torch-pruning does not follow its structure "
                f"({described(error)}); choose another architecture."
            ) from error
        silenced = [outputs for group in structure.channels for outputs in group.silenced]
        return model, _left(whole, silenced)

    def _counts(self, units: Sequence[Unit]) -> list[int]:
        """Return how many channels each unit keeps."""
        if self.scope == "uniform":
            return [self._rounded(len(unit.scores) * (1.0 - self.ratio), unit) for unit in units]
        counts = [0] * len(units)
        for kind in {unit.kind for unit in units}:
            members = [position for position, unit in enumerate(units) if unit.kind == kind]
            ranked = rank_together([units[position].scores for position in members], self.ratio)
            for position, count in zip(members, ranked, strict=True):
                counts[position] = self._rounded(count, units[position])
        return counts

    def _rounded(self, count: float, unit: Unit) -> int:
        """Return the nearest width that is a multiple of `round_to` over all copies of a unit, and not nothing."""
        step = self.round_to or 1
        step //= math.gcd(step, unit.copies)
        return min(len(unit.scores), max(step, round(count / step) * step))

    def _check_cost(self, model: nn.Module, probe: Tensor, before: _Cost) -> _Cost:
        """Return the cost that is left, having made sure that the model really got cheaper."""
        after = _cost(model, probe)
        if after.macs > before.macs * (1.0 - self.ratio / 2):
            raise UsageError(
                f"Pruning {_name(model)} at ratio {self.ratio} left {after.macs / before.macs:.0%} of its MACs, where "
                f"about {(1.0 - self.ratio) ** 2:.0%} was expected; lower round_to or choose another ratio or "
                "architecture."
            )
        return after


def _left(whole: nn.Module, silenced: Sequence[Removed]) -> dict[str, list[int]]:
    """Return the outputs that layers have left, by name; a layer may have lost some several times."""
    left: dict[str, list[int]] = {}
    for lost in silenced:
        before = left.get(lost.layer, list(range(len(whole.get_submodule(lost.layer).weight))))  # type: ignore[arg-type]
        left[lost.layer] = [channel for place, channel in enumerate(before) if place not in set(lost.index)]
    return left


def _narrow(units: Sequence[Unit], counts: Sequence[int]) -> None:
    for unit, n in zip(units, counts, strict=True):
        if n < len(unit.scores):
            unit.keep(n)


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


def _runs(model: nn.Module, images: Tensor) -> bool:
    try:
        with torch.no_grad():
            model(images)
    except RuntimeError:
        return False
    return True


def _patch_widths(model: nn.Module, widths: dict[int, int]) -> None:
    """Correct widths that architectures remember as attributes: `view(-1, self.nChannels)` and the like."""
    for module in model.modules():
        if type(module).__module__.startswith("torch.nn"):
            continue
        for name, value in vars(module).items():
            if type(value) is int and value in widths and not name.startswith("_"):
                setattr(module, name, widths[value])


@dataclass(frozen=True, kw_only=True)
class _Cost:
    macs: int
    parameters: int


def _cost(model: nn.Module, images: Tensor) -> _Cost:
    macs, _ = macs_during(lambda: model(images[:1]))
    return _Cost(macs=macs, parameters=sum(p.numel() for p in model.parameters()))


def _name(model: nn.Module) -> str:
    """Return the class of the network, looking through a wrapper that normalises."""
    children = list(model.children())
    if isinstance(model, nn.Sequential) and len(children) == 2:
        model = children[1]
    elif type(model).__name__ == "Normalized" and children:
        model = children[0]
    return "this network" if isinstance(model, nn.Sequential) else type(model).__name__
