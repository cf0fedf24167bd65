"""Where the channels of an array are, where a stride goes, and what shape and order in memory come of it."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, TypeAlias

import numpy as np

from . import positive_int
from .arrays import Array

#: For a number of channels, what to pass instead.
Meant: TypeAlias = Callable[[int], list[str]]
_MOST_AXES = 64  # NumPy's own limit


def axis_number(channel_axis: Any) -> int:
    """`channel_axis`, if it can be an axis of any array."""
    if isinstance(channel_axis, (bool, np.bool_)) or not isinstance(channel_axis, (int, np.integer)):
        raise TypeError(f"channel_axis must be an int, got {channel_axis!r}: -1 for HWC, 0 for CHW, 1 for NCHW")
    number = int(channel_axis)
    if not -_MOST_AXES <= number < _MOST_AXES:
        raise ValueError(f"channel_axis={number} is outside any array: there are at most {_MOST_AXES} axes")
    return number


def axis(x: Array, channel_axis: Any) -> int:
    """`channel_axis` counted from the front."""
    if x.ndim == 0:
        raise ValueError("x has no axes: expected an array with a channel axis, such as (H, W, C)")
    number = axis_number(channel_axis)
    if not -x.ndim <= number < x.ndim:
        raise ValueError(f"channel_axis={number} is outside x, which has {x.ndim} axes, shape {x.shape}")
    return number % x.ndim


def check_channels(
    x: Array, channel_axis: int, per_group: int, groups: int, meant: Meant | None = None, taker: str = "w filters"
) -> int:
    """The channel axis counted from the front, once it is sure to hold what the filters, or another `taker`, takes.

    `meant` says what else can be passed for the channels that x has.
    """
    position = axis(x, channel_axis)
    in_channels = per_group * groups
    if x.shape[position] != in_channels:
        text = (
            f"x of shape {x.shape} has {x.shape[position]} channels on axis {position} "
            f"(channel_axis={channel_axis}), but {taker} {in_channels}"
        )
        if groups > 1:
            text += f", {per_group} in each of {groups} groups"
        ways = [] if meant is None else meant(x.shape[position])
        others = [i for i, n in enumerate(x.shape) if n == in_channels and i != position]
        if others:
            ways.append(f"axis {others[-1]} has {in_channels}: pass channel_axis={others[-1]}")
        raise ValueError("; ".join([text, *ways]))
    return position


def stride(value: Any) -> int | tuple[int, ...]:
    """An int, or a tuple of ints with at least one entry."""
    if isinstance(value, (tuple, list)):
        if not value:
            raise ValueError("stride is empty: expected an int or one int for each strided axis, such as stride=(2, 2)")
        return tuple(positive_int(v, "stride") for v in value)
    return positive_int(value, "stride")


def strides_per_axis(x: Array, position: int, stride_: int | tuple[int, ...]) -> tuple[int, ...]:
    """One step for each axis of x; 1 for the channel axis and for every axis the stride does not reach."""
    pixel_axes = [i for i in range(x.ndim) if i != position]
    if isinstance(stride_, int):
        stride_ = (stride_,) * min(2, len(pixel_axes))
    if len(stride_) > len(pixel_axes):
        raise ValueError(
            f"stride={stride_} has {len(stride_)} entries, but x of shape {x.shape} has "
            f"{len(pixel_axes)} axes besides the channels"
        )
    steps = [1] * x.ndim
    for i, step in zip(pixel_axes[len(pixel_axes) - len(stride_) :], stride_, strict=True):
        steps[i] = step
    return tuple(steps)


def result_shape(
    x: Array, position: int, steps: tuple[int, ...], out_channels: int, keep_axis: bool
) -> tuple[int, ...]:
    """The shape of x, strided, with the filters on the channel axis (or without that axis)."""
    shape = [-(-n // s) for n, s in zip(x.shape, steps, strict=True)]
    shape[position : position + 1] = [out_channels] if keep_axis else []
    return tuple(shape)


def memory_order(a: Array) -> tuple[int, ...]:
    """The axes of an array as they lie in memory, outermost first: NumPy's order "K".

    C order where the axes longer than one lie so, else the order of the strides' magnitudes. A stride of 0 says
    nothing: such an axis keeps its place among its neighbours. Of two that are equal, an axis of one element is the
    inner one.
    """
    steps = [abs(s) for s in a.strides]
    telling = [s for s, n in zip(steps, a.shape, strict=True) if n != 1 and s]
    if telling == sorted(telling, reverse=True):
        return tuple(range(a.ndim))
    order: list[int] = []
    for axis_ in reversed(range(a.ndim)):  # finds its place among the axes after it, as in NumPy's iterator
        place = 0
        for j, other in enumerate(order):
            if not steps[axis_] or not steps[other]:
                continue
            one_of_many = a.shape[axis_] == 1 and a.shape[other] != 1
            if steps[other] < steps[axis_] or (steps[other] == steps[axis_] and not one_of_many):
                break
            place = j + 1
        order.insert(place, axis_)
    return tuple(order)


def lying_as(x: Array, result: Array, position: int) -> Array:
    """A result in an array of its own, dense, with its axes in memory as x has them; the channel axis may be gone."""
    there = empty_as(x, result.shape, result.dtype, (position,) if result.ndim < x.ndim else ())
    there[...] = result
    return there


def empty_as(x: Array, shape: tuple[int, ...], dtype: np.dtype[Any], gone: tuple[int, ...] = ()) -> Array:
    """Room for such a result, which has the axes of x without those that are gone."""
    order: Any = [i - sum(axis_ < i for axis_ in gone) for i in memory_order(x) if i not in gone]
    return np.empty([shape[i] for i in order], dtype).transpose(np.argsort(order))
