"""One number of a result, taken apart: the facts that text and drawing tell, and how numbers are spelled in both."""

from __future__ import annotations

import math
from collections.abc import Iterable
from dataclasses import dataclass
from typing import Any, NamedTuple

import numpy as np

from ..arithmetic import default_arithmetic
from ..checks import Spec
from ..checks.arrays import Array, is_complex, is_integer
from ..reference.floats import activate, cast

COLUMNS = 100  # of text


class Place(NamedTuple):
    """Which number of the result it is."""

    channel_axis: int  # counted from the front
    stride: tuple[int, ...]  # a step for each pixel axis
    pixel: tuple[int, ...]  # of the result
    filter: int
    first_channel: int  # that the filter sees, not 0 in later groups

    @property
    def source(self) -> tuple[int, ...]:
        """The pixel of x it comes from."""
        return tuple(i * step for i, step in zip(self.pixel, self.stride, strict=True))


@dataclass(frozen=True, init=False, eq=False, repr=False)
class Calculation:
    """What there is to know of one number; `Explanation` says what is public of it."""

    shapes: dict[str, tuple[int, ...]]
    index: tuple[int, ...]
    source: tuple[int, ...]
    channels: Array
    weights: Array
    products: Array
    steps: list[tuple[str, str, complex]]
    value: complex
    result: Any
    flops: int
    bytes_read: int
    bytes_written: int
    plan: dict[str, Any]
    _spec: Spec
    _place: Place
    _center: Array | None  # of these channels
    _bias: complex | None
    _residual: complex | None
    _dtypes: tuple[str, str]  # of x and of the result
    _integers: bool
    _masked: list[str]  # which of x and the residual hide the number under their mask

    @property
    @default_arithmetic
    def intensity(self) -> float:
        """Operations for each byte moved: where it is low, memory is the limit and not arithmetic."""
        return self.flops / (self.bytes_read + self.bytes_written)

    # Names and sentences that the text and the drawing share.

    @property
    def _formula(self) -> str:
        y = f"y[{', '.join(map(str, self.index))}]" if self.index else "y"
        added = " + bias" * (self._bias is not None) + " + residual" * (self._residual is not None)
        x = self._slice_x(map(str, self.source))
        argument = f"Σ {x if self._center is None else f'({x} − center)'} · {self._w}{added}"
        return f"{y} = {activated(self._spec.activation, argument)} = {spell(self.value)}"

    @property
    def _w(self) -> str:
        return "w" if self._filters == 1 else f"filter {self._place.filter}"

    @property
    def _factors(self) -> Array:
        """What the weights are multiplied by."""
        return self.channels if self._center is None else self.channels - self._center

    @property
    def _filters(self) -> int:
        return self.shapes["w"][0] if len(self.shapes["w"]) == 2 else 1

    def _slice_x(self, pixel: Iterable[str]) -> str:
        """The channels of a pixel in NumPy's spelling, such as x[28, 28, 96:192]."""
        first, entries = self._place.first_channel, [*pixel]
        part = f"{first}:{first + len(self.channels)}" if self._spec.groups > 1 else ":"
        entries.insert(self._place.channel_axis, part)
        return f"x[{', '.join(entries)}]"

    def _pixels(self, name: str) -> tuple[int, ...]:
        """The shape of x or of the products without the channels."""
        shape = self.shapes[name]
        return shape[: self._place.channel_axis] + shape[self._place.channel_axis + 1 :]

    @property
    def _notes(self) -> list[tuple[str, str]]:
        """What is to be known of the pixel before its calculation."""
        if not self._masked:
            return self._parts
        hidden = f"{' and '.join(self._masked)} {'are' if len(self._masked) > 1 else 'is'} masked here"
        return [("masked", f"{hidden}, so the result is; these are the numbers under the mask"), *self._parts]

    @property
    def _parts(self) -> list[tuple[str, str]]:
        """Which part of x it is."""
        notes = []
        if max(self._place.stride, default=1) > 1:
            notes.append(("stride", f"pixel {self._place.pixel} of the result comes from pixel {self.source} of x"))
        if self._spec.groups > 1:
            first = self._place.first_channel
            last = first + len(self.channels) - 1
            notes.append(("group", f"{self._w} sees the channels of its group only, {first} to {last}"))
        return notes


def steps_of(
    products: str,
    total: complex,
    bias: complex | None,
    residual: complex | None,
    spec: Spec,
    dtype: np.dtype[Any],
) -> list[tuple[str, str, complex]]:
    """The sum, then bias, residual, activation and rounding where the call has them: name, arithmetic, result."""
    value = total
    steps = [("sum", products, value)]
    for name, operand in (("+ bias", bias), ("+ residual", residual)):
        if operand is not None:
            steps.append((name, f"{spell(value)} + {factor(operand)}", value + operand))
            value += operand
    if spec.activation[0]:
        arithmetic = activated(spec.activation, spell(value))
        value = activate(np.asarray(value), spec.activation).item()
        steps.append((spec.activation[0], arithmetic, value))
    if spec.dtype is not None or dtype.itemsize < 4 or (is_integer(dtype) and value != np.rint(value)):
        number = cast(np.asarray(value), dtype)
        rounded = int(number) if is_integer(dtype) else (complex if is_complex(dtype) else float)(number)
        name = "saturated" if is_integer(dtype) and abs(rounded - value) > 0.5 else "rounded"
        steps.append((name, f"{dtype}({spell(value)})", rounded))
    return steps


def activated(activation: tuple[str, float, float], argument: str) -> str:
    """An activation of what is written so, in the spelling of a call."""
    name, *parameters = activation
    used = parameters[: {"clip": 2, "leaky_relu": 1}.get(name, 0)]
    return f"{name}({', '.join([argument, *map(spell, used)])})" if name else argument


def sum_of(weights: Array, channels: Array) -> str:
    """The products, written out as far as there is room."""
    text = ""
    for most, first, last in ((6, 2, 1), (2, 1, 1), (1, 1, 0)):
        shown = both_ends(len(weights), most, first, last)
        terms = (f"{factor(weights[c], c == 0)}·{factor(channels[c])}" if c is not None else "…" for c in shown)
        text = " + ".join(terms) or "0"
        if len(text) < COLUMNS - 28:
            break
    return text


def of_one_product(weights: Array, channels: Array) -> int:
    """What one product and its place in the sum take, of real numbers."""
    return 2 * math.prod(2 if is_complex(a.dtype) else 1 for a in (weights, channels))


def both_ends(count: int, most: int, first: int, last: int) -> list[int | None]:
    """All of 0 … count − 1, or where that is more than `most` both ends with a None between."""
    if count <= most:
        return [*range(count)]
    return [*range(first), None, *range(count - last, count)]


def spell(value: complex) -> str:
    """Five digits; whole numbers in full, and all that are exact; complex ones as NumPy has them, such as 1+2j."""
    if isinstance(value, (complex, np.complexfloating)):
        imaginary = spell(value.imag)
        return f"{spell(value.real)}{'' if imaginary.startswith('−') else '+'}{imaginary}j"
    if isinstance(value, (int, np.integer)):
        return f"{value}".replace("-", "−")
    if abs(value) < 1e7 and value == round(value):
        return f"{value + 0.0:.0f}".replace("-", "−")
    mantissa, _, exponent = f"{value:.5g}".partition("e")
    return (f"{mantissa}e{int(exponent)}" if exponent else mantissa).replace("-", "−")


def factor(value: complex, first: bool = False) -> str:
    """A number inside a sum or product: a negative one in brackets, unless it comes first; a complex one always."""
    text = spell(value)
    return f"({text})" if text.endswith("j") or (text.startswith("−") and not first) else text


def counted(n: int, noun: str) -> str:
    """A noun behind its number."""
    return f"{n} {noun}" if n == 1 else f"{n} {noun}s"


def pixel_within(at: Any, shape: tuple[int, ...]) -> tuple[int, ...]:
    """`at` with an index for every pixel axis, counted from the front."""
    given = () if at is None else tuple(at) if isinstance(at, (tuple, list)) else (at,)
    if len(given) > len(shape):
        raise IndexError(f"at={at!r} has {len(given)} indices; the result has {len(shape)} pixel axes, shape {shape}")
    given = (0,) * (len(shape) - len(given)) + given
    return tuple(
        index_within(i, n, f"at={at!r}", f"pixel axis {axis}")
        for axis, (i, n) in enumerate(zip(given, shape, strict=True))
    )


def index_within(value: Any, size: int, name: str, where: str) -> int:
    if isinstance(value, (bool, np.bool_)) or not isinstance(value, (int, np.integer)):
        raise TypeError(f"{name} must hold ints, got {value!r}")
    if not -size <= value < size:
        raise IndexError(f"{name} is outside the result: expected {-size} ≤ index < {size} on {where}, got {value}")
    return int(value) % size
