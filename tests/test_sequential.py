"""A chain gives the bits of its elements, one after another; it never changes; and what does not fit is said."""

from __future__ import annotations

import copy
import inspect
import itertools
import pickle
import threading
import weakref
from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

import conv1x1 as c11
from conv1x1 import ArgMax, Conv1x1, LayerNorm, Pool, QConv1x1, Sequential, Softmax, reference

ACTIVATIONS = [None, "relu", "relu6", "leaky_relu", "hardswish", "sigmoid", "silu", "tanh", "gelu", ("clip", -0.5, 2.0)]
TYPES = ["float16", "float32", "float64", "uint8", "int8", "uint16", "int32", "uint32", "int64", "bool", "bfloat16"]
WIDE = ("float64", "complex128", "int32", "uint32", "int64", "uint64")


def numbers(shape: tuple[int, ...], dtype: Any = np.float32, seed: int = 0) -> Any:
    drawn = np.random.default_rng([seed, *shape]).normal(size=shape)
    dtype = np.dtype(dtype)
    if dtype.kind == "c":
        return (drawn + 1j * drawn[::-1]).astype(dtype)
    return (drawn * 40).astype(np.int64).astype(dtype) if dtype.kind in "iub" else drawn.astype(dtype)


def weights(k: int, c: int, seed: int = 0, dtype: Any = np.float32) -> Any:
    return (numbers((k, c), seed=seed) / c**0.5).astype(dtype)


def sums(x: Any) -> np.dtype[Any]:
    return np.dtype(np.float64 if x.dtype.name in WIDE else np.float32)


def remade(layer: Any, dtype: Any, axis: int) -> Any:
    more = {n: getattr(layer, n) for n in ("stride", "groups", "activation", "center")}
    return Conv1x1(layer.weight, layer.bias, channel_axis=axis, dtype=dtype, **more)


def one_by_one(net: Any, x: Any, out: Any = None, residual: Any = None) -> Any:
    """The definition: each element called with what the one before gave."""
    between, given = sums(x), x
    for i, element in enumerate(net):
        last = i == len(net) - 1
        added = x if net.skip and last else None
        if isinstance(element, Sequential):
            assert not last
            given = one_by_one(element, given, np.empty(given.shape, between))
        elif isinstance(element, ArgMax):
            index = np.asarray(given.argmax(net.channel_axis))
            labels = np.arange(given.shape[net.channel_axis], dtype=np.uint8)
            given = np.asarray((labels if element.labels is None else element.labels)[index])
        elif last:
            rule = x.dtype if x.dtype.kind not in "biu" else between
            result = None if out is not None else element.dtype or (rule if len(net) > 1 else None)
            given = remade(element, result, net.channel_axis)(given, out=out, residual=added)
        else:
            given = remade(element, element.dtype or between, net.channel_axis)(given)
    return given


def same(a: Any, b: Any) -> bool:
    return a.shape == b.shape and a.dtype == b.dtype and a.tobytes() == b.tobytes()


@st.composite
def chains(draw: Any) -> Any:
    """Elements, their channels, and an axis."""
    rank = draw(st.integers(1, 4))
    axis = draw(st.integers(-rank, rank - 1))
    width = first = draw(st.integers(1, 40))
    elements: list[Any] = []
    for i in range(draw(st.integers(1, 4))):
        groups = draw(st.sampled_from([g for g in (1, 2, 3) if width % g == 0]))
        filters = groups * draw(st.integers(1, 20))
        w = weights(filters, width // groups, seed=i)
        bias = numbers((filters,), seed=i) if draw(st.booleans()) else None
        stride = draw(st.sampled_from([1, 2])) if i == 0 else 1
        center = numbers((width,), seed=i) if draw(st.booleans()) else None
        options = {
            "center": center,
            "groups": groups,
            "activation": draw(st.sampled_from(ACTIVATIONS)),
            "stride": stride,
        }
        elements.append(Conv1x1(w, bias, channel_axis=draw(st.sampled_from([axis, 0])), **options))
        width = filters
    if draw(st.booleans()):
        block = [Conv1x1(weights(5, width)), Conv1x1(weights(width, 5), activation="relu")]
        elements.insert(len(elements), Sequential(block, skip=True))
        elements.append(Conv1x1(weights(3, width)))
        width = 3
    if draw(st.booleans()):
        labels = draw(st.sampled_from([None, np.arange(width, dtype=np.int16) - 3]))
        elements.append(ArgMax(labels))
    shape = list(draw(st.lists(st.sampled_from([1, 2, 5, 9]), min_size=rank, max_size=rank)))
    shape[axis] = first
    return elements, axis, tuple(shape)


@given(chains(), st.sampled_from(TYPES), st.randoms(use_true_random=False))
@settings(max_examples=120)
def test_the_bits_of_the_elements_one_after_another(chain: Any, name: str, random: Any) -> None:
    elements, axis, shape = chain
    dtype: Any = pytest.importorskip("ml_dtypes").bfloat16 if name == "bfloat16" else name
    x = numbers(shape, dtype)
    x = x.transpose(order := random.sample(range(x.ndim), x.ndim)).copy().transpose(np.argsort(order))
    net = Sequential(elements, channel_axis=axis)
    expected = one_by_one(net, x)
    y = net(x)
    assert same(y, expected), (net, x.shape, x.dtype)
    filters = np.zeros((y.shape[axis], x.shape[axis]) if y.ndim == x.ndim else x.shape[axis], np.float32)
    one = Conv1x1(filters, channel_axis=axis, stride=elements[0].stride, dtype="float32")
    assert [4 * n for n in y.strides] == [y.itemsize * n for n in one(x).strides]
    out = np.empty((*y.shape, 2), y.dtype)[..., 0]
    assert net(x, out=out, threads=2) is out
    assert same(out, expected)


@pytest.mark.parametrize("strip", [1, 1000, 9999])
@pytest.mark.parametrize("axis", [-1, 0, 1])
@pytest.mark.parametrize("stride", [1, 2, (3, 2, 1)])
def test_no_bit_depends_on_strips(monkeypatch: pytest.MonkeyPatch, strip: int, axis: int, stride: Any) -> None:
    net = mlp(axis, stride=stride)
    x = np.moveaxis(numbers((5, 6, 7, 13), np.uint16), -1, axis)
    expected = net(x)
    monkeypatch.setattr("conv1x1.strips._STRIP", strip)
    assert same(net(x), expected)
    assert net(x).strides == expected.strides


def mlp(axis: int = -1, **more: Any) -> Any:
    first = Conv1x1(weights(32, 13), numbers((32,)), channel_axis=axis, activation="relu", **more)
    return Sequential([first, Conv1x1(weights(8, 32), channel_axis=axis, activation="gelu")])


@pytest.mark.parametrize("x_type", ["float32", "float16", "uint16", "float64", "int64"])
@pytest.mark.parametrize("out_type", ["float64", "float32", "float16", "uint8", "int32", ">f4"])
def test_out_decides_the_type(x_type: str, out_type: str) -> None:
    net, x = mlp(), numbers((4, 5, 13), x_type)
    out, expected = np.empty((4, 5, 8), out_type), np.empty((4, 5, 8), out_type)
    one_by_one(net, x, expected)
    assert net(x, out=out) is out
    assert same(out, expected)


def test_elements_with_a_dtype_of_their_own() -> None:
    x = numbers((6, 13))
    rounds = Conv1x1(weights(9, 13) * 100, dtype=np.int16)
    net = Sequential([rounds, Conv1x1(weights(2, 9), dtype=np.float64)])
    assert same(net(x), net[1](rounds(x)))
    with pytest.raises(TypeError, match="out has dtype float32, but dtype=float64 was asked for"):
        net(x, out=np.empty((6, 2), np.float32))


@pytest.mark.parametrize("parts", ["x", "weights"])
def test_complex_numbers(parts: str) -> None:
    w = weights(4, 6) * (1 + 2j if parts == "weights" else 1)
    net = Sequential([Conv1x1(weights(6, 3)), Conv1x1(w), Conv1x1(weights(2, 4))])
    x = numbers((5, 3), np.complex64 if parts == "x" else np.float32)
    assert same(net(x), net[2](net[1](net[0](x))))
    for wrong in (Sequential([*net, ArgMax()]), Sequential([*net, Conv1x1(weights(2, 2), activation="relu")])):
        with pytest.raises(TypeError, match=r"real numbers.*complex"):
            wrong(x)


def test_a_chain_of_one_layer_is_that_layer() -> None:
    layer = Conv1x1(np.arange(6).reshape(2, 3), [1, 2], activation="relu")
    x = np.arange(12, dtype=np.uint8).reshape(4, 3)
    assert same(Sequential([layer])(x), layer(x))
    assert Sequential([layer])(x).dtype == np.int32
    assert Sequential([layer, Conv1x1([[1, 1]])])(x).dtype == np.float32


def test_integers_in_a_chain() -> None:
    x = np.full((2, 3), 255, np.uint8)
    net = Sequential([Conv1x1(np.full((2, 3), 100, np.int8)), Conv1x1([[0.5, 0.25]])])
    assert net(x).tolist() == [[57375.0], [57375.0]]
    assert net(x.astype(np.int64)).dtype == np.float64


def test_a_vector_of_weights_at_the_end() -> None:
    net, x = Sequential([Conv1x1(weights(5, 3)), Conv1x1(numbers((5,)))]), numbers((4, 6, 3))
    assert same(net(x), net[1](net[0](x)))
    assert net(x).shape == (4, 6)
    assert net.out_channels == 1


# ------------------------------------------------------------------------------------------------------- skip


@pytest.mark.parametrize("dtype", ["float32", "float16", "uint8", "float64"])
def test_skip_adds_x_before_the_activation(dtype: str) -> None:
    layers = [Conv1x1(weights(20, 6), activation="gelu"), Conv1x1(weights(6, 20), numbers((6,)), activation="relu")]
    net, x = Sequential(layers, skip=True), numbers((5, 4, 6), dtype)
    assert same(net(x), one_by_one(net, x))
    middle = np.empty((5, 4, 20), sums(x))
    layers[0](x, out=middle)
    expected = np.empty((5, 4, 6), x.dtype if x.dtype.kind == "f" else np.float32)
    assert same(net(x), layers[1](middle, residual=x, out=expected))
    assert same(
        Sequential([net, Conv1x1(weights(2, 6)), ArgMax()])(x),
        Sequential([net, Conv1x1(weights(2, 6))])(x).argmax(-1).astype("u1"),
    )


def test_skip_over_a_nested_chain_and_one_inside() -> None:
    inner = Sequential([Conv1x1(weights(4, 6)), Conv1x1(weights(6, 4))])
    x = numbers((7, 6))
    assert same(Sequential([inner], skip=True)(x), Sequential([*inner], skip=True)(x))
    block = Sequential([*inner], skip=True)
    twice = Sequential([block, block])
    assert same(twice(x), block(block(x)))
    outer = Sequential([block, Conv1x1(weights(6, 6))], skip=True)
    assert same(outer(x), outer[1](block(x), residual=x))


# -------------------------------------------------------------------------------------------------- quantised


def quantised(*widths: int, types: str = "u8", axis: int = -1) -> Any:
    layers = []
    for i, (c, k) in enumerate(itertools.pairwise(widths)):
        of_x = {"x_scale": 0.1 / (i + 1), "x_zero_point": np.uint8(120)}
        of_y = {"y_scale": 0.1 / (i + 2), "y_zero_point": np.uint8(120)}
        w = numbers((k, c), np.int8, seed=i)
        layers.append(QConv1x1(w, **of_x, w_scale=0.002, w_zero_point=0, **of_y, channel_axis=axis))
    return layers


@pytest.mark.parametrize("axis", [-1, 0])
def test_quantised_layers_hand_on_bytes(axis: int) -> None:
    layers = quantised(13, 32, 8, axis=axis)
    x = np.moveaxis(numbers((5, 7, 13), np.uint8), -1, axis)
    net = Sequential(layers)
    assert same(net(x), layers[1](layers[0](x)))
    assert same(Sequential([*layers, ArgMax()])(x), layers[1](layers[0](x)).argmax(axis).astype(np.uint8))
    with pytest.raises(TypeError, match="x holds float32 numbers; quantised pixels"):
        net(x.astype(np.float32))
    with pytest.raises(TypeError, match=r"out has dtype int8, expected uint8, that of y_zero_point"):
        net(x, out=np.empty(net(x).shape, np.int8))


# ------------------------------------------------------------------------------------------------------ ArgMax


@pytest.mark.parametrize(("channels", "dtype"), [(1, "uint8"), (256, "uint8"), (257, "uint16"), (65537, "int32")])
def test_the_type_of_an_index(channels: int, dtype: str) -> None:
    x = np.zeros((2, channels), np.float32)
    x[1, -1] = 1
    y = Sequential([ArgMax()])(x)
    assert (y.dtype, y.tolist()) == (dtype, [0, channels - 1])


def test_the_first_of_equals_and_nan() -> None:
    x = np.array([[1, 3, 3], [np.nan, 5, 1], [2, np.nan, np.nan], [-np.inf, -np.inf, -np.inf]], np.float32)
    assert Sequential([ArgMax()])(x).tolist() == np.argmax(x, -1).tolist() == [1, 0, 1, 0]


@pytest.mark.parametrize("dtype", ["int8", "uint16", "int64", "bool", "uint64"])
def test_labels_in_their_type(dtype: str) -> None:
    labels = np.array([3, 0, 1]).astype(dtype)
    net = Sequential([Conv1x1(np.eye(3)), ArgMax(labels)])
    y = net(np.eye(3, dtype=np.float32)[[2, 0, 1]])
    assert (y.dtype, y.tolist()) == (dtype, labels[[2, 0, 1]].tolist())
    out = np.empty(3, dtype)
    assert net(np.eye(3, dtype=np.float32), out=out) is out
    with pytest.raises(ValueError, match="read-only"):
        net[1].labels[0] = 1
    with pytest.raises(TypeError, match=r"out has dtype \S+, which does not hold all of"):
        net(np.eye(3, dtype=np.float32), out=np.empty(3, {"int8": "uint8", "bool": "S1"}.get(dtype, "int8")))


# ------------------------------------------------------------------------------------------- the definition


@given(chains(), st.sampled_from(["float16", "float32", "float64", "uint8", "int64"]))
@settings(max_examples=40)
def test_reference_is_the_same_in_float64(chain: Any, name: str) -> None:
    elements, axis, shape = chain
    net, x = Sequential(elements, channel_axis=axis), numbers(shape, name)
    y, expected = net(x), reference(x, net)
    assert y.shape == expected.shape
    assert y.strides == tuple(n * y.itemsize // expected.itemsize for n in expected.strides)
    if isinstance(elements[-1], ArgMax):
        assert y.dtype == expected.dtype
        before = reference(x, net[:-1])
        best, taken = before.max(axis), np.take_along_axis(before, np.expand_dims(reference_index(y, net), axis), axis)
        assert (np.abs(taken.squeeze(axis) - best) <= 1e-3 * (1 + np.abs(best))).all()
    else:
        assert expected.dtype in (np.float64, np.int64)
        unit = 2e-3 if name == "float16" else 1e-4
        assert (np.abs(y - expected) <= unit * (1 + np.abs(expected).max(initial=0))).all()
    out = np.empty((*y.shape, 2), "int64")[..., 1]
    assert reference(x, net, out=out) is out


def reference_index(y: Any, net: Any) -> Any:
    labels = net[-1].labels
    return (y.astype(int) if labels is None else y - labels[0]).astype(int)


def test_reference_takes_a_chain_in_either_order_and_nothing_else() -> None:
    net, x = mlp(), numbers((2, 13))
    assert same(reference(net, x), reference(x, net))  # type: ignore[arg-type]
    of_bytes = Sequential([*quantised(13, 32, 8), ArgMax()])
    pixels = numbers((4, 3, 13), np.uint8)
    assert same(reference(pixels, of_bytes), of_bytes(pixels))
    assert same(reference(pixels, of_bytes[:2], threads=2), of_bytes[:2](pixels))
    for options in ({"bias": np.zeros(8)}, {"stride": 2}, {"dtype": "float32"}, {"activation": "relu"}):
        with pytest.raises(
            TypeError, match=r"a chain has bias, channel_axis, .* of its own: write reference\(x, net\)"
        ):
            reference(x, net, **options)
    with pytest.raises(TypeError, match="got two chains"):
        reference(net, net)
    with pytest.raises(ValueError, match="the chain takes 13"):
        reference(x[:, :4], net)
    masked = np.ma.masked_less(x, 0)
    assert (reference(masked, net).mask == net(masked).mask).all()


def test_the_parameters_of_activations_are_of_the_type_of_the_sums() -> None:
    net = Sequential([Conv1x1([[1.0]], activation=("clip", 0, 0.1)), Conv1x1([[1.0]])])
    assert reference(np.ones((1, 1), np.float32), net).item() == float(np.float32(0.1))
    assert reference(np.ones((1, 1)), net).item() == 0.1


# ------------------------------------------------------------------------------------------------- what does not fit

L34 = Conv1x1(weights(4, 3))
REFUSED: dict[str, tuple[Any, dict[str, Any], type[Exception], str]] = {
    "no elements": ([], {}, ValueError, r"needs at least one element, got none: Sequential\(\[Conv1x1\(w"),
    "widths": (
        [L34, L34],
        {},
        ValueError,
        r"element 1, <Conv1x1 3 → 4.*>, expects 3 channels and gets 4 from element 0, <Conv1x1 3 → 4.*: make element 0 "
        "with 3 filters, or element 1 with weights for 4 channels",
    ),
    "widths in a chain": (
        [Sequential([L34]), L34],
        {},
        ValueError,
        r"element 1, .* gets 4 from element 0, Sequential 3 → 4",
    ),
    "labels": (
        [L34, ArgMax([1, 2])],
        {},
        ValueError,
        r"element 1, ArgMax\(labels=\[1, 2\]\), expects 2 channels and gets 4",
    ),
    "a stride inside": (
        [L34, Conv1x1(weights(2, 4), stride=2)],
        {},
        ValueError,
        "element 1, .* has stride=2, which only the first may have: give the stride to element 0",
    ),
    "ArgMax inside": (
        [ArgMax(), L34],
        {},
        ValueError,
        r"element 0, ArgMax\(\), drops the channel axis.*put it at the end",
    ),
    "ArgMax in a chain": (
        [Sequential([L34, ArgMax()]), ArgMax()],
        {},
        ValueError,
        r"has ArgMax\(\) inside, which drops",
    ),
    "a vector inside": ([Conv1x1([1.0, 2.0]), L34], {}, ValueError, r"element 0.*drops the channel axis: .*w\[None\]"),
    "axes": (
        [L34, Conv1x1(weights(2, 4), channel_axis=1)],
        {},
        ValueError,
        "element 1, .* has channel_axis=1, and element 0, .*, -1: pass channel_axis=-1 or channel_axis=1",
    ),
    "mixed": (
        [Conv1x1(weights(13, 3)), *quantised(13, 4)],
        {},
        TypeError,
        "element 1.*takes bytes, and gets floats from element 0.*from_float",
    ),
    "mixed the other way": (
        [*quantised(13, 4), Conv1x1(weights(2, 4))],
        {},
        TypeError,
        "element 1.*takes pixels of floats, and gets bytes",
    ),
    "skip over other channels": (
        [L34],
        {"skip": True},
        ValueError,
        "they have 3 channels, and element 0, .* gives 4: leave skip out, or",
    ),
    "skip over a stride": (
        [Conv1x1(weights(3, 3), stride=2)],
        {"skip": True},
        ValueError,
        "leaves some out by stride=2: leave skip out",
    ),
    "skip without layers": ([ArgMax()], {"skip": True}, ValueError, "but there is none: leave skip out"),
    "skip of bytes": (quantised(4, 4), {"skip": True}, TypeError, "which quantised ones cannot take: leave skip out"),
    "skip twice": (
        [Sequential([Conv1x1(weights(3, 3))], skip=True)],
        {"skip": True},
        ValueError,
        "adds its own already",
    ),
    "skip of a vector": ([Conv1x1([1.0])], {"skip": True}, ValueError, r"give the weights as w\[None\], or leave skip"),
    "no list": (3, {}, TypeError, r"takes a list of elements, got 3: pass \[Conv1x1"),
    "a layer": (L34, {}, TypeError, r"got <Conv1x1 3 → 4.*: pass a list of it, \[element\]"),
    "a matrix": ([weights(4, 3)], {}, TypeError, r"element 0 is array.*pass Conv1x1\(elements\[0\]\)"),
    "an activation": ([L34, "relu"], {}, TypeError, r"element 1 is 'relu'; .*activation=\"relu\""),
    "a function": ([L34, np.tanh], {}, TypeError, r"element 1 is <ufunc 'tanh'>; .*activation=\"relu\""),
    "a class": ([L34, ArgMax], {}, TypeError, r"element 1 is <class .*write ArgMax\(…\)"),
    "skip": ([L34], {"skip": 1}, TypeError, "skip must be True or False, got 1"),
    "axis": ([L34], {"channel_axis": "last"}, TypeError, "channel_axis must be an int, got 'last'"),
    "few names": ([L34], {"band_names": ["a"]}, ValueError, "band_names has 1 names, expected 3"),
    "no names": ([L34], {"class_names": "water"}, TypeError, "class_names must be a list of names"),
    "numbers for names": ([L34], {"class_names": [1, 2, 3, 4]}, TypeError, r"pass list\(map\(str, class_names\)\)"),
}


@pytest.mark.parametrize("case", REFUSED)
def test_what_does_not_fit_is_refused(case: str) -> None:
    elements, options, error, says = REFUSED[case]
    with pytest.raises(error, match=says):
        Sequential(elements, **options)


def test_bytes_of_another_type() -> None:
    (first,), (second,) = quantised(3, 4), quantised(4, 5)
    options = {n: getattr(second, n) for n in ("x_scale", "w_scale", "w_zero_point", "y_scale", "y_zero_point")}
    other = QConv1x1(second.weight, x_zero_point=np.int8(3), **options)
    with pytest.raises(TypeError, match=r"element 1.*takes int8, and gets uint8.*x_zero_point=np.uint8\(…\), or"):
        Sequential([first, other])


def test_elements_one_by_one_as_in_torch() -> None:
    with pytest.raises(TypeError, match=r"takes one list of elements, got 2 arguments .*Sequential\(\[first, second"):
        Sequential(L34, ArgMax())  # type: ignore[misc,arg-type]


def test_a_given_axis_is_that_of_all() -> None:
    x = numbers((3, 4, 5))
    net = Sequential(
        [L34, Conv1x1(weights(2, 4), channel_axis=2), Sequential([Conv1x1(weights(2, 2))])], channel_axis=0
    )
    assert [e.channel_axis for e in net] == [0, 0, 0]
    assert same(net(x), net[2](net[1](net[0](x))))
    assert L34.channel_axis == -1
    for layer in quantised(13, 4):
        assert Sequential([layer], channel_axis=0)[0](np.zeros((13, 2), np.uint8)).shape == (4, 2)
    outer = Sequential([Conv1x1(weights(3, 3), channel_axis=0), Sequential([ArgMax()])])
    assert outer(x).shape == (4, 5)


@pytest.mark.parametrize(
    ("x", "options", "error", "says"),
    [
        (
            np.zeros((4, 12), "f4"),
            {},
            ValueError,
            r"has 12 channels on axis 1 \(channel_axis=-1\), but the chain takes 13",
        ),
        (np.zeros((13, 4), "f4"), {}, ValueError, "axis 0 has 13: pass channel_axis=0"),
        ("photo.png", {}, TypeError, "x"),
        (np.zeros((4, 13), "f4"), {"out": [1]}, TypeError, "out must be a NumPy array"),
        (
            np.zeros((4, 13), "f4"),
            {"out": np.zeros((4, 7), "f4")},
            ValueError,
            r"out has shape \(4, 7\), expected \(4, 8\)",
        ),
        (np.zeros((4, 13), "f4"), {"threads": 0}, ValueError, "threads must be ≥ 1"),
        (np.zeros((4, 13), "f4"), {"residual": 1}, TypeError, "residual"),
    ],
)
def test_calls_that_do_not_fit(x: Any, options: Any, error: Any, says: str) -> None:
    with pytest.raises(error, match=says):
        mlp()(x, **options)


def test_names_are_kept_and_compared() -> None:
    class Bands:
        """As much of a table of pandas as is asked for."""

        def __init__(self, *columns: str) -> None:
            self.columns = columns

        def __array__(self, *_: Any, **__: Any) -> Any:
            return numbers((4, 3))

    net = Sequential([L34, ArgMax()], band_names=["red", "green", "blue"], class_names=["a", "b", "c", "d"])
    again = pickle.loads(pickle.dumps(net))
    assert again.band_names == ("red", "green", "blue")
    assert again.class_names == ("a", "b", "c", "d")
    assert same(net(Bands("red", "green", "blue")), net(numbers((4, 3))))
    with pytest.raises(ValueError, match="x names band 1 'blue', and the chain was made for 'green' there"):
        net(Bands("red", "blue", "green"))


# ------------------------------------------------------------------------------------------- what a chain is


def test_it_is_a_sequence_of_its_elements() -> None:
    net = Sequential([L34, Sequential([Conv1x1(weights(4, 4))], skip=True), ArgMax()])
    assert (len(net), [*net], net[0], net[-1]) == (3, [net[0], net[1], net[2]], L34, net[2])
    assert isinstance(net[:2], Sequential)
    assert (net[:2].in_channels, net[:2].out_channels, len(net[:2])) == (3, 4, 2)
    assert net[1][:].skip
    assert (net.in_channels, net.out_channels, net.channel_axis, net.skip) == (3, 1, -1, False)
    assert Sequential([ArgMax()]).in_channels is None
    assert Sequential(e for e in net)(numbers((5, 3))).tolist() == net(numbers((5, 3))).tolist()
    with pytest.raises(IndexError):
        net[3]
    with pytest.raises(ValueError, match="at least one element"):
        net[3:]


def test_it_never_changes() -> None:
    net, x = Sequential([L34, ArgMax([1, 2, 3, 4])]), numbers((5, 3))
    before = net(x)
    for name in dir(net):
        if name.startswith("__"):
            continue
        with pytest.raises(AttributeError):
            setattr(net, name, None)
        with pytest.raises(AttributeError):
            delattr(net, name)
    for element in net:
        for name in ("labels", "weight", "_made"):
            with pytest.raises(AttributeError):
                setattr(element, name, None)
    elements = [L34, ArgMax()]
    kept = Sequential(elements)
    elements.pop()
    assert len(kept) == 2
    assert same(net(x), before)
    assert weakref.ref(net)() is net
    assert len({net, pickle.loads(pickle.dumps(net)), net}) == 2


class Named(Sequential):
    """A subclass with something of its own."""

    def __init__(self, elements: Any, name: str = "") -> None:
        self.name = name

    def __new__(cls, elements: Any, name: str = "") -> Any:
        return super().__new__(cls, elements)


TRIPS: list[Any] = [copy.copy, copy.deepcopy]
TRIPS += [lambda v, p=p: pickle.loads(pickle.dumps(v, p)) for p in range(pickle.HIGHEST_PROTOCOL + 1)]


@pytest.mark.parametrize("trip", TRIPS)
def test_it_travels(trip: Any) -> None:
    net = Sequential([L34, Sequential([Conv1x1(weights(4, 4))], skip=True), ArgMax([5, 6, 7, 8])], channel_axis=1)
    x = numbers((2, 3, 4))
    again = trip(net)
    assert (repr(again), again.channel_axis) == (repr(net), 1)
    assert same(again(x), net(x))
    assert same(
        trip(Sequential(quantised(13, 4)))(np.ones((2, 13), "u1")), Sequential(quantised(13, 4))(np.ones((2, 13), "u1"))
    )
    named = trip(Named([L34], "grey"))
    assert (type(named), named.name) == (Named, "grey")
    with pytest.raises(ValueError, match=r"the pickle of a layer has form 7"):
        net.__reduce__()[0](7, Sequential, (), {})


def test_pickles_hold_nothing_that_runs() -> None:
    import pickletools

    net = Sequential([L34, Sequential([Conv1x1(weights(4, 4))]), ArgMax([5, 6, 7, 8])], class_names=list("abcd"))
    text = pickle.dumps(net, 2)
    named = {a for op, a, _ in pickletools.genops(text) if op.name == "GLOBAL"}
    assert named == {
        "_codecs encode",
        "conv1x1 ArgMax",
        "conv1x1 Conv1x1",
        "conv1x1 Sequential",
        "conv1x1.layers _rebuilt",
        "conv1x1.sequential _rebuilt",
        "conv1x1.sequential _rebuilt_step",
    }


@pytest.mark.parametrize("step", [LayerNorm(4, bias=[1, 2, 3, 4]), Softmax(), ArgMax([5, 6, 7, 8]), Pool("max", 0)])
def test_pickles_that_name_the_file_load(step: Any) -> None:
    name = type(step).__name__.encode()
    public, older = b"cconv1x1\n" + name, b"cconv1x1.sequential\n" + name
    text = pickle.dumps(step, 2)
    assert public in text
    read = pickle.loads(text.replace(public, older))
    assert (type(read), repr(read)) == (type(step), repr(step))


def test_many_threads() -> None:
    net, x = mlp(), numbers((300, 13))
    expected, found = net(x), []
    threads = [threading.Thread(target=lambda: found.extend(same(net(x), expected) for _ in range(20))) for _ in "123"]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert found == [True] * 60


def test_a_table_of_it() -> None:
    block = Sequential([Conv1x1(weights(8, 8), groups=1, activation=("clip", 0, 1))], skip=True)
    first = Conv1x1(weights(8, 6), numbers((8,)), groups=2, stride=2)
    net = Sequential([first, block, ArgMax()], channel_axis=1)
    assert repr(net).split("\n") == [
        "Sequential 12 → one of 8, channel_axis=1",
        "  element                          channels   activation   parameters   FLOPs a pixel",
        "  0  Conv1x1, stride=2, groups=2   12 → 8                          56              96",
        "  1  Sequential, skip                                               0               0",
        "  1.0  Conv1x1                     8 → 8      clip(0, 1)           64             128",
        "  2  ArgMax                        8                                0               8",
        "  sum                                                             120             232",
    ]


def test_signatures() -> None:
    assert [*inspect.signature(mlp()).parameters] == ["x", "out", "threads"]
    assert [*inspect.signature(Sequential).parameters][:3] == ["elements", "skip", "channel_axis"]
    assert {"ArgMax", "Sequential"} < {*dir(c11)}


def test_it_is_imported_when_it_is_asked_for(fresh_python: Any) -> None:
    code = "import sys, conv1x1; print('conv1x1.sequential' in sys.modules); conv1x1.Sequential; from conv1x1 import *"
    run = fresh_python(f"{code}; print(Sequential.__module__)")
    assert (run.stdout.split(), run.stderr) == (["False", "conv1x1"], "")


# ------------------------------------------------------------------------------------------------------- arrays


def test_out_may_overlap_x() -> None:
    net = Sequential([Conv1x1(weights(5, 4)), Conv1x1(weights(4, 5))], skip=True)
    buffer = numbers((50, 4))
    expected = net(buffer[:40].copy())
    assert net(buffer[:40], out=buffer[10:]).tobytes() == expected.tobytes()


def test_masked_arrays() -> None:
    x = np.ma.masked_less(numbers((6, 7, 13)), -2)
    y = mlp()(x)
    assert (y.mask == x.mask.any(-1, keepdims=True)).all()
    assert y.data.tobytes() == mlp()(x.data).tobytes()
    labels = Sequential([*mlp(), ArgMax()])(x)
    assert (labels.mask == x.mask.any(-1)).all()


def test_nothing_and_little() -> None:
    for shape in ((0, 13), (3, 0, 13), (1, 13), (13,)):
        assert mlp()(numbers(shape)).shape == (*shape[:-1], 8)
    assert Sequential([*mlp(), ArgMax()])(numbers((13,))).shape == ()
    assert (
        Sequential([Conv1x1(np.ones((3, 0))), Conv1x1(np.ones((2, 3)))])(np.ones((4, 0), "f4")).tolist() == [[0, 0]] * 4
    )


def test_the_plan_of_each_element() -> None:
    plan = mlp().plan(np.empty((200, 300, 13), np.uint16))
    assert [p["kernel"].split("_")[0] for p in plan["elements"]]
    assert [p["arithmetic"] for p in plan["elements"]] == ["float32", "float32"]


# ------------------------------------------------------------------------- softmax, layer norm, pools between layers


def dense(k: int, c: int, **more: Any) -> Any:
    return Conv1x1(weights(k, c), numbers((k,)), **more)


STEPS: dict[str, Any] = {
    "softmax": lambda: [dense(9, 6), Softmax()],
    "softmax of x": lambda: [Softmax(), dense(4, 6)],
    "norm": lambda: [
        LayerNorm(6, numbers((6,)), np.arange(6), eps=1e-6),
        dense(12, 6, activation="gelu"),
        dense(6, 12),
    ],
    "norm alone": lambda: [LayerNorm(6)],
    "labels": lambda: [dense(5, 6), Softmax(), ArgMax([1, 2, 3, 4, 500])],
    "mean": lambda: [dense(40, 6, activation="relu"), Pool("mean")],
    "largest of x": lambda: [Pool("max", axes=(0, 2))],
    "sum, and a head": lambda: [Pool("sum"), dense(3, 6, activation="tanh"), LayerNorm(3, bias=[1.0, 2, 3]), Softmax()],
    "head with a block": lambda: [
        dense(7, 6),
        Pool("mean", axes=(-2, 1)),
        Sequential([LayerNorm(7), dense(9, 7), dense(7, 9)], skip=True),
        ArgMax(),
    ],
}


def pooled_axes(net: Any) -> Any:
    return next((e.axes for e in net if isinstance(e, Pool)), ())


def in_place_of(net: Any, axis: int) -> Any:
    """The same chain for an x whose channels, last of four axes, were moved to `axis`, which is not 0 … 2."""
    to = [i for i in range(4) if i != axis % 4]
    pools = {id(e): Pool(e.kind, tuple(to[a % 4] for a in e.axes)) for e in net if isinstance(e, Pool) and e.axes}
    return Sequential([pools.get(id(e), e) for e in net], skip=net.skip, channel_axis=axis)


@pytest.fixture(params=STEPS)
def steps(request: pytest.FixtureRequest) -> Any:
    return Sequential(STEPS[request.param]())


@pytest.mark.parametrize("dtype", ["float32", "float64", "float16", "uint8", "int64"])
def test_steps_are_near_the_definition(steps: Any, dtype: str) -> None:
    x = numbers((3, 5, 70, 6), dtype)
    y, expected = steps(x), reference(x, steps)
    assert y.shape == expected.shape
    assert y.dtype == (expected.dtype if isinstance(steps[-1], ArgMax) else x.dtype if x.dtype.kind == "f" else sums(x))
    if not isinstance(steps[-1], ArgMax):
        unit = {"float16": 1e-3, "float64": 1e-13}.get(dtype, 1e-5) if dtype != "int64" else 1e-13
        assert (np.abs(y - expected) <= unit * (1 + np.abs(expected).max())).all()


@pytest.mark.parametrize("axis", [0, 1, 2, -1])
def test_bits_of_steps_depend_on_nothing_but_numbers(
    steps: Any, axis: int, monkeypatch: pytest.MonkeyPatch, isa: str
) -> None:
    x = numbers((3, 5, 70, 6))
    expected = steps(x)
    net, lying = in_place_of(steps, axis), np.ascontiguousarray(np.moveaxis(x, -1, axis))
    gone = sorted(a % 4 for a in pooled_axes(net) or ([i for i in range(4) if i != axis % 4][-2:] * steps_pool(net)))
    back = axis % 4 - sum(a < axis % 4 for a in gone)
    channels_kept = expected.ndim == 4 - len(gone)
    for strip in (2**18, 100):
        monkeypatch.setattr("conv1x1.strips._STRIP", strip)
        for view in (lying, np.flip(np.flip(lying).copy()), np.asfortranarray(lying)):
            y = net(view, threads=2)
            assert same(np.ascontiguousarray(np.moveaxis(y, back, -1) if channels_kept else y), expected)


def steps_pool(net: Any) -> int:
    return any(isinstance(e, Pool) for e in net)


@pytest.mark.parametrize("axis", [-1, 0])
@pytest.mark.parametrize("dtype", ["float32", "uint16", "float64"])
def test_steps_one_after_another(axis: int, dtype: str) -> None:
    elements = [LayerNorm(6, numbers((6,))), dense(9, 6, activation="gelu"), dense(6, 9), Softmax()]
    x = np.moveaxis(numbers((4, 33, 6), dtype), -1, axis)
    between, given = sums(x), x
    for e in elements:
        given = Sequential([e], channel_axis=axis)(
            given, out=np.empty_like(given, between, shape=shape_of(e, given, axis))
        )
    assert same(Sequential(elements, channel_axis=axis)(x), given)
    residual = Sequential(elements[:-1], channel_axis=axis, skip=True)
    norm = Sequential(elements[:1], channel_axis=axis)(x, out=np.empty(x.shape, between))
    middle = remade(elements[1], between, axis)(norm)
    assert same(residual(x), remade(elements[2], between, axis)(middle, residual=x))


def shape_of(e: Any, x: Any, axis: int) -> tuple[int, ...]:
    shape = [*x.shape]
    shape[axis] = getattr(e, "out_channels", shape[axis])
    return tuple(shape)


@pytest.mark.parametrize("out_type", ["float64", "float16", "uint8", "int16", ">f4"])
def test_results_of_steps_are_rounded_as_those_of_layers(out_type: str) -> None:
    net, x = Sequential([LayerNorm(6, np.full(6, 300.0)), Softmax()][:1]), numbers((50, 6))
    out, expected = np.empty((50, 6), out_type), np.empty((50, 6), out_type)
    Conv1x1(np.eye(6))(net(x), out=expected)
    assert same(net(x, out=out), expected)
    pooled = Sequential([Pool("sum"), LayerNorm(6, np.full(6, 300.0))])
    assert pooled(x, out=np.empty(6, out_type)).dtype == out_type


def test_softmax_and_norm_at_the_edges() -> None:
    inf = np.inf
    x = np.array([[inf, 0], [-inf, -inf], [np.nan, 0], [-inf, 3], [3e38, 3e38]], np.float32)
    assert np.array_equal(Sequential([Softmax()])(x), [[np.nan] * 2] * 3 + [[0, 1], [0.5, 0.5]], equal_nan=True)
    assert Sequential([LayerNorm(3, eps=0)])(np.ones((1, 3))).tolist()[0] != [0, 0, 0]  # 0/0
    assert Sequential([LayerNorm(3)])(np.ones((1, 3))).tolist() == [[0, 0, 0]]


def test_pools_of_much_little_and_nothing() -> None:
    x = numbers((2, 70_001, 3), np.float64)
    assert np.allclose(Sequential([Pool("mean", axes=1)])(x), x.mean(1), rtol=1e-14)
    assert Sequential([Pool("max", 1)])(x).tobytes() == x.max(1).tobytes()
    assert Sequential([Pool("mean")])(numbers((5, 3))).shape == (3,)
    assert np.isnan(Sequential([Pool("mean", 0)])(np.empty((0, 3)))).all()
    assert Sequential([Pool("sum", 0)])(np.empty((0, 3))).tolist() == [0, 0, 0]
    assert Sequential([Pool("sum", 1)])(np.empty((0, 4, 3))).shape == (0, 3)
    with pytest.raises(
        ValueError, match=r"Pool\('max', axes=\(0,\)\) has no largest of no pixels: x has shape \(0, 3\)"
    ):
        Sequential([Pool("max", 0)])(np.empty((0, 3)))


@pytest.mark.parametrize("axes", [0, 1, (0, 2), (1, 2)])
@pytest.mark.parametrize("strip", [2**18, 500])
def test_pixels_that_stay_are_pooled_together(axes: Any, strip: int, monkeypatch: pytest.MonkeyPatch) -> None:
    x = numbers((12, 40, 30, 3), np.uint16)
    net = Sequential([dense(5, 3, activation="relu"), Pool("mean", axes), dense(2, 5), Softmax()])
    gone = axes if isinstance(axes, tuple) else (axes,)
    kept = [i for i in range(3) if i not in gone]
    expected = net(x)
    monkeypatch.setattr("conv1x1.strips._STRIP", strip)
    assert same(net(x), expected)
    one = Sequential([net[0], Pool("mean", tuple(range(len(gone)))), *[*net][2:]])
    turned = x.transpose([*gone, *kept, 3])
    for index in np.ndindex(*(3,) * len(kept)):
        assert same(one(turned[(..., *index, slice(None))]), np.ascontiguousarray(expected[index]))
    classes = Sequential([*net, ArgMax()])(x)
    assert same(classes, expected.argmax(-1).astype(np.uint8))


def test_the_order_of_a_pool() -> None:
    """Blocks of 64 pixels, each a chain; neighbours in pairs, again and again."""
    x = numbers((1000, 2))
    blocks = [np.cumsum(x[i : i + 64], axis=0, dtype=np.float32)[-1] for i in range(0, 1000, 64)]
    while len(blocks) > 1:
        blocks = [blocks[i] + blocks[i + 1] if i + 1 < len(blocks) else blocks[i] for i in range(0, len(blocks), 2)]
    assert same(Sequential([Pool("sum")])(x), blocks[0])
    assert same(Sequential([Pool("sum")])(x.reshape(10, 100, 2)), blocks[0])


WRONG_STEPS: dict[str, tuple[Any, Any]] = {
    "weight": (lambda: LayerNorm(3, [1.0, 2]), r"weight has shape \(2,\), expected \(3,\), one number a channel"),
    "column": (lambda: LayerNorm(3, np.ones((3, 1))), r"pass np.ravel\(weight\)"),
    "weights first": (lambda: LayerNorm(np.ones(3)), r"number of channels first: LayerNorm\(len\(weight\), weight"),
    "channels": (lambda: LayerNorm(0), "channels must be ≥ 1, got 0"),
    "eps": (lambda: LayerNorm(3, eps=-1), "eps must be ≥ 0 and finite, got -1"),
    "text": (lambda: LayerNorm(3, eps="small"), "eps must be a number ≥ 0, got 'small'"),
    "complex": (lambda: LayerNorm(3, [1j, 0, 0]), "weight must hold real numbers, got complex128"),
    "kind": (lambda: Pool("avg"), "Pool takes 'mean', 'max', 'sum', got 'avg': write \"mean\""),
    "axes": (lambda: Pool("max", "rows"), "axes must hold ints, axes of x, got 'rows'"),
    "no axes": (lambda: Pool("max", ()), "axes is empty: leave it out for the last two"),
    "two pools": (lambda: Sequential([Pool("max"), Pool("max")]), "element 1, .* pools the pixels once more"),
    "skip over a pool": (
        lambda: Sequential([Pool("max"), dense(3, 3)], skip=True),
        "but a Pool has taken some away before element 1",
    ),
    "width": (lambda: Sequential([dense(4, 3), LayerNorm(3)]), r"LayerNorm\(3, eps=1e-05\), expects 3 .* gets 4"),
    "bytes": (lambda: Sequential([*quantised(3, 4), Softmax()]), "takes pixels of floats, and gets bytes"),
    "a stride": (
        lambda: Sequential([LayerNorm(3), dense(3, 3, stride=2)]),
        r"only the first may have: make it without, and stride the pixels before the call, as in net\(x\[:, ::2, ::2\]",
    ),
}


@pytest.mark.parametrize("case", WRONG_STEPS)
def test_steps_that_do_not_fit(case: str) -> None:
    made, says = WRONG_STEPS[case]
    with pytest.raises((TypeError, ValueError), match=says):
        made()


@pytest.mark.parametrize(
    ("pool", "shape", "says"),
    [
        (Pool("mean"), (3,), r"takes axes of pixels away, but x of shape \(3,\) has the channels alone"),
        (Pool("mean", 2), (4, 3), r"takes axis 2 away, but x of shape \(4, 3\) has 2 axes"),
        (Pool("mean", (0, -1)), (4, 5, 3), "that is the one of the channels: axes of pixels are 0, 1"),
        (Pool("mean", (0, -3)), (4, 5, 3), "that is one of them twice"),
    ],
)
def test_axes_that_x_does_not_have(pool: Any, shape: tuple[int, ...], says: str) -> None:
    with pytest.raises(ValueError, match=says):
        Sequential([pool])(np.zeros(shape, np.float32))


def test_steps_refuse_masks_where_all_pixels_count_and_complex_numbers() -> None:
    with pytest.raises(TypeError, match=r"x is a masked array, and a Pool takes all pixels: pass x.filled"):
        Sequential([Pool("mean")])(np.ma.zeros((3, 4)))
    for step in (Softmax(), LayerNorm(3), Pool("sum")):
        with pytest.raises(TypeError, match="is a function of real numbers, but complex128"):
            Sequential([step])(np.zeros((2, 3), complex))
    masked = np.ma.masked_less(numbers((4, 3)), 0)
    assert (Sequential([Softmax()])(masked).mask == masked.mask.any(-1, keepdims=True)).all()


@pytest.mark.parametrize("trip", TRIPS)
def test_steps_travel(trip: Any) -> None:
    net = Sequential([LayerNorm(6, numbers((6,)), eps=0.25), dense(4, 6), Softmax(), Pool("max", (0, -2)), dense(2, 4)])
    again = trip(net)
    assert repr([*again]) == repr([*net])
    assert same(again(numbers((3, 4, 6))), net(numbers((3, 4, 6))))
    for name in ("weight", "bias", "eps", "channels"):
        with pytest.raises(AttributeError):
            setattr(again[0], name, None)
    assert (again[3].kind, again[3].axes) == ("max", (0, -2))


def test_a_table_of_steps() -> None:
    net = Sequential([LayerNorm(6, np.ones(6)), dense(8, 6), Softmax(), Pool("mean"), dense(3, 8), ArgMax()])
    assert repr(net).split("\n") == [
        "Sequential 6 → one of 3",
        "  element        channels   activation   parameters   FLOPs a pixel",
        "  0  LayerNorm   6                                6              36",
        "  1  Conv1x1     6 → 8                           56              96",
        "  2  Softmax     8                                0              40",
        "  3  Pool        8                                0               8",
        "  4  Conv1x1     8 → 3                           27              48",
        "  5  ArgMax      3                                0               3",
        "  sum                                            89             231",
    ]


def test_a_step_of_a_class_of_ones_own() -> None:
    class Labels(c11.ArgMax):
        pass

    net = c11.Sequential([c11.Conv1x1(np.ones((3, 2))), Labels([5, 7, 9])])
    assert "1  Labels" in repr(net)
    assert net(np.ones((4, 2))).tolist() == [5] * 4
