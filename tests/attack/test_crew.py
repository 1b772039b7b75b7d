"""Processes that attack side by side find what one would, whatever becomes of them."""

import math
import os
import pickle
import signal
import time
from contextlib import ExitStack
from dataclasses import replace

import pytest
import torch
from small_classifiers import SHAPE
from test_driver import BRIEF, Curved, examples, run, trial

from bench.attack import crew as crews
from bench.attack.crew import Crew, crew, free_memory, granted_cores, hands_for
from bench.attack.driver import BenchEngine
from bench.attack.field import Room, Work
from bench.attack.reference import ReferenceEngine
from bench.compress.export import OnnxClassifier
from bench.compress.onnx_graph import to_onnx
from bench.run.album import FileAlbum
from bench.verdicts import LETTERS, STANDING


@pytest.fixture(autouse=True)
def few_images_will_do(monkeypatch):
    monkeypatch.setattr(crews, "FEWEST_IMAGES", 2)


def side_by_side(alone, hands=2, pace=math.inf):
    with crew(alone, hands, pace) as engine:
        return run(replace(alone, engine=engine)), engine


def test_two_processes_find_what_one_finds_and_keep_the_images(tmp_path):
    alone = trial(album=FileAlbum(tmp_path / "alone"))
    expected = run(alone)
    work, album = Work(), FileAlbum(tmp_path / "crew")
    outcome, engine = side_by_side(trial(BenchEngine(budget=BRIEF, work=work), album=album))
    assert isinstance(engine, Crew)
    assert len(engine.hands) == 2
    assert outcome == expected
    assert STANDING in outcome.letters
    assert work.forward >= sum(record.forward for record in outcome.records.values())
    for attack, letter in zip(outcome.attacks, LETTERS, strict=False):
        kept, before = album.load(attack), alone.album.load(attack)
        assert {i for i, found in enumerate(outcome.letters) if found == letter} <= set(kept)
        assert kept.keys() == before.keys()
        assert all((kept[number] == before[number]).all() for number in kept)


def test_an_int8_model_travels(tmp_path):
    conv = torch.nn.Conv2d(SHAPE[0], 4, 3)
    network = torch.nn.Sequential(conv, torch.nn.ReLU(), torch.nn.Flatten(), torch.nn.LazyLinear(6)).eval()
    network(torch.zeros(1, *SHAPE))
    deployed = OnnxClassifier(to_onnx(network, SHAPE))
    accused = trial()
    accused = replace(accused, subject=replace(accused.subject, deployed=deployed))
    with ExitStack() as contracts:
        engine = Crew(engine=BenchEngine(budget=BRIEF), wanted=1, pace=math.inf, contracts=contracts)
        engine._hire(accused)
        assert len(engine.hands) == 1
    again = pickle.loads(pickle.dumps(deployed))
    images = torch.rand(5, *SHAPE)
    assert torch.equal(again(images), deployed(images))


def test_what_a_process_leaves_undone_is_done_here(monkeypatch):
    expected, killed = run(trial()), []
    hear = Crew._hear

    def kill_after_the_first_word(self, hand):
        message = hear(self, hand)
        if not killed:
            killed.append(hand)
            os.kill(processes[0].pid, signal.SIGKILL)
            processes[0].wait()
        return message

    processes, popen = [], crews.subprocess.Popen
    monkeypatch.setattr(crews.subprocess, "Popen", lambda *a, **k: processes.append(popen(*a, **k)) or processes[-1])
    monkeypatch.setattr(Crew, "_hear", kill_after_the_first_word)
    outcome, engine = side_by_side(trial())
    assert killed
    assert len(engine.hands) == 1
    assert outcome == expected
    assert all(process.poll() is not None for process in processes)


def test_where_images_are_few_each_process_has_several_threads(monkeypatch):
    """The processes here are made of paper: they die when they are told, and the images are attacked in this one."""
    told = []

    def tell(self, hand, share):
        told.append(share)
        self.hands.remove(hand)

    def hire(self, trial):
        self.hands, self.room = list(range(self.wanted)), Room.of(4)

    monkeypatch.setattr(Crew, "_hire", hire)
    monkeypatch.setattr(Crew, "_tell", tell)
    with ExitStack() as contracts:
        engine = Crew(engine=BenchEngine(budget=BRIEF), wanted=16, pace=math.inf, contracts=contracts)
        outcomes = [part for part, _ in engine(trial(), "apgd-ce", list(range(10)), lambda event: None)]
    assert [share.threads for share in told] == [3] * 5
    assert sorted(image for share in told for image in share.images) == list(range(10))
    assert {image for part in outcomes for image in part} == set(range(10))


class Brittle(Curved):
    """Fails in every process but the one it was made in."""

    def __init__(self):
        super().__init__()
        self.home = os.getpid()

    def forward(self, images):
        if os.getpid() != self.home:
            raise RuntimeError("not at home")
        return super().forward(images)


class Stubborn(Curved):
    """Refuses to travel."""

    def __reduce_ex__(self, protocol):
        raise RuntimeError("no")


def test_a_network_that_works_nowhere_else_is_attacked_here():
    brittle = trial()
    network = Brittle().requires_grad_(False).eval()
    subject = replace(brittle.subject, twin=network, parent=network, deployed=network)
    outcome, engine = side_by_side(replace(brittle, subject=subject))
    assert engine.hands == []  # both died of it
    assert outcome == run(brittle)


def test_a_network_that_refuses_to_travel_is_attacked_here(monkeypatch):
    stubborn = trial()
    network = Stubborn().requires_grad_(False).eval()
    subject = replace(stubborn.subject, twin=network, parent=network, deployed=network)
    monkeypatch.setattr(crews, "_hired", None)
    outcome, engine = side_by_side(replace(stubborn, subject=subject))
    assert engine.hands == []
    assert outcome == run(stubborn)


@pytest.mark.parametrize("free", [0, 2**30])
def test_where_memory_is_short_one_process_does_it_all(monkeypatch, free):
    monkeypatch.setattr(crews, "free_memory", lambda: free)
    with ExitStack() as contracts:
        engine = Crew(engine=BenchEngine(budget=BRIEF), wanted=2, pace=math.inf, contracts=contracts)
        engine._hire(trial())
        assert engine.hands == []


def test_a_short_attack_is_over_before_others_could_begin(monkeypatch):
    monkeypatch.setattr(crews, "_hired", None)
    assert side_by_side(trial(), pace=1e-6)[0] == run(trial())


def test_processes_are_as_many_as_threads_on_a_cpu_alone(monkeypatch):
    monkeypatch.setattr(crews, "granted_cores", lambda: 99)
    monkeypatch.setattr(torch, "get_num_threads", lambda: 3)
    assert hands_for(trial()) == 3
    assert hands_for(trial(ReferenceEngine())) == 1  # its batches are part of its protocol
    assert hands_for(trial(device=torch.device("cuda"))) == 1
    monkeypatch.setattr(torch, "get_num_threads", lambda: 64)
    assert hands_for(trial()) == crews.MOST_HANDS
    monkeypatch.setattr(crews, "granted_cores", lambda: 2)
    assert hands_for(trial()) == 2


def test_one_process_is_the_engine_itself():
    alone = trial()
    with crew(alone, 1, math.inf) as engine:
        assert engine is alone.engine


def test_a_container_sets_the_limits(tmp_path):
    machine = free_memory(tmp_path)
    assert 2**20 < machine < 2**50
    assert granted_cores(tmp_path) == crews.MOST_HANDS
    for file, text in {"memory.max": "5000", "memory.current": "2000", "cpu.max": "250000 100000"}.items():
        (tmp_path / file).write_text(text + "\n")
    assert free_memory(tmp_path) == 3000
    assert granted_cores(tmp_path) == 2
    (tmp_path / "memory.max").write_text("max\n")
    (tmp_path / "cpu.max").write_text("max 100000\n")
    assert free_memory(tmp_path) >= machine // 2
    assert granted_cores(tmp_path) == crews.MOST_HANDS


@pytest.mark.slow
def test_processes_end_when_the_one_that_asked_is_killed(tmp_path):
    """They notice with the next thing that they tell."""
    pid = os.fork()
    if pid == 0:
        popen, processes = crews.subprocess.Popen, []

        def noted(*arguments, **options):
            processes.append(popen(*arguments, **options))
            (tmp_path / "pids").write_text(" ".join(str(process.pid) for process in processes))
            return processes[-1]

        crews.subprocess.Popen = noted
        with crew(trial(BenchEngine(), examples=examples(40)), 2, math.inf) as engine:
            run(replace(trial(BenchEngine(), examples=examples(40)), engine=engine))
        os._exit(0)
    time.sleep(12)
    os.kill(pid, signal.SIGKILL)
    os.waitpid(pid, 0)
    time.sleep(8)
    for other in (tmp_path / "pids").read_text().split():
        with pytest.raises(ProcessLookupError):
            os.kill(int(other), 0)
