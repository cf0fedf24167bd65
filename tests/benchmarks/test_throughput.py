"""The layers of `conv1x1 bench` as benchmarks of pytest, for keeping track.

    pytest tests/benchmarks --benchmark-enable --benchmark-json=speed.json

Every result is checked, with or without a clock. A machine's speed changes from minute to minute, so a time alone says
little: `extra_info` has all that a row of `conv1x1 bench --json` has, among it the ratio to NumPy, from calls that took
turns, and where it was measured.
"""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest

from conv1x1 import Conv1x1
from conv1x1.command.bench import measure, results
from conv1x1.command.bench.cases import LAYERS, cases
from conv1x1.command.bench.peers import NumPy, blas_threads
from conv1x1.command.bench.timing import Layer, arrays, check, expected

CASES = cases(LAYERS, "both")
IDS = [f"{layer}, channels {layout}".translate({ord("×"): "x", ord("→"): "->"}) for layer, layout in CASES]
THREADS = 1


@pytest.mark.parametrize(("layer", "layout"), CASES, ids=IDS)
def test_throughput(benchmark: Any, layer: Layer, layout: str) -> None:
    x, w = arrays(layer, layout)
    run = Conv1x1(w, channel_axis=-1 if layout == "last" else 0, stride=layer.stride, groups=layer.groups)
    y = np.zeros_like(run(x))

    benchmark(run, x, out=y, threads=THREADS)

    check("conv1x1", layer, y, expected(layer, layout, x, w))
    if benchmark.enabled:
        with blas_threads(THREADS) as numpy_threads:
            row = measure.measure(layer, layout, {"numpy": NumPy(THREADS)}, THREADS, seconds=0, rounds=21)
        row = row._replace(seconds=benchmark.stats.stats.median)
        benchmark.extra_info |= row.record() | results.environment(THREADS) | {"numpy_threads": numpy_threads}
