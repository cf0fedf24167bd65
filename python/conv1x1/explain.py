"""One number of a result, with the whole calculation behind it: as text, as a picture, in a notebook."""

from __future__ import annotations

import html
import itertools
import math
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import ArrayLike, DTypeLike

from . import _check
from ._check import Activation, Array
from .conv import Conv1x1
from .reference import activate

_COLUMNS = 100  # of text
_WIDTH, _HEIGHT, _MIDDLE = 960, 600, 322  # of the drawing; the line its parts are centred on
_FONT = "system-ui, -apple-system, 'Segoe UI', 'Helvetica Neue', Arial, 'DejaVu Sans', sans-serif"
_PAPER, _INK, _MUTED, _LINE = "#fcfcfa", "#22303c", "#66737f", "#d5dade"
_BLUE, _ORANGE, _TEAL, _PLUM = "#4a7ba6", "#d9772b", "#2c8c80", "#7d5a9e"  # x, its pixel, the filter, the result


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
        As in `conv1x1`.
    at : int or tuple of int, optional
        The pixel of the result, one index for each of its axes besides the channels. Missing indices in front
        are 0, so that `(i, j)` is in the first image of a batch; negative ones count from the end.
    filter : int
        The output channel.

    Returns
    -------
    Explanation
        Text with `str`, a drawing with `to_svg`, and every number as an attribute.

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
    >>> e.value
    17.0
    """
    a = _check.data_array(x, "x")
    in_channels = a.shape[_check.axis(a, channel_axis)]
    spec = _check.spec(w, bias, channel_axis, stride, groups, activation, dtype, in_channels)
    a, residual, _, _ = _check.call(spec, a, residual, None, None)
    position = _check.axis(a, channel_axis)
    strides = _check.strides_per_axis(a, position, spec.stride)
    out_channels, per_group = spec.weight.shape
    products_shape = _check.result_shape(a, position, strides, per_group, keep_axis=True)
    shape = _check.result_shape(a, position, strides, out_channels, spec.keep_axis)
    if 0 in shape:
        raise ValueError(f"the result has shape {shape}: it holds no number to explain")
    pixel_shape = products_shape[:position] + products_shape[position + 1 :]
    pixel_stride = strides[:position] + strides[position + 1 :]
    pixel = _pixel(at, pixel_shape)
    source = tuple(i * step for i, step in zip(pixel, pixel_stride, strict=True))
    filter = _index(filter, out_channels, f"filter={filter!r}", "the channel axis")
    index = pixel[:position] + (filter,) * spec.keep_axis + pixel[position:]

    first = filter // (out_channels // groups) * per_group
    channels = np.moveaxis(a, position, -1)[source][first : first + per_group].astype(np.float64)
    weights = spec.weight[filter].astype(np.float64)
    with np.errstate(all="ignore"):
        products = weights * channels
        total = float(products.sum())
        one_bias = None if spec.bias is None else float(spec.bias[filter])
        one_residual = None if residual is None else float(residual[index])
        steps = _steps(_sum(weights, channels), total, one_bias, one_residual, spec)

    pixels = math.prod(pixel_shape)
    result_dtype = spec.dtype or a.dtype
    parameters = spec.weight.size + (0 if spec.bias is None else spec.bias.size)
    read = pixels * in_channels * a.itemsize + parameters * np.result_type(a.dtype, result_dtype).itemsize
    matrix = spec.weight if spec.keep_axis else spec.weight[0]
    layer = Conv1x1(
        matrix, bias, channel_axis=channel_axis, stride=stride, groups=groups, activation=activation, dtype=dtype
    )
    return Explanation(
        shapes={
            "x": a.shape,
            "w": matrix.shape,
            "filter": (1, per_group) if spec.keep_axis else (per_group,),
            "products": products_shape,
            "sum": _check.result_shape(a, position, strides, 1, spec.keep_axis),
            "result": shape,
        },
        channel_axis=position,
        stride=pixel_stride,
        groups=groups,
        index=index,
        pixel=pixel,
        source=source,
        filter=filter,
        first_channel=first,
        channels=channels,
        weights=weights,
        products=products,
        total=total,
        bias=one_bias,
        residual=one_residual,
        activation=spec.activation,
        steps=steps,
        value=steps[-1][2],
        flops=2 * per_group * out_channels * pixels,
        bytes_read=read + (0 if residual is None else residual.nbytes),
        bytes_written=pixels * out_channels * result_dtype.itemsize,
        plan=layer.plan(a),
    )


@dataclass(frozen=True, eq=False, repr=False)
class Explanation:
    """One number of a result and how it came about; `explain` makes it.

    Attributes
    ----------
    shapes : dict of str to tuple
        Of `x`, `w`, the `filter`, the `products` of all pixels with it, their `sum`, and the `result`.
    channel_axis, stride, groups : int, tuple of int, int
        The call: the channel axis counted from the front, and one step for each pixel axis.
    index : tuple of int
        Where the number stands in the result.
    pixel, source : tuple of int
        The pixel of the result, and the pixel of x it comes from.
    filter, first_channel : int
        The output channel, and the first input channel it looks at (not 0 in the later groups).
    channels, weights, products : ndarray
        The channels the filter looks at, its weights, and one times the other, in float64.
    total, bias, residual : float, float or None, float or None
        The sum of the products, and what is added to it.
    activation : tuple
        Its name ("" for none) and two parameters.
    steps : list of tuple
        The calculation line by line, from the sum to the value: name, arithmetic, result.
    value : float
        The number itself, in float64 or rounded to the `dtype` asked for.
    flops, bytes_read, bytes_written : int
        What the whole call computes, and the least it moves.
    plan : dict
        How the core would run the call: `Conv1x1.plan`.
    """

    shapes: dict[str, tuple[int, ...]]
    channel_axis: int
    stride: tuple[int, ...]
    groups: int
    index: tuple[int, ...]
    pixel: tuple[int, ...]
    source: tuple[int, ...]
    filter: int
    first_channel: int
    channels: Array
    weights: Array
    products: Array
    total: float
    bias: float | None
    residual: float | None
    activation: tuple[str, float, float]
    steps: list[tuple[str, str, float]]
    value: float
    flops: int
    bytes_read: int
    bytes_written: int
    plan: dict[str, Any]

    @property
    def intensity(self) -> float:
        """FLOPs for each byte moved: where it is low, memory is the limit and not arithmetic."""
        return self.flops / (self.bytes_read + self.bytes_written)

    def __str__(self) -> str:
        return "\n\n".join(
            "\n".join([title, *(f"  {label:<12}{text}".rstrip() if label else f"  {text}" for label, text in lines)])
            for title, lines in self._sections().items()
        )

    __repr__ = __str__

    def _repr_html_(self) -> str:
        style = 'style="text-align:left;padding:2px 16px 2px 0;font-family:monospace;white-space:pre-wrap"'
        rows = []
        for title, lines in self._sections().items():
            rows.append(f'<th colspan="2" style="text-align:left;padding-top:12px">{html.escape(title)}</th>')
            for label, text in lines:
                label_cell, span = (f"<td {style}>{html.escape(label)}</td>", 1) if label else ("", 2)
                rows.append(f'{label_cell}<td {style} colspan="{span}">{html.escape(text)}</td>')
        table = "".join(f"<tr>{row}</tr>" for row in rows)
        return f'<div style="max-width:{_WIDTH}px">{self.to_svg()}<table>{table}</table></div>'

    # Names and sentences that the text and the drawing share.

    @property
    def _formula(self) -> str:
        y = f"y[{', '.join(map(str, self.index))}]" if self.index else "y"
        added = " + bias" * (self.bias is not None) + " + residual" * (self.residual is not None)
        argument = f"Σ {self._slice_x(map(str, self.source))} · {self._w}{added}"
        return f"{y} = {_activated(self.activation, argument)} = {_number(self.value)}"

    @property
    def _w(self) -> str:
        return "w" if self._filters == 1 else f"filter {self.filter}"

    @property
    def _filters(self) -> int:
        return self.shapes["w"][0] if len(self.shapes["w"]) == 2 else 1

    def _slice_x(self, pixel: Iterable[str]) -> str:
        """The channels of a pixel in NumPy's spelling, such as x[28, 28, 96:192]."""
        last = self.first_channel + len(self.channels)
        entries = [*pixel]
        entries.insert(self.channel_axis, f"{self.first_channel}:{last}" if self.groups > 1 else ":")
        return f"x[{', '.join(entries)}]"

    def _pixels(self, name: str) -> tuple[int, ...]:
        """The shape of x or of the products without the channels."""
        shape = self.shapes[name]
        return shape[: self.channel_axis] + shape[self.channel_axis + 1 :]

    @property
    def _notes(self) -> list[tuple[str, str]]:
        notes = []
        if max(self.stride, default=1) > 1:
            notes.append(("stride", f"pixel {self.pixel} of the result comes from pixel {self.source} of x"))
        if self.groups > 1:
            last = self.first_channel + len(self.channels) - 1
            notes.append(("group", f"{self._w} sees the channels of its group only, {self.first_channel} to {last}"))
        return notes

    # Text

    def _sections(self) -> dict[str, list[tuple[str, str]]]:
        """Title → lines, each a label (or none) and what it says."""
        return {self._formula: self._calculation(), "What shrinks?": self._ledger(), "A real call": self._real_call()}

    def _calculation(self) -> list[tuple[str, str]]:
        lines: list[list[str]] = [[], [], [], []]
        for c in _ends(len(self.channels), 8, 3, 2):
            column = ["…"] * 4
            if c is not None:
                numbers = self.channels[c], self.weights[c], self.products[c]
                column = [str(self.first_channel + c), *map(_number, numbers)]
            for line, text in zip(lines, column, strict=True):
                line.append(text.rjust(max(map(len, column))))
        table = zip(("channel", "x", "w", "w·x"), map("  ".join, lines), strict=True)
        steps = ((name, f"{arithmetic} = {_number(value)}") for name, arithmetic, value in self.steps)
        return [*self._notes, *table, *steps]

    def _ledger(self) -> list[tuple[str, str]]:
        shapes, count = self.shapes, len(self.channels)
        x, products = f"x {shapes['x']}", "·".join(map(str, shapes["products"]))
        lines = []
        if self._notes:
            part = self._slice_x(f"::{step}" if step > 1 else ":" for step in self.stride)
            lines.append(f"{x} → {part}, all that {self._w} sees")
            x = f"x[…] {shapes['products']}"
        lines.append(f"{x} · {self._w} {shapes['filter']} → products {shapes['products']}")
        total = f" → sum over the {_count(count, 'channel')} → {shapes['sum']}"
        if len(lines[-1] + total) <= _COLUMNS - 2:
            lines[-1] += total
        else:
            lines.append(f"   {total}")
        if self._filters > 1:
            lines.append(f"{self._filters} filters make {self._filters} such sums, stacked → {shapes['result']}")
        lines.append(f"Not the multiplication: each channel of each pixel has its product, {products} of them.")
        lines.append(f"The SUM over the channels: it makes 1 number of the {_count(count, 'product')} of a pixel.")
        return [("", line) for line in lines]

    def _real_call(self) -> list[tuple[str, str]]:
        plan = self.plan
        pixels = _count(math.prod(self._pixels("products")), "pixel")
        counts = [_count(len(self.channels), "channel"), _count(self._filters, "filter"), pixels]
        tile = f"{plan['rows']} rows × {plan['lanes']} lanes at once, {_count(plan['tile_pixels'], 'pixel')} a tile"
        moved = f"{_bytes(self.bytes_read)} read, {_bytes(self.bytes_written)} written"
        return [
            ("kernel", f"{plan['kernel']}, {plan['orientation'].replace('_', ' ')}, {plan['order']} order"),
            ("tile", f"{tile}, x {'staged' if plan['stages_x'] else 'read in place'}"),
            ("threads", str(plan["threads"])),
            ("work", f"2 · {' · '.join(counts)} = {self.flops:,} FLOPs"),
            ("memory", f"{moved}: {self.intensity:.3g} FLOPs a byte"),
        ]

    # Drawing

    def to_svg(self) -> str:
        """The calculation as a drawing: one self-contained SVG element, 960 × 600, without scripts or fonts.

        Returns
        -------
        str
            Ready for a file, a slide or a web page.
        """
        label = html.escape(self._formula)
        return (
            f'<svg xmlns="http://www.w3.org/2000/svg" viewBox="0 0 {_WIDTH} {_HEIGHT}" width="{_WIDTH}" '
            f'height="{_HEIGHT}" style="max-width:100%" role="img" aria-label="{label}" font-family="{_FONT}">'
            f'<rect width="{_WIDTH}" height="{_HEIGHT}" rx="12" fill="{_PAPER}"/>'
            f"{''.join([*self._draw(), *self._draw_shapes()])}</svg>"
        )

    def _draw(self) -> Iterator[str]:
        """The box with the needle through one pixel, the calculation in columns, the result with one cell."""
        count = len(self.channels)
        yield _text(40, 54, f"From {_count(count, 'channel')} of one pixel to one number", 25, weight=600)
        yield _text(40, 84, self._formula, 16, _MUTED, width=880)
        yield _text(40, 109, ";  ".join(f"{name}: {text}" for name, text in self._notes), 14, _MUTED, width=880)

        rows = _ends(count, 7, 4, 2)
        columns = ("pixel", self.channels, _ORANGE), (self._w, self.weights, _TEAL), ("products", self.products, _MUTED)
        numbers = [["" if c is None else _number(values[c]) for c in rows] for _, values, _ in columns]
        spoken = {"sum": f"Σ over {_count(count, 'channel')}"}
        for name, operand in (("+ bias", self.bias), ("+ residual", self.residual)):
            spoken[name] = f"{name} {_number(operand or 0.0)}"
        steps = [(f"{spoken.get(name, arithmetic)} =", _number(value)) for name, arithmetic, value in self.steps]
        height = min(52.0, 340 / (len(rows) + len(steps)))
        fields = [*itertools.chain(*numbers), *(value for _, value in steps)]
        size = min(20.0, height / 2, *(_fitting(text, 80) for text in fields))
        top = _MIDDLE - height * (len(rows) + len(steps)) / 2
        middles = [top + height * (i + 0.5) for i in range(len(rows) + len(steps))]

        for center, (title, _, color), texts in zip((368, 476, 584), columns, numbers, strict=True):
            yield _text(center, top - 12, title, 15, color, "middle", 96, 600)
            yield from (_cell(center, y, height, text, size, color) for y, text in zip(middles, texts, strict=False))
        for y, c in zip(middles, rows, strict=False):
            if c is None:
                yield "".join(_text(center, y + size / 3, "⋮", size, _MUTED, "middle") for center in (368, 476, 584))
            else:
                yield _text(316, y + 4, str(self.first_channel + c), 11, _MUTED, "end")
                yield _text(422, y + size / 3, "·", size, _MUTED, "middle")
                yield _text(530, y + size / 3, "=", size, _MUTED, "middle")
        yield f'<path d="M540 {top + height * len(rows):.1f}h88" stroke="{_INK}" stroke-width="1.5"/>'
        for y, (text, value) in zip(middles[len(rows) :], steps, strict=True):
            yield _text(536, y + size / 3, text, min(15, size), _INK, "end", 240)
            yield _cell(584, y, height, value, size, _PLUM, solid=y == middles[-1])

        before, after = self._pixels("x"), self._pixels("products")
        depth = max(1, self.shapes["x"][self.channel_axis])
        scale = min(_scale(before, depth), _scale(after, self._filters))
        box = _Box(156, before, depth, scale, self.source, self.first_channel, count)
        yield box.draw(_BLUE, _ORANGE, _count(depth, "channel"), "end")
        head = complex(330, top - 17)
        yield _arrow(box.end, complex(254, box.end.imag), head, head, _ORANGE)
        box = _Box(800, after, self._filters, scale, self.pixel, self.filter, 1)
        yield box.draw(_PLUM, _PLUM, _count(self._filters, "filter"), "start")
        tail = complex(632, middles[-1])
        yield _arrow(tail, tail, complex(702, box.start.imag), box.start, _PLUM)

    def _draw_shapes(self) -> Iterator[str]:
        """The shapes along the way, and what to take home."""
        shapes, channels = self.shapes, _count(len(self.channels), "channel")
        yield f'<path d="M40 508H920" stroke="{_LINE}"/>'
        stations = ((140, "x", _BLUE), (480, "products", _INK), (820, "result", _PLUM))
        size = min(17, *(_fitting(f"{name} {shapes[name]}", 210) for _, name, _ in stations))
        for center, name, color in stations:
            yield _text(center, 537 + size / 3, f"{name} {shapes[name]}", size, color, "middle", weight=600)
        stacked = f"for {_count(self._filters, 'filter')}"
        for center, above, below in ((310, f"· {self._w}", str(shapes["filter"])), (650, f"Σ {channels}", stacked)):
            yield _text(center, 529, above, 13, _MUTED, "middle", 116)
            yield _text(center, 555, below, 13, _MUTED, "middle", 116)
            start, end = complex(center - 50, 537), complex(center + 50, 537)
            yield _arrow(start, start, end, end, _MUTED)
        home = f"Multiplying keeps every channel; the sum over the {channels} is what shrinks."
        yield _text(_WIDTH / 2, 585, home, 15, _INK, "middle", 880)


class _Box:
    """Pixels seen from the front, with their channels running to the back, and some channels of one of them."""

    def __init__(
        self,
        center: float,
        pixels: tuple[int, ...],
        depth: int,
        scale: float,
        at: tuple[int, ...],
        first: int,
        count: int,
    ) -> None:
        (rows, columns), (i, j) = (1, 1, *pixels)[-2:], (0, 0, *at)[-2:]
        width, height = max(18, columns * scale), max(18, rows * scale)
        self.size, self.back = complex(width, height), _back(depth)
        self.corner = complex(center, _MIDDLE) - complex(width + self.back.real, height + self.back.imag) / 2
        self.left, self.right = self.corner.real, self.corner.real + width + self.back.real
        self.grid = columns if columns * 4 < width else 1, rows if rows * 4 < height else 1, min(depth, 16)
        self.labels = [str(n) for n in pixels[-2:]]
        self.pixel = complex(max(7, width / columns), max(7, height / rows))
        offset = complex(
            min(j * width / columns, width - self.pixel.real), min(i * height / rows, height - self.pixel.imag)
        )
        self.part, self.part_back = self.corner + offset + self.back * first / depth, self.back * count / depth
        self.start = self.part + 0.5j * self.pixel.imag
        self.end = self.start + self.pixel.real + self.part_back

    def draw(self, color: str, accent: str, depth: str, side: str) -> str:
        """The box, the part and the box's lengths; its height stands outside, where text of anchor `side` ends."""
        *height, width = ["", *self.labels]
        outside = self.left - 10 if side == "end" else self.right + 10
        middle = self.corner.imag + self.size.imag / 2 + (0 if side == "end" else self.back.imag)
        top, below = self.corner + self.back + self.size.real / 2, self.corner + self.size - self.size.real / 2
        return (
            _block(self.corner, self.size, self.back, color, (0.22, 0.14, 0.32), self.grid)
            + _block(self.part, self.pixel, self.part_back, accent, (1, 0.55, 0.75))
            + _text(below.real, below.imag + 20, width, 13, _MUTED, "middle")
            + _text(outside, middle + 5, "".join(height), 13, _MUTED, side)
            + _text(top.real, top.imag - 10, f"{depth} deep", 13, _MUTED, "middle")
        )


def _scale(pixels: tuple[int, ...], depth: int) -> float:
    """The side of a pixel for which its box fits the drawing."""
    rows, columns = (1, 1, *pixels)[-2:]
    return min(76, (196 - _back(depth).real) / columns, 215 / rows)


def _back(depth: int) -> complex:
    """From the front of a box to its back; grows slowly, so that 2 and 2000 channels both have a shape."""
    return (0.8 - 0.5j) * min(90, 17 * math.log2(1 + depth) - 9)


def _block(
    corner: complex,
    size: complex,
    back: complex,
    color: str,
    shades: tuple[float, ...],
    grid: tuple[int, ...] = (1, 1, 1),
) -> str:
    """The front, the top and the right face of a block, each a parallelogram with grid lines."""
    across, down = complex(size.real), 1j * size.imag
    columns, rows, sheets = grid
    front, top = (corner, across, down, columns, rows), (corner, across, back, columns, sheets)
    right = (corner + across, back, down, sheets, rows)
    text = ""
    for (origin, u, v, nu, nv), shade in zip((front, top, right), shades, strict=True):
        lines = [f"M{_xy(origin + u * i / nu)}l{_xy(v)}" for i in range(1, nu)]
        lines += [f"M{_xy(origin + v * i / nv)}l{_xy(u)}" for i in range(1, nv)]
        text += (
            f'<path d="M{_xy(origin)}l{_xy(u)}l{_xy(v)}l{_xy(-u)}z" fill="{color}" fill-opacity="{shade}" '
            f'stroke="{color}" stroke-linejoin="round"/>'
        )
        if lines:
            text += f'<path d="{"".join(lines)}" stroke="{color}" stroke-opacity="0.4" stroke-width="0.7"/>'
    return text


def _arrow(a: complex, b: complex, c: complex, d: complex, color: str) -> str:
    """Straight from a to b, a curve to c, level at both ends, and straight to the head at d."""
    lead = c.real - b.real
    return (
        f'<path d="M{_xy(a)}L{_xy(b)}C{_xy(b + 0.35 * lead)} {_xy(c - 1.3 * lead)} {_xy(c)}L{_xy(d - 7)}" fill="none" '
        f'stroke="{color}" stroke-width="1.5"/><path d="M{_xy(d)}l-9 -4.5v9z" fill="{color}"/>'
    )


def _cell(center: float, middle: float, height: float, text: str, size: float, color: str, solid: bool = False) -> str:
    """A number in its coloured field; nothing without a number."""
    if not text:
        return ""
    return (
        f'<rect x="{center - 43}" y="{middle - height / 2 + 2:.1f}" width="86" height="{height - 4:.1f}" rx="4" '
        f'fill="{color}" fill-opacity="{1 if solid else 0.13}"/>'
    ) + _text(center, middle + size / 3, text, size, _PAPER if solid else _INK, "middle")


def _text(
    x: float,
    y: float,
    text: str,
    size: float,
    color: str = _INK,
    anchor: str = "start",
    width: float = _WIDTH,
    weight: int = 400,
) -> str:
    """A line of text, smaller where it would be wider than `width`; nothing without text."""
    if not text:
        return ""
    return (
        f'<text x="{x:.1f}" y="{y:.1f}" font-size="{min(size, _fitting(text, width)):.1f}" fill="{color}" '
        f'text-anchor="{anchor}" font-weight="{weight}">{html.escape(text)}</text>'
    )


def _fitting(text: str, width: float) -> float:
    """The font size at which `text` fits into `width` even in a wide sans-serif, whose minus is wider still."""
    return width / (0.64 * max(1, len(text)) + 0.2 * text.count("−"))


def _xy(point: complex) -> str:
    return f"{point.real:.1f} {point.imag:.1f}"


def _ends(count: int, most: int, first: int, last: int) -> list[int | None]:
    """All of 0 … count − 1, or where that is more than `most` both ends with a None between."""
    if count <= most:
        return [*range(count)]
    return [*range(first), None, *range(count - last, count)]


def _steps(
    products: str, total: float, bias: float | None, residual: float | None, spec: _check.Spec
) -> list[tuple[str, str, float]]:
    """The sum, then bias, residual, activation and rounding where the call has them: name, arithmetic, result."""
    value = total
    steps = [("sum", products, value)]
    for name, operand in (("+ bias", bias), ("+ residual", residual)):
        if operand is not None:
            steps.append((name, f"{_number(value)} + {_factor(operand)}", value + operand))
            value += operand
    if spec.activation[0]:
        activated = float(activate(np.asarray(value), spec.activation))
        steps.append((spec.activation[0], _activated(spec.activation, _number(value)), activated))
        value = activated
    if spec.dtype is not None:
        steps.append(("rounded", f"{spec.dtype}({_number(value)})", float(np.asarray(value).astype(spec.dtype))))
    return steps


def _activated(activation: tuple[str, float, float], argument: str) -> str:
    name, *parameters = activation
    used = parameters[: {"clip": 2, "leaky_relu": 1}.get(name, 0)]
    return f"{name}({', '.join([argument, *map(_number, used)])})" if name else argument


def _sum(weights: Array, channels: Array) -> str:
    """The products, written out as far as there is room."""
    text = ""
    for most, first, last in ((6, 2, 1), (2, 1, 1)):
        shown = _ends(len(weights), most, first, last)
        terms = (f"{_factor(weights[c], c == 0)}·{_factor(channels[c])}" if c is not None else "…" for c in shown)
        text = " + ".join(terms) or "0"
        if len(text) < _COLUMNS - 28:
            break
    return text


def _number(value: float) -> str:
    """Five digits, and whole numbers in full."""
    if abs(value) < 1e7 and value == round(value):
        return f"{value + 0.0:.0f}".replace("-", "−")
    mantissa, _, exponent = f"{value:.5g}".partition("e")
    return (f"{mantissa}e{int(exponent)}" if exponent else mantissa).replace("-", "−")


def _factor(value: float, first: bool = False) -> str:
    """A number inside a sum or product: a negative one in brackets, unless it comes first."""
    text = _number(value)
    return f"({text})" if text.startswith("−") and not first else text


def _count(n: int, noun: str) -> str:
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


def _index(value: Any, size: int, name: str, where: str) -> int:
    if isinstance(value, (bool, np.bool_)) or not isinstance(value, (int, np.integer)):
        raise TypeError(f"{name} must hold ints, got {value!r}")
    if not -size <= value < size:
        raise IndexError(f"{name} is outside the result: expected {-size} ≤ index < {size} on {where}, got {value}")
    return int(value) % size
