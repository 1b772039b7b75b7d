"""The questions the bench asks, pinned: a track is never edited, only succeeded by a new version."""

from fractions import Fraction

import pytest

from bench.errors import MissingError, UsageError
from bench.model import ModelSpec
from bench.track import load_track, parse_track, track_names

GOOD = {
    "about": '"Mine"',
    "dataset": '"digits"',
    "norm": '"Linf"',
    "eps": '"8/255"',
    "n_examples": "400",
    "finetune_images": "80_000",
    "model": '"bench:digits-cnn"',
}

PINNED = {
    "cifar10-adverfine-v1": "35ae2e8c003a",
    "cifar10-l2-v1": "e82295b4410c",
    "cifar10-linf-v1": "ec396a752c45",
    "cifar100-linf-v1": "a2794523ff5b",
    "digits-linf-v1": "16abcaa5ee92",
    "fashion-mnist-adverfine-v1": "cbbce13834c6",
    "fashion-mnist-linf-v1": "2c4ff8c5c1f7",
    "imagenet-linf-v1": "dc302cbc6386",
}


def parse(**keys):
    return parse_track("\n".join(f"{key} = {value}" for key, value in (GOOD | keys).items() if value), name="mine-v1")


def sentence(act):
    with pytest.raises(UsageError) as caught:
        act()
    text = str(caught.value)
    assert "\n" not in text
    assert text.endswith((".", "?"))
    return text


def test_a_track_is_never_edited_only_succeeded():
    """Do not mend this test: every entry measured so far would lose its meaning. Write NAME-v2.toml and pin it here."""
    assert {name: load_track(name).fingerprint for name in PINNED} == PINNED


def test_every_track_is_pinned():
    assert track_names() == sorted(PINNED)


@pytest.mark.parametrize("name", track_names())
def test_every_track_loads(name):
    track = load_track(name)
    assert track.name == name
    assert track.name.rpartition("-v")[2].isdecimal()
    assert track.dataset in name
    assert track.norm.lower() in name or "adverfine" in name
    assert track.threat.eps == track.eps > 0
    assert ModelSpec.parse(track.model)
    assert track.about
    assert "\n" not in track.about


@pytest.mark.parametrize(
    ("name", "norm", "eps", "n_examples"),
    [
        ("fashion-mnist-linf-v1", "Linf", "0.1", 10_000),
        ("fashion-mnist-adverfine-v1", "Linf", "0.05", 10_000),
        ("cifar10-linf-v1", "Linf", "8/255", 10_000),
        ("cifar10-adverfine-v1", "Linf", "4/255", 10_000),
        ("cifar10-l2-v1", "L2", "0.5", 10_000),
        ("cifar100-linf-v1", "Linf", "8/255", 10_000),
        ("imagenet-linf-v1", "Linf", "4/255", 5_000),
    ],
)
def test_tracks_ask_what_the_field_asks(name, norm, eps, n_examples):
    track = load_track(name)
    assert (track.norm, track.eps, track.n_examples) == (norm, Fraction(eps), n_examples)
    assert track.threat.eps_text == eps
    assert track.suite == "standard"


def test_the_embedded_track_has_300_images_at_least():
    track = load_track("digits-linf-v1")
    assert track.n_examples >= 300
    assert track.model == "bench:digits-cnn"


def test_fingerprint_changes_with_all_that_decides_and_nothing_else():
    same = parse()
    assert parse(about='"Other words"', model='"bench:conv8"').fingerprint == same.fingerprint
    changes = [
        {"dataset": '"mnist"'},
        {"norm": '"L2"'},
        {"eps": '"4/255"'},
        {"n_examples": "401"},
        {"seed": "1"},
        {"finetune_images": "1"},
    ]
    assert len({same.fingerprint, *(parse(**change).fingerprint for change in changes)}) == 1 + len(changes)


def test_fingerprint_minds_the_value_of_eps_not_its_spelling():
    assert parse(eps='"0.1"').fingerprint == parse(eps='"1/10"').fingerprint


@pytest.mark.parametrize(
    ("keys", "expected"),
    [
        ({"model": ""}, "Track mine-v1: the key 'model' is missing."),
        ({"n_example": "3"}, "Track mine-v1: unknown key 'n_example'. Did you mean 'n_examples'?"),
        ({"n_examples": "0"}, "Track mine-v1: n_examples: expected greater than 0, got 0."),
        ({"n_examples": '"many"'}, "Track mine-v1: n_examples: "),
        ({"dataset": "3"}, "Track mine-v1: dataset: expected a valid string, got 3."),
        ({"norm": '"L1"'}, "Track mine-v1: norm: "),
        ({"suite": '"rand"'}, "Track mine-v1: suite: "),
        ({"eps": '"8"'}, "mine-v1: expected eps below 1 under Linf, where 1 is from black to white, got '8'; in grey"),
        ({"eps": '"big"'}, "mine-v1: eps: Expected eps as a string such as '8/255' or '0.1', got 'big'."),
        ({"about": "= 3"}, "Track mine-v1 is not valid TOML"),
    ],
)
def test_a_bad_track_is_one_sentence(keys, expected):
    assert expected in sentence(lambda: parse(**keys))


def test_eps_written_as_a_number_is_not_exact_and_refused():
    assert sentence(lambda: parse(eps="0.1")) == (
        "Track mine-v1: eps: expected a string such as '8/255' or '0.1', got 0.1."
    )


@pytest.mark.parametrize("eps", ['"0"', '"-1/255"'])
def test_a_ball_without_radius_is_refused_on_loading(eps):
    text = sentence(lambda: parse(eps=eps))
    assert text.startswith("Track mine-v1: eps: ")
    assert "> 0" in text


@pytest.mark.parametrize(
    ("keys", "expected"),
    [
        ({"eps": "[1]"}, "Track mine-v1: eps: expected a string such as '8/255' or '0.1', got [1]."),
        ({"name": '"other"'}, "Track mine-v1: unknown key 'name'; a track is called as its file is."),
    ],
)
def test_odd_values_give_no_traceback(keys, expected):
    assert sentence(lambda: parse(**keys)) == expected


def test_a_near_miss_of_the_norm_is_told_the_right_spelling():
    assert "'Linf' or 'L2'" in sentence(lambda: parse(norm='"linf"'))


@pytest.mark.parametrize("n_examples", ['"400"', "400.0", "true"])
def test_numbers_of_the_wrong_type_are_refused(n_examples):
    text = sentence(lambda: parse(n_examples=n_examples))
    assert text.startswith("Track mine-v1: n_examples: expected a valid integer, got ")


def test_an_unknown_track_is_answered_with_the_nearest(tmp_path):
    assert sentence(lambda: load_track("digits-linf")) == (
        "There is no track 'digits-linf'. Did you mean 'digits-linf-v1'?"
    )
    with pytest.raises(MissingError, match="There is no track file"):
        load_track(str(tmp_path / "mine.toml"))


def test_a_track_in_a_file_of_ones_own(tmp_path):
    path = tmp_path / "mine-v1.toml"
    path.write_text("\n".join(f"{key} = {value}" for key, value in GOOD.items()))
    assert load_track(str(path)) == parse()


def test_no_file_takes_the_name_of_a_track(tmp_path):
    path = tmp_path / "digits-linf-v1.toml"
    path.write_text("\n".join(f"{key} = {value}" for key, value in GOOD.items()))
    assert sentence(lambda: load_track(str(path))) == (
        f"There is a track called digits-linf-v1 already; give {path} a name of its own."
    )


def test_a_track_file_that_is_not_text(tmp_path):
    path = tmp_path / "mine-v1.toml"
    path.write_bytes(b'about = "\xff"')
    assert sentence(lambda: load_track(str(path))).startswith(f"Cannot read {path} as text in UTF-8: ")
