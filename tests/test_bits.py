"""The same bits for one pixel and its weights, whatever else is different; and the order of summation, written out."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from fractions import Fraction
from typing import Any

import numpy as np
import pytest

from conv1x1 import Conv1x1, _conv1x1, conv1x1
from conv1x1.runtime import restricted

CONFIG = _conv1x1.config()
fused = pytest.mark.skipif(not CONFIG["fused"], reason="this CPU has no fused multiply-add")
KERNELS = [k for k in _conv1x1.kernels() if k["supported"]]
#: In-channels and filters of both orders, at the borders of blocks and of the rule.
SIZES = [(1, 1), (5, 3), (31, 4), (32, 4), (32, 5), (47, 1), (49, 3), (192, 2), (192, 37), (300, 9)]
ACTIVATIONS = [
    None,
    "relu",
    "relu6",
    "leaky_relu",
    "hardswish",
    "hardsigmoid",
    "sigmoid",
    "silu",
    "tanh",
    "gelu",
    ("clip", -0.7, 0.9),
]


def bits(a: Any) -> Any:
    return np.ascontiguousarray(a).view(np.int64 if a.dtype == np.float64 else np.int32)


def same_bits(a: Any, b: Any) -> None:
    assert (a.shape, a.dtype) == (b.shape, b.dtype)
    np.testing.assert_array_equal(bits(a), bits(b))


# ------------------------------------------------------------------------------------------- the definition


@pytest.fixture
def fma(rounded: Any) -> Callable[[Any, Any, Any], Any]:
    """a·b + c with one rounding, by exact arithmetic; with two on a CPU that cannot fuse them."""
    if not CONFIG["fused"]:
        return lambda a, b, c: a * b + c

    def of(a: Any, b: Any, c: Any) -> Any:
        dtype = type(c)
        return dtype(rounded(Fraction(float(a)) * Fraction(float(b)) + Fraction(float(c)), dtype))

    return of


def chain(fma: Any, x: Any, w: Any) -> Any:
    """One accumulator, from 0, the channels ascending."""
    total = x.dtype.type(0)
    for a, b in zip(w, x, strict=True):
        total = fma(a, b, total)
    return total


def lanes(fma: Any, x: Any, w: Any) -> Any:
    """Sixteen partial sums, channel c in number c mod 16; then number i takes number i + 8, i + 4, i + 2, i + 1."""
    partial = [x.dtype.type(0)] * 16
    for c, (a, b) in enumerate(zip(w, x, strict=True)):
        partial[c % 16] = fma(a, b, partial[c % 16])
    for half in (8, 4, 2, 1):
        partial = [partial[i] + partial[i + half] for i in range(half)]
    return partial[0]


@fused
def test_the_tests_own_fma_rounds_once(fma: Any) -> None:
    f = np.float32
    assert fma(f(2.0**-12), f(2.0**-12), f(1)) == 1  # a tie goes to even
    assert fma(f(2.0**-12), f(1 + 2.0**-20) * f(2.0**-12), f(1)) == f(1 + 2.0**-23)
    # 1 + 2⁻²³ + 2⁻²⁴ − 2⁻⁵⁴ lies just below the middle of two float32; float64 would take it for the middle.
    a, b, c = f(2.0**-12 * (1 + 2.0**-15)), f(2.0**-12 * (1 - 2.0**-15)), f(1 + 2.0**-23)
    assert fma(a, b, c) == c
    assert f(float(a) * float(b) + float(c)) == f(1 + 2.0**-22)


@pytest.mark.parametrize("dtype", [np.float32, np.float64])
@pytest.mark.parametrize(("channels", "filters"), SIZES)
def test_order_of_summation(normal: Any, fma: Any, isa: str, dtype: Any, channels: int, filters: int) -> None:
    x, w, bias = normal(3, channels, dtype=dtype), normal(filters, channels, dtype=dtype), normal(filters, dtype=dtype)
    residual = normal(3, filters, dtype=dtype)
    order = lanes if channels >= 32 and filters <= 4 else chain
    some = range(0, filters, max(filters // 4, 1))
    sums = np.array([[order(fma, x[p], w[k]) for k in some] for p in range(3)], dtype)
    for data, axis in ((x, -1), (np.ascontiguousarray(x.T), 0), (np.repeat(x, 2, 1)[:, ::2], -1)):
        at = (slice(None), list(some)) if axis else (list(some), slice(None))
        expected = sums if axis else sums.T
        same_bits(conv1x1(data, w, channel_axis=axis)[at], expected)
        biased = (sums + bias[some]) if axis else (sums + bias[some]).T
        same_bits(conv1x1(data, w, bias, channel_axis=axis)[at], biased)
        all_added = (sums + bias[some]) + residual[:, list(some)]
        y = conv1x1(data, w, bias, channel_axis=axis, residual=residual if axis else residual.T)[at]
        same_bits(y, all_added if axis else all_added.T)


@fused
def test_the_orders_differ(normal: Any, fma: Any) -> None:
    """Else `test_order_of_summation` would not see one taken for the other."""
    x, w = normal(40, 192), normal(192)
    assert any(chain(fma, row, w) != lanes(fma, row, w) for row in x[:10])
    wrong = [np.float32(sum((a * b for a, b in zip(row, w, strict=True)), np.float32(0))) for row in x]
    assert (conv1x1(x, np.stack([w] * 5))[:, 0] != np.array(wrong)).any()  # not a product and a sum


@pytest.mark.parametrize("groups", [2, 4])
def test_the_order_is_that_of_one_group(normal: Any, isa: str, groups: int) -> None:
    x, w = normal(29, 32 * groups), normal(4 * groups, 32)
    parts = zip(np.split(x, groups, 1), np.split(w, groups), strict=True)
    same_bits(conv1x1(x, w, groups=groups), np.concatenate([conv1x1(*part) for part in parts], 1))


# ------------------------------------------------------------------------------------ whatever is different


@pytest.mark.parametrize(("channels", "filters"), [(1, 3), (3, 3), (4, 4), (3, 1), (40, 3), (5, 9)])
@pytest.mark.parametrize("dtype", ["float32", "float64"])
def test_more_threads_than_pixels_are_worth(normal: Any, isa: str, dtype: str, channels: int, filters: int) -> None:
    """A residual and an activation would tell if a kernel did anything twice."""
    x, w = normal(30_000, channels, dtype=dtype), normal(filters, channels, dtype=dtype)
    residual = normal(30_000, filters, dtype=dtype)
    layer = Conv1x1(w, activation="leaky_relu")
    one = layer(x, residual=residual, threads=1)
    for n in (9, 64):
        same_bits(layer(x, residual=residual, threads=n), one)


@pytest.mark.parametrize(
    ("shape", "filters", "axis"),
    [
        ((70, 70, 192), 64, -1),
        ((192, 70, 70), 64, 0),
        ((150, 150, 200), 3, -1),
        ((200, 150, 150), 3, 0),
        ((4, 900), 2000, -1),
        ((3, 30011), 300, -1),
    ],
)
@pytest.mark.parametrize("form", ["C", "F"])
def test_threads(normal: Any, shape: Any, filters: int, axis: int, form: str) -> None:
    x, w, bias = np.asarray(normal(*shape), order=form), normal(filters, shape[axis]), normal(filters)
    layer = Conv1x1(w, bias, channel_axis=axis, activation="silu")
    one = np.ascontiguousarray(layer(x, threads=1))
    out = np.empty_like(one)
    for n in (2, 5):
        plan = layer._plan(x, None, out, n)
        assert plan["threads"] > 1
        assert plan["tiles"] * -(-filters // plan["chunk_filters"]) > 1
        same_bits(layer(x, threads=n), one)
        same_bits(layer(x, out=out, threads=n), one)
        same_bits(conv1x1(x, w, bias, channel_axis=axis, activation="silu", threads=n), one)


@pytest.mark.parametrize("dtype", [np.float32, np.float64])
@pytest.mark.parametrize("activation", ACTIVATIONS, ids=str)
def test_instruction_sets(normal: Any, dtype: Any, activation: Any) -> None:
    for channels, filters in SIZES:
        x, w, bias = (normal(*shape, dtype=dtype) for shape in [(53, channels), (filters, channels), (filters,)])
        for data, axis in ((x, -1), (x.T.copy(), 0)):
            layer = Conv1x1(w, bias, channel_axis=axis, activation=activation)
            results = []
            for name in CONFIG["isas_supported"]:
                with restricted(isa=name):
                    assert layer.plan(data)["isa"] == name
                    results.append(layer(data))
            for y in results[1:]:
                same_bits(y, results[0])


def views(x: Any) -> Iterator[tuple[Any, int]]:
    """The matrix (pixels, channels) as it may lie otherwise, with its channel axis."""
    yield np.ascontiguousarray(x.T), 0
    yield x.T, 0
    yield np.asfortranarray(x), -1
    yield np.repeat(np.repeat(x, 3, 0), 2, 1)[::3, ::2], 1
    yield x[::-1, ::-1].copy()[::-1, ::-1], -1
    yield x[None, :, None, :], -1
    yield np.ascontiguousarray(x.T)[:, None, :], -3
    wide = np.pad(x, ((0, 0), (0, 1024)))
    yield wide[:, : x.shape[1]], -1
    page = np.pad(x.T, ((0, 0), (0, 4096 // x.itemsize - len(x))))
    yield page[:, : len(x)].T, -1


@pytest.mark.parametrize("activation", [None, "relu6", "tanh"])
@pytest.mark.parametrize(("channels", "filters"), SIZES)
def test_layouts(normal: Any, isa: str, channels: int, filters: int, activation: Any) -> None:
    x, w, bias = normal(61, channels), normal(filters, channels), normal(filters)
    residual = normal(61, filters)
    one = conv1x1(x, w, bias, activation=activation, residual=residual)
    for view, axis in views(x):
        shape = list(view.shape)
        shape[axis] = filters
        turned = (residual.T if axis % view.ndim == 0 else residual).reshape(shape)
        y = conv1x1(view, w, bias, channel_axis=axis, activation=activation, residual=turned)
        same_bits(np.moveaxis(y, axis, -1).reshape(61, filters), one)
        out = np.empty(shape[::-1], np.float32).T
        conv1x1(view, w, bias, channel_axis=axis, activation=activation, residual=turned, out=out)
        same_bits(out, y)


@pytest.mark.parametrize("activation", [None, "leaky_relu", "sigmoid"])
@pytest.mark.parametrize(("channels", "filters"), SIZES)
@pytest.mark.parametrize("axis", [-1, 0])
def test_one_pixel_alone(normal: Any, isa: str, channels: int, filters: int, activation: Any, axis: int) -> None:
    """Its batch, its place and its neighbours do not matter; nor how many filters come after it."""
    x, w, bias = normal(67, channels), normal(filters, channels), normal(filters)
    data = x if axis else x.T.copy()
    layer = Conv1x1(w, bias, channel_axis=axis, activation=activation)
    whole = layer(data) if axis else layer(data).T
    for p in (0, 1, 15, 16, 31, 47, 65, 66):
        same_bits(conv1x1(x[p], w, bias, activation=activation), whole[p])
        same_bits(layer(data[p : p + 1] if axis else data[:, p : p + 1]).ravel(), whole[p])
    for first, last in [(0, 17), (3, 66), (50, 67)]:
        y = layer(data[first:last] if axis else data[:, first:last])
        same_bits(y if axis else y.T, whole[first:last])


@pytest.mark.parametrize("filters", [6, 7, 23, 64])
def test_one_filter_among_others(normal: Any, isa: str, filters: int) -> None:
    """In chain order a filter's results do not depend on how many there are."""
    x, w = normal(41, 100), normal(64, 100)
    same_bits(conv1x1(x, w[:filters]), np.ascontiguousarray(conv1x1(x, w)[:, :filters]))


@pytest.mark.parametrize("dtype", ["float32", "float64"])
@pytest.mark.parametrize("order", ["chain", "lanes"])
def test_kernels(normal: Any, dtype: str, order: str) -> None:
    filters = 3 if order == "lanes" else 43
    x, w, bias = normal(71, 77, dtype=dtype), normal(filters, 77, dtype=dtype), normal(filters, dtype=dtype)
    one = conv1x1(x, w, bias, activation=("clip", -3, 3))
    names = [k["name"] for k in KERNELS if k["dtype"] == dtype]
    assert len(names) > 2
    for name in names:
        for orientation in ("pixels_as_rows", "pixels_as_lanes"):
            with restricted(kernel=name, orientation=orientation):
                same_bits(conv1x1(x, w, bias, activation=("clip", -3, 3)), one)
                y = conv1x1(x.T.copy(), w, bias, channel_axis=0, activation=("clip", -3, 3))
                same_bits(y.T, one)


@pytest.mark.parametrize("dtype", ["float32", "float64"])
@pytest.mark.parametrize("orientation", ["pixels_as_rows", "pixels_as_lanes"])
def test_blocks_of_channels(normal: Any, dtype: str, orientation: str) -> None:
    """Wherever the sums are left and resumed, they come to the same."""
    x, w = normal(2, 30_011, dtype=dtype), normal(5, 30_011, dtype=dtype)
    one, blocks = conv1x1(x, w), set()
    for kernel in KERNELS:
        if (kernel["dtype"], kernel["order"]) == (dtype, "chain"):
            with restricted(kernel=kernel["name"], orientation=orientation):
                blocks.add(Conv1x1(w).plan(x)["channel_block"])
                same_bits(conv1x1(x, w), one)
                same_bits(conv1x1(x.T.copy(), w, channel_axis=0).T, one)
    assert len(blocks) > 1 or blocks == {16}  # as a nervous build has them


@pytest.mark.parametrize(("channels", "filters"), SIZES)
def test_layer_and_function(normal: Any, isa: str, channels: int, filters: int) -> None:
    x, w, bias = normal(45, channels), normal(filters, channels), normal(filters)
    one = conv1x1(x, w, bias)
    layer = Conv1x1(w, bias)
    for _ in range(2):
        same_bits(layer(x), one)
    forms = [w[..., None, None], w.T[None, None]]
    if filters > 1 or channels > 1:
        for form in forms:
            same_bits(conv1x1(x, form, bias), one)
    same_bits(conv1x1(x, w.astype(np.float64), bias.astype(np.float64)), one)


def test_groups_are_convolutions_of_their_own(normal: Any, isa: str) -> None:
    x, w = normal(33, 60), normal(27, 20)
    parts = zip(np.split(x, 3, 1), np.split(w, 3), strict=True)
    same_bits(conv1x1(x, w, groups=3), np.concatenate([conv1x1(*part) for part in parts], 1))


def test_numbers_below_the_normal_ones(normal: Any, isa: str) -> None:
    """They are not flushed to zero, on any thread."""
    x, w = normal(40_000, 64) * np.float32(1e-25), normal(8, 64) * np.float32(1e-15)
    layer = Conv1x1(w)
    assert layer.plan(x, threads=3)["threads"] == 3
    y = layer(x, threads=3)
    same_bits(y, layer(x, threads=1))
    assert ((y != 0) & (np.abs(y) < np.finfo(np.float32).tiny)).mean() > 0.9
    wide = x[:50].astype(np.float64) @ w.T.astype(np.float64)
    np.testing.assert_allclose(y[:50], wide, rtol=0, atol=70 * 2.0**-149)
