import signal

import pytest

FAKE = """
import json, os, signal, sys, time
from pathlib import Path
def event(**facts):
    print(json.dumps(dict(stage="", done=0, total=0, note="") | facts), file=sys.stderr, flush=True)
words = sys.argv[1:]
recipe = words[words.index("--recipe") + 1] if "--recipe" in words else words[0]
assert os.environ["BENCH_EVENTS"] == "json"
event(stage="load", note="hello")
event(stage="apgd-ce", done=3, total=4)
print("a warning of some library", file=sys.stderr)
match recipe:
    case "none":
        board, track = (Path(words[words.index(name) + 1]) for name in ("--board", "--track"))
        target = board / track / "bench-digits-cnn--none.json"
        target.parent.mkdir(parents=True, exist_ok=True)
        target.write_text(Path("answer.json").read_text())
        print("{}")
    case "quant8":
        print("error: There is no data set 'digits'; set BENCH_DATA_DIR.", file=sys.stderr)
        sys.exit(3)
    case "quant4":
        os.kill(os.getpid(), signal.SIGKILL)
    case "quant2":
        raise RuntimeError("shapes differ")
    case "quant16":
        pass
    case "prune50":
        try:
            Path("started").touch()
            time.sleep(60)
        except KeyboardInterrupt:
            Path("interrupted").touch()
            sys.exit(130)
    case "prune90":
        sys.exit(130)
"""


@pytest.fixture(autouse=True)
def interruptible():
    """Hear Ctrl-C, and let children hear it: whoever is started in the background by a shell ignores it."""
    before = signal.signal(signal.SIGINT, signal.default_int_handler)
    yield
    signal.signal(signal.SIGINT, before)


@pytest.fixture
def fake_bench(tmp_path, monkeypatch):
    """An empty folder in which `python -m bench` is something that takes no time and fails in many ways."""
    (tmp_path / "bench").mkdir()
    (tmp_path / "bench" / "__init__.py").touch()
    (tmp_path / "bench" / "__main__.py").write_text(FAKE)
    monkeypatch.chdir(tmp_path)
    # The child has the modules of this process, whatever lies in the current folder.
    monkeypatch.syspath_prepend(tmp_path)
    monkeypatch.setenv("BENCH_CACHE_DIR", str(tmp_path / "cache"))
    return tmp_path
