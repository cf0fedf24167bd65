"""Objects that people have: what lies in memory is read there, and for all else the advice is a call that works."""

from __future__ import annotations

import importlib.util
from typing import Any

import numpy as np
import pytest

from conv1x1 import Conv1x1, QConv1x1, conv1x1, conv1x1_integer, explain, reference

X = np.arange(105, dtype=np.float32).reshape(5, 7, 3)
W = np.arange(12, dtype=np.float32).reshape(4, 3)


def layer_function(x: Any, w: Any, bias: Any = None, residual: Any = None, out: Any = None, **options: Any) -> Any:
    return Conv1x1(w, bias, **options)(x, residual, out)


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
    arguments = 0.5, np.uint8(0), w, Tensor(np.full(4, 0.25)), 0, 1.0, np.uint8(0), Tensor(np.ones(4, np.int32))
    layer = QConv1x1(*arguments)
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
    if view.flags.writeable:
        conv1x1(X, W, out=view)
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
