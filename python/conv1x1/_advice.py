"""What to pass instead of an object that is no array of numbers: a call that works on what was passed.

Imported when something is wrong, never before.
"""

from __future__ import annotations

import os
from collections.abc import Iterator
from typing import Any

import numpy as np

#: How the first bytes of a file tell that it is an image.
_IMAGES = (b"\x89PNG", b"\xff\xd8\xff", b"GIF8", b"BM", b"II*\x00", b"MM\x00*", b"RIFF")
_IMAGE_NAMES = (".png", ".jpg", ".jpeg", ".tif", ".tiff", ".bmp", ".gif", ".webp", ".ppm", ".pgm")
#: What libraries call the weights of a layer or model.
_WEIGHTS = ("weight", "kernel", "components_", "coef_")
#: Methods that make an array of what holds one, and what such an object is called.
_METHODS = {"toarray": "sparse", "todense": "sparse", "to_dense": "sparse"}


def unsupported(value: Any, a: Any, name: str) -> tuple[str, str]:
    """What `value` is, of which `a`, an array of no numbers, came; and what to pass instead, or ""."""
    if a.ndim == 0 and a.dtype == object:
        return _of_an_object(a.item(), name) if not isinstance(value, np.ndarray) else _of_a_box(a.item(), name)
    if isinstance(value, (str, bytes)):
        return _of_text(value, name)
    what = f"{name} has dtype {a.dtype}"
    if a.dtype.names:
        return what, _of_fields(a, name)
    if a.dtype.kind == "V" and a.dtype.isbuiltin != 2:
        if a.dtype.itemsize == 2:
            return (
                f"{what}, bytes without a type (numpy.save writes bfloat16 so)",
                f"pass {name}.view(ml_dtypes.bfloat16)",
            )
        return f"{what}, bytes without a type, which {name}.view has to be told", ""
    if a.dtype.kind in "OUST" and (wrong := _no_number(a)):
        return f"{what} and holds {wrong}", _of_a_table(value, name)
    wider = {"f": "float64", "m": "float64", "M": "float64", "c": "complex128"}
    return what, f"pass {as_type(value, name, wider.get(a.dtype.kind, 'float32'))}"


def unreadable(value: Any, name: str, error: Exception) -> Exception:
    """The error for what NumPy cannot make an array of, because of `error`."""
    if isinstance(value, (list, tuple)) and (what := _ragged(value, name)):
        return ValueError(what)
    advice = ""
    if str(getattr(value, "layout", "torch.strided")) != "torch.strided" and hasattr(value, "to_dense"):
        advice = f": pass {name}.to_dense()"
    elif hasattr(value, "is_conj") and value.is_conj():
        advice = f": pass {name}.resolve_conj()"
    elif hasattr(value, "is_quantized") and value.is_quantized:
        advice = f": pass {name}.dequantize()"
    elif callable(getattr(value, "float", None)) and str(getattr(value, "device", "")) != "meta":
        advice = f": pass {name}.float()"
    return TypeError(f"{name} is a {type(value).__name__} that NumPy makes no array of ({error}){advice}")


def as_type(value: Any, name: str, dtype: str) -> str:
    """The call that converts."""
    return f"{name}.astype(np.{dtype})" if hasattr(value, "astype") else f"np.asarray({name}, np.{dtype})"


# ------------------------------------------------------------------------------------------- objects by their kind


def _of_an_object(value: Any, name: str) -> tuple[str, str]:
    kind = type(value).__name__
    what = f"{name} is a {kind}, an object that is no array"
    if value is None:
        why = " (cv2.imread gives None for what it cannot read)" if name == "x" else ""
        return f"{name} is None, an object that is no array{why}", ""
    if isinstance(value, os.PathLike):
        return _of_text(os.fspath(value), name)
    if isinstance(value, dict):
        return what, f"pass np.stack(list({name}.values()), -1)"
    if isinstance(value, (set, frozenset)):
        return f"{what} and has no order", f"pass sorted({name})"
    if isinstance(value, Iterator) or kind in ("dict_values", "dict_keys", "dict_items"):
        return what, f"pass list({name})"
    for method in _METHODS:
        if callable(getattr(value, method, None)):
            return f"{name} is a {kind}, a {_METHODS[method]} array", f"pass {name}.{method}()"
    for weights in _WEIGHTS if name == "w" else ():
        inside = getattr(value, weights, None)
        if inside is not None and not callable(inside):
            return f"{name} is a {kind}, not its weights", _of_a_layer(value, inside, weights)
    if _is_number(value):
        return what, f"pass np.asarray({name}, np.float32)"
    return what, ""


def _of_a_box(value: Any, name: str) -> tuple[str, str]:
    return f"{name} has dtype object and holds one {type(value).__name__}", f"pass {name}.item()"


def _of_a_layer(value: Any, weights: Any, attribute: str) -> str:
    def of(inside: Any, attribute: str) -> str:
        return f"w.{attribute}" + ".detach()" * (getattr(inside, "requires_grad", False) is True)

    bias = getattr(value, "bias", None)
    added = f", bias={of(bias, 'bias')}" if bias is not None and not callable(bias) else ""
    return f"pass {of(weights, attribute)}{added}"


def _of_text(value: Any, name: str) -> tuple[str, str]:
    if isinstance(value, bytes):
        what = f"{name} has dtype S, {len(value)} bytes"
        if value.startswith(_IMAGES):
            return f"{what} of an image's file", f"pass PIL.Image.open(io.BytesIO({name}))"
        return f"{what} without a shape", f"give it its shape, and pass np.frombuffer({name}, np.uint8)"
    what = f"{name} has dtype <U{len(value)}, a text or a path"
    ending = os.path.splitext(value)[1].lower()
    if ending in (".npy", ".npz"):
        return what, f"pass np.load({name})"
    if ending in (".txt", ".csv"):
        delimiter = ', delimiter=","' if ending == ".csv" else ""
        return what, f"pass np.loadtxt({name}{delimiter})"
    if ending in _IMAGE_NAMES:
        return what, f"pass PIL.Image.open({name})"
    return f"{what}, and a file has to be read first", ""


def _of_fields(a: Any, name: str) -> str:
    from numpy.lib.recfunctions import structured_to_unstructured

    fields = [n for n in a.dtype.names if a.dtype[n].base.kind in "biufV"]
    try:
        structured_to_unstructured(a[fields][:0] if a.ndim else a[fields])
    except Exception:
        return ""
    part = name if len(fields) == len(a.dtype.names) else f"{name}[{fields!r}]"
    return f"import numpy.lib.recfunctions, and pass np.lib.recfunctions.structured_to_unstructured({part})"


def _of_a_table(value: Any, name: str) -> str:
    """Of tables as pandas has them, whose columns may be anything."""
    if hasattr(value, "to_numpy"):
        try:
            value.to_numpy(np.float32, na_value=np.nan)
        except Exception:
            return f"pass {name}.select_dtypes('number').to_numpy()" if hasattr(value, "select_dtypes") else ""
        return f"pass {name}.to_numpy(np.float32, na_value=np.nan)"
    return ""


def _no_number(a: Any) -> str:
    """Of an array of objects or text: what in it is no number, or ""."""
    try:
        a.astype(np.float64)
    except Exception:
        wrong = next((v for v in a.ravel() if not _is_number(v)), None)
        return f"a {type(wrong).__name__}, {wrong!r:.40}" if wrong is not None else "no numbers"
    return ""


def _is_number(value: Any) -> bool:
    try:
        float(value)
    except Exception:
        return False
    return True


def _ragged(value: Any, name: str) -> str:
    """Of a list whose parts differ in shape: which do, and what to do."""
    try:
        shapes = [np.shape(part) for part in value]
    except Exception:
        shapes = [(len(part),) if hasattr(part, "__len__") else () for part in value]
    other = next((i for i, shape in enumerate(shapes) if shape != shapes[0]), None)
    if other is None:
        return ""
    what = f"{name}[{other}] has shape {shapes[other]}, but {name}[0] has {shapes[0]}: one array has one shape"
    images = name == "x" and min(map(len, shapes)) > 1
    return f"{what}; convolve each for itself, [conv1x1(one, w) for one in {name}]" if images else what
