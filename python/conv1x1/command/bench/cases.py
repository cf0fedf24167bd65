"""What `conv1x1 bench` measures: layers that occur, or those of a file."""

from __future__ import annotations

import csv
import os
from collections.abc import Iterable
from typing import Any

import numpy as np

from ... import conv1x1
from .timing import Layer

LAYERS = (
    Layer("", 192, 1, 28, 28),
    Layer("", 192, 16, 28, 28),
    Layer("", 192, 64, 28, 28),
    Layer("MobileNetV1", 32, 64, 112, 112),
    Layer("MobileNetV1", 512, 512, 14, 14),
    Layer("MobileNetV2", 24, 144, 56, 56),
    Layer("MobileNetV2", 144, 24, 56, 56),
    Layer("MobileNetV2", 192, 32, 28, 28),
    Layer("MobileNetV2", 960, 320, 7, 7),
    Layer("ResNet-50", 256, 64, 56, 56),
    Layer("ResNet-50", 512, 1024, 28, 28, stride=2),
    Layer("ShuffleNet", 240, 240, 28, 28, groups=3),
    Layer("Squeeze", 960, 240, 1, 1),
    Layer("Classifier", 1024, 1000, 1, 1),
    Layer("RGB to grey", 3, 1, 1024, 1024),
    Layer("RGB to RGB", 3, 3, 1024, 1024),
    Layer("RGB to grey", 3, 1, 1024, 1024, dtype="uint8"),
    Layer("Hyperspectral", 224, 10, 256, 256),
    Layer("Hyperspectral", 224, 10, 256, 256, dtype="uint16"),
    Layer("Hyperspectral", 224, 10, 128, 128, dtype="float64"),
)
"""Of every kind: one filter and many, stride, groups, one pixel, colours, cubes. A pixel type is the field `dtype`."""

LAYOUTS = ("last", "first")

_NEEDED = ("in_channels", "out_channels", "height", "width")
_OPTIONAL = ("stride", "groups")
_MOST_DIGITS = 18  # no array has more


def cases(layers: Iterable[Layer], layout: str) -> list[tuple[Layer, str]]:
    """What to time.

    Parameters
    ----------
    layers : iterable of Layer
    layout : str
        "last", "first" or "both"; of a single pixel both are the same, so it comes once then.

    Returns
    -------
    list of (Layer, layout)

    Examples
    --------
    >>> [(str(layer), layout) for layer, layout in cases(LAYERS[2:3], "both")]
    [('28×28 192→64', 'last'), ('28×28 192→64', 'first')]
    """
    if layout != "both":
        return [(layer, layout) for layer in layers]
    return [(layer, which) for layer in layers for which in LAYOUTS[: 1 if layer.one_pixel else 2]]


def read_layers(path: str) -> list[Layer]:
    """Layers from a CSV file.

    Parameters
    ----------
    path : str
        With the columns in_channels, out_channels, height, width and maybe name, stride, groups and dtype; others are
        ignored.

    Returns
    -------
    list of Layer

    Raises
    ------
    ValueError
        The file is not such a table; the message has the line.
    OSError
        The file cannot be read.
    """
    layers = []
    with open(path, newline="", encoding="utf-8-sig") as file:
        try:
            reader = csv.DictReader(file, skipinitialspace=True)
            columns = [name.strip() for name in reader.fieldnames or ()]
            if missing := [name for name in _NEEDED if name not in columns]:
                raise ValueError(
                    f"{path}: line 1 names no column {', '.join(missing)}; needed are {', '.join(_NEEDED)}, "
                    f"and name, {', '.join(_OPTIONAL)}, dtype may be there"
                )
            reader.fieldnames = columns
            for record in reader:
                texts = {name: (record.get(name) or "").strip() for name in Layer._fields}
                layers.append(_layer(texts, f"{path}, line {reader.line_num}"))
        except (csv.Error, UnicodeDecodeError) as error:
            raise ValueError(f"{path}: not a CSV file: {error}") from error
    if not layers:
        raise ValueError(f"{path}: no layers below the line of column names")
    return layers


def _layer(texts: dict[str, str], where: str) -> Layer:
    numbers = {}
    for name in _NEEDED + _OPTIONAL:
        text = texts[name] or ("1" if name in _OPTIONAL else "")
        if not (text.isascii() and text.isdecimal() and len(text) <= _MOST_DIGITS and int(text) > 0):
            raise ValueError(f"{where}: {name} is {text!r}, and must be a whole number from 1")
        numbers[name] = int(text)
    layer = Layer(texts["name"], **numbers, dtype=_dtype(texts["dtype"] or "float32", where).name)
    if layer.in_channels % layer.groups or layer.out_channels % layer.groups:
        raise ValueError(
            f"{where}: {layer.groups} groups do not divide {layer.in_channels} and {layer.out_channels} channels"
        )
    # The pixels and the result, also in float64 to check them by; each more than once meanwhile.
    needed = 16 * (layer.height * layer.width * layer.in_channels + layer.pixels * layer.out_channels)
    needed += 16 * layer.out_channels * layer.in_channels // layer.groups
    if needed > (memory := os.sysconf("SC_PHYS_PAGES") * os.sysconf("SC_PAGE_SIZE")):
        raise ValueError(f"{where}: it would take {needed / 1e9:,.0f} GB of memory; there are {memory / 1e9:,.0f}")
    return layer


def _dtype(text: str, where: str) -> np.dtype[Any]:
    """A type of pixels, of which layers can be run and checked for all of its numbers."""
    try:
        dtype = np.dtype(text)
        conv1x1(np.full(1, np.iinfo(dtype).max if dtype.kind in "iu" else 0, dtype), np.zeros((1, 1), np.float32))
        if dtype.kind not in "biuf":
            raise TypeError("only real numbers are timed")
    except (TypeError, ValueError, SyntaxError) as error:  # the last, says NumPy, of such as "1,,"
        raise ValueError(f"{where}: dtype is {text!r}: {error}") from error
    return dtype
