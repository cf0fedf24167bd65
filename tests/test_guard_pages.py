"""No byte outside the elements is read or written: every array lies flush against a page that cannot be touched."""

import ctypes
import mmap
from itertools import product
from typing import Any

import numpy as np
import pytest

from conv1x1 import Conv1x1, _conv1x1
from conv1x1.runtime import restricted

KERNELS = {k["name"]: k for k in _conv1x1.kernels() if k["supported"]}
PAGE = mmap.PAGESIZE
PROT_NONE = 0


def flush(a: Any, at_end: bool) -> Any:
    """A copy of `a` that ends where an untouchable page begins, or begins where one ends."""
    pages = -(-a.nbytes // PAGE)
    area = mmap.mmap(-1, (pages + 2) * PAGE)
    address = ctypes.addressof(ctypes.c_char.from_buffer(area))
    mprotect = ctypes.CDLL(None, use_errno=True).mprotect
    for guard in (0, pages + 1):
        assert mprotect(ctypes.c_void_p(address + guard * PAGE), ctypes.c_size_t(PAGE), PROT_NONE) == 0
    start = (pages + 1) * PAGE - a.nbytes if at_end else PAGE
    copy = np.ndarray(a.shape, a.dtype, buffer=area, offset=start)
    copy[...] = a
    return copy


@pytest.mark.parametrize("name", KERNELS)
@pytest.mark.parametrize("at_end", [True, False])
def test_every_kernel(exact: Any, name: str, at_end: bool) -> None:
    kernel = KERNELS[name]
    dtype = kernel["dtype"]
    few = {"few_filters": [(33, 1), (50, 3), (48, 4)], "few_channels": [(1, 1), (3, 3), (3, 4), (4, 2)]}
    lanes, rows = kernel["lanes"], kernel["rows"]
    channels_and_filters = few.get(kernel["method"], [(3, lanes - 1), (17, lanes + 1), (5, 2 * lanes + 3), (40, 2)])
    for (channels, filters), pixels, axis in product(channels_and_filters, [1, rows + 1, lanes + 3], [-1, 0]):
        x, w, bias = exact(pixels, channels, dtype=dtype), exact(filters, channels, dtype=dtype), exact(filters)
        residual = exact(pixels, filters, dtype=dtype, seed=1)
        turned = [np.ascontiguousarray(np.moveaxis(a, -1, axis)) for a in (x, residual, np.zeros_like(residual))]
        x_flush, residual_flush, out = (flush(a, at_end) for a in turned)
        layer = Conv1x1(flush(w, at_end), flush(bias, at_end), channel_axis=axis, activation="relu")
        for orientation in (None, "pixels_as_rows", "pixels_as_lanes"):
            with restricted(kernel=name, orientation=orientation):
                out[...] = np.nan
                layer(x_flush, residual_flush, out)
                wanted = np.maximum(x.astype(float) @ w.astype(float).T + bias + residual, 0)
                np.testing.assert_array_equal(np.moveaxis(out, axis, -1), wanted)


@pytest.mark.parametrize("at_end", [True, False])
def test_staged_and_scattered(exact: Any, at_end: bool) -> None:
    """Strides that go through a tile on the way in and on the way out."""
    x, w = exact(37, 2, 21), exact(19, 21)
    padded = flush(x, at_end)
    out = flush(np.zeros((37, 19, 2), np.float32), at_end)
    for view, axis in [(padded[::2, 1], -1), (padded[::-3, 0], -1), (padded[:, 1].T, 0)]:
        layer = Conv1x1(w, channel_axis=axis)
        target = out[: max(view.shape[0], 1), :, 1] if axis == -1 else out[:, :, 0].T
        layer(view, out=target)
        wanted = np.moveaxis(view, axis, -1).astype(float) @ w.astype(float).T
        np.testing.assert_array_equal(np.moveaxis(target, axis, -1), wanted)
