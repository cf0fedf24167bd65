"""One pixel on its way through a chain: every step with its numbers, as text and as a drawing."""

from __future__ import annotations

import html
import math
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any

import numpy as np

from ..arithmetic import default_arithmetic
from ..checks import sequential as checks
from ..checks.arrays import Array, ArrayLike
from ..layers import Layer
from ..reference.chains import first, one_step
from ..reference.floats import exact
from ..steps import ArgMax, LayerNorm, Pool, Softmax
from ..strips import through
from ..summary import rows
from .calculation import (
    COLUMNS,
    activated,
    both_ends,
    counted,
    factor,
    index_within,
    pixel_within,
    spell,
    steps_of,
    sum_of,
)
from .drawing import _BLUE, _FONT, _INK, _LINE, _MUTED, _ORANGE, _PAPER, _PLUM, _TEAL, _text


@dataclass(frozen=True, eq=False, repr=False)
class Station:
    """An element, and what it makes of a pixel."""

    name: str
    labels: tuple[str, str]  # in a drawing
    given: Array
    numbers: Array  # what leaves
    lines: list[tuple[str, str]]  # how one of them comes about
    adds: int | None  # the station whose pixels are added


@dataclass(frozen=True, eq=False, repr=False)
class ChainExplanation:
    """One pixel of a chain's result and how it came about; `explain` makes it.

    Attributes
    ----------
    index, source : tuple of int
        Where the pixel stands in the result, and in x, without the channel axis.
    stations : list
        Of every element its ``name``, what it was ``given``, the ``numbers`` that leave it, and ``lines`` that say how
        one of them comes about: as the definition has them, in float64, or whole numbers of quantised layers.
    value : ndarray
        What the last one comes to.
    result : ndarray
        What a call returns for this pixel: of `value` it may be off by what the sums round.
    flops : int
        What a chain computes for each pixel.
    """

    index: tuple[int, ...]
    source: tuple[int, ...]
    stations: list[Station]
    value: Array
    result: Array
    flops: int
    _x: tuple[int, ...]  # the shape
    _shape: tuple[int, ...]
    _position: int
    _types: tuple[str, str, str]
    _notes: list[str]

    @default_arithmetic
    def __str__(self) -> str:
        return "\n\n".join("\n".join([title, *lines]) for title, lines in self._sections())

    __repr__ = __str__

    @default_arithmetic
    def _repr_html_(self) -> str:
        blocks = (
            f"<h4>{html.escape(title)}</h4><pre>{html.escape(chr(10).join(lines))}</pre>"
            for title, lines in self._sections()
        )
        return f'<div style="max-width:960px">{self.to_svg()}{"".join(blocks)}</div>'

    @default_arithmetic
    def to_svg(self) -> str:
        """The way of the pixel as a drawing: one self-contained SVG element, 960 wide, without scripts or fonts.

        Returns
        -------
        str
            Ready for a file, a slide or a web page.
        """
        height = 500
        body = "".join(_drawing(self))
        return (
            f'<svg xmlns="http://www.w3.org/2000/svg" viewBox="0 0 960 {height}" width="960" height="{height}" '
            f'style="max-width:100%" role="img" aria-label="{html.escape(self._title)}" font-family="{_FONT}">'
            f'<rect width="960" height="{height}" rx="12" fill="{_PAPER}"/>{body}</svg>'
        )

    @property
    def _title(self) -> str:
        return f"{self._y} = {_few(self.value, 1, 1) if self.value.size > 1 else spell(self.value.item())}"

    @property
    def _y(self) -> str:
        return f"y[{_entries(self.index, self._position if self.value.ndim else None)}]"

    @property
    def _widths(self) -> list[int]:
        return [self.stations[0].given.size, *(s.numbers.size for s in self.stations)]

    def _sections(self) -> Iterator[tuple[str, list[str]]]:
        pixel = self.stations[0].given
        yield (
            self._title,
            [
                *(f"  {note}" for note in self._notes),
                f"  {f'x[{_entries(self.source, self._position)}]':<14}{_vector(pixel)}",
            ],
        )
        for i, station in enumerate(self.stations):
            lines = [*station.lines, *([("gives", _vector(station.numbers))] if station.labels[0] != "ArgMax" else [])]
            yield f"{i}  {station.name}", [f"  {label:<14}{text}" for label, text in lines]
        x, between, result = self._types
        pixels = math.prod(self._shape)
        yield (
            "The needle",
            [
                f"  {_path(self._widths)} numbers of one pixel: it widens and narrows, and no array is",
                "  made of what lies between.",
                f"  {'types':<14}{' → '.join(dict.fromkeys((x, between, result)))}",
                f"  {'shapes':<14}x {self._x} → result {self._shape}",
                f"  {'work':<14}{self.flops:,} FLOPs for a pixel of x, {counted(pixels, 'number')} in the result",
            ],
        )


@default_arithmetic
def explain_chain(x: ArrayLike, net: Any, at: Any, filter: Any) -> ChainExplanation:
    """What `explain` makes of a chain."""
    spec = net._spec
    a, _, _, _ = checks.call(spec, x, None, None)
    place = checks.place(spec, a)
    if 0 in place.shape:
        raise ValueError(f"the result has shape {place.shape}: it holds no number to explain")
    kept = [i for i in range(a.ndim) if i != place.position and i not in place.pooled]
    index = pixel_within(at, tuple(-(-a.shape[i] // place.stride[i]) for i in kept))
    start = [0] * a.ndim
    for i, j in zip(kept, index, strict=True):
        start[i] = j * place.stride[i]
    region = a[
        tuple(slice(None) if i == place.position or i in place.pooled else slice(j, j + 1) for i, j in enumerate(start))
    ]
    result = net(region)
    types = checks.types(spec, a, a.shape[place.position], None)
    notes = []
    if max(place.stride) > 1:
        notes.append(f"stride: it comes from pixel {tuple(start[i] for i in kept)} of x")
    pooled = math.prod(region.shape[i] for i in place.pooled) if place.pooled else 1
    stations = _stations(spec, region, place, filter)
    if pooled > 1:
        notes.append(f"one of the {pooled} pixels that are pooled, the first, up to there")
    value = stations[-1].numbers
    value = value.reshape(()) if spec.steps[-1].drops else value
    source = tuple(n for i, n in enumerate(start) if i != place.position)
    elements, _ = rows(net, "", net.in_channels)
    return ChainExplanation(
        index=index,
        source=source,
        stations=stations,
        value=value,
        result=np.asarray(result).reshape(value.shape),
        flops=sum(row[4] for row in elements),
        _x=a.shape,
        _shape=place.shape,
        _position=place.position - sum(i < place.position for i in place.pooled),
        _types=(str(a.dtype), str(types[0]), str(types[-1])),
        _notes=notes,
    )


def _stations(spec: checks.Spec, region: Array, place: checks.Place, filter: Any) -> list[Station]:
    """All elements, of the first pixel of a region, whose others count where pixels are pooled."""
    pixel = np.ravel(region[tuple(slice(None) if i == place.position else slice(0, 1) for i in range(region.ndim))])
    numbers = first(spec, pixel)
    stations: list[Station] = []
    last = len(spec.steps) - 1
    sums = None if last == 0 else checks.type_of_sums(region.dtype)
    channel = 0
    for i, step in enumerate(spec.steps):
        e = step.element
        residual = None if step.adds is None else stations[step.adds].given
        if isinstance(e, Pool):
            so_far = through(spec._replace(steps=spec.steps[: i + 1]), exact(region, False), None, None)
            count = counted(math.prod(region.shape[axis] for axis in place.pooled), "pixel")
            lines = [(e.kind, f"over {count}, of which this one has {_few(numbers, 2, 1)}")]
            stations.append(Station(repr(e), ("Pool", e.kind), numbers, exact(np.ravel(so_far), False), lines, None))
            numbers = stations[-1].numbers
            continue
        given = numbers
        if isinstance(e, Layer):
            e = _of_one(e)
        numbers = one_step(step._replace(element=e), given, residual, 0, (), sums)
        if isinstance(e, Layer) and i == max(j for j, s in enumerate(spec.steps) if isinstance(s.element, Layer)):
            channel = index_within(filter, np.size(numbers), f"filter={filter!r}", "the channel axis")
        numbers = (
            np.ravel(numbers) if i == last or spec.whole.takes in checks.BYTES else exact(np.ravel(numbers), False)
        )
        lines = list(_lines(e, given, numbers, residual, channel if isinstance(e, Layer) else 0))
        labels = (type(step.element).__name__, (e._spec.activation[0] if isinstance(e, Layer) else "") or "")
        stations.append(Station(_name(step.element), labels, given, numbers, lines, step.adds))
        channel = 0
    return stations


def _of_one(e: Any) -> Any:
    """A layer for a pixel alone: its channels first, without a stride."""
    rebuilt, (number, cls, arrays, options, *more), *_ = e.__reduce__()
    return rebuilt(number, cls, arrays, options | {"channel_axis": 0, "stride": 1}, *more)


def _lines(e: Any, given: Array, numbers: Array, residual: Array | None, k: int) -> Iterator[tuple[str, str]]:
    """How a number of those that leave comes about."""
    if isinstance(e, Layer):
        yield from _of_a_layer(e, given, numbers, residual, k)
    elif isinstance(e, LayerNorm):
        mean, deviation = given.mean(), math.sqrt(given.var() + e.eps)
        yield "mean", spell(mean)
        yield "deviation", f"√(variance + eps) = √({spell(given.var())} + {e.eps:g}) = {spell(deviation)}"
        scale = "" if e.weight is None else f" · {factor(e.weight[k].item())}"
        shift = "" if e.bias is None else f" + {factor(e.bias[k].item())}"
        yield (
            f"channel {k}",
            f"({spell(given[k])} − {factor(mean)}) / {spell(deviation)}{scale}{shift} = {spell(numbers[k])}",
        )
    elif isinstance(e, Softmax):
        largest, total = given.max(), np.exp(given - given.max()).sum()
        yield "largest", spell(largest)
        yield "sum", f"Σ e^(x − {factor(largest)}) = {spell(total)}"
        yield f"channel {k}", f"e^({spell(given[k])} − {factor(largest)}) / {spell(total)} = {spell(numbers[k])}"
    elif isinstance(e, ArgMax):
        index = int(given.argmax())
        label = "" if e.labels is None else f", whose label is {e.labels[index]}"
        yield "largest", f"{spell(given[index])} in channel {index}{label}"


def _of_a_layer(e: Any, given: Array, numbers: Array, residual: Array | None, k: int) -> Iterator[tuple[str, str]]:
    spec = e._spec
    name = f"channel {k}"
    per_group = spec.weight.shape[1]
    begin = k // (len(spec.weight) // spec.groups) * per_group
    if spec.quantised is not None:
        made, more = spec.quantised
        weights = made.weight[k].astype(np.int64) - int(made.w_zero_point[k])
        pixels = given[begin : begin + per_group].astype(np.int64) - int(made.x_zero_point)
        total = int(weights @ pixels)
        yield name, f"{sum_of(weights, pixels)} = {spell(total)}, less zero points"
        bias = 0 if more.bias is None else int(more.bias[k])
        if bias:
            yield "+ bias", f"{spell(total)} + {factor(bias)} = {spell(total + bias)}"
        scale = float(more.multiplier[k])
        shifted = f"{spell(total + bias)} · {scale:.5g} + {int(more.y_zero_point)}"
        yield "scaled", f"{shifted}, rounded and clamped = {spell(numbers[k].item())}"
        return
    pixels = given[begin : begin + per_group]
    if spec.center is not None:
        pixels = pixels - exact(spec.center, False)[begin : begin + per_group]
    weights = exact(spec.weight[k], False) if spec.weight.dtype.kind != "c" else spec.weight[k]
    one_bias = None if spec.bias is None else spec.bias[k].item()
    products = (weights * pixels).sum()
    added = None if residual is None else residual[k].item()
    dtype = np.dtype(np.float64) if spec.dtype is None else spec.dtype
    for label, arithmetic, value in steps_of(sum_of(weights, pixels), products.item(), one_bias, added, spec, dtype):
        yield name if label == "sum" else label, f"{arithmetic} = {spell(value)}"


def _name(e: Any) -> str:
    """An element as a title."""
    if not isinstance(e, Layer):
        return repr(e)
    spec = e._spec
    text = f"{type(e).__name__} {e.in_channels} → {e.out_channels}"
    text += f", {spec.groups} groups" if spec.groups > 1 else ""
    return f"{text}, {activated(spec.activation, 'sum')}" if spec.activation[0] else text


def _vector(numbers: Array) -> str:
    """So many numbers of a pixel, as far as there is room."""
    head = f"{counted(numbers.size, 'channel')}: " if numbers.ndim else ""
    text = ""
    for most, ends in ((8, (4, 2)), (5, (3, 1)), (3, (1, 1))):
        text = "  ".join(
            "…" if c is None else spell(np.ravel(numbers)[c].item()) for c in both_ends(numbers.size, most, *ends)
        )
        if len(head) + len(text) < COLUMNS - 18:
            break
    return head + text


def _path(widths: list[int]) -> str:
    return " → ".join("…" if i is None else str(widths[i]) for i in both_ends(len(widths), 9, 4, 4))


def _few(numbers: Array, begin: int, end: int) -> str:
    shown = both_ends(numbers.size, begin + end + 1, begin, end)
    return f"({', '.join('…' if c is None else spell(np.ravel(numbers)[c].item()) for c in shown)})"


def _entries(pixel: tuple[int, ...], position: int | None) -> str:
    entries = [str(i) for i in pixel]
    if position is not None:
        entries.insert(position, ":")
    return ", ".join(entries)


_MIDDLE, _TALL = 290, 250  # the line that the needle lies along; its greatest height
_CELLS = 24  # that a station is cut into, at most


def _drawing(e: ChainExplanation) -> Iterator[str]:
    """The needle of channels from left to right, as high as there are channels, and what each element does to it."""
    widths = e._widths
    yield _text(40, 54, f"One pixel through the chain: {_path(widths)} numbers", 25, _INK, width=880, weight=600)
    yield _text(40, 84, e._title, 16, _MUTED, width=880)
    yield _text(40, 108, ";  ".join(e._notes), 14, _MUTED, width=880)
    step = 800 / len(e.stations)
    places = [80 + step * i for i in range(len(widths))]
    across = min(34.0, step / 3)
    heights = [_high(n, max(widths)) for n in widths]
    for i, station in enumerate(e.stations):
        left, right = places[i] + across / 2, places[i + 1] - across / 2
        tops = _MIDDLE - heights[i] / 2, _MIDDLE - heights[i + 1] / 2
        ends = _MIDDLE + heights[i + 1] / 2, _MIDDLE + heights[i] / 2
        yield (
            f'<path d="M{left:.1f} {tops[0]:.1f}L{right:.1f} {tops[1]:.1f}V{ends[0]:.1f}L{left:.1f} {ends[1]:.1f}z" '
            f'fill="{_MUTED}" fill-opacity="0.12"/>'
        )
        middle = (left + right) / 2
        for label, down, color in zip(station.labels, (-4, 13), (_INK, _MUTED), strict=True):
            yield _text(middle, _MIDDLE + down, label, 13, color, "middle", right - left - 8)
    for station, place, height in zip(e.stations, places[1:], heights[1:], strict=True):
        if station.adds is not None:
            start = places[station.adds]
            lift = _MIDDLE - max(heights) / 2 - 30
            yield (
                f'<path d="M{start:.1f} {_MIDDLE - heights[station.adds] / 2 - 24:.1f}V{lift:.1f}H{place:.1f}'
                f'V{_MIDDLE - height / 2 - 24:.1f}" fill="none" stroke="{_BLUE}" stroke-width="1.5"/>'
            )
            yield _text((start + place) / 2, lift - 5, "+ the pixels", 13, _BLUE, "middle")
    vectors = [e.stations[0].given, *(s.numbers for s in e.stations)]
    for i, (place, height, numbers) in enumerate(zip(places, heights, vectors, strict=True)):
        color = _ORANGE if i == 0 else _PLUM if i == len(vectors) - 1 else _TEAL
        yield from _bar(place - across / 2, across, height, np.ravel(numbers), color)
        yield _text(place, _MIDDLE - height / 2 - 8, str(widths[i]), 15, color, "middle", min(step - 8, 150), 600)
        yield _text(
            place,
            _MIDDLE + height / 2 + 18,
            _few(numbers, 1, 1) if numbers.size > 1 else spell(np.ravel(numbers)[0].item()),
            12,
            _MUTED,
            "middle",
            min(step - 6, 150),
        )
    yield f'<path d="M40 448H920" stroke="{_LINE}"/>'
    yield _text(
        480, 476, f"x {e._x} → result {e._shape}: no array is made of what lies between.", 15, _INK, "middle", 880
    )


def _high(channels: int, most: int) -> float:
    """How high a station of so many channels is."""
    return 18 + (_TALL - 18) * math.log2(1 + channels) / math.log2(1 + max(most, 2)) if channels > 1 else 26


def _bar(left: float, across: float, height: float, numbers: Array, color: str) -> Iterator[str]:
    """The numbers of a station as fields, the darker the further they are from 0; a stretch of them shares one."""
    parts = np.array_split(np.abs(exact(numbers, False)), min(len(numbers), _CELLS))
    strengths = [float(np.nan_to_num(part, posinf=0).max()) for part in parts]
    most = max(strengths) or 1.0
    high = height / len(parts)
    for i, strength in enumerate(strengths):
        yield (
            f'<rect x="{left:.1f}" y="{_MIDDLE - height / 2 + i * high:.1f}" width="{across:.1f}" height="{high:.1f}" '
            f'fill="{color}" fill-opacity="{0.12 + 0.78 * strength / most:.2f}" stroke="{_PAPER}" stroke-width="0.7"/>'
        )
