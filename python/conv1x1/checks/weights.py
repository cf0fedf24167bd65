"""Weights in every form that frameworks store them in; where none fits, what the numbers may have been meant as."""

from __future__ import annotations

import math
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


class Bias(NamedTuple):
    """The bias that goes with weights, for advice: its shape, None where there is none, and how the user spells it."""

    shape: tuple[int, ...] | None
    spelling: str

    def beside(self, filters: int, column: str, homogeneous: bool) -> tuple[str, str]:
        """What is to be said of it beside so many filters, and the end of their call: made to fit, plus their `column`.

        The last row of a homogeneous matrix is left out, and so is what the bias has for it.
        """
        given = self.spelling
        if self.shape is None:
            return "", f", bias={column}" if column else ""
        if self.shape == (filters + 1,) and homogeneous:
            given += "[:-1]"
        elif self.shape == () and not column:
            given = f"np.full({filters}, {given})"
        elif self.shape != (filters,) and not (column and self.shape in {(), (1,)}):
            if math.prod(self.shape) != filters:
                return f", without the bias of shape {self.shape}", f", bias={column or None}"
            given = f"np.ravel({given})"
        if column:
            return "", f", bias={given} + {column}"
        return "", f", bias={given}" if given != self.spelling else ""


def meant(found: list[Reading], channels: int, bias: Bias | None, verb: str = "pass") -> list[str]:
    """What weights that do not fit x's channels may be, each with the arguments for it.

    With None for the `bias` no column of weights can be one.
    """

    def way(what: str, k: int, w: str, column: str = "", homogeneous: bool = False) -> str:
        without, added = ("", "") if bias is None else bias.beside(k, column, homogeneous)
        return f"for {what}{without}, {verb} {w}{added}"

    def of_a_row(n: int, w: str) -> list[str]:
        """Of n numbers in a row: the matrices that they may be."""
        ways = []
        if bias is not None and n == channels + 1:
            ways.append(way("a filter and its bias at the end", 1, f"{w}[:-1]", f"{w}[-1:]"))
        elif bias is not None and n and n % (channels + 1) == 0:
            k = n // (channels + 1)
            rows = f"{w}.reshape({k}, {channels + 1})"
            ways.append(way(f"{counted(k)}, each with its bias", k, f"{rows}[:, :-1]", f"{rows}[:, -1]"))
        if channels and n > channels and n % channels == 0:
            k = n // channels
            ways.append(way(counted(k), k, f"{w}.reshape({k}, {channels})"))
        return ways

    ways: list[str] = []
    for matrix, keep_axis, w in found:
        k, c = matrix.shape
        if not keep_axis:
            ways += of_a_row(c, w)
            continue
        if bias is not None and c == channels + 1:
            if k == c and (matrix[-1] == (np.arange(c) == channels)).all():
                what = f"{counted(k - 1)} and their bias above a last row of 0 and 1"
                ways.append(way(what, k - 1, f"{w}[:-1, :-1]", f"{w}[:-1, -1]", homogeneous=True))
            else:
                what = f"{counted(k)} and {'its' if k == 1 else 'their'} bias in the last column"
                ways.append(way(f"{what}, as cv2.transform takes them", k, f"{w}[:, :-1]", f"{w}[:, -1]"))
        if k == channels:
            ways.append(way(counted(c), c, f"{w}.T"))
    rows = [r for r in found if r.keep_axis and 1 in r.matrix.shape and r.matrix.size > channels + 1]
    return ways or [one for r in rows[:1] for one in of_a_row(r.matrix.size, r.spelling)]


def counted(filters: int) -> str:
    """Them in words."""
    return f"{filters} filter" if filters == 1 else f"{filters} filters"


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
    w: ArrayLike, groups: int, x: Array | None, channel_axis: int, bias: Bias | None = None
) -> tuple[Array, bool]:
    """The (K, C/groups) matrix in any weight form, and whether the result keeps its channel axis.

    x, where there is one, settles a form with two readings; without it such a form is refused. `bias` is for advice.
    """
    a = numbers(w, "w")
    _pin = weakref.ref(a)  # which keeps NumPy from resizing it, should garbage be collected meanwhile
    channels = None if x is None else x.shape[geometry.axis(x, channel_axis)]
    found = readings(a, "w" if hasattr(w, "reshape") and not isinstance(w, np.matrix) else "np.asarray(w)")
    reading = the_one_that_fits(found, a.shape, groups, channels)
    if reading is None:
        assert x is not None  # without x, only the groups can be wrong
        assert channels is not None
        ways = meant(found, channels, bias) if groups == 1 else []
        if a.ndim == 2 and len(ways) == 1 and len(a) == channels:
            raise ValueError(
                f"w of shape {a.shape} is (C, K), K = {a.shape[1]}, where (K, C) is expected for the {channels} "
                f"channels of x: {ways[0].removeprefix(f'for {counted(a.shape[1])}').lstrip(', ')}"
            )
        geometry.check_channels(x, channel_axis, found[0].matrix.shape[1], groups, lambda _: ways)
        raise AssertionError("weights that fit are a reading")
    return np.ascontiguousarray(reading.matrix), reading.keep_axis
