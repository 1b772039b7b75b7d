"""What can go wrong in a way the user can mend: one sentence each, and the exit code that goes with it."""


class BenchError(Exception):
    """A mistake or a gap the user can mend; printed as one sentence, never as a traceback."""

    exit_code = 2


class UsageError(BenchError):
    """The command, a recipe, a track or a file says something the bench cannot act on: a name nothing has, say."""

    exit_code = 2


class MissingError(BenchError):
    """Something is absent: a file or folder that was named, a data set, weights, an optional package, the network."""

    exit_code = 3


class GateError(BenchError):
    """The work finished, but a check the user asked for does not hold."""

    exit_code = 1


class InterruptedRunError(BenchError):
    """The user stopped the work; what was finished is kept."""

    exit_code = 130


def described(error: BaseException, most: int = 200) -> str:
    """Return "ValueError: the first line of what it says", cut after so many characters; else the type alone."""
    line = str(error).strip().partition("\n")[0]
    line = line if len(line) <= most else f"{line[:most]}…"
    return f"{type(error).__name__}: {line}" if line else type(error).__name__
