"""Pointwise (1×1) convolution for NumPy arrays: every pixel's channels, times a matrix.

>>> import numpy as np, conv1x1 as c11
>>> x = np.ones((28, 28, 192), np.float32)
>>> c11.conv1x1(x, np.ones((16, 192), np.float32)).shape
(28, 28, 16)
"""

import sys
from contextlib import suppress
from types import FunctionType

from .command import in_a_line as _in_a_line

with _in_a_line():
    from .explain import Explanation, explain
    from .functional import conv1x1, conv1x1_integer, qlinear_conv1x1
    from .layers import Conv1x1
    from .quantized import QConv1x1
    from .reference.floats import reference
    from .reference.quantized import reference_integer, reference_qlinear
    from .runtime import get_num_threads, num_threads, set_num_threads, show_config

__version__ = "0.1.0"

__all__ = [
    "Conv1x1",
    "Explanation",
    "QConv1x1",
    "conv1x1",
    "conv1x1_integer",
    "explain",
    "get_num_threads",
    "num_threads",
    "qlinear_conv1x1",
    "reference",
    "reference_integer",
    "reference_qlinear",
    "set_num_threads",
    "show_config",
]


def _name_as_public() -> None:
    """Let `help`, pickles and doctest name the package, and not a file in it, which may move."""
    for public in [globals()[name] for name in __all__]:
        methods = vars(public).values() if isinstance(public, type) else ()
        for part in (public, *(getattr(method, "__func__", method) for method in methods)):
            if isinstance(part, (type, FunctionType)) and part.__qualname__.startswith(public.__name__):
                part.__module__ = __name__


_name_as_public()

if "threadpoolctl" in sys.modules:
    with suppress(ImportError):  # before 3.2 it took no libraries of others
        from . import threadpoolctl as threadpoolctl
