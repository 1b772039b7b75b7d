"""Another Python process with the modules of this one, and none from the current folder."""

from __future__ import annotations

import os
import sys

# -P: a file in the current folder must not take the place of a module.
INTERPRETER = (sys.executable, "-P")


def same_modules() -> dict[str, str]:
    """Return the environment in which another interpreter finds the modules that this one finds."""
    return {**os.environ, "PYTHONPATH": os.pathsep.join(path for path in sys.path if path)}
