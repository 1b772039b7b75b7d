import errno
import json
import subprocess
import sys

import pytest

from bench.errors import MissingError
from bench.run.journal import FileJournal

SEEN = {"forward": 10, "backward": 4, "zero_gradients": 0}


@pytest.fixture
def path(tmp_path):
    return tmp_path / "folder" / "journal.json"


def test_what_was_recorded_is_recalled_by_the_next_process(path):
    FileJournal(path).record("apgd-ce", {0: True, 7: False}, SEEN)
    again = FileJournal(path)
    again.record("apgd-ce", {12: True}, SEEN)
    again.record("square", {0: False}, SEEN)
    third = FileJournal(path)
    assert third.recall("apgd-ce") == {0: True, 7: False, 12: True}
    assert third.recall("square") == {0: False}
    assert third.recall("fab-t") == {}


def test_counts_add_up_over_shards(path):
    journal = FileJournal(path)
    journal.record("square", {0: True}, SEEN)
    journal.record("square", {1: True}, SEEN)
    assert {name: FileJournal(path).seen("square").get(name, 0) for name in SEEN} == {
        "forward": 20,
        "backward": 8,
        "zero_gradients": 0,
    }
    assert FileJournal(path).seen("fab-t") == {}


def test_nothing_is_written_before_something_is_recorded(path):
    """A journal with nothing in it is a journal all the same: true, and safe to ask."""
    journal = FileJournal(path)
    assert journal
    assert (journal.recall("square"), journal.seen("square")) == ({}, {})
    assert not path.exists()


def test_forgetting_removes_the_file(path):
    journal = FileJournal(path)
    journal.forget()
    journal.record("square", {0: True}, SEEN)
    journal.forget()
    assert not path.exists()
    assert journal.recall("square") == FileJournal(path).recall("square") == {}
    assert journal.seen("square") == {}


def test_an_interrupted_write_leaves_the_old_file(path, monkeypatch):
    journal = FileJournal(path)
    journal.record("square", {0: True}, SEEN)

    def full_disk(*args, **kwargs):
        raise OSError(errno.ENOSPC, "No space left on device")

    monkeypatch.setattr("pathlib.Path.write_text", full_disk)
    with pytest.raises(MissingError, match=rf"Cannot write {path}: No space left on device"):
        journal.record("square", {1: True}, SEEN)
    monkeypatch.undo()
    assert FileJournal(path).recall("square") == {0: True}
    assert json.loads(path.read_text())
    assert list(path.parent.iterdir()) == [path]


@pytest.mark.parametrize("content", [b"", b'{"square": {"outco', b"\0" * 20, b"\xff\xfe{}"])
def test_a_damaged_file_costs_the_work_and_no_more(path, content):
    path.parent.mkdir()
    path.write_bytes(content)
    journal = FileJournal(path)
    assert journal.recall("square") == {}
    journal.record("square", {3: False}, SEEN)
    assert FileJournal(path).recall("square") == {3: False}


def test_what_earlier_processes_spent_is_added_up(path):
    assert FileJournal(path).spent == 0
    journal = FileJournal(path)
    journal._began -= 60
    journal.record("square", {0: True}, SEEN)
    again = FileJournal(path)
    assert 60 <= again.spent < 70
    again._began -= 30
    again.record("square", {1: True}, SEEN)
    assert 90 <= FileJournal(path).spent < 110


def test_two_processes_are_never_at_the_same_work(path):
    journal = FileJournal(path)
    journal.hold()
    journal.hold()
    code = "import sys; from pathlib import Path; from bench.run.journal import FileJournal; "
    code += "FileJournal(Path(sys.argv[1])).hold()"
    second = subprocess.run([sys.executable, "-c", code, str(path)], capture_output=True, text=True, check=False)
    assert "Another process is attacking this very model" in second.stderr
    journal.forget()
    assert not any(path.parent.iterdir())
    assert subprocess.run([sys.executable, "-c", code, str(path)], check=False).returncode == 0
