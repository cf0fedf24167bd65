"""Which kind a path is of, by the end of its name, and what is opened or made for it."""

from __future__ import annotations

import errno
import os
from typing import Any

import numpy as np

from ..checks.arrays import Array, spelled
from . import npy
from .arrays import ArraySource, ArrayTarget, SlicedSource, SlicedTarget

_KINDS = ".npy"


def is_path(thing: Any) -> bool:
    return isinstance(thing, (str, os.PathLike))


def source(thing: Any) -> Any:
    """What tiles are read from."""
    if is_path(thing):
        path = os.fsdecode(thing)
        _kind(path, "source")
        return npy.source(path)
    if isinstance(thing, np.ma.MaskedArray):
        raise TypeError("the source is a masked array: pass source.filled(v) and nodata=v")
    if isinstance(thing, np.ndarray):
        return ArraySource(thing)
    return SlicedSource(thing)


def _kind(path: str, name: str) -> str:
    for kind in (".npy",):
        if path.lower().endswith(kind):
            return kind
    raise ValueError(f"{name}={spelled(path)} is of no kind that is known by its name: {_KINDS}")


class Wanted:
    """What `out` is to become."""

    def __init__(self, out: Any, source: Any) -> None:
        self.out = out
        self.grain: tuple[int, ...] | None = None
        self.dtype: np.dtype[Any] | None = None
        self.copies = 1
        self.waits = out is not None and not isinstance(out, np.ndarray)  # for a disk or a library
        self.path = os.fsdecode(out) if is_path(out) else None
        if self.path is not None:
            _kind(self.path, "out")
            _check_path(self.path, source)
        elif isinstance(out, np.ndarray):
            _check_array(out, source)
            self.dtype = out.dtype
        elif out is not None:
            self._sliced = SlicedTarget(out)
            self.grain, self.dtype, self.copies = self._sliced.grain, self._sliced.dtype, self._sliced.copies

    def check(self, shape: tuple[int, ...]) -> None:
        """An array must have the shape of the result."""
        if self.path is None and self.out is not None and tuple(self.out.shape) != shape:
            raise ValueError(
                f"out has shape {tuple(self.out.shape)}; the result has {shape}: pass np.empty({shape}, …)"
            )

    def make(self, shape: tuple[int, ...], dtype: np.dtype[Any], order: tuple[int, ...]) -> Any:
        """The target; a file is to be created or opened again."""
        if self.path is not None:
            return npy.Target(self.path, self.out, shape, dtype, order)
        if self.out is None:
            lying: Array = np.empty([shape[a] for a in order], dtype)
            return ArrayTarget(lying.transpose(np.argsort(order)) if order else lying)
        return ArrayTarget(self.out) if isinstance(self.out, np.ndarray) else self._sliced


def _check_path(path: str, source: Any) -> None:
    folder = os.path.dirname(os.path.abspath(path))
    if not os.path.isdir(folder):
        raise FileNotFoundError(errno.ENOENT, "there is no such directory", folder)
    if not os.path.lexists(path):
        return
    if is_path(source) and os.path.exists(path) and os.path.samefile(path, source):
        raise ValueError(f"out is the source itself, {path}: pass another name")
    if os.path.isdir(path):
        raise IsADirectoryError(errno.EISDIR, "is a directory", path)


def _check_array(out: Array, source: Any) -> None:
    if isinstance(out, np.ma.MaskedArray):
        raise TypeError("out is a masked array: pass out.data")
    if not out.flags.writeable:
        raise ValueError("out is read-only")
    if isinstance(source, np.ndarray) and np.may_share_memory(source, out):
        raise ValueError("out overlaps the source, of which later tiles are still to be read: pass another array")
