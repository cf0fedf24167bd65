"""Many threads at once, settings that change meanwhile, arrays that others want to resize, and threadpoolctl."""

from __future__ import annotations

import sys
import threading
import time
import warnings
import weakref
from collections.abc import Callable
from contextlib import suppress
from itertools import product
from typing import Any

import numpy as np
import pytest

import conv1x1 as c11
from conv1x1 import Conv1x1


def together(count: int, work: Callable[[int], None]) -> None:
    """Run work(0) … work(count - 1), each in a thread, all from one moment on; the first exception is raised."""
    start, failures = threading.Barrier(count), []

    def run(number: int) -> None:
        try:
            start.wait()
            work(number)
        except BaseException as failure:
            failures.append(failure)

    threads = [threading.Thread(target=run, args=(number,), daemon=True) for number in range(count)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join(120)
        assert not thread.is_alive()
    if failures:
        raise failures[0]


@pytest.fixture
def _switching_often() -> Any:
    before = sys.getswitchinterval()
    sys.setswitchinterval(1e-5)
    yield
    sys.setswitchinterval(before)


@pytest.mark.usefixtures("_switching_often")
def test_sixteen_threads_on_one_layer(normal: Any) -> None:
    """A thousand checked calls each: shapes and types of every kind, in place and not, canonical and not."""
    w, bias = normal(24, 40), normal(24)
    layer = Conv1x1(w, bias, activation="silu")
    xs = [normal(*shape, dtype=dtype) for shape in [(40,), (3, 40), (2, 40, 40)[:2], (9, 7, 40)] for dtype in "fd"]
    xs += [normal(40, 5).T, normal(6, 80)[:, ::2], normal(700, 40), normal(6000, 40)]
    expected = [Conv1x1(w, bias, activation="silu")(x, threads=1) for x in xs]
    lists = [x.astype(float).tolist() for x in xs[:4]]
    from_lists = [Conv1x1(w, bias, activation="silu")(np.asarray(x)) for x in lists]

    def work(number: int) -> None:
        random = np.random.default_rng(number)
        outs = [np.empty_like(y) for y in expected]
        for call in range(1000):
            i = int(random.integers(len(xs)))
            if call % 10 == 0 and i < len(lists):
                assert layer(lists[i]).tobytes() == from_lists[i].tobytes()
            elif call % 2:
                layer(xs[i], out=outs[i], threads=1 + call % 3)
                assert outs[i].tobytes() == expected[i].tobytes()
            else:
                assert layer(xs[i]).tobytes() == expected[i].tobytes()

    together(16, work)


@pytest.mark.usefixtures("_switching_often")
def test_everything_at_once(normal: Any) -> None:
    """Layers made, used and dropped, one-shot calls, plans and settings, while others do the same."""
    w, x = normal(16, 40), normal(3000, 40)
    expected = c11.conv1x1(x, w, threads=1).tobytes()
    before = c11.get_num_threads()

    def work(number: int) -> None:
        for call in range(60):
            kind = (number + call) % 4
            if kind == 0:
                assert Conv1x1(w)(x).tobytes() == expected
            elif kind == 1:
                assert c11.conv1x1(x, w).tobytes() == expected
            elif kind == 2:
                assert Conv1x1(w).plan(x)["threads"] in (1, 2, 3, 4, 5, before)
            else:
                c11.set_num_threads(1 + call % 5)

    try:
        together(8, work)
    finally:
        c11.set_num_threads(before)


def test_the_number_of_threads_changes_during_calls(normal: Any) -> None:
    layer, x = Conv1x1(normal(64, 64)), normal(1000, 64)  # units for some hundreds of helpers at most
    expected = layer(x, threads=1).tobytes()
    before, stop, numbers = c11.get_num_threads(), threading.Event(), []

    def change() -> None:
        while not stop.is_set():
            for n in (1, 2, 7, 3, 2**31 - 1):
                c11.set_num_threads(n)
                numbers.append(c11.get_num_threads())

    thread = threading.Thread(target=change)
    thread.start()
    try:
        for _ in range(150):
            assert layer(x).tobytes() == expected
    finally:
        stop.set()
        thread.join()
        c11.set_num_threads(before)
    assert len(numbers) > 100


@pytest.mark.parametrize(
    ("form", "which"),
    [
        *product(
            ("layer", "function", "function with options"),
            ("x", "residual", "out", "x of a view", "out over x", "out over residual", "x over out"),
        ),
        *product(("function", "function with options"), ("w", "bias")),  # of which a layer has copies
    ],
)
def test_an_array_cannot_be_resized_during_a_call(normal: Any, form: str, which: str) -> None:
    """Not even with refcheck=False, which otherwise moves the memory from under the call; afterwards it can."""
    arrays = {name: normal(6000, 256) for name in ("x", "residual", "out")}
    arrays |= {"w": normal(256, 256), "bias": normal(256)}
    layer, refused = Conv1x1(arrays["w"], arrays["bias"]), []
    name, _, owner = which.partition(" over ")
    array = arrays[owner or name.split()[0]]
    if owner:
        arrays[name] = array[:]
    if "view" in which:
        arrays["x"] = array.view(np.uint8).view(np.float32)[:]
    before, expected = array.copy(), layer(arrays["x"], residual=arrays["residual"])
    done = threading.Event()

    def resize() -> None:
        while not done.is_set():
            if weakref.getweakrefcount(array):  # the call has begun
                try:
                    array.resize((7, 7), refcheck=False)
                except ValueError as error:
                    refused.append(str(error))
                return

    thread = threading.Thread(target=resize)
    thread.start()
    given = {name: arrays[name] for name in ("residual", "out")}
    try:
        for _ in range(200):
            if not thread.is_alive():  # its turn came during a call
                break
            array[...] = before
            if form == "layer":
                layer(arrays["x"], **given, threads=2)
            else:
                options = {"dtype": np.float32} if form == "function with options" else {}
                c11.conv1x1(arrays["x"], arrays["w"], arrays["bias"], **given, **options, threads=2)
            np.testing.assert_array_equal(arrays["out"], expected)
    finally:
        done.set()
        thread.join()
    assert len(refused) == 1
    assert "cannot resize" in refused[0]
    assert weakref.getweakrefcount(array) == 0
    array.resize((7, 7), refcheck=False)


@pytest.mark.parametrize("which", ["x", "residual", "out"])
def test_an_array_may_be_reshaped_during_a_call(normal: Any, which: str) -> None:
    """NumPy lets others set its shape at any time. A call goes by the one it saw first, or refuses it."""
    w = normal(48, 64)
    arrays = {"x": normal(3000, 64), "residual": normal(3000, 48), "out": np.empty((3000, 48), np.float32)}
    layer, array, done = Conv1x1(w), arrays[which], threading.Event()
    expected, right = layer(arrays["x"], residual=arrays["residual"]).tobytes(), array.shape
    reshaped = [0]

    def reshape() -> None:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore", DeprecationWarning)
            while not done.is_set():
                for shape in (right[::-1], (array.size,), (2, right[0] // 2, right[1]), right):
                    array.shape = shape
                    reshaped[0] += 1
                time.sleep(0.0001)

    thread = threading.Thread(target=reshape)
    thread.start()
    called = 0
    try:
        end = time.monotonic() + 300
        while (called < 50 or reshaped[0] < 1000) and time.monotonic() < end:
            with suppress(ValueError):
                y = layer(**arrays, threads=2)
                called += 1
                assert y.tobytes() == expected
    finally:
        done.set()
        thread.join()
    assert called >= 50
    assert reshaped[0] >= 1000


def test_arrays_dropped_during_a_call(normal: Any) -> None:
    """The call holds on to what it was given, and so does its thread's frame."""
    w, kept = normal(64, 256), normal(40_000, 256)
    expected = Conv1x1(w)(kept).tobytes()
    box: dict[str, Any] = {}

    def drop() -> None:
        while not stop.wait(0.0005):
            box.clear()

    stop, results = threading.Event(), []
    thread = threading.Thread(target=drop)
    thread.start()
    while len(results) < 10:
        box.update(layer=Conv1x1(w), x=kept.copy())
        layer, x = box.get("layer"), box.get("x")
        if layer is None or x is None:
            continue
        arguments = [x]
        del x
        results.append(layer(*arguments, threads=2).tobytes())
    stop.set()
    thread.join()
    assert set(results) == {expected}


# -------------------------------------------------------------------------------------------- threadpoolctl

SEEN = """
import numpy
FIRST
SECOND
from threadpoolctl import ThreadpoolController, threadpool_info, threadpool_limits
conv1x1.set_num_threads(5)
ours = [library for library in threadpool_info() if library["user_api"] == "conv1x1"]
assert len(ours) == 1, threadpool_info()
assert ours[0]["num_threads"] == 5 and ours[0]["version"] == conv1x1.__version__
assert ours[0]["internal_api"] == "conv1x1" and ours[0]["prefix"] == "_conv1x1"
assert ours[0]["filepath"].endswith(".so")
layer, x = conv1x1.Conv1x1(numpy.ones((64, 256))), numpy.ones((20_000, 256), "f")
for limits in ({"limits": 2}, {"limits": 2, "user_api": "conv1x1"}, {"limits": {"conv1x1": 2}}):
    with threadpool_limits(**limits):
        assert conv1x1.get_num_threads() == layer.plan(x)["threads"] == 2
    assert conv1x1.get_num_threads() == layer.plan(x)["threads"] == 5
with threadpool_limits(limits=1, user_api="blas"):
    assert conv1x1.get_num_threads() == 5
with ThreadpoolController().select(user_api="conv1x1").limit(limits=3):
    assert conv1x1.get_num_threads() == 3
print("done")
"""


@pytest.mark.parametrize(
    ("first", "second"),
    [("import threadpoolctl", "import conv1x1"), ("import conv1x1", "import conv1x1.threadpoolctl")],
    ids=["imported before", "asked for afterwards"],
)
def test_threadpoolctl_sees_and_limits_the_pool(fresh_python: Any, first: str, second: str) -> None:
    pytest.importorskip("threadpoolctl", "3.2")
    run = fresh_python(SEEN.replace("FIRST", first).replace("SECOND", second))
    assert (run.returncode, run.stdout) == (0, "done\n"), run.stderr


def test_a_threadpoolctl_that_takes_no_others(fresh_python: Any) -> None:
    """One too old, or something else of that name, is left alone."""
    code = "import sys, types; sys.modules['threadpoolctl'] = types.ModuleType('threadpoolctl'); import conv1x1"
    run = fresh_python(code)
    assert run.returncode == 0, run.stderr


HELPERS = """
import os, threading, time
import numpy as np
from conv1x1 import Conv1x1
layer = Conv1x1(np.ones((64, 64), np.float32))
x = np.ones((20_000, 64), np.float32)
before = {*os.listdir("/proc/self/task")}
def helpers(): return {*os.listdir("/proc/self/task")} - before
def call(threads): assert (layer(x, threads=threads) == 64).all()
"""

WOKEN = """
def switches():
    def of(task):
        lines = open(f"/proc/self/task/{task}/status").read().splitlines()
        return sum(int(line.split()[1]) for line in lines if "ctxt_switches" in line)
    return {task: of(task) for task in helpers()}
call(6)
assert len(helpers()) == 5
time.sleep(0.1)
first = switches()
for _ in range(20):
    call(2)
    time.sleep(0.001)
print(sum(number > first[task] for task, number in switches().items()))
"""

PINNED = """
cpus = os.sched_getaffinity(0)
def pinned():
    own = threading.get_native_id()
    os.sched_setaffinity(own, [min(cpus)])
    for _ in range(3): call(3)
    before.add(str(own))
thread = threading.Thread(target=pinned)
thread.start()
thread.join()
allowed = [os.sched_getaffinity(int(task)) for task in helpers()]
assert len(allowed) == 2 and all(a >= cpus - {min(cpus)} for a in allowed), allowed
os.sched_setaffinity(0, [min(cpus)])
call(3)
assert all(os.sched_getaffinity(int(task)) == {min(cpus)} for task in helpers())
os.sched_setaffinity(0, cpus)
call(3)
assert all(len(os.sched_getaffinity(int(task))) >= len(cpus) - 1 for task in helpers())
print("done")
"""


def test_no_more_helpers_are_woken_than_a_call_wants(fresh_python: Callable[..., Any]) -> None:
    run = fresh_python(HELPERS + WOKEN, OPENBLAS_NUM_THREADS="1")
    assert run.stdout == "1\n", run.stderr


def test_helpers_of_a_pinned_caller_run_wherever_the_process_may(fresh_python: Callable[..., Any]) -> None:
    run = fresh_python(HELPERS + PINNED, OPENBLAS_NUM_THREADS="1")
    assert run.stdout == "done\n", run.stderr
