"""Datasets of HDF5 files, `FILE.h5:/DATASET`; written at once when all tiles are there."""

from __future__ import annotations

import os
from typing import Any

from ..checks.arrays import Array
from .arrays import SlicedSource
from .base import Result, Staged, library
from .net import Region
from .raw import Body, Scratch, shape_of
from .tiles import size


def split(path: str) -> tuple[str, str]:
    """The file and the dataset of a path."""
    file, _, dataset = path.partition(":")
    return file, dataset.strip("/")


class _Dataset(SlicedSource):
    """A dataset, read into memory of the thread; HDF5 lets one thread in at a time."""

    copies = 2

    def __init__(self, file: Any, dataset: Any, path: str) -> None:
        super().__init__(dataset, path)
        self._file = file
        self.facts = {"kind": "hdf5"}
        smaller = "x".join(str(min(n, 64)) for n in self.shape)
        self.retile = f"h5repack -l {dataset.name}:CHUNK={smaller} {file.filename} smaller.h5"

    def read(self, region: Region, scratch: Scratch) -> Array:
        tile = scratch.array(shape_of(region), self.dtype, self.order)
        self.thing.read_direct(tile, source_sel=region)
        return tile

    def close(self) -> None:
        self._file.close()


def source(path: str, axis: int) -> SlicedSource:
    """A dataset to read from."""
    h5py = library("h5py", path)
    name, inside = split(path)
    if not os.path.exists(name):
        raise FileNotFoundError(2, os.strerror(2), name)
    try:
        file = h5py.File(name, "r", rdcc_nbytes=1 << 20)
    except OSError as error:
        raise ValueError(f"{name} is no HDF5 file that can be read: {error}") from None
    try:
        found = file.get(inside) if inside else None
        if not isinstance(found, h5py.Dataset):
            names: list[str] = []
            file.visititems(lambda n, thing: names.append(n) if isinstance(thing, h5py.Dataset) else None)
            known = ", ".join(repr(f"{name}:/{n}") for n in names)
            raise ValueError(f"{path} names no dataset: pass one of {known or 'none'}")
        return _Dataset(file, found, path)
    except BaseException:
        file.close()
        raise


class File(Staged):
    """A file of HDF5 with one dataset."""

    def __init__(self, path: str, result: Any, made: Result, options: dict[str, Any]) -> None:
        file, self.dataset = split(path)
        if not self.dataset:
            raise ValueError(f"{path} names no dataset: pass {f'{file}:/result'!r}")
        super().__init__(path, result, made, options, file)
        if os.path.isfile(file):
            self._check_alone(library("h5py", path))

    def _check_alone(self, h5py: Any) -> None:
        """A file that is to be replaced has nothing but this dataset."""
        others: list[str] = []
        try:
            with h5py.File(self.file, "r") as file:
                file.visititems(lambda n, thing: others.append(n) if isinstance(thing, h5py.Dataset) else None)
        except OSError:
            return
        if set(others) - {self.dataset}:
            raise ValueError(f"{self.file} has other datasets, {', '.join(others)}: pass a file of its own")

    def convert(self, body: Body, new: str) -> None:
        made = self.made
        with library("h5py", self.path).File(new, "w") as file:
            dataset = file.create_dataset(self.dataset, made.shape, made.dtype, **self.options)
            if made.nodata is not None:
                dataset.attrs["_FillValue"] = made.dtype.type(made.nodata)
            rows = max(1, made.memory * made.shape[0] // max(made.nbytes, 1)) if made.shape else 1
            scratch = Scratch()
            for start in range(0, made.shape[0] if made.shape else 1, rows):
                region = tuple(slice(0, n) for n in made.shape)
                if region:
                    region = (slice(start, min(start + rows, made.shape[0])), *region[1:])
                tile = scratch.array(shape_of(region), made.dtype, self.order)
                if size(region):
                    body.read(region, tile)
                dataset[region] = tile
