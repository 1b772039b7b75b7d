"""Code that the bench did not write: whatever it raises is its own, and is said in one sentence."""

from __future__ import annotations

import traceback
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from bench.errors import BenchError, UsageError, described


@contextmanager
def blaming(path: Path | None) -> Iterator[None]:
    """Turn whatever foreign code raises, exits included, into one sentence that names its file and line.

    Args:
        path: the file; None where the code came with an installed package.
    """
    try:
        yield
    except BenchError:
        raise
    except (Exception, SystemExit) as error:
        frames = traceback.extract_tb(error.__traceback__)
        own = [frame for frame in frames if path is None or frame.filename == str(path)]
        where = f"{own[-1].filename}, line {own[-1].lineno}," if own else path  # of a syntax error no line ran
        raise UsageError(f"{where} raised {described(error)}; fix it.") from error
