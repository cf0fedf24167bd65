"""The arithmetic of what is computed in NumPy: the core's, whatever the caller has set."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager

import numpy as np

from . import _conv1x1


@contextmanager
def default_arithmetic() -> Iterator[None]:
    """Compute in NumPy as the core does, inside a `with` block or a function that has this for a decorator.

    Rounding to the nearest, numbers below the normal ones kept, no traps, no exceptions nor warnings (`np.errstate`):
    whatever the calling thread is set to. No flags come out.
    """
    before = _conv1x1.swap_arithmetic(_conv1x1.DEFAULT_ARITHMETIC)
    try:
        with np.errstate(all="ignore"):
            yield
    finally:
        _conv1x1.swap_arithmetic(before)
