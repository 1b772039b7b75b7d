"""Where a measurement comes from, asked of a checkout made for the purpose."""

import os
import subprocess
from datetime import UTC, datetime

import pytest

from bench import provenance
from bench.provenance import PACKAGES, Provenance, here, installed, machine


@pytest.fixture
def checkout(tmp_path, monkeypatch):
    """A git checkout whose `bench` claims to be the package that runs; the current folder is elsewhere."""
    folder = tmp_path / "checkout"
    (folder / "bench").mkdir(parents=True)
    (folder / "bench" / "provenance.py").write_text("code\n")
    for command in (["init", "-q"], ["add", "."], ["commit", "-qm", "Add code"]):
        git(folder, *command)
    monkeypatch.setattr(provenance, "__file__", str(folder / "bench" / "provenance.py"))
    monkeypatch.chdir(tmp_path)
    return folder


def git(folder, *arguments):
    me = ["-c", "user.name=me", "-c", "user.email=me@example.org", "-c", "commit.gpgsign=false"]
    answer = subprocess.run(["git", "-C", folder, *me, *arguments], capture_output=True, text=True, check=True)
    return answer.stdout.strip()


def test_a_clean_checkout_is_named_by_its_commit(checkout):
    found = here("cpu")
    assert found.commit == git(checkout, "rev-parse", "HEAD")
    assert not found.dirty


def test_uncommitted_code_is_dirty(checkout):
    (checkout / "bench" / "provenance.py").write_text("other code\n")
    assert here("cpu").dirty


def test_uncommitted_submissions_are_dirty(checkout):
    (checkout / "submissions" / "ours").mkdir(parents=True)
    (checkout / "submissions" / "ours" / "recipe.toml").write_text('summary = "Ours"')
    assert here("cpu").dirty


def test_results_do_not_make_a_checkout_dirty(checkout):
    (checkout / "leaderboard").mkdir()
    (checkout / "leaderboard" / "entry.json").write_text("{}")
    assert not here("cpu").dirty


def test_an_installed_package_is_not_confused_with_a_checkout_of_other_code(checkout, tmp_path, monkeypatch):
    installed_at = tmp_path / "site-packages" / "bench"
    installed_at.mkdir(parents=True)
    (installed_at / "provenance.py").write_text("code\n")
    monkeypatch.setattr(provenance, "__file__", str(installed_at / "provenance.py"))
    assert here("cpu").commit is None
    monkeypatch.chdir(checkout)
    assert here("cpu").commit == git(checkout, "rev-parse", "HEAD")
    (installed_at / "provenance.py").write_text("other code\n")
    assert here("cpu").commit is None


def test_without_git_there_is_no_commit(checkout, monkeypatch):
    monkeypatch.setenv("PATH", "")
    found = here("cpu")
    assert (found.commit, found.dirty) == (None, False)


def test_time_is_utc_to_the_second():
    when = datetime.fromisoformat(here("cpu").when)
    assert when.tzinfo == UTC
    assert when.microsecond == 0
    assert abs((datetime.now(UTC) - when).total_seconds()) < 60


def test_packages_that_decide_results_are_named():
    versions = installed()
    assert set(versions) <= set(PACKAGES)
    assert {"torch", "onnxruntime", "pyautoattack", "numpy"} <= set(versions)


def test_a_package_that_is_absent_is_left_out(monkeypatch):
    monkeypatch.setattr(provenance, "PACKAGES", ("numpy", "no-such-package"))
    assert set(installed()) == {"numpy"}


def test_machine_is_one_line_with_the_number_of_cores():
    assert f"{os.cpu_count()} cores" in machine()
    assert "\n" not in machine()


def test_json_round_trip():
    found = here("an accelerator")
    assert found.device == "an accelerator"
    assert Provenance.model_validate_json(found.model_dump_json()) == found
