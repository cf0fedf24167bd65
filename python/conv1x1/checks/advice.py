"""What to pass instead of an object that is no array of numbers: a call that works on what was passed.

Imported when something is wrong, never before.
"""

from __future__ import annotations

import importlib.util
import os
from collections.abc import Iterator, Mapping
from types import ModuleType
from typing import Any

import numpy as np

#: How the first bytes of a file tell that it is an image.
_TIFF = (b"II*\x00", b"MM\x00*")
_IMAGES = (b"\x89PNG", b"\xff\xd8\xff", b"GIF8", b"BM", b"RIFF", *_TIFF)
_IMAGE_NAMES = (".png", ".jpg", ".jpeg", ".bmp", ".gif", ".webp", ".ppm", ".pgm")
_TIFF_NAMES = (".tif", ".tiff")
#: What reads files of other endings.
_READERS = {
    (".npy",): "np.load({})",
    (".txt", ".csv", ".tsv"): "np.loadtxt({})",
    (".mat",): "scipy.io.loadmat({})",
    (".nii", ".nii.gz"): "nibabel.load({}).dataobj",
    (".pt", ".pth"): "torch.load({})",
    (".h5", ".hdf5"): "h5py.File({})",
    (".nc",): "xarray.open_dataset({})",
}
#: What libraries call the weights of a layer or model, and what belongs to them.
_WEIGHTS = ("weight", "kernel", "components_", "coef_")
_BIASES = ("bias", "intercept_")
_OPTIONS = {"stride": 1, "groups": 1, "channel_axis": -1, "activation": None}
#: Methods that make an array of what holds one, and what such an object is.
_METHODS = {
    "toarray": "a sparse array",
    "todense": "a sparse array",
    "to_dense": "a sparse array",
    "get_fdata": "an image with a header",
    "asarray": "a file that is open",
}


def unsupported(value: Any, a: Any, name: str) -> tuple[str, str]:
    """What `value` is, of which `a`, an array of no numbers, came; and what to pass instead, or ""."""
    if a.ndim == 0 and a.dtype == object and isinstance(value, np.ndarray):
        return f"{name} has dtype object and holds one {type(a.item()).__name__}", f"pass {name}.item()"
    if isinstance(value, (str, bytes, os.PathLike)):
        return _of_text(os.fspath(value), name)
    if isinstance(value, Mapping) or _is_module(value) or (a.dtype == object and a.ndim == 0):
        return _of_an_object(value, name)
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
    if a.dtype.kind in "OUST":
        wrong = next((v for v in np.ma.getdata(a).ravel().tolist() if not _is_number(v)), _EVERY_ONE)
        if wrong is not _EVERY_ONE:
            shown = " ".join(repr(wrong).split())
            return f"{what} and holds a {type(wrong).__name__}, {shown:.40}", _of_parts(value, a, wrong, name)
    return what, f"pass {as_type(value, name, _wide_enough(a))}"


def unreadable(value: Any, name: str, error: Exception) -> Exception:
    """The error for what NumPy cannot make an array of, because of `error`."""
    if isinstance(value, (list, tuple)) and (what := _ragged(value, name)):
        return ValueError(what)
    return TypeError(
        f"{name} is a {type(value).__name__} that NumPy makes no array of ({error}){_readable(value, name)}"
    )


def as_type(value: Any, name: str, dtype: str) -> str:
    """The call that converts."""
    if _is_tensor(value):
        return f"{name}.to(torch.{dtype})"
    by_method = hasattr(value, "astype") and not hasattr(value, "swapcase")  # arrays of text stay of text
    return f"{name}.astype(np.{dtype})" if by_method else f"np.asarray({name}, np.{dtype})"


def out_instead(out: Any, shape: tuple[int, ...]) -> str:
    """What to pass for an `out` that is no array: an array of its memory, where there is one to be written to."""
    tensor = "out" + ".detach()" * _needs_gradient(out)
    own, view = hasattr(type(out), "__dlpack__"), None
    try:
        if hasattr(out, "is_neg") and out.is_neg():
            own = False  # NumPy would write what torch reads with its sign turned
        elif str(getattr(out, "dtype", "")) == "torch.bfloat16":
            return f"{tensor}.view(torch.int16).numpy().view(ml_dtypes.bfloat16)"
        elif own:
            view = np.from_dlpack(out.detach() if _needs_gradient(out) else out)
        elif not isinstance(out, (list, tuple)):
            view = np.asarray(out)
    except Exception:
        view = None
    if view is None or view.shape != shape or not view.flags.writeable or view.dtype.kind not in "iufc":
        return f"np.empty({shape}, np.float32)"
    return f"np.from_dlpack({tensor})" if own else "np.asarray(out)"


# ------------------------------------------------------------------------------------------- objects by their kind

_EVERY_ONE = object()


def _of_an_object(value: Any, name: str) -> tuple[str, str]:
    kind = type(value).__name__
    what = f"{name} is a {kind}, an object that is no array"
    if value is None:
        why = " (cv2.imread gives None for what it cannot read)" if name == "x" else ""
        return f"{name} is None, an object that is no array{why}", ""
    if isinstance(value, (type, ModuleType)):
        return what, ""  # whose attributes are not those of an object
    for method, holder in _METHODS.items():
        if callable(getattr(value, method, None)):
            return f"{name} is a {kind}, {holder}", f"pass {name}.{method}()"
    if isinstance(value, Mapping):
        return _of_a_mapping(value, name, what)
    if isinstance(getattr(value, "variables", None), Mapping):
        return _of_a_mapping(value.variables, f"{name}.variables", what)
    if isinstance(value, (set, frozenset)):
        return f"{what} and has no order", f"pass sorted({name})"
    if hasattr(value, "read"):
        return what, _of_a_file(value, name)
    if isinstance(value, Iterator) or kind in ("dict_values", "dict_keys", "dict_items"):
        return what, f"pass list({name})"
    if name in ("w", "bias") and (advice := _of_a_layer(value, name)):
        return f"{name} is a {kind}, not its {'weights' if name == 'w' else 'bias'}", advice
    if isinstance(getattr(value, "data", None), np.ndarray):
        return what, f"pass {name}.data"
    if kind == "UMat":
        return what, f"pass {name}.get()"
    if _is_number(value):
        return what, f"pass {as_type(value, name, _wide_enough(np.asarray(value)))}"
    return what, ""


def _of_a_mapping(value: Any, name: str, what: str) -> tuple[str, str]:
    """Of a dict or a file that holds arrays by their names."""
    shapes = {key: _shape(value[key]) for key in value if not str(key).startswith("__")}
    arrays = {key: shape for key, shape in shapes.items() if shape}
    weights = [key for key in arrays if str(key).rpartition(".")[2] in _WEIGHTS] if name == "w" else []
    together = isinstance(value, dict) or hasattr(value, "data_vars")
    if not weights and together and len(arrays) == len(value) > 1 and len({*arrays.values()}) == 1:
        return what, f"pass {_stack(value.values())}(list({name}.values()), -1)"
    keys = weights or list(arrays)
    if not keys:
        return what, ""

    def of(key: Any) -> str:
        return f"{name}[{key!r}]" + ".detach()" * _needs_gradient(value[key])

    biases = [f"{str(keys[0]).rpartition('.')[0]}.{b}".lstrip(".") for b in _BIASES] if weights else []
    added = "".join(f", bias={of(key)}" for key in biases if key in arrays)
    names = ", ".join(map(repr, keys[:4])) + ", …" * (len(keys) > 4)
    return f"{what} but holds {names}{', one of which may be meant' * (len(keys) > 1)}", f"pass {of(keys[0])}{added}"


def _of_a_layer(value: Any, name: str) -> str:
    """Of a framework's layer or model: its own weights, or those of the first layer in it that has some."""
    inside = [(f"{name}.get_submodule({n!r})", m) for n, m in value.named_modules() if n] if _is_module(value) else []
    for spelled, layer in [(name, value), *inside]:
        weights = next((n for n in _WEIGHTS if _holds(layer, n)), None)
        if weights is None or getattr(layer, "transposed", False) or hasattr(layer, "running_mean"):
            continue
        bias = next((n for n in _BIASES if _holds(layer, n)), None)
        if name == "bias":
            return f"pass {_attribute(layer, spelled, bias)}" if bias else ""
        call = f"pass {_attribute(layer, spelled, weights)}"
        call += f", bias={_attribute(layer, spelled, bias)}" if bias else ""
        for option, usual in _OPTIONS.items():
            given = getattr(layer, option, usual)
            if given not in (usual, (usual,), (usual, usual), (usual,) * 3) and not callable(given):
                call += f", {option}={spelled}.{option}"
        return call
    return ""


def _holds(layer: Any, attribute: str) -> bool:
    inside = getattr(layer, attribute, None)
    return inside is not None and not callable(inside) and not isinstance(inside, (str, bool, property))


def _attribute(layer: Any, spelled: str, attribute: str) -> str:
    return f"{spelled}.{attribute}" + ".detach()" * _needs_gradient(getattr(layer, attribute))


def _of_text(value: Any, name: str) -> tuple[str, str]:
    if isinstance(value, bytes):
        what = f"{name} has dtype S, {len(value)} bytes"
        if call := _of_contents(value, f"io.BytesIO({name})"):
            return f"{what} of a file", f"pass {call}"
        try:
            return what, f"pass {_reader(value.decode(), f'{name}.decode()')}"
        except (UnicodeDecodeError, LookupError):
            return f"{what} without a shape", f"give it its shape, and pass np.frombuffer({name}, np.uint8)"
    what = f"{name} has dtype <U{len(value)}, a text or a path"
    try:
        call = _reader(value, name)
    except LookupError:
        numbers = value.split()
        if numbers and all(map(_is_number, numbers)):
            return what, f"pass {as_type(numbers, f'{name}.split()', _wide_enough(np.asarray(numbers)))}"
        return f"{what}, and a file has to be read first", ""
    return what + " (there is no such file here)" * (not os.path.exists(value)), f"pass {call}"


def _reader(path: str, name: str) -> str:
    """The call that reads a file; a LookupError where its name does not tell."""
    lower = path.lower()
    if lower.endswith(_TIFF_NAMES):
        return _of_contents(_TIFF[0], name)
    if lower.endswith(_IMAGE_NAMES):
        return _of_contents(_IMAGES[0], name)
    if lower.endswith(".npz"):
        return f"np.load({name})[{_first_of_npz(path)!r}]"
    call = next((call for endings, call in _READERS.items() if lower.endswith(endings)), None)
    if call is None:
        raise LookupError(path)
    delimiter = {".csv": ', delimiter=","', ".tsv": ', delimiter="\\t"'}.get(lower[-4:], "")
    if lower.endswith((".txt", ".csv", ".tsv")) and _has_heading(path):
        delimiter += ", skiprows=1"
    return call.format(name + delimiter)


def _of_contents(start: bytes, name: str) -> str:
    """The call that reads a file whose first bytes are known, or ""."""
    if start.startswith(b"\x93NUMPY"):
        return f"np.load({name})"
    if start.startswith(_TIFF) and importlib.util.find_spec("tifffile"):  # PIL makes bytes of colours of 16 bits
        return f"tifffile.imread({name})"
    return f"PIL.Image.open({name})" if start.startswith(_IMAGES) else ""


def _of_a_file(value: Any, name: str) -> str:
    """Of what can be read: by what its first bytes are."""
    try:
        here = value.tell()
        start = value.read(8)
        value.seek(here)
    except Exception:
        return f"pass {name}.read()" if hasattr(value, "shape") else ""
    if isinstance(start, str):
        return f"pass np.loadtxt({name})"
    return f"pass {_of_contents(start, name)}" if _of_contents(start, name) else f"pass {name}.read()"


def _first_of_npz(path: str) -> str:
    try:
        with np.load(path) as file:
            return str(file.files[0])
    except Exception:
        return "arr_0"


def _has_heading(path: str) -> bool:
    try:
        with open(path, encoding="utf-8") as file:
            return not all(map(_is_number, file.readline().replace(",", " ").split()))
    except Exception:
        return False


def _of_fields(a: Any, name: str) -> str:
    from numpy.lib.recfunctions import structured_to_unstructured

    fields = [n for n in a.dtype.names if a.dtype[n].base.kind in "biufV"]
    if not fields and a.size == 1:  # as scipy.io.loadmat gives structs
        arrays = [n for n in a.dtype.names if _shape(a[n].item())]
        return f"pass {name}[{arrays[0]!r}].item()" if arrays else ""
    part = name if len(fields) == len(a.dtype.names) else f"{name}[{fields!r}]"
    try:
        structured_to_unstructured(a[fields][:0] if a.ndim else a[fields])
    except Exception:
        alike = fields and all(a.dtype[n].kind in "biuf" for n in fields)
        return f"pass {_stack([a])}([{name}[n] for n in {fields!r}], -1)" if alike else ""
    return f"import numpy.lib.recfunctions, and pass np.lib.recfunctions.structured_to_unstructured({part})"


def _of_parts(value: Any, a: Any, wrong: Any, name: str) -> str:
    """Of an array, list or table in which something is no number, `wrong`."""
    if isinstance(wrong, complex):
        return f"pass {as_type(value, name, 'complex128')}"
    if hasattr(value, "to_numpy"):
        return _of_a_table(value, a, name)
    if callable(getattr(wrong, "toarray", None)):
        return f"pass [one.toarray() for one in {name}]"
    if isinstance(wrong, np.ndarray) and a.size == 1:
        return f"pass {name}.item()"
    if isinstance(wrong, np.ndarray) and a.ndim == 1:
        return f"pass {_stack(a)}({name})" if len({_shape(part) for part in a}) == 1 else _each(name)
    return ""


def _of_a_table(value: Any, a: Any, name: str) -> str:
    """Of tables as pandas has them, whose columns may be anything."""
    part = name
    if hasattr(value, "select_dtypes"):
        kinds = ["number", "bool"]
        numbers = value.select_dtypes(kinds)
        if 0 < np.asarray(numbers).shape[1] < a.shape[1]:
            value, part = numbers, f"{name}.select_dtypes({kinds})"
    for more in ("", ".convert_dtypes()"):  # columns of objects have to be told that they are numbers
        try:
            read = (value.convert_dtypes() if more else value).to_numpy(np.float64, na_value=np.nan)
        except Exception:
            continue
        return f"pass {part}{more}.to_numpy(np.{_wide_enough(read)}, na_value=np.nan)"
    return ""


# ------------------------------------------------------------------------------------------- what NumPy cannot read


def _readable(value: Any, name: str) -> str:
    """What to pass instead of what NumPy makes no array of, or ""."""
    if isinstance(value, (list, tuple)) and value and all(map(_is_tensor, value)):
        return f": pass torch.stack({name})" + ".detach()" * any(map(_needs_gradient, value))
    if isinstance(value, Mapping):
        advice = _of_a_mapping(value, name, "")[1]
        return f": {advice}" if advice else ""
    if _is_module(value) or str(getattr(value, "device", "")) == "meta":
        return ""
    if getattr(value, "is_nested", False):
        return f": {_each(f'{name}.unbind()')}" if name == "x" else ""
    if str(getattr(value, "layout", "torch.strided")) != "torch.strided" and hasattr(value, "to_dense"):
        return f": pass {name}.to_dense()"
    if hasattr(value, "is_conj") and value.is_conj():
        return f": pass {name}.resolve_conj()"
    if getattr(value, "is_quantized", False):
        return f": pass {name}.dequantize()"
    if hasattr(value, "is_complex") and value.is_complex():
        return f": pass {name}.cfloat()"
    return f": pass {name}.float()" if callable(getattr(value, "float", None)) else ""


def _ragged(value: Any, name: str) -> str:
    """Of a list whose parts differ in shape: which do, and what to do."""
    try:
        shapes = [tuple(np.shape(part)) for part in value]
    except Exception:
        shapes = [_shape(part) or ((len(part),) if hasattr(part, "__len__") else ()) for part in value]
    other = next((i for i, shape in enumerate(shapes) if shape != shapes[0]), None)
    if other is None:
        return ""
    missing = next((i for i, part in enumerate(value) if part is None), None)
    if missing is not None:
        return f"{name}[{missing}] is None" + " (cv2.imread gives None for what it cannot read)" * (name == "x")
    what = f"{name}[{other}] has shape {shapes[other]}, but {name}[0] has {shapes[0]}: one array has one shape"
    if name == "w" and len(shapes) == 2 and len(shapes[0]) > 1 and len(shapes[1]) == 1 and shapes[1][0] in shapes[0]:
        return f"{what}; for weights and their bias, pass w[0], bias=w[1]"
    return f"{what}; {_each(name)}" if name == "x" and min(map(len, shapes)) > 1 else what


def _stack(parts: Any) -> str:
    """NumPy's own loses masks."""
    return "np.ma.stack" if any(isinstance(part, np.ma.MaskedArray) for part in parts) else "np.stack"


def _each(name: str) -> str:
    return f"convolve each for itself, [conv1x1(one, w) for one in {name}]"


# ------------------------------------------------------------------------------------------- what things are


def _is_number(value: Any) -> bool:
    """Whether it is a real number, or a text of one; None, which NumPy makes NaN of, is none."""
    try:
        float(value)
    except Exception:
        return False
    return True


def _is_tensor(value: Any) -> bool:
    return hasattr(type(value), "__dlpack__") and hasattr(value, "is_conj")


def _is_module(value: Any) -> bool:
    return callable(getattr(value, "named_modules", None)) and not isinstance(value, type)


def _needs_gradient(value: Any) -> bool:
    return getattr(value, "requires_grad", False) is True


def _shape(value: Any) -> tuple[int, ...]:
    """The shape of what is an array, or a list that makes one; () for all else."""
    try:
        return tuple(value.shape if hasattr(value, "shape") else np.shape(value))
    except Exception:
        return ()


def _wide_enough(a: Any) -> str:
    """The type of pixels that holds the numbers of an array: float32 where no number changes in it."""
    if a.dtype.kind == "V" or (a.dtype.kind == "f" and a.dtype.itemsize < 4):
        return "float32"  # of few bits, as ml_dtypes has them
    if a.dtype.kind in "mMc" or (a.dtype.kind == "f" and a.dtype.itemsize > 8):
        return "complex128" if a.dtype.kind == "c" else "float64"
    with np.errstate(all="ignore"):
        wide = a.astype(np.float64)
        return "float32" if np.array_equal(wide.astype(np.float32), wide, equal_nan=True) else "float64"
