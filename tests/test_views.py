"""Any array as it lies in memory: strides, overlap, alignment, no pixels at all; and never a copy of the whole."""

from __future__ import annotations

import itertools
from typing import Any, NamedTuple

import numpy as np
import pytest
from hypothesis import example, given, settings
from hypothesis import strategies as st
from numpy.lib.stride_tricks import as_strided

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

# --------------------------------------------------------------------------------------------- by hypothesis


class Lie(NamedTuple):
    """How an array lies in memory: the order of its axes, and each axis's step (in elements of a larger array)."""

    order: tuple[int, ...]
    steps: tuple[int, ...]
    offset: int  # bytes off alignment

    def empty(self, shape: tuple[int, ...], dtype: Any) -> Any:
        """An array of NaN that lies so."""
        sizes = [shape[axis] * abs(self.steps[axis]) for axis in self.order]
        count = int(np.prod(sizes))
        memory = np.empty(count * np.dtype(dtype).itemsize + self.offset, np.uint8)
        whole = np.frombuffer(memory.data, dtype, count, self.offset).reshape(sizes)
        whole[...] = np.nan
        view = whole[(..., *(slice(None, None, self.steps[axis]) for axis in self.order))]
        return view.transpose(np.argsort(self.order))

    def holding(self, a: Any) -> Any:
        view = self.empty(a.shape, a.dtype)
        view[...] = a
        return view


@st.composite
def lies(draw: Any, rank: int) -> Lie:
    steps = st.sampled_from([1, 1, 1, 2, 3, -1, -2])
    return Lie(
        tuple(draw(st.permutations(range(rank)))),
        tuple(draw(st.lists(steps, min_size=rank, max_size=rank))),
        draw(st.sampled_from([0, 0, 0, 1, 2, 4])),
    )


class Call(NamedTuple):
    shape: tuple[int, ...]
    axis: int
    groups: int
    filters: int
    stride: tuple[int, ...]
    activation: Any
    vector: bool
    x: Lie
    out: Lie
    residual: Lie | None
    still: tuple[int, ...]  # axes of x along which it repeats itself, with stride 0
    types: tuple[Any, Any, Any]


@st.composite
def calls(draw: Any) -> Call:
    rank = draw(st.integers(1, 5))
    axis = draw(st.integers(0, rank - 1))
    groups, vector = draw(st.sampled_from([1, 1, 1, 2, 3])), draw(st.booleans())
    groups = 1 if vector else groups
    shape = draw(st.lists(st.integers(1, 7), min_size=rank, max_size=rank))
    if draw(st.booleans()):
        shape[draw(st.integers(0, rank - 1))] = draw(st.sampled_from([16, 17, 33]))
    shape[axis] = groups * draw(st.sampled_from([1, 2, 3, 5, 17, 32, 35]))
    stride = draw(st.lists(st.integers(1, 3), min_size=0, max_size=rank - 1))
    out_rank = rank - vector
    dtype = st.sampled_from([np.float32, np.float32, np.float64])
    return Call(
        tuple(shape),
        axis if draw(st.booleans()) else axis - rank,
        groups,
        1 if vector else groups * draw(st.sampled_from([1, 2, 4, 5, 19])),
        tuple(stride),
        draw(st.sampled_from([None, "relu", ("clip", -9, 40), ("leaky_relu", 0.5)])),
        vector,
        draw(lies(rank)),
        draw(lies(out_rank)),
        draw(st.none() | lies(out_rank)),
        tuple(draw(st.sets(st.integers(0, rank - 1), max_size=1))),
        (draw(dtype), draw(dtype), draw(dtype)),
    )


PLAIN = Lie((0, 1, 2), (1, 1, 1), 0)
#: The stride leaves one pixel of an axis that lies outside another.
ONE_LEFT = Call((2, 16, 2), -3, 1, 2, (2,), None, False, Lie((1, 2, 0), (1, 1, 1), 0), PLAIN, None, (1,), ("f4",) * 3)


@settings(max_examples=400)
@example(call=ONE_LEFT)
@given(call=calls())
def test_any_view(exact: Any, call: Call) -> None:
    x_type, y_type, residual_type = call.types
    channels = call.shape[call.axis]
    x = exact(*(1 if i in call.still else n for i, n in enumerate(call.shape)), dtype=x_type)
    x = np.broadcast_to(call.x.holding(x), call.shape)
    w = exact(call.filters, channels // call.groups)
    bias = exact(call.filters)
    options: dict[str, Any] = {
        "channel_axis": call.axis,
        "groups": call.groups,
        "stride": call.stride or 1,
        "activation": call.activation,
    }
    w = w[0] if call.vector else w
    shape = reference(x, w, bias, **options).shape
    if call.residual is not None:
        options["residual"] = call.residual.holding(exact(*shape, dtype=residual_type))
    expected = reference(x, w, bias, **options)
    y = conv1x1(x, w, bias, **options)
    assert y.shape == expected.shape
    assert steps(y) == steps(expected)
    assert lies_as_by_numpy(y, x, call.axis) or (call.vector and call.still)  # where what is gone said where an axis is
    np.testing.assert_array_equal(y, expected)
    out = call.out.empty(shape, y_type)
    assert conv1x1(x, w, bias, **options, out=out) is out
    np.testing.assert_array_equal(out, expected)
    residual = options.pop("residual", None)
    out[...] = np.nan
    Conv1x1(w, bias, **options)(x, residual=residual, out=out)
    np.testing.assert_array_equal(out, expected)


# ---------------------------------------------------------------------------------- how the result lies in memory


def steps(a: Any) -> list[int]:
    """The strides in elements."""
    return [s // a.itemsize for s in a.strides]


def lies_as_by_numpy(y: Any, x: Any, axis: int) -> bool:
    """Whether a result of x lies where NumPy's order "K" puts it: its axes as those of a ufunc's of all of x.

    Where an axis of one element lies is nobody's concern, unless x's channels are one and become many.
    """
    axis %= x.ndim
    if y.ndim == x.ndim and x.shape[axis] == 1 != y.shape[axis]:
        return True
    shape, strides = (
        [n for i, n in enumerate(of_axes) if i != axis or y.ndim == x.ndim] for of_axes in (x.shape, x.strides)
    )
    flags = [["readonly"], ["writeonly", "allocate"]]
    made = np.nditer([as_strided(x, shape, strides), None], ["zerosize_ok"], flags, order="K").operands[1]  # type: ignore[list-item]
    order = sorted(range(y.ndim), key=made.strides.__getitem__, reverse=True)  # outermost first
    dense = np.empty([y.shape[i] for i in order], y.dtype).transpose(np.argsort(order))
    return all(s == t for s, t, n in zip(steps(y), steps(dense), y.shape, strict=True) if n > 1)


def test_result_lies_as_x(exact: Any) -> None:
    """Every order of the axes, forwards and backwards, with and without gaps."""
    for rank in (1, 2, 3, 4):
        shape = (2, 3, 4, 5)[:rank]
        for order in itertools.permutations(range(rank)):
            for step in (1, 2, -1):
                x = Lie(order, (step,) * rank, 0).holding(exact(*shape))
                for axis in range(rank):
                    for filters in (shape[axis], 7, None):
                        w = exact(filters or 1, shape[axis])
                        w = w[0] if filters is None else w
                        for y in (
                            conv1x1(x, w, channel_axis=axis),
                            conv1x1(x, w, channel_axis=axis, dtype=np.float64),
                            Conv1x1(w, channel_axis=axis)(x),
                            reference(x, w, channel_axis=axis),
                        ):
                            assert lies_as_by_numpy(y, x, axis), (order, step, axis, filters)


IMAGE = np.zeros((4, 5, 3), np.float32)
GREY = np.zeros((4, 5), np.float32)
PLACES: dict[str, tuple[Any, int, list[int]]] = {  # x, channel_axis, how a result of 7 channels lies: outermost first
    "C": (IMAGE, -1, [0, 1, 2]),
    "a slice": (IMAGE[::2, 1:, 1:2], -1, [0, 1, 2]),
    "one channel, far off": (IMAGE[:, :, ::100], -1, [0, 1, 2]),
    "Fortran": (np.asfortranarray(IMAGE), -1, [2, 1, 0]),
    "Fortran, cropped": (np.asfortranarray(IMAGE)[1:, ::2], -1, [2, 1, 0]),
    "Fortran, one channel": (np.asfortranarray(IMAGE[..., :1]), -1, [2, 1, 0]),
    "Fortran, one channel, in front": (np.asfortranarray(GREY[None]), 0, [2, 1, 0]),
    "transposed": (IMAGE.transpose(1, 0, 2), -1, [1, 0, 2]),
    "planes": (np.zeros((3, 4, 5), np.float32).transpose(1, 2, 0), -1, [2, 0, 1]),
    "planes, upside down": (np.zeros((3, 4, 5), np.float32).transpose(1, 2, 0)[::-1], -1, [2, 0, 1]),
    "a plane": (np.zeros((1, 4, 5), np.float32).transpose(2, 1, 0), -1, [2, 1, 0]),
    "grey": (GREY[..., None], -1, [0, 1, 2]),
    "grey, transposed": (GREY.T[..., None], -1, [1, 0, 2]),
    "grey, transposed, in front": (GREY.T[None], 0, [0, 2, 1]),
    "one image as many": (np.broadcast_to(IMAGE, (2, 4, 5, 3)), -1, [0, 1, 2, 3]),
    "one transposed image as many": (np.broadcast_to(IMAGE.transpose(1, 0, 2), (2, 5, 4, 3)), -1, [0, 2, 1, 3]),
    "one row as many": (np.broadcast_to(IMAGE[:1], (4, 5, 3)), -1, [0, 1, 2]),
    "one number": (np.broadcast_to(np.float32(1), (4, 5, 3)), 0, [0, 1, 2]),
    "no pixels": (np.zeros((0, 5, 3), np.float32).T, 0, [0, 1, 2]),
}


@pytest.mark.parametrize("name", PLACES)
def test_result_lies_as_x_where_strides_say_little(exact: Any, name: str) -> None:
    x, axis, order = PLACES[name]
    w = exact(7, x.shape[axis])
    bytes_ = as_strided(np.zeros(1000, np.uint8)[500:], x.shape, [s // 4 for s in x.strides])
    weights = np.ones(w.shape, np.int8)
    for y in (
        conv1x1(x, w, channel_axis=axis),
        reference(x, w, channel_axis=axis),
        conv1x1(x, w, channel_axis=axis, stride=1, groups=1, activation="relu"),
        conv1x1_integer(bytes_, weights, channel_axis=axis),
        reference_integer(bytes_, weights, channel_axis=axis),
        qlinear_conv1x1(bytes_, 1, 0, weights, 1, 0, 1, np.uint8(0), channel_axis=axis),
        reference_qlinear(bytes_, 1, 0, weights, 1, 0, 1, np.uint8(0), channel_axis=axis),
    ):
        assert y.transpose(order).flags.c_contiguous
        if y.dtype.kind == "f":
            assert lies_as_by_numpy(y, x, axis)
    without = [i - (i > axis % x.ndim) for i in order if i != axis % x.ndim]
    assert conv1x1(x, w[0], channel_axis=axis).transpose(without).flags.c_contiguous
    as_x, as_y = (Conv1x1(w, channel_axis=axis)._plan(x, None, out, None) for out in (None, y.astype("f4", order="K")))
    assert {**as_x, "tried": ()} == {**as_y, "tried": ()}


def test_nothing_is_turned_unasked(exact: Any) -> None:
    """A view of planes, a Fortran cube and a transposed image are as simple as what they are views of."""
    planes, image = exact(24, 6, 32, 32), exact(64, 64, 24)
    w = exact(32, 24)
    for plain, axis, view, view_axis in (
        (planes, 0, planes.transpose(0, 3, 2, 1), 0),
        (planes, 0, planes.transpose(3, 2, 1, 0), -1),
        (planes, 0, planes[:, ::-1].transpose(1, 2, 3, 0), -1),
        (image, -1, image.transpose(1, 0, 2), -1),
        (image, -1, image.T, 0),
    ):
        expected = Conv1x1(w, channel_axis=axis).plan(plain)
        plan = Conv1x1(w, channel_axis=view_axis).plan(view)
        assert explain(view, w, channel_axis=view_axis).plan == plan
        assert plan | {"memory_order": expected["memory_order"]} == expected


# ------------------------------------------------------------------------------------------------ turned in boxes


TURNED = {  # the axes of x and of out, as they lie in memory: outermost first; each with where the channels are
    "planes, transposed": ((0, 1, 2), (0, 2, 1), 0),
    "channels last, transposed": ((0, 1, 2), (1, 0, 2), -1),
    "Fortran cube": ((2, 1, 0), (0, 1, 2), -1),
    "Fortran planes": ((2, 1, 0), (0, 1, 2), 0),
    "planes to channels last, transposed": ((2, 1, 0), (1, 0, 2), 0),
    "the channels between": ((0, 1, 2), (2, 1, 0), 1),
    "CZYX to CXYZ": ((0, 3, 2, 1), (0, 1, 2, 3), 0),
    "volumes, reversed": ((3, 2, 1, 0), (0, 1, 2, 3), 2),
}
TYPES_OF_TURNED = [("float32", "float32"), ("float64", "float64"), ("uint8", "float32"), ("uint8", "uint8")]
TYPES_OF_TURNED += [("int16", "float32"), ("float16", "float16"), ("uint8", "int32"), ("float64", ">f4")]


@pytest.mark.parametrize("name", TURNED)
@pytest.mark.parametrize(("x_type", "y_type"), TYPES_OF_TURNED)
@pytest.mark.parametrize(("channels", "filters"), [(3, 1), (3, 3), (4, 2), (1, 3), (40, 3), (7, 19), (70, 33)])
def test_out_that_lies_otherwise(exact: Any, name: str, x_type: str, y_type: str, channels: int, filters: int) -> None:
    """In boxes and what remains of them; forwards and backwards in gaps, where nothing is written; with a residual."""
    x_order, y_order, axis = TURNED[name]
    pixels = (41, 67) if len(x_order) == 3 else (5, 34, 49)
    x, w = exact(*pixels, channels, most=2), exact(filters, channels, most=2)
    if x_type == "uint8":
        x = abs(x)
    residual = exact(*pixels, filters, seed=1, dtype=y_type)
    layer = Conv1x1(w.astype(np.int8 if y_type == "int32" else np.float32), channel_axis=axis)

    def placed(a: Any, order: tuple[int, ...], dtype: Any, step: int) -> Any:
        """A copy in steps through an array of 99, and that array."""
        whole = np.full([a.shape[i] * abs(step) for i in order], 99, dtype)
        view = whole[(slice(None, None, step),) * whole.ndim].transpose(np.argsort(order))
        view[...] = a
        return view, whole

    for step in (1, -2):
        data, _ = placed(np.moveaxis(x, -1, axis), x_order, x_type, step)
        added, _ = placed(np.moveaxis(residual, -1, axis), x_order, y_type, step)
        out, whole = placed(added, y_order, y_type, step)
        for more in (None, added):
            layer(data, residual=more, out=out)
            expected = np.moveaxis(x @ w.T if more is None else x @ w.T + residual, -1, axis)
            np.testing.assert_array_equal(out, np.clip(expected, 0, 255) if y_type == "uint8" else expected)
        out[...] = 99
        assert (whole == 99).all()


# --------------------------------------------------------------------------------------- nothing, and little

NOTHING = """
import itertools
import numpy as np
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

def result_shape(shape, axis, filters, stride):
    shape = list(shape)
    for i in [i for i in range(len(shape)) if i != axis][-2:]:
        shape[i] = -(-shape[i] // stride)
    shape[axis] = filters
    return tuple(shape)

for shape in [(0, 3), (3, 0), (0, 0), (0,), (0, 4, 3), (4, 0, 3), (4, 5, 0), (0, 0, 3), (2, 0, 4, 3), (2, 3, 0, 5, 4)]:
    for axis, filters, groups, stride in itertools.product(range(len(shape)), [0, 1, 4, 40], [1, 2], [1, 2]):
        if shape[axis] % groups or filters % groups:
            continue
        options = {"channel_axis": axis, "groups": groups, "stride": stride}
        y_shape = result_shape(shape, axis, filters, stride)
        for dtype in ("f4", "f8"):
            x, w = np.ones(shape, dtype), np.ones((filters, shape[axis] // groups), dtype)
            b, r = np.arange(filters, dtype=dtype), np.ones(y_shape, dtype)
            out = np.full(y_shape[::-1], np.nan, dtype).T
            expected = reference(x, w, b, residual=r, **options)
            assert expected.shape == y_shape
            layer = Conv1x1(w, b, **options)
            layer.plan(x)
            ways = {"plain": {}, "into out": {"out": out}, "threads": {"threads": 2}}
            for y in (*(layer(x, residual=r, **way) for way in ways.values()), conv1x1(x, w, b, residual=r, **options)):
                assert y.shape == y_shape and y.dtype == dtype and np.array_equal(y, expected), (shape, options)
print("done")
"""


def test_axes_of_no_length(fresh_python: Any) -> None:
    """Right shapes; no channels leave the bias; no filters and no pixels leave nothing."""
    run = fresh_python(NOTHING)
    assert (run.returncode, run.stdout) == (0, "done\n"), run.stderr


@pytest.mark.parametrize("step", [2**61, 2**62, 2**63 - 8, -(2**62), -(2**63)])
def test_strides_that_nobody_walks_along(exact: Any, isa: str, step: int) -> None:
    """Of axes of one element, and of arrays without any: no arithmetic with them may overflow (as UBSan sees)."""
    for dtype, filters in itertools.product(("float32", "uint8", "float16"), (1, 3, 9)):
        for axis in (-1, 0):
            x, w = exact(1, 1, 1, most=3).astype(dtype), exact(filters, 1, most=3).astype(np.int8)
            odd = as_strided(x, strides=(step,) * 3)
            layer = Conv1x1(w, channel_axis=axis, stride=2**62)
            expected = Conv1x1(w, channel_axis=axis)(x)
            out = np.empty_like(expected)
            strides = [s if n > 1 else step for n, s in zip(out.shape, out.strides, strict=True)]
            odd_out = as_strided(out, strides=strides)
            assert layer(odd, residual=np.zeros_like(out), out=odd_out) is odd_out
            np.testing.assert_array_equal(out, expected)
            np.testing.assert_array_equal(conv1x1(odd, w, channel_axis=axis), expected)
            assert layer.plan(odd)["tiles"] == 1
    for shape in [(0, 3, 2), (3, 0, 2), (3, 2, 0)]:
        empty = as_strided(np.empty(shape, np.float32), strides=(step, 8, 4))
        layer = Conv1x1(np.ones((3, shape[2]), np.float32), stride=2**62)
        assert layer(empty).shape == layer(empty, out=layer(empty)).shape == (*((n + 1) // 3 for n in shape[:2]), 3)


@pytest.mark.parametrize("filters", [1, 4, 5, 40])
def test_no_channels_leave_the_bias(isa: str, filters: int) -> None:
    bias = np.arange(filters, dtype=np.float32)
    y = conv1x1(np.empty((3, 7, 0), np.float32), np.empty((filters, 0), np.float32), bias)
    np.testing.assert_array_equal(y, np.broadcast_to(bias, (3, 7, filters)))
    out = np.full((filters, 2, 21), np.nan, np.float32)
    conv1x1(np.empty((0, 21), np.float32), np.empty((filters, 0), np.float32), channel_axis=0, out=out[:, 1])
    np.testing.assert_array_equal(out[:, 1], 0)
    assert np.isnan(out[:, 0]).all()


def test_one_pixel(exact: Any, isa: str) -> None:
    """An x of shape (C,)."""
    for channels, filters in [(1, 1), (5, 3), (40, 3), (192, 32), (33, 1)]:
        x, w = exact(channels), exact(filters, channels)
        y = conv1x1(x, w)
        assert y.shape == (filters,)
        np.testing.assert_array_equal(y, w @ x)
        np.testing.assert_array_equal(conv1x1(x[::-1], w), w @ x[::-1])
        number = conv1x1(x, w[0])
        assert number.shape == ()
        assert number == w[0] @ x


MOST_AXES = """
import numpy as np
from conv1x1 import Conv1x1, conv1x1
rank = 64 if np.lib.NumpyVersion(np.__version__) >= "2.0.0" else 32
for axis in (0, 5, rank - 1):
    shape = [1] * rank
    shape[axis], shape[axis - 1] = 3, 5
    x = np.arange(15, dtype=np.float32).reshape(shape)
    w = np.eye(3, dtype=np.float32)
    for stride in (1, (1,) * (rank - 1)):
        layer = Conv1x1(w, channel_axis=axis, stride=stride)
        for _ in range(3):
            assert np.array_equal(layer(x, residual=x), 2 * x)
            assert np.array_equal(conv1x1(x, w, channel_axis=axis, stride=stride, residual=x.copy(), out=x * 0), 2 * x)
print("done")
"""


def test_as_many_axes_as_numpy_has(fresh_python: Any) -> None:
    run = fresh_python(MOST_AXES)
    assert (run.returncode, run.stdout) == (0, "done\n"), run.stderr


# -------------------------------------------------------------------------------------------------- overlap


@pytest.mark.parametrize("axis", [-1, 0])
@pytest.mark.parametrize(("channels", "filters"), [(5, 5), (5, 3), (3, 7), (40, 2)])
def test_out_over_x(exact: Any, channels: int, filters: int, axis: int) -> None:
    """At every offset, touching or not, the answer is the one without overlap."""
    pixels = 6
    w, bias = exact(filters, channels), exact(filters)
    layer = Conv1x1(w, bias, channel_axis=axis)
    x_size, y_size = pixels * channels, pixels * filters
    shape_x, shape_y = ((pixels, channels), (pixels, filters)) if axis else ((channels, pixels), (filters, pixels))
    expected = reference(exact(x_size).reshape(shape_x), w, bias, channel_axis=axis)
    for offset in range(-y_size - 1, x_size + 2):
        memory = np.full(x_size + 2 * y_size + 2, np.nan, np.float32)
        at = y_size + 1
        x = memory[at : at + x_size].reshape(shape_x)
        x[...] = exact(x_size).reshape(shape_x)
        out = memory[at + offset : at + offset + y_size].reshape(shape_y)
        layer(x, out=out)
        np.testing.assert_array_equal(out, expected)


@pytest.mark.parametrize(("x_type", "y_type"), [("uint8", "uint8"), ("uint8", "int32"), ("float16", "float64")])
def test_out_of_another_type_over_x(exact: Any, x_type: str, y_type: str) -> None:
    """By a byte or by all, aligned or not, over several tiles, the last of which is read when the first is written; a
    quantised layer too."""
    values, w = np.abs(exact(40_000, 5)).astype(x_type), np.abs(exact(6, 5)).astype("int8")
    layers: list[Any] = [Conv1x1(w, dtype=y_type)]
    if x_type == y_type:
        of_x, of_w = {"x_scale": 0.5, "x_zero_point": np.uint8(3)}, {"w_scale": 0.25, "w_zero_point": 1}
        layers.append(QConv1x1(w, **of_x, **of_w, y_scale=2, y_zero_point=np.uint8(9)))
    for layer in layers:
        assert layer.plan(values)["tiles"] > 1
        expected = layer(values)
        ends = (-expected.nbytes, 0, values.nbytes // 2, values.nbytes)
        for offset in (end + by for end in ends for by in (-5, -4, -1, 0, 1)):
            memory = np.zeros(values.nbytes + 2 * expected.nbytes + 12, np.uint8)
            at = expected.nbytes + 6
            x: Any = np.ndarray(values.shape, x_type, memory, at)
            out: Any = np.ndarray(expected.shape, y_type, memory, at + offset)
            x[...] = values
            assert layer(x, out=out) is out
            assert out.tobytes() == expected.tobytes()


@pytest.mark.parametrize("step", [1, 2])
@pytest.mark.parametrize("sign", [1, -1])
@pytest.mark.parametrize("layer", [Conv1x1(np.eye(4, dtype="f"), activation="relu"), Conv1x1(np.eye(4), dtype="f4")])
def test_out_over_the_residual(exact: Any, layer: Any, step: int, sign: int) -> None:
    x, values = exact(7, 4), exact(7, 4, seed=1)
    expected = layer(x, residual=values)
    for offset in range(-60, 31):
        memory = np.full(200, np.nan, np.float32)
        residual = memory[80:108].reshape(7, 4)
        residual[...] = values
        out = memory[80 + offset :][: 28 * step : step].reshape(7, 4)[::sign]
        layer(x, residual=residual, out=out)
        np.testing.assert_array_equal(out, expected)


def test_out_is_an_input(exact: Any) -> None:
    for x in (exact(9, 4), exact(9, 8)[:, ::2], np.asfortranarray(exact(9, 4))):
        w, bias = exact(4, 4), exact(4)
        expected = conv1x1(x.copy(), w, bias, residual=x.copy(), activation="relu")
        assert conv1x1(x, w, bias, residual=x, activation="relu", out=x) is x
        np.testing.assert_array_equal(x, expected)
    residual = exact(9, 4, seed=1)
    x = exact(9, 4)
    expected = conv1x1(x, w, residual=residual.copy())
    assert conv1x1(x, w, residual=residual, out=residual) is residual
    np.testing.assert_array_equal(residual, expected)


def test_out_over_the_weights_and_the_bias(exact: Any) -> None:
    x = exact(6, 6)
    for dtype in (np.float32, np.float64):
        w = exact(6, 6, dtype=dtype)
        expected = x @ w.T
        np.testing.assert_array_equal(conv1x1(x, w, out=w), expected)
        assert (w == expected).all()
    w, memory = exact(6, 6), np.zeros((6, 6), np.float32)
    memory[2] = exact(6)
    expected = x @ w.T + memory[2]
    np.testing.assert_array_equal(conv1x1(x, w, memory[2], out=memory), expected)
    filters = exact(2, 3, 6)  # as a one-shot takes them only by way of Python
    expected = x @ filters.reshape(6, 6).T
    np.testing.assert_array_equal(conv1x1(x, filters.reshape(6, 6, 1, 1), out=filters.reshape(6, 6)), expected)


def test_out_between_the_channels_of_x(exact: Any) -> None:
    """No element is shared: x must come through."""
    memory = np.full((9, 10), np.nan, np.float32)
    x, out = memory[:, ::2], memory[:, 1::2]
    x[...] = exact(9, 5)
    w = exact(5, 5)
    np.testing.assert_array_equal(conv1x1(x, w, out=out), exact(9, 5) @ w.T)
    np.testing.assert_array_equal(x, exact(9, 5))


@pytest.mark.parametrize("strides", [(4, 4), (8, 4), (4, 20), (0, 4), (4, 0)])
def test_out_that_overlaps_itself(exact: Any, strides: Any) -> None:
    """As NumPy's own assignment leaves it: every element holds one of its values, whole."""
    shape = 6, 4
    x, w = exact(6, 3), exact(4, 3)
    y = conv1x1(x, w)
    ours, theirs = np.full(60, np.nan, np.float32), np.full(60, np.nan, np.float32)
    out = as_strided(ours, shape, strides)
    as_strided(theirs, shape, strides)[...] = y
    assert conv1x1(x, w, out=out) is out
    np.testing.assert_array_equal(ours, theirs)


# --------------------------------------------------------------------------------------- inputs, as they are


def test_inputs_are_not_modified(exact: Any, isa: str) -> None:
    for shape, axis in [((9, 40), -1), ((40, 9), 0)]:
        for filters in (3, 20):
            x, w, bias = exact(*shape), exact(filters, 40), exact(filters)
            residual = exact(*(filters if n == 40 else n for n in shape))
            kept = [a.copy() for a in (x, w, bias, residual)]
            for a in (x, w, bias, residual):
                a.flags.writeable = False  # and read-only ones are taken
            y = conv1x1(x, w, bias, residual=residual, channel_axis=axis, activation="gelu")
            Conv1x1(w, bias, channel_axis=axis)(x, residual=residual)
            assert y.flags.writeable
            for a, before in zip((x, w, bias, residual), kept, strict=True):
                np.testing.assert_array_equal(a, before)


@pytest.mark.parametrize("offset", range(1, 8))
@pytest.mark.parametrize("dtype", ["f4", "f8"])
def test_addresses_off_alignment(exact: Any, isa: str, dtype: str, offset: int) -> None:
    def moved(a: Any) -> Any:
        memory = np.empty(a.nbytes + 8, np.uint8)
        b = np.frombuffer(memory.data, a.dtype, a.size, offset).reshape(a.shape)
        b[...] = a
        return b

    # Both orders, both orientations, long rows and short ones, whole vectors and tails.
    for channels, filters in [(7, 21), (40, 3), (3, 1), (48, 1), (16, 16)]:
        x, w, bias = (moved(exact(*s, dtype=dtype)) for s in [(301, channels), (filters, channels), (filters,)])
        residual = moved(exact(301, filters, dtype=dtype))
        for activation in (None, ("leaky_relu", 0.5)):
            expected = reference(x, w, bias, residual=residual, activation=activation)
            layer = Conv1x1(w, bias, activation=activation)
            np.testing.assert_array_equal(layer(x, residual=residual, out=moved(residual)), expected)
            np.testing.assert_array_equal(layer(moved(x.T).T, residual=residual, out=moved(residual)), expected)
            layer = Conv1x1(w, bias, activation=activation, channel_axis=0)
            np.testing.assert_array_equal(
                layer(moved(x.T), residual=moved(residual.T), out=moved(residual.T)), expected.T
            )
            np.testing.assert_array_equal(layer(x.T, residual=residual.T, out=moved(residual).T), expected.T)


def test_fields_of_records(exact: Any, isa: str) -> None:
    """Strides that are no multiple of the element's size."""
    for channels, filters in [(6, 5), (40, 2), (40, 33)]:
        record = np.dtype([("pad", "i1"), ("v", "f4"), ("more", "i2")])
        x, out = np.zeros((37, channels), record), np.zeros((37, filters), record)
        x["v"], w = exact(37, channels), exact(filters, channels)
        conv1x1(x["v"], w, out=out["v"])
        np.testing.assert_array_equal(out["v"], x["v"] @ w.T)
        assert not out["pad"].any()
        assert not out["more"].any()
        out["v"] = 0
        conv1x1(x["v"].T, w, channel_axis=0, out=out["v"].T)
        np.testing.assert_array_equal(out["v"], x["v"] @ w.T)


def test_subclasses_of_ndarray(exact: Any, tmp_path: Any) -> None:
    """A mapped file is an array like others, for every argument; the result is a plain array, or `out`."""

    def mapped(a: Any, name: str) -> Any:
        file = np.memmap(tmp_path / name, a.dtype, "w+", shape=a.shape)
        file[...] = a
        return file

    x, w, bias, residual = exact(9, 6), exact(5, 6), exact(5), exact(9, 5)
    expected = x @ w.T + bias + residual
    y = conv1x1(mapped(x, "x"), mapped(w, "w"), mapped(bias, "b"), residual=mapped(residual, "r"))
    assert type(y) is np.ndarray
    np.testing.assert_array_equal(y, expected)
    for call in (conv1x1, lambda x, w, b, **k: Conv1x1(w, b)(x, **k), reference):
        out = mapped(np.zeros((9, 5), np.float32), "out")
        assert call(x, w, bias, residual=residual, out=out) is out
        np.testing.assert_array_equal(out, expected)


# --------------------------------------------------------------------------------------------- not one copy

MEMORY = """
import resource
import numpy as np
from conv1x1 import Conv1x1, conv1x1

def peak():
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss // 1024

memory = np.ones((1200, 1200, 16), np.float32)  # 88 MB
outs = np.ones((3, 1200 * 1200 * 16), np.float32)
half = outs[0][:memory.size].view(np.float64)
views = {
    "turned": (memory.transpose(2, 0, 1), 0),
    "channels first": (memory.reshape(16, 1200, 1200), 0),
    "every other pixel": (memory[:, ::2], -1),
    "every other channel": (memory[..., ::2], -1),
    "backwards": (memory[::-1, ::-1, ::-1], -1),
    "many channels, first": (memory.reshape(14400, 1600), 0),
    "broadcast": (np.broadcast_to(memory[:1], (1200, 1200, 16)), 2),
}
for name, (x, axis) in views.items():
    for filters in (1, 8):
        w = np.ones((filters, x.shape[axis]), np.float32)
        for dtype in (np.float32, np.float64):
            shape = list(x.shape)
            shape[axis] = filters
            y = outs.ravel().view(dtype)[:int(np.prod(shape))].reshape(shape)
            before = peak()
            conv1x1(x, w, channel_axis=axis, out=y, activation="relu")
            Conv1x1(w, channel_axis=axis)(x, out=y[..., ::-1], threads=2)
            print(peak() - before, name, filters, dtype.__name__, sep=";")
            assert (y == x.shape[axis]).all()
"""


def test_no_array_is_copied_whole(fresh_python: Any) -> None:
    """The process never needs more than a few tiles beyond x and out, which are there before the call."""
    run = fresh_python(MEMORY)
    lines = [line.split(";") for line in run.stdout.splitlines()]
    assert len(lines) == 28, run.stderr
    grown = {tuple(rest): int(megabytes) for megabytes, *rest in lines}
    assert max(grown.values()) < 16, grown
