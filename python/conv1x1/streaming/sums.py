"""Sums over the pixels of a file or an array that need not fit in memory, tile by tile."""

from __future__ import annotations

from contextlib import closing
from typing import Any

import numpy as np

from ..checks import geometry
from ..checks.arrays import is_integer
from ..moments import Covariance
from . import files, progress, tiles
from .raw import Scratch


def of_source(
    source: Any,
    *,
    channel_axis: int = -1,
    nodata: Any = None,
    nan: bool = False,
    memory: int | str = "256 MiB",
    threads: int | None = None,
    tell: Any = None,
) -> Covariance:
    """What `covariance` and `pca` are found from, of a source as `stream` takes it.

    Numbers are taken as they are stored, without a file's scale and offset. Pixels that are nodata by the file's own
    word or mask are left out where `nodata` is None; False takes all that are not masked. `nan` says that NaN is
    nodata where nothing else is.
    """
    axis = geometry.axis_number(channel_axis)
    with closing(files.source(source, axis)) as src, closing(progress.teller(tell)) as told:
        axis %= len(src.shape)
        total, scratch = Covariance(src.shape[axis]), Scratch()
        nodata = src.nodata if nodata is None else nodata
        if nodata is None and nan and not is_integer(src.dtype):
            nodata = np.nan
        if nodata is False:
            nodata = None
        if nodata is not None and np.size(nodata) == 1:
            nodata = np.ravel(nodata)[0]
        each = src.dtype.itemsize * src.copies
        wishes = tiles.Wishes(
            src.shape,
            axis,
            src.order,
            source_unit=(1,) * len(src.shape) if src.grain is None else src.grain,
            target_unit=(1,) * len(src.shape),
            raw_itemsize=src.raw_itemsize,
            wanted=tiles.SIZE * 8,  # each brings its sums, which take a moment to add
            cache=src.cache,
            retile=src.retile,
        )
        available = tiles.number_of_bytes(memory, "memory")
        grid, _ = tiles.grid(wishes, lambda tile: each * int(np.prod(tile)), available, 1, None)
        done, pixels = 0, int(np.prod(src.shape)) // src.shape[axis]
        for number in range(len(grid)):
            region = grid.region(number)
            hidden = src.hidden(region)
            total.update(
                src.read(region, scratch),
                channel_axis=axis,
                nodata=nodata,
                weights=None if hidden is None else ~hidden,
                threads=threads,
            )
            done += tiles.size(region) // src.shape[axis]
            told(done, pixels)
    return total
