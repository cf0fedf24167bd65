"""Masked arrays: a pixel of a result is masked where any of its channels is, by every way there is to a result."""

from __future__ import annotations

import contextlib
import itertools
import pickle
from collections.abc import Iterator
from typing import Any

import numpy as np
import pytest

from conv1x1 import (
    Conv1x1,
    QConv1x1,
    conv1x1,
    conv1x1_integer,
    explain,
    qlinear_conv1x1,
    reference,
    reference_integer,
    reference_qlinear,
)

W = np.arange(12, dtype=np.float32).reshape(4, 3)
MASK = np.zeros((5, 7, 3), bool)
MASK[1, 2, 0] = MASK[1, 3, 2] = MASK[4] = True


def layer_function(x: Any, w: Any, residual: Any = None, out: Any = None, **options: Any) -> Any:
    return pickle.loads(pickle.dumps(Conv1x1(w, **options)))(x, residual=residual, out=out)


FUNCTIONS = pytest.mark.parametrize("function", [conv1x1, layer_function, reference])


def pixels(*shape: int, dtype: Any = np.float32, **options: Any) -> Any:
    """Numbers, masked here and there."""
    random = np.random.default_rng(shape)
    mask = options.pop("mask", random.random(shape) < 0.2)
    return np.ma.array(random.integers(0, 9, shape).astype(dtype), mask=mask, **options)


def same(y: Any, data: Any, mask: Any) -> None:
    assert type(y) is np.ma.MaskedArray
    assert y.dtype.kind != "f" or data.dtype.kind == "f"
    assert np.array_equal(y.data, data)
    assert np.ma.getmask(y) is np.ma.nomask if mask is np.ma.nomask else np.array_equal(y.mask, mask)
    assert np.shape(y.mask) in (y.shape, ())


@FUNCTIONS
def test_a_pixel_is_masked_where_a_channel_is(function: Any) -> None:
    x = np.ma.array(np.ones((5, 7, 3), np.float32), mask=MASK)
    x.data[MASK] = np.nan  # it spoils nothing but what is masked
    y = function(x, W)
    assert y.shape == y.mask.shape == (5, 7, 4)
    assert y.mask[1, 2:4].all()
    assert y.mask[4].all()
    assert y.mask.sum() == 4 * (2 + 7)
    assert np.isfinite(y.filled(0)).all()
    assert np.array_equal(y.compressed(), np.tile(W.sum(1), 35 - 9))


def cases() -> Iterator[Any]:
    for shape, axis in [((5, 7, 3), -1), ((2, 3, 7, 5), 1), ((3, 6), 0), ((2, 3, 4), 1), ((3,), 0)]:
        for vector, stride, groups in itertools.product([False, True], [1, 2], [1, 3]):
            if not (vector and groups > 1) and not (len(shape) == 1 and stride > 1):
                yield shape, axis, vector, stride, groups


@pytest.mark.drawn
@FUNCTIONS
@pytest.mark.parametrize(("shape", "axis", "vector", "stride", "groups"), [*cases()])
def test_every_geometry(function: Any, shape: Any, axis: int, vector: bool, stride: int, groups: int) -> None:
    x = pixels(*shape)
    w = W[0] if vector else W[:3, : 3 // groups]
    options = {"channel_axis": axis, "stride": stride, "groups": groups}
    y = function(x, w, **options)
    counts = conv1x1(x.mask.astype(np.int8), np.ones_like(W[0] if vector else W[:3]), channel_axis=axis, stride=stride)
    same(y, function(x.data, w, **options), np.asarray(counts > 0))  # nomask is NumPy's own False


@FUNCTIONS
@pytest.mark.parametrize("dtype", ["float16", "float32", "float64", "bool", "uint8", "int16", ">u2", "int32", "int64"])
def test_every_type(function: Any, dtype: str) -> None:
    x = pixels(5, 7, 3, dtype=dtype)
    for w in (W, W.astype(np.int8)):
        y = function(x, w)
        same(y, function(x.data, w), np.repeat(x.mask.any(-1, keepdims=True), 4, -1))
        assert y.dtype == function(x.data, w).dtype
    assert function(x, W, dtype=np.uint8).dtype == np.uint8


@FUNCTIONS
def test_the_residual_masks_its_own_numbers(function: Any) -> None:
    x, residual = pixels(5, 7, 3), pixels(5, 7, 4)
    of_x = np.repeat(x.mask.any(-1, keepdims=True), 4, -1)
    data = function(x.data, W, residual=residual.data)
    same(function(x, W, residual=residual), data, of_x | residual.mask)
    same(function(x.data, W, residual=residual), data, residual.mask)
    same(function(x, W, residual=residual.data), data, of_x)
    before = residual.mask.copy()
    y = function(x.data, W, residual=residual)
    y.mask[...] = True
    assert np.array_equal(residual.mask, before)


@FUNCTIONS
def test_no_mask_stays_none(function: Any) -> None:
    plain, none = np.ones((5, 3), np.float32), np.zeros((5, 4), bool)
    x = np.ma.array(plain)
    assert np.ma.getmask(x) is np.ma.nomask
    same(function(x, W), plain @ W.T, np.ma.nomask)
    residual = np.ma.array(np.zeros((5, 4), np.float32))
    same(function(x, W, residual=residual), plain @ W.T, np.ma.nomask)
    same(function(plain, W, residual=residual), plain @ W.T, np.ma.nomask)
    same(function(np.ma.array(plain, mask=False), W), plain @ W.T, none)  # which is a mask, of nothing
    assert type(function(plain, W)) is np.ndarray
    empty = function(np.ma.array(np.ones((0, 3)), mask=True), W)
    assert (type(empty), empty.mask.shape) == (np.ma.MaskedArray, (0, 4))


@FUNCTIONS
def test_out_takes_the_numbers_and_the_result_has_the_mask(function: Any) -> None:
    x, out = pixels(5, 7, 3), np.full((5, 7, 4), -1, np.float64)
    y = function(x, W, out=out)
    same(y, out, np.repeat(x.mask.any(-1, keepdims=True), 4, -1))
    assert np.shares_memory(y, out)
    assert np.array_equal(out, x.data @ W.T)
    both = pixels(5, 7, 3)
    y = function(both, W[:3], out=both.data)
    assert np.array_equal(both.data, x.data @ W[:3].T)
    for bad in (pixels(5, 7, 4), np.ma.array(np.zeros((5, 7, 4), np.float32))):
        before = bad.data.copy()
        for given in (x, x.data):
            with pytest.raises(TypeError, match=r"out must be a NumPy array, got MaskedArray: pass out=out\.data"):
                function(given, W, out=bad)
        assert np.array_equal(bad.data, before)


@FUNCTIONS
@pytest.mark.parametrize(
    ("dtype", "fill", "asked", "expected"),
    [
        ("float32", -9999, None, -9999),
        ("float32", None, None, 1e20),
        ("float32", np.nan, "float64", np.nan),
        ("float32", np.nan, "uint8", 999999),
        ("float32", -9999, "uint8", 999999),
        ("float32", -9999, "int16", -9999),
        ("float32", 255, "uint8", 255),
        ("float64", 1e300, "float32", 1e20),
        ("float64", 0.1, "float32", np.float32(0.1)),
        ("uint8", 7, None, 7),
        ("uint8", None, None, 1e20),
        ("uint16", 65535, "int32", 65535),
        ("uint16", 65535, "int8", 999999),
        ("int32", -(2**31), "float32", -(2.0**31)),
    ],
)
def test_the_fill_value_is_kept_where_it_fits(function: Any, dtype: str, fill: Any, asked: Any, expected: Any) -> None:
    options = {} if fill is None else {"fill_value": fill}
    x = pixels(5, 3, dtype=dtype, **options)
    y = function(x, W, dtype=asked)
    kept = np.ma.MaskedArray(np.empty(0, y.dtype)).fill_value if expected in (999999, 1e20) else expected
    assert np.array_equal(y.fill_value, kept, equal_nan=True)
    assert x._fill_value is None or fill is not None  # x is as it was
    assert y.filled().shape == y.shape
    assert repr(y)


@FUNCTIONS
def test_hard_masks_stay_hard(function: Any) -> None:
    for hard in (False, True):
        y = function(pixels(5, 3, hard_mask=hard), W)
        assert y.hardmask == hard


def test_a_mask_of_the_result_is_its_own() -> None:
    x = pixels(5, 7, 3)
    before = x.mask.copy()
    for y in (conv1x1(x, W[:3]), conv1x1(x, W[0]), conv1x1(x, W[:1])):
        y[...] = 1
        y[0, 0] = np.ma.masked
    assert np.array_equal(x.mask, before)


def test_bfloat16() -> None:
    bfloat16 = pytest.importorskip("ml_dtypes").bfloat16
    x = pixels(5, 3, dtype=bfloat16)
    for y in (conv1x1(x, W), Conv1x1(W)(x), conv1x1(pixels(5, 3), W, dtype=bfloat16)):
        assert np.array_equal(y.mask, np.repeat(x.mask.any(-1, keepdims=True), 4, -1))
        assert y.dtype == bfloat16
        assert np.isfinite(y.filled().astype(np.float32)).all()


def test_plan_and_explain_look_at_the_numbers() -> None:
    x = pixels(5, 7, 3)
    assert Conv1x1(W).plan(x) == Conv1x1(W).plan(x.data)
    residual = pixels(5, 7, 4)
    e, of_data = explain(x, W, residual=residual, at=(1, 2)), explain(x.data, W, residual=residual.data, at=(1, 2))
    assert [line for line in str(e).splitlines() if "masked" not in line] == str(of_data).splitlines()


def test_weights_are_not_masked() -> None:
    x = pixels(5, 3)
    for arguments in ({"w": pixels(4, 3)}, {"w": W, "bias": pixels(4)}):
        name = [*arguments][-1]
        with pytest.raises(TypeError, match=rf"{name} is a masked array: pass {name}.filled\(0\)") as info:
            conv1x1(x, **arguments)
        with pytest.raises(TypeError, match=f"{name} is a masked array"):
            Conv1x1(**arguments)
        advised = str(info.value).partition("pass ")[2].partition(",")[0]
        assert conv1x1(x, **arguments | {name: eval(advised, dict(arguments))}).shape == (5, 4)


class Variable:
    """What gives a masked array, as a variable of a NetCDF file does."""

    def __init__(self, a: Any) -> None:
        self.a = a

    def __array__(self, dtype: Any = None, copy: Any = None) -> Any:
        return self.a if dtype is None else self.a.astype(dtype)


def test_masks_that_come_with_other_objects() -> None:
    """No mask is lost on the way from an object to an array."""
    x = pixels(5, 7, 3)
    expected = conv1x1(x, W)
    for call in (conv1x1, reference, lambda x, w: Conv1x1(w)(x)):
        y = call(Variable(x), W)
        assert np.array_equal(y.mask, expected.mask)
        assert np.array_equal(y.data, expected.data)
        for images in (list(x), tuple(x)):
            with pytest.raises(TypeError, match=r"of masked arrays: pass np.ma.stack\(x\)"):
                call(images, W)
            assert np.array_equal(call(np.ma.stack(images), W).mask, expected.mask)
    with pytest.raises(TypeError, match=r"w is a masked array: pass np\.ma\.filled") as info:
        conv1x1(x, Variable(pixels(4, 3)))
    w = eval(str(info.value).partition("pass ")[2], {"np": np, "w": Variable(pixels(4, 3))})
    assert np.array_equal(conv1x1(x, w).mask, expected.mask)
    layer = QConv1x1(**QUANTISATION)
    assert np.array_equal(layer.quantize(Variable(x)).mask, x.mask)


def test_no_mask_is_lost_in_lists_and_dicts() -> None:
    x = pixels(5, 7, 3)
    bands, row = {n: x[..., i] for i, n in enumerate("rgb")}, np.empty(5, object)
    row[:] = list(x)
    rows = [[list(image) for image in x]]
    for given in ([list(image) for image in x], tuple(tuple(image) for image in x), bands, row, rows):
        better: Any = given
        for _ in range(3):
            with contextlib.suppress(TypeError):
                y = conv1x1(better, W)
                break
            with pytest.raises(TypeError, match="pass ") as info:
                conv1x1(better, W)
            better = eval(str(info.value).rpartition("pass ")[2], {"np": np, "x": better})
        assert np.array_equal(y.mask.reshape(5, 7, 4), conv1x1(x, W).mask)


def test_a_masked_array_of_objects_keeps_its_mask() -> None:
    x = pixels(5, 7, 3)
    with pytest.raises(TypeError, match=r"pass x.astype\(np.float") as info:
        conv1x1(x.astype(object), W)
    better = eval(str(info.value).rpartition("pass ")[2], {"np": np, "x": x.astype(object)})
    assert np.array_equal(conv1x1(better, W).mask, conv1x1(x, W).mask)


# --------------------------------------------------------------------------------------------------- quantised

QUANTISATION: dict[str, Any] = {"w": W.astype(np.int8), "w_scale": 0.25, "w_zero_point": 0}
QUANTISATION |= {"x_scale": 0.5, "x_zero_point": np.uint8(3), "y_scale": 2.0, "y_zero_point": np.uint8(5)}


def test_quantised() -> None:
    x = pixels(6, 7, 3, dtype=np.uint8, fill_value=9)
    mask = np.repeat(x.mask.any(-1, keepdims=True), 4, -1)
    for function in (conv1x1_integer, reference_integer):
        y = function(x, W.astype(np.int8), 1)
        same(y, function(x.data, W.astype(np.int8), 1), mask)
        assert y.fill_value == 9
        strided = function(x, W[0].astype(np.int8), stride=2)
        same(strided, function(x.data, W[0].astype(np.int8), stride=2), x.mask.any(-1)[::2, ::2])
    layer = QConv1x1(**QUANTISATION)
    for call in (qlinear_conv1x1, reference_qlinear, lambda x, out=None, **_: layer(x, out=out)):
        same(call(x, **QUANTISATION), layer(x.data), mask)
        out = np.zeros((6, 7, 4), np.uint8)
        assert np.shares_memory(call(x, **QUANTISATION, out=out), out)
        assert np.array_equal(out, layer(x.data))
    assert layer.plan(x) == layer.plan(x.data)


def test_to_and_from_quantised_numbers() -> None:
    layer = QConv1x1(**QUANTISATION)
    x = pixels(6, 7, 3, fill_value=2)
    same(layer.quantize(x), layer.quantize(x.data), x.mask)
    y = layer(layer.quantize(x))
    same(layer.dequantize(y), layer.dequantize(y.data), y.mask)
    assert layer.quantize(x).fill_value == layer.dequantize(y).fill_value == 2
    x.data[x.mask] = np.nan
    same(layer.quantize(x), layer.quantize(x.filled(0) + x.mask * np.float32(0)), x.mask)
    for hidden in (np.ma.masked_all(3, np.float32), np.ma.array([0.5, np.nan], mask=True)):
        assert layer.quantize(hidden).mask.all()
        assert layer.dequantize(hidden).mask.all()


def test_calibration_leaves_out_what_is_masked() -> None:
    layer = Conv1x1(np.float32([[1, 2, 3], [-1, 0, 1]]), stride=(2, 1))
    x = pixels(40, 30, 3)
    x.data[x.mask] = 1e6
    plain = QConv1x1.from_float(layer, calibration=np.where(x.mask, 0, x.data))
    made = QConv1x1.from_float(layer, calibration=x)
    assert (made.x_scale, made.x_zero_point) == (plain.x_scale, plain.x_zero_point)
    seen = layer(x)
    assert float(made.y_scale) == pytest.approx((seen.max() - min(seen.min(), 0)) / 255)
    assert 40 < made.snr < 80
    x.data[x.mask] = np.nan
    assert pickle.dumps(QConv1x1.from_float(layer, calibration=x)) == pickle.dumps(made)
    unmasked = np.ma.array(x.filled(1))
    assert pickle.dumps(QConv1x1.from_float(layer, calibration=unmasked)) == pickle.dumps(
        QConv1x1.from_float(layer, calibration=unmasked.data)
    )
    for mask in (np.ones((40, 30, 3), bool), np.arange(3) == np.zeros((40, 30, 1))):
        with pytest.raises(ValueError, match="masked"):
            QConv1x1.from_float(layer, calibration=np.ma.array(np.ones((40, 30, 3)), mask=mask))
