"""Cards and claims."""

import pytest
from factories import make_entry
from rich.console import Console
from submissions_made_up import CARD

from bench.entry import load_entry
from bench.errors import UsageError
from bench.render.card import print_entry
from bench.submission import Claim, claim_on, load_card

CLAIM = '[claim]\ntrack = "digits-linf-v1"\nclean = 98.5\nrobust = 72.0\nn = 400\nattack = "AutoAttack"\n'


def write(folder, text: str):
    (folder / "card.toml").write_text(text)
    return folder


def test_a_card_is_read(tmp_path):
    card = load_card(write(tmp_path, CARD + CLAIM))
    assert (card.licence, card.tracks, card.claim.robust) == ("MIT", ["digits-linf-v1"], 72.0)


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        (CARD.replace('licence = "MIT"\n', ""), "the key 'licence' is missing."),
        (CARD.replace("licence", "license"), "unknown key 'license'. Did you mean 'licence'?"),
        (CARD.replace('"MIT"', '"do what you like!"'), "expected an SPDX identifier such as MIT"),
        (CARD.replace('["A"]', "[]"), "authors: "),
        (CARD + CLAIM.replace("72.0", "99.0"), "expected robust no higher than clean, got 99.0 and 98.5"),
        (CARD + CLAIM.replace("98.5", "0.985").replace("72.0", "0.72"), "expected per cent (97.5, not 0.975)"),
        (CARD + CLAIM.replace("98.5", "985.0"), "claim.clean: "),
        (CARD + CLAIM.replace("n = 400", 'n = "all"'), "claim.n: "),
        (CARD + CLAIM.replace("attack", "atack"), "unknown key 'atack' in claim. Did you mean 'attack'?"),
        ("title = ", "is not valid TOML"),
    ],
)
def test_what_a_card_may_not_say_is_one_sentence(tmp_path, text, expected):
    with pytest.raises(UsageError) as refused:
        load_card(write(tmp_path, text))
    assert expected in str(refused.value)
    assert "\n" not in str(refused.value)


def test_a_claim_counts_under_its_track_alone(tmp_path):
    write(tmp_path, CARD + CLAIM)
    assert claim_on(str(tmp_path), "digits-linf-v1").n == 400
    assert claim_on(str(tmp_path), "fashion-mnist-linf-v1") is None
    assert claim_on("", "digits-linf-v1") is None


def test_the_claim_stands_beside_the_measurement(tmp_path):
    claim = Claim(track="made-up-v1", clean=90.0, robust=61.25, n=400, attack="PGD-20")
    entry = make_entry("ours", "..a.x").model_copy(update={"claim": claim})
    entry.save(tmp_path)
    assert load_entry(entry.path(tmp_path)) == entry
    console = Console(width=120, record=True, file=open("/dev/null", "w"))  # noqa: SIM115, PTH123
    print_entry(entry, console)
    (robust,) = [line for line in console.export_text().splitlines() if line.strip().startswith("robust ")]
    assert "60.0 %" in robust
    assert "claimed 61.2 %" in robust
