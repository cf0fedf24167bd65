"""The layer of a job: which axis of the source has its channels, what comes out, and which part of it a tile makes."""

from __future__ import annotations

from typing import Any

import numpy as np

from ..checks import geometry
from ..checks.arrays import Array, DTypeLike, spelled

Region = tuple[slice, ...]


class Net:
    """A layer or a chain on a source, with its pixels in this type."""

    def __init__(self, layer: Any, source: Any, dtype: np.dtype[Any], axis: int, out_dtype: DTypeLike | None) -> None:
        shape = source.shape
        whole = np.broadcast_to(np.zeros((), dtype), shape)
        self.layer = layer
        self.axis = geometry.axis(whole, axis)
        self.channels = shape[self.axis]
        if layer.in_channels is not None:
            _check_channels(whole, axis, layer, source)
        self._own_axis = geometry.axis(whole, layer.channel_axis)
        self.strides = geometry.strides_per_axis(whole, self.axis, _stride(layer))
        made = self._probe(dtype, 2)
        self.keeps_axis = made.ndim == len(shape)
        if not all(self._keeps_pixels_apart(self._probe(dtype, n).shape, n) for n in (2, 3)):
            raise ValueError(f"{spelled(layer)} joins pixels: stream is for what makes of each pixel its own")
        self.out_channels = made.shape[self._own_axis] if self.keeps_axis else 1
        self.dtype = made.dtype if out_dtype is None else np.dtype(out_dtype)
        if self.dtype != made.dtype:  # for what the layer says of a type that it cannot give
            self._probe(dtype, 2, np.empty(made.shape, self.dtype))
        self.shape = geometry.result_shape(whole, self.axis, self.strides, self.out_channels, self.keeps_axis)

    def __call__(self, x: Array, out: Array, threads: int) -> None:
        self.layer(self._moved(x), out=self._moved(out) if self.keeps_axis else out, threads=threads)

    def region(self, of_source: Region) -> Region:
        """The part of the result that a tile of the source makes; the tile begins at a multiple of the strides."""
        parts = [slice(s.start // n, -(-s.stop // n)) for s, n in zip(of_source, self.strides, strict=True)]
        parts[self.axis : self.axis + 1] = [slice(0, self.out_channels)] if self.keeps_axis else []
        return tuple(parts)

    def order(self, of_source: tuple[int, ...]) -> tuple[int, ...]:
        """The axes of a result that lies as the source does, outermost first."""
        if self.keeps_axis:
            return of_source
        return tuple(a - (a > self.axis) for a in of_source if a != self.axis)

    def unit(self, grain: tuple[int, ...] | None) -> tuple[int, ...]:
        """The smallest tile of the source that makes whole chunks of the result."""
        parts = [1] * len(self.strides) if grain is None else list(grain)
        if grain is not None and not self.keeps_axis:
            parts.insert(self.axis, 1)
        parts[self.axis] = self.channels
        return tuple(p if i == self.axis else p * n for i, (p, n) in enumerate(zip(parts, self.strides, strict=True)))

    def _probe(self, dtype: np.dtype[Any], n: int, out: Array | None = None) -> Array:
        """What the layer makes of n pixels on each axis."""
        shape = [(n - 1) * s + 1 for s in self.strides]
        shape[self.axis] = self.channels
        y: Array = self.layer(self._moved(np.broadcast_to(np.zeros((), dtype), shape)), out=out, threads=1)
        return y

    def _keeps_pixels_apart(self, shape: tuple[int, ...], n: int) -> bool:
        pixels = [s for i, s in enumerate(shape) if not self.keeps_axis or i != self._own_axis]
        return pixels == [n] * (len(self.strides) - 1)

    def labels(self) -> list[int]:
        """What a classifier gives; nothing for other layers."""
        elements = [self.layer]
        while hasattr(elements[-1], "__len__"):
            elements[-1:] = list(elements[-1])
        if type(elements[-1]).__name__ != "ArgMax":
            return []
        if elements[-1].labels is not None:
            return list(elements[-1].labels.tolist())
        return list(range(next((e.out_channels for e in reversed(elements) if hasattr(e, "out_channels")), 0)))

    def _moved(self, a: Array) -> Array:
        return a if self.axis == self._own_axis else np.moveaxis(a, self.axis, self._own_axis)


def _check_channels(whole: Array, axis: int, layer: Any, source: Any) -> None:
    """The number of channels, and their names where both have some."""
    names = source.bands and list(source.bands)
    try:
        geometry.check_channels(whole, axis, layer.in_channels, 1, taker="the layer takes")
    except ValueError as error:
        called = "" if not names else f"; its bands are {', '.join(names[:12])}{', …' * (len(names) > 12)}"
        raise ValueError(f"{source.name}: {error}{called}") from None
    expected = getattr(layer, "band_names", None)
    if names and expected and names != [*expected]:
        i = next(i for i, (a, b) in enumerate(zip(names, expected, strict=True)) if a != b)
        raise ValueError(f"{source.name}: band {i} is called {names[i]}, and the layer takes {expected[i]} there")


def _stride(layer: Any) -> int | tuple[int, ...]:
    """The stride of a layer, or of the first of a chain."""
    while not hasattr(layer, "stride"):
        try:
            layer = layer[0]
        except (TypeError, IndexError):
            return 1
    stride: int | tuple[int, ...] = layer.stride
    return stride
