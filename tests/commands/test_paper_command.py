"""`bench paper`: written, fresh, stale; and as data."""

import json
import shutil
import sys
from pathlib import Path

import pytest
from papers_grid import entry

from bench import cli

PUBLISHED = Path(__file__).parents[2] / "leaderboard" / "published"


@pytest.fixture
def bench(tmp_path, monkeypatch, capsys):
    def run(*arguments):
        monkeypatch.setattr(sys, "argv", ["bench", "paper", *arguments])
        with pytest.raises(SystemExit) as ended:
            cli.main()
        out, err = capsys.readouterr()
        return ended.value.code or 0, out, err

    monkeypatch.chdir(tmp_path)
    shutil.copytree(PUBLISHED, tmp_path / "leaderboard" / "published")
    entry("quant4-advft", 400).save(tmp_path / "leaderboard")
    return run


def test_written_then_fresh_then_stale(bench, tmp_path):
    stale = "error: leaderboard/paper.md is stale: run bench paper.\n"
    assert bench("--check") == (1, "", stale)
    assert bench() == (0, "Wrote leaderboard/paper.md\n", "")
    assert bench("--check") == (0, "Everything is fresh.\n", "")
    assert bench() == (0, "Everything is fresh.\n", "")
    page = (tmp_path / "leaderboard" / "paper.md").read_text()
    assert "| 16.2 / 13.7 |" in page  # what the paper found for W4A4 of a standard parent
    entry("quant8-advft", 500).save(tmp_path / "leaderboard")
    assert bench("--check") == (1, "", stale)
    assert (tmp_path / "leaderboard" / "paper.md").read_text() == page


def test_a_file_that_is_no_entry_fails_the_check(bench, tmp_path):
    (tmp_path / "leaderboard" / "fashion-mnist-adverfine-v1" / "x.json").write_text("{")
    assert bench()[0] == 0
    code, _, err = bench("--check")
    assert code == 1
    assert "1 of the files, named above, are no entries" in err


def test_verdicts_as_data(bench):
    code, out, _ = bench("--json")
    assert code == 0
    tracks = {study["track"]: study["claims"] for study in json.loads(out)}
    assert list(tracks) == [
        "cifar10-adverfine-v1", "cifar10-linf-v1", "fashion-mnist-adverfine-v1", "fashion-mnist-linf-v1",
    ]  # fmt: skip
    assert {claim["verdict"] for claims in tracks.values() for claim in claims.values()} == {"cannot be told yet"}


def test_without_published_rows(bench, tmp_path):
    shutil.rmtree(tmp_path / "leaderboard" / "published")
    assert bench()[0] == 3
