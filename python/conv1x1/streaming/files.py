"""Which kind a path is of, by the end of its name, and what is opened or made for it."""

from __future__ import annotations

import errno
import importlib
import importlib.util
import os
import re
from typing import Any

import numpy as np

from ..checks.arrays import Array
from .arrays import ArraySource, ArrayTarget, SlicedSource, SlicedTarget, mapped
from .base import File, Result, Source, renamed

#: The ends of names, up to a colon where one names what is inside.
_KINDS = {
    "npy": r"\.npy$",
    "zarr": r"\.zarr/?(:.*)?$",
    "h5py": r"\.(h5|hdf5|he5)(:.*)?$",
    "tiff": r"\.tiff?$",
    "envi": r"\.hdr$",
}
_KNOWN = ".npy, .zarr, .h5:/dataset, .tif, .hdr (ENVI)"


def is_path(thing: Any) -> bool:
    """Whether it names a file."""
    return isinstance(thing, (str, os.PathLike))


def source(thing: Any, axis: int) -> Source:
    """What tiles are read from; of a file that knows its bands, with these on that axis."""
    if is_path(thing):
        return _source(os.fsdecode(thing), axis)
    if isinstance(thing, np.ma.MaskedArray):
        raise TypeError("the source is a masked array: pass source.filled(v) and nodata=v")
    if isinstance(thing, np.memmap) and (found := mapped(thing)) is not None:
        return found
    if isinstance(thing, np.ndarray):
        return ArraySource(thing)
    from . import rasterio

    return rasterio.RasterSource(thing, axis) if rasterio.is_dataset(thing) else SlicedSource(thing)


def _source(path: str, axis: int) -> Source:
    module = _module(_kind(path, "source"))
    try:
        found: Source = module.source(path, axis)
    except (ImportError, MemoryError):
        raise
    except Exception as error:  # what a library says of a damaged file may be anything
        if path.partition(":")[0] in str(error):
            raise
        raise renamed(error, f"opening {path}: ") from error
    return found


def _module(kind: str) -> Any:
    """What reads and writes files of a kind."""
    if kind == "tiff":
        kind = "tifffile" if _without_rasterio() else "rasterio"
    return importlib.import_module(f".{kind}", __package__)


def _without_rasterio() -> bool:
    """Whether tifffile is to do what rasterio would do better."""
    found = [importlib.util.find_spec(name) is not None for name in ("rasterio", "tifffile")]
    return found == [False, True]


def _kind(path: str, name: str) -> str:
    for kind, end in _KINDS.items():
        if re.search(end, path, re.IGNORECASE):
            return kind
    raise ValueError(f"{name}={path!r} is of no kind that is known by its name: {_KNOWN}")


class Wanted:
    """What `out` is to become."""

    def __init__(self, out: Any, source: Any) -> None:
        self.out = out
        self.grain: tuple[int, ...] | None = None
        self.dtype: np.dtype[Any] | None = None
        self.copies = 1
        self.waits = out is not None and not isinstance(out, np.ndarray)  # for a disk or a library
        self.path = os.fsdecode(out).rstrip("/") if is_path(out) else None
        if self.path is not None:
            self._made: type[File] = _module(_kind(self.path, "out")).File
            _check_path(self.path, source)
        elif isinstance(out, np.ndarray):
            _check_array(out, source)
            self.dtype = out.dtype
        elif out is not None:
            self._sliced = SlicedTarget(out)
            self.grain, self.dtype, self.copies = self._sliced.grain, self._sliced.dtype, 2

    def check(self, shape: tuple[int, ...]) -> None:
        """An array must have the shape of the result."""
        if self.path is None and self.out is not None and tuple(self.out.shape) != shape:
            raise ValueError(
                f"out has shape {tuple(self.out.shape)}; the result has {shape}: pass np.empty({shape}, …)"
            )

    def file(self, made: Result, options: Any) -> File:
        """The file, to be created or opened again."""
        assert self.path is not None
        return self._made(self.path, self.out, made, dict(options or {}))

    def array(self, made: Result, options: Any) -> Any:
        """The array, made if there is none."""
        if options:
            raise ValueError("options are for an out that is a path")
        if self.out is None:
            lying: Array = np.empty([made.shape[a] for a in made.order], made.dtype)
            return ArrayTarget(lying.transpose(np.argsort(made.order)) if made.order else lying)
        return ArrayTarget(self.out) if isinstance(self.out, np.ndarray) else self._sliced


def _check_path(path: str, source: Any) -> None:
    path = path.partition(":")[0]
    folder = os.path.dirname(os.path.abspath(path))
    if not os.path.isdir(folder):
        raise FileNotFoundError(errno.ENOENT, "there is no such directory", folder)
    if not os.path.lexists(path):
        return
    theirs = os.fsdecode(source).partition(":")[0] if is_path(source) else None
    if theirs and os.path.exists(path) and os.path.exists(theirs) and os.path.samefile(path, theirs):
        raise ValueError(f"out is the source itself, {path}: pass another name")
    if os.path.isdir(path) and not path.lower().endswith(".zarr"):
        raise IsADirectoryError(errno.EISDIR, "is a directory", path)


def _check_array(out: Array, source: Any) -> None:
    if isinstance(out, np.ma.MaskedArray):
        raise TypeError("out is a masked array: pass out.data")
    if not out.flags.writeable:
        raise ValueError("out is read-only")
    if isinstance(source, np.ndarray) and np.may_share_memory(source, out):
        raise ValueError("out overlaps the source, of which later tiles are still to be read: pass another array")
