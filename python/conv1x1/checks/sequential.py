"""Whether elements make a chain, and all arguments of a call of one."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, NamedTuple

import numpy as np

from .. import _conv1x1
from ..arithmetic import default_arithmetic
from . import floats, geometry, positive_int, quantized, weights
from .arrays import (
    Array,
    ArrayLike,
    Finish,
    bare,
    data_array,
    finish,
    in_own_order,
    is_complex,
    is_integer,
    spelled,
    unmasked,
)

#: What quantised layers take and give.
BYTES = ("uint8", "int8")
POOLS = ("mean", "max", "sum")


class Element(NamedTuple):
    """What a chain has to know of one of its elements; or who asks it, of the chain."""

    name: str
    in_channels: int | None  # None: any number of them
    out_channels: int | None  # None: as many as come
    axis: int | None = None  # that holds the channels; None: any
    stride: int | tuple[int, ...] = 1
    takes: str = ""  # "floats", or the type of bytes; "": either
    gives: str = ""  # likewise; "": what comes
    ends: str = ""  # why nothing can follow it
    layer: bool = False  # whether it is one, or has one
    adds: bool = False  # whether its last layer has a residual already
    pools: bool = False  # whether axes of pixels go


class Step(NamedTuple):
    """One that computes, when all chains in the chain are unrolled."""

    element: Any
    channels: int | None = None  # of its result, None for those that come
    dtype: np.dtype[Any] | None = None  # of its result, where it was made with one
    has_parts: bool = False  # whether its own numbers are complex
    drops: bool = False  # the channel axis
    indexes: bool = False  # an index is its result, of a type that holds those of its channels
    adds: int | None = None  # the step whose pixels are its residual
    pools: tuple[int, ...] | str | None = None  # axes that go, "" for those that are meant if none are named


class Spec(NamedTuple):
    """A chain in canonical form."""

    whole: Element
    steps: tuple[Step, ...]
    channel_axis: int
    band_names: tuple[str, ...] | None


def fit(elements: Sequence[Element], skip: bool, channel_axis: int | None) -> Element:
    """What elements are together, once they are sure to fit."""
    if not elements:
        raise ValueError("a chain needs at least one element, got none: Sequential([Conv1x1(w, bias), …])")
    first = width = None  # channels: of the pixels, and behind the elements so far
    by = settled_by = 0  # the elements that decided on the width, and on the axis
    axis, takes, gives, pooled = channel_axis, "", "", False
    for i, e in enumerate(elements):
        this, before = f"element {i}, {e.name},", elements[i - 1]
        if i and before.ends:
            raise ValueError(f"element {i - 1}, {before.name}, {before.ends}")
        if i and not _is_one(e.stride):
            instead = "give the stride to element 0, and make this one without"
            if not elements[0].layer:
                instead = "make it without, and stride the pixels before the call, as in net(x[:, ::2, ::2])"
            raise ValueError(
                f"{this} has stride={e.stride}, which only the first may have: {instead}, since the pixels that are "
                "left are the same"
            )
        if e.pools and pooled:
            raise ValueError(f"{this} pools the pixels once more: leave it out, or pool over all axes at once")
        if e.takes and gives and e.takes != gives:
            raise TypeError(f"{this} {_mixed(e.takes, gives, i)}")
        takes, gives = takes or e.takes, e.gives or gives
        if None not in (width, e.in_channels) and width != e.in_channels:
            raise ValueError(
                f"{this} expects {e.in_channels} channels and gets {width} from element {by}, {elements[by].name}: "
                f"make element {by} with {e.in_channels} filters, or element {i} with "
                f"{'weights' if e.layer else 'numbers'} for {width} channels"
            )
        first = e.in_channels if first is None else first
        width = e.in_channels if width is None else width
        if e.out_channels is not None:
            width, by = e.out_channels, i
        if pooled or channel_axis is not None or e.axis is None:
            pass  # behind a Pool the channels are where they are once axes are gone
        elif axis is None:
            axis, settled_by = e.axis, i
        elif e.axis != axis:
            raise ValueError(
                f"{this} has channel_axis={e.axis}, and element {settled_by}, {elements[settled_by].name}, {axis}: "
                f"pass channel_axis={axis} or channel_axis={e.axis}, for all to be taken by"
            )
        pooled = pooled or e.pools
    last_layer = max((i for i, e in enumerate(elements) if e.layer), default=0)
    if skip:
        _check_skip(elements, last_layer, first)
    last = elements[-1]
    return Element(
        f"Sequential {'any' if first is None else first} → {'any' if width is None else width}",
        first,
        width,
        axis,
        elements[0].stride,
        takes,
        gives,
        last.ends and f"has {last.name} inside, which {last.ends}",
        elements[last_layer].layer,
        elements[last_layer].adds or skip,
        pooled,
    )


def _is_one(stride: int | tuple[int, ...]) -> bool:
    return stride == 1 if isinstance(stride, int) else all(n == 1 for n in stride)


def _mixed(takes: str, gives: str, i: int) -> str:
    if "floats" in (takes, gives):
        what = "takes pixels of floats, and gets bytes of quantised ones" if takes == "floats" else "takes bytes"
        return (
            f"{what}{'' if takes == 'floats' else ', and gets floats'} from element {i - 1}: quantised layers make a "
            "chain of their own; make all of them with QConv1x1.from_float, or two chains with quantize or dequantize "
            "between them"
        )
    return (
        f"takes {takes}, and gets {gives} from element {i - 1}: make it with x_zero_point=np.{gives}(…), or element "
        f"{i - 1} with y_zero_point=np.{takes}(…)"
    )


def _check_skip(elements: Sequence[Element], i: int, channels: int | None) -> None:
    """Whether the pixels can be the residual of the last layer, which is in element i, if anywhere."""
    e = elements[i]
    name, leave = f"element {i}, {e.name}", "leave skip out"
    why = ""
    if not e.layer:
        why = f"but there is none: {leave}"
    elif e.gives != "floats":
        why = f"which quantised ones cannot take: {leave}"
    elif e.adds:
        why = f"but that of {name}, adds its own already: {leave}"
    elif e.ends:
        why = f"but {name}, {e.ends}, or {leave}"
    elif any(before.pools for before in elements[: i + 1]):
        why = f"but a Pool has taken some away before {name}: {leave}, or make a chain with skip of what goes before it"
    elif not _is_one(elements[0].stride):
        why = (
            f"but element 0, {elements[0].name}, leaves some out by stride={elements[0].stride}: {leave}, or make it "
            "without, and take the pixels that are wanted before, as in net(x[:, ::2, ::2])"
        )
    elif channels != e.out_channels:
        why = f"but they have {channels} channels, and {name}, gives {e.out_channels}: {leave}, or make that one with "
        why += f"{channels} filters"
    if why:
        raise (TypeError if e.gives in BYTES else ValueError)(
            f"skip adds the pixels to the sums of the last layer, {why}"
        )


# ------------------------------------------------------------------------------------------------ elements


def labels(value: ArrayLike | None) -> Array | None:
    """The labels of an `ArgMax`, (channels,) of integers."""
    if value is None:
        return None
    a = unmasked(value, "labels")
    if not is_integer(a.dtype):
        hint = ": leave them out, and pass them to Sequential as class_names=" if a.dtype.kind in "OSUT" else ""
        raise TypeError(f"labels must be integers, got dtype {a.dtype}{hint}")
    if a.ndim != 1 or not a.size:
        hint = ": pass np.ravel(labels)" if a.size else ""
        raise ValueError(f"labels has shape {a.shape}, expected (channels,), one for each channel{hint}")
    return np.ascontiguousarray(a, a.dtype.newbyteorder("="))


def layer_norm(
    channels: Any, weight: ArrayLike | None, bias: ArrayLike | None, eps: Any
) -> tuple[int, Array | None, Array | None, float]:
    """The arguments of a `LayerNorm`."""
    if np.ndim(channels) == 1 and weight is None:
        raise TypeError("LayerNorm takes the number of channels first: LayerNorm(len(weight), weight, bias)")
    channels = positive_int(channels, "channels")
    found: list[Any] = []
    for value, name in ((weight, "weight"), (bias, "bias")):
        a = None if value is None else weights.numbers(value, name)
        if a is not None and is_complex(a.dtype):
            raise TypeError(f"{name} must hold real numbers, got {a.dtype}")
        found.append(None if a is None else floats.one_each(value, a, name, channels, "channel"))
    try:
        eps = float(eps)
    except (TypeError, ValueError):
        raise TypeError(f"eps must be a number ≥ 0, got {spelled(eps)}") from None
    if not 0 <= eps < np.inf:
        raise ValueError(f"eps must be ≥ 0 and finite, got {eps:g}")
    return channels, found[0], found[1], eps


def pool(kind: Any, axes: Any) -> tuple[str, tuple[int, ...] | None]:
    """The arguments of a `Pool`."""
    if kind not in POOLS:
        others = {"avg": "mean", "average": "mean", "maximum": "max", "add": "sum", "total": "sum"}
        hint = f': write "{others[kind]}"' if isinstance(kind, str) and kind in others else ""
        raise ValueError(f"Pool takes {', '.join(map(repr, POOLS))}, got {spelled(kind)}{hint}")
    if axes is None:
        return kind, None
    given = axes if isinstance(axes, (tuple, list)) else (axes,)
    if not given:
        raise ValueError("axes is empty: leave it out for the last two axes besides the channels, or name some of x's")
    for a in given:
        if isinstance(a, (bool, np.bool_)) or not isinstance(a, (int, np.integer)):
            raise TypeError(f"axes must hold ints, axes of x, got {spelled(a)}")
    return kind, tuple(map(int, given))


def names(value: Any, what: str, count: int | None, of: str) -> tuple[str, ...] | None:
    """Names of channels: a tuple of str, one for each, if there are any."""
    if value is None:
        return None
    given = None if isinstance(value, (str, bytes)) else value
    try:
        found = tuple(given)  # type: ignore[arg-type]
    except TypeError:
        raise TypeError(f"{what} must be a list of names, one for each of {of}, got {spelled(value)}") from None
    wrong = [n for n in found if not isinstance(n, str)]
    if wrong:
        raise TypeError(f"{what} holds {spelled(wrong[0])}, expected names: pass list(map(str, {what}))")
    if count is not None and len(found) != count:
        raise ValueError(f"{what} has {len(found)} names, expected {count}, one for each of {of}")
    return tuple(map(str, found))


# --------------------------------------------------------------------------------------------------- calls


def type_of_sums(x: np.dtype[Any]) -> np.dtype[Any]:
    """What a chain sums in and hands on, of such pixels: what a layer of floats would."""
    real = x.itemsize // 2 if is_complex(x) else x.itemsize
    return np.dtype(np.float64 if real == 8 or (real == 4 and is_integer(x)) else np.float32)


def type_of_index(channels: int) -> np.dtype[Any]:
    """The smallest that holds where the largest of so many channels is."""
    return np.dtype(np.uint8 if channels <= 2**8 else np.uint16 if channels <= 2**16 else np.int32)


def types(spec_: Spec, x: Array, channels: int, out: Array | None) -> list[np.dtype[Any]]:
    """What each step gives, the last one as the result."""
    sums, has_parts = type_of_sums(x.dtype), is_complex(x.dtype)
    found: list[np.dtype[Any]] = []
    for i, step in enumerate(spec_.steps):
        last = i == len(spec_.steps) - 1
        has_parts = has_parts or step.has_parts
        given = in_own_order(x.dtype) if last and not is_integer(x.dtype) else sums
        if has_parts and not is_complex(given):
            given = np.dtype(np.complex128 if sums == np.float64 else np.complex64)
        own = type_of_index(channels) if step.indexes else step.dtype
        found.append(given if own is None else own)
        channels = channels if step.channels is None else step.channels
    if out is not None:
        found[-1] = in_own_order(out.dtype)
    return found


class Place(NamedTuple):
    """Where things are in a call."""

    position: int  # of the channels in x
    stride: tuple[int, ...]  # a step for each axis of x
    gone: tuple[int, ...]  # the axes of x that the result does not have
    shape: tuple[int, ...]  # of the result
    pooled: tuple[int, ...]  # the axes of x whose pixels become one


def place(spec_: Spec, x: Array) -> Place:
    """Where the result of such pixels is."""
    position = geometry.axis(x, spec_.channel_axis)
    if spec_.whole.in_channels is not None:
        geometry.check_channels(x, spec_.channel_axis, spec_.whole.in_channels, 1, taker="the chain takes")
    stride = geometry.strides_per_axis(x, position, spec_.whole.stride)
    pooled = next((_pooled(s.element, s.pools, x, position) for s in spec_.steps if s.pools is not None), ())
    gone = tuple(sorted({*pooled, *([position] if spec_.steps[-1].drops else [])}))
    grid = geometry.result_shape(x, position, stride, width(spec_, x.shape[position]), True)
    return Place(position, stride, gone, tuple(n for i, n in enumerate(grid) if i not in gone), pooled)


def _pooled(element: Any, axes: tuple[int, ...] | str, x: Array, position: int) -> tuple[int, ...]:
    """Axes counted from the front, once they are sure to be axes of pixels."""
    pixels = [i for i in range(x.ndim) if i != position]
    if isinstance(axes, str):
        found = tuple(pixels[-2:])
        if not found:
            raise ValueError(f"{element!r} takes axes of pixels away, but x of shape {x.shape} has the channels alone")
    else:
        for axis in axes:
            if not -x.ndim <= axis < x.ndim:
                raise ValueError(f"{element!r} takes axis {axis} away, but x of shape {x.shape} has {x.ndim} axes")
        found = tuple(axis % x.ndim for axis in axes)
        if position in found or len({*found}) < len(found):
            why = "the one of the channels" if position in found else "one of them twice"
            raise ValueError(
                f"{element!r} takes axes of pixels away, but of x of shape {x.shape} that is {why}: "
                f"axes of pixels are {', '.join(map(str, pixels))}"
            )
    if element.kind == "max" and 0 in (x.shape[i] for i in found):
        raise ValueError(f"{element!r} has no largest of no pixels: x has shape {x.shape}")
    return found


@default_arithmetic
def call(spec_: Spec, x: ArrayLike, out: Any, threads: Any) -> tuple[Array, Array | None, int | None, Finish | None]:
    """The arguments of one call, checked; and what is to be done with the result, if anything."""
    whole, drops = spec_.whole, spec_.steps[-1].drops
    a = quantized.pixels(x, np.dtype(whole.takes)) if whole.takes in BYTES else data_array(x, "x")
    there = place(spec_, a)
    check_names(spec_.band_names, x, there.position)
    channels = a.shape[there.position]
    if out is not None:
        _check_out(spec_, out, there.shape, channels)
    threads = None if threads is None else positive_int(threads, "threads")
    if there.pooled and isinstance(a, np.ma.MaskedArray):
        raise TypeError("x is a masked array, and a Pool takes all pixels: pass x.filled(…), or leave the Pool out")
    masked = finish(a, None, there.position, there.stride, width(spec_, channels), not drops)
    a = bare(a)
    pixels = a
    for i, (step, dtype) in enumerate(zip(spec_.steps, types(spec_, a, channels, out), strict=True)):
        if isinstance(step.element, _conv1x1.Layer):
            floats.check_complex(step.element._spec, pixels, None, out if i == len(spec_.steps) - 1 else None)
        elif is_complex(pixels.dtype) or is_complex(dtype):
            complex_type = pixels.dtype if is_complex(pixels.dtype) else dtype
            raise TypeError(f"{step.element!r} is a function of real numbers, but {complex_type} is asked of it")
        pixels = np.empty(0, dtype)
    return a, out, threads, masked


def width(spec_: Spec, channels: int) -> int:
    """Of the result, of pixels with so many channels."""
    for step in spec_.steps:
        channels = channels if step.channels is None else step.channels
    return channels


def _check_out(spec_: Spec, out: Any, shape: tuple[int, ...], channels: int) -> None:
    last = spec_.steps[-1]
    if last.indexes or (last.drops and not isinstance(last.element, _conv1x1.Layer)):
        floats.check_is_array(out, shape)
        for step in spec_.steps[:-1]:
            channels = channels if step.channels is None else step.channels
        dtype = type_of_index(channels) if last.dtype is None else last.dtype
        if not np.can_cast(dtype, out.dtype, "safe"):
            raise TypeError(
                f"out has dtype {out.dtype}, which does not hold all of {dtype}, what the chain gives: "
                f"pass out=np.empty({shape}, np.{dtype})"
            )
        floats.check_room(out, shape)
        return
    if spec_.whole.gives in BYTES:
        quantized.check_out(out, last.element._spec.quantised[1])
    floats.check_out(out, shape, last.dtype)


def check_names(expected: tuple[str, ...] | None, x: Any, position: int) -> None:
    """Whether x, if it names its bands, names them as the chain does."""
    if expected is None or isinstance(x, np.ndarray):
        return
    for i, (theirs, ours) in enumerate(zip(_names_of_bands(x, position), expected, strict=False)):
        if theirs != ours:
            raise ValueError(
                f"x names band {i} {theirs!r}, and the chain was made for {ours!r} there: pass x with its bands in "
                "the order of net.band_names, or without names"
            )


def _names_of_bands(x: Any, position: int) -> list[str]:
    """What pandas and xarray call the entries of an axis; nothing where those are no names."""
    found: Any = []
    if hasattr(x, "columns") and position == 1:
        found = list(x.columns)
    elif hasattr(x, "dims") and hasattr(x, "coords") and x.dims[position] in x.coords:
        found = np.asarray(x.coords[x.dims[position]]).tolist()
    return found if isinstance(found, list) and all(isinstance(n, str) for n in found) else []
