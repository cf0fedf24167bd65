"""Arguments made to harm: a call computes or raises in words; it never crashes, hangs or reads what is not there."""

from __future__ import annotations

import datetime
import importlib.util
import mmap
import sys
import threading
from itertools import product
from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from numpy.lib.stride_tricks import as_strided

from conv1x1 import Conv1x1, _conv1x1, conv1x1, reference
from conv1x1.checks import Spec

if importlib.util.find_spec("ml_dtypes"):
    importlib.import_module("ml_dtypes")  # which teaches NumPy the name


class Lie(Exception):
    """Raised by arguments."""


class Says:
    """An object whose __array__ returns what it was made with, or raises it."""

    def __init__(self, answer: Any) -> None:
        self.answer = answer

    def __array__(self, dtype: Any = None, copy: Any = None) -> Any:
        if isinstance(self.answer, Exception):
            raise self.answer
        return self.answer() if callable(self.answer) else self.answer


class Claims:
    """An object with an array interface. Of its lies only those that NumPy sees through: it believes strides and
    lengths, and whatever touches such an array, even NumPy's own sum, crashes."""

    def __init__(self, **interface: Any) -> None:
        self.__array_interface__ = interface


class Struct:
    __array_struct__ = 5


class Liar(np.ndarray):
    """A subclass that lies about everything Python can be told."""

    shape = property(lambda self: (2**40,))  # type: ignore[assignment]
    strides = property(lambda self: (0,))  # type: ignore[assignment]
    dtype = property(lambda self: np.dtype(np.float64))  # type: ignore[assignment]
    ndim = property(lambda self: 1)  # type: ignore[assignment]
    size = property(lambda self: -1)  # type: ignore[assignment]

    def __len__(self) -> int:
        return -1 & 0xFFFF


class Int(int):
    """A number that finds itself large enough, whatever it is."""

    def __lt__(self, other: int) -> bool:
        return False

    def __le__(self, other: int) -> bool:
        return True

    def __ge__(self, other: int) -> bool:
        return True


def liar(*shape: int, dtype: Any = np.float32) -> Any:
    return np.ones(shape, dtype).view(Liar)


# ------------------------------------------------------------------------------------------------- anything

ARRAYS: list[Any] = [
    np.ones((2, 3), np.float32),
    np.ones((4, 3), np.float32),
    np.ones((2, 4), np.float32),
    np.ones((3,), np.float64),
    np.ones((4, 3, 1, 1)),
    np.ones((1, 1, 3)),
    np.ones((0, 3), np.float32),
    np.ones((2, 0), np.float32),
    np.empty((0, 2**60), np.float32),
    np.empty((2**60, 0), np.float32),
    np.broadcast_to(np.float32(1), (2**60, 1)),
    np.broadcast_to(np.float32(1), (1, 2**60)),
    np.broadcast_to(np.float32(1), (2**20, 2**20, 3)),
    np.ones((1,) * 32, np.float32),
    np.float32(1),
    np.ones((2, 3), np.longdouble),
    np.ones((2, 3), ">f4"),
    np.ones((2, 3), object),
    np.full((2, 3), None),
    np.zeros((2, 3), [("v", "f4")]),
    np.zeros((2, 3), "M8[s]"),
    np.zeros((2, 3), "U5"),
    np.ma.masked_array(np.ones((2, 3), np.float32), mask=True),
    np.array([1, 2, "x"], object),
    [[1.0, 2.0, 3.0]],
    [[1.0], [2.0, 3.0]],
    [[[[]]]],
    (),
    "pixels",
    b"\x00" * 12,
    bytearray(12),
    memoryview(bytearray(24)).cast("f", (2, 3)),
    None,
    Ellipsis,
    object(),
    {},
    range(3),
    10**400,
    float("nan"),
    liar(2, 3),
    liar(4, 3),
    Says(np.ones((2, 3), np.float32)),
    Says(Lie()),
    Says([1.0, 2.0, 3.0]),
    Says(None),
    Says(5),
    Says(liar(2, 3)),
    Says(np.ones((2, 3), object)),
    Struct(),
    Claims(),
    Claims(version=3, shape=(2, 3), typestr="<f4"),
    Claims(version=3, shape=(2, 3), typestr="<f4", data=bytes(24)),
    Claims(version=3, shape=(-2, 3), typestr="<f4", data=bytes(24)),
    Claims(version=3, shape=(2**63, 3), typestr="<f4", data=bytes(24)),
    Claims(version=3, shape=(2**62, 2**62), typestr="<f4", data=bytes(24)),
    Claims(version=3, shape=(2, 3), typestr="<f400", data=bytes(24)),
    Claims(version=3, shape=(2, 3), typestr=5, data=bytes(24)),
    Claims(version=3, shape="ab", typestr="<f4", data=bytes(24)),
    Claims(version=3, shape=(2, 3), strides=(12,), typestr="<f4", data=bytes(24)),
    Claims(version=3, shape=(2, 3), typestr="<f4", data=("here", False)),
    Claims(version=3, shape=(2, 3), typestr="<f4", data=None),
]
NUMBERS: list[Any] = [
    *(1, 1, 1, 2, 3, 0, -1, -2, 63, 64, -65, 2**31, 2**32 + 1, 2**63 - 1, 2**63, 2**64, 2**100, -(2**63), -(2**64)),
    *(True, 1.0, "1", None, (), (1,), (2, 2), (1, 2**64), (0,), (1,) * 70, [2, 2], np.int8(2), np.uint64(2**64 - 1)),
    *(np.float32(1), np.array(1), np.array([1]), Int(1), Int(0), Int(-1), Int(-(2**70)), Int(2**70), float("inf")),
]
OTHERS: dict[str, list[Any]] = {
    "activation": [
        *(None, "relu", "gelu", "", "x" * 10_000, "relu\0", b"relu", 5, (), ("clip", 0, 1), ("clip", -1e999, 1e999)),
        *(("clip", 10**400, 1), ("clip", "0", "1"), ("clip", Lie, 1), ("leaky_relu", 1e308), ("leaky_relu",)),
        *(("relu", 1), (("relu",),), ["relu"], np.str_("relu"), object()),
    ],
    "dtype": [None, "f4", "f8", "f2", ">f4", object, "O", "V5", [("a", "f4")], "nonsense", 5, np.float32, liar(1)],
}


@st.composite
def arguments(draw: Any) -> dict[str, Any]:
    """One of the many calls, mostly with something right in it."""

    def one_of(values: list[Any]) -> Any:
        return values[draw(st.integers(0, len(values) - 1))]

    made = {"x": one_of(ARRAYS[:1] * 20 + ARRAYS), "w": one_of(ARRAYS[1:2] * 20 + ARRAYS)}
    choices = {
        **dict.fromkeys(["bias", "residual", "out"], ARRAYS),
        **dict.fromkeys(["channel_axis", "stride", "groups", "threads"], NUMBERS),
        **OTHERS,
    }
    for name in draw(st.sets(st.sampled_from(sorted(choices)), max_size=3)):
        made[name] = one_of(choices[name])
    return made


def outcome(function: Any, *args: Any, **kwargs: Any) -> Any:
    """The result, or None where the call was refused in words."""
    refused: BaseException
    try:
        return function(*args, **kwargs)
    except (TypeError, ValueError, MemoryError, Lie) as error:
        refused = error
    except OverflowError as error:  # NumPy's, of an interface
        if not any(isinstance(a, Claims) for a in (*args, *kwargs.values())):
            raise
        refused = error
    assert str(refused) or isinstance(refused, (Lie, MemoryError))
    return None


@settings(max_examples=600)
@given(arguments=arguments())
def test_any_arguments(arguments: dict[str, Any]) -> None:
    """By both ways in: what is not refused is an array, and if small, the right one."""
    one_shot = outcome(conv1x1, **arguments)
    call = {name: arguments.pop(name) for name in ("x", "residual", "out", "threads") if name in arguments}
    layer = outcome(Conv1x1, **arguments)
    results = [one_shot]
    if layer is not None:
        results.append(outcome(layer, **call))
        outcome(layer.plan, call["x"])
    for result in results:
        if result is None:
            continue
        assert isinstance(result, np.ndarray)
        if 0 < np.ndarray.size.__get__(result) < 1000 and call.get("out") is None:  # type: ignore[attr-defined]
            call.pop("threads", None)
            np.testing.assert_allclose(result, reference(**call, **arguments), rtol=1e-5)


@pytest.mark.parametrize("name", ["stride", "groups", "threads"])
@pytest.mark.parametrize("number", [Int(0), Int(-1), Int(-(2**70))])
def test_numbers_that_compare_as_they_like(name: str, number: int) -> None:
    with pytest.raises(ValueError, match=rf"{name} must be ≥ 1"):
        conv1x1(np.ones((2, 3), np.float32), np.ones((4, 3), np.float32), **{name: number})


def test_subclasses_that_lie() -> None:
    """What counts is what is in memory, not what the subclass says."""
    x, w = np.arange(6, dtype=np.float32).reshape(2, 3), np.ones((4, 3), np.float32)
    expected = conv1x1(x, w)
    np.testing.assert_array_equal(conv1x1(x.view(Liar), w), expected)
    np.testing.assert_array_equal(conv1x1(x, w.view(Liar), np.zeros(4, np.float32).view(Liar)), expected)
    np.testing.assert_array_equal(Conv1x1(w)(x, residual=np.zeros((2, 4), np.float32).view(Liar)), expected)
    out = np.zeros((2, 4), np.float32)
    returned = conv1x1(x, w, out=out.view(Liar))
    assert isinstance(returned, Liar)
    np.testing.assert_array_equal(out, expected)
    with pytest.raises(ValueError, match="out has shape"):
        conv1x1(x, w, out=np.zeros((4, 2), np.float32).view(Liar))


def test_arrays_that_call_back() -> None:
    """An __array__ that runs the layer, on its own arrays; and one that changes what was checked already."""
    x, w = np.arange(6, dtype=np.float32).reshape(2, 3), np.ones((4, 3), np.float32)
    layer, out = Conv1x1(w), np.zeros((2, 4), np.float32)
    expected = layer(x) + layer(x)
    np.testing.assert_array_equal(layer(Says(lambda: x), residual=Says(lambda: layer(x, out=out)), out=out), expected)

    def reshape() -> Any:
        x.shape = (3, 2)
        return np.zeros((2, 4), np.float32)

    with pytest.raises((ValueError, RuntimeError)):
        layer(x, residual=Says(reshape))

    def resize() -> Any:
        out.resize((1, 1), refcheck=False)
        return np.zeros((2, 4), np.float32)

    with pytest.raises((ValueError, RuntimeError)):
        layer(x.reshape(2, 3), residual=Says(resize), out=out)


COLLECTOR = """
import gc, sys
import numpy as np
import conv1x1 as c11

def calls(pixels, options):
    "Names of arrays to resize, and what to do with them."
    def arrays():
        a = {n: np.ones((pixels, 128), np.float32) for n in ("x", "residual", "out")}
        return a | {"w": np.ones((128, 128), np.float32), "bias": np.ones(128, np.float32)}

    for out in (False, "out", "x"):
        for form in ("layer", "function"):
            for name in ("x", "residual", "w", "bias", *(["out"] if out else [])):
                a = arrays()
                given = {"residual": a["residual"], "threads": 1} | ({"out": a[out][:]} if out else {})
                if out == "out":
                    given["out"] = a["out"]
                if form == "layer":
                    layer = c11.Conv1x1(a["w"], a["bias"], **options)
                    yield a, name, lambda: layer(a["x"], **given)
                else:
                    yield a, name, lambda: c11.conv1x1(a["x"], a["w"], a["bias"], **options, **given)

def resize(phase, info):
    if target:
        try:
            target.pop().resize((1,), refcheck=False)
        except ValueError:
            pass

target, collected = [], 0
gc.callbacks.append(resize)
for pixels in (3, 1500):
    for options in ({}, {"activation": "relu"}):
        for allocations in range(1, 12):  # until it happens
            for a, name, call in calls(pixels, options):
                gc.set_threshold(1_000_000)
                gc.collect()
                target.append(a[name])
                gc.set_threshold(allocations)
                try:
                    call()
                except (ValueError, RuntimeError, IndexError):
                    collected += 1
                gc.set_threshold(1_000_000)
                target.clear()
assert collected > 50, collected
print("done")
"""


def test_a_collector_that_resizes_arrays(fresh_python: Any) -> None:
    """Garbage may be collected wherever something is allocated, and what then runs may change any array of the call."""
    run = fresh_python(COLLECTOR)
    assert (run.returncode, run.stdout) == (0, "done\n"), run.stderr


@pytest.mark.parametrize("name", ["x", "residual", "out"])
@pytest.mark.parametrize("x_type", ["f4", "F"])
@pytest.mark.parametrize("w_type", ["f4", "F"])
def test_arrays_retyped_meanwhile(name: str, x_type: str, w_type: str) -> None:
    """A call computes with the shapes and types that it looked at, though it may give up the GIL more than once."""
    pixels = 100_000
    arrays = {
        "x": np.ones((40, pixels), x_type),
        "residual": np.ones((4, pixels), "F"),
        "out": np.zeros((4, pixels), "F"),
    }
    layer = Conv1x1(np.ones((4, 40), w_type), np.full(4, 1j), dtype="F", channel_axis=0)
    array, called = arrays[name], threading.Lock()
    dtype, interval = array.dtype, sys.getswitchinterval()

    def retype() -> None:
        with called:
            array.dtype = np.uint8  # type: ignore[misc]

    called.acquire()
    thread = threading.Thread(target=retype)
    thread.start()
    sys.setswitchinterval(1000)  # the thread runs where the call gives up the GIL
    try:
        called.release()
        layer(**arrays, threads=1)
    finally:
        sys.setswitchinterval(interval)
        thread.join()
    array.dtype = dtype  # type: ignore[misc]
    assert (arrays["out"] == 41 + 1j).all()


def wrong_spec(
    weight: Any,
    bias: Any = None,
    axis: Any = -1,
    groups: Any = 1,
    name: Any = "",
    more: Any = None,
    center: Any = None,
) -> Any:
    return weight, bias, axis, True, 1, groups, (name, 0.0, 0.0), None, more, None, center


ONES, UINT8 = np.ones((4, 3), np.float32), np.dtype(np.uint8)
#: What the core reads is float32, float64, bool and integers but uint32.
UNREAD = [
    *("float16", "uint32", "longdouble", "O", "U1", "S2", "V4"),
    *(
        "datetime64[s]",
        "timedelta64[s]",
        ">f4",
        [("re", "f4"), ("im", "f4")],
        *(["bfloat16"] if importlib.util.find_spec("ml_dtypes") else []),
    ),
]
WRONG_SPECS: list[tuple[Any, ...]] = [
    (),
    (ONES,),
    wrong_spec(ONES)[:8],
    wrong_spec(ONES, groups=0),
    wrong_spec(ONES, groups=3),
    wrong_spec(ONES, groups=-1),
    wrong_spec(ONES, axis=2**40),
    wrong_spec(ONES, name="nonsense"),
    (*wrong_spec(ONES)[:6], (), None, None),
    wrong_spec(np.ones((4, 6), np.float32)[:, ::2]),
    wrong_spec(ONES.T),
    wrong_spec(np.ones((4, 3, 1), np.float32)),
    wrong_spec(np.ones(3, np.float32)),
    wrong_spec(ONES, np.ones(3, np.float32)),
    wrong_spec(ONES, np.ones(8, np.float32)[::2]),
    wrong_spec(ONES, 1.0),
    wrong_spec([[1.0]]),
    wrong_spec(None),
    wrong_spec(np.ones((4, 3), np.int8), more=(np.ones(3, np.float32), -1.0, 1.0, 0, UINT8)),
    wrong_spec(np.ones((4, 3), np.int8), more=([1.0] * 4, -1.0, 1.0, 0, UINT8)),
    wrong_spec(np.ones((4, 3), np.int8), more=(np.ones(4, np.float32), -1.0, 1.0, 0)),
    *(wrong_spec(np.zeros((4, 3), t)) for t in UNREAD),
    *(wrong_spec(ONES, np.zeros(4, t)) for t in UNREAD),
    *(wrong_spec(ONES, center=np.zeros(3, t)) for t in (*UNREAD, "F", "D")),
    *(wrong_spec(ONES, center=c) for c in (np.ones(4, np.float32), np.ones(6, np.float32)[::2], ONES[:1], [1.0] * 3)),
    wrong_spec(ONES)[:-1],
    *(wrong_spec(np.ones((4, 3), np.int8), more=(np.zeros(4, t), -1.0, 1.0, 0, UINT8)) for t in (*UNREAD, "F", "D")),
]


@pytest.mark.parametrize("spec", WRONG_SPECS, ids=range(len(WRONG_SPECS)))
def test_the_core_does_not_trust_python(spec: tuple[Any, ...]) -> None:
    """A spec that did not come from the checks is refused, not computed with."""
    with pytest.raises((TypeError, ValueError, IndexError, RuntimeError)):
        _conv1x1.Layer(spec)  # type: ignore[arg-type]


def test_another_capsule_is_no_pool() -> None:
    row = np.zeros(3)
    for call in (_conv1x1.add_to_pool, _conv1x1.end_pool):
        with pytest.raises(ValueError, match="incorrect name"):
            call(datetime.datetime_CAPI, row)  # type: ignore[attr-defined]


def test_the_core_holds_on_to_what_it_looked_at() -> None:
    """Numbers that run Python when they are read come before the arrays; and those of a layer stay where they are."""

    class Resizes:
        def __init__(self, array: Any) -> None:
            self.array = array

        def __index__(self) -> int:
            self.array.resize((1, 1), refcheck=False)
            return 1

    for which in (0, 1):
        arrays = [np.ones((2000, 2000), np.float32), np.ones(2000, np.float32)]
        with pytest.raises((TypeError, ValueError)):
            _conv1x1.Layer(wrong_spec(*arrays, axis=Resizes(arrays[which])))
    weight, bias = np.ones((9, 40), np.float32), np.ones(9, np.float32)
    layer, x = _conv1x1.Layer(wrong_spec(weight, bias)), np.ones((5000, 40), np.float32)
    for array in (weight, bias):
        with pytest.raises(ValueError, match="cannot resize"):
            array.resize((1,), refcheck=False)
    assert (layer(x) == 41).all()
    with pytest.raises((TypeError, ValueError)):
        layer._plan(x, None, None, Resizes(x))


def test_shapes_may_be_set_while_wide_integers_are_looked_through() -> None:
    """The GIL is given up for that, before the call is planned; a call is of the shapes that it began with."""
    n, done = 2**19, threading.Event()
    x, residual = np.arange(4 * n).astype(np.int64).reshape(n, 2, 2), np.ones((n, 2, 1), np.int64)
    out, expected = np.empty((n, 2, 1), np.int64), x.reshape(-1, 2).sum(1) + 1

    def reshape() -> None:
        while not done.is_set():
            for shape in ((2, n), (2 * n, 1, 1, 1), (n, 2)):
                x.shape, residual.shape, out.shape = (*shape, 2), (*shape, 1), (*shape, 1)

    other = threading.Thread(target=reshape)
    other.start()
    try:
        for target in [None, out] * 10:
            try:
                y = conv1x1(x, np.ones((1, 2), np.int8), residual=residual, out=target)
            except ValueError:  # began between two of the shapes
                continue
            np.testing.assert_array_equal(y.ravel(), expected)
    finally:
        done.set()
        other.join()


@pytest.mark.parametrize("step", [0, -1, -(2**70), 2**70])
def test_the_core_takes_no_step_below_one(step: int) -> None:
    layer = _conv1x1.Layer(Spec(np.ones((4, 3), np.float32), None, -1, True, step, 1, ("", 0.0, 0.0), None))
    assert layer(np.ones((5, 3), np.float32)).shape == (1 if step > 0 else 5, 4)


# ---------------------------------------------------------------------------------------------------- sizes


@pytest.mark.parametrize("shape", [(2**40, 0), (2**59, 0), (0, 2**59), (0, 0)])
def test_weights_of_no_elements(shape: tuple[int, int]) -> None:
    """However many filters of no channels, or channels of no filters: nothing is walked through."""
    w = np.empty(shape, np.float32)
    filters, channels = shape
    for pixels in (0, 1, 3):
        if pixels * filters > 2**20:
            with pytest.raises(MemoryError):
                conv1x1(np.broadcast_to(np.float32(1), (pixels, channels)), w)
            continue
        x = np.broadcast_to(np.float32(1), (pixels, channels))
        assert conv1x1(x, w).shape == Conv1x1(w)(x).shape == (pixels, filters)
        assert Conv1x1(w).plan(x)["threads"] >= 1


def test_groups_beyond_number() -> None:
    w = np.empty((0, 2**30), np.float32)
    x = np.broadcast_to(np.float32(1), (0, 2**30 * (2**31 - 1)))
    assert conv1x1(x, w, groups=2**31 - 1).shape == (0, 0)


@pytest.mark.parametrize("shape", [(2**61 - 1, 1), (2**31, 2**29, 1), (2**40, 2**10, 1, 2**10)])
def test_products_past_two_to_the_63(shape: tuple[int, ...]) -> None:
    """Results that no address could count: refused by both ways in, for each layout and number of filters."""
    x = np.broadcast_to(np.float32(1), shape)
    axis = shape.index(1)
    for filters in (1, 4, 5, 64, 2**20):
        w = np.ones((filters, 1), np.float32)
        for function in (conv1x1, lambda x, w, **k: Conv1x1(w, **k)(x)):
            with pytest.raises((MemoryError, ValueError)):
                function(x, w, channel_axis=axis)
        Conv1x1(w, channel_axis=axis).plan(x)


def sparse(size: int) -> Any:
    """Bytes of an area that takes no room until it is written to."""
    no_reserve = 0x4000
    try:
        area = mmap.mmap(-1, size, mmap.MAP_PRIVATE | mmap.MAP_ANONYMOUS | no_reserve)
    except (OSError, ValueError):
        pytest.skip("this system does not give away so many addresses")
    return np.frombuffer(area, np.uint8)


@pytest.mark.parametrize("order", ["pixels far apart", "channels far apart", "both"])
def test_offsets_beyond_32_bits(normal: Any, isa: str, order: str) -> None:
    """Elements up to 2**41 bytes from each other, forwards and backwards, in every orientation."""
    memory = sparse(2**43)
    steps = {"pixels far apart": (2**39 + 64, 2**36 + 8, 8), "channels far apart": (4096, 8, 2**35 + 4096)}
    y_step, x_step, c_step = steps.get(order, (2**39 + 64, 2**30 + 8, 2**33 + 512))
    middle = 2**42

    def far(a: Any, sign: int, shift: int) -> Any:
        lies = as_strided(
            memory[middle + shift :][:8].view(a.dtype)[:1], a.shape, [sign * s for s in (y_step, x_step, c_step)]
        )
        lies[...] = a
        return lies

    for (channels, filters), dtype in product([(5, 7), (40, 3), (3, 1), (17, 18)], [np.float32, np.float64]):
        w, bias = normal(filters, channels), normal(filters)
        x, residual = normal(3, 5, channels, dtype=dtype), normal(3, 5, filters, dtype=dtype)
        expected = conv1x1(x, w, bias, residual=residual, activation="silu")
        for sign in (1, -1):
            x_far, residual_far = far(x, sign, 0), far(residual, -sign, 2048)
            out = far(np.zeros_like(residual), sign, 1024 + (0 if sign > 0 else 512))
            conv1x1(x_far, w, bias, residual=residual_far, activation="silu", out=out, threads=2)
            np.testing.assert_array_equal(out, expected)
            np.testing.assert_array_equal(
                conv1x1(x_far.transpose(2, 0, 1), w, bias, channel_axis=0, activation="silu", stride=2),
                conv1x1(x.transpose(2, 0, 1), w, bias, channel_axis=0, activation="silu", stride=2),
            )


# -------------------------------------------------------------------------------------------------- pickles

TAMPERED = """
import io, os, pickle, resource, warnings
import numpy as np
from conv1x1 import Conv1x1, QConv1x1, reference, reference_qlinear

warnings.simplefilter("ignore")
np.seterr(all="ignore")
resource.setrlimit(resource.RLIMIT_AS, (2 << 30, 2 << 30))
names = set()

class Noting(pickle.Unpickler):
    def find_class(self, module, name):
        names.add((module, name))
        return super().find_class(module, name)

class Strict(pickle.Unpickler):
    def find_class(self, module, name):
        if (module, name) not in names:
            raise pickle.UnpicklingError(name)
        return super().find_class(module, name)

counts = {"tried": 0, "refused": 0, "made": 0, "called": 0}

def check(made, x):
    "What the layer says of itself is what it computes."
    options = {n: getattr(made, n) for n in ("channel_axis", "stride", "groups", "activation")}
    y = made(x)
    if isinstance(made, Conv1x1):
        expected = reference(x, made.weight, made.bias, dtype=made.dtype, **options)
        magnitude = np.abs(np.append(np.abs(made.weight).sum(), 0 if made.bias is None else made.bias)).max()
        near = np.isclose(y, expected, rtol=1e-3, atol=1e-5 * float(magnitude), equal_nan=True)
        assert near.all() or not np.isfinite(magnitude), (y, expected)
    else:
        before = (made.x_scale, made.x_zero_point, made.weight, made.w_scale, made.w_zero_point, made.y_scale)
        assert np.array_equal(y, reference_qlinear(x, *before, made.y_zero_point, made.bias, **options))
    counts["called"] += 1

def open_one(data):
    counts["tried"] += 1
    try:
        made = Strict(io.BytesIO(data)).load()
    except Exception:
        counts["refused"] += 1
        return
    counts["made"] += 1
    if isinstance(made, (Conv1x1, QConv1x1)):
        repr(made), made.weight, made.bias
        dtype = "f" if isinstance(made, Conv1x1) else made.x_zero_point.dtype
        for shape in ((made.in_channels, 4, 4), (4, made.in_channels), (3, 4)):
            if np.prod(shape) < 10**6:
                x = np.ones(shape, dtype)
                try:
                    made(x)
                except Exception:
                    continue
                check(made, x)

layers = [
    Conv1x1(np.arange(6).reshape(2, 3), [1, 2], channel_axis=0, stride=(2, 1), activation=("clip", 0, 9)),
    QConv1x1(np.int8([[1, -2, 3], [4, 5, 6]]), [8, 9], x_scale=0.5, x_zero_point=np.uint8(3), w_scale=[1, 2],
             w_zero_point=[0, 1], y_scale=9, y_zero_point=np.int8(7)),
]
for layer in layers:
    for protocol in (2, 5):
        data = pickle.dumps(layer, protocol)
        Noting(io.BytesIO(data)).load()
        open_one(data)
        for at in range(len(data)):
            open_one(data[:at])
            for flip in (1, 8, 128, 255):
                open_one(data[:at] + bytes([data[at] ^ flip]) + data[at + 1 :])
        random = np.random.default_rng([protocol, int(os.environ["SEED"])])
        for _ in range(1000):
            shuffled = bytearray(data)
            for at in random.integers(len(data), size=4):
                shuffled[at] = random.integers(256)
            open_one(bytes(shuffled))
assert min(counts.values()) > 500, counts
print("done", counts["tried"])
"""


def test_pickles_tampered_with(fresh_python: Any, seed: int) -> None:
    """Cut off, or with bytes changed: refused, or a layer that computes what it says.

    Only names that a layer's pickle has are let in, since a pickle that may name anything may do anything.
    """
    run = fresh_python(TAMPERED, SEED=str(seed))
    assert run.returncode == 0, run.stderr
    assert int(run.stdout.removeprefix("done ")) > 10_000


@pytest.mark.parametrize("change", range(14))
def test_what_a_pickle_holds_is_checked(change: int) -> None:
    rebuilt, (form, cls, arrays, options) = Conv1x1(np.ones((4, 3)), np.ones(4)).__reduce__()[:2]
    weight, bias = arrays["w"], arrays["bias"]
    data, shape, dtype = weight
    wrong = [
        (int, weight, bias, options),
        ("Conv1x1", weight, bias, options),
        (cls, (data, (3, 2, 2), dtype), bias, options),
        (cls, (data, (4, 2**61), dtype), bias, options),
        (cls, (data, (4, 30), dtype), bias, options),
        (cls, (data[:-1], shape, dtype), bias, options),
        (cls, (data, shape, "O"), bias, options),
        (cls, (data, shape, "i4,O"), bias, options),
        (cls, np.ones((4, 3)), bias, options),
        (cls, None, bias, options),
        (cls, weight, (bias[0][:16], (2,), dtype), options),
        (cls, weight, bias, options | {"groups": 3}),
        (cls, weight, bias, options | {"stride": 0}),
        (cls, weight, bias, options | {"unknown": 0}),
        (cls, weight, bias, [("groups", 1)]),
    ][change]
    with pytest.raises((TypeError, ValueError)):
        rebuilt(form, wrong[0], {"w": wrong[1], "bias": wrong[2]}, wrong[3])
