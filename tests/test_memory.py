"""Memory: bounded, never by the array; given back; and where there is none, MemoryError and nothing else."""

from __future__ import annotations

import os
import platform
import shutil
import subprocess
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from numpy.lib.stride_tricks import as_strided

from conv1x1 import Conv1x1, _conv1x1
from conv1x1.runtime import restricted

MOST_SCRATCH = 2_000_000  # bytes for each thread, as README says

# ---------------------------------------------------------------------------------------------------- growth


@pytest.mark.drawn
@pytest.mark.parametrize("seed", range(8))
def test_scratch_of_any_problem(seed: int) -> None:
    """At random: shapes, strides, types, groups, threads, kernels. The exception is one pixel's channels, in lane order
    where they are not contiguous."""
    random = np.random.default_rng(seed)

    def size(bits: float) -> int:
        return int(2 ** random.uniform(0, bits))

    for _ in range(100):
        groups, channels, pixels = int(random.choice([1, 1, 1, 2, 7])), size(18), [size(20), size(12)]
        filters = max(1, min(size(16), 300_000 // channels))
        axis = int(random.integers(3))
        shape = [*pixels[:axis], channels * groups, *pixels[axis:]]
        strides = [int(random.choice([0, 4, 8, 12, -8, 4096, 2**20, 4 * channels, 8 * pixels[1]])) for _ in shape]
        x = as_strided(np.zeros(1, random.choice(["f4", "f8"])), shape, strides)
        options = {"groups": groups, "stride": int(random.choice([1, 1, 2])), "dtype": random.choice(["f4", "f8"])}
        layer = Conv1x1(np.zeros((filters * groups, channels), np.float32), channel_axis=axis, **options)
        isa = random.choice(_conv1x1.config()["isas_supported"])
        orientation = random.choice(np.array([None, "pixels_as_rows", "pixels_as_lanes"]))
        with restricted(isa=str(isa), orientation=orientation):
            plan = layer.plan(x, threads=int(random.choice([1, 2, 16, 300])))
        one_pixel = 8 * channels + 600 if plan["order"] == "lanes" and plan["stages_x"] else 0
        assert plan["scratch_bytes"] <= max(MOST_SCRATCH, one_pixel), plan


def test_scratch_of_one_pixel_in_lane_order() -> None:
    """What README says of it: its channels, 8 bytes each, and no more pixels than one."""
    for channels in (10**5, 10**6):
        for threads in (1, 2, 100):
            x = as_strided(np.zeros(1, np.float32), (500, channels), (0, 8))
            plan = Conv1x1(np.zeros((3, channels), np.float32), dtype=np.float64).plan(x, threads=threads)
            assert plan["order"] == "lanes"
            assert plan["stages_x"]
            assert plan["tile_pixels"] == 1
            assert 8 * channels <= plan["scratch_bytes"] <= 8 * channels + 600


PEAKS = """
import numpy as np
from conv1x1 import ArgMax, Conv1x1, Sequential

def status(name):
    with open("/proc/self/status") as file:
        return next(int(line.split()[1]) for line in file if line.startswith(name)) / 1024

def grown(call):
    with open("/proc/self/clear_refs", "w") as file:
        file.write("5")  # the peak starts anew
    before = status("VmRSS")
    call()
    return status("VmHWM") - before
"""

GROWTH = """
for megabytes in (8, 64):
    memory = np.ones((megabytes << 18) // (1024 * 16) * (1024 * 16), "f").reshape(-1, 1024, 16)
    results = np.ones(memory.size, "f")
    views = {
        "in place": (memory, -1),
        "turned": (memory.transpose(2, 0, 1), 0),
        "channels first": (memory.reshape(16, -1, 1024), 0),
        "every other pixel": (memory[:, ::2], -1),
        "every other channel": (memory[..., ::2], -1),
        "backwards": (memory[::-1, ::-1, ::-1], -1),
        "many channels": (memory.reshape(-1, 4096), -1),
        "many channels, first": (memory.reshape(4096, -1), 0),
        "still": (np.broadcast_to(memory[:1], memory.shape), -1),
        "pages apart": (memory.reshape(1024, -1)[:, ::64], 0),
    }
    for name, (x, axis) in views.items():
        for filters in (1, 7):
            shape = list(x.shape)
            shape[axis] = filters
            for dtype in ("f", "d"):
                out = results.view(dtype)[: int(np.prod(shape))].reshape(shape)
                if out.size != np.prod(shape):
                    continue
                layer = Conv1x1(np.ones((filters, x.shape[axis])), channel_axis=axis, activation="relu")
                layer(x[..., :1] if axis == 0 else x[:1])  # packs
                for y in (out, out[..., ::-1]):
                    for threads in (1, 2):
                        print(grown(lambda: layer(x, out=y, threads=threads)), megabytes, name, filters, dtype, threads)
print("done")
"""


@pytest.mark.skipif(not os.access("/proc/self/clear_refs", os.W_OK), reason="measures peaks by /proc")
def test_a_call_grows_by_a_constant(fresh_python: Any) -> None:
    """However large x and out are, both there before: two threads' scratch, and what the system adds to it."""
    run = fresh_python(PEAKS + GROWTH, OPENBLAS_NUM_THREADS="1")
    *lines, last = run.stdout.splitlines()
    assert last == "done", run.stderr
    assert len(lines) > 200
    assert {line for line in lines if float(line.split()[0]) > 2 * MOST_SCRATCH / 2**20 + 1} == set()


GROWTH_OF_CHAINS = """
memory = np.ones((5_000, 2_000, 3), np.uint8)
result = np.ones((5_000, 2_000, 3), np.uint8)
for axis in (-1, 0):
    x, y = (memory, result) if axis else (memory.reshape(3, 5_000, 2_000), result.reshape(3, 5_000, 2_000))
    wide = Conv1x1(np.ones((60, 3)), activation="relu", channel_axis=axis)
    narrow = Conv1x1(np.ones((3, 60)), channel_axis=axis)
    net, first = Sequential([wide, narrow], skip=axis == 0), y[..., 0] if axis else y[0]
    net(x[:9] if axis else x[:, :9])  # packs
    print(grown(lambda: net(x, out=y[..., ::-1] if axis else y, threads=2)), "out", axis)
    print(grown(lambda: Sequential([*net, ArgMax()])(x, out=first, threads=1)), "classes", axis)
    print(grown(lambda: net(x)) - 3 * 4e7 / 2**20, "a result of its own", axis)
print("done")
"""


@pytest.mark.skipif(not os.access("/proc/self/clear_refs", os.W_OK), reason="measures peaks by /proc")
def test_a_chain_makes_no_array_of_what_lies_between(fresh_python: Any) -> None:
    """Of 10⁷ pixels, whose 60 channels in the middle would take 2.4 GB."""
    run = fresh_python(PEAKS + GROWTH_OF_CHAINS, OPENBLAS_NUM_THREADS="1")
    *lines, last = run.stdout.splitlines()
    assert last == "done", run.stderr
    assert len(lines) == 6
    assert {line for line in lines if float(line.split()[0]) > 2 * MOST_SCRATCH / 2**20 + 2} == set()


# ---------------------------------------------------------------------------------------------- none at all

ALLOCATIONS = """
import _thread, ctypes, gc, os, pickle, sys, time
import numpy as np
from conv1x1 import Conv1x1, _conv1x1, conv1x1

preloaded = ctypes.CDLL(None)
until, fail_on, living = (
    ctypes.c_long.in_dll(preloaded, name)
    for name in ("allocations_until_failure", "allocations_fail_on", "living_allocations")
)
spared = ctypes.c_ulong.in_dll(preloaded, "allocations_spared")

def tasks():
    return len(os.listdir("/proc/self/task"))

def attempt(call, n):
    '''The result of the call, None where it raised MemoryError, and whether its n-th allocation failed.'''
    result = None
    try:
        until.value = n
        result = call()
    except MemoryError:
        pass
    failed = until.value == fail_on.value
    until.value = 0
    return result, failed

def attempt_until_the_end(call, n):
    fail_on.value = 1
    result, failed = attempt(call, n)
    fail_on.value = 0
    return result, failed

def attempt_in_a_thread(call, n):
    box, done, before = [], _thread.allocate_lock(), tasks()
    done.acquire()

    def run():
        # NumPy's thread-local data come first: where the C library has no memory for such, it aborts.
        pickle.loads(pickle.dumps(np.ones((3, 3))))
        box.append(attempt(call, n))
        done.release()

    spared.value = _thread.get_ident()  # which may not wait yet
    _thread.start_new_thread(run, ())
    done.acquire()
    spared.value = 0
    while tasks() > before + 2:  # helpers may be new
        time.sleep(0.0001)
    return box.pop()

def without_helpers():
    pid = os.fork()
    if pid == 0:
        os._exit(0)
    os.waitpid(pid, 0)

random = np.random.default_rng(0)
x, w, bias = random.standard_normal((2000, 64)).astype("f"), random.standard_normal((32, 64)), np.ones(32)
w_float, out, wide = w.astype("f"), np.empty((2000, 32), "f"), Conv1x1(w, dtype="d")
assert wide.plan(x)["stages_x"] and wide.plan(x)["scratch_bytes"] > 1000
as_list, large = x[:2].tolist(), np.concatenate([x] * 15)
make = lambda: Conv1x1(w, bias, activation="silu")
layer = make()
spec = layer._spec
pickled = pickle.dumps(layer)
forget = _conv1x1.restrict  # the plans
cases = {  # before each attempt; the call; what to compare of its result
    "make a layer": (lambda: None, make, lambda made: made(x)),
    "first call": (lambda: _conv1x1.Layer(spec), lambda fresh: fresh(x), np.asarray),
    "later call": (forget, lambda _: layer(x, out=out), np.asarray),
    "staged": (forget, lambda _: wide(x), np.asarray),
    "with helpers": (without_helpers, lambda _: wide(large, threads=3), np.asarray),
    "over x": (forget, lambda _: layer(x, residual=out, out=out), np.shape),
    "one-shot": (forget, lambda _: conv1x1(x, w_float), np.asarray),
    "one-shot with options": (forget, lambda _: conv1x1(x, w, stride=2, groups=1, activation="relu"), np.asarray),
    "of a list": (forget, lambda _: layer(as_list), np.asarray),
    "from a pickle": (lambda: None, lambda: pickle.loads(pickled), lambda made: made(x)),
    "plan": (lambda: None, lambda: layer.plan(x), lambda plan: plan["tile_pixels"]),
}

# The core's alone, preparation included: Python code itself leaks where allocations fail, other errors come of it, and
# NumPy's caches fill slowly where none fails.
CORE = ("first call", "later call", "staged", "with helpers", "over x", "one-shot")

def fail_each(name, try_it):
    '''Every allocation of a case fails once; how many there were.'''
    prepare, call, of = cases[name]

    def once():
        made = prepare()
        return (lambda: call(made)) if call.__code__.co_argcount else call

    expected, n, failed = np.array(of(once()())), 0, True
    while failed:
        n += 1
        ready = once()
        result, failed = try_it(ready, n)
        assert result is not None or failed, (name, n)
        if result is not None:
            assert np.array_equal(of(result), expected), (name, n)
        assert np.array_equal(of(ready()), expected), (name, n)  # the next call is right
    assert n > 1, name
    return n

def blocks_left(name):
    '''By a second time that is like the first.'''
    counts = (ctypes.c_long * 2)()  # no blocks of their own
    for i in range(2):
        fail_each(name, attempt)
        fail_each(name, attempt_until_the_end)
        gc.collect()
        counts[i] = living.value
    return counts[1] - counts[0]

assert sum(fail_each(name, way) for name in cases for way in (attempt, attempt_in_a_thread)) > 500
for name in CORE:  # what they leak, they leak each time
    left = [blocks_left(name) for _ in range(3)]
    assert min(left) <= 0, (name, left)
print("done")
"""


@pytest.fixture(scope="session")
def failing_allocations(tmp_path_factory: pytest.TempPathFactory) -> str:
    """A library to preload, whose allocations fail when they are told to."""
    compiler = next((c for c in ("cc", "gcc", "clang") if shutil.which(c)), None)
    if compiler is None or platform.libc_ver()[0] != "glibc":
        pytest.skip("needs a C compiler and the GNU C library")
    library = tmp_path_factory.mktemp("preloaded") / "failing_allocations.so"
    source = Path(__file__).with_name("failing_allocations.c")
    subprocess.run([compiler, "-O1", "-shared", "-fPIC", "-o", library, source], check=True)
    return str(library)


def test_every_allocation_may_fail(fresh_python: Any, failing_allocations: str) -> None:
    """The first, the second … the last of every kind of call: MemoryError or a right result (without the helpers that
    there is no memory for), the next call right, and as many blocks in use as before."""
    preload = {"LD_PRELOAD": failing_allocations, "PYTHONMALLOC": "malloc", "OPENBLAS_NUM_THREADS": "1"}
    run = fresh_python(ALLOCATIONS, **preload)
    assert (run.returncode, run.stdout) == (0, "done\n"), run.stderr
