"""What the figures show, before anybody draws it."""

from fractions import Fraction

import pytest
from factories import make_entry, make_letters, make_rows

from bench.board.leaderboard import rank
from bench.errors import UsageError
from bench.recipe import fingerprint
from bench.render.plot.figures import COLOURS, figure
from bench.verdicts import Alarm


@pytest.fixture
def boards():
    return {"made-up-v1": make_rows()}


def lines(panel):
    return {
        f"{'clean' if line.dashed else 'robust'}, {line.name}": [(point.x, round(point.y, 2)) for point in line.points]
        for line in panel.lines
    }


def on_track(entry, eps, **changes):
    track = entry.track.model_copy(update={"eps": Fraction(eps), "name": f"eps{float(Fraction(eps)):.4f}", **changes})
    return entry.model_copy(update={"track": track})


def test_pareto_draws_ranked_rows_with_their_intervals(boards):
    (panel,) = figure("pareto", boards)
    assert (panel.x_label, panel.y_label, panel.log_x) == ("BOPs of one prediction", "robust accuracy [%]", True)
    front = next(line for line in panel.lines if line.joined == "steps")
    assert [point.name for point in front.points] == ["prune50-quant8-advft", "quant8-advft"]
    assert sum(len(line.points) for line in panel.lines) == 7
    for line in panel.lines:
        for point in line.points:
            assert point.low < point.y < point.high
    low, high = make_rows()[0].entry.verdicts.robust.interval
    assert (front.points[-1].low, front.points[-1].high) == (100 * low, 100 * high)


def test_pareto_against_another_cost(boards):
    (panel,) = figure("pareto", boards, "bytes")
    assert panel.x_label == "size [B]"
    (panel,) = figure("pareto", boards, "latency")
    assert panel.x_label == "latency on AMD EPYC 9354, 8 cores, avx512_vnni [ms]"
    with pytest.raises(UsageError, match="Expected a cost of bops"):
        figure("pareto", boards, "gold")


def entry_of(recipe, steps, robust, **how):
    entry = make_entry(recipe, make_letters(robust, 0.9), **how)
    record = entry.recipe.model_copy(update={"steps": steps, "fingerprint": fingerprint(steps)})
    return entry.model_copy(update={"recipe": record})


def pruned(ratio, *finetuning, robust=0.5, **how):
    words = [f"prune{100 * ratio:.0f}", *("advft" for _ in finetuning)]
    steps = ({"step": "prune-channels", "ratio": ratio}, *({"step": f"finetune-{kind}"} for kind in finetuning))
    return entry_of("-".join(words), steps, robust, **how)


def test_compression_draws_a_line_a_finetuning_from_the_uncompressed_models_on():
    entries = [
        make_entry("none", make_letters(0.05, 0.95), bits=32),
        entry_of("advft", ({"step": "finetune-adversarial"},), 0.6),
        pruned(0.9, robust=0.01),
        pruned(0.5, robust=0.03),
        pruned(0.5, "adversarial", robust=0.55),
        make_entry("prune50-quant8", make_letters(0.4, 0.9), width=0.5),  # two kinds at once: neither's line
    ]
    (panel,) = figure("compression", {"made-up-v1": rank(entries)})
    assert (panel.x_label, panel.y_label) == ("channels removed [%]", "accuracy [%]")
    assert lines(panel) == {
        "robust, no fine-tuning": [(0, 5), (50, 3), (90, 1)],
        "clean, no fine-tuning": [(0, 95), (50, 90), (90, 90)],
        "robust, adversarial fine-tuning": [(0, 60), (50, 55)],
        "clean, adversarial fine-tuning": [(0, 90), (50, 90)],
    }
    assert panel.ticks == ((0, "0"), (50, "50"), (90, "90"))
    assert {line.style for line in panel.lines} == {0, 2}


def test_compression_joins_no_other_recipe_of_adversarial_fine_tuning():
    steps = ({"step": "quantize", "weight_bits": 4}, {"step": "finetune-adversarial", "average": 0.99})
    entries = [
        *(make_entry(f"quant{bits}-advft", make_letters(0.1 * bits), bits=bits) for bits in (8, 2)),
        entry_of("averaged-w4a4", steps, 0.85),
    ]
    (panel,) = figure("compression", {"made-up-v1": rank(entries)})
    robust = {name: points for name, points in lines(panel).items() if name.startswith("robust")}
    assert robust == {"robust, adversarial fine-tuning": [(2, 20), (8, 80)], "robust, averaged-w4a4": [(4, 85)]}


def test_of_many_recipes_the_least_robust_are_left_out():
    steps = [({"step": "quantize", "weight_bits": 4}, {"step": "finetune-mine", "rate": rate}) for rate in range(8)]
    entries = [entry_of(f"own{rate}", steps[rate], 0.1 * rate) for rate in range(8)]
    (panel,) = figure("compression", {"made-up-v1": rank(entries)})
    assert list(dict.fromkeys(line.name for line in panel.lines)) == ["own7", "own6", "own5", "own4", "own3", "own2"]
    assert panel.note == "2 less robust recipes not shown"


def test_bits_fall_from_left_to_right_and_unsound_rows_are_left_out():
    fatal = (Alarm(name="twin-disagrees", fatal=True, evidence="none"),)
    entries = [
        make_entry("none", make_letters(0.05, 0.95), bits=32),
        *(make_entry(f"quant{bits}", make_letters(0.04, 0.9), bits=bits) for bits in (8, 4)),
        make_entry("quant2", make_letters(0.9, 0.95), bits=2, alarms=fatal),
    ]
    (panel,) = figure("compression", {"made-up-v1": rank(entries)})
    assert panel.reverse_x
    assert lines(panel)["robust, no fine-tuning"] == [(4, 4), (8, 4), (32, 5)]


def test_several_seeds_are_one_point():
    entries = [pruned(0.5, robust=share, seed=seed) for seed, share in enumerate((0.4, 0.5, 0.6))]
    (panel,) = figure("compression", {"made-up-v1": rank(entries, by_seed=True)})
    robust = panel.lines[0]
    assert [(point.x, point.y) for point in robust.points] == [(50, 50)]
    assert robust.points[0].low < 40
    assert robust.points[0].high > 60


def test_eps_joins_one_recipe_over_tracks_of_one_data_set_and_norm():
    boards = {}
    for eps, share in (("2/255", 0.6), ("8/255", 0.2), ("4/255", 0.4)):
        rows = [make_entry("quant8", make_letters(share, 0.9)), make_entry("quant8-ft", make_letters(share / 2, 0.9))]
        boards[eps] = rank([on_track(entry, eps) for entry in rows])
    boards["alone"] = rank([on_track(make_entry("quant8", make_letters(0.1)), "1/2", norm="L2")])
    (panel,) = figure("eps", boards)
    assert panel.x_label == "Linf eps, images in [0, 1]"
    assert [text for _, text in panel.ticks] == ["2/255", "4/255", "8/255"]
    assert {name: [y for _, y in points] for name, points in lines(panel).items()} == {
        "robust, quant8": [60, 40, 20],
        "robust, quant8-ft": [30, 20, 10],
    }
    assert panel.note == ""


def test_eps_has_a_panel_a_model_and_the_most_robust_lines_alone():
    boards = {}
    for eps in ("2/255", "8/255"):
        made = [
            make_entry(f"quant{bits}", make_letters(0.05 * bits), bits=bits, model=model)
            for model, most in (("bench:a", 10), ("bench:b", 3))
            for bits in range(2, most)
        ]
        boards[eps] = rank([on_track(entry, eps) for entry in made])
    first, second = figure("eps", boards)
    assert (first.title, second.title) == ("digits, bench:a", "digits, bench:b")
    assert [line.name for line in first.lines] == ["quant9", "quant8", "quant7", "quant6", "quant5", "quant4"]
    assert (first.note, second.note) == ("2 less robust recipes not shown", "")
    styles = {line.name: line.style for panel in (first, second) for line in panel.lines}
    assert len(set(styles.values())) == len(styles) == 7


def test_a_part_of_the_images_is_no_second_seed():
    boards = {}
    for eps, share in (("2/255", 0.6), ("8/255", 0.2)):
        whole = make_entry("quant8", make_letters(share, 0.9))
        part = make_entry("quant8", make_letters(0.9, 0.9, n=100), n_examples=400)
        boards[eps] = rank([on_track(entry, eps) for entry in (part, whole)], by_seed=True)
    (panel,) = figure("eps", boards)
    assert [y for _, y in lines(panel)["robust, quant8"]] == [60, 20]


def test_names_of_a_cost_figure_say_the_model_where_there_are_several():
    entries = [make_entry("quant8", make_letters(0.5)), make_entry("quant8", make_letters(0.6), model="bench:other")]
    (panel,) = figure("pareto", {"made-up-v1": rank(entries)})
    assert {point.name for line in panel.lines for point in line.points} == {"quant8", "quant8 (other)"}
    assert panel.note == "bench:digits-cnn unless named"


def test_names_that_meet_have_different_colours_though_there_are_more_than_colours():
    boards = {}
    for eps in ("2/255", "8/255"):
        made = [
            make_entry(f"quant{bits}", make_letters(0.05 * bits), bits=bits, model=f"bench:{model}")
            for model in range(3)
            for bits in range(2 + 5 * model, 7 + 5 * model)
            if bits < 16
        ]
        boards[eps] = rank([on_track(entry, eps) for entry in made])
    panels = figure("eps", boards)
    styles = {line.name: line.style for panel in panels for line in panel.lines}
    assert len(set(styles.values())) == len(styles) > COLOURS
    for panel in panels:
        assert len({line.style % COLOURS for line in panel.lines}) == len(panel.lines)


def test_nothing_to_draw_is_said(boards):
    with pytest.raises(UsageError, match="no recipe with entries on tracks of several eps"):
        figure("eps", boards)
    with pytest.raises(UsageError, match="nothing to draw: no rows that differ in one kind"):
        figure("compression", {"made-up-v1": rank([make_entry("none", bits=32)])})
    with pytest.raises(UsageError, match=r"There is no figure .paretto.\. Did you"):
        figure("paretto", boards)
