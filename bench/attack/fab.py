"""FAB (Croce & Hein, 2020, arXiv 1907.02044): steps onto the linearised boundary, never far from the original."""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import Tensor

from bench.attack.hyperplane import to_hyperplane
from bench.attack.search import Answer, Arrivals, Move, Question, Seated, choose, likeliest, seat
from bench.attack.suites import Budget
from bench.threat_model import ThreatModel

ALPHA_MAX, ETA, BETA = 0.1, 1.05, 0.9


@dataclass(kw_only=True)
class _Slots:
    """One row a slot; images are (S, C, H, W), the others (S,) unless they say."""

    images: Tensor
    labels: Tensor
    clean: Tensor  # has yet to ask about the image itself
    targets: Tensor  # (S, runs)
    run: Tensor
    iteration: Tensor
    point: Tensor
    unknown: Tensor  # the point comes from a step: nobody knows yet on which side of the boundary it lies
    crossed: Tensor  # the step before led across the boundary; most do
    nearest: Tensor  # adversarial point of this run
    distance: Tensor  # from the original to that


class Fab(Seated[_Slots]):
    """Searches for the nearest adversarial point, target class after target class.

    A step needs the gradient at a point, and the class of the point it leads to. Where the last step did not cross the
    boundary the next will hardly, and the new point is asked for both at once; where it did, only for the class, since
    the search goes on from nearer to the original.

    Args:
        threat: norm and eps.
        budget: iterations and targets.
        n_classes: K.
    """

    def __init__(self, *, threat: ThreatModel, budget: Budget, n_classes: int) -> None:
        self.threat, self.eps = threat, float(threat.eps)
        self.iterations, self.runs = budget.iterations, min(budget.targets, n_classes - 1)

    def seat(self, gone: Tensor, arrivals: Arrivals) -> None:
        """Give free slots to new images."""
        x, count = arrivals.images, torch.zeros_like(arrivals.labels)
        fresh = _Slots(
            images=x, labels=arrivals.labels, clean=~count.bool(), targets=count.view(-1, 1).repeat(1, self.runs),
            run=count, iteration=count.clone(), point=x.clone(), unknown=count.bool(), crossed=~count.bool(),
            nearest=x.clone(), distance=torch.full_like(x[:, 0, 0, 0], torch.inf),
        )  # fmt: skip
        self.state = seat(self.state, gone, fresh)

    def ask(self, *, room: int) -> Question:
        """Ask about every slot's point; for a gradient where a step is likely to start there."""
        s = self.slots
        idle = s.unknown & (s.crossed | (s.iteration == self.iterations - 1))
        return Question(
            points=s.point, slots=torch.arange(len(s.point), device=s.point.device), differentiate=~(s.clean | idle)
        )

    def loss(self, logits: Tensor, slots: Tensor) -> Tensor:
        """Return z_t − z_y, (R,): 0 on the boundary between the true class and the target."""
        s = self.slots
        target = s.targets[slots, s.run[slots]].unsqueeze(1)
        return (logits.gather(1, target) - logits.gather(1, s.labels[slots].unsqueeze(1))).squeeze(1)

    def tell(self, question: Question, answer: Answer) -> Move:
        """Remember the nearest adversarial point and step back from it, or step on towards the boundary."""
        s = self.slots
        clean, arrived = s.clean, s.unknown
        if clean.any():
            s.targets[clean] = likeliest(answer.logits[clean], self.runs)
        crossed = arrived & answer.wrong
        distance = self.threat.size(s.point - s.images).flatten()
        closer = crossed & (distance < s.distance)
        s.nearest, s.distance = choose(closer, s.point, s.nearest), torch.where(closer, distance, s.distance)
        s.point = choose(crossed, s.images + (s.point - s.images) * BETA, s.point)
        s.iteration += arrived
        s.crossed = torch.where(arrived, crossed, s.crossed)
        s.clean = torch.zeros_like(clean)
        ended = arrived & (s.iteration == self.iterations)
        s.unknown = question.differentiate & ~crossed & ~ended
        stepping = s.unknown.nonzero().flatten()
        if len(stepping):
            s.point[stepping] = self._step(stepping, answer)
        offered = ended.nonzero().flatten()
        offers = s.nearest[offered]
        s.run += ended.long()
        if len(offered):
            self._start(offered)
        return Move(
            # The image itself is within every ball.
            claims=answer.wrong & (clean | (distance <= self.eps)),
            counted=torch.ones_like(answer.wrong),
            offered=offered,
            offers=offers,
            done=s.run == self.runs,
        )

    def _step(self, rows: Tensor, answer: Answer) -> Tensor:
        """Return the next points: between the projections of point and original onto the linearised boundary."""
        s = self.slots
        point, original = s.point[rows], s.images[rows]
        normal = answer.gradient[rows].flatten(1)
        # The boundary is where the difference of the logits, as linear as it is here, becomes 0.
        at_point = answer.loss[rows]
        at_original = at_point - (normal * (point - original).flatten(1)).sum(1)
        moves = to_hyperplane(
            torch.cat([point.flatten(1), original.flatten(1)]),
            torch.cat([normal, normal]),
            torch.cat([at_point, at_original]),
            self.threat.norm,
        )
        sizes = self.threat.size(moves.view(-1, *point.shape[1:])).clamp_min(1e-8)
        ahead, home = moves.view(2, *point.shape)
        near, far = sizes.view(2, -1, *[1] * (point.dim() - 1))
        alpha = (near / (near + far)).clamp_max(ALPHA_MAX)
        mixed: Tensor = (point + ETA * ahead) * (1 - alpha) + (original + ETA * home) * alpha
        return mixed.clamp_(0, 1)

    def _start(self, rows: Tensor) -> None:
        """Begin with the next target, from the original."""
        s = self.slots
        s.point[rows], s.nearest[rows] = s.images[rows], s.images[rows]
        s.distance[rows], s.iteration[rows] = torch.inf, 0
        s.unknown[rows], s.crossed[rows] = False, True
