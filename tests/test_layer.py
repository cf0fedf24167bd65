"""A layer is its weights and nothing else: it never changes, travels, and may be shared."""

from __future__ import annotations

import copy
import io
import os
import pickle
import signal
import subprocess
import sys
import threading
import time
import warnings
from contextlib import suppress
from typing import Any

import numpy as np
import pytest

import conv1x1 as c11
from conv1x1 import Conv1x1, conv1x1

OPTIONS: list[dict[str, Any]] = [
    {},
    {"bias": True},
    {"activation": "gelu", "bias": True},
    {"activation": ("clip", -1, 2.5), "channel_axis": 1},
    {"activation": ("leaky_relu", 0.3), "stride": 2},
    {"activation": "relu", "stride": (2, 1), "groups": 2},
    {"dtype": np.float64, "bias": True},
    {"dtype": np.float32, "vector": True, "weights": np.float64},
]


def made(normal: Any, options: dict[str, Any], cls: type[Conv1x1] = Conv1x1) -> tuple[Conv1x1, Any]:
    """A layer with these options, and an x for it."""
    options = dict(options)
    w = normal(8, 6 // options.get("groups", 1), dtype=options.pop("weights", np.float32))
    bias = normal(8) if options.pop("bias", False) else None
    layer = cls(w[0] if options.pop("vector", False) else w, bias, **options)
    return layer, normal(3, 6, 5, 6)


def same(a: Any, b: Any) -> None:
    assert (a.shape, a.dtype) == (b.shape, b.dtype)
    assert a.tobytes() == b.tobytes()


# ------------------------------------------------------------------------------------------ it never changes


@pytest.mark.parametrize("name", ["weight", "bias", "in_channels", "out_channels", "channel_axis", "stride", "groups"])
def test_attributes_cannot_be_set(name: str) -> None:
    layer = Conv1x1(np.ones((2, 3)), [1, 2])
    with pytest.raises(AttributeError):
        setattr(layer, name, getattr(layer, name))
    with pytest.raises(AttributeError):
        delattr(layer, name)
    for other in ("activation", "dtype", "new"):
        with pytest.raises(AttributeError):
            setattr(layer, other, None)


@pytest.mark.parametrize("dtype", [np.float32, np.float64, np.float16, np.int64])
@pytest.mark.parametrize("order", "CF")
def test_the_weights_are_the_layers_own(exact: Any, dtype: Any, order: str) -> None:
    x = exact(5, 3)
    w, bias = np.array(exact(4, 3), dtype, order=order), exact(4, dtype=dtype)
    layer = Conv1x1(w, bias)
    before = Conv1x1(w, bias)(x)
    w[...], bias[...] = 0, 0
    same(layer(x), before)  # before the first call too: the weights are packed then
    same(layer(x.astype(np.float64)), before.astype(np.float64))
    for a in (layer.weight, layer.bias):
        assert not a.flags.writeable
        with pytest.raises(ValueError, match="read-only"):
            a[...] = 0
    assert Conv1x1(np.ones(3)).weight.flags.writeable is False


def test_the_weights_cannot_be_made_writable(exact: Any) -> None:
    """Else what is packed and what is told could differ."""
    layer = Conv1x1(exact(4, 3), exact(4))
    for a in (layer.weight, layer.bias):
        with pytest.raises(ValueError, match="WRITEABLE"):
            a.flags.writeable = True


def test_views_of_the_weights_are_not_the_layers(exact: Any) -> None:
    """Whoever sets the shape of what `weight` returns sets it there only."""
    for w in (exact(4, 3), exact(3)):
        layer, x = Conv1x1(w, exact(len(np.atleast_2d(w)))), exact(5, 3)
        before, shown = layer(x), repr(layer)
        for a in (layer.weight, layer.bias):
            with warnings.catch_warnings():
                warnings.simplefilter("ignore", DeprecationWarning)
                a.shape = (1, a.size)
                a.dtype = np.uint8
        assert repr(layer) == shown
        assert (layer.weight.shape, layer.weight.dtype) == (w.shape, w.dtype)
        same(layer(x), before)
        same(layer(x.tolist()), layer(x.astype(np.float64)))


def test_init_changes_nothing(normal: Any) -> None:
    layer, x = made(normal, {"bias": True})
    before, shown = layer(x), repr(layer)
    for args in ((np.zeros((2, 3)),), (np.zeros((8, 6)), None), ()):
        with suppress(TypeError):
            layer.__init__(*args)  # type: ignore[misc]
        same(layer(x), before)
        assert repr(layer) == shown


def test_only_weights_make_a_layer() -> None:
    with pytest.raises(TypeError):
        Conv1x1()  # type: ignore[call-arg]
    with pytest.raises(TypeError):
        object.__new__(Conv1x1)
    with pytest.raises(TypeError):
        Conv1x1(np.ones((2, 3)), None, -1)  # type: ignore[misc]  # the options go by name


# -------------------------------------------------------------------------------------------- what it tells


def test_properties(normal: Any) -> None:
    w, bias = normal(8, 3), normal(8)
    layer = Conv1x1(w, bias, channel_axis=1, stride=(2, 1), groups=2, activation=("clip", 0, 1), dtype="f8")
    np.testing.assert_array_equal(layer.weight, w)
    np.testing.assert_array_equal(layer.bias, bias)
    assert (layer.in_channels, layer.out_channels, layer.groups) == (6, 8, 2)
    assert (layer.channel_axis, layer.stride) == (1, (2, 1))
    assert layer.activation == ("clip", 0, 1)
    assert layer.dtype == np.float64
    plain = Conv1x1(w)
    assert (plain.bias, plain.stride, plain.groups, plain.activation, plain.dtype) == (None, 1, 1, None, None)
    assert Conv1x1(w, activation="leaky_relu").activation == ("leaky_relu", 0.01)
    assert Conv1x1(w, activation="relu6").activation == "relu6"
    assert Conv1x1(w[0]).weight.shape == (3,)
    assert (Conv1x1(w[0]).in_channels, Conv1x1(w[0]).out_channels) == (3, 1)
    assert Conv1x1(w[..., None, None]).weight.shape == (8, 3)
    assert Conv1x1(w.T[None, None]).weight.shape == (8, 3)


def test_repr(normal: Any) -> None:
    assert repr(Conv1x1(normal(8, 3))) == "<Conv1x1 3 → 8, channel_axis=-1>"
    layer = Conv1x1(normal(8, 3), normal(8), channel_axis=1, stride=2, groups=2, activation="relu")
    assert repr(layer) == "<Conv1x1 6 → 8, bias, channel_axis=1, stride=2, groups=2, activation='relu'>"


# ---------------------------------------------------------------------------------------------- it travels

TRIPS = {
    "copy": copy.copy,
    "deepcopy": copy.deepcopy,
    **{f"pickle {p}": lambda v, p=p: pickle.loads(pickle.dumps(v, p)) for p in range(2, pickle.HIGHEST_PROTOCOL + 1)},
}


@pytest.mark.parametrize("trip", TRIPS)
@pytest.mark.parametrize("options", OPTIONS, ids=str)
def test_a_round_trip_keeps_every_bit(normal: Any, options: dict[str, Any], trip: str) -> None:
    layer, x = made(normal, options)
    other = TRIPS[trip](layer)
    assert type(other) is Conv1x1
    assert repr(other) == repr(layer)
    for name in ("channel_axis", "stride", "groups", "activation", "dtype", "in_channels", "out_channels"):
        assert getattr(other, name) == getattr(layer, name)
    same(other.weight, layer.weight)
    assert not other.weight.flags.writeable
    for data in (x, x.astype(np.float64)):
        same(other(data), layer(data))


def test_a_pickle_of_a_used_layer_holds_its_weights_once(normal: Any) -> None:
    layer = Conv1x1(normal(64, 100))
    fresh = pickle.dumps(layer)
    layer(normal(7, 100))
    layer(normal(7, 100, dtype=np.float64))
    assert pickle.dumps(layer) == fresh
    assert len(fresh) < 64 * 100 * 4 + 1000


@pytest.mark.parametrize("protocol", range(2, pickle.HIGHEST_PROTOCOL + 1))
def test_a_pickle_names_nothing_but_the_package_and_numpy(normal: Any, protocol: int) -> None:
    layer, x = made(normal, {"dtype": np.float64, "bias": True, "activation": "gelu"})
    names = set()

    class Watched(pickle.Unpickler):
        def find_class(self, module: str, name: str) -> Any:
            names.add((module.split(".")[0], name))
            return super().find_class(module, name)

    same(Watched(io.BytesIO(pickle.dumps(layer, protocol))).load()(x), layer(x))
    ours = {name for module, name in names if module == "conv1x1"}
    assert "_rebuilt" in ours
    assert ours <= {"_rebuilt", "Conv1x1"}
    known = {"_reconstruct", "ndarray", "dtype", "_frombuffer", "encode"}  # the last: how protocol 2 spells bytes
    assert {name for _, name in names} - ours <= known


class Named(Conv1x1):
    """A layer with something of its own."""

    def __call__(self, *args: Any, **kwargs: Any) -> Any:
        return super().__call__(*args, **kwargs) + 1

    @property
    def name(self) -> str:
        return f"{self.in_channels} to {self.out_channels}"


class Noted(Conv1x1):
    """A layer whose instances take attributes."""


def test_subclasses(normal: Any) -> None:
    layer, x = made(normal, {"bias": True}, Named)
    plain, _ = made(normal, {"bias": True})
    assert layer.name == "6 to 8"
    same(layer(x), plain(x) + 1)
    noted, _ = made(normal, {}, Noted)
    noted.note = "kept"  # type: ignore[attr-defined]
    assert noted.note == "kept"  # type: ignore[attr-defined]
    for _ in range(1000):  # the type is counted right
        made(normal, {}, Noted)


@pytest.mark.parametrize("trip", TRIPS)
def test_a_round_trip_keeps_the_class(normal: Any, trip: str) -> None:
    layer, x = made(normal, {}, Named)
    other = TRIPS[trip](layer)
    assert type(other) is Named
    same(other(x), layer(x))


# -------------------------------------------------------------------------------------------- types, threads


@pytest.mark.parametrize("w_type", [np.float32, np.float64])
@pytest.mark.parametrize("x_type", [np.float32, np.float64])
@pytest.mark.parametrize("dtype", [None, np.float32, np.float64])
def test_types_of_weights_and_data(normal: Any, w_type: Any, x_type: Any, dtype: Any) -> None:
    w, x = normal(8, 6, dtype=w_type), normal(9, 6, dtype=x_type)
    layer = Conv1x1(w, dtype=dtype)
    y = layer(x)
    assert y.dtype == (dtype or x_type)
    same(y, conv1x1(x, w, dtype=dtype))
    arithmetic = np.float64 if np.float64 in (x_type, dtype) else np.float32
    same(y, conv1x1(x.astype(arithmetic), w.astype(arithmetic)).astype(y.dtype))


def test_one_layer_for_many_types_and_shapes(normal: Any) -> None:
    layer = Conv1x1(normal(20, 6), normal(20))
    for _ in range(2):
        for shape in [(6,), (7, 6), (3, 5, 6), (50, 6)]:
            for dtype in (np.float32, np.float64):
                x = normal(*shape, dtype=dtype)
                same(layer(x), conv1x1(x, layer.weight, layer.bias))


def test_more_shapes_than_are_remembered(exact: Any) -> None:
    layer = Conv1x1(exact(7, 3))
    for _ in range(2):
        for n in range(1, 700):
            x = exact(n, 3)
            np.testing.assert_array_equal(layer(x), x @ layer.weight.T)


def test_the_threads_argument(normal: Any) -> None:
    layer, x = Conv1x1(normal(8, 6)), normal(9, 6)
    for threads in (1, 2, np.int64(2), np.uint8(3)):
        same(layer(x, threads=threads), layer(x))


def test_one_layer_in_eight_threads(normal: Any) -> None:
    """Small calls and large, of several shapes and types, at once and from the first call on."""
    w, bias = normal(48, 64), normal(48)
    xs = [normal(n, 64, dtype=dtype) for n in (1, 3, 500, 9000) for dtype in (np.float32, np.float64)]
    expected = [Conv1x1(w, bias, activation="silu")(x, threads=1) for x in xs]
    layer = Conv1x1(w, bias, activation="silu")
    assert layer.plan(xs[-1], threads=2)["threads"] == 2
    start, wrong, done = threading.Barrier(8), [], []

    def work(seed: int) -> None:
        order = np.random.default_rng(seed).permutation(len(xs) * 6) % len(xs)
        start.wait()
        for i in order:
            y = layer(xs[i], threads=2)
            if y.tobytes() != expected[i].tobytes():
                wrong.append(i)
        done.append(seed)

    threads = [threading.Thread(target=work, args=(seed,)) for seed in range(8)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join(60)
    assert len(done) == 8
    assert wrong == []


def test_other_threads_run_during_a_long_call(normal: Any) -> None:
    """The GIL is given up: a call sees several turns of another thread, if need be the tenth call."""
    x = np.broadcast_to(normal(1, 4000), (30_000, 4000))
    layer, turns = Conv1x1(normal(64, 4000)), [0]
    stop = threading.Event()

    def turn() -> None:
        while not stop.wait(0.0005):
            turns[0] += 1

    thread = threading.Thread(target=turn)
    thread.start()
    seen = []
    while max(seen, default=0) < 5 and len(seen) < 10:
        before = turns[0]
        layer(x, threads=1)
        seen.append(turns[0] - before)
    stop.set()
    thread.join()
    assert max(seen) >= 5


# ------------------------------------------------------------------------------------------ signals and fork

INTERRUPTED = """
import signal, sys, time
import numpy as np
from conv1x1 import Conv1x1
signal.signal(signal.SIGINT, signal.default_int_handler)  # a process that was started in the background ignores it
x = np.broadcast_to(np.ones((1, 16384), np.float32), (300_000, 16384))
layer = Conv1x1(np.ones((64, 16384), np.float32))
out = np.zeros((300_000, 64), np.float32)
small = layer(x[:3])
try:
    print("ready", flush=True)
    layer(x, out=out, threads=THREADS)
    print("finished")
except KeyboardInterrupt:
    print("late" if out[-1].any() else "interrupted", flush=True)
y = layer(x[:3])
assert (y == small).all() and (y == 16384).all()
big = layer(x[:2000], threads=THREADS)
assert (big == 16384).all()
print("works")
"""


@pytest.mark.parametrize("threads", [1, 2])
def test_ctrl_c_in_a_long_call(threads: int) -> None:
    code = INTERRUPTED.replace("THREADS", str(threads))
    with subprocess.Popen([sys.executable, "-c", code], stdout=subprocess.PIPE, text=True) as process:
        assert process.stdout is not None
        try:
            assert process.stdout.readline() == "ready\n"
            time.sleep(0.2)
            process.send_signal(signal.SIGINT)
            assert process.stdout.readline() == "interrupted\n"
            assert process.stdout.readline() == "works\n"
            assert process.wait(100) == 0
        finally:
            process.kill()


FORKED = """
import os, signal, sys, threading, time
import numpy as np
from conv1x1 import Conv1x1

def tasks():
    return len(os.listdir("/proc/self/task"))

def become(count):
    "Waits for so many tasks: a thread that was joined may still be on its way out."
    while tasks() != count:
        time.sleep(0.001)

def forked(check):
    pid = os.fork()
    if pid == 0:
        signal.alarm(100)
        os._exit(0 if check() else 1)
    return os.waitstatus_to_exitcode(os.waitpid(pid, 0)[1])

random = np.random.default_rng(0)
layer = Conv1x1(random.standard_normal((64, 256)).astype("f"))
x = random.standard_normal((20_000, 256)).astype("f")
before = tasks()
y = layer(x, threads=3)
assert layer.plan(x, threads=3)["threads"] == 3
assert tasks() == before + 2, (tasks(), before)

def works():
    return tasks() == 1 and all((layer(x, threads=n) == y).all() for n in (1, 3)) and tasks() == 3

for _ in range(3):
    assert forked(works) == 0
    become(before)  # the helpers have gone home
    assert (layer(x, threads=3) == y).all()
assert forked(lambda: forked(works) == 0 and works()) == 0  # a child's child

# … and while another thread is inside a long call.
stop, wrong = threading.Event(), []

def busy():
    while not stop.is_set():
        if not (layer(x, threads=3) == y).all():
            wrong.append(1)

thread = threading.Thread(target=busy)
thread.start()
for _ in range(10):
    time.sleep(0.005)
    assert forked(lambda: (layer(x, threads=3) == y).all()) == 0
stop.set()
thread.join()
assert not wrong
layer(x, threads=3)
become(before + 2)  # there are helpers again
print("done")
"""


@pytest.mark.skipif(not os.path.exists("/proc/self/task"), reason="counts threads in /proc")
def test_fork_after_use(fresh_python: Any) -> None:
    """Helpers are gone before the fork, and both sides go on; no warning of Python's about threads but for our own."""
    expected = "import warnings\nwarnings.filterwarnings('ignore', message='.*multi-threaded')\n"
    run = fresh_python(expected + FORKED, OPENBLAS_NUM_THREADS="1", MKL_NUM_THREADS="1")
    assert (run.returncode, run.stdout) == (0, "done\n"), run.stderr


def test_fork_after_use_warns_of_nothing(fresh_python: Any) -> None:
    quiet = FORKED[: FORKED.index("# … and while")]
    run = fresh_python(quiet + "print('done')", OPENBLAS_NUM_THREADS="1", MKL_NUM_THREADS="1")
    assert (run.returncode, run.stdout) == (0, "done\n"), run.stderr


def test_num_threads_holds_for_layers(normal: Any) -> None:
    layer = Conv1x1(normal(64, 64))
    x = normal(9000, 64)
    with c11.num_threads(3):
        assert layer.plan(x)["threads"] == 3
        assert layer.plan(x, threads=1)["threads"] == 1
