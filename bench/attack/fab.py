"""FAB (Croce & Hein, 2020, arXiv 1907.02044): steps onto the linearised boundary, never far from the original."""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import Tensor

from bench.attack.hyperplane import to_hyperplane
from bench.attack.lanes import Laned
from bench.attack.search import Answer, Arrivals, Move, Question, overwrite
from bench.attack.suites import Budget
from bench.threat_model import ThreatModel

ALPHA_MAX, ETA, BETA = 0.1, 1.05, 0.9


@dataclass(kw_only=True)
class _Lanes:
    """One row a lane; images are (L, C, H, W), the others (L,)."""

    slot: Tensor
    images: Tensor
    labels: Tensor
    clean: Tensor  # asks about the image itself
    target: Tensor
    iteration: Tensor
    point: Tensor
    unknown: Tensor  # the point comes from a step: nobody knows yet on which side of the boundary it lies
    crossed: Tensor  # the step before led across the boundary; most do
    nearest: Tensor  # adversarial point of this lane
    distance: Tensor  # from the original to that


class Fab(Laned[_Lanes]):
    """Searches for the nearest adversarial point, in a lane for each target class.

    A step needs the gradient at a point, and the class of the point it leads to. Where the last step did not cross the
    boundary the next will hardly, and the new point is asked for both at once; where it did, only for the class, since
    the search goes on from nearer to the original.

    Args:
        threat: norm and eps.
        budget: iterations and targets.
        n_classes: K.
    """

    def __init__(self, *, threat: ThreatModel, budget: Budget, n_classes: int) -> None:
        super().__init__(min(budget.targets, n_classes - 1))
        self.threat, self.eps = threat, float(threat.eps)
        self.iterations = budget.iterations

    def enter(self, slots: Tensor, arrivals: Arrivals) -> _Lanes:
        """Return lanes that ask about the images themselves."""
        x, count = arrivals.images, torch.zeros_like(arrivals.labels)
        return _Lanes(
            slot=slots, images=x, labels=arrivals.labels, clean=~count.bool(), target=count, iteration=count.clone(),
            point=x, unknown=count.bool(), crossed=~count.bool(), nearest=x.clone(),
            distance=torch.full_like(x[:, 0, 0, 0], torch.inf),
        )  # fmt: skip

    def ask(self, *, room: int) -> Question:
        """Ask about every lane's point; for a gradient where a step is likely to start there."""
        s = self.rows
        idle = s.unknown & (s.crossed | (s.iteration == self.iterations - 1))
        return Question(points=s.point, slots=s.slot, differentiate=~(s.clean | idle))

    def loss(self, logits: Tensor, rows: Tensor) -> Tensor:
        """Return z_t − z_y, (n,): 0 on the boundary between the true class and the target."""
        s = self.rows
        target, label = s.target[rows].unsqueeze(1), s.labels[rows].unsqueeze(1)
        return (logits.gather(1, target) - logits.gather(1, label)).squeeze(1)

    def tell(self, question: Question, answer: Answer) -> Move:
        """Remember the nearest adversarial point and step back from it, or step on towards the boundary."""
        s = self.rows
        crossed = s.unknown & answer.wrong
        distance = self.threat.size(s.point - s.images).flatten()
        closer = crossed & (distance < s.distance)
        s.nearest = overwrite(s.nearest, closer, s.point)
        s.distance = torch.where(closer, distance, s.distance)
        # A copy of the point: the question that asked about it is still to be judged.
        s.point = overwrite(s.point.clone(), crossed, torch.lerp(s.images, s.point, BETA))
        s.iteration += s.unknown
        s.crossed = torch.where(s.unknown, crossed, s.crossed)
        ended = s.unknown & (s.iteration == self.iterations)
        s.unknown = question.differentiate & ~crossed & ~ended
        stepping = s.unknown.nonzero().flatten()
        if len(stepping):
            s.point[stepping] = self._step(stepping, answer)
        # The image itself is within every ball.
        claims = answer.wrong & (s.clean | (distance <= self.eps))
        offered, offers, done = self.turn(s.clean, ended, s.nearest, answer.logits)
        return Move(claims=claims, counted=torch.ones_like(claims), offered=offered, offers=offers, done=done)

    def begin(self, lanes: _Lanes, logits: Tensor) -> _Lanes:
        """Return lanes that start from the image."""
        lanes.clean = torch.zeros_like(lanes.clean)
        return lanes

    def _step(self, rows: Tensor, answer: Answer) -> Tensor:
        """Return the next points: between the projections of point and original onto the linearised boundary."""
        s = self.rows
        point, original = s.point[rows], s.images[rows]
        points, normal = torch.stack([point, original]).flatten(2), answer.gradient[rows].flatten(1)
        # The boundary is where the difference of the logits, as linear as it is here, becomes 0.
        at_point = answer.loss[rows]
        at_original = at_point - (normal * (point - original).flatten(1)).sum(1)
        moves = to_hyperplane(points, normal, torch.stack([at_point, at_original]), self.threat.norm)
        near, far = self.threat.size(moves.flatten(0, 1)).view(2, -1, 1).clamp_min(1e-8)
        alpha = (near / (near + far)).clamp_max(ALPHA_MAX)
        ahead, home = moves.mul_(ETA).add_(points)
        mixed: Tensor = ahead.mul_(1 - alpha).add_(home.mul_(alpha)).clamp_(0, 1)
        return mixed.view_as(point)
