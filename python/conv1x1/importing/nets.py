"""Steps of a graph as a chain, and the input to compare it on."""

from __future__ import annotations

import math
from typing import Any

import numpy as np

from ..checks.arrays import Array
from ..layers import Conv1x1
from ..sequential import Sequential
from . import comparing
from .steps import Scale, Steps, elements
from .values import Value


def axis_of(wanted: int | None, rank: int) -> tuple[int, int]:
    """The axis of an input that holds the channels; and of a chain, which may get other ranks too."""
    place = (1 if wanted is None else wanted) % rank
    return place, -1 if wanted == -1 or (place == rank - 1 and place > 1) else place


def compared(
    steps: Steps, value: Value, axis: int, x: Array, theirs: Array, place: int, name: str, width: int | None
) -> tuple[Conv1x1 | Sequential, comparing.Comparison]:
    """The net of `width` channels on `axis`, and how it compares with a result for x, whose are on `place`."""

    def made(along: int) -> Conv1x1 | Sequential:
        parts = elements(steps or (Scale.of(),), along, width)
        single = len(parts) == 1 and isinstance(parts[0], Conv1x1)
        return parts[0] if single else Sequential(parts, channel_axis=along)

    net = made(axis)
    rows = np.moveaxis(x, place, -1)
    if not value.labels:  # a result without pixels has its channels last already
        theirs = np.moveaxis(theirs, place if not value.pooled else 1, -1)
    if value.pooled and not value.gone:
        theirs = theirs.reshape(theirs.shape[0], -1)
    ours = np.asarray((net if axis == -1 else made(-1))(rows))
    return net, comparing.compare(steps, rows, ours, theirs, name, doubled=True)


def pixels(given: Any, channels: int, rank: int, place: int, batch: int | None = None) -> Array:
    """An input of a model: that which is given, or made up."""
    if given is not None:
        a = np.asarray(given)
        if a.ndim != rank or a.shape[place] != channels:
            raise ValueError(
                f"pixels has shape {a.shape}, expected {rank} axes with {channels} channels on axis {place}"
            )
        return a.astype(np.float32)
    count = comparing.PIXELS if rank == 2 else batch or 4
    side = math.ceil((comparing.PIXELS / count) ** (1 / max(1, rank - 2)))
    shape = [count, *[side] * (rank - 2)][: rank - 1]
    shape.insert(place, channels)
    return np.random.default_rng(0).standard_normal(shape).astype(np.float32)
