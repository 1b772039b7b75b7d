"""What got worse between two boards, and what did not."""

import json

import pytest
from factories import make_entry, make_letters

from bench.board.leaderboard import rank
from bench.board.regressions import load_board, regressions
from bench.errors import MissingError, UsageError
from bench.render.plain import board_json
from bench.verdicts import Alarm

WARNING = Alarm(name="square-beats-white-box", fatal=False, evidence="9 of 400 images")


def kinds(old, new):
    before, after = ({("t", "e"): entry} if entry else {} for entry in (old, new))
    return [one.kind for one in regressions(before, after)]


def nested(robust, wrong=20, n=400):
    return "." * robust + "a" * (n - robust - wrong) + "x" * wrong


@pytest.mark.parametrize(
    ("new", "expected"),
    [
        (make_entry("a", nested(200)), []),
        (make_entry("a", nested(195)), []),  # five images: chance
        (make_entry("a", nested(194)), ["robust"]),
        (make_entry("a", nested(230)), []),
        (make_entry("a", nested(200, 24)), []),  # a point
        (make_entry("a", nested(200, 25)), ["clean"]),
        (make_entry("a", nested(200), width=1.02), []),
        (make_entry("a", nested(200), width=1.03), ["cost", "cost"]),  # MACs and BOPs grow with the square
        (make_entry("a", nested(200), alarms=(WARNING,)), ["alarm"]),
        (make_entry("a", nested(200), finetune_images=1), ["question"]),
        (None, ["gone"]),
    ],
)
def test_what_counts_as_worse(new, expected):
    assert kinds(make_entry("a", nested(200)), new) == expected


def test_a_known_alarm_and_a_new_entry_are_no_regressions():
    old = make_entry("a", nested(200), alarms=(WARNING,))
    assert kinds(old, old) == []
    assert kinds(None, old) == []


def test_the_text_has_the_figures():
    old, new = make_entry("a", nested(200)), make_entry("a", nested(100))
    (one,) = regressions({("t", "e"): old}, {("t", "e"): new})
    assert one.text.startswith("robust accuracy fell from 50.00 % to 25.00 %, p = 1.6e-30")


def test_a_board_is_a_folder_or_what_json_printed_or_one_entry(tmp_path):
    entries = [make_entry("a", make_letters()), make_entry("a", make_letters(0.5), seed=1), make_entry("b")]
    for entry in entries[:2]:
        entry.save(tmp_path / "board")
    folder = load_board(tmp_path / "board")
    printed = tmp_path / "board.json"
    printed.write_text(json.dumps({"made-up-v1": board_json(rank(entries[:2]))}))
    assert load_board(printed) == folder
    assert len(folder) == 2
    assert list(load_board(entries[0].path(tmp_path / "board")).values()) == [entries[0]]


def test_a_folder_with_a_bad_file_is_read_without_it(tmp_path):
    make_entry("a").save(tmp_path)
    (tmp_path / "made-up-v1" / "bad.json").write_text("{")
    skipped = []
    assert len(load_board(tmp_path, skip=skipped.append)) == 1
    assert "bad.json is not JSON, or was cut off" in skipped[0]


def test_what_is_no_board_is_named(tmp_path):
    with pytest.raises(MissingError, match=r"There is no board .*nowhere: expected a folder"):
        load_board(tmp_path / "nowhere")
    with pytest.raises(MissingError, match="There are no entries in"):
        load_board(tmp_path)
    (tmp_path / "x.json").write_text("[]")
    with pytest.raises(UsageError, match=r"x\.json is not an entry of this bench"):
        load_board(tmp_path / "x.json")
    (tmp_path / "x.json").write_text("{")
    with pytest.raises(UsageError, match=r"Cannot read the board .*x\.json"):
        load_board(tmp_path / "x.json")
