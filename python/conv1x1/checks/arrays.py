"""Objects that users pass, as arrays: NumPy's own, masked ones, and what other libraries keep in this machine's memory.

Nothing is copied that lies there already. For what is no array, `advice` has the call that makes one of it.
"""

from __future__ import annotations

import sys
from collections.abc import Callable
from functools import partial
from typing import TYPE_CHECKING, Any, TypeAlias

import numpy as np

from .. import _conv1x1

if TYPE_CHECKING:
    from numpy.typing import ArrayLike as ArrayLike
    from numpy.typing import DTypeLike as DTypeLike
    from numpy.typing import NDArray

    Array: TypeAlias = NDArray[Any]
else:  # what `typing.get_type_hints` finds; numpy.typing would double the import's cost
    Array = np.ndarray[Any, np.dtype[Any]]
    ArrayLike = DTypeLike = Any

_SHARED = ("float16", "float32", "float64", "complex64", "complex128", "uint8", "int8", "uint16", "int16", "int32")
#: And bfloat16, a type that ml_dtypes brings.
WIDE = tuple(map(np.dtype, ("uint32", "int64", "uint64")))
PIXELS = (*map(np.dtype, (*_SHARED, "bool")), *WIDE)
RESULTS = tuple(map(np.dtype, (*_SHARED, "int64")))
_PIXEL_NAMES = (
    "float16, bfloat16, float32, float64, complex64, complex128, "
    "bool, uint8, int8, uint16, int16, int32, uint32, int64 and uint64"
)
RESULT_NAMES = "float16, bfloat16, float32, float64, complex64, complex128, uint8, int8, uint16, int16, int32 and int64"
#: For a type that no result has, by its kind, one that has room for it.
ROOM_FOR = {"b": "uint8", "u": "int64", "f": "float64", "c": "complex128"}

Finish: TypeAlias = Callable[[Array], Array]

#: DLPack's numbers of devices whose memory the CPU reads: its own, and what CUDA and ROCm pin or manage for it.
_HOSTS = (1, 3, 11, 13)
#: How deep lists of masked arrays are looked for: the rows of a batch's images.
_MOST_LISTS = 3


def bare(value: ArrayLike) -> Array:
    """An ndarray whose dtype says no more than the type of its numbers and their byte order; never a copy of one."""
    a = np.asarray(value)
    if a.dtype.kind not in "biufc" or (a.dtype.fields is None and a.dtype.metadata is None):
        return a
    return a.view(np.dtype(a.dtype.type).newbyteorder(a.dtype.byteorder))


def maybe_masked(value: Any, name: str) -> Array:
    """`value` as an ndarray of whatever type, or as the masked array that it is, or that it gives."""
    if not isinstance(value, (np.ndarray, np.generic)):
        value = _read(value, name)
    return value if isinstance(value, np.ma.MaskedArray) else bare(value)


def unmasked(value: Any, name: str) -> Array:
    """`value` as an ndarray, where a mask has no meaning."""
    a = maybe_masked(value, name)
    if isinstance(a, np.ma.MaskedArray):
        filled = f"{name}.filled(0)" if hasattr(value, "filled") else f"np.ma.filled(np.asanyarray({name}), 0)"
        raise TypeError(f"{name} is a masked array: pass {filled}")
    return a


def _read(value: Any, name: str) -> Any:
    """What is no array of NumPy's, as one."""
    if isinstance(value, (list, tuple)) and (depth := _depth_of_masks(value)):
        stacked = f"np.ma.stack({name})"
        if depth > 1:  # step by step
            stacked = f"[np.ma.stack(one) for one in {name}]"
        if depth > 2:
            stacked = f"[[np.ma.stack(one) for one in more] for more in {name}]"
        raise TypeError(f"{name} is a {type(value).__name__} of masked arrays: pass {stacked}")
    elsewhere = ""
    try:
        if hasattr(type(value), "__dlpack__"):
            elsewhere = _why_not_here(value, name)
            value = value if elsewhere else _from_dlpack(value, name)
        if not elsewhere:
            return np.asanyarray(value)
    except (ImportError, MemoryError):
        raise
    except Exception as error:
        from .advice import unreadable

        raise unreadable(value, name, error) from error
    raise TypeError(elsewhere)


def _depth_of_masks(value: Any, depth: int = 1) -> int:
    """In which list of lists there are masked arrays, whose masks NumPy would lose; 0 where there are none."""
    for part in value:
        if isinstance(part, np.ma.MaskedArray):
            return depth
        inner = isinstance(part, (list, tuple)) and depth < _MOST_LISTS and _depth_of_masks(part, depth + 1)
        if inner:
            return inner
    return 0


# ---------------------------------------------------------------------------------------------------------- types


def is_bfloat16(dtype: np.dtype[Any]) -> bool:
    """Whether this is bfloat16, as ml_dtypes or another package registers it; the core is told its number."""
    if dtype.name != "bfloat16" or dtype.itemsize != 2:
        return False
    _conv1x1.know_bfloat16(dtype.num)
    return True


def in_own_order(dtype: np.dtype[Any]) -> np.dtype[Any]:
    """A type in this machine's byte order; NumPy's type of text has none."""
    return dtype if dtype.isnative else dtype.newbyteorder("=")


def is_integer(dtype: np.dtype[Any]) -> bool:
    """Whether the numbers are integers; booleans count, as 0 and 1."""
    return dtype.kind in "biu"


def data_array(x: ArrayLike, name: str) -> Array:
    """`x` as an array of pixels in a supported type, masked if it is; an ndarray of one is never copied."""
    a = maybe_masked(x, name)
    if in_own_order(a.dtype) in PIXELS or is_bfloat16(a.dtype):
        return a
    what, instead = other_type(x, a, name)
    raise TypeError(f"{what}; supported are {_PIXEL_NAMES}{instead}")


def other_type(value: Any, a: Array, name: str) -> tuple[str, str]:
    """What was passed that is of no supported type, as the array `a`, and the call that makes such an array of it."""
    from . import advice

    what, instead = advice.unsupported(value, a, name)
    return what, f": {instead}" if instead else ""


def is_complex(dtype: np.dtype[Any]) -> bool:
    return dtype.kind == "c"


def bfloat16(what: str) -> Any:
    """The type of ml_dtypes, for `what` needs it."""
    try:
        from ml_dtypes import bfloat16
    except ImportError:
        raise ImportError(
            f"{what} is a type of the package ml_dtypes, which is not installed: "
            'pip install ml_dtypes, or ".[bfloat16]" in a clone'
        ) from None
    return bfloat16


def result_dtype(value: DTypeLike | None) -> np.dtype[Any] | None:
    """The requested result type, or None where the data decide."""
    if value is None:
        return None
    if isinstance(value, str) and value == "bfloat16":
        value = bfloat16("dtype='bfloat16'")
    dtype = as_dtype(value)
    if not is_result(dtype):
        instead = ROOM_FOR.get(dtype.kind, "float32")
        raise TypeError(f"dtype={dtype} is no type of a result; supported are {RESULT_NAMES}: pass dtype=np.{instead}")
    if not dtype.isnative:
        own = repr(dtype.name) if dtype.isbuiltin == 2 else f"np.{dtype.name}"
        raise TypeError(f"dtype={dtype} is not this machine's byte order: pass dtype={own}, or an out of that order")
    return np.dtype(dtype.type)


def as_dtype(value: Any) -> np.dtype[Any]:
    """What NumPy takes for a dtype; for what it does not, whatever it raises, a TypeError."""
    try:
        dtype: np.dtype[Any] = np.dtype(value)
    except Exception as error:
        named = spelled(value).rpartition(".")[2]  # torch.float32, say
        instead = named if named in ("bfloat16", *map(str, RESULTS)) else "float32"
        raise TypeError(
            f"dtype={spelled(value)} is no dtype of NumPy's; supported are {RESULT_NAMES}: pass dtype={instead!r}"
        ) from error
    return dtype


def spelled(value: Any) -> str:
    """A value for a message, which may be long, or have no words for itself."""
    try:
        text = repr(value)
    except Exception:
        text = object.__repr__(value)
    return text if len(text) <= 60 else f"{text[:57]}..."


def is_result(dtype: np.dtype[Any]) -> bool:
    return in_own_order(dtype) in RESULTS or is_bfloat16(dtype)


# ---------------------------------------------------------------------------------------------------- DLPack


def _from_dlpack(value: Any, name: str) -> Any:
    """What offers DLPack, as an array or what NumPy takes for one."""
    read = getattr(np, "from_dlpack", None) or np._from_dlpack  # type: ignore[attr-defined]  # of NumPy 1.22
    try:
        return read(value)
    except Exception:
        if str(getattr(value, "dtype", None)) == "torch.bfloat16":  # which NumPy does not know
            same_bytes = value.view(sys.modules["torch"].int16)
            return read(same_bytes).view(bfloat16(f"{name} holds bfloat16, which"))
        if not any(hasattr(value, how) for how in ("__array__", "__array_interface__", "__array_struct__")):
            raise
    return value


def _why_not_here(value: Any, name: str) -> str:
    """Why what offers DLPack cannot be read where it is, and what to pass instead; "" where it can."""
    device, index = value.__dlpack_device__()
    where = getattr(value, "device", f"number {int(device)}:{index} of DLPack")
    fetch = ".get()" if hasattr(value, "get") and not hasattr(value, "cpu") else ".cpu()"
    reasons = {
        ".detach()": getattr(value, "requires_grad", False) is True and "that requires its gradient",
        fetch: int(device) not in _HOSTS and f"on the device {where}, and only the CPU's memory is read",
        # torch hands out the numbers as they were before.
        ".resolve_neg()": hasattr(value, "is_neg") and value.is_neg() and "whose sign is still to be turned",
    }
    found = {call: why for call, why in reasons.items() if why}
    if not found:
        return ""
    return f"{name} is a {type(value).__name__} {' and '.join(found.values())}: pass {name}{''.join(found)}"


# ------------------------------------------------------------------------------------------------------ masks


def finish(x: Array, residual: Array | None, *place: Any) -> Finish | None:
    """What makes a masked array of a result; None where neither x nor the residual is one. `place` as below."""
    givers = [a for a in (x, residual) if isinstance(a, np.ma.MaskedArray)]
    return partial(_masked, mask_of_result(x, residual, *place), givers[0]) if givers else None


def mask_of_result(
    x: Array, residual: Array | None, position: int, steps: tuple[int, ...], out_channels: int, keep_axis: bool
) -> Any:
    """The mask of a convolution's result, or `numpy.ma.nomask`.

    A pixel of the result, all its channels, is masked where any channel of x is; a number, where its residual is.
    """
    mask: Any = np.ma.getmask(x)
    if mask is not np.ma.nomask:
        mask = np.asarray(mask[tuple(slice(None, None, step) for step in steps)].any(position, keepdims=keep_axis))
        mask = np.repeat(mask, out_channels, position) if keep_axis else mask
    added = np.ma.nomask if residual is None else np.ma.getmask(residual)
    if added is not np.ma.nomask:
        mask = added.copy() if mask is np.ma.nomask else mask | added
    return mask


def masked_like(y: Array, a: Any) -> Array:
    """`y` with the mask of `a`, if it is a masked array, number by number."""
    if not isinstance(a, np.ma.MaskedArray):
        return y
    mask = np.ma.getmask(a)
    return _masked(mask if mask is np.ma.nomask else mask.copy(), a, y)


def _masked(mask: Any, giver: Any, y: Array) -> Array:
    """A result under a mask, else as NumPy's functions make it of a masked array, `giver`."""
    hard = bool(giver.hardmask)
    return np.ma.MaskedArray(np.asarray(y), mask=mask, fill_value=_fill_value(giver, y.dtype), hard_mask=hard)


def _fill_value(giver: Any, dtype: np.dtype[Any]) -> Any:
    """The fill value of a masked array in another type; where it does not fit, or was not set, that type's own."""
    given = np.asarray(giver.view().fill_value)  # a view, since asking for it sets it
    unset = np.asarray(np.ma.MaskedArray(np.empty(0, giver.dtype)).fill_value)
    own = None if dtype.kind in "biufc" else np.float32(1e20)  # NumPy has none for bfloat16
    if given.dtype.kind not in "biufc" or given == unset:
        return own
    with np.errstate(all="ignore"):
        there = given.astype(dtype)
        fits = there == given or (dtype.kind not in "biu" and np.isfinite(there) == np.isfinite(given))
    return there[()] if fits else own
