"""A small file beside a result that is being written: of which model and source it is, and which tiles are there.

Each line has a checksum before it, so that one of which only a part was written counts as none. A tile is entered once
its data are on the disk. The file is locked while a process works on the result, and goes when the result is complete.
"""

from __future__ import annotations

import errno
import fcntl
import json
import os
import re
import time
import zlib
from collections.abc import Callable, Iterable
from contextlib import suppress
from typing import Any

#: Seconds between two entries: about what a kill costs. The disk is to be busy with the result all the time, or it
#: would be waited for in the end.
OFTEN = 0.2
FORM = 1


def path_of(target: str) -> str:
    """Where the journal of a result is."""
    return f"{target.rstrip('/')}.conv1x1-journal"


class Journal:
    """The journal of a result, which nobody else writes meanwhile."""

    def __init__(self, target: str) -> None:
        self.path = path_of(target)
        self._fd = os.open(self.path, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o666)
        self._pending: list[int] = []
        self._last = time.monotonic()
        try:
            _lock(self._fd, target)
            self.header, self.done, end = _parsed(os.pread(self._fd, os.fstat(self._fd).st_size, 0))
            os.ftruncate(self._fd, end)
        except BaseException:
            os.close(self._fd)
            raise

    def begin(self, header: dict[str, Any]) -> None:
        """A result of which nothing is there yet."""
        os.ftruncate(self._fd, 0)
        self.header, self.done = header, set()
        self._write([json.dumps({"form": FORM} | header)])

    def add(self, numbers: Iterable[int], sync: Callable[[], None], now: bool) -> None:
        """Tiles that were written; they are entered now, or when it is time, after `sync` has them on the disk."""
        self._pending += numbers
        if self._pending and (now or time.monotonic() - self._last >= OFTEN):
            sync()
            self._write([f"{first} {last}" for first, last in _ranges(sorted(self._pending))])
            self.done.update(self._pending)
            self._pending, self._last = [], time.monotonic()

    def end(self) -> None:
        """The result is complete, or gone."""
        with suppress(FileNotFoundError):
            os.unlink(self.path)

    def close(self) -> None:
        """Whoever comes next may have it; what has nothing in it goes."""
        if not os.fstat(self._fd).st_size:
            self.end()
        os.close(self._fd)

    def _write(self, lines: list[str]) -> None:
        data = b"".join(b"%08x %s\n" % (zlib.crc32(line.encode()), line.encode()) for line in lines)
        place = os.fstat(self._fd).st_size
        while data:
            put = os.pwrite(self._fd, data, place)
            place, data = place + put, data[put:]
        os.fsync(self._fd)


def _lock(fd: int, target: str) -> None:
    try:
        fcntl.flock(fd, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except BlockingIOError:
        raise BlockingIOError(errno.EAGAIN, "another process is writing it", target) from None
    except OSError:  # a system without locks
        return
    if not os.fstat(fd).st_nlink:
        raise BlockingIOError(errno.EAGAIN, "another process has just completed it", target)


def _parsed(data: bytes) -> tuple[dict[str, Any] | None, set[int], int]:
    """The header, or None; the tiles that are there; and how much of the file is sound."""
    header, done, end = None, set[int](), 0
    for line in data.splitlines(keepends=True):
        checksum, _, content = line.rstrip(b"\n").partition(b" ")
        if not line.endswith(b"\n") or checksum != b"%08x" % zlib.crc32(content):
            break
        if header is None:
            header = json.loads(content)
        elif entry := re.fullmatch(rb"(\d+) (\d+)", content):
            done.update(range(int(entry[1]), int(entry[2]) + 1))
        else:
            break
        end += len(line)
    return header, done, end


def _ranges(numbers: list[int]) -> list[tuple[int, int]]:
    """Numbers as first and last of those that follow one another."""
    found: list[tuple[int, int]] = []
    for n in numbers:
        if found and found[-1][1] == n - 1:
            found[-1] = found[-1][0], n
        else:
            found.append((n, n))
    return found
