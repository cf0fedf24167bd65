"""No byte outside the elements is read or written: every array lies flush against a page that cannot be touched."""

import ctypes
import mmap
from itertools import product
from typing import Any

import numpy as np
import pytest

from conv1x1 import Conv1x1, QConv1x1, _conv1x1
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
    sums = kernel["dtype"]
    few = {"few_filters": [(33, 1), (50, 3), (48, 4)], "few_channels": [(1, 1), (3, 3), (3, 4), (4, 2)]}
    lanes, rows = kernel["lanes"], kernel["rows"]
    channels_and_filters = few.get(
        kernel["method"], [(3, lanes - 1), (4, lanes), (17, lanes + 1), (5, 2 * lanes + 3), (40, 2)]
    )
    pixel_types = ["uint8", "int8", "bool"] if sums == "int32" else [sums]
    orientations = [None] if name.endswith("_lanes") else [None, "pixels_as_rows"]
    orientations += [] if "_i8_" in name and not name.endswith("_lanes") else ["pixels_as_lanes"]
    for (channels, filters), pixels, axis, x_type in product(
        channels_and_filters, [1, rows + 1, lanes + 3], [-1, 0], pixel_types
    ):
        x, bias = exact(pixels, channels, dtype=x_type), exact(filters, dtype=sums)
        w = exact(filters, channels, dtype="int8" if sums == "int32" else sums)
        residual = exact(pixels, filters, dtype=sums, seed=1)
        turned = [np.ascontiguousarray(np.moveaxis(a, -1, axis)) for a in (x, residual, np.zeros_like(residual))]
        x_flush, residual_flush, out = (flush(a, at_end) for a in turned)
        layer = Conv1x1(flush(w, at_end), flush(bias, at_end), channel_axis=axis, activation="relu")
        for orientation in orientations:
            with restricted(kernel=name, orientation=orientation):
                out[...] = 101
                if sums == "int32":  # whose kernels add no residual
                    layer(x_flush, out=out)
                    assert kernel["name"] == layer.plan(x_flush)["kernel"]
                    wanted = np.maximum(x.astype(int) @ w.astype(int).T + bias, 0)
                else:
                    layer(x_flush, residual_flush, out)
                    wanted = np.maximum(x.astype(float) @ w.astype(float).T + bias + residual, 0)
                np.testing.assert_array_equal(np.moveaxis(out, axis, -1), wanted)


@pytest.mark.parametrize("name", [name for name, k in KERNELS.items() if k["dtype"] == "int32"])
@pytest.mark.parametrize("x_type", [np.uint8, np.int8])
@pytest.mark.parametrize("at_end", [True, False])
def test_every_kernel_of_quantized_layers(name: str, x_type: Any, at_end: bool) -> None:
    """Their results are stored as bytes."""
    random, lanes, rows = np.random.default_rng(7), KERNELS[name]["lanes"], KERNELS[name]["rows"]
    low, high = np.iinfo(x_type).min, np.iinfo(x_type).max
    chosen = set()
    for channels, filters in [(1, 1), (3, lanes - 1), (5, 2), (17, lanes + 1), (40, rows + 1), (6, 2 * lanes + 3)]:
        for pixels, axis in product([1, rows + 1, lanes + 3], [-1, 0]):
            x = random.integers(low, high, (pixels, channels), x_type, endpoint=True)
            w = random.integers(-128, 127, (filters, channels), np.int8, endpoint=True)
            bias, scales = (
                random.integers(-999, 999, filters).astype(np.int32),
                random.choice([0.5, 0.25, 0.01], filters),
            )
            layer = QConv1x1(1, x_type(9), flush(w, at_end), scales, 0, 8, np.uint8(77), bias, channel_axis=axis)
            sums = (x.astype(np.int64) - 9) @ w.T.astype(np.int64) + bias
            scaled = sums.astype(np.float32) * (scales.astype(np.float32) / np.float32(8))
            wanted = (np.rint(np.clip(scaled, -77, 178)) + 77).astype(np.uint8)
            data = flush(np.ascontiguousarray(np.moveaxis(x, -1, axis)), at_end)
            out = flush(np.zeros_like(np.moveaxis(wanted, -1, axis), order="C"), at_end)
            for orientation in (None, "pixels_as_rows", "pixels_as_lanes"):
                with restricted(kernel=name, orientation=orientation):
                    out[...] = 3
                    layer(data, out)
                    np.testing.assert_array_equal(np.moveaxis(out, axis, -1), wanted)
                    chosen.add(layer.plan(data)["kernel"])
    assert name in chosen


PIXELS = ["float32", "float64", "float16", "bool", "uint8", "int8", "uint16", "int16", "int32", ">i2", ">f4"]
RESULTS = ["float32", "float64", "float16", "uint8", "int8", "uint16", "int16", "int32", "int64", ">u2", ">f8"]


@pytest.mark.parametrize("at_end", [True, False])
@pytest.mark.parametrize("x_type", PIXELS)
def test_every_type_staged_and_scattered(exact: Any, isa: str, x_type: str, at_end: bool) -> None:
    """Strides that go through a tile on the way in and on the way out, and conversions on both; small sums."""
    x = flush(np.abs(exact(37, 2, 21, most=1)).astype(x_type), at_end)
    w = np.abs(exact(19, 21, most=1)).astype(np.int8)
    for number, y_type in enumerate(RESULTS):
        out, added = (flush(np.zeros((37, 19, 2), y_type), at_end) for _ in range(2))
        added[...] = np.abs(exact(37, 19, 2, most=3))
        for view, axis in [(x[::2, 1], -1), (x[::-3, 0], -1), (x[:, 1].T, 0)]:
            layer = Conv1x1(w if number % 2 else w.astype(np.float32), channel_axis=axis)
            n = len(view)
            target, residual = (a[:n, :, 1] if axis == -1 else a[:, :, 0].T for a in (out, added))
            layer(view, residual, target)
            wanted = np.moveaxis(view, axis, -1).astype(float) @ w.astype(float).T
            wanted = np.moveaxis(wanted, -1, axis) + residual.astype(float)
            np.testing.assert_array_equal(target, wanted, err_msg=y_type)


@pytest.mark.parametrize("at_end", [True, False])
@pytest.mark.parametrize("x_type", PIXELS)
def test_every_type_of_colour_pixels(exact: Any, isa: str, x_type: str, at_end: bool) -> None:
    """Few channels and few filters, contiguous, around the blocks they are taken apart in."""
    for (channels, filters), pixels, y_type in product([(3, 1), (1, 3), (3, 4), (4, 2)], [5, 511, 513], RESULTS):
        x = flush(np.abs(exact(pixels, channels, most=1)).astype(x_type), at_end)
        w = np.abs(exact(filters, channels, most=1))
        out = flush(np.zeros((pixels, filters), y_type), at_end)
        Conv1x1(w)(x, out=out)
        np.testing.assert_array_equal(out, x.astype(float) @ w.T.astype(float), err_msg=y_type)
