"""What happens at the end of an epoch: look at held-out training images, remember good networks, know when to stop."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Literal

import torch
from torch import Tensor, nn

from bench.dataset import Examples
from bench.errors import UsageError
from bench.finetune.descent import Descent
from bench.finetune.pgd import attacked, logits_of, pgd
from bench.progress import Event, Report
from bench.threat_model import ThreatModel

if TYPE_CHECKING:
    from bench.recipe import Meter

State = dict[str, Tensor]
PGD_STEPS = 10
_AT_ONCE = 256


@dataclass(frozen=True, kw_only=True)
class Check:
    """Accuracies on images held out of training: a trend between epochs, never a robustness to report.

    Attributes:
        clean: on the images as they are.
        single: after one step of length eps.
        robust: after PGD with ten steps.
    """

    clean: float
    single: float
    robust: float

    @property
    def collapsed(self) -> bool:
        """Whether this is catastrophic overfitting (Wong et al., 2020): robust against one step, but not against ten.

        Of the images it classifies, the network keeps at least half after one step, and of those less than a quarter
        after ten. Of a network that is robust indeed, ten steps take a few per cent more than one.
        """
        return self.clean > 0 and self.single >= 0.5 * self.clean and self.robust < 0.25 * self.single


def check(model: nn.Module, held: Examples, threat: ThreatModel, meter: Meter) -> Check:
    """Ask a network about held-out training images, with a random start that is the same at every call.

    Args:
        model: maps [0, 1] to logits; held still, and left as it was found.
        held: images on the model's device.
        threat: norm and eps.
        meter: counts the passes.
    """
    right = torch.zeros(3, device=held.labels.device)
    generator = torch.Generator().manual_seed(0)
    eps = float(threat.eps)
    for labels, index in zip(held.labels.split(_AT_ONCE), torch.arange(len(held)).split(_AT_ONCE), strict=True):
        images = held.pixels(index.to(labels.device))
        single = pgd(model, images, labels, threat, steps=1, step_size=eps, generator=None)
        robust = pgd(model, images, labels, threat, steps=PGD_STEPS, step_size=eps / 4, generator=generator)
        with attacked(model), torch.no_grad():
            for kind, asked in enumerate((images, single, robust)):
                right[kind] += (logits_of(model, asked).argmax(1) == labels).sum()
        meter.passes(len(images), forward=PGD_STEPS + 4, backward=PGD_STEPS + 1)
    clean, one, ten = (right / len(held)).tolist()
    return Check(clean=clean, single=one, robust=ten)


@dataclass(frozen=True, kw_only=True)
class Snapshot:
    """A copy of a network's state.

    Attributes:
        state: names and values.
        epoch: at the end of which epoch, counted from 1.
        score: (first, second) accuracy on the images held out; empty where there are none.
    """

    state: State
    epoch: int
    score: tuple[float, ...]


@dataclass(kw_only=True)
class Watch:
    """What is known at the end of each epoch, and what follows from it.

    Attributes:
        descent: which network to keep, and how long to be patient.
        report: told what was seen.
        stage: under which name.
        threat: of the checks; None without them.
        meter: counts their passes; None without them.
        held: training images held out, on the device; None for no checks.
        by: the accuracy that makes an epoch the best; the other one decides between equals.
        restore: whether catastrophic overfitting ends training with the last network before it, or is only reported.
        good: the last network that was finite and had not collapsed.
        best: the best network.
        stale: epochs since then.
        stopped: whether training is over before its time.
    """

    descent: Descent
    report: Report
    stage: str
    threat: ThreatModel | None = None
    meter: Meter | None = None
    held: Examples | None = None
    by: Literal["clean", "robust"] = "robust"
    restore: bool = False
    good: Snapshot | None = None
    best: Snapshot | None = None
    stale: int = 0
    stopped: bool = False

    def close(self, network: nn.Module, *, epoch: int, done: int, total: int) -> None:
        """Look at the network as it is at the end of an epoch, `done` of `total` steps into the training.

        Raises:
            UsageError: its weights are not finite.
        """
        if not _finite(network):
            raise UsageError(f"The weights are not finite after epoch {epoch}; try a smaller learning rate.")
        score: tuple[float, ...] = ()
        if self.held is not None and self.threat is not None and self.meter is not None:
            seen = check(network, self.held, self.threat, self.meter)
            said = f"clean {seen.clean:.1%}, PGD-{PGD_STEPS} {seen.robust:.1%} of {len(self.held)} held-out images"
            self.report(Event(stage=self.stage, done=done, total=total, note=f"epoch {epoch}: {said}"))
            if seen.collapsed and self._collapse(seen, epoch):
                return
            score = (seen.clean, seen.robust) if self.by == "clean" else (seen.robust, seen.clean)
        self.good = Snapshot(state=_copy(network), epoch=epoch, score=score)
        self._compare(self.good)

    def chosen(self) -> Snapshot | None:
        """Return the network to end with; None for the one that training left."""
        if self.descent.keep == "best":
            return self.best
        return self.good if self.stopped else None

    def _compare(self, new: Snapshot) -> None:
        if not new.score:
            return
        if self.best is None or new.score > self.best.score:
            self.best, self.stale = new, 0
            return
        self.stale += 1
        if self.descent.patience is not None and self.stale >= self.descent.patience:
            self.stopped = True
            note = f"stopped: no epoch since {self.best.epoch} was better"
            self.report(Event(stage=self.stage, note=note))

    def _collapse(self, seen: Check, epoch: int) -> bool:
        """Say that it happened; return whether training ends because of it."""
        happened = (
            f"catastrophic overfitting in epoch {epoch}: {seen.single:.1%} withstand one step, "
            f"{seen.robust:.1%} withstand {PGD_STEPS}"
        )
        if not self.restore:
            self.report(Event(stage=self.stage, note=happened))
            return False
        if self.good is None:
            raise UsageError(f"{happened}; try kind = 'noise', a smaller alpha, or finetune-adversarial.")
        self.stopped = True
        self.report(Event(stage=self.stage, note=f"{happened}; back to the network of epoch {self.good.epoch}"))
        return True


def _copy(network: nn.Module) -> State:
    return {name: value.detach().clone() for name, value in network.state_dict().items()}


def _finite(network: nn.Module) -> bool:
    """Say whether all weights are finite, waiting for the device once."""
    return bool(torch.stack([weight.detach().isfinite().all() for weight in network.parameters()]).all())
