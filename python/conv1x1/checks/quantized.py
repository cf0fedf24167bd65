"""Arguments of the quantised functions, made canonical; every error message about them.

What is the same for every convolution is in the files beside.
"""

from __future__ import annotations

from typing import Any, NamedTuple

import numpy as np

from ..arithmetic import default_arithmetic
from . import ACTIVATIONS, Spec, activation, floats, geometry, positive_int, weights
from .arrays import Array, ArrayLike, DTypeLike, Finish, is_bfloat16, maybe_masked, other_type, spelled, unmasked

INT8, UINT8, INT32 = np.dtype(np.int8), np.dtype(np.uint8), np.dtype(np.int32)
EIGHT_BITS = (INT8, UINT8)
_LIMITS = {t: (int(np.iinfo(t).min), int(np.iinfo(t).max)) for t in EIGHT_BITS}
#: Activations that do no more than narrow a range.
_CLAMPS = ("relu", "relu6", "clip")
_LARGEST_SUM = 2**31 - 1


class Integer(NamedTuple):
    """The arguments of ConvInteger in canonical form."""

    weight: Array  # (K, C/groups), C-contiguous, int8 or uint8
    w_zero_point: Array  # (K,), of the weight's type
    x_zero_point: Any  # a NumPy scalar of x's type
    channel_axis: int
    keep_axis: bool  # False: the weight was a vector, the result has no channel axis
    stride: int | tuple[int, ...]
    groups: int


class Requantize(NamedTuple):
    """What QLinearConv has more, in canonical form."""

    bias: Array | None  # (K,), int32
    x_scale: np.float32
    w_scale: Array  # (K,), float32
    y_scale: np.float32
    y_zero_point: Any  # a NumPy scalar of the result's type
    activation: tuple[str, float, float]

    @property
    def multiplier(self) -> Array:
        """From the units of the sums to those of the result, (K,): in float32, in ONNX Runtime's order."""
        with np.errstate(over="ignore", under="ignore"):
            return np.asarray(self.x_scale * self.w_scale / self.y_scale)

    @property
    def limits(self) -> Array:
        """Between what a result is clamped before its zero point is added, in float32."""
        (least, most), zero = _LIMITS[self.y_zero_point.dtype], int(self.y_zero_point)
        name, a, b = self.activation
        ends = {"relu": (0.0, np.inf), "relu6": (0.0, 6.0), "clip": (a, b)}.get(name, (-np.inf, np.inf))
        with np.errstate(over="ignore", under="ignore"):
            narrowed = np.array(ends, np.float32) / self.y_scale
        return np.asarray(np.minimum(np.maximum(narrowed, np.float32(least - zero)), np.float32(most - zero)))


def pixels(x: ArrayLike, dtype: np.dtype[Any] | None = None) -> Array:
    """`x` as an array of int8 or uint8, or of `dtype`, the one its zero point has; an ndarray is never copied."""
    a = maybe_masked(x, "x")
    if a.dtype.kind == "f":
        t = UINT8 if dtype is None else dtype
        x_name = "x" if hasattr(x, "astype") else "np.asarray(x)"
        info = np.iinfo(t)
        raise TypeError(
            f"x holds {a.dtype} numbers; quantised pixels, {dtype or 'int8 or uint8'}, are expected: pass "
            f"np.clip(np.rint({x_name} / x_scale) + x_zero_point, {info.min}, {info.max}).astype(np.{t}), "
            "or leave numbers as they are with conv1x1(x, w)"
        )
    if a.dtype not in EIGHT_BITS:
        what, instead = _other_type(x, a, "x", UINT8 if dtype is None else dtype)
        raise TypeError(f"{what}; quantised pixels are int8 or uint8{instead}")
    if dtype is not None and a.dtype != dtype:
        raise TypeError(
            f"x has dtype {a.dtype}, but the layer's x_zero_point is {dtype}, and both are of one type: pass pixels "
            f"that were quantised to {dtype}, or make the layer with x_zero_point=np.{a.dtype}(…)"
        )
    return a


@default_arithmetic
def integer(
    w: ArrayLike,
    x_zero_point: ArrayLike,
    w_zero_point: ArrayLike,
    channel_axis: Any,
    stride: Any,
    groups: Any,
    x: Array | None = None,
) -> Integer:
    """The arguments of ConvInteger, checked; x, where there is one, settles its type and weights with two readings."""
    groups = positive_int(groups, "groups")
    channel_axis = geometry.axis_number(channel_axis)
    stride = geometry.stride(stride)
    a = unmasked(w, "w")
    if a.dtype not in EIGHT_BITS:
        what, instead = _other_type(w, a, "w", INT8)
        instead = ": quantise it first: see QConv1x1.from_float" if a.dtype.kind == "f" else instead
        raise TypeError(f"{what}; quantised weights are int8 or uint8{instead}")
    matrix, keep = weights.weight(a, groups, x, channel_axis)
    weight = np.ascontiguousarray(matrix, a.dtype)
    x_zero = _zero_points(x_zero_point, "x_zero_point", "x", None if x is None else x.dtype, 1)[0]
    w_zero = _zero_points(w_zero_point, "w_zero_point", "w", a.dtype, len(weight))
    per_group, limit = weight.shape[1], _LARGEST_SUM // (_reach(x_zero) * _reach(w_zero))
    if per_group > limit:
        raise ValueError(
            f"w has {per_group} channels{' in each group' if groups > 1 else ''}: sums of {x_zero.dtype} · {a.dtype} "
            f"products with these zero points are sure to fit into int32 up to {limit} channels"
        )
    return Integer(weight, w_zero, x_zero, channel_axis, keep, stride, groups)


@default_arithmetic
def requantize(
    made: Integer,
    x_scale: ArrayLike,
    w_scale: ArrayLike,
    y_scale: ArrayLike,
    y_zero_point: ArrayLike,
    bias: ArrayLike | None,
    activation: Any,
    bias_name: str = "B",  # ONNX's
) -> Requantize:
    """What QLinearConv has more than ConvInteger, checked."""
    filters = len(made.weight)
    more = Requantize(
        None if bias is None else _bias(bias, bias_name, filters),
        _scales(x_scale, "x_scale", 1)[0],
        _scales(w_scale, "w_scale", filters),
        _scales(y_scale, "y_scale", 1)[0],
        _zero_points(y_zero_point, "y_zero_point", "the result", None, 1)[0],
        _activation(activation),
    )
    finite = np.isfinite(more.multiplier)
    if not finite.all():
        k = int(np.argmin(finite))
        raise ValueError(
            f"x_scale · w_scale / y_scale is not finite in float32 for filter {k}: "
            f"{more.x_scale:g} · {more.w_scale[k]:g} / {more.y_scale:g}"
        )
    return more


@default_arithmetic
def spec(made: Integer, more: Requantize | None = None) -> Spec:
    """For the core: zero points are taken from the weights and folded into the bias, once."""
    centred = made.weight.astype(np.int16) - made.w_zero_point[:, None].astype(np.int16)
    # Σ (w − wz)·(x − xz) + B = Σ (w − wz)·x + [B − xz·Σ (w − wz)], modulo 2³² as every sum of int32
    constant = -int(made.x_zero_point) * centred.sum(axis=1, dtype=np.int64)
    if more is None:
        dtype, requantize_ = INT32, None
    else:
        constant += 0 if more.bias is None else more.bias
        dtype = more.y_zero_point.dtype
        lo, hi = more.limits
        requantize_ = more.multiplier, float(lo), float(hi), int(more.y_zero_point), made.x_zero_point.dtype
    return Spec(
        centred,
        constant.astype(np.int32) if constant.any() else None,
        made.channel_axis,
        made.keep_axis,
        made.stride,
        made.groups,
        ("", 0.0, 0.0) if more is None else more.activation,
        dtype,
        requantize_,
        None if more is None else (made, more),
    )


def check_out(out: Any, more: Requantize | None) -> None:
    """Whether `out` is of the result's type, which it does not decide here; the rest is that of `floats`."""
    dtype, why = (INT32, "the sums'") if more is None else (more.y_zero_point.dtype, "that of y_zero_point")
    if isinstance(out, np.ndarray) and out.dtype != dtype:
        raise TypeError(
            f"out has dtype {out.dtype}, expected {dtype}, {why}: pass out=np.empty({out.shape}, np.{dtype})"
        )


def call(
    spec_: Spec, x: ArrayLike, residual: None, out: Any, threads: Any, *, numbers: bool = True
) -> tuple[Array, Array | None, Array | None, int | None, Finish | None]:
    """The arguments of one call of a quantised layer, which has no residual, checked against it."""
    assert spec_.quantised is not None
    made, more = spec_.quantised
    a = pixels(x, made.x_zero_point.dtype)
    check_out(out, more)
    return floats.call(spec_, a, residual, out, threads, numbers=numbers)


def type_of_bytes(value: DTypeLike) -> np.dtype[Any]:
    """int8 or uint8, whatever NumPy takes for them."""
    try:
        dtype: np.dtype[Any] = np.dtype(value)
    except Exception:
        dtype = np.dtype(object)
    if dtype not in EIGHT_BITS:
        raise TypeError(f"dtype must be int8 or uint8, got {spelled(value)}: pass dtype=np.uint8")
    return dtype


def real_numbers(x: ArrayLike) -> Array:
    """What is to be quantised, as an array: real numbers, and no NaN."""
    a = maybe_masked(x, "x")
    if a.dtype.kind not in "biuf" and not is_bfloat16(a.dtype):
        what, instead = (f"x has dtype {a.dtype}", "") if a.dtype.kind == "c" else other_type(x, a, "x")
        raise TypeError(f"{what}; real numbers are expected, to quantise{instead}")
    if a.dtype.kind not in "biu" and np.isnan(a).any():
        raise ValueError("x holds NaN, for which there is no integer: pass np.nan_to_num(x), or leave those pixels out")
    return a


def whole_numbers(y: ArrayLike) -> Array:
    """What stands for real numbers, as an array."""
    a = maybe_masked(y, "y")
    if a.dtype.kind not in "iuf":
        what, instead = (f"y has dtype {a.dtype}", "") if a.dtype.kind == "c" else other_type(y, a, "y")
        raise TypeError(f"{what}; whole numbers are expected, as the layer gives them{instead}")
    if a.dtype.kind == "f" and not np.ma.filled(np.isfinite(a) & (np.rint(a) == a), True).all():
        raise ValueError("y holds numbers that are not whole: expected a result of the layer, before it is dequantised")
    return a


def _other_type(value: Any, a: Array, name: str, dtype: np.dtype[Any]) -> tuple[str, str]:
    """What was passed that is not of eight bits, as the array `a`, and the call that makes such numbers of it."""
    if a.dtype.kind in "biu":
        least, most = (int(a.min()), int(a.max())) if a.size else (0, 0)
        fits = next((t for t in (dtype, *EIGHT_BITS) if _LIMITS[t][0] <= least and most <= _LIMITS[t][1]), None)
        if fits is None:
            return f"{name} has dtype {a.dtype} and holds {least} to {most}, beyond eight bits", ""
        return f"{name} has dtype {a.dtype}", f": pass np.asarray({name}, np.{fits})"
    if a.dtype.kind == "c":
        return f"{name} has dtype {a.dtype}", ", which stand for real numbers"
    what, instead = other_type(value, a, name)
    return what, instead.partition(", bias=")[0]  # which has another unit


def _reach(zero: Array) -> int:
    """The largest factor a number of this type can be in a product, with its zero point taken off or folded away."""
    least, most = _LIMITS[zero.dtype]
    return max(most - int(zero.min(initial=0)), int(zero.max(initial=0)) - least)


def _one_or_each(a: Array, name: str, filters: int) -> Array:
    """One number, for all filters, or one for each."""
    if a.shape == (filters,):
        return a.copy()
    if a.shape not in {(), (1,)}:
        each = f", or ({filters},), one for each filter" if filters > 1 else ""
        hint = f": pass np.ravel({name})" if a.size in (1, filters) else ""
        raise ValueError(f"{name} has shape {a.shape}, expected one number{each}{hint}")
    return np.full(filters, a, a.dtype)


def _zero_points(value: ArrayLike, name: str, of: str, dtype: np.dtype[Any] | None, filters: int) -> Array:
    """Zero points as (filters,) of `dtype`; without one, of their own type, which must be of eight bits then."""
    a = unmasked(value, name)
    if a.dtype.kind not in "iu":
        raise TypeError(f"{name} must be an integer of {of}'s type, got {value!r}")
    if dtype is None and a.dtype not in EIGHT_BITS:
        raise TypeError(f"{name}={value!r} must say whether {of} is int8 or uint8: pass np.uint8(…) or np.int8(…)")
    if dtype is None:
        dtype = a.dtype
    elif a.dtype in EIGHT_BITS and a.dtype != dtype:
        raise TypeError(
            f"{name} has dtype {a.dtype}, but {of} is {dtype}, and both are of one type: pass np.{dtype}(…)"
        )
    if a.dtype != dtype:
        least, most = _LIMITS[dtype]
        outside = (a < least) | (a > most)
        if outside.any():
            raise ValueError(f"{name}={a[outside].flat[0]} is outside {dtype}, {least} … {most}")
    return _one_or_each(a, name, filters).astype(dtype)


def _scales(value: ArrayLike, name: str, filters: int) -> Array:
    """Scales as (filters,) of float32."""
    a = unmasked(value, name)
    if a.dtype.kind not in "fiu" and not is_bfloat16(a.dtype):
        raise TypeError(f"{name} must be a number > 0, got {value!r}")
    with np.errstate(over="ignore", under="ignore"):
        scales = _one_or_each(a, name, filters).astype(np.float32)
    good = (scales > 0) & np.isfinite(scales)
    if not good.all():
        k = int(np.argmin(good))
        which = name if a.size == 1 else f"{name}[{k}]"
        given = a.flat[0] if a.size == 1 else a[k]
        raise ValueError(f"{which} must be > 0 and finite in float32, got {given:g}")
    return scales


def _bias(value: ArrayLike, name: str, filters: int) -> Array:
    a = unmasked(value, name)
    if a.dtype.kind not in "iu":
        number = name if hasattr(value, "astype") else f"np.asarray({name})"
        hint = f": pass np.rint({number} / (x_scale * w_scale)).astype(np.int32)" if a.dtype.kind == "f" else ""
        raise TypeError(f"{name} holds {a.dtype}; whole numbers of x_scale · w_scale, int32, are expected{hint}")
    if a.shape != (filters,):
        hint = f": pass np.ravel({name})" if a.size == filters else ""
        raise ValueError(f"{name} has shape {a.shape}, expected ({filters},), one number a filter{hint}")
    if a.dtype != INT32:
        info = np.iinfo(np.int32)
        outside = (a < info.min) | (a > info.max)
        if outside.any():
            raise ValueError(f"{name} holds {a[outside].flat[0]}, which is outside int32")
    return np.ascontiguousarray(a, np.int32)


def _activation(value: Any) -> tuple[str, float, float]:
    name = value[0] if isinstance(value, tuple) and value else value
    if name is not None and not (isinstance(name, str) and name in _CLAMPS):
        from . import activations

        raise ValueError(
            f"activation {spelled(value)} is not possible between integers: expected None, or one that only narrows "
            f'the range, "relu", "relu6" or ("clip", lo, hi){activations.instead(value, ACTIVATIONS, _CLAMPS)}'
        )
    return activation(value)
