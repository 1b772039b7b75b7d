"""Where nothing is random, our attacks make the reference's moves; its source decides what a move is."""

import math

import pytest
import torch
from pyautoattack.autopgd_base import APGDAttack, APGDAttack_targeted
from pyautoattack.fab_projections import projection_l2, projection_linf
from pyautoattack.fab_pt import FABAttack_PT
from pyautoattack.square import SquareAttack
from torch import nn
from torch.nn import functional

from bench.attack import squares_linf
from bench.attack.apgd import Apgd
from bench.attack.fab import Fab
from bench.attack.hyperplane import to_hyperplane
from bench.attack.search import Answer, Arrivals, likeliest
from bench.attack.square import Square, patch_sizes
from bench.attack.squares_l2 import PatchesL2, bump
from bench.attack.squares_linf import PatchesLinf
from bench.attack.suites import Budget
from bench.threat_model import ThreatModel, parse_eps

THREATS = {
    "Linf": ThreatModel(norm="Linf", eps=parse_eps("0.1")),
    "L2": ThreatModel(norm="L2", eps=parse_eps("0.5")),
}
ITERATIONS = 60
SHAPE = (2, 6, 6)


class Smooth(nn.Module):
    """A random network in double precision: rounding must not send two searches different ways."""

    def __init__(self) -> None:
        super().__init__()
        generator = torch.Generator().manual_seed(0)
        self.first = nn.Parameter(torch.randn(72, 24, generator=generator, dtype=torch.float64) / 4)
        self.second = nn.Parameter(torch.randn(24, 6, generator=generator, dtype=torch.float64))
        self.requires_grad_(False)

    def forward(self, images):
        return ((images.double().flatten(1) - 0.5) @ self.first).tanh() @ self.second


MODEL = Smooth()
IMAGES = torch.rand(12, *SHAPE, generator=torch.Generator().manual_seed(1)).double()
LABELS = MODEL(IMAGES).argmax(1)


def arrivals() -> Arrivals:
    return Arrivals(images=IMAGES.clone(), labels=LABELS, keys=torch.arange(len(IMAGES)))


def answer(search, question):
    points = question.points.detach().requires_grad_()
    logits = MODEL(points)
    loss = search.loss(logits, torch.arange(len(points)))
    (gradient,) = torch.autograd.grad(loss.sum(), points)
    return Answer(
        logits=logits.detach(),
        wrong=logits.argmax(1) != LABELS[question.slots],
        loss=loss.detach() * question.differentiate,
        gradient=gradient * question.differentiate.view(-1, 1, 1, 1),
    )


def ask(search):
    """Answer the search's next question; nobody leaves."""
    question = search.ask(room=len(IMAGES))
    told = answer(search, question)
    with torch.no_grad():
        return question, told, search.tell(question, told)


@pytest.mark.parametrize("targeted", [False, True])
@pytest.mark.parametrize("norm", ["Linf", "L2"])
def test_apgd_climbs_as_the_reference_does(monkeypatch, norm, targeted):
    """From the same start to the same best points, past six checkpoints, with every point on the way."""
    threat = THREATS[norm]
    loss = "targeted" if targeted else "ce"
    search = Apgd(loss=loss, threat=threat, budget=Budget(iterations=ITERATIONS, targets=1), n_classes=6)
    search.seat(torch.zeros(0, dtype=torch.int64), arrivals())
    ask(search)
    start = search.rows.point.clone()
    ours, move = [], None
    for _ in range(ITERATIONS + 1):
        question, _, move = ask(search)
        ours.append(question.points)

    theirs = []

    def watched(images):
        theirs.append(images.detach().clone())
        return MODEL(images)

    kind = APGDAttack_targeted if targeted else APGDAttack
    attack = kind(watched, n_iter=ITERATIONS, norm=norm, eps=float(threat.eps), device="cpu")
    attack.init_hyperparam(IMAGES)
    if targeted:
        attack.y_target = likeliest(MODEL(IMAGES), 1)[:, 0]
    # The reference keeps its book in float32 unless told.
    monkeypatch.setattr(torch, "zeros", _double(torch.zeros))
    monkeypatch.setattr(torch, "ones", _double(torch.ones))
    best, _, _, _ = attack.attack_single_run(IMAGES, LABELS, x_init=start)
    assert len(theirs) == len(ours)
    for one, other in zip(ours, theirs, strict=True):
        assert torch.allclose(one, other, atol=1e-7)
    assert move is not None
    assert move.done.all()
    assert torch.allclose(move.offers, best, atol=1e-7)


def _double(make):
    return lambda *args, **kwargs: make(*args, **{"dtype": torch.float64, **kwargs})


@pytest.mark.parametrize("norm", ["Linf", "L2"])
def test_apgd_starts_on_the_surface_of_the_ball(norm):
    search = Apgd(loss="ce", threat=THREATS[norm], budget=Budget(), n_classes=6)
    middle = torch.full((40, *SHAPE), 0.5)
    search.seat(
        torch.zeros(0, dtype=torch.int64),
        Arrivals(images=middle, labels=torch.zeros(40, dtype=torch.int64), keys=torch.arange(40)),
    )
    with torch.no_grad():
        search.turn(*torch.tensor([True, False]).repeat(40, 1).T, middle, torch.zeros(40, 6))
    delta = search.rows.point - middle
    assert torch.allclose(THREATS[norm].size(delta), torch.tensor(float(THREATS[norm].eps)), atol=1e-6)
    assert abs(delta.mean()) < 0.01
    assert len(delta.flatten(1).unique(dim=0)) == 40


def lanes_of(search):
    """Return (slot, target) of every lane that is open."""
    return [*zip(search.rows.slot.tolist(), search.rows.target.tolist(), strict=True)]


@pytest.mark.parametrize("norm", ["Linf", "L2"])
def test_fab_walks_as_the_reference_does(norm):
    """To the same nearest points, target by target; neither draws anything."""
    search = Fab(threat=THREATS[norm], budget=Budget(iterations=30, targets=2), n_classes=6)
    search.seat(torch.zeros(0, dtype=torch.int64), arrivals())
    ask(search)
    found = {}
    while before := lanes_of(search):
        _, _, move = ask(search)
        ended = [lane for lane in before if lane not in lanes_of(search)]
        found |= dict(zip(ended, move.offers, strict=True))

    def single(images):
        return MODEL(images).float()

    attack = FABAttack_PT(single, norm=norm, n_iter=30, eps=float(THREATS[norm].eps), targeted=True, device="cpu")
    threat = THREATS[norm]
    for run in (0, 1):
        attack.target_class = 2 + run
        theirs = attack.attack_single_run(IMAGES.float(), LABELS, is_targeted=True)
        targets = likeliest(MODEL(IMAGES), 2)[:, run].tolist()
        ours = torch.stack([found[lane] for lane in enumerate(targets)]).float()
        sizes = [threat.size(points - IMAGES.float()).flatten() for points in (ours, theirs)]
        assert torch.allclose(*sizes, rtol=2e-3, atol=1e-6)
        assert sizes[0].max() > 0


@pytest.mark.parametrize(("norm", "theirs"), [("Linf", projection_linf), ("L2", projection_l2)])
def test_projections_onto_a_hyperplane_agree(norm, theirs):
    generator = torch.Generator().manual_seed(2)
    points = torch.rand(300, 48, generator=generator)
    points[:100] = points[:100].round()  # corners of the box
    normal = torch.randn(300, 48, generator=generator)
    normal[::3, :20] = 0
    excess = torch.randn(300, generator=generator) * torch.tensor([0.1, 1.0, 20.0]).repeat(100)
    offset = (normal * points).sum(1) - excess
    found = to_hyperplane(points, normal, excess, norm)
    assert torch.allclose(found, theirs(points.clone(), normal.clone(), offset.clone()), atol=2e-5)
    assert ((points + found).clamp(0, 1) - points - found).abs().max() < 1e-6
    reached = ((normal * (points + found)).sum(1) - offset).abs() < 1e-4
    assert 0.5 < reached.float().mean() < 1


@pytest.mark.parametrize("norm", ["Linf", "L2"])
def test_a_hyperplane_of_any_size_is_the_same_hyperplane(norm):
    generator = torch.Generator().manual_seed(2)
    points, normal = torch.rand(20, 48, generator=generator), torch.randn(20, 48, generator=generator)
    excess = torch.randn(20, generator=generator)
    expected = to_hyperplane(points, normal, excess, norm)
    for factor in (1e-20, 1e20):
        assert torch.allclose(to_hyperplane(points, normal * factor, excess * factor, norm), expected, atol=1e-5)
    assert not to_hyperplane(points, torch.zeros_like(normal), excess, norm).any()


@pytest.mark.parametrize("shape", [(1, 8, 8), (3, 32, 32), (1, 28, 28), (3, 224, 224)])
@pytest.mark.parametrize("linf", [True, False])
def test_patches_have_the_sizes_of_the_reference(shape, linf):
    attack = SquareAttack(MODEL, resc_schedule=False)
    _, height, width = shape
    expected = []
    for query in range(5000):
        side = round(math.sqrt(attack.p_selection(query) * height * width))
        side = max(side, 1) if linf else max(side, 3) + (1 - max(side, 3) % 2)
        expected.append(min(side, height, width))
    assert patch_sizes(5000, shape, linf=linf).tolist() == expected


@pytest.mark.parametrize("side", [1, 2, 3, 5, 7, 9, 25])
def test_bumps_are_those_of_the_reference(side):
    attack = SquareAttack(MODEL, norm="L2", eps=1.0, device="cpu")
    with torch.random.fork_rng():
        theirs = attack.eta(side)
    assert any(torch.allclose(one, theirs, atol=1e-6) for one in (bump(side), bump(side).T))


def words_for(n: int, draws: int) -> torch.Tensor:
    return torch.randint(-(2**62), 2**62, (n, draws), generator=torch.Generator().manual_seed(4)) * 2


@pytest.mark.parametrize("layout", [torch.contiguous_format, torch.channels_last], ids=str)
def test_a_small_square_is_written_as_a_large_one_is(monkeypatch, layout):
    """Pixel by pixel or image by image, the points are the same."""
    patches = PatchesLinf(0.1, (3, 12, 10), [1, 2, 3])
    images = torch.rand(9, 3, 12, 10, generator=torch.Generator().manual_seed(0)).contiguous(memory_format=layout)
    best = patches.start(images, torch.arange(9), 0)
    words, sizes = words_for(9, patches.draws), torch.tensor([1, 2, 3] * 3)
    few = patches.paste(best.clone(), images, torch.arange(len(best)), words, sizes)
    monkeypatch.setattr(squares_linf, "FEW", 0.0)
    assert torch.equal(patches.paste(best.clone(), images, torch.arange(len(best)), words, sizes), few)
    assert not torch.equal(few, best)


@pytest.mark.parametrize("norm", ["Linf", "L2"])
def test_a_projection_depends_on_no_other(norm):
    """Rows that are done early leave the search; those that stay on find what they find by themselves."""
    generator = torch.Generator().manual_seed(0)
    points = torch.rand(40, 60, generator=generator).mul(3).sub(1).clamp(0, 1)
    normal = torch.randn(40, 60, generator=generator)
    excess = torch.linspace(0.01, 30, 40) * torch.tensor([1.0, -1.0]).repeat(20)
    together = to_hyperplane(points, normal, excess, norm)
    alone = [to_hyperplane(points[i : i + 1], normal[i : i + 1], excess[i : i + 1], norm) for i in range(40)]
    assert torch.allclose(together, torch.cat(alone), atol=1e-6)
    assert len({int((row.abs() > 0).sum()) for row in together}) > 1


def test_a_square_moves_its_pixels_by_twice_eps_within_ball_and_box():
    patches, eps = PatchesLinf(0.1, SHAPE, [2]), 0.1
    images = IMAGES.float()
    images[:4] = images[:4].round()
    best = patches.start(images, torch.arange(12), 0)
    assert torch.allclose((best - images).abs().where((best > 0) & (best < 1), torch.tensor(eps)), torch.tensor(eps))
    assert torch.equal((best > images).float().std(2, unbiased=False)[4:].amax(), torch.tensor(0.0))
    words, sizes = words_for(12, patches.draws), torch.tensor([1, 2, 5] * 4)
    found = patches.paste(best.clone(), images, torch.arange(len(best)), words, sizes)
    top, left, rise = patches._read(words, sizes)
    for image in range(12):
        delta = torch.zeros(SHAPE)
        rows, columns = (slice(int(at[image]), int(at[image] + sizes[image])) for at in (top, left))
        delta[:, rows, columns] = 2 * eps * (rise[image].float() * 2 - 1).view(-1, 1, 1)
        moved = torch.min(torch.max(best[image] + delta, images[image] - eps), images[image] + eps).clamp(0, 1)
        assert torch.allclose(found[image], moved, atol=1e-6)
    changes = patches.changes(patches.marks(best, images), words.unsqueeze(1), sizes.unsqueeze(1)).flatten()
    assert changes.tolist() == (found != best).flatten(1).any(1).tolist()
    assert not patches.changes(patches.marks(found, images), words.unsqueeze(1), sizes.unsqueeze(1)).any()


def test_windows_trade_as_the_reference_lets_them():
    """Its arithmetic, for one image at a time."""
    eps = 0.5
    patches = PatchesL2(eps, SHAPE, [3, 5])
    images = IMAGES.float()
    best = patches.start(images, torch.arange(12), 0)
    middle = torch.full_like(images, 0.5)
    assert torch.allclose(
        (patches.start(middle, torch.arange(12), 0) - middle).flatten(1).norm(dim=1), torch.tensor(eps)
    )
    words, sizes = words_for(12, patches.draws), torch.tensor([3, 5, 3] * 4)
    found = patches.paste(best.clone(), images, torch.arange(len(best)), words, sizes)
    (tops, lefts), (tops2, lefts2) = patches._place(words[:, 0], sizes), patches._place(words[:, 1], sizes)
    for i in range(12):
        s = int(sizes[i])
        one = (slice(None), slice(int(tops[i]), int(tops[i]) + s), slice(int(lefts[i]), int(lefts[i]) + s))
        two = (slice(None), slice(int(tops2[i]), int(tops2[i]) + s), slice(int(lefts2[i]), int(lefts2[i]) + s))
        delta = best[i] - images[i]
        union = torch.zeros_like(delta)
        union[one] = union[two] = 1
        free = max(eps**2 - float(delta.square().sum()), 0) / len(delta)
        budget = ((delta * union).square().sum((1, 2)) + free).sqrt()
        shape = bump(s).T if words[i, 0] & 1 else bump(s)
        sign = (words[i, 2:] < 0).float() * 2 - 1
        fresh = shape * sign.view(-1, 1, 1) + functional.normalize(delta[one].flatten(1), dim=1).view_as(delta[one])
        fresh = functional.normalize(fresh.flatten(1), dim=1).view_as(fresh) * budget.view(-1, 1, 1)
        delta[two] = 0
        delta[one] = fresh
        assert torch.allclose(found[i], (images[i] + eps * delta / delta.norm()).clamp(0, 1), atol=1e-5)


@pytest.mark.parametrize("attack", [Apgd, Fab, Square])
@pytest.mark.parametrize("norm", ["Linf", "L2"])
def test_asking_changes_nothing_and_telling_spares_the_points(norm, attack):
    """The judge sees the points after the search has moved on."""
    more = {Apgd: {"loss": "ce", "n_classes": 6}, Fab: {"n_classes": 6}, Square: {"image_shape": SHAPE}}[attack]
    search = attack(threat=THREATS[norm], budget=Budget(iterations=20, targets=1, queries=300), **more)
    search.seat(torch.zeros(0, dtype=torch.int64), arrivals())
    for _ in range(20):
        state = vars(search.slots if attack is Square else search.rows)
        held = {name: value.clone() for name, value in state.items()}
        question = search.ask(room=len(IMAGES))
        assert all(torch.equal(value, held[name]) for name, value in state.items())
        points = question.points.clone()
        told = answer(search, question)
        with torch.no_grad():
            search.tell(question, told)
        assert torch.equal(question.points, points)
