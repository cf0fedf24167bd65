"""Complex numbers: each part of a result is defined to the bit, by a convolution of real numbers."""

from __future__ import annotations

import pickle
import tracemalloc
from itertools import product
from typing import Any

import numpy as np
import pytest
from numpy.lib.stride_tricks import as_strided

from conv1x1 import Conv1x1, QConv1x1, _conv1x1, conv1x1, explain, reference
from conv1x1.runtime import restricted

REAL = {"complex64": np.dtype("f4"), "complex128": np.dtype("f8")}
ROUNDING = {np.dtype("f4"): 2.0**-24, np.dtype("f8"): 2.0**-53}
ISAS = _conv1x1.config()["isas_supported"]

# (pixels), channels, filters, groups: both orders of summation, colour, blocks of channels and chunks of filters.
SHAPES = [
    ((5, 7), 6, 4, 1),
    ((1,), 1, 1, 1),
    ((300,), 1, 3, 1),
    ((9, 30), 3, 1, 1),
    ((70,), 16, 2, 1),
    ((70,), 33, 1, 1),
    ((4, 33), 12, 9, 3),
    ((40,), 64, 2, 2),
    ((600,), 32, 8, 1),
    ((40,), 1500, 7, 1),
    ((20,), 10, 300, 1),
]


def numbers(random: Any, shape: Any, dtype: Any) -> Any:
    dtype = np.dtype(dtype)
    if dtype.kind in "iu":
        return random.integers(0, 100, shape).astype(dtype)
    a = random.normal(size=shape)
    return (a + 1j * random.normal(size=shape) if dtype.kind == "c" else a).astype(dtype)


def laid_out(x: Any, layout: str) -> tuple[Any, int]:
    """The same pixels with channels last in memory, first, or somewhere, and the channel axis."""
    if layout == "first":
        return np.ascontiguousarray(np.moveaxis(x, -1, 0)), 0
    if layout == "first, every other pixel":
        return np.repeat(np.moveaxis(x, -1, 0), 2, axis=-1)[..., ::2], 0
    if layout == "every third channel":
        return np.repeat(x, 3, axis=-1)[..., ::3], x.ndim - 1
    if layout == "backwards":
        return np.array(x[::-1, ..., ::-1])[::-1, ..., ::-1], x.ndim - 1
    if layout == "other byte order":
        return x.astype(x.dtype.newbyteorder()), x.ndim - 1
    if layout == "odd address":
        memory = np.empty(x.nbytes + 1, np.uint8)[1:]
        memory.view(x.dtype).reshape(x.shape)[...] = x
        return memory.view(x.dtype).reshape(x.shape), x.ndim - 1
    return x, x.ndim - 1


LAYOUTS = ["last", "first", "first, every other pixel", "every third channel", "backwards", "other byte order"]
LAYOUTS.append("odd address")


def same_bits(a: Any, b: Any) -> bool:
    return a.dtype == b.dtype and a.shape == b.shape and a.tobytes() == b.tobytes()


def interleaved(x: Any) -> Any:
    """Channels of real numbers, the parts of each complex one in turn."""
    return x.view(x.real.dtype)


def real_matrix(w: Any, of_complex_pixels: bool) -> Any:
    """Complex filters as filters of real numbers."""
    parts = [[w.real, -w.imag], [w.imag, w.real]] if of_complex_pixels else [[w.real], [w.imag]]
    return np.array(parts).transpose(2, 0, 3, 1).reshape(2 * w.shape[0], -1)


def by_hand(x: Any, w: Any, bias: Any, residual: Any, groups: int) -> Any:
    """The bits as the docstring of conv1x1 defines them; all C-contiguous with the channels last."""
    parts_of = {"bias": bias, "residual": residual}
    if np.iscomplexobj(w):
        both = {name: a if a is None or np.iscomplexobj(a) else a - 0j for name, a in parts_of.items()}
        for name, a in parts_of.items():
            if a is not None and not np.iscomplexobj(a):
                both[name].imag = -0.0  # which adds nothing
        b, r = (None if a is None else interleaved(a) for a in both.values())
        pixels = interleaved(x) if np.iscomplexobj(x) else x
        y = conv1x1(pixels, real_matrix(w, np.iscomplexobj(x)), b, residual=r, groups=groups)
        return y.view(np.result_type(y.dtype, "c8"))
    real, imaginary = ({n: a if a is None else getattr(a, p) for n, a in parts_of.items()} for p in ("real", "imag"))
    for name, a in parts_of.items():
        if not np.iscomplexobj(a):
            imaginary[name] = None
    y_real = conv1x1(x.real, w, groups=groups, **real)
    if np.iscomplexobj(x):
        y_imaginary = conv1x1(x.imag, w, groups=groups, **imaginary)
    else:  # no channels at all
        y_imaginary = conv1x1(x[..., :0], np.empty((len(w), 0), x.dtype), **imaginary)
    y = np.empty(y_real.shape, np.result_type(y_real.dtype, "c8"))
    y.real, y.imag = y_real, y_imaginary
    return y


MIXES = [mix for mix in product("fF", "fF", " fF", " fF") if "F" in mix]


@pytest.mark.drawn
@pytest.mark.parametrize("mix", MIXES, ids="".join)
@pytest.mark.parametrize("shape", SHAPES, ids=str)
def test_the_definition(shape: Any, mix: Any) -> None:
    """x, w, bias, residual real or complex: within the bound of the reference, and the bits of real calls, however the
    pixels lie, by any number of threads."""
    pixels, channels, filters, groups = shape
    random = np.random.default_rng(channels)
    double = random.integers(4) == 0
    x, w, bias, residual = (
        None if kind == " " else numbers(random, s, kind.replace("F", "D").replace("f", "d") if double else kind)
        for kind, s in zip(
            mix, [(*pixels, channels), (filters, channels // groups), (filters,), (*pixels, filters)], strict=True
        )
    )
    y = conv1x1(x, w, bias, residual=residual, groups=groups)
    assert y.dtype == (np.complex128 if double else np.complex64)
    assert same_bits(y, by_hand(x, w, bias, residual, groups))

    exact = reference(x, w, bias, residual=residual, groups=groups)
    assert exact.dtype == np.complex128
    u = ROUNDING[y.real.dtype]
    n = 2 * channels // groups + 3
    terms = [abs(a.real) + abs(a.imag) if a is not None else None for a in (x, w, bias, residual)]
    bound = n * u / (1 - n * u) * reference(*terms[:3], residual=terms[3], groups=groups)
    assert (abs(y.real - exact.real) <= bound).all()
    assert (abs(y.imag - exact.imag) <= bound).all()

    layer = Conv1x1(w, bias, groups=groups)
    for layout, threads in zip(LAYOUTS, [1, 2, 3, 1, 2, 3, 1], strict=True):
        turned, axis = laid_out(x, layout)
        r = None if residual is None else laid_out(residual, layout)[0]
        same = Conv1x1(w, bias, groups=groups, channel_axis=0) if axis == 0 else layer
        z = same(turned, residual=r, threads=threads)
        assert same_bits(np.moveaxis(z, axis, -1), y), layout
        out = laid_out(np.full(y.shape, np.nan, y.dtype), layout)[0]
        assert same(turned, residual=r, out=out, threads=threads) is out
        assert np.array_equal(np.moveaxis(out, axis, -1), y), layout


@pytest.mark.parametrize("isa", ISAS)
@pytest.mark.parametrize("mix", ["fF", "Ff", "FF", "Dd", "DD"])
def test_every_instruction_set_and_orientation(mix: str, isa: str) -> None:
    for pixels, channels, filters, groups in SHAPES[:-2]:
        random = np.random.default_rng(filters)
        x, w = numbers(random, (*pixels, channels), mix[0]), numbers(random, (filters, channels // groups), mix[1])
        y = conv1x1(x, w, groups=groups)
        for orientation, layout in product([None, "pixels_as_rows", "pixels_as_lanes"], ["last", "first", "backwards"]):
            turned, axis = laid_out(x, layout)
            with restricted(isa=isa, orientation=orientation):
                z = conv1x1(turned, w, groups=groups, channel_axis=axis)
            assert np.array_equal(np.moveaxis(z, axis, -1), y), (orientation, layout)


@pytest.mark.parametrize("channels", [3001, 3002, 3004, 5503])
def test_many_channels(channels: int) -> None:
    """Pairs stay together where channels go in blocks."""
    random = np.random.default_rng(0)
    x, w = numbers(random, (50, channels), "F"), numbers(random, (20, channels), "F")
    y = conv1x1(x, w)
    for layout in LAYOUTS:
        turned, axis = laid_out(x, layout)
        assert same_bits(np.moveaxis(conv1x1(turned, w, channel_axis=axis), axis, -1), y)


@pytest.mark.drawn
@pytest.mark.parametrize(("channels", "filters"), [(5, 7), (1, 1), (2, 2), (40, 1)])
def test_numbers_that_share_memory(channels: int, filters: int) -> None:
    """Complex numbers that begin every four bytes: a part of one is the other part of the next."""
    random = np.random.default_rng(0)
    memory = random.normal(size=10_000).astype("f")
    w = numbers(random, (filters, channels), "F")
    for x_strides, residual_strides in product(
        [(4, 4), (4, 8), (4, 80), (8 * channels, 4), (4 * channels, 4)], repeat=2
    ):
        x = as_strided(memory.view("F"), (60, channels), x_strides)
        residual = as_strided(memory[1:9001].view("F"), (60, filters), residual_strides)
        for weights in (w, w.real.copy()):
            wanted = conv1x1(x.copy(), weights, residual=residual.copy())
            assert same_bits(conv1x1(x, weights, residual=residual), wanted)
            out = np.empty((60, filters), "F")
            assert same_bits(Conv1x1(weights)(x, residual=residual, out=out), wanted)


def test_calls_that_differ_in_one_thing() -> None:
    """A plan is kept by shape, strides and types: here for whole numbers and for their parts at the same places."""
    random = np.random.default_rng(0)
    x, w = numbers(random, (9, 6), "F"), numbers(random, (4, 6), "F")
    for layer in (Conv1x1(w.real), Conv1x1(w.real, [1, 2, 3, 4])):
        out, parts = np.empty((9, 4), "F"), np.empty((9, 4), "F")
        for _ in range(2):
            layer(x, out=out)
            layer(x.real, out=parts.real)
            assert same_bits(np.array(out.real), np.array(parts.real))
    for residual in (numbers(random, (9, 4), "F"), numbers(random, (9, 4), "f"), numbers(random, (9, 8), "f")[:, ::2]):
        added = Conv1x1(w)(x, residual=residual)
        assert np.allclose(added, x @ w.T + residual, atol=1e-5)


def test_strides_and_batches() -> None:
    random = np.random.default_rng(0)
    x, w = numbers(random, (2, 9, 11, 6), "F"), numbers(random, (4, 6), "F")
    for weights, stride in product([w, w.real], [2, (2, 3), (1, 2), (3, 1, 4)]):
        y = conv1x1(x, weights, stride=stride)
        steps = (1, stride, stride) if isinstance(stride, int) else (1,) * (3 - len(stride)) + stride
        whole = conv1x1(x, weights)
        assert np.array_equal(y, whole[:: steps[0], :: steps[1], :: steps[2]])
        nchw = conv1x1(np.moveaxis(x, -1, 1), weights, stride=stride, channel_axis=1)
        assert np.array_equal(np.moveaxis(nchw, 1, -1), y)


def test_a_vector_of_weights_drops_the_axis() -> None:
    random = np.random.default_rng(0)
    for channels in (1, 3, 40):
        x, w = numbers(random, (7, 9, channels), "F"), numbers(random, channels, "F")
        for pixels, weights in [(x, w), (x.real, w), (x, w.real)]:
            y = conv1x1(pixels, weights)
            assert y.shape == (7, 9)
            assert np.array_equal(y, conv1x1(pixels, weights[None])[..., 0])
            assert np.array_equal(conv1x1(np.moveaxis(pixels, -1, 0), weights, channel_axis=0), y)
            r = numbers(random, y.shape, "F")
            assert np.array_equal(conv1x1(pixels, weights, residual=r), y + r)


@pytest.mark.parametrize(
    ("x", "w", "bias", "residual", "result"),
    [
        ("c8", "c8", None, None, "c8"),
        ("c8", "c16", None, None, "c8"),
        ("c8", "f8", None, None, "c8"),
        ("c8", "f4", "c16", "c16", "c8"),
        ("c16", "c8", None, None, "c16"),
        ("f4", "c16", None, None, "c8"),
        ("f8", "c8", None, None, "c16"),
        ("f8", "f8", "c8", None, "c16"),
        ("f4", "f4", None, "c16", "c8"),
        ("f2", "c8", None, None, "c8"),
        ("u1", "c16", None, None, "c8"),
        ("i2", "f4", "c8", None, "c8"),
        ("u1", "i1", None, "c8", "c8"),
        ("c8", "i1", None, None, "c8"),
        ("c16", "u2", "i4", "i2", "c16"),
    ],
)
def test_types_of_results(x: str, w: str, bias: Any, residual: Any, result: str) -> None:
    """The rule is that of the parts, and no result is of smaller ones than float32."""
    random = np.random.default_rng(0)
    shapes = [(5, 6), (4, 6), (4,), (5, 4)]
    types = (x, w, bias, residual)
    a, b, c, d = (None if t is None else numbers(random, s, t) for t, s in zip(types, shapes, strict=True))
    y = conv1x1(a, b, c, residual=d)
    assert y.dtype == result
    exact = reference(a, b, c, residual=d)
    assert np.allclose(y, exact, rtol=1e-5, atol=1e-4)
    for dtype in ("c8", "c16"):
        wanted = conv1x1(a, b, c, residual=d, dtype=dtype)
        assert wanted.dtype == dtype
        assert np.allclose(wanted, exact, rtol=1e-5, atol=1e-4)
        for order in "<>":
            out = np.empty((5, 4), order + dtype)
            assert np.array_equal(conv1x1(a, b, c, residual=d, out=out), wanted)
        assert reference(a, b, c, residual=d, dtype=dtype).dtype == dtype


@pytest.mark.parametrize("x", ["u1", "i4", "f2", "f4", "f8", "?"])
def test_real_numbers_into_complex_ones(x: str) -> None:
    random = np.random.default_rng(0)
    a = random.integers(0, 2, (50, 6)).astype(x)
    for w, dtype in product([np.ones((3, 6), np.int8), random.normal(size=(3, 6))], ["c8", "c16"]):
        y = conv1x1(a, w, dtype=dtype)
        assert np.array_equal(y.real, conv1x1(a, w, dtype=REAL[np.dtype(dtype).name]))
        assert not y.imag.any()


def test_numbers_that_are_none_stay_in_their_part() -> None:
    """Real weights let no NaN or infinity over from one part to the other, nor do real pixels."""
    x = np.ones((40, 8), np.complex64)
    x[3, 2], x[5, 2] = complex(np.nan, 1), complex(1, np.inf)
    for layout in LAYOUTS:
        a, axis = laid_out(x, layout)
        for bias in (None, [1j, 0, 2]):
            y = np.moveaxis(conv1x1(a, np.ones((3, 8), np.float32), bias, channel_axis=axis), axis, -1)
            assert np.isnan(y.real[3]).all()
            assert np.isfinite(y.imag[3]).all()
            assert np.isfinite(y.real[5]).all()
            assert np.isposinf(y.imag[5]).all()
            assert np.isfinite(y[[*range(3), 4, *range(6, 40)]]).all()
    real = np.array([[1, np.inf]], np.float32)
    assert conv1x1(real, [[1, 1]], [1j]).tolist() == [[complex(np.inf, 1)]]
    assert conv1x1(real, np.complex64([[1, 1j]])).imag.tolist() == [[np.inf]]
    assert reference(real.astype("c8"), [[1, 1]]).tolist() == [[complex(np.inf, 0)]]


@pytest.mark.parametrize("kind", ["F", "f"])
def test_real_bias_and_residual_add_nothing_to_imaginary_parts(kind: str) -> None:
    """Not even to the sign of a zero: here the imaginary parts are −0, of a product too small for any other number."""
    x = np.full((40, 5), complex(1, -1e-30), np.complex64)
    w = np.full((7, 5), 1e-30, kind)
    for layout in ("last", "first", "every third channel"):
        a, axis = laid_out(x, layout)
        r = laid_out(np.ones((40, 7), np.float32), layout)[0]
        for bias, residual in [(None, None), (np.ones(7, "f"), None), (None, r), (np.ones(7, "f"), r)]:
            y = conv1x1(a, w, bias, residual=residual, channel_axis=axis)
            assert (y.imag == 0).all()
            assert np.signbit(y.imag).all(), (layout, bias is None, residual is None)


@pytest.mark.drawn
def test_out_over_x() -> None:
    random = np.random.default_rng(0)
    memory = numbers(random, (3, 500, 8), "F")
    for w in (numbers(random, (8, 8), "F"), numbers(random, (8, 8), "f")):
        for shift in (0, 1):
            a = memory.copy()
            x, out = a[: 3 - shift], a[shift:]
            expected = conv1x1(x.copy(), w)
            assert np.array_equal(conv1x1(x, w, out=out), expected)
        # By one part alone: the last imaginary part of x is the first real one of the result, and the other way round.
        for x_first in (True, False):
            floats = numbers(random, 2 * memory.size, "f")
            places = [floats[: memory.size].view("F"), floats[memory.size - 1 : -1].view("F")]
            x, out = (a[: memory.size // 2].reshape(-1, 8) for a in (places if x_first else places[::-1]))
            expected = conv1x1(x.copy(), w)
            assert same_bits(conv1x1(x, w, out=out), expected)
        # Of one array's parts: they share no byte, so that nothing goes through a temporary array.
        a = memory.copy()
        conv1x1(a.real, w.real, out=a.imag)
        assert np.array_equal(a.imag, conv1x1(memory.real, w.real))


@pytest.mark.parametrize("shape", [(0, 6), (5, 0), (0, 0), (3, 0, 6)])
def test_nothing(shape: Any) -> None:
    x = np.ones(shape, np.complex64)
    for pixels, w in product([x, x.real], [np.ones((4, shape[-1]), "F"), np.ones((4, shape[-1]), "f")]):
        y = conv1x1(pixels, w, [1, 2j, 3, 4])
        assert y.shape == (*shape[:-1], 4)
        assert y.dtype == np.complex64
        assert (y == [1, 2j, 3, 4]).all() or shape[-1]
        assert conv1x1(pixels, np.empty((0, shape[-1]), "F")).shape == (*shape[:-1], 0)


def test_layers() -> None:
    random = np.random.default_rng(0)
    w, bias, x = numbers(random, (4, 6), "F"), numbers(random, 4, "D"), numbers(random, (5, 6), "F")
    for weight, b in [(w, bias), (w, None), (w.real, bias), (w[0], bias[:1]), (w.astype(">c8"), bias.astype(">c16"))]:
        layer = Conv1x1(weight, b)
        assert np.array_equal(layer.weight, weight)
        assert layer.weight.dtype == weight.dtype.newbyteorder("=")
        assert b is None or np.array_equal(layer.bias, b)
        assert not layer.weight.flags.writeable
        again = pickle.loads(pickle.dumps(layer))
        assert np.array_equal(again.weight, layer.weight)
        for pixels in (x, x.real):
            assert np.array_equal(again(pixels), layer(pixels))
            assert np.array_equal(layer(pixels), conv1x1(pixels, weight, b))
        filters = len(weight) if weight.ndim == 2 else 1
        assert repr(layer) == f"<Conv1x1 6 → {filters}{', bias' * (b is not None)}, channel_axis=-1>"
    assert pickle.loads(pickle.dumps(Conv1x1(w, dtype="c16"))).dtype == np.complex128
    assert layer.plan(x)["dtype"] == "complex64"
    assert Conv1x1(w.real).plan(x)["dtype"] == "complex64"
    assert Conv1x1(w, dtype="c16").plan(x.real)["arithmetic"] == "float64"


def test_nothing_is_copied_as_a_whole() -> None:
    """No memory of NumPy's, and of the core's no more than a tile; in place where channels or pixels allow."""
    random = np.random.default_rng(0)
    w, x = numbers(random, (8, 32), "F"), numbers(random, (100, 100, 32), "F")
    for layout, weights in product(LAYOUTS, [w, w.real]):
        a, axis = laid_out(x, layout)
        layer = Conv1x1(weights, channel_axis=axis)
        out = laid_out(np.empty((100, 100, 8), np.complex64), layout)[0]
        layer(a, out=out)
        tracemalloc.start()
        try:
            layer(a, out=out)
            assert tracemalloc.get_traced_memory()[1] < 20_000
        finally:
            tracemalloc.stop()
        assert layer.plan(a)["scratch_bytes"] < 2_000_000
        if layout == "last" and weights.dtype == np.float32:  # both halves of a tile of results
            plan = layer.plan(a)
            assert plan["scratch_bytes"] >= 2 * 4 * plan["tile_pixels"] * plan["chunk_filters"]
    assert not Conv1x1(w).plan(x)["scratch_bytes"]
    assert not Conv1x1(w.real, channel_axis=0).plan(np.moveaxis(x, -1, 0).copy())["scratch_bytes"]


@pytest.mark.drawn
@pytest.mark.parametrize("seed", range(4))
def test_scratch_of_any_problem(seed: int) -> None:
    """At random, as for real numbers: under 2 MB, but for one pixel's channels in lane order."""
    random = np.random.default_rng(seed)
    for _ in range(100):
        groups, channels = int(random.choice([1, 1, 2, 7])), int(2 ** random.uniform(0, 16))
        filters = max(1, min(int(2 ** random.uniform(0, 14)), 300_000 // channels))
        axis = int(random.integers(3))
        shape = [int(2 ** random.uniform(0, 18)), int(2 ** random.uniform(0, 12))]
        shape.insert(axis, channels * groups)
        dtype = str(random.choice(["c8", "c16"]))
        strides = [int(random.choice([0, 8, 16, 24, -8, 4096, 2**20, 8 * channels])) for _ in shape]
        x = as_strided(np.zeros(1, dtype), shape, strides)
        w = np.zeros((filters * groups, channels), random.choice(["f4", "c8"]))
        plan = Conv1x1(w, channel_axis=axis, groups=groups).plan(x, threads=int(random.choice([1, 2, 300])))
        if w.dtype == "c8":
            assert plan["chunk_filters"] % 2 == 0
            assert plan["channel_block"] % 2 == 0 or strides[axis] == x.itemsize
        one_pixel = 16 * channels + 600 if plan["order"] == "lanes" and plan["stages_x"] else 0
        assert plan["scratch_bytes"] <= max(2_000_000, one_pixel), plan


def test_explain() -> None:
    random = np.random.default_rng(0)
    x, w, bias = numbers(random, (5, 6), "F"), numbers(random, (4, 6), "F"), numbers(random, 4, "F")
    for pixels, weights, b in [(x, w, bias), (x.real, w, None), (x, w.real, bias), (x.real, w.real, bias)]:
        e = explain(pixels, weights, b, at=2, filter=3)
        assert np.isclose(e.value, reference(pixels, weights, b)[2, 3])
        assert e.result.dtype == "complex64"
        assert "j" in str(e)
        assert e.to_svg().startswith("<svg")
        factors = 2 ** (np.iscomplexobj(pixels) + np.iscomplexobj(weights))
        assert e.flops == 2 * factors * 6 * 4 * 5
        assert f"{2 * factors} · 6 channels" in str(e)
    lines = str(explain([[1 + 2j, 3]], [1, -1j])).splitlines()
    assert lines[0] == "y[0] = Σ x[0, :] · w = 1−1j"
    assert lines[4].split() == ["w·x", "1+2j", "0−3j"]
    assert lines[5].split(maxsplit=1) == ["sum", "(1+0j)·(1+2j) + (0−1j)·(3+0j) = 1−1j"]


def test_quantised_layers_are_of_real_numbers() -> None:
    random = np.random.default_rng(0)
    w, x = numbers(random, (4, 6), "f"), numbers(random, (5, 6), "f")
    for layer, calibration, says in [
        (Conv1x1(w + 1j), x, "the layer's weight has dtype complex64"),
        (Conv1x1(w, np.ones(4, "F")), x, "the layer's bias has dtype complex64"),
        (Conv1x1(w), x + 1j, "calibration has dtype complex64"),
    ]:
        with pytest.raises(TypeError, match=says):
            QConv1x1.from_float(layer, calibration=calibration)
    zeros = {"x_zero_point": np.uint8(1), "w_zero_point": np.int8(0), "y_zero_point": np.uint8(0)}
    with pytest.raises(TypeError, match=r"w has dtype complex64.*real numbers"):
        QConv1x1(w + 1j, **dict.fromkeys(("x_scale", "w_scale", "y_scale"), 0.1), **zeros)
    quantised = QConv1x1.from_float(Conv1x1(w), calibration=x)
    for call in (quantised, quantised.plan, quantised.quantize):
        with pytest.raises(TypeError, match="complex64"):
            call(x + 1j)
