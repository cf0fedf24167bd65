"""The definition of a pointwise convolution of numbers as they are: what `conv1x1` computes."""

from __future__ import annotations

import math
from functools import partial
from typing import Any

import numpy as np

from ..arithmetic import default_arithmetic
from ..checks import Activation, floats, geometry, is_chain, pixels_and_chain
from ..checks.arrays import Array, ArrayLike, DTypeLike, data_array, is_bfloat16, is_complex
from . import on_axis, returned, sums


@default_arithmetic
def reference(
    x: ArrayLike,
    w: ArrayLike,
    bias: ArrayLike | None = None,
    *,
    channel_axis: int = -1,
    stride: int | tuple[int, ...] = 1,
    groups: int = 1,
    activation: Activation = None,
    residual: ArrayLike | None = None,
    dtype: DTypeLike | None = None,
    out: Array | None = None,
    threads: int | None = None,
    center: ArrayLike | None = None,
) -> Array:
    """Pointwise convolution in plain NumPy, in float64, complex128 or int64: slow, and short enough to be read.

    It takes the arguments of `conv1x1`, makes the same checks, and walks over the output one pixel at a time:
    the pixel's channels times each filter, summed. Use it to understand the operation and to test against.

    Parameters
    ----------
    x, w, bias, channel_axis, stride, groups, activation, residual, dtype, out, threads
        As in `conv1x1`. `threads` is checked and has no effect. Or a `Sequential` for w, in place of all else but `out`
        and `threads`: its elements, each of what the one before gave.
    center
        As in `Conv1x1`.

    Returns
    -------
    ndarray
        The result in float64, in complex128 where a number is complex, or in int64 where `conv1x1` gives an integer;
        or in the type that `dtype` or `out` asks for: integers rounded half to even and saturated, with NaN as 0;
        float16 and bfloat16 rounded half to even. It lies in memory as that of `conv1x1`.

    Notes
    -----
    The parameters of an activation are rounded to the type that `conv1x1` sums in.
    Integers alone are summed in int64, all else in float64, whatever `conv1x1` sums them in.

    Raises
    ------
    TypeError, ValueError, ImportError
        As `conv1x1` does.

    Examples
    --------
    Two channels of 2×2 pixels, and the filter [2, 3]; the first pixel is 2·1 + 3·5:

    >>> from conv1x1 import reference
    >>> reference([[[1., 2.], [3., 4.]], [[5., 6.], [7., 8.]]], [2, 3], channel_axis=0)
    array([[17., 22.],
           [27., 32.]])
    >>> reference([[1, 5], [200, 100]], [0.5, 1], dtype="uint8")
    array([  6, 200], dtype=uint8)
    """
    if is_chain(w) or is_chain(x):
        from .chains import reference_chain

        given = (bias, channel_axis, stride, groups, activation, residual, dtype, center)
        pixels, net = pixels_and_chain(x, w, "reference", given)
        return reference_chain(pixels, net, out, threads)
    x = data_array(x, "x")
    spec = floats.spec(w, bias, channel_axis, stride, groups, activation, dtype, center, x)
    x, residual, out, _, finish = floats.call(spec, x, residual, out, threads)
    position = geometry.axis(x, channel_axis)
    integers = floats.sums_integers(spec, x, residual)

    pixels, filters = exact(x, integers), exact(spec.weight, integers)
    if spec.center is not None:
        pixels = np.moveaxis(np.moveaxis(pixels, position, -1) - exact(spec.center, integers), -1, position)
    y = sums(pixels, filters, position, spec.stride, groups, partial(by_parts, np.matmul))
    kind = y.dtype
    if spec.bias is not None:
        y = y + exact(spec.bias, integers)
    y = on_axis(y, position, spec.keep_axis)
    if residual is not None:
        y = y + exact(residual, integers)
    y = activate(y, parameters(spec.activation, floats.type_of_sums(spec, x, residual, out)))
    clamped = kind if spec.activation[0] in ("relu", "relu6", "clip") else y.dtype  # integers to integers
    y = cast(y, (spec.dtype or clamped) if out is None else out.dtype)
    return returned(x, y, position, out, finish)


def exact(a: Array, integers: bool) -> Array:
    """Numbers as they are computed with: in int64 where all are integers, else in float64 or complex128."""
    return a.astype(np.complex128 if is_complex(a.dtype) else np.int64 if integers else np.float64)


def by_parts(multiply: Any, a: Array, b: Array) -> Array:
    """A product, where a real factor multiplies the parts of a complex one each on its own: ∞ · i is no NaN + ∞i."""
    if is_complex(a.dtype) == is_complex(b.dtype):
        return np.asarray(multiply(a, b))
    if is_complex(a.dtype):
        real, imaginary = multiply(a.real, b), multiply(a.imag, b)
    else:
        real, imaginary = multiply(a, b.real), multiply(a, b.imag)
    product = np.empty(real.shape, np.complex128)
    product.real, product.imag = real, imaginary
    return product


def cast(y: Array, dtype: np.dtype[Any]) -> Array:
    """Numbers in another type: to integers rounded half to even and saturated, NaN to 0; to floats half to even."""
    with np.errstate(all="ignore"):
        if is_bfloat16(dtype):  # ml_dtypes goes through float32, and rounds twice
            lowest = np.maximum(np.frexp(y)[1], -125) - 8  # the exponent of the last bit
            return np.asarray(np.ldexp(np.rint(np.ldexp(y, -lowest)), lowest)).astype(dtype)
        if dtype.kind not in "iu":
            return y.astype(dtype)
        limits = np.iinfo(dtype)
        if y.dtype.kind != "f":
            return np.clip(y, limits.min, limits.max).astype(dtype)
        whole = np.rint(np.where(np.isnan(y), 0, y))
        low, high = whole <= limits.min, whole >= limits.max
        return np.where(high, limits.max, np.where(low, limits.min, whole.astype(dtype))).astype(dtype)


def parameters(activation: tuple[str, float, float], sums: str) -> tuple[str, float, float]:
    """An activation's parameters in the type of the sums; a slope that is neither 0 nor infinite stays so."""
    name, *numbers = activation
    if sums != "float32" or name not in ("clip", "leaky_relu"):
        return activation
    with np.errstate(all="ignore"):
        a, b = (float(np.float32(number)) for number in numbers)
    slope = numbers[0]
    if name == "leaky_relu" and slope and math.isfinite(slope):
        limits = np.finfo(np.float32)
        a = math.copysign(min(max(abs(a), float(limits.smallest_subnormal)), float(limits.max)), slope)
    return name, a, b


def activate(y: Array, activation: tuple[str, float, float]) -> Array:
    """The activation functions, as formulas; NaN goes through every one of them."""
    name, a, b = activation
    formulas: dict[str, Any] = {
        "": lambda: y,
        "relu": lambda: np.maximum(y, 0),
        "relu6": lambda: np.clip(y, 0, 6),
        "clip": lambda: np.clip(y, a, b),
        "leaky_relu": lambda: np.where(y < 0, a * y, y),
        "hardsigmoid": lambda: np.clip(y + 3, 0, 6) / 6,
        "hardswish": lambda: y * (np.clip(y + 3, 0, 6) / 6),
        "sigmoid": lambda: 1 / (1 + np.exp(-y)),
        "silu": lambda: y / (1 + np.exp(-y)),
        "tanh": lambda: np.tanh(y),
        "gelu": lambda: y * (0.5 * (1 + np.vectorize(math.erf, otypes=[float])(y / math.sqrt(2)))),
    }
    return np.asarray(formulas[name]())
