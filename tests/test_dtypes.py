"""Dtypes that are equal but differ inside, and those that are none: no number is misread, however it is spelled."""

from __future__ import annotations

import importlib.util
import io
import pickle
import sys
from collections.abc import Callable
from typing import Any

import numpy as np
import pytest

from conv1x1 import (
    Conv1x1,
    QConv1x1,
    conv1x1,
    conv1x1_integer,
    explain,
    qlinear_conv1x1,
    reference,
    reference_integer,
    reference_qlinear,
)

TYPES = ["float16", "float32", "float64", "bool", "uint8", "int8", "uint16", "int16", "int32", "int64"]
TYPES += ["uint32", "uint64", "complex64", "complex128"]
BFLOAT16 = importlib.util.find_spec("ml_dtypes") is not None
if BFLOAT16:
    importlib.import_module("ml_dtypes")  # which teaches NumPy the name
    TYPES.insert(0, "bfloat16")

OWN, OTHER = ("<", ">") if sys.byteorder == "little" else (">", "<")


class Labelled(np.ndarray[Any, Any]):
    """A subclass with nothing of its own."""


class Offers:
    """What is no array but makes one."""

    def __init__(self, a: Any) -> None:
        self.a = a

    def __array__(self, dtype: Any = None, copy: Any = None) -> Any:
        return self.a if dtype is None else self.a.astype(dtype)


class Describes:
    """What is no array but says where one is."""

    def __init__(self, a: Any) -> None:
        self.a, self.__array_interface__ = a, a.__array_interface__


def ordered(order: str) -> Callable[[Any], Any]:
    return lambda a: a.astype(a.dtype.newbyteorder(order))


def twice_swapped(a: Any) -> Any:
    """As a reader of foreign files does; the dtype says whose order it is in."""
    foreign = ordered(OTHER)(a)
    if a.dtype.itemsize == 2:  # ml_dtypes before 0.5 does not swap bfloat16
        foreign = foreign.view(np.uint16)
    return foreign.byteswap().view(a.dtype.newbyteorder(OWN))


def with_metadata(a: Any) -> Any:
    return a.view(np.dtype(a.dtype, metadata={"unit": "K"}))


def as_aligned_field(a: Any) -> Any:
    whole = np.zeros(a.shape, np.dtype([("flag", "u1"), ("value", a.dtype.newbyteorder(OWN))], align=True))
    whole["value"] = a
    return whole["value"]


def as_packed_field(a: Any) -> Any:
    whole = np.zeros(a.shape, np.dtype([("flag", "u1"), ("value", a.dtype.newbyteorder(OTHER))]))
    whole["value"] = a
    return whole["value"]


def by_another_c_name(a: Any) -> Any:
    """Of the types that C has two names for."""
    same_size = [c for c in "iqlpIQLP" if np.dtype(c) == a.dtype and c != a.dtype.char]
    return a.astype(same_size[0]) if same_size else a


def with_parts(a: Any) -> Any:
    """The dtype of numbers whose bytes have names of their own."""
    parts = {f"byte{i}": (np.uint8, i) for i in range(a.itemsize)}
    return a.view(np.dtype((a.dtype.str, parts)))


#: The same numbers, from what is equal or only means the same.
SPELLINGS: dict[str, Callable[[Any], Any]] = {
    "plain": lambda a: a,
    "<": ordered("<"),
    ">": ordered(">"),
    "=": ordered("="),
    "|": ordered("|"),
    "twice swapped": twice_swapped,
    "metadata": with_metadata,
    "metadata, <": lambda a: with_metadata(ordered("<")(a)),
    "metadata, >": lambda a: with_metadata(ordered(">")(a)),
    "aligned field": as_aligned_field,
    "packed field": as_packed_field,
    "another C name": by_another_c_name,
    "pickled": lambda a: pickle.loads(pickle.dumps(ordered(OWN)(a))),
    "subclass": lambda a: ordered(OWN)(a).view(Labelled),
    "subclass, swapped": lambda a: ordered(OTHER)(a).view(Labelled),
    "__array__": lambda a: Offers(ordered(OWN)(a)),
    "__array__, swapped": lambda a: Offers(ordered(OTHER)(a)),
}
#: Those that bfloat16, which NumPy knows little of, cannot take.
OF_NUMPY: dict[str, Callable[[Any], Any]] = {
    "parts": with_parts,
    "parts, swapped": lambda a: with_parts(ordered(OTHER)(a)),
    "__array_interface__": lambda a: Describes(ordered(OWN)(a)),
    "__array_interface__, swapped": lambda a: Describes(ordered(OTHER)(a)),
    "file": lambda a: np.load(saved(ordered(OWN)(a))),
    "memory": lambda a: np.frombuffer(a.tobytes(), a.dtype.str).reshape(a.shape),
}
EVERY = [
    pytest.param(name, spelling, id=f"{name}-{spelling}")
    for name in TYPES
    for spelling in [*SPELLINGS, *(OF_NUMPY if name != "bfloat16" else ())]
]


def saved(a: Any) -> io.BytesIO:
    file = io.BytesIO()
    np.save(file, a)
    file.seek(0)
    return file


def spelled(a: Any, spelling: str) -> Any:
    return (SPELLINGS | OF_NUMPY)[spelling](a)


def numbers(dtype: str, *shape: int) -> Any:
    """Small whole numbers, the bytes of each different from those of its mirror image."""
    return (np.arange(np.prod(shape)) % 5 + (dtype != "bool")).reshape(shape).astype(dtype)


def same(a: Any, b: Any) -> None:
    assert (a.shape, a.dtype) == (b.shape, b.dtype)
    assert a.dtype.isnative
    assert a.dtype.metadata is None
    assert a.tobytes() == b.tobytes()


def lies_likewise(a: Any, b: Any) -> bool:
    a = np.asarray(a)
    return a.dtype.byteorder != OTHER and a.strides == b.strides


@pytest.mark.parametrize(("dtype", "spelling"), EVERY)
def test_every_argument_of_every_entry(dtype: str, spelling: str) -> None:
    x, w, bias, residual = numbers(dtype, 5, 3), numbers(dtype, 2, 3), numbers(dtype, 2), numbers(dtype, 5, 2)
    plain = conv1x1(x, w, bias, residual=residual)
    arguments = {"x": x, "w": w, "bias": bias, "residual": residual}
    for name in [*arguments, None]:  # each alone, and all together
        given = {n: spelled(a, spelling) if name in (n, None) else a for n, a in arguments.items()}
        same(conv1x1(**given), plain)
        layer = Conv1x1(given["w"], given["bias"])
        for made in (layer, pickle.loads(pickle.dumps(layer))):
            same(made(given["x"], residual=given["residual"]), plain)
            assert made.weight.dtype.isnative
            assert made.weight.dtype.metadata is None
        assert layer.plan(given["x"])["kernel"] == Conv1x1(w, bias).plan(given["x"])["kernel"]
        assert np.array_equal(reference(**given).astype(complex), plain.astype(complex))
        assert explain(**given, at=3, filter=1).value == plain[3, 1]
    same(conv1x1(spelled(x, spelling), w), conv1x1(x, w))
    same(conv1x1(x, spelled(w, spelling)), conv1x1(x, w))
    if lies_likewise(spelled(x, spelling), x):
        assert Conv1x1(w).plan(spelled(x, spelling)) == Conv1x1(w).plan(x)


@pytest.mark.parametrize(("dtype", "spelling"), [p for p in EVERY if p.values[0] not in ("bool", "uint32", "uint64")])
def test_out(dtype: str, spelling: str) -> None:
    x, w = numbers("uint8", 5, 3), numbers("uint8", 2, 3)
    expected = conv1x1(x, w, dtype=dtype)
    for call in (conv1x1, reference, lambda x, w, out: Conv1x1(w)(x, out=out)):
        for more in (slice(None), slice(0, 2)):
            out = spelled(np.zeros((5, 2), dtype), spelling)
            if not isinstance(out, np.ndarray) or not out.flags.writeable:
                continue
            part = expected[:, more]
            view = out[:, more]
            assert call(x, w[more], out=view) is view
            assert np.array_equal(view.astype(complex), part.astype(complex))
    if isinstance(out, np.ndarray) and out.flags.writeable and dtype != "int64":  # through a temporary array
        both = spelled(numbers(dtype, 5, 2), spelling)
        plain = conv1x1(numbers(dtype, 5, 2), w[:, :2], dtype=dtype)
        conv1x1(both, w[:, :2], out=both)
        assert np.array_equal(both.astype(complex), plain.astype(complex))


@pytest.mark.parametrize(("dtype", "spelling"), [p for p in EVERY if p.values[0] not in ("bool", "uint32", "uint64")])
def test_the_type_asked_for(dtype: str, spelling: str) -> None:
    x, w = numbers("float32", 5, 3), numbers("float32", 2, 3)
    asked = getattr(spelled(np.zeros(1, dtype), spelling), "dtype", None)
    if asked is None or asked.fields is not None:
        return
    if not asked.isnative:
        for call in (conv1x1, reference, lambda x, w, dtype: Conv1x1(w, dtype=dtype)):
            with pytest.raises(TypeError, match="byte order: pass dtype="):
                call(x, w, dtype=asked)
        return
    plain = conv1x1(x, w, dtype=dtype)
    layer = Conv1x1(w, dtype=asked)
    for y in (conv1x1(x, w, dtype=asked), layer(x), pickle.loads(pickle.dumps(layer))(x), reference(x, w, dtype=asked)):
        same(y, plain)
    assert (layer.dtype, layer.dtype.metadata) == (np.dtype(dtype), None)


QUANTISED = [p for p in EVERY if p.values[0] in ("uint8", "int8")]


@pytest.mark.parametrize(("dtype", "spelling"), QUANTISED)
def test_quantised(dtype: str, spelling: str) -> None:
    x, w, bias, zero = numbers(dtype, 5, 3), numbers(dtype, 2, 3), numbers("int32", 2), numbers(dtype, 1)
    scale = numbers("float32", 1)
    s = {n: spelled(a, spelling) for n, a in {"x": x, "w": w, "bias": bias, "zero": zero, "scale": scale}.items()}
    for function in (conv1x1_integer, reference_integer):
        same(function(s["x"], s["w"], s["zero"], s["zero"]), conv1x1_integer(x, w, zero, zero))
    plain = qlinear_conv1x1(x, scale, zero, w, scale, zero, scale, zero, bias)
    arguments = (s["scale"], s["zero"], s["w"], s["scale"], s["zero"], s["scale"], s["zero"], s["bias"])
    for function in (qlinear_conv1x1, reference_qlinear):
        same(function(s["x"], *arguments), plain)
    scales, zeros = dict.fromkeys(("x_scale", "w_scale", "y_scale"), s["scale"]), ("x_zero_point", "w_zero_point")
    layer = QConv1x1(s["w"], s["bias"], **scales, **dict.fromkeys((*zeros, "y_zero_point"), s["zero"]))
    for made in (layer, pickle.loads(pickle.dumps(layer))):
        same(made(s["x"]), plain)
        same(made.dequantize(s["x"]), layer.dequantize(x))
    out = s["x"] if isinstance(s["x"], np.ndarray) and s["x"].flags.writeable else np.empty((5, 3), dtype)
    layer(x, out=out[:, :2])
    assert np.array_equal(out[:, :2], plain)


@pytest.mark.parametrize(("dtype", "spelling"), [p for p in EVERY if p.values[0] in ("float16", "float32", "float64")])
def test_calibration(dtype: str, spelling: str) -> None:
    layer, x = Conv1x1(numbers("float32", 2, 3)), numbers(dtype, 5, 3)
    plain, made = (QConv1x1.from_float(layer, calibration=a) for a in (x, spelled(x, spelling)))
    assert pickle.dumps(made) == pickle.dumps(plain)
    same(made.quantize(spelled(x, spelling)), plain.quantize(x))


# ------------------------------------------------------------------------------------------- what is no dtype at all


class Hostile:
    def __init__(self, error: type[BaseException]) -> None:
        self.error = error

    @property
    def dtype(self) -> Any:
        raise self.error("no")

    def __repr__(self) -> str:
        raise self.error("no")


NO_DTYPES = ["1,,", "f4,,", "f4,(", "(" * 5000, "f4," + "(" * 5000, "2" * 5000 + "f4", b"\xff", "é", (), ("f4",)]
NO_DTYPES += [("f4", -1), [("a",)], {"names": ["a"]}, 3, 10**30, object(), lambda: 0, np.ones(2), ("V", 2**70)]
NO_DTYPES += [Hostile(RuntimeError), Hostile(RecursionError), "smooth", "torch.float64", ["f4"], {1: 2}]


@pytest.mark.filterwarnings("ignore::DeprecationWarning")
@pytest.mark.parametrize("value", NO_DTYPES, ids=range(len(NO_DTYPES)))
def test_what_is_no_dtype(value: Any) -> None:
    x, w = numbers("float32", 5, 3), numbers("float32", 2, 3)
    for call in (conv1x1, reference, explain, lambda x, w, dtype: Conv1x1(w, dtype=dtype)):
        with pytest.raises(TypeError, match=r"supported are float16, .*: pass dtype=") as info:
            call(x, w, dtype=value)
        assert len(str(info.value)) < 300
        assert conv1x1(x, w, dtype=eval(str(info.value).rpartition("pass dtype=")[2], {"np": np})).dtype
    with pytest.raises(TypeError):
        QConv1x1.from_float(Conv1x1(w), calibration=x, dtype=value)


# -------------------------------------------------------------------------------------- two packages, a bfloat16 each

TWO = """
import importlib.machinery, importlib.util, pathlib, shutil, sys, tempfile
import numpy as np, ml_dtypes
from conv1x1 import Conv1x1, conv1x1, reference, explain
original = pathlib.Path(importlib.util.find_spec("ml_dtypes._ml_dtypes_ext").origin)
with tempfile.TemporaryDirectory() as folder:
    copy = shutil.copy(original, folder)
    loader = importlib.machinery.ExtensionFileLoader("_ml_dtypes_ext", copy)
    module = importlib.util.module_from_spec(importlib.util.spec_from_loader("_ml_dtypes_ext", loader))
    loader.exec_module(module)
first, second = np.dtype(ml_dtypes.bfloat16), np.dtype(module.bfloat16)
assert first.num != second.num and second.name == "bfloat16"
raw = np.arange(1, 16, dtype=np.float32).reshape(5, 3)
w = np.ones((2, 3), np.float32)
expected = (raw @ w.T).astype(first).view(np.uint16)
def check(y, dtype):
    assert y.dtype.type is dtype.type, (y.dtype.num, dtype.num)
    assert (y.view(np.uint16) == expected).all(), y
for _ in range(2):
    for one in (first, second):
        x = raw.astype(one)
        layer = Conv1x1(w.astype(one), np.zeros(2, one))
        for y in (conv1x1(x, w), layer(x), conv1x1(x, w.astype(one), residual=np.zeros((5, 2), first))):
            check(y, one)
        assert explain(x, w, at=4, filter=1).value == 42
        assert (reference(x, w) == raw @ w.T).all()
        for other in (first, second):
            check(conv1x1(x, w, dtype=other), other)
            check(Conv1x1(w, dtype=other)(raw), other)
            check(reference(raw, w, dtype=other), other)
            out = np.zeros((5, 2), other)
            check(conv1x1(x, w, out=out), other)
            both = x.view(other)[:, :2]
            check(layer(x, out=both), other)
            x = raw.astype(one)
"""


@pytest.mark.skipif(not BFLOAT16, reason="there is no package with a bfloat16")
def test_two_packages_with_a_bfloat16_each(fresh_python: Any) -> None:
    """Both are read as what they are, and a result is of x's or of the one that was asked for."""
    run = fresh_python(TWO)
    assert run.returncode == 0, run.stderr
