"""Arrays as sources and targets: ndarrays as they are, and whatever else has a shape, a type and slices."""

from __future__ import annotations

import math
import mmap
import os
from contextlib import suppress
from typing import Any

import numpy as np

from ..checks import geometry
from ..checks.arrays import Array, bare, spelled
from .base import RawSource, Source, Target
from .net import Region
from .raw import Body, Scratch, open_regular, shape_of


class ArraySource(Source):
    """An ndarray, of which tiles are views."""

    waits = False

    def __init__(self, array: Array) -> None:
        self.array = bare(array)
        self.name = f"the source, {array.dtype} of shape {array.shape}"
        self.facts = {"kind": "ndarray"}
        self.shape, self.dtype = self.array.shape, self.array.dtype
        self.order = geometry.memory_order(self.array)

    def read(self, region: Region, scratch: Scratch) -> Array:
        return self.array[region]


class SlicedSource(Source):
    """Whatever else has `shape`, `dtype` and slices."""

    copies = 4  # its blocks as they are stored, as they are read and put together, and what it gives

    def __init__(self, thing: Any, name: str = "") -> None:
        self.thing = thing
        self.name = name or f"the source, {type(thing).__name__}"
        self.facts = {"kind": type(thing).__name__}
        self.shape, self.dtype = shape_and_dtype(thing, "source")
        self.order = tuple(range(len(self.shape)))
        self.grain = grain_of(thing, len(self.shape), ("chunks",))
        told = getattr(thing, "attrs", None)
        if told is not None and hasattr(told, "get"):  # as the conventions for climate data have it
            if (value := told.get("_FillValue")) is not None:
                self.nodata = tuple(np.ravel(np.asarray(value, float)).tolist())
            factor, offset = told.get("scale_factor"), told.get("add_offset")
            if factor is not None or offset is not None:
                self.scale = np.ravel(1.0 if factor is None else factor), np.ravel(0.0 if offset is None else offset)

    def read(self, region: Region, scratch: Scratch) -> Array:
        tile = np.asarray(self.thing[region])
        if tile.shape != shape_of(region):
            raise ValueError(f"it gave {tile.shape} where {shape_of(region)} was asked for")
        return tile


class ArrayTarget(Target):
    """An ndarray, into which tiles are computed."""

    def __init__(self, array: Array) -> None:
        self.array = self.result = array
        self.name = "the result"

    def room(self, region: Region, scratch: Scratch) -> Array:
        return self.array[region] if region else self.array


class SlicedTarget(Target):
    """Whatever else slices can be written to."""

    def __init__(self, thing: Any) -> None:
        self.thing = self.result = thing
        self.name = f"out, {type(thing).__name__}"
        self.shape, self.dtype = shape_and_dtype(thing, "out")
        self.grain = grain_of(thing, len(self.shape), ("shards", "chunks"))

    def room(self, region: Region, scratch: Scratch) -> Array:
        return scratch.array(shape_of(region), self.dtype, tuple(range(len(region))))

    def write(self, region: Region, tile: Array) -> None:
        self.thing[region] = tile


def shape_and_dtype(thing: Any, name: str) -> tuple[tuple[int, ...], np.dtype[Any]]:
    """What a thing must have to be read or written."""
    try:
        return tuple(map(int, thing.shape)), np.dtype(thing.dtype)
    except (AttributeError, TypeError, ValueError):
        raise TypeError(
            f"{name} must be a path, or an array with shape, dtype and slices, got {spelled(thing)}"
        ) from None


def grain_of(thing: Any, ndim: int, names: tuple[str, ...]) -> tuple[int, ...] | None:
    """The blocks of a thing, by the first of these names that it has."""
    for name in names:
        found = getattr(thing, name, None)
        if isinstance(found, tuple) and len(found) == ndim and all(isinstance(n, int) and n > 0 for n in found):
            return found
    return None


def mapped(array: Any) -> Source | None:
    """A map of a file, to be read by its places: pages that were looked at would fill the memory.

    None where it lies otherwise, or is not what the file of its name has.
    """
    order = geometry.memory_order(array)
    dense = [math.prod(array.shape[a] for a in order[i + 1 :]) * array.itemsize for i in range(array.ndim)]
    if array.mode == "c" or not array.filename or [array.strides[a] for a in order] != dense:
        return None
    begin = np.frombuffer(array._mmap, np.uint8).ctypes.data
    offset = array.offset - array.offset % mmap.ALLOCATIONGRANULARITY + array.ctypes.data - begin
    try:
        fd, size = open_regular(os.fspath(array.filename))
    except (OSError, ValueError):
        return None
    if os.fstat(fd).st_ino != _inode(begin) or offset + array.nbytes > size:
        os.close(fd)
        return None
    body = Body(os.fspath(array.filename), fd, offset, array.shape, bare(array).dtype, order)
    return RawSource(body, {"kind": "ndarray"})


def _inode(address: int) -> int:
    """Of the file that is mapped there."""
    with suppress(OSError), open("/proc/self/maps", encoding="ascii", errors="replace") as file:
        for line in file:
            where, _, _, _, inode, *_ = line.split()
            first, last = (int(n, 16) for n in where.split("-"))
            if first <= address < last:
                return int(inode)
    return -1
