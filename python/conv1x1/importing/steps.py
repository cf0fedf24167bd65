"""Steps of a model in float64, before they are layers: what is linear is folded here, and no sooner rounded."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass, replace
from typing import Any, TypeAlias

import numpy as np

from ..checks import Activation
from ..checks.arrays import Array
from ..layers import Conv1x1
from ..sequential import Sequential
from ..steps import ArgMax, LayerNorm, Pool, Softmax

#: Where 1 is left of a number in float32, a center of whole numbers loses nothing that counts.
_WHOLE = 1.0


@dataclass(frozen=True, eq=False)
class Scale:
    """``(x − center) · factor + shift``, number by number; each a scalar, or one a channel."""

    factor: Array
    shift: Array
    center: Array

    @classmethod
    def of(cls, factor: Any = 1.0, shift: Any = 0.0, center: Any = 0.0) -> Scale:
        return cls(*(np.asarray(a, np.float64) for a in (factor, shift, center)))

    @classmethod
    def about(cls, pixels: Array) -> Scale:
        """Nothing: a center near the mean of pixels is taken off and given back."""
        center = centered(pixels.mean(0, np.float64), pixels.std(0, np.float64))
        return cls.of(1.0, center, center)


@dataclass(frozen=True, eq=False)
class Matrix:
    """``weight · (x − center) + bias``, with groups and a stride as layers have them."""

    weight: Array
    bias: Array
    center: Array
    groups: int = 1
    stride: int | tuple[int, ...] = 1
    keep_axis: bool = True  # else a single filter, without the channels' axis in its result

    @classmethod
    def of(cls, weight: Any, bias: Any = None, center: Any = None, **options: Any) -> Matrix:
        w = np.asarray(weight, np.float64)
        channels = w.shape[1] * options.get("groups", 1)
        b = np.zeros(len(w)) if bias is None else np.broadcast_to(np.asarray(bias, np.float64), len(w))
        c = np.zeros(channels) if center is None else np.broadcast_to(np.asarray(center, np.float64), channels)
        return cls(w, b, c, **options)

    def dense(self) -> Array:
        """The weights as one matrix, of zeros where groups do not see one another."""
        filters, channels = self.weight.shape
        full = np.zeros((filters, channels * self.groups))
        of_each = filters // self.groups
        for g in range(self.groups):
            rows = slice(g * of_each, (g + 1) * of_each)
            full[rows, g * channels : (g + 1) * channels] = self.weight[rows]
        return full


@dataclass(frozen=True, eq=False)
class Curve:
    """An activation that layers have."""

    activation: Activation


@dataclass(frozen=True, eq=False)
class Part:
    """What no chain has by itself: part of a gelu, "erf", or of a layer norm, "mean", "deviation", "square", "root"."""

    name: str


@dataclass(frozen=True, eq=False)
class Norm:
    """A layer norm over the channels."""

    channels: int | None  # None: as many as come
    weight: Array | None
    bias: Array | None
    eps: float


@dataclass(frozen=True, eq=False)
class Soft:
    """A softmax over the channels."""


@dataclass(frozen=True, eq=False)
class Largest:
    """The index of the largest channel, or its label."""

    labels: Array | None = None


@dataclass(frozen=True, eq=False)
class Pooled:
    """The mean, largest or sum of the last `axes` axes besides the channels, which go."""

    kind: str
    axes: int


@dataclass(frozen=True, eq=False)
class Block:
    """Steps whose own input is added to their result."""

    steps: tuple[Step, ...]


Step: TypeAlias = Scale | Matrix | Curve | Part | Norm | Soft | Largest | Pooled | Block
Steps: TypeAlias = tuple[Step, ...]


# -------------------------------------------------------------------------------------------------- centers


def centered(mean: Any, spread: Any = None) -> Array:
    """What to take off pixels of this mean and spread, which is nearly the mean: whole numbers, unless that is coarse.

    A difference of a whole number and a pixel of integers is exact in float32, and what is between the two means is
    folded into the bias, where it is small.
    """
    exact = np.asarray(mean, np.float64)
    coarse = np.abs(exact) < 100 if spread is None else np.asarray(spread, np.float64) < _WHOLE
    return np.where(coarse, exact.astype(np.float32), np.rint(exact)).astype(np.float64)


# -------------------------------------------------------------------------------------------------- folding


def fold(steps: Iterable[Step]) -> Steps:
    """The same function in fewer steps: what is linear, and has linear neighbours, becomes one with them."""
    done: list[Step] = []
    for given in steps:
        step = Block(fold(given.steps)) if isinstance(given, Block) else given
        while done:
            joined = _joined(done[-1], step)
            if joined is None:
                break
            done.pop()
            step = joined
        done.append(step)
    return tuple(step for step in done if not (isinstance(step, Scale) and _is_nothing(step)))


def _is_nothing(step: Scale) -> bool:
    return bool((step.factor == 1).all() and (step.shift == step.center).all())


def _joined(first: Step, then: Step) -> Step | None:
    """Two steps as one, if that is possible and no more work than both."""
    if isinstance(first, Scale) and isinstance(then, Scale):
        shift = (first.shift - then.center) * then.factor + then.shift
        return Scale(first.factor * then.factor, shift, first.center)
    if isinstance(first, Scale) and isinstance(then, Matrix):
        factor, shift = (np.broadcast_to(a, then.center.shape) for a in (first.factor, first.shift))
        center = np.broadcast_to(first.center, then.center.shape)
        bias = _times(then, shift - then.center) + then.bias
        return replace(then, weight=_columns(then, factor), bias=bias, center=center)
    if isinstance(first, Matrix) and isinstance(then, Scale):
        weight = first.weight * np.broadcast_to(then.factor, first.bias.shape)[:, None]
        return replace(first, weight=weight, bias=(first.bias - then.center) * then.factor + then.shift)
    if isinstance(first, Norm) and isinstance(then, Scale):
        channels = first.channels or _takes(then)
        if channels is None:
            return None
        weight = np.broadcast_to(1.0 if first.weight is None else first.weight, channels) * then.factor
        bias = np.broadcast_to(0.0 if first.bias is None else first.bias, channels)
        bias = (bias - then.center) * then.factor + then.shift
        return Norm(channels, weight, bias if bias.any() else None, first.eps)
    if isinstance(first, Matrix) and isinstance(then, Matrix) and first.groups == then.groups == 1:
        (middle, channels), filters = first.weight.shape, len(then.weight)
        if filters * channels <= middle * (channels + filters):
            bias = then.weight @ (first.bias - then.center) + then.bias
            return Matrix(then.weight @ first.weight, bias, first.center, 1, first.stride, then.keep_axis)
    return None


def _times(step: Matrix, x: Array) -> Array:
    """The weights times the channels of a pixel, group by group."""
    parts: Array = step.weight.reshape(step.groups, -1, step.weight.shape[1])
    product: Array = np.einsum("gkc,gc->gk", parts, x.reshape(step.groups, -1))
    return product.reshape(-1)


def _columns(step: Matrix, factor: Array) -> Array:
    """The weights, each channel's times a factor."""
    parts: Array = step.weight.reshape(step.groups, -1, step.weight.shape[1])
    scaled: Array = parts * factor.reshape(step.groups, 1, -1)
    return scaled.reshape(step.weight.shape)


def summed(one: Sequence[Step], other: Sequence[Step]) -> Matrix | None:
    """The sum of two branches as one step, where both are linear."""
    a, b = (Matrix.of(np.eye(0)) if len(part) != 1 else part[0] for part in (fold(one), fold(other)))
    if not (isinstance(a, Matrix) and isinstance(b, Matrix)) or (a.stride, len(a.weight)) != (b.stride, len(b.weight)):
        return None
    if not len(a.weight) or len(a.center) != len(b.center):
        return None
    bias = a.bias - _times(a, a.center) + b.bias - _times(b, b.center)
    return Matrix.of(a.dense() + b.dense(), bias, stride=a.stride)


# ---------------------------------------------------------------------------------------------------- layers


def widths(steps: Sequence[Step], width: int | None) -> list[int | None]:
    """How many channels come to each step, and leave the last; None where nothing says it."""
    found = [width]
    for step in steps:
        if isinstance(step, Block):
            width = widths(step.steps, width)[-1]
        elif isinstance(step, Matrix):
            width = len(step.weight)
        elif isinstance(step, Norm):
            width = step.channels or width
        elif isinstance(step, Scale):
            width = max(step.factor.size, step.shift.size, step.center.size) if width is None else width
            width = None if width == 1 and step.factor.ndim == 0 and found[-1] is None else width
        found.append(width)
    for i in reversed(range(len(steps))):  # what comes, from what is known of later steps
        if found[i] is None:
            found[i] = _takes(steps[i]) or found[i + 1]
    return found


def _takes(step: Step) -> int | None:
    """How many channels a step says it takes."""
    if isinstance(step, Matrix):
        return len(step.center)
    if isinstance(step, Norm):
        return step.channels
    if isinstance(step, Block):
        return widths(step.steps, None)[0]
    if isinstance(step, Scale):
        return max((a.size for a in (step.factor, step.shift, step.center) if a.ndim), default=None)
    return None


def elements(steps: Sequence[Step], channel_axis: int, width: int | None = None) -> list[Any]:
    """Folded steps as the elements of a chain."""
    made: list[Any] = []
    known = widths(steps, width)
    pending: Matrix | None = None  # a layer, until its activation is known
    inner: list[Any] | None = None  # a block that may still get one

    def settle(activation: Activation = None) -> None:
        nonlocal pending, inner
        if pending is not None:
            made.append(_layer(pending, channel_axis, activation, not made))
        if inner is not None:
            made.append(Sequential(inner, skip=True, channel_axis=channel_axis))
        pending, inner = None, None

    for i, step in enumerate(steps):
        if isinstance(step, Curve) and inner is not None:
            inner[-1] = _with_activation(inner[-1], step.activation)
            settle()
        elif isinstance(step, Curve):
            pending = pending or _alone(Scale.of(), known[i])
            settle(step.activation)
        else:
            settle()
            if isinstance(step, (Matrix, Scale)):
                pending = step if isinstance(step, Matrix) else _alone(step, known[i])
            elif isinstance(step, Block):
                inner = _ending_open(elements(step.steps, channel_axis, known[i]), known[i + 1], channel_axis)
            else:
                made.append(_other(step, channel_axis, known[i]))
    settle()
    return made


def _known(width: int | None) -> int:
    if width is None:
        raise ValueError("nothing in the model says how many channels its pixels have: pass pixels=, an input of it")
    return width


def _alone(step: Scale, width: int | None) -> Matrix:
    """A step of its own, of as many groups as channels."""
    width = _known(width)
    factor, shift, center = (np.broadcast_to(a, width) for a in (step.factor, step.shift, step.center))
    return Matrix(factor[:, None], shift, center, width)


def _layer(step: Matrix, channel_axis: int, activation: Activation, first: bool) -> Conv1x1:
    """A step as a layer. Only the pixels themselves have something taken off, numbers between layers are small."""
    center = step.center.astype(np.float32).astype(np.float64) if first else np.zeros_like(step.center)
    bias = step.bias + _times(step, center - step.center)
    weight = step.weight if step.keep_axis else step.weight[0]
    return Conv1x1(
        _short(weight),
        _short(bias) if bias.any() else None,
        channel_axis=channel_axis,
        stride=step.stride,
        groups=step.groups,
        activation=activation,
        center=_short(center) if center.any() else None,
    )


def _short(a: Array) -> Array:
    """In float32, where that holds these numbers."""
    with np.errstate(over="ignore"):
        single = a.astype(np.float32)
    return single if np.array_equal(single, a) else a


def _with_activation(layer: Conv1x1, activation: Activation) -> Conv1x1:
    given = {name: getattr(layer, name) for name in ("bias", "channel_axis", "stride", "groups", "center")}
    return Conv1x1(layer.weight, activation=activation, **given)


def _ending_open(inner: list[Any], width: int | None, channel_axis: int) -> list[Any]:
    """The elements of a block, the last a layer without an activation, which is to come after the sum."""
    if not (inner and isinstance(inner[-1], Conv1x1) and inner[-1].activation is None):
        inner.append(_layer(_alone(Scale.of(), width), channel_axis, None, False))
    return inner


def _other(step: Step, channel_axis: int, width: int | None) -> Any:
    if isinstance(step, Soft):
        return Softmax()
    if isinstance(step, Norm):
        return LayerNorm(_known(width), step.weight, step.bias, eps=step.eps)
    if isinstance(step, Largest):
        return ArgMax(step.labels)
    if isinstance(step, Pooled):
        after = -1 if channel_axis == -1 else 0
        return Pool(step.kind, tuple(range(after - step.axes, after)))
    assert isinstance(step, Part)
    whole = "gelu" if step.name == "erf" else "layer norm over the channels"
    raise ValueError(f"the model has a {step.name!r} that is not part of a {whole}, and no chain has it by itself")
