"""A self-reported row is seen and labelled everywhere, and ranked nowhere; a verified one says so."""

import csv
import io
import json

import pytest
from factories import make_entry, make_letters
from rich.console import Console

from bench.board.comparison import compare
from bench.board.leaderboard import rank
from bench.entry import load_entry
from bench.render.card import print_entry
from bench.render.markdown import render_markdown
from bench.render.plain import BOARD, as_csv, board_json, board_records, comparison_json, comparison_records
from bench.render.terminal import print_board


def made(recipe, robust, status, **how):
    return make_entry(recipe, make_letters(robust, 0.95), **how).model_copy(update={"status": status})


@pytest.fixture
def rows():
    return rank(
        [
            made("none", 0.9, "self-reported", bits=32),
            made("quant8", 0.3, "measured"),
            made("quant8-advft", 0.5, "verified"),
            made("quant4-advft", 0.8, "self-reported", bits=4),
        ]
    )


def on_terminal(show, width=160):
    file = io.StringIO()
    show(Console(file=file, width=width, _environ={}))
    return file.getvalue()


def test_a_claim_is_out_of_the_ranking_the_front_and_the_deltas(rows):
    places = [(row.entry.recipe.name, row.rank, row.pareto, row.delta) for row in rows]
    assert places == [
        ("quant8-advft", 1, True, None),
        ("quant8", 2, False, None),
        ("none", None, False, None),
        ("quant4-advft", None, False, None),
    ]


def test_seeds_of_which_one_is_a_claim_are_not_averaged():
    rows = rank([made("quant8", 0.3, "measured"), made("quant8", 0.9, "self-reported", seed=1)])
    assert [(row.rank, len(row.seeds)) for row in rows] == [(1, 1), (None, 1)]


@pytest.mark.parametrize("width", [60, 80, 160])
def test_the_terminal_labels_both(rows, width):
    lines = on_terminal(lambda console: print_board(rows, console), width).splitlines()
    (claim,) = (line for line in lines if "quant4-advft" in line)
    (verified,) = (line for line in lines if "quant8-advft" in line)
    assert "\u2020" in claim
    assert claim.split()[0] == "\u2013"
    assert "\u2713" in verified
    assert any("Self-reported: sent in with its evidence" in line for line in lines)


def test_markdown_labels_both(rows):
    text = render_markdown({"made-up-v1": rows})
    (claim,) = (line for line in text.splitlines() if "quant4-advft" in line and line.startswith("|"))
    assert claim.startswith("| \u2013 | \u2020 | *[quant4-advft]")
    assert "self-reported" in claim
    assert "- \u2713 Verified: " in text


def test_data_carries_the_status(rows):
    records = list(csv.DictReader(io.StringIO(as_csv(board_records("made-up-v1", rows), BOARD))))
    assert [(one["rank"], one["status"]) for one in records] == [
        ("1", "verified"), ("2", "measured"), ("", "self-reported"), ("", "self-reported"),
    ]  # fmt: skip
    assert [one["entry"]["status"] for one in board_json(rows)][:2] == ["verified", "measured"]


def test_a_comparison_says_what_is_a_claim(rows):
    comparison = compare([rows[0].entry, rows[3].entry])
    assert comparison.differences[0].notes == ("B is self-reported: nobody measured it again",)
    assert [one["status"] for one in comparison_json(comparison)["contenders"]] == ["verified", "self-reported"]
    assert [one["status"] for one in comparison_records(comparison)] == ["verified", "self-reported"]


def test_the_card_says_so_first(rows):
    text = on_terminal(lambda console: print_entry(rows[3].entry, console), 100)
    assert text.index("\u2020 Self-reported") < text.index("accuracy")


def test_the_status_survives_the_file(tmp_path, rows):
    rows[3].entry.save(tmp_path)
    assert load_entry(rows[3].entry.path(tmp_path)) == rows[3].entry
    record = json.loads(rows[3].entry.path(tmp_path).read_text())
    assert record["status"] == "self-reported"


def test_what_fine_tuning_cost_is_a_column():
    tuned, plain = make_entry("quant8-advft", make_letters(0.5)), make_entry("quant8", make_letters(0.3))
    effort = tuned.effort.model_copy(update={"train_images": 60_000})
    none = effort.model_copy(update={"finetune_forward": 0, "finetune_backward": 0})
    unknown = make_entry("quant8-ft", make_letters(0.4))
    rows = rank(
        [
            tuned.model_copy(update={"effort": effort}),
            plain.model_copy(update={"effort": none}),
            unknown,
        ]
    )
    share = (640_000 + 640_000) / (20 * 16 * 60_000)
    lines = on_terminal(lambda console: print_board(rows, console), 200).splitlines()
    (heading,) = (i for i, line in enumerate(lines) if "fine-tuning" in line and "recipe" in line)
    place = slice(lines[heading].index("fine-tuning"), lines[heading].index("fine-tuning") + len("fine-tuning"))
    cells = [line[place].strip() for line in lines[heading + 3 : heading + 6]]
    assert cells == [f"\u00d7{share:.3f}", "\u2013", "0"]
    assert "fine-tuning" not in on_terminal(lambda console: print_board(rows, console), 80)
    records = board_records("made-up-v1", rows)
    assert [one["finetune_relative_cost"] for one in records] == [pytest.approx(share), None, 0.0]
    assert "fine-tuning / scratch" in render_markdown({"made-up-v1": rows})
    assert "fine-tuning" not in render_markdown({"made-up-v1": rank([unknown])})
