"""`.npy` files, read and written in place."""

from __future__ import annotations

import io
import math
import os
import warnings
from typing import Any

import numpy as np

from ..checks.arrays import spelled
from . import base
from .base import RawSource, Result
from .raw import Body, check_size, open_regular

_READERS = {(1, 0): np.lib.format.read_array_header_1_0, (2, 0): np.lib.format.read_array_header_2_0}


def source(path: str, axis: int) -> RawSource:
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
        body = Body(path, fd, offset, shape, dtype, order[::-1] if fortran else order)
        return RawSource(body, {"kind": ".npy", "bytes": size})
    except BaseException:
        os.close(fd)
        raise


class File(base.File):
    """A `.npy` file to be written."""

    def __init__(self, path: str, result: Any, made: Result, options: dict[str, Any]) -> None:
        super().__init__(path, result, made, options)
        descr = np.lib.format.dtype_to_descr(made.dtype)
        if made.dtype.kind == "V" or np.lib.format.descr_to_dtype(descr) != made.dtype:
            raise TypeError(f"a .npy file cannot hold {made.dtype}: pass dtype=np.float32")
        fortran = len(made.shape) > 1 and made.order == self.order[::-1]
        if fortran:
            self.order = made.order
        head = io.BytesIO()
        described = {"descr": descr, "fortran_order": fortran, "shape": made.shape}
        np.lib.format.write_array_header_1_0(head, described)
        self.head = head.getvalue()
