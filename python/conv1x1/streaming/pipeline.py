"""The threads of a job: each takes a tile, reads it, computes and writes it, while others are at other tiles.

So reading, computing and writing overlap, and what a thread has read is still in its CPU's cache when it computes.
The thread that called waits, tells how far it is, and hears Ctrl-C and SIGTERM: the tiles under way are finished then.
"""

from __future__ import annotations

import itertools
import signal
import threading
import time
from collections import deque
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from dataclasses import dataclass, field, fields
from queue import Empty, SimpleQueue
from typing import Any

from ..checks.arrays import Array
from .base import renamed
from .net import Region
from .nodata import Steps
from .raw import Scratch
from .tiles import Grid

_LOOK = 0.2  # seconds between looks at what has been done


class Terminated(KeyboardInterrupt):
    """SIGTERM."""


@dataclass
class Times:
    """Seconds of all threads, and bytes."""

    reading: float = 0.0
    computing: float = 0.0
    writing: float = 0.0
    read: int = 0
    written: int = 0
    pixels: int = 0
    elapsed: float = 0.0

    def count(self, clock: list[float], read: int, written: int, pixels: int) -> None:
        """A tile: the moments before it, between its steps and after it; what went in and out."""
        reading, computing, writing = (b - a for a, b in itertools.pairwise(clock))
        self.add(Times(reading, computing, writing, read, written, pixels))

    def add(self, other: Times) -> None:
        for f in fields(self):
            setattr(self, f.name, getattr(self, f.name) + getattr(other, f.name))


@dataclass
class Pipeline:
    """What works on the tiles of a job."""

    source: Any
    target: Any
    steps: Steps
    grid: Grid
    threads: int  # that compute at a time
    workers: int
    times: Times = field(default_factory=Times)
    _done: deque[int] = field(default_factory=deque)
    _woken: SimpleQueue[None] = field(default_factory=SimpleQueue)  # a thread that is woken for every tile costs time
    _lock: threading.Lock = field(default_factory=threading.Lock)
    _stop: bool = False
    _error: BaseException | None = None

    def run(self, todo: list[int], told: Callable[[list[int], bool], None]) -> None:
        """Work on these tiles; `told` hears which ones have been written, and in the end that this is all."""
        start, left = time.perf_counter(), len(todo)
        self._todo, self._computing = iter(todo), threading.Semaphore(self.threads)
        started: list[threading.Thread] = []
        with _signals(self._interrupt) as caught:
            try:
                self._start(started)
                while left and not self._stop:
                    with suppress(Empty):
                        self._woken.get(timeout=_LOOK)
                    done = self._drained()
                    left -= len(done)
                    told(done, False)
            finally:
                self._stop = True
                for thread in started:
                    thread.join()
                self.times.elapsed += time.perf_counter() - start
                told(self._drained(), True)
        if self._error is not None:
            raise self._error
        if caught:
            raise caught[0]

    def _start(self, started: list[threading.Thread]) -> None:
        """As many workers as the system has threads for; this one, if there are none."""
        with suppress(RuntimeError):
            for _ in range(self.workers):
                thread = threading.Thread(target=self._work, name="conv1x1.stream", daemon=True)
                thread.start()
                started.append(thread)
        if not started:
            self._work()

    def _drained(self) -> list[int]:
        """The tiles written since."""
        return [self._done.popleft() for _ in range(len(self._done))]

    def _interrupt(self) -> None:
        self._stop = True
        self._woken.put(None)

    def _work(self) -> None:
        room, times = (Scratch(), Scratch(), Scratch()), Times()
        try:
            while not self._stop and self._one(room, times):
                pass
        except BaseException as error:
            with self._lock:
                self._error = self._error or error
            self._interrupt()
        with self._lock:
            self.times.add(times)

    def _one(self, room: tuple[Scratch, ...], times: Times) -> bool:
        """Read, compute and write the next tile, if there is one."""
        with self._lock:
            number = next(self._todo, None)
            if number is None:
                self._woken.put(None)
                return False
            region, clock = self.grid.region(number), [time.perf_counter()]
            at_once = self.source.in_memory(region)
            x = None if at_once else self._read(number, region, room[0])
        if x is None:
            x = self._read(number, region, room[0])
        clock.append(time.perf_counter())
        into = self.steps.net.region(region)
        with self._naming(number, "computing"):
            y = self.target.room(into, room[1])
            with self._computing:
                self.steps(region, x, y, max(1, self.threads // self.workers), room[2])
        clock.append(time.perf_counter())
        with self._naming(number, f"writing {self.target.name}"):
            self.target.write(into, y)
        clock.append(time.perf_counter())
        times.count(clock, x.nbytes, y.nbytes, x.size // self.steps.net.channels)
        self._done.append(number)
        return True

    def _read(self, number: int, region: Region, room: Scratch) -> Array:
        with self._naming(number, f"reading {self.source.name}"):
            x: Array = self.source.read(region, room)
        return x

    @contextmanager
    def _naming(self, number: int, doing: str) -> Iterator[None]:
        """Let an error say at which tile and file it happened."""
        try:
            yield
        except Exception as error:
            where = ", ".join(f"{s.start}:{s.stop}" for s in self.grid.region(number))
            raise renamed(error, f"tile {number + 1} of {len(self.grid)}, [{where}]: {doing}: ") from error


@contextmanager
def _signals(interrupt: Callable[[], None]) -> Iterator[list[KeyboardInterrupt]]:
    """Ctrl-C and SIGTERM end the job after the tiles under way; a second one ends it at once, as ever.

    Where a program has handlers of its own, or calls from another thread than its first, they stay.
    """
    caught: list[KeyboardInterrupt] = []
    before: dict[signal.Signals, Any] = {}

    def heard(number: int, frame: Any) -> None:
        if caught:
            raise caught[0]
        caught.append(KeyboardInterrupt() if number == signal.SIGINT else Terminated())
        interrupt()

    if threading.current_thread() is threading.main_thread():
        for number, default in ((signal.SIGINT, signal.default_int_handler), (signal.SIGTERM, signal.SIG_DFL)):
            if signal.getsignal(number) == default:
                before[number] = signal.signal(number, heard)
    try:
        yield caught
    finally:
        for number, handler in before.items():
            signal.signal(number, handler)
