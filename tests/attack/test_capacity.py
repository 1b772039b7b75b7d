"""Running out of memory changes the size of the passes, and nothing else."""

from dataclasses import replace

import pytest
import torch
from memory_journal import MemoryJournal
from small_classifiers import whole
from test_driver import BRIEF, Curved, trial

from bench.attack.capacity import Capacity, in_parts
from bench.attack.driver import BenchEngine
from bench.attack.engine import estimate_seconds, run_suite
from bench.attack.engines import new_engine
from bench.attack.field import Room
from bench.attack.probe import Record
from bench.errors import MissingError, UsageError
from bench.progress import silent
from bench.verdicts import AUTOATTACK

CPU_SAYS = "[enforce fail at alloc_cpu.cpp:127] err == 0. DefaultCPUAllocator: can't allocate memory: you tried to"
FULL = [torch.OutOfMemoryError("CUDA out of memory. Tried to allocate 2.00 GiB."), RuntimeError(CPU_SAYS)]


class Filling(Curved):
    """Has no memory for more than so many images, from its n-th pass on."""

    def __init__(self, error: Exception, *, room: int, from_pass: int) -> None:
        super().__init__()
        self.error, self.room, self.from_pass, self.refused = error, room, from_pass, []

    def forward(self, images):
        if self.passes >= self.from_pass and len(images) > self.room:
            self.refused.append(len(images))
            raise self.error
        return super().forward(images)


@pytest.fixture(scope="module")
def expected(request):
    return request.param, run_suite(trial(norm=request.param), "standard", journal=MemoryJournal(), report=silent)


@pytest.mark.parametrize(
    ("expected", "error", "from_pass"),
    [*[("Linf", error, from_pass) for error in FULL for from_pass in (0, 1, 40)], ("L2", FULL[0], 1)],
    indirect=["expected"],
)
def test_letters_and_counts_stay_when_memory_runs_out_on_the_way(expected, error, from_pass):
    norm, outcome = expected
    model = Filling(error, room=2, from_pass=from_pass)
    engine = BenchEngine(room=Room.of(14), budget=BRIEF)
    # Not baked: a copy would keep its own count of what it refused.
    subject = whole(model.eval().requires_grad_(False))
    found = run_suite(trial(engine, subject=subject, norm=norm), "standard", journal=MemoryJournal(), report=silent)
    assert found == outcome
    assert model.refused
    assert engine.capacity.most is None or engine.capacity.most <= 7
    # Halved once for good, not found out anew in each pass.
    assert len(model.refused) <= 8


def test_no_memory_for_one_image_is_one_sentence():
    subject = whole(Filling(FULL[0], room=0, from_pass=0))
    with pytest.raises(MissingError, match="memory for one image at a time"):
        run_suite(trial(subject=subject), "standard", journal=MemoryJournal(), report=silent)


def test_other_errors_of_a_network_are_its_own():
    def broken(part):
        raise RuntimeError("mat1 and mat2 shapes cannot be multiplied")

    with pytest.raises(RuntimeError, match="mat1 and mat2"):
        in_parts(4, broken, Capacity())


def test_parts_are_put_together_in_order():
    images, tried = torch.arange(11), []

    def ask(part):
        tried.append(len(images[part]))
        if tried[-1] > 3:
            raise FULL[0]
        return images[part] * 2, images[part] > 4

    capacity = Capacity()
    doubled, larger = in_parts(11, ask, capacity)
    assert torch.equal(doubled, images * 2)
    assert torch.equal(larger, images > 4)
    assert tried == [11, 5, 2, 2, 2, 2, 2, 1]
    assert capacity.most == 2
    assert in_parts(0, lambda part: (images[:0][part],), capacity)[0].shape == (0,)


def test_the_estimate_makes_do_with_little_memory():
    subject = whole(Filling(FULL[0], room=3, from_pass=0).requires_grad_(False))
    assert 0 < estimate_seconds(trial(subject=subject), "standard") < 3600


def test_the_batch_size_goes_to_the_engine_and_not_into_its_name():
    assert new_engine("bench", batch_size=7).room == Room.of(7)
    assert new_engine("bench", batch_size=7).name == new_engine("bench").name
    with pytest.raises(UsageError, match="batches of 200 are part of the protocol"):
        new_engine("reference", batch_size=7)


class Counting(Curved):
    """Remembers how many images it was asked about at once."""

    def __init__(self) -> None:
        super().__init__()
        self.asked = set()

    def forward(self, images):
        self.asked.add(len(images))
        return super().forward(images)


@pytest.mark.parametrize("attack", AUTOATTACK)
@pytest.mark.parametrize("size", [1, 4, 13])
def test_no_pass_has_more_images_than_the_batch_size(attack, size):
    """Not even where every image has a lane for each of five classes."""
    found, asked = [], []
    for engine in (new_engine("bench"), new_engine("bench", batch_size=size)):
        model = Counting().requires_grad_(False)
        some = trial(subject=whole(model))
        parts = [*replace(engine, budget=replace(BRIEF, targets=5))(some, attack, [*range(14)], silent)]
        found.append([{k: v for part, _ in parts for k, v in part.items()}, sum((r for _, r in parts), Record())])
        asked.append(max(model.asked))
    assert found[0] == found[1]
    assert asked[1] <= size < asked[0]
