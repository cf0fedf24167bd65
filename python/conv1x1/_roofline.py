"""The roofline plot: what layers reach, under what the machine could do, and how much of that it is."""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import Any

import numpy as np

from .bench import Row

_COLOURS = {"last": "#1f6fb4", "first": "#d9731a"}
_MARKS = {"last": "o", "first": "s"}
_ASIDE = {"last": 1 / 1.012, "first": 1.012}  # both layouts of a layer have one intensity; so both are seen
_QUIET = "#5b6470"
_MOST_BARS = 48


def draw(path: str, rows: Sequence[Row], levels: Sequence[tuple[str, float]], title: str) -> None:
    """Draw measured layers into a file.

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
    from matplotlib.figure import Figure

    numbered = sorted(rows, key=lambda row: row.gflops / row.roof)[:_MOST_BARS]
    numbers = {id(row): i for i, row in enumerate((row for row in rows if any(row is n for n in numbered)), 1)}
    height = max(6.6, 1.6 + 0.2 * len(numbered))
    figure = Figure(figsize=(14, height), dpi=120, facecolor="white")
    figure.text(0.05, 1 - 0.35 / height, "How near the roof", fontsize=16, weight="bold", va="center")
    figure.text(0.05, 1 - 0.68 / height, title, fontsize=10, color=_QUIET, va="center")
    bottom, top = 0.62 / height, 1 - 1.05 / height
    axes = figure.add_axes((0.05, bottom, 0.51, top - bottom))
    bars = figure.add_axes((0.775, bottom, 0.205, top - bottom))
    taken = _roofs(axes, rows, levels)
    _dots(figure, axes, rows, numbers, taken)
    _bars(bars, [row for row in rows if id(row) in numbers], numbers, len(rows))
    figure.savefig(path, metadata={"Date": None} if path.lower().endswith(".svg") else None)


def _roofs(axes: Any, rows: Sequence[Row], levels: Sequence[tuple[str, float]]) -> list[Any]:
    """The machine's limits; returns the points, as of a printed page, that they and their labels take."""
    peak = max(row.peak for row in rows)
    intensities, speeds = [row.intensity for row in rows], [row.gflops for row in rows]
    left = min(intensities) / 1.6
    right = max(max(intensities) * 1.6, 2.5 * peak / min(gbs for _, gbs in levels))
    low, high = min(*speeds, *(row.roof for row in rows)) / 1.8, peak * 1.6
    axes.set(xscale="log", yscale="log", xlim=(left, right), ylim=(low, high))
    axes.set_xlabel("arithmetic intensity, FLOPs a byte that must move")
    axes.set_ylabel("GFLOP/s")
    axes.grid(True, which="major", color="#e8eaed", linewidth=0.8)
    axes.set_axisbelow(True)
    for ticks in (axes.xaxis, axes.yaxis):
        ticks.set_major_formatter(lambda value, _: f"{value:g}")
    axes.plot([peak / max(gbs for _, gbs in levels), right], [peak, peak], color="black", linewidth=1.6)
    axes.text(
        0.985, 0.975, f"multiply-adds: {peak:.0f} GFLOP/s", transform=axes.transAxes, ha="right", va="top", fontsize=9
    )
    box = axes.get_position()
    width, height = axes.figure.get_size_inches()
    slope = math.atan2(
        height * box.height / math.log(high / low),
        width * box.width / math.log(right / left),
    )
    to_points = 72 / axes.figure.dpi
    taken = [axes.transData.transform((x, peak)) * to_points for x in np.geomspace(left, right, 80)]
    along, above = np.array((math.cos(slope), math.sin(slope))), np.array((-math.sin(slope), math.cos(slope)))
    for size, gbs in levels:
        start = max(left, low / gbs)
        axes.plot([start, peak / gbs], [start * gbs, peak], color="black", linewidth=1.1)
        at = start * 1.12
        style = {"rotation": math.degrees(slope), "rotation_mode": "anchor", "va": "bottom"}
        axes.text(at, at * gbs * 1.04, f"{size}: {gbs:.0f} GB/s", fontsize=8.5, **style)
        origin = axes.transData.transform((at, at * gbs)) * to_points
        taken += [origin + 7 * above + length * along for length in range(0, 100, 5)]
    return taken


def _dots(figure: Any, axes: Any, rows: Sequence[Row], numbers: dict[int, int], taken: list[Any]) -> None:
    """Each layer, a thin line up to its own roof, and its number at a free place beside it."""
    from matplotlib.patheffects import withStroke

    for layout, colour in _COLOURS.items():
        mine = [row for row in rows if row.layout == layout]
        if not mine:
            continue
        y, roof = (np.array([getattr(row, name) for row in mine]) for name in ("gflops", "roof"))
        x = [_x(row) for row in mine]
        axes.vlines(x, np.minimum(y, roof), np.maximum(y, roof), color=colour, linewidth=0.9, alpha=0.55)
        axes.plot(x, roof, linestyle="none", marker="_", markersize=8, color=colour)
        name = f"channels {layout}; the dash is its own roof"
        axes.plot(x, y, linestyle="none", marker=_MARKS[layout], markersize=5.5, color=colour, label=name)
    axes.legend(loc="lower right", fontsize=9, frameon=True, framealpha=0.9, edgecolor="none")

    to_points = 72 / figure.dpi
    spots = axes.transData.transform([(_x(row), row.gflops) for row in rows]) * to_points
    stems = axes.transData.transform([(_x(row), row.roof) for row in rows]) * to_points
    taken += list(spots)
    taken += [low + (high - low) * t for low, high in zip(spots, stems, strict=True) for t in (0.25, 0.5, 0.75, 1)]
    for row, spot in zip(rows, spots, strict=True):
        if id(row) not in numbers:
            continue
        place = _free(spot, np.array(taken))
        taken.append(place)
        away = place - spot
        axes.annotate(
            str(numbers[id(row)]),
            (_x(row), row.gflops),
            xytext=tuple(away),
            textcoords="offset points",
            ha="center",
            va="center",
            fontsize=7.5,
            color=_COLOURS[row.layout],
            path_effects=[withStroke(linewidth=1.5, foreground="white")],
            arrowprops={"arrowstyle": "-", "linewidth": 0.5, "color": _COLOURS[row.layout], "shrinkA": 4, "shrinkB": 2}
            if math.hypot(*away) > 14
            else None,
        )


def _x(row: Row) -> float:
    return row.intensity * _ASIDE[row.layout]


def _free(spot: Any, taken: Any) -> Any:
    """The nearest place around a spot with no other number or dot on it; in points, numbers being wider than high."""
    best, room = spot, -1.0
    for radius in (10, 14, 19, 25, 32, 40):
        for angle in np.deg2rad((0, 180, -35, 215, 35, 145, -70, 250, 70, 110)):
            place = spot + radius * np.array((math.cos(angle), math.sin(angle)))
            free = float(np.min(np.hypot(*((taken - place) / (1.25, 1)).T)))
            if free >= 7.5:
                return place
            if free > room:
                best, room = place, free
    return best


def _bars(axes: Any, rows: Sequence[Row], numbers: dict[int, int], measured: int) -> None:
    parts = [row.gflops / row.roof for row in rows]
    places = np.arange(len(rows))
    axes.barh(places, parts, height=0.72, color=[_COLOURS[row.layout] for row in rows])
    axes.set(ylim=(len(rows) - 0.4, -0.6), xlim=(0, max(1.12, max(parts) + 0.12)))
    axes.set_yticks(places, [f"{row.layer} {row.layout}   {numbers[id(row)]:>2}" for row in rows], fontsize=8)
    for tick, row in zip(axes.get_yticklabels(), rows, strict=True):
        tick.set_color(_COLOURS[row.layout])
    for place, part in zip(places, parts, strict=True):
        inside = part > 0.2
        style: dict[str, Any] = {"ha": "right", "color": "white"} if inside else {"ha": "left", "color": _QUIET}
        axes.text(part + (-0.012 if inside else 0.012), place, f"{part:.0%}", va="center", fontsize=7.5, **style)
    axes.axvline(1, color="black", linewidth=1.2)
    axes.set_xticks([0, 0.25, 0.5, 0.75, 1], ["0", "25", "50", "75", "100 %"], fontsize=8.5)
    axes.tick_params(axis="y", length=0)
    for side in ("top", "right", "left"):
        axes.spines[side].set_visible(False)
    some = f": the {len(rows)} farthest from it, of {measured}" if len(rows) < measured else ""
    axes.set_title(f"reached, in % of its own roof{some}", fontsize=10, loc="right")
