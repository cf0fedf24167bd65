"""The function and the layer against `reference`, in every combination of arguments; and `reference` against loops."""

from __future__ import annotations

import math
from collections.abc import Callable
from typing import Any

import numpy as np
import pytest

from conv1x1 import Conv1x1, conv1x1, reference
from conv1x1.reference import steps

#: Shapes of six channels, and the axis they are on.
LAYOUTS = [
    ((6,), -1),
    ((7, 6), -1),
    ((6, 7), 0),
    ((5, 4, 6), -1),
    ((6, 5, 4), 0),
    ((5, 6, 4), 1),
    ((2, 5, 4, 6), 3),
    ((2, 6, 5, 4), 1),
    ((6, 2, 5, 4), 0),
    ((2, 5, 6, 4), -2),
    ((2, 3, 4, 5, 6), -1),
    ((2, 6, 3, 4, 5), 1),
    ((2, 3, 6, 4, 5), 2),
]
STRIDES = [1, 2, 3, (2,), (3, 2), [2, 1], (2, 1, 3)]

ACTIVATIONS: dict[str, tuple[Any, Callable[[float], float]]] = {
    "none": (None, lambda v: v),
    "relu": ("relu", lambda v: max(v, 0.0)),
    "relu6": ("relu6", lambda v: min(max(v, 0.0), 6.0)),
    "clip": (("clip", -3, 2.5), lambda v: min(max(v, -3.0), 2.5)),
    "leaky": ("leaky_relu", lambda v: v if v >= 0 else 0.01 * v),
    "leaky slope": (("leaky_relu", 0.25), lambda v: v if v >= 0 else 0.25 * v),
    "hardsigmoid": ("hardsigmoid", lambda v: min(max(v + 3, 0.0), 6.0) / 6),
    "hardswish": ("hardswish", lambda v: v * min(max(v + 3, 0.0), 6.0) / 6),
    "sigmoid": ("sigmoid", lambda v: 1 / (1 + math.exp(-v))),
    "silu": ("silu", lambda v: v / (1 + math.exp(-v))),
    "tanh": ("tanh", math.tanh),
    "gelu": ("gelu", lambda v: v * 0.5 * math.erfc(-v / math.sqrt(2))),
}
EXACT = ["none", "relu", "relu6", "clip", "leaky slope"]  # on whole numbers


def same(y: Any, expected: Any) -> None:
    assert y.shape == expected.shape
    np.testing.assert_array_equal(y, expected)


def fits(shape: tuple[int, ...], stride: Any) -> bool:
    return isinstance(stride, int) or len(stride) < len(shape)


# ------------------------------------------------------------------------------------- the reference itself


def by_loops(x: Any, w: Any, bias: Any, residual: Any, groups: int, activation: Callable[[float], float]) -> Any:
    """The definition in scalars: x (H, W, C), w (K, C/groups), residual (H, W, K)."""
    height, width, channels = x.shape
    filters, part = len(w), channels // groups
    y = np.empty((height, width, filters))
    for i in range(height):
        for j in range(width):
            for k in range(filters):
                first = k // (filters // groups) * part
                total = sum(float(w[k, c]) * float(x[i, j, first + c]) for c in range(part))
                y[i, j, k] = activation(total + float(bias[k]) + float(residual[i, j, k]))
    return y


@pytest.mark.parametrize("groups", [1, 2, 3])
@pytest.mark.parametrize("name", ACTIVATIONS)
def test_reference_is_the_definition(normal: Any, name: str, groups: int) -> None:
    activation, scalar = ACTIVATIONS[name]
    x, w, bias, residual = (normal(*s, dtype=np.float64) for s in [(4, 3, 6), (12, 6 // groups), (12,), (4, 3, 12)])
    y = reference(x, w, bias, residual=residual, groups=groups, activation=activation)
    np.testing.assert_allclose(y, by_loops(x, w, bias, residual, groups, scalar), rtol=1e-12, atol=1e-13)


#: Every form of a weight, from the matrix (4 filters, 6 channels).
FORMS: dict[str, Callable[[Any], Any]] = {
    "K,C": lambda w: w,
    "K,C,1": lambda w: w[:, :, None],
    "K,C,1,1": lambda w: w[:, :, None, None],
    "K,C,1,1,1": lambda w: w[:, :, None, None, None],
    "1,C,K": lambda w: w.T[None],
    "1,1,C,K": lambda w: w.T[None, None],
    "1,1,1,C,K": lambda w: w.T[None, None, None],
    "list": lambda w: w.tolist(),
    "Fortran": np.asfortranarray,
    "reversed": lambda w: w[::-1, ::-1].copy()[::-1, ::-1],
    "big-endian": lambda w: w.astype(w.dtype.newbyteorder(">")),
    "float16": lambda w: w.astype(np.float16),
    "int8": lambda w: w.astype(np.int8),
}
ONE_FILTER: dict[str, Callable[[Any], Any]] = {
    "1,C": lambda w: w[None],
    "1,1,C": lambda w: w[None, None],
    "C,1,1": lambda w: w[:, None, None],
    "1,C,1,1": lambda w: w[None, :, None, None],
    "1,1,C,1": lambda w: w[None, None, :, None],
}


@pytest.mark.parametrize("function", [reference, conv1x1])
@pytest.mark.parametrize("form", FORMS)
def test_every_form_of_a_weight(exact: Any, function: Any, form: str) -> None:
    x, w = exact(5, 3, 6), exact(4, 6)
    same(function(x, FORMS[form](w)), np.einsum("hwc,kc->hwk", x, w))
    chw = np.ascontiguousarray(x.transpose(2, 0, 1))
    same(function(chw, FORMS[form](w), channel_axis=0), np.einsum("chw,kc->khw", chw, w))
    if form != "list":
        same(Conv1x1(FORMS[form](w))(x), np.einsum("hwc,kc->hwk", x, w))


@pytest.mark.parametrize("function", [reference, conv1x1])
@pytest.mark.parametrize("form", ONE_FILTER)
def test_every_form_of_one_filter(exact: Any, function: Any, form: str) -> None:
    x, w = exact(5, 3, 6), exact(6)
    same(function(x, ONE_FILTER[form](w)), np.einsum("hwc,c->hw", x, w)[..., None])
    same(function(x.transpose(2, 0, 1), ONE_FILTER[form](w), channel_axis=0), np.einsum("hwc,c->hw", x, w)[None])


@pytest.mark.parametrize("function", [reference, conv1x1, lambda x, w, b=None, **k: Conv1x1(w, b, **k)(x)])
@pytest.mark.parametrize(("shape", "axis"), LAYOUTS)
def test_a_vector_of_weights_drops_the_channel_axis(exact: Any, function: Any, shape: Any, axis: int) -> None:
    x, w = exact(*shape), exact(6)
    expected = np.tensordot(x, w, (axis, 0))
    same(function(x, w, channel_axis=axis), np.asarray(expected))
    same(function(x, w, [2.0], channel_axis=axis, activation="relu"), np.asarray(np.maximum(expected + 2, 0)))


@pytest.mark.parametrize("function", [reference, conv1x1])
def test_two_readings_are_settled_by_x(exact: Any, function: Any) -> None:
    """(1, 1, N) and (N, 1, 1): one filter over N channels, or N filters over one."""
    w = exact(6)
    for ambiguous in (w[None, None], w[:, None, None]):
        x = exact(5, 3, 6)
        same(function(x, ambiguous), (x @ w)[..., None])
        x = exact(5, 3, 1)
        same(function(x, ambiguous), x * w)
    same(function(exact(5, 1), w[:1, None, None]), exact(5, 1) * w[0])


def test_grouped_forms_of_a_weight(exact: Any) -> None:
    x, w = exact(5, 3, 6), exact(4, 3)
    expected = np.concatenate([x[..., :3] @ w[:2].T, x[..., 3:] @ w[2:].T], -1)
    for form in FORMS:
        for function in (reference, conv1x1):
            same(function(x, FORMS[form](w), groups=2), expected)


# --------------------------------------------------------------------------- the package against the reference


@pytest.mark.parametrize("groups", [1, 2, 3, 6])
@pytest.mark.parametrize(
    ("shape", "axis", "stride"),
    [(shape, axis, stride) for shape, axis in LAYOUTS for stride in STRIDES if fits(shape, stride)],
    ids=str,
)
def test_layout_stride_and_groups(exact: Any, shape: Any, axis: int, groups: int, stride: Any) -> None:
    options = {"channel_axis": axis, "stride": stride, "groups": groups}
    x, w, bias = exact(*shape), exact(12, 6 // groups), exact(12)
    expected = reference(x, w, bias, **options)
    y = conv1x1(x, w, bias, **options)
    same(y, expected)
    assert y.dtype == np.float32
    assert y.flags.c_contiguous
    same(Conv1x1(w, bias, **options)(x), expected)


@pytest.mark.parametrize(("shape", "axis"), [((9, 8, 6), -1), ((6, 9, 8), 0), ((9, 6, 8), 1)])
@pytest.mark.parametrize("stride", [1, 2, 5, 100, (3, 1), (1, 3)])
def test_a_stride_is_a_slice(exact: Any, shape: Any, axis: int, stride: Any) -> None:
    x, w = exact(*shape), exact(5, 6)
    i, j = (stride, stride) if isinstance(stride, int) else stride
    last = np.moveaxis(x, axis, -1)[::i, ::j]
    same(conv1x1(x, w, channel_axis=axis, stride=stride), np.moveaxis(last @ w.T, -1, axis))


@pytest.mark.parametrize("stride", [2**31, 2**62, 2**63 - 1, 2**63, 2**64 - 1, 2**70])
def test_a_stride_beyond_the_array_takes_its_first_pixel(exact: Any, stride: int) -> None:
    x, w = exact(9, 8, 6), exact(5, 6)
    same(conv1x1(x, w, stride=stride), (x @ w.T)[:1, :1])
    same(Conv1x1(w, stride=(stride,))(x), (x @ w.T)[:, :1])


def spread(shape: tuple[int, ...], dtype: Any, form: str) -> Any:
    """An array of NaN to write to, as it may lie in memory."""
    if form == "Fortran":
        return np.full(shape, np.nan, dtype, order="F")
    if form == "reversed":
        return np.full(shape, np.nan, dtype)[tuple(slice(None, None, -1) for _ in shape)]
    if form == "every other":
        return np.full([2 * n for n in shape], np.nan, dtype)[tuple(slice(None, None, 2) for _ in shape)]
    if form == "rolled axes":
        return np.moveaxis(np.full(shape[1:] + shape[:1], np.nan, dtype), -1, 0)
    if form == "inner":
        return np.full([n + 2 for n in shape], np.nan, dtype)[tuple(slice(1, -1) for _ in shape)]
    return np.full(shape, np.nan, dtype)


def by_layer(x: Any, w: Any, bias: Any, *, residual: Any = None, out: Any = None, **options: Any) -> Any:
    return Conv1x1(w, bias, **options)(x, residual=residual, out=out)


FORMS_OF_OUT = ["C", "Fortran", "reversed", "every other", "rolled axes", "inner"]


@pytest.mark.parametrize("residual", [None, "C", "Fortran", "every other"])
@pytest.mark.parametrize("form", FORMS_OF_OUT)
@pytest.mark.parametrize(("shape", "axis"), [((5, 7, 6), -1), ((6, 5, 7), 0), ((2, 5, 6, 7), 2), ((40, 6), 1)])
def test_out_and_residual_in_every_form(exact: Any, shape: Any, axis: int, form: str, residual: str | None) -> None:
    for name in EXACT:
        for filters, stride in ((4, 1), (12, 2), (37, 1)):
            options: dict[str, Any] = {"channel_axis": axis, "stride": stride, "activation": ACTIVATIONS[name][0]}
            x, w, bias = exact(*shape), exact(filters, 6), exact(filters)
            y_shape = reference(x, w, channel_axis=axis, stride=stride).shape
            if residual is not None:
                added = spread(y_shape, np.float32, residual)
                added[...] = exact(*y_shape)
                options["residual"] = added
            expected = reference(x, w, bias, **options)
            for call in (conv1x1, by_layer):
                out = spread(y_shape, np.float32, form)
                assert call(x, w, bias, **options, out=out) is out
                same(out, expected)


@pytest.mark.parametrize("form", ["every other", "inner"])
@pytest.mark.parametrize(("shape", "axis"), [((5, 7, 6), -1), ((6, 5, 7), 0)])
def test_nothing_beside_out_is_written(exact: Any, shape: Any, axis: int, form: str) -> None:
    x, w = exact(*shape), exact(12, 6)
    out = spread(reference(x, w, channel_axis=axis).shape, np.float32, form)
    conv1x1(x, w, channel_axis=axis, out=out)
    assert np.isnan(out.base).sum() == out.base.size - out.size


@pytest.mark.parametrize("x_type", [np.float32, np.float64])
@pytest.mark.parametrize("w_type", [np.float32, np.float64, np.float16, np.int32])
@pytest.mark.parametrize("y_type", [None, np.float32, np.float64])
@pytest.mark.parametrize("residual_type", [None, np.float32, np.float64])
def test_types(exact: Any, x_type: Any, w_type: Any, y_type: Any, residual_type: Any) -> None:
    for shape, axis in [((5, 7, 6), -1), ((6, 35), 0), ((3, 40), 1)]:
        channels = shape[axis]
        x, w, bias = exact(*shape, dtype=x_type), exact(8, channels, dtype=w_type), exact(8, dtype=w_type)
        expected = reference(x, w, bias, channel_axis=axis)
        residual = None if residual_type is None else exact(*expected.shape, dtype=residual_type)
        if residual is not None:
            expected = expected + residual
        y = conv1x1(x, w, bias, channel_axis=axis, dtype=y_type, residual=residual)
        assert y.dtype == (y_type or x_type)
        same(y, expected)
        layer = Conv1x1(w, bias, channel_axis=axis)
        for out in (np.empty(expected.shape, y_type or x_type), np.empty(expected.shape, y_type or x_type, order="F")):
            same(conv1x1(x, w, bias, channel_axis=axis, out=out, residual=residual), expected)
            same(layer(x, residual=residual, out=out), expected)
        same(Conv1x1(w, bias, channel_axis=axis, dtype=y_type)(x, residual=residual), expected)


def test_float64_where_x_or_the_result_is(normal: Any, within_bound: Any) -> None:
    x, w = normal(50, 40), normal(8, 40)
    within_bound(conv1x1(x, w, dtype=np.float64), x, w)  # its check holds a float64 result to float64's bound
    wide = normal(50, 40, dtype=np.float64)
    narrow = conv1x1(wide, w, dtype=np.float32)
    np.testing.assert_array_equal(narrow, conv1x1(wide, w).astype(np.float32))


@pytest.mark.parametrize("residual", [False, True])
@pytest.mark.parametrize("dtype", [np.float32, np.float64])
@pytest.mark.parametrize(("channels", "filters"), [(1, 1), (3, 5), (31, 4), (32, 4), (192, 1), (192, 32), (1000, 7)])
@pytest.mark.parametrize("first", [False, True])
def test_random_numbers_within_the_bound(
    normal: Any, within_bound: Any, dtype: Any, channels: int, filters: int, first: bool, residual: bool
) -> None:
    x, w, bias = normal(77, channels, dtype=dtype), normal(filters, channels, dtype=dtype), normal(filters, dtype=dtype)
    added = normal(77, filters, dtype=dtype) if residual else None
    if first:
        y = conv1x1(x.T.copy(), w, bias, channel_axis=0, residual=added.T.copy() if residual else None).T
    else:
        y = conv1x1(x, w, bias, residual=added)
    assert y.dtype == dtype
    within_bound(y, x, w, bias, added)


@pytest.mark.parametrize("bias", ["float32", "float64", "int", "list", "strided", "reversed", "broadcast", "float16"])
@pytest.mark.parametrize("dtype", [np.float32, np.float64])
def test_a_bias_in_every_form(exact: Any, bias: str, dtype: Any) -> None:
    x, w, b = exact(9, 6, dtype=dtype), exact(5, 6, dtype=dtype), exact(5)
    forms: dict[str, Any] = {
        "float32": b,
        "float64": b.astype(np.float64),
        "int": b.astype(np.int64),
        "list": b.tolist(),
        "strided": np.repeat(b, 2)[::2],
        "reversed": b[::-1].copy()[::-1],
        "broadcast": np.broadcast_to(np.float32(3), 5),
        "float16": b.astype(np.float16),
    }
    expected = x @ w.T + np.asarray(forms[bias])
    same(conv1x1(x, w, forms[bias]), expected)
    same(conv1x1(x, w, forms[bias], activation=("clip", -1e9, 1e9)), expected)
    same(Conv1x1(w, forms[bias])(x), expected)


# ----------------------------------------------------------------------------------------------- activations


@pytest.mark.parametrize("dtype", [np.float32, np.float64])
@pytest.mark.parametrize("name", ACTIVATIONS)
def test_activations_after_bias_and_residual(normal: Any, name: str, dtype: Any, isa: str) -> None:
    """Within a few units in the last place, beyond the error of the sum."""
    x, w, bias, residual = (normal(*s, dtype=dtype) for s in [(33, 19), (21, 19), (21,), (33, 21)])
    for order in "CF":
        options = {"activation": ACTIVATIONS[name][0], "residual": np.asarray(residual, order=order)}
        tolerance = 40 * np.finfo(dtype).eps
        expected = reference(x, w, bias, **options)
        np.testing.assert_allclose(conv1x1(x, w, bias, **options), expected, rtol=tolerance, atol=20 * tolerance)
        first = options | {"residual": options["residual"].T, "channel_axis": 0}
        np.testing.assert_allclose(conv1x1(x.T, w, bias, **first), expected.T, rtol=tolerance, atol=20 * tolerance)


@pytest.mark.parametrize("dtype", [np.float32, np.float64])
@pytest.mark.parametrize("name", ACTIVATIONS)
def test_activations_to_the_last_places(name: str, dtype: Any, isa: str) -> None:
    """One channel with weight 1: the sum is exact, and what remains is the error of the function."""
    activation, scalar = ACTIVATIONS[name]
    if name == "leaky":  # 0.01 itself rounds
        activation, scalar = ("leaky_relu", 0.5), lambda v: v if v >= 0 else 0.5 * v
    small = np.geomspace(1e-30, 1, 200)
    v = np.concatenate([np.linspace(-12, 12, 1501), small, -small]).astype(dtype)
    y = conv1x1(v[:, None], np.ones(1), activation=activation)
    expected = np.array([scalar(float(value)) for value in v])
    eps = np.finfo(dtype).eps
    unit = np.maximum(np.abs(expected), float(np.finfo(dtype).tiny)) * eps
    # The double formulas err as well, erfc by its argument: far out its value changes e^(v²/2) with it.
    allowed = 5 * unit + (np.abs(expected) * (v.astype(float) ** 2 + 4) * 2.0**-52 if dtype == np.float64 else 0)
    assert (np.abs(y - expected) <= allowed).all()


@pytest.mark.parametrize("name", ACTIVATIONS)
@pytest.mark.parametrize("dtype", [np.float32, np.float64])
def test_activations_of_special_numbers(name: str, dtype: Any, isa: str) -> None:
    """NaN goes through every one; infinities and numbers near the ends of the range do as the formula says."""
    far = [0.0, 1e-40, 1e-20, 88.0, 104.0, 745.0, 1e4, float(np.finfo(dtype).max), np.inf]
    v = np.array([*far, *(-f for f in far), np.nan] * 5, dtype)  # whole vectors and a tail
    y = conv1x1(v[:, None], np.ones((1, 1)), activation=ACTIVATIONS[name][0])
    with np.errstate(all="ignore"):
        expected = reference(v[:, None], np.ones((1, 1)), activation=ACTIVATIONS[name][0]).astype(dtype)
    np.testing.assert_allclose(y, expected, rtol=1e-5, atol=1e-37, equal_nan=True)
    assert np.isnan(y[np.isnan(v)]).all()


# ------------------------------------------------------------------------------------------- steps of a chain


@pytest.mark.parametrize(("shape", "axis"), LAYOUTS)
def test_the_steps_of_a_chain_by_loops(normal: Any, shape: tuple[int, ...], axis: int) -> None:
    """Softmax, layer norm, argmax and pooling, each written out for one pixel, or one channel, after another."""
    x = normal(*shape, dtype=np.float64)
    weight, bias, labels = (normal(6, dtype=np.float64) for _ in range(3))
    last = np.moveaxis(x, axis, -1)
    for pixel in np.ndindex(last.shape[:-1]):
        channels = last[pixel].tolist()
        powers = [math.exp(c) for c in channels]
        mean = math.fsum(channels) / 6
        deviation = math.sqrt(math.fsum((c - mean) ** 2 for c in channels) / 6 + 1e-3)
        normed = [(c - mean) / deviation for c in channels]
        scaled = [c * w + b for c, w, b in zip(normed, weight, bias, strict=True)]
        at = lambda y, pixel=pixel: np.moveaxis(y, axis, -1)[pixel]  # noqa: E731
        np.testing.assert_allclose(at(steps.softmax(x, axis)), [p / math.fsum(powers) for p in powers], rtol=1e-13)
        # What is left of a number near the mean has the mean's rounding in it, however small it is.
        np.testing.assert_allclose(at(steps.layer_norm(x, None, None, 1e-3, axis)), normed, rtol=1e-12, atol=1e-14)
        np.testing.assert_allclose(at(steps.layer_norm(x, weight, bias, 1e-3, axis)), scaled, rtol=1e-11, atol=1e-14)
        assert steps.arg_max(x, None, axis)[pixel] == channels.index(max(channels))
        assert steps.arg_max(x, labels, axis)[pixel] == labels[channels.index(max(channels))]
    axes = tuple(i for i in range(x.ndim) if i != axis % x.ndim)
    for c, pixels in enumerate(last.reshape(-1, 6).T.tolist()):
        total = math.fsum(pixels)
        for kind, wanted in [("sum", total), ("mean", total / len(pixels)), ("max", max(pixels))]:
            np.testing.assert_allclose(steps.pool(x, kind, axes)[c], wanted, rtol=1e-12, atol=1e-14)


def test_the_steps_of_a_chain_on_special_numbers() -> None:
    inf, nan = math.inf, math.nan
    with np.errstate(all="ignore"):
        y = steps.softmax(np.array([[0, -inf], [-inf, -inf], [inf, 0], [nan, 0], [1e300, 0], [-inf, -1e300]]), -1)
        np.testing.assert_array_equal(y, [[1, 0], [nan, nan], [nan, nan], [nan, nan], [1, 0], [0, 1]])
        assert np.isnan(steps.layer_norm(np.array([[inf, 0], [nan, 0]]), None, None, 1, -1)).all()
    np.testing.assert_array_equal(steps.arg_max(np.array([[3.0, 5, 5], [5, nan, nan], [-inf] * 3]), None, 1), [1, 1, 0])
    for channels, dtype in [(1, "u1"), (256, "u1"), (257, "u2"), (65536, "u2"), (65537, "i4")]:
        assert steps.arg_max(np.zeros((1, channels)), None, -1).dtype == dtype
    assert steps.arg_max(np.ones((1, 2)), np.array([-3, 300], np.int16), -1).dtype == np.int16
    assert not np.signbit(steps.pool(np.array([-0.0, -0.0]), "max", (0,)))
    assert np.isnan(steps.pool(np.array([1, nan, 2]), "max", (0,)))
