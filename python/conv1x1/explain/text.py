"""An `Explanation` as text, plain or as a table: titles, each with its lines."""

from __future__ import annotations

import html
import math

from .calculation import COLUMNS, Calculation, both_ends, counted, of_one_product, spell


def plain(e: Calculation) -> str:
    """Lines to print."""
    return "\n\n".join(
        "\n".join([title, *(f"  {label:<12}{text}".rstrip() if label else f"  {text}" for label, text in lines)])
        for title, lines in _sections(e).items()
    )


def table(e: Calculation) -> str:
    """The same in HTML."""
    style = 'style="text-align:left;padding:2px 16px 2px 0;font-family:monospace;white-space:pre-wrap"'
    rows = []
    for title, lines in _sections(e).items():
        rows.append(f'<th colspan="2" style="text-align:left;padding-top:12px">{html.escape(title)}</th>')
        for label, text in lines:
            label_cell, span = (f"<td {style}>{html.escape(label)}</td>", 1) if label else ("", 2)
            rows.append(f'{label_cell}<td {style} colspan="{span}">{html.escape(text)}</td>')
    return f"<table>{''.join(f'<tr>{row}</tr>' for row in rows)}</table>"


def _sections(e: Calculation) -> dict[str, list[tuple[str, str]]]:
    """Title → lines, each a label (or none) and what it says."""
    return {e._formula: _calculation(e), "What shrinks?": _ledger(e), "A real call": _real_call(e)}


def _calculation(e: Calculation) -> list[tuple[str, str]]:
    table: list[str] = []
    for most, first, last in ((8, 3, 2), (4, 2, 1), (2, 1, 1)):
        table = _table(e, both_ends(len(e.channels), most, first, last))
        if len(table[0]) < COLUMNS - 14:
            break
    steps = ((name, f"{arithmetic} = {spell(value)}") for name, arithmetic, value in e.steps)
    names = ("channel", "x", "w", "w·x") if e._center is None else ("channel", "x", "center c", "w", "w·(x−c)")
    return [*e._notes, *zip(names, table, strict=True), *steps]


def _table(e: Calculation, shown: list[int | None]) -> list[str]:
    """These channels, and for each x, what is taken off, w and their product; … for None."""
    rows = [a for a in (e.channels, e._center, e.weights, e.products) if a is not None]
    lines: list[list[str]] = [[] for _ in ("channel", *rows)]
    for c in shown:
        column = ["…"] * len(lines)
        if c is not None:
            numbers = [row[c] for row in rows]
            column = [str(e._place.first_channel + c), *map(spell, numbers)]
        for line, text in zip(lines, column, strict=True):
            line.append(text.rjust(max(map(len, column))))
    return ["  ".join(line) for line in lines]


def _ledger(e: Calculation) -> list[tuple[str, str]]:
    shapes, count = e.shapes, len(e.channels)
    x, products = f"x {shapes['x']}", "·".join(map(str, shapes["products"]))
    lines = []
    if e._parts:
        part = e._slice_x(f"::{step}" if step > 1 else ":" for step in e._place.stride)
        axes = e.plan["strided_axes"]
        strided = f", {'axes' if len(axes) > 1 else 'axis'} {', '.join(map(str, axes))} strided" if axes else ""
        lines.append(f"{x} → {part}{strided}, all that {e._w} sees")
        x = f"x[…] {shapes['products']}"
    lines.append(f"{x} · {e._w} {shapes['filter']} → products {shapes['products']}")
    total = f" → sum over the {counted(count, 'channel')} → {shapes['sum']}"
    if len(lines[-1] + total) <= COLUMNS - 2:
        lines[-1] += total
    else:
        lines.append(f"   {total}")
    if e._filters > 1:
        lines.append(f"{e._filters} filters make {e._filters} such sums, stacked → {shapes['result']}")
    lines.append(f"Not the multiplication: each channel of each pixel has its product, {products} of them.")
    lines.append(f"The SUM over the channels: it makes 1 number of the {counted(count, 'product')} of a pixel.")
    return [("", line) for line in lines]


def _real_call(e: Calculation) -> list[tuple[str, str]]:
    plan = e.plan
    pixels = counted(math.prod(e._pixels("products")), "pixel")
    counts = [counted(len(e.channels), "channel"), counted(e._filters, "filter"), pixels]
    special = {"few_filters": "16 channels", "few_channels": "all channels"}
    at_once = special.get(plan["orientation"], f"{plan['rows']} rows × {plan['lanes']} lanes")
    tile = f"{at_once} at once, {counted(plan['tile_pixels'], 'pixel')} a tile"
    moved = f"{_bytes(e.bytes_read)} read, {_bytes(e.bytes_written)} written"
    operations = "operations" if e._integers else "FLOPs"
    each = of_one_product(e.weights, e.channels)
    x_type, result_type = e._dtypes
    types = f"{x_type} → {result_type}" + ", sums of integers" * e._integers
    axes = plan["memory_order"]
    lies = f"lies in memory as x does, its axes in the order {', '.join(map(str, axes))}, the outermost first"
    return [
        *([("types", types)] if e._integers or x_type != result_type else []),
        ("kernel", f"{plan['kernel']}, {plan['orientation'].replace('_', ' ')}, {plan['order']} order"),
        ("tile", f"{tile}, x {'staged' if plan['stages_x'] else 'read in place'}"),
        ("threads", str(plan["threads"])),
        ("work", f"{each} · {' · '.join(counts)} = {e.flops:,} {operations}"),
        ("memory", f"{moved}: {e.intensity:.3g} {operations} a byte"),
        *([("result", lies)] if list(axes) != sorted(axes) else []),
    ]


def _bytes(n: float) -> str:
    for unit in ("B", "kB", "MB"):
        if n < 1000:
            return f"{n:.4g} {unit}"
        n /= 1000
    return f"{n:.4g} GB"
