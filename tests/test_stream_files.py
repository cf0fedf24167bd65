"""`stream` from every kind of file to every other: the same bits, what belongs to a file goes along, nodata, scales."""

from __future__ import annotations

import importlib
import os
import time
import warnings
from collections.abc import Callable
from pathlib import Path
from typing import Any
from xml.etree import ElementTree

import numpy as np
import pytest

import conv1x1 as c11
from conv1x1.streaming import journal, pipeline, tiles
from conv1x1.streaming.net import Net

NAMES = [f"{n} nm" for n in (450, 550, 650, 750, 850, 950)]


def weights(k: int, c: int) -> Any:
    return np.random.default_rng([k, c]).standard_normal((k, c)).astype(np.float32)


@pytest.fixture
def scene() -> Any:
    """Rows, columns, bands."""
    return np.random.default_rng(7).integers(0, 1000, (70, 90, 6)).astype(np.uint16)


def npy(folder: Path, x: Any) -> str:
    np.save(folder / "x.npy", x)
    return str(folder / "x.npy")


def zarr(folder: Path, x: Any) -> str:
    made = pytest.importorskip("zarr").create_array(
        folder / "x.zarr", shape=x.shape, chunks=(16, 32, 3)[: x.ndim], dtype=x.dtype
    )
    made[:] = x
    return str(folder / "x.zarr")


def h5(folder: Path, x: Any) -> str:
    with pytest.importorskip("h5py").File(folder / "x.h5", "w") as file:
        file.create_dataset("a/scene", data=x, chunks=(20, 30, 2), compression="gzip")
        file["other"] = 1
    return f"{folder}/x.h5:/a/scene"


def geotiff(folder: Path, x: Any, **options: Any) -> str:
    rasterio = pytest.importorskip("rasterio")
    path = str(folder / "x.tif")
    options = {"tiled": True, "blockxsize": 32, "blockysize": 16, "crs": "EPSG:32632"} | options
    options["transform"] = rasterio.Affine(10, 0, 5e5, 0, -10, 5e6)
    with rasterio.open(path, "w", driver="GTiff", **sides(x), **options) as file:
        file.write(np.moveaxis(x, 2, 0))
        for i, name in enumerate(NAMES, 1):
            file.set_band_description(i, name)
    return path


def sides(x: Any) -> dict[str, Any]:
    return {"height": x.shape[0], "width": x.shape[1], "count": x.shape[2], "dtype": x.dtype}


def pages(folder: Path, x: Any) -> str:
    pytest.importorskip("zarr")
    pytest.importorskip("tifffile").imwrite(folder / "p.tif", np.moveaxis(x, 2, 0), photometric="minisblack")
    return str(folder / "p.tif")


def envi(interleave: str, order: int, folder: Path, x: Any, more: str = "") -> str:
    axes = {"bsq": (2, 0, 1), "bil": (0, 2, 1), "bip": (0, 1, 2)}[interleave.lower()]
    x.transpose(axes).astype(x.dtype.newbyteorder("<>"[order])).tofile(folder / "x.dat")
    rows, columns, bands = x.shape
    code = {"uint16": 12, "float32": 4, "int16": 2}[x.dtype.name]
    (folder / "x.hdr").write_text(
        f"ENVI\ndescription = {{\n a = b, of {interleave} }}\nsamples = {columns}\nlines   = {rows}\nbands = {bands}\n"
        f"header offset = 0\nData Type = {code}\ninterleave = {interleave}\nbyte order = {order}\n"
        f"band names = {{{', '.join(NAMES[:bands])}}}\nmap info = {{UTM, 1, 1, 5e5, 5e6, 10, 10, 32, North}}\n{more}"
    )
    return str(folder / "x.hdr")


def of_envi(interleave: str, order: int) -> Callable[[Path, Any], str]:
    return lambda folder, x: envi(interleave, order, folder, x)


SOURCES: dict[str, Callable[[Path, Any], str]] = {
    "npy": npy,
    "zarr": zarr,
    "h5": h5,
    "geotiff": geotiff,
    "pages": pages,
    "bsq": of_envi("bsq", 1),
    "bil": of_envi("BIL", 0),
    "bip": of_envi("bip", 1),
}
BANDED = {"geotiff", "pages", "bsq", "bil", "bip"}
OUTS = ("y.npy", "y.zarr", "y.h5:/a/result", "y.tif", "y.hdr")


def read(path: str) -> Any:
    """What a file holds, as the libraries read it, in rows, columns and bands where there are such."""
    if path.endswith(".npy"):
        return np.load(path)
    if path.endswith(".zarr"):
        return pytest.importorskip("zarr").open(path)[:]
    if ".h5" in path:
        with pytest.importorskip("h5py").File(path.partition(":")[0]) as file:
            return file["a/result"][()]
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        with pytest.importorskip("rasterio").open(path.replace(".hdr", ".img")) as file:
            planes = file.read()
    return planes[0] if len(planes) == 1 else np.moveaxis(planes, 0, 2)


LAYERS = {
    "last": c11.Conv1x1(weights(3, 6)),
    "first": c11.Conv1x1(weights(3, 6), channel_axis=0),
    "one": c11.Conv1x1(weights(1, 6)[0]),
    "stride": c11.Conv1x1(weights(3, 6), stride=(2, 3)),
    "classes": c11.Sequential([c11.Conv1x1(weights(4, 6)), c11.ArgMax()], class_names=["a", "b", "c", "d"]),
}


@pytest.mark.parametrize("kind", SOURCES)
def test_every_kind_of_source(tmp_path: Path, scene: Any, kind: str) -> None:
    source = SOURCES[kind](tmp_path, scene)
    for name, layer in LAYERS.items():
        x = np.moveaxis(scene, 2, 0) if name == "first" else scene
        for memory in ("19 MiB" if kind in ("geotiff", "pages") else "400 kB", "64 MiB"):
            if name != "first" or kind in BANDED:  # whose bands are wherever the layer has its channels
                y = c11.stream(layer, source, memory=memory, threads=2)
                assert y.dtype == layer(x).dtype
                assert np.array_equal(y, layer(x))


@pytest.mark.parametrize("out", OUTS)
@pytest.mark.parametrize("kind", ["npy", "bil", "geotiff"])
def test_every_kind_of_result(tmp_path: Path, scene: Any, kind: str, out: str, monkeypatch: Any) -> None:
    library = {"y.zarr": "zarr", "y.h5:/a/result": "h5py", "y.tif": "rasterio", "y.hdr": "rasterio"}.get(out)
    if library:
        pytest.importorskip(library)
    source, path = SOURCES[kind](tmp_path, scene), f"{tmp_path}/{out}"
    monkeypatch.setattr(tiles, "SIZE", 40_000)
    for name, layer in LAYERS.items():
        if name == "first" and kind not in BANDED:
            continue
        expected = layer(np.moveaxis(scene, 2, 0) if name == "first" else scene)
        assert c11.stream(layer, source, path, overwrite=True) == path
        y = read(path)
        if name == "first" and out in ("y.tif", "y.hdr"):  # whose bands are where they are
            expected = np.moveaxis(expected, 0, 2)
        assert y.dtype == expected.dtype
        assert np.array_equal(y, expected)
        with pytest.raises(FileExistsError, match="overwrite=True"):
            c11.stream(layer, source, path)
        assert c11.stream(layer, source, path, resume=True) == path
        assert not [p.name for p in tmp_path.iterdir() if "conv1x1" in p.name or p.suffix == ".new"]


@pytest.mark.parametrize("out", OUTS)
def test_what_was_interrupted_is_completed(tmp_path: Path, scene: Any, out: str, monkeypatch: Any) -> None:
    library = {"y.zarr": "zarr", "y.h5:/a/result": "h5py", "y.tif": "rasterio", "y.hdr": "rasterio"}.get(out)
    if library:
        pytest.importorskip(library)
    monkeypatch.setattr(tiles, "SIZE", 9000)
    monkeypatch.setattr(pipeline, "_LOOK", 0.001)
    monkeypatch.setattr(journal, "OFTEN", 0.0)
    source, path = npy(tmp_path, scene), f"{tmp_path}/{out}"

    def enough(done: int, total: int) -> None:
        if 0 < done < total:
            raise InterruptedError

    def slow(self: Any, *arguments: Any) -> None:
        time.sleep(0.003)
        compute(self, *arguments)

    compute = Net.__call__
    with monkeypatch.context() as patch:
        patch.setattr(Net, "__call__", slow)
        with pytest.raises(InterruptedError):
            c11.stream(LAYERS["last"], source, path, memory="100 kB", progress=enough)
    file = path.partition(":")[0]
    assert os.path.exists(f"{file}.conv1x1-journal")
    assert os.path.exists(file) == (out not in ("y.h5:/a/result", "y.tif"))
    heard: list[int] = []
    c11.stream(LAYERS["last"], source, path, memory="100 kB", resume=True, progress=lambda n, of: heard.append(n))
    assert heard[0] > 0
    assert np.array_equal(read(path), LAYERS["last"](scene))
    assert not [p.name for p in tmp_path.iterdir() if "conv1x1" in p.name]


def test_what_belongs_to_a_geotiff_goes_along(tmp_path: Path, scene: Any) -> None:
    rasterio = pytest.importorskip("rasterio")
    source = geotiff(tmp_path, scene, compress="lzw", nodata=3)
    out = c11.stream(LAYERS["classes"], source, tmp_path / "y.tif", nodata_out=255, options={"compress": "deflate"})
    with rasterio.open(out) as y:
        assert y.crs == "EPSG:32632"
        assert y.transform == rasterio.Affine(10, 0, 5e5, 0, -10, 5e6)
        assert (y.nodata, y.profile["compress"], y.profile["tiled"]) == (255, "deflate", True)
        expected = np.where((scene == 3).any(2), 255, LAYERS["classes"](scene))
        assert np.array_equal(y.read(1), expected)
    names = ["a", "b<&>", "c", "d"]
    classes = c11.Sequential([c11.Conv1x1(weights(4, 6)), c11.ArgMax(labels=[5, 0, 2, 3])], class_names=names)
    c11.stream(classes, source, tmp_path / "c.tif", nodata=False)
    importlib.import_module("rasterio.shutil").copy(tmp_path / "c.tif", tmp_path / "c.vrt", driver="VRT")
    named = ElementTree.parse(tmp_path / "c.vrt").findall(".//Category")  # as GDAL has read them
    assert [n.text or "" for n in named] == ["b<&>", "", "c", "d", "", "a"]
    c11.stream(LAYERS["stride"], source, tmp_path / "s.tif", nodata=False)
    with rasterio.open(tmp_path / "s.tif") as y:
        assert y.transform == rasterio.Affine(30, 0, 5e5, 0, -20, 5e6)
    named = c11.Sequential([LAYERS["last"]], class_names=["x", "y", "z"])
    c11.stream(named, source, tmp_path / "n.tif", nodata=False)
    c11.stream(named, source, tmp_path / "n.hdr", nodata=False)
    with rasterio.open(tmp_path / "n.tif") as y:
        assert y.descriptions == ("x", "y", "z")
    with rasterio.open(source) as dataset:
        y = c11.stream(LAYERS["first"], dataset, nodata=False)
        assert np.array_equal(y, LAYERS["first"](np.moveaxis(scene, 2, 0)))


def test_alpha_and_mask_bands_hide_pixels(tmp_path: Path, scene: Any) -> None:
    rasterio = pytest.importorskip("rasterio")
    seen = scene[..., 0] > 300
    with rasterio.open(geotiff(tmp_path, scene), "r+") as file:
        file.write_mask(seen)
    layer = LAYERS["last"]
    expected = np.where(seen[..., None], layer(scene), np.nan)
    assert np.array_equal(c11.stream(layer, tmp_path / "x.tif"), expected, equal_nan=True)
    assert np.array_equal(c11.stream(layer, tmp_path / "x.tif", nodata=False), layer(scene))
    rgba = np.dstack([scene[..., :3], seen]).astype(np.uint8)
    options = {"photometric": "RGB", "alpha": "YES", "transform": rasterio.Affine(1, 0, 5, 0, 1, 5)}
    with rasterio.open(tmp_path / "rgba.tif", "w", driver="GTiff", **options, **sides(rgba)) as file:
        file.write(np.moveaxis(rgba, 2, 0))
    layer = c11.Conv1x1(weights(2, 3))
    expected = np.where(seen[..., None], layer(rgba[..., :3]), np.nan)
    assert np.array_equal(c11.stream(layer, tmp_path / "rgba.tif"), expected, equal_nan=True)


def test_what_belongs_to_an_envi_file_goes_along(tmp_path: Path, scene: Any) -> None:
    source = envi("bil", 0, tmp_path, scene, "data ignore value = 3\n")
    c11.stream(LAYERS["classes"], source, tmp_path / "y.hdr", nodata_out=9)
    header = (tmp_path / "y.hdr").read_text()
    for line in ("map info = {UTM, 1, 1, 5e5, 5e6, 10, 10, 32, North}", "class names = {a, b, c, d}", "classes = 4"):
        assert line in header.splitlines()
    assert "data ignore value = 9" in header
    y = np.fromfile(tmp_path / "y.img", np.uint8).reshape(70, 90)
    assert np.array_equal(y, np.where((scene == 3).any(2), 9, LAYERS["classes"](scene)))


@pytest.mark.parametrize("interleave", ["bsq", "bil", "bip"])
def test_spectral_agrees(tmp_path: Path, scene: Any, interleave: str) -> None:
    spy = pytest.importorskip("spectral.io.envi")
    spy.save_image(str(tmp_path / "s.hdr"), scene, interleave=interleave, byteorder=1, metadata={"band names": NAMES})
    c11.stream(LAYERS["last"], tmp_path / "s.hdr", tmp_path / "y.hdr")
    made = spy.open(str(tmp_path / "y.hdr"))
    assert made.metadata["interleave"] == interleave
    assert np.array_equal(np.asarray(made.load()), LAYERS["last"](scene))


# --------------------------------------------------------------------------------------------- nodata and scales


@pytest.mark.parametrize("axis", [0, 2])
@pytest.mark.parametrize("when", ["any", "all"])
def test_nodata(scene: Any, when: Any, axis: int) -> None:
    scene[5:9, 3:30] = 7
    x, layer = np.moveaxis(scene, 2, axis), c11.Conv1x1(weights(3, 6), channel_axis=axis, stride=2)
    y = np.moveaxis(layer(x), axis, 2)
    for nodata in (7, [7, 8, 9, 10, 11, 12]):
        blank = getattr(scene[::2, ::2] == nodata, when)(2)
        made = c11.stream(layer, x, nodata=nodata, nodata_when=when, memory="100 kB", nodata_out=-1)
        expected = y.copy()
        expected[blank] = -1
        assert np.array_equal(np.moveaxis(made, axis, 2), expected)


def test_nan_as_nodata_and_for_nodata(scene: Any) -> None:
    x = scene.astype(np.float32)
    x[3, 4, 1] = x[5, 6, 2] = np.nan
    y = c11.stream(LAYERS["last"], x, nodata=np.nan)
    assert np.isnan(y).all(2).sum() == 2
    assert np.isnan(y).any(2).sum() == 2
    y = c11.stream(LAYERS["classes"], x, nodata=np.nan, nodata_out=99)
    assert np.argwhere(y == 99).tolist() == [[3, 4], [5, 6]]


def test_a_band_without_data_is_named(tmp_path: Path, scene: Any) -> None:
    scene[..., 4] = 7
    source = envi("bsq", 0, tmp_path, scene)
    with pytest.warns(UserWarning, match=r"x\.hdr has no data at all in 1 of 6 bands: 850 nm"):
        c11.stream(LAYERS["last"], source, nodata=7)


@pytest.mark.parametrize(
    ("layer", "options", "error", "says"),
    [
        ("classes", {"nodata": 7}, ValueError, "nodata_out=255, or nodata=False"),
        ("classes", {"nodata": 7, "nodata_out": 2}, ValueError, "nodata_out=2 is one of the labels"),
        ("classes", {"nodata": 7, "nodata_out": 256}, ValueError, "cannot be held by the result, which is of uint8"),
        ("classes", {"nodata": 7, "nodata_out": 1.5}, ValueError, "cannot be held"),
        ("classes", {"nodata": 7, "nodata_out": "none"}, ValueError, "cannot be held"),
        ("classes", {"nodata_out": 9}, ValueError, "there is no nodata: pass nodata="),
        ("last", {"nodata": -9999}, ValueError, "nodata=-9999 can be no pixel of uint16"),
        ("last", {"nodata": [1, 2]}, ValueError, "2 numbers; expected one, or 6"),
        ("last", {"nodata": "none"}, TypeError, "nodata must be a number"),
        ("last", {"nodata": 7, "nodata_when": "some"}, ValueError, "nodata_when must be"),
        ("last", {"scaled": True}, ValueError, "tells of no scale"),
        ("last", {"scaled": 1}, TypeError, "scaled must be"),
        ("last", {"options": {"compress": "lzw"}}, ValueError, "options are for"),
    ],
)
def test_wrong_nodata_is_refused_before_reading(scene: Any, layer: str, options: Any, error: Any, says: str) -> None:
    with pytest.raises(error, match=says):
        c11.stream(LAYERS[layer], scene, **options)


def test_a_scale_is_never_applied_silently(tmp_path: Path, scene: Any) -> None:
    gains = "data gain values = {0.5, 0.5, 0.5, 0.25, 2, 1}\ndata offset values = {0, 1, 2, 3, 4, 5}\n"
    source = envi("bil", 1, tmp_path, scene, gains)
    with pytest.raises(ValueError, match=r"tells of a scale.*scaled=True .* or scaled=False"):
        c11.stream(LAYERS["last"], source)
    assert np.array_equal(c11.stream(LAYERS["last"], source, scaled=False), LAYERS["last"](scene))
    x = scene.astype(np.float32) * np.float32([0.5, 0.5, 0.5, 0.25, 2, 1]) + np.arange(6, dtype=np.float32)
    assert np.array_equal(c11.stream(LAYERS["last"], source, scaled=True, memory="300 kB"), LAYERS["last"](x))


# -------------------------------------------------------------------------------------------- what is refused

HEADERS = {
    "no header": (lambda t: "lines = 3", "does not begin with ENVI"),
    "no lines": (lambda t: t.replace("lines", "rows"), "no entry 'lines'"),
    "no number": (lambda t: t.replace("lines   = 70", "lines = many"), "lines = many is no whole number"),
    "no pixels": (lambda t: t.replace("lines   = 70", "lines = 0"), "lines = 0; expected at least 1"),
    "negative": (lambda t: t.replace("offset = 0", "offset = -5"), "header offset = -5"),
    "huge": (lambda t: t.replace("lines   = 70", f"lines = {10**30}"), "expected"),
    "more lines": (lambda t: t.replace("lines   = 70", "lines = 71"), "truncated"),
    "fewer lines": (lambda t: t.replace("lines   = 70", "lines = 69"), "bytes more"),
    "another type": (lambda t: t.replace("Type = 12", "Type = 4"), "truncated"),
    "an unknown type": (lambda t: t.replace("Type = 12", "Type = 7"), "data type = 7 is unknown"),
    "an unknown interleave": (lambda t: t.replace("= bsq", "= bib"), "interleave is bib; expected bsq"),
    "no interleave": (lambda t: t.replace("interleave = bsq", ""), "interleave is missing"),
    "a byte order": (lambda t: t.replace("order = 0", "order = 2"), "byte order = 2"),
    "compressed": (lambda t: t + "file compression = 1\n", "compressed"),
    "no gains": (lambda t: t + "data gain values = {a, b}\n", "are no numbers"),
}


@pytest.mark.parametrize("name", HEADERS)
def test_envi_headers_that_lie(tmp_path: Path, scene: Any, name: str) -> None:
    source, (change, says) = Path(envi("bsq", 0, tmp_path, scene)), HEADERS[name]
    source.write_text(change(source.read_text()))
    with pytest.raises(ValueError, match=says):
        c11.stream(LAYERS["last"], source, tmp_path / "y.npy")
    assert not (tmp_path / "y.npy").exists()


def test_what_is_missing_beside_an_envi_header(tmp_path: Path, scene: Any) -> None:
    source = envi("bsq", 0, tmp_path, scene)
    (tmp_path / "x.dat").unlink()
    with pytest.raises(FileNotFoundError, match=r"no file of numbers, such as .*x\.img"):
        c11.stream(LAYERS["last"], source)


def test_a_wrong_number_of_bands_names_them(tmp_path: Path, scene: Any) -> None:
    source = envi("bsq", 0, tmp_path, scene)
    with pytest.raises(ValueError, match=r"x\.hdr: .* 6 channels .* takes 5; its bands are 450 nm, 550 nm"):
        c11.stream(c11.Conv1x1(weights(3, 5)), source)
    named = c11.Sequential([LAYERS["last"]], band_names=[*NAMES[:3], "red", *NAMES[4:]])
    with pytest.raises(ValueError, match="band 3 is called 750 nm, and the layer takes red there"):
        c11.stream(named, source)


@pytest.mark.parametrize("kind", ["zarr", "h5", "geotiff"])
def test_damaged_files_of_libraries(tmp_path: Path, scene: Any, kind: str) -> None:
    source = SOURCES[kind](tmp_path, scene)
    file = Path(source.partition(":")[0])
    if kind == "zarr":
        (file / "zarr.json").write_text("{")
    else:
        data = file.read_bytes()
        file.write_bytes(data[: len(data) // 3])
    with pytest.raises((ValueError, OSError, RuntimeError), match=file.name):
        c11.stream(LAYERS["last"], source, tmp_path / "y.npy")
    assert not (tmp_path / "y.npy").exists()
    file = tmp_path / f"nothing{file.suffix}"
    with pytest.raises(FileNotFoundError, match="nothing"):
        c11.stream(LAYERS["last"], f"{file}:/a" if kind == "h5" else file)


def test_hdf5_needs_the_name_of_a_dataset(tmp_path: Path, scene: Any) -> None:
    source = h5(tmp_path, scene).partition(":")[0]
    with pytest.raises(ValueError, match=r"names no dataset: pass one of '.*x\.h5:/a/scene', '.*x\.h5:/other'"):
        c11.stream(LAYERS["last"], source)
    with pytest.raises(ValueError, match=r"names no dataset: pass '.*y\.h5:/result'"):
        c11.stream(LAYERS["last"], scene, tmp_path / "y.h5")
    other = np.zeros((3, 6), np.float32)
    with pytest.raises(ValueError, match=r"has other datasets, a/scene, other: pass a file of its own"):
        c11.stream(LAYERS["last"], other, f"{source}:/result", overwrite=True)


def test_what_has_no_rows_and_columns_fits_no_image(tmp_path: Path) -> None:
    with pytest.raises(ValueError, match=r"rows and columns .* \(4, 5, 6, 3\)"):
        c11.stream(LAYERS["last"], np.zeros((4, 5, 6, 6), np.float32), tmp_path / "y.hdr")
    with pytest.raises(TypeError, match="cannot hold float16"):
        c11.stream(LAYERS["last"], np.zeros((5, 6, 6), np.float16), tmp_path / "y.hdr")


def test_a_block_larger_than_the_memory_is_refused(tmp_path: Path, scene: Any) -> None:
    with pytest.raises(MemoryError, match=r"exceeds allowed memory .*h5repack -l /a/scene:CHUNK="):
        c11.stream(LAYERS["last"], h5(tmp_path, scene), memory="10 kB")


def test_a_library_that_is_missing_is_named(tmp_path: Path, fresh_python: Any) -> None:
    (tmp_path / "x.zarr").mkdir()
    run = fresh_python(f"""
import sys
sys.modules["zarr"] = None
import numpy as np, conv1x1 as c11
try:
    c11.stream(c11.Conv1x1(np.ones((3, 6))), {str(tmp_path / "x.zarr")!r})
except ImportError as error:
    print(error)
""")
    assert "needs zarr" in run.stdout, run.stderr
    assert '".[zarr]" in a clone' in run.stdout


def spoil(folder: Path, kind: str, times: int, seed: int) -> None:
    """Damage a file so often: each time there is no error or one that names it, and nothing stays."""
    random = np.random.default_rng([seed, *kind.encode()])
    x = random.integers(0, 1000, (70, 90, 6)).astype(np.uint16)
    source = SOURCES[kind](folder, x)
    name = Path(source.partition(":")[0]).stem
    good = {p: p.read_bytes() for p in folder.rglob("*") if p.is_file()}
    for _ in range(times):
        path = [*good][random.integers(len(good))]
        data, how = bytearray(good[path]), random.integers(4)
        if how == 0:
            del data[random.integers(len(data)) :]
        elif how == 1:
            for at in random.integers(0, min(len(data), 400), 3):
                data[at] = random.integers(256)
        elif how == 2:
            data[random.integers(len(data))] ^= 1 << random.integers(8)
        else:
            data += random.bytes(random.integers(1, 100))
        path.write_bytes(data)
        try:
            c11.stream(LAYERS["last"], source, folder / "y.npy", memory="64 MiB", threads=2, overwrite=True)
            (folder / "y.npy").unlink()
        except (ValueError, TypeError, OSError, MemoryError, RuntimeError) as error:
            assert name in str(error)  # noqa: PT017
        assert not [p.name for p in folder.iterdir() if p.name.startswith("y.")]
        path.write_bytes(good[path])
    assert np.array_equal(c11.stream(LAYERS["last"], source), LAYERS["last"](x))


@pytest.mark.drawn
@pytest.mark.filterwarnings("ignore")  # of the libraries, about what is wrong with a file
@pytest.mark.parametrize("kind", SOURCES)
def test_whatever_is_damaged_is_an_error(tmp_path: Path, kind: str, seed: int) -> None:
    spoil(tmp_path, kind, 8, seed)
