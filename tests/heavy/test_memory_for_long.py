"""A million calls and ten thousand layers in flat memory; valgrind; arrays of more than 2**32 elements."""

from __future__ import annotations

import ctypes
import mmap
import os
import shutil
import subprocess
import sys
import xml.etree.ElementTree as ElementTree
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from conv1x1 import Conv1x1

SOAK = """
import gc, os, resource
import numpy as np
import conv1x1 as c11

def resident():
    gc.collect()
    with open("/proc/self/statm") as file:
        return int(file.read().split()[1]) * resource.getpagesize()

random = np.random.default_rng(0)
w, bias = random.standard_normal((12, 20)).astype("f"), random.standard_normal(12)
layer = c11.Conv1x1(w, bias, activation="gelu")
xs = [random.standard_normal((n, 20)).astype(dtype) for n in range(1, 40) for dtype in "fd"]
large, wide = random.standard_normal((5000, 20)).astype("f"), np.empty((5000, 24))
calls, layers = int(os.environ["CALLS"]), int(os.environ["LAYERS"])

def some(number):
    for i in range(number):
        x = xs[i % len(xs)]
        layer(x)
        if i % 10 == 0:
            c11.conv1x1(x, w, bias, stride=2, activation="relu")
            layer(x[::-1, ::-1], out=wide[: len(x), ::2])
            layer(x.tolist())
        if i % 100 == 0:
            layer(large, out=wide[:, :12], threads=2)
            layer(random.standard_normal((i % 3000 + 1, 20)))
        if i % (calls // layers) == 0:
            made = c11.Conv1x1(random.standard_normal((i % 50 + 1, i % 70 + 1)), channel_axis=i % 2)
            made(np.ones((made.in_channels, made.in_channels), "df"[i % 3 == 0]))
            made.plan(np.ones((made.in_channels, made.in_channels), "f"))

some(calls // 5)
before = resident()
some(calls)
after = resident()
assert after - before < 1 << 20, (before, after)
print("done")
"""


def test_memory_stays_flat(fresh_python: Any, times: Any) -> None:
    """A million calls and ten thousand layers add less than a megabyte."""
    run = fresh_python(SOAK, timeout=3600, CALLS=str(times(1_000_000)), LAYERS=str(times(10_000)))
    assert (run.returncode, run.stdout) == (0, "done\n"), run.stderr


# ------------------------------------------------------------------------------------------------- valgrind

UNDER_VALGRIND = """
import itertools
import numpy as np
from conv1x1 import Conv1x1, _conv1x1, conv1x1
from conv1x1.runtime import restricted

print(_conv1x1.config()["isa"])
kernels = [k for k in _conv1x1.kernels() if k["isa"] == _conv1x1.config()["isa"]]
activations = itertools.cycle([None, "relu", "gelu", "sigmoid", "silu", "tanh", "hardswish", "hardsigmoid"])
for kernel in kernels:
    few = {"few_filters": (37, 3), "few_filters_lanes": (37, 3), "few_channels": (3, 2)}
    channels, filters = few.get(kernel["method"], (9, kernel["lanes"] + 3))
    dtype = kernel["dtype"]
    for axis, pixels in ((-1, 1), (-1, kernel["rows"] + 3), (0, kernel["lanes"] + 5)):
        shape = (pixels, channels) if axis else (channels, pixels)
        x = np.ones(shape, dtype)
        layer = Conv1x1(np.ones((filters, channels)), np.ones(filters), channel_axis=axis, activation=next(activations))
        with restricted(kernel=kernel["name"]):
            y = layer(x)
            for view in (x[::-1, ::-1], np.asfortranarray(x), x.astype("d"), np.repeat(x, 2, 1)[:, ::2]):
                layer(view, residual=y, out=np.empty(y.shape[::-1], "f").T)
            bool(y.any())  # every number of it was written
x = np.ones((3000, 40), "f")
assert (Conv1x1(np.ones((16, 40)))(x, threads=3) == conv1x1(x, np.ones((16, 40), "f"), threads=1)).all()
assert (Conv1x1(np.ones((4, 10)), groups=2, stride=2)(x[:, :20]) == 10).all()
"""


def test_valgrind(tmp_path: Path) -> None:
    """Not an error that has the extension in its stack, nor a block that it lost, with the AVX2 kernels."""
    if not shutil.which("valgrind"):
        pytest.skip("needs valgrind")
    report = tmp_path / "report.xml"
    command = ["valgrind", "--xml=yes", f"--xml-file={report}", "--leak-check=full", "--num-callers=40", sys.executable]
    environment = os.environ | {"PYTHONMALLOC": "malloc", "OPENBLAS_NUM_THREADS": "1"}
    run = subprocess.run(
        [*command, "-c", UNDER_VALGRIND], env=environment, capture_output=True, text=True, timeout=3600, check=False
    )
    assert (run.returncode, run.stdout) == (0, "avx2\n"), run.stderr
    errors = []
    for error in ElementTree.parse(report).getroot().iter("error"):
        kind = error.findtext("kind", "")
        ours = any("_conv1x1" in (frame.text or "") for frame in error.iter("obj"))
        if ours and kind not in ("Leak_PossiblyLost", "Leak_StillReachable", "Leak_IndirectlyLost"):
            errors.append(ElementTree.tostring(error, "unicode"))
    assert errors == []


# ---------------------------------------------------------------------------------------------- huge arrays

RING = 1 << 26  # bytes


class Ring:
    """An array as long as one likes in 64 MB of memory: the same pages over and over."""

    def __init__(self, size: int) -> None:
        libc = ctypes.CDLL(None, use_errno=True)
        libc.mmap.restype = ctypes.c_void_p
        libc.mmap.argtypes = [ctypes.c_void_p, ctypes.c_size_t, *[ctypes.c_int] * 3, ctypes.c_long]
        file = os.memfd_create("ring")
        os.ftruncate(file, RING)
        no_reserve, fixed = 0x4000, 0x10
        whole = -(-size // RING) * RING
        start = libc.mmap(None, whole, 0, mmap.MAP_PRIVATE | mmap.MAP_ANONYMOUS | no_reserve, -1, 0)
        for at in range(0, whole, RING):
            flags = mmap.MAP_SHARED | fixed
            assert libc.mmap(start + at, RING, mmap.PROT_READ | mmap.PROT_WRITE, flags, file, 0) == start + at
        os.close(file)
        self.memory = (ctypes.c_char * size).from_address(start)

    def array(self, shape: tuple[int, ...], dtype: str = "f4") -> Any:
        return np.frombuffer(self.memory, dtype, int(np.prod(shape))).reshape(shape)


#: The layout, channels, filters and pixels: such that x repeats itself wherever the result does, in its own ring.
HUGE = [
    ("last", 2, 1, 2**31 + 2**24),
    ("first", 4, 1, 2**30 + 2**22),
    ("last", 2, 2, 2**31 + 2**24),
    ("last", 64, 8, 2**26 + 2**20),
    ("last", 64, 2, 2**26 + 2**20),
    ("first", 40, 1, 2**27 + 2**22),
    ("turned", 8, 8, 2**29 + 2**23),
]


@pytest.mark.parametrize("case", HUGE, ids=str)
def test_more_elements_than_32_bits_count(case: tuple[str, int, int, int], request: Any) -> None:
    if request.config.getoption("--short") and case not in HUGE[:2]:
        pytest.skip("short")
    layout, channels, filters, pixels = case
    x_ring, y_ring = Ring(4 * channels * pixels), Ring(4 * filters * pixels)
    random = np.random.default_rng(0)
    x_ring.array((RING // 4,))[:] = random.integers(-8, 8, RING // 4)
    layer = Conv1x1(
        random.integers(-8, 8, (filters, channels)).astype("f"), channel_axis=0 if layout == "first" else -1
    )
    if layout == "first":
        x, y = x_ring.array((channels, pixels)), y_ring.array((filters, pixels))
    else:
        x, y = x_ring.array((pixels, channels)), y_ring.array((pixels, filters))
    if layout == "turned":
        x, y = x[::-1], y[::-1]
    y_ring.array((RING // 4,))[:] = np.nan
    assert layer(x, out=y, threads=2) is y
    step = pixels // 61
    for first in (*range(0, pixels - 1000, step), pixels - 1000):
        part = (slice(None), slice(first, first + 1000)) if layout == "first" else slice(first, first + 1000)
        np.testing.assert_array_equal(y[part], layer(np.ascontiguousarray(x[part])))
    assert not np.isnan(y_ring.array((RING // 4,))).any()
