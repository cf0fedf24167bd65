"""One call of `stream`: what is asked is checked and planned, then done."""

from __future__ import annotations

from contextlib import ExitStack, closing
from dataclasses import dataclass
from typing import Any

import numpy as np

from ..checks import geometry, positive_int
from ..checks.arrays import DTypeLike, spelled
from ..runtime import get_num_threads
from . import files, progress, tiles
from .net import Net
from .pipeline import Pipeline, Times

#: Bytes of a tile that is no file's own: each costs the source's library some calls.
_LARGE = 8 << 20


@dataclass
class Asked:
    """The options of a call, as they were given."""

    memory: int | str
    threads: int | None
    progress: Any
    overwrite: bool
    channel_axis: int | None
    dtype: DTypeLike | None


@dataclass
class Outcome:
    """What came of it."""

    result: Any
    times: Times


def run(layer: Any, source: Any, out: Any, asked: Asked) -> Outcome:
    """Do what a call of `stream` asks for."""
    memory = tiles.number_of_bytes(asked.memory, "memory")
    threads = get_num_threads() if asked.threads is None else positive_int(asked.threads, "threads")
    if not callable(layer) or not hasattr(layer, "in_channels") or not hasattr(layer, "channel_axis"):
        raise TypeError(f"layer must be a Conv1x1, a QConv1x1 or a Sequential, got {spelled(layer)}")
    tell = progress.teller(asked.progress)
    wanted = files.Wanted(out, source, asked.overwrite)
    with ExitStack() as opened:
        src = opened.enter_context(closing(files.source(source)))
        if 0 in src.shape:
            raise ValueError(f"{src.name} has no pixels or no channels: its shape is {src.shape}")
        axis = geometry.axis_number(layer.channel_axis if asked.channel_axis is None else asked.channel_axis)
        net = Net(layer, src.shape, src.dtype, axis, _result_type(asked.dtype, wanted.dtype))
        wanted.check(net.shape)
        grid, workers = _grid(src, wanted, net, memory, threads)
        target = opened.enter_context(closing(wanted.make(net.shape, net.dtype, net.order(src.order))))
        pipeline = Pipeline(src, target, net, grid, threads, workers)
        opened.callback(tell.close)
        total = int(np.prod([n for i, n in enumerate(src.shape) if i != net.axis], dtype=object))
        done = 0

        def told(numbers: list[int]) -> None:
            nonlocal done
            done += sum(tiles.size(grid.region(n)) // net.channels for n in numbers)
            tell(done, total)

        pipeline.run(list(range(len(grid))), told)
        target.finish()
    return Outcome(target.result, pipeline.times)


def _result_type(asked: DTypeLike | None, of_out: np.dtype[Any] | None) -> DTypeLike | None:
    if of_out is None or asked is None:
        return of_out if asked is None else asked
    if np.dtype(asked) != of_out:
        raise ValueError(f"dtype={np.dtype(asked)}, but out holds {of_out}: leave out dtype")
    return of_out


def _grid(src: Any, wanted: files.Wanted, net: Net, memory: int, threads: int) -> tuple[tiles.Grid, int]:
    """The tiles, and how many threads work on them."""

    def cost(tile: tuple[int, ...]) -> int:
        region = tuple(slice(0, n) for n in tile)
        read, written = tiles.size(region), tiles.size(net.region(region))
        return int(read * src.dtype.itemsize * src.copies + written * net.dtype.itemsize * wanted.copies)

    block = (1,) * len(src.shape) if src.grain is None else src.grain
    size = _LARGE if src.raw_itemsize is None else tiles.SMALL
    wishes = tiles.Wishes(src.shape, net.axis, src.order, block, net.unit(wanted.grain), src.raw_itemsize, size)
    return tiles.grid(wishes, cost, memory, threads + bool(src.waits or wanted.waits))
