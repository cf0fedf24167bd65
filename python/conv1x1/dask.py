"""dask arrays: a layer of one is another, lazily, block by block. Every pixel stands for itself.

`conv1x1`, layers and chains come here with a dask array as x. Nothing is computed, and no layer called, while
the graph is made; the layer is one key of it, which goes to each worker once.
"""

from __future__ import annotations

import math
import sys
import warnings
from typing import Any

import numpy as np

from .checks import geometry, positive_int
from .checks.arrays import Array
from .moments import Covariance

#: A block's sides may grow, where its channels are joined, as far as dask's own blocks do.
_BLOCK = "array.chunk-size"


def called(layer: Any, x: Any, residual: Any, out: Any, threads: Any) -> Any:
    """A layer's result for a dask array, as a dask array.

    Parameters
    ----------
    layer : Conv1x1, QConv1x1 or Sequential
    x : dask.array.Array
        Its chunks may be any. Where there are several along the channels they are joined, with a PerformanceWarning,
        and the pixels' are cut for it, so that no chunk is larger than dask's ``array.chunk-size``, or than it was.
    residual : array_like, optional
        As for a call of the layer; of any chunks.
    out : None
        A dask array is no place to write to.
    threads : int, optional
        As for a call, for each block. By default one, since dask computes as many blocks at once as it has threads.

    Returns
    -------
    dask.array.Array
        In chunks as x's; with one chunk of all filters.
    """
    import dask.array as da
    from dask import delayed
    from dask.base import tokenize

    if out is not None:
        raise TypeError("x is a dask array, whose result is one: leave out away, and pass da.store(result, out)")
    if not isinstance(x, da.Array):
        raise TypeError(f"x is a {type(x).__name__}: pass it as a dask array")
    threads = None if threads is None else positive_int(threads, "threads")
    outline = layer._outline(x)
    position, layer, keeps = outline.position, outline.unstrided, outline.keeps_axis
    x = _joined(x, position)[outline.taken()]
    pixels = [i for i in range(x.ndim) if i != position]
    axes = [-1 if i == position else i for i in range(x.ndim)] if keeps else pixels  # -1: the filters
    arrays: list[Any] = [x, range(x.ndim)]
    if residual is not None:
        shape = tuple(outline.out_channels if i < 0 else x.shape[i] for i in axes)
        chunks = tuple((outline.out_channels,) if i < 0 else x.chunks[i] for i in axes)
        if np.shape(residual) != shape:
            raise ValueError(f"residual has shape {np.shape(residual)}, expected the result's, {shape}")
        arrays += [da.asarray(residual).rechunk(chunks), axes]
    token = tokenize(layer)
    return da.blockwise(
        _block,
        axes,
        *arrays,
        dtype=outline.dtype,
        meta=da.utils.meta_from_array(x._meta, len(axes), outline.dtype),
        new_axes={-1: outline.out_channels} if keeps else None,
        concatenate=True,
        token="conv1x1",
        layer=delayed(layer, name=f"{type(layer).__name__}-{token}", traverse=False),
        threads=threads,
    )


def covariance(x: Any, axis: int, weights: Any, nodata: Any, threads: int | None) -> Covariance:
    """The covariance of a dask array, which is computed, chunk by chunk, and joined in pairs."""
    import dask.array as da
    from dask import delayed

    x = _joined(x, axis)
    pixels = [i for i in range(x.ndim) if i != axis]
    parts = x.to_delayed().squeeze(axis).ravel()
    weighs: Any = [None] * len(parts)
    if weights is not None:
        if np.shape(weights) != tuple(x.shape[i] for i in pixels):
            raise ValueError(f"weights has shape {np.shape(weights)}, expected x's without the channels")
        weighs = da.asarray(weights).rechunk(tuple(x.chunks[i] for i in pixels)).to_delayed().ravel()
    made = delayed(_covariance_of_block)
    found = [made(b, w, axis, nodata, threads) for b, w in zip(parts, weighs, strict=True)]
    while len(found) > 1:
        found = [delayed(_merged)(found[i : i + 2]) for i in range(0, len(found), 2)]
    return found[0].compute()  # type: ignore[no-any-return]


def _covariance_of_block(x: Array, weights: Array | None, axis: int, nodata: Any, threads: int | None) -> Covariance:
    total = Covariance(x.shape[axis])
    return total.update(x, channel_axis=axis, weights=weights, nodata=nodata, threads=threads or 1)


def _merged(found: list[Covariance]) -> Covariance:
    total = Covariance(found[0].channels)
    for one in found:
        total.merge(one)
    return total


def _levels_to_the_caller() -> int:
    """How far a warning of the function that asks is from who called this package."""
    frame, levels = sys._getframe(1), 1
    while frame.f_back and frame.f_globals.get("__package__") == __package__:
        frame, levels = frame.f_back, levels + 1
    return levels


def axis_number(x: Any, channel_axis: int) -> int:
    """The axis of x with the channels."""
    return geometry.axis(x, channel_axis)


def _block(x: Array, residual: Array | None = None, *, layer: Any, threads: int | None) -> Array:
    """The result of one block."""
    added = {} if residual is None else {"residual": residual}
    y: Array = layer(x, **added, threads=threads or 1)
    return y


def _joined(x: Any, position: int) -> Any:
    """An array with all channels of a pixel in one chunk."""
    parts = len(x.chunks[position])
    if parts == 1:
        return x
    from dask import config
    from dask.array import PerformanceWarning
    from dask.utils import parse_bytes

    warnings.warn(
        f"the channels of x, on axis {position}, lie in {parts} chunks, which are joined, pixels being cut for it: "
        f"pass x.rechunk({{{position}: -1}}), or better, read it so",
        PerformanceWarning,
        stacklevel=_levels_to_the_caller(),
    )
    largest = [max(c) for c in x.chunks]
    most = max(math.prod(largest) * x.dtype.itemsize, parse_bytes(config.get(_BLOCK)))
    wanted: dict[int, Any] = {position: -1}
    largest[position] = x.shape[position]
    for axis in (i for i in range(x.ndim) if i != position):
        too_large = math.prod(largest) * x.dtype.itemsize / most
        if too_large <= 1:
            break
        side = max(1, math.floor(largest[axis] / too_large))
        wanted[axis] = tuple(min(side, n - at) for n in x.chunks[axis] for at in range(0, n, side))
        largest[axis] = side
    return x.rechunk(wanted)
