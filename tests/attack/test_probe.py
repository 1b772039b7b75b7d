import torch
from small_classifiers import Linear, weights
from torch import nn

from bench.attack.probe import VANISHED, Probe, Record

IMAGES = torch.rand(5, 1, 6, 6, generator=torch.Generator().manual_seed(0))


def asked(model: nn.Module, images: torch.Tensor = IMAGES, *, backward: bool = True) -> Record:
    probe = Probe(model)
    images = images.clone().requires_grad_(backward)
    logits = probe(images)
    if backward:
        torch.autograd.grad(logits[:, 0].sum(), images)
    return probe.record


class Scaled(nn.Module):
    """Multiplies the logits, or their gradients only, of each image by a factor."""

    def __init__(self, factors: list[float], *, logits: bool = False) -> None:
        super().__init__()
        self.inner, self.factors, self.logits = Linear(weights()), torch.tensor(factors).view(-1, 1), logits

    def forward(self, images: torch.Tensor) -> torch.Tensor:
        found = self.inner(images)
        if self.logits:
            return found * self.factors
        return found.detach() + (found * self.factors - (found * self.factors).detach()).nan_to_num(0.0)


class Gradients(torch.autograd.Function):
    """The identity with a gradient of one's choice for each image."""

    @staticmethod
    def forward(ctx, images, factors):
        ctx.factors = factors
        return images.clone()

    @staticmethod
    def backward(ctx, gradient):
        return torch.ones_like(gradient) * ctx.factors.view(-1, 1, 1, 1), None


class Chosen(nn.Module):
    def __init__(self, factors: list[float]) -> None:
        super().__init__()
        self.inner, self.factors = Linear(weights()), torch.tensor(factors)

    def forward(self, images: torch.Tensor) -> torch.Tensor:
        return self.inner(Gradients.apply(images, self.factors))


def test_it_counts_passes():
    assert asked(Linear(weights())) == Record(forward=5, backward=5)
    assert asked(Linear(weights()), backward=False) == Record(forward=5)


def test_it_counts_every_pass_of_several():
    seen = []
    probe = Probe(Linear(weights()), on_pass=lambda record: seen.append(record.forward))
    with torch.no_grad():
        probe(IMAGES)
        probe(IMAGES[:2])
    images = IMAGES[:3].clone().requires_grad_()
    for _ in range(2):
        probe(images).sum().backward()
    assert seen == [5, 7, 10, 13]
    assert probe.record == Record(forward=13, backward=6, zero_gradients=6)  # the two classes' logits cancel


def test_it_counts_gradients_that_vanish():
    assert asked(Chosen([0.0, 1.0, 0.0, 1e-30, -1.0])).zero_gradients == 3
    assert asked(Chosen([0.9 * VANISHED, 1.1 * VANISHED, -0.9 * VANISHED, -1.1 * VANISHED, 1.0])).zero_gradients == 2


def test_it_counts_gradients_that_are_not_finite():
    record = asked(Chosen([torch.nan, 1.0, torch.inf, 0.0, -torch.inf]))
    assert (record.broken_gradients, record.zero_gradients) == (3, 1)


def test_it_counts_logits_that_are_not_finite():
    record = asked(Scaled([1.0, torch.nan, 1.0, torch.inf, 1.0], logits=True), backward=False)
    assert (record.broken_logits, record.forward) == (2, 5)


def test_it_is_transparent():
    model, probe = Linear(weights()), Probe(Linear(weights()))
    ours, theirs = IMAGES.clone().requires_grad_(), IMAGES.clone().requires_grad_()
    mine, expected = probe(ours), model(theirs)
    assert torch.equal(mine, expected)
    assert torch.equal(
        torch.autograd.grad(mine[:, 0].sum(), ours)[0], torch.autograd.grad(expected[:, 0].sum(), theirs)[0]
    )
