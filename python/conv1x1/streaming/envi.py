"""ENVI files, a header and raw numbers, read and written in place.

The header is read here, since what there is to it are lines of `name = value`: the library that does it, spectral, maps
the numbers into memory, which is what this is to do without.
"""

from __future__ import annotations

import math
import os
import re
import sys
from typing import Any

import numpy as np

from . import base
from .base import RawSource, Result, Target
from .raw import Body, check_size, create, open_regular

TYPES = {1: "u1", 2: "i2", 3: "i4", 4: "f4", 5: "f8", 6: "c8", 9: "c16", 12: "u2", 13: "u4", 14: "i8", 15: "u8"}
#: The axes of (bands, rows, columns) as they lie, outermost first.
_INTERLEAVES = {"bsq": (0, 1, 2), "bil": (1, 0, 2), "bip": (1, 2, 0)}
_BODIES = ("", ".img", ".dat", ".raw", ".bin", ".bsq", ".bil", ".bip")
_MOST_HEADER = 1 << 24
#: What a map is told of where pixels lie, which goes along.
_PLACE = ("map info", "coordinate system string", "projection info")


def parsed(path: str) -> dict[str, str]:
    """The entries of a header, their names in small letters."""
    fd, size = open_regular(path)
    try:
        if size > _MOST_HEADER:
            raise ValueError(f"{path} is no ENVI header: it has {size} bytes")
        text = os.pread(fd, size, 0).decode("utf-8", "replace")
    finally:
        os.close(fd)
    if not text.lstrip("\ufeff \t\r\n").startswith("ENVI"):
        raise ValueError(f"{path} is no ENVI header: it does not begin with ENVI")
    entries = re.findall(r"^[ \t]*([^=;\n{}]+?)[ \t]*=[ \t]*(\{[^}]*\}|[^\n]*)", text, re.MULTILINE)
    return {name.lower(): value.strip() for name, value in entries}


def listed(value: str) -> list[str]:
    """The parts of `{a, b, c}`."""
    return [part.strip() for part in value.strip().strip("{}").split(",") if part.strip()]


class _Header:
    """What a header says, once it makes sense."""

    def __init__(self, path: str) -> None:
        self.path, self.entries = path, parsed(path)
        self.lines, self.samples, self.bands = (self.number(n, least=1) for n in ("lines", "samples", "bands"))
        self.offset = self.number("header offset", 0)
        kind = self.number("data type")
        if kind not in TYPES:
            raise ValueError(f"{path}: data type = {kind} is unknown; known are {', '.join(map(str, TYPES))}")
        order = self.number("byte order", 0)
        if order not in (0, 1):
            raise ValueError(f"{path}: byte order = {order}; expected 0 or 1")
        self.dtype = np.dtype("<>"[order] + TYPES[kind])
        self.interleave = self.entries.get("interleave", "").lower()
        if self.interleave not in _INTERLEAVES:
            found = self.entries.get("interleave", "missing")
            raise ValueError(f"{path}: interleave is {found}; expected bsq, bil or bip")
        if self.number("file compression", 0):
            raise ValueError(f"{path}: the file is compressed, and cannot be read by its places: uncompress it first")

    def number(self, name: str, default: int | None = None, least: int = 0) -> int:
        value = self.entries.get(name, default)
        if value is None:
            raise ValueError(f"{self.path} has no entry '{name}'")
        try:
            number = int(value)
        except ValueError:
            raise ValueError(f"{self.path}: {name} = {value} is no whole number") from None
        if not least <= number < 2**62:
            raise ValueError(f"{self.path}: {name} = {number}; expected at least {least}")
        return number

    def numbers(self, name: str) -> list[float] | None:
        if name not in self.entries:
            return None
        try:
            return [float(v) for v in listed(self.entries[name])]
        except ValueError:
            raise ValueError(f"{self.path}: {name} = {self.entries[name]} are no numbers") from None


def source(path: str, axis: int) -> RawSource:
    """A file to read from, its bands on that axis."""
    header = _Header(path)
    fd, size = open_regular(_body_of(path))
    try:
        sides = header.bands, header.lines, header.samples
        what = f"{header.lines} lines of {header.samples} samples of {header.bands} bands of {header.dtype}"
        check_size(path, header.offset, math.prod(sides) * header.dtype.itemsize, size, what)
        placed = _placed(axis)
        shape = tuple(sides[p] for p in placed)
        order = tuple(placed.index(a) for a in _INTERLEAVES[header.interleave])
        made = RawSource(Body(_body_of(path), fd, header.offset, shape, header.dtype, order), {})
        made.facts = {"kind": "ENVI", "bytes": size, "interleave": header.interleave}
        made.name = path
        _tell(made, header)
        return made
    except BaseException:
        os.close(fd)
        raise


def _placed(axis: int) -> tuple[int, ...]:
    """Where bands (0), rows (1) and columns (2) are, with the bands on that axis."""
    if not -3 <= axis < 3:
        raise ValueError(f"channel_axis={axis} is outside an ENVI file, which has 3 axes")
    placed = [1, 2]
    placed.insert(axis % 3, 0)
    return tuple(placed)


def _tell(made: RawSource, header: _Header) -> None:
    """What the file knows of itself."""
    names = listed(header.entries.get("band names", "")) or listed(header.entries.get("wavelength", ""))
    if len(names) == header.bands:
        made.bands = tuple(names)
    ignored = header.numbers("data ignore value")
    made.nodata = tuple(ignored) if ignored else None
    gains, offsets = header.numbers("data gain values"), header.numbers("data offset values")
    factor = header.numbers("reflectance scale factor")
    if gains or offsets:
        made.scale = np.array(gains or [1.0]), np.array(offsets or [0.0])
    elif factor and factor[0] != 1:
        made.scale = 1 / np.array(factor[:1]), np.array([0.0])
    made.place = {name: header.entries[name] for name in _PLACE if name in header.entries}


def _body_of(path: str) -> str:
    """The file with the numbers of a header."""
    stem = path[: -len(".hdr")]
    for end in (*_BODIES, *(e.upper() for e in _BODIES[1:])):
        if os.path.isfile(stem + end):
            return stem + end
    raise FileNotFoundError(2, f"there is no file of numbers, such as {stem}.img, beside", path)


class File(base.File):
    """An ENVI file to be written, interleaved as its source where that is one."""

    def __init__(self, path: str, result: Any, made: Result, options: dict[str, Any]) -> None:
        super().__init__(path, result, made, options)
        self.partial = path[: -len(".hdr")] + ".img"
        bands, rows, columns = made.planes(path)
        codes = {np.dtype(name): code for code, name in TYPES.items()}
        if made.dtype not in codes:
            raise TypeError(f"an ENVI file cannot hold {made.dtype}: pass dtype=np.float32 or another that it can")
        at = {bands: 0, rows: 1, columns: 2}
        lying = tuple(at[a] for a in made.order) if bands >= 0 else (0, 1, 2)
        interleave = next((n for n, order in _INTERLEAVES.items() if order == lying), "bsq")
        interleave = str(self.options.pop("interleave", interleave)).lower()
        if interleave not in _INTERLEAVES or self.options:
            raise ValueError(f"an ENVI file takes interleave= bsq, bil or bip, got {options}")
        back = {v: k for k, v in at.items()}
        self.order = tuple(back[a] for a in _INTERLEAVES[interleave] if back[a] >= 0)
        entries = {
            "samples": made.shape[columns],
            "lines": made.shape[rows],
            "bands": 1 if bands < 0 else made.shape[bands],
            "header offset": 0,
            "file type": "ENVI Standard",
            "data type": codes[made.dtype],
            "interleave": interleave,
            "byte order": int(sys.byteorder == "big"),
        }
        if made.nodata is not None:
            entries["data ignore value"] = made.nodata
        if made.bands:
            entries["band names"] = _braced(made.bands)
        if names := made.categories():
            entries |= {"classes": len(names), "class names": _braced(tuple(names))}
        if made.steps == (1, 1):
            entries |= {name: value for name, value in (made.source.place or {}).items() if name in _PLACE}
        self._header = "ENVI\n" + "".join(f"{name} = {value}\n" for name, value in entries.items())

    def create(self, overwrite: bool, chunks: tuple[int, ...]) -> Target:
        target = super().create(overwrite, chunks)
        data = self._header.encode()
        os.close(create(self.path, data, len(data), overwrite))
        return target

    def complete(self, body: Body) -> None:
        data = self._header.encode()  # again, since a kill may have come before it
        os.close(create(self.path, data, len(data), True))

    def discard(self) -> None:
        super().discard()
        os.unlink(self.path)


def _braced(names: tuple[str, ...]) -> str:
    return "{" + ", ".join(n.replace(",", ";").replace("}", ")") for n in names) + "}"
