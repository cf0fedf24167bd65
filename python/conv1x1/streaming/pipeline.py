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
            while not self._stop:
                with self._lock:
                    number = next(self._todo, None)
                if number is None:
                    self._woken.put(None)
                    break
                self._one(number, room, times)
                self._done.append(number)
        except BaseException as error:
            with self._lock:
                self._error = self._error or error
            self._interrupt()
        with self._lock:
            self.times.add(times)

    def _one(self, number: int, room: tuple[Scratch, ...], times: Times) -> None:
        """Read, compute and write a tile."""
        region = self.grid.region(number)
        into, doing = self.steps.net.region(region), f"reading {self.source.name}"
        try:
            clock = [time.perf_counter()]
            if number + self.workers < len(self.grid):
                self.source.expect(self.grid.region(number + self.workers))
            x = self.source.read(region, room[0])
            clock.append(time.perf_counter())
            doing = "computing"
            y = self.target.room(into, room[1])
            with self._computing:
                self.steps(region, x, y, max(1, self.threads // self.workers), room[2])
            clock.append(time.perf_counter())
            doing = f"writing {self.target.name}"
            self.target.write(into, y)
            clock.append(time.perf_counter())
        except Exception as error:
            where = ", ".join(f"{s.start}:{s.stop}" for s in region)
            raise _renamed(error, f"tile {number + 1} of {len(self.grid)}, [{where}]: {doing}: ") from error
        times.count(clock, x.nbytes, y.nbytes, x.size // self.steps.net.channels)


def _renamed(error: Exception, before: str) -> Exception:
    """An error of the same kind that says where it happened."""
    if isinstance(error, OSError):
        text = before + (error.strerror or str(error))
        return OSError(text) if error.errno is None else OSError(error.errno, text)
    text = before + (str(error) or type(error).__name__)
    for kind in (MemoryError, TypeError, ValueError):
        if isinstance(error, kind):
            return kind(text)
    return RuntimeError(text)


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
