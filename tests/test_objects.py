"""Objects that people have: what lies in memory is read there, and for all else the advice is a call that works."""

from __future__ import annotations

import importlib
import importlib.util
import io
import math
import pathlib
import re
import types
from decimal import Decimal
from fractions import Fraction
from functools import partial
from typing import Any, ClassVar

import numpy as np
import pytest

from conv1x1 import Conv1x1, QConv1x1, conv1x1, conv1x1_integer, explain, reference

X = np.arange(105, dtype=np.float32).reshape(5, 7, 3)
W = np.arange(12, dtype=np.float32).reshape(4, 3)


def layer_function(x: Any, w: Any, bias: Any = None, residual: Any = None, out: Any = None, **options: Any) -> Any:
    return Conv1x1(w, bias, **options)(x, residual=residual, out=out)


FUNCTIONS = pytest.mark.parametrize("function", [conv1x1, layer_function, reference])

# ------------------------------------------------------------------------------------------------------- DLPack


class Tensor:
    """What offers DLPack and nothing else."""

    requires_grad = False
    sign = 1

    def __init__(self, a: Any, device: int = 1, **attributes: Any) -> None:
        self.a, self.on = a, device
        self.__dict__.update(attributes)

    def __dlpack_device__(self) -> Any:
        return self.on, 0

    def __dlpack__(self, **options: Any) -> Any:
        if self.requires_grad:
            raise BufferError("no gradients here")
        return self.a.__dlpack__(stream=None)

    def detach(self) -> Tensor:
        return Tensor(self.a, self.on)

    def cpu(self) -> Tensor:
        return Tensor(self.a, requires_grad=self.requires_grad)

    def is_neg(self) -> bool:
        return self.sign < 0

    def resolve_neg(self) -> Tensor:
        return Tensor(self.a, self.on)


class Array(Tensor):
    """And an array, if need be, as JAX does for the types that NumPy has not."""

    def __dlpack__(self, **options: Any) -> Any:
        raise BufferError("a type that DLPack has not")

    def __array__(self, dtype: Any = None, copy: Any = None) -> Any:
        return self.a if dtype is None else self.a.astype(dtype)


@FUNCTIONS
@pytest.mark.parametrize("device", [1, 3, 11, 13])
def test_dlpack_of_a_host_is_read(function: Any, device: int) -> None:
    bias, residual = np.ones(4, np.float32), np.ones((5, 7, 4), np.float32)
    expected = function(X, W, bias, residual=residual)
    for kind in (Tensor, Array):
        y = function(*(kind(a, device) for a in (X, W, bias)), residual=kind(residual, device))
        assert type(y) is np.ndarray
        assert np.array_equal(y, expected)
        for channels in (slice(None, None, -1), [2, 0, 1]):
            assert np.array_equal(function(kind(X[..., channels]), W), function(X[..., channels], W))
    assert np.array_equal(explain(Tensor(X), Tensor(W), at=(1, 2)).products, W[0] * X[1, 2])
    assert Conv1x1(Tensor(W)).plan(Tensor(X)) == Conv1x1(W).plan(X)


@pytest.mark.parametrize("dtype", ["float16", "float32", "float64", "uint8", "int8", "uint16", "int16", "int32"])
def test_every_type_of_dlpack(dtype: str) -> None:
    x, w = X.astype(dtype), W.astype(dtype)
    y = conv1x1(Tensor(x), Tensor(w))
    assert y.dtype == conv1x1(x, w).dtype
    assert np.array_equal(y, conv1x1(x, w))


def test_dlpack_is_not_copied() -> None:
    """Where x is the memory that the result is written to, it is seen to overlap it."""
    both = X.copy()
    conv1x1(Tensor(both), W[:3], out=both)
    assert np.array_equal(both, X @ W[:3].T)
    x = np.ones((512, 512, 16), np.float32)
    import tracemalloc

    tracemalloc.start()
    Conv1x1(np.ones((1, 16)))(Tensor(x), threads=1)
    peak = tracemalloc.get_traced_memory()[1]
    tracemalloc.stop()
    assert peak < x.nbytes / 4


def test_dlpack_of_quantised_numbers() -> None:
    x, w = X.astype(np.uint8), W.astype(np.int8)
    assert np.array_equal(conv1x1_integer(Tensor(x), Tensor(w)), conv1x1_integer(x, w))
    of_x, of_w = {"x_scale": 0.5, "x_zero_point": np.uint8(0)}, {"w_scale": Tensor(np.full(4, 0.25)), "w_zero_point": 0}
    layer = QConv1x1(w, Tensor(np.ones(4, np.int32)), **of_x, **of_w, y_scale=1.0, y_zero_point=np.uint8(0))
    assert np.array_equal(layer(Tensor(x)), layer(x))
    assert np.array_equal(layer.quantize(Tensor(X)), layer.quantize(X))


@pytest.mark.skipif(importlib.util.find_spec("ml_dtypes") is None, reason="there is no package with a bfloat16")
def test_bfloat16_that_dlpack_cannot_take() -> None:
    import ml_dtypes

    x = X.astype(ml_dtypes.bfloat16)
    assert np.array_equal(conv1x1(Array(x), W), conv1x1(x, W))


@FUNCTIONS
@pytest.mark.parametrize("argument", ["x", "w", "bias", "residual"])
@pytest.mark.parametrize(
    ("attributes", "call"),
    [
        ({"requires_grad": True}, ".detach()"),
        ({"device": 2}, ".cpu()"),
        ({"device": 8}, ".cpu()"),
        ({"device": 2, "requires_grad": True}, ".detach().cpu()"),
        ({"sign": -1}, ".resolve_neg()"),
    ],
)
def test_a_tensor_that_cannot_be_read_as_it_is(function: Any, argument: str, attributes: Any, call: str) -> None:
    given: dict[str, Any] = {"x": X, "w": W, "bias": W[:, 0], "residual": np.ones((5, 7, 4), np.float32)}
    expected = function(**given)
    given[argument] = Tensor(given[argument], **attributes)
    out = np.full((5, 7, 4), 7, np.float32)
    with pytest.raises(TypeError, match="Tensor") as info:
        function(**given, out=out)
    assert (out == 7).all()
    assert str(info.value).endswith(f"pass {argument}{call}")
    given[argument] = eval(argument + call, dict(given))
    assert np.array_equal(function(**given), expected)


def test_out_is_an_array() -> None:
    """A tensor's memory can be written to, by a view of it."""
    out = Tensor(np.zeros((5, 7, 4), np.float32))
    with pytest.raises(TypeError, match="out must be a NumPy array, got Tensor: pass out=") as info:
        conv1x1(X, W, out=out)
    view = eval(str(info.value).partition("pass out=")[2], {"np": np, "out": out})
    conv1x1(X, W, out=view)
    if np.from_dlpack(out).flags.writeable:
        assert np.array_equal(out.a, X @ W.T)


class Foreign:
    """An array of CuPy's kind, which comes home by a method of another name."""

    def __init__(self, a: Any) -> None:
        self.get = lambda: a

    def __dlpack_device__(self) -> Any:
        return 2, 0

    def __dlpack__(self, **options: Any) -> Any:
        raise BufferError("elsewhere")


def test_an_array_on_another_device() -> None:
    with pytest.raises(TypeError, match=r"only the CPU's memory is read: pass x\.get\(\)"):
        conv1x1(Foreign(X), W)


# ------------------------------------------------------------------------------------------- advice that can be taken


class Sparse:
    """What scipy.sparse's matrices show."""

    def toarray(self) -> Any:
        return X[0]


class SparseDict(dict[Any, Any]):
    """One of scipy's, which is a dict besides."""

    def toarray(self) -> Any:
        return X[0]


class SparseRow:
    def __init__(self, a: Any) -> None:
        self.toarray = lambda: a


class Header:
    """An image as NiBabel loads it."""

    def get_fdata(self) -> Any:
        return X[0].astype(float)


class Scans:
    """A file of NetCDF, as its libraries open it."""

    variables: ClassVar = {"title": "scan", "x": X[0]}


class Layer:
    """A module of a framework's."""

    def __init__(self, weight: Any, bias: Any = None) -> None:
        self.weight, self.bias = weight, bias

    def __call__(self, x: Any) -> Any:
        return x


class Table:
    """A pandas table, some columns of which are no numbers."""

    def __init__(self, a: Any, numbers: list[int]) -> None:
        self.a, self.numbers = a, numbers

    def __array__(self, dtype: Any = None, copy: Any = None) -> Any:
        return self.a.astype(object)

    def to_numpy(self, dtype: Any = None, na_value: Any = None) -> Any:
        return np.where(self.a == "NA", na_value, self.a).astype(dtype)

    def select_dtypes(self, kind: str) -> Table:
        class Numbers(Table):
            def to_numpy(self, dtype: Any = None, na_value: Any = None) -> Any:
                return self.a.astype(float)

        return Numbers(self.a[:, self.numbers], self.numbers)


class Lazy:
    """A tensor that NumPy cannot read, for what it does not say in its dtype."""

    layout = "torch.sparse_coo"

    def __array__(self, dtype: Any = None, copy: Any = None) -> Any:
        raise TypeError("use to_dense")

    def to_dense(self) -> Any:
        return X[0]


class Eighths(Lazy):
    """One of a type that NumPy has not."""

    layout = "torch.strided"

    def float(self) -> Any:
        return X[0]


def fields(*names: str, kind: str = "f4") -> Any:
    a = np.zeros(7, [(n, "U3" if n == "name" else kind) for n in names])
    for i, n in enumerate("rgb"):
        a[n] = X[0, :, i]
    return a


def in_a_row(*values: Any) -> Any:
    row = np.empty(len(values), object)
    row[:] = values
    return row


def struct(**arrays: Any) -> Any:
    """As scipy.io.loadmat gives them."""
    made = np.empty((1, 1), [(n, object) for n in arrays])
    made[0, 0] = tuple(arrays.values())
    return made


def boxed(value: Any) -> Any:
    box = np.empty((), object)
    box[()] = value
    return box


def in_a_file(folder: pathlib.Path, name: str, save: Any) -> pathlib.Path:
    save(folder / name, X[0])
    return folder / name


def open_file(folder: pathlib.Path, name: str, save: Any) -> io.BytesIO:
    return io.BytesIO(in_a_file(folder, name, save).read_bytes())


#: What is passed for x, whose numbers are those of X[0].
ADVISED: dict[str, Any] = {
    "fields": lambda _: fields("r", "g", "b"),
    "fields of integers": lambda _: fields("r", "g", "b", kind="u2"),
    "fields and a name": lambda _: fields("name", "r", "g", "b"),
    "a record array": lambda _: fields("r", "g", "b").view(np.recarray),
    "a field of three": lambda _: X[0].copy().view([("rgb", "f4", 3)])[:, 0],
    "sparse": lambda _: Sparse(),
    "a table with NA": lambda _: Table(np.where(X[0] == 99, "NA", X[0].astype(object)), []),
    "a table with names": lambda _: Table(np.hstack([np.full((7, 1), "a", object), X[0].astype(object)]), [1, 2, 3]),
    "a sparse tensor": lambda _: Lazy(),
    "a tensor of eighths": lambda _: Eighths(),
    "objects": lambda _: X[0].astype(object),
    "a list of Fractions": lambda _: [[Fraction(int(v)) for v in row] for row in X[0]],
    "a list of Decimals": lambda _: [[Decimal(int(v)) for v in row] for row in X[0]],
    "an array of Decimals": lambda _: np.array([[Decimal(int(v)) for v in row] for row in X[0]]),
    "text of numbers": lambda _: X[0].astype(str),
    "bytes of numbers": lambda _: X[0].astype("S5"),
    "a list of texts": lambda _: [[str(v) for v in row] for row in X[0]],
    "dates": lambda _: X[0].astype("M8[s]"),
    "times": lambda _: X[0].astype("m8[us]"),
    "longdouble": lambda _: X[0].astype(np.longdouble),
    "clongdouble": lambda _: X[0].astype(np.clongdouble),
    "a generator": lambda _: (row for row in X[0]),
    "a map": lambda _: map(np.asarray, X[0]),
    "a dict of bands": lambda _: {n: X[0, :, i] for i, n in enumerate("rgb")},
    "a dict's values": lambda _: dict(enumerate(X[0])).values(),
    "a box": lambda _: boxed(X[0]),
    "a path": lambda folder: in_a_file(folder, "x.npy", np.save),
    "the text of a path": lambda folder: str(in_a_file(folder, "x.npy", np.save)),
    "a table in a file": lambda folder: in_a_file(folder, "x.csv", partial(np.savetxt, delimiter=",")),
    "a heading in a file": lambda folder: in_a_file(folder, "h.csv", partial(np.savetxt, delimiter=",", header="r,g")),
    "a file of arrays": lambda folder: in_a_file(folder, "x.npz", lambda path, a: np.savez(path, image=a)),
    "an open file of arrays": lambda folder: np.load(open_file(folder, "x.npz", np.savez)),
    "the bytes of a file": lambda folder: in_a_file(folder, "x.npy", np.save).read_bytes(),
    "the bytes of a path": lambda folder: str(in_a_file(folder, "x.npy", np.save)).encode(),
    "an open file": lambda folder: open_file(folder, "x.npy", np.save),
    "an open file of text": lambda folder: io.StringIO(in_a_file(folder, "x.txt", np.savetxt).read_text()),
    "a sparse dict": lambda _: SparseDict({(0, 1): 1.0, (0, 2): 2.0}),
    "sparse rows": lambda _: [SparseRow(row) for row in X[0]],
    "an image with a header": lambda _: Header(),
    "a file of variables": lambda _: Scans(),
    "what loadmat gives": lambda _: {"__header__": b"MATLAB", "__globals__": [], "x": X[0], "n": 3},
    "a struct": lambda _: struct(name="scan", x=X[0]),
    "a cell": lambda _: in_a_row(X[0])[None],
    "rows in a row": lambda _: in_a_row(*X[0]),
    "objects and numbers": lambda _: np.array(
        [(None, *row) for row in X[0]], [("id", "O"), ("r", "f4"), ("g", "f4"), ("b", "f4")]
    ),
    "text of text's own kind": lambda _: np.char.array(X[0].astype(str)),
    "complex objects": lambda _: X[0].astype(complex).astype(object),
    "numbers in a file": lambda folder: str(in_a_file(folder, "x.txt", np.savetxt)),
}
if hasattr(np, "dtypes") and hasattr(np.dtypes, "StringDType"):
    ADVISED["texts of any length"] = lambda _: X[0].astype(np.dtypes.StringDType())
if importlib.util.find_spec("ml_dtypes"):
    ADVISED["bytes without a type"] = lambda _: X[0].astype(importlib.import_module("ml_dtypes").bfloat16).view("V2")


def names() -> dict[str, Any]:
    """What a user has imported, of what there is."""
    return {n: importlib.import_module(n) for n in ("numpy", "ml_dtypes", "io") if importlib.util.find_spec(n)} | {
        "np": np
    }


def advised(error: Any) -> str:
    """The call at the end of a message."""
    return str(error.value).rpartition("pass ")[2]


@FUNCTIONS
@pytest.mark.parametrize("kind", ADVISED)
def test_the_advice_for_x_works(function: Any, kind: str, tmp_path: Any) -> None:
    x = ADVISED[kind](tmp_path)
    with pytest.raises(TypeError, match=r"^x (is|has) .*pass .*x") as info:
        function(x, W)
    better = eval(advised(info), names() | {"x": x})
    y = function(better, W)
    assert np.array_equal(y, function(X[0].astype(y.dtype), W))


@pytest.mark.parametrize(
    "kind", ["objects", "a list of Fractions", "text of numbers", "longdouble", "sparse", "a path"]
)
@pytest.mark.parametrize("argument", ["w", "bias", "residual"])
def test_the_advice_for_other_arguments_works(kind: str, argument: str, tmp_path: Any) -> None:
    numbers = {"x": np.ones((1, 3)), "w": X[0], "bias": None, "residual": np.zeros((1, 7))}
    if argument != "w":
        numbers |= {"w": np.ones((3, 3)), "residual": None, "x": np.ones((7, 3))}
    given = ADVISED[kind](tmp_path)
    if argument == "bias":
        given = given[0] if isinstance(given, (list, np.ndarray)) else given
    with pytest.raises(TypeError, match=rf"{argument} (is|has)") as info:
        conv1x1(**numbers | {argument: given})
    better = eval(advised(info), {"np": np, argument: given})
    if np.ndim(better) == 2 and argument == "bias":
        better = better[0]
    expected = numbers | {argument: X[0] if argument != "bias" else X[0, 0]}
    assert np.array_equal(conv1x1(**numbers | {argument: better}), conv1x1(**expected))


def test_advice_for_an_image(tmp_path: Any) -> None:
    image = pytest.importorskip("PIL.Image")
    path = tmp_path / "photo.PNG"
    image.fromarray(X.astype(np.uint8)).save(path)
    expected = conv1x1(X.astype(np.uint8), W)
    assert np.array_equal(conv1x1(image.open(path), W), expected)
    for x in (path, str(path), path.read_bytes()):
        with pytest.raises(TypeError, match=r"^x has dtype") as info:
            conv1x1(x, W)
        names = {"PIL": importlib.import_module("PIL"), "io": io, "x": x}
        assert np.array_equal(conv1x1(eval(advised(info), names), W), expected)


@pytest.mark.parametrize("kind", sorted({*ADVISED} - {"clongdouble", "complex objects"}))
def test_the_advice_for_quantised_pixels_works(kind: str, tmp_path: Any) -> None:
    x, w = ADVISED[kind](tmp_path), W.astype(np.int8)
    for _ in range(4):  # step by step, until they are of eight bits
        try:
            y = conv1x1_integer(x, w)
        except TypeError as error:
            call = str(error).rpartition("pass ")[2].partition(", or leave")[0]
            x = eval(call, names() | {"x": x, "x_scale": 1, "x_zero_point": 0})
        else:
            break
    assert np.array_equal(y, conv1x1_integer(X[0].astype(np.uint8), w))


def test_advice_for_bytes() -> None:
    x = X.astype(np.uint8).tobytes()
    with pytest.raises(TypeError, match=r"x has dtype S, 105 bytes without a shape; .*give it its shape") as info:
        conv1x1(x, W)
    assert np.array_equal(eval(advised(info), {"np": np, "x": x}).reshape(5, 7, 3), X)


@pytest.mark.parametrize(
    ("x", "says"),
    [
        (None, "x is None, an object that is no array .*imread"),
        ({1, 2, 3}, "x is a set, an object that is no array and has no order"),
        ("photo", "x has dtype <U5, a text or a path, and a file has to be read first"),
        (object(), "x is a object, an object that is no array"),
        ([1.0, None, 3.0], "x has dtype object and holds a NoneType, None"),
        (np.array([[1, None, 3]]), "x has dtype object and holds a NoneType, None"),
        ({}, "x is a dict, an object that is no array"),
        ({"name": "photo"}, "x is a dict, an object that is no array"),
        (print, "x is a builtin_function_or_method"),
        ([[1, 2, 3], [4, "five", 6]], "holds a str_?, '?.*five"),
        (np.array([[1, {}, 3]], object), r"x has dtype object and holds a dict, \{\}"),
        (np.zeros(3, [("a", "U1"), ("b", "U2")]), r"x has dtype \["),
        (Eighths, "x is a type"),
        (Sparse, "x is a type"),
        (np, "x is a module"),
        (np.zeros(3, "V5"), "bytes without a type"),
    ],
    ids=lambda value: value if isinstance(value, str) else type(value).__name__,
)
def test_what_cannot_be_helped_is_said(x: Any, says: str) -> None:
    """And no call is advised that would not run."""
    for call in (conv1x1, layer_function, reference):
        with pytest.raises(TypeError, match=says) as info:
            call(x, W)
        assert "supported are float16" in str(info.value)
        assert ".astype" not in str(info.value)


def test_rows_of_different_lengths() -> None:
    images = [X, X[:4], X[:, :2]]
    with pytest.raises(ValueError, match=r"x\[1\] has shape \(4, 7, 3\), but x\[0\] has \(5, 7, 3\)") as info:
        conv1x1(images, W)
    call = str(info.value).rpartition("for itself, ")[2]
    each = eval(call, {"conv1x1": conv1x1, "x": images, "w": W})
    assert all(np.array_equal(y, conv1x1(one, W)) for y, one in zip(each, images, strict=True))
    for name, arguments in [
        ("x", {"x": [[1, 2, 3], [4, 5]], "w": W}),
        ("w", {"x": X, "w": [[1, 2, 3], [4, 5]]}),
        ("residual", {"x": X[0, :2], "w": W, "residual": [[1, 2, 3, 4], [5, 6, 7]]}),
    ]:
        with pytest.raises(ValueError, match=rf"{name}\[1\] has shape \(\d,\), but {name}\[0\] has \(\d,\)"):
            conv1x1(**arguments)


def test_a_layer_is_not_its_weights() -> None:
    expected = conv1x1(X, W, W[:, 0])
    gradients = {"requires_grad": True}
    for w in (Layer(W, W[:, 0]), Layer(Tensor(W, **gradients), Tensor(W[:, 0], **gradients)), Conv1x1(W, W[:, 0])):
        for call in (conv1x1, lambda x, w, bias=None: Conv1x1(w, bias)(x)):
            with pytest.raises(TypeError, match=f"w is a {type(w).__name__}, not its weights: pass w.weight") as info:
                call(X, w)
            given = eval(f"dict(w={advised(info)})", {"w": w})
            assert np.array_equal(call(X, **given), expected)
    fitted = types.SimpleNamespace(components_=W)
    with pytest.raises(TypeError, match=r"pass w\.components_$"):
        conv1x1(X, fitted)


# --------------------------------------------------------------------------------------- weights that do not fit


AFFINE = np.hstack([W[:3], [[10], [20], [30]]])
HOMOGENEOUS = np.vstack([AFFINE, [0, 0, 0, 1]])
ROW = np.float32([5, 6, 7, 8])


def matrices() -> Any:
    """Weights, the bias beside them, and the filters and bias that they mean."""
    yield AFFINE, None, W[:3], AFFINE[:, -1]
    yield AFFINE[:2], None, W[:2], AFFINE[:2, -1]
    yield AFFINE.tolist(), None, W[:3], AFFINE[:, -1]
    yield AFFINE, np.ones(3), W[:3], AFFINE[:, -1] + 1
    yield AFFINE, [1, 1, 1], W[:3], AFFINE[:, -1] + 1
    yield AFFINE[..., None, None], None, W[:3], AFFINE[:, -1]
    yield HOMOGENEOUS, None, W[:3], AFFINE[:, -1]
    yield HOMOGENEOUS, np.arange(4.0), W[:3], AFFINE[:, -1] + np.arange(3)
    yield HOMOGENEOUS.tolist(), [0, 1, 2, 3], W[:3], AFFINE[:, -1] + np.arange(3)
    yield HOMOGENEOUS, np.ones(3), W[:3], AFFINE[:, -1] + 1
    yield AFFINE.ravel(), None, W[:3], AFFINE[:, -1]
    yield tuple(AFFINE.ravel()), np.ones(3), W[:3], AFFINE[:, -1] + 1
    yield W[:3].ravel(), None, W[:3], None
    yield W[:2].ravel().tolist(), None, W[:2], None
    yield ROW, None, ROW[:3], ROW[3:]


@pytest.mark.parametrize(("w", "bias", "filters", "added"), [*matrices()])
def test_a_matrix_with_its_bias(w: Any, bias: Any, filters: Any, added: Any) -> None:
    """The first advice is the one that is meant, and runs; it says how many filters that is, as does every other."""
    for function in (conv1x1, reference):
        with pytest.raises(ValueError, match=r"x of shape \(5, 7, 3\) has 3 channels .*; for .*, pass ") as info:
            function(X, w, bias)
        ways = str(info.value).split("; ")[1:]
        call = ways[0].partition("pass ")[2]
        given = {"bias": bias} | eval(f"dict(w={call})", {"np": np, "w": w, "bias": bias})
        assert np.array_equal(function(X, **given), function(X, filters, added))
        for way in ways:
            said, _, call = way.partition(", pass ")
            matrix = eval(f"dict(w={call})", {"np": np, "w": w, "bias": bias})["w"]
            number = len(matrix) if np.ndim(matrix) > 1 else 1
            assert said.startswith(f"for {number if np.ndim(matrix) > 1 else 'a'} filter")


def test_a_matrix_with_its_bias_in_a_layer() -> None:
    for layer in (
        Conv1x1(AFFINE),
        Conv1x1(AFFINE, [1, 2, 3]),
        Conv1x1(AFFINE.ravel()),
        Conv1x1(HOMOGENEOUS),
        Conv1x1(HOMOGENEOUS, [1, 2, 3, 4]),
    ):
        with pytest.raises(ValueError, match=r"; for 3 filters.*, make the layer of layer\.weight") as info:
            layer(X)
        call = str(info.value).split("; ")[1].partition("make the layer of ")[2]
        better = eval(f"Conv1x1({call})", {"Conv1x1": Conv1x1, "layer": layer})
        added = 0 if layer.bias is None else layer.bias[:3]
        assert np.array_equal(better(X), conv1x1(X, W[:3], AFFINE[:, -1] + added))


@pytest.mark.parametrize("shape", [(), (1,), (3,), (4,), (5,), (1, 3), (4, 1), (7,)], ids=str)
@pytest.mark.parametrize(
    "w",
    [HOMOGENEOUS, AFFINE, AFFINE[:2], np.arange(15.0).reshape(3, 5), AFFINE.ravel(), np.arange(9.0), ROW],
    ids=lambda w: str(w.shape),
)
def test_weights_that_do_not_fit_and_a_bias_beside(w: Any, shape: Any) -> None:
    """All that is advised runs, and the bias counts in it where it does not say that it is without."""
    x, bias = X[..., :3], np.arange(math.prod(shape)).reshape(shape)
    for kind in (np.asarray, lambda a: np.asarray(a).tolist()):

        def advised_results(way: str, bias: Any, kind: Any = kind) -> Any:
            given = {"w": kind(w), "bias": kind(bias)}
            return conv1x1(x, **given | eval(f"dict(w={way.partition('pass ')[2]})", {"np": np} | given))

        with pytest.raises(ValueError, match="pass ") as info:
            conv1x1(x, kind(w), kind(bias))
        for way in re.split("; |: ", str(info.value)):
            if "pass " in way:
                more = advised_results(way, bias + 2) - advised_results(way, bias)
                assert np.all(more == (0 if "without the bias" in way else 2))


def test_transposed_weights_say_how_many_filters_they_are() -> None:
    for w, spelled in ((W, "w"), (W.tolist(), r"np\.asarray\(w\)")):
        with pytest.raises(
            ValueError, match=rf"\(4, 3\) is \(C, K\), K = 3, .* 4 channels of x: pass {spelled}\.T$"
        ) as info:
            conv1x1(np.ones((5, 4)), w)
        assert conv1x1(np.ones((5, 4)), eval(advised(info), {"np": np, "w": w})).shape == (5, 3)
    with pytest.raises(ValueError, match="K = 3") as info:
        conv1x1_integer(np.ones((5, 4), np.uint8), np.ones((4, 3), np.int8))
    with pytest.raises(ValueError, match="has 3 channels") as info:  # whose bias has another unit
        conv1x1_integer(np.ones((5, 3), np.uint8), np.ones((2, 4), np.int8))
    assert "bias" not in str(info.value)


def test_advice_loses_no_digits() -> None:
    """Coordinates in metres, as objects or text, are not advised into float32."""
    for x in ([["500000.123", "1"]], np.array([[500000.123, 1]], object), [[Decimal("500000.123"), 1]]):
        with pytest.raises(TypeError, match="float64") as info:
            conv1x1(x, [[1.0, 0.0]])
        assert conv1x1(eval(advised(info), {"np": np, "x": x}), [[1.0, 0.0]]) == 500000.123


def as_arguments(error: Any, w: Any) -> dict[str, Any]:
    """What is advised for weights, with the arguments that come along."""
    call = str(error.value).rpartition("pass ")[2]
    found: dict[str, Any] = eval(f"dict(w={call})", {"np": np, "w": w})
    return found


class Model(Layer):
    """A model with a layer in it, whose weights have names."""

    def __init__(self, layer: Any) -> None:
        self.layer, self.weight, self.bias = layer, None, None

    def named_modules(self) -> Any:
        return [("", self), ("head.0", Layer(None)), ("head.1", self.layer)]

    def get_submodule(self, name: str) -> Any:
        return dict(self.named_modules())[name]


@pytest.mark.parametrize("options", [{}, {"stride": (2, 2)}, {"groups": 2}, {"stride": (1, 1), "groups": 1}], ids=str)
def test_weights_and_what_belongs_to_them(options: Any) -> None:
    x, w, bias = np.arange(64.0).reshape(4, 4, 4), np.arange(16.0).reshape(4, 4), np.arange(4.0)
    w = w[:, : 4 // options.get("groups", 1)]
    expected = conv1x1(x, w, bias, **options)
    layer = Layer(w, bias)
    layer.__dict__.update(options)
    for given in (layer, Model(layer), Conv1x1(w, bias, **options)):
        with pytest.raises(TypeError, match="not its weights: pass w") as info:
            conv1x1(x, given)
        assert np.array_equal(conv1x1(x, **as_arguments(info, given)), expected)


def test_weights_and_bias_in_one() -> None:
    w, bias = W, W[:, 0]
    expected = conv1x1(X, w, bias)
    named = {"body.weight": w[:, :, None, None], "body.bias": bias, "body.steps": 3}
    for given in (named, (w, bias), [w.T[None, None], bias]):
        with pytest.raises((TypeError, ValueError), match="pass w") as info:
            conv1x1(X, given)
        assert np.array_equal(conv1x1(X, **as_arguments(info, given)), expected)


def test_numbers_where_arrays_are_due() -> None:
    shape = (5, 7, 4)
    for residual in (1.0, [1, 2, 3, 4], np.ones((5, 1, 4))):
        with pytest.raises(ValueError, match=r"expected the result's, \(5, 7, 4\): pass np.broadcast_to") as info:
            conv1x1(X, W, residual=residual)
        call = "np" + str(info.value).rpartition("pass np")[2]
        added = conv1x1(X, W, residual=eval(call, {"np": np, "residual": residual}))
        assert np.array_equal(added, conv1x1(X, W) + np.broadcast_to(residual, shape))
    with pytest.raises(ValueError, match=r"expected \(4,\), one number a filter: pass np.full\(4, bias\)"):
        conv1x1(X, W, bias=2)
    with pytest.raises(ValueError, match="pass bias=None"):
        conv1x1(X, W, bias=False)
    with pytest.raises(ValueError, match=r"one number a filter$"):
        conv1x1(X, W, bias=True)


def test_the_memory_of_what_is_no_array_can_be_out() -> None:
    memory = np.zeros((5, 7, 4), np.float32)
    out = memoryview(memory)
    with pytest.raises(TypeError, match=r"got memoryview: pass out=np.asarray\(out\)") as info:
        conv1x1(X, W, out=out)
    conv1x1(X, W, out=eval(str(info.value).partition("pass out=")[2], {"np": np, "out": out}))
    assert np.array_equal(memory, conv1x1(X, W))


def test_a_list_with_an_image_that_could_not_be_read() -> None:
    with pytest.raises(ValueError, match=r"x\[1\] is None .*imread"):
        conv1x1([X, None], W)


@pytest.mark.parametrize("shape", [(9,), (9, 1), (1, 9), (1, 1, 9), (9, 1, 1), (9, 1, 1, 1), (1, 1, 1, 9)], ids=str)
def test_nine_numbers_in_any_row(shape: Any) -> None:
    matrix = np.arange(9.0).reshape(3, 3)
    w = matrix.reshape(shape)
    for call in (conv1x1, lambda x, w: conv1x1(x, w.tolist())):
        with pytest.raises(ValueError, match=r"for 3 filters, pass .*3, 3") as info:
            call(X, w)
        assert np.array_equal(conv1x1(X, **as_arguments(info, w)), conv1x1(X, matrix))


@pytest.mark.parametrize("shape", [(12, 1), (1, 12), (12, 1, 1, 1)], ids=str)
def test_twelve_numbers_in_any_row(shape: Any) -> None:
    affine = np.arange(12.0).reshape(3, 4)
    with pytest.raises(ValueError, match="for 3 filters, each with its bias") as info:
        conv1x1(X, affine.reshape(shape))
    call = str(info.value).partition("pass ")[2].partition(";")[0]
    arguments = eval(f"dict(w={call})", {"w": affine.reshape(shape)})
    assert np.array_equal(conv1x1(X, **arguments), conv1x1(X, affine[:, :-1], affine[:, -1]))


def test_an_affine_matrix_of_numpys_matrix_type() -> None:
    affine = np.arange(8.0).reshape(2, 4)
    w = affine.view(np.matrix)
    with pytest.raises(ValueError, match="for 2 filters and their bias in the last column") as info:
        conv1x1(X[..., :3], w)
    assert np.array_equal(conv1x1(X, **as_arguments(info, w)), conv1x1(X, affine[:, :-1], affine[:, -1]))


def test_advice_between_integers() -> None:
    """No number wraps around by it."""
    w = np.ones((1, 3), np.int8)
    for x, y in (([[1, 2, 3]], 6), (np.array([[-1, 2, 3]], np.int16), 4), (np.array([[200, 2, 3]], ">u2"), 205)):
        with pytest.raises(TypeError, match=r"pass np.asarray\(x, np.u?int8\)") as info:
            conv1x1_integer(x, w)
        assert conv1x1_integer(eval(advised(info), {"np": np, "x": x}), w) == y
    for x in (np.array([[256, 1, 1]]), np.array([[-1, 200, 1]])):
        with pytest.raises(TypeError, match=r"beyond eight bits; quantised pixels are int8 or uint8$"):
            conv1x1_integer(x, w)
    with pytest.raises(TypeError, match="not its weights") as info:
        conv1x1_integer(w.view(np.uint8), Layer(w, [1]))
    assert advised(info) == "w.weight"


def test_advice_for_the_numbers_of_a_quantised_layer() -> None:
    rest = {"x_scale": 0.5, "w_scale": 0.25, "w_zero_point": 0, "y_scale": 1.0, "y_zero_point": np.uint8(0)}
    with pytest.raises(TypeError, match=r"pass np\.rint") as info:
        QConv1x1(W.astype(np.int8), [0.5, 1, 2, 3.0], x_zero_point=np.uint8(0), **rest)
    bias = eval(advised(info), {"np": np, "bias": [0.5, 1, 2, 3.0], **rest})
    layer = QConv1x1(W.astype(np.int8), bias, x_zero_point=np.uint8(0), **rest)
    assert layer.bias.tolist() == [4, 8, 16, 24]
    for method in (layer.quantize, layer.dequantize):
        for kind in ("objects", "text of numbers", "sparse", "a struct"):
            given = ADVISED[kind](None)
            with pytest.raises(TypeError, match=r"numbers are expected, .*: pass [xy]") as info:
                method(given)
            better = eval(advised(info), {"np": np, "x": given, "y": given})
            assert np.array_equal(method(better), method(X[0]))
