"""Arrays that other libraries keep, in pieces or under labels: whose module computes of them, and what all share."""

from __future__ import annotations

import importlib
import sys
from typing import Any, NamedTuple

import numpy as np

#: Classes, by the module they are in, and the module here that computes of them.
_CLASSES = {("dask.array", "Array"): "dask", ("xarray", "DataArray"): "xarray", ("xarray", "Dataset"): "xarray"}


def module_for(x: Any) -> Any:
    """The module that computes of x, or None where x is to be read as an array. No library is imported for it."""
    for (library, name), module in _CLASSES.items():
        if library in sys.modules and isinstance(x, getattr(sys.modules[library], name, ())):
            return importlib.import_module(f"{__package__}.{module}")
    return None


def call(layer: Any, x: Any, residual: Any, out: Any, threads: Any) -> Any:
    """A layer's result for an x that another library keeps; NotImplemented for every other x."""
    module = module_for(x)
    return NotImplemented if module is None else module.called(layer, x, residual, out, threads)


class Outline(NamedTuple):
    """What is to be known of a layer or chain to call it on parts of an x; and how it is called on them."""

    position: int  # of the channels, in x
    steps: tuple[int, ...]  # what the stride takes, along each axis of x
    out_channels: int
    keeps_axis: bool
    dtype: Any  # of the result
    unstrided: Any  # the same layer, of stride 1: for an x whose other pixels are left out already

    def taken(self) -> tuple[slice, ...]:
        """What is left of x."""
        return tuple(slice(None, None, step) for step in self.steps)


def nothing_of(x: Any, position: int) -> Any:
    """An array of x's type and channels with no pixels."""
    return np.empty([n if i == position else 0 for i, n in enumerate(x.shape)], x.dtype)
