"""Numbers in a file, one after another, read and written by their places: no maps, which need address space.

A file that shrinks or a disk that is full is then an error with words, where a map would end the process.
"""

from __future__ import annotations

import errno
import itertools
import math
import os
import stat
from collections.abc import Iterator
from contextlib import suppress
from typing import Any

import numpy as np

from ..checks.arrays import Array
from .net import Region
from .tiles import in_words

_IF_IN_MEMORY = getattr(os, "RWF_NOWAIT", 0)


class Scratch:
    """Memory of one thread, for one array at a time."""

    def __init__(self) -> None:
        self._memory = np.empty(0, np.uint8)

    def array(self, shape: tuple[int, ...], dtype: np.dtype[Any], order: tuple[int, ...]) -> Array:
        """An array whose axes lie in this order, outermost first, without gaps."""
        needed = math.prod(shape) * dtype.itemsize
        if needed > self._memory.size:
            self._memory = np.empty(0, np.uint8)  # or both would be there at once
            self._memory = np.empty(needed, np.uint8)
        lying: Array = np.ndarray([shape[a] for a in order], dtype, self._memory.data)
        return lying.transpose(np.argsort(order))


def shape_of(region: Region) -> tuple[int, ...]:
    return tuple(s.stop - s.start for s in region)


def open_regular(path: str) -> tuple[int, int]:
    """A descriptor of a file to read from, and how many bytes it has."""
    fd = os.open(path, os.O_RDONLY | os.O_CLOEXEC | os.O_NONBLOCK)  # or a pipe would be waited for
    status = os.fstat(fd)
    if not stat.S_ISREG(status.st_mode):
        os.close(fd)
        what = "a directory" if stat.S_ISDIR(status.st_mode) else "no regular file"
        raise ValueError(f"{path} is {what}")
    return fd, status.st_size


def check_size(path: str, offset: int, body: int, size: int, what: str) -> None:
    """A header must tell the truth about how much there is."""
    if size < offset + body:
        raise ValueError(
            f"{path} is truncated: its header tells of {what}, {in_words(offset + body)} in all "
            f"({offset + body} bytes), and the file has {in_words(size)} ({size} bytes)"
        )
    if size > offset + body:
        raise ValueError(
            f"{path} has {size - offset - body} bytes more than its header tells of, {what}: the header is wrong, or "
            "there is more than one array"
        )


def create(path: str, head: bytes, size: int, overwrite: bool) -> int:
    """A descriptor of a new file of so many bytes that begins so.

    It has its name only then, so that what cannot be made leaves nothing, and an old file as it was.
    """
    new = f"{path}.new"
    with suppress(FileNotFoundError):
        os.unlink(new)
    fd = os.open(new, os.O_RDWR | os.O_CREAT | os.O_EXCL | os.O_CLOEXEC, 0o666)
    try:
        _allocate(fd, path, size)
        os.pwrite(fd, head, 0)
        if overwrite:
            os.replace(new, path)
        else:
            _name(new, path)
    except BaseException:
        os.close(fd)
        with suppress(FileNotFoundError):
            os.unlink(new)
        raise
    return fd


def _allocate(fd: int, path: str, size: int) -> None:
    try:
        os.posix_fallocate(fd, 0, size)
    except OSError as error:
        disk = os.fstatvfs(fd)
        free = in_words(disk.f_bavail * disk.f_frsize)
        words = f"no room for {in_words(size)}, {free} are free: {error.strerror}"
        raise OSError(error.errno, words, path) from None


def _name(new: str, path: str) -> None:
    """Give a file its name, unless another has it."""
    try:
        os.link(new, path)
    except FileExistsError:
        raise
    except OSError:  # a system without links
        if os.path.lexists(path):
            raise FileExistsError(errno.EEXIST, "exists", path) from None
        os.rename(new, path)
    else:
        os.unlink(new)


class Body:
    """An array in an open file: where it begins, its shape and type, and its axes as they lie, outermost first."""

    def __init__(
        self, path: str, fd: int, offset: int, shape: tuple[int, ...], dtype: np.dtype[Any], order: tuple[int, ...]
    ) -> None:
        self.path, self.fd, self.offset = path, fd, offset
        self.shape, self.dtype, self.order = shape, dtype, order
        self.nbytes = math.prod(shape) * dtype.itemsize
        self._sides = [shape[a] for a in order]
        self._steps = [math.prod(self._sides[i + 1 :]) * dtype.itemsize for i in range(len(order))]

    def read(self, region: Region, array: Array) -> None:
        """Fill an array that lies in this order, without gaps."""
        for start, piece in self._pieces(region, array):
            while piece:
                got = os.preadv(self.fd, [piece], start)
                if not got:
                    missing = in_words(self.offset + self.nbytes - start)
                    raise OSError(f"{self.path} has become shorter: the last {missing} of it are gone")
                start, piece = start + got, piece[got:]

    def in_memory(self, region: Region) -> bool:
        """Whether the system seems to have it, by its first and last byte."""
        places = zip(self.order, self._steps, strict=True)
        first, last = map(sum, zip(*((region[a].start * s, (region[a].stop - 1) * s) for a, s in places), strict=True))
        try:
            return all(os.preadv(self.fd, [bytearray(1)], self.offset + n, _IF_IN_MEMORY) for n in (first, last))
        except OSError:  # no, or nobody knows
            return not _IF_IN_MEMORY

    def write(self, region: Region, array: Array) -> None:
        """Write such an array."""
        for start, piece in self._pieces(region, array):
            while piece:
                put = os.pwritev(self.fd, [piece], start)
                start, piece = start + put, piece[put:]

    def _inner(self, region: Region) -> tuple[int, int]:
        """From which axis on the region lies in one piece, and how many bytes that has."""
        inner, run = len(self.order), self.dtype.itemsize
        while inner:
            part = region[self.order[inner - 1]]
            inner, run = inner - 1, run * (part.stop - part.start)
            if part.stop - part.start < self._sides[inner]:
                break
        while inner and region[self.order[inner - 1]].stop - region[self.order[inner - 1]].start == 1:
            inner -= 1
        return inner, run

    def _pieces(self, region: Region, array: Array) -> Iterator[tuple[int, memoryview]]:
        """Each piece's place in the file and in the array."""
        inner, run = self._inner(region)
        memory = array.transpose(self.order).reshape(-1).view(np.uint8).data
        base = self.offset + sum(
            region[a].start * s for a, s in zip(self.order[inner:], self._steps[inner:], strict=True)
        )
        outer = [
            [i * s for i in range(region[a].start, region[a].stop)]
            for a, s in zip(self.order, self._steps[:inner], strict=False)
        ]
        for k, place in enumerate(itertools.product(*outer)):
            yield base + sum(place), memory[k * run : (k + 1) * run]
