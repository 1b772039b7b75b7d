"""Published figures: every row is valid, exact, named once, and says where it comes from."""

import json
from collections import Counter
from fractions import Fraction
from pathlib import Path

import pytest
from pydantic import ValidationError

from bench.board.published import MEANING, UNTRUSTED, Published, beside, best, load_published, near, select
from bench.compression import Compression
from bench.errors import MissingError, UsageError
from bench.threat_model import ThreatModel

BOARD = Path(__file__).parents[2] / "leaderboard"
CIFAR = ThreatModel(norm="Linf", eps=Fraction(8, 255))


@pytest.fixture(scope="module")
def rows():
    return load_published(BOARD)


@pytest.fixture(scope="module")
def named(rows):
    return {row.name: row for row in rows}


def record(**changes):
    plain = {
        "name": "a", "method": "A", "dataset": "cifar10", "norm": "Linf", "eps": "8/255", "architecture": "ResNet-18",
        "robust": "50.0", "attack": "AutoAttack", "source": "https://example.org", "obtained": ["claimed"],
    }  # fmt: skip
    return json.dumps(plain | changes)


def test_all_rows_are_there_once(rows, named):
    files = {path.name: len(path.read_text().splitlines()) for path in (BOARD / "published").glob("*.jsonl")}
    assert files == {"robustbench.jsonl": 188, "compressed.jsonl": 334}
    assert len(rows) == len(named) == 522


def test_rows_are_written_as_they_are_read(rows):
    """A line holds what its row holds, and nothing that says nothing."""
    for path in sorted((BOARD / "published").glob("*.jsonl")):
        for line in path.read_text(encoding="utf-8").splitlines():
            written, row = json.loads(line), Published.model_validate_json(line)
            assert None not in written.values()
            assert row.eps == Fraction(written["eps"])
            for key in ("robust", "clean"):
                assert str(getattr(row, key)) == written.get(key, "None")


def test_radii_are_exact_and_not_rounded_to_each_other(rows):
    assert {str(row.eps) for row in rows} == {
        "8/255", "31/1000", "3/100", "4/255", "4/85", "2/255", "1/2", "1/20", "3/10",
    }  # fmt: skip
    stated = {row.stated_eps: str(row.eps) for row in rows if row.stated_eps}
    assert stated == {"0.1 on [-1, 1]": "1/20", "8/255 on [-1, 1]": "4/255"}
    assert near(Fraction("0.031"), Fraction(8, 255))
    assert not near(Fraction("0.03"), Fraction(8, 255))


@pytest.mark.parametrize(
    ("name", "clean", "robust"),
    [
        ("cifar10-flyingbird-resnet18-sparse90", "80.69", "46.49"),
        ("cifar10-harp-resnet18-sparse99", "83.11", "45.50"),
        ("cifar10-twinrep-resnet18-prune50", "79.90", "45.58"),
        ("cifar10-twinrep-resnet18-prune90", "78.41", "44.30"),
        ("cifar10-binarysubnet-resnet34-sparse99-quant1w", "77.30", "45.06"),
        ("cifar10-linf-Sehwag2020Hydra", "88.98", "57.14"),
    ],
)
def test_the_anchors_to_beat_are_there(named, name, clean, robust):
    row = named[name]
    assert (str(row.clean), str(row.robust), row.attack) == (clean, robust, "AutoAttack")
    assert row.trusted


def test_figure_one_of_the_paper_is_marked_as_read_off(named):
    for name, figures in {
        "fashion-mnist-adverfine-adv-conv8-prune50": ("86.6", "81.1"),
        "fashion-mnist-adverfine-adv-conv8-quant8": ("87.6", "82.7"),
        "cifar10-adverfine-adv-resnet18-prune90": ("57.5", "41.1"),
    }.items():
        row = named[name]
        assert (str(row.clean), str(row.robust), row.attack) == (*figures, "PGD-20")
        assert set(row.obtained) == {"claimed", "plot"}
        assert "[-1, 1]" in row.stated_eps


def test_the_lowest_known_figure_counts(named):
    row = named["cifar10-linf-Xiao2020Enhancing"]
    assert (str(row.robust), str(row.autoattack), str(row.claim)) == ("7.40", "18.50", "52.40")
    assert set(row.obtained) == {"listed", "lowered", "unreliable"}


def test_how_figures_were_obtained_is_marked(rows):
    counts = Counter(how for row in rows for how in row.obtained)
    assert counts == {
        "re-evaluated": 212, "listed": 188, "claimed": 122, "plot": 76, "lowered": 73, "non-adaptive": 12,
        "randomised": 12, "disputed": 8, "unreliable": 2,
    }  # fmt: skip
    assert set(counts) == set(MEANING)
    for row in rows:
        assert {"listed", "claimed", "re-evaluated"} & set(row.obtained), row.name
        assert row.trusted == (not UNTRUSTED & set(row.obtained))


@pytest.mark.parametrize(
    "changes",
    [
        {"robust": "101"},
        {"robust": "-1"},
        {"eps": 0.031},
        {"eps": "0"},
        {"norm": "L1"},
        {"attack": "Some attack"},
        {"obtained": []},
        {"obtained": ["guessed"]},
        {"source": "a friend"},
        {"name": "two words"},
        {"extra": 1},
        {"autoattack": "49.0"},
        {"claim": "60.0"},
        {"obtained": ["lowered"]},
        {"compression": {"kinds": ["quantised"], "weight_bits": 0}},
    ],
)
def test_a_row_that_says_something_else_is_refused(changes):
    Published.model_validate_json(record())
    with pytest.raises(ValidationError):
        Published.model_validate_json(record(**changes))


def test_a_bad_line_is_named(tmp_path):
    (tmp_path / "published").mkdir()
    path = tmp_path / "published" / "x.jsonl"
    path.write_text(record() + "\n" + record(name="b", norm="L1") + "\n")
    with pytest.raises(UsageError, match=r"x\.jsonl, line 2 is not a published row: norm: "):
        load_published(tmp_path)
    path.write_text(record() + "\n" + record() + "\n")
    with pytest.raises(UsageError, match="two published rows are called 'a'"):
        load_published(tmp_path)


def test_with_somebody_to_tell_bad_lines_are_named_and_the_others_are_read(tmp_path):
    (tmp_path / "published").mkdir()
    lines = [record(name="a"), "{", record(name="b", norm="L1"), record(name="a"), "[]", record(name="c")]
    (tmp_path / "published" / "x.jsonl").write_text("\n".join(lines) + "\n")
    (tmp_path / "published" / "y.jsonl").write_bytes(bytes(range(256)))
    told = []
    assert [row.name for row in load_published(tmp_path, skip=told.append)] == ["a", "c"]
    for reason in ("line 2 is not", "line 3 is not a published row: norm", "called 'a'", "line 5 is not", "y.jsonl"):
        assert sum(reason in sentence for sentence in told) == 1
    assert len(told) == 5


def test_a_board_without_published_rows_says_where_they_are(tmp_path):
    with pytest.raises(MissingError, match=r"no published figures in .*: run where the bench is checked out, or name"):
        load_published(tmp_path)


# Filters:


def test_filters_narrow_and_ignore_case_and_punctuation(rows):
    found = select(rows, dataset="CIFAR10", architecture="resnet18", compression="Structured", attack="autoattack")
    assert {row.name.split("-")[1] for row in found} == {"twinrep", "pwoa", "harp", "radmm"}
    assert {(row.dataset, row.architecture, row.attack) for row in found} == {("cifar10", "ResNet-18", "AutoAttack")}
    robust = [row.robust for row in found]
    assert robust == sorted(robust, reverse=True)


def test_eps_is_compared_as_a_number(rows):
    assert select(rows, eps="0.5") == select(rows, eps="1/2")
    assert len(select(rows, eps="0.031")) == 160
    assert not set(select(rows, eps="0.031")) & set(select(rows, eps="8/255"))


def test_an_architecture_may_be_the_beginning_of_one(rows):
    family = {row.architecture for row in select(rows, architecture="WideResNet")}
    assert {"WideResNet-28-10", "WideResNet-34-10"} <= family
    assert {row.architecture for row in select(rows, architecture="ResNet-18")} == {"ResNet-18"}


@pytest.mark.parametrize(
    ("what", "value", "sentence"),
    [
        ("dataset", "cifar11", "No published row has data set 'cifar11'. Did you mean 'cifar10'?"),
        ("norm", "L3", "No published row has norm 'L3'. Known: L2, Linf."),
        ("attack", "AutoAtack", "Did you mean 'AutoAttack'?"),
        ("compression", "structure", "Did you mean 'structured'?"),
        ("eps", "7/255", "No published row has eps '7/255'."),
        ("architecture", "ResNet-19", "Did you mean 'ResNet-18'?"),
    ],
)
def test_a_filter_that_nothing_answers_is_named_with_the_nearest(rows, what, value, sentence):
    with pytest.raises(UsageError) as caught:
        select(rows, **{what: value})
    assert sentence in str(caught.value)


# The best, and what stands beside a board:


def test_nobody_has_to_beat_a_figure_that_is_no_robust_accuracy():
    strong = [Published.model_validate_json(record(name=how, robust="99", obtained=[how])) for how in UNTRUSTED]
    honest = Published.model_validate_json(record())
    found = best([*strong, honest], dataset="cifar10", threat=CIFAR, attack="AutoAttack", compression=None)
    assert found == honest


def test_of_equal_figures_the_exact_radius_comes_first():
    close, exact = (Published.model_validate_json(record(name=eps[2:], eps=eps)) for eps in ("0.031", "8/255"))
    assert best([close, exact], dataset="cifar10", threat=CIFAR, attack="AutoAttack", compression=None) == exact


def test_a_pgd_figure_is_never_the_best_under_autoattack():
    pgd = Published.model_validate_json(record(attack="PGD-20"))
    with pytest.raises(
        UsageError, match=r"no published AutoAttack figure for cifar10, Linf 8/255 with compression 'none'"
    ):
        best([pgd], dataset="cifar10", threat=CIFAR, attack="AutoAttack", compression=Compression())


def test_beside_a_board_stand_all_compressed_rows_and_the_best_dense_one_of_each_network(rows):
    shown, left_out = beside(rows, dataset="cifar10", threat=CIFAR)
    asked = [row for row in rows if row.dataset == "cifar10" and row.norm == "Linf" and near(row.eps, CIFAR.eps)]
    assert len(shown) + left_out == len(asked)
    assert {row for row in asked if row.compression.kinds} <= set(shown)
    dense = [(row.architecture, row.attack) for row in shown if not row.compression.kinds]
    assert len(dense) == len(set(dense))
    assert [row.robust for row in shown] == sorted((row.robust for row in shown), reverse=True)
    assert {row.threat.eps_text for row in shown} == {"8/255", "0.031"}
