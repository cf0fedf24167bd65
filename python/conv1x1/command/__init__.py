"""How the command ends where something goes wrong: with one line and an exit code, from its first import on.

The package is imported before its `main` is. What the core refuses then, or Ctrl-C, is an exception for those who
import the package, and a line for those who type `conv1x1`.
"""

from __future__ import annotations

import os
import sys
from collections.abc import Iterator
from contextlib import contextmanager, suppress

MISUSE = 2
INTERRUPTED = 130  # what a shell reports for a command ended by Ctrl-C


class Failure(Exception):
    """A message for the person at the terminal, and the exit code that goes with it."""

    def __init__(self, message: str, code: int = 1) -> None:
        super().__init__(message)
        self.code = code


def tell(message: object) -> None:
    """One line on stderr, if there is one that can be written to."""
    if sys.stderr is not None:  # print would take stdout instead
        with suppress(OSError, ValueError):
            print(f"conv1x1: error: {message}", file=sys.stderr, flush=True)


@contextmanager
def in_a_line() -> Iterator[None]:
    """Import inside a `with` block; what a user can cause ends the command, and nothing but the command."""
    try:
        yield
    except KeyboardInterrupt:
        if not _is_command():
            raise
        raise SystemExit(INTERRUPTED) from None
    except ImportError as error:
        if not str(error).startswith("CONV1X1_") or not _is_command():
            raise
        tell(error)
        raise SystemExit(MISUSE) from None


def _is_command() -> bool:
    """Whether this process is `conv1x1` or `python -m conv1x1`, still at its imports."""
    argv: list[str] = getattr(sys, "argv", None) or [""]
    if argv[0] == "-m":  # what Python says until it has found the module
        return sys.orig_argv[-len(argv)] in ("conv1x1", "-mconv1x1")
    return os.path.basename(argv[0]) == "conv1x1"
