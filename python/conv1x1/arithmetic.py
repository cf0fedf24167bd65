"""The arithmetic of what is computed in NumPy: the core's, whatever the caller has set."""

from __future__ import annotations

from collections.abc import Callable
from functools import wraps
from typing import ParamSpec, TypeVar

import numpy as np

from . import _conv1x1

P = ParamSpec("P")
R = TypeVar("R")


def default_arithmetic(function: Callable[P, R]) -> Callable[P, R]:
    """The function, computing in NumPy as the core does.

    Rounding to the nearest, numbers below the normal ones kept, no traps, no exceptions nor warnings (`np.errstate`):
    whatever the calling thread is set to. No flags come out, and the thread's settings are back however it ends, also
    where memory is out or a signal's handler raises.
    """

    def quiet(*args: P.args, **kwargs: P.kwargs) -> R:
        with np.errstate(all="ignore"):
            return function(*args, **kwargs)

    @wraps(function)
    def computed(*args: P.args, **kwargs: P.kwargs) -> R:
        return _conv1x1.in_default_arithmetic(quiet, *args, **kwargs)

    return computed
