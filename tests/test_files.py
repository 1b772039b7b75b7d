"""Writing: all of the new content or all of the old."""

from pathlib import Path

import pytest
from filelock import FileLock

from bench import files
from bench.errors import MissingError
from bench.files import atomic, cache_dir, check_writable, data_dir, locked, offline, weights_file, write_text


def listing(folder):
    return sorted(path.name for path in folder.iterdir())


def test_path_holds_its_old_content_or_the_whole_new_one(tmp_path):
    path = tmp_path / "deep" / "entry.json"
    write_text(path, "old é")
    assert path.read_bytes() == "old é".encode()
    with atomic(path) as temporary:
        temporary.write_text("ne")
        assert path.read_text(encoding="utf-8") == "old é"
        assert temporary.parent == path.parent
        temporary.write_text("new")
    assert path.read_text() == "new"
    assert listing(path.parent) == ["entry.json"]


@pytest.mark.parametrize("stop", [RuntimeError, KeyboardInterrupt, SystemExit])
def test_an_exception_leaves_the_old_content_and_no_other_file(tmp_path, stop):
    path = tmp_path / "entry.json"
    path.write_text("old")

    def write():
        with atomic(path) as temporary:
            temporary.write_text("half of the ne")
            raise stop

    with pytest.raises(stop):
        write()
    assert path.read_text() == "old"
    assert listing(tmp_path) == ["entry.json"]


def test_an_exception_leaves_nothing_where_nothing_was(tmp_path):
    def write():
        with atomic(tmp_path / "entry.json"):
            raise RuntimeError

    with pytest.raises(RuntimeError):
        write()
    assert listing(tmp_path) == []


def test_unfinished_files_are_no_entries(tmp_path):
    with atomic(tmp_path / "entry.json"):
        assert list(tmp_path.glob("*.json")) == []


def test_others_may_read_what_was_written(tmp_path):
    write_text(tmp_path / "entry.json", "{}")
    assert (tmp_path / "entry.json").stat().st_mode & 0o777 == 0o644


def test_a_folder_that_cannot_be_written_is_one_sentence(tmp_path):
    (tmp_path / "file").write_text("in the way")
    for folder in (tmp_path / "file", tmp_path / "file" / "below"):
        with pytest.raises(MissingError, match=r"^Cannot write in .*: .*\. Free space or choose another folder\.$"):
            write_text(folder / "entry.json", "{}")
        with pytest.raises(MissingError):
            check_writable(folder)
    assert (tmp_path / "file").read_text() == "in the way"


def test_a_full_disk_is_one_sentence(tmp_path):
    def write():
        with atomic(tmp_path / "entry.json"):
            raise OSError(28, "No space left on device")

    (tmp_path / "entry.json").write_text("old")
    with pytest.raises(MissingError, match=r"^Cannot write .*entry\.json: No space left on device\. Free space or "):
        write()
    assert (tmp_path / "entry.json").read_text() == "old"
    assert listing(tmp_path) == ["entry.json"]


def test_check_writable_leaves_no_trace(tmp_path):
    check_writable(tmp_path / "board")
    assert listing(tmp_path / "board") == []


def test_two_runs_may_check_the_same_folder(tmp_path, monkeypatch):
    replace = Path.replace

    def replace_then_the_other_run_cleans_up(self, target):
        moved = replace(self, target)
        target.unlink()
        return moved

    monkeypatch.setattr(Path, "replace", replace_then_the_other_run_cleans_up)
    check_writable(tmp_path)
    assert listing(tmp_path) == []


def test_folders_come_from_the_environment(monkeypatch, tmp_path):
    monkeypatch.setenv("BENCH_CACHE_DIR", str(tmp_path))
    assert cache_dir() == tmp_path
    monkeypatch.delenv("BENCH_CACHE_DIR")
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path))
    assert cache_dir() == tmp_path / "bench"
    monkeypatch.delenv("XDG_CACHE_HOME")
    assert cache_dir() == Path.home() / ".cache" / "bench"
    monkeypatch.setenv("BENCH_DATA_DIR", "~/data")
    assert data_dir() == Path.home() / "data"
    monkeypatch.setenv("BENCH_DATA_DIR", "")
    assert data_dir() is None


@pytest.mark.parametrize(("value", "expected"), [("1", True), ("yes", True), ("0", False), ("", False)])
def test_offline(monkeypatch, value, expected):
    monkeypatch.setenv("BENCH_OFFLINE", value)
    assert offline() == expected


def test_one_process_writes_at_a_time(tmp_path, monkeypatch):
    monkeypatch.setattr(files, "PATIENCE_S", 0.1)
    another = FileLock(tmp_path.resolve() / ".lock")
    with another, pytest.raises(MissingError, match="Another process keeps writing"), locked(tmp_path):
        pass
    with locked(tmp_path):
        write_text(tmp_path / "entry.json", "mine")
    assert (tmp_path / "entry.json").read_text() == "mine"


def test_weights_are_found_here_or_in_their_folder(monkeypatch, tmp_path):
    (tmp_path / "weights").mkdir()
    (tmp_path / "weights" / "net.pt").touch()
    monkeypatch.chdir(tmp_path)
    monkeypatch.delenv("BENCH_WEIGHTS_DIR", raising=False)
    with pytest.raises(MissingError, match=r"no checkpoint file net.pt: looked in .*, and BENCH_WEIGHTS_DIR is unset;"):
        weights_file(Path("net.pt"))
    monkeypatch.setenv("BENCH_WEIGHTS_DIR", str(tmp_path / "weights"))
    assert weights_file(Path("net.pt")) == tmp_path / "weights" / "net.pt"
    with pytest.raises(MissingError, match=r"no checkpoint file absent.pt: looked in .*, and in BENCH_WEIGHTS_DIR \("):
        weights_file(Path("absent.pt"))
    with pytest.raises(MissingError, match=r"no checkpoint file /absent.pt; check the path\."):
        weights_file(Path("/absent.pt"))
    Path("net.pt").touch()
    assert weights_file(Path("net.pt")) == Path("net.pt")
