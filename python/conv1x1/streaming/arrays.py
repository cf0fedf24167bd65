"""Arrays as sources and targets: ndarrays as they are, and whatever else has a shape, a type and slices."""

from __future__ import annotations

from typing import Any

import numpy as np

from ..checks import geometry
from ..checks.arrays import Array, bare, spelled
from .net import Region
from .raw import Scratch, shape_of


class ArraySource:
    """An ndarray, of which tiles are views."""

    copies = 1  # none, but tiles are as large as if there were one
    raw_itemsize = None
    grain = None
    waits = False

    def __init__(self, array: Array) -> None:
        self.array = bare(array)
        self.name = f"the source, {array.dtype} of shape {array.shape}"
        self.facts = {"kind": "ndarray"}
        self.shape, self.dtype = self.array.shape, self.array.dtype
        self.order = geometry.memory_order(self.array)

    def read(self, region: Region, scratch: Scratch) -> Array:
        return self.array[region]

    def expect(self, region: Region) -> None:
        pass

    def close(self) -> None:
        pass


class SlicedSource:
    """Whatever else has `shape`, `dtype` and slices."""

    copies = 2  # what it reads for itself, and what it gives
    raw_itemsize = None
    waits = True

    def __init__(self, thing: Any) -> None:
        self.thing = thing
        self.name = f"the source, {type(thing).__name__}"
        self.facts = {"kind": type(thing).__name__}
        self.shape, self.dtype = shape_and_dtype(thing, "source")
        self.order = tuple(range(len(self.shape)))
        self.grain = grain_of(thing, len(self.shape))

    def read(self, region: Region, scratch: Scratch) -> Array:
        return same_shape(np.asarray(self.thing[region]), region, self.name)

    def expect(self, region: Region) -> None:
        pass

    def close(self) -> None:
        pass


class ArrayTarget:
    """An ndarray, into which tiles are computed."""

    copies = 1  # none, but tiles are as large as if there were one
    grain = None

    def __init__(self, array: Array) -> None:
        self.array = self.result = array
        self.name = "the result"

    def room(self, region: Region, scratch: Scratch) -> Array:
        return self.array[region] if region else self.array

    def write(self, region: Region, tile: Array) -> None:
        pass

    def sync(self) -> None:
        pass

    def finish(self) -> None:
        pass

    def close(self) -> None:
        pass


class SlicedTarget:
    """Whatever else slices can be written to."""

    copies = 2

    def __init__(self, thing: Any) -> None:
        self.thing = self.result = thing
        self.name = f"out, {type(thing).__name__}"
        self.shape, self.dtype = shape_and_dtype(thing, "out")
        self.grain = grain_of(thing, len(self.shape))

    def room(self, region: Region, scratch: Scratch) -> Array:
        return scratch.array(shape_of(region), self.dtype, tuple(range(len(region))))

    def write(self, region: Region, tile: Array) -> None:
        self.thing[region] = tile

    def sync(self) -> None:
        pass

    def finish(self) -> None:
        pass

    def close(self) -> None:
        pass


def same_shape(tile: Array, region: Region, name: str) -> Array:
    """A tile as it was read, once it is sure to be what was asked for."""
    if tile.shape != shape_of(region):
        raise ValueError(f"{name} gave {tile.shape} where {shape_of(region)} was asked for")
    return tile


def shape_and_dtype(thing: Any, name: str) -> tuple[tuple[int, ...], np.dtype[Any]]:
    try:
        return tuple(map(int, thing.shape)), np.dtype(thing.dtype)
    except (AttributeError, TypeError, ValueError):
        raise TypeError(
            f"{name} must be a path, or an array with shape, dtype and slices, got {spelled(thing)}"
        ) from None


def grain_of(thing: Any, ndim: int) -> tuple[int, ...] | None:
    """The chunks of a thing; where several lie in one piece, in a shard, those pieces."""
    for name in ("shards", "chunks"):
        found = getattr(thing, name, None)
        if isinstance(found, tuple) and len(found) == ndim and all(isinstance(n, int) and n > 0 for n in found):
            return found
    return None
