"""All arguments of `conv1x1`, of `Conv1x1` and of a call of it; which sums of integers are exact."""

from __future__ import annotations

from functools import partial
from typing import Any

import numpy as np

from .. import _conv1x1
from ..arithmetic import default_arithmetic
from . import Spec, activation, geometry, positive_int, weights
from .arrays import (
    RESULT_NAMES,
    ROOM_FOR,
    WIDE,
    Array,
    ArrayLike,
    DTypeLike,
    Finish,
    bare,
    data_array,
    finish,
    is_complex,
    is_result,
    result_dtype,
)

_OF_A_LAYER = " (a layer takes dtype where it is made)"


@default_arithmetic
def spec(
    w: ArrayLike,
    bias: ArrayLike | None,
    channel_axis: Any,
    stride_: Any,
    groups: Any,
    activation_: Any,
    dtype: DTypeLike | None,
    center: ArrayLike | None = None,
    x: Array | None = None,
) -> Spec:
    """A layer's arguments, checked; x, where there is one, settles weights that have two readings."""
    groups = positive_int(groups, "groups")
    channel_axis = geometry.axis_number(channel_axis)
    given, bias = bias, None if bias is None else weights.numbers(bias, "bias")
    spelling = "bias" if hasattr(given, "reshape") else "np.asarray(bias)"
    matrix, keep = weights.weight(
        w, groups, x, channel_axis, weights.Bias(None if bias is None else bias.shape, spelling)
    )
    made = Spec(
        matrix,
        None if bias is None else one_each(given, bias, "bias", len(matrix), "filter"),
        channel_axis,
        keep,
        geometry.stride(stride_),
        groups,
        activation(activation_),
        result_dtype(dtype),
    )
    if center is not None:
        off = weights.numbers(center, "center")
        made = made._replace(center=one_each(center, off, "center", matrix.shape[1] * groups, "channel"))
    check_complex(made)
    return made


def one_each(given: Any, a: Array, name: str, count: int, of: str) -> Array:
    """What was given as the array `a`, once it is one number for each filter, or channel."""
    if a.shape != (count,):
        hint = f": pass np.ravel({name})" if a.size == count else ""
        if isinstance(given, (bool, np.bool_)):
            hint = "" if given else f": pass {name}=None"
        elif a.ndim == 0:
            hint = f": pass np.full({count}, {name})"
        raise ValueError(f"{name} has shape {a.shape}, expected ({count},), one number a {of}{hint}")
    return np.ascontiguousarray(a)


def _meant(spec_: Spec, channels: int) -> list[str]:
    """What a layer's weights may have been meant as, where x has other channels than they filter."""
    if spec_.groups > 1 or spec_.requantize is not None:
        return []
    found = [weights.Reading(spec_.weight, spec_.keep_axis, "layer.weight")]
    bias = weights.Bias(None if spec_.bias is None else spec_.bias.shape, "layer.bias")
    return weights.meant(found, channels, bias, "make the layer of")


@default_arithmetic
def call(
    spec_: Spec, x: ArrayLike, residual: ArrayLike | None, out: Any, threads: Any, *, numbers: bool = True
) -> tuple[Array, Array | None, Array | None, int | None, Finish | None]:
    """The arguments of one call of a layer, checked against it; and what is to be done with the result, if anything.

    Without `numbers` those of x and the residual, which may be many or on a disk, are not looked at: the types alone
    say whether sums are exact, and nothing is to be done.
    """
    a = data_array(x, "x")
    per_group = spec_.weight.shape[1]
    position = geometry.check_channels(a, spec_.channel_axis, per_group, spec_.groups, partial(_meant, spec_))
    steps = geometry.strides_per_axis(a, position, spec_.stride)
    shape = geometry.result_shape(a, position, steps, spec_.weight.shape[0], spec_.keep_axis)
    if residual is not None:
        residual = data_array(residual, "residual")
        if residual.shape != shape:
            alike = np.ma.getmask(residual) is np.ma.nomask and _broadcasts(residual.shape, shape)
            hint = f": pass np.broadcast_to(residual, {shape})" if alike else ""
            raise ValueError(f"residual has shape {residual.shape}, expected the result's, {shape}{hint}")
    if out is not None:
        check_out(out, shape, spec_.dtype)
    threads = None if threads is None else positive_int(threads, "threads")
    masked = finish(a, residual, position, steps, spec_.weight.shape[0], spec_.keep_axis) if numbers else None
    a, residual = bare(a), None if residual is None else bare(residual)
    check_complex(spec_, a, residual, out)
    shown, added = a, residual
    if not numbers:
        shown = a[tuple(slice(None if i == position else 0) for i in range(a.ndim))]
        added = None if residual is None else np.empty(0, residual.dtype)
    check_sums(spec_, shown, added, out, steps)
    return a, residual, out, threads, masked


def _broadcasts(given: tuple[int, ...], shape: tuple[int, ...]) -> bool:
    return len(given) <= len(shape) and all(n in (1, m) for n, m in zip(given[::-1], shape[::-1], strict=False))


def check_complex(spec_: Spec, x: Array | None = None, residual: Array | None = None, out: Array | None = None) -> None:
    """Whether a result of complex numbers is left complex, and no activation asked for, which is for real ones."""
    if spec_.requantize is not None:
        return  # check_sums says what it takes
    arrays = {"x": x, "w": spec_.weight, "bias": spec_.bias, "center": spec_.center, "residual": residual, "out": out}
    found = [f"{name} has dtype {a.dtype}" for name, a in arrays.items() if a is not None and is_complex(a.dtype)]
    dtype = spec_.dtype if out is None else out.dtype
    real = dtype is not None and not is_complex(dtype)
    if out is None and dtype is not None and not real:
        found.append(f"dtype={dtype} is asked for")
    if found and spec_.activation[0]:
        raise TypeError(
            f"activation {spec_.activation[0]!r} is a function of real numbers, but {found[0]}: "
            "leave activation away, and apply a function of complex numbers to the result"
        )
    if found and spec_.center is not None:
        raise TypeError(
            f"center is taken off real numbers, with real weights, but {found[0]}: "
            "leave center away, and take it off x, or w @ center off the bias"
        )
    if found and dtype is not None and real:
        instead = "complex128" if dtype.itemsize > 4 else "complex64"
        what = f"dtype={dtype}" if out is None else f"out has dtype {dtype}, which"
        call = f"dtype=np.{instead}" if out is None else f"out=np.empty({out.shape}, np.{instead})"
        raise TypeError(
            f"{what} has no place for imaginary parts, but {found[0]}: "
            f"pass {call}, and take .real of the result where its real part alone is meant"
        )


def check_sums(spec_: Spec, x: Array, residual: Array | None, out: Array | None, steps: tuple[int, ...]) -> None:
    """Whether sums of integers are exact, in the type of the result."""
    types = _types(spec_, x, residual, out)
    if not types["refusal"]:
        return
    if types["refusal"] == "pixels":
        raise TypeError(f"x has dtype {x.dtype}; a quantised layer takes uint8 or int8")
    if types["refusal"] == "beyond int32":
        wider = _types(spec_._replace(dtype=np.dtype(np.int64)), x, residual, None)
        types = wider if wider["refusal"] else types
    channels, added = spec_.weight.shape[1], types["added"]
    taken = x[tuple(slice(None, None, step) for step in steps)]
    terms = f"{channels} channels of {_spread(taken)} with {types['weights']} weights"
    terms += " and their center" if spec_.center is not None else ""
    terms += f" and up to {added:,} of bias and residual" if added else ""
    most = (types["limit"] - added) // max(types["product"], 1)
    which = f": at most {most} channels can" if most > 0 else "; no channels can"
    if types["refusal"] == "beyond int32":
        raise ValueError(
            f"{terms} cannot be summed in an int32 for sure{which}; "
            f"pass dtype=np.int64 for exact sums, or dtype=np.int32 for saturated ones{_OF_A_LAYER}"
        )
    ways = [] if spec_.dtype is None and out is not None else ["dtype=np.float64"]
    if out is not None:
        ways.append(f"out=np.empty({out.shape}, np.float64)")
    raise ValueError(
        f"{terms} cannot be summed exactly{which}, since float64 holds all integers only to {types['limit']:,}; "
        f"for rounded sums pass {' and '.join(ways)}{_OF_A_LAYER if ways[0].startswith('dtype') else ''}"
    )


def sums_integers(spec_: Spec, x: Array, residual: Array | None) -> bool:
    """Whether the numbers of a call are integers, all of them, whose sums fit int64."""
    types = _types(spec_, x, residual, None)
    largest: int = spec_.weight.shape[1] * types["product"] + types["added"]
    return types["integers"] and largest < 2**63


def _types(spec_: Spec, x: Array, residual: Array | None, out: Array | None) -> dict[str, Any]:
    """What the core makes of the types of a call."""
    return _conv1x1.choose_types(spec_, x, residual, out)


def _spread(a: Array) -> str:
    """The type of integers, and of wide ones, which are looked at, what there is of it."""
    wide = a.dtype.newbyteorder("=") in WIDE and a.size
    return f"{a.dtype.name} from {a.min():,} to {a.max():,}" if wide else a.dtype.name


def type_of_sums(spec_: Spec, x: Array, residual: Array | None, out: Array | None) -> str:
    """What the core computes a call in: float32, float64 or int32."""
    return str(_types(spec_, x, residual, out)["arithmetic"])


def check_out(out: Any, shape: tuple[int, ...], dtype: np.dtype[Any] | None) -> None:
    """Whether `out` can take a result of this shape (and of this dtype, where one was asked for)."""
    check_is_array(out, shape)
    out = bare(out)  # a subclass may say what it likes
    if not is_result(out.dtype):
        raise TypeError(
            f"out has dtype {out.dtype}; supported are {RESULT_NAMES}: "
            f"pass out=np.empty({shape}, np.{ROOM_FOR.get(out.dtype.kind, 'float32')})"
        )
    if dtype is not None and out.dtype.newbyteorder("=") != dtype:
        raise TypeError(f"out has dtype {out.dtype}, but dtype={dtype} was asked for: leave dtype out, out decides")
    check_room(out, shape)


def check_is_array(out: Any, shape: tuple[int, ...]) -> None:
    """Whether `out` is an array that can be written to as one."""
    if not isinstance(out, np.ndarray) or isinstance(out, np.ma.MaskedArray):
        from . import advice

        instead = "out.data" if isinstance(out, np.ma.MaskedArray) else advice.out_instead(out, shape)
        raise TypeError(f"out must be a NumPy array, got {type(out).__name__}: pass out={instead}")


def check_room(out: Array, shape: tuple[int, ...]) -> None:
    """Whether an array can take a result of this shape."""
    if out.shape != shape:
        raise ValueError(f"out has shape {out.shape}, expected {shape}: pass out=np.empty({shape}, out.dtype)")
    if not out.flags.writeable:
        raise ValueError("out is read-only: pass a writable array, or leave out away")
