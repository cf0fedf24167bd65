"""One call of `stream`: what is asked is checked and planned, then begun or resumed, and done."""

from __future__ import annotations

import errno
import math
import os
from contextlib import ExitStack, closing
from dataclasses import dataclass
from typing import Any

import numpy as np

from ..checks import geometry, positive_int
from ..checks.arrays import DTypeLike, spelled
from ..runtime import get_num_threads
from . import files, fingerprint, journal, progress, tiles
from .net import Net
from .pipeline import Pipeline, Times
from .raw import Scratch

#: Bytes of a tile where each costs the source's library some calls.
_LARGE = 8 << 20


@dataclass
class Asked:
    """The options of a call, as they were given."""

    memory: int | str = "256 MiB"
    threads: int | None = None
    progress: Any = None
    resume: bool = False
    overwrite: bool = False
    channel_axis: int | None = None
    dtype: DTypeLike | None = None


@dataclass
class Outcome:
    """What came of it."""

    result: Any
    times: Times


def run(layer: Any, source: Any, out: Any, asked: Asked) -> Outcome:
    """Do what a call of `stream` asks for."""
    if not callable(layer) or not hasattr(layer, "in_channels") or not hasattr(layer, "channel_axis"):
        raise TypeError(f"layer must be a Conv1x1, a QConv1x1 or a Sequential, got {spelled(layer)}")
    with ExitStack() as opened:
        return _Job(layer, source, out, asked, opened).run()


class _Job:
    """What is known of a call once its arguments are checked."""

    def __init__(self, layer: Any, source: Any, out: Any, asked: Asked, opened: ExitStack) -> None:
        self.asked, self.opened = asked, opened
        self.memory = tiles.number_of_bytes(asked.memory, "memory")
        self.threads = get_num_threads() if asked.threads is None else positive_int(asked.threads, "threads")
        self.tell = progress.teller(asked.progress)
        self.wanted = wanted = files.Wanted(out, source)
        if asked.resume and wanted.path is None:
            raise ValueError(f"resume=True is for an out that is a path, got {spelled(out)}")
        self.source = src = opened.enter_context(closing(files.source(source)))
        if 0 in src.shape:
            raise ValueError(f"{src.name} has no pixels or no channels: its shape is {src.shape}")
        axis = geometry.axis_number(layer.channel_axis if asked.channel_axis is None else asked.channel_axis)
        self.net = Net(layer, src.shape, src.dtype, axis, _result_type(asked.dtype, wanted.dtype))
        wanted.check(self.net.shape)
        self.order = self.net.order(src.order)
        self.workers = self.threads + bool(src.waits or wanted.waits)

    def run(self) -> Outcome:
        """Do it."""
        target = self.wanted.make(self.net.shape, self.net.dtype, self.order)
        if self.wanted.path is None:
            grid, workers = self._grid(None)
            return self._work(grid, workers, target, None)
        exists = os.path.lexists(self.wanted.path)
        begun = os.path.exists(journal.path_of(self.wanted.path))
        if exists and not (self.asked.resume or self.asked.overwrite):
            more = ", or resume=True to complete it" if begun else ""
            raise FileExistsError(errno.EEXIST, f"exists: pass overwrite=True to replace it{more}", self.wanted.path)
        log = self.opened.enter_context(closing(journal.Journal(self.wanted.path)))
        header = {
            "model": fingerprint.model(self.net.layer),
            "source": fingerprint.source(self.source, self.net.axis),
            "result": {"shape": list(self.net.shape), "dtype": self.net.dtype.str},
        }
        if exists and self.asked.resume and log.header is None and self._is_complete():
            return Outcome(self.wanted.out, Times())
        if exists and self.asked.resume and (tile := self._resumed(log, header)):
            grid, workers = self._grid(tile)
            return self._work(grid, workers, target.reopen(), log)
        if exists and not self.asked.overwrite:
            raise FileExistsError(
                errno.EEXIST, "exists, and is not what this makes: pass overwrite=True to replace it", self.wanted.path
            )
        grid, workers = self._grid(None)
        log.begin(header | {"tile": list(grid.tile)})
        try:
            created = target.create(self.asked.overwrite)
        except BaseException:
            log.end()
            raise
        return self._work(grid, workers, created, log)

    def _resumed(self, log: journal.Journal, header: dict[str, Any]) -> tuple[int, ...] | None:
        """The tiles that were begun with, once it is sure that they were of the same."""
        then = log.header
        if then is None:
            return None
        if then["form"] != journal.FORM:
            differ = [f"form of the journal, {then['form']}"]
        else:
            differ = [f"{n} ({d})" for n, now in header.items() if (d := fingerprint.differences(then[n], now))]
        if differ and not self.asked.overwrite:
            raise ValueError(
                f"{self.wanted.path} was begun with another {' and another '.join(differ)}: call with what it was "
                "begun with, or pass overwrite=True to begin anew"
            )
        return None if differ else tuple(then["tile"])

    def _is_complete(self) -> bool:
        """Whether the file is what this call makes, as far as a few tiles tell."""
        grid, _ = self._grid(None)
        try:
            there = self.opened.enter_context(closing(files.source(self.wanted.path)))
        except (OSError, TypeError, ValueError):
            return False
        if (there.shape, there.dtype) != (self.net.shape, self.net.dtype):
            return False
        room = Scratch(), Scratch()
        for number in {0, len(grid) // 2, len(grid) - 1}:
            region = grid.region(number)
            into = self.net.region(region)
            made = np.empty([s.stop - s.start for s in into], self.net.dtype)
            self.net(self.source.read(region, room[0]), made, self.threads)
            if np.ascontiguousarray(there.read(into, room[1])).tobytes() != made.tobytes():
                return False
        return True

    def _grid(self, tile: tuple[int, ...] | None) -> tuple[tiles.Grid, int]:
        """The tiles, or those that were begun with, and how many threads work on them."""
        src, net = self.source, self.net

        def cost(tile: tuple[int, ...]) -> int:
            region = tuple(slice(0, n) for n in tile)
            read, written = tiles.size(region), tiles.size(net.region(region))
            return int(read * src.dtype.itemsize * src.copies + written * net.dtype.itemsize * self.wanted.copies)

        block = (1,) * len(src.shape) if src.grain is None else src.grain
        wanted = _LARGE if src.raw_itemsize is None else tiles.SMALL
        wishes = tiles.Wishes(
            src.shape, net.axis, src.order, block, net.unit(self.wanted.grain), src.raw_itemsize, wanted
        )
        return tiles.grid(wishes, cost, self.memory, self.workers, tile)

    def _work(self, grid: tiles.Grid, workers: int, target: Any, log: journal.Journal | None) -> Outcome:
        """Work on all tiles that are not there."""
        self.opened.callback(target.close)
        self.opened.callback(self.tell.close)
        channels, there = self.net.channels, set() if log is None else log.done
        total = math.prod(grid.shape) // channels
        done = sum(tiles.size(grid.region(n)) for n in there) // channels

        def told(numbers: list[int], last: bool) -> None:
            nonlocal done
            if log is not None:
                log.add(numbers, target.sync, last)
            done += sum(tiles.size(grid.region(n)) for n in numbers) // channels
            self.tell(done, total)

        pipeline = Pipeline(self.source, target, self.net, grid, self.threads, workers)
        try:
            pipeline.run([n for n in range(len(grid)) if n not in there], told)
        except BaseException as error:
            if log is not None and not log.done:  # nothing is lost, and nothing in the way of the next call
                target.discard()
                log.end()
            elif log is not None and isinstance(error, KeyboardInterrupt):
                raise type(error)(
                    f"{done} of {total} pixels are in {self.wanted.path}; the same call with resume=True completes it"
                ) from None
            raise
        target.finish()
        if log is not None:
            log.end()
        return Outcome(target.result, pipeline.times)


def _result_type(asked: DTypeLike | None, of_out: np.dtype[Any] | None) -> DTypeLike | None:
    if of_out is None or asked is None:
        return of_out if asked is None else asked
    if np.dtype(asked) != of_out:
        raise ValueError(f"dtype={np.dtype(asked)}, but out holds {of_out}: leave out dtype")
    return of_out
