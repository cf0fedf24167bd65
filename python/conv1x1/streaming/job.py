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
from . import files, fingerprint, journal, nodata, progress, tiles
from .base import File, Result, Target
from .net import Net
from .pipeline import Pipeline, Times
from .raw import Scratch


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
    nodata: Any = None
    nodata_when: str = "any"
    nodata_out: Any = None
    scaled: bool | None = None
    options: dict[str, Any] | None = None


@dataclass
class Outcome:
    """What came of it."""

    result: Any
    times: Times
    net: Net


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
        axis = geometry.axis_number(layer.channel_axis if asked.channel_axis is None else asked.channel_axis)
        self.source = src = opened.enter_context(closing(files.source(source, axis)))
        if 0 in src.shape:
            raise ValueError(f"{src.name} has no pixels or no channels: its shape is {src.shape}")
        scale = nodata.scaling(src, asked.scaled)
        self.dtype = src.dtype if scale is None else nodata.scaled_type(src.dtype)
        self.net = net = Net(layer, src, self.dtype, axis, _result_type(asked.dtype, wanted.dtype))
        wanted.check(net.shape)
        self.steps = nodata.Steps(net, src, scale)
        self.steps.ask(asked.nodata, asked.nodata_when, asked.nodata_out)
        self.workers = self.threads + bool(src.waits or wanted.waits)
        self.made = Result(net, src, self.memory, self.steps.out)

    def run(self) -> Outcome:
        """Do it."""
        if self.wanted.path is None:
            grid, workers = self._grid(None)
            return self._work(grid, workers, self.wanted.array(self.made, self.asked.options), None)
        file, asked = self.wanted.file(self.made, self.asked.options), self.asked
        there, partly = os.path.lexists(file.file), os.path.lexists(file.partial)
        if (there or partly) and not (asked.resume or asked.overwrite):
            begun = ", or resume=True to complete it" if os.path.exists(journal.path_of(file.file)) else ""
            raise FileExistsError(errno.EEXIST, f"exists: pass overwrite=True to replace it{begun}", file.file)
        log = self.opened.enter_context(closing(journal.Journal(file.file)))
        if asked.resume and there and (log.header is None or not partly) and self._is_complete():
            log.end()
            return Outcome(self.wanted.out, Times(), self.net)
        header = self._header()
        if asked.resume and partly and (tile := self._resumed(log, header)):
            grid, workers = self._grid(tile)
            return self._work(grid, workers, file.reopen(), log)
        if (there or partly) and not asked.overwrite:
            words = "exists, and is not what this makes: pass overwrite=True to replace it"
            raise FileExistsError(errno.EEXIST, words, file.file)
        return self._begin(file, log, header)

    def _begin(self, file: File, log: journal.Journal, header: dict[str, Any]) -> Outcome:
        """All of it, into a new file."""
        grid, workers = self._grid(None)
        log.begin(header | {"tile": list(grid.tile)})
        chunks = tuple(s.stop for s in self.net.region(tuple(slice(0, n) for n in grid.tile)))
        try:
            target = file.create(self.asked.overwrite, chunks)
        except BaseException:
            log.end()
            raise
        return self._work(grid, workers, target, log)

    def _header(self) -> dict[str, Any]:
        """What must be the same for a call that resumes."""
        steps, src = self.steps, self.source
        values = None if steps.values is None else sorted({repr(v) for v in steps.values.tolist()})
        pixels = {"nodata": values, "nodata_when": "all" if steps.all else "any", "scaled": self.asked.scaled}
        result = {"shape": list(self.net.shape), "dtype": self.net.dtype.str, "nodata_out": repr(steps.out)}
        result["options"] = repr(sorted((self.asked.options or {}).items()))
        source = fingerprint.source(src, self.net.axis) | pixels
        return {"model": fingerprint.model(self.net.layer), "source": source, "result": result}

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
            axis = -1 if self.made.axis is None else self.made.axis
            there = self.opened.enter_context(closing(files.source(self.wanted.path, axis)))
        except (OSError, TypeError, ValueError):
            return False
        if there.shape != self.net.shape and self.made.axis is None and there.shape[-1:] == (1,):
            there.drop_axis()
        if (there.shape, there.dtype) != (self.net.shape, self.net.dtype):
            return False
        room = Scratch(), Scratch(), Scratch()
        for number in {0, len(grid) // 2, len(grid) - 1}:
            region = grid.region(number)
            into = self.net.region(region)
            made = np.empty([s.stop - s.start for s in into], self.net.dtype)
            self.steps(region, self.source.read(region, room[0]), made, self.threads, room[1])
            if np.ascontiguousarray(there.read(into, room[2])).tobytes() != made.tobytes():
                return False
        return True

    def _grid(self, tile: tuple[int, ...] | None) -> tuple[tiles.Grid, int]:
        """The tiles, or those that were begun with, and how many threads work on them."""
        src, net = self.source, self.net
        each = src.dtype.itemsize * src.copies + (self.dtype.itemsize if self.steps.scales else 0)

        def cost(tile: tuple[int, ...]) -> int:
            region = tuple(slice(0, n) for n in tile)
            read, written = tiles.size(region), tiles.size(net.region(region))
            return int(read * each + written * net.dtype.itemsize * self.wanted.copies)

        wishes = tiles.Wishes(
            src.shape,
            net.axis,
            src.order,
            source_unit=(1,) * len(src.shape) if src.grain is None else src.grain,
            target_unit=net.unit(self.wanted.grain),
            raw_itemsize=src.raw_itemsize,
            wanted=tiles.SIZE,
            cache=src.cache,
            retile=src.retile,
        )
        return tiles.grid(wishes, cost, self.memory, self.workers, tile)

    def _work(self, grid: tiles.Grid, workers: int, target: Target, log: journal.Journal | None) -> Outcome:
        """Work on all tiles that are not there."""
        self.opened.callback(target.close)
        self.opened.callback(self.tell.close)
        channels, there = self.net.channels, set[int]() if log is None else log.done.copy()
        total = math.prod(grid.shape) // channels
        done = sum(tiles.size(grid.region(n)) for n in there) // channels

        def told(numbers: list[int], last: bool) -> None:
            nonlocal done
            if log is not None:
                log.add(numbers, target.sync, last)
            done += sum(tiles.size(grid.region(n)) for n in numbers) // channels
            self.tell(done, total)

        pipeline = Pipeline(self.source, target, self.steps, grid, self.threads, workers)
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
        if not there:
            self.steps.warn()
        return Outcome(target.result, pipeline.times, self.net)


def _result_type(asked: DTypeLike | None, of_out: np.dtype[Any] | None) -> DTypeLike | None:
    if of_out is None or asked is None:
        return of_out if asked is None else asked
    if np.dtype(asked) != of_out:
        raise ValueError(f"dtype={np.dtype(asked)}, but out holds {of_out}: leave out dtype")
    return of_out
