"""zarr arrays, read by their chunks, and written in place by whole chunks."""

from __future__ import annotations

import os
import re
import shutil
from typing import Any

from . import base
from .arrays import SlicedSource, SlicedTarget
from .base import Target, library


def source(path: str, axis: int) -> SlicedSource:
    """An array in a store."""
    found = _opened(path, "r")
    made = SlicedSource(found, path)
    made.facts = {"kind": "zarr"}
    smaller = tuple(min(n, 64) for n in made.shape)
    made.retile = f"zarr.create_array('smaller.zarr', data=zarr.open('{path}'), chunks={smaller})"
    return made


def _opened(path: str, mode: str) -> Any:
    zarr = library("zarr", path)
    store, _, inside = path.partition(":")
    if not os.path.exists(store):
        raise FileNotFoundError(2, os.strerror(2), store)
    try:
        found = zarr.open(store, mode=mode, path=inside.strip("/") or None)
    except (OSError, MemoryError):
        raise
    except Exception as error:  # what is damaged shows in any way
        raise ValueError(f"{path} is no zarr array that can be read: {error}") from error
    if not hasattr(found, "shape"):
        arrays = ", ".join(repr(f"{store}:/{name}") for name, _ in found.arrays())
        raise ValueError(f"{path} is a group of arrays: pass one of {arrays or 'none'}")
    return found


class File(base.File):
    """A zarr array to be written, whose chunks are the tiles."""

    chunked = True

    def create(self, overwrite: bool, chunks: tuple[int, ...]) -> Target:
        new = f"{self.path}.new"
        shutil.rmtree(new, ignore_errors=True)
        options = {"chunks": chunks} | self.options
        _create(library("zarr", self.path), new, self.made.shape, self.made.dtype, options)
        if overwrite and os.path.lexists(self.path):
            shutil.rmtree(self.path)
        os.rename(new, self.path)
        return self.reopen()

    def reopen(self) -> Target:
        return _ZarrTarget(_opened(self.path, "r+"), self)

    def discard(self) -> None:
        shutil.rmtree(self.path)


class _ZarrTarget(SlicedTarget):
    def __init__(self, array: Any, file: File) -> None:
        super().__init__(array)
        self.name, self.result, self.discard = file.path, file.result, file.discard  # type: ignore[method-assign]

    def sync(self) -> None:
        os.sync()  # the chunks are files of a library's own


def _create(zarr: Any, path: str, shape: tuple[int, ...], dtype: Any, options: dict[str, Any]) -> None:
    if re.match(r"2\.", zarr.__version__):
        zarr.open(path, mode="w-", shape=shape, dtype=dtype, **options)
    else:
        zarr.create_array(store=path, shape=shape, dtype=dtype, **options)
