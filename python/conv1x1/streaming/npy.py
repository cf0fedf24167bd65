"""`.npy` files, read and written in place."""

from __future__ import annotations

import errno
import io
import math
import os
import warnings
from typing import Any

import numpy as np

from ..checks.arrays import Array, spelled
from .net import Region
from .raw import Body, Scratch, create, open_regular, shape_of
from .tiles import in_words

_READERS = {(1, 0): np.lib.format.read_array_header_1_0, (2, 0): np.lib.format.read_array_header_2_0}
_MOST_HEADER = 1 << 20


class RawSource:
    """Numbers one after another in a file, read into memory of the thread."""

    copies = 1
    grain = None
    waits = True

    def __init__(self, body: Body, facts: dict[str, Any]) -> None:
        self.body, self.name = body, body.path
        self.shape, self.dtype, self.order = body.shape, body.dtype, body.order
        self.raw_itemsize = body.dtype.itemsize
        self.facts = facts

    def read(self, region: Region, scratch: Scratch) -> Array:
        tile = scratch.array(shape_of(region), self.dtype, self.order)
        self.body.read(region, tile)
        return tile

    def expect(self, region: Region) -> None:
        self.body.expect(region)

    def close(self) -> None:
        os.close(self.body.fd)


class RawTarget:
    """Likewise, to be written."""

    copies = 1
    grain = None

    def __init__(self, body: Body, result: Any) -> None:
        self.body, self.name, self.result = body, body.path, result

    def room(self, region: Region, scratch: Scratch) -> Array:
        return scratch.array(shape_of(region), self.body.dtype, self.body.order)

    def write(self, region: Region, tile: Array) -> None:
        self.body.write(region, tile)

    def sync(self) -> None:
        os.fdatasync(self.body.fd)

    def finish(self) -> None:
        os.fsync(self.body.fd)

    def discard(self) -> None:
        os.unlink(self.body.path)

    def close(self) -> None:
        os.close(self.body.fd)


def source(path: str) -> RawSource:
    """A `.npy` file to read from, once its header is known to be true."""
    fd, size = open_regular(path)
    try:
        with open(fd, "rb", closefd=False) as file:
            try:
                with warnings.catch_warnings():
                    warnings.simplefilter("ignore")  # a header is read as Python, and a damaged one as odd Python
                    shape, fortran, dtype = _READERS[np.lib.format.read_magic(file)](file)
            except Exception as error:  # what NumPy says of a damaged header may be anything
                raise ValueError(f"{path} is no .npy file of numbers: {error or type(error).__name__}") from None
            offset = file.tell()
        if dtype.hasobject or dtype.fields is not None or dtype.subdtype is not None or not dtype.itemsize:
            raise TypeError(f"{path} holds {dtype}, which are no numbers")
        if any(isinstance(n, bool) or n < 0 for n in shape):
            raise ValueError(f"{path} has a header with the shape {shape}: it is damaged")
        check_size(path, offset, math.prod(shape) * dtype.itemsize, size, f"{spelled(shape)} of {dtype}")
        order = tuple(range(len(shape)))
        return RawSource(
            Body(path, fd, offset, shape, dtype, order[::-1] if fortran else order), {"kind": ".npy", "bytes": size}
        )
    except BaseException:
        os.close(fd)
        raise


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


def header(shape: tuple[int, ...], dtype: np.dtype[Any], fortran: bool) -> bytes:
    """What `numpy.save` writes before the numbers."""
    file = io.BytesIO()
    described = {"descr": np.lib.format.dtype_to_descr(dtype), "fortran_order": fortran, "shape": shape}
    np.lib.format.write_array_header_1_0(file, described)
    return file.getvalue()


class Target:
    """A `.npy` file that is to be written."""

    def __init__(self, path: str, result: Any, shape: tuple[int, ...], dtype: np.dtype[Any], order: tuple[int, ...]):
        if dtype.kind == "V" or np.lib.format.descr_to_dtype(np.lib.format.dtype_to_descr(dtype)) != dtype:
            raise TypeError(f"a .npy file cannot hold {dtype}: pass dtype=np.float32")
        self.path, self.result, self.shape, self.dtype = path, result, shape, dtype
        fortran = len(shape) > 1 and order == tuple(range(len(shape)))[::-1]
        self.order = order if fortran else tuple(range(len(shape)))
        self.head = header(shape, dtype, fortran)
        self.size = len(self.head) + math.prod(shape) * dtype.itemsize

    def create(self, overwrite: bool) -> RawTarget:
        """The new file, with room for everything."""
        return self._of(create(self.path, self.head, self.size, overwrite))

    def reopen(self) -> RawTarget:
        """The file that was begun."""
        fd = os.open(self.path, os.O_RDWR | os.O_CLOEXEC)
        if os.fstat(fd).st_size != self.size or os.pread(fd, len(self.head), 0) != self.head:
            os.close(fd)
            raise FileExistsError(errno.EEXIST, "is not the file that its journal tells of", self.path)
        return self._of(fd)

    def _of(self, fd: int) -> RawTarget:
        return RawTarget(Body(self.path, fd, len(self.head), self.shape, self.dtype, self.order), self.result)
