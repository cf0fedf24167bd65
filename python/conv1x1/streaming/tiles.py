"""Sizes in words, and the tiles of a source: in the order in which it lies, of whole chunks, within the memory."""

from __future__ import annotations

import math
import re
from collections.abc import Callable
from dataclasses import dataclass
from operator import ge
from typing import Any

from ..checks.arrays import spelled
from .net import Region

_UNITS = {"": 1, "b": 1} | {f"{p}{i}b": (1024 if i else 1000) ** n for n, p in enumerate("kmgt", 1) for i in ("i", "")}
#: Bytes of a tile , if memory allows: smaller ones cost more in calls than the caches give back.
SIZE = 8 << 20
#: What lies in one piece in the file should be this long, or more time goes into calls than into copying.
_RUN = 128 << 10
#: What the core may take for itself, a thread.
_SCRATCH = 2 << 20
#: Threads and modules.
_MACHINERY = 4 << 20


def number_of_bytes(value: Any, name: str) -> int:
    """A number of bytes, or words such as "256 MiB"."""
    if isinstance(value, str):
        found = re.fullmatch(r"\s*([0-9]+(?:\.[0-9]+)?)\s*([A-Za-z]*)\s*", value)
        if found and (factor := _UNITS.get(found[2].lower())):
            value = int(float(found[1]) * factor)
        else:
            raise ValueError(
                f'{name}={spelled(value)} is no size: expected bytes, or words such as "256 MiB" or "2 GB"'
            )
    if isinstance(value, bool) or not hasattr(value, "__index__"):
        raise TypeError(f'{name} must be a number of bytes or words such as "256 MiB", got {spelled(value)}')
    if (number := int(value.__index__())) < 1:
        raise ValueError(f"{name} must be ≥ 1 byte, got {number}")
    return number


def in_words(size: float) -> str:
    """A number of bytes as people read it."""
    power = min(int(math.log(max(size, 1), 1024)), 4)
    return f"{size / 1024**power:.4g} {('bytes', 'KiB', 'MiB', 'GiB', 'TiB')[power]}"


@dataclass(frozen=True)
class Grid:
    """A source cut into tiles, which are numbered in the order in which the source lies."""

    shape: tuple[int, ...]
    tile: tuple[int, ...]
    order: tuple[int, ...]  # the axes, outermost first

    def __len__(self) -> int:
        return math.prod(self._counts())

    def _counts(self) -> list[int]:
        return [-(-n // t) for n, t in zip(self.shape, self.tile, strict=True)]

    def region(self, number: int) -> Region:
        """Where a tile is."""
        counts, where = self._counts(), [slice(0)] * len(self.shape)
        for axis in reversed(self.order):
            number, i = divmod(number, counts[axis])
            where[axis] = slice(i * self.tile[axis], min((i + 1) * self.tile[axis], self.shape[axis]))
        return tuple(where)


def size(region: Region) -> int:
    """How many elements it has."""
    return math.prod(s.stop - s.start for s in region)


@dataclass(frozen=True)
class Wishes:
    """What tiles should be like."""

    shape: tuple[int, ...]
    axis: int  # of the channels, which no tile cuts
    order: tuple[int, ...]
    source_unit: tuple[int, ...]  # blocks as the source is read
    target_unit: tuple[int, ...]  # and the part of the source that makes whole blocks of the result
    raw_itemsize: int | None  # of numbers that lie in a file one after another
    wanted: int  # bytes of a tile, if memory allows
    cache: int  # bytes that the source's library keeps
    retile: str  # what makes smaller blocks of the source


def grid(
    wishes: Wishes, cost: Callable[[tuple[int, ...]], int], memory: int, workers: int, begun: tuple[int, ...] | None
) -> tuple[Grid, int]:
    """The tiles, like those `begun` with if there are any, and how many may be under way at once.

    `cost` says what a tile takes in bytes.

    Raises `MemoryError` where not even one of the smallest fits.
    """
    total, memory = memory, memory - wishes.cache - min(_MACHINERY, memory // 8)
    unit = begun or _clip(tuple(map(math.lcm, wishes.source_unit, wishes.target_unit)), wishes)
    if not begun and _with_scratch(cost(unit)) > memory and all(map(ge, wishes.target_unit, wishes.source_unit)):
        unit = _clip(wishes.target_unit, wishes)  # at its edges blocks of the source are read twice
    needed = _with_scratch(cost(unit))
    if needed > memory:
        needed += wishes.cache
        needed += min(_MACHINERY, needed // 7 + 1)
        raise MemoryError(
            f"projected memory {in_words(needed)} exceeds allowed memory {in_words(total)}: the smallest tile, "
            f"{_times(unit)} of {_times(wishes.shape)}, takes that much; pass "
            f"memory='{-(-needed // 2**20)} MiB' or more{wishes.retile and f', or: {wishes.retile}'}"
        )
    tile = unit
    if not begun:
        most = max(cost(unit), _without_scratch(memory // workers))
        tile = _grown(unit, wishes, cost, min(most, wishes.wanted))
        if wishes.raw_itemsize and (run := _run(tile, wishes)) < _RUN:
            tile = _grown(unit, wishes, cost, min(most, -(-wishes.wanted * _RUN // run)))
    made = Grid(wishes.shape, tile, wishes.order)
    return made, max(1, min(workers, memory // max(1, _with_scratch(cost(tile))), len(made)))


def _with_scratch(tile: int) -> int:
    """What a tile takes with what the core takes for itself."""
    return tile + min(_SCRATCH, 2 * tile)


def _without_scratch(memory: int) -> int:
    return max(memory - _SCRATCH, memory // 3)


def _clip(unit: tuple[int, ...], wishes: Wishes) -> tuple[int, ...]:
    return tuple(n if i == wishes.axis else min(u, n) for i, (u, n) in enumerate(zip(unit, wishes.shape, strict=True)))


def _grown(unit: tuple[int, ...], wishes: Wishes, cost: Callable[[tuple[int, ...]], int], most: int) -> tuple[int, ...]:
    """As many units as `most` bytes allow, along the inner axes first."""
    tile = list(unit)
    for axis in reversed(wishes.order):
        if axis == wishes.axis or tile[axis] >= wishes.shape[axis]:
            continue
        times = max(1, most // max(1, cost(tuple(tile))))
        tile[axis] = min(wishes.shape[axis], times * unit[axis])
        if tile[axis] < wishes.shape[axis]:
            break
    return tuple(tile)


def _run(tile: tuple[int, ...], wishes: Wishes) -> int:
    """How many bytes of a tile lie in one piece."""
    run = wishes.raw_itemsize or 1
    for axis in reversed(wishes.order):
        run *= tile[axis]
        if tile[axis] < wishes.shape[axis]:
            break
    return run


def _times(shape: tuple[int, ...]) -> str:
    return "×".join(map(str, shape)) if shape else "one number"
