"""Quantised convolutions are exact to the bit: whole numbers against int64, the rest against its definition."""

from __future__ import annotations

import copy
import io
import itertools
import pickle
import re
import threading
import tracemalloc
from typing import Any

import numpy as np
import pytest

from conv1x1 import (
    Conv1x1,
    QConv1x1,
    calibration,
    conv1x1_integer,
    qlinear_conv1x1,
    reference_integer,
    reference_qlinear,
)
from conv1x1.runtime import restricted

INT8, UINT8 = np.int8, np.uint8
TYPES = [INT8, UINT8]
F = np.float32


def numbers(seed: int, dtype: Any, *shape: int, ends: bool = False) -> Any:
    """Numbers from all of a type's range, or nothing but its two ends."""
    info, random = np.iinfo(dtype), np.random.default_rng([seed, *shape])
    if ends:
        return random.choice([info.min, info.max], shape).astype(dtype)
    return random.integers(info.min, info.max, shape, dtype, endpoint=True)


def zeros_of(dtype: Any) -> list[Any]:
    """The zero points at which something can go wrong."""
    info = np.iinfo(dtype)
    return sorted({info.min, -1, 0, 1, 128, info.max} & set(range(info.min, info.max + 1)))


def same(a: Any, b: Any) -> None:
    assert (a.shape, a.dtype) == (b.shape, b.dtype)
    np.testing.assert_array_equal(a, b)


# ----------------------------------------------------------------------------------------- sums, against int64


@pytest.mark.usefixtures("isa")
@pytest.mark.parametrize("w_type", TYPES)
@pytest.mark.parametrize("x_type", TYPES)
def test_every_product(x_type: Any, w_type: Any) -> None:
    """All 256 × 256 of them, channels last and first, with every zero point that matters."""
    x = np.arange(np.iinfo(x_type).min, np.iinfo(x_type).max + 1).astype(x_type)
    w = np.arange(np.iinfo(w_type).min, np.iinfo(w_type).max + 1).astype(w_type)
    for xz, wz in itertools.product(zeros_of(x_type), zeros_of(w_type)):
        products = np.multiply.outer(x.astype(np.int64) - xz, w.astype(np.int64) - wz).astype(np.int32)
        same(conv1x1_integer(x[:, None], w[:, None], xz, wz), products)
        same(conv1x1_integer(x[None, :], w[:, None], xz, wz, channel_axis=0), np.ascontiguousarray(products.T))


@pytest.mark.usefixtures("isa")
@pytest.mark.parametrize("w_type", TYPES)
@pytest.mark.parametrize("x_type", TYPES)
def test_sums_of_extremes(x_type: Any, w_type: Any) -> None:
    """No product and no sum of neighbours saturates: the ends of the types, over every number of channels' rest."""
    lowest, highest = (np.array([np.iinfo(t).min, np.iinfo(t).max]) for t in (x_type, w_type))
    for channels in [*range(1, 20), 31, 32, 33, 63, 64, 65, 127, 128, 129, 300]:
        for xv, wv in itertools.product(lowest, highest):
            x, w = np.full((5, channels), xv, x_type), np.full((3, channels), wv, w_type)
            for xz, wz in itertools.product(zeros_of(x_type)[::2], zeros_of(w_type)[::2]):
                expected = np.full((5, 3), channels * (int(xv) - xz) * (int(wv) - wz), np.int32)
                same(conv1x1_integer(x, w, xz, wz), expected)
                same(conv1x1_integer(x.T, w, xz, wz, channel_axis=0), expected.T)


@pytest.mark.usefixtures("isa")
@pytest.mark.parametrize("ends", [False, True])
@pytest.mark.parametrize("w_type", TYPES)
@pytest.mark.parametrize("x_type", TYPES)
def test_sums_of_all_sizes(x_type: Any, w_type: Any, ends: bool) -> None:
    sizes = itertools.product([1, 2, 3, 4, 7, 33, 130], [1, 2, 5, 16, 17, 40], [1, 6, 37])
    for i, (channels, filters, pixels) in enumerate(sizes):
        x = numbers(i, x_type, pixels, channels, ends=ends)
        w = numbers(i, w_type, filters, channels, ends=ends)
        xz, wz = numbers(i, x_type, 1)[0], numbers(i, w_type, filters)
        expected = ((x.astype(np.int64) - int(xz)) @ (w.astype(np.int64) - wz[:, None]).T).astype(np.int32)
        same(conv1x1_integer(x, w, xz, wz), expected)
        same(conv1x1_integer(x.T, w, xz, wz, channel_axis=0), expected.T)
        same(conv1x1_integer(np.ascontiguousarray(x.T), w, xz, wz, channel_axis=0), expected.T)


@pytest.mark.parametrize(
    ("x_type", "w_type", "limit"),
    [(UINT8, UINT8, 33_025), (UINT8, INT8, 65_793), (INT8, UINT8, 65_793), (INT8, INT8, 131_071)],
)
def test_as_many_channels_as_fit_and_no_more(isa: str, x_type: Any, w_type: Any, limit: int) -> None:
    """At the limit the largest sums are right, though what is inside may wrap; one past it the call says so."""
    ends = [(np.iinfo(t).min, np.iinfo(t).max) for t in (x_type, w_type)]
    largest = max(abs(a * b) for a, b in itertools.product(*ends))
    assert limit * largest < 2**31 <= (limit + 1) * largest
    for xv, wv in itertools.product(*ends):
        x, w = np.full((1, limit), xv, x_type), np.full((2, limit), wv, w_type)
        for orientation in ("pixels_as_rows", "pixels_as_lanes"):
            with restricted(isa=isa, orientation=orientation):
                same(conv1x1_integer(x, w), np.full((1, 2), limit * xv * wv, np.int32))
    x, w = np.zeros((1, limit + 1), x_type), np.zeros((2, limit + 1), w_type)
    with pytest.raises(ValueError, match=rf"w has {limit + 1} channels.*int32 up to {limit} channels"):
        conv1x1_integer(x, w)
    with pytest.raises(ValueError, match=rf"up to {limit} channels"):
        qlinear_conv1x1(x, 1, 0, w, 1, 0, 1, np.uint8(0))
    with pytest.raises(ValueError, match=rf"{limit + 1} channels in each group"):
        conv1x1_integer(np.concatenate([x, x], 1), w, groups=2)


def test_zero_points_bring_the_limit_down() -> None:
    x, w = np.zeros((1, 40_000), INT8), np.zeros((2, 40_000), INT8)
    assert not conv1x1_integer(x, w).any()
    with pytest.raises(ValueError, match="up to 33025 channels"):
        conv1x1_integer(x, w, np.int8(-128), np.int8([0, 127]))


# ------------------------------------------------------------------------------------------------ the definition


def a_call(seed: int) -> tuple[tuple[Any, ...], dict[str, Any]]:
    """Arguments of qlinear_conv1x1, of all forms and layouts: x is the first of them."""
    random = np.random.default_rng(seed)
    x_type, w_type, y_type = (TYPES[random.integers(2)] for _ in "xwy")
    groups = int(random.choice([1, 1, 1, 2, 3]))
    per_group, filters = int(random.choice([1, 3, 8, 19, 64])), groups * int(random.choice([1, 2, 5, 16, 23]))
    axis = int(random.integers(3))
    shape = [int(n) for n in random.integers(1, 8, 3)]
    shape[axis] = per_group * groups
    x = numbers(seed, x_type, *(2 * n for n in shape), ends=random.random() < 0.2)
    x = x[tuple(slice(0, None, 2) if random.random() < 0.5 else slice(n) for n in shape)]
    if random.random() < 0.3:
        x = x[::-1, :, ::-1]
    w = numbers(seed, w_type, filters, per_group, ends=random.random() < 0.2)
    spread = random.uniform(0.2, 5) * 75 * 75 * np.sqrt(per_group) / 128
    each = random.random() < 0.5
    w_scale = random.uniform(0.001, 0.1, filters).astype(F) if each else F(random.uniform(0.001, 0.1))
    x_scale = F(random.uniform(0.001, 0.1))
    y_scale = F(x_scale * w_scale.mean() * spread)
    if random.random() < 0.3:  # powers of two: ties at .5
        x_scale, w_scale, y_scale = F(0.5), F(0.25), F(2.0 ** int(random.integers(-2, 8)))
    bias = None if random.random() < 0.4 else random.integers(-3000, 3000, filters).astype(np.int32)
    activation = [None, None, "relu", "relu6", ("clip", -3.3 * float(y_scale), 20.5 * float(y_scale))][
        random.integers(5)
    ]
    stride = [1, 1, 2, (1, 3)][random.integers(4)]
    w_zero = numbers(seed, w_type, filters) if random.random() < 0.4 else numbers(seed, w_type, 1)[0]
    if random.random() < 0.3:
        w_zero = 0
    if random.random() < 0.1 and groups == 1:
        w, bias = w[0], None if bias is None else bias[:1]
        w_zero, w_scale = (np.ravel(v)[0] for v in (w_zero, w_scale))
    elif random.random() < 0.5:
        w = w[..., None, None] if random.random() < 0.5 else np.ascontiguousarray(w.T)[None, None]
    zeros = [numbers(seed + i, t, 1)[0] for i, t in enumerate((x_type, y_type))]
    options = {"channel_axis": axis - 3 * int(random.integers(2)), "stride": stride, "groups": groups}
    positional = (x, x_scale, zeros[0], w, w_scale, w_zero, y_scale, zeros[1], bias)
    return positional, options | {"activation": activation}


def in_onnx_order(
    x_scale: Any,
    x_zero_point: Any,
    w: Any,
    w_scale: Any,
    w_zero_point: Any,
    y_scale: Any,
    y_zero_point: Any,
    bias: Any = None,
    *,
    cls: type[QConv1x1] = QConv1x1,
    **options: Any,
) -> QConv1x1:
    """A layer of what the function takes after x."""
    of_x, of_w = {"x_scale": x_scale, "x_zero_point": x_zero_point}, {"w_scale": w_scale, "w_zero_point": w_zero_point}
    return cls(w, bias, **of_x, **of_w, y_scale=y_scale, y_zero_point=y_zero_point, **options)


@pytest.mark.drawn
@pytest.mark.usefixtures("isa")
def test_the_same_as_the_definition() -> None:
    """300 calls, and as many more as it takes for every number of both types to be a result."""
    results: set[int] = set()
    for seed in range(3000):
        if seed >= 300 and results == set(range(-128, 256)):
            break
        args, options = a_call(seed)
        expected = reference_qlinear(*args, **options)
        same(qlinear_conv1x1(*args, **options), expected)
        out = np.full([2 * n for n in expected.shape], 77, expected.dtype)[
            tuple([slice(None, None, -2)] * expected.ndim)
        ]
        assert qlinear_conv1x1(*args, **options, out=out, threads=2) is out
        same(out, expected)
        assert (out.base == 77).sum() >= out.base.size - expected.size
        results.update(np.unique(expected).tolist())
        x, _, xz, w, _, wz, *_ = args
        del options["activation"]
        same(conv1x1_integer(x, w, xz, wz, **options), reference_integer(x, w, xz, wz, **options))
    assert results == set(range(-128, 256))


@pytest.mark.usefixtures("isa")
def test_large_calls_in_threads() -> None:
    """The same bits when the work is shared, in both layouts, as on one thread and as in int64."""
    x, w = numbers(1, UINT8, 60, 70, 96), numbers(2, INT8, 130, 96)
    bias = numbers(3, INT8, 130).astype(np.int32) * 50
    scales = np.linspace(0.001, 0.002, 130, dtype=F)
    layer = in_onnx_order(0.02, np.uint8(11), w, scales, 0, 0.01, np.int8(-5), bias)
    sums = (x.astype(np.int64) - 11) @ w.T.astype(np.int64) + bias
    scaled = sums.astype(np.int32).astype(F) * (F(0.02) * scales / F(0.01))
    expected = (np.rint(np.clip(scaled, -123, 132)) - 5).astype(np.int8)
    for threads in (1, 2, 3):
        same(layer(x, threads=threads), expected)
    first = in_onnx_order(0.02, np.uint8(11), w, scales, 0, 0.01, np.int8(-5), bias, channel_axis=0)
    y = first(np.ascontiguousarray(np.moveaxis(x, -1, 0)), threads=2)
    same(np.ascontiguousarray(np.moveaxis(y, 0, -1)), expected)


def bias_alone(bias: Any, multiplier: Any, y_zero_point: Any, **options: Any) -> Any:
    """What becomes of these sums: the weights are zeros, so the bias is the sum."""
    bias = np.asarray(bias, np.int32)
    x, w = np.full((1, 3), 200, UINT8), np.zeros((len(bias), 3), INT8)
    return qlinear_conv1x1(x, 1, 7, w, multiplier, 0, 1, y_zero_point, bias, **options)[0]


@pytest.mark.usefixtures("isa")
def test_ties_go_to_even_before_the_zero_point_is_added() -> None:
    halves = [-7, -5, -3, -2, -1, 0, 1, 2, 3, 5, 7]
    rounded = np.array([-4, -2, -2, -1, 0, 0, 0, 1, 2, 2, 4])
    for zero in (100, 101):
        same(bias_alone(halves, 0.5, np.uint8(zero)), (rounded + zero).astype(np.uint8))
    same(bias_alone(halves, 0.5, np.int8(-3)), (rounded - 3).astype(np.int8))


@pytest.mark.usefixtures("isa")
def test_what_leaves_the_type_is_clamped() -> None:
    for dtype in TYPES:
        info = np.iinfo(dtype)
        for zero in zeros_of(dtype):
            sums = np.array([-(2**31), -100_000, info.min - 1, info.min, info.max, info.max + 1, 100_000, 2**31 - 1])
            expected = np.clip(sums + zero, info.min, info.max).astype(dtype)
            same(bias_alone(sums, 1, dtype(zero)), expected)
            same(bias_alone([-1, 0, 1], 1e30, dtype(zero)), np.array([info.min, zero, info.max], dtype))
            same(bias_alone([-(2**31), 0, 2**31 - 1], 1e-30, dtype(zero)), np.array([zero] * 3, dtype))


@pytest.mark.usefixtures("isa")
def test_activations_narrow_the_clamp_in_real_numbers() -> None:
    sums = np.arange(-40, 41)
    for activation, lo, hi in [
        (None, -40, 40),
        ("relu", 0, 40),
        ("relu6", 0, 24),
        (("clip", -2, 3), -8, 12),
        (("clip", -2.1, 3.1), -8, 12),  # −8.4 and 12.4, rounded after they are clamped
        (("clip", -0.6, np.inf), -2, 40),
        (("clip", 1, 1), 4, 4),
        (("clip", 0, 1e300), 0, 40),
        (("clip", 100, 200), 127, 127),  # past all the type can say
        (("clip", -200, -100), -128, -128),
    ]:
        y = qlinear_conv1x1(
            np.ones((1, 1), INT8), 0.25, 0, np.zeros((81, 1), INT8), 1, 0, 0.25, np.int8(0), sums, activation=activation
        )
        same(y[0], np.clip(sums, lo, hi).astype(np.int8) if lo != hi else np.full(81, lo, np.int8))


@pytest.mark.usefixtures("isa")
def test_sums_become_float32_before_they_are_scaled() -> None:
    """2²⁴ + 1 is no float32, and its half would not be a tie if it were."""
    sums = [2**24 + 1, 2**24 + 3, 2**25 + 2, 2**25 + 6, 2**31 - 1]
    multiplier = 2.0**-18
    for s in sums:
        expected = np.rint(F(s) * F(multiplier))
        zero = np.clip(expected, 0, 100)
        same(bias_alone([s], multiplier, np.uint8(zero)), np.array([min(expected + zero, 255)], np.uint8))
    # 255·65793 = 2²⁴ − 1 and 255.5·65793 are ties' neighbours: exact products of float32 would tell them apart
    odd = 16_777_217
    assert bias_alone([odd], 1 / 16_777_216 * 0.5, np.uint8(0)) == 0
    assert bias_alone([odd + 1], 1 / 16_777_216 * 0.5, np.uint8(0)) == 1


def test_a_bias_wraps_as_int32_does() -> None:
    """With zero points it is folded modulo 2³², and comes out again."""
    x, w = np.full((1, 4), 255, UINT8), np.full((2, 4), 127, INT8)
    bias = np.array([2**31 - 1, -(2**31)], np.int32)
    for xz, wz in [(0, 0), (255, 0), (3, -128)]:
        total = 4 * (255 - xz) * (127 - wz) + bias.astype(np.int64)
        wrapped = (total + 2**31) % 2**32 - 2**31
        expected = np.clip(np.rint(wrapped.astype(F) * F(2.0**-24)) + 100, 0, 255).astype(np.uint8)
        args = (x, 2.0**-24, xz, w, 1, wz, 1, np.uint8(100), bias)
        same(qlinear_conv1x1(*args)[0], expected)
        same(reference_qlinear(*args)[0], expected)
    # here only the folded bias leaves int32, by 873; the sum is 1000
    x, w = np.full((1, 65_793), 255, UINT8), np.full((1, 65_793), -128, INT8)
    args = (x, 0.1, 100, w, 1, 0, 1, np.uint8(0), [(255 - 100) * 128 * 65_793 + 1000])
    assert qlinear_conv1x1(*args) == reference_qlinear(*args) == 100


def test_the_multiplier_is_worked_out_from_left_to_right_in_float32() -> None:
    """Sums for which any other order of the two operations, or float64, gives another result."""
    random, halves = np.random.default_rng(5), np.arange(0.5, 255)
    found = 0
    for xs, ws, ys in random.uniform(0.001, 1, (4000, 3)).astype(F):
        ours, others = xs * ws / ys, {xs * (ws / ys), xs / ys * ws, F(float(xs) * float(ws) / float(ys))}
        sums = (np.round(halves / float(ours))[:, None] + [-1, 0, 1]).ravel()
        for other in others - {ours}:
            telling = sums[np.rint(sums.astype(F) * ours) != np.rint(sums.astype(F) * other)].astype(int)
            if telling.size:
                x, w = np.zeros((1, 1), UINT8), np.zeros((len(telling), 1), INT8)
                y = qlinear_conv1x1(x, xs, 0, w, ws, 0, ys, np.uint8(0), telling)
                same(y[0], np.rint(telling.astype(F) * ours).astype(np.uint8))
                found += 1
    assert found > 50


def test_empty_arrays() -> None:
    for shape, w_shape in [((0, 5), (3, 5)), ((4, 5), (0, 5)), ((4, 0), (3, 0)), ((0, 0), (0, 0))]:
        x, w = np.zeros(shape, UINT8), np.zeros(w_shape, INT8)
        bias = np.arange(w_shape[0], dtype=np.int32)
        same(conv1x1_integer(x, w, 3), reference_integer(x, w, 3))
        args = (x, 0.5, 3, w, 0.5, 0, 0.25, np.uint8(9), bias)
        same(qlinear_conv1x1(*args), reference_qlinear(*args))
        same(in_onnx_order(0.5, np.uint8(3), *args[3:])(x), reference_qlinear(*args))


# -------------------------------------------------------------------------------------------------- the layer


def made(cls: type[QConv1x1] = QConv1x1, **options: Any) -> tuple[QConv1x1, Any]:
    """A layer with all there is to keep, and an x for it."""
    w, bias = numbers(1, INT8, 8, 3), np.arange(8, dtype=np.int32) * 1000
    scales, zeros = np.linspace(0.1, 0.2, 8, dtype=F), numbers(2, INT8, 8)
    options = {"channel_axis": 1, "stride": (2, 1), "groups": 2, "activation": ("clip", -900, 1000)} | options
    layer = in_onnx_order(0.5, np.uint8(100), w, scales, zeros, 9, np.int8(-3), bias, cls=cls, **options)
    return layer, numbers(3, UINT8, 2, 6, 5, 7)


@pytest.mark.drawn
def test_a_layer_gives_what_the_function_gives() -> None:
    for seed in range(100):
        (x, *args), options = a_call(seed)
        same(in_onnx_order(*args, **options)(x), qlinear_conv1x1(x, *args, **options))


def test_what_a_layer_tells() -> None:
    layer, _ = made()
    assert repr(layer) == (
        "<QConv1x1 6 → 8, uint8 · int8 → int8, bias, channel_axis=1, stride=(2, 1), groups=2, "
        "activation=('clip', -900.0, 1000.0)>"
    )
    same(layer.weight, numbers(1, INT8, 8, 3))
    same(layer.w_scale, np.linspace(0.1, 0.2, 8, dtype=F))
    same(layer.w_zero_point, numbers(2, INT8, 8))
    assert layer.bias is not None
    same(layer.bias, np.arange(8, dtype=np.int32) * 1000)
    scalars = (layer.x_scale, layer.x_zero_point, layer.y_scale, layer.y_zero_point)
    assert [(type(v), v) for v in scalars] == [(F, 0.5), (UINT8, 100), (F, 9), (INT8, -3)]
    assert (layer.in_channels, layer.out_channels, layer.groups) == (6, 8, 2)
    assert (layer.channel_axis, layer.stride, layer.activation) == (1, (2, 1), ("clip", -900, 1000))
    assert layer.snr is None
    plain = in_onnx_order(1, np.int8(0), np.ones(3, INT8), 1, 0, 1, np.int8(0))
    assert repr(plain) == "<QConv1x1 3 → 1, int8 · int8 → int8, channel_axis=-1>"
    assert (plain.bias, plain.stride, plain.groups, plain.activation) == (None, 1, 1, None)
    assert plain.weight.shape == (3,)
    assert plain(np.ones((2, 4, 3), INT8)).shape == (2, 4)
    assert (
        in_onnx_order(1, np.int8(0), np.ones((2, 3), INT8), 1, 0, 1, np.int8(0), activation="relu6").activation
        == "relu6"
    )


def test_a_layer_never_changes() -> None:
    w, bias, scales, zeros = numbers(1, INT8, 8, 6), np.arange(8, dtype=np.int32), np.ones(8, F), numbers(2, INT8, 8)
    layer = in_onnx_order(0.5, np.uint8(100), w, scales, zeros, 0.7, np.int8(-3), bias)
    x = numbers(3, UINT8, 5, 6)
    before, shown, pickled = layer(x), repr(layer), pickle.dumps(layer)
    for a in (w, bias, scales, zeros):
        a[...] = 1
    for a in (layer.weight, layer.bias, layer.w_scale, layer.w_zero_point):
        assert a is not None
        with pytest.raises(ValueError, match="read-only"):
            a[...] = 0
        with pytest.raises(ValueError, match="WRITEABLE"):
            a.flags.writeable = True
    for name in [n for n in dir(layer) if not n.startswith("__")] + ["new"]:
        with pytest.raises(AttributeError):
            setattr(layer, name, 1)
        with pytest.raises(AttributeError):
            delattr(layer, name)
    same(layer(x), before)
    assert (repr(layer), pickle.dumps(layer)) == (shown, pickled)


TRIPS = {
    "copy": copy.copy,
    "deepcopy": copy.deepcopy,
    **{f"pickle {p}": lambda v, p=p: pickle.loads(pickle.dumps(v, p)) for p in range(2, pickle.HIGHEST_PROTOCOL + 1)},
}


class Noted(QConv1x1):
    """A layer whose instances take attributes."""


@pytest.mark.parametrize("trip", TRIPS)
def test_a_round_trip_keeps_every_bit(trip: str) -> None:
    layer, x = made(Noted)
    layer.note = "kept"  # type: ignore[attr-defined]
    other = TRIPS[trip](layer)
    assert type(other) is Noted
    assert other.note == "kept"
    assert repr(other) == repr(layer)
    same(other(x), layer(x))
    single = in_onnx_order(1, np.int8(0), np.ones(3, INT8), 1, 0, 1, np.int8(0))
    assert TRIPS[trip](single)(np.ones((2, 3), INT8)).tolist() == [3, 3]


def test_a_pickle_names_nothing_but_the_package_and_numpy() -> None:
    layer, x = made()
    names = set()

    class Watched(pickle.Unpickler):
        def find_class(self, module: str, name: str) -> Any:
            names.add((module.split(".")[0], name))
            return super().find_class(module, name)

    same(Watched(io.BytesIO(pickle.dumps(layer))).load()(x), layer(x))
    assert {name for module, name in names if module == "conv1x1"} == {"_rebuilt", "QConv1x1"}
    assert {name for module, name in names if module != "conv1x1"} <= {
        "_reconstruct",
        "_frombuffer",
        "ndarray",
        "dtype",
        "scalar",
    }


def test_one_layer_in_many_threads() -> None:
    layer = in_onnx_order(0.02, np.uint8(11), numbers(2, INT8, 40, 48), 0.01, 0, 0.05, np.uint8(100))
    xs = [numbers(n, UINT8, n, 48) for n in (1, 3, 500, 9000)]
    copy_of_it = pickle.loads(pickle.dumps(layer))
    expected, start, right = [copy_of_it(x) for x in xs], threading.Barrier(6), []

    def work() -> None:
        start.wait()
        right.extend(
            np.array_equal(layer(x, threads=2), y) for _ in range(5) for x, y in zip(xs, expected, strict=True)
        )

    threads = [threading.Thread(target=work) for _ in range(6)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join(60)
    assert right == [True] * 6 * 5 * len(xs)


# ----------------------------------------------------------------------------------------------- made from floats


def a_float_layer(seed: int = 0, **options: Any) -> tuple[Conv1x1, Any]:
    random = np.random.default_rng(seed)
    groups = options.get("groups", 1)
    w = random.normal(size=(24, 32 // groups)).astype(F) * random.uniform(0.1, 10, (24, 1)).astype(F)
    bias = random.normal(size=24).astype(F)
    return Conv1x1(w, bias, **options), random.normal(1, 2, (15, 16, 32)).astype(F)


def snr(y: Any, approximate: Any) -> float:
    y = y.astype(np.float64)
    return float(10 * np.log10((y**2).sum() / ((y - approximate) ** 2).sum()))


@pytest.mark.parametrize("dtype", TYPES)
@pytest.mark.parametrize(
    "options",
    [{}, {"activation": "relu"}, {"activation": "relu6", "stride": 2}, {"activation": ("clip", -3, 9), "groups": 4}],
)
def test_a_layer_from_floats(dtype: Any, options: dict[str, Any]) -> None:
    layer, x = a_float_layer(**options)
    quantised = QConv1x1.from_float(layer, calibration=x, dtype=dtype)
    pixels = quantised.quantize(x)
    assert pixels.dtype == dtype
    y = quantised(pixels)
    assert y.dtype == dtype
    assert quantised.snr == pytest.approx(snr(layer(x), quantised.dequantize(y)), abs=1e-6)
    assert quantised.snr > 30
    assert f"snr={quantised.snr:.1f} dB" in repr(quantised)
    assert pickle.loads(pickle.dumps(quantised)).snr == quantised.snr
    assert (quantised.stride, quantised.groups, quantised.activation) == (layer.stride, layer.groups, layer.activation)
    # symmetric weights, each filter by itself, and ranges that end where the numbers do
    assert not quantised.w_zero_point.any()
    assert (np.abs(quantised.weight.astype(int)).max(axis=1) == 127).all()
    error = np.abs(quantised.weight * quantised.w_scale[:, None] - layer.weight)
    assert (error <= 0.5001 * quantised.w_scale[:, None]).all()
    info = np.iinfo(dtype)
    for q in (pixels, y):
        assert q.min() <= info.min + 1
        assert q.max() >= info.max - 1
    assert quantised.dequantize(quantised.y_zero_point) == 0
    assert quantised.quantize(0.0) == quantised.x_zero_point


def test_layers_of_a_chain_fit() -> None:
    first, x = a_float_layer(activation="relu")
    second = Conv1x1(np.random.default_rng(9).normal(size=(7, 24)))
    between = first(x)
    a, b = QConv1x1.from_float(first, calibration=x), QConv1x1.from_float(second, calibration=between)
    assert (a.y_scale, a.y_zero_point) == (b.x_scale, b.x_zero_point)
    assert snr(second(between), b.dequantize(b(a(a.quantize(x))))) > 30


def test_percentiles_leave_out_the_outermost() -> None:
    layer, x = a_float_layer(activation="relu")
    x[0, 0, 0] = 4000  # an outlier
    all_of_it = QConv1x1.from_float(layer, calibration=x)
    most = QConv1x1.from_float(layer, calibration=x, percentile=99.9)
    lo, hi = np.percentile(x.astype(np.float64), (0.1, 99.9))
    assert most.x_scale == pytest.approx((hi - lo) / 255, rel=1e-6)
    assert most.x_zero_point == np.rint(-lo / most.x_scale)
    assert all_of_it.x_scale == pytest.approx((4000 - x.min()) / 255, rel=1e-6)
    clean = a_float_layer()[1]
    assert snr(layer(clean), most.dequantize(most(most.quantize(clean)))) > 20
    assert snr(layer(clean), all_of_it.dequantize(all_of_it(all_of_it.quantize(clean)))) < 10


def test_a_range_has_0_in_it() -> None:
    """So that 0, and a padding of zeros, is exact."""
    for sign, ends in ((1, (0, 255)), (-1, (255, 0))):
        x = sign * np.linspace(100, 300, 50, dtype=F).reshape(-1, 2)
        quantised = QConv1x1.from_float(Conv1x1(np.eye(2)), calibration=x)
        for scale, zero in ((quantised.x_scale, quantised.x_zero_point), (quantised.y_scale, quantised.y_zero_point)):
            assert scale == pytest.approx(300 / 255)
            assert zero == ends[0]
        same(quantised.quantize([0, 300 * sign]), np.array(ends, np.uint8))


def test_hard_weights_from_floats() -> None:
    """A filter of zeros, one that is tiny under a large bias, one weight alone: each is as good as it can be."""
    w = np.array([[0, 0], [1e-12, -1e-12], [3, 0], [0, 0]], F)
    layer = Conv1x1(w, np.array([5, 5, 0, 0], F))
    x = np.random.default_rng(0).uniform(-1, 1, (50, 2)).astype(F)
    quantised = QConv1x1.from_float(layer, calibration=x)
    y = quantised.dequantize(quantised(quantised.quantize(x)))
    assert np.abs(y - layer(x)).max() < quantised.y_scale
    assert quantised.w_scale[3] == 1
    nothing = QConv1x1.from_float(Conv1x1(np.zeros((2, 2))), calibration=np.zeros((3, 2)))
    assert nothing.snr == np.inf
    assert not nothing.dequantize(nothing(nothing.quantize(np.zeros((3, 2))))).any()
    unbiased = QConv1x1.from_float(Conv1x1(w), calibration=x)
    assert unbiased.bias is None
    vector = QConv1x1.from_float(Conv1x1(w[2], channel_axis=0), calibration=x.T)
    assert vector(vector.quantize(x.T)).shape == (50,)


def test_a_calibration_is_read_in_pieces(monkeypatch: pytest.MonkeyPatch) -> None:
    """Not copied, nor its result kept; however small the pieces, the outcome is that of all at once."""
    random = np.random.default_rng(0)
    x = random.normal(size=(300, 200, 32)).astype(F)
    layer = Conv1x1(random.normal(size=(48, 32)))
    for percentile, most in ((100, 0.4), (99, 0.6)):
        tracemalloc.start()
        try:
            QConv1x1.from_float(layer, calibration=x, percentile=percentile)
            assert tracemalloc.get_traced_memory()[1] < most * x.nbytes
        finally:
            tracemalloc.stop()
    for options in ({}, {"stride": 3}, {"channel_axis": 0}, {"channel_axis": 1, "stride": (2, 1)}):
        w = random.normal(size=(5, 7)).astype(F)
        image = np.moveaxis(random.normal(size=(16, 31, 7)).astype(F), -1, options.get("channel_axis", -1))
        for percentile in (100, 99.5, 60):
            made = []
            for piece in (1, 300, 2**16):
                monkeypatch.setattr(calibration, "_PIECE", piece)
                made.append(QConv1x1.from_float(Conv1x1(w, **options), calibration=image, percentile=percentile))
            lo, hi = np.percentile(image.astype(np.float64), (100 - percentile, percentile))
            for quantised in made:
                assert quantised.x_scale == pytest.approx((hi - lo) / 255, rel=1e-6)
                assert quantised.y_scale == made[0].y_scale
                assert quantised.snr == pytest.approx(made[0].snr)
    assert QConv1x1.from_float(Conv1x1(w), calibration=np.ones(7)).x_scale == F(1 / 255)  # one pixel


def test_a_calibration_is_of_real_numbers_not_of_the_results_type() -> None:
    """A layer that saturates its results is no measure of what the filters make."""
    for dtype in (np.uint8, np.int8, np.int32, np.float16):
        layer, x = a_float_layer(dtype=dtype)
        quantised, real = (QConv1x1.from_float(a, calibration=x) for a in (layer, a_float_layer()[0]))
        assert (quantised.y_scale, quantised.y_zero_point) == (real.y_scale, real.y_zero_point)
        assert quantised.snr == real.snr
    whole = Conv1x1(np.full((1, 3), 127, INT8))  # sums of these are refused without a type to sum them in
    assert QConv1x1.from_float(whole, calibration=np.full((4, 3), 2**30, np.int32)).snr > 60


@pytest.mark.parametrize("size", [0, 1e-323, 1e-300, 1e-46, 1e-45, 1e-40, 2e-38, 1e-36, 1e-30, 1e30, 3e38])
def test_a_scale_is_always_a_number(size: float) -> None:
    x = np.linspace(-size, size, 30).reshape(10, 3)
    least = np.finfo(F).tiny
    for w in (np.eye(3), np.full((2, 3), 1e-42), np.full((2, 3), 1e-300)):
        for bias in (None, np.ones(len(w)), np.full(len(w), 1e-40)):
            quantised = QConv1x1.from_float(Conv1x1(w, bias), calibration=x)
            for scale in (quantised.x_scale, quantised.y_scale, quantised.w_scale.min()):
                assert least <= scale < np.inf
            y = quantised.dequantize(quantised(quantised.quantize(x)))
            assert (np.abs(y - Conv1x1(w, bias)(x)) <= 2 * quantised.y_scale + 3 * quantised.x_scale).all()


def test_what_no_scale_is_for() -> None:
    for w, bias, x, says in [
        (1.0, None, 1e39, "calibration reaches from 0 to 1e+39: quantised arrays stand for float32"),
        (1e30, None, 1e30, "the layer's result reaches from 0 to 1e+60"),
        (1e300, None, 1e-300, "filter 0 has weights up to 1e+300"),
        (1.0, 1e38, 1e-30, "filter 0 has weights up to 1 and a bias of 1e+38"),
        (1e300, None, 1e300, "the layer's result holds NaN or infinity"),
    ]:
        with pytest.raises(ValueError, match=re.escape(says)):
            QConv1x1.from_float(Conv1x1([[w]], None if bias is None else [bias]), calibration=[[x]])


def test_quantize_and_dequantize_take_numbers() -> None:
    layer, x = a_float_layer()
    quantised = QConv1x1.from_float(layer, calibration=x)
    refused = ["abc", ["1", "2"], [b"1"], [None], {}, 1j, np.ones(2, "M8[s]"), np.zeros(2, "f4,f4"), [10**30, None]]
    for values in refused:
        for function, name in ((quantised.quantize, "x"), (quantised.dequantize, "y")):
            with pytest.raises(TypeError, match=f"{name} (has dtype|is a dict)"):
                function(values)
    for dtype in (np.float16, F, np.float64, np.longdouble):
        with pytest.raises(ValueError, match="x holds NaN"):
            quantised.quantize(np.array([1, np.nan], dtype))
    for values in (np.nan, np.inf, [1, 0.5]):
        with pytest.raises(ValueError, match="y holds numbers that are not whole"):
            quantised.dequantize(values)
    zero = int(quantised.x_zero_point)
    for values in ([0, 0], np.zeros(2, bool), np.zeros(2, np.int64), np.zeros(2, ">f4"), np.zeros(2, np.float16)):
        same(quantised.quantize(values), np.full(2, zero, UINT8))
    same(quantised.quantize([1e300, -1e300, np.inf, -np.inf]), np.array([255, 0, 255, 0], UINT8))
    same(quantised.dequantize([3.0, 7]), quantised.dequantize(np.array([3, 7], UINT8)))


def test_quantize_rounds_to_even_and_clamps() -> None:
    layer = in_onnx_order(0.5, np.int8(-100), np.ones((1, 1), INT8), 1, 0, 2, np.uint8(7))
    q = layer.quantize([[-1e30, -15, -14, -0.75, -0.25, 0], [0.25, 0.75, 113, 113.5, 114, np.inf]])
    same(q, np.array([[-128, -128, -128, -102, -100, -100], [-100, -98, 126, 127, 127, 127]], np.int8))
    same(layer.dequantize(np.array([0, 7, 255], np.uint8)), np.array([-14, 0, 496], F))


# ---------------------------------------------------------------------------------------------- what is wrong

X, W = np.ones((5, 7, 6), UINT8), np.ones((4, 6), INT8)
GOOD: dict[str, Any] = {
    "x": X,
    "x_scale": 0.5,
    "x_zero_point": np.uint8(128),
    "w": W,
    "w_scale": 0.25,
    "w_zero_point": 0,
    "y_scale": 0.125,
    "y_zero_point": np.uint8(100),
}
OF_BOTH = ("x", "w", "x_zero_point", "w_zero_point", "channel_axis", "stride", "groups", "threads")

WRONG: dict[str, tuple[type[Exception], list[str], dict[str, Any]]] = {
    "float x": (
        TypeError,
        ["x holds float32", "np.rint(x / x_scale)", "astype(np.uint8)", "conv1x1(x, w)"],
        {"x": X.astype(F)},
    ),
    "int64 x": (
        TypeError,
        ["x has dtype int64", "int8 or uint8", "np.asarray(x, np.uint8)"],
        {"x": X.astype(np.int64)},
    ),
    "a list": (TypeError, ["x has dtype int64", "np.asarray(x, np.uint8)"], {"x": [[1, 2, 3, 4, 5, 6]]}),
    "bool x": (TypeError, ["x has dtype bool", "int8 or uint8"], {"x": X.astype(bool)}),
    "strings": (TypeError, ["x has dtype <U1", "int8 or uint8"], {"x": ["a"] * 6}),
    "no axes": (ValueError, ["no axes"], {"x": np.uint8(3)}),
    "channels": (ValueError, ["6 channels", "filters 5"], {"w": W[:, :5]}),
    "channels first": (ValueError, ["pass channel_axis=0"], {"x": np.ones((6, 5, 7), UINT8)}),
    "transposed": (ValueError, ["pass w.T"], {"w": W.T}),
    "3x3": (ValueError, ["(4, 6, 3, 3)", "(K, C/groups, 1, 1)"], {"w": np.ones((4, 6, 3, 3), INT8)}),
    "float w": (TypeError, ["w has dtype float32", "int8 or uint8", "QConv1x1.from_float"], {"w": W.astype(F)}),
    "int64 w": (TypeError, ["w has dtype int64", "np.asarray(w, np.int8)"], {"w": W.tolist()}),
    "masked w": (TypeError, ["w is a masked array"], {"w": np.ma.masked_array(W)}),
    "groups": (ValueError, ["groups=3", "4 filters"], {"groups": 3}),
    "groups 0": (ValueError, ["groups must be ≥ 1"], {"groups": 0}),
    "stride": (ValueError, ["stride must be ≥ 1"], {"stride": 0}),
    "stride too long": (ValueError, ["stride=(1, 2, 3)", "2 axes"], {"stride": (1, 2, 3)}),
    "axis": (ValueError, ["channel_axis=3", "3 axes"], {"channel_axis": 3}),
    "threads": (ValueError, ["threads must be ≥ 1"], {"threads": 0}),
    "x zero of another type": (
        TypeError,
        ["x_zero_point has dtype int8", "x is uint8", "np.uint8(…)"],
        {"x_zero_point": np.int8(3)},
    ),
    "w zero of another type": (
        TypeError,
        ["w_zero_point has dtype uint8", "w is int8"],
        {"w_zero_point": np.zeros(4, UINT8)},
    ),
    "x zero outside": (ValueError, ["x_zero_point=256", "uint8, 0 … 255"], {"x_zero_point": 256}),
    "x zero below": (ValueError, ["x_zero_point=-1", "uint8, 0 … 255"], {"x_zero_point": np.int64(-1)}),
    "w zero outside": (ValueError, ["w_zero_point=128", "int8, -128 … 127"], {"w_zero_point": [0, 1, 128, 3]}),
    "x zeros": (ValueError, ["x_zero_point has shape (2,)", "one number"], {"x_zero_point": [1, 2]}),
    "w zeros": (ValueError, ["w_zero_point has shape (3,)", "(4,)"], {"w_zero_point": [1, 2, 3]}),
    "w zeros in 2-D": (
        ValueError,
        ["shape (4, 1)", "np.ravel(w_zero_point)"],
        {"w_zero_point": np.zeros((4, 1), INT8)},
    ),
    "float zero": (TypeError, ["x_zero_point must be an integer", "3.5"], {"x_zero_point": 3.5}),
    "bool zero": (TypeError, ["w_zero_point must be an integer", "True"], {"w_zero_point": True}),
    "None for a zero": (TypeError, ["x_zero_point must be an integer", "None"], {"x_zero_point": None}),
    "x scale 0": (ValueError, ["x_scale must be > 0", "got 0"], {"x_scale": 0}),
    "x scale negative": (ValueError, ["x_scale must be > 0", "got -0.5"], {"x_scale": -0.5}),
    "x scale NaN": (ValueError, ["x_scale must be > 0", "nan"], {"x_scale": np.nan}),
    "x scale infinite": (ValueError, ["x_scale", "finite", "inf"], {"x_scale": np.inf}),
    "x scale too small": (ValueError, ["x_scale", "float32", "1e-60"], {"x_scale": 1e-60}),
    "y scale too large": (ValueError, ["y_scale", "float32", "1e+60"], {"y_scale": 1e60}),
    "y scale": (ValueError, ["y_scale has shape (4,)", "one number"], {"y_scale": np.ones(4)}),
    "w scales": (ValueError, ["w_scale has shape (3,)", "(4,), one for each filter"], {"w_scale": np.ones(3)}),
    "one w scale": (ValueError, ["w_scale[2] must be > 0", "got -1"], {"w_scale": [1, 1, -1, 1]}),
    "scale a string": (TypeError, ["w_scale must be a number", "'a'"], {"w_scale": "a"}),
    "scale a bool": (TypeError, ["y_scale must be a number", "True"], {"y_scale": True}),
    "multiplier": (ValueError, ["not finite", "filter 1", "1e+30"], {"x_scale": 1e30, "w_scale": [1, 1e30, 1, 1]}),
    "y zero untyped": (TypeError, ["y_zero_point=100", "int8 or uint8", "np.uint8(…)"], {"y_zero_point": 100}),
    "y zero int64": (TypeError, ["y_zero_point", "int8 or uint8"], {"y_zero_point": np.int64(3)}),
    "y zero float": (TypeError, ["y_zero_point must be an integer"], {"y_zero_point": 0.0}),
    "y zeros": (ValueError, ["y_zero_point has shape (4,)"], {"y_zero_point": np.zeros(4, UINT8)}),
    "float B": (TypeError, ["B holds float64", "np.rint(B / (x_scale * w_scale))"], {"B": np.ones(4)}),
    "B too short": (ValueError, ["B has shape (3,)", "(4,)"], {"B": np.ones(3, np.int32)}),
    "B a number": (ValueError, ["B has shape ()", "(4,)"], {"B": 3}),
    "B a column": (ValueError, ["B has shape (4, 1)", "np.ravel(B)"], {"B": np.ones((4, 1), np.int32)}),
    "B too large": (ValueError, ["B holds 2147483648", "int32"], {"B": [0, 2**31, 0, 0]}),
    "masked B": (TypeError, ["B is a masked array"], {"B": np.ma.masked_array([1, 2, 3, 4])}),
    "activation": (ValueError, ["'gelu'", '"relu", "relu6" or ("clip", lo, hi)'], {"activation": "gelu"}),
    "leaky": (ValueError, ["('leaky_relu', 0.1)", "not possible"], {"activation": ("leaky_relu", 0.1)}),
    "activation unknown": (ValueError, ["'reul'", '"relu6"'], {"activation": "reul"}),
    "activation a function": (ValueError, ["not possible", '"relu6"'], {"activation": np.tanh}),
    "clip with one": (ValueError, ['("clip", lo, hi)'], {"activation": ("clip", 0)}),
    "clip turned": (ValueError, ["lo > hi"], {"activation": ("clip", 3, 0)}),
    "out of another type": (
        TypeError,
        ["out has dtype int8", "uint8", "y_zero_point", "np.uint8"],
        {"out": np.ones((5, 7, 4), INT8)},
    ),
    "out of floats": (TypeError, ["out has dtype float32", "expected uint8"], {"out": np.ones((5, 7, 4), F)}),
    "out of another shape": (ValueError, ["out has shape (5, 7, 3)", "(5, 7, 4)"], {"out": np.ones((5, 7, 3), UINT8)}),
    "out a list": (TypeError, ["out must be a NumPy array", "list"], {"out": [1]}),
}


def raises(error: type[Exception], says: list[str], call: Any, arguments: dict[str, Any]) -> None:
    with pytest.raises(error) as info:
        call(**arguments)
    for fragment in says:
        assert fragment in str(info.value)


def in_layers_words(says: str) -> str:
    """ONNX's B is the layer's bias."""
    return re.sub(r"\bB\b", "bias", says)


@pytest.mark.parametrize("name", WRONG)
def test_errors(name: str) -> None:
    error, says, wrong = WRONG[name]
    before = np.copy(wrong["out"]) if isinstance(wrong.get("out"), np.ndarray) else None
    for call in (qlinear_conv1x1, reference_qlinear):
        raises(error, says, call, GOOD | wrong)
    if set(wrong) <= set(OF_BOTH):
        arguments = {n: v for n, v in (GOOD | wrong).items() if n in OF_BOTH}
        for integer in (conv1x1_integer, reference_integer):
            raises(error, says, integer, arguments)
    if not {"x", "out", "threads"} & set(wrong) and name not in ("channels", "axis", "stride too long", "transposed"):
        layer_says = [s for s in says if s != "x is uint8"] if name != "x zero of another type" else None
        if layer_says is not None and "x_zero_point" not in wrong:
            arguments = {"bias" if n == "B" else n: v for n, v in (GOOD | wrong).items() if n != "x"}
            raises(error, [in_layers_words(s) for s in layer_says], QConv1x1, arguments)
    if before is not None:
        np.testing.assert_array_equal(wrong["out"], before)


def test_out_of_the_sums_must_be_int32() -> None:
    for call in (conv1x1_integer, reference_integer):
        raises(TypeError, ["out has dtype int64", "int32"], call, {"x": X, "w": W, "out": np.ones((5, 7, 4), np.int64)})
        out = np.ones((5, 7, 4), np.int32)
        assert call(X, W, out=out) is out


def test_errors_of_a_layer() -> None:
    arguments = {n: v for n, v in GOOD.items() if n != "x"}
    raises(TypeError, ["x_zero_point=128", "np.uint8(…)"], QConv1x1, arguments | {"x_zero_point": 128})
    raises(ValueError, ["two readings"], QConv1x1, arguments | {"w": np.ones((1, 1, 6), INT8)})
    layer = QConv1x1(**arguments)
    raises(TypeError, ["x has dtype int8", "uint8", "x_zero_point=np.int8(…)"], layer, {"x": X.astype(INT8)})
    raises(TypeError, ["x holds float64", "astype(np.uint8)"], layer, {"x": X.astype(float)})
    raises(ValueError, ["has 5 channels", "filters 6"], layer, {"x": X[..., :5]})
    raises(TypeError, ["out has dtype int32", "uint8"], layer, {"x": X, "out": np.ones((5, 7, 4), np.int32)})
    raises(ValueError, ["threads"], layer, {"x": X, "threads": 0})
    raises(TypeError, ["x has dtype int8"], layer.plan, {"x": X.astype(INT8)})


def test_errors_of_from_float() -> None:
    layer, x = a_float_layer()
    for error, says, args, options in [
        (TypeError, ["layer must be a Conv1x1", "ndarray"], (W, x), {}),
        (TypeError, ["layer must be a Conv1x1", "QConv1x1"], (made()[0], x), {}),
        (ValueError, ["'gelu'", "relu6"], (a_float_layer(activation="gelu")[0], x), {}),
        (TypeError, ["int8 or uint8", "float32"], (layer, x), {"dtype": F}),
        (ValueError, ["percentile", "50"], (layer, x), {"percentile": 0.1}),
        (ValueError, ["percentile"], (layer, x), {"percentile": 100.1}),
        (ValueError, ["percentile"], (layer, x), {"percentile": np.nan}),
        (TypeError, ["percentile must be a number", "None"], (layer, x), {"percentile": None}),
        (TypeError, ["percentile must be a number", "'most'"], (layer, x), {"percentile": "most"}),
        (TypeError, ["int8 or uint8, got '1,,': pass dtype=np.uint8"], (layer, x), {"dtype": "1,,"}),
        (ValueError, ["calibration is empty"], (layer, x[:0]), {}),
        (ValueError, ["the layer's result is empty"], (Conv1x1(np.ones((0, 32))), x), {}),
        (ValueError, ["x of shape (15, 16, 5) has 5 channels"], (layer, x[..., :5]), {}),
        (ValueError, ["calibration holds NaN"], (layer, np.full_like(x, np.nan)), {}),
        (TypeError, ["calibration has dtype complex64"], (layer, x.astype(np.complex64)), {}),
    ]:
        with pytest.raises(error) as info:
            QConv1x1.from_float(*args, **options)
        assert all(fragment in str(info.value) for fragment in says), str(info.value)
