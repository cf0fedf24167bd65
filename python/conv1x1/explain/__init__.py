"""One number of a result, with the whole calculation behind it: as text, as a picture, in a notebook."""

from __future__ import annotations

import html
import math
from collections.abc import Iterable
from dataclasses import dataclass
from typing import Any

import numpy as np

from ..arithmetic import default_arithmetic
from ..checks import Activation, Spec, floats, geometry
from ..checks.arrays import Array, ArrayLike, DTypeLike, data_array, is_complex, is_integer
from ..layers import Conv1x1
from ..reference.floats import activate, by_parts, cast, exact

_COLUMNS = 100  # of text


@default_arithmetic
def explain(
    x: ArrayLike,
    w: ArrayLike,
    bias: ArrayLike | None = None,
    *,
    channel_axis: int = -1,
    stride: int | tuple[int, ...] = 1,
    groups: int = 1,
    activation: Activation = None,
    residual: ArrayLike | None = None,
    dtype: DTypeLike | None = None,
    at: int | tuple[int, ...] | None = None,
    filter: int = 0,
) -> Explanation:
    """Show the real calculation behind one number of the result.

    Multiplying 28×28×192 by 1×1×192 gives 28×28×192 again; what shrinks it is the sum over the channels.
    `explain` shows that with the numbers of the call: print what it returns, show it in a notebook, or save
    its picture with `to_svg`.

    Parameters
    ----------
    x, w, bias, channel_axis, stride, groups, activation, residual, dtype
        As in `conv1x1`; of masked arrays, their data, and the text says where the mask hides the result. Only the
        pixel that is explained is read.
    at : int or tuple of int, optional
        The pixel of the result, one index for each of its axes besides the channels. Missing indices in front
        are 0, so that `(i, j)` is in the first image of a batch; negative ones count from the end.
    filter : int
        The output channel.

    Returns
    -------
    Explanation
        Text with `str`, a drawing with `to_svg`, and the numbers as attributes.

    Raises
    ------
    TypeError, ValueError
        As `conv1x1` does; also ValueError if the result is empty.
    IndexError
        If `at` or `filter` is outside the result.

    Examples
    --------
    Two channels of 2×2 pixels, and the filter [2, 3]:

    >>> from conv1x1 import explain
    >>> e = explain([[[1., 2.], [3., 4.]], [[5., 6.], [7., 8.]]], [2, 3], channel_axis=0)
    >>> calculation, shapes, real_call = str(e).split("\\n\\n")
    >>> print(calculation)
    y[0, 0] = Σ x[:, 0, 0] · w = 17
      channel     0   1
      x           1   5
      w           2   3
      w·x         2  15
      sum         2·1 + 3·5 = 17
    >>> print(shapes)
    What shrinks?
      x (2, 2, 2) · w (2,) → products (2, 2, 2) → sum over the 2 channels → (2, 2)
      Not the multiplication: each channel of each pixel has its product, 2·2·2 of them.
      The SUM over the channels: it makes 1 number of the 2 products of a pixel.
    >>> e.value, float(e.result)
    (17.0, 17.0)
    """
    a = data_array(x, "x")
    given = {"x": a, "residual": residual}
    in_channels = a.shape[geometry.axis(a, channel_axis)]
    spec = floats.spec(w, bias, channel_axis, stride, groups, activation, dtype, a)
    a, residual, _, _, _ = floats.call(spec, a, residual, None, None, numbers=False)
    position = geometry.axis(a, channel_axis)
    strides = geometry.strides_per_axis(a, position, spec.stride)
    out_channels, per_group = spec.weight.shape
    products_shape = geometry.result_shape(a, position, strides, per_group, keep_axis=True)
    shape = geometry.result_shape(a, position, strides, out_channels, spec.keep_axis)
    if 0 in shape:
        raise ValueError(f"the result has shape {shape}: it holds no number to explain")
    pixel_shape = products_shape[:position] + products_shape[position + 1 :]
    pixel_stride = strides[:position] + strides[position + 1 :]
    pixel = _pixel(at, pixel_shape)
    source = tuple(i * step for i, step in zip(pixel, pixel_stride, strict=True))
    filter = _index(filter, out_channels, f"filter={filter!r}", "the channel axis")
    index = pixel[:position] + (filter,) * spec.keep_axis + pixel[position:]

    matrix = spec.weight if spec.keep_axis else spec.weight[0]
    layer = Conv1x1(
        matrix, bias, channel_axis=channel_axis, stride=stride, groups=groups, activation=activation, dtype=dtype
    )
    of_x, of_result = _one_pixel(source, position), _one_pixel(pixel, position if spec.keep_axis else None)
    shown, added = a[of_x], None if residual is None else residual[of_result]
    result = np.ravel(layer(shown, residual=added))
    result_dtype = result.dtype
    plan = layer._plan(a, residual, None, None)

    first = filter // (out_channels // groups) * per_group
    integers = floats.sums_integers(spec, shown, added)
    channels = exact(np.ravel(shown)[first : first + per_group], integers)
    weights = exact(spec.weight[filter], integers)
    with np.errstate(all="ignore"):
        products = by_parts(np.multiply, weights, channels)
        total = products.sum().item()
        one_bias = None if spec.bias is None else exact(spec.bias[filter], integers).item()
        one_residual = None if residual is None else exact(residual[index], integers).item()
        steps = _steps(_sum(weights, channels), total, one_bias, one_residual, spec, result_dtype)

    pixels = math.prod(pixel_shape)
    parameters = spec.weight.size + (0 if spec.bias is None else spec.bias.size)
    parts = 2 if is_complex(weights.dtype) else 1
    read = pixels * in_channels * a.itemsize + parameters * parts * np.dtype(plan["arithmetic"]).itemsize
    return Explanation(
        shapes={
            "x": a.shape,
            "w": matrix.shape,
            "filter": (1, per_group) if spec.keep_axis else (per_group,),
            "products": products_shape,
            "sum": geometry.result_shape(a, position, strides, 1, spec.keep_axis),
            "result": shape,
        },
        index=index,
        source=source,
        channels=channels,
        weights=weights,
        products=products,
        steps=steps,
        value=steps[-1][2],
        result=result[filter],
        flops=_operations(weights, channels) * per_group * out_channels * pixels,
        bytes_read=read + (0 if residual is None else residual.nbytes),
        bytes_written=pixels * out_channels * result_dtype.itemsize,
        plan=plan,
        _spec=spec,
        _channel_axis=position,
        _stride=pixel_stride,
        _pixel=pixel,
        _filter=filter,
        _first_channel=first,
        _bias=one_bias,
        _residual=one_residual,
        _dtypes=(str(a.dtype), str(result_dtype)),
        _integers=integers,
        _masked=[
            name
            for (name, array), place in zip(given.items(), (of_x, index), strict=True)
            if isinstance(array, np.ma.MaskedArray) and np.ma.getmaskarray(array[place]).any()
        ],
    )


@dataclass(frozen=True, eq=False, repr=False)
class Explanation:
    """One number of a result and how it came about; `explain` makes it.

    Attributes
    ----------
    shapes : dict of str to tuple
        Of `x`, `w`, the `filter`, the `products` of all pixels with it, their `sum`, and the `result`.
    index, source : tuple of int
        Where the number stands in the result, and the pixel of x it comes from, without the channel axis.
    channels, weights, products : ndarray
        The channels the filter looks at, its weights, and one times the other: in float64 or complex128, or where the
        call sums integers, in int64, exactly.
    steps : list of tuple
        The calculation line by line, from the sum to the value: name, arithmetic, result.
    value : float, complex or int
        What the steps come to, in float64 or complex128, or in int where the call sums integers; rounded to the
        result's type where that was asked for or is smaller.
    result : numpy.generic
        The number that a call really returns, of the result's type: of `value` it may be off by what the sums round.
        Where a call would mask it, the number under the mask.
    flops, bytes_read, bytes_written : int
        What the whole call computes, in floating-point or integer operations, and the least it moves.
    plan : dict
        How the core would run the call: `Conv1x1.plan`.
    """

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
    # What text and drawing want besides: the call, with its channel axis counted from the front and a step for each
    # pixel axis; the pixel of the result; the first channel that the filter sees, not 0 in later groups.
    _spec: Spec
    _channel_axis: int
    _stride: tuple[int, ...]
    _pixel: tuple[int, ...]
    _filter: int
    _first_channel: int
    _bias: complex | None
    _residual: complex | None
    _dtypes: tuple[str, str]
    _integers: bool
    _masked: list[str]  # which of x and the residual hide the number under their mask

    @property
    @default_arithmetic
    def intensity(self) -> float:
        """Operations for each byte moved: where it is low, memory is the limit and not arithmetic."""
        return self.flops / (self.bytes_read + self.bytes_written)

    @default_arithmetic
    def __str__(self) -> str:
        return "\n\n".join(
            "\n".join([title, *(f"  {label:<12}{text}".rstrip() if label else f"  {text}" for label, text in lines)])
            for title, lines in self._sections().items()
        )

    __repr__ = __str__

    @default_arithmetic
    def _repr_html_(self) -> str:
        style = 'style="text-align:left;padding:2px 16px 2px 0;font-family:monospace;white-space:pre-wrap"'
        rows = []
        for title, lines in self._sections().items():
            rows.append(f'<th colspan="2" style="text-align:left;padding-top:12px">{html.escape(title)}</th>')
            for label, text in lines:
                label_cell, span = (f"<td {style}>{html.escape(label)}</td>", 1) if label else ("", 2)
                rows.append(f'{label_cell}<td {style} colspan="{span}">{html.escape(text)}</td>')
        table = "".join(f"<tr>{row}</tr>" for row in rows)
        return f'<div style="max-width:960px">{self.to_svg()}<table>{table}</table></div>'

    # Names and sentences that the text and the drawing share.

    @property
    def _formula(self) -> str:
        y = f"y[{', '.join(map(str, self.index))}]" if self.index else "y"
        added = " + bias" * (self._bias is not None) + " + residual" * (self._residual is not None)
        argument = f"Σ {self._slice_x(map(str, self.source))} · {self._w}{added}"
        return f"{y} = {_activated(self._spec.activation, argument)} = {spell(self.value)}"

    @property
    def _w(self) -> str:
        return "w" if self._filters == 1 else f"filter {self._filter}"

    @property
    def _filters(self) -> int:
        return self.shapes["w"][0] if len(self.shapes["w"]) == 2 else 1

    def _slice_x(self, pixel: Iterable[str]) -> str:
        """The channels of a pixel in NumPy's spelling, such as x[28, 28, 96:192]."""
        last = self._first_channel + len(self.channels)
        entries = [*pixel]
        entries.insert(self._channel_axis, f"{self._first_channel}:{last}" if self._spec.groups > 1 else ":")
        return f"x[{', '.join(entries)}]"

    def _pixels(self, name: str) -> tuple[int, ...]:
        """The shape of x or of the products without the channels."""
        shape = self.shapes[name]
        return shape[: self._channel_axis] + shape[self._channel_axis + 1 :]

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
        if max(self._stride, default=1) > 1:
            notes.append(("stride", f"pixel {self._pixel} of the result comes from pixel {self.source} of x"))
        if self._spec.groups > 1:
            last = self._first_channel + len(self.channels) - 1
            notes.append(("group", f"{self._w} sees the channels of its group only, {self._first_channel} to {last}"))
        return notes

    # Text

    def _sections(self) -> dict[str, list[tuple[str, str]]]:
        """Title → lines, each a label (or none) and what it says."""
        return {self._formula: self._calculation(), "What shrinks?": self._ledger(), "A real call": self._real_call()}

    def _calculation(self) -> list[tuple[str, str]]:
        table: list[str] = []
        for most, first, last in ((8, 3, 2), (4, 2, 1), (2, 1, 1)):
            table = self._table(both_ends(len(self.channels), most, first, last))
            if len(table[0]) < _COLUMNS - 14:
                break
        steps = ((name, f"{arithmetic} = {spell(value)}") for name, arithmetic, value in self.steps)
        return [*self._notes, *zip(("channel", "x", "w", "w·x"), table, strict=True), *steps]

    def _table(self, shown: list[int | None]) -> list[str]:
        """These channels, and for each x, w and their product; … for None."""
        lines: list[list[str]] = [[], [], [], []]
        for c in shown:
            column = ["…"] * 4
            if c is not None:
                numbers = self.channels[c], self.weights[c], self.products[c]
                column = [str(self._first_channel + c), *map(spell, numbers)]
            for line, text in zip(lines, column, strict=True):
                line.append(text.rjust(max(map(len, column))))
        return ["  ".join(line) for line in lines]

    def _ledger(self) -> list[tuple[str, str]]:
        shapes, count = self.shapes, len(self.channels)
        x, products = f"x {shapes['x']}", "·".join(map(str, shapes["products"]))
        lines = []
        if self._parts:
            part = self._slice_x(f"::{step}" if step > 1 else ":" for step in self._stride)
            axes = self.plan["strided_axes"]
            strided = f", {'axes' if len(axes) > 1 else 'axis'} {', '.join(map(str, axes))} strided" if axes else ""
            lines.append(f"{x} → {part}{strided}, all that {self._w} sees")
            x = f"x[…] {shapes['products']}"
        lines.append(f"{x} · {self._w} {shapes['filter']} → products {shapes['products']}")
        total = f" → sum over the {counted(count, 'channel')} → {shapes['sum']}"
        if len(lines[-1] + total) <= _COLUMNS - 2:
            lines[-1] += total
        else:
            lines.append(f"   {total}")
        if self._filters > 1:
            lines.append(f"{self._filters} filters make {self._filters} such sums, stacked → {shapes['result']}")
        lines.append(f"Not the multiplication: each channel of each pixel has its product, {products} of them.")
        lines.append(f"The SUM over the channels: it makes 1 number of the {counted(count, 'product')} of a pixel.")
        return [("", line) for line in lines]

    def _real_call(self) -> list[tuple[str, str]]:
        plan = self.plan
        pixels = counted(math.prod(self._pixels("products")), "pixel")
        counts = [counted(len(self.channels), "channel"), counted(self._filters, "filter"), pixels]
        special = {"few_filters": "16 channels", "few_channels": "all channels"}
        at_once = special.get(plan["orientation"], f"{plan['rows']} rows × {plan['lanes']} lanes")
        tile = f"{at_once} at once, {counted(plan['tile_pixels'], 'pixel')} a tile"
        moved = f"{_bytes(self.bytes_read)} read, {_bytes(self.bytes_written)} written"
        operations = "operations" if self._integers else "FLOPs"
        each = _operations(self.weights, self.channels)
        x_type, result_type = self._dtypes
        types = f"{x_type} → {result_type}" + ", sums of integers" * self._integers
        axes = plan["memory_order"]
        lies = f"lies in memory as x does, its axes in the order {', '.join(map(str, axes))}, the outermost first"
        return [
            *([("types", types)] if self._integers or x_type != result_type else []),
            ("kernel", f"{plan['kernel']}, {plan['orientation'].replace('_', ' ')}, {plan['order']} order"),
            ("tile", f"{tile}, x {'staged' if plan['stages_x'] else 'read in place'}"),
            ("threads", str(plan["threads"])),
            ("work", f"{each} · {' · '.join(counts)} = {self.flops:,} {operations}"),
            ("memory", f"{moved}: {self.intensity:.3g} {operations} a byte"),
            *([("result", lies)] if list(axes) != sorted(axes) else []),
        ]

    # Drawing

    @default_arithmetic
    def to_svg(self) -> str:
        """The calculation as a drawing: one self-contained SVG element, 960 × 600, without scripts or fonts.

        Returns
        -------
        str
            Ready for a file, a slide or a web page.
        """
        from .drawing import draw  # here, since it is seldom wanted, and itself needs this module

        return draw(self)


def both_ends(count: int, most: int, first: int, last: int) -> list[int | None]:
    """All of 0 … count − 1, or where that is more than `most` both ends with a None between."""
    if count <= most:
        return [*range(count)]
    return [*range(first), None, *range(count - last, count)]


def _steps(
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
            steps.append((name, f"{spell(value)} + {_factor(operand)}", value + operand))
            value += operand
    if spec.activation[0]:
        activated = activate(np.asarray(value), spec.activation).item()
        steps.append((spec.activation[0], _activated(spec.activation, spell(value)), activated))
        value = activated
    if spec.dtype is not None or dtype.itemsize < 4 or (is_integer(dtype) and value != np.rint(value)):
        number = cast(np.asarray(value), dtype)
        rounded = int(number) if is_integer(dtype) else (complex if is_complex(dtype) else float)(number)
        name = "saturated" if is_integer(dtype) and abs(rounded - value) > 0.5 else "rounded"
        steps.append((name, f"{dtype}({spell(value)})", rounded))
    return steps


def _activated(activation: tuple[str, float, float], argument: str) -> str:
    name, *parameters = activation
    used = parameters[: {"clip": 2, "leaky_relu": 1}.get(name, 0)]
    return f"{name}({', '.join([argument, *map(spell, used)])})" if name else argument


def _sum(weights: Array, channels: Array) -> str:
    """The products, written out as far as there is room."""
    text = ""
    for most, first, last in ((6, 2, 1), (2, 1, 1), (1, 1, 0)):
        shown = both_ends(len(weights), most, first, last)
        terms = (f"{_factor(weights[c], c == 0)}·{_factor(channels[c])}" if c is not None else "…" for c in shown)
        text = " + ".join(terms) or "0"
        if len(text) < _COLUMNS - 28:
            break
    return text


def _operations(weights: Array, channels: Array) -> int:
    """What one product and its place in the sum take, of real numbers."""
    return 2 * math.prod(2 if is_complex(a.dtype) else 1 for a in (weights, channels))


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


def _factor(value: complex, first: bool = False) -> str:
    """A number inside a sum or product: a negative one in brackets, unless it comes first; a complex one always."""
    text = spell(value)
    return f"({text})" if text.endswith("j") or (text.startswith("−") and not first) else text


def counted(n: int, noun: str) -> str:
    return f"{n} {noun}" if n == 1 else f"{n} {noun}s"


def _bytes(n: float) -> str:
    for unit in ("B", "kB", "MB"):
        if n < 1000:
            return f"{n:.4g} {unit}"
        n /= 1000
    return f"{n:.4g} GB"


def _pixel(at: Any, shape: tuple[int, ...]) -> tuple[int, ...]:
    """`at` with an index for every pixel axis, counted from the front."""
    given = () if at is None else tuple(at) if isinstance(at, (tuple, list)) else (at,)
    if len(given) > len(shape):
        raise IndexError(f"at={at!r} has {len(given)} indices; the result has {len(shape)} pixel axes, shape {shape}")
    given = (0,) * (len(shape) - len(given)) + given
    return tuple(
        _index(i, n, f"at={at!r}", f"pixel axis {axis}") for axis, (i, n) in enumerate(zip(given, shape, strict=True))
    )


def _one_pixel(pixel: tuple[int, ...], channel_axis: int | None) -> tuple[Any, ...]:
    """What cuts one pixel out of an array, with all its channels, as an array even where there are no axes."""
    entries = [slice(i, i + 1) for i in pixel]
    if channel_axis is not None:
        entries.insert(channel_axis, slice(None))
    return (*entries, ...)


def _index(value: Any, size: int, name: str, where: str) -> int:
    if isinstance(value, (bool, np.bool_)) or not isinstance(value, (int, np.integer)):
        raise TypeError(f"{name} must hold ints, got {value!r}")
    if not -size <= value < size:
        raise IndexError(f"{name} is outside the result: expected {-size} ≤ index < {size} on {where}, got {value}")
    return int(value) % size
