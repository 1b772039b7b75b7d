"""Letters and the statistics they allow, against SciPy and against tampering."""

import random
import time

import pytest
from pydantic import ValidationError
from scipy.stats import binomtest

from bench.verdicts import AUTOATTACK, LETTERS, Alarm, Proportion, Verdicts, compare, count_letters, mcnemar

MANY = tuple(f"attack-{i}" for i in range(25))


def random_letters(seed, n, share):
    drawn = random.Random(seed)
    return "".join("." if drawn.random() < share else drawn.choice("xab") for _ in range(n))


@pytest.mark.parametrize(
    ("count", "total"), [(0, 1), (1, 1), (0, 400), (400, 400), (232, 400), (1, 7), (4983, 10_000), (9_999, 10_000)]
)
def test_wilson_interval_is_scipys(count, total):
    theirs = binomtest(count, total).proportion_ci(confidence_level=0.95, method="wilson")
    assert Proportion(count=count, total=total).interval == pytest.approx((theirs.low, theirs.high), abs=1e-12)


def test_rate_is_a_share():
    assert Proportion(count=3, total=4).rate == 0.75


@pytest.mark.parametrize("seed", range(12))
def test_mcnemar_is_scipys_exact_test_of_the_discordant_pairs(seed):
    n = (20, 60, 700)[seed % 3]
    ours, theirs = random_letters(seed, n, 0.5), random_letters(seed + 100, n, 0.6)
    wins = sum(a == "." != b for a, b in zip(ours, theirs, strict=True))
    losses = sum(b == "." != a for a, b in zip(ours, theirs, strict=True))
    assert mcnemar(ours, theirs) == pytest.approx(binomtest(wins, wins + losses).pvalue, rel=1e-9)
    assert mcnemar(ours, theirs) == mcnemar(theirs, ours)


def test_mcnemar_asks_only_who_stands():
    assert mcnemar("..xa", "..ab") == 1.0
    assert mcnemar("." * 6, "x" * 6) == mcnemar("." * 6, "b" * 6) == 2 / 2**6


def test_mcnemar_survives_thousands_of_discordant_pairs():
    assert mcnemar("." * 3000, "a" * 3000) == 0.0


def test_mcnemar_of_ten_thousand_images_takes_no_time():
    ours, theirs = random_letters(1, 10_000, 0.5), random_letters(2, 10_000, 0.5)
    start = time.process_time()
    mcnemar(ours, theirs)
    assert time.process_time() - start < 0.1


def test_mcnemar_wants_the_same_images():
    with pytest.raises(ValueError, match="got 2 and 3"):
        mcnemar("..", "...")


def test_compare_needs_evidence():
    assert compare("." * 10, "a" * 10) == "better"
    assert compare("a" * 10, "." * 10) == "worse"
    assert compare("." * 5 + "a", "a" * 6) == "tied"  # p = 2 / 2**5 > 5 %
    assert compare("." * 6, "a" * 6) == "better"  # p = 2 / 2**6
    assert compare("....", "....") == "tied"


def test_letters_give_every_accuracy():
    verdicts = Verdicts.of(attacks=AUTOATTACK, letters="..xa.bd.xa")
    assert verdicts.clean == Proportion(count=8, total=10)
    assert verdicts.robust == Proportion(count=4, total=10)
    assert verdicts.autoattack == verdicts.robust
    assert verdicts.counts == {
        "robust": 4,
        "misclassified": 2,
        "apgd-ce": 2,
        "apgd-t": 1,
        "fab-t": 0,
        "square": 1,
    }


def test_autoattack_leaves_out_what_further_attacks_did():
    verdicts = Verdicts.of(attacks=(*AUTOATTACK, "transfer"), letters=".xabcdee")
    assert (verdicts.clean.count, verdicts.autoattack.count, verdicts.robust.count) == (7, 3, 1)


def test_x_is_never_an_attacks_letter():
    assert "x" not in LETTERS
    assert len(set(LETTERS)) == 25
    verdicts = Verdicts.of(attacks=MANY, letters="w" + "y" + "z" + "x" + ".")
    assert verdicts.counts["attack-22"] == verdicts.counts["attack-23"] == verdicts.counts["attack-24"] == 1
    assert verdicts.counts["misclassified"] == verdicts.counts["robust"] == 1
    assert verdicts.clean.count == 4


@pytest.mark.parametrize("letters", ["..e", "..A", ". ", "..é", ""])
def test_letters_that_belong_to_no_attack_are_refused(letters):
    with pytest.raises(ValidationError):
        Verdicts.of(attacks=AUTOATTACK, letters=letters)


@pytest.mark.parametrize(
    ("letters", "changes"),
    [
        ("..ax", {"robust": 3}),
        ("...x", {}),
        ("..ax.", {}),
        ("..xx", {}),
        ("..ax", {"square": 1}),
        ("..ax", {"new": 0}),
        ("..bx", {}),
    ],
)
def test_edited_letters_or_counts_are_refused(letters, changes):
    counts = count_letters(AUTOATTACK, "..ax") | changes
    with pytest.raises(ValidationError, match="counts disagree with the letters"):
        Verdicts(attacks=AUTOATTACK, letters=letters, counts=counts)


def test_a_missing_count_is_refused():
    counts = count_letters(AUTOATTACK, "..ax")
    del counts["square"]
    with pytest.raises(ValidationError, match="counts disagree"):
        Verdicts(attacks=AUTOATTACK, letters="..ax", counts=counts)


def test_more_attacks_than_letters_are_refused():
    with pytest.raises(ValidationError, match="expected at most 25 attacks, got 26"):
        Verdicts.of(attacks=(*MANY, "one-more"), letters="..")


@pytest.mark.parametrize("attacks", [("square", "square"), ("robust", "square"), ("misclassified", "square")])
def test_attacks_whose_counts_would_hide_another_are_refused(attacks):
    with pytest.raises(ValidationError, match="expected attacks of different names, none called robust or miscl"):
        Verdicts.of(attacks=attacks, letters=".ab.")


def test_one_fatal_alarm_is_enough():
    warning = Alarm(name="square-beats-white-box", fatal=False, evidence="9 of 400")
    fatal = Alarm(name="randomised", fatal=True, evidence="3 %")
    assert not Verdicts.of(attacks=AUTOATTACK, letters="..", alarms=(warning,)).fatal
    assert Verdicts.of(attacks=AUTOATTACK, letters="..", alarms=(warning, fatal)).fatal


@pytest.mark.parametrize("total", [1, 12, 100, 10_000])
def test_the_rate_is_never_outside_its_interval(total):
    for count in {0, 1, total // 3, total}:
        one = Proportion(count=count, total=total)
        low, high = one.interval
        assert low <= one.rate <= high
