"""Layers and chains in files: a `.npz` that NumPy reads, with a JSON entry that says what its arrays are.

Nothing in it runs. The entry has a checksum of all that counts, so that what was damaged is never taken for a net.
"""

from __future__ import annotations

import hashlib
import io
import json
import os
import stat
import zipfile
from contextlib import suppress
from typing import IO, Any

import numpy as np

from . import __version__, components, layers, quantized, sequential, steps
from .checks.arrays import spelled
from .components import PrincipalComponents
from .layers import PICKLES, Conv1x1, Flat
from .quantized import QConv1x1
from .sequential import Sequential
from .steps import ArgMax, LayerNorm, Pool, Softmax, Step

_FORMAT = 1
_ENTRY = "conv1x1.json"
_LONG_AGO = (1980, 1, 1, 0, 0, 0)  # the same net gives the same bytes
#: What a file can hold, and how it is made again, as from a pickle.
_TYPES: dict[type, Any] = {
    Conv1x1: layers._rebuilt,
    PrincipalComponents: components._rebuilt,
    QConv1x1: quantized._rebuilt,
    **dict.fromkeys((ArgMax, LayerNorm, Pool, Softmax), steps._rebuilt_step),
    Sequential: sequential._rebuilt,
}
_SAVED = {cls.__name__: (cls, rebuilt) for cls, rebuilt in _TYPES.items()}


def save(path: str | os.PathLike[str] | IO[bytes], net: Conv1x1 | QConv1x1 | Sequential) -> None:
    """Write a layer or a chain to a file, for `load`: one ``.npz`` without anything that runs.

    Weights, options, labels and names are kept exactly. The file takes its place at once and whole: whoever reads
    meanwhile gets what was there before. The same net gives the same bytes.

    Parameters
    ----------
    path : str, path or binary file
        Where to write. A suffix is not added; ``.npz`` is the usual one.
    net : Conv1x1, QConv1x1 or Sequential
        What to write.

    Raises
    ------
    TypeError
        When `net` is nothing of that, or of a class of your own, for which there is `pickle`.
    OSError
        When the file cannot be written; what was there is still there.

    Examples
    --------
    >>> import numpy as np, os, tempfile
    >>> from conv1x1 import ArgMax, Conv1x1, Sequential, load, save
    >>> net = Sequential([Conv1x1(np.eye(3)), ArgMax()], class_names=["water", "forest", "field"])
    >>> with tempfile.TemporaryDirectory() as folder:
    ...     path = os.path.join(folder, "net.npz")
    ...     save(path, net)
    ...     load(path).class_names
    ('water', 'forest', 'field')
    """
    if isinstance(path, tuple(_TYPES)):
        raise TypeError('save takes the path first: save("net.npz", net)')
    if type(net) not in _TYPES or isinstance(net, Step):
        hint = ": write it with pickle, which knows classes of your own" if isinstance(net, tuple(_TYPES)) else ""
        hint = ": save a chain of it, Sequential([step])" if isinstance(net, Step) else hint
        raise TypeError(f"save writes a Conv1x1, a QConv1x1 or a Sequential, got {type(net).__name__}{hint}")
    arrays: dict[str, Flat] = {}
    told = {"format": _FORMAT, "conv1x1": __version__, "net": _told(net, "", arrays)}
    entry = json.dumps(told | {"sha256": _checksum(told, arrays)}, ensure_ascii=True, allow_nan=False, indent=1)
    buffer = io.BytesIO()
    with zipfile.ZipFile(buffer, "w") as archive:
        _write(archive, _ENTRY, entry.encode())
        for name, (data, shape, dtype) in arrays.items():
            as_npy = io.BytesIO()
            np.lib.format.write_array(as_npy, np.frombuffer(data, dtype).reshape(shape), (1, 0), allow_pickle=False)
            _write(archive, f"{name}.npy", as_npy.getvalue())
    if hasattr(path, "write"):
        path.write(buffer.getvalue())
    else:
        _replace(os.path.realpath(os.fspath(path)), buffer.getvalue())


def load(path: str | os.PathLike[str] | IO[bytes]) -> Conv1x1 | QConv1x1 | Sequential:
    """Read a layer or a chain that `save` wrote. Nothing in the file is run.

    Parameters
    ----------
    path : str, path or binary file
        What to read.

    Returns
    -------
    Conv1x1, QConv1x1 or Sequential
        Which gives the same bits as the one that was saved.

    Raises
    ------
    ValueError
        When the file is damaged, was written by a newer version, or holds something else.
    OSError
        When it cannot be read.
    """
    if hasattr(path, "read"):
        data, name = path.read(), getattr(path, "name", None) or "the file"
    else:
        name = os.fspath(path)
        with open(name, "rb") as file:
            data = file.read()
    if not isinstance(data, bytes):
        raise TypeError(f'load reads binary files, and {spelled(path)} gives {type(data).__name__}: open it with "rb"')
    net: Conv1x1 | QConv1x1 | Sequential = _read(data, f"{name}")
    return net


def _told(e: Any, name: str, arrays: dict[str, Flat]) -> dict[str, Any]:
    """An element for the JSON entry; its arrays are put among the others."""
    if type(e) not in _TYPES:
        raise TypeError(f"save knows no {type(e).__name__}, as which element {name[:-1]} is: write it with pickle")
    cls, parts, options, *more = e.__reduce__()[1][1:]
    told = {"type": cls.__name__, "options": {n: _plain(v) for n, v in options.items()}, "more": _plain(more)}
    if isinstance(e, Sequential):
        return told | {"elements": [_told(part, f"{name}{i}.", arrays) for i, part in enumerate(parts)]}
    arrays |= {f"{name}{n}": flat for n, flat in parts.items() if flat is not None}
    return told | {"arrays": {n: None if flat is None else f"{name}{n}" for n, flat in parts.items()}}


def _plain(value: Any) -> Any:
    """As JSON has it, which has no infinities."""
    if isinstance(value, (tuple, list)):
        return [_plain(v) for v in value]
    return {"float": str(value)} if isinstance(value, float) and not np.isfinite(value) else value


def _unplain(value: Any) -> Any:
    if isinstance(value, list):
        return tuple(_unplain(v) for v in value)
    return float(value["float"]) if isinstance(value, dict) else value


def _checksum(told: dict[str, Any], arrays: dict[str, Flat]) -> str:
    """Of all that counts, in one order."""
    total = hashlib.sha256(json.dumps(told, sort_keys=True).encode())
    for name, (data, shape, dtype) in sorted(arrays.items()):
        total.update(f"{name}{shape}{dtype}".encode())
        total.update(data)
    return total.hexdigest()


def _write(archive: zipfile.ZipFile, name: str, data: bytes) -> None:
    entry = zipfile.ZipInfo(name, _LONG_AGO)
    entry.external_attr = (stat.S_IFREG | 0o644) << 16
    archive.writestr(entry, data)


def _replace(path: str, data: bytes) -> None:
    """A file is there as a whole or, where something goes wrong, as it was."""
    if os.path.exists(path) and not os.path.isfile(path):  # a pipe, a terminal
        with open(path, "wb") as file:
            file.write(data)
        return
    beside = os.path.join(os.path.dirname(path), f".{os.urandom(8).hex()}.tmp")
    try:
        with open(beside, "xb") as file:
            file.write(data)
            file.flush()
            os.fsync(file.fileno())
        with suppress(FileNotFoundError):
            os.chmod(beside, stat.S_IMODE(os.stat(path).st_mode))
        os.replace(beside, path)
    except BaseException:
        with suppress(OSError):
            os.unlink(beside)
        raise


def _read(data: bytes, name: str) -> Any:
    """The net that is in the bytes of a file."""
    try:
        archive = zipfile.ZipFile(io.BytesIO(data))
        entries = archive.namelist()
    except Exception:
        raise ValueError(f"{name} is no file that conv1x1.save wrote, or only a part of one") from None
    if _ENTRY not in entries:
        raise ValueError(
            f"{name} holds no net of conv1x1 but {spelled(entries)}: expected a file that conv1x1.save wrote"
        )
    damaged = ValueError(f"{name} is damaged: its checksum does not fit what it holds; save the net again")
    try:
        told = json.loads(archive.read(_ENTRY))
        form, version = told["format"], told["conv1x1"]
    except Exception:
        raise damaged from None
    if form != _FORMAT:
        raise ValueError(
            f"{name} has format {spelled(form)}, written by conv1x1 {version}, and conv1x1 {__version__} knows "
            f"{_FORMAT}: load it with that version, or save it with this one"
        )
    try:
        arrays = {n.removesuffix(".npy"): _flat_of(archive.read(n)) for n in entries if n != _ENTRY}
        expected = told.pop("sha256")
        if _checksum(told, arrays) != expected:
            raise damaged
    except Exception:
        raise damaged from None
    try:
        return _untold(told["net"], arrays)
    except (ImportError, MemoryError):
        raise
    except Exception as error:
        raise ValueError(f"{name} holds what conv1x1 {__version__} makes no net of: {error}") from error


def _flat_of(npy: bytes) -> Flat:
    """An array of numbers in NumPy's own format, which must be as long as it says."""
    stream = io.BytesIO(npy)
    np.lib.format.read_magic(stream)
    shape, turned, dtype = np.lib.format.read_array_header_1_0(stream)
    data = npy[stream.tell() :]
    if turned or dtype.kind not in "biufc" or len(data) != dtype.itemsize * int(np.prod(shape, dtype=object)):
        raise ValueError("no array of numbers")
    return data, shape, dtype.str


def _untold(told: dict[str, Any], arrays: dict[str, Flat]) -> Any:
    cls, rebuilt = _SAVED[told["type"]]
    options = {n: _unplain(v) for n, v in told["options"].items()}
    if cls is Sequential:
        parts: Any = tuple(_untold(part, arrays) for part in told["elements"])
    else:
        parts = {n: None if name is None else arrays[name] for n, name in told["arrays"].items()}
    return rebuilt(PICKLES, cls, parts, options, *_unplain(told["more"]))
