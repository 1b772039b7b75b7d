import re
from collections.abc import Sequence

import pytest
from factories import make_entry

from bench.board.leaderboard import Row, rank
from bench.errors import UsageError
from bench.render.markdown import BEGIN, END, render_markdown, sections, splice

PAGE = f"# bench\n\nintroduction\n\n{BEGIN}\nold\n{END}\n\nthe rest\n"


def test_render_markdown_guarantees(rows: Sequence[Row]) -> None:
    text = render_markdown({"made-up-v1": rows, "cifar10-linf-v1": []})
    assert text == render_markdown({"cifar10-linf-v1": [], "made-up-v1": list(rows)})
    assert "2026" not in text
    assert "cifar10-linf-v1" not in text


def test_every_row_of_the_table_has_every_cell(rows: Sequence[Row]) -> None:
    text = render_markdown({"made-up-v1": rows})
    table = [line for line in text.splitlines() if line.startswith("|")]
    assert len(table) == len(rows) + 2
    assert len({len(re.findall(r"(?<!\\)\|", line)) for line in table}) == 1


def test_recipes_link_to_their_entries(rows: Sequence[Row]) -> None:
    text = render_markdown({"made-up-v1": rows})
    for row in rows:
        assert f"](made-up-v1/{row.entry.name}.json)" in text
    assert f"](leaderboard/made-up-v1/{rows[0].entry.name}.json)" in "".join(sections({"made-up-v1": rows}))


def test_rows_that_are_not_ranked_are_there_with_their_evidence(rows: Sequence[Row]) -> None:
    text = render_markdown({"made-up-v1": rows})
    assert "| – | ! | *[quant8-dynamic]" in text
    assert "| – | ◐ | *[quant2-advft]" in text
    assert "97.25% of 400" in text
    assert "Made up. digits · Linf 0.15 · 400 test images" in text


def test_names_cannot_break_the_table() -> None:
    text = render_markdown({"made-up-v1": rank([make_entry("a|b<script>[x](y)")])})
    assert r"a\|b\<script\>\[x\](y)" in text


def test_splice_guarantees() -> None:
    once = splice(PAGE, "| a |\n| --- |\n")
    assert splice(once, "| a |\n| --- |\n") == once
    assert splice(once, "old") == splice(PAGE, "old")
    assert once.startswith("# bench\n\nintroduction\n\n")
    assert once.endswith("\n\nthe rest\n")
    assert "old" not in once


@pytest.mark.parametrize("page", ["", BEGIN, f"{END}{BEGIN}", f"{BEGIN}{BEGIN}{END}", f"{BEGIN}{END}{END}"])
def test_a_page_without_its_markers_is_refused(page: str) -> None:
    with pytest.raises(UsageError, match="Expected one"):
        splice(page, "table")


def test_a_page_that_shows_the_ranked_rows_leads_to_the_others(rows: Sequence[Row]) -> None:
    text = "\n".join(sections({"made-up-v1": rows}, whole="leaderboard/README.md"))
    for row in rows:
        assert (f"/{row.entry.name}.json)" in text) == (row.rank is not None)
    left = sum(row.rank is None for row in rows)
    assert f"[{left} further rows](leaderboard/README.md#made-up-v1), not ranked." in text
    assert "97.25% of 400" not in text, "a footnote of a row that is not there"


def test_a_track_without_ranked_rows_is_a_line_there() -> None:
    rows = rank([make_entry("quant8", "..a.x", n_examples=10)])
    text = "\n".join(sections({"made-up-v1": rows}, whole="leaderboard/README.md"))
    assert "[1 row](leaderboard/README.md#made-up-v1), not ranked." in text
    assert "|" not in text
