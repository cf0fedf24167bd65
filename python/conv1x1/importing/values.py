"""Values of a graph: what steps made them of the model's input, and on which axis they have the channels."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field, replace
from typing import Any

import numpy as np

from ..checks import Activation
from ..checks.arrays import Array
from .steps import Block, Curve, Largest, Matrix, Norm, Part, Pooled, Scale, Step, Steps, fold, summed, widths

#: Products of a value with a curve of it, which have names.
_PRODUCTS: dict[Any, Activation] = {"sigmoid": "silu", "hardsigmoid": "hardswish"}


class NotPointwise(Exception):
    """What cannot be a step; the reader of a model says where it stands, and what to do."""


@dataclass(frozen=True)
class Value:
    """Steps from the input; how its axes lie, and which are gone."""

    steps: Steps = ()
    order: tuple[int, ...] | None = None  # the input's axes, as they lie here; None as they are
    pooled: int = 0  # how many axes of pixels are of length 1 since pooling
    gone: bool = False  # whether they are dropped
    labels: bool = False  # whether the channels are, too

    def then(self, *steps: Step) -> Value:
        if self.labels:
            raise NotPointwise("follows an argmax")
        return replace(self, steps=(*self.steps, *steps), labels=any(isinstance(s, Largest) for s in steps))


@dataclass
class Axes:
    """On which axis of the input the channels must be, as all that reads them says."""

    rank: int | None = None
    likely: int = 4  # the rank, where nothing says it
    wanted: list[tuple[int, str]] = field(default_factory=list)  # an axis of the input, and who wants it

    def want(self, value: Value, axis: int, name: str, rank: int | None = None) -> None:
        """A step takes the channels from this axis of a value."""
        if value.gone:
            return  # what is left are a batch and its channels
        if value.order is not None:
            rank, axis = len(value.order), value.order[axis]
        if rank is not None:
            if self.rank not in (None, rank):
                raise NotPointwise(f"takes {rank} axes, and what comes has {self.rank}")
            self.rank = rank
        self.wanted.append((axis, name))

    def has(self, value: Value, axis: int, rank: int | None) -> bool:
        """Whether this axis of a value has the channels, by all that is known so far."""
        if value.order is not None:
            rank, axis = len(value.order), value.order[axis]
        rank = rank or self.rank
        known = {a % rank if rank else a for a, _ in self.wanted} or {1, -1 % rank if rank else -1}
        return (axis % rank if rank else axis) in known

    def settled(self) -> int | None:
        """The axis, None where any will do."""
        first: tuple[int, str] | None = None
        if self.rank is None and {axis for axis, _ in self.wanted} == {1, -1}:
            self.rank = 2  # of rows
        if self.rank in (None, 2) and any(axis == -1 for axis, _ in self.wanted):
            return -1
        for axis, name in self.wanted:
            axis = axis % self.rank if self.rank is not None else axis
            if first is not None and first[0] != axis:
                raise NotPointwise(
                    f"{name} takes the channels from axis {axis}, and {first[1]} from axis {first[0]}: not all of them "
                    "are pointwise over the same channels"
                )
            first = first or (axis, name)
        return None if first is None else first[0]


def added(a: Value, b: Value) -> Value:
    """The sum of two values, one of which is made of the other, or which are both linear."""
    if (a.order, a.pooled, a.gone) != (b.order, b.pooled, b.gone):
        raise NotPointwise("adds what has other axes")
    shared = 0
    while shared < min(len(a.steps), len(b.steps)) and a.steps[shared] is b.steps[shared]:
        shared += 1
    before, one, other = a.steps[:shared], a.steps[shared:], b.steps[shared:]
    if not one and not other:
        return a.then(Scale.of(2.0))
    if not one or not other:
        step: Step | None = Block(one or other)
    else:
        step = summed(one, other)
    if step is None or any(isinstance(s, Pooled) for s in (*one, *other)):
        raise NotPointwise("adds two branches, neither of which is the other's input")
    return replace(a, steps=(*before, step))


def multiplied(a: Value, b: Value) -> Value:
    """The product of a value and a curve of it, where that is an activation."""
    if len(a.steps) > len(b.steps):
        a, b = b, a
    tail = fold(b.steps[len(a.steps) :])
    if _begins(b, a.steps):
        if len(tail) == 1 and isinstance(tail[0], Curve) and tail[0].activation in _PRODUCTS:
            return a.then(Curve(_PRODUCTS[tail[0].activation]))
        if (found := _gelu(tail)) is not None:
            return a.then(Curve("gelu"), Scale.of(found))
        if (scale := _hard(tail)) is not None:
            return a.then(Curve("hardswish"), Scale.of(scale))
    raise NotPointwise("multiplies two values")


def _gelu(tail: Sequence[Step]) -> float | None:
    """Twice the factor of 0.5 in ``0.5 · (1 + erf(x / √2))``, where the steps are that."""
    if len(tail) != 3 or not _is_part(tail[1], "erf"):
        return None
    first, _, last = tail
    if not (isinstance(first, Scale) and isinstance(last, Scale)):
        return None
    shift = last.shift - last.center * last.factor
    is_one = np.allclose(first.factor, 0.5**0.5, rtol=1e-6) and np.allclose(first.shift, first.center)
    is_one = is_one and last.factor.size == 1 and np.allclose(shift, last.factor, rtol=1e-6)
    return 2 * float(last.factor.item()) if is_one else None


def _is_part(step: Step, name: str) -> bool:
    return isinstance(step, Part) and step.name == name


def _begins(value: Value, steps: Steps) -> bool:
    """Whether a value is made of what these very steps give."""
    return len(steps) <= len(value.steps) and all(x is y for x, y in zip(steps, value.steps, strict=False))


def averaged(value: Value) -> Value:
    """The mean over a value's channels, for those who take it off, or divide by what is made of it."""
    return value.then(Part("mean"))


def subtracted(a: Value, b: Value) -> Value:
    """The difference of two values: of one and its mean, a deviation."""
    if len(b.steps) == len(a.steps) + 1 and _begins(b, a.steps) and _is_part(b.steps[-1], "mean"):
        return a.then(Part("deviation"))
    return added(a, b.then(Scale.of(-1.0)))


def divided(a: Value, b: Value, width: int | None) -> Value:
    """The quotient of two values: of a deviation and the root of the mean of its square, a layer norm."""
    n = len(a.steps)
    tail = (*a.steps[-1:], *fold(b.steps[n - 1 :]))
    names = ("deviation", "deviation", "square", "mean", "", "root")
    fits = n > 0 and len(tail) == 6 and all(_is_part(s, name) for s, name in zip(tail, names, strict=True) if name)
    if fits and _begins(b, a.steps[:-1]) and isinstance(tail[4], Scale):
        eps = tail[4].shift - tail[4].center
        width = widths(fold(a.steps[:-1]), None)[-1] or width
        if (tail[4].factor == 1).all() and eps.size == 1:
            return replace(a, steps=(*a.steps[:-1], Norm(width, None, None, float(eps.item()))))
    raise NotPointwise("divides by a value that is not the deviation of its channels")


def _hard(tail: Sequence[Step]) -> float | None:
    """How many times the steps are a hardsigmoid: ``x + 3`` clipped to 0 … 6, maybe over 6, or such of 1."""
    if not 2 <= len(tail) <= 3 or not isinstance(tail[0], Scale) or not isinstance(tail[1], Curve):
        return None
    last = tail[2] if len(tail) == 3 else Scale.of()
    clip: Any = ("clip", 0.0, 6.0) if tail[1].activation == "relu6" else tail[1].activation
    if not isinstance(last, Scale) or (last.shift != last.center).any() or last.factor.size != 1:
        return None
    if not isinstance(clip, tuple) or clip[0] != "clip" or clip[1] != 0:
        return None
    top = float(clip[2])
    shift = tail[0].shift - tail[0].center * tail[0].factor
    fits = np.allclose(tail[0].factor, top / 6, rtol=1e-6) and np.allclose(shift, top / 2, rtol=1e-6)
    return top * float(last.factor.item()) if fits else None


def channels_of(constant: Any, name: str) -> tuple[Array, int | None]:
    """A constant that is added or multiplied, one number or one a channel, and on which axis, from the last."""
    a = np.asarray(constant, np.float64)
    if a.size == 1:
        return a.reshape(()), None
    wide = [i for i, n in enumerate(a.shape) if n != 1]
    if len(wide) != 1:
        raise NotPointwise(f"has a constant of shape {a.shape}, more than one number a channel")
    return a.reshape(-1), wide[0] - a.ndim


def last_largest(steps: Steps, width: int) -> Steps:
    """Steps that give the last of equal channels: those in the other order, and their labels."""
    backwards = np.arange(width)[::-1]
    return (*steps, Matrix.of(np.eye(width)[backwards]), Largest(backwards.astype(np.min_scalar_type(width - 1))))


def permuted(value: Value, axes: Sequence[int]) -> Value:
    """A value with its axes in another order."""
    rank = len(axes)
    order = value.order or tuple(range(rank))
    if len(order) != rank or value.gone or value.labels:
        raise NotPointwise("changes the order of other axes than the input has")
    new = tuple(order[i] for i in axes)
    return replace(value, order=None if new == tuple(range(rank)) else new)


def pooled(value: Value, kind: str, axes: int, keep: bool) -> Value:
    """A value pooled over the last axes."""
    if value.order is not None or value.pooled:
        raise NotPointwise("pools what has its channels elsewhere, or is pooled")
    return replace(value.then(Pooled(kind, axes)), pooled=axes, gone=not keep)


def flattened(value: Value) -> Value:
    """A value without the axes of length 1 that pooling left."""
    if not value.pooled and not value.gone:
        raise NotPointwise("flattens axes that are not pooled")
    return replace(value, gone=True)


def ended(value: Value) -> None:
    """A result must have the input's axes."""
    if value.order is not None:
        raise NotPointwise("gives its axes in another order than the input has them")
