"""The workflow for pull requests: it reads what strangers send, so it may do little."""

from pathlib import Path

import pytest

ROOT = Path(__file__).parents[1]
FILE = ROOT / ".github" / "workflows" / "submissions.yml"
pytestmark = pytest.mark.skipif(not FILE.is_file(), reason="the workflow stands in the checkout")


def test_it_has_neither_secrets_nor_write_access_and_runs_no_foreign_code():
    text = FILE.read_text(encoding="utf-8")
    assert "pull_request_target" not in text
    assert "secrets." not in text
    commands = [line for line in text.splitlines() if not line.lstrip().startswith("#")]
    assert not [line for line in commands if "--trust" in line]
    assert not [line for line in commands if ": write" in line]


def test_it_is_yaml_that_says_so():
    yaml = pytest.importorskip("yaml")
    workflow = yaml.safe_load(FILE.read_text(encoding="utf-8"))
    # YAML 1.1 reads the key `on` as true.
    assert list(workflow[True]) == ["pull_request"]
    assert workflow["permissions"] == {"contents": "read"}
    (job,) = workflow["jobs"].values()
    assert "permissions" not in job
    steps = job["steps"]
    assert steps[0]["with"] == {"ref": "${{ github.event.pull_request.base.sha }}", "persist-credentials": False}
    scripts = [step["run"] for step in steps if "run" in step]
    # What a pull request says of itself reaches a shell by way of the environment, never as text of the script.
    assert not [script for script in scripts if "${{" in script]
    assert any("bench check" in script for script in scripts)
    assert any("--n-examples" in script for script in scripts)
    assert steps[-1]["uses"].startswith("actions/upload-artifact")
