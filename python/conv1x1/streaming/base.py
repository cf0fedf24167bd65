"""What sources and targets have in common. Each kind says only what is different with it."""

from __future__ import annotations

import importlib
import math
import os
from contextlib import suppress
from typing import Any

import numpy as np

from ..checks.arrays import Array
from .net import Net, Region
from .raw import Body, Scratch, create, shape_of

#: What pip is asked for, where a library is not there.
EXTRAS = {"zarr": "zarr", "h5py": "hdf5", "rasterio": "geotiff", "tifffile": "tiff"}


def library(name: str, path: str) -> Any:
    """A library that this kind of file needs."""
    try:
        return importlib.import_module(name)
    except ImportError as error:
        extra = EXTRAS[name]
        raise ImportError(f'{path} needs {name} ({error}): pip install {name}, or ".[{extra}]" in a clone') from None


def renamed(error: Exception, before: str) -> Exception:
    """An error of the same kind that says where it happened, or one of this library's kinds for another library's."""
    if isinstance(error, OSError):
        text = before + (error.strerror or str(error))
        return OSError(text) if error.errno is None else OSError(error.errno, text)
    text = before + (str(error) or type(error).__name__)
    for kind in (MemoryError, TypeError, ValueError):
        if isinstance(error, kind):
            return kind(text)
    return RuntimeError(text)


_MOST_CATEGORIES = 65535


class Source:
    """What tiles are read from."""

    name: str  # for messages
    shape: tuple[int, ...]
    dtype: np.dtype[Any]
    order: tuple[int, ...]  # the axes as they lie, outermost first
    grain: tuple[int, ...] | None = None  # the blocks that it can only be read by
    copies = 1  # of a tile's bytes, in memory while it is read
    raw_itemsize: int | None = None  # of numbers that lie in a file one after another
    waits = True  # for a disk or a library
    facts: dict[str, Any]  # by which it is known again, besides shape, type and samples
    bands: tuple[str, ...] | None = None  # what its channels are called
    nodata: tuple[float, ...] | None = None  # one for each channel, or for all
    scale: tuple[Array, Array] | None = None  # factor and offset, likewise
    place: dict[str, Any] | None = None  # on earth, as the libraries of maps say it
    cache = 0  # bytes that its library keeps besides
    retile = ""  # the command that makes smaller blocks of it
    masked = False  # whether some pixels are hidden by a mask of its own

    def read(self, region: Region, scratch: Scratch) -> Array:
        """The pixels there."""
        raise NotImplementedError

    def in_memory(self, region: Region) -> bool:
        """Whether threads may read it while others read: where the disk is needed, they spoil what is read ahead."""
        return True

    def hidden(self, region: Region) -> Array | None:
        """Which pixels there are none, by a mask of the file's own, without the channel axis."""
        return None

    def drop_axis(self) -> None:
        """Be without the last axis, which has one band."""
        self.shape, read = self.shape[:-1], self.read
        self.read = lambda region, scratch: read((*region, slice(0, 1)), scratch)[..., 0]  # type: ignore[method-assign]

    def close(self) -> None:
        """Nothing more will be read."""


class RawSource(Source):
    """Numbers one after another in a file."""

    def __init__(self, body: Body, facts: dict[str, Any]) -> None:
        self.body, self.name, self.facts = body, body.path, facts
        self.shape, self.dtype, self.order = body.shape, body.dtype, body.order
        self.raw_itemsize = body.dtype.itemsize

    def read(self, region: Region, scratch: Scratch) -> Array:
        tile = scratch.array(shape_of(region), self.dtype, self.order)
        self.body.read(region, tile)
        return tile

    def in_memory(self, region: Region) -> bool:
        return self.body.in_memory(region)

    def close(self) -> None:
        os.close(self.body.fd)


class Target:
    """What tiles are written to."""

    name: str
    result: Any  # what `stream` returns

    def room(self, region: Region, scratch: Scratch) -> Array:
        """Where a tile is computed."""
        raise NotImplementedError

    def write(self, region: Region, tile: Array) -> None:
        """Keep it."""

    def sync(self) -> None:
        """What was written is on the disk."""

    def finish(self) -> None:
        """All has been written."""

    def discard(self) -> None:
        """Nothing has been written, and none of it is to stay."""

    def close(self) -> None:
        """Nothing more will be written."""


class RawTarget(Target):
    """Numbers one after another in a file."""

    def __init__(self, body: Body, file: File) -> None:
        self.body, self.name, self.result, self.file = body, body.path, file.result, file

    def room(self, region: Region, scratch: Scratch) -> Array:
        return scratch.array(shape_of(region), self.body.dtype, self.body.order)

    def write(self, region: Region, tile: Array) -> None:
        self.body.write(region, tile)

    def sync(self) -> None:
        os.fdatasync(self.body.fd)

    def finish(self) -> None:
        os.fsync(self.body.fd)
        self.file.complete(self.body)

    def discard(self) -> None:
        self.file.discard()

    def close(self) -> None:
        os.close(self.body.fd)


class Result:
    """What a file is to hold: known before anything of it is made."""

    def __init__(self, net: Net, source: Source, memory: int, nodata: Any) -> None:
        self.shape, self.dtype, self.order = net.shape, net.dtype, net.order(source.order)
        self.axis = net.axis if net.keeps_axis else None  # of the channels
        self.source, self.nodata = source, nodata
        self.memory = memory // 4  # for a conversion, of what is to be converted
        self.steps = tuple(n for i, n in enumerate(net.strides) if i != net.axis)
        names: tuple[str, ...] | None = getattr(net.layer, "class_names", None)
        self.bands = names if net.keeps_axis else None
        self.classes = None if net.keeps_axis else names
        self.labels = net.labels()

    def categories(self) -> list[str]:
        """The names of classes by their labels, "" for what is no label; nothing where labels are no such numbers."""
        labels = self.labels if self.classes else []
        if not labels or min(labels) < 0 or max(labels) > _MOST_CATEGORIES:
            return []
        named = dict(zip(labels, self.classes or (), strict=True))
        return [named.get(n, "") for n in range(max(labels) + 1)]

    @property
    def nbytes(self) -> int:
        return math.prod(self.shape) * self.dtype.itemsize

    def planes(self, path: str) -> tuple[int, int, int]:
        """Which axes are bands, rows and columns, of a file that has such."""
        if self.axis is None and len(self.shape) == 2:
            return -1, 0, 1
        if self.axis is None or len(self.shape) != 3:
            raise ValueError(f"{path} holds rows and columns of pixels, and the result has shape {self.shape}")
        rows, columns = (a for a in range(3) if a != self.axis)
        return self.axis, rows, columns


class File:
    """A file that is to become the result: created or opened again, completed or discarded."""

    chunked = False  # whether its blocks are the tiles
    head = b""

    def __init__(self, path: str, result: Any, made: Result, options: dict[str, Any]) -> None:
        self.path, self.result, self.made, self.options = path, result, made, options
        self.file = self.partial = path  # the result, and what holds the tiles until it is complete
        self.order = tuple(range(len(made.shape)))

    def create(self, overwrite: bool, chunks: tuple[int, ...]) -> Target:
        """Anew, with room for everything."""
        return self._raw(create(self.partial, self.head, len(self.head) + self.made.nbytes, overwrite))

    def reopen(self) -> Target:
        """As it was begun."""
        import errno

        fd = os.open(self.partial, os.O_RDWR | os.O_CLOEXEC)
        size = len(self.head) + self.made.nbytes
        if os.fstat(fd).st_size != size or os.pread(fd, len(self.head), 0) != self.head:
            os.close(fd)
            raise FileExistsError(errno.EEXIST, "is not the file that its journal tells of", self.partial)
        return self._raw(fd)

    def _raw(self, fd: int) -> RawTarget:
        body = Body(self.partial, fd, len(self.head), self.made.shape, self.made.dtype, self.order)
        return RawTarget(body, self)

    def complete(self, body: Body) -> None:
        """All tiles are there: make of them what they are to be."""

    def discard(self) -> None:
        os.unlink(self.partial)


class Staged(File):
    """A file that a killed writer would leave unreadable: numbers lie beside it until all are there."""

    def __init__(self, path: str, result: Any, made: Result, options: dict[str, Any], file: str) -> None:
        super().__init__(path, result, made, options)
        self.file, self.partial = file, f"{file}.conv1x1-tiles"

    def complete(self, body: Body) -> None:
        new = f"{self.file}.new"
        try:
            self.convert(body, new)
        except Exception as error:
            with suppress(OSError):
                os.unlink(new)
            raise renamed(error, f"writing {self.file}, of which all tiles are in {self.partial}: ") from error
        fd = os.open(new, os.O_RDONLY)
        os.fsync(fd)
        os.close(fd)
        os.replace(new, self.file)
        os.unlink(self.partial)

    def convert(self, body: Body, new: str) -> None:
        """Write the file of this name."""
        raise NotImplementedError
