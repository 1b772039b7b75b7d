"""The process in which a submission's own steps run: it prepares one model, seals it, and ends.

It is started by `bench.run.apart`, reads the question as JSON on standard input, and writes a line of JSON for each
event on standard output, then one that says how it ended. It hands no test images to what it runs, and is no
sandbox: code that somebody trusts can read what they can.
"""

from __future__ import annotations

import dataclasses
import json
import os
import sys
import warnings
from collections.abc import Callable
from typing import Any

import torch
from pydantic import TypeAdapter

from bench.dataset import Dataset, Examples
from bench.errors import BenchError, InterruptedRunError
from bench.load.datasets import load_dataset
from bench.machine.device import pick_device
from bench.machine.tensor_float import forbid_tensor_float
from bench.parent import load_parent
from bench.prepare import make
from bench.progress import Event
from bench.request import Request

Tell = Callable[[dict[str, Any]], None]


def main() -> int:
    """Answer the question on standard input; return the exit code."""
    tell = _line_writer()
    message = json.loads(sys.stdin.buffer.read())
    sys.stdin.close()
    warnings.simplefilter("ignore")
    torch.set_num_threads(message["threads"])
    try:
        tell({"sealed": _prepare(TypeAdapter(Request).validate_json(json.dumps(message["request"])), tell)})
    except BenchError as error:
        tell({"error": str(error)})
        return error.exit_code
    except KeyboardInterrupt:
        return InterruptedRunError.exit_code
    return 0


def _prepare(request: Request, tell: Tell) -> str:
    """Make and seal the model; return "", or why it could not be sealed."""
    forbid_tensor_float()

    def report(event: Event) -> None:
        tell({"event": dataclasses.asdict(event)})

    device = pick_device(request.device)
    dataset = without_test(load_dataset(request.track.dataset))
    made = make(request, load_parent(request, dataset, device, report), dataset, device, report)
    return made.unsealed


def without_test(dataset: Dataset) -> Dataset:
    """Return the data set with no test images left in memory."""
    none = Examples(images=dataset.test.images[:0].clone(), labels=dataset.test.labels[:0].clone())
    return dataclasses.replace(dataset, test=none)


def _line_writer() -> Tell:
    """Return what writes lines to whoever started this process; everything else that is printed goes to stderr."""
    lines = os.fdopen(os.dup(1), "w", encoding="utf-8", buffering=1)
    os.dup2(2, 1)

    def tell(fact: dict[str, Any]) -> None:
        lines.write(json.dumps(fact) + "\n")

    return tell


if __name__ == "__main__":
    sys.exit(main())
