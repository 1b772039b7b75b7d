"""Prepare a model in a process of its own, and pass on what it reports: the process that attacks stays clean."""

from __future__ import annotations

import json
import signal
import subprocess
import sys
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from typing import IO

import torch
from pydantic import TypeAdapter

from bench.errors import InterruptedRunError, MissingError, UsageError
from bench.machine.interpreter import INTERPRETER, same_modules
from bench.progress import Event, Report
from bench.request import Request
from bench.run.child import signal_name

_COMMAND = [*INTERPRETER, "-m", "bench.prepare_apart"]
_PATIENCE_S = 10.0


def prepare_apart(request: Request, report: Report) -> str | None:
    """Let another interpreter load the parent, run the recipe with its own steps, seal the model, and end.

    Args:
        request: the question; its consent goes with it.
        report: is told what the other process tells.

    Returns:
        None where the model was sealed; else why it could not be.

    Raises:
        UsageError, MissingError: what the other process ended with.
    """
    message = {"request": json.loads(TypeAdapter(Request).dump_json(request)), "threads": torch.get_num_threads()}
    last: dict[str, str] = {}
    with tempfile.TemporaryFile() as noise:
        with _interpreter(noise) as child:
            assert child.stdin is not None
            assert child.stdout is not None
            try:
                child.stdin.write(json.dumps(message).encode())
                child.stdin.close()
            except BrokenPipeError:  # it ended before it listened; its last words say why
                pass
            for line in child.stdout:
                told = json.loads(line)
                if "event" in told:
                    report(Event(**told["event"]))
                else:
                    last = told
        code = child.returncode
        noise.seek(0)
        said = noise.read().decode(errors="replace")
    if "error" in last:
        raise (MissingError if code == MissingError.exit_code else UsageError)(last["error"])
    if code == InterruptedRunError.exit_code:
        raise KeyboardInterrupt
    if code or "sealed" not in last:
        raise UsageError(_obituary(request, code, said))
    sys.stderr.write(said)
    return last["sealed"] or None


@contextmanager
def _interpreter(noise: IO[bytes]) -> Iterator[subprocess.Popen[bytes]]:
    """Start the other process, and see to it that it has ended when the block does, Ctrl-C included."""
    child = subprocess.Popen(
        _COMMAND,
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        stderr=noise,
        env=same_modules(),
    )
    try:
        yield child
        child.wait()
    except BaseException:
        # A terminal sends Ctrl-C to both; from anywhere else only this process has heard of it.
        for sign, patience in ((None, 0.5), (signal.SIGINT, _PATIENCE_S), (signal.SIGKILL, None)):
            if sign is not None:
                child.send_signal(sign)
            try:
                child.wait(patience)
                break
            except subprocess.TimeoutExpired:
                continue
        raise
    finally:
        for pipe in (child.stdin, child.stdout):
            if pipe is not None:
                pipe.close()


def _obituary(request: Request, code: int, said: str) -> str:
    """Say in one sentence how a process died that could not say it itself."""
    code_file = request.recipe.own_code.file if request.recipe.own_code else request.recipe.name
    how = signal_name(-code) if code < 0 else f"exit code {code}"
    line = next((line.strip() for line in reversed(said.splitlines()) if line.strip()), "it said nothing")
    return f"The process that ran {code_file} ended with {how}: {line}"
