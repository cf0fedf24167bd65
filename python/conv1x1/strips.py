"""A chain's pixels through all its elements, strip by strip: what lies between two of them never becomes an array."""

from __future__ import annotations

import itertools
import math
from collections.abc import Iterator
from typing import Any, NamedTuple, TypeAlias

import numpy as np

from . import _conv1x1
from .arithmetic import default_arithmetic
from .checks import geometry
from .checks import sequential as checks
from .checks.arrays import Array, in_own_order
from .layers import Layer
from .steps import ArgMax, LayerNorm, Softmax

#: Numbers that lie between the elements of a strip: they fit a cache, and are worth a call of each layer.
_STRIP = 2**18

Boxes: TypeAlias = Iterator[tuple[tuple[slice, ...], tuple[slice, ...]]]


class Stretch(NamedTuple):
    """Elements without a Pool among them, and where they find their pixels."""

    steps: tuple[checks.Step, ...]
    types: list[np.dtype[Any]]  # that they give
    sums: np.dtype[Any]
    position: int  # of the channels
    stride: tuple[int, ...]


@default_arithmetic
def through(spec: checks.Spec, x: Array, out: Array | None, threads: int | None) -> Array:
    """A call of a chain, whose arguments are checked."""
    place = checks.place(spec, x)
    types = checks.types(spec, x, x.shape[place.position], out)
    y = out
    if y is None or np.may_share_memory(x, y):
        y = geometry.empty_as(x, place.shape, types[-1], place.gone)
    if y.size:
        _compute(spec, x, y, place, types, threads)
    if out is not None and y is not out:
        out[...] = y
    return y if out is None else out


def _compute(spec: checks.Spec, x: Array, y: Array, place: checks.Place, types: Any, threads: int | None) -> None:
    sums = checks.type_of_sums(x.dtype)
    pool = next((i for i, s in enumerate(spec.steps) if s.pools is not None), None)
    s = Stretch(spec.steps[:pool], types[:pool], sums, place.position, place.stride)
    if pool is None:
        _convolve(s, x, y, threads)
        return
    position = place.position - sum(axis < place.position for axis in place.pooled)
    steps = tuple(_behind(step, pool + 1, position) for step in spec.steps[pool + 1 :])
    rest = Stretch(steps, types[pool + 1 :], sums, position, (1,) * (x.ndim - len(place.pooled)))
    for box, pooled in _pools(s, spec.steps[pool].element.kind, x, place.pooled, threads):
        if spec.steps[-1].drops:
            del box[position]
        to = y[(*box, ...)]
        if steps:
            _convolve(rest, pooled, to, threads)
        else:
            to[...] = _cast(pooled, y.dtype)


def _behind(step: checks.Step, first: int, position: int) -> checks.Step:
    """A step whose pixels are those of a Pool: it is counted from there, and its channels are elsewhere."""
    e = step.element
    if isinstance(e, Layer):
        rebuilt, (number, cls, arrays, options, *more), *_ = e.__reduce__()
        e = rebuilt(number, cls, arrays, options | {"channel_axis": position}, *more)
    return step._replace(element=e, adds=None if step.adds is None else step.adds - first)


def boxes(s: Stretch, x: Array, order: Any, times: int = 1) -> Boxes:
    """Boxes of pixels, of x and of the result, so small that all that lies between fits a cache, so many `times`.

    They follow one another along the axes in this order, the last of which goes fastest; axes that are left out are
    whole.
    """
    grid = geometry.result_shape(x, s.position, s.stride, 1, True)
    widths = sum(step.channels or x.shape[s.position] for step in s.steps)
    most = max(1, _STRIP // max(1, (x.shape[s.position] + widths) * times))
    sides, inner = [*grid], math.prod(grid[axis] for axis in order)
    for axis in order:
        if inner <= most:
            break
        inner //= grid[axis]
        sides[axis] = max(1, most // inner)
    for corner in itertools.product(*(range(0, grid[axis], max(1, sides[axis])) for axis in order)):
        at = dict(zip(order, corner, strict=True))
        box = [
            slice(at.get(i, 0), min(n, at.get(i, 0) + side))
            for i, (n, side) in enumerate(zip(grid, sides, strict=True))
        ]
        of_x = [slice(b.start * n, (b.stop - 1) * n + 1) for b, n in zip(box, s.stride, strict=True)]
        of_x[s.position] = slice(None)
        yield tuple(of_x), tuple(box)


def rooms(s: Stretch, pixels: Array) -> list[Array]:
    """What every step has for its results of a strip."""
    found, shape = [], [*geometry.result_shape(pixels, s.position, s.stride, pixels.shape[s.position], True)]
    for step, dtype in zip(s.steps, s.types, strict=True):
        shape[s.position] = step.channels or shape[s.position]
        found.append(geometry.empty_as(pixels, tuple(shape), dtype))
    return found


def _convolve(s: Stretch, x: Array, y: Array, threads: int | None) -> None:
    """All elements, over strips of pixels."""
    known: dict[tuple[int, ...], list[Array]] = {}
    whole = [] if s.steps[-1].drops else [slice(None)]
    last = s._replace(steps=s.steps[:-1], types=s.types[:-1])
    for of_x, box in boxes(s, x, geometry.memory_order(x)):
        pixels = x[of_x]
        if pixels.shape not in known:
            known[pixels.shape] = rooms(last, pixels)
        entries: Any = (*box[: s.position], *whole, *box[s.position + 1 :], ...)
        to = y[entries]
        _strip(s, [pixels, *known[pixels.shape], to], threads)


def _pools(
    s: Stretch, kind: str, x: Array, axes: tuple[int, ...], threads: int | None
) -> Iterator[tuple[list[Any], Array]]:
    """What pixels along some axes come to, in C order: for boxes of those that stay, where in the result they are too.

    Pixels that stay beside one another are summed as if they were channels.
    """
    grid = geometry.result_shape(x, s.position, s.stride, 1, True)
    kept, pooled = [i for i in range(x.ndim) if i not in axes and i != s.position], sorted(axes)
    channels = next((step.channels for step in reversed(s.steps) if step.channels), x.shape[s.position])
    count = math.prod(grid[i] for i in pooled)
    known: dict[tuple[int, ...], list[Array]] = {}
    for of_kept, box in boxes(s, x, kept, max(1, count)):
        side = [box[i].stop - box[i].start for i in kept]
        sums = np.empty((*side, channels), s.sums)
        state = _conv1x1.begin_pool(kind, s.sums == np.float64, sums.size, count)
        part = x[tuple(slice(None) if i in axes else of_kept[i] for i in range(x.ndim))]
        for of_part, _ in boxes(s, part, pooled, math.prod(side)) if sums.size else ():
            pixels = part[of_part]
            if pixels.shape not in known:
                known[pixels.shape] = rooms(s, pixels)
            given = [pixels, *known[pixels.shape]]
            _strip(s, given, threads)
            numbers = np.ascontiguousarray(given[-1].transpose([*pooled, *kept, s.position]), s.sums)
            _conv1x1.add_to_pool(state, numbers.reshape(-1, sums.size))
        _conv1x1.end_pool(state, sums.reshape(-1))
        there = [box[i] for i in range(x.ndim) if i not in axes]
        there[s.position - sum(axis < s.position for axis in axes)] = slice(None)
        yield there, np.moveaxis(sums, -1, s.position - sum(axis < s.position for axis in axes))


def _strip(s: Stretch, given: list[Array], threads: int | None) -> None:
    """All elements, one after another: each takes what is given to it, and writes what is given to the next."""
    for step, pixels, to in zip(s.steps, given, given[1:], strict=False):
        e = step.element
        if isinstance(e, Layer):
            residual = {} if step.adds is None else {"residual": given[step.adds]}
            e(pixels, out=to, threads=threads, **residual)
        elif isinstance(e, ArgMax):
            index = _largest(pixels, s.position)
            to[...] = index if e.labels is None else e.labels[index]
        else:
            block = geometry.empty_as(pixels, pixels.shape, s.sums)
            block[...] = pixels
            flat, _ = _flat(block, s.position)
            if isinstance(e, LayerNorm):
                weight, bias = (None if a is None else a.astype(s.sums) for a in (e.weight, e.bias))
                _conv1x1.over_channels("layer_norm", flat, flat, weight, bias, e.eps)
            else:
                assert isinstance(e, Softmax)
                _conv1x1.over_channels("softmax", flat, flat, None, None, 0.0)
            to[...] = _cast(block, to.dtype)


def _largest(pixels: Array, position: int) -> Array:
    """The index of the largest channel."""
    block, order = _flat(pixels, position)
    if pixels.dtype not in (np.float32, np.float64) or not block.flags.c_contiguous or not pixels.dtype.isnative:
        return np.asarray(pixels.argmax(position))
    index = np.empty((block.shape[0], block.shape[2]), np.int32)
    _conv1x1.over_channels("arg_max", block, index, None, None, 0.0)
    left = [i - (i > position) for i in order if i != position]
    return index.reshape([pixels.shape[i] for i in order if i != position]).transpose(np.argsort(left))


def _flat(block: Array, position: int) -> tuple[Array, tuple[int, ...]]:
    """Pixels as (pixels, channels, pixels), without a copy where they are dense; and the axes as they lie there."""
    order = geometry.memory_order(block)
    lying, place = block.transpose(order), order.index(position)
    shape = math.prod(lying.shape[:place]), lying.shape[place], math.prod(lying.shape[place + 1 :])
    return lying.reshape(shape), order


def _cast(y: Array, dtype: np.dtype[Any]) -> Array:
    """As results are rounded and saturated."""
    if dtype.kind == "f" and dtype.itemsize > 2:
        return y
    from .reference.floats import cast  # the definition, to the bit

    return cast(y.astype(np.float64), in_own_order(dtype))


def planned(spec: checks.Spec, x: Array, threads: int | None) -> dict[str, Any]:
    """How a call would run: the shape of a strip, and the plans of its layers, up to a Pool."""
    place = checks.place(spec, x)
    types = checks.types(spec, x, x.shape[place.position], None)
    pool = next((i for i, s in enumerate(spec.steps) if s.pools is not None), None)
    s = Stretch(spec.steps[:pool], types[:pool], checks.type_of_sums(x.dtype), place.position, place.stride)
    pixels = x[next(boxes(s, x, geometry.memory_order(x)), ((), ()))[0]]
    layers = [(step.element, p) for step, p in zip(s.steps, [pixels, *rooms(s, pixels)], strict=False)]
    plans = [layer.plan(p, threads) for layer, p in layers if isinstance(layer, Layer)]
    return {"strip": pixels.shape, "elements": plans}
