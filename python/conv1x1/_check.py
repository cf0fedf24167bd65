"""Arguments as a user gives them, turned into the one form the core takes.

Everything that can be wrong with a call is found here, before any result is written, and said in the same
way: what was expected, what came, and how to call it. The core checks the same things again, cheaply and
without words; what it does not take as it is, it sends here.
"""

from __future__ import annotations

import weakref
from collections.abc import Callable
from functools import partial
from typing import Any, NamedTuple, TypeAlias

import numpy as np

from . import _conv1x1, _filters
from ._arithmetic import default_arithmetic
from ._arrays import Array as Array
from ._arrays import ArrayLike, DTypeLike, Finish, bare, bfloat16, finish, maybe_masked, unmasked
from ._geometry import axis as axis
from ._geometry import axis_number as axis_number
from ._geometry import check_channels as check_channels
from ._geometry import lying_as as lying_as
from ._geometry import result_shape as result_shape
from ._geometry import strides_per_axis as strides_per_axis

Activation: TypeAlias = str | tuple[str, float] | tuple[str, float, float] | None

_SHARED = ("float16", "float32", "float64", "complex64", "complex128", "uint8", "int8", "uint16", "int16", "int32")
#: And bfloat16, a type that ml_dtypes brings.
WIDE = tuple(map(np.dtype, ("uint32", "int64", "uint64")))
PIXELS = (*map(np.dtype, (*_SHARED, "bool")), *WIDE)
RESULTS = tuple(map(np.dtype, (*_SHARED, "int64")))
_PIXEL_NAMES = (
    "float16, bfloat16, float32, float64, complex64, complex128, "
    "bool, uint8, int8, uint16, int16, int32, uint32, int64 and uint64"
)
_RESULT_NAMES = (
    "float16, bfloat16, float32, float64, complex64, complex128, uint8, int8, uint16, int16, int32 and int64"
)
#: For a type that no result has, by its kind, one that has room for it.
_INSTEAD = {"b": "uint8", "u": "int64", "f": "float64", "c": "complex128"}
#: What wide integers are packed from, as weights: the first that holds them.
_WEIGHTS = tuple(map(np.dtype, ("int32", "int64", "uint64")))

#: Names a user may give, and how many parameters each may carry.
ACTIVATIONS = {
    "relu": (0,),
    "relu6": (0,),
    "leaky_relu": (0, 1),
    "hardswish": (0,),
    "hardsigmoid": (0,),
    "sigmoid": (0,),
    "silu": (0,),
    "tanh": (0,),
    "gelu": (0,),
    "clip": (2,),
}
_LEAKY_RELU_SLOPE = 0.01
_OF_A_LAYER = " (a layer takes dtype where it is made)"


class Spec(NamedTuple):
    """A layer's arguments in canonical form."""

    weight: Array  # (K, C/groups), C-contiguous, float32, float64, their complex types, bool or a type of integers
    bias: Array | None  # (K,), likewise
    channel_axis: int
    keep_axis: bool  # False: the weight was a vector, the result has no channel axis
    stride: int | tuple[int, ...]
    groups: int
    activation: tuple[str, float, float]
    dtype: np.dtype[Any] | None
    #: Of a quantised layer: multipliers, float32 (K,); lo and hi before the zero point is added; that; x's type.
    requantize: tuple[Array, float, float, int, np.dtype[Any]] | None = None
    #: Its arguments, in a form of `_check_quantized`.
    quantised: tuple[Any, Any] | None = None


def kept(spec_: Any) -> Any:
    """A spec with copies of its arrays that nothing can make writable: bytes own them."""
    return _with_arrays(spec_, np.ndarray.tobytes)


def shown(spec_: Any) -> Any:
    """One that was kept, with arrays of its own: whoever sets their shape or type does not set the layer's."""
    return _with_arrays(spec_, lambda a: a.base)


def _with_arrays(value: Any, buffer: Callable[[Array], Any]) -> Any:
    if isinstance(value, np.ndarray):
        return np.ndarray(value.shape, value.dtype, buffer(value))
    if not isinstance(value, tuple):
        return value
    parts = [_with_arrays(v, buffer) for v in value]
    return type(value)(*parts) if hasattr(value, "_fields") else tuple(parts)


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
    from . import _advice

    what, instead = _advice.unsupported(value, a, name)
    return what, f": {instead}" if instead else ""


def _numbers(w: ArrayLike, name: str) -> Array:
    """Weights or bias in float32, float64, their complex types, bool or a type of integers, native.

    Wide integers, as lists give, come in int32 if they fit.
    """
    a = unmasked(w, name)
    native = in_own_order(a.dtype)
    if native == np.float16 or is_bfloat16(a.dtype):
        return a.astype(np.float32)
    if native in WIDE:
        low, high = a.min(initial=0), a.max(initial=0)
        native = next(t for t in _WEIGHTS if np.iinfo(t).min <= low and high <= np.iinfo(t).max)
    if native in PIXELS:
        return a.astype(native, copy=False)
    what, instead = other_type(w, a, name)
    raise TypeError(f"{name} must hold numbers, but {what}{instead}")


def weight(
    w: ArrayLike, groups: int, x: Array | None, channel_axis: int, added: str | None = None
) -> tuple[Array, bool]:
    """The (K, C/groups) matrix in any weight form, and whether the result keeps its channel axis.

    x, where there is one, settles a form with two readings; without it such a form is refused. `added` is for advice:
    what a column of weights that is a bias must be added to, None where it is none.
    """
    a = _numbers(w, "w")
    _pin = weakref.ref(a)  # which keeps NumPy from resizing it, should garbage be collected meanwhile
    channels = None if x is None else x.shape[axis(x, channel_axis)]
    found = _filters.readings(a, "w" if hasattr(w, "reshape") and not isinstance(w, np.matrix) else "np.asarray(w)")
    reading = _filters.the_one_that_fits(found, a.shape, groups, channels)
    if reading is None:
        assert x is not None  # without x, only the groups can be wrong
        assert channels is not None
        meant = _filters.meant(found, channels, added) if groups == 1 else []
        if a.ndim == 2 and len(meant) == 1 and len(a) == channels:
            raise ValueError(
                f"w of shape {a.shape} is (C, K), K = {a.shape[1]}, where (K, C) is expected for the {channels} "
                f"channels of x: pass {found[0].spelling}.T"
            )
        check_channels(x, channel_axis, found[0].matrix.shape[1], groups, lambda _: meant)
        raise AssertionError("weights that fit are a reading")
    return np.ascontiguousarray(reading.matrix), reading.keep_axis


def positive_int(value: Any, name: str) -> int:
    """`value` as an int ≥ 1; booleans and floats are refused."""
    if isinstance(value, (bool, np.bool_)) or not isinstance(value, (int, np.integer)):
        raise TypeError(f"{name} must be an int ≥ 1, got {value!r}")
    number = int(value)  # a subclass may compare as it likes
    if number < 1:
        raise ValueError(f"{name} must be ≥ 1, got {value}")
    return number


def stride(value: Any) -> int | tuple[int, ...]:
    """An int, or a tuple of ints with at least one entry."""
    if isinstance(value, (tuple, list)):
        if not value:
            raise ValueError("stride is empty: expected an int or one int for each strided axis, such as stride=(2, 2)")
        return tuple(positive_int(v, "stride") for v in value)
    return positive_int(value, "stride")


def activation(value: Any) -> tuple[str, float, float]:
    """(name, first parameter, second parameter); the name is "" for none."""
    if value is None:
        return "", 0.0, 0.0
    name, *parameters = value if isinstance(value, tuple) and value else (value,)
    if not isinstance(name, str) or name not in ACTIVATIONS:
        known = ", ".join(sorted(ACTIVATIONS))
        raise ValueError(
            f'activation {value!r} is unknown: expected None, one of {known}, ("clip", lo, hi) or ("leaky_relu", slope)'
        )
    if len(parameters) not in ACTIVATIONS[name]:
        wanted = (
            '("clip", lo, hi)' if name == "clip" else '("leaky_relu", slope)' if name == "leaky_relu" else f'"{name}"'
        )
        raise ValueError(f"activation {value!r} has {len(parameters)} parameters: write activation={wanted}")
    try:
        numbers = [float(p) for p in parameters]
    except (TypeError, ValueError, OverflowError):
        raise TypeError(f"the parameters of activation {value!r} must be numbers") from None
    if any(np.isnan(numbers)):
        raise ValueError(f"activation {value!r} has a NaN parameter")
    if name == "clip" and numbers[0] > numbers[1]:
        raise ValueError(f'activation {value!r} has lo > hi: write ("clip", {numbers[1]:g}, {numbers[0]:g})')
    if name == "leaky_relu" and not numbers:
        numbers = [_LEAKY_RELU_SLOPE]
    return name, *[*numbers, 0.0, 0.0][:2]  # type: ignore[return-value]


def result_dtype(value: DTypeLike | None) -> np.dtype[Any] | None:
    """The requested result type, or None where the data decide."""
    if value is None:
        return None
    if isinstance(value, str) and value == "bfloat16":
        value = bfloat16("dtype='bfloat16'")
    dtype = as_dtype(value)
    if not _is_result(dtype):
        instead = _INSTEAD.get(dtype.kind, "float32")
        raise TypeError(f"dtype={dtype} is no type of a result; supported are {_RESULT_NAMES}: pass dtype=np.{instead}")
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
            f"dtype={spelled(value)} is no dtype of NumPy's; supported are {_RESULT_NAMES}: pass dtype={instead!r}"
        ) from error
    return dtype


def spelled(value: Any) -> str:
    """A value for a message, which may be long, or have no words for itself."""
    try:
        text = repr(value)
    except Exception:
        text = object.__repr__(value)
    return text if len(text) <= 60 else f"{text[:57]}..."


def _is_result(dtype: np.dtype[Any]) -> bool:
    return in_own_order(dtype) in RESULTS or is_bfloat16(dtype)


def spec(
    w: ArrayLike,
    bias: ArrayLike | None,
    channel_axis: Any,
    stride_: Any,
    groups: Any,
    activation_: Any,
    dtype: DTypeLike | None,
    x: Array | None = None,
) -> Spec:
    """A layer's arguments, checked; x, where there is one, settles weights that have two readings."""
    groups = positive_int(groups, "groups")
    channel_axis = axis_number(channel_axis)
    matrix, keep = weight(w, groups, x, channel_axis, "" if bias is None else "bias + ")
    if bias is not None:
        given, bias = bias, _numbers(bias, "bias")
        if bias.shape != matrix.shape[:1]:
            hint = ": pass np.ravel(bias)" if bias.size == matrix.shape[0] else ""
            if isinstance(given, (bool, np.bool_)):
                hint = "" if given else ": pass bias=None"
            elif bias.ndim == 0:
                hint = f": pass np.full({matrix.shape[0]}, bias)"
            raise ValueError(f"bias has shape {bias.shape}, expected ({matrix.shape[0]},), one number a filter{hint}")
        bias = np.ascontiguousarray(bias)
    made = Spec(matrix, bias, channel_axis, keep, stride(stride_), groups, activation(activation_), result_dtype(dtype))
    check_complex(made)
    return made


def _meant(spec_: Spec, channels: int) -> list[str]:
    """What a layer's weights may have been meant as, where x has other channels than they filter."""
    if spec_.groups > 1 or spec_.requantize is not None:
        return []
    found = [_filters.Reading(spec_.weight, spec_.keep_axis, "layer.weight")]
    added = "" if spec_.bias is None else "layer.bias + "
    return _filters.meant(found, channels, added, "make the layer of")


@default_arithmetic
def call(
    spec_: Spec, x: ArrayLike, residual: ArrayLike | None, out: Any, threads: Any, *, numbers: bool = True
) -> tuple[Array, Array | None, Array | None, int | None, Finish | None]:
    """The arguments of one call of a layer, checked against it; and what is to be done with the result, if anything.

    Without `numbers` those of x and the residual, which may be many or on a disk, are not looked at: the types alone
    say whether sums are exact, and nothing is to be done.
    """
    a = data_array(x, "x")
    position = check_channels(a, spec_.channel_axis, spec_.weight.shape[1], spec_.groups, partial(_meant, spec_))
    steps = strides_per_axis(a, position, spec_.stride)
    shape = result_shape(a, position, steps, spec_.weight.shape[0], spec_.keep_axis)
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


def is_complex(dtype: np.dtype[Any]) -> bool:
    return dtype.kind == "c"


def check_complex(spec_: Spec, x: Array | None = None, residual: Array | None = None, out: Array | None = None) -> None:
    """Whether a result of complex numbers is left complex, and no activation asked for, which is for real ones."""
    if spec_.requantize is not None:
        return  # check_sums says what it takes
    arrays = {"x": x, "w": spec_.weight, "bias": spec_.bias, "residual": residual, "out": out}
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
    if not isinstance(out, np.ndarray) or isinstance(out, np.ma.MaskedArray):
        from . import _advice

        instead = "out.data" if isinstance(out, np.ma.MaskedArray) else _advice.out_instead(out, shape)
        raise TypeError(f"out must be a NumPy array, got {type(out).__name__}: pass out={instead}")
    out = bare(out)  # a subclass may say what it likes
    if not _is_result(out.dtype):
        raise TypeError(
            f"out has dtype {out.dtype}; supported are {_RESULT_NAMES}: "
            f"pass out=np.empty({shape}, np.{_INSTEAD.get(out.dtype.kind, 'float32')})"
        )
    if dtype is not None and out.dtype.newbyteorder("=") != dtype:
        raise TypeError(f"out has dtype {out.dtype}, but dtype={dtype} was asked for: leave dtype out, out decides")
    if out.shape != shape:
        raise ValueError(f"out has shape {out.shape}, expected {shape}: pass out=np.empty({shape}, out.dtype)")
    if not out.flags.writeable:
        raise ValueError("out is read-only: pass a writable array, or leave out away")
