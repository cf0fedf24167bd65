"""Principal components, and those of the least noise, against their definitions by NumPy and against scikit-learn."""

import pickle
from io import BytesIO
from typing import Any

import numpy as np
import pytest

import conv1x1 as c11


def scene(dtype: Any, mean: float = 20000, channels: int = 9) -> Any:
    random = np.random.default_rng(channels)
    mixed = random.normal(size=(40, 30, 3)) @ random.normal(size=(3, channels)) * 50
    return (mean + mixed + random.normal(size=mixed.shape)).astype(dtype)


@pytest.mark.parametrize("dtype", ["u2", "i4", "f4", "f8"])
@pytest.mark.parametrize("axis", [-1, 0])
@pytest.mark.parametrize("whiten", [False, True])
def test_equals_the_definition(dtype: str, axis: int, whiten: bool) -> None:
    x = scene(dtype)
    flat = x.reshape(-1, 9).astype(float)
    _, singular, rows = np.linalg.svd(flat - flat.mean(0), full_matrices=False)
    variances = singular**2 / (len(flat) - 1)
    rows *= np.sign(rows[np.arange(9), abs(rows).argmax(1)])[:, None]
    rows = rows[:4] / (np.sqrt(variances[:4, None]) if whiten else 1)
    wanted = (flat - flat.mean(0)) @ rows.T
    rounds = 1e-6 * (abs(flat - flat.mean(0)) @ abs(rows).T).max()  # of float32, though the mean is 20,000
    layer = c11.pca(np.moveaxis(x, -1, axis), 4, channel_axis=axis, whiten=whiten)
    np.testing.assert_allclose(layer.explained_variance, variances[:4], rtol=1e-9)
    np.testing.assert_allclose(layer.explained_variance_ratio, variances[:4] / variances.sum(), rtol=1e-9)
    found = np.moveaxis(layer(np.moveaxis(x, -1, axis)), axis, -1).reshape(-1, 4)
    np.testing.assert_allclose(found, wanted, atol=rounds, rtol=0)


def test_a_part_of_the_variance() -> None:
    x = scene("f8")
    ratio = c11.pca(x, 9).explained_variance_ratio
    for part in (0.3, 0.8, 0.99, 0.99999):
        layer = c11.pca(x, part)
        assert layer.explained_variance_ratio.sum() >= part
        assert layer.out_channels == 1 or ratio[: layer.out_channels - 1].sum() < part
    assert c11.pca(np.ones((4, 3)), 0.5).out_channels == 1


def test_pixels_that_are_nothing_are_left_out() -> None:
    x = scene("f4")
    y = x.copy()
    y[3, 4, 5] = y[7, 1, 0] = np.nan
    keep = ~np.isnan(y).any(-1)
    assert np.array_equal(c11.pca(y, 3).weight, c11.pca(x, 3, weights=keep).weight)
    assert np.array_equal(c11.pca(np.nan_to_num(y, nan=-1), 3, nodata=-1).weight, c11.pca(y, 3).weight)
    whole = scene("u2")
    total = c11.Covariance(9).update(whole[:20]).merge(c11.Covariance(9).update(whole[20:]))
    gathered = c11.pca(total, 3)
    assert np.array_equal(gathered.weight, c11.pca(whole, 3).weight)
    assert np.array_equal(gathered.center, np.rint(gathered.center))


def test_travels_and_is_saved() -> None:
    layer = c11.pca(scene("u2"), 3)
    file = BytesIO()
    c11.save(file, layer)
    file.seek(0)
    for again in (pickle.loads(pickle.dumps(layer)), c11.load(file)):
        assert type(again) is type(layer)
        assert repr(again) == repr(layer)
        np.testing.assert_array_equal(again(scene("u2")), layer(scene("u2")))
        np.testing.assert_array_equal(again.explained_variance_ratio, layer.explained_variance_ratio)
    assert not layer.explained_variance.flags.writeable
    assert c11.Sequential([layer, c11.Conv1x1(np.ones((1, 3)))])(scene("u2")).shape == (40, 30, 1)


def test_components_of_the_least_noise() -> None:
    random = np.random.default_rng(0)
    signal = np.cumsum(random.normal(size=(60, 80, 2)), 1) @ random.normal(size=(2, 6))
    scale = np.array([1, 2, 4, 8, 16, 32.0])
    x = (signal + random.normal(size=signal.shape) * 0.5) * scale
    layer = c11.mnf(x, 6)
    found = layer(x)
    noise = (found[:, 1:] - found[:, :-1]).reshape(-1, 6)
    np.testing.assert_allclose(np.cov(noise.T) / 2, np.eye(6), atol=1e-9)
    np.testing.assert_allclose(np.cov(found.reshape(-1, 6).T), np.diag(layer.explained_variance), atol=1e-6)
    assert (layer.explained_variance[:2] > 10).all()
    assert (layer.explained_variance[2:] < 10).all()
    planes = np.ascontiguousarray(np.moveaxis(x, -1, 0))
    np.testing.assert_allclose(c11.mnf(planes, 6, channel_axis=0).weight, layer.weight, rtol=1e-9)
    holes = x.copy()
    holes[5, 6, 1] = np.nan
    assert np.isfinite(c11.mnf(holes, 6).weight).all()


@pytest.mark.parametrize(
    ("call", "error", "text"),
    [
        (lambda x: c11.pca(x, 0), ValueError, "1 to as many"),
        (lambda x: c11.pca(x, 10), ValueError, "x has 9 channels"),
        (lambda x: c11.pca(x, 1.5), ValueError, "between 0 and 1"),
        (lambda x: c11.pca(x, True), TypeError, "components must be"),
        (lambda x: c11.pca(x, "2"), TypeError, "components must be"),
        (lambda x: c11.pca(x[:1, :1], 2), ValueError, "at least two pixels"),
        (lambda x: c11.pca(c11.Covariance(9).update(x), 2, nodata=0), TypeError, "leave them away"),
        (lambda x: c11.mnf(x[:, :1], 2), ValueError, "no neighbours"),
        (lambda x: c11.mnf(x * 0, 2), ValueError, r"use pca\(x"),
    ],
)
def test_what_is_wrong_is_said(call: Any, error: type, text: str) -> None:
    with pytest.raises(error, match=text):
        call(scene("f4"))


def test_equals_scikit_learn() -> None:
    decomposition = pytest.importorskip("sklearn.decomposition")
    x = scene("u2")
    for whiten in (False, True):
        theirs = decomposition.PCA(5, whiten=whiten, svd_solver="full").fit(x.reshape(-1, 9))
        ours = c11.pca(x, 5, whiten=whiten)
        np.testing.assert_allclose(ours.explained_variance_ratio, theirs.explained_variance_ratio_, rtol=1e-9)
        wanted = theirs.transform(x.reshape(-1, 9)).reshape(40, 30, 5)
        np.testing.assert_allclose(ours(x), wanted, atol=2e-5 * abs(wanted).max())


def test_of_a_file_nan_is_left_out(tmp_path: Any) -> None:
    x = scene("f4")
    x[3, 4, 5] = np.nan
    np.save(tmp_path / "x.npy", x)
    found, expected = c11.pca(str(tmp_path / "x.npy"), 3), c11.pca(x, 3)
    np.testing.assert_allclose(found.weight, expected.weight, rtol=1e-6)
