"""The rendered files: written when stale, left alone when fresh, never touched by a check."""

from pathlib import Path

import pytest

from bench.errors import UsageError
from bench.render.markdown import BEGIN, END, sections
from bench.render.pages import write_pages

README = f"# bench\n\nBefore.\n\n{BEGIN}\n{END}\n\nAfter.\n"


@pytest.fixture
def boards(rows):
    return {"made-up-v1": rows}


@pytest.fixture
def board(tmp_path):
    (tmp_path / "leaderboard").mkdir()
    return tmp_path / "leaderboard"


def test_writes_the_boards_own_page_then_is_fresh(boards, board):
    assert write_pages(boards, board) == [board / "README.md"]
    text = (board / "README.md").read_text(encoding="utf-8")
    assert "made-up-v1" in text
    assert "Made up. " in text
    assert write_pages(boards, board) == []
    assert write_pages(boards, board, check=True) == []


def test_check_changes_nothing(boards, board):
    assert write_pages(boards, board, check=True) == [board / "README.md"]
    assert list(board.iterdir()) == []
    (board / "README.md").write_text("old")
    assert write_pages(boards, board, check=True) == [board / "README.md"]
    assert (board / "README.md").read_text() == "old"


def test_the_page_beside_the_board_repeats_it_between_the_markers(boards, board):
    beside = board.parent / "README.md"
    beside.write_text(README)
    assert write_pages(boards, board) == [board / "README.md", beside]
    text = beside.read_text(encoding="utf-8")
    assert text.startswith(f"# bench\n\nBefore.\n\n{BEGIN}")
    assert text.endswith(f"{END}\n\nAfter.\n")
    assert "(leaderboard/made-up-v1/" in text
    assert "(leaderboard/README.md#made-up-v1)" in text
    assert write_pages(boards, board) == []


def test_an_edit_between_the_markers_is_stale(boards, board):
    beside = board.parent / "README.md"
    beside.write_text(README)
    write_pages(boards, board)
    fresh = beside.read_text(encoding="utf-8")
    beside.write_text(fresh.replace("56.0", "96.0"), encoding="utf-8")
    assert write_pages(boards, board, check=True) == [beside]
    write_pages(boards, board)
    assert beside.read_text(encoding="utf-8") == fresh


def test_a_new_entry_makes_both_pages_stale(boards, board, rows):
    (board.parent / "README.md").write_text(README)
    write_pages({"made-up-v1": rows[:-1]}, board)
    assert len(write_pages(boards, board, check=True)) == 2


def test_a_page_without_markers_is_somebody_elses(boards, board):
    beside = board.parent / "README.md"
    beside.write_text("# Another project\n")
    assert write_pages(boards, board) == [board / "README.md"]
    assert beside.read_text() == "# Another project\n"


def test_half_a_pair_of_markers_writes_nothing(boards, board):
    (board.parent / "README.md").write_text(f"# bench\n{BEGIN}\n")
    with pytest.raises(UsageError, match="Expected one"):
        write_pages(boards, board)
    assert list(board.iterdir()) == []


def test_links_lead_to_the_entries(boards, board, rows):
    (text,) = [part for part in sections(boards, base="leaderboard/") if part.startswith("| ")]
    for row in rows:
        assert f"(leaderboard/made-up-v1/{row.entry.name}.json)" in text


def test_pages_do_not_depend_on_how_the_folder_is_called(boards, board, monkeypatch):
    (board.parent / "README.md").write_text(README)
    write_pages(boards, board)
    monkeypatch.chdir(board)
    assert write_pages(boards, Path(), check=True) == []
