"""`explain` promises the real arithmetic of one number, in words a student can follow and a drawing for a slide."""

from __future__ import annotations

import dataclasses
import html
import itertools
import re
import runpy
import xml.etree.ElementTree as ET
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from numpy.typing import NDArray

from conv1x1 import (
    ArgMax,
    Conv1x1,
    Explanation,
    LayerNorm,
    Pool,
    QConv1x1,
    Sequential,
    Softmax,
    conv1x1,
    explain,
    reference,
)

SEED = [[[1.0, 2.0], [3.0, 4.0]], [[5.0, 6.0], [7.0, 8.0]]]


def texts_of(explanation: Explanation) -> Iterator[ET.Element]:
    return ET.fromstring(explanation.to_svg()).iter("{http://www.w3.org/2000/svg}text")


def numbers(*shape: int, seed: int = 0) -> NDArray[np.float32]:
    return np.random.default_rng([seed, *shape]).standard_normal(shape).astype(np.float32)


X = numbers(28, 28, 192)

#: Every kind of picture, with extreme shapes and numbers.
CASES: dict[str, Callable[[], Explanation]] = {
    "seed": lambda: explain(SEED, [2, 3], channel_axis=0),
    "one filter": lambda: explain(X, numbers(1, 1, 192), at=(14, 9)),
    "relu": lambda: explain(X, numbers(16, 192), numbers(16), activation="relu", at=(-1, -1), filter=15),
    "line": lambda: explain(numbers(1000, 64), numbers(8, 64), at=999),
    "pixel": lambda: explain(numbers(64), numbers(64)),
    "groups": lambda: explain(X, numbers(8, 96), groups=2, at=(27, 27), filter=6),
    "tall": lambda: explain(numbers(2000, 3, 6), numbers(3, 6), at=(1999, 2)),
    "wide": lambda: explain(numbers(3, 2000, 6), numbers(3, 6), at=(2, 1999)),
    "batch": lambda: explain(numbers(4, 2, 9, 9, 8, 5), numbers(7, 5), stride=2, at=(3, 1, 8, 4, 3), filter=6),
    "no channels": lambda: explain(np.zeros((5, 5, 0)), np.zeros((2, 0)), [1.0, 2.0]),
    "five axes": lambda: explain(
        np.broadcast_to(np.float32(-1.23456e-30), (12, 16, 10, 12, 2048)),
        numbers(1000, 2048),
        at=(11, 15, 9, 11),
        filter=999,
    ),
    "everything": lambda: explain(
        1e30 * numbers(2, 30, 28, 2048),
        1e-30 * numbers(64, 1024).astype(np.float64),
        numbers(64),
        groups=2,
        stride=(2, 3),
        activation=("clip", -1.23456e-5, 9.87654e20),
        residual=-1e20 * np.abs(numbers(2, 15, 10, 64)),
        dtype=np.float32,
        at=(1, 7, 3),
        filter=60,
    ),
    "integers": lambda: explain(
        np.full((9, 7, 50), 65535, np.uint16), np.full((3, 50), -32768, np.int16), [-(2**31)] * 3, at=(3, 4)
    ),
    "saturated": lambda: explain(
        np.full((9, 7, 3), 250, np.uint8), np.full((1, 3), 0.75), residual=np.full((9, 7, 1), 9.5), dtype=np.uint8
    ),
    "float16": lambda: explain(X.astype(np.float16), numbers(1, 192), activation="tanh"),
    "complex": lambda: explain(numbers(5, 6, 8) * (1 + 1j), numbers(4, 8), residual=numbers(5, 6, 4), at=(1, 1)),
    "complex filter": lambda: explain(X * (1 - 1e-9j), numbers(2, 192) * (1e20 + 1j), numbers(2) * 1j),
    "not finite": lambda: explain(
        np.array([[np.nan, np.inf, -np.inf, -1e-300, 1.7e308, -0.0]]), np.ones((1, 6)), activation="silu"
    ),
}


@pytest.fixture(params=CASES)
def case(request: pytest.FixtureRequest) -> str:
    return str(request.param)


@pytest.fixture
def explanation(case: str) -> Explanation:
    return CASES[case]()


def test_seed_example_reads_as_a_calculation() -> None:
    text = str(explain(SEED, [2, 3], channel_axis=0))
    assert "2·1 + 3·5 = 17" in text
    assert "x (2, 2, 2) · w (2,) → products (2, 2, 2) → sum over the 2 channels → (2, 2)" in text
    assert "2·4 + 3·8 = 32" in str(explain(SEED, [2, 3], channel_axis=0, at=(1, 1)))
    assert "−2·1 + 3·5 = 13" in str(explain(SEED, [-2, 3], channel_axis=0))
    assert "2·1 + (−3)·5 = −13" in str(explain(SEED, [2, -3], channel_axis=0))


def test_many_channels_are_shown_from_both_ends() -> None:
    x, w = np.arange(1.0, 193.0), np.full(192, 2.0)
    text = str(explain(x, w))
    assert "2·1 + 2·2 + … + 2·192 = 37056" in text
    rows = [line.split() for line in text.splitlines()]
    assert ["channel", "0", "1", "2", "…", "190", "191"] in rows
    assert ["x", "1", "2", "3", "…", "191", "192"] in rows
    assert ["w·x", "2", "4", "6", "…", "382", "384"] in rows


def test_ledger_answers_what_shrinks() -> None:
    x = numbers(28, 28, 192)
    one = str(explain(x, numbers(1, 1, 192)))
    ledger = "x (28, 28, 192) · w (1, 192) → products (28, 28, 192) → sum over the 192 channels → (28, 28, 1)"
    assert f"\n  {ledger}\n" in one
    many = str(explain(x, numbers(16, 192), filter=5))
    assert "x (28, 28, 192) · filter 5 (1, 192) → products (28, 28, 192)" in many
    assert "sum over the 192 channels → (28, 28, 1)\n" in many
    assert "16 filters make 16 such sums, stacked → (28, 28, 16)" in many


def test_stride_and_group_are_said() -> None:
    text = str(
        explain(numbers(2, 64, 20, 30), numbers(8, 32), groups=2, stride=2, channel_axis=1, at=(1, 9, 14), filter=7)
    )
    assert "pixel (1, 9, 14) of the result comes from pixel (1, 18, 28) of x" in text
    assert "filter 7 sees the channels of its group only, 32 to 63" in text
    assert "x (2, 64, 20, 30) → x[:, 32:64, ::2, ::2]" in text
    assert "products (2, 32, 10, 15)" in text
    assert "stacked → (2, 8, 10, 15)" in text


def test_every_step_has_its_intermediate_value() -> None:
    e = explain(
        SEED,
        [2, 3],
        [0.5],
        channel_axis=0,
        residual=[[-30.0, 0.0], [0.0, 0.0]],
        activation=("leaky_relu", 0.5),
        dtype=np.float32,
    )
    assert [step[1:] for step in e.steps] == [
        ("2·1 + 3·5", 17.0),
        ("17 + 0.5", 17.5),
        ("17.5 + (−30)", -12.5),
        ("leaky_relu(−12.5, 0.5)", -6.25),
        ("float32(−6.25)", -6.25),
    ]
    for _, arithmetic, value in e.steps:
        assert f"{arithmetic} = {value:g}".replace("-", "−") in str(e)


@pytest.mark.drawn
@pytest.mark.parametrize("channel_axis", [-1, 1, 0])
@pytest.mark.parametrize("with_residual", [False, True])
@pytest.mark.parametrize("activation", [None, "relu", "gelu", ("clip", -1, 1)])
@pytest.mark.parametrize("with_bias", [False, True])
@pytest.mark.parametrize("groups", [1, 2])
@pytest.mark.parametrize("stride", [1, 2, (1, 3)])
def test_value_is_that_of_the_reference(
    stride: Any, groups: int, with_bias: bool, activation: Any, with_residual: bool, channel_axis: int
) -> None:
    x = np.moveaxis(numbers(2, 5, 7, 6), -1, channel_axis)
    w = numbers(4, 6 // groups)
    bias = numbers(4) if with_bias else None
    call: dict[str, Any] = {"channel_axis": channel_axis, "stride": stride, "groups": groups, "activation": activation}
    y = reference(x, w, bias, **call)
    if with_residual:
        call["residual"] = numbers(*y.shape, seed=1)
        y = reference(x, w, bias, **call)
    pixels = np.moveaxis(y, channel_axis, -1)
    *at, k = np.random.default_rng(2).integers(pixels.shape)
    e = explain(x, w, bias, at=tuple(at), filter=k, **call)
    assert e.value == pytest.approx(pixels[(*at, k)], rel=1e-12, abs=1e-12)
    assert y[e.index] == pixels[(*at, k)]
    assert e.steps[-1][2] == e.value
    source = np.moveaxis(x, channel_axis, -1)[e.source]
    np.testing.assert_array_equal(e.channels, source[k // (4 // groups) * w.shape[1] :][: w.shape[1]])
    np.testing.assert_array_equal(e.products, e.channels * w[k])
    assert e.shapes["result"] == y.shape


@pytest.mark.parametrize(
    ("stride", "says"),
    [
        (2, "x[::2, ::2, :], axes 0, 1 strided, "),
        ((2,), "x[:, ::2, :], axis 1 strided, "),
        ((3, 1), "x[::3, :, :], axis 0 strided, "),
    ],
)
def test_strided_axes_are_said(stride: Any, says: str) -> None:
    """Of (N, L, C), an int strides the batch too."""
    x, w = numbers(4, 8, 3), numbers(2, 3)
    assert f"x (4, 8, 3) → {says}" in str(explain(x, w, stride=stride, at=(1, 2)))
    assert "strided" not in str(explain(x, w, at=(1, 2)))


@pytest.mark.parametrize("order", [(0, 1, 2), (2, 0, 1), (1, 2, 0), (2, 1, 0)])
@pytest.mark.parametrize("filters", [(5, 3), (3,)])
def test_how_the_result_lies_is_said(order: Any, filters: Any) -> None:
    """As the call's own does; where that is not C order, for a reader too."""
    x = np.ones([(4, 8, 3)[i] for i in order], np.float32).transpose(np.argsort(order))
    w = np.ones(filters, np.float32)
    y, e = conv1x1(x, w), explain(x, w, at=(1, 2))
    axes = e.plan["memory_order"]
    assert y.transpose(axes).flags.c_contiguous
    assert e.plan == Conv1x1(w).plan(x)
    says = f"its axes in the order {', '.join(map(str, axes))}, the outermost first"
    assert (says in str(e)) == (not y.flags.c_contiguous)


@pytest.mark.parametrize("case", sorted({*CASES} - {"five axes"}))  # which would be 90 GFLOP
def test_the_result_is_that_of_the_call(case: str, monkeypatch: pytest.MonkeyPatch) -> None:
    """Bit for bit, and of its type, where `value` is what exact arithmetic gives."""
    calls: list[Any] = []
    explained = explain

    def noted(*args: Any, **kwargs: Any) -> Explanation:
        calls.append((args, {k: v for k, v in kwargs.items() if k not in ("at", "filter")}))
        return explained(*args, **kwargs)

    monkeypatch.setitem(CASES[case].__globals__, "explain", noted)
    e = CASES[case]()
    args, kwargs = calls[0]
    y = conv1x1(*args, **kwargs)[e.index]
    assert isinstance(e.result, np.generic)
    assert (e.result.dtype, e.result.tobytes()) == (y.dtype, y.tobytes())


def test_only_the_pixel_is_looked_at() -> None:
    """Wide integers, of which a call looks at all to say whether sums are exact, may be a cube on a disk."""
    x = np.full((4, 5, 3), 2**60)
    x[2, 3] = 2**40
    layer = Conv1x1([1, 2, 3])
    with pytest.raises(ValueError, match="summed exactly"):
        layer(x)
    assert explain(x, [1, 2, 3], at=(2, 3)).result == 6 * 2**40
    assert explain(x, [1, 2, 3], residual=x[..., 0], at=(2, 3)).result == 7 * 2**40
    assert explain(x.T, [1, 2, 3], channel_axis=0, at=(3, 2)).result == 6 * 2**40
    with pytest.raises(ValueError, match="summed exactly"):
        explain(x, [1, 2, 3])
    assert layer.plan(x)["dtype"] == "int64"


def test_a_residual_of_floats_lets_bytes_have_any_number_of_channels() -> None:
    x, w = np.ones((1, 70000), np.uint8), np.ones((1, 70000), np.int8)
    assert explain(x, w, residual=[[0.5]]).result == 70000.5


@pytest.mark.parametrize(
    ("at", "says"),
    [
        ((0, 0), None),
        ((0, 1), "x is masked here, so the result is"),
        ((1, 0), "residual is masked here, so the result is"),
        ((1, 1), "x and residual are masked here, so the result is"),
    ],
)
@pytest.mark.parametrize("w", [np.ones(3), np.ones((2, 3))], ids=["vector", "matrix"])
def test_a_mask_is_said(at: tuple[int, ...], says: str | None, w: Any) -> None:
    x = np.ma.array(np.arange(12.0).reshape(2, 2, 3), mask=False)
    x[:, 1, 2] = np.ma.masked
    residual = np.ma.array(np.ones((2, 2, 2)), mask=[[[False] * 2] * 2, [[True] * 2] * 2])
    if w.ndim == 1:
        residual = residual[..., 0]
    e = explain(x, w, residual=residual, at=at)
    y = conv1x1(x, w, residual=residual)
    assert bool(np.ma.getmaskarray(y)[e.index]) == (says is not None)
    assert e.result == y.data[e.index]
    for text in (str(e), e.to_svg()):
        assert ("mask" in text) == (says is not None)
        assert says is None or f"{says}; these are the numbers under the mask" in text
    assert "strided" not in str(e)


def test_what_is_public_is_in_the_docstring() -> None:
    documented = re.findall(r"^    (\w[\w, ]*) : ", Explanation.__doc__ or "", re.MULTILINE)
    names = {name for line in documented for name in line.split(", ")}
    assert names == {f.name for f in dataclasses.fields(Explanation) if not f.name.startswith("_")}
    assert len(names) <= 13


def test_dtype_rounds_as_the_reference() -> None:
    x, w = numbers(3, 3, 5).astype(np.float64) / 3, numbers(2, 5)
    y = reference(x, w, dtype=np.float32)
    assert explain(x, w, dtype=np.float32, at=(2, 1), filter=1).value == pytest.approx(float(y[2, 1, 1]), rel=2e-7)
    assert np.float32(explain(x, w, dtype=np.float32).value) == explain(x, w, dtype=np.float32).value


def test_work_and_memory_of_a_call() -> None:
    e = explain(numbers(10, 12, 8), numbers(6, 4), numbers(6), groups=2, stride=2, residual=numbers(5, 6, 6))
    assert e.flops == 2 * 4 * 6 * 30
    assert e.bytes_read == 4 * (30 * 8 + 6 * 4 + 6 + 30 * 6)
    assert e.bytes_written == 4 * 30 * 6
    assert e.intensity == e.flops / (e.bytes_read + e.bytes_written)
    assert explain(numbers(2, 8), numbers(6, 8), dtype=np.float64).bytes_written == 8 * 2 * 6
    text = str(e)
    assert "2 · 4 channels · 6 filters · 30 pixels = 1,440 FLOPs" in text
    assert e.plan["kernel"] in text
    assert f"{e.plan['rows']} rows × {e.plan['lanes']} lanes" in text


def test_at_counts_like_an_index() -> None:
    x, w = numbers(2, 5, 7, 3), numbers(4, 3)
    assert explain(x, w).index == (0, 0, 0, 0)
    assert explain(x, w, at=(3, -1)).index == (0, 3, 6, 0)
    assert explain(x, w, at=-2).index == (0, 0, 5, 0)
    assert explain(x, w, at=(np.int64(-1), 0, 0), filter=-1).index == (1, 0, 0, 3)  # type: ignore[arg-type]
    assert explain(x[0, 0, 0], w).index == (0,)
    assert explain(x[0, 0, 0], w[0], at=()).index == ()


@pytest.mark.parametrize(
    ("kwargs", "error", "words"),
    [
        ({"at": (5, 0)}, IndexError, r"expected -5 ≤ index < 5 on pixel axis 0, got 5"),
        ({"at": (0, -8)}, IndexError, r"expected -7 ≤ index < 7 on pixel axis 1, got -8"),
        ({"at": (0, 4), "stride": 2}, IndexError, r"expected -4 ≤ index < 4 on pixel axis 1, got 4"),
        ({"at": (0, 0, 0)}, IndexError, r"3 indices; the result has 2 pixel axes, shape \(5, 7\)"),
        ({"at": (0, 1.0)}, TypeError, "ints, got 1.0"),
        ({"at": True}, TypeError, "ints, got True"),
        ({"filter": 4}, IndexError, r"filter=4 .* expected -4 ≤ index < 4 on the channel axis, got 4"),
        ({"filter": "0"}, TypeError, "filter='0' must hold ints"),
    ],
)
def test_indices_outside_say_what_was_expected(kwargs: dict[str, Any], error: type[Exception], words: str) -> None:
    with pytest.raises(error, match=words):
        explain(numbers(5, 7, 3), numbers(4, 3), **kwargs)


@pytest.mark.parametrize(("x", "w"), [((0, 7, 3), (4, 3)), ((5, 7, 3), (0, 3))])
def test_nothing_to_explain(x: tuple[int, ...], w: tuple[int, ...]) -> None:
    with pytest.raises(ValueError, match="no number to explain"):
        explain(np.zeros(x), np.zeros(w))


def test_errors_are_those_of_the_call() -> None:
    with pytest.raises(ValueError, match=r"the 4 channels of x: pass w\.T"):
        explain(numbers(5, 7, 4), numbers(4, 3))
    with pytest.raises(TypeError, match="masked"):
        explain(numbers(5, 3), np.ma.masked_array(numbers(4, 3)))


def test_text_is_compact(case: str, explanation: Explanation) -> None:
    lines = str(explanation).splitlines()
    assert repr(explanation) == str(explanation)
    assert len(lines) <= 27
    if case not in ("five axes", "everything"):
        assert max(map(len, lines)) <= 100


def test_drawing_is_well_formed_and_self_contained(explanation: Explanation) -> None:
    svg = explanation.to_svg()
    root = ET.fromstring(svg)
    assert root.tag == "{http://www.w3.org/2000/svg}svg"
    assert {element.tag.split("}")[1] for element in root} <= {"rect", "path", "text"}
    assert "href" not in svg
    assert "url(" not in svg
    coordinates = " ".join(
        v for element in root for k, v in element.attrib.items() if k in ("d", "x", "y", "width", "height")
    )
    assert "nan" not in coordinates
    assert "inf" not in coordinates


def test_drawing_shows_shapes_and_numbers() -> None:
    e = explain(
        SEED, [[2.0, 3.0], [4.0, -0.125]], [9.0, 0.5], channel_axis=0, activation=("clip", 0, 3), at=(1, 1), filter=1
    )
    texts = [element.text for element in texts_of(e)]
    for shape in ("x (2, 2, 2)", "products (2, 2, 2)", "result (2, 2, 2)", "(1, 2)"):
        assert shape in texts
    for number in ("4", "8", "−0.125", "16", "−1", "15", "15.5", "3"):
        assert number in texts
    assert {"Σ over 2 channels =", "+ bias 0.5 =", "clip(15.5, 0, 3) ="} <= set(texts)


def test_text_of_the_drawing_stays_inside_and_apart(explanation: Explanation) -> None:
    keeps_apart(explanation)


def keeps_apart(explanation: Any) -> None:
    """With letters as wide as DejaVu Sans', no text leaves the view box or runs into another."""
    _, _, width, height = map(float, ET.fromstring(explanation.to_svg()).attrib["viewBox"].split())
    boxes = []
    for element in texts_of(explanation):
        text = element.text or ""
        x, y, size = (float(element.attrib[k]) for k in ("x", "y", "font-size"))
        length = 0.6 * size * len(text)
        left = x - {"start": 0.0, "middle": 0.5, "end": 1.0}[element.attrib["text-anchor"]] * length
        assert 0 <= left < left + length <= width, text
        assert size <= y <= height - 0.3 * size, text
        boxes.append((left, left + length, y - 0.7 * size, y, text))
    for a, b in itertools.combinations(boxes, 2):
        apart = a[1] <= b[0] or b[1] <= a[0] or a[3] <= b[2] or b[3] <= a[2]
        assert apart, (a[4], b[4])


def test_notebook_shows_the_drawing_and_escapes() -> None:
    e = explain(SEED, [2, 3], channel_axis=0)
    page = e._repr_html_()
    assert e.to_svg() in page
    assert "2·1 + 3·5 = 17" in page
    ET.fromstring(page)
    rude = dataclasses.replace(e, plan={**e.plan, "kernel": "<b>&'\""})
    assert "<b>" not in rude._repr_html_()
    assert html.escape("<b>&'\"") in rude._repr_html_()
    ET.fromstring(rude._repr_html_())


def test_explanation_is_immutable() -> None:
    with pytest.raises(dataclasses.FrozenInstanceError):
        CASES["seed"]().value = 0.0  # type: ignore[misc]


def test_not_finite_numbers_are_shown_as_they_are() -> None:
    e = CASES["not finite"]()
    assert np.isnan(e.value)
    words = re.split(r"\s+", str(e))
    assert {"nan", "inf", "−inf", "−1e−300", "1.7e308"} <= set(words)
    overflow = explain(np.full((1, 2), 1e308), np.ones((1, 2)))
    assert "1e308 + 1·1e308 = inf" in str(overflow)


def test_integers_are_exact_and_no_floating_point_operations() -> None:
    e = CASES["integers"]()
    total = -65535 * 32768 * 50
    assert (e.steps[0][2], e.value, e.result, e.result.dtype) == (total, total - 2**31, total - 2**31, np.int64)
    assert type(e.value) is int
    text = str(e)
    assert f"= −{-total}\n" in text
    assert f"−{-total} + (−2147483648) = −{-e.value}" in text
    assert "uint16 → int64, sums of integers" in text
    assert "18,900 operations\n" in text
    assert "operations a byte" in text
    assert "FLOP" not in text
    assert f"−{-e.value}" in "".join(t.text or "" for t in texts_of(e))


@pytest.mark.parametrize("x", [np.full((3, 2), 2**62), np.full((3, 2), 7, np.uint8)])
@pytest.mark.parametrize("residual", [np.float32(0.5), np.float64(2.5), np.complex64(1j)])
def test_a_residual_has_its_say_in_the_plan(x: Any, residual: Any) -> None:
    """Pixels and weights of integers alone would be summed exactly, or be refused where they are too large."""
    residual = np.full((3, 1), residual)
    e, y = explain(x, np.int8([[1, 2]]), residual=residual), conv1x1(x, np.int8([[1, 2]]), residual=residual)
    assert e.result == y[0, 0]
    assert e.plan["dtype"] == e.result.dtype == y.dtype
    assert e.plan["arithmetic"] == f"float{8 * x.itemsize if x.itemsize == 8 else 32}"


@pytest.mark.parametrize(
    ("x", "w", "options", "says", "value"),
    [
        ("uint8", [2], {"dtype": "uint8"}, "saturated   uint8(500) = 255", 255),
        ("uint8", [-2], {"dtype": "uint8"}, "saturated   uint8(−500) = 0", 0),
        ("uint8", [2], {"dtype": "int8"}, "saturated   int8(500) = 127", 127),
        ("uint8", [0.25], {"dtype": "uint8"}, "rounded     uint8(62.5) = 62", 62),
        ("uint8", [0.5], {"dtype": "int64"}, "rounded     int64(125) = 125", 125),
        ("float32", [0.25], {"dtype": "int16"}, "rounded     int16(62.5) = 62", 62),
        ("uint8", [3], {"activation": ("clip", 0, 2.5)}, "rounded     int32(2.5) = 2", 2),
        ("float16", [300], {}, "rounded     float16(75000) = inf", np.inf),
        ("float16", [8.5], {}, "rounded     float16(2125) = 2124", 2124),
        ("float64", [1e30], {"dtype": "int32"}, "saturated   int32(2.5e32) = 2147483647", 2**31 - 1),
        ("uint8", [2], {}, None, 500),
        ("uint8", [2], {"residual": [0.5]}, None, 500.5),
        ("uint16", [2], {"residual": np.int32([1])}, None, 501),
        ("float32", [0.25], {}, None, 62.5),
    ],
)
def test_the_last_step_is_rounding(x: str, w: Any, options: Any, says: str | None, value: float) -> None:
    """Where a type was asked for, or the result's is smaller than that of the sums; the value is the call's own."""
    pixel = np.array([[250]], x)
    e = explain(pixel, w, **options)
    assert e.value == value == conv1x1(pixel, w, **options)
    assert (e.result, e.result.dtype) == (value, conv1x1(pixel, w, **options).dtype)
    last = e.steps[-1]
    if says is None:
        assert last[0] not in ("rounded", "saturated")
    else:
        assert f"  {says}\n" in str(e)
        drawn = [t.text or "" for t in texts_of(e)]
        assert f"{last[1]} {'saturates to' if last[0] == 'saturated' else '='}" in drawn


# ------------------------------------------------------------------------------------------------------ chains


def layer(k: int, c: int, **more: Any) -> Conv1x1:
    return Conv1x1(numbers(k, c) / np.float32(c**0.5), numbers(k), **more)


def quantised() -> Any:
    made = QConv1x1.from_float(layer(6, 5, activation="relu"), numbers(50, 5))
    options = {"w_scale": 0.01, "w_zero_point": 1, "y_scale": 0.1, "y_zero_point": np.int8(-3)}
    more = QConv1x1(np.ones((3, 6), np.int8), x_scale=made.y_scale, x_zero_point=made.y_zero_point, **options)
    return Sequential([made, more, ArgMax()])


BLOCK = Sequential([layer(48, 12, activation="gelu"), layer(12, 48, groups=1)], skip=True)
#: Chains, x, at, and the numbers of a pixel at every element.
CHAINS: dict[str, Any] = {
    "classes": (Sequential([layer(12, 20, activation="relu"), BLOCK, layer(5, 12), ArgMax()]), (9, 8, 20), (3, 5)),
    "labels": (Sequential([layer(4, 3), ArgMax([7, 300, -1, 2])], channel_axis=0), (3, 6, 7), (5, 6)),
    "strided": (Sequential([layer(6, 4, stride=2, groups=1), layer(3, 6)], channel_axis=1), (2, 4, 7, 7), (1, 3, 2)),
    "groups": (Sequential([Conv1x1(numbers(4, 3), groups=2), layer(2, 4, activation=("clip", -1, 1))]), (5, 6), (4,)),
    "a center": (Sequential([layer(6, 4, center=numbers(4)), layer(3, 6, groups=1)]), (3, 4), 1),
    "a vector": (Sequential([layer(9, 4), Conv1x1(numbers(9), [1.0])]), (3, 3, 4), None),
    "one layer": (Sequential([layer(300, 400)]), (2, 2, 400), (0, 1)),
    "many layers": (Sequential([layer(30, 30, activation="tanh") for _ in range(14)]), (4, 30), 2),
    "steps": (
        Sequential(
            [LayerNorm(6, numbers(6), numbers(6)), layer(9, 6, activation="silu"), layer(6, 9), Softmax()], skip=True
        )[:],
        (4, 5, 6),
        (1, 2),
    ),
    "a pool": (Sequential([layer(30, 4, activation="relu"), Pool("mean"), layer(5, 30), Softmax()]), (3, 6, 7, 4), 2),
    "quantised": (quantised(), (7, 5), -1),
}


@pytest.fixture(params=CHAINS)
def chain(request: pytest.FixtureRequest) -> Any:
    net, shape, at = CHAINS[request.param]
    x = numbers(*shape)
    return net, (net[0].quantize(x) if request.param == "quantised" else x), at


def test_a_chain_is_explained_by_its_definition(chain: Any) -> None:
    net, x, at = chain
    e: Any = explain(net, x, at=at)
    assert str(explain(x, net, at=at)) == str(e)
    whole, y = reference(x, net), net(x)
    entries: list[Any] = [*e.index]
    if e.value.ndim:
        entries.insert(e._position, slice(None))
    np.testing.assert_allclose(e.value, whole[tuple(entries)], rtol=1e-12)
    assert e.result.tobytes() == y[tuple(entries)].tobytes()
    assert e.stations[0].given.size == net.in_channels
    for before, after in itertools.pairwise(e.stations):
        assert before.numbers is after.given


def test_the_text_of_a_chain_follows_one_pixel(chain: Any) -> None:
    net, x, at = chain
    text = str(explain(net, x, at=at))
    titles = [section.split("\n")[0] for section in text.split("\n\n")]
    assert titles[0].startswith("y[")
    assert [t.split()[0] for t in titles[1:-1]] == [str(i) for i in range(len(titles) - 2)]
    assert titles[-1] == "The needle"
    assert max(map(len, text.split("\n"))) <= 112
    assert not re.search("nan|None|<|np\\.", text)


def test_the_words_of_a_small_chain() -> None:
    net = Sequential([Conv1x1([[2.0, 3], [1, -1]], activation="relu"), Conv1x1([[1.0, 4]], [0.5])])
    assert str(explain(net, np.array([[1.0, 5]], np.float32), at=0)).split("\n") == [
        "y[0, :] = 17.5",
        "  x[0, :]       2 channels: 1  5",
        "",
        "0  Conv1x1 2 → 2, relu(sum)",
        "  channel 0     2·1 + 3·5 = 17",
        "  relu          relu(17) = 17",
        "  gives         2 channels: 17  0",
        "",
        "1  Conv1x1 2 → 1",
        "  channel 0     1·17 + 4·0 = 17",
        "  + bias        17 + 0.5 = 17.5",
        "  gives         1 channel: 17.5",
        "",
        "The needle",
        "  2 → 2 → 1 numbers of one pixel: it widens and narrows, and no array is",
        "  made of what lies between.",
        "  types         float32",
        "  shapes        x (1, 2) → result (1, 1)",
        "  work          12 FLOPs for a pixel of x, 1 number in the result",
    ]


def test_the_needle_is_drawn(chain: Any) -> None:
    net, x, at = chain
    e: Any = explain(net, x, at=at)
    svg = e.to_svg()
    root = ET.fromstring(svg)
    assert "href" not in svg
    assert "url(" not in svg
    assert "nan" not in svg
    shown = [t.text for t in root.iter("{http://www.w3.org/2000/svg}text")]
    for station in e.stations:
        assert str(station.numbers.size) in shown
        assert set(filter(None, station.labels)) <= {*shown}
    _, _, width, height = map(float, root.attrib["viewBox"].split())
    for rect in root.iter("{http://www.w3.org/2000/svg}rect"):
        left, top = float(rect.get("x", 0)), float(rect.get("y", 0))
        assert 0 <= left <= left + float(rect.attrib["width"]) <= width
        assert 0 <= top <= top + float(rect.attrib["height"]) <= height
    keeps_apart(e)
    assert svg in e._repr_html_()
    assert ("+ the pixels" in svg) == any(s.adds is not None for s in e.stations)


def test_filter_is_that_of_the_last_layer() -> None:
    net, x = Sequential([layer(6, 4), layer(3, 6), ArgMax()]), numbers(5, 4)
    e: Any = explain(net, x, at=2, filter=-1)
    assert [station.lines[0][0] for station in e.stations] == ["channel 0", "channel 2", "largest"]
    for options, error in (({"filter": 3}, IndexError), ({"at": 5}, IndexError), ({"at": (0, 0)}, IndexError)):
        with pytest.raises(error):
            explain(net, x, **options)  # type: ignore[arg-type]
    with pytest.raises(TypeError, match="a chain has bias"):
        explain(net, x, stride=2)
    with pytest.raises(ValueError, match="holds no number to explain"):
        explain(net, x[:0])


def test_the_picture_in_readme_is_of_its_example() -> None:
    docs = Path(__file__).parents[1] / "docs"
    drawn = runpy.run_path(str(docs / "chain.py"))["picture"]()
    assert (docs / "chain.svg").read_text(encoding="utf-8") == drawn + "\n", "run docs/chain.py"
