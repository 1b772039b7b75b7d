from collections.abc import Sequence

from factories import make_entry, make_letters

from bench.board.leaderboard import Row, rank
from bench.entry import Entry
from bench.render.footnotes import OTHERS
from bench.render.table import Table, board
from bench.verdicts import Alarm


def cell(table: Table, name: str, key: str) -> str:
    index = [column.key for column in table.columns].index(key)
    return next(line.cells[index] for line in table.lines if line.name.startswith(f"bench-digits-cnn--{name}"))


def test_every_line_has_a_cell_per_column(rows: Sequence[Row]) -> None:
    table = board(rows)
    assert {len(line.cells) for line in table.lines} == {len(table.columns)}
    assert len({column.key for column in table.columns}) == len(table.columns)


def test_rows_that_are_not_ranked_stay_visible_and_say_why(rows: Sequence[Row]) -> None:
    table = board(rows)
    assert {line.standing for line in table.lines} == {"ranked", "partial", "alarmed"}
    for line in table.lines:
        assert (line.cells[0] == "–") == (line.standing != "ranked")
    assert cell(table, "quant2-advft", "flags") == "partial 100/400"
    assert cell(table, "quant8-dynamic", "flags") == "! twin-disagrees"
    texts = " ".join(note.text for note in table.notes)
    assert "97.25% of 400" in texts
    assert "9 of 400 images fell to Square alone" in texts


def test_rows_that_cannot_be_told_apart_share_a_rank(rows: Sequence[Row]) -> None:
    table = board(rows)
    assert cell(table, "prune50-advft", "rank") == cell(table, "prune50-quant8-advft", "rank")


def test_costs_share_a_unit_and_compare_with_the_parent(rows: Sequence[Row]) -> None:
    table = board(rows)
    assert next(column.unit for column in table.columns if column.key == "bops") == "G"
    assert cell(table, "none", "bops-ratio") == "×1.000"
    assert cell(table, "prune50-quant8-advft", "bops-ratio") == "×0.016"
    assert cell(table, "quant4-advft", "latency") == "sim."
    assert cell(table, "prune50-advft", "latency") == "~×0.23"


def test_autoattack_has_a_column_only_where_it_says_something_new() -> None:
    assert "autoattack" not in [
        column.key for column in board(rank([make_entry("quant8-advft", make_letters())])).columns
    ]
    more = make_entry("quant8-advft", make_letters(0.5, attacks=2), attacks=("apgd-ce", "transfer"))
    table = board(rank([more]))
    assert cell(table, "quant8-advft", "autoattack") == "60.2"
    assert cell(table, "quant8-advft", "robust") == "50.0"


def test_a_thousand_images_deserve_two_decimals() -> None:
    table = board(rank([make_entry("quant8-advft", make_letters(0.4835, n=2000))]))
    assert cell(table, "quant8-advft", "robust") == "48.35"
    assert cell(table, "quant8-advft", "interval") == "±2.19"


def test_latencies_of_two_machines_are_told_apart() -> None:
    table = board(rank([make_entry("quant8", "....x", machine="A"), make_entry("quant8-ft", "aaa.x", machine="B")]))
    assert table.lines[0].cells[_at(table, "latency")] == "×0.45¹"
    assert table.lines[1].cells[_at(table, "latency")] == "×0.45²"
    assert [note.mark for note in table.notes if note.column == "latency"] == ["¹", "²"]


def test_sparse_rows_are_marked_and_claim_no_fewer_macs() -> None:
    rows = rank([make_entry("sparse90-advft", make_letters(0.4), sparsity=0.9), make_entry("quant8", make_letters())])
    table = board(rows)
    marks = {line.name: line.cells[_at(table, "mark")] for line in table.lines}
    assert ["∅" in marks[row.entry.name] for row in rows] == [row.entry.recipe.name == "sparse90-advft" for row in rows]
    (note,) = [note for note in table.notes if note.mark == "∅"]
    assert "sparse90-advft 90.0 %, 11.8 kB with its zeros left out" in note.text
    assert note.text.endswith("MACs, BOPs, size and latency count the zeros.")
    assert len({line.cells[_at(table, "macs")] for line in table.lines}) == 1
    assert not [note for note in board(rank([make_entry("quant8")])).notes if note.mark == "∅"]


def test_seeds_tell_measurements_of_one_recipe_apart() -> None:
    table = board(rank([make_entry("quant8-advft"), make_entry("quant8-advft", seed=1)], by_seed=True))
    assert {line.cells[_at(table, "recipe")] for line in table.lines} == {"quant8-advft", "quant8-advft (seed 1)"}


def test_a_dropped_column_takes_its_notes_along_but_never_an_alarm() -> None:
    alarm = Alarm(name="randomised", fatal=True, evidence="asked twice, the logits differ by 3.0%")
    table = board(rank([make_entry(alarms=(alarm,))]))
    for column in table.columns:
        table = table.without(column.key)
    assert [note.mark for note in table.notes] == ["!"]


def _at(table: Table, key: str) -> int:
    return [column.key for column in table.columns].index(key)


def test_seeds_of_one_recipe_are_one_row_with_mean_and_spread() -> None:
    seeds = [make_entry("quant8-advft", make_letters(robust), seed=i) for i, robust in enumerate((0.50, 0.53, 0.59))]
    table = board(rank([*seeds, make_entry("quant8", make_letters(0.1))]))
    cells = {key: [line.cells[_at(table, key)] for line in table.lines] for key in ("recipe", "robust", "seeds")}
    assert cells == {"recipe": ["quant8-advft", "quant8"], "robust": ["54.0", "10.0"], "seeds": ["3 ±4.6", ""]}
    assert [note.mark for note in table.notes].count("±") == 1


def test_the_pareto_note_names_the_cost() -> None:
    entries = [make_entry("quant8", make_letters()), make_entry("none", make_letters(0.3), bits=32)]
    for cost, word in (("bops", "BOPs"), ("bytes", "size"), ("latency", "Latencies compare only on one machine")):
        notes = board(rank(entries, cost=cost)).notes  # type: ignore[arg-type]
        assert [word in note.text for note in notes if note.mark == "◆"] == [True]


def parent_notes(entries: Sequence[Entry]) -> list[str]:
    return [note.text for note in board(rank(entries)).notes if note.mark == OTHERS]


def test_one_name_for_several_parents_is_said() -> None:
    here, there = (make_entry(name).changed(parent_weights=name[0] * 64) for name in ("advft", "ft"))
    (text,) = parent_notes([here, there])
    assert text.startswith("bench:digits-cnn may not be the same weights in every row")
    assert parent_notes([here, make_entry("none")]), "an older row may have started from another network"
    assert not parent_notes([here, make_entry("advft-quant8").changed(parent_weights="a" * 64)])
    assert not parent_notes([make_entry("none"), make_entry("ft")])
