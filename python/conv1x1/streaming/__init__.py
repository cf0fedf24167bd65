"""Files and arrays larger than memory, tile by tile: `stream`.

==============  ========================================================================================
this file       the function as users see it; what it needs is imported when it is called
`job`           one call of it from beginning to end
`net`           the layer as a job sees it: which axis, what comes out, which part of it a tile makes
`tiles`         sizes in words; which tiles there are, so that they fit the memory
`pipeline`      the threads that read, compute and write; Ctrl-C
`progress`      the bar
`files`         which kind a path is of
`raw`           numbers in a file, one after another, by pread and pwrite
`journal`       which tiles are on the disk, for a call that resumes
`fingerprint`   by what it knows the model and the source again
`nodata`        what tiles go through besides the layer: scale and offset, pixels without data
`base`          what sources and targets have in common
`npy`, …        sources and targets, one file for each format or library
==============  ========================================================================================
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from ..checks.arrays import DTypeLike


def stream(
    layer: Any,
    source: Any,
    out: Any = None,
    *,
    memory: int | str = "256 MiB",
    threads: int | None = None,
    progress: bool | Callable[[int, int], object] | None = None,
    resume: bool = False,
    overwrite: bool = False,
    channel_axis: int | None = None,
    dtype: DTypeLike | None = None,
    nodata: Any = None,
    nodata_when: str = "any",
    nodata_out: Any = None,
    scaled: bool | None = None,
    options: dict[str, Any] | None = None,
) -> Any:
    """The result of a layer on a file or an array that need not fit in memory, tile by tile.

    The numbers are those of ``layer(x)``, to the bit, whatever the tiles, the threads and the memory. Tiles are read,
    computed and written at the same time.

    Parameters
    ----------
    layer : Conv1x1, QConv1x1 or Sequential
        What every pixel goes through.
    source : path or array_like
        A file: `.npy`, `.zarr`, `.h5:/dataset`, `.tif`, or the `.hdr` of ENVI; or anything with `shape`, `dtype` and
        slices, such as an array of `numpy.memmap`, zarr or h5py; or a dataset of rasterio. A file of bands is seen with
        its bands on the channel axis. Libraries are needed for zarr, HDF5 (h5py) and TIFF (rasterio, or tifffile).
    out : path or array_like, optional
        A file of one of these kinds that does not exist; or anything that slices can be written to. By default an
        ndarray is made. GeoTIFF and HDF5 are written when all tiles are there, which lie beside them until then.
    memory : int or str, default "256 MiB"
        How much memory the work may take, in bytes or such words, besides a result or a source that is an ndarray.
        Mostly it takes far less: tiles that fit the caches are the fastest.
    threads : int, optional
        How many threads compute, as for a call of the layer; one more reads and writes meanwhile.
    progress : bool or callable, optional
        True shows a bar on a terminal. What can be called gets two numbers: pixels done, and all of them.
    resume : bool, default False
        Complete a file `out` that an earlier call left incomplete, however that ended; begin one that is not there. A
        journal beside it, `….conv1x1-journal`, says which tiles are on the disk, of which model and source.
    overwrite : bool, default False
        Whether an existing file `out` is replaced.
    channel_axis : int, optional
        The axis of the source that holds the channels; by default the layer's.
    dtype : dtype, optional
        The type of the result, as for `conv1x1`; by default that of `out`, or that of ``layer(x)``.
    nodata : number, array_like or False, optional
        The number that stands for no data, or one for each channel. By default what the file tells, its mask or alpha
        band too; False takes all pixels as they are.
    nodata_when : {"any", "all"}
        Whether a pixel has no data if one of its channels has none, or only if all have none.
    nodata_out : number, optional
        What such a pixel is in the result, by default NaN; a result of integers needs one that is no label.
    scaled : bool, optional
        Whether scale and offset of a file are applied, number · scale + offset; to be said where it has some.
    options : dict, optional
        For the library that makes `out`, such as ``{"compress": "deflate"}`` for rasterio.

    Returns
    -------
    path or array_like
        `out`, or the ndarray that was made.

    Raises
    ------
    TypeError, ValueError, MemoryError, OSError
        When an argument does not fit, before anything is written; or when a tile cannot be read or written.
    KeyboardInterrupt
        On Ctrl-C and on SIGTERM, within a tile. What was written can be resumed.

    Examples
    --------
    >>> import os, tempfile
    >>> import numpy as np
    >>> import conv1x1 as c11
    >>> layer = c11.Conv1x1(np.ones((10, 224), np.float32))
    >>> with tempfile.TemporaryDirectory() as folder:
    ...     scene, components = os.path.join(folder, "scene.npy"), os.path.join(folder, "components.npy")
    ...     np.save(scene, np.ones((50, 40, 224), np.uint16))
    ...     _ = c11.stream(layer, scene, components, memory="8 MiB")
    ...     np.load(components).shape
    (50, 40, 10)
    """
    from . import job

    asked = job.Asked(memory, threads, progress, resume, overwrite, channel_axis, dtype)
    asked.nodata, asked.nodata_when, asked.nodata_out = nodata, nodata_when, nodata_out
    asked.scaled, asked.options = scaled, options
    return job.run(layer, source, out, asked).result
