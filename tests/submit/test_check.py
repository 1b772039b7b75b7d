"""`bench new` and `bench check`: what is written holds together, and what does not is named."""

import json
import sys
from pathlib import Path

import pytest
import torch
from submissions_made_up import CARD, write_submission

from bench import cli
from bench.errors import UsageError
from bench.load.own_steps import own_steps
from bench.recipe import load_recipe
from bench.submit.check import check_submission
from bench.submit.rehearsal import rehearse_step
from bench.submit.scaffold import new_recipe, new_submission

EXAMPLES = Path(__file__).parents[2] / "submissions"
here = pytest.mark.skipif(not EXAMPLES.is_dir(), reason="the examples stand in the checkout")


def signs(folder, *, trust: bool = False) -> dict[str, bool | None]:
    return {finding.name: finding.holds for finding in check_submission(folder, trust=trust)}


def notes(folder, *, trust: bool = False) -> dict[str, str]:
    return {finding.name: finding.text for finding in check_submission(folder, trust=trust)}


@pytest.fixture
def bench(monkeypatch, capsys, tmp_path):
    """Run a command in an empty folder; return its exit code, output and complaints."""
    monkeypatch.chdir(tmp_path)

    def run(*arguments):
        monkeypatch.setattr(sys, "argv", ["bench", *arguments])
        with pytest.raises(SystemExit) as ended:
            cli.main()
        out, err = capsys.readouterr()
        return ended.value.code or 0, out, err

    return run


def test_a_new_submission_with_an_own_step_holds_together(bench):
    code, out, _ = bench("new", "submission", "my-recipe", "--own-step")
    assert code == 0
    assert "bench check submissions/my-recipe --trust" in out
    code, out, err = bench("check", "--trust", "--json")
    assert (code, err) == (0, "")
    (findings,) = json.loads(out).values()
    assert {finding["holds"] for finding in findings} == {True}
    assert "can be saved" in next(f["text"] for f in findings if f["name"] == "my-recipe/finetune-mixed")
    assert findings[-1]["name"] == "mock run"


def test_findings_come_one_by_one_each_announced_before_it_is_sought(tmp_path):
    folder = new_submission("my-recipe", own_step=False, submissions=tmp_path)
    announced: list[str] = []
    for finding in check_submission(folder, trust=False, starting=announced.append):
        assert finding.name == announced[-1]
        assert finding.name not in announced[:-1]
        if finding.name == "steps":
            break
    assert "mock run" not in announced


def test_a_new_submission_without_one_is_a_recipe_of_built_in_steps(tmp_path):
    folder = new_submission("my-recipe", own_step=False, submissions=tmp_path)
    assert sorted(path.name for path in folder.iterdir()) == ["README.md", "card.toml", "recipe.toml"]
    recipe = load_recipe("my-recipe", submissions=tmp_path)
    assert recipe.own_code is None
    assert len(recipe.resolve()) == 2


def test_a_new_recipe_is_a_file(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    assert len(load_recipe(str(new_recipe("mine"))).resolve()) == 2
    with pytest.raises(UsageError, match="There is a recipe called mine already"):
        new_recipe("mine")


@pytest.mark.parametrize("name", ["My-Recipe", "a--b", "-a", "a/b", "..", "", "a_b", "a b", "a+b", "x" * 61])
def test_names_that_are_no_names_are_refused(tmp_path, name):
    with pytest.raises(UsageError, match="Expected a name of small letters"):
        new_submission(name, own_step=False, submissions=tmp_path)


def test_names_that_are_taken_are_refused(tmp_path):
    with pytest.raises(UsageError, match="'quant8-advft' spells a recipe"):
        new_submission("quant8-advft", own_step=False, submissions=tmp_path)
    new_submission("ours", own_step=False, submissions=tmp_path)
    with pytest.raises(UsageError, match=r"There is something at .*ours already"):
        new_submission("ours", own_step=False, submissions=tmp_path)


def test_without_trust_own_steps_are_not_run_and_the_output_says_so(bench, tmp_path):
    write_submission(tmp_path / "submissions", code="raise SystemExit('it ran')")
    code, out, err = bench("check", "submissions/ours")
    assert (code, err) == (0, "")
    words = " ".join(out.split())
    assert "✓ recipe" in words
    assert "– own steps not run: submissions/ours/steps.py is code; read it, then --trust" in words


def test_a_submission_that_does_not_hold_ends_with_1(bench, tmp_path):
    folder = write_submission(tmp_path / "submissions")
    (folder / "card.toml").write_text(CARD.replace('licence = "MIT"\n', ""))
    (folder / "recipe.toml").write_text('summary = "S"\n[[steps]]\nstep = "quantise"\n')
    code, out, err = bench("check")
    assert code == 1
    words = " ".join(out.split())
    assert "✗ card submissions/ours/card.toml: the key 'licence' is missing." in words
    assert "✗ recipe Recipe ours, step 0: there is no step 'quantise'. Did you mean 'quantize'?" in words
    assert err == "error: 1 of 1 submissions does not hold: submissions/ours.\n"


def test_tracks_claims_and_pins_are_looked_up(tmp_path):
    folder = write_submission(tmp_path)
    claim = '[claim]\ntrack = "cifar10-linf-v1"\nclean = 90.0\nrobust = 40.0\nn = 400\nattack = "AutoAttack"\n'
    (folder / "card.toml").write_text(CARD.replace("digits-linf-v1", "digits-linf-v9") + claim)
    (folder / "recipe.toml").write_text('summary = "S"\ntrack = "digits"\n[[steps]]\nstep = "ours/mine"\n')
    assert signs(folder) | {"own steps": None} == {
        "name": True, "card": True, "tracks": False, "claim": False, "recipe": True, "pins": False, "steps": True,
        "own steps": None, "mock run": None,
    }  # fmt: skip
    assert "There is no track 'digits-linf-v9'." in notes(folder)["tracks"]


@pytest.mark.parametrize(
    ("body", "expected"),
    [
        ("twin[-1].bias.data += torch.rand(10)", "it draws from PyTorch's global generator"),
        (
            "twin[-1].bias.data += torch.rand(10, generator=torch.Generator().manual_seed(id(twin)))",
            "two runs from the",
        ),
        ("twin.forward = lambda images: torch.zeros(len(images), 10)", "no gradient reaches the image"),
    ],
)
def test_what_an_own_step_may_not_do_is_found(tmp_path, body, expected):
    recipe = load_recipe("ours", submissions=write_submission(tmp_path, body).parent)
    with own_steps(recipe), pytest.raises(UsageError, match=expected):
        rehearse_step(recipe, 0)


@here
def test_the_example_with_an_own_step_keeps_the_contract():
    findings = notes(EXAMPLES / "mart-w8a8")
    assert signs(EXAMPLES / "mart-w8a8") == {
        what: None if "not run" in note else True for what, note in findings.items()
    }
    recipe = load_recipe("mart-w8a8", submissions=EXAMPLES)
    with own_steps(recipe):
        assert "can be saved" in rehearse_step(recipe, 1)


@here
@pytest.mark.slow
@pytest.mark.parametrize("name", ["averaged-w4a4", "mart-w8a8"])
def test_the_examples_hold_together(name):
    assert set(signs(EXAMPLES / name, trust=True).values()) == {True}


@here
def test_mart_is_the_loss_of_the_paper():
    recipe = load_recipe("mart-w8a8", submissions=EXAMPLES)
    with own_steps(recipe):
        mart = vars(sys.modules["bench_submission_mart-w8a8"])["mart"]
    generator = torch.Generator().manual_seed(0)
    clean, moved = (torch.randn(5, 4, generator=generator, dtype=torch.float64) for _ in range(2))
    labels = torch.tensor([0, 1, 2, 3, 0])
    expected = 0.0
    for x, y, label in zip(clean.softmax(1), moved.softmax(1), labels, strict=True):
        rival = max(p for k, p in enumerate(y.tolist()) if k != label)
        divergence = sum(p * (p / q).log() for p, q in zip(x, y, strict=True))
        expected += -y[label].log() - torch.log(torch.tensor(1.0001 - rival)) + 5 * divergence * (1 - x[label])
    assert mart(clean, moved, labels, 5.0).item() == pytest.approx(float(expected) / 5, rel=1e-6)
