"""Whether elements make a chain, and all arguments of a call of one."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, NamedTuple

import numpy as np

from .. import _conv1x1
from ..arithmetic import default_arithmetic
from . import floats, geometry, positive_int, quantized
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
    adds: bool = False  # whether its last layer has a residual already


class Step(NamedTuple):
    """One that computes, when all chains in the chain are unrolled."""

    element: Any
    channels: int | None  # of its result, None for those that come
    dtype: np.dtype[Any] | None  # of its result, where it was made with one
    has_parts: bool = False  # whether its own numbers are complex
    drops: bool = False  # the channel axis
    indexes: bool = False  # an index is its result, of a type that holds those of its channels
    adds: int | None = None  # the step whose pixels are its residual


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
    axis, takes, gives = channel_axis, "", ""
    for i, e in enumerate(elements):
        this, before = f"element {i}, {e.name},", elements[i - 1]
        if i and before.ends:
            raise ValueError(f"element {i - 1}, {before.name}, {before.ends}")
        if i and not _is_one(e.stride):
            raise ValueError(
                f"{this} has stride={e.stride}, which only the first may have: give the stride to element 0, and make "
                "this one without, since the pixels that are left are the same"
            )
        if e.takes and gives and e.takes != gives:
            raise TypeError(f"{this} {_mixed(e.takes, gives, i)}")
        takes, gives = takes or e.takes, e.gives or gives
        if None not in (width, e.in_channels) and width != e.in_channels:
            raise ValueError(
                f"{this} expects {e.in_channels} channels and gets {width} from element {by}, {elements[by].name}: "
                f"make element {by} with {e.in_channels} filters, or element {i} with "
                f"{'weights' if e.gives else 'numbers'} for {width} channels"
            )
        first = e.in_channels if first is None else first
        width = e.in_channels if width is None else width
        if e.out_channels is not None:
            width, by = e.out_channels, i
        if channel_axis is None and e.axis is not None and axis is None:
            axis, settled_by = e.axis, i
        elif channel_axis is None and e.axis is not None and e.axis != axis:
            raise ValueError(
                f"{this} has channel_axis={e.axis}, and element {settled_by}, {elements[settled_by].name}, {axis}: "
                f"pass channel_axis={axis} or channel_axis={e.axis}, for all to be taken by"
            )
    last_layer = max((i for i, e in enumerate(elements) if e.gives), default=0)
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
        elements[last_layer].adds or skip,
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
    if not e.gives:
        why = f"but there is none: {leave}"
    elif e.gives != "floats":
        why = f"which quantised ones cannot take: {leave}"
    elif e.adds:
        why = f"but that of {name}, adds its own already: {leave}"
    elif e.ends:
        why = f"but {name}, {e.ends}, or {leave}"
    elif not _is_one(elements[0].stride):
        why = (
            f"but element 0, {elements[0].name}, leaves some out by stride={elements[0].stride}: {leave}, or make it "
            "without, and take the pixels that are wanted before, as in net(x[:, ::2, ::2])"
        )
    elif channels != e.out_channels:
        why = f"but they have {channels} channels, and {name}, gives {e.out_channels}: {leave}, or make that one with "
        why += f"{channels} filters"
    if why:
        raise (ValueError if e.gives in ("", "floats") else TypeError)(
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


@default_arithmetic
def call(spec_: Spec, x: ArrayLike, out: Any, threads: Any) -> tuple[Array, Array | None, int | None, Finish | None]:
    """The arguments of one call, checked; and what is to be done with the result, if anything."""
    whole, last = spec_.whole, spec_.steps[-1]
    a = quantized.pixels(x, np.dtype(whole.takes)) if whole.takes in BYTES else data_array(x, "x")
    position = geometry.axis(a, spec_.channel_axis)
    if whole.in_channels is not None:
        geometry.check_channels(a, spec_.channel_axis, whole.in_channels, 1, taker="the chain takes")
    check_names(spec_.band_names, x, position)
    place = position, geometry.strides_per_axis(a, position, whole.stride), width(spec_, a.shape[position])
    shape = geometry.result_shape(a, *place, not last.drops)
    if out is not None:
        _check_out(spec_, out, shape, a.shape[position])
    threads = None if threads is None else positive_int(threads, "threads")
    masked = finish(a, None, *place, not last.drops)
    a = bare(a)
    pixels = a
    for i, (step, dtype) in enumerate(zip(spec_.steps, types(spec_, a, a.shape[position], out), strict=True)):
        if isinstance(step.element, _conv1x1.Layer):
            floats.check_complex(step.element._spec, pixels, None, out if i == len(spec_.steps) - 1 else None)
        elif is_complex(pixels.dtype):
            raise TypeError(f"{step.element!r} compares real numbers, but gets {pixels.dtype}: leave it out")
        pixels = np.empty(0, dtype)
    return a, out, threads, masked


def width(spec_: Spec, channels: int) -> int:
    """Of the result, of pixels with so many channels."""
    for step in spec_.steps:
        channels = channels if step.channels is None else step.channels
    return channels


def _check_out(spec_: Spec, out: Any, shape: tuple[int, ...], channels: int) -> None:
    last = spec_.steps[-1]
    if not isinstance(last.element, _conv1x1.Layer):
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
    if last.element._spec.quantised is not None:
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
