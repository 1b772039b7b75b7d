import io
import re
from collections.abc import Callable, Sequence

import pytest
from factories import make_entry, make_letters
from rich.cells import cell_len
from rich.console import Console

from bench.board.leaderboard import Row, rank
from bench.entry import Entry
from bench.render.card import print_entry
from bench.render.terminal import print_board, print_names
from bench.verdicts import Alarm

LONG = "prune50-quant4-w1a1-distilled-from-a-robust-parent-with-noise-and-patience-v12"
ABOUT = "Handwritten digits, 8×8: the embedded track, offline and in minutes"


def shown(show: Callable[[Console], None], width: int, *, terminal: bool = False) -> str:
    file = io.StringIO()
    # Colours are forced or left out, so that the tests do not depend on where they run.
    system = "truecolor" if terminal else None
    console = Console(file=file, width=width, force_terminal=terminal, color_system=system, _environ={})  # type: ignore[arg-type]
    show(console)
    return file.getvalue()


def body(text: str) -> list[str]:
    """Lines of the table, between the rule and the footnotes."""
    lines = text.splitlines()
    start = next(i for i, line in enumerate(lines) if line.startswith("──")) + 1
    return lines[start : lines.index("", start)]


@pytest.mark.parametrize("width", [40, 60, 80, 100, 140, 200])
def test_a_board_never_wraps(rows: Sequence[Row], width: int) -> None:
    entries = [row.entry for row in rows] + [make_entry(LONG, make_letters(0.3))]
    track = entries[0].track.model_copy(update={"about": ABOUT})
    rows = rank([entry.model_copy(update={"track": track}) for entry in entries])
    text = shown(lambda console: print_board(rows, console), width)
    assert all(cell_len(line) <= width for line in text.splitlines())
    assert ABOUT in " ".join(line.rstrip() for line in text.splitlines())
    if width >= 60:
        assert len(body(text)) == len(rows)


def test_no_figure_is_ever_cut_short(rows: Sequence[Row]) -> None:
    """Every width, for what is one column too wide is so at a few of them."""
    texts = {width: shown(lambda console: print_board(rows, console), width) for width in range(64, 161)}
    assert [width for width, text in texts.items() if "…" in text] == []


def test_eighty_columns_keep_what_ranks(rows: Sequence[Row]) -> None:
    text = shown(lambda console: print_board(rows, console), 80)
    for word in ("recipe", "robust", "clean", "prune50-quant8-advft", "63.2"):
        assert word in text
    assert "params" not in text
    assert "latency" not in text.lower().replace("no latency", "")


def test_a_long_name_does_not_cost_the_figures() -> None:
    text = shown(lambda console: print_board(rank([make_entry(LONG, make_letters())]), console), 80)
    assert "prune50-quant4-w1a1" in text
    assert "…" in text
    assert "BOPs" in text


def test_a_wide_terminal_gets_every_column(rows: Sequence[Row]) -> None:
    text = shown(lambda console: print_board(rows, console), 200)
    for word in ("model", "BOPs", "size", "latency", "MACs", "params", "flags", "partial 100/400", "! twin-disagrees"):
        assert word in text


def test_the_row_just_measured_is_pointed_at(rows: Sequence[Row]) -> None:
    name = rows[3].entry.name
    text = shown(lambda console: print_board(rows, console, highlight=name), 80)
    assert [line.startswith("▸") for line in body(text)] == [row.entry.name == name for row in rows]


def test_a_board_without_rows_says_so() -> None:
    assert "No entries yet." in shown(lambda console: print_board([], console), 80)


def test_pipes_get_no_control_codes(rows: Sequence[Row], entry: Entry) -> None:
    def everything(console: Console) -> None:
        print_board(rows, console, highlight=rows[0].entry.name)
        print_entry(entry, console)
        print_names([("quant8", "W8A8")], "recipes", console)

    assert "\x1b" not in shown(everything, 80)
    assert "\x1b" in shown(everything, 80, terminal=True)


@pytest.mark.parametrize("width", [60, 80, 140])
@pytest.mark.parametrize("terminal", [False, True])
def test_the_card_says_everything_in_eighty_columns(width: int, terminal: bool) -> None:
    alarm = Alarm(name="twin-disagrees", fatal=True, evidence="they agree on 97.25% of 400 clean images")
    entry = make_entry("prune50-quant8-advft", make_letters(n=399), n_examples=400, width=0.5, alarms=(alarm,))
    text = shown(lambda console: print_entry(entry, console), width)
    assert all(cell_len(line) <= width for line in text.splitlines())
    for word in (
        "prune50-quant8-advft", "AutoAttack", "apgd-ce", "misclassified", "×0.016", "weight_bits 8",
        "twin-disagrees", "97.25%", "d63e364aa0", "2.15.0", "partial", "not ranked", "0 prune-channels",
    ):  # fmt: skip
        assert word in text, word


def test_the_card_of_a_sparse_model_says_what_its_zeros_save() -> None:
    text = shown(lambda console: print_entry(make_entry(bits=32, sparsity=0.9), console), 80)
    lines = {line.strip().split("  ")[0]: line for line in text.splitlines()}
    assert "90.0 % zero" in lines["not zero"]
    assert "11.8 kB" in lines["less zeros"]
    assert "zeros counted" in lines["MACs"]
    assert "zero" not in shown(lambda console: print_entry(make_entry(bits=32), console), 80)


def test_the_card_of_a_simulated_model_has_no_latency() -> None:
    text = shown(lambda console: print_entry(make_entry(bits=4), console), 80)
    assert "simulated: no integer kernels" in text
    assert " ms" not in text


def test_a_setting_that_looks_like_markup_is_printed_as_it_is(entry: Entry) -> None:
    recipe = entry.recipe.model_copy(update={"steps": ({"step": "quantize", "layers": ["[red]a", "b"]},)})
    text = shown(lambda console: print_entry(entry.model_copy(update={"recipe": recipe}), console), 80)
    assert "['[red]a', 'b']" in text


def test_no_color_is_obeyed(entry: Entry, rows: Sequence[Row]) -> None:
    file = io.StringIO()
    console = Console(file=file, width=80, force_terminal=True, _environ={"NO_COLOR": "1", "TERM": "xterm-256color"})
    print_entry(entry, console)
    print_board(rows, console)
    codes = {code for codes in re.findall(r"\x1b\[([0-9;]*)m", file.getvalue()) for code in codes.split(";")}
    assert codes <= {"0", "1", "2"}, "bold and dim are no colours"
    assert "aaaaaa" in file.getvalue(), "without colours the bar spells the letters"


def test_names_stand_in_two_columns() -> None:
    text = shown(lambda console: print_names([("a", "one"), ("longer-name", "two")], "recipes", console), 80)
    assert [line.rstrip() for line in text.splitlines()] == ["recipes", "  a            one", "  longer-name  two"]
