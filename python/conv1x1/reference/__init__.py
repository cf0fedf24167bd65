"""The definition of a pointwise convolution, to read and to test against: of `floats`, and of `quantized` arrays.

Each of the two says what its numbers are and what becomes of the sums. What is summed stands here.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np

from ..checks import geometry
from ..checks.arrays import Array, Finish


def sums(
    x: Array,
    weight: Array,
    position: int,
    stride: int | tuple[int, ...],
    groups: int,
    multiply: Callable[[Array, Array], Array] = np.matmul,
) -> Array:
    """Σ_c w[k, c] · x[p, c], for every pixel p that the stride takes and every filter k, the filters last.

    The channels of x are on the axis `position`, those of a group next to each other.
    """
    pixels = np.moveaxis(x, position, -1)
    steps = geometry.strides_per_axis(pixels, pixels.ndim - 1, stride)[:-1]
    shape = tuple(-(-n // step) for n, step in zip(pixels.shape, steps, strict=False))
    result = np.empty((*shape, len(weight)), np.result_type(x, weight))
    filters = np.split(weight, groups)
    for pixel in np.ndindex(shape):  # the stride loop: every output pixel …
        source = tuple(i * step for i, step in zip(pixel, steps, strict=True))  # … and where it comes from
        channels = np.split(pixels[source], groups)
        result[pixel] = np.concatenate([multiply(f, c) for f, c in zip(filters, channels, strict=True)])
    return result


def on_axis(result: Array, position: int, keep_axis: bool) -> Array:
    """A result whose filters are last, with them on the channel axis; of a vector of weights without that axis."""
    return np.moveaxis(result, -1, position) if keep_axis else result[..., 0]


def returned(x: Array, result: Array, position: int, out: Any, finish: Finish | None) -> Array:
    """The result as a call returns it: in `out`, if there is one, else in memory as x lies there; masked, if x is."""
    if out is None:
        out = geometry.lying_as(x, result, position)
    else:
        out[...] = result
    return out if finish is None else finish(out)
