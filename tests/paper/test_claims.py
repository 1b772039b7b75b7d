"""Each branch of the rules by which the page judges the paper's claims."""

from dataclasses import replace

import pytest
from papers_grid import entry, grid
from scipy.stats import binomtest

from bench.paper.claims import cheaper, fate_of, inherent, pair, reaches

ADV = "bench:conv8-adv"
GIVEN = "holds, where the standard network is there already"


def fates(ruling):
    return {one.ours.recipe.name: one.fate for _, one in ruling.evidence}


@pytest.mark.parametrize(
    ("points", "low", "p", "expected"),
    [
        (-2.0, -4.9, 0.001, "keeps"),  # a loss beyond chance, but smaller than one that counts
        (1.0, -1.0, 0.4, "keeps"),
        (-2.0, -5.0, 0.2, "keeps"),
        (-2.0, -5.1, 0.2, "undecided"),  # too few images to tell
        (-4.2, -5.5, 0.001, "loses a little"),  # a loss for certain, but perhaps one that does not count
        (-5.0, -9.0, 0.04, "loses a little"),
        (-8.0, -11.0, 0.001, "loses"),
        (9.0, -6.0, 0.04, "undecided"),
    ],
)
def test_what_a_pair_shows(points, low, p, expected):
    assert fate_of(points, low, p) == expected


def test_a_pair_is_about_the_images_both_were_asked_about():
    one = pair(entry("quant4", 450), entry("none", 80, n=100))
    assert (one.n, one.points) == (100, 20.0)
    assert one.p == pytest.approx(binomtest(20, 20).pvalue)
    low, high = one.interval
    assert low < 20 < high


def whole(kept, lost, **more):
    """One mild level of each kind, with so many robust images; the uncompressed one has 500."""
    return [entry("none", 500, **more), entry("prune10", kept, **more), entry("quant16", lost, **more)]


def test_claim_1_holds_if_a_level_of_each_kind_keeps():
    found = inherent(grid(*whole(495, 505, model=ADV), entry("prune50", 100, model=ADV)))
    assert found.verdict == "holds"
    assert fates(found) == {"prune10": "keeps", "prune50": "loses", "quant16": "keeps"}
    assert found.why[0] == "Pruned channels: holds (kept by prune10; lost by prune50)."


def test_claim_1_does_not_hold_if_the_mildest_level_of_a_kind_loses():
    found = inherent(grid(*whole(495, 300, model=ADV), entry("quant4", 200, model=ADV)))
    assert found.verdict == "does not hold"
    assert "Quantised: does not hold (lost by quant16, quant4)." in found.why


def test_claim_1_cannot_be_told_if_only_strong_compression_loses():
    found = inherent(grid(entry("none", 500), entry("prune10", 500), entry("quant4", 100)))
    assert found.verdict == "cannot be told yet"
    assert "Quantised: cannot be told yet (lost by quant4; W16A16 is missing)." in found.why


def test_claim_1_cannot_be_told_from_few_images():
    found = inherent(grid(entry("none", 50, n=100), entry("prune10", 47, n=100), entry("quant16", 47, n=100)))
    assert found.verdict == "cannot be told yet"
    assert set(fates(found).values()) == {"undecided"}


def test_a_small_loss_neither_keeps_nor_loses_a_level():
    small = inherent(grid(*whole(495, 455)))
    assert small.verdict == "cannot be told yet"
    assert fates(small) == {"prune10": "keeps", "quant16": "loses a little"}
    assert small.why[1] == "Quantised: cannot be told yet (lost a little by quant16)."
    beside = inherent(grid(*whole(495, 455), entry("quant4", 100)))
    assert beside.verdict == "cannot be told yet", "not every level lost"
    assert beside.why[1] == "Quantised: cannot be told yet (lost a little by quant16; lost by quant4)."
    assert inherent(grid(*whole(495, 455), entry("quant4", 495))).verdict == "holds"


def test_claim_1_compares_like_with_like_only():
    found = inherent(grid(entry("none", 500), entry("prune10-advft", 500), entry("quant16", 500, model=ADV)))
    assert found.verdict == "cannot be told yet"
    assert found.evidence == ()
    assert "nothing to compare was measured" in found.why[0]


def test_claim_1_compares_no_other_settings():
    """Fine-tuned for a quarter of an epoch, say, a network may be worse without any compression."""
    assert inherent(grid(entry("advft", 500), entry("quant16-advft+abc123", 300))).evidence == ()
    assert inherent(grid(entry("advft+abc123", 500), entry("quant16-advft", 300))).evidence == ()
    assert fates(inherent(grid(entry("advft", 500), entry("quant16-advft", 300)))) == {"quant16-advft": "loses"}


def test_claim_1_compares_no_other_parent_of_the_same_name():
    here, there = (entry(name, 500).changed(parent_weights=name[0] * 64) for name in ("none", "quant16"))
    assert inherent(grid(here, there)).evidence == ()
    assert fates(inherent(grid(here, entry("quant16", 500)))) == {"quant16": "keeps"}, "an older row may be of it"


def test_claim_1_ignores_models_without_robustness_to_lose():
    found = inherent(grid(entry("none", 20), entry("prune10", 0), entry("quant16", 20)))
    assert found.evidence == ()
    assert found.why[-1].startswith("2 compressed entries stand against")


def tuned(prune, quant, **more):
    return [entry("prune10-advft", prune, **more), entry("quant16-advft", quant, **more)]


def test_claim_2_needs_an_adversarially_trained_network():
    found = reaches(grid(*tuned(500, 500)))
    assert found.verdict == "cannot be told yet"
    assert found.why[0] == "bench:conv8-adv, to compare bench:conv8 with, has no entry."
    found = reaches(grid(*tuned(500, 500), entry("none", 30, model=ADV)))
    assert found.why[0] == "bench:conv8-adv, to compare bench:conv8 with, is not robust itself."
    found = reaches(grid(entry("none", 30, model="timm:resnet18")))
    assert "The bench has no adversarially trained network like timm:resnet18." in found.why
    found = reaches(grid(entry("none", 30, model="autoattack:resnet18")))
    assert "bench:resnet18-adv, to compare autoattack:resnet18 with, has no entry." in found.why


def test_claim_2_is_about_standard_parents_compressed_and_fine_tuned():
    found = reaches(
        grid(*tuned(495, 500), *tuned(900, 900, model=ADV), entry("prune50", 900), entry("none", 500, model=ADV))
    )
    assert found.verdict == "holds"
    assert {one.ours.model for _, one in found.evidence} == {"bench:conv8"}
    assert fates(found) == {"prune10-advft": "keeps", "quant16-advft": "keeps"}


def at_rate(one, rate):
    steps = tuple({**step, "learning_rate": rate} for step in one.recipe.steps)
    return one.model_copy(update={"recipe": one.recipe.model_copy(update={"steps": steps})})


def test_claim_2_counts_what_other_settings_reach():
    usual, variant = (
        at_rate(entry("quant16-advft", 300), 0.01),
        at_rate(entry("quant16-advft+abc123", 495, n=900), 0.05),
    )
    found = reaches(grid(entry("prune10-advft", 495), usual, variant, entry("none", 500, model=ADV)))
    assert found.verdict == "holds"
    assert fates(found) == {"prune10-advft": "keeps", "quant16-advft": "loses", "quant16-advft+abc123": "keeps"}
    assert found.why[-1].startswith("quant16-advft+abc123 is quant16-advft with ")
    assert found.why[-1].endswith("; learning_rate 0.05, not 0.01.")


def test_a_cell_in_which_nothing_but_other_settings_stands_is_explained_too():
    variant = at_rate(entry("quant16-advft+abc123", 495), 0.05)
    found = reaches(grid(entry("prune10-advft", 495), variant, entry("none", 500, model=ADV)))
    assert found.why[-1].startswith("quant16-advft+abc123 is quant16-advft with ")


def test_claim_2_does_not_hold_if_a_kind_never_reaches_it():
    assert reaches(grid(*tuned(495, 300), entry("none", 500, model=ADV))).verdict == "does not hold"


def test_claim_3_holds_if_one_that_reaches_it_costs_less():
    found = cheaper(grid(*tuned(495, 300), entry("none", 500, model=ADV)))
    assert found.verdict == GIVEN
    assert fates(found) == {"prune10-advft": "keeps"}
    assert found.why[0].startswith("1 of 1 entries that reach it cost less: the cheapest, prune10-advft, took 0.")
    assert found.why[0].endswith("What training the standard network took is not known.")


def test_claim_3_is_about_what_training_the_compared_network_took():
    cells = grid(*tuned(495, 300), entry("none", 500, model=ADV))
    cost = cells.get("bench:conv8", cells.rows[1], "adversarial").effort.relative_cost
    assert cheaper(replace(cells, scratch={ADV: cost * 1.01})).verdict == GIVEN
    found = cheaper(replace(cells, scratch={ADV: cost}))
    assert found.verdict == "does not hold"
    assert found.why[0].endswith(f"prune10-advft, took {cost:.3f}, and training {ADV} {cost:.3f}.")


def test_claim_3_holds_without_a_proviso_if_it_does_with_the_parent_counted():
    cells = grid(*tuned(495, 300), entry("none", 500, model=ADV))
    cost = cells.get("bench:conv8", cells.rows[1], "adversarial").effort.relative_cost
    for scratch, expected in ((cost + 0.029, GIVEN), (cost + 0.031, "holds")):
        found = cheaper(replace(cells, scratch={ADV: scratch, "bench:conv8": 0.03}))
        assert found.verdict == expected
        paid = f"Whoever has to train bench:conv8 first pays 0.030 more, {cost + 0.03:.3f} in all for prune10-advft."
        assert found.why[0].endswith(paid)


def test_claim_3_does_not_hold_if_all_that_reach_it_cost_as_much():
    dear = tuned(495, 495, finetune=60_000 * 1000)
    found = cheaper(grid(*dear, entry("none", 500, model=ADV)))
    assert found.verdict == "does not hold"
    assert found.why[0].startswith("No entry that reaches it costs less: the cheapest, prune10-advft, took ")


def test_claim_3_cannot_be_told_without_recorded_costs():
    found = cheaper(grid(*tuned(495, 495, train_images=None), entry("none", 500, model=ADV)))
    assert found.verdict == "cannot be told yet"
    assert "do not record" in found.why[0]


def test_claim_3_falls_with_claim_2():
    assert cheaper(grid(*tuned(100, 100), entry("none", 500, model=ADV))).verdict == "does not hold"
    found = cheaper(grid(*tuned(500, 500)))
    assert (found.verdict, found.evidence) == ("cannot be told yet", ())
