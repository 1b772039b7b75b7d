"""What the script is told: every text once, and nothing that could end the element it stands in."""

import json

from factories import make_entry, make_rows
from many import make_boards, small_boards, small_published

from bench.board.leaderboard import rank
from bench.render.beside import board_beside
from bench.render.html.data import Pool, order, page_data


def data(boards, beside=None):
    beside = beside or {}
    tables = {track: board_beside(rows, *beside.get(track, ((), 0)), brief=False) for track, rows in boards.items()}
    return json.loads(page_data(boards, tables, {track: rows for track, (rows, _) in beside.items()}))


def unpack(pool, number):
    kept = pool[number]
    return kept if isinstance(kept, str) else [unpack(pool, part) for part in kept]


def test_the_pool_gives_back_what_it_was_given_and_keeps_it_once():
    pool = Pool()
    texts = ["a", ["b", "a"], [["b", "a"], []]]
    number = pool.add(texts)
    assert unpack(pool.kept, number) == texts
    before = len(pool.kept)
    assert pool.add([["b", "a"], []]) < number
    assert pool.add(texts) == number
    assert len(pool.kept) == before == 6


def test_items_stand_in_the_order_of_the_page():
    boards, beside = small_boards(), small_published()
    record = data(boards, beside)
    names = order(boards, {track: rows for track, (rows, _) in beside.items()})
    for (track, name), number in names.items():
        item = record["items"][number]
        assert (record["tracks"][item[5]], unpack(record["pool"], item[0])) == (track, name)
    assert len(record["items"]) == len(names) == 15


def test_figures_are_those_of_the_entries():
    rows = make_rows()
    record = data({"made-up-v1": rows})
    assert [cost[0] for cost in record["costs"]] == ["bops", "macs", "bytes", "latency"]
    for row, item in zip(rows, record["items"], strict=True):
        entry = row.entry
        assert item[4][0] == round(100 * entry.verdicts.robust.rate, 3)
        assert item[6][:3] == [entry.efficiency.bops, entry.efficiency.macs, entry.efficiency.bytes]
        assert item[6][3] == (entry.efficiency.latency and entry.efficiency.latency.median_ms)
        assert bool(item[7] & 1) == row.pareto
        panel = unpack(record["pool"], item[3])
        assert panel[0] == entry.recipe.name
        assert {outcome: int(count) for _, outcome, count, _ in panel[5]} == entry.verdicts.counts
        assert panel[-1] == entry.command


def test_rows_that_are_not_ranked_are_on_no_front():
    for item in data(make_boards(80))["items"]:
        assert item[4][1] <= item[4][0] <= item[4][2]
    record = data({"made-up-v1": make_rows()})
    standings = [unpack(record["pool"], item[2])[3] for item in record["items"]]
    assert standings[-2:] == ["alarmed", "partial"]
    assert [item[7] for item in record["items"][-2:]] == [0, 0]


def test_published_rows_have_neither_cost_nor_front_nor_letters():
    record = data(small_boards(), small_published())
    first, middling, weak = record["items"][-3:]
    assert [item[6:] for item in (first, middling, weak)] == [[[], 0, 0]] * 3
    assert first[4] == [70.1, 67.19, 72.856]  # Wilson's interval of 701 of 1,000
    assert middling[4] == [55.2, None, None]
    assert unpack(record["pool"], middling[2]) == [
        "SomeNet-18",
        "float32",
        "",
        "published",
        "published",
        "unstructured",
    ]
    title, question, told, source = unpack(record["pool"], weak[3])
    assert (title, question) == ("weak", "digits · Linf 0.149 · AutoAttack")
    assert ["obtained", "plot: read off a plot: good to a third of a point or to one, the note says which"] in told
    assert source == "https://example.org/digits-weak-quant4"


def test_what_a_reader_must_know_first_is_said_first():
    record = data(small_boards())
    badges = {unpack(record["pool"], item[1]): unpack(record["pool"], item[3])[3] for item in record["items"]}
    assert badges["quant8-dynamic"] == [["alarmed", "! fatal alarm: not ranked"]]
    assert badges["quant2-advft"] == [["partial", "◐ partial, 100 of 400 test images: not ranked"]]
    assert [kind for kind, _ in badges["prune30"]] == ["verified"]
    assert [kind for kind, _ in badges["prune50"]] == ["self-reported"]
    assert badges["prune20"] == []


def test_no_text_can_end_its_element():
    entry = make_entry("</script><script>alert(1)</script><!--")
    rows = rank([entry])
    text = page_data({"made-up-v1": rows}, {"made-up-v1": board_beside(rows, [])}, {})
    assert "<" not in text
    assert unpack(json.loads(text)["pool"], json.loads(text)["items"][0][1]) == entry.recipe.name
