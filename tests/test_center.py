"""What `center` takes off x: in the type of the sums, rounded once, before anything is multiplied."""

from __future__ import annotations

import pickle
from io import BytesIO
from itertools import pairwise, product
from typing import Any

import numpy as np
import pytest

from conv1x1 import Conv1x1, QConv1x1, Sequential, conv1x1, explain, load, reference, save
from conv1x1.runtime import restricted

SHAPES = [(3, 1), (3, 4), (40, 2), (50, 19), (5, 3), (90, 33)]  # channels, filters
PIXELS = ["float32", "float64", "float16", "uint8", "int8", "bool", "uint16", "int16", "int32", "int64", ">u2", ">f4"]


def pixels_of(normal: Any, *shape: int, dtype: str) -> Any:
    """Fractions, or whole numbers about the middle of the type's range."""
    a = normal(*shape, dtype=np.float64)
    kind = np.dtype(dtype)
    if kind.kind == "f":
        return (100 * a + 1000).astype(dtype)
    middle = {"u1": 128, "u2": 20000, "b1": 0}.get(kind.str[1:], 20 if kind.itemsize == 1 else -3000)
    return (a > 0) if dtype == "bool" else np.rint(20 * a + middle).astype(dtype)


@pytest.mark.parametrize("dtype", PIXELS)
def test_is_taken_off_in_the_type_of_the_sums(normal: Any, isa: str, dtype: str) -> None:
    """The bits are those of a layer without a center, over numbers of that type which it was taken off already."""
    sums = np.dtype("float64" if dtype in ("float64", "int32", "int64") else "float32")
    for (channels, filters), groups in [(shape, 1) for shape in SHAPES] + [((18, 12), 3), ((72, 6), 2)]:
        whole = channels % 2 == 0
        x = pixels_of(normal, 19, channels, dtype=dtype)
        w, bias = normal(filters, channels // groups), normal(filters)
        center = np.mean(x, axis=0, dtype=float) + normal(channels, dtype=np.float64)
        center = np.rint(center).astype(np.int64) if whole else center
        less = x.astype(sums) - center.astype(sums)
        options: dict[str, Any] = {"groups": groups, "activation": ("leaky_relu", 0.5)}
        wanted = Conv1x1(w, bias, dtype="float16" if dtype == "float16" else sums, **options)(less)
        for axis, orientation in product([-1, 0], [None, "pixels_as_rows", "pixels_as_lanes"]):
            layer = Conv1x1(w, bias, center=center, channel_axis=axis, **options)
            turned = np.ascontiguousarray(np.moveaxis(x, -1, axis))
            gaps = np.repeat(np.repeat(turned, 2, 0), 3, 1)[::2, ::3]
            with restricted(isa=isa, orientation=orientation):
                for given in (turned, np.asfortranarray(turned), gaps, turned[::-1, ::-1].copy()[::-1, ::-1]):
                    y = np.moveaxis(layer(given), axis, -1)
                    assert y.dtype == wanted.dtype
                    assert y.tobytes() == wanted.tobytes()


def test_in_tiles_boxes_and_by_threads(normal: Any, isa: str) -> None:
    for channels, filters, dtype in [(40, 12, "uint16"), (400, 9, "float32"), (3, 3, "uint8"), (50, 2, "int8")]:
        x = pixels_of(normal, 80, 70, channels, dtype=dtype)
        w, center = normal(filters, channels), normal(channels)
        layer = Conv1x1(w, center=center, stride=2)
        wanted = Conv1x1(w)(x[::2, ::2].astype(np.float32) - center)
        assert layer.plan(x)["stages_x"] or layer.plan(x)["orientation"] == "few_channels"
        for given, order, tile in product([x, x.transpose(1, 0, 2).copy().transpose(1, 0, 2)], "CF", [None, 50]):
            out = np.full(wanted.shape, np.nan, np.float32, order=order)
            with restricted(isa=isa, tile_pixels=tile):
                layer(given, out=out, threads=3)
            assert np.ascontiguousarray(out).tobytes() == wanted.tobytes()


@pytest.mark.parametrize("dtype", ["float32", "float64", "uint8", "uint16"])
@pytest.mark.parametrize("axis", [-1, 0])
def test_in_every_layer_of_a_chain(normal: Any, isa: str, dtype: str, axis: int) -> None:
    for widths in [(50, 20, 10, 5), (3, 4, 2, 3), (100, 40, 2, 3)]:
        x = np.ascontiguousarray(np.moveaxis(pixels_of(normal, 9, 17, widths[0], dtype=dtype), -1, axis))
        layers = [
            Conv1x1(normal(k, c), normal(k), center=normal(c, seed=i), activation="relu", channel_axis=axis)
            for i, (c, k) in enumerate(pairwise(widths))
        ]
        y = x
        for layer in layers:
            y = layer(y)
        assert Sequential(layers)(x).tobytes() == y.tobytes()


def test_whole_numbers_of_integers_are_exact(isa: str) -> None:
    """Bands about 20,000 that deviate by tens: a bias would leave nothing of the last digits."""
    random = np.random.default_rng(1)
    x = np.rint(random.normal(20000, 50, (500, 100))).astype(np.uint16)
    mean, w = x.mean(axis=0), random.normal(size=(10, 100)) / 50
    exact = (x - np.rint(mean)) @ w.T
    assert np.abs(Conv1x1(w, center=np.rint(mean))(x) - exact).max() < 5e-5
    assert np.abs(conv1x1(x, w, -w @ np.rint(mean)) - exact).max() > 1e-3


@pytest.mark.parametrize("x_type", ["uint8", "int8", "bool", "uint16", "int32", "int64", "uint64"])
def test_integers_alone(isa: str, x_type: str) -> None:
    """Are summed exactly, the centers too."""
    random = np.random.default_rng(2)
    for channels, filters in SHAPES:
        x = random.integers(0, 2 if x_type == "bool" else 100, (11, channels)).astype(x_type)
        w, center = random.integers(-9, 9, (filters, channels)), random.integers(-(10**6), 10**6, channels)
        wanted = (x.astype(np.int64) - center) @ w.T
        y = Conv1x1(w, [1] * filters, center=center, dtype=np.int64)(x)
        np.testing.assert_array_equal(y, wanted + 1)
        assert np.array_equal(reference(x, w, center=center, dtype=np.int64), wanted)
        narrow = Conv1x1(w, center=center % 7)
        assert narrow(x).dtype in (np.int32, np.int64)
        np.testing.assert_array_equal(narrow(x), (x.astype(np.int64) - center % 7) @ w.T)
        assert Conv1x1(w, center=center / 2)(x).dtype.kind == "f"
        assert Conv1x1(w, center=center, dtype=np.float32)(x).dtype == np.float32


def test_the_type_of_integer_sums_reckons_with_it() -> None:
    w, x = np.full((1, 100), 127, np.int8), np.full((2, 100), 255, np.uint8)
    assert Conv1x1(w, center=[-1000] * 100)(x).tolist() == [[100 * 127 * 1255]] * 2
    with pytest.raises(ValueError, match=r"100 channels of uint8 with int8 weights and their center cannot.* int32"):
        Conv1x1(w, center=[10**6] * 100)(x)
    assert Conv1x1(w, center=[10**6] * 100, dtype=np.int64)(x)[0, 0] == 12700 * (255 - 10**6)
    assert Conv1x1(w, center=[10**6] * 100)(x.astype(np.uint16)).dtype == np.int64
    with pytest.raises(ValueError, match=r"and their center cannot be summed exactly.*dtype=np.float64"):
        Conv1x1(w, center=[2**45] * 100, dtype=np.int64)(x)


@pytest.mark.parametrize("axis", [-1, 0, 1])
def test_reference(normal: Any, axis: int) -> None:
    x, center = np.moveaxis(normal(5, 4, 6), -1, axis), normal(6)
    for w, groups in [(normal(4, 6), 1), (normal(6, 3), 2), (normal(6), 1)]:
        y = Conv1x1(w, center=center, groups=groups, channel_axis=axis, stride=2)(x)
        expected = reference(x, w, center=center, groups=groups, channel_axis=axis, stride=2)
        np.testing.assert_allclose(y, expected, rtol=1e-5, atol=1e-6)
        less = np.moveaxis(np.moveaxis(x, axis, -1).astype(float) - center, -1, axis)
        np.testing.assert_array_equal(expected, reference(less, w, groups=groups, channel_axis=axis, stride=2))


def test_masks_and_special_numbers(isa: str) -> None:
    inf, nan = np.inf, np.nan
    x = np.float32([[1, inf], [nan, 1], [inf, 2]])
    np.testing.assert_array_equal(Conv1x1([[1.0, 1]], center=[0, inf])(x), [[nan], [nan], [nan]])
    np.testing.assert_array_equal(Conv1x1([[1.0, 1]], center=[-inf, 2])(x), [[inf], [nan], [inf]])
    masked = Conv1x1([[1.0, 1]], center=[1, 2])(np.ma.masked_invalid(x))
    assert masked.mask.all()
    assert Conv1x1(np.ones((2, 0)), center=[])(np.ones((3, 0))).tolist() == [[0, 0]] * 3


# ------------------------------------------------------------------------------------------ what a layer tells


def test_a_layer_with_a_center() -> None:
    layer = Conv1x1(np.ones((2, 3)), [1, 2], center=[4, 5, 6])
    center = layer.center
    assert center is not None
    assert center.tolist() == [4, 5, 6]
    assert not center.flags.writeable
    assert Conv1x1(np.ones((2, 3))).center is None
    assert repr(layer) == "<Conv1x1 3 → 2, bias, center, channel_axis=-1>"
    again = pickle.loads(pickle.dumps(layer))
    assert (repr(again), again.center.tolist()) == (repr(layer), [4, 5, 6])
    assert again([[4, 5, 7]]).tolist() == layer([[4, 5, 7]]).tolist() == [[2, 3]]
    (arrays,) = (part for part in Conv1x1(np.ones((2, 3))).__reduce__()[1] if isinstance(part, dict) and "w" in part)
    assert "center" not in arrays  # what knows none loads it
    net = Sequential([layer, Conv1x1(np.ones((1, 2)))])
    assert "2 → 1" in repr(net)
    file = BytesIO()
    save(file, net)
    file.seek(0)
    assert load(file)([[4, 5, 7.5]]).tolist() == net([[4, 5, 7.5]]).tolist() == [[6]]


def test_explanations() -> None:
    e = explain([[20003, 20008]], [0.5, 2], [1], center=[20000, 20010])
    assert (e.value, e.products.tolist(), e.channels.tolist()) == (-1.5, [1.5, -4], [20003, 20008])
    text = str(e)
    assert "Σ (x[0, :] − center) · w + bias" in text
    assert "  center c    20000  20010\n" in text
    assert "  w·(x−c)       1.5     −4\n" in text
    assert "0.5·3 + 2·(−2) = −2.5" in text
    assert "pixel − center" in e.to_svg()
    grouped = explain(np.arange(4.0)[None], np.ones((2, 2)), center=[9, 9, 1, 2], groups=2, filter=1)
    assert grouped.value == 2 + 3 - 1 - 2


def test_becomes_part_of_a_quantised_layers_bias(normal: Any) -> None:
    x, w = normal(200, 8), normal(6, 4)
    x[:, 4:] += 3
    layer = Conv1x1(w, center=[0, 0, 0, 0, 3, 3, 3, 3], groups=2)
    quantised = QConv1x1.from_float(layer, x)
    assert quantised.bias is not None
    assert quantised.snr > 25
    assert np.abs(quantised.dequantize(quantised(quantised.quantize(x))) - layer(x)).max() < 0.3


# ----------------------------------------------------------------------------------------------- what is wrong


@pytest.mark.parametrize(
    ("center", "error", "words"),
    [
        (5, ValueError, r"center has shape \(\), expected \(3,\), one number a channel: pass np.full\(3, center\)"),
        ([[1, 2, 3]], ValueError, r"center has shape \(1, 3\), expected \(3,\).*np.ravel\(center\)"),
        ([1, 2], ValueError, r"center has shape \(2,\), expected \(3,\), one number a channel$"),
        ([1j, 2, 3], TypeError, "center is taken off real numbers.*center has dtype complex128: leave center away"),
        (["a"] * 3, TypeError, "center must hold numbers"),
        (np.ma.array([1, 2, 3], mask=[1, 0, 0]), TypeError, "center is a masked array: pass center.filled"),
    ],
)
def test_centers_that_do_not_fit(center: Any, error: Any, words: str) -> None:
    for make in (Conv1x1, lambda w, **more: reference(np.ones((1, 3)), w, **more)):
        with pytest.raises(error, match=words):
            make(np.ones((2, 3)), center=center)


def test_real_numbers_alone() -> None:
    words = "center is taken off real numbers, with real weights, but {} has dtype complex"
    for name, given in [("w", {"w": np.ones((2, 3)) * 1j}), ("bias", {"w": np.ones((2, 3)), "bias": [1j, 2]})]:
        with pytest.raises(TypeError, match=words.format(name)):
            Conv1x1(**given, center=[1, 2, 3])
    with pytest.raises(TypeError, match="dtype=complex64 is asked for"):
        Conv1x1(np.ones((2, 3)), center=[1, 2, 3], dtype="complex64")
    layer, x = Conv1x1(np.ones((2, 3)), center=[1, 2, 3]), np.ones((4, 3))
    y = layer(x)
    for name, more in [("x", {"x": x * 1j}), ("residual", {"residual": y * 1j}), ("out", {"out": y * 1j})]:
        before = {key: a.copy() for key, a in more.items()}
        with pytest.raises(TypeError, match=words.format(name)):
            layer(**{"x": x} | more)
        assert all(np.array_equal(more[key], a) for key, a in before.items())
    of_x, of_w = {"x_scale": 1, "x_zero_point": np.uint8(1)}, {"w_scale": 1, "w_zero_point": 0}
    with pytest.raises(TypeError, match="QConv1x1 has no center: x_zero_point is what is taken off"):
        QConv1x1(np.ones((2, 3), np.int8), **of_x, **of_w, y_scale=1, y_zero_point=np.uint8(0), center=[1, 2, 3])
