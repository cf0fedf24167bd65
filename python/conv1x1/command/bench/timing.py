"""A layer to time, its arrays, and the clock. Run as a script: a worker that times any revision of this package.

A process holds one revision only, so a worker takes `conv1x1` from the directory it is told. Therefore nothing here
imports from the package but `main`, and that only what every revision has: `Conv1x1` and its call.
"""

from __future__ import annotations

import hashlib
import json
import sys
from collections.abc import Callable
from functools import partial
from itertools import repeat
from pathlib import Path
from time import perf_counter
from typing import Any, NamedTuple

import numpy as np

_SHORTEST_SLOT = 1e-3  # seconds; the clock and the wake-up of a processor are noise below


class Layer(NamedTuple):
    """A pointwise layer and the image it gets; the fields but `name` are the columns of a file of layers."""

    name: str
    in_channels: int
    out_channels: int
    height: int
    width: int
    stride: int = 1
    groups: int = 1
    dtype: str = "float32"

    @property
    def weights(self) -> np.dtype[Any]:
        """The type of the weights and of the arithmetic."""
        pixels = np.dtype(self.dtype)
        double = pixels == np.float64 or (pixels.kind in "iu" and pixels.itemsize >= 4)
        return np.dtype(np.float64 if double else np.float32)

    @property
    def result(self) -> np.dtype[Any]:
        """The type of the result of a call that does not say."""
        pixels = np.dtype(self.dtype)
        return pixels if pixels.kind == "f" else self.weights

    @property
    def pixels(self) -> int:
        """How many pixels the result has."""
        return -(-self.height // self.stride) * -(-self.width // self.stride)

    @property
    def one_pixel(self) -> bool:
        """Whether both layouts are the same."""
        return self.height == self.width == 1

    @property
    def plain(self) -> bool:
        """Whether it is one matrix product."""
        return self.stride == self.groups == 1

    @property
    def flop(self) -> int:
        """Multiplications and additions."""
        return 2 * self.pixels * self.in_channels // self.groups * self.out_channels

    @property
    def bytes(self) -> int:
        """What has to be read and written at least: the pixels that count, the weights and the result, each once."""
        x, y = self.pixels * self.in_channels, self.pixels * self.out_channels
        w = self.in_channels // self.groups * self.out_channels
        return x * np.dtype(self.dtype).itemsize + y * self.result.itemsize + w * self.weights.itemsize

    def __str__(self) -> str:
        size = f"{self.name} {self.height}×{self.width} {self.in_channels}→{self.out_channels}".strip()
        size += (f" /{self.stride}" if self.stride > 1 else "") + (f" g{self.groups}" if self.groups > 1 else "")
        return size if self.dtype == "float32" else f"{size} {self.dtype}"


def arrays(layer: Layer, layout: str) -> tuple[Any, Any]:
    """The pixels and the filters of a layer, always the same numbers: normal ones, or all that an integer can be.

    Parameters
    ----------
    layer : Layer
    layout : str
        "last" or "first": where the channels are.

    Returns
    -------
    x : ndarray, shape (height, width, in_channels) or (in_channels, height, width)
    w : ndarray, shape (out_channels, in_channels/groups)
    """
    random = np.random.default_rng(1)
    size, channels = (layer.height, layer.width), (layer.in_channels,)
    shape = size + channels if layout == "last" else channels + size
    dtype, weight_shape = np.dtype(layer.dtype), (layer.out_channels, layer.in_channels // layer.groups)
    if dtype.kind in "iu":
        limits = np.iinfo(dtype)
        x = random.integers(limits.min, limits.max, shape, dtype, endpoint=True)
    else:
        x = random.standard_normal(shape, layer.weights).astype(dtype, copy=False)
    return x, random.standard_normal(weight_shape, layer.weights)


def expected(layer: Layer, layout: str, x: Any, w: Any) -> Any:
    """What a layer must give, by a matrix product in float64.

    Parameters
    ----------
    layer, layout, x, w
        See `arrays`.

    Returns
    -------
    ndarray of float64
        x's axes, with the filters where the channels were.
    """
    last = x if layout == "last" else np.moveaxis(x, 0, -1)
    strided = last[:: layer.stride, :: layer.stride]
    parts = np.split(strided.astype(np.float64), layer.groups, -1)
    filters = np.split(w.astype(np.float64), layer.groups)
    y = np.concatenate([part @ its.T for part, its in zip(parts, filters, strict=True)], -1)
    return y if layout == "last" else np.moveaxis(y, -1, 0)


def check(who: str, layer: Layer, y: Any, truth: Any) -> None:
    """Let nobody be timed whose result is wrong.

    Parameters
    ----------
    who : str
        For the message.
    layer : Layer
    y, truth : ndarray
        The result, and what it must be, of the same shape.

    Raises
    ------
    ArithmeticError
        They differ by more than their types may, in any order of summation.
    """
    # An error is of the size of a pixel times eps·C: this finds what is wrong, not what is inexact.
    pixel = np.iinfo(layer.dtype).max if np.dtype(layer.dtype).kind in "iu" else 1
    arithmetic = layer.weights if y.dtype == np.float64 else np.float32  # a revision may have summed in less
    atol = 10 * np.finfo(arithmetic).eps * pixel * (layer.in_channels // layer.groups + 16)
    if not np.allclose(y, truth, rtol=4 * np.finfo(y.dtype).eps, atol=atol):
        raise ArithmeticError(f"{who} computes {layer} wrongly: nothing is timed")


def clock(call: Callable[[], object], times: int) -> float:
    """Seconds a call takes, the mean of some.

    Parameters
    ----------
    call : callable
    times : int
        How many.

    Returns
    -------
    float
    """
    began = perf_counter()
    for _ in repeat(None, times):
        call()
    return (perf_counter() - began) / times


def repetitions(call: Callable[[], object]) -> int:
    """How many calls fill a slot that is long enough for the clock.

    Parameters
    ----------
    call : callable

    Returns
    -------
    int
        At least 1.
    """
    call()
    times = 1
    while (seconds := clock(call, times) * times) < _SHORTEST_SLOT / 4:
        times *= 4
    return max(1, round(times * _SHORTEST_SLOT / seconds))


def main(directory: str) -> None:
    """Serve requests, a line of JSON each, until stdin ends. Answers are lines of JSON too.

    Parameters
    ----------
    directory : str
        Where to import `conv1x1` from.
    """
    import conv1x1

    home = str(Path(conv1x1.__file__).parent.parent)
    print(json.dumps({"home": home}), flush=True)
    random = np.random.default_rng()
    times, options = 1, dict[str, Any]()

    def turn(of_turn: Callable[[Callable[[], object]], Any]) -> Any:
        # Where arrays lie decides a few percent, for as long as they lie there: each turn has its own places.
        layer, x_here, y_here = conv1x1.Conv1x1(w, **options), _elsewhere(x, random), _elsewhere(y, random)
        layer(x_here, out=y_here, threads=threads)
        return of_turn(lambda: layer(x_here, out=y_here, threads=threads))

    for line in sys.stdin:
        request = json.loads(line)
        if "layer" in request:
            what, layout, threads = Layer(*request["layer"]), request["layout"], request["threads"]
            x, w = arrays(what, layout)
            options = {"channel_axis": -1 if layout == "last" else 0, "stride": what.stride, "groups": what.groups}
            try:
                y = conv1x1.Conv1x1(w, **options)(x)
            except (TypeError, ValueError) as error:  # a type of pixels that came later
                answer: dict[str, Any] = {"refused": str(error)}
            else:
                check(f"conv1x1 in {home}", what, y, expected(what, layout, x, w))
                times = turn(repetitions)
                answer = {"bits": hashlib.sha256(y.tobytes()).hexdigest()}
        else:
            answer = {"seconds": turn(partial(clock, times=times))}
        print(json.dumps(answer), flush=True)


def _elsewhere(array: Any, random: Any) -> Any:
    """A copy at a random distance from the start of its memory, in lines of the cache."""
    lines = 16 * int(random.integers(256))
    memory = np.empty(array.size + 16 * 257, array.dtype)
    start = lines + (-memory.ctypes.data % 64) // array.itemsize
    copy = memory[start : start + array.size].reshape(array.shape)
    copy[...] = array
    return copy


if __name__ == "__main__":
    sys.path.insert(0, sys.argv[1])
    main(sys.argv[1])
