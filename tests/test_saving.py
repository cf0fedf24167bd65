"""A net in a file is the same net when it is read again, or is said to be damaged, or newer."""

from __future__ import annotations

import io
import json
import os
import pickle
import re
import stat
import zipfile
from pathlib import Path
from typing import Any

import numpy as np
import pytest

import conv1x1 as c11
from conv1x1 import ArgMax, Conv1x1, LayerNorm, Pool, QConv1x1, Sequential, Softmax, load, save

SCALES: dict[str, Any] = {
    "x_scale": 0.5,
    "x_zero_point": np.uint8(25),
    "w_scale": [0.25, 0.5, 0.75, 1],
    "w_zero_point": [0, 1, 2, 3],
    "y_scale": 0.3,
    "y_zero_point": np.uint8(3),
}
W = np.arange(12).reshape(4, 3)


def quantised() -> Any:
    layer, x = Conv1x1(np.sin(W), np.arange(4.0), activation="relu6"), np.cos(np.arange(30, dtype=np.float32))
    return QConv1x1.from_float(layer, x.reshape(10, 3))


def deep() -> Any:
    block = Sequential([Conv1x1(np.sin(W[:, :4].T @ W[:, :3])[:3], activation="gelu")], skip=True)
    elements = [Conv1x1(np.cos(W[:3]), [1, 2, 3.0], stride=(2,)), block, Conv1x1(W), ArgMax([-1, 300, 5, 7])]
    names = {"band_names": ["red", "grün", "近赤外"], "class_names": ["a", "b", "c", "d"]}
    return Sequential(elements, channel_axis=0, **names)


NETS: dict[str, Any] = {
    "floats": lambda: Conv1x1(np.sin(W), np.arange(4), activation=("clip", -np.inf, 6.25), stride=(1, 2), groups=2),
    "float64": lambda: Conv1x1(np.sin(W), channel_axis=1, dtype=np.float64, activation=("leaky_relu", 0.1)),
    "a vector": lambda: Conv1x1([0.5, 0.25, 1.0], [3.0], dtype="int16"),
    "complex": lambda: Conv1x1(W * 1j, W[:, 0]),
    "integers": lambda: Conv1x1(W.astype(np.int8), W[:, 0].astype(np.int64) + 2**40),
    "bools": lambda: Conv1x1(W > 3),
    "a center": lambda: Conv1x1(np.sin(W), np.arange(4), center=[20000, 1.5, 3]),
    "no channels": lambda: Conv1x1(np.empty((2, 0))),
    "quantised": lambda: QConv1x1(W.astype(np.int8), np.arange(4), **SCALES, activation=("clip", 0, np.inf)),
    "from floats": quantised,
    "a chain": deep,
    "steps": lambda: Sequential(
        [LayerNorm(3, [1.0, 2, 3], eps=0.5), Softmax(), Pool("mean", axes=(0, -2)), Conv1x1(np.sin(W)), Softmax()]
    ),
    "quantised chain": lambda: Sequential([quantised(), ArgMax()]),
}


def same(a: Any, b: Any) -> bool:
    """Whether they are the same in all that is kept."""
    return type(a) is type(b) and repr(a) == repr(b) and pickle.dumps(a) == pickle.dumps(b)


def saved(net: Any) -> bytes:
    buffer = io.BytesIO()
    save(buffer, net)
    return buffer.getvalue()


@pytest.mark.parametrize("name", NETS)
def test_what_is_saved_is_loaded(name: str, tmp_path: Path) -> None:
    net = NETS[name]()
    for path in (tmp_path / "net.npz", str(tmp_path / "without suffix"), str(tmp_path / "netz ü.npz")):
        assert save(path, net) is None  # type: ignore[func-returns-value]
        assert same(load(path), net)
    assert sorted(p.name for p in tmp_path.iterdir()) == ["net.npz", "netz ü.npz", "without suffix"]
    assert saved(net) == (tmp_path / "net.npz").read_bytes()
    assert same(load(io.BytesIO(saved(net))), net)


def test_the_bits_are_the_same() -> None:
    net, x = deep(), np.random.default_rng(0).normal(size=(3, 8, 5)).astype(np.float32)
    again: Any = load(io.BytesIO(saved(net)))
    assert again(x).tobytes() == net(x).tobytes()
    assert (again.band_names, again.class_names) == (net.band_names, net.class_names)


def test_numpy_reads_the_arrays() -> None:
    with np.load(io.BytesIO(saved(deep())), allow_pickle=False) as file:
        told = json.loads(file["conv1x1.json"])
        assert (told["format"], told["conv1x1"]) == (1, c11.__version__)
        assert {*file} == {"conv1x1.json", "0.w", "0.bias", "1.0.w", "2.w", "3.labels"}
        assert file["3.labels"].tolist() == [-1, 300, 5, 7]


@pytest.mark.parametrize("name", ["floats", "quantised chain"])
def test_no_byte_can_be_flipped(name: str) -> None:
    """Not one gives another net: it is refused in words, or does not matter."""
    net = NETS[name]()
    data, kept = bytearray(saved(net)), pickle.dumps(net)
    refused = 0
    for i in range(len(data)):
        for flip in (0x01 << i % 8, 0xFF) if name == "floats" else (0x01 << i % 8,):
            data[i] ^= flip
            said = ""
            try:
                assert pickle.dumps(load(io.BytesIO(bytes(data)))) == kept, i
            except ValueError as error:
                said = str(error)
            assert not said or re.search("is damaged|save wrote|has format", said), (i, said)
            refused += bool(said)
            data[i] ^= flip
    assert refused > len(data) / 2


def test_no_part_of_a_file_is_one() -> None:
    data = saved(NETS["a vector"]())
    for end in range(len(data)):
        with pytest.raises(ValueError, match=r"is no file that conv1x1\.save wrote, or only a part of one"):
            load(io.BytesIO(data[:end]))


def changed(of: Any, **entries: Any) -> io.BytesIO:
    """A file whose entry says something else, in a form that is known."""
    files = zipfile.ZipFile(io.BytesIO(saved(of)))
    buffer = io.BytesIO()
    with zipfile.ZipFile(buffer, "w") as other:
        for name in files.namelist():
            data = files.read(name)
            if name == "conv1x1.json":
                data = json.dumps(json.loads(data) | entries).encode()
            other.writestr(name, data)
    return io.BytesIO(buffer.getvalue())


def test_a_newer_file_is_refused() -> None:
    says = r"the file has format 2, written by conv1x1 9\.0, and conv1x1 \S+ knows 1: load it with that version"
    with pytest.raises(ValueError, match=says):
        load(changed(deep(), format=2, conv1x1="9.0"))
    for entries in ({"conv1x1": "0.2"}, {"net": {}}, {"sha256": None}, {"format": []}):
        with pytest.raises(ValueError, match=r"damaged|has format"):
            load(changed(deep(), **entries))


def test_a_sum_that_fits_what_makes_no_net() -> None:
    """Written by hand, or by a version that knew more within the form."""
    from conv1x1.saving import _checksum, _flat_of

    files = zipfile.ZipFile(io.BytesIO(saved(deep())))
    told = json.loads(files.read("conv1x1.json"))
    del told["sha256"]
    arrays = {n[:-4]: _flat_of(files.read(n)) for n in files.namelist() if n.endswith(".npy")}
    for change in (
        lambda net: net["elements"].insert(0, net["elements"][-1]),
        lambda net: net["elements"][0].update(type="Conv3x3"),
        lambda net: net["options"].update(skip=7),
        lambda net: net.pop("more"),
    ):
        other = json.loads(json.dumps(told))
        change(other["net"])
        with pytest.raises(ValueError, match=r"the file holds what conv1x1 \S+ makes no net of: "):
            load(changed(deep(), net=other["net"], sha256=_checksum(other, arrays)))


@pytest.mark.parametrize(
    ("data", "says"),
    [
        (b"", "is no file that conv1x1.save wrote"),
        (b"PK\x03\x04", "is no file that conv1x1.save wrote"),
        (pickle.dumps(Conv1x1(W)), "is no file that conv1x1.save wrote"),
        ("an archive", r"holds no net of conv1x1 but \['a.npy'\]: expected a file that conv1x1.save wrote"),
    ],
)
def test_other_files(data: Any, says: str, tmp_path: Path) -> None:
    path = tmp_path / "a.npz"
    if data == "an archive":
        np.savez(path, a=W)
    else:
        path.write_bytes(data)
    with pytest.raises(ValueError, match=f"a.npz {says}"):
        load(path)


def test_wrong_calls(tmp_path: Path) -> None:
    class Mine(Conv1x1):
        pass

    path: Any = tmp_path / "net.npz"
    net = Conv1x1(W)
    for wrong, says in (
        (W, "got ndarray"),
        (ArgMax(), r"got ArgMax: save a chain of it, Sequential\(\[step\]\)"),
        (Mine(W), "got Mine: write it with pickle"),
        (Sequential([Mine(W)]), "no Mine, as which element 0 is: write it with pickle"),
    ):
        with pytest.raises(TypeError, match=says):
            save(path, wrong)  # type: ignore[arg-type]
    with pytest.raises(TypeError, match=r'takes the path first: save\("net.npz", net\)'):
        save(net, path)  # type: ignore[arg-type]
    with pytest.raises(FileNotFoundError):
        load(path)
    with pytest.raises(FileNotFoundError):
        save(tmp_path / "nowhere" / "net.npz", net)
    with pytest.raises(TypeError, match='open it with "rb"'):
        load(io.StringIO("net"))  # type: ignore[arg-type]
    assert not [*tmp_path.iterdir()]


def test_a_file_is_there_as_a_whole_or_as_it_was(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    path = tmp_path / "net.npz"
    save(path, Conv1x1(W))
    before = path.read_bytes()

    def fails(*_: Any) -> None:
        raise OSError("no space left")

    for step in ("fsync", "replace"):
        with monkeypatch.context() as patch:
            patch.setattr(os, step, fails)
            with pytest.raises(OSError, match="no space left"):
                save(path, deep())
        assert [p.name for p in tmp_path.iterdir()] == ["net.npz"]
        assert path.read_bytes() == before


def test_links_and_permissions_stay(tmp_path: Path) -> None:
    path, link = tmp_path / "net.npz", tmp_path / "link.npz"
    save(path, Conv1x1(W))
    assert stat.S_IMODE(path.stat().st_mode) == 0o666 & ~_umask()
    path.chmod(0o640)
    link.symlink_to(path)
    save(link, deep())
    assert link.is_symlink()
    assert stat.S_IMODE(path.stat().st_mode) == 0o640
    assert same(load(path), deep())
    save("/dev/null", deep())
    assert stat.S_ISCHR(os.stat("/dev/null").st_mode)


def _umask() -> int:
    mask = os.umask(0)
    os.umask(mask)
    return mask


def test_a_file_that_is_open(tmp_path: Path) -> None:
    with open(tmp_path / "net.npz", "wb") as file:
        save(file, deep())
    with open(tmp_path / "net.npz", "rb") as file:
        assert same(load(file), deep())
