"""Sums over pixels: the exact covariance where that can be, and one order of sums elsewhere."""

import itertools
import pickle
from fractions import Fraction
from typing import Any

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

import conv1x1 as c11
from conv1x1.command.main import main
from conv1x1.runtime import restricted
from conv1x1.streaming.sums import of_source

TYPES = ["bool", "u1", "i1", "u2", "i2", ">u2", "i4", "u4", "i8", "f2", "f4", ">f4", "f8"]


def pixels(shape: tuple[int, ...], dtype: Any, mean: float = 60, deviation: float = 20) -> Any:
    numbers = np.random.default_rng(shape).normal(mean, deviation, shape)
    return (numbers > mean) if dtype == "bool" else numbers.astype(dtype)


def exactly(x: Any, axis: int = -1, keep: Any = None) -> tuple[Any, Any]:
    """Mean and covariance in fractions, each rounded once."""
    flat = np.moveaxis(x, axis, -1).reshape(-1, x.shape[axis])
    rows = flat if keep is None else flat[keep.ravel()]
    columns = [[Fraction(float(v)) for v in column] for column in rows.T]
    n = len(rows)
    means = [sum(column) / n for column in columns]
    entries = [
        [
            float(sum((a - m) * (b - k) for a, b in zip(f, g, strict=True)) / (n - 1))
            for g, k in zip(columns, means, strict=True)
        ]
        for f, m in zip(columns, means, strict=True)
    ]
    return np.array([float(m) for m in means]), np.array(entries)


@pytest.mark.parametrize("dtype", TYPES)
@pytest.mark.parametrize(("shape", "axis"), [((9, 7, 5), 2), ((3, 8, 6), 0), ((4, 3, 2, 5), 1), ((11, 1), 1)])
def test_equals_fractions(dtype: str, shape: tuple[int, ...], axis: int) -> None:
    x = pixels(shape, dtype)
    mean, found = c11.covariance(x, channel_axis=axis)
    means, entries = exactly(x, axis)
    if np.dtype(dtype).itemsize <= 2 and np.dtype(dtype).kind in "bui":
        np.testing.assert_array_equal(mean, means)
        np.testing.assert_array_equal(found, entries)
    np.testing.assert_allclose(mean, means, rtol=1e-15)
    scale = np.sqrt(np.outer(np.diag(entries), np.diag(entries)))
    assert (abs(found - entries) <= 1e-13 * scale).all()
    np.testing.assert_array_equal(found, found.T)


@pytest.mark.parametrize(("mean", "deviation"), [(1e9, 1e-3), (-1e150, 1e140), (1e-150, 1e-155), (0, 1)])
def test_a_large_mean_costs_no_digits(mean: float, deviation: float) -> None:
    x = pixels((300, 3), "f8", mean, deviation)
    rounds = 2.0**-53 * abs(mean)  # of the numbers themselves, which are taken as they are
    assert deviation > rounds
    np.testing.assert_allclose(c11.covariance(x)[1], exactly(x)[1], rtol=0, atol=1e-12 * deviation**2)


def test_numpy_says_the_same() -> None:
    x = pixels((50, 41, 12), "f4")
    weights, keep = np.random.default_rng(0).random((50, 41)), np.random.default_rng(1).random((50, 41)) < 0.3
    weights[keep] = 0
    flat = x.reshape(-1, 12).astype(float).T
    np.testing.assert_allclose(c11.covariance(x)[1], np.cov(flat), rtol=1e-11)
    np.testing.assert_allclose(c11.covariance(x, weights=keep)[1], np.cov(flat[:, keep.ravel()]), rtol=1e-11)
    by_weights = c11.covariance(x, weights=weights)
    np.testing.assert_allclose(by_weights[1], np.cov(flat, aweights=weights.ravel()), rtol=1e-11)
    np.testing.assert_allclose(by_weights[0], np.average(flat, 1, weights.ravel()), rtol=1e-13)


@st.composite
def layouts(draw: Any) -> tuple[Any, int]:
    """An image, as any view of any memory order, and its channel axis."""
    shape = tuple(draw(st.lists(st.integers(1, 12), min_size=2, max_size=4)))
    order = draw(st.permutations(range(len(shape))))
    x = pixels(shape, draw(st.sampled_from(["u2", "f4", "f8"])))
    stored = x.transpose(order).copy().transpose(np.argsort(order))
    if draw(st.booleans()):
        stored = np.repeat(stored, 2, 0)[::2]
    return stored, draw(st.integers(0, len(shape) - 1))


@given(layouts())
def test_no_bit_depends_on_layout_or_threads(case: tuple[Any, int]) -> None:
    x, axis = case
    if x.size // x.shape[axis] < 2:
        return
    first = c11.covariance(np.ascontiguousarray(x), channel_axis=axis, threads=1)
    for other in (x, np.asfortranarray(x)):
        again = c11.covariance(other, channel_axis=axis, threads=3)
        assert all(a.tobytes() == b.tobytes() for a, b in zip(first, again, strict=True))


def test_no_bit_depends_on_the_instruction_set(isa: str) -> None:
    x = pixels((130, 101, 19), "f4", 1000, 30)  # more than one block of pixels
    with restricted(isa="portable"):
        expected = c11.covariance(x, threads=1)[1]
    for threads in 1, 3:
        np.testing.assert_array_equal(c11.covariance(x, threads=threads)[1], expected)


def test_parts_in_any_order_give_the_same_bits() -> None:
    for dtype in ("u2", "f4", "f8"):
        x = pixels((24, 10, 6), dtype, 3e4, 10)
        parts = [c11.Covariance(6).update(x[i : i + 6]) for i in range(0, 24, 6)]
        totals = set()
        for order in itertools.permutations(range(4)):
            one, other = c11.Covariance(6), c11.Covariance(6)
            for i in order[:2]:
                one.merge(parts[i])
            for i in order[2:]:
                other.update(x[6 * i : 6 * i + 6])
            both = pickle.loads(pickle.dumps(one)).merge(other)
            assert both.count == 240
            totals.add(both.mean.tobytes() + both.covariance.tobytes())
        assert len(totals) == 1
        whole = c11.covariance(x)
        if dtype == "u2":
            assert totals == {whole[0].tobytes() + whole[1].tobytes()}
        np.testing.assert_allclose(both.covariance, whole[1], rtol=1e-11, atol=1e-12)


def test_more_pixels_than_are_summed_exactly_at_once() -> None:
    x = np.full((2, 2**21, 1), 65535, np.uint16)
    x[1, ::2] = 0
    keep = np.ones((2, 2**21), bool)
    keep[0, :4] = False
    total = c11.Covariance(1).update(x, weights=keep)
    n, high = 2**22 - 4, 2**21 + 2**20 - 4
    assert total.count == n
    exact = Fraction(high * 65535**2 * n - (high * 65535) ** 2, n * (n - 1))
    assert total.covariance[0, 0] == float(exact)


def test_what_does_not_count() -> None:
    x = pixels((12, 9, 4), "u2")
    x[2, 3, 1] = x[5, 5, 2] = 0
    keep = (x != 0).all(-1)
    total = c11.Covariance(4).update(x, nodata=0)
    assert (total.count, total.left_out) == (106, 2)
    np.testing.assert_array_equal(total.covariance, exactly(x, keep=keep)[1])
    masked = c11.covariance(np.ma.masked_equal(x, 0))
    np.testing.assert_array_equal(masked[1], total.covariance)
    by_band = c11.Covariance(4).update(x, nodata=[1e9, 0, 1e9, -1])
    assert by_band.left_out == 1
    y = x.astype("f4")
    y[~keep] = np.nan
    with_nan = c11.Covariance(4).update(y, nodata=np.nan)
    np.testing.assert_allclose(with_nan.covariance, total.covariance, rtol=1e-12)
    np.testing.assert_array_equal(c11.covariance(y, weights=keep)[1], with_nan.covariance)


def test_nan_and_infinity_spoil_their_own_channel() -> None:
    x = pixels((20, 3), "f8")
    x[4, 1] = np.inf
    mean, found = c11.covariance(x)
    clean = c11.covariance(x[:, [0, 2]])
    assert np.isnan(mean[1])
    assert np.isnan(found[1]).all()
    np.testing.assert_array_equal(found[np.ix_([0, 2], [0, 2])], clean[1])


@pytest.mark.parametrize(
    ("call", "error", "text"),
    [
        (lambda x: c11.covariance(x + 1j), TypeError, "pass x.real, and x.imag"),
        (lambda x: c11.covariance(x[:1, :1]), ValueError, "at least two pixels; 1 were counted"),
        (lambda x: c11.covariance(x[:0]), ValueError, "no pixels"),
        (lambda x: c11.covariance(x[..., :0]), ValueError, "no channels"),
        (lambda x: c11.covariance(x, channel_axis=3), ValueError, "outside x"),
        (lambda x: c11.covariance(x, weights=np.ones(3)), ValueError, r"expected x's without the channels, \(6, 5\)"),
        (lambda x: c11.covariance(x, weights=-np.ones((6, 5))), ValueError, "not negative"),
        (lambda x: c11.covariance(x, weights=np.ones((6, 5), complex)), TypeError, "real numbers"),
        (lambda x: c11.covariance(x, nodata=[1, 2]), ValueError, "one for each of the 4 channels"),
        (lambda x: c11.covariance("image.png"), ValueError, "no kind that is known"),
        (lambda x: c11.Covariance(0), ValueError, "channels must be"),
        (lambda x: c11.Covariance(3).update(x), ValueError, "has 4 channels on axis 2, expected 3"),
        (lambda x: c11.Covariance(3).merge(c11.Covariance(4)), ValueError, "got one of 4"),
        (lambda x: c11.Covariance(3).merge(x), TypeError, r"update\(x\)"),
        (lambda x: c11.covariance(x, threads=0), ValueError, "threads must be"),
    ],
)
def test_what_is_wrong_is_said(call: Any, error: type, text: str) -> None:
    with pytest.raises(error, match=text):
        call(pixels((6, 5, 4), "f4"))


PEAK = """
import resource
import numpy as np
import conv1x1 as c11
x = np.zeros((512, 512, 64), np.uint16)
x[::3] = 7
c11.covariance(x[:64], threads=2)
before = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
c11.covariance(x, threads=2)
print(resource.getrusage(resource.RUSAGE_SELF).ru_maxrss - before)
"""


def test_no_copy_of_the_cube(fresh_python: Any) -> None:
    assert int(fresh_python(PEAK).stdout) <= 8 * 1024  # KiB, where the cube has 32 MiB


@pytest.mark.parametrize("dtype", ["u2", "f4"])
def test_a_file_is_read_tile_by_tile(dtype: str, tmp_path: Any) -> None:
    x = pixels((300, 70, 40), dtype, 3e4, 10)
    x[5, 6, 7] = 0
    np.save(tmp_path / "x.npy", x)
    told: list[tuple[int, int]] = []
    small = of_source(tmp_path / "x.npy", nodata=0, memory="500 KiB", tell=lambda *now: told.append(now))
    assert len(told) > 4
    assert told[-1] == (21000, 21000)
    assert small.left_out == 1
    for found, expected in [
        (small.covariance, c11.covariance(x, nodata=0)[1]),
        (c11.covariance(tmp_path / "x.npy")[1], c11.covariance(x)[1]),
    ]:
        np.testing.assert_allclose(found, expected, rtol=1e-9, atol=1e-9)
        assert dtype == "f4" or np.array_equal(found, expected)
    with pytest.raises(TypeError, match="pass nodata="):
        c11.covariance(tmp_path / "x.npy", weights=np.ones((300, 70)))


def test_commands(tmp_path: Any, capsys: Any) -> None:
    x = pixels((40, 30, 8), "u2", 3e4, 100)
    np.save(tmp_path / "x.npy", x)
    assert main(["covariance", str(tmp_path / "x.npy"), "-o", str(tmp_path / "c.npz")]) == 0
    assert "1,200 pixels of 8 channels" in capsys.readouterr().out
    np.testing.assert_array_equal(np.load(tmp_path / "c.npz")["covariance"], c11.covariance(x)[1])
    assert main(["covariance", str(tmp_path / "x.npy"), "-o", str(tmp_path / "c.npz")]) == 1  # it is there
    assert main(["pca", str(tmp_path / "x.npy"), "-k", "3", "-o", str(tmp_path / "p.npz")]) == 0
    assert "3 components explain" in capsys.readouterr().out
    np.testing.assert_array_equal(c11.load(tmp_path / "p.npz")(x), c11.pca(x, 3)(x))
    for wrong in (["-k", "9"], ["-k", "x"], ["--nodata", "1,2"], ["--channel-axis", "5"]):
        assert main(["pca", str(tmp_path / "x.npy"), "-o", str(tmp_path / "q.npz"), *wrong]) == 1
        assert capsys.readouterr().err.count("\n") <= 2
    assert main(["pca", str(tmp_path / "no.npy"), "-o", str(tmp_path / "q.npz")]) == 1
    assert not (tmp_path / "q.npz").exists()
