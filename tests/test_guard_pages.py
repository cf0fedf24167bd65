"""No byte outside the elements is read or written: every array lies flush against a page that cannot be touched.

At its end and at its beginning, for every kernel, type of pixels and of results, layout and tail. The inputs come out
as they went in, of the result nothing is left of the NaN (or the number) that it was filled with, and the NaN between
rows is still there afterwards and nowhere else.
"""

from __future__ import annotations

import ctypes
import importlib.util
import mmap
from itertools import cycle, product
from typing import Any

import numpy as np
import pytest
from numpy.lib.stride_tricks import as_strided

from conv1x1 import Conv1x1, QConv1x1, _conv1x1, conv1x1, conv1x1_integer, qlinear_conv1x1
from conv1x1.runtime import restricted

KERNELS = {k["name"]: k for k in _conv1x1.kernels() if k["supported"]}
PAGE = mmap.PAGESIZE
PROT_NONE = 0
LIBC: Any = ctypes.CDLL(None, use_errno=True)

PIXELS = ["float32", "float64", "float16", "bool", "uint8", "int8", "uint16", "int16", "int32", ">i2", ">f4", ">f8"]
PIXELS += ["uint32", "int64", "uint64", ">i8"]
RESULTS = ["float32", "float64", "float16", "uint8", "int8", "uint16", "int16", "int32", "int64", ">u2", ">f4", ">f8"]
if importlib.util.find_spec("ml_dtypes"):
    importlib.import_module("ml_dtypes")  # which teaches NumPy the name
    PIXELS.append("bfloat16")
    RESULTS.append("bfloat16")


def blank(dtype: Any) -> Any:
    """What no result here is."""
    return np.array(101 if np.dtype(dtype).kind in "biu" else np.nan).astype(dtype)


class Area:
    """Memory between two pages that cannot be touched, and an array at its end or its beginning."""

    def __init__(self, a: Any, at_end: bool, gap: int = 0) -> None:
        """A copy of `a`, with so many elements between one row and the next, which hold the blank."""
        *outer, last = a.shape
        row, rows = last + gap, int(np.prod(outer, dtype=int))
        size = max((row * rows - gap) * a.itemsize, 0)
        pages = -(-size // PAGE)
        self.memory = mmap.mmap(-1, (pages + 2) * PAGE)
        address = ctypes.addressof(ctypes.c_char.from_buffer(self.memory))
        for guard in (0, pages + 1):
            where = ctypes.c_void_p(address + guard * PAGE)
            assert LIBC.mprotect(where, ctypes.c_size_t(PAGE), PROT_NONE) == 0
        start = (pages + 1) * PAGE - size if at_end else PAGE
        self.all = np.ndarray(size // a.itemsize, a.dtype, self.memory, start)
        self.all[...] = blank(a.dtype)
        strides = [a.itemsize * row * int(np.prod(outer[i + 1 :], dtype=int)) for i in range(len(outer))]
        self.array: Any = np.ndarray(a.shape, a.dtype, self.memory, start, (*strides, a.itemsize))
        self.array[...] = a

    def untouched_between_rows(self) -> bool:
        if self.array.size == self.all.size:
            return True
        inside = np.zeros(self.all.shape, bool)
        as_strided(inside, self.array.shape, [s // self.all.itemsize for s in self.array.strides])[...] = True
        between = self.all[~inside]
        return between.tobytes() == np.full(between.shape, blank(between.dtype)).tobytes()


class Fence:
    """Arrays flush against such pages; `intact` says whether those that were only to be read are as they were."""

    def __init__(self, at_end: bool, gap: int = 0) -> None:
        self.at_end, self.gap = at_end, gap
        self.areas: list[tuple[Area, bytes | None]] = []

    def read(self, a: Any) -> Any:
        area = Area(a, self.at_end, self.gap if a.ndim > 1 else 0)
        self.areas.append((area, area.all.tobytes()))
        return area.array

    def packed(self, a: Any) -> Any:
        """One that is taken as it is only without gaps."""
        area = Area(a, self.at_end)
        self.areas.append((area, area.all.tobytes()))
        return area.array

    def write(self, shape: Any, dtype: Any) -> Any:
        area = Area(np.full(shape, blank(dtype)), self.at_end, self.gap)
        self.areas.append((area, None))
        return area.array

    def intact(self) -> bool:
        return all(
            area.untouched_between_rows() if before is None else area.all.tobytes() == before
            for area, before in self.areas
        )


def turned(a: Any, axis: int) -> Any:
    """A matrix (pixels, channels) with its channels on this axis."""
    return np.ascontiguousarray(np.moveaxis(a, -1, axis))


@pytest.fixture(params=[False, True], ids=["at the beginning", "at the end"])
def at_end(request: pytest.FixtureRequest) -> bool:
    return bool(request.param)


@pytest.mark.parametrize("name", KERNELS)
def test_every_kernel(exact: Any, name: str, at_end: bool) -> None:
    """By the function, which reads the caller's own weights and bias, and by a layer; rows with and without gaps."""
    kernel = KERNELS[name]
    sums = kernel["dtype"]
    few = {"few_filters": [(33, 1), (50, 3), (48, 4)], "few_channels": [(1, 1), (3, 3), (3, 4), (4, 2)]}
    few["few_filters_lanes"] = few["few_filters"]
    lanes, rows = kernel["lanes"], kernel["rows"]
    channels_and_filters = few.get(
        kernel["method"],
        [(1, lanes), (3, lanes - 1), (4, lanes), (17, lanes + 1), (5, 2 * lanes + 3), (40, rows + 1), (6, 1)],
    )
    pixel_types = ["uint8", "int8", "bool"] if sums == "int32" else [sums]
    orientations = [None] if name.endswith("_lanes") else [None, "pixels_as_rows"]
    orientations += [] if "_i8_" in name and not name.endswith("_lanes") else ["pixels_as_lanes"]
    chosen, gaps = set(), cycle([0, 3, 0])
    pixel_counts = [1, rows + 1, lanes + 3] if at_end else [lanes + 3]  # tails are at the end
    for (channels, filters), pixels, axis, x_type in product(channels_and_filters, pixel_counts, [-1, 0], pixel_types):
        fence = Fence(at_end, next(gaps))
        x, residual = exact(pixels, channels, dtype=x_type), exact(pixels, filters, dtype=sums, seed=1)
        w = exact(filters, channels, dtype="int8" if sums == "int32" else sums)
        bias = exact(filters, dtype=sums)
        plain = x.astype(float) @ w.astype(float).T + bias
        adds = sums != "int32"  # those kernels add no residual
        plain, clamped = (turned(a, axis) for a in (plain, np.maximum(plain + residual if adds else plain, 0)))
        x, residual = fence.read(turned(x, axis)), fence.read(turned(residual, axis)) if adds else None
        w, bias, out = fence.packed(w), fence.packed(bias), fence.write(plain.shape, sums)
        layer = Conv1x1(w, bias, channel_axis=axis, activation="relu")
        for orientation in orientations:
            with restricted(kernel=name, orientation=orientation):
                chosen.add(layer.plan(x)["kernel"])
                layer(x, residual=residual, out=out)
                np.testing.assert_array_equal(out, clamped)
                out[...] = blank(sums)
        with restricted(kernel=name):
            conv1x1(x, w, bias, channel_axis=axis, out=out)
            np.testing.assert_array_equal(out, plain)
        assert fence.intact()
    assert name in chosen


@pytest.mark.drawn
@pytest.mark.parametrize("name", [name for name, k in KERNELS.items() if k["dtype"] == "int32"])
@pytest.mark.parametrize("x_type", [np.uint8, np.int8])
def test_every_kernel_of_quantised_layers(name: str, x_type: Any, at_end: bool) -> None:
    """Their results are stored as bytes, or as sums."""
    random, lanes, rows = np.random.default_rng(7), KERNELS[name]["lanes"], KERNELS[name]["rows"]
    chosen = set()
    types, gaps = cycle([(w, y) for w in (np.uint8, np.int8) for y in (np.uint8, np.int8)]), cycle([0, 5, 0])
    for channels, filters in [(1, 1), (3, lanes - 1), (5, 2), (17, lanes + 1), (40, rows + 1), (6, 2 * lanes + 3)]:
        for pixels, axis in product([1, rows + 1, lanes + 3] if at_end else [lanes + 3], [-1, 0]):
            fence, (w_type, y_type) = Fence(at_end, next(gaps)), next(types)
            info = np.iinfo(y_type)
            # Quads take weights that fit int8 less their zero point: some do, whatever is drawn.
            least = -125 if w_type is np.int8 and channels <= 5 else np.iinfo(w_type).min
            x = random.integers(np.iinfo(x_type).min, np.iinfo(x_type).max, (pixels, channels), x_type, endpoint=True)
            w = random.integers(least, np.iinfo(w_type).max, (filters, channels), w_type, endpoint=True)
            bias = random.integers(-999, 999, filters).astype(np.int32)
            scales = random.choice([0.5, 0.25, 0.01], filters)
            products = (x.astype(np.int64) - 9) @ (w.astype(np.int64) - 3).T
            scaled = (products + bias).astype(np.float32) * (scales.astype(np.float32) / np.float32(8))
            wanted = (np.rint(np.clip(scaled, info.min - 77, info.max - 77)) + 77).astype(y_type)
            x = fence.read(turned(x, axis))
            made = (fence.packed(w), fence.packed(scales), w_type(3), 8, y_type(77), fence.packed(bias))
            of_x, of_w = {"x_scale": 1, "x_zero_point": x_type(9)}, {"w_scale": made[1], "w_zero_point": made[2]}
            layer = QConv1x1(made[0], made[5], **of_x, **of_w, y_scale=8, y_zero_point=made[4], channel_axis=axis)
            shape = turned(wanted, axis).shape
            out, sums = fence.write(shape, y_type), fence.write(shape, np.int32)
            for orientation in (None, "pixels_as_rows", "pixels_as_lanes"):
                with restricted(kernel=name, orientation=orientation):
                    chosen.add(layer.plan(x)["kernel"])
                    out[...], sums[...] = blank(y_type), blank(np.int32)
                    layer(x, out=out)
                    np.testing.assert_array_equal(np.moveaxis(out, axis, -1), wanted)
                    conv1x1_integer(x, made[0], x_type(9), w_type(3), channel_axis=axis, out=sums)
                    np.testing.assert_array_equal(np.moveaxis(sums, axis, -1), products)
            out[...] = blank(y_type)
            qlinear_conv1x1(x, 1, x_type(9), *made, channel_axis=axis, out=out)
            np.testing.assert_array_equal(np.moveaxis(out, axis, -1), wanted)
            assert fence.intact()
    assert name in chosen


@pytest.mark.parametrize("x_type", PIXELS)
def test_every_type_staged_and_scattered(exact: Any, isa: str, x_type: str, at_end: bool) -> None:
    """Strides that go through a tile on the way in and on the way out, and conversions on both; small sums."""
    fence = Fence(at_end)
    x = fence.read(np.abs(exact(37, 2, 21, most=1)).astype(x_type))
    w = np.abs(exact(19, 21, most=1)).astype(np.int8)
    for number, y_type in enumerate(RESULTS):
        out = fence.write((37, 19, 2), y_type)
        added = fence.read(np.abs(exact(37, 19, 2, most=3)).astype(y_type))
        for view, axis in [(x[::2, 1], -1), (x[::-3, 0], -1), (x[:, 1].T, 0)]:
            layer = Conv1x1(w if number % 2 else w.astype(np.float32), channel_axis=axis)
            n = len(view)
            target, residual = (a[:n, :, 1] if axis == -1 else a[:, :, 0].T for a in (out, added))
            layer(view, residual=residual, out=target)
            wanted = np.moveaxis(view, axis, -1).astype(float) @ w.astype(float).T
            wanted = np.moveaxis(wanted, -1, axis) + residual.astype(float)
            np.testing.assert_array_equal(target.astype(float), wanted, err_msg=y_type)
    assert fence.intact()


@pytest.mark.parametrize("x_type", PIXELS)
def test_every_type_less_a_center(exact: Any, isa: str, x_type: str, at_end: bool) -> None:
    """Converted in rows as they lie, turned or gathered, with short pixels several at a time."""
    for (channels, filters), pixels, axis in product([(1, 3), (3, 4), (21, 9), (40, 2)], [5, 37], [-1, 0]):
        for gap, step in [(0, 1), (3, 1), (0, -2)]:
            fence = Fence(at_end, gap)
            x = fence.read(turned(np.abs(exact(pixels, channels, most=1)).astype(x_type), axis))[::step, ::step]
            channels_left = x.shape[axis]
            w, center = exact(filters, channels_left), fence.packed(exact(channels_left, seed=3))
            wanted = (np.moveaxis(x, axis, -1).astype(float) - center) @ w.T.astype(float)
            out = fence.write(turned(wanted, axis).shape, "float32")
            Conv1x1(w, center=center, channel_axis=axis)(x, out=out)
            np.testing.assert_array_equal(np.moveaxis(out, axis, -1), wanted)
            assert fence.intact()


@pytest.mark.parametrize("x_type", PIXELS)
def test_every_type_of_colour_pixels(exact: Any, isa: str, x_type: str, at_end: bool) -> None:
    """Few channels and few filters, contiguous, around the blocks they are taken apart in."""
    pixel_counts = [5, 513] if at_end else [129]
    for (channels, filters), pixels, y_type in product([(3, 1), (1, 3), (3, 4), (4, 2)], pixel_counts, RESULTS):
        fence = Fence(at_end)
        x = fence.read(np.abs(exact(pixels, channels, most=1)).astype(x_type))
        w = fence.packed(np.abs(exact(filters, channels, most=1)))
        out = fence.write((pixels, filters), y_type)
        conv1x1(x, w, out=out)
        np.testing.assert_array_equal(out.astype(float), x.astype(float) @ w.T.astype(float), err_msg=y_type)
        assert fence.intact()


@pytest.mark.parametrize("w_type", PIXELS)
def test_every_type_of_weights_and_bias(exact: Any, isa: str, w_type: str, at_end: bool) -> None:
    for x_type, (filters, channels) in product(["float32", "float64", "uint8"], [(1, 33), (19, 21), (4, 3)]):
        fence = Fence(at_end)
        x = fence.read(np.abs(exact(7, channels, most=1)).astype(x_type))
        w = fence.packed(np.abs(exact(filters, channels, most=1)).astype(w_type))
        bias = fence.packed(np.abs(exact(filters, most=1)).astype(w_type))
        y = conv1x1(x, w, bias)
        np.testing.assert_array_equal(y, x.astype(float) @ w.T.astype(float) + bias.astype(float))
        assert fence.intact()


@pytest.mark.parametrize("x_type", ["c8", "c16", ">c8", "f4"])
@pytest.mark.parametrize("w_type", ["c8", "f8"])
def test_complex_numbers(exact: Any, isa: str, x_type: str, w_type: str, at_end: bool) -> None:
    """Channels in pairs, which are taken apart and put together, and pixels in halves."""

    def numbers(*shape: int, dtype: str, seed: int) -> Any:
        a = exact(*shape, most=3, seed=seed)
        return (a + 1j * exact(*shape, most=3, seed=seed + 1) if "c" in dtype else a).astype(dtype)

    gaps, types = cycle([0, 3, 0]), cycle(["c8", "c16", ">c8"])
    for (channels, filters), pixels, axis in product([(1, 1), (3, 2), (17, 5), (33, 2), (33, 1)], [1, 9, 40], [-1, 0]):
        fence, y_type = Fence(at_end, next(gaps)), next(types)
        x, w = numbers(pixels, channels, dtype=x_type, seed=1), numbers(filters, channels, dtype=w_type, seed=3)
        bias, residual = numbers(filters, dtype="c8", seed=5), numbers(pixels, filters, dtype=y_type, seed=7)
        wanted = x.astype(complex) @ w.astype(complex).T + bias + residual
        x, residual, wanted = (turned(a, axis) for a in (x, residual, wanted))
        x, residual, out = fence.read(x), fence.read(residual), fence.write(wanted.shape, y_type)
        layer = Conv1x1(w, bias, channel_axis=axis)
        for orientation in (None, "pixels_as_rows", "pixels_as_lanes"):
            with restricted(isa=isa, orientation=orientation):
                layer(x, residual=residual, out=out)
            np.testing.assert_array_equal(out, wanted)
            out[...] = blank(y_type)
        layer(x, residual=residual, out=out)
        assert fence.intact()


@pytest.mark.parametrize(("x_type", "y_type"), [("f4", "f4"), ("f4", "f8"), ("f8", "f4")])
@pytest.mark.parametrize("orientation", ["pixels_as_rows", "pixels_as_lanes"])
def test_moves(exact: Any, isa: str, orientation: str, x_type: str, y_type: str, at_end: bool) -> None:
    """Staged or in place, turned or not, every pixel or some: the last one that counts is the last there is."""
    with restricted(isa=isa, orientation=orientation):
        for pixels, channels, step in product([1, 8, 9, 33], [1, 17], [1, 3]):
            x = exact((pixels - 1) * step + 1, channels, dtype=x_type)
            w, residual = exact(5, channels, dtype=x_type), exact(pixels, 5, dtype=y_type)
            wanted = x[::step] @ w.T + residual
            for x_first, y_first, axis in product([False, True], [False, True], [-1, 0]):
                fence = Fence(at_end)
                data = fence.read(turned(x, 0)).T if x_first else fence.read(x)
                added = fence.read(turned(residual, 0)).T if y_first else fence.read(residual)
                out = fence.write((5, pixels), y_type).T if y_first else fence.write((pixels, 5), y_type)
                layer = Conv1x1(w, channel_axis=axis, stride=step)
                here, more, y = (data, added, out) if axis else (data.T, added.T, out.T)
                layer(here, residual=more, out=y)
                np.testing.assert_array_equal(out, wanted)
                assert fence.intact()
