"""What an importer made, held against the model itself on 256 pixels: how far apart they may be, and are."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np

from ..checks.arrays import Array
from ..functional import conv1x1
from .steps import Block, Curve, Largest, Matrix, Norm, Pooled, Scale, Soft, Step

PIXELS = 256
#: The unit roundoff of float32.
_U = 2.0**-24
#: More than that of float64, in which the original may take means off sums that were large.
_U64 = 2.0**-50
#: What is less is nothing, in float32: probabilities beyond its range, say.
_LEAST = 2.0**-100
#: Activations that are sums with x, or products of it and such a sum, which may be near 0.
_CANCELLING = ("gelu", "silu", "hardswish", "hardsigmoid")
#: How steep an activation can be, where that is more than 1.
_STEEP = {"gelu": 1.13, "silu": 1.1, "hardswish": 1.5}


@dataclass(frozen=True)
class Comparison:
    """How an imported model compared with its original."""

    pixels: int
    difference: float  # the largest
    bound: float  # for that number
    differing: int  # pixels with another label, each of them where the best scores are within rounding
    labels: bool

    def __str__(self) -> str:
        if self.labels:
            others = f", {self.differing} where the two best scores are within rounding" * bool(self.differing)
            return f"the same labels at {self.pixels - self.differing} of {self.pixels} pixels{others}"
        return f"{self.pixels} pixels, largest difference {self.difference:.2g} where {self.bound:.2g} is rounding"


def compare(steps: Sequence[Step], x: Array, ours: Array, theirs: Array, name: str, doubled: bool) -> Comparison:
    """Raise a ValueError if the two results for the pixels x, all with channels last, differ by more than rounding.

    `doubled` says that the original rounds as much as we do, being in float32.
    """
    if ours.shape != theirs.shape:
        raise ValueError(
            f"{name} was not understood: for pixels of shape {x.shape}, the imported model gives {ours.shape}, "
            f"and it {theirs.shape}"
        )
    labels = isinstance(steps[-1], Largest) if steps else False
    scores, errors = bounded(steps[: len(steps) - labels], x)
    errors = errors * (1 + doubled) + _LEAST
    if labels:
        return _compare_labels(steps[-1], scores, errors, ours, theirs, name)
    scores, errors = (a.reshape(theirs.shape) for a in (scores, errors))
    difference = np.abs(np.asarray(ours, np.float64) - theirs)
    both = np.isnan(ours) & np.isnan(theirs) | (ours == theirs)
    difference[both] = 0
    beyond = difference - errors
    at = np.unravel_index(int(np.nanargmax(np.where(np.isnan(difference), np.inf, beyond))), difference.shape)
    if not difference[at] <= errors[at]:
        raise ValueError(
            f"{name} was not understood: at {tuple(map(int, at))} of {x.size // x.shape[-1]} pixels compared, the "
            f"imported model gives {float(ours[at]):.6g} and it {float(theirs[at]):.6g}, a difference of "
            f"{difference[at]:.2g} where rounding explains {errors[at]:.2g}"
        )
    most = np.unravel_index(int(difference.argmax()), difference.shape) if difference.size else ()
    return Comparison(x.size // x.shape[-1], float(difference[most]), float(errors[most]), 0, False)


def _compare_labels(step: Any, scores: Array, errors: Array, ours: Array, theirs: Array, name: str) -> Comparison:
    values = np.arange(scores.shape[-1]) if step.labels is None else step.labels
    count = ours.size
    where = np.argwhere(ours != theirs)
    for at in map(tuple, where):
        pair = [int(np.flatnonzero(values == a[at])[0]) if (values == a[at]).any() else -1 for a in (ours, theirs)]
        apart = abs(scores[at][pair[0]] - scores[at][pair[1]]) if min(pair) >= 0 else np.inf
        allowed = errors[at][pair].sum()
        if not apart <= allowed:
            raise ValueError(
                f"{name} was not understood: at pixel {', '.join(map(str, at))} of {count} compared, the imported "
                f"model gives {ours[at]} and it {theirs[at]}, whose scores are {apart:.2g} apart where rounding "
                f"explains {allowed:.2g}"
            )
    return Comparison(count, float(bool(len(where))), 0.0, len(where), True)


# -------------------------------------------------------------------------------------------------- bounds


def bounded(steps: Sequence[Step], x: Array, error: Array | None = None) -> tuple[Array, Array]:
    """What steps make of pixels in float64, channels last, and how far from that float32 may be.

    A sum of n products is taken to be off by 4·√n + 8 units of the sum of their sizes: more than the errors of so many
    numbers come to, unless they are all rounded to the same side, and not so much that a mistake in a wide model hides.
    """
    y = np.asarray(x, np.float64)
    error = np.zeros(y.shape) if error is None else error
    for step in steps:
        y, error = _bounded(step, y, error)
    return y, error


def _bounded(step: Step, x: Array, error: Array) -> tuple[Array, Array]:
    if isinstance(step, Block):
        y, inner = bounded(step.steps, x, error)
        return y + x, inner + error + 2 * _U * np.abs(y + x)
    if isinstance(step, Scale):
        y = (x - step.center) * step.factor
        error = error + _U64 * (np.abs(x) + np.abs(step.center))
        return y + step.shift, np.abs(step.factor) * error + 12 * _U * (np.abs(y) + np.abs(step.shift))
    if isinstance(step, Soft):
        e = np.exp(x - x.max(-1, keepdims=True))
        y = e / e.sum(-1, keepdims=True)
        spread = np.expm1(np.minimum(2 * error.max(-1, keepdims=True), 50))
        return y, np.minimum(y * spread, 1) + 64 * _U * y
    bound: Any = {Matrix: _matrix, Curve: _curve, Norm: _norm, Pooled: _pooled}[type(step)]
    y, error = bound(step, x, error)
    return y, error


def _matrix(step: Matrix, x: Array, error: Array) -> tuple[Array, Array]:
    weight = step.dense()
    steps = (step.stride,) * min(2, x.ndim - 1) if isinstance(step.stride, int) else step.stride
    taken: Any = (..., *(slice(None, None, n) for n in steps), slice(None))
    x, error = x[taken], error[taken]
    off = (4 * step.weight.shape[1] ** 0.5 + 8) * _U
    y = (x - step.center) @ weight.T + step.bias
    sizes = np.abs(x - step.center) @ np.abs(weight.T) + np.abs(step.bias)
    error = error + _U64 * (np.abs(x) + np.abs(step.center))
    error = error @ np.abs(weight.T) + off * sizes
    return (y, error) if step.keep_axis else (y[..., 0], error[..., 0])


def _curve(step: Curve, x: Array, error: Array) -> tuple[Array, Array]:
    activation = step.activation
    name, *numbers = activation if isinstance(activation, tuple) else (activation,)
    y = conv1x1(x[..., None], np.ones((1, 1)), activation=activation)[..., 0]
    steep = abs(numbers[0]) if name == "leaky_relu" and numbers else _STEEP.get(str(name), 1.0)
    error = max(1.0, steep) * error + 16 * _U * np.abs(y)
    return y, error + 4 * _U * np.abs(x) if name in _CANCELLING else error


def _norm(step: Norm, x: Array, error: Array) -> tuple[Array, Array]:
    scale = np.sqrt(x.var(-1, keepdims=True) + step.eps)
    y = (x - x.mean(-1, keepdims=True)) / scale
    most = error.max(-1, keepdims=True) + 8 * _U * np.abs(x).max(-1, keepdims=True)
    off = (2 + np.abs(y)) * most / scale + 32 * _U * np.abs(y)
    weight = 1.0 if step.weight is None else step.weight
    bias = 0.0 if step.bias is None else step.bias
    return y * weight + bias, np.abs(weight) * off + 4 * _U * np.abs(y * weight + bias)


def _pooled(step: Pooled, x: Array, error: Array) -> tuple[Array, Array]:
    axes = tuple(range(-1 - step.axes, -1))
    y: Array = getattr(x, step.kind)(axes)
    if step.kind == "max":
        return y, error.max(axes)
    off = error + (4 * (x.size / max(y.size, 1)) ** 0.5 + 8) * _U * np.abs(x)
    return y, getattr(off, step.kind)(axes)
