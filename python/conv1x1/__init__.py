"""Pointwise (1×1) convolution for NumPy arrays: every pixel's channels, times a matrix.

>>> import numpy as np, conv1x1 as c11
>>> x = np.ones((28, 28, 192), np.float32)
>>> c11.conv1x1(x, np.ones((16, 192), np.float32)).shape
(28, 28, 16)
"""

import sys
from contextlib import suppress
from types import FunctionType
from typing import TYPE_CHECKING, Any

from .command import in_a_line as _in_a_line

with _in_a_line():
    from .explain import Explanation, explain
    from .functional import conv1x1, conv1x1_integer, qlinear_conv1x1
    from .layers import Conv1x1
    from .quantized import QConv1x1
    from .reference.floats import reference
    from .reference.quantized import reference_integer, reference_qlinear
    from .runtime import get_num_threads, num_threads, set_num_threads, show_config
    from .streaming import stream

if TYPE_CHECKING:
    from .components import PrincipalComponents, mnf, pca
    from .moments import Covariance, covariance
    from .saving import load, save
    from .sequential import Sequential
    from .steps import ArgMax, LayerNorm, Pool, Softmax

__version__ = "0.1.0"

__all__ = [
    "ArgMax",
    "Conv1x1",
    "Covariance",
    "Explanation",
    "LayerNorm",
    "Pool",
    "PrincipalComponents",
    "QConv1x1",
    "Sequential",
    "Softmax",
    "conv1x1",
    "conv1x1_integer",
    "covariance",
    "explain",
    "get_num_threads",
    "load",
    "mnf",
    "num_threads",
    "pca",
    "qlinear_conv1x1",
    "reference",
    "reference_integer",
    "reference_qlinear",
    "save",
    "set_num_threads",
    "show_config",
    "stream",
]


#: What is imported when it is asked for, and the file where it is.
_LATER = {"Sequential": "sequential", **dict.fromkeys(("ArgMax", "LayerNorm", "Pool", "Softmax"), "steps")}
_LATER |= dict.fromkeys(("PrincipalComponents", "mnf", "pca"), "components")
_LATER |= dict.fromkeys(("Covariance", "covariance"), "moments")
_LATER |= dict.fromkeys(("load", "save"), "saving")


def _name_as_public(public: Any) -> Any:
    """Let `help`, pickles and doctest name the package, and not a file in it, which may move."""
    methods = vars(public).values() if isinstance(public, type) else ()
    for part in (public, *(getattr(method, "__func__", method) for method in methods)):
        if isinstance(part, (type, FunctionType)) and part.__qualname__.startswith(public.__name__):
            part.__module__ = __name__
    return public


for _name in __all__:
    if _name not in _LATER:
        _name_as_public(globals()[_name])


def __getattr__(name: str) -> Any:
    if name not in _LATER:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    from importlib import import_module

    public = globals()[name] = _name_as_public(getattr(import_module(f".{_LATER[name]}", __name__), name))
    return public


def __dir__() -> list[str]:
    return sorted({*globals(), *__all__})


if "threadpoolctl" in sys.modules:
    with suppress(ImportError):  # before 3.2 it took no libraries of others
        from . import threadpoolctl as threadpoolctl
