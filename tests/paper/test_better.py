"""Which recipe is better than the paper's: at least as robust, at equal or lower BOPs."""

from papers_grid import entry, grid

from bench.paper.better import better


def names(pairs):
    return [one.theirs.recipe.name for one in pairs]


def test_a_recipe_that_dominates_all():
    found = better(
        grid(
            entry("prune50-quant4-advft", 520, bops=10),
            entry("quant4-advft", 500, bops=10),
            entry("prune10-advft", 519, bops=500),
            entry("none", 900, bops=1000),
            entry("quant2", 100, bops=5),  # cheaper, but not robust
        )
    )
    assert found is not None
    assert found.dominates_all
    assert names(found.dominated) == ["quant4-advft", "prune10-advft"]
    assert found.beyond_chance == 1  # one image of a thousand is no difference


def test_what_is_cheaper_or_stronger_is_named():
    found = better(
        grid(
            entry("quant8-trades", 520, bops=100),
            entry("quant4-advft", 500, bops=99),
            entry("prune10-advft", 530, bops=100),
            entry("prune50-advft", 520, bops=100),
        )
    )
    assert not found.dominates_all
    assert (names(found.dominated), names(found.cheaper), names(found.stronger)) == (
        ["prune50-advft"], ["quant4-advft"], ["prune10-advft"],
    )  # fmt: skip


def test_the_best_dominates_most_and_then_is_the_most_robust():
    papers = [entry("quant4-advft", 500, bops=50), entry("prune10-advft", 510, bops=100)]
    most = entry("quant8-trades", 510, bops=50)
    found = better(grid(*papers, most, entry("quant8-distill", 600, bops=100)))
    assert found.entry == most
    robust = entry("quant8-distill", 600, bops=50)
    assert better(grid(*papers, most, robust)).entry == robust


def test_none_yet():
    assert better(grid(entry("quant4-advft", 500, bops=50))) is None
    assert better(grid(entry("quant8-trades", 900, bops=50))) is None
    assert better(grid(entry("quant8-trades", 400, bops=50), entry("quant4-advft", 500, bops=50))) is None
