"""Weights in every form that frameworks store them in; where none fits, what the numbers may have been meant as."""

from __future__ import annotations

import weakref
from collections.abc import Iterator
from typing import NamedTuple

import numpy as np

from . import geometry
from .arrays import PIXELS, WIDE, Array, ArrayLike, in_own_order, is_bfloat16, other_type, unmasked

_MOST_GROUPS = 2**31  # no filters at all would go into any number
#: What wide integers are packed from, as weights: the first that holds them.
_WEIGHTS = tuple(map(np.dtype, ("int32", "int64", "uint64")))


class Reading(NamedTuple):
    """What a weight's shape may mean."""

    matrix: Array  # (K, C/groups)
    keep_axis: bool  # False: the weight is a vector, the result has no channel axis
    spelling: str  # in 2-D


def _all_readings(w: Array, name: str) -> Iterator[Reading]:
    if w.ndim == 1:
        yield Reading(w[None, :], False, name)
    elif w.ndim == 2:
        yield Reading(w, True, name)
    elif 3 <= w.ndim <= 5:
        ones = (1,) * (w.ndim - 2)
        if w.shape[2:] == ones:  # torch, ONNX: (K, C/groups, 1[, 1[, 1]])
            yield Reading(w.reshape(w.shape[:2]), True, f"{name}.reshape({w.shape[0]}, {w.shape[1]})")
        if w.shape[:-2] == ones:  # TensorFlow, Keras: (1[, 1[, 1]], C/groups, K)
            yield Reading(w.reshape(w.shape[-2:]).T, True, f"{name}.reshape({w.shape[-2]}, {w.shape[-1]}).T")
        if w.ndim == 3 and (w.shape[:2] == (1, 1) or w.shape[1:] == (1, 1)):  # one filter over all the channels
            yield Reading(w.reshape(1, -1), True, f"{name}.reshape(1, -1)")


def readings(w: Array, name: str) -> list[Reading]:
    """All that a weight may mean, each once; `name` is how the user can use it as an array."""
    found: list[Reading] = []
    for reading in _all_readings(w, name):
        if not any(reading.matrix.shape == seen.matrix.shape for seen in found):
            found.append(reading)
    if not found:
        raise ValueError(
            f"w has shape {w.shape}, which is no form of a 1x1 filter bank: expected (K, C/groups), "
            "(K, C/groups, 1, 1) as in torch, (1, 1, C/groups, K) as in Keras, or (C,) for a single filter"
        )
    return found


def the_one_that_fits(
    found: list[Reading], shape: tuple[int, ...], groups: int, channels: int | None
) -> Reading | None:
    """The reading for x's number of channels, which may be unknown; None where the number is to blame."""
    fits = [r for r in found if _divides(r.matrix, groups, channels)]
    if len(fits) > 1:
        n = max(shape)
        raise ValueError(
            f"w of shape {shape} has two readings, one filter over {n} channels and {n} filters over one; "
            f"say which in 2-D: {' or '.join(r.spelling for r in fits)}"
        )
    if fits:
        return fits[0]
    k = len(found[0].matrix)
    if k % groups or groups >= _MOST_GROUPS:
        raise ValueError(f"groups={groups} does not divide the {k} filters of w, shape {shape}")
    return None


def _divides(matrix: Array, groups: int, channels: int | None) -> bool:
    per_group = channels is None or matrix.shape[1] * groups == channels
    return groups < _MOST_GROUPS and matrix.shape[0] % groups == 0 and per_group


def meant(found: list[Reading], channels: int, added: str | None, verb: str = "pass") -> list[str]:
    """What weights that do not fit x's channels may be, each with the arguments for it.

    `added` is what the bias must be added to, such as "bias + "; None where a column of weights is no bias.
    """
    ways: list[str] = []
    for matrix, keep_axis, w in found:
        k, c = matrix.shape
        if not keep_axis:
            ways += _of_a_row(c, channels, w, added, verb)
            continue
        if added is not None and c == channels + 1:
            if k == c and (matrix[-1] == (np.arange(c) == channels)).all():
                above = f"{w}[:-1, :-1], bias={added}{w}[:-1, -1]"
                ways.append(f"for {_filters(k - 1)} and their bias above a last row of 0 and 1, {verb} {above}")
            else:
                whose = "its" if k == 1 else "their"
                ways.append(
                    f"for {_filters(k)} and {whose} bias in the last column, as cv2.transform takes them, "
                    f"{verb} {w}[:, :-1], bias={added}{w}[:, -1]"
                )
        if k == channels:
            ways.append(f"for {_filters(c)}, {verb} {w}.T")
    rows = [r for r in found if r.keep_axis and 1 in r.matrix.shape and r.matrix.size > channels + 1]
    return ways or [way for r in rows[:1] for way in _of_a_row(r.matrix.size, channels, r.spelling, added, verb)]


def _of_a_row(n: int, channels: int, w: str, added: str | None, verb: str) -> list[str]:
    """Of n numbers in a row: the matrices that they may be."""
    ways = []
    if added is not None and n == channels + 1:
        ways.append(f"for a filter and its bias at the end, {verb} {w}[:-1], bias={added}{w}[-1:]")
    elif added is not None and n and n % (channels + 1) == 0:
        k = n // (channels + 1)
        rows = f"{w}.reshape({k}, {channels + 1})"
        ways.append(f"for {_filters(k)}, each with its bias, {verb} {rows}[:, :-1], bias={added}{rows}[:, -1]")
    if channels and n > channels and n % channels == 0:
        ways.append(f"for {_filters(n // channels)}, {verb} {w}.reshape({n // channels}, {channels})")
    return ways


def _filters(count: int) -> str:
    return f"{count} filter" if count == 1 else f"{count} filters"


def numbers(w: ArrayLike, name: str) -> Array:
    """Weights or bias in float32, float64, their complex types, bool or a type of integers, native.

    Wide integers, as lists give, come in int32 if they fit.
    """
    a = unmasked(w, name)
    native = in_own_order(a.dtype)
    if native == np.float16 or is_bfloat16(a.dtype):
        return a.astype(np.float32)
    if native in WIDE:
        low, high = a.min(initial=0), a.max(initial=0)
        native = next(t for t in _WEIGHTS if np.iinfo(t).min <= low and high <= np.iinfo(t).max)
    if native in PIXELS:
        return a.astype(native, copy=False)
    what, instead = other_type(w, a, name)
    raise TypeError(f"{name} must hold numbers, but {what}{instead}")


def weight(
    w: ArrayLike, groups: int, x: Array | None, channel_axis: int, added: str | None = None
) -> tuple[Array, bool]:
    """The (K, C/groups) matrix in any weight form, and whether the result keeps its channel axis.

    x, where there is one, settles a form with two readings; without it such a form is refused. `added` is for advice:
    what a column of weights that is a bias must be added to, None where it is none.
    """
    a = numbers(w, "w")
    _pin = weakref.ref(a)  # which keeps NumPy from resizing it, should garbage be collected meanwhile
    channels = None if x is None else x.shape[geometry.axis(x, channel_axis)]
    found = readings(a, "w" if hasattr(w, "reshape") and not isinstance(w, np.matrix) else "np.asarray(w)")
    reading = the_one_that_fits(found, a.shape, groups, channels)
    if reading is None:
        assert x is not None  # without x, only the groups can be wrong
        assert channels is not None
        ways = meant(found, channels, added) if groups == 1 else []
        if a.ndim == 2 and len(ways) == 1 and len(a) == channels:
            raise ValueError(
                f"w of shape {a.shape} is (C, K), K = {a.shape[1]}, where (K, C) is expected for the {channels} "
                f"channels of x: pass {found[0].spelling}.T"
            )
        geometry.check_channels(x, channel_axis, found[0].matrix.shape[1], groups, lambda _: ways)
        raise AssertionError("weights that fit are a reading")
    return np.ascontiguousarray(reading.matrix), reading.keep_axis
