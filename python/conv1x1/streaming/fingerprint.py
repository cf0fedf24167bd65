"""By what a journal knows a model and a source again: what they hold, not names and times, which copies change."""

from __future__ import annotations

import hashlib
from typing import Any

import numpy as np

from .base import renamed
from .raw import Scratch
from .tiles import Grid

_SAMPLES = 64
_SAMPLES_OF_BLOCKS = 8  # each costs a block of the file
_SAMPLE = 16  # pixels


def model(layer: Any) -> dict[str, Any]:
    """What there is to know of a layer or a chain."""
    digest = hashlib.sha256()
    _feed(digest, layer)
    return {"kind": type(layer).__name__, "in_channels": layer.in_channels, "checksum": digest.hexdigest()[:32]}


def source(src: Any, axis: int) -> dict[str, Any]:
    """What there is to know of a source, with samples of its pixels."""
    inner = next((a for a in reversed(src.order) if a != axis), axis)
    tile = tuple(n if a == axis else min(n, _SAMPLE) if a == inner else 1 for a, n in enumerate(src.shape))
    grid, room, digest = Grid(src.shape, tile, src.order), Scratch(), hashlib.sha256()
    for number in sorted({*map(int, np.linspace(0, len(grid) - 1, _SAMPLES_OF_BLOCKS if src.grain else _SAMPLES))}):
        try:
            digest.update(np.ascontiguousarray(src.read(grid.region(number), room)).tobytes())
        except Exception as error:
            raise renamed(error, f"reading {src.name}: ") from error
    known = {"shape": list(src.shape), "dtype": src.dtype.str, "channel_axis": axis, **src.facts}
    return known | {"samples": digest.hexdigest()[:32]}


def differences(then: dict[str, Any], now: dict[str, Any]) -> str:
    """The entries that differ, in words; "" where none does."""
    names = [n for n in {**then, **now} if then.get(n) != now.get(n)]
    return ", ".join(f"{n} was {then.get(n)} and is {now.get(n)}" for n in names)


def _feed(digest: Any, value: Any) -> None:
    """Whatever a pickle of a layer is made of; nothing of it is run."""
    if isinstance(value, (tuple, list)):
        parts = list(value)
    elif isinstance(value, dict):
        parts = [p for item in sorted(value.items(), key=repr) for p in item]
    elif isinstance(value, (np.ndarray, np.generic)):
        parts = [value.dtype.str, value.shape, value.tobytes()]
    elif value is None or isinstance(value, (bytes, str, int, float)):
        data = value if isinstance(value, bytes) else repr(value).encode()
        digest.update(f"{type(value).__name__} {len(data)} ".encode() + data)
        return
    elif isinstance(value, type):
        parts = [value.__qualname__]
    else:
        _, arguments, *state = value.__reduce_ex__(4)
        parts = [type(value), arguments, *state[:1]]
    digest.update(f"{type(value).__name__}[{len(parts)}] ".encode())
    for part in parts:
        _feed(digest, part)
