"""How far a long run is, for those who wait at a terminal."""

from __future__ import annotations

import shutil
import sys
from collections.abc import Iterator
from contextlib import contextmanager


@contextmanager
def bar(done: int, total: int, what: str) -> Iterator[None]:
    """Show on stderr, if that is a terminal, how far things are; inside a `with` block, and no longer.

    Parameters
    ----------
    done, total : int
    what : str
        The one in work.
    """
    shown = sys.stderr is not None and sys.stderr.isatty()
    if shown:
        filled = 24 * done // max(total, 1)
        line = f"[{'#' * filled}{'.' * (24 - filled)}] {done}/{total} {what}"
        print(f"\r\033[K{line[: shutil.get_terminal_size().columns - 1]}", end="", file=sys.stderr, flush=True)
    try:
        yield
    finally:
        if shown:
            print("\r\033[K", end="", file=sys.stderr, flush=True)
