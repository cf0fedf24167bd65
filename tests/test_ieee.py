"""What IEEE 754 has besides ordinary numbers: NaN, infinities, zeros of both signs, subnormal numbers, cancellation.

And the modes of the caller's thread: rounding, numbers below the normal ones taken for zero, traps. They have no say in
a result, and no call changes them.
"""

from __future__ import annotations

import ctypes
import gc
import pickle
import platform
import sys
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from itertools import product
from typing import Any

import numpy as np
import pytest

from conv1x1 import (
    Conv1x1,
    QConv1x1,
    _conv1x1,
    conv1x1,
    conv1x1_integer,
    explain,
    qlinear_conv1x1,
    reference,
)
from conv1x1.reference.quantized import reference_integer, reference_qlinear
from conv1x1.runtime import restricted

FUSED = _conv1x1.config()["fused"]
#: In-channels and filters of every method and both orders of summation.
SIZES = [(1, 1), (3, 3), (5, 19), (17, 40), (33, 1), (40, 3), (49, 4), (64, 33)]
ACTIVATIONS = [
    *(None, "relu", "relu6", "leaky_relu", "hardswish", "hardsigmoid", "sigmoid", "silu", "tanh", "gelu"),
    ("clip", -0.7, 0.9),
]


def both_layouts(x: Any) -> Iterator[tuple[Any, int]]:
    yield x, -1
    yield np.ascontiguousarray(x.T), 0


# ---------------------------------------------------------------------------------------------- NaN, in its place


@pytest.mark.parametrize("activation", ACTIVATIONS, ids=str)
@pytest.mark.parametrize("dtype", ["float32", "float64", "float16"])
def test_nan_in_one_pixel_reaches_its_filters_and_no_more(normal: Any, isa: str, dtype: str, activation: Any) -> None:
    for (channels, filters), groups in product(SIZES, [1, 2]):
        w = normal(filters * groups, channels, dtype="float32")
        layers = {axis: Conv1x1(w, channel_axis=axis, activation=activation, groups=groups) for axis in (-1, 0)}
        for pixel, channel in [(0, 0), (11, channels - 1), (36, channels // 2)]:
            x = normal(37, channels * groups, dtype=dtype)
            x[pixel, channel] = np.nan  # of the first group
            for data, axis in both_layouts(x):
                y = layers[axis](data) if axis else layers[axis](data).T
                assert np.isnan(y[pixel, :filters]).all()
                assert np.isnan(y).sum() == filters


@pytest.mark.parametrize("dtype", ["float32", "float64", "float16"])
def test_nan_in_one_weight_or_bias_reaches_its_filter_and_no_more(normal: Any, isa: str, dtype: str) -> None:
    for channels, filters in SIZES:
        x = normal(37, channels, dtype=dtype)
        for k, c in [(0, 0), (filters - 1, channels - 1), (filters // 2, channels // 2)]:
            w, bias = normal(filters, channels), normal(filters)
            w[k, c] = np.nan
            added = np.where(np.arange(filters) == k, np.float32(np.nan), bias)
            for data, axis in both_layouts(x):
                for y in (
                    Conv1x1(w, bias, channel_axis=axis)(data),
                    conv1x1(data, w, channel_axis=axis),
                    conv1x1(data, normal(filters, channels), added, channel_axis=axis, activation="relu"),
                ):
                    y = y if axis else y.T
                    assert np.isnan(y[:, k]).all()
                    assert np.isnan(y).sum() == len(x)


@pytest.mark.parametrize("activation", ACTIVATIONS[1:], ids=str)
@pytest.mark.parametrize("dtype", ["float32", "float64"])
def test_nan_goes_through_every_activation_at_every_length(isa: str, dtype: str, activation: Any) -> None:
    """Up to some vectors and a tail; at every place of it."""
    layer = Conv1x1(np.ones((1, 1), dtype), activation=activation)
    numbers = np.linspace(-3, 3, 70).astype(dtype)
    expected = layer(numbers[:, None])[:, 0]
    for length in range(1, 71):
        x, y = numbers[:length, None].copy(), np.empty((length, 1), dtype)
        for place in range(length):
            x[place] = np.nan
            layer(x, out=y)
            x[place] = numbers[place]
            assert np.isnan(y[place, 0])
            y[place] = expected[place]
            assert y.tobytes() == expected[:length].tobytes()


# ------------------------------------------------------------------------- special numbers, by the definition


def c_librarys_fma(dtype: Any) -> Callable[[float, float, float], float]:
    function, number = ("fmaf", ctypes.c_float) if dtype == "float32" else ("fma", ctypes.c_double)
    fma: Any = getattr(ctypes.CDLL(None), function)
    fma.restype, fma.argtypes = number, [number] * 3
    return fma  # type: ignore[no-any-return]


def defined(x: Any, w: Any, dtype: str) -> Any:
    """Number by number: the chain, or the tree over sixteen chains."""
    fma = c_librarys_fma(dtype)
    sums = np.empty((len(x), len(w)), dtype)
    in_lanes = x.shape[1] >= 32 and len(w) <= 4
    for i, k in np.ndindex(sums.shape):
        partial = [0.0] * (16 if in_lanes else 1)
        for c, (a, b) in enumerate(zip(w[k].tolist(), x[i].tolist(), strict=True)):
            partial[c % len(partial)] = fma(a, b, partial[c % len(partial)])
        tree = np.array(partial, dtype)
        while len(tree) > 1:
            tree = tree[: len(tree) // 2] + tree[len(tree) // 2 :]
        sums[i, k] = tree[0]
    return sums


@pytest.mark.drawn
@pytest.mark.skipif(not FUSED, reason="without fused multiply-add the last bits may differ")
@pytest.mark.parametrize("dtype", ["float32", "float64"])
def test_infinities_zeros_and_subnormal_numbers(isa: str, dtype: str) -> None:
    """To the bit, and with the sign of zero; NaN for NaN."""
    limits, random = np.finfo(dtype), np.random.default_rng(0)
    tiny, least, most = float(limits.tiny), float(limits.smallest_subnormal), float(limits.max)
    special = [0.0, np.inf, most, tiny, least, 7 * least, tiny - least, 1.0, 1.5, most / 2, np.sqrt(tiny)]
    values = np.array([*special, *(-v for v in special)], dtype)
    finite = values[np.isfinite(values)]
    found: list[Any] = []
    with np.errstate(all="ignore"):
        for channels, filters in [(1, 3), (2, 5), (7, 18), (33, 3), (40, 1)]:
            for choice in (values, finite, finite[np.abs(finite) < 2]):
                x, w = random.choice(choice, (23, channels)), random.choice(finite, (filters, channels))
                w[np.abs(w) > 2] = 2
                expected = defined(x, w, dtype)
                found += expected.ravel().tolist()
                for data, axis in both_layouts(x):
                    for y in (Conv1x1(w, channel_axis=axis)(data), conv1x1(data, w, channel_axis=axis)):
                        y = y if axis else y.T
                        nan = np.isnan(expected)
                        np.testing.assert_array_equal(np.isnan(y), nan)
                        np.testing.assert_array_equal(y[~nan], expected[~nan])
                        np.testing.assert_array_equal(np.signbit(y[~nan]), np.signbit(expected[~nan]))
    results = np.array(found)
    assert all((kind(results)).sum() > 10 for kind in (np.isnan, np.isposinf, np.isneginf))
    assert ((results != 0) & (np.abs(results) < tiny)).sum() > 10


def test_zero_is_positive(isa: str) -> None:
    """A sum begins with +0, so products of −0 alone do not make it −0; a residual of −0 does not either."""
    for (channels, filters), dtype in product(SIZES, ["float32", "float64", "float16"]):
        x, w = np.full((19, channels), -0.0, dtype), np.ones((filters, channels))
        for data, axis in both_layouts(x):
            residual = np.full((19, filters) if axis else (filters, 19), -0.0, dtype)
            y = Conv1x1(w, channel_axis=axis)(data, residual=residual)
            assert not y.any()
            assert not np.signbit(y).any()


@pytest.mark.drawn
@pytest.mark.parametrize("dtype", ["float32", "float64"])
def test_the_bound_holds_where_all_cancels(isa: str, within_bound: Any, dtype: str) -> None:
    """Large products that add up to little or nothing, in an order that shuffles them."""
    random = np.random.default_rng(0)
    for channels, filters in [(2, 1), (8, 3), (64, 2), (64, 33), (500, 4), (500, 9)]:
        half = (random.standard_normal((41, channels // 2)) * 10.0 ** random.integers(-6, 7, channels // 2)).astype(
            dtype
        )
        x = np.concatenate([half, -half], 1)
        w = np.tile(random.standard_normal((filters, channels // 2)).astype(dtype), 2)
        x[:, 0] += x[:, 0].dtype.type(2.0**-10)  # so that not all of it is lost
        order = random.permutation(channels)
        x, w = x[:, order], w[:, order]
        for data, axis in both_layouts(x):
            y = conv1x1(data, w, channel_axis=axis)
            within_bound(y if axis else np.ascontiguousarray(y.T), x, w)


# ------------------------------------------------------------------------------------------ the caller's modes

LIBC: Any = ctypes.CDLL(None)
#: Where fegetenv leaves the word that decides, and what to change in it: bits to set, bits to clear.
AT, MODES = {
    "x86_64": (
        28,
        {
            "upwards": (0x4000, 0),
            "downwards": (0x2000, 0),
            "to zero": (0x6000, 0),
            "small numbers are zero": (0x8040, 0),
            "all at once": (0x8040 | 0x4000, 0),
            "traps": (0, 0x0680),  # of invalid operations, division by zero, overflow
            "every trap": (0, 0x1F80),  # of inexact and subnormal results and of subnormal operands too
        },
    ),
    "aarch64": (
        0,
        {
            "upwards": (1 << 22, 0),
            "downwards": (2 << 22, 0),
            "to zero": (3 << 22, 0),
            "small numbers are zero": (1 << 24 | 1 << 19, 0),
            "all at once": (1 << 24 | 1 << 22, 0),
        },
    ),
}.get(platform.machine(), (0, {}))


def control() -> int:
    """The word that holds the modes of this thread."""
    environment = ctypes.create_string_buffer(64)
    LIBC.fegetenv(environment)
    return int.from_bytes(environment[AT : AT + 4], "little")


@contextmanager
def caller(mode: str) -> Iterator[None]:
    """The thread as another library may have set it; without collections of garbage, whose callbacks may compute."""
    to_set, to_clear = MODES[mode]
    before, changed = ctypes.create_string_buffer(64), ctypes.create_string_buffer(64)
    LIBC.fegetenv(before)
    LIBC.fegetenv(changed)
    changed[AT : AT + 4] = ((control() | to_set) & ~to_clear & ~0x3F).to_bytes(4, "little")
    gc.disable()
    LIBC.fesetenv(changed)
    try:
        yield
    finally:
        LIBC.fesetenv(before)
        gc.enable()


def calls() -> dict[str, Callable[[], Any]]:
    """All that computes, each with numbers that round at every step, and with some that are below the normal ones."""
    random = np.random.default_rng(0)

    def normal(*shape: int, dtype: Any = "float32") -> Any:
        return random.standard_normal(shape).astype(dtype)

    x, large = normal(53, 40), normal(9000, 100)
    w, bias, residual, wide = normal(18, 40), normal(18), normal(53, 18), normal(30, 100)
    small, smaller, third = x * np.float32(1e-25), w * np.float32(1e-15), (w / 3).astype("float64")
    x_least, w_least = x.astype("float64") * 1e-160, w.astype("float64") * 1e-150
    huge = x * np.float32(1e9)
    most = [a * np.float32(1e38) for a in (x / 10, w / 10)]
    pixels, w8 = random.integers(0, 256, (90, 20), np.uint8), random.integers(-128, 128, (18, 20), np.int8)
    scales = random.uniform(0.001, 0.1, 18)
    b8 = random.integers(-9999, 9999, 18).astype(np.int32)
    made: dict[str, Any] = {
        "float32": Conv1x1(w, bias, activation="gelu"),
        "few filters": Conv1x1(w[:3], activation="silu"),
        "of float64": Conv1x1(third, bias.astype("float64"), activation=("clip", -1 / 3, 1 / 7)),
        "large": Conv1x1(wide, activation="tanh"),
    }
    quantised = (0.0123, np.uint8(100), w8, scales, 0, 0.7, np.uint8(9), b8)
    of_x, of_w = {"x_scale": 0.0123, "x_zero_point": np.uint8(100)}, {"w_scale": scales, "w_zero_point": 0}
    layer = QConv1x1(w8, b8, **of_x, **of_w, y_scale=0.7, y_zero_point=np.uint8(9))
    pickled = pickle.dumps([made["of float64"], layer])
    found: dict[str, Callable[[], Any]] = {
        "layer": lambda: made["float32"](x, residual=residual),
        "first": lambda: Conv1x1(w, channel_axis=0)(x.T),
        "few filters": lambda: made["few filters"](x),
        "colour": lambda: conv1x1(x[:, :3], w[:3, :3]),
        "threads": lambda: made["large"](large, threads=2),
        "subnormal": lambda: conv1x1(small, smaller),
        "subnormal float64": lambda: conv1x1(x_least, w_least),
        "packed now": lambda: Conv1x1(third, bias, activation=("leaky_relu", 1 / 3))(x),
        "of a list": lambda: conv1x1(x.tolist(), third.tolist(), [1 / 3] * 18),
        "activations": lambda: [conv1x1(x, w, activation=name) for name in ACTIVATIONS],
        "quantised": lambda: layer(pixels),
        "quantised now": lambda: qlinear_conv1x1(pixels, *quantised, activation=("clip", -0.33, 11.1)),
        "of small scales": lambda: qlinear_conv1x1(pixels, 1e-20, 7, w8, 1e-21, 0, 2e-39, np.uint8(9)),
        "sums": lambda: conv1x1_integer(pixels, w8, 3, 4),
        "unpickled": lambda: [made(a) for made, a in zip(pickle.loads(pickled), (x, pixels), strict=True)],
        "quantize": lambda: layer.quantize(x),
        "dequantize": lambda: layer.dequantize(pixels),
        "from floats": lambda: QConv1x1.from_float(Conv1x1(w, bias), x)(pixels[:2].repeat(2, 1)),
        "NaN": lambda: [conv1x1(np.full((3, c), np.nan, "f"), w[:k, :c]) for c, k in ((3, 3), (40, 3), (40, 18))],
        "infinity": lambda: conv1x1(np.full((3, 40), np.inf), w, activation="silu"),
        "overflow": lambda: conv1x1(*most, dtype="float16"),
        "out over x": lambda: conv1x1(x, w, out=np.concatenate([x, x])[:53, 22:]),
        "integers": lambda: conv1x1(np.int32([[2**31 - 1, 3]]), np.int32([[2**20 - 1, 7]])),
        "reference": lambda: reference(small[:2], smaller, bias, activation="gelu"),
        "reference to bytes": lambda: reference(huge[:2], w, dtype=np.uint8, activation="sigmoid"),
        "reference of integers": lambda: reference(pixels[:2], w8, activation=("clip", -0.3, 2**40)),
        "reference quantised": lambda: reference_qlinear(pixels[:2], *quantised),
        "reference sums": lambda: reference_integer(pixels[:2], w8, 3, 4),
        "explained": lambda: str(explain(small, smaller, bias, activation="tanh", at=3)),
        "drawn": lambda: explain(x, third, at=3).to_svg(),
        "a notebook's": lambda: explain(*most, at=3)._repr_html_(),
        "planned": lambda: str(made["large"].plan(large.tolist()[:9])),
        "infinite": lambda: [
            made["float32"]([[1e300, -1e-300] * 20]),
            layer.quantize([1e300, -np.inf, 1e-300]),
        ],
    }
    for x_type, y_type in [
        *(("float32", t) for t in ("float16", "uint8", "int16", "int64")),
        *((t, "float32") for t in ("float16", "float64", "uint16", "int32")),
    ]:
        data = (9 * x).astype(x_type) if not x_type.startswith("u") else (99 * np.abs(x)).astype(x_type)
        found[f"{x_type} to {y_type}"] = lambda d=data, t=y_type: Conv1x1(w, bias, dtype=t)(d)
    return found


CALLS = calls()


def same_results(y: Any, expected: Any, what: str = "") -> None:
    for a, b in zip(y, expected, strict=True) if isinstance(y, list) else [(y, expected)]:
        assert np.asarray(a).tobytes() == np.asarray(b).tobytes(), what


@pytest.mark.skipif(not MODES, reason="knows the modes of x86-64 and AArch64")
@pytest.mark.parametrize("name", CALLS)
def test_the_callers_modes_have_no_say_and_stay(isa: str, name: str) -> None:
    """Nor do flags of what happened on the way come out; at the first call, which plans, and at later ones."""
    call = CALLS[name]
    expected = call()
    for mode in MODES:
        with restricted(isa=isa):  # where no shape is known yet
            for _ in range(2):
                with caller(mode):
                    before = control()
                    y = call()
                    after = control()
                same_results(y, expected, mode)
                assert before == after, mode


@pytest.mark.parametrize("name", CALLS)
def test_what_numpy_shall_raise_has_no_say(name: str) -> None:
    """Whatever np.errstate says, at every entry."""
    expected = CALLS[name]()
    with np.errstate(all="raise"):
        same_results(CALLS[name](), expected)


@pytest.mark.skipif(not MODES, reason="knows the modes of x86-64 and AArch64")
@pytest.mark.parametrize("name", ["layer", "function"])
def test_the_callers_modes_stay_where_a_signal_interrupts(name: str) -> None:
    """After each of the interpreter's steps, as Ctrl-C may."""
    x, w = np.ones((4, 3), np.float32), np.ones((2, 3), np.float32)
    call = {
        "layer": lambda: Conv1x1(w),
        "function": lambda: conv1x1(x, w, dtype=np.float64, threads=np.int64(1)),
    }[name]
    call()  # imports

    def interrupted(step: int) -> bool:
        left = step

        def trace(frame: Any, event: str, arg: Any) -> Any:
            nonlocal left
            frame.f_trace_opcodes = True
            left -= event == "opcode"
            if left == 0:
                raise KeyboardInterrupt
            return trace

        tracer = sys.gettrace()
        sys.settrace(trace)
        try:
            call()
        except KeyboardInterrupt:
            return True
        finally:
            sys.settrace(tracer)
        return False

    step, going_on = 0, True
    while going_on:
        step += 1
        with caller("upwards"):
            before = control()
            going_on = interrupted(step)
            after = control()
        assert before == after, step
    assert step > 100


@pytest.mark.parametrize("mode", [mode for mode in MODES if "trap" not in mode])
def test_the_modes_of_this_test_are_modes(mode: str) -> None:
    """NumPy's own arithmetic follows them."""
    a, small = np.arange(1, 99, dtype=np.float32), np.full(9, 1e-40, np.float32)
    before = a / np.float32(3)
    with caller(mode):
        after, product = a / np.float32(3), small * np.float32(0.5)
    assert (before != after).any() == (mode != "small numbers are zero")
    assert (product == 0).all() == ("small" in mode or "all" in mode)


THREADS = """
import os, sys
sys.path.insert(0, DIRECTORY)
import numpy as np
import test_ieee
from conv1x1 import Conv1x1
random = np.random.default_rng(0)
layer = Conv1x1(random.standard_normal((48, 64)).astype("f"), activation="silu")
x = random.standard_normal((20_000, 64)).astype("f") * np.float32(1e-20)
one = layer(x, threads=1).tobytes()
assert layer.plan(x, threads=3)["threads"] == 3
for mode in test_ieee.MODES:
    pid = os.fork()
    if pid == 0:
        with test_ieee.caller(mode):
            results = [layer(x, threads=3) for _ in range(5)]  # by helpers that are started now
        os._exit(any(y.tobytes() != one for y in results))
    assert os.waitstatus_to_exitcode(os.waitpid(pid, 0)[1]) == 0, mode
print("done")
"""


def test_helpers_that_are_started_in_such_a_mode(fresh_python: Any) -> None:
    """A thread begins with the modes of the one that starts it."""
    run = fresh_python(THREADS.replace("DIRECTORY", repr(__file__.rpartition("/")[0])), OPENBLAS_NUM_THREADS="1")
    assert (run.returncode, run.stdout) == (0, "done\n"), run.stderr
