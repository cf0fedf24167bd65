"""Every kernel at its own edges, on every way a pixel may take; around a result nothing is written."""

from __future__ import annotations

from itertools import cycle, product
from typing import Any

import numpy as np
import pytest

from conv1x1 import Conv1x1, _conv1x1, conv1x1
from conv1x1.runtime import restricted

KERNELS = {k["name"]: k for k in _conv1x1.kernels() if k["supported"]}
CHAIN = [name for name, k in KERNELS.items() if k["method"] == "multiply"]
#: Every kernel of rows × lanes in every orientation it has: quads of channels come in one for each.
WAYS = [
    (name, orientation)
    for name, orientation in product(CHAIN, ["pixels_as_rows", "pixels_as_lanes"])
    if "_i8_" not in name or name.endswith("_lanes") == (orientation == "pixels_as_lanes")
]
FEW = [name for name, k in KERNELS.items() if k["method"] == "few_filters"]
FEW_LANES = [name for name, k in KERNELS.items() if k["method"] == "few_filters_lanes"]


def blank(shape: Any, dtype: Any, **options: Any) -> Any:
    """An array of what is no result here: NaN, or for integers a number."""
    return np.full(shape, np.nan if np.dtype(dtype).kind == "f" else 101, dtype, **options)


def is_blank(a: Any) -> Any:
    return np.isnan(a) if a.dtype.kind == "f" else a == 101


def guarded(a: Any) -> Any:
    """A copy of a matrix inside a larger blank one."""
    guard = blank([n + 2 for n in a.shape], a.dtype)
    inside = guard[1:-1, 1:-1]
    inside[...] = a
    return inside


def assert_clean(out: Any) -> None:
    """Nothing around `out` was written; for floats, all of it was (a sum of integers may be the blank)."""
    assert out.dtype.kind != "f" or not is_blank(out).any()
    assert is_blank(out.base).sum() == out.base.size - out.size + is_blank(out).sum()


def expected(x: Any, w: Any, bias: Any = None, residual: Any = None, clip: tuple[float, float] | None = None) -> Any:
    y = x.astype(np.float64) @ w.astype(np.float64).T
    y = y if bias is None else y + bias
    y = y if residual is None else y + residual
    return y if clip is None else np.clip(y, *clip)


class Tile:
    """One convolution in place, with its arrays set in NaN; of a kernel for integers, with its pixels of `x_type`."""

    def __init__(self, exact: Any, dtype: Any, first: bool, x_type: str = "uint8") -> None:
        self.exact, self.dtype, self.first = exact, dtype, first
        self.x_type, self.w_type = (x_type, "int8") if dtype == "int32" else (dtype, dtype)

    def turned(self, a: Any) -> Any:
        return guarded(np.ascontiguousarray(a.T) if self.first else a)

    def check(self, pixels: int, channels: int, filters: int, epilogue: int = 0) -> dict[str, Any]:
        """Multiply, with bias, residual and clamp as the bits of `epilogue` say; the plan comes back.

        Kernels for integers add no residual.
        """
        epilogue &= 5 if self.dtype == "int32" else 7
        x, w = self.exact(pixels, channels, dtype=self.x_type), self.exact(filters, channels, dtype=self.w_type)
        bias = self.exact(filters, dtype=self.dtype) if epilogue & 1 else None
        residual = self.exact(pixels, filters, dtype=self.dtype, seed=1) if epilogue & 2 else None
        clip = (-5.0, 17.0) if epilogue & 4 else None
        layer = Conv1x1(w, bias, channel_axis=0 if self.first else -1, activation=clip and ("clip", *clip))
        data, out = self.turned(x), self.turned(blank((pixels, filters), self.dtype))
        layer(data, residual=None if residual is None else self.turned(residual), out=out)
        assert_clean(out)
        what = f"{self.x_type}, {pixels} · {channels} → {filters}, epilogue {epilogue}"
        np.testing.assert_array_equal(out.T if self.first else out, expected(x, w, bias, residual, clip), what)
        plan = layer.plan(data)
        assert (plan["arithmetic"], plan["dtype"]) == (self.dtype, self.dtype)
        return plan


# ------------------------------------------------------------------------------------------ at the tile edges


@pytest.mark.parametrize(("name", "orientation"), WAYS)
def test_tile_edges(exact: Any, name: str, orientation: str) -> None:
    """Rows and lanes one below, at and one above the tile, twice it and beyond, in prime numbers too."""
    kernel, first = KERNELS[name], orientation == "pixels_as_lanes"
    rows, lanes = kernel["rows"], kernel["lanes"]
    some_rows = sorted({1, 2, max(rows - 1, 1), rows, rows + 1, 2 * rows + 1, 3 * rows - 1, 29})
    some_lanes = sorted({1, max(lanes - 1, 1), lanes, lanes + 1, 2 * lanes, 2 * lanes + 3, 31})
    channels = cycle([1, 2, 3, 15, 16, 17, 31, 0, 4, 5, 8])
    x_types = cycle(["uint8", "int8", "uint8"])
    quads_of = "int8" if kernel["isa"] == "neondot" else "uint8"
    with restricted(kernel=name, orientation=orientation):
        for (r, v), c, epilogue in zip(product(some_rows, some_lanes), channels, cycle(range(7)), strict=False):
            tile = Tile(exact, kernel["dtype"], first, next(x_types))
            plan = tile.check(v if first else r, c, r if first else v, epilogue)
            assert (plan["kernel"], plan["orientation"], plan["order"]) == (name, orientation, "chain")
            in_place = kernel["dtype"] != "int32" or (
                "_i8_" in name and not first and tile.x_type == quads_of and c % 4 == 0
            )
            assert plan["stages_x"] == (not in_place)
            assert not plan["scratches_y"]


@pytest.mark.parametrize(("name", "orientation"), WAYS)
def test_bias_residual_and_clamp(exact: Any, name: str, orientation: str) -> None:
    kernel, first = KERNELS[name], orientation == "pixels_as_lanes"
    r, v = kernel["rows"] + 3, kernel["lanes"] + 5
    with restricted(kernel=name, orientation=orientation):
        for x_type in ("uint8", "int8")[: 2 if kernel["dtype"] == "int32" else 1]:
            tile = Tile(exact, kernel["dtype"], first, x_type)
            for epilogue in range(8):
                tile.check(v if first else r, 33, max(r, 5) if first else v, epilogue)


@pytest.mark.parametrize("name", [name for name, orientation in WAYS if orientation == "pixels_as_lanes"])
def test_long_rows_of_pixels(exact: Any, name: str) -> None:
    """More pixels than the filters pass over together, channels first, in lengths that divide by nothing."""
    with restricted(kernel=name, orientation="pixels_as_lanes"):
        for pixels, channels, filters in [(4099, 5, 7), (5003, 40, 19), (701, 301, 9)]:
            Tile(exact, KERNELS[name]["dtype"], first=True).check(pixels, channels, filters, epilogue=7)


@pytest.mark.parametrize("name", FEW)
@pytest.mark.parametrize("filters", [1, 2, 3, 4])
def test_few_filters(exact: Any, name: str, filters: int) -> None:
    tile = Tile(exact, KERNELS[name]["dtype"], first=False)
    with restricted(kernel=name):
        for n, (channels, pixels) in enumerate(product([*range(32, 50), 97, 192], [1, 2, 3, 7, 8, 9, 17])):
            plan = tile.check(pixels, channels, filters, epilogue=n % 8)
            assert (plan["kernel"], plan["order"]) == (name, "lanes")


@pytest.mark.parametrize("name", [name for name, k in KERNELS.items() if k["method"] == "few_channels"])
def test_few_channels(exact: Any, name: str) -> None:
    """Every pair of counts, at the edges of the blocks of pixels it takes apart."""
    dtype = KERNELS[name]["dtype"]
    with restricted(kernel=name):
        for (channels, filters), pixels, biased in product(
            product(range(1, 5), repeat=2), [2, 7, 16, 127, 128, 129, 385], [False, True]
        ):
            x, w = exact(pixels, channels, dtype=dtype), exact(filters, channels, dtype=dtype)
            bias = exact(filters, dtype=dtype) if biased else None
            guard = np.full((pixels + 2, filters), np.nan, dtype)
            layer = Conv1x1(w, bias)
            assert layer.plan(x)["kernel"] == name
            layer(x, out=guard[1:-1])
            np.testing.assert_array_equal(guard[1:-1], expected(x, w, bias))
            assert np.isnan(guard[[0, -1]]).all()


@pytest.mark.parametrize("name", [name for name, k in KERNELS.items() if k["method"] == "few_channels"])
def test_one_filter_over_planes(exact: Any, name: str) -> None:
    """Channels first, at the edges of the stretches it takes at a time; bias, residual and activation too."""
    tile = Tile(exact, KERNELS[name]["dtype"], first=True)
    with restricted(kernel=name):
        for channels, pixels, epilogue in product(range(1, 5), [64, 77, 1023, 1024, 1025, 2500], range(8)):
            assert tile.check(pixels, channels, 1, epilogue)["kernel"] == name


@pytest.mark.parametrize("name", FEW_LANES)
@pytest.mark.parametrize("filters", [1, 2, 3, 4])
def test_few_filters_with_pixels_as_lanes(exact: Any, name: str, filters: int) -> None:
    """Channels first, at the edges of vectors and of strips of pixels, and of the channels taken at a time."""
    tile = Tile(exact, KERNELS[name]["dtype"], first=True)
    strip = 24576 // (16 * filters * np.dtype(KERNELS[name]["dtype"]).itemsize)
    pixel_counts = [2, 15, 16, 17, 33, strip - 1, strip, strip + 1, 2 * strip + 5]
    with restricted(kernel=name):
        for n, (pixels, channels) in enumerate(product(pixel_counts, [32, 33, 47, 48, 49, 64, 65, 79, 80, 131])):
            plan = tile.check(pixels, channels, filters, epilogue=n % 8)
            assert (plan["kernel"], plan["order"], plan["orientation"]) == (name, "lanes", "pixels_as_lanes")


# -------------------------------------------------------------------------------------------- on every path


def laid_out(a: Any, form: str) -> Any:
    """The (pixels, channels) matrix `a` as a view of memory that lies otherwise."""
    pixels, channels = a.shape
    if form == "channels last":
        return a.copy()
    if form == "channels first":
        return np.asfortranarray(a)
    if form == "both odd":
        memory = blank((2 * pixels, 3 * channels), a.dtype)
        memory[::2, ::3] = a
        return memory[::2, ::3]
    if form == "pages apart":
        memory = blank((channels, max(pixels, 4096 // a.itemsize)), a.dtype)
        memory[:, :pixels] = a.T
        return memory[:, :pixels].T
    if form == "short runs":  # pairs of pixels: (pixels / 2, 2, channels), not to be merged
        memory = blank((pixels // 2, 3, channels), a.dtype)
        memory[:, :2] = a.reshape(-1, 2, channels)
        return memory[:, :2]
    if form == "short runs, channels first":
        memory = blank((channels, pixels // 2, 3), a.dtype)
        memory[..., :2] = a.T.reshape(channels, -1, 2)
        return memory[..., :2].transpose(1, 2, 0)
    raise ValueError(form)


X_FORMS = ["channels last", "channels first", "both odd", "pages apart", "short runs", "short runs, channels first"]
Y_FORMS = ["channels last", "channels first", "both odd", "short runs", "short runs, channels first"]


def as_pairs(a: Any) -> Any:
    """(pixels, channels) as (pixels / 2, 2, channels), in place."""
    if a.ndim == 3:
        return a
    pixels, channels = a.shape
    return np.lib.stride_tricks.as_strided(a, (pixels // 2, 2, channels), (2 * a.strides[0], *a.strides))


@pytest.mark.parametrize("orientation", ["pixels_as_rows", "pixels_as_lanes"])
@pytest.mark.parametrize("filters", [3, 20])
@pytest.mark.parametrize(
    ("x_type", "y_type"),
    [*product(["float32", "float64"], repeat=2), ("uint8", "int32"), ("int8", "float32"), ("float16", "int16")],
)
def test_every_path(exact: Any, isa: str, orientation: str, filters: int, x_type: str, y_type: str) -> None:
    """In place, staged, through scratch and both, for either orientation and order; in float and integer sums."""
    x, w, bias = exact(46, 37, dtype=x_type), exact(filters, 37), exact(filters)
    if x_type in ("uint8", "int8"):
        w, bias = w.astype(np.int8), bias.astype(np.int32)
    residual = exact(46, filters, dtype=y_type, seed=1)
    with restricted(isa=isa, orientation=orientation):
        for x_form, y_form, adds, clip in product(X_FORMS, Y_FORMS, [False, True], [None, (0.0, np.inf)]):
            data = as_pairs(laid_out(x, x_form))
            out = as_pairs(laid_out(blank((46, filters), y_type), y_form))
            layer = Conv1x1(w, bias, activation=clip and "relu")
            layer(data, residual=residual.reshape(out.shape) if adds else None, out=out)
            y = expected(x, w, bias, residual if adds else None, clip)
            np.testing.assert_array_equal(out.reshape(46, filters), y, err_msg=f"{x_form}, {y_form}")


@pytest.mark.parametrize(
    ("axis", "form", "orientation", "stages_x", "scratches_y"),
    [
        (-1, "channels last", "pixels_as_rows", False, False),
        (-1, "channels first", "pixels_as_rows", False, False),
        (-1, "pages apart", "pixels_as_rows", True, False),
        (-1, "short runs", "pixels_as_rows", True, False),
        (0, "channels first", "pixels_as_rows", False, True),
        (0, "pages apart", "pixels_as_rows", True, True),
        (0, "channels first", "pixels_as_lanes", False, False),
        (0, "channels last", "pixels_as_lanes", True, False),
        (0, "both odd", "pixels_as_lanes", True, False),
        (0, "short runs, channels first", "pixels_as_lanes", True, False),
        (-1, "channels first", "pixels_as_lanes", False, True),
        (-1, "channels last", "pixels_as_lanes", True, True),
    ],
)
def test_the_path_is_the_one_meant(
    exact: Any, isa: str, axis: int, form: str, orientation: str, stages_x: bool, scratches_y: bool
) -> None:
    """What `test_every_path` relies on: these layouts lead to these paths, for results in C order."""
    x, w, bias = exact(46, 37), exact(20, 37), exact(20)
    data = np.moveaxis(as_pairs(laid_out(x, form)), -1, axis)
    with restricted(isa=isa, orientation=orientation):
        layer = Conv1x1(w, bias, channel_axis=axis)
        out = blank(layer(data).shape, np.float32)
        plan = layer._plan(data, None, out, None)
        assert (plan["orientation"], plan["stages_x"], plan["scratches_y"]) == (orientation, stages_x, scratches_y)
        layer(data, out=out)
        np.testing.assert_array_equal(np.moveaxis(out, axis, -1).reshape(46, 20), expected(x, w, bias))


def test_a_type_that_is_not_the_arithmetics_goes_through_a_tile(exact: Any, isa: str) -> None:
    w = exact(20, 37)
    for dtype, result, staged, scratched in [("f4", "f8", True, False), ("f8", "f4", False, True)]:
        layer = Conv1x1(w, dtype=result)
        plan = layer.plan(exact(46, 37, dtype=dtype))
        assert (plan["stages_x"], plan["scratches_y"]) == (staged, scratched)


@pytest.mark.parametrize("form", ["channels last", "channels first", "both odd"])
@pytest.mark.parametrize("orientation", ["pixels_as_rows", "pixels_as_lanes"])
@pytest.mark.parametrize("dtype", ["float32", "float64"])
def test_blocks_of_channels(exact: Any, isa: str, dtype: str, orientation: str, form: str) -> None:
    """So many channels that the sums are left in y, or in scratch, and resumed."""
    pixels, channels, filters = 9, 80_009, 6  # more than two blocks fit a second-level cache of any size
    limits = (-300.0, 500.0)
    x, w = exact(pixels, channels, dtype=dtype, most=2), exact(filters, channels, dtype=dtype, most=2)
    bias, residual = exact(filters), exact(pixels, filters, dtype=dtype, seed=1)
    sums = expected(x, w)
    data = laid_out(x, form)
    y = np.clip(sums + bias + residual, *limits)
    with restricted(isa=isa, orientation=orientation):
        for axis, order in product([-1, 0], "CF"):
            plain = Conv1x1(w, channel_axis=axis)
            layer = Conv1x1(w, bias, channel_axis=axis, activation=("clip", *limits))
            out = np.full((pixels, filters), np.nan, dtype, order=order)
            a, target, added = (v.T if axis == 0 else v for v in (data, out, residual))
            assert layer._plan(a, None, np.empty(target.shape, dtype), None)["channel_block"] < channels
            plain(a, out=target)
            np.testing.assert_array_equal(out, sums)
            layer(a, residual=added, out=target)
            np.testing.assert_array_equal(out, y)
    assert np.unique(y).size > 20  # the limits have not flattened everything


@pytest.mark.parametrize("dtype", ["float32", "float64"])
def test_chunks_of_filters_through_scratch(exact: Any, isa: str, dtype: str) -> None:
    pixels, channels, filters = 1100, 3, 400
    x, w, bias = exact(pixels, channels, dtype=np.float64), exact(filters, channels), exact(filters)
    y = expected(x, w, bias)
    layer = Conv1x1(w, bias, activation=("leaky_relu", 0.5), dtype=np.float32)
    plan = layer.plan(x)
    assert plan["scratches_y"]
    assert plan["chunk_filters"] < filters
    assert plan["tiles"] > 1
    np.testing.assert_array_equal(layer(x), np.where(y < 0, y / 2, y))
    out = np.full((pixels, 2 * filters), np.nan, dtype)
    conv1x1(x.astype(dtype), w, bias, activation=("leaky_relu", 0.5), out=out[:, ::2])
    np.testing.assert_array_equal(out[:, ::2], np.where(y < 0, y / 2, y))
    assert np.isnan(out[:, 1::2]).all()


@pytest.mark.parametrize("first", [False, True])
@pytest.mark.parametrize("groups", [1, 2])
def test_chunks_of_filters_for_threads(exact: Any, isa: str, first: bool, groups: int) -> None:
    """Few pixels and many filters: the threads share out the filters."""
    pixels, channels, filters = 5, 1000, 2500
    x, w, bias = exact(pixels, channels, most=2), exact(filters, channels // groups, most=2), exact(filters)
    layer = Conv1x1(w, bias, channel_axis=0 if first else -1, groups=groups)
    data = np.ascontiguousarray(x.T) if first else x
    plan = layer.plan(data, threads=3)
    assert plan["threads"] == 3
    assert plan["chunk_filters"] < filters // groups
    parts = zip(np.split(x, groups, 1), np.split(w, groups), strict=True)
    y = np.concatenate([expected(*part) for part in parts], 1) + bias
    np.testing.assert_array_equal(layer(data, threads=3), y.T if first else y)


def test_many_tiles_and_an_odd_last_one(exact: Any, isa: str) -> None:
    x, w = exact(100, 101, 24, most=4), exact(7, 24, most=4)
    data = np.moveaxis(np.ascontiguousarray(np.moveaxis(x, -1, 1)), 1, -1)  # (100, 24, 101) in memory: rows of pixels
    layer = Conv1x1(w)
    for threads in (1, 3):
        for a in (x, data, x[:, ::-1], np.asfortranarray(x)):
            assert layer.plan(a, threads=threads)["tiles"] > 1
            np.testing.assert_array_equal(layer(a, threads=threads), np.asarray(a) @ w.T)


@pytest.mark.parametrize("groups", [2, 3, 4])
@pytest.mark.parametrize(("channels", "filters"), [(5, 7), (32, 1), (32, 4), (33, 5)])
def test_groups_in_both_orders(exact: Any, isa: str, groups: int, channels: int, filters: int) -> None:
    """Channels and filters of one group decide the order; each group finds its weights, bias and place."""
    x, w, bias = exact(43, channels * groups), exact(filters * groups, channels), exact(filters * groups)
    parts = zip(np.split(x, groups, 1), np.split(w, groups), np.split(bias, groups), strict=True)
    y = np.concatenate([expected(*part) for part in parts], 1)
    for data, axis in ((x, -1), (np.ascontiguousarray(x.T), 0)):
        layer = Conv1x1(w, bias, groups=groups, channel_axis=axis)
        assert layer.plan(data)["order"] == ("lanes" if channels >= 32 and filters <= 4 else "chain")
        np.testing.assert_array_equal(layer(data), y.T if axis == 0 else y)


@pytest.mark.parametrize("x_form", X_FORMS)
@pytest.mark.parametrize("channels", [1, 9, 40])
def test_out_type_and_layout_in_one_go(exact: Any, isa: str, x_form: str, channels: int) -> None:
    """Staging in one type and leaving scratch in another."""
    x, w = exact(46, channels), exact(5, channels)
    data = laid_out(x, x_form)
    out = np.full((5, *data.shape[:-1], 2), np.nan, np.float64)[..., 0]
    conv1x1(data, w, out=np.moveaxis(out, 0, -1))
    np.testing.assert_array_equal(np.moveaxis(out, 0, -1).reshape(46, 5), expected(x, w))


@pytest.mark.parametrize("orientation", ["pixels_as_rows", "pixels_as_lanes"])
@pytest.mark.parametrize(("x_type", "y_type"), list(product(["float32", "float64"], repeat=2)))
def test_moves_at_the_edges_of_their_blocks(exact: Any, isa: str, orientation: str, x_type: str, y_type: str) -> None:
    """Staged, turned and back, around the squares in which they are turned; every pixel and every second one."""
    w = exact(19, 33, dtype=x_type)
    with restricted(isa=isa, orientation=orientation):
        for pixels, channels, step in product([1, 7, 8, 9, 16, 17, 31, 65], [1, 8, 15, 16, 33], [1, 2, 3]):
            long = step * (pixels - 1) + 1
            x, filters = exact(long, channels, dtype=x_type), w[: channels + 2 if channels > 1 else 3, :channels]
            sums = expected(x[::step], filters)
            residual = exact(pixels, len(filters), dtype=y_type)
            for x_order, y_order, axis in product("CF", "CF", [-1, 0]):
                layer = Conv1x1(filters, channel_axis=axis, stride=step)
                data, added = np.asarray(x, order=x_order), np.asarray(residual, order=y_order)
                out = np.full(sums.shape, np.nan, y_type, order=y_order)
                turned = (lambda a: a) if axis else np.transpose
                layer(turned(data), residual=turned(added), out=turned(out))
                np.testing.assert_array_equal(out, sums + residual)
