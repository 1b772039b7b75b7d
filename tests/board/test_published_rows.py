"""The rows that come with their models and images: both are what the entries say, and one is judged again."""

from pathlib import Path

import pytest

from bench.audit.verify import Inquiry, verify
from bench.compress.sealed import digest_of
from bench.entry import load_entry
from bench.prepare import MODEL, published_model
from bench.progress import silent
from bench.run.evidence import digest_of_file

BOARD = Path(__file__).parents[2] / "leaderboard" / "digits-linf-v1"
ROWS = sorted(path for path in BOARD.glob("*.json") if path.with_suffix(MODEL).is_dir())


@pytest.mark.parametrize("path", ROWS, ids=lambda path: path.stem)
def test_model_and_images_are_those_of_the_entry(path):
    entry = load_entry(path)
    assert digest_of(published_model(entry, BOARD)) == entry.sealed
    assert entry.evidence is not None
    for evidence in (entry.evidence, *(challenge.evidence for challenge in entry.challenges)):
        assert digest_of_file(BOARD / evidence.file) == evidence.digest


def test_no_model_lies_there_that_is_of_no_row():
    assert {path.stem for path in ROWS} == {path.stem for path in BOARD.glob(f"*{MODEL}")} != set()


def test_a_row_holds_on_this_machine(monkeypatch, tmp_path):
    monkeypatch.setenv("BENCH_CACHE_DIR", str(tmp_path))
    entry = load_entry(BOARD / "bench-digits-cnn--quant8-advft.json")
    inquiry = Inquiry(model=None, beside=BOARD, evidence=BOARD, sample=4, seed=0, device="cpu")
    outcome = verify(entry, inquiry, silent)
    assert all(finding.holds for finding in outcome.findings), outcome.findings
