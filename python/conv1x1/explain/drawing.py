"""The drawing of an `Explanation`: the box of channels, the needle through one pixel, the number that comes out.

Points are complex numbers, to the right and down.
"""

from __future__ import annotations

import html
import itertools
import math
from collections.abc import Iterator

from .calculation import Calculation, both_ends, counted, spell

_WIDTH, _HEIGHT, _MIDDLE = 960, 600, 322  # of the drawing; the line its parts are centred on
_FONT = "system-ui, -apple-system, 'Segoe UI', 'Helvetica Neue', Arial, 'DejaVu Sans', sans-serif"
_PAPER, _INK, _MUTED, _LINE = "#fcfcfa", "#22303c", "#66737f", "#d5dade"
_BLUE, _ORANGE, _TEAL, _PLUM = "#4a7ba6", "#d9772b", "#2c8c80", "#7d5a9e"  # x, its pixel, the filter, the result


def draw(e: Calculation) -> str:
    """The calculation as one self-contained SVG element.

    Parameters
    ----------
    e : Calculation
        What to draw.

    Returns
    -------
    str
        As `Explanation.to_svg` returns it.
    """
    return (
        f'<svg xmlns="http://www.w3.org/2000/svg" viewBox="0 0 {_WIDTH} {_HEIGHT}" width="{_WIDTH}" '
        f'height="{_HEIGHT}" style="max-width:100%" role="img" aria-label="{html.escape(e._formula)}" '
        f'font-family="{_FONT}"><rect width="{_WIDTH}" height="{_HEIGHT}" rx="12" fill="{_PAPER}"/>'
        f"{''.join([*_calculation(e), *_shapes(e)])}</svg>"
    )


def _calculation(e: Calculation) -> Iterator[str]:
    """The box with the needle through one pixel, the calculation in columns, the result with one cell."""
    count = len(e.channels)
    yield _text(40, 54, f"From {counted(count, 'channel')} of one pixel to one number", 25, weight=600)
    yield _text(40, 84, e._formula, 16, _MUTED, width=880)
    yield _text(40, 109, ";  ".join(f"{name}: {text}" for name, text in e._notes), 14, _MUTED, width=880)

    rows = both_ends(count, 7, 4, 2)
    pixel = "pixel" if e._center is None else "pixel − center"
    columns = (pixel, e._factors, _ORANGE), (e._w, e.weights, _TEAL), ("products", e.products, _MUTED)
    numbers = [["" if c is None else spell(values[c]) for c in rows] for _, values, _ in columns]
    spoken = {"sum": f"Σ over {counted(count, 'channel')}"}
    for name, operand in (("+ bias", e._bias), ("+ residual", e._residual)):
        spoken[name] = f"{name} {spell(operand or 0.0)}"
    steps = [
        (f"{spoken.get(name, arithmetic)} {'saturates to' if name == 'saturated' else '='}", spell(value))
        for name, arithmetic, value in e.steps
    ]
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
            yield _text(316, y + 4, str(e._place.first_channel + c), 11, _MUTED, "end")
            yield _text(422, y + size / 3, "·", size, _MUTED, "middle")
            yield _text(530, y + size / 3, "=", size, _MUTED, "middle")
    yield f'<path d="M540 {top + height * len(rows):.1f}h88" stroke="{_INK}" stroke-width="1.5"/>'
    for y, (text, value) in zip(middles[len(rows) :], steps, strict=True):
        yield _text(536, y + size / 3, text, min(15, size), _INK, "end", 240)
        yield _cell(584, y, height, value, size, _PLUM, solid=y == middles[-1])

    before, after = e._pixels("x"), e._pixels("products")
    depth = max(1, e.shapes["x"][e._place.channel_axis])
    scale = min(_scale(before, depth), _scale(after, e._filters))
    box = _Box(156, before, depth, scale, e.source, e._place.first_channel, count)
    yield box.draw(_BLUE, _ORANGE, counted(depth, "channel"), "end")
    head = complex(330, top - 17)
    yield _arrow(box.end, complex(254, box.end.imag), head, head, _ORANGE)
    box = _Box(800, after, e._filters, scale, e._place.pixel, e._place.filter, 1)
    yield box.draw(_PLUM, _PLUM, counted(e._filters, "filter"), "start")
    tail = complex(632, middles[-1])
    yield _arrow(tail, tail, complex(702, box.start.imag), box.start, _PLUM)


def _shapes(e: Calculation) -> Iterator[str]:
    """The shapes along the way, and what to take home."""
    shapes, channels = e.shapes, counted(len(e.channels), "channel")
    yield f'<path d="M40 508H920" stroke="{_LINE}"/>'
    stations = ((140, "x", _BLUE), (480, "products", _INK), (820, "result", _PLUM))
    size = min(17, *(_fitting(f"{name} {shapes[name]}", 210) for _, name, _ in stations))
    for center, name, color in stations:
        yield _text(center, 537 + size / 3, f"{name} {shapes[name]}", size, color, "middle", weight=600)
    stacked = f"for {counted(e._filters, 'filter')}"
    for center, above, below in ((310, f"· {e._w}", str(shapes["filter"])), (650, f"Σ {channels}", stacked)):
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
