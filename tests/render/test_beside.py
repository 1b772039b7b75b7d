"""Published rows and comparisons on a terminal: whole names, no line too long, and nothing published is ranked."""

import io
from collections.abc import Callable, Sequence
from pathlib import Path

import pytest
from factories import make_entry, make_letters
from rich.cells import cell_len
from rich.console import Console

from bench.board.comparison import compare
from bench.board.leaderboard import rank
from bench.board.published import Published, beside, find_published, load_published, select
from bench.render.beside import board_beside
from bench.render.comparison import print_comparison
from bench.render.published import print_published, print_published_row
from bench.render.terminal import print_table
from bench.track import load_track
from bench.verdicts import AUTOATTACK

TRACK = load_track("cifar10-linf-v1")


@pytest.fixture(scope="module")
def published() -> Sequence[Published]:
    return load_published(Path(__file__).parents[2] / "leaderboard")


def shown(show: Callable[[Console], None], width: int, *, colour: bool = False) -> str:
    file = io.StringIO()
    system = "truecolor" if colour else None
    show(Console(file=file, width=width, force_terminal=colour, color_system=system, _environ={}))  # type: ignore[arg-type]
    return file.getvalue()


@pytest.mark.parametrize("width", [80, 120])
def test_published_rows_fit_and_keep_their_names_whole(published: Sequence[Published], width: int) -> None:
    text = shown(lambda console: print_published(select(published), console), width)
    assert all(cell_len(line) <= width for line in text.splitlines())
    words = set(text.split())
    assert [row.name for row in published if row.name not in words] == []


def test_headings_keep_questions_and_attacks_apart(published: Sequence[Published]) -> None:
    text = shown(lambda console: print_published(select(published, dataset="cifar100"), console), 100)
    assert [line for line in text.splitlines() if line.startswith("cifar100 ·")] == [
        "cifar100 · Linf 4/255 · AutoAttack",
        "cifar100 · Linf 0.03 · PGD-40",
        "cifar100 · Linf 8/255 · AutoAttack",
        "cifar100 · Linf 8/255 · PGD-20",
        "cifar100 · Linf 12/255 · AutoAttack",
    ]


def test_a_published_row_in_full_fits(published: Sequence[Published]) -> None:
    for row in published[::25]:
        text = shown(lambda console, row=row: print_published_row(row, console), 80)  # type: ignore[misc]
        assert all(cell_len(line) <= 80 for line in text.splitlines())
        assert row.source in text


def test_published_rows_stand_where_their_accuracy_puts_them_and_are_never_ranked(
    published: Sequence[Published],
) -> None:
    rows = rank(
        [
            make_entry("high", make_letters(0.47, 0.8, n=10_000), track=TRACK.name),
            make_entry("low", make_letters(0.2, 0.8, n=10_000), track=TRACK.name),
            make_entry("part", make_letters(0.9, 0.95, n=100), track=TRACK.name),
        ]
    )
    table = board_beside(rows, *beside(published, dataset="cifar10", threat=TRACK.threat))
    ranked = [line.robust for line in table.lines if line.standing != "partial"]
    assert ranked == sorted(ranked, reverse=True)
    assert table.lines[-1].standing == "partial"
    for line in table.lines:
        if line.standing == "published":
            assert line.cells[0] == "published"
            assert not line.pareto
            assert "◆" not in "".join(line.cells)
    for width in (80, 120):
        text = shown(lambda console: print_table(table, console), width)
        assert all(cell_len(line) <= width for line in text.splitlines())


def test_another_attack_or_radius_is_named_in_the_row(published: Sequence[Published]) -> None:
    rows = rank([make_entry("a", make_letters(0.47, 0.8, n=10_000), track=TRACK.name)])
    table = board_beside(rows, *beside(published, dataset="cifar10", threat=TRACK.threat))
    asked = next(i for i, column in enumerate(table.columns) if column.key == "asked")
    cells = {line.name: line.cells[asked] for line in table.lines}
    assert cells["cifar10-harp-resnet18-sparse99"] == "eps 0.031"
    assert cells["cifar10-flyingbird-resnet18-sparse80"] == "PGD-20"
    assert cells["cifar10-linf-Sehwag2020Hydra"] == ""
    assert cells[rows[0].entry.name] == ""


def test_a_board_without_published_rows_is_the_board(published: Sequence[Published]) -> None:
    rows = rank([make_entry("a")])
    assert [line.name for line in board_beside(rows, []).lines] == [rows[0].entry.name]


@pytest.mark.parametrize("colour", [True, False])
@pytest.mark.parametrize(("width", "tables"), [(80, 2), (160, 1)])
def test_a_comparison_fits_and_continues_below(
    published: Sequence[Published], width: int, tables: int, colour: bool
) -> None:
    entries = [make_entry(name, make_letters(0.4, 0.8, n=10_000), track=TRACK.name) for name in ("a", "b", "c", "d")]
    rows = [*entries, find_published("cifar10-harp-resnet18-sparse99", published)]
    text = shown(lambda console: print_comparison(compare(rows), console), width, colour=colour)
    if not colour:
        assert all(cell_len(line) <= width for line in text.splitlines())
        assert text.count("robust %") == tables
        assert "A, E  E's eps 0.031 is a little less than A's 8/255, which favours E." in text
        assert "\x1b" not in text


def test_a_pair_is_named_once_and_what_pairs_share_is_said_once() -> None:
    more = make_entry("a", "..a.x", attacks=(*AUTOATTACK, "transfer"))
    rows = [more, make_entry("b", "...ax"), make_entry("c", ".a..x")]
    text = shown(lambda console: print_comparison(compare(rows), console), 160)
    for once in ("A, B  differ on 2 of 5", "A, C  differ on 2 of 5", "A, B", "A, C", "A faced transfer as well"):
        assert text.count(once) == 1
