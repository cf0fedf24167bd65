"""Speed on shapes that occur, next to np.matmul in the same run.

    pytest tests/benchmarks --benchmark-enable --benchmark-json=speed.json

Every result is checked, with or without a clock. A machine's speed changes from minute to minute, so a time alone says
little: `extra_info` holds `ratio_to_matmul`, the median over rounds in which NumPy and this package take turns (2 means
twice as fast as NumPy).
"""

from __future__ import annotations

import statistics
import time
from collections.abc import Callable
from typing import Any, NamedTuple

import numpy as np
import pytest

from conv1x1 import Conv1x1, _conv1x1


class Shape(NamedTuple):
    """A pointwise layer of a network, and the image it gets."""

    name: str
    in_channels: int
    out_channels: int
    height: int
    width: int
    stride: int = 1
    groups: int = 1


#: The question this project grew from: 28×28×192 and K filters.
SEED = [Shape(f"seed {k}", 192, k, 28, 28) for k in (1, 4, 16, 32, 64)]

LAYERS = [
    Shape("MobileNetV1 first", 32, 64, 112, 112),
    Shape("MobileNetV1 middle", 512, 512, 14, 14),
    Shape("MobileNetV2 expand", 24, 144, 56, 56),
    Shape("MobileNetV2 project", 144, 24, 56, 56),
    Shape("MobileNetV2 last block", 960, 320, 7, 7),
    Shape("MobileNetV3 squeeze", 960, 240, 1, 1),
    Shape("ResNet-50 reduce", 256, 64, 56, 56),
    Shape("ResNet-50 expand", 128, 512, 28, 28),
    Shape("ResNet-50 shortcut", 512, 1024, 28, 28, stride=2),
    Shape("EfficientNet-B0 expand", 40, 240, 28, 28),
    Shape("EfficientNet-B0 head", 320, 1280, 7, 7),
    Shape("ShuffleNet in groups", 240, 240, 28, 28, groups=3),
    Shape("RGB to grey", 3, 1, 512, 512),
]

CASES = [(shape, layout) for shape in SEED + LAYERS for layout in ("channels last", "channels first")]


def seconds(function: Callable[[], Any], times: int) -> float:
    began = time.perf_counter()
    for _ in range(times):
        function()
    return (time.perf_counter() - began) / times


def ratio_in_turn(ours: Callable[[], Any], theirs: Callable[[], Any], rounds: int = 21) -> float:
    """How many times as long `theirs` takes, both in turn: the median of the rounds' ratios."""
    times = [max(1, int(1e-3 / seconds(function, 3))) for function in (theirs, ours)]
    return statistics.median(seconds(theirs, times[0]) / seconds(ours, times[1]) for _ in range(rounds))


def matmul(x: Any, w: Any, shape: Shape, first: bool) -> Callable[[], Any]:
    """What a NumPy user writes, into memory that is there already."""
    g, s, channels = shape.groups, shape.stride, shape.in_channels
    filters = w.reshape(g, shape.out_channels // g, -1)
    pixels = -(-shape.height // s) * -(-shape.width // s)
    if first:
        out = np.empty((g, shape.out_channels // g, pixels), x.dtype)
        return lambda: np.matmul(filters, x[:, ::s, ::s].reshape(g, channels // g, -1), out=out)
    if g == 1:
        out = np.empty((pixels, shape.out_channels), x.dtype)
        return lambda: np.matmul(x[::s, ::s].reshape(-1, channels), w.T, out=out)
    out = np.empty((pixels, g, shape.out_channels // g), x.dtype).swapaxes(0, 1)
    return lambda: np.matmul(x[::s, ::s].reshape(-1, g, channels // g).swapaxes(0, 1), filters.swapaxes(1, 2), out=out)


@pytest.mark.parametrize(("shape", "layout"), CASES, ids=[f"{shape.name}, {layout}" for shape, layout in CASES])
def test_throughput(benchmark: Any, normal: Any, within_bound: Any, shape: Shape, layout: str) -> None:
    first = layout == "channels first"
    image = normal(shape.height, shape.width, shape.in_channels)
    x = np.ascontiguousarray(image.transpose(2, 0, 1)) if first else image
    w = normal(shape.out_channels, shape.in_channels // shape.groups)
    layer = Conv1x1(w, channel_axis=0 if first else -1, stride=shape.stride, groups=shape.groups)
    out = np.full_like(layer(x), np.nan)

    benchmark(layer, x, out=out)

    y = out.transpose(1, 2, 0) if first else out
    pixels = image[:: shape.stride, :: shape.stride].reshape(-1, shape.in_channels)
    results = np.split(y.reshape(-1, shape.out_channels), shape.groups, 1)
    parts = zip(results, np.split(pixels, shape.groups, 1), np.split(w, shape.groups), strict=True)
    for result, its_pixels, its_filters in parts:
        within_bound(result, its_pixels, its_filters)

    if benchmark.enabled:
        plan, config = layer.plan(x), _conv1x1.config()
        flop = 2 * len(pixels) * shape.in_channels // shape.groups * shape.out_channels
        benchmark.extra_info |= {
            "shape": shape._asdict(),
            "layout": layout,
            "gflops": flop / benchmark.stats.stats.median / 1e9,
            "ratio_to_matmul": ratio_in_turn(lambda: layer(x, out=out), matmul(x, w, shape, first)),
            "cpu": config["cpu"],
            "isa": plan["isa"],
            "kernel": plan["kernel"],
            "threads": plan["threads"],
            "numpy": np.__version__,
        }


@pytest.mark.parametrize(("shape", "layout"), CASES, ids=[f"{shape.name}, {layout}" for shape, layout in CASES])
def test_the_rival_computes_the_same(exact: Any, shape: Shape, layout: str) -> None:
    """A ratio is only worth something if both do the same work."""
    first = layout == "channels first"
    image = exact(shape.height, shape.width, shape.in_channels, most=2)
    x = np.ascontiguousarray(image.transpose(2, 0, 1)) if first else image
    w = exact(shape.out_channels, shape.in_channels // shape.groups, most=2)
    y = Conv1x1(w, channel_axis=0 if first else -1, stride=shape.stride, groups=shape.groups)(x)
    theirs = matmul(x, w, shape, first)()
    if theirs.ndim == 3 and not first:
        theirs = theirs.swapaxes(0, 1)
    np.testing.assert_array_equal(theirs.reshape(y.shape), y)
