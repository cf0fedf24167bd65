"""xarray's arrays: dimensions by name; what stays true of coordinates and attributes stays, and nothing else."""

from typing import Any

import numpy as np
import pytest

import conv1x1 as c11

xarray = pytest.importorskip("xarray")
from conv1x1.xarray import LIES, apply  # noqa: E402


def scene(*dims: str, dtype: Any = np.uint16) -> Any:
    sizes = {"band": 6, "y": 4, "x": 5, "time": 2}
    numbers = np.random.default_rng(0).integers(0, 200, [sizes[d] for d in dims]).astype(dtype)
    coords = {
        "band": [f"B{i}" for i in range(6)],
        "wavelength": ("band", np.linspace(400, 900, 6)),
        "y": np.linspace(50, 20, 4),
        "x": np.linspace(10, 50, 5),
        "area": (("y", "x"), np.ones((4, 5))),
        "spatial_ref": ((), 0, {"crs_wkt": "EPSG:32633", "GeoTransform": "5 10 0 55 0 -10"}),
    }
    kept = {n: c for n, c in coords.items() if n in dims or n == "spatial_ref"}
    kept |= {"wavelength": coords["wavelength"]} if "band" in dims else {}
    kept |= {"area": coords["area"]} if {"x", "y"} <= set(dims) else {}
    attrs = {"scale_factor": 1e-4, "_FillValue": 0, "long_name": "reflectance", "units": "1", "sensor": "S2"}
    return xarray.DataArray(numbers, dims=dims, coords=kept, name="scene", attrs=attrs)


WEIGHT = np.random.default_rng(1).normal(size=(3, 6)).astype(np.float32)


@pytest.mark.parametrize(
    "dims", [("band", "y", "x"), ("y", "band", "x"), ("y", "x", "band"), ("time", "band", "y", "x")]
)
@pytest.mark.parametrize("chunks", [None, {"y": 3}])
def test_channels_by_name_whatever_the_order(dims: tuple[str, ...], chunks: Any) -> None:
    x = scene(*dims)
    if chunks:
        pytest.importorskip("dask.array")
    lazy = x if chunks is None else x.chunk(chunks)
    expected = np.moveaxis(c11.conv1x1(x.transpose(..., "band").values, WEIGHT), -1, dims.index("band"))
    for layer in (c11.Conv1x1(WEIGHT), c11.Conv1x1(WEIGHT, channel_axis=0), c11.Sequential([c11.Conv1x1(WEIGHT)])):
        y = apply(layer, lazy, channel_axis="band", new_dim="component", coords=["a", "b", "c"])
        assert (y.chunks is None) == (chunks is None)
        assert y.dims == tuple("component" if d == "band" else d for d in dims)
        assert y.component.values.tolist() == ["a", "b", "c"]
        np.testing.assert_array_equal(y.values, expected)
    y = c11.conv1x1(lazy, WEIGHT, channel_axis="band")
    assert (y.dims, y.name) == (dims, "scene")
    np.testing.assert_array_equal(y.values, expected)
    by_number = c11.Conv1x1(WEIGHT, channel_axis=dims.index("band"))(lazy)
    xarray.testing.assert_identical(by_number, y)


def test_what_stays_true_is_kept() -> None:
    x = scene("band", "y", "x")
    y = c11.conv1x1(x, WEIGHT, channel_axis="band")
    assert y.attrs == {"sensor": "S2"}
    assert set(y.coords) == {"y", "x", "area", "spatial_ref"}
    xarray.testing.assert_identical(y.coords.to_dataset(), x.drop_vars(["band", "wavelength"]).coords.to_dataset())
    assert apply(c11.Conv1x1(WEIGHT), x, channel_axis="band", keep_attrs=True).attrs == x.attrs
    assert apply(c11.Conv1x1(WEIGHT), x, channel_axis="band", keep_attrs=False).attrs == {}
    assert set(x.attrs) - LIES == {"sensor"}


def test_stride_goes_along_coordinates_and_off_the_transform() -> None:
    x = scene("band", "y", "x")
    y = c11.Conv1x1(WEIGHT, channel_axis=0, stride=2)(x)
    assert y.y.values.tolist() == [50, 30]
    assert y.x.values.tolist() == [10, 30, 50]
    assert y.area.shape == (2, 3)
    assert y.spatial_ref.attrs == {"crs_wkt": "EPSG:32633"}
    assert "GeoTransform" in x.spatial_ref.attrs


def test_a_dropped_axis_drops_its_dimension() -> None:
    x = scene("y", "band", "x")
    y = c11.conv1x1(x, WEIGHT[0], channel_axis="band")
    assert y.dims == ("y", "x")
    labels = apply(c11.Sequential([c11.Conv1x1(WEIGHT), c11.ArgMax()]), x, channel_axis="band")
    assert (labels.dims, labels.dtype) == (("y", "x"), np.uint8)
    with pytest.raises(ValueError, match="no channel axis"):
        apply(c11.Conv1x1(WEIGHT[0]), x, channel_axis="band", new_dim="grey")


def test_a_residual_is_brought_in_order() -> None:
    x = scene("band", "y", "x")
    layer = c11.Conv1x1(WEIGHT)
    added = xarray.DataArray(np.random.default_rng(2).normal(size=(5, 3, 4)), dims=("x", "component", "y"))
    y = apply(layer, x, channel_axis="band", new_dim="component", residual=added)
    there = layer(x.transpose("y", "x", "band").values, residual=added.transpose("y", "x", "component").values)
    np.testing.assert_array_equal(y.transpose("y", "x", "component").values, there)


def test_names_of_bands_are_those_of_the_chain() -> None:
    x = scene("band", "y", "x")
    bands = [f"B{i}" for i in range(6)]
    net = c11.Sequential([c11.Conv1x1(WEIGHT, channel_axis=0)], band_names=bands, class_names=["a", "b", "c"])
    assert net(x).band.values.tolist() == ["a", "b", "c"]
    with pytest.raises(ValueError, match="names band 0 'B1'"):
        net(x.roll(band=-1, roll_coords=True))
    with pytest.raises(ValueError, match="names band 0 'B5'"):
        apply(net, x.isel(band=slice(None, None, -1)).transpose("y", "x", "band"), channel_axis="band")


@pytest.mark.parametrize(
    ("make", "error", "text"),
    [
        (lambda x: c11.conv1x1(x, WEIGHT, channel_axis="bands"), ValueError, "no dimension of x, which has"),
        (lambda x: c11.conv1x1(x, WEIGHT, channel_axis=3), ValueError, "outside x"),
        (lambda x: c11.conv1x1(x, WEIGHT, channel_axis="y"), ValueError, "has 4 channels"),
        (lambda x: c11.conv1x1(x.to_dataset(), WEIGHT), TypeError, r"x\.to_dataarray\('band'\)"),
        (lambda x: c11.Conv1x1(WEIGHT)(x.to_dataset()), TypeError, r"x\.to_dataarray\('band'\)"),
        (lambda x: c11.conv1x1(x, WEIGHT, channel_axis="band", out=np.empty((3, 4, 5))), TypeError, r"pass x\.data"),
    ],
)
def test_what_is_wrong_is_said(make: Any, error: type, text: str) -> None:
    with pytest.raises(error, match=text):
        make(scene("band", "y", "x"))


@pytest.mark.filterwarnings("ignore:Use `@` matmul:PendingDeprecationWarning")
def test_rioxarray_finds_its_own_again() -> None:
    pytest.importorskip("rioxarray")
    x = scene("band", "y", "x").rio.write_crs(32633)
    y = c11.Conv1x1(WEIGHT, channel_axis=0, stride=2)(x)
    assert y.rio.crs == x.rio.crs
    assert y.rio.resolution() == (20, -20)
    assert c11.Conv1x1(WEIGHT, channel_axis=0)(x).rio.transform() == x.rio.transform()
