"""TIFF files without rasterio: read as zarr arrays, written in tiles; what they know of the earth is lost."""

from __future__ import annotations

import itertools
from collections.abc import Iterator
from typing import Any

import numpy as np

from ..checks.arrays import Array
from .arrays import SlicedSource
from .base import Result, Staged, library
from .net import Region
from .raw import Body, Scratch, shape_of

_BLOCK = 256
_NODATA = 42113  # GDAL's tag


class TiffSource(SlicedSource):
    """A TIFF file as an array of zarr's, its bands on an axis."""

    def __init__(self, array: Any, path: str, file: Any, from_axis: int, axis: int) -> None:
        super().__init__(array, path)
        self._file, self._from, self.facts = file, from_axis, {"kind": "tiff"}
        self.axis = range(len(self.shape))[axis] if -len(self.shape) <= axis < len(self.shape) else axis
        placed = list(range(len(self.shape)))
        placed.insert(self.axis, placed.pop(from_axis))
        self._placed = tuple(placed)
        self.shape = tuple(self.shape[a] for a in placed)
        self.grain = None if self.grain is None else tuple(self.grain[a] for a in placed)
        self.order = tuple(placed.index(a) for a in range(len(placed)))

    def read(self, region: Region, scratch: Scratch) -> Array:
        there = tuple(region[a] for a in self.order)
        return np.asarray(self.thing[there]).transpose(self._placed)

    def close(self) -> None:
        self._file.close()


def source(path: str, axis: int) -> TiffSource:
    """A file to read from."""
    tifffile, zarr = library("tifffile", path), library("zarr", path)
    try:
        file = tifffile.TiffFile(path)
    except tifffile.TiffFileError as error:
        raise ValueError(f"{path} is no TIFF file: {error}") from None
    try:
        if not file.pages:
            raise ValueError(f"{path} is a TIFF file without an image")
        series, page = file.series[0], file.pages[0]
        array = zarr.open(series.aszarr(), mode="r")
        if not hasattr(array, "shape"):
            array = array["0"]
        axes = series.axes
        at = len(axes) - 1 if axes.endswith("S") else 0
        if len(axes) == 2:
            raise ValueError(f"{path} has one band: {axes} of shape {series.shape}")
        made = TiffSource(array, path, file, at, axis)
        if _NODATA in page.tags:
            made.nodata = (float(page.tags[_NODATA].value),)
        return made
    except BaseException:
        file.close()
        raise


class File(Staged):
    """A TIFF file, which is written when all tiles are there."""

    def __init__(self, path: str, result: Any, made: Result, options: dict[str, Any]) -> None:
        super().__init__(path, result, made, options, path)
        self.order = made.order
        self._planes = made.planes(path)

    def convert(self, body: Body, new: str) -> None:
        made, (bands, rows, columns) = self.made, self._planes
        count = 1 if bands < 0 else made.shape[bands]
        shape = (made.shape[rows], made.shape[columns])
        options: dict[str, Any] = {"tile": (_BLOCK, _BLOCK), "photometric": "minisblack", "metadata": None}
        if made.nodata is not None:
            options["extratags"] = [(_NODATA, 2, 0, str(made.nodata), True)]
        if count > 1:
            options["planarconfig"] = "separate"
        library("tifffile", self.path).imwrite(
            new,
            self._blocks(body, count),
            shape=(count, *shape) if count > 1 else shape,
            dtype=made.dtype,
            bigtiff=made.nbytes > 2**32 - 2**25,
            **options | self.options,
        )

    def _blocks(self, body: Body, count: int) -> Iterator[Array]:
        made, (bands, rows, columns), scratch = self.made, self._planes, Scratch()
        height, width = made.shape[rows], made.shape[columns]
        for band, top, left in itertools.product(range(count), range(0, height, _BLOCK), range(0, width, _BLOCK)):
            region = [slice(band, band + 1)] * len(made.shape)
            region[rows] = slice(top, min(top + _BLOCK, height))
            region[columns] = slice(left, min(left + _BLOCK, width))
            tile = scratch.array(shape_of(tuple(region)), made.dtype, self.order)
            body.read(tuple(region), tile)
            block = np.zeros((_BLOCK, _BLOCK), made.dtype)
            plane = tile if bands < 0 else tile.squeeze(bands)
            block[: plane.shape[0], : plane.shape[1]] = plane
            yield block
