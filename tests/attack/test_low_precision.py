"""A search in bfloat16 proposes; what falls, falls in full precision, and the row says so."""

import dataclasses

import pytest
import torch
from factories import make_entry
from memory_journal import MemoryJournal
from small_classifiers import whole
from test_driver import BRIEF, trial

from bench.attack.alarms import protocol
from bench.attack.driver import BenchEngine
from bench.attack.engine import run_suite
from bench.attack.engines import new_engine
from bench.errors import UsageError
from bench.machine.tensor_float import tensor_float, tensor_float_allowed
from bench.progress import silent
from bench.verdicts import STANDING


class Watched(torch.nn.Module):
    """Remembers in which precision it was asked."""

    def __init__(self) -> None:
        super().__init__()
        self.linear = torch.nn.Linear(36, 6)
        self.asked = set()

    def forward(self, images):
        logits = self.linear(images.flatten(1))
        self.asked.add(logits.dtype)
        return logits


def attacked(model: Watched):
    """Attack images that the model gets right; return the outcome."""
    model.requires_grad_(False)
    images = trial().examples
    labelled = dataclasses.replace(images, labels=model(images.pixels()).argmax(1))
    model.asked.clear()
    some = trial(BenchEngine(budget=BRIEF, precision="bf16"), subject=whole(model), examples=labelled)
    return run_suite(some, "standard", journal=MemoryJournal(), report=silent)


def test_the_search_asks_in_bfloat16_and_the_judge_in_float32():
    model = Watched()
    outcome = attacked(model)
    assert model.asked == {torch.bfloat16, torch.float32}
    assert "x" not in outcome.letters


def test_nothing_falls_that_full_precision_would_not_call_wrong():
    """A network that is fooled in bfloat16 only loses no image."""

    class FooledInBfloat16(Watched):
        def forward(self, images):
            logits = super().forward(images)
            favoured = torch.arange(6) == (1 if logits.dtype == torch.bfloat16 else 0)
            return logits + 100 * favoured

    assert {*attacked(FooledInBfloat16()).letters} == {STANDING}


@pytest.mark.parametrize(("name", "names"), [("bench-bf16", ["low-precision-search"]), ("bench", [])])
def test_the_row_says_so_and_is_not_ranked(name, names):
    found = protocol(new_engine(name).name)
    assert [alarm.name for alarm in found if alarm.fatal] == names


def test_its_row_neither_ranks_nor_takes_the_place_of_the_official_one():
    quick, official = (
        make_entry("quant8", "...ax").model_copy(update={"engine": name}) for name in ("b 1 bf16", "b 1")
    )
    assert (quick.ranked, official.ranked) == (False, True)
    assert quick.name == f"{official.name}--bf16"
    assert quick.command == f"{official.command} --engine bench-bf16"


def test_a_search_in_tensor_float_is_named_and_ranked():
    assert (protocol(new_engine("bench-tf32").name), new_engine("bench-tf32").name) == ((), "bench 2 tf32")
    entry = make_entry("quant8", "...ax").model_copy(update={"engine": "bench 1 tf32"})
    assert (entry.ranked, entry.attacker) == (True, "bench-tf32")
    assert entry.name.endswith("--tf32")


def test_tensor_float_needs_cuda():
    with pytest.raises(UsageError, match=r"Expected a CUDA device with --engine bench-tf32, got cpu"):
        new_engine("bench-tf32", device=torch.device("cpu"))


class Flags(Watched):
    """Remembers whether convolutions and products may use TensorFloat-32 while it is asked."""

    def forward(self, images):
        logits = self.linear(images.flatten(1))
        self.asked.add((torch.is_grad_enabled(), *tensor_float_allowed()))
        return logits


@tensor_float(allowed=False)
def test_the_search_allows_it_and_the_judge_does_not():
    model = Flags()
    model.requires_grad_(False)
    images = trial().examples
    labelled = dataclasses.replace(images, labels=model(images.pixels()).argmax(1))
    model.asked.clear()
    some = trial(BenchEngine(budget=BRIEF, precision="tf32"), subject=whole(model), examples=labelled)
    run_suite(some, "standard", journal=MemoryJournal(), report=silent)
    assert (True, True, True) in model.asked  # gradients
    assert (False, False, False) in model.asked  # the judge
    assert (True, False, False) not in model.asked
    assert tensor_float_allowed() == (False, False)
