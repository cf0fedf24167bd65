"""Every type of pixels, weights, residual and result: exact conversions, exact sums, and which type comes out."""

from __future__ import annotations

import importlib.util
import pickle
from collections.abc import Iterator
from itertools import cycle, product
from typing import Any

import numpy as np
import pytest

from conv1x1 import Conv1x1, _conv1x1, conv1x1, reference
from conv1x1.reference.floats import cast
from conv1x1.runtime import restricted

ISAS = _conv1x1.config()["isas_supported"]
INTEGER_KERNELS = [k["name"] for k in _conv1x1.kernels() if k["supported"] and k["dtype"] == "int32"]
FLOATS = ["float16", "float32", "float64"]
if importlib.util.find_spec("ml_dtypes"):
    importlib.import_module("ml_dtypes")  # which teaches NumPy the name
    FLOATS.insert(1, "bfloat16")
HALVES = FLOATS[:-2]
INTEGERS = ["uint8", "int8", "uint16", "int16", "int32"]
WIDE = ["uint32", "int64", "uint64"]
PIXELS = [*FLOATS, *INTEGERS, "bool", *WIDE]
RESULTS = [*FLOATS, *INTEGERS, "int64"]


def same_bytes(a: Any, b: Any) -> None:
    assert (a.shape, a.dtype) == (b.shape, b.dtype)
    assert a.tobytes() == b.tobytes(), (np.asarray(a)[a != b][:5], np.asarray(b)[a != b][:5])


def swapped(a: Any) -> Any:
    """The same numbers in the other byte order."""
    return a.astype(a.dtype.newbyteorder())


def spread(dtype: Any, shape: Any, seed: int = 0) -> Any:
    """Numbers all over a type: of integers every one, of floats around 1."""
    random, kind = np.random.default_rng([seed, *shape]), np.dtype(dtype)
    if kind.kind == "b":
        return random.integers(0, 2, shape).astype(bool)
    if kind.kind in "iu":
        limits = np.iinfo(kind)
        return random.integers(limits.min, limits.max, shape, kind, endpoint=True)
    return random.standard_normal(shape).astype(kind)


def summable(dtype: Any, shape: Any, seed: int = 0) -> Any:
    """The same, but of integers of 64 bits such that sums with bytes are exact in float64."""
    x = spread(dtype, shape, seed)
    return x >> x.dtype.type(24) if dtype in ("int64", "uint64") else x


def views(x: Any) -> Iterator[tuple[Any, int]]:
    """The matrix (pixels, channels) as it may lie, with its channel axis."""
    yield x, -1
    yield np.ascontiguousarray(x.T), 0
    yield x.T, 0
    yield np.asfortranarray(x), -1
    yield np.repeat(np.repeat(x, 3, 0), 2, 1)[::3, ::2], 1
    yield x[::-1, ::-1].copy()[::-1, ::-1], -1
    yield np.ascontiguousarray(x.T)[:, None, :], -3


# ----------------------------------------------------------------------------------------- which type comes out

SHORT, LONG = INTEGERS[:4], [*INTEGERS[4:], *WIDE]

#: x, weights, bias, residual, activation, asked for → the type of the result; lists are spelled as lists.
RULES: list[tuple[Any, ...]] = [
    *((t, "float32", None, None, None, None, t) for t in FLOATS),  # floating pixels keep their type
    *((t, "float64", "float64", None, "tanh", None, t) for t in FLOATS),
    *((t, "int8", "int32", "int16", None, None, t) for t in FLOATS),
    ("float32", [1, 2, 3], None, None, None, None, "float32"),
    ("float32", "float32", None, "float64", None, None, "float32"),
    *((t, "float32", None, None, None, None, "float32") for t in [*SHORT, "bool"]),  # a float among integers
    *((t, "float64", None, None, None, None, "float32") for t in SHORT),
    *((t, "int8", "float32", None, None, None, "float32") for t in SHORT),
    *((t, "int8", None, "float16", None, None, "float32") for t in SHORT),
    *((t, "int8", None, None, "gelu", None, "float32") for t in SHORT),
    *((t, "float32", None, None, None, None, "float64") for t in LONG),  # as NumPy promotes them
    *((t, "float16", None, None, "relu", None, "float64") for t in LONG),
    *((t, "int8", "float32", None, None, None, "float64") for t in LONG),
    *((t, "int8", None, "float16", None, None, "float64") for t in LONG),
    *((t, "int8", None, None, "gelu", None, "float64") for t in LONG),
    *((t, w, None, None, None, y, y) for t, w, y in product(LONG, ["float64", "int8"], ["float32", "uint8", "int64"])),
    *((t, "int8", "float32", "int64", None, None, "float32") for t in SHORT),  # pixels decide, nothing else
    *((t, w, None, None, None, None, "int64") for t, w in product(LONG, ["int8", "bool", "uint16"])),
    *(("uint8", w, None, None, None, None, "int32") for w in ["bool", [True, False, True]]),
    ("uint8", "int32", "int64", None, None, None, "int32"),
    ("uint8", [1, 2, 2**40], None, None, None, None, "int64"),
    ("uint16", "int8", [1, 2**50], None, None, None, "int64"),
    ("uint16", "int8", None, "uint32", None, None, "int64"),
    ("uint8", [0.5, 0.25, 0.25], None, None, None, None, "float32"),
    ("uint8", [1, 2, 0.5], None, None, None, None, "float32"),
    *((t, "int8", None, None, None, None, "int32") for t in ["uint8", "int8", "bool", "uint16", "int16"]),
    *((t, "uint8", None, None, None, None, "int32") for t in ["uint8", "int8", "bool", "uint16", "int16"]),
    *((t, "bool", None, None, None, None, "int32") for t in ["uint8", "int8", "bool", "uint16", "int16"]),
    *((t, "int16", None, None, None, None, "int32") for t in ["uint8", "int8", "bool"]),
    *((t, "int16", None, None, None, None, "int64") for t in ["uint16", "int16", "int32"]),  # beyond int32
    *((t, "uint16", None, None, None, None, "int64") for t in ["uint16", "int16", "int32"]),
    ("int32", "int8", None, None, None, None, "int64"),
    ("int32", "bool", None, None, None, None, "int64"),
    ("uint8", [1, -2, 300], None, None, None, None, "int32"),  # wider integers count as the least type they fit
    ("uint16", [1, -2, 3], None, None, None, None, "int32"),
    ("uint16", [1, -2, 300], None, None, None, None, "int64"),
    ("int16", [1, 2, 65535], None, None, None, None, "int64"),
    ("uint8", [1, 2, 10**6], None, None, None, None, "int64"),
    ("uint8", "int8", "int32", None, None, None, "int32"),
    ("uint8", "int8", None, "int8", None, None, "int32"),
    ("uint8", "int8", None, "uint16", "relu", None, "int32"),
    ("uint16", "int8", None, "int32", None, None, "int64"),
    *(("uint8", "int8", None, None, a, None, "int32") for a in ["relu", "relu6", ("clip", -5, 5), ("clip", 0.5, 9.5)]),
    *(("uint8", "int8", None, None, a, None, "float32") for a in ["leaky_relu", "tanh", "hardswish", "gelu"]),
    *(
        (t, w, None, None, a, y, y)
        for t, w, a, y in product(["uint8", "float16"], ["int8", "float32"], [None, "silu"], RESULTS)
    ),
]


@pytest.mark.parametrize("rule", RULES, ids=str)
def test_the_type_of_the_result(rule: Any) -> None:
    x_type, w_type, bias_type, residual_type, activation, asked, expected = rule
    x = np.ones((4, 3), x_type)
    w = [w_type, w_type] if isinstance(w_type, list) else np.ones((2, 3), w_type)
    bias = None if bias_type is None else bias_type if isinstance(bias_type, list) else np.ones(2, bias_type)
    residual = None if residual_type is None else np.ones((4, 2), residual_type)
    layer = Conv1x1(w, bias, activation=activation, dtype=asked)
    for y in (conv1x1(x, w, bias, activation=activation, residual=residual, dtype=asked), layer(x, residual=residual)):
        assert y.dtype == expected
        assert y.dtype.isnative
    if residual is None:
        assert layer.plan(x)["dtype"] == expected
    if asked is not None:
        out = np.zeros((4, 2), asked)
        assert conv1x1(x, w, bias, activation=activation, residual=residual, out=out) is out
        same_bytes(out, y)


def test_the_type_does_not_depend_on_the_pixels(exact: Any) -> None:
    """Nor on weights of a type of their own: only wide integers, as lists give, are looked at."""
    for x_value, w_value in product([0, 65535], [0, 1, 32767]):
        x, w = np.full((2, 3), x_value, np.uint16), np.full((2, 3), w_value, np.int16)
        assert conv1x1(x, w).dtype == np.int64


# ------------------------------------------------------------------------------------------------- conversions


def converted(x: Any, dtype: Any, filters: int = 1) -> Any:
    """Numbers in another type, by the core: by way of colour pixels, or of tiles."""
    y = conv1x1(np.ravel(x)[:, None], np.ones((filters, 1)), dtype=dtype)
    assert y.tobytes() == np.repeat(y[:, :1], filters, 1).tobytes()
    return y[:, 0]


def same_numbers(y: Any, expected: Any, what: str = "") -> None:
    """Bit by bit, but for the sign of zero, which a sum that begins with 0 has not, and for what a NaN carries."""
    assert y.dtype == expected.dtype
    with np.errstate(invalid="ignore"):  # some NaN signal
        nan = np.isnan(expected)
        np.testing.assert_array_equal(np.isnan(y), nan, what)
    np.testing.assert_array_equal(y[~nan], expected[~nan], what)


def every(dtype: Any) -> Any:
    return np.arange(65536, dtype=np.uint16).view(dtype)


@pytest.mark.parametrize("filters", [1, 5])
@pytest.mark.parametrize("half", HALVES)
def test_every_half_there_and_back(isa: str, half: str, filters: int) -> None:
    x = every(half)
    with np.errstate(all="ignore"):  # NumPy complains of NaN
        for dtype in FLOATS:
            same_numbers(converted(x, dtype, filters), x.astype(np.float64).astype(dtype))
            same_numbers(converted(x.astype(np.float32), half, filters), x)
            same_numbers(converted(x.astype(np.float64), half, filters), x)
    same_numbers(converted(swapped(x), half, filters), x)


@pytest.mark.parametrize("filters", [1, 5])
@pytest.mark.parametrize("half", HALVES)
@pytest.mark.parametrize("wide", ["float32", "float64"])
def test_rounding_to_every_half(isa: str, half: str, wide: str, filters: int) -> None:
    """At and beside the middle of every two neighbours, infinity among them: in one rounding, half to even."""
    with np.errstate(all="ignore"):
        numbers = every(half).astype(np.float64)
        numbers = np.unique(numbers[np.isfinite(numbers)])
        far = 2 * numbers[-1] - numbers[-2]  # where infinity stands
        numbers = np.concatenate([[-far], numbers, [far]])
        below, above = numbers[:-1].astype(half), numbers[1:].astype(half)
        middle = ((numbers[:-1] + numbers[1:]) / 2).astype(wide)
        even = np.where(below.view(np.uint16) % 2 == 0, below, above)
        one = middle.dtype.type(np.inf)
        for x, expected in (middle, even), (np.nextafter(middle, -one), below), (np.nextafter(middle, one), above):
            same_numbers(converted(x, half, filters), expected)
            same_numbers(cast(x.astype(np.float64), np.dtype(half)), expected)


@pytest.mark.parametrize("filters", [1, 5])
@pytest.mark.parametrize(
    ("x_type", "y_type", "first"), [("f4", "i4", 2.0**22), ("f4", "i8", 2.0**22), ("f8", "i8", 2.0**51)]
)
def test_the_last_halves_are_rounded(isa: str, x_type: str, y_type: str, first: float, filters: int) -> None:
    """Where a float has one bit left behind the point."""
    steps = np.arange(0, 20, 0.5)
    x = np.concatenate([first + steps, 2 * first - 0.5 - steps, -first - steps]).astype(x_type)
    assert (x != np.rint(x)).any()
    np.testing.assert_array_equal(converted(x, y_type, filters), np.rint(x).astype(y_type))


@pytest.mark.parametrize("filters", [1, 5])
@pytest.mark.parametrize("half", HALVES)
def test_what_is_too_small_becomes_zero(isa: str, half: str, filters: int) -> None:
    x = np.array([1e-60, -1e-60, 5e-324, -5e-324, 2.0**-150, -(2.0**-150)])
    y = converted(x, half, filters)
    np.testing.assert_array_equal(y, np.zeros(6))
    np.testing.assert_array_equal(np.signbit(y), x < 0)


def nearest_integer(value: float, low: int, high: int) -> int:
    """Half to even, saturated, NaN to 0, in Python's own integers."""
    if value != value:
        return 0
    return high if value >= high else low if value <= low else min(max(round(value), low), high)


@pytest.mark.parametrize("filters", [1, 5])
@pytest.mark.parametrize("y_type", [*INTEGERS, "int64"])
@pytest.mark.parametrize("x_type", FLOATS)
def test_to_integers(isa: str, x_type: str, y_type: str, filters: int) -> None:
    """Half to even, saturated, and NaN to 0, around every limit of every type."""
    limits = np.iinfo(y_type)
    ends = [2.0**n for n in (0, 7, 8, 10, 15, 16, 22, 23, 31, 51, 52, 63, 64, 100)]
    near = [e + d for e, d in product([0, 2, *ends], [-1.5, -1, -0.75, -0.5, -0.25, 0, 0.25, 0.5, 0.75, 1, 1.5, 2.5])]
    near += [np.nextafter(e, far) for e, far in product([0.5, 1.5, *ends, *(e - 0.5 for e in ends)], [0, np.inf])]
    with np.errstate(over="ignore"):
        numbers = np.array([*near, *(-v for v in near), np.nan, np.inf, -np.inf, 1e30, -1e30]).astype(x_type)
        if x_type == "float32":
            up, down = np.nextafter(numbers, np.float32(np.inf)), np.nextafter(numbers, np.float32(-np.inf))
            numbers = np.concatenate([numbers, up, down])
    expected = [nearest_integer(float(v), int(limits.min), int(limits.max)) for v in numbers]
    y = converted(numbers, y_type, filters)
    np.testing.assert_array_equal(y, np.array(expected, y_type))
    np.testing.assert_array_equal(cast(numbers.astype(np.float64), np.dtype(y_type)), y)


@pytest.mark.parametrize("x_type", [*INTEGERS, "bool", *WIDE])
def test_from_integers(isa: str, x_type: str) -> None:
    """Saturated, by way of int32 sums, of float64 ones and of float32 ones; to floats rounded once."""
    kind = np.dtype(x_type)
    if kind.kind == "b":
        x = np.array([False, True] * 40)
    else:
        ends = [v for n in (0, 7, 8, 15, 16, 31) for v in (2**n - 1, 2**n, 2**n + 1, -(2**n) - 1, -(2**n), 1 - 2**n)]
        low, high = np.iinfo(kind).min, np.iinfo(kind).max
        ends += [2**32 - 1, 2**53, -(2**53)] if x_type in WIDE else [low, high]
        x = np.array([v for v in [*ends, *range(-300, 300)] if low <= v <= high], kind)
    for y_type, filters in product(RESULTS, [1, 5]):
        expected, what = cast(x.astype(np.int64), np.dtype(y_type)), f"{y_type}, {filters} filters"
        for w in (np.ones((filters, 1), np.int8), np.ones((filters, 1), np.int16)):
            y = conv1x1(x[:, None], w, dtype=y_type)
            same_numbers(y[:, -1], expected, what)
        if kind.itemsize < 4 or y_type in ("float64", "int64"):  # float32 does not hold every int32
            same_numbers(converted(x, y_type, filters), expected, what)


def test_a_float16_result_overflows_as_numpys() -> None:
    x = np.array([[65504.0, 65519.0, 65520.0, 1e30, -1e30, np.inf]], np.float32).T
    with np.errstate(over="ignore"):
        np.testing.assert_array_equal(conv1x1(x, [[1.0]], dtype=np.float16), x.astype(np.float16))
    assert conv1x1(np.full((1, 2), 60000, np.float16), [[0.5, 0.5]])[0, 0] == 60000  # the sum is not in float16


# ------------------------------------------------------------------------------------------- exact integers

EXTREMES = {"uint8": [0, 1, 127, 128, 255], "int8": [-128, -127, -1, 1, 127]}


@pytest.fixture(params=[*ISAS, *INTEGER_KERNELS])
def way(request: pytest.FixtureRequest) -> Iterator[str]:
    """The test once for every instruction set, and once for each kernel of integers."""
    name = request.param
    with restricted(isa=name) if name in ISAS else restricted(kernel=name):
        yield name


def exactly(x: Any, w: Any, bias: Any = 0) -> Any:
    return x.astype(np.int64) @ w.astype(np.int64).T + bias


@pytest.mark.parametrize("w_type", ["uint8", "int8"])
@pytest.mark.parametrize("x_type", ["uint8", "int8"])
def test_every_product_of_two_bytes(way: str, x_type: str, w_type: str) -> None:
    x, w = (np.arange(256, dtype=np.uint8).view(t)[:, None] for t in (x_type, w_type))
    for data, axis in ((x, -1), (x.T.copy(), 0)):
        y = conv1x1(data, w, channel_axis=axis)
        same_bytes(y if axis else np.ascontiguousarray(y.T), exactly(x, w).astype(np.int32))


@pytest.mark.parametrize("w_type", ["uint8", "int8"])
@pytest.mark.parametrize("x_type", ["uint8", "int8"])
def test_every_quad_of_extremes(way: str, x_type: str, w_type: str) -> None:
    """What saturates on the way, as some instructions do, is seen here: 625 pixels of extremes by 625 filters."""
    x, w = (np.array([*product(EXTREMES[t], repeat=4)], t) for t in (x_type, w_type))
    y = exactly(x, w)
    np.testing.assert_array_equal(conv1x1(x, w), y)
    np.testing.assert_array_equal(conv1x1(x.T.copy(), w, channel_axis=0), y.T)


@pytest.mark.drawn
@pytest.mark.parametrize("x_type", ["uint8", "int8", "bool"])
def test_channels_that_fill_no_pair_or_quad(way: str, x_type: str) -> None:
    """What stands beside the last channel counts for nothing, whatever it is: other pixels, or an earlier tile's."""
    for channels, groups, axis in product([1, 2, 3, 4, 5, 6, 7, 9, 33], [1, 2], [-1, 0]):
        whole = spread(x_type, (37, groups * channels + 9))
        conv1x1(np.full((4000, 64), 255, np.uint8), np.full((8, 64), -128, np.int8))  # fills the scratch
        x = whole[:, : groups * channels]
        w, bias = spread("int8", (10 * groups, channels)), spread("int16", (10 * groups,))
        parts = zip(np.split(x, groups, 1), np.split(w, groups), strict=True)
        y = np.concatenate([exactly(*part) for part in parts], 1) + bias
        data = x if axis else whole.T.copy()[: groups * channels]
        for _ in range(2):
            result = conv1x1(data, w, bias, groups=groups, channel_axis=axis)
            np.testing.assert_array_equal(result if axis else result.T, y)


DEEPEST = [
    ("uint8", 255, "int8", -128, 65_793),
    ("int8", -128, "uint8", 255, 65_793),
    ("int8", -128, "int8", -128, 131_071),
]
DEEPEST += [("uint8", 255, "uint8", 255, 33_025), ("uint8", 255, "int8", 127, 65_793)]


@pytest.mark.parametrize(("x_type", "x_value", "w_type", "w_value", "channels"), DEEPEST)
def test_the_deepest_sums(isa: str, x_type: str, x_value: int, w_type: str, w_value: int, channels: int) -> None:
    """As many channels of the largest products as are taken, up to the last of int32."""
    x, w = np.full((19, channels), x_value, x_type), np.full((6, channels), w_value, w_type)
    x[::2, ::3], w[1::2, ::5] = 1, 0
    expected = exactly(x, w)
    for data, axis in ((x, -1), (x.T.copy(), 0)):
        y = conv1x1(data, w, channel_axis=axis)
        same_bytes(y if axis else np.ascontiguousarray(y.T), expected.astype(np.int32))
    with pytest.raises(ValueError, match=f"at most {channels} channels"):
        conv1x1(np.zeros((1, channels + 1), x_type), np.zeros((1, channels + 1), w_type))


@pytest.mark.parametrize("dtype", ["int64", "int32", "float64", "uint8"])
def test_deeper_where_a_wider_sum_is_asked_for(isa: str, dtype: str) -> None:
    channels = 90_001
    x, w = np.full((3, channels), 255, np.uint8), np.full((5, channels), 127, np.int8)
    x[0], w[0] = 1, -128
    w[2:, 1::2] = -126
    same_bytes(conv1x1(x, w, dtype=dtype), cast(exactly(x, w), np.dtype(dtype)))


@pytest.mark.drawn
@pytest.mark.parametrize("w_type", ["int8", "uint8", "int16", "uint16", "int32"])
@pytest.mark.parametrize("x_type", ["uint16", "int16", "int32", "uint8"])
def test_wider_integers_are_exact_too(isa: str, x_type: str, w_type: str) -> None:
    x, w = spread(x_type, (41, 19)), spread(w_type, (23, 19))
    if x_type == w_type == "int32":
        w >>= 16
    x[0], w[0], w[1] = np.iinfo(x_type).max, w.max(), w.min()
    bias = spread("int32", (23,)) if x_type != "uint8" else None
    y = exactly(x, w, 0 if bias is None else bias)
    for data, axis in views(x):
        for dtype in (None, "int32", "float64", "uint16"):
            result = conv1x1(data, w, bias, channel_axis=axis, dtype=dtype)
            expected = y if axis % data.ndim else y.T.reshape(result.shape)
            np.testing.assert_array_equal(result, cast(expected, np.dtype(dtype or result.dtype)))
            assert result.dtype == (dtype or result.dtype)


@pytest.mark.drawn
@pytest.mark.parametrize("residual_type", [*INTEGERS, "bool"])
@pytest.mark.parametrize("x_type", INTEGERS)
def test_an_integer_residual_is_added_exactly(isa: str, x_type: str, residual_type: str) -> None:
    x, w, residual = spread(x_type, (33, 7)), spread("int8", (11, 7)), spread(residual_type, (33, 11))
    y = exactly(x, w) + residual.astype(np.int64)
    for dtype in ("int64", "int32", "uint8", "float64"):
        same_bytes(conv1x1(x, w, residual=residual, dtype=dtype), cast(y, np.dtype(dtype)))
    same_bytes(
        conv1x1(x, w, residual=residual, activation=("clip", -99.5, 1e4), dtype="int16"),
        cast(np.clip(y, -99.5, 1e4), np.dtype("int16")),
    )


@pytest.mark.parametrize(
    "clip", [(-5, 5), (-1e20, 3), (0.5, 2.5), (-2.5, np.inf), (7, 7), (2**31, 2**33), (-(2**40), -(2**35))]
)
def test_clips_of_integers(isa: str, clip: Any) -> None:
    """Between whole numbers or not, within int32 or beyond: clipped, then rounded half to even, then saturated."""
    x, w = spread("uint8", (41, 5)), spread("int8", (6, 5))
    y = np.clip(exactly(x, w), *clip)
    for dtype in (None, "int64", "uint8", "float32", "float16"):
        result = conv1x1(x, w, activation=("clip", *clip), dtype=dtype)
        same_bytes(result, cast(y.astype(np.float64), result.dtype))


def test_int32_pixels_in_float64(isa: str) -> None:
    """Exact to float64 arithmetic, where float32 would round the pixels."""
    x, w = spread("int32", (23, 9)), np.random.default_rng(0).standard_normal((5, 9))
    same_bytes(conv1x1(x, w), conv1x1(x.astype(np.float64), w))
    assert (conv1x1(x, w) != conv1x1(x, w, dtype=np.float32).astype(np.float64)).any()


@pytest.mark.drawn
@pytest.mark.parametrize("activation", [None, "relu", "gelu"])
@pytest.mark.parametrize("dtype", [None, "float64", "float32", "float16", "uint8", "int32", "int64"])
@pytest.mark.parametrize("x_type", LONG)
def test_long_integers_with_floats(isa: str, x_type: str, dtype: Any, activation: Any) -> None:
    """As float64 pixels; where a smaller type is asked for, as float32 ones."""
    x, w, bias = spread(x_type, (40, 19)), spread("float64", (6, 19)), spread("float32", (6,))
    x[:20] >>= x.itemsize * 6  # small ones, too
    sums = "float64" if dtype in (None, "float64", "int64") else "float32"
    wide = conv1x1(x.astype(sums), w.astype(sums), bias, activation=activation, dtype=sums)
    for data, axis in views(x):
        y = conv1x1(data, w, bias, channel_axis=axis, activation=activation, dtype=dtype)
        first = axis % data.ndim == 0
        same_bytes(np.ascontiguousarray(y.reshape(6, 40).T) if first else y, cast(wide, np.dtype(dtype or "float64")))


def test_coordinates_keep_their_centimetres() -> None:
    """Eastings and northings in millimetres, turned by a matrix of floats."""
    points = np.array([[[500_123_456, 5_412_345_678 % 2**31], [412_345_679, 1_198_765_433]]], np.int32)
    turn = np.array([[np.cos(0.1), -np.sin(0.1)], [np.sin(0.1), np.cos(0.1)]])
    for w in (turn, turn.astype(np.float32)):
        y = conv1x1(points, w)
        assert y.dtype == np.float64
        np.testing.assert_allclose(y, points @ w.T.astype(np.float64), rtol=1e-15, atol=1e-6)
        np.testing.assert_array_equal(Conv1x1(w)(points), y)


# ---------------------------------------------------------------------------------------- integers of 32 and 64 bits


@pytest.mark.parametrize("filters", [1, 5])
@pytest.mark.parametrize("y_type", ["float32", "float64"])
@pytest.mark.parametrize("x_type", WIDE)
def test_rounding_of_wide_integers(isa: str, x_type: str, y_type: str, filters: int) -> None:
    """Once, half to even: at, beside and far from the middle of two neighbours, of every size there is."""
    info = np.iinfo(x_type)
    numbers = [0, info.min, info.max]
    for size, lead in product(range(1, 65), [0b1, 0b10, 0b11, 0x800001, 0xFFFFFF, 2**52 + 1, 2**53 - 1]):
        top = lead << size
        for bits in (24, 53):
            half = 1 << max(top.bit_length() - bits - 1, 0)
            numbers += [top + d for d in (0, half, half - 1, half + 1, 2 * half, 3 * half, 3 * half - 1, 3 * half + 1)]
    numbers += [-n for n in numbers]
    x = np.array(sorted({n for n in numbers if info.min <= n <= info.max}), x_type)
    y = converted(x, y_type, filters)
    same_bytes(y, x.astype(y_type))
    same_bytes(converted(swapped(x), y_type, filters), y)
    for n, number in zip(x.tolist(), y.tolist(), strict=True):
        up, down = np.nextafter(np.dtype(y_type).type(number), np.array([np.inf, -np.inf], y_type)).tolist()
        assert abs(int(number) - n) <= min(abs(int(up) - n) if up < 1e30 else 2**70, abs(int(down) - n))


@pytest.mark.drawn
@pytest.mark.parametrize("x_type", WIDE)
def test_wide_pixels_are_summed_exactly(isa: str, x_type: str) -> None:
    x, w, bias = spread(x_type, (41, 19)), spread("int8", (23, 19)), spread("int32", (23,))
    x >>= np.dtype(x_type).type(0 if x_type == "uint32" else 64 - 40)
    y = exactly(x, w, bias)
    for residual in (None, spread(x_type, (41, 23), seed=3) // 2**20):
        added = y if residual is None else y + residual.astype(np.int64)
        for data, axis in views(x):
            first = axis % data.ndim == 0
            shape = (23, *data.shape[1:]) if first else (41, 23)
            for dtype in (None, "float64", "int32", "uint8"):
                options: dict[str, Any] = {"channel_axis": axis, "dtype": dtype}
                if residual is not None:
                    options["residual"] = residual.T.reshape(shape) if first else residual
                result = conv1x1(data, w, bias, **options)
                assert result.dtype == (dtype or "int64")
                expected = cast(added, result.dtype)
                np.testing.assert_array_equal(result, expected.T.reshape(shape) if first else expected)
                np.testing.assert_array_equal(conv1x1(swapped(data), swapped(w), bias, **options), result)
    same_bytes(reference(x, w, bias), y)


LIMITS = [  # the largest number, weights, bias and residual, and whether their sum is sure to be exact
    (2**53, [1], 0, 0, True),
    (2**53 + 1, [1], 0, 0, False),
    (2**53 - 5, [1], 5, 0, True),
    (2**53 - 5, [1], 6, 0, False),
    (2**52, [1, 1], 0, 0, True),
    (2**52 + 1, [1, -1], 0, 0, False),
    (3002399751580330, [3], 1, 1, True),
    (3002399751580331, [3], 0, 0, False),  # 2⁵³ + 1
    (2**40, [2**12, -(2**12)], 0, 0, True),
    (2**40, [2**13, 1], 0, 1, False),
    (1, [2**53], 0, 0, True),
    (1, [2**53 + 1], 0, 0, False),
    (1, [1], 2**53 - 1, 0, True),
    (1, [1], 2**53, 0, False),
    (1, [1], 0, 2**53 - 1, True),
    (1, [1], 0, 2**53, False),
    (2**63 - 1, [0], 0, 0, True),
    (0, [2**63 - 1], 2**53, 0, True),
]


@pytest.mark.parametrize(("largest", "weights", "bias", "added", "exact"), LIMITS)
@pytest.mark.parametrize("negative", [False, True])
@pytest.mark.parametrize("x_type", ["int64", "uint64"])
def test_the_largest_sums_of_wide_integers(
    x_type: str, negative: bool, largest: int, weights: Any, bias: int, added: int, exact: bool
) -> None:
    """What is found in the pixels counts, of 10,000 of them or of a few, and only what the stride takes."""
    sign = -1 if negative and x_type == "int64" else 1
    x = np.zeros((10_000, 2, len(weights)), x_type)
    x[7_654, 0], x[:, 1] = sign * largest, np.iinfo(x_type).max
    residual = np.full((10_000, 2, 1), sign * added, x_type) if added else None
    w, b = np.array([weights]), np.array([sign * bias])
    expected = sign * (sum(largest * v for v in weights) + bias + added)
    for data, axis in ((x, -1), (np.moveaxis(x, -1, 0).copy(), 0), (swapped(x)[::-1].copy()[::-1], -1)):
        more = residual if residual is None or axis else np.moveaxis(residual, -1, 0)
        for call in (
            conv1x1,
            lambda x, w, b, **o: Conv1x1(w, b, **{k: o.pop(k) for k in ("channel_axis", "stride")})(x, **o),
        ):
            options: dict[str, Any] = {"channel_axis": axis, "stride": (1, 2), "residual": more}
            if options["residual"] is not None:
                options["residual"] = more[:, :1] if axis else more[..., :1]
            if exact:
                y = call(data, w, b, **options)
                assert y.dtype == np.int64
                assert np.ravel(y)[7_654] == expected
                continue
            with pytest.raises(ValueError, match=r"cannot be summed exactly.*pass dtype=np.float64") as info:
                call(data, w, b, **options)
            low, high = sorted((0, sign * largest))
            assert f"{x_type} from {low:,} to {high:,} with" in str(info.value)
    if not exact:
        y = conv1x1(x, w, b, stride=(1, 2), residual=options["residual"], dtype=np.float64)
        assert y[7_654, 0, 0] == pytest.approx(expected, rel=1e-15)


@pytest.mark.parametrize(("wide", "order"), [("int64", "native"), ("uint64", "swapped")])
@pytest.mark.parametrize(
    ("channels", "filters", "groups", "options"),
    [
        (3, 2, 1, {}),
        (2, 1, 1, {"kernel": "few_channels_f64"}),
        (64, 2, 1, {}),
        (20, 33, 1, {"orientation": "pixels_as_rows"}),
        (20, 33, 1, {"orientation": "pixels_as_lanes", "chunk_filters": 8}),
        (12, 12, 3, {}),
    ],
)
def test_one_number_too_large_is_found_wherever_it_is(
    wide: str, order: str, channels: int, filters: int, groups: int, options: dict[str, Any]
) -> None:
    """In the first, a middle and the last tile, by any method and threads, whether there is an out or none."""
    options = dict(options)
    kernel = options.pop("kernel", None)
    w = (np.arange(filters * (channels // groups)).reshape(filters, -1) % 5).astype(np.int16) - 2
    w[0, 0] = 3
    blocks = w.reshape(groups, filters // groups, -1).astype(np.int64)

    def expected(pixels: Any) -> Any:
        parts = pixels.astype(np.int64).reshape(300, groups, -1)
        return np.einsum("pgc,gkc->pgk", parts, blocks).reshape(300, filters)

    most = 2**53 // (3 * (channels // groups))
    x = (np.arange(300 * channels) % 1000).astype(wide).reshape(300, channels)
    names = [k["name"] for k in _conv1x1.kernels() if k["supported"] and kernel and k["name"].startswith(kernel)]
    for data, axis in views(x):
        layer = Conv1x1(w, channel_axis=axis, groups=groups)
        out = np.empty_like(layer(data))
        pixels = np.moveaxis(data, axis, -1).reshape(300, channels) if axis != -3 else data[:, 0].T
        assert np.shares_memory(pixels, data)
        for pixel, channel, threads in ((0, 0, 1), (0, -1, 3), (157, channels // 2, 2), (299, -1, 1), (299, 0, 2)):
            for number in (most, most + 1):
                before = pixels[pixel, channel]
                pixels[pixel, channel] = number
                given = swapped(data) if order == "swapped" else data
                with restricted(kernel=names[-1] if names else None, tile_pixels=40, **options):
                    out[...] = 7
                    if number == most:
                        y = layer(given, threads=threads)
                        same_bytes(layer(given, threads=threads, out=out), y)
                        assert y.dtype == np.int64
                        sums = np.moveaxis(y, axis, -1).reshape(300, filters) if axis != -3 else y[:, 0].T
                        assert (sums == expected(pixels)).all()
                    else:
                        with pytest.raises(ValueError, match="cannot be summed exactly"):
                            layer(given, threads=threads)
                        with pytest.raises(ValueError, match="cannot be summed exactly"):
                            layer(given, threads=threads, out=out)
                        assert (out == 7).all()
                pixels[pixel, channel] = before


def test_one_number_too_large_is_found_under_masks_and_in_overlapping_and_turned_results() -> None:
    x = np.ones((80, 70, 3), np.int64)
    w = np.array([[1, 2, 3], [3, 2, 1], [1, 0, -1]], np.int8)
    layer, most = Conv1x1(w), 2**53 // 9
    for number in (most, most + 1):
        x[79, 69, 2] = number
        turned = np.asfortranarray(x)
        into = np.full((80, 70, 4), 7)
        into[..., :3] = x
        calls: list[Any] = [
            lambda: layer(np.ma.array(x, mask=np.broadcast_to(np.arange(70)[:, None] == 3, x.shape))),
            lambda turned=turned: layer(turned, out=np.empty_like(x)),
            lambda turned=turned: layer(turned),
            lambda into=into: layer(into[..., :3], out=into[..., 1:]),
            lambda: layer(x, residual=np.zeros_like(x)),
        ]
        for call in calls:
            if number == most:
                assert call()[79, 69].tolist() == [3 + 3 * most, 5 + most, 1 - most]
            else:
                with pytest.raises(ValueError, match="cannot be summed exactly"):
                    call()
        if number > most:
            assert (into[..., 3] == 7).all()
            assert (into[..., :3] == x).all()
    same_bytes(Conv1x1(w + 0j)(x), Conv1x1(w + 0.0)(x).astype(complex))  # float sums are promised to no number
    same_bytes(layer(x, residual=np.zeros(x.shape, complex)).real, Conv1x1(w, dtype=np.float64)(x))


def test_an_empty_stretch_of_wide_integers() -> None:
    for shape in ((0, 3), (3, 0), (0, 0)):
        assert conv1x1(np.zeros(shape, np.uint64), np.ones((2, shape[1]), np.int64)).shape == (shape[0], 2)


@pytest.mark.parametrize("what", ["x", "residual"])
def test_a_refusal_leaves_out_alone(what: str) -> None:
    x, residual, out = np.ones((9, 3), np.int64), np.ones((9, 2), np.int64), np.full((9, 2), 7, np.int64)
    {"x": x, "residual": residual}[what][4] = 2**60
    with pytest.raises(ValueError, match="cannot be summed exactly"):
        conv1x1(x, np.ones((2, 3), np.int8), residual=residual, out=out)
    assert (out == 7).all()


@pytest.mark.parametrize("asked", [{}, {"dtype": np.int16}, {"out": np.int64}, {"dtype": np.int8, "out": np.int8}])
@pytest.mark.parametrize(
    ("x", "added"),
    [
        (np.full((3, 2), 2**60), {}),
        (np.full((3, 2), 7), {"residual": np.full((3, 1), 2**63, np.uint64)}),
        (np.full((3, 2), 7, np.uint8), {"bias": [2**60]}),
        (np.full((3, 2), 7, np.uint8), {"residual": np.full((3, 1), -(2**60))}),
    ],
)
def test_what_a_refusal_says_to_pass_runs(x: Any, added: dict[str, Any], asked: dict[str, Any]) -> None:
    """In place of the type that was asked for, by dtype, by out or by both."""
    w, call = np.ones((1, 2), np.int8), dict(added, **asked)
    if "out" in asked:
        call["out"] = np.zeros((3, 1), asked["out"])
    with pytest.raises(ValueError, match="cannot be summed exactly") as info:
        conv1x1(x, w, **call)
    instead = str(info.value).partition("sums pass ")[2].partition(" (a layer")[0].replace(" and ", ", ")
    assert conv1x1(x, w, **added, **eval(f"dict({instead})", {"np": np})).dtype == np.float64


def test_bytes_are_widened_where_that_is_asked_for() -> None:
    x, w, residual = np.full((3, 2), 7, np.uint8), np.ones((1, 2), np.int8), np.full((3, 1), 5)
    with pytest.raises(ValueError, match=r"pass dtype=np.int64 for exact sums, or dtype=np.int32"):
        conv1x1(x, w, residual=residual)
    for dtype in (np.int64, np.int32):
        assert conv1x1(x, w, residual=residual, dtype=dtype).tolist() == [[19]] * 3


def test_every_c_name_of_an_integer(isa: str) -> None:
    w = np.arange(6).reshape(2, 3) - 2
    for char in "bBhHiIlLqQpP":
        x = np.arange(12).reshape(4, 3).astype(char)
        np.testing.assert_array_equal(conv1x1(x, w), x.astype(np.int64) @ w.T)
        np.testing.assert_array_equal(conv1x1(x, w / 2), x.astype(np.int64) @ (w.T / 2))
        np.testing.assert_array_equal(
            conv1x1(x, np.abs(w).astype(char), np.ones(2, char)), x.astype(int) @ np.abs(w).T + 1
        )


def test_true_counts_as_one() -> None:
    """Where it is asked how far sums can reach: of weights, bias, residual and pixels."""
    x, ones = np.full((3, 40_000), 255, np.uint8), np.ones((2, 40_000), bool)
    expected = np.full((3, 2), 255 * 40_000, np.int32)
    same_bytes(conv1x1(x, ones), expected)
    same_bytes(conv1x1(x, ones.tolist()), expected)
    same_bytes(conv1x1(x, ones, [True, True], residual=np.ones((3, 2), bool)), expected + 1 + 1)
    same_bytes(conv1x1(x != 0, ones), np.full((3, 2), 40_000, np.int32))
    layer = Conv1x1(ones)
    assert layer.weight.dtype == bool
    same_bytes(pickle.loads(pickle.dumps(layer))(x), expected)
    same_bytes(
        conv1x1(spread("uint16", (3, 30_000)) | 1, ones[:, :30_000]).astype(np.int64),
        exactly(spread("uint16", (3, 30_000)) | 1, ones[:, :30_000]),
    )
    assert conv1x1(spread("uint16", (3, 30_000)), ones[:, :30_000]).dtype == np.int32
    with pytest.raises(
        ValueError, match="with bool weights cannot be summed in an int32 for sure: at most 8421504 channels can"
    ):
        conv1x1(np.broadcast_to(np.uint8(0), (1, 8_421_505)), np.broadcast_to(True, (1, 8_421_505)))


# ---------------------------------------------------------------- as if everything had been converted before


def arithmetic(x_type: str, w_type: str, y_type: str) -> str:
    """The type of float sums: float64 if x is, or the result is of 64 bits."""
    return "float64" if "float64" in (x_type, y_type) or y_type == "int64" else "float32"


@pytest.mark.drawn
@pytest.mark.parametrize("x_type", PIXELS)
def test_as_if_converted_before(isa: str, x_type: str) -> None:
    """The same bits in every layout, orientation and number of threads as float arrays, cast before and after."""
    sizes: list[tuple[int, int, Any]] = [(3, 3, None), (40, 3, "hardswish"), (19, 21, "relu")]
    for y_type, (channels, filters, activation) in product(RESULTS, sizes):
        x, w, bias = (
            spread(x_type, (45, channels)),
            spread("float32", (filters, channels)),
            spread("float32", (filters,)),
        )
        residual = spread("int16", (45, filters)) if activation else None
        sums = arithmetic(x_type, "float32", y_type)
        wide = conv1x1(x.astype(sums), w, bias, residual=residual, activation=activation, dtype=sums)
        expected = cast(wide, np.dtype(y_type))
        for data, axis in views(x):
            first = axis % data.ndim == 0
            shape = (filters, *data.shape[1:]) if first else (45, filters)
            added = residual if residual is None or not first else residual.T.reshape(shape)
            layer = Conv1x1(w, bias, channel_axis=axis, activation=activation, dtype=y_type)
            assert layer.plan(data)["arithmetic"] == sums
            for orientation in (None, "pixels_as_rows", "pixels_as_lanes"):
                with restricted(isa=isa, orientation=orientation):
                    y = layer(data, residual=added)
                same_bytes(np.ascontiguousarray(y.reshape(filters, 45).T) if first else y, expected)


@pytest.mark.drawn
@pytest.mark.parametrize("y_type", ["uint8", "float32"])
@pytest.mark.parametrize("x_type", ["uint8", "float32"])
def test_colour_pixels(isa: str, x_type: str, y_type: str) -> None:
    """Whole pixels of few channels have kernels of their own: the same bits as planes of them, tails and clamps too."""
    for channels, filters, activation in product(range(1, 5), range(1, 5), [None, "relu", ("clip", -0.7, 90.5)]):
        x, w = spread(x_type, (27, channels)), spread("float32", (filters, channels))
        bias = spread("float32", (filters,)) if activation else None
        planes = x.T.astype(np.float32)[:, ::-1].copy()[:, ::-1]  # backwards, for another way through the core
        y = conv1x1(planes, w, bias, channel_axis=0, activation=activation).T
        expected = cast(np.ascontiguousarray(y), np.dtype(y_type))
        for pixels in (27, 1, 7, 8, 9, 16):
            same_bytes(conv1x1(x[:pixels], w, bias, activation=activation, dtype=y_type), expected[:pixels])


@pytest.mark.parametrize("x_type", PIXELS)
def test_threads(x_type: str) -> None:
    x, w, i = summable(x_type, (90, 100, 64)), spread("float32", (48, 64)), spread("int8", (48, 64))
    for weight, y_type in ((w, "float16"), (w, "uint8"), (w, None), (i, None), (i, "int16")):
        for data, axis in ((x, -1), (np.moveaxis(x, -1, 0).copy(), 0), (x[:, ::-1], -1)):
            layer = Conv1x1(weight, channel_axis=axis, dtype=y_type)
            one = layer(data, threads=1)
            assert layer.plan(data, threads=3)["tiles"] > 1
            same_bytes(layer(data, threads=3), one)


@pytest.mark.parametrize("x_type", ["uint8", "int8", "bool"])
def test_kernels_of_integers_come_to_the_same(x_type: str) -> None:
    """AVX2's pairs, VNNI's quads and all others, forced, in both layouts."""
    assert {name.split("_")[0] for name in INTEGER_KERNELS} == set(ISAS)
    x, w, bias = spread(x_type, (301, 77)), spread("int8", (70, 77)), spread("int16", (70,))
    expected = np.maximum(exactly(x, w, bias), 0)
    for name in INTEGER_KERNELS:
        with restricted(kernel=name):
            for data, axis in views(x):
                layer = Conv1x1(w, bias, channel_axis=axis, activation="relu")
                assert layer.plan(data)["kernel"] == name
                y = layer(data)
                np.testing.assert_array_equal(y if axis % data.ndim else y.reshape(70, -1).T, expected)


# -------------------------------------------------------------------------------- everything by everything

ACTIVATIONS = [None, None, "relu", "relu6", ("clip", -9, 40), ("clip", -2.5, 7.5), ("leaky_relu", 0.5)]
LAYOUTS = [((5, 4), -1), ((3, 2, 7), 0), ((11,), 0), ((4, 9), 1), ((2, 3, 5), 2), ((17,), -1)]


@pytest.mark.drawn
@pytest.mark.parametrize("x_type", [*PIXELS, *(f">{t}" for t in ("f2", "f4", "f8", "u2", "i2", "i4"))])
def test_everything_by_everything(x_type: str) -> None:
    """Small whole numbers, exact in every sum, against `reference`: a seeded sample, the instruction sets in turn."""
    random = np.random.default_rng([*x_type.encode()])

    def one_of(choices: Any) -> Any:
        return choices[random.integers(len(choices))]

    def numbers(dtype: str, shape: Any) -> Any:
        kind = np.dtype(dtype)
        values = random.integers(0 if kind.kind in "ub" else -4, 5, shape)
        a = (values > 2 if kind.kind == "b" else values).astype(kind)
        form = one_of(["C", "C", "F", "every other", "reversed"])
        if form == "every other" and a.ndim:
            return np.repeat(a, 2, -1)[..., ::2]
        return (
            a[::-1].copy()[::-1] if form == "reversed" and a.ndim else np.asarray(a, order="F" if form == "F" else "C")
        )

    types = [*PIXELS, ">f2", ">f8", ">u2", ">i4"]
    refused = 0
    for number, isa in zip(range(130), cycle(ISAS), strict=False):
        pixels, axis = one_of(LAYOUTS)
        groups, stride = one_of([1, 1, 2, 3]), one_of([1, 1, 2, (2,)])
        channels, filters = groups * one_of([1, 2, 3, 5, 33, 34]), groups * one_of([1, 2, 4, 6, 17])
        shape = list(pixels)
        shape.insert(axis if axis >= 0 else len(shape) + 1 + axis, channels)
        x, w = numbers(x_type, shape), numbers(one_of(types), (filters, channels // groups))
        bias = numbers(one_of(types), (filters,)) if one_of([0, 1]) else None
        options: dict[str, Any] = {
            "channel_axis": axis, "groups": groups, "stride": stride, "activation": one_of(ACTIVATIONS)
        }  # fmt: skip
        y_type, residual_type = one_of([None, None, *RESULTS]), one_of([None, *types])
        if residual_type is not None:
            options["residual"] = numbers(residual_type, reference(x, w, dtype="float64", **options).shape)
        with restricted(isa=isa):
            try:
                expected = reference(x, w, bias, dtype=y_type, **options)
            except ValueError:  # a residual of int32 or the like
                with pytest.raises(ValueError, match="cannot be summed in an int32 for sure"):
                    conv1x1(x, w, bias, dtype=y_type, **options)
                refused += 1
                continue
            y = conv1x1(x, w, bias, dtype=y_type, **options)
            what = f"{number}: {x.dtype} · {w.dtype} + {bias is not None and bias.dtype} + {residual_type} → {y_type}"
            np.testing.assert_array_equal(y, cast(expected, y.dtype), err_msg=f"{what}, {options}")
            if y_type is None:
                wide = "int64" if expected.dtype == np.int64 else "float64"
                assert expected.dtype == wide
                assert (y.dtype.kind in "iu") == (wide == "int64")
            else:
                assert y.dtype == expected.dtype == y_type
            out = np.zeros(y.shape, swapped(y).dtype if one_of([0, 1]) else y.dtype, order=one_of("CF"))
            layer = Conv1x1(w, bias, **{k: v for k, v in options.items() if k != "residual"})
            assert layer(x, residual=options.get("residual"), out=out) is out
            np.testing.assert_array_equal(out, y)
    assert refused < 25


CURVES = ["sigmoid", "tanh", "gelu", "silu", "hardswish", "hardsigmoid", "leaky_relu"]


@pytest.mark.drawn
@pytest.mark.parametrize("x_type", PIXELS)
def test_curves_in_every_type(isa: str, x_type: str) -> None:
    """To integers within one of the definition; to floats within their last place."""
    x, w, bias = spread(x_type, (33, 5)), spread("float32", (7, 5)), spread("float32", (7,))
    w /= 8 if x_type in FLOATS else np.float32(2.0 ** (8 * np.dtype(x_type).itemsize - 1))  # so that curves curve
    for activation, y_type in product(CURVES, RESULTS):
        y = conv1x1(x, w, bias, activation=activation, dtype=y_type)
        expected = reference(x, w, bias, activation=activation)
        eps = {"float16": 2.0**-11, "bfloat16": 2.0**-8}.get(y_type, 2.0**-20)
        if y_type not in FLOATS:
            expected = cast(expected, np.dtype(y_type))
        tolerance = 1 if y_type not in FLOATS else 2.0**-18 + 2**-24
        what, ours, theirs = f"{activation} → {y_type}", y.astype(np.float64), expected.astype(np.float64)
        np.testing.assert_allclose(ours, theirs, rtol=eps, atol=tolerance, err_msg=what)


# ------------------------------------------------------------------------------------------ as arrays come


@pytest.mark.parametrize("dtype", [t for t in [*FLOATS, *INTEGERS] if np.dtype(t).itemsize > 1])
def test_the_other_byte_order(isa: str, dtype: str) -> None:
    """Of every argument and of out: read and written in place, the same bits."""
    x, w, bias, residual = (spread(dtype, s) for s in [(6, 7, 20), (9, 20), (9,), (6, 7, 9)])
    if dtype == "int32":
        w >>= 20
    one = conv1x1(x, w, bias, residual=residual)
    same_bytes(conv1x1(swapped(x), swapped(w), swapped(bias), residual=swapped(residual)), one)
    layer = Conv1x1(w, bias)
    for data, added in product((x, swapped(x), swapped(x)[:, ::-1].copy()[:, ::-1]), (residual, swapped(residual))):
        out = swapped(np.zeros_like(one))
        assert not out.dtype.isnative
        assert layer(data, residual=added, out=out) is out
        same_bytes(out.astype(one.dtype), one)
    first = np.moveaxis(swapped(x), -1, 0).copy()
    y = Conv1x1(w, channel_axis=0)(first, out=swapped(np.zeros((9, 6, 7), one.dtype)))
    same_bytes(np.moveaxis(y, 0, -1).astype(one.dtype).copy(), conv1x1(x, w, dtype=one.dtype))
    colour = spread(dtype, (50, 3))
    same_bytes(conv1x1(swapped(colour), w[:4, :3]), conv1x1(colour, w[:4, :3]))


def test_truth_is_every_byte_but_0(isa: str) -> None:
    """NumPy's own arrays hold 0 and 1 only, but a view of other bytes is an array too."""
    bytes_ = spread("uint8", (40, 9))
    bytes_[::3] = 0
    odd, plain = bytes_.view(bool), bytes_ != 0
    added = spread("uint8", (40, 5))
    for w in (spread("int8", (5, 9)), spread("float32", (5, 9)), np.arange(10).reshape(5, 2) - 4):
        for x, y in ((odd[:, : w.shape[1]], plain[:, : w.shape[1]]), (odd.T[: w.shape[1]], plain.T[: w.shape[1]])):
            axis = -1 if x.shape[0] == 40 else 0
            same_bytes(conv1x1(x, w, channel_axis=axis), conv1x1(y, w, channel_axis=axis))
        x = spread("uint8", (40, w.shape[1]))
        same_bytes(conv1x1(x, w, residual=added.view(bool)), conv1x1(x, w, residual=added != 0))
    same_bytes(conv1x1(spread("int8", (7, 9)), odd[:5]), conv1x1(spread("int8", (7, 9)), plain[:5]))


@pytest.mark.parametrize("wide", [np.int64, np.uint32, np.uint64, np.longlong, ">i8", ">u4", list])
def test_wider_integers_that_fit_int32(wide: Any) -> None:
    """Lists, and arrays that NumPy makes by itself, count as int32 pixels; as weights, as the least type they fit."""
    x, w, bias, residual = (np.abs(spread("int8", s) // 2) for s in [(9, 6), (5, 6), (5,), (9, 5)])

    def widened(a: Any) -> Any:
        return a.tolist() if wide is list else a.astype(wide)

    expected = exactly(x, w, bias) + residual
    same_bytes(conv1x1(widened(x), widened(w), widened(bias), residual=widened(residual)), expected)
    same_bytes(conv1x1(widened(x), w), exactly(x, w))
    same_bytes(conv1x1(x, widened(w), widened(bias)), exactly(x, w, bias).astype(np.int32))
    same_bytes(conv1x1(x.astype(np.float16), widened(w)), conv1x1(x.astype(np.float16), w.astype(np.float32)))
    layer = Conv1x1(widened(w), widened(bias))
    same_bytes(layer(x), exactly(x, w, bias).astype(np.int32))
    assert layer.weight.dtype == np.int32
    np.testing.assert_array_equal(layer.weight, w)


@pytest.mark.parametrize("w_type", [*FLOATS, *INTEGERS, "bool", "int64", ">f2", ">i2"])
def test_a_layer_keeps_its_weights_and_pickles(w_type: str) -> None:
    w, x = np.abs(spread("int8", (5, 6)) // 2).astype(w_type), spread("uint8", (9, 6))
    layer = Conv1x1(w, dtype=RESULTS[len(w_type)])
    again = pickle.loads(pickle.dumps(layer))
    np.testing.assert_array_equal(layer.weight, w)
    assert layer.dtype == again.dtype == RESULTS[len(w_type)]
    assert again.weight.dtype == layer.weight.dtype
    same_bytes(again(x), layer(x))
    same_bytes(layer(x), conv1x1(x, w, dtype=layer.dtype))


@pytest.mark.skipif("bfloat16" not in FLOATS, reason="needs ml_dtypes")
def test_bfloat16_in_a_fresh_process(fresh_python: Any) -> None:
    """Met for the first time as pixels, as out, as dtype, as its name, as residual, and in a pickle."""
    layer = pickle.dumps(Conv1x1([[2.0]], dtype="bfloat16"))
    for code in (
        "conv1x1(b, [[2.]])",
        "conv1x1(f, [[2.]], out=b)",
        "conv1x1(f, [[2.]], dtype=b.dtype)",
        "conv1x1(f, [[2.]], dtype='bfloat16')",
        "conv1x1(f, [[1.]], residual=b, dtype='bfloat16')",
        f"pickle.loads({layer!r})(f)",
        "Conv1x1([[2.]], dtype='bfloat16')(b)",
        "reference(b, [[2.]], dtype='bfloat16')",
    ):
        run = fresh_python(f"""
import pickle
import numpy as np
from conv1x1 import Conv1x1, conv1x1, reference
f = np.ones((3, 1), np.float32)
import ml_dtypes
b = f.astype(ml_dtypes.bfloat16)
y = {code}
print(y.dtype, (y == 2).all())
""")
        assert run.stdout == "bfloat16 True\n", (code, run.stderr)


@pytest.mark.parametrize("y_type", [None, "float16", "uint8", "int64"])
@pytest.mark.parametrize("x_type", PIXELS)
def test_nothing_at_all(x_type: str, y_type: Any) -> None:
    """No pixels, no channels, no filters."""
    for w_type in ("int8", "float32"):
        w = np.ones((5, 3), w_type)
        integers = w_type == "int8" and x_type not in FLOATS
        for shape, axis, weight in [((0, 3), -1, w), ((3, 4, 0), 0, w), ((4, 3), -1, w[:0]), ((0,), 0, w[:, :0])]:
            y = conv1x1(np.zeros(shape, x_type), weight, channel_axis=axis, dtype=y_type)
            expected = list(shape)
            expected[axis] = len(weight)
            assert y.shape == tuple(expected)
            assert y.dtype.kind == (
                np.dtype(y_type).kind
                if y_type
                else "i"
                if integers
                else np.dtype(x_type).kind
                if x_type in FLOATS
                else "f"
            )
        bias = np.arange(5).astype(w_type)
        np.testing.assert_array_equal(conv1x1(np.zeros((7, 0), x_type), w[:, :0], bias, dtype=y_type), [bias] * 7)


@pytest.mark.parametrize("dtype", RESULTS)
def test_in_place(isa: str, dtype: str) -> None:
    """The result goes to x itself, to the residual, across x, or in another type into the same memory."""
    w = spread("int8", (6, 6)) // 16
    for axis in (-1, 0):
        x, residual = summable(dtype, (6, 6)), summable(dtype, (6, 6), seed=1)
        expected = conv1x1(x, w, channel_axis=axis, residual=residual, dtype=dtype)
        own = x.copy()
        assert conv1x1(own, w, channel_axis=axis, residual=residual, out=own) is own
        same_bytes(own, expected)
        added = residual.copy()
        same_bytes(conv1x1(x, w, channel_axis=axis, residual=added, out=added), expected)
        long = np.concatenate([x, x])
        same_bytes(conv1x1(long[:6], w, channel_axis=axis, residual=residual, out=long[3:9]), expected)
    memory = np.zeros(720, np.uint8)
    x = memory[:36].reshape(6, 6)
    x[...] = spread("uint8", (6, 6))
    expected = conv1x1(x, w, dtype=dtype)
    out = memory[4 : 4 + 36 * expected.itemsize].view(dtype).reshape(6, 6)
    same_bytes(conv1x1(x, w, out=out), expected)


# ------------------------------------------------------------------------------------------------ promises

MEMORY = """
import resource, sys
import numpy as np
from conv1x1 import Conv1x1, conv1x1

def peak():
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024

x_type, w_type, y_type, axis = sys.argv[1:] if len(sys.argv) > 1 else ARGUMENTS
x = np.ones((1000, 1000, 48), x_type) if axis == "-1" else np.ones((48, 1000, 1000), x_type)
x[0] = 2
if SWAPPED:
    x = x.byteswap(True).view(x.dtype.newbyteorder())
layer = Conv1x1(np.ones((5, 48), w_type), channel_axis=int(axis), dtype=y_type)
before = peak()
y = layer(x, threads=2)
grown = peak() - before
assert y.dtype == y_type and y.max() == (96 if axis == "-1" else 49)
print(grown - y.nbytes / 2**20)
"""


@pytest.mark.parametrize(
    ("types", "swap"),
    [
        (("uint16", "float32", "float32"), False),
        (("uint16", "float32", "uint8"), True),
        (("uint8", "int8", "int32"), False),
        (("int8", "int8", "float16"), False),
        (("float16", "float32", "float16"), False),
        (("int64", "float32", "float64"), False),
        (("uint64", "int8", "int64"), True),
    ],
    ids=str,
)
@pytest.mark.parametrize("axis", [-1, 0])
def test_no_memory_beyond_the_tiles(fresh_python: Any, types: Any, swap: bool, axis: int) -> None:
    """A cube of up to 366 MB needs its result, two threads' tiles (3 MB each at most) and little more."""
    run = fresh_python(f"ARGUMENTS = {[*types, str(axis)]}\nSWAPPED = {swap}\n{MEMORY}")
    assert run.returncode == 0, run.stderr
    assert float(run.stdout) < 8


def exact_matrix(x: Any, m: Any) -> Any:
    return x.astype(np.float64) @ m[:, :3].T + (m[:, 3] if m.shape[1] == 4 else 0)


@pytest.mark.parametrize("columns", [3, 4])
@pytest.mark.parametrize("matrix", ["luma", "sepia", "random", "halves"])
def test_opencvs_transform(isa: str, matrix: str, columns: int) -> None:
    """To ±1 for uint8, and all of it is rounding.

    OpenCV rounds the matrix to multiples of 1/1024 and a half upwards, or, at the ends of rows and in some builds, as
    this package does: with a float32 matrix, and half to even. So they differ only where the value lies near a half,
    by no more than that matrix is off; for a matrix of such multiples, only at halves.
    """
    cv2 = pytest.importorskip("cv2")
    image = spread("uint8", (61, 83, 3))
    image[:2] = [[[0] * 3], [[255] * 3]]
    matrices = {
        "luma": np.array([[0.299, 0.587, 0.114], [0.5, -0.419, -0.081], [-0.169, -0.331, 0.5]]),
        "sepia": np.array([[0.393, 0.769, 0.189], [0.349, 0.686, 0.168], [0.272, 0.534, 0.131]]),
        "random": np.random.default_rng(0).normal(0, 0.7, (3, 3)),
        "halves": np.array([[0.5, 0.5, 0], [-0.5, 0.5, 1], [0.25, 0.25, 0.5]]),
    }
    m = np.hstack([matrices[matrix], [[10], [-20.5], [0.5]]])[:, :columns]
    theirs = cv2.transform(image, m).astype(int)
    ours = conv1x1(image, m[:, :3], m[:, 3] if columns == 4 else None, dtype=np.uint8)
    value = exact_matrix(image, m)
    from_half = np.abs(value - np.floor(value) - 0.5)
    differ = theirs != ours
    assert np.abs(theirs - ours).max() <= 1
    assert differ.mean() < 0.25
    assert (from_half[differ] <= (0 if matrix == "halves" else 3 * 255 / 2048 + 1 / 2048)).all()
    rounded = np.clip(np.rint(value), 0, 255)
    assert (from_half[rounded != ours] <= 1e-4).all()
    if matrix == "halves":
        np.testing.assert_array_equal(ours, rounded)
        assert differ.any()


# ----------------------------------------------------------------------------- the parameters of activations


@pytest.mark.parametrize("dtype", [None, "float16", "float32", "float64", "uint8", "int32", "int64"])
@pytest.mark.parametrize("kind", ["floats", "float64", "integers", "wide integers", "mixed"])
def test_parameters_of_any_size(isa: str, kind: str, dtype: Any) -> None:
    """Rounded to the type of the sums, and integers clipped beyond int32: as `reference` has it, infinities and all."""
    tiny, big, inf = 1e-320, 1e300, np.inf
    slopes = [0.0, tiny, -tiny, 1e-45, 1e-39, 0.01, 1.0, 1e38, 1e39, big, -big, inf, -inf]
    bounds = [(2**31, inf), (-inf, -(2**31) - 1), (2**31 - 1, 2**31), (2**40, 2**41), (-(2.0**70), -(2.0**69))]
    bounds += [(0, 16777217), (16777217, inf), (tiny, 1), (-tiny, tiny), (1e39, inf), (-inf, -1e39), (-1e39, 1e39)]
    bounds += [(0.5, 2.5), (-inf, inf), (inf, inf), (-inf, -inf), (2**53 + 2, inf), (-3, 2**62)]
    x: Any = np.int32([[0], [1], [-1], [100], [-(2**31)], [2**31 - 1]])
    if kind == "mixed":
        x = np.int16([[0], [1], [-1], [100], [-(2**15)], [2**15 - 1]])
    if "float" in kind:
        limits = np.finfo("float64" if kind == "float64" else "float32")
        special = [0, -0.0, 1, -1, np.nan, inf, -inf, limits.max, -limits.max, limits.tiny, -limits.tiny, 1e9, -1e9]
        x = np.array(special, limits.dtype)[:, None]
    if kind == "integers":
        x = x.clip(0, 255).astype(np.uint8)
    w = np.int8([[1], [-1]]) if "integers" in kind else np.ones((2, 1), np.float32)
    for activation in [*(("leaky_relu", s) for s in slopes), *(("clip", *b) for b in bounds)]:
        y = conv1x1(x, w, activation=activation, dtype=dtype)
        expected = reference(x, w, activation=activation, dtype=dtype)
        with np.errstate(all="ignore"):
            np.testing.assert_array_equal(y, expected if dtype else expected.astype(y.dtype), str(activation))
            if dtype is None and np.issubdtype(y.dtype, np.integer):
                np.testing.assert_array_equal(y, expected, str(activation))
