import pytest
from factories import make_entry, make_letters

from bench.attack.suites import SQUARE_AGAIN
from bench.entry import Entry
from bench.render.letters import bar, cells, segments
from bench.verdicts import AUTOATTACK, Verdicts


@pytest.mark.parametrize("width", [6, 20, 78, 400])
@pytest.mark.parametrize("counts", [[1], [232, 1, 0, 33, 98, 36], [0, 0, 7], [1, 1, 1, 1, 1, 9995], [3, 3, 3, 3]])
def test_cells_guarantees(counts: list[int], width: int) -> None:
    shares = cells(counts, width)
    assert sum(shares) == width
    assert [share > 0 for share in shares] == [count > 0 for count in counts]


def test_segments_add_up_and_go_from_robust_to_misclassified(entry: Entry) -> None:
    parts = segments(entry.verdicts)
    assert sum(part.count for part in parts) == len(entry.verdicts.letters)
    assert [part.letter for part in parts] == [".", "d", "c", "b", "a", "x"]
    assert sum(part.count for part in parts if part.letter != "x") == entry.verdicts.clean.count


@pytest.mark.parametrize("colour", [False, True])
def test_the_bar_is_as_wide_as_asked_and_the_legend_names_every_count(entry: Entry, colour: bool) -> None:
    drawing, _, legend = bar(entry.verdicts, 78, colour=colour)
    assert drawing.cell_len == 78
    for part in segments(entry.verdicts):
        assert f"{part.letter}{' ' * colour} {part.outcome} {part.count}" in legend.plain


def test_without_colours_the_bar_spells_the_letters() -> None:
    drawing, *_ = bar(make_entry(letters=make_letters(0.5, 1.0)).verdicts, 40, colour=False)
    assert drawing.plain.count(".") == 20
    assert "x" not in drawing.plain


def test_what_comes_after_the_suite_is_told_apart():
    attacks = (*AUTOATTACK, "transfer", "surrogate", "apgd-scaled", "square-deployed", *SQUARE_AGAIN, "pgd-20")
    shown = segments(Verdicts.of(attacks=(*attacks, "challenge:me"), letters="."))
    colour = {one.outcome: one.colour for one in shown}
    assert len({colour[attack] for attack in (*attacks[:8], "square-2", "pgd-20", "challenge:me")}) == 11
    assert len({colour[attack] for attack in SQUARE_AGAIN}) == 1
