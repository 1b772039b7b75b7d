"""Who ranks where, and who does not."""

import json
from fractions import Fraction
from statistics import stdev

import pytest
from factories import make_entry, make_letters, save_entry

from bench.board.leaderboard import load_boards, load_entries, rank, tracks_on
from bench.errors import MissingError, UsageError
from bench.render.footnotes import label
from bench.verdicts import Alarm

FATAL = Alarm(name="randomised", fatal=True, evidence="asked twice, the logits differ by 3.0%")


def letters(standing, n=40, wrong=0):
    return "." * standing + "a" * (n - standing - wrong) + "x" * wrong


def places(entries):
    return {row.entry.recipe.name: row.rank for row in rank(entries)}


def test_rows_are_ordered_by_robust_accuracy_and_ranked_by_a_paired_test():
    entries = [make_entry("low", letters(10)), make_entry("high", letters(30)), make_entry("middle", letters(20))]
    assert [(row.entry.recipe.name, row.rank) for row in rank(entries)] == [("high", 1), ("middle", 2), ("low", 3)]


def test_rows_that_a_paired_test_cannot_separate_share_a_rank():
    # Five discordant images, all for one side: p = 2 / 2**5 > 5 %. Six: p = 2 / 2**6 < 5 %.
    assert places([make_entry("a", letters(25)), make_entry("b", letters(20)), make_entry("c", letters(19))]) == {
        "a": 1,
        "b": 1,
        "c": 2,
    }


def test_a_rank_counts_the_rows_that_are_better():
    assert places(
        [make_entry("a", letters(30)), make_entry("b", letters(29)), make_entry("c", letters(10))],
    ) == {"a": 1, "b": 1, "c": 3}


def test_ranks_never_fall_down_the_board():
    nested, elsewhere = letters(225, 400), letters(224, 400)[::-1]
    entries = [make_entry("a", letters(240, 400)), make_entry("b", nested), make_entry("c", elsewhere)]
    assert [(row.entry.recipe.name, row.rank) for row in rank(entries)] == [("a", 1), ("b", 2), ("c", 2)]


def test_partial_and_alarmed_rows_are_shown_last_and_never_ranked():
    entries = [
        make_entry("partial", letters(39, 39), n_examples=40),
        make_entry("alarmed", letters(40), alarms=(FATAL,), bops=1),
        make_entry("honest", letters(10)),
        make_entry("warned", letters(2), alarms=(FATAL.model_copy(update={"fatal": False}),)),
    ]
    rows = rank(entries)
    assert [(row.entry.recipe.name, row.rank) for row in rows[:2]] == [("honest", 1), ("warned", 2)]
    assert {(row.entry.recipe.name, row.rank, row.pareto) for row in rows[2:]} == {
        ("partial", None, False),
        ("alarmed", None, False),
    }


def test_pareto_front_is_who_nobody_beats_in_robustness_and_bops():
    figures = {"best": (30, 100), "cheap": (20, 50), "dominated": (19, 50), "dear": (30, 101), "cheapest": (0, 1)}
    rows = rank([make_entry(name, letters(standing), bops=bops) for name, (standing, bops) in figures.items()])
    assert {row.entry.recipe.name for row in rows if row.pareto} == {"best", "cheap", "cheapest"}


def test_rows_equal_in_both_are_both_on_the_front():
    rows = rank([make_entry("a", letters(30)), make_entry("b", letters(30))])
    assert [row.pareto for row in rows] == [True, True]


def test_delta_is_in_points_against_the_same_model_left_as_it_is():
    rows = rank(
        [
            make_entry("none", letters(20)),
            make_entry("quant8", letters(18)),
            make_entry("none", letters(30), model="bench:conv8"),
            make_entry("quant8", letters(33), model="bench:conv8"),
            make_entry("quant8", letters(33), model="bench:small"),
        ]
    )
    deltas = {(row.entry.model, row.entry.recipe.name): row.delta for row in rows}
    assert deltas == {
        ("bench:digits-cnn", "none"): None,
        ("bench:digits-cnn", "quant8"): -5.0,
        ("bench:conv8", "none"): None,
        ("bench:conv8", "quant8"): 7.5,
        ("bench:small", "quant8"): None,
    }


def test_delta_of_a_partial_row_is_over_the_images_both_were_asked_about():
    rows = rank([make_entry("none", ".." + "a" * 38), make_entry("quant8", ".aaa", n_examples=40)])
    assert rows[1].delta == -25.0


def test_delta_is_against_the_very_network_where_rows_name_its_weights():
    here, there = make_entry("none", "....x"), make_entry("none", "..aax", seed=1)
    here, there = here.changed(parent_weights="a" * 64), there.changed(parent_weights="b" * 64)
    ours = make_entry("quant8", "...ax").changed(parent_weights="b" * 64)
    (delta,) = [row.delta for row in rank([here, there, ours]) if row.entry.recipe.name == "quant8"]
    assert delta == 20.0
    (delta,) = [row.delta for row in rank([here, ours]) if row.entry.recipe.name == "quant8"]
    assert delta is None, "a network of the same name, but another one"


def test_delta_is_against_the_namesake_where_a_row_does_not_name_the_weights():
    old, ours = make_entry("none", "....x"), make_entry("quant8", "...ax").changed(parent_weights="a" * 64)
    (delta,) = [row.delta for row in rank([old, ours]) if row.entry.recipe.name == "quant8"]
    assert delta == -20.0


def test_delta_prefers_the_whole_parent_to_a_partial_one(tmp_path):
    for entry in (
        make_entry("none", letters(20)),
        make_entry("none", letters(1, 10), n_examples=40),
        make_entry("quant8", letters(18)),
    ):
        entry.save(tmp_path)
    deltas = {row.entry.name: row.delta for row in rank(load_entries(tmp_path, "made-up-v1"))}
    assert deltas["bench-digits-cnn--none"] is None
    assert deltas["bench-digits-cnn--quant8"] == -5.0


def test_delta_is_known_for_every_seed():
    rows = rank([make_entry("none", letters(20)), make_entry("quant8", letters(18), seed=1)])
    assert [row.delta for row in rows] == [None, -5.0]


def test_every_untouched_parent_is_its_own_measure():
    rows = rank([make_entry("none", letters(20)), make_entry("none", letters(19), seed=1)], by_seed=True)
    assert [row.delta for row in rows] == [None, None]


def test_order_does_not_depend_on_the_order_of_files():
    entries = [make_entry(name, letters(20)) for name in "abcd"]
    names = [row.entry.name for row in rank(entries)]
    assert names == sorted(names) == [row.entry.name for row in rank(entries[::-1])]


def test_entries_of_an_edited_track_are_refused():
    entries = [make_entry("a", track="mine-v1"), make_entry("b", track="mine-v1", finetune_images=1)]
    first, second = sorted(entry.track.fingerprint for entry in entries)
    sentence = rf"Expected entries of one track, got mine-v1 \({first}\), mine-v1 \({second}\); "
    with pytest.raises(UsageError, match=sentence):
        rank(entries)


def test_entries_that_claim_one_track_and_differ_in_images_are_refused():
    with pytest.raises(UsageError, match="Expected entries of one track"):
        rank([make_entry("a", letters(20)), make_entry("b", letters(10, 20))])


def test_an_empty_board_is_empty():
    assert rank([]) == []


# Files:


def test_boards_are_the_folders_with_entries(tmp_path):
    make_entry("a").save(tmp_path)
    make_entry("b").save(tmp_path)
    make_entry("a", track="cifar10-linf-v1").save(tmp_path)
    (tmp_path / "published").mkdir()
    (tmp_path / "published" / "robustbench.json").write_text("[]")
    (tmp_path / "empty").mkdir()
    (tmp_path / "README.md").write_text("# Leaderboard")
    assert tracks_on(tmp_path) == ["cifar10-linf-v1", "made-up-v1"]
    boards = load_boards(tmp_path)
    assert [(name, len(rows)) for name, rows in boards.items()] == [("cifar10-linf-v1", 1), ("made-up-v1", 2)]
    assert list(load_boards(tmp_path, "made-up-v1")) == ["made-up-v1"]


def test_a_board_without_entries_says_what_to_do(tmp_path):
    with pytest.raises(MissingError, match=r"There are no entries in .*: run bench evaluate"):
        load_boards(tmp_path)
    make_entry().save(tmp_path)
    with pytest.raises(UsageError, match=r"no entries of track 'made-up-v2' .*Did you mean 'made-up-v1'\?"):
        load_boards(tmp_path, "made-up-v2")


def test_one_odd_file_is_named(tmp_path):
    make_entry().save(tmp_path)
    (tmp_path / "made-up-v1" / "odd.json").write_text("{}")
    with pytest.raises(UsageError, match=r"odd\.json is not an entry of this bench"):
        load_boards(tmp_path)


def test_an_entry_in_another_tracks_folder_is_refused(tmp_path):
    path = save_entry(make_entry(), tmp_path)
    (tmp_path / "cifar10-linf-v1").mkdir()
    path.rename(tmp_path / "cifar10-linf-v1" / path.name)
    with pytest.raises(UsageError, match=r"quant8\.json answers made-up-v1, not cifar10-linf-v1: move it"):
        load_boards(tmp_path)


def test_a_copy_under_another_name_is_refused(tmp_path):
    path = save_entry(make_entry(), tmp_path)
    path.with_name("copy.json").write_bytes(path.read_bytes())
    with pytest.raises(UsageError, match=r"copy\.json holds the entry bench-digits-cnn--quant8: "):
        load_boards(tmp_path)


@pytest.mark.parametrize("change", [{"finetune_images": 1}, {"seed": 1}, {"eps": Fraction("0.1")}])
def test_an_entry_of_an_older_version_of_its_track_is_refused_even_alone(tmp_path, change):
    entry = make_entry("quant8", make_letters(), track="digits-linf-v1")
    entry.save(tmp_path)
    assert load_entries(tmp_path, "digits-linf-v1") == [entry]
    entry.model_copy(update={"track": entry.track.model_copy(update=change)}).save(tmp_path)
    with pytest.raises(UsageError, match=r"quant8\.json was measured under another version of digits-linf-v1: "):
        load_boards(tmp_path)


def test_a_partial_entry_does_not_become_whole_by_asking_for_fewer_images(tmp_path):
    entry = make_entry("quant8", make_letters(n=100), track="digits-linf-v1")
    partial = save_entry(entry, tmp_path)
    assert [row.rank for row in load_boards(tmp_path)["digits-linf-v1"]] == [None]
    record = json.loads(partial.read_text())
    assert record["track"]["n_examples"] == 400
    record["track"]["n_examples"] = 100
    partial.unlink()
    whole = partial.with_name("bench-digits-cnn--quant8.json")  # as a whole entry is called
    whole.write_text(json.dumps(record))
    with pytest.raises(UsageError, match=r"quant8\.json was measured under another version of digits-linf-v1: "):
        load_boards(tmp_path)


def test_a_track_that_the_bench_does_not_know_has_a_board_all_the_same(tmp_path):
    make_entry(track="mine-v1").save(tmp_path)
    assert [row.rank for row in load_boards(tmp_path)["mine-v1"]] == [1]


# Costs of the Pareto front:


def test_the_front_is_about_the_cost_that_was_asked_for():
    entries = [make_entry("wide", letters(30), bops=1, width=1.0), make_entry("narrow", letters(20), bops=9, width=0.5)]
    assert {cost: [row.pareto for row in rank(entries, cost=cost)] for cost in ("bops", "macs", "bytes")} == {
        "bops": [True, False],
        "macs": [True, True],
        "bytes": [True, True],
    }


def test_latency_compares_rows_of_one_machine():
    slow, fast = make_entry("slow", letters(10)), make_entry("fast", letters(30), bits=32)
    other, simulated = make_entry("other", letters(5), machine="B"), make_entry("simulated", letters(40), bits=4)
    rows = rank([slow, fast, other, simulated], cost="latency")
    assert {row.entry.recipe.name: row.pareto for row in rows} == {
        "simulated": False,  # nobody knows how fast it would be
        "fast": True,
        "slow": False,
        "other": True,
    }


# Seeds:


def test_the_median_seed_stands_for_its_recipe():
    seeds = [make_entry("quant8", letters(n), seed=seed) for seed, n in enumerate((20, 34, 22))]
    rows = rank([*seeds, make_entry("quant8-ft", letters(28)), make_entry("none", letters(10))])
    assert [(row.entry.recipe.name, row.entry.seed, row.rank) for row in rows] == [
        ("quant8-ft", 0, 1),
        ("quant8", 2, 2),
        ("none", 0, 3),
    ]
    assert [entry.seed for entry in rows[1].seeds] == [0, 1, 2]
    assert rows[1].robust_mean == pytest.approx((20 + 34 + 22) / 120)
    assert rows[1].robust_std == pytest.approx(stdev((0.5, 0.85, 0.55)))
    assert rows[1].delta == pytest.approx(100 * (10 + 24 + 12) / 120)
    assert (rows[0].robust_std, len(rows[0].seeds)) == (None, 1)


def test_of_two_seeds_the_lower_one_stands():
    rows = rank([make_entry("quant8", letters(30)), make_entry("quant8", letters(20), seed=1)])
    assert [(row.entry.seed, row.rank) for row in rows] == [(1, 1)]


def test_another_engine_is_another_row_and_another_file():
    ours = make_entry("quant8", letters(20))
    theirs = make_entry("quant8", letters(21)).model_copy(update={"engine": "pyautoattack 0.2.0"})
    assert [len(row.seeds) for row in rank([ours, theirs])] == [1, 1]
    assert (theirs.name, theirs.command) == (f"{ours.name}--reference", f"{ours.command} --engine reference")
    assert (label(theirs), label(ours)) == ("quant8 (reference)", "quant8")


def test_seeds_that_are_not_ranked_and_other_models_and_settings_stand_alone():
    entries = [
        make_entry("quant8", letters(20)),
        make_entry("quant8", letters(20), seed=1, alarms=(FATAL,)),
        make_entry("quant8", letters(5, 10), seed=2, n_examples=40),
        make_entry("quant8", letters(20), seed=3, model="bench:conv8"),
        make_entry("quant8", letters(20), seed=4, bits=4),
    ]
    assert [len(row.seeds) for row in rank(entries)] == [1] * 5


def test_each_seed_can_have_a_row_of_its_own():
    entries = [make_entry("quant8", letters(20)), make_entry("quant8", letters(19), seed=1)]
    assert [(row.entry.seed, row.rank) for row in rank(entries, by_seed=True)] == [(0, 1), (1, 1)]


def test_rows_on_other_images_than_most_stand_aside():
    rows = [make_entry("a", "..a."), make_entry("b", "...."), make_entry("c", "....")]
    track = rows[0].track.model_copy(update={"dataset": "ours"})
    rows = [row.changed(track=track, test_set=name * 64) for row, name in zip(rows, "xxy", strict=True)]
    assert [row.rank for row in rank([rows[0], rows[1]])] == [1, 1]
    found = {row.entry.recipe.name: row.rank for row in rank(rows)}
    assert found == {"a": 1, "b": 1, "c": None}
    untouched = make_entry("none", "....").changed(track=track, test_set="y" * 64)
    deltas = {row.entry.recipe.name: row.delta for row in rank([*rows, untouched])}
    assert (deltas["a"], deltas["c"]) == (None, 0)
