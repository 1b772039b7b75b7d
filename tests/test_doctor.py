"""What the machine can do, in facts."""

import pytest

from bench.doctor import diagnose


@pytest.fixture
def findings(tmp_path, monkeypatch):
    monkeypatch.setenv("BENCH_DATA_DIR", str(tmp_path))
    monkeypatch.setenv("BENCH_CACHE_DIR", str(tmp_path / "cache"))
    monkeypatch.setenv("BENCH_OFFLINE", "1")
    monkeypatch.delenv("BENCH_WEIGHTS_DIR", raising=False)
    return {title: dict(facts) for title, facts in diagnose().items()}


def test_every_finding_is_one_line(findings):
    assert list(findings) == ["packages", "data sets", "folders", "machine"]
    for facts in findings.values():
        assert facts
        assert all(name and fact and "\n" not in name + fact for name, fact in facts.items())


def test_packages_say_their_version_or_what_they_would_be_for(findings):
    assert findings["packages"]["torch"][0].isdecimal()
    for name in ("openvino", "matplotlib"):
        assert findings["packages"][name].startswith(("installed", "not installed ("))


def test_data_sets_are_there_or_not_found(findings):
    assert findings["data sets"]["digits"].startswith("built in")
    assert findings["data sets"]["imagenet"].startswith("not found")


def test_folders_are_the_environments(findings, tmp_path):
    assert findings["folders"] == {
        "BENCH_DATA_DIR": str(tmp_path),
        "BENCH_WEIGHTS_DIR": "not set",
        "BENCH_CACHE_DIR": str(tmp_path / "cache"),
        "BENCH_OFFLINE": "downloads are forbidden",
    }


def test_looking_leaves_nothing_behind(findings, tmp_path):
    assert list(tmp_path.iterdir()) == []


def test_an_unset_data_folder_is_said_to_be(monkeypatch):
    monkeypatch.delenv("BENCH_DATA_DIR", raising=False)
    assert dict(diagnose()["folders"])["BENCH_DATA_DIR"].startswith("not set")
