"""How far a job is: for what the caller gave, on tqdm's bar, or on one line of a terminal."""

from __future__ import annotations

import sys
import time
from collections.abc import Callable
from contextlib import suppress
from typing import Any

from ..checks.arrays import spelled

_OFTEN = 0.2  # seconds between two lines


class _Line:
    """One line of stderr, written again and again."""

    def __init__(self) -> None:
        self._last, self._start, self._first = 0.0, time.monotonic(), -1

    def __call__(self, done: int, total: int) -> None:
        now = time.monotonic()
        if self._first < 0:
            self._first = done
        if now - self._last < _OFTEN and done < total:
            return
        self._last, rate = now, (done - self._first) / max(now - self._start, 1e-9)
        with suppress(OSError, ValueError):
            print(
                f"\r{done / total:4.0%}  {rate / 1e6:.2f} million pixels a second ", end="", file=sys.stderr, flush=True
            )

    def close(self) -> None:
        with suppress(OSError, ValueError):
            print(file=sys.stderr)


class _Bar:
    """tqdm's."""

    def __init__(self, tqdm: Any) -> None:
        self._tqdm, self._bar = tqdm, None

    def __call__(self, done: int, total: int) -> None:
        if self._bar is None:
            self._bar = self._tqdm(total=total, unit="pixel", unit_scale=True, initial=done)
        self._bar.update(done - self._bar.n)  # type: ignore[attr-defined]

    def close(self) -> None:
        if self._bar is not None:
            self._bar.close()


class _Told:
    """A function of the caller's."""

    def __init__(self, function: Callable[[int, int], object]) -> None:
        self._function, self._last = function, -1

    def __call__(self, done: int, total: int) -> None:
        if done != self._last:
            self._last = done
            self._function(done, total)

    def close(self) -> None:
        pass


def teller(progress: Any) -> Any:
    """What is called with the pixels done and all of them, and closed in the end."""
    if progress is None or progress is False:
        return _Told(lambda done, total: None)
    if callable(progress):
        return _Told(progress)
    if progress is not True:
        raise TypeError(f"progress must be True, False or a function of (done, total), got {spelled(progress)}")
    try:
        from tqdm.auto import tqdm

        return _Bar(tqdm)
    except ImportError:
        terminal = sys.stderr is not None and sys.stderr.isatty()
        return _Line() if terminal else _Told(lambda done, total: None)
