"""GeoTIFF and whatever else GDAL reads, with what it knows of the place on earth, of nodata and of the bands."""

from __future__ import annotations

import html
import importlib.util
import itertools
import os
import threading
import warnings
from contextlib import ExitStack
from typing import Any

import numpy as np

from ..checks.arrays import Array
from .base import Result, Source, Staged, library
from .net import Region
from .raw import Body, Scratch, shape_of

#: GDAL's own cache of blocks, which else is a part of the machine's memory.
CACHE = 16 << 20
_BLOCK = 256


def is_dataset(thing: Any) -> bool:
    """Whether it is a dataset of rasterio's that is open."""
    return all(hasattr(thing, name) for name in ("read", "block_shapes", "colorinterp", "dtypes", "indexes"))


def source(path: str, axis: int) -> Source:
    """A file to read from, its bands on that axis; one of several pages, which GDAL takes for several, by tifffile."""
    rasterio = library("rasterio", path)
    if not os.path.exists(path):
        raise FileNotFoundError(2, os.strerror(2), path)
    with ExitStack() as opened:
        opened.enter_context(rasterio.Env(GDAL_CACHEMAX=CACHE))
        try:
            with warnings.catch_warnings():
                warnings.simplefilter("ignore")  # of what has no place on earth
                dataset = opened.enter_context(rasterio.open(path))
        except rasterio.errors.RasterioError as error:
            raise ValueError(f"{path} is no file that GDAL reads: {error}") from None
        if len(dataset.subdatasets) < 2 or not importlib.util.find_spec("tifffile"):
            made = RasterSource(dataset, axis)
            made.opened = opened.pop_all()
            return made
    from . import tifffile

    return tifffile.source(path, axis)


class RasterSource(Source):
    """A dataset of rasterio's, of which one thread at a time reads."""

    copies = 2  # in blocks, and in the tile
    cache = CACHE

    def __init__(self, dataset: Any, axis: int) -> None:
        self.dataset, self.opened, self._lock = dataset, ExitStack(), threading.Lock()
        self.name = dataset.name
        alpha = [i for i, c in zip(dataset.indexes, dataset.colorinterp, strict=True) if c.name == "alpha"]
        self._indexes = [i for i in dataset.indexes if i not in alpha]
        self._alpha = alpha[0] if alpha and self._indexes else None
        masks = [dataset.mask_flag_enums[i - 1] for i in self._indexes]
        self.masked = self._alpha is not None or any("per_dataset" in {f.name for f in flags} for flags in masks)
        types = {dataset.dtypes[i - 1] for i in self._indexes}
        if len(types) != 1:
            raise TypeError(
                f"{self.name} has bands of several types, {', '.join(sorted(types))}: write one of one type"
            )
        self.dtype = np.dtype(types.pop())
        self.axis = range(3)[axis] if -3 <= axis < 3 else axis
        bands, (height, width) = len(self._indexes), dataset.shape
        block = [max(sides) for sides in zip(*dataset.block_shapes, strict=True)]
        self._rows, self._columns = (a for a in range(3) if a != self.axis)
        self.order = (self.axis, self._rows, self._columns)
        self.shape, self.grain = self._placed(bands, height, width), self._placed(bands, *block)
        self.facts = {"kind": dataset.driver, "size": [height, width], "nodata": repr(dataset.nodatavals)}
        self.retile = f"rio convert {self.name} tiled.tif --co tiled=yes --co blockxsize=256 --co blockysize=256"
        self._tell(dataset)

    def _tell(self, dataset: Any) -> None:
        """What the file knows of itself."""
        at = [i - 1 for i in self._indexes]
        descriptions = [dataset.descriptions[i] for i in at]
        if all(descriptions):
            self.bands = tuple(descriptions)
        nodata = [dataset.nodatavals[i] for i in at]
        if all(v is not None for v in nodata):
            self.nodata = tuple(nodata)
        scales, offsets = ([values[i] for i in at] for values in (dataset.scales, dataset.offsets))
        if any(s != 1 for s in scales) or any(offsets):
            self.scale = np.array(scales), np.array(offsets)
        identity = dataset.transform.is_identity if hasattr(dataset.transform, "is_identity") else False
        place = {"crs": dataset.crs, "transform": None if identity else dataset.transform}
        self.place = {k: v for k, v in place.items() if v}
        gcps, crs = dataset.gcps
        if gcps and not self.place.get("transform"):
            self.place |= {"gcps": gcps, "crs": crs}

    def _placed(self, bands: int, rows: int, columns: int) -> tuple[int, ...]:
        sides = [rows, columns]
        sides.insert(self.axis, bands)
        return tuple(sides)

    def _window(self, region: Region) -> tuple[tuple[int, int], tuple[int, int]]:
        rows, columns = region[self._rows], region[self._columns]
        return (rows.start, rows.stop), (columns.start, columns.stop)

    def read(self, region: Region, scratch: Scratch) -> Array:
        tile = scratch.array(shape_of(region), self.dtype, self.order)
        with self._lock:
            self.dataset.read(self._indexes, out=tile.transpose(self.order), window=self._window(region))
        return tile

    def hidden(self, region: Region) -> Array | None:
        if not self.masked:
            return None
        with self._lock:
            if self._alpha is not None:
                there = self.dataset.read(self._alpha, window=self._window(region))
            else:
                there = self.dataset.read_masks(self._indexes[0], window=self._window(region))
        return np.asarray(there == 0)

    def close(self) -> None:
        self.opened.close()


class File(Staged):
    """A GeoTIFF, which is written when all tiles are there."""

    def __init__(self, path: str, result: Any, made: Result, options: dict[str, Any]) -> None:
        super().__init__(path, result, made, options, path)
        self.order = made.order
        self._planes = made.planes(path)

    def complete(self, body: Body) -> None:
        super().complete(body)
        if names := self.made.categories():
            listed = "".join(f"<Category>{html.escape(n, quote=False)}</Category>" for n in names)
            band = f'<PAMRasterBand band="1"><CategoryNames>{listed}</CategoryNames></PAMRasterBand>'
            with open(
                f"{self.file}.aux.xml", "w", encoding="utf-8"
            ) as file:  # where GDAL has what TIFF has no place for
                file.write(f"<PAMDataset>{band}</PAMDataset>\n")

    def convert(self, body: Body, new: str) -> None:
        made, (bands, rows, columns) = self.made, self._planes
        height, width = made.shape[rows], made.shape[columns]
        count = 1 if bands < 0 else made.shape[bands]
        options = {"tiled": True, "blockxsize": _BLOCK, "blockysize": _BLOCK, "BIGTIFF": "IF_SAFER"} | self.options
        options |= {"driver": "GTiff", "height": height, "width": width, "count": count, "dtype": made.dtype.name}
        place = _strided(made.source.place or {}, made.steps)
        rasterio = library("rasterio", self.path)
        with rasterio.Env(GDAL_CACHEMAX=CACHE), warnings.catch_warnings():
            warnings.simplefilter("ignore")
            with rasterio.open(new, "w", nodata=made.nodata, **options, **place) as dataset:
                for number, name in enumerate(made.bands or (), 1):
                    dataset.set_band_description(number, name)
                self._fill(dataset, body, count)
            self._compare(rasterio, body, new)

    def _compare(self, rasterio: Any, body: Body, new: str) -> None:
        """A disk that gets full while GDAL closes a file is no error to it."""
        made, (bands, rows, columns) = self.made, self._planes
        with rasterio.open(new) as dataset:
            for row in (0, made.shape[rows] - 1):
                region = [slice(0, n) for n in made.shape]
                region[rows] = slice(row, row + 1)
                tile = Scratch().array(shape_of(tuple(region)), made.dtype, self.order)
                body.read(tuple(region), tile)
                planes = tile[None] if bands < 0 else np.moveaxis(tile, bands, 0)
                there = dataset.read(window=((row, row + 1), (0, made.shape[columns])))
                lossless = str(self.options.get("compress", "")).lower() not in ("jpeg", "webp", "lerc", "jxl")
                if lossless and there.tobytes() != planes.tobytes():
                    raise OSError(f"{new} does not hold what was written: is the disk full?")

    def _fill(self, dataset: Any, body: Body, count: int) -> None:
        """Write whole rows of blocks, or as much of one as the memory holds."""
        made, (bands, rows, columns), scratch = self.made, self._planes, Scratch()
        height, width = made.shape[rows], made.shape[columns]
        most = max(1, made.memory // (_BLOCK * _BLOCK * count * made.dtype.itemsize)) * _BLOCK
        for top, left in itertools.product(range(0, height, _BLOCK), range(0, width, most)):
            region = [slice(0, n) for n in made.shape]
            region[rows] = slice(top, min(top + _BLOCK, height))
            region[columns] = slice(left, min(left + most, width))
            tile = scratch.array(shape_of(tuple(region)), made.dtype, self.order)
            body.read(tuple(region), tile)
            planes = tile[None] if bands < 0 else np.moveaxis(tile, bands, 0)
            window = (top, region[rows].stop), (left, region[columns].stop)
            dataset.write(np.ascontiguousarray(planes), window=window)


def _strided(place: dict[str, Any], steps: tuple[int, ...]) -> dict[str, Any]:
    """The place of pixels of which some were left out."""
    place = {name: value for name, value in place.items() if name in ("crs", "transform", "gcps")}
    if not place.get("transform") or steps == (1, 1):
        return place
    (rows, columns), t = steps, place["transform"]
    return place | {"transform": type(t)(t.a * columns, t.b * rows, t.c, t.d * columns, t.e * rows, t.f)}
