"""Names lead to things; a wrong name leads to the right one."""

import sys

import pytest

from bench.errors import UsageError
from bench.registry import Registry, did_you_mean


@pytest.fixture
def lazy(tmp_path, monkeypatch):
    (tmp_path / "imported_on_first_use.py").write_text("THING = object()\n")
    monkeypatch.syspath_prepend(tmp_path)
    yield Registry("step", {"lazy": "imported_on_first_use:THING", "eager": len})
    sys.modules.pop("imported_on_first_use", None)


def test_listing_and_checking_import_nothing(lazy):
    assert list(lazy) == ["eager", "lazy"]
    assert "lazy" in lazy
    lazy.check("lazy")
    assert "imported_on_first_use" not in sys.modules


def test_a_thing_is_imported_once_when_asked_for(lazy):
    thing = lazy.get("lazy")
    assert thing is sys.modules["imported_on_first_use"].THING
    assert lazy.get("lazy") is thing
    assert lazy.get("eager") is len


def test_an_unknown_name_is_answered_with_the_nearest(lazy):
    with pytest.raises(UsageError, match=r"^There is no step 'lasy'\. Did you mean 'lazy'\?$"):
        lazy.get("lasy")


def test_a_name_far_from_all_is_answered_with_the_list(lazy):
    with pytest.raises(UsageError, match=r"^There is no step 'zzz'\. Known: eager, lazy\.$"):
        lazy.check("zzz")


def test_an_existing_name_is_never_replaced(lazy):
    with pytest.raises(UsageError, match="The step 'eager' is already registered"):
        lazy.add("eager", max)
    assert lazy.get("eager") is len
    lazy.add("new", max)
    assert lazy.get("new") is max


def test_a_registry_leaves_the_table_it_was_made_from_alone():
    table = {"a": 1}
    Registry("thing", table).add("b", 2)
    assert table == {"a": 1}


def test_nothing_known_nothing_suggested():
    assert did_you_mean("x", []) == ""
