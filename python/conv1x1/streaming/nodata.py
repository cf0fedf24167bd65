"""What tiles go through besides the net: scale and offset of a file, and pixels of which there are no data."""

from __future__ import annotations

import warnings
from typing import Any

import numpy as np

from ..checks.arrays import Array, is_integer, spelled
from .base import Source
from .net import Net, Region
from .raw import Scratch

_BLOCK = 1 << 18  # numbers looked at at once


def scaling(source: Source, scaled: Any) -> tuple[Array, Array] | None:
    """Factor and offset that are to be applied."""
    if scaled is not None and not isinstance(scaled, (bool, np.bool_)):
        raise TypeError(f"scaled must be True or False, got {spelled(scaled)}")
    if source.scale is None:
        if scaled:
            raise ValueError(f"scaled=True, but {source.name} tells of no scale and no offset")
        return None
    if scaled is None:
        factor, offset = (spelled(a.tolist()[:3] if len(a) > 3 else a.tolist()) for a in source.scale)
        raise ValueError(
            f"{source.name} tells of a scale, {factor}, and an offset, {offset}: pass scaled=True for "
            "numbers · scale + offset, or scaled=False for the numbers as they are"
        )
    return source.scale if scaled else None


def scaled_type(dtype: np.dtype[Any]) -> np.dtype[Any]:
    """Of numbers that were scaled."""
    wide = dtype.itemsize > 2 if is_integer(dtype) else dtype == np.float64
    return np.dtype(np.float64 if wide else np.float32)


class Steps:
    """What a tile goes through: scaled, computed, and blanked where there are no data."""

    def __init__(self, net: Net, source: Source, scale: tuple[Array, Array] | None) -> None:
        self.net, self.source = net, source
        self.values: Array | None = None  # (channels,), of float64
        self.out: Any = None
        self.all = False
        self._scale = None if scale is None else tuple(self._along(a.astype(scaled_type(source.dtype))) for a in scale)
        self.scales = scale is not None
        self._full = np.ones(net.channels, bool)  # bands of which nothing but nodata was seen

    def ask(self, nodata: Any, when: Any, out: Any) -> None:
        """What the caller wants of pixels without data, checked."""
        if when not in ("any", "all"):
            raise ValueError(f'nodata_when must be "any" or "all", got {spelled(when)}')
        self.all = when == "all"
        own = nodata is None
        given = self.source.nodata if own else None if nodata is False else np.ravel(nodata)
        if given is not None:
            self.values = self._values(given, own)
        if self.values is None and not (own and self.source.masked):
            if out is not None:
                raise ValueError(f"nodata_out={spelled(out)}, but there is no nodata: pass nodata=")
            return
        self.out = self._checked(out)

    def _values(self, given: Any, own: bool) -> Array | None:
        try:
            values = np.array(given, float)
        except (TypeError, ValueError):
            raise TypeError(f"nodata must be a number or one for each channel, got {spelled(given)}") from None
        if values.size not in (1, self.net.channels):
            raise ValueError(
                f"nodata has {values.size} numbers; expected one, or {self.net.channels}, one for each channel"
            )
        values = np.broadcast_to(values, self.net.channels)
        if is_integer(self.source.dtype):
            limits = np.iinfo(self.source.dtype) if self.source.dtype.kind != "b" else np.iinfo(np.uint8)
            cannot = ~((values >= limits.min) & (values <= limits.max) & (values == np.rint(values)))
            if cannot.any() and not own:
                raise ValueError(f"nodata={values[cannot][0]:g} can be no pixel of {self.source.dtype}")
            if cannot.all():  # a file may tell of what no pixel of it can be
                return None
        return values

    def _checked(self, out: Any) -> Any:
        """What stands for no data in the result: representable, and no label."""
        dtype, labels = self.net.dtype, self.net.labels()
        if out is None:
            if not is_integer(dtype):
                return np.nan
            free = next((v for v in (np.iinfo(dtype).max, np.iinfo(dtype).min, 0) if v not in labels), None)
            raise ValueError(
                f"pixels of {self.source.name} without data need a number in the result, of {dtype}: pass nodata_out="
                f"{free}, or nodata=False to take all pixels as they are"
            )
        try:
            with np.errstate(all="ignore"):
                value = np.asarray(out).astype(dtype)[()]
            fits = np.ndim(out) == 0 and (value == out or (out != out and value != value))
        except (TypeError, ValueError, OverflowError):
            fits = False
        if not fits:
            raise ValueError(f"nodata_out={spelled(out)} cannot be held by the result, which is of {dtype}")
        if value in labels:
            raise ValueError(f"nodata_out={spelled(out)} is one of the labels: pass another number")
        return value

    def __call__(self, region: Region, x: Array, y: Array, threads: int, scratch: Scratch) -> None:
        """A tile and its result."""
        blank = self._blank(region, x)
        if self._scale is not None:
            factor, offset = self._scale
            numbers = scratch.array(x.shape, factor.dtype, self.source.order)
            with np.errstate(all="ignore"):
                np.multiply(x, factor, out=numbers, casting="unsafe")
                np.add(numbers, offset, out=numbers)
            x = numbers
        self.net(x, y, threads)
        if blank is not None and blank.any():
            steps = [n for i, n in enumerate(self.net.strides) if i != self.net.axis]
            chosen = blank[tuple(slice(None, None, n) for n in steps)]
            (np.moveaxis(y, self.net.axis, -1) if self.net.keeps_axis else y)[chosen] = self.out

    def _blank(self, region: Region, x: Array) -> Array | None:
        """Which pixels of a tile have no data."""
        hidden = self.source.hidden(region) if self.out is not None else None
        if self.values is None:
            return hidden
        pixels = np.moveaxis(x, self.net.axis, -1)
        blank = np.empty(pixels.shape[:-1], bool)
        full = np.ones(self.net.channels, bool)
        axis = int(np.argmax(blank.shape)) if blank.ndim else 0
        length = blank.shape[axis] if blank.ndim else 1
        rows = max(1, _BLOCK * length // max(1, pixels.size))
        for start in range(0, length, rows):
            part = (slice(None),) * axis + (slice(start, start + rows),) if blank.ndim else ()
            block = pixels[part]
            hit = block == self.values
            if np.isnan(self.values).any():
                hit |= np.isnan(block) & np.isnan(self.values)
            blank[part] = hit.all(-1) if self.all else hit.any(-1)
            full &= hit.all(tuple(range(hit.ndim - 1)))
        self._full &= full
        return blank if hidden is None else blank | hidden

    def warn(self) -> None:
        """Name bands that have no data at all, once all tiles were seen."""
        if self.values is None or not self._full.any():
            return
        at = np.flatnonzero(self._full)
        names = [self.source.bands[i] if self.source.bands else str(i) for i in at[:5]]
        warnings.warn(
            f"{self.source.name} has no data at all in {len(at)} of {len(self._full)} bands: {', '.join(names)}",
            stacklevel=2,
        )

    def _along(self, values: Array) -> Array:
        shape = [1] * len(self.source.shape)
        shape[self.net.axis] = -1
        return values.reshape(shape)
