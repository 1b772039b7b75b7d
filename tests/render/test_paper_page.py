"""leaderboard/paper.md from made-up entries: deterministic, linked, and honest about what is missing."""

from papers_grid import entry, grid

from bench.render.paper import render_paper
from bench.verdicts import Proportion

ADV = "bench:conv8-adv"


def page(*entries, track="fashion-mnist-adverfine-v1"):
    return render_paper([grid(*entries, track=track)])


def test_verdicts_with_the_rows_that_prove_them():
    text = page(
        entry("none", 500, model=ADV), entry("prune10-advft", 495), entry("quant16-advft", 505),
        entry("prune50-quant4-advft", 510, bops=7),
    )  # fmt: skip
    given = "holds, where the standard network is there already"
    assert f"| fashion-mnist-adverfine-v1 | **cannot be told yet** | **holds** | **{given}** |" in text
    assert f"### fashion-mnist-adverfine-v1: {given}" in text.partition("## 3. At lower cost")[2]
    folder = "fashion-mnist-adverfine-v1"
    assert (
        f"| channels −10 % | [prune10-advft]({folder}/bench-conv8--prune10-advft--n1000.json) | 49.50 | "
        f"[none]({folder}/bench-conv8-adv--none--n1000.json) | 50.00 | −0.50 | "
    ) in text
    assert "dominates all 2 of the paper's robust recipes measured here" in text


def test_a_small_loss_is_called_one():
    text = page(entry("none", 500, model=ADV), entry("prune10-advft", 455))
    (row,) = (line for line in text.splitlines() if line.startswith("| channels −10 % | [prune10-advft]"))
    assert row.endswith("| lost a little |")


def test_a_search_in_tensor_float_is_owned_up_to_where_there_was_one():
    plain, coarse = entry("quant4", 300), entry("quant8-trades", 400).changed(engine="bench 0.1.0 tf32")
    said = "searched in TensorFloat-32"
    assert said not in page(plain)
    assert page(plain, coarse).count(said) == 1
    assert coarse.attacker == "bench-tf32"


def test_the_schedule_that_was_chosen_on_test_images_is_named_once():
    assert page(entry("quant4", 300)).count("chosen on test images (docs/pruning.md)") == 1


def test_figures_stand_beside_the_papers():
    measured = entry("quant4-advft", 400).model_copy(update={"pgd20": Proportion(count=450, total=1000)})
    text = page(measured)
    row = next(line for line in text.splitlines() if line.startswith("| W4A4 |"))
    assert "100.00 / **40.00** (37.01–43.07), PGD-20 45.00 ◐1,000]" in row
    assert row.endswith("| ×0.15 | 85.0 / 79.0 |")
    assert "Parent **bench:conv8**, 14 of the 15 cells of the paper's grid missing" in text


def test_the_papers_figures_stay_away_from_another_radius():
    text = page(entry("quant4-advft", 400, track="fashion-mnist-linf-v1"), track="fashion-mnist-linf-v1")
    assert "The paper has no figure at this radius." in text
    assert "79.0" not in text


def test_nothing_measured_is_said():
    text = page()
    assert "Nothing was measured yet on fashion-mnist-adverfine-v1." in text
    assert "**cannot be told yet** | **cannot be told yet** | **cannot be told yet**" in text


def test_the_same_entries_give_the_same_page():
    entries = [entry("none", 500), entry("quant4", 300), entry("prune10", 480)]
    assert page(*entries) == page(*entries[::-1])
