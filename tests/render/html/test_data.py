"""What the script is told: every text once, and nothing that could end the element it stands in."""

import json

from factories import make_entry, make_rows
from many import make_boards, small_boards

from bench.leaderboard import rank
from bench.render.html.data import Pool, order, page_data
from bench.render.table import board


def data(boards):
    return json.loads(page_data(boards, {track: board(rows) for track, rows in boards.items()}))


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
    boards = small_boards()
    record = data(boards)
    names = order(boards)
    for (track, name), number in names.items():
        item = record["items"][number]
        assert (record["tracks"][item[5]], unpack(record["pool"], item[0])) == (track, name)
    assert len(record["items"]) == len(names) == 12


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
        assert {outcome: int(count) for _, outcome, count, _ in panel[4]} == entry.verdicts.counts
        assert panel[-1] == entry.command


def test_rows_that_are_not_ranked_are_on_no_front():
    for item in data(make_boards(80))["items"]:
        assert item[4][1] <= item[4][0] <= item[4][2]
    record = data({"made-up-v1": make_rows()})
    standings = [unpack(record["pool"], item[2])[3] for item in record["items"]]
    assert standings[-2:] == ["alarmed", "partial"]
    assert [item[7] for item in record["items"][-2:]] == [0, 0]


def test_no_text_can_end_its_element():
    entry = make_entry("</script><script>alert(1)</script><!--")
    rows = rank([entry])
    text = page_data({"made-up-v1": rows}, {"made-up-v1": board(rows)})
    assert "<" not in text
    assert unpack(json.loads(text)["pool"], json.loads(text)["items"][0][1]) == entry.recipe.name
