"""What `QConv1x1.from_float` learns from pixels: how far numbers reach, and how good the quantised result is.

The pixels are taken in pieces, twice, so that neither a copy of them nor their whole result is ever in memory.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Iterator
from typing import Any

import numpy as np

from .checks import geometry, quantized
from .checks.arrays import (
    Array,
    ArrayLike,
    DTypeLike,
    data_array,
    is_complex,
    is_integer,
    mask_of_result,
    spelled,
)
from .layers import Conv1x1

_PIECE = 2**16  # numbers of x or of the result, about
_SINGLE = np.finfo(np.float32)


def prepared(
    layer: Any, calibration: ArrayLike, dtype: DTypeLike, percentile: float
) -> tuple[Array, Conv1x1, dict[str, Any]]:
    """What `from_float` is given, checked: the pixels, the layer in real numbers, and the quantised one's arguments."""
    if not isinstance(layer, Conv1x1):
        raise TypeError(f"layer must be a Conv1x1, got {type(layer).__name__}: make one of the weights first")
    kind = quantized.type_of_bytes(dtype)
    try:
        possible = 50 < percentile <= 100
    except TypeError:
        raise TypeError(f"percentile must be a number, got {spelled(percentile)}") from None
    if not possible:
        raise ValueError(f"percentile must be > 50 and ≤ 100, got {percentile!r}")
    x = data_array(calibration, "calibration")
    parts = {"calibration": x, "the layer's weight": layer.weight, "the layer's bias": layer.bias}
    for name, a in parts.items():
        if a is not None and is_complex(a.dtype):
            raise TypeError(f"{name} has dtype {a.dtype}; quantised arrays stand for real numbers")
    real = real_valued(layer, x)
    of_x, of_y = reaches(x, real, percentile)
    x_scale, x_zero_point = of_x.scale_and_zero_point(kind)
    y_scale, y_zero_point = of_y.scale_and_zero_point(kind)
    w, w_scale, bias = filters(layer, x_scale)
    arguments = {
        "w": w,
        "bias": None if layer.bias is None and layer.center is None else bias,
        "x_scale": x_scale,
        "x_zero_point": x_zero_point,
        "w_scale": w_scale,
        "w_zero_point": np.int8(0),
        "y_scale": y_scale,
        "y_zero_point": y_zero_point,
        "channel_axis": layer.channel_axis,
        "stride": layer.stride,
        "groups": layer.groups,
        "activation": layer.activation,
    }
    return x, real, arguments


def real_valued(layer: Conv1x1, x: Array) -> Conv1x1:
    """`layer` without the type that its results are rounded and clamped to; of integers alone, in float64."""
    integers = is_integer(x.dtype) and is_integer(layer.weight.dtype)
    return Conv1x1(
        layer.weight,
        layer.bias,
        channel_axis=layer.channel_axis,
        stride=layer.stride,
        groups=layer.groups,
        activation=layer.activation,
        dtype=np.float64 if integers else None,
        center=layer.center,
    )


def pieces(x: Array, layer: Conv1x1) -> Iterator[Array]:
    """X in views of whole pixels, cut where the stride of `layer` takes a pixel."""
    position = geometry.axis(x, layer.channel_axis)
    steps = geometry.strides_per_axis(x, position, layer.stride)
    longest = max((i for i in range(x.ndim) if i != position), key=lambda i: x.shape[i], default=None)
    if longest is None:
        yield x
        return
    length, step = x.shape[longest], steps[longest]
    size = x.size // layer.in_channels * max(layer.in_channels, layer.out_channels)
    rows = max(_PIECE * length // size // step, 1) * step
    for start in range(0, length, rows):
        yield x[(slice(None),) * longest + (slice(start, start + rows),)]


class Least:
    """The least of numbers that come in pieces.

    Parameters
    ----------
    count : int
        How many to keep.
    """

    def __init__(self, count: int) -> None:
        self._count, self._limit = count, math.inf
        self._parts: list[Array] = []

    def add(self, numbers: Array) -> None:
        """Take some."""
        self._parts.append(numbers[numbers < self._limit])
        if sum(map(len, self._parts)) > 1.5 * self._count + _PIECE:
            together = np.concatenate(self._parts)
            self._parts.clear()
            together.partition(self._count - 1)
            self._parts, self._limit = [together[: self._count].copy()], float(together[self._count - 1])

    def at(self, place: float) -> float:
        """The one at a place, counted from the least; between two of them, a number between."""
        ordered = np.concatenate(self._parts)
        ordered.sort()
        return float(np.interp(place, np.arange(len(ordered)), ordered))


class Reach:
    """Between which ends the numbers of an array lie, all but the outermost; of numbers that come in pieces.

    Parameters
    ----------
    name : str
        What the numbers are, for errors.
    count : int
        How many will come.
    percentile : float
        Where the upper end is among them; the lower one is as far from the other side.
    """

    def __init__(self, name: str, count: int, percentile: float) -> None:
        self._name = name
        self._place = (count - 1) * (100 - percentile) / 100  # of an end, counted from the outermost number
        # The highest have their signs turned.
        self._lowest, self._highest = (Least(math.floor(self._place) + 2) for _ in range(2))

    def add(self, piece: Array) -> None:
        """Take some of the numbers."""
        numbers = np.ma.compressed(piece)
        if not np.isfinite(numbers).all():
            raise ValueError(f"{self._name} holds NaN or infinity: expected finite numbers, to take the range of")
        numbers = numbers if numbers.dtype == np.float32 else numbers.astype(np.float64)
        self._lowest.add(numbers)
        self._highest.add(-numbers)

    def scale_and_zero_point(self, dtype: np.dtype[Any]) -> tuple[np.float32, Any]:
        """With what `dtype` covers all between the ends, and 0."""
        lo, hi = min(self._lowest.at(self._place), 0.0), max(-self._highest.at(self._place), 0.0)
        info = np.iinfo(dtype)
        steps = info.max - info.min
        if not max(-lo, hi) <= float(_SINGLE.max):
            raise ValueError(f"{self._name} reaches from {lo:g} to {hi:g}: quantised arrays stand for float32")
        scale = np.float32(max((hi - lo) / steps, float(_SINGLE.tiny)) if hi > lo else 1)
        return scale, dtype.type(np.clip(np.rint(info.min - lo / float(scale)), info.min, info.max))


def reaches(x: Array, layer: Conv1x1, percentile: float) -> tuple[Reach, Reach]:
    """Of x, and of what `layer` makes of it; what is masked is left out."""
    position = geometry.check_channels(x, layer.channel_axis, layer.in_channels // layer.groups, layer.groups)
    steps = geometry.strides_per_axis(x, position, layer.stride)
    hidden = int(np.sum(mask_of_result(x, None, position, steps, layer.out_channels, True)))
    shape = geometry.result_shape(x, position, steps, layer.out_channels, True)
    size, count = np.ma.count(x), math.prod(shape) - hidden
    if not size or not count:
        which = "the layer's result" if size else "calibration"
        raise ValueError(f"{which} is empty or masked: expected finite numbers, to take the range of")
    of_x, of_y = Reach("calibration", size, percentile), Reach("the layer's result", count, percentile)
    for piece in pieces(x, layer):
        of_x.add(piece)
        of_y.add(layer(piece))
    return of_x, of_y


def filters(layer: Conv1x1, x_scale: np.float32) -> tuple[Array, Array, Array]:
    """The filters in int8, their scales, and the bias in int32, for pixels of a scale."""
    w = np.atleast_2d(layer.weight).astype(np.float64)
    bias = np.zeros(len(w)) if layer.bias is None else layer.bias.astype(np.float64)
    if layer.center is not None:  # what it takes off is the same for every pixel
        of_groups = np.repeat(layer.center.astype(np.float64).reshape(layer.groups, -1), len(w) // layer.groups, axis=0)
        bias = bias - (w * of_groups).sum(axis=1)
    # The scale of a filter also leaves its bias far inside int32; a filter of nothing but zeros can have any.
    needed = np.maximum(np.abs(w).max(axis=1, initial=0) / 127, np.abs(bias) / (float(x_scale) * 2**30))
    if not (needed <= float(_SINGLE.max)).all():
        k = int(np.argmin(needed <= float(_SINGLE.max)))
        raise ValueError(
            f"filter {k} has weights up to {np.abs(w[k]).max():g} and a bias of {bias[k]:g}, too large for a scale in "
            f"float32 beside pixels of the scale {x_scale:g}"
        )
    scale = np.where(needed > 0, np.maximum(needed, float(_SINGLE.tiny)), 1).astype(np.float32)
    whole = np.clip(np.rint(w / scale[:, None]), -127, 127).astype(np.int8)
    unit = float(x_scale) * scale.astype(np.float64)
    return whole.reshape(layer.weight.shape), scale, np.rint(bias / unit).astype(np.int32)


def snr(x: Array, layer: Conv1x1, quantised: Callable[[Array], Array]) -> float:
    """Signal to noise, in dB, of what the quantised layer makes of real numbers."""
    signal = noise = 0.0
    for piece in pieces(x, layer):
        y = np.ma.compressed(layer(piece)).astype(np.float64)
        signal += float(np.square(y).sum())
        y -= np.ma.compressed(quantised(piece))
        noise += float(np.square(y, out=y).sum())
    if not noise:
        return math.inf
    return 10 * math.log10(signal / noise) if signal / noise > 0 else -math.inf
