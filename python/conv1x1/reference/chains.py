"""The definition of a chain, to read and to test against: its elements, one after another."""

from __future__ import annotations

from typing import Any

import numpy as np

from ..arithmetic import default_arithmetic
from ..checks import geometry, sequential
from ..checks.arrays import Array, ArrayLike, in_own_order, is_integer
from ..quantized import QConv1x1
from ..sequential import Sequential
from ..steps import ArgMax, LayerNorm, Pool, Softmax
from . import steps
from .floats import cast, exact, parameters, reference
from .quantized import reference_qlinear


@default_arithmetic
def reference_chain(x: ArrayLike, net: Sequential, out: Array | None, threads: int | None) -> Array:
    """What `reference` gives of a chain: each element of what the one before gave.

    All numbers between are float64, but for bytes of quantised layers, and where an element has a type of its own.
    """
    spec = net._spec
    a, out, _, finish = sequential.call(spec, x, out, threads)
    place = sequential.place(spec, a)
    position, pixels, given, last = place.position, first(spec, a), [], len(spec.steps) - 1
    sums = None if last == 0 else sequential.type_of_sums(a.dtype)
    for i, step in enumerate(spec.steps):
        given.append(pixels)
        residual = None if step.adds is None else given[step.adds]
        pixels = one_step(step, pixels, residual, position, place.pooled, sums)
        pixels = pixels if i == last or spec.whole.takes in sequential.BYTES else exact(pixels, False)
        position -= sum(axis < position for axis in place.pooled) if isinstance(step.element, Pool) else 0
    if out is None:
        out = geometry.empty_as(a, pixels.shape, pixels.dtype, place.gone)
    out[...] = pixels if is_integer(pixels.dtype) else cast(pixels, in_own_order(out.dtype))
    return out if finish is None else finish(out)


def first(spec: sequential.Spec, x: Array) -> Array:
    """Pixels as the first element takes them: bytes and integers that a layer alone may sum as they are, or float64."""
    return x if spec.whole.takes in sequential.BYTES or len(spec.steps) == 1 else exact(x, False)


def one_step(
    step: sequential.Step,
    pixels: Array,
    residual: Array | None,
    position: int,
    pooled: tuple[int, ...],
    sums: np.dtype[Any] | None,
) -> Array:
    """An element of pixels whose channels are on the axis `position`."""
    e = step.element
    if isinstance(e, LayerNorm):
        weight, bias = (None if a is None else exact(a, False) for a in (e.weight, e.bias))
        return steps.layer_norm(exact(pixels, False), weight, bias, e.eps, position)
    if isinstance(e, Softmax):
        return steps.softmax(exact(pixels, False), position)
    if isinstance(e, Pool):
        return steps.pool(exact(pixels, False), e.kind, pooled)
    if isinstance(e, ArgMax):
        return steps.arg_max(pixels, e.labels, position)
    given = e._arrays() | e._options() | {"channel_axis": position}
    if isinstance(e, QConv1x1):
        return reference_qlinear(pixels, B=given.pop("bias"), **given)
    if sums is not None:  # an activation's parameters are of their type
        name, a, b = parameters(e._spec.activation, sums.name)
        given["activation"] = {"clip": (name, a, b), "leaky_relu": (name, a)}.get(name, name or None)
    return np.asarray(reference(pixels, residual=residual, **given))
