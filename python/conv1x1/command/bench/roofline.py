"""The roofline plot: what layers reach, under what the machine could do, and how much of that it is."""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import Any

import numpy as np

from .results import Row
from .timing import Layer

_PAPER, _INK, _QUIET, _LINE, _UNDER = "#fcfcfa", "#22303c", "#66737f", "#e3e6e8", "#f1f4f6"
_COLOURS = {"last": "#1f6fb4", "first": "#d9690f"}
_MARKS = {"last": "o", "first": "s"}
_ASIDE = {"last": 1 / 1.012, "first": 1.012}  # both layouts of a layer have one intensity; so both are seen
_WIDTH, _HEAD, _ROOFS, _GAP, _LINE_HEIGHT, _FOOT = 8.8, 0.85, 4.4, 0.95, 0.205, 0.45  # inches
_MOST_LINES = 40


def draw(path: str, rows: Sequence[Row], levels: Sequence[tuple[str, float]], title: str) -> None:
    """Draw measured layers into a file: above, where they are under the roofs; below, how much of its own each reaches.

    Parameters
    ----------
    path : str
        Ending in .png or .svg.
    rows : sequence of Row
        At least one.
    levels : sequence of (str, float)
        Amounts of memory and the GB/s they are read with, for the slanted roofs.
    title : str
        The machine.
    """
    from matplotlib import rc_context
    from matplotlib.figure import Figure

    layers: dict[Layer, list[Row]] = {}
    for row in rows:
        layers.setdefault(row.layer, []).append(row)
    listed = sorted(layers, key=lambda layer: min(row.part for row in layers[layer]))[:_MOST_LINES]
    listed.sort(key=lambda layer: layers[layer][0].intensity)

    height = _HEAD + _ROOFS + _GAP + _LINE_HEIGHT * len(listed) + _FOOT
    style: dict[Any, Any] = {"text.color": _INK, "axes.labelcolor": _INK, "axes.edgecolor": _LINE}
    style |= {"xtick.color": _QUIET, "ytick.color": _QUIET, "font.size": 9, "svg.hashsalt": "conv1x1"}
    with rc_context(style):
        figure = Figure(figsize=(_WIDTH, height), dpi=150, facecolor=_PAPER)
        figure.text(0.05, 1 - 0.33 / height, "How near the roof?", fontsize=15, weight="bold", va="center")
        figure.text(0.05, 1 - 0.6 / height, title, color=_QUIET, va="center")
        top = 1 - _HEAD / height
        roofs = figure.add_axes((0.085, top - _ROOFS / height, 0.885, _ROOFS / height), facecolor=_PAPER)
        bottom = _FOOT / height
        parts = figure.add_axes((0.36, bottom, 0.5, _LINE_HEIGHT * len(listed) / height), facecolor=_PAPER)
        taken = _roofs(roofs, rows, levels)
        _dots(roofs, rows)
        _numbers(roofs, [(number, layers[layer]) for number, layer in enumerate(listed, 1)], rows, taken)
        _parts(parts, [layers[layer] for layer in listed], len(layers))
        figure.savefig(path, metadata={"Date": None} if path.lower().endswith(".svg") else None)


def _roofs(axes: Any, rows: Sequence[Row], levels: Sequence[tuple[str, float]]) -> list[Any]:
    """The machine's limits; returns the places, in points, that they and their labels take."""
    from matplotlib.ticker import LogLocator, NullFormatter

    peaks = {row.layer.weights.name: row.peak for row in sorted(rows, key=lambda row: row.peak)}
    peak, fastest = max(peaks.values()), max(gbs for _, gbs in levels)
    intensities = [row.intensity for row in rows]
    left = min(intensities) / 1.6
    right = max(max(intensities) * 1.6, 2.5 * peak / min(gbs for _, gbs in levels))
    low, high = min(min(row.gflops, row.roof) for row in rows) / 1.6, peak * 1.6
    axes.set(xscale="log", yscale="log", xlim=(left, right), ylim=(low, high))
    axes.set_xlabel("FLOPs for each byte that must move")
    axes.set_ylabel("GFLOP/s")
    axes.grid(True, which="major", color=_LINE, linewidth=0.7)
    axes.set_axisbelow(True)
    axes.tick_params(which="both", length=0)
    for axis in (axes.xaxis, axes.yaxis):
        axis.set_major_locator(LogLocator(10, subs=(1, 2, 5)))
        axis.set_major_formatter(lambda value, _: f"{value:g}")
        axis.set_minor_formatter(NullFormatter())
    for side in ("top", "right"):
        axes.spines[side].set_visible(False)

    to_points = 72 / axes.figure.dpi
    place = axes.transData.transform
    corner, end = place((peak / fastest, peak)), place((peak / fastest * math.e, peak * math.e))
    slope = math.atan2(end[1] - corner[1], end[0] - corner[0])
    along, above = np.array((math.cos(slope), math.sin(slope))), np.array((-math.sin(slope), math.cos(slope)))
    axes.fill_between([left, peak / fastest, right], [left * fastest, peak, peak], low, color=_UNDER, zorder=0)
    taken: list[Any] = []
    for name, its in peaks.items():
        text = f"{its:.0f} GFLOP/s of {name + ' ' if len(peaks) > 1 else ''}multiply-adds"
        style: dict[str, Any] = {"textcoords": "offset points", "fontsize": 8.5}
        if its == peak:
            axes.annotate(text, (its / fastest, its), (2, 5), **style)
            taken += [place((its / fastest, its)) * to_points + (length, 9) for length in range(0, 150, 6)]
        else:
            axes.annotate(text, (right, its), (-3, -11), ha="right", **style)
        axes.plot([its / fastest, right], [its, its], color=_INK, linewidth=1.5 if its == peak else 0.9)
        taken += [place((x, its)) * to_points for x in np.geomspace(its / fastest, right, 80)]
    for size, gbs in levels:
        start = max(left, low / gbs)
        axes.plot([start, peak / gbs], [start * gbs, peak], color=_INK, linewidth=1.1)
        style = {
            "textcoords": "offset points",
            "rotation": math.degrees(slope),
            "rotation_mode": "anchor",
            "va": "bottom",
            "fontsize": 8.5,
        }
        at = start * 1.1
        axes.annotate(f"{size}: {gbs:.0f} GB/s", (at, at * gbs), tuple(3 * above), **style)
        origin = place((at, at * gbs)) * to_points
        taken += [origin + 8 * above + length * along for length in range(0, 100, 5)]
        taken += [place((x, x * gbs)) * to_points for x in np.geomspace(start, peak / gbs, 60)]
    return taken


def _dots(axes: Any, rows: Sequence[Row]) -> None:
    """What each layer reaches, and a thin line up to its own roof."""
    for layout, colour in _COLOURS.items():
        mine = [row for row in rows if row.layout == layout]
        if not mine:
            continue
        x, y, roof = ([_x(row) for row in mine], [row.gflops for row in mine], [row.roof for row in mine])
        axes.vlines(x, np.minimum(y, roof), np.maximum(y, roof), color=colour, linewidth=1, alpha=0.6)
        axes.plot(x, roof, linestyle="none", marker="_", markersize=7, color=colour)
        edge: dict[str, Any] = {"markeredgecolor": _PAPER, "markeredgewidth": 0.6}
        name = f"channels {layout}"
        axes.plot(x, y, linestyle="none", marker=_MARKS[layout], markersize=5.5, color=colour, label=name, **edge)
    axes.plot(
        [],
        [],
        linestyle="none",
        marker="_",
        markersize=7,
        color=_QUIET,
        label="its own roof, for the memory it touches",
    )
    axes.legend(loc="lower right", fontsize=9, facecolor=_PAPER, framealpha=0.9, edgecolor="none")


def _numbers(axes: Any, numbered: Sequence[tuple[int, list[Row]]], rows: Sequence[Row], taken: list[Any]) -> None:
    """A layer's number, at a free place near the roof it has; none where there is no such place."""

    def points(row: Row, height: float) -> Any:
        return axes.transData.transform((_x(row), height)) * 72 / axes.figure.dpi

    for row in rows:
        low, high = points(row, row.gflops), points(row, max(row.gflops, row.roof))
        taken += [low + (high - low) * part for part in np.linspace(0, 1, 2 + int((high - low)[1] // 6))]
    corners = axes.transAxes.transform([(0, 0), (1, 1)]) * 72 / axes.figure.dpi
    for number, its in numbered:
        nearest = max(its, key=lambda row: row.roof)
        spot = points(nearest, nearest.roof)
        place = _free(spot, np.array(taken), corners)
        if place is None:
            continue
        taken.append(place)
        arrow = {"arrowstyle": "-", "linewidth": 0.5, "color": _QUIET, "shrinkA": 4, "shrinkB": 1}
        axes.annotate(
            str(number),
            (nearest.intensity, nearest.roof),
            xytext=tuple(place - spot),
            textcoords="offset points",
            ha="center",
            va="center",
            fontsize=8,
            arrowprops=arrow if math.hypot(*(place - spot)) > 13 else None,
        )


def _x(row: Row) -> float:
    return row.intensity * _ASIDE[row.layout]


def _free(spot: Any, taken: Any, corners: Any) -> Any:
    """The nearest place around a spot, above it if there is one, for a number; in points, numbers being wide."""
    for radius in (9, 13, 18, 24, 30, 37):
        for angle in np.deg2rad((90, 65, 115, 40, 140, 15, 165, -15, 195, -90)):
            place = spot + radius * np.array((math.cos(angle), math.sin(angle)))
            inside = (place > corners[0]).all() and (place < corners[1]).all()
            if inside and np.min(np.hypot(*((taken - place) / (1.8, 1)).T)) >= 7.5:
                return place
    return None


def _parts(axes: Any, lines: Sequence[list[Row]], measured: int) -> None:
    """A line for each layer, with how much of its own roof it reaches in either layout."""
    places = np.arange(len(lines))
    axes.hlines(places, 0, 1, color=_LINE, linewidth=6)
    for place, rows in zip(places, lines, strict=True):
        for row in rows:
            colour, right = _COLOURS[row.layout], {"last": 1.09, "first": 1.19}[row.layout]
            edge: dict[str, Any] = {"markeredgecolor": _PAPER, "markeredgewidth": 0.6, "clip_on": False}
            aside = {"last": -0.13, "first": 0.13}[row.layout] if len(rows) > 1 else 0
            axes.plot(row.part, place + aside, marker=_MARKS[row.layout], markersize=6, color=colour, **edge)
            axes.text(right, place, f"{row.part:.0%}", color=colour, ha="right", va="center_baseline", fontsize=8.5)
        axes.text(-0.055, place, str(rows[0].layer), ha="right", va="center_baseline", fontsize=8.5)
        axes.text(-0.012, place, str(place + 1), ha="right", va="center_baseline", fontsize=8, color=_QUIET)
    axes.set(ylim=(len(lines) - 0.5, -0.5), xlim=(0, max(1.0, *(row.part for rows in lines for row in rows))))
    axes.axvline(1, color=_INK, linewidth=1.5)
    axes.set_xticks([0, 0.25, 0.5, 0.75, 1], ["0", "25", "50", "75", "100%"])
    axes.tick_params(length=0)
    axes.set_yticks([])
    for side in axes.spines.values():
        side.set_visible(False)
    some = f": the {len(lines)} farthest from it, of {measured}" if len(lines) < measured else ""
    axes.set_title(f"Reached, of its own roof{some}", fontsize=10, loc="left")
