"""Rows side by side: the right test, the right figures, and nothing unlike without a word."""

import json
from fractions import Fraction

import pytest
from factories import make_entry, make_letters

from bench.board.comparison import attack_of, compare, cost_ratios
from bench.board.intervals import paired, unpaired
from bench.board.published import Published
from bench.errors import UsageError
from bench.verdicts import AUTOATTACK, Proportion, mcnemar


def published(**changes):
    plain = {
        "name": "a", "method": "A", "dataset": "cifar10", "norm": "Linf", "eps": "8/255", "architecture": "ResNet-18",
        "clean": "80.0", "robust": "50.0", "attack": "AutoAttack", "source": "https://example.org",
        "obtained": ["claimed"], "n_examples": 10000,
    }  # fmt: skip
    return Published.model_validate_json(json.dumps({k: v for k, v in (plain | changes).items() if v is not None}))


def whole(recipe="quant8", robust=0.45, **more):
    return make_entry(recipe, make_letters(robust, 0.8, n=10_000), track="cifar10-linf-v1", **more)


def the_difference(*rows, unlike=False):
    (found,) = compare(rows, unlike=unlike).differences
    return found


def test_two_entries_are_compared_image_by_image():
    ours, theirs = "..." + "...aax" + "." * 7, "..." + "aab..x" + "." * 6 + "a"
    found = the_difference(make_entry("a", ours), make_entry("b", theirs))
    assert (found.test, found.n, found.unlike, found.notes) == ("mcnemar", 16, (), ())
    assert (found.only_first, found.only_other) == ((3, 4, 5, 15), (6, 7))
    assert found.p == mcnemar(ours, theirs)
    assert found.points == pytest.approx(100 * 2 / 16)
    assert found.interval == pytest.approx(tuple(100 * bound for bound in paired(9, 4, 2, 1)))


def test_the_first_is_compared_with_each_other():
    rows = [make_entry(name, make_letters(robust)) for name, robust in (("a", 0.5), ("b", 0.4), ("c", 0.6))]
    comparison = compare(rows)
    assert [one.key for one in comparison.contenders] == ["A", "B", "C"]
    assert [round(one.points) for one in comparison.differences] == [10, -10]


def test_a_published_figure_has_an_interval_but_no_pairs():
    found = the_difference(whole(), published())
    expected = unpaired(Proportion(count=4500, total=10_000), Proportion(count=5000, total=10_000))
    assert found.interval == pytest.approx(tuple(100 * bound for bound in expected))
    assert (found.test, found.p, found.only_first) == ("unpaired", None, ())
    assert found.points == pytest.approx(-5)


def test_without_a_number_of_images_there_is_no_interval():
    found = the_difference(whole(), published(n_examples=None))
    assert (found.test, found.interval, found.unlike) == ("none", None, ())
    assert found.points == pytest.approx(-5)
    assert found.notes == ("B's source does not state the number of images",)


def test_against_autoattack_an_entry_stands_with_autoattack_alone():
    letters = "." * 4000 + "e" * 1000 + "a" * 3000 + "x" * 2000
    entry = make_entry("quant8", letters, track="cifar10-linf-v1", attacks=(*AUTOATTACK, "transfer"))
    assert attack_of(entry) == "AutoAttack + transfer"
    assert the_difference(entry, published()).points == pytest.approx(0)
    assert the_difference(published(), entry).points == pytest.approx(0)
    (found,) = compare([entry, published(attack="PGD-20")], unlike=True).differences
    assert found.points == pytest.approx(-10)
    assert found.unlike == ("attack (AutoAttack + transfer, PGD-20)",)


def test_a_published_figure_that_more_than_autoattack_lowered_stands_with_autoattack_alone():
    figures = {"robust": "40.00", "autoattack": "50.00", "obtained": ["lowered"]}
    lowered, of_unknown_size = published(**figures), published(**figures, n_examples=None)
    entry = make_entry("quant8", "." * 5000 + "a" * 3000 + "x" * 2000, track="cifar10-linf-v1")
    for pair in ((entry, lowered), (lowered, entry)):
        assert the_difference(*pair).points == pytest.approx(0)
    assert the_difference(entry, of_unknown_size).points == pytest.approx(0)
    assert the_difference(published(), lowered).points == pytest.approx(10)


def test_a_radius_close_by_is_compared_with_a_word_about_it():
    found = the_difference(whole(), published(eps="0.031"))
    assert found.unlike == ()
    assert found.notes == ("B's eps 0.031 is a little less than A's 8/255, which favours B",)
    assert "eps (8/255, 0.03)" in the_difference(whole(), published(eps="0.03"), unlike=True).unlike


def test_entries_on_two_test_sets_of_one_name_are_not_paired_by_image():
    ours, theirs = (make_entry("quant8").changed(test_set=each * 64) for each in "ab")
    with pytest.raises(UsageError, match="differ in test images, or their order: say --unlike"):
        compare([ours, theirs])
    assert the_difference(ours, theirs, unlike=True).test == "unpaired"


def test_two_entries_at_two_radii_are_two_questions_however_close():
    one = make_entry("a", track="one-v1")
    other = one.model_copy(update={"track": one.track.model_copy(update={"eps": Fraction("0.149")})})
    with pytest.raises(UsageError, match=r"differ in eps \(0\.15, 0\.149\): say --unlike"):
        compare([one, other])


@pytest.mark.parametrize(
    ("row", "what"),
    [
        (published(dataset="svhn"), "data set (cifar10, svhn)"),
        (published(norm="L2"), "norm (Linf, L2)"),
        (published(eps="4/255"), "eps (8/255, 4/255)"),
        (published(attack="PGD-20"), "attack (AutoAttack, PGD-20)"),
        (published(n_examples=1000), "number of images (10,000, 1,000)"),
    ],
)
def test_unlike_things_are_refused_and_named(row, what):
    with pytest.raises(UsageError) as caught:
        compare([whole(), row])
    assert f"published:a differ in {what}: say --unlike to compare" in str(caught.value)
    assert the_difference(whole(), row, unlike=True).unlike == (what,)


def test_a_partial_entry_is_compared_on_the_images_both_were_asked_about():
    ours, theirs = make_letters(0.6), make_letters(0.5)[:100]
    rows = make_entry("a", ours, n_examples=400), make_entry("b", theirs, n_examples=400)
    with pytest.raises(UsageError, match=r"number of images \(400, 100\)"):
        compare(rows)
    found = the_difference(*rows, unlike=True)
    assert (found.test, found.n, found.p) == ("mcnemar", 100, mcnemar(ours[:100], theirs))
    assert "A and B are compared on their first 100 images" in found.notes


def test_entries_on_different_data_are_never_paired():
    found = the_difference(make_entry("a"), make_entry("b", "..a.x", track="cifar10-linf-v1"), unlike=True)
    assert (found.test, found.p) == ("unpaired", None)


def test_a_figure_nobody_should_trust_is_pointed_out():
    (note,) = the_difference(whole(), published(obtained=["claimed", "non-adaptive"])).notes
    assert note == "B is marked claimed, non-adaptive"


def test_costs_are_relative_to_the_first_and_latency_only_on_one_machine():
    first, other = compare([make_entry("a", bits=32), make_entry("b", width=0.5)]).contenders
    ratios = cost_ratios(first, other)
    assert ratios["macs"] == 0.25
    assert ratios["bops"] == 0.25 / 16
    assert ratios["latency"] == 1.0
    first, other = compare([make_entry("a"), make_entry("b", machine="B")]).contenders
    assert cost_ratios(first, other)["latency"] is None
    first, other = compare([whole(), published()]).contenders
    assert set(cost_ratios(first, other).values()) == {None}


def test_entries_of_one_name_are_told_apart_by_their_track():
    names = [one.name for one in compare([make_entry(track="a-v1"), make_entry(track="b-v1")]).contenders]
    assert names == ["a-v1/bench-digits-cnn--quant8", "b-v1/bench-digits-cnn--quant8"]


@pytest.mark.parametrize("n", [0, 1, 27])
def test_two_to_twenty_six_rows_are_compared(n):
    with pytest.raises(UsageError, match=f"Expected two to 26 rows to compare, got {n}"):
        compare([make_entry()] * n)


def test_a_compressed_model_compares_with_its_parent_which_faced_fewer_attacks():
    parent = make_entry("none", "..a.x", bits=32)
    child = make_entry("quant8", "..a.e", attacks=(*AUTOATTACK, "transfer"))
    (difference,) = compare([child, parent]).differences
    assert (difference.unlike, difference.test, difference.points) == ((), "mcnemar", 0)
    assert difference.notes == ("A faced transfer as well, which can only lower its figure",)
    with pytest.raises(UsageError, match="attack"):
        compare([make_entry("quant8", "..a.x", attacks=("pgd-20",)), parent])
