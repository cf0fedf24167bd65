"""Arguments as a user gives them, turned into the one form the core takes.

Everything that can be wrong with a call is found here, before any result is written, and said in the same
way: what was expected, what came, and how to call it. The core checks the same things again, cheaply and
without words; what it does not take as it is, it sends here.

=============  =======================================================================
this file      what all checks share: the canonical form, whole numbers, activations
`arrays`       objects as arrays of supported types: masked ones, tensors by DLPack
`weights`      weights in every form that frameworks store them in
`geometry`     axes, strides, shapes, order in memory
`floats`       all arguments of `conv1x1`, of `Conv1x1` and of a call of it
`quantized`    the same of quantised arrays
`sequential`   whether elements make a chain, and all arguments of a call of one
`advice`       what to pass instead of what is no array of numbers
`activations`  what an activation may be that is not known by its name
=============  =======================================================================
"""

from __future__ import annotations

import sys
from collections.abc import Callable
from typing import Any, NamedTuple, TypeAlias

import numpy as np

from .arrays import Array, spelled

Activation: TypeAlias = str | tuple[str, float] | tuple[str, float, float] | None

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
#: What layers have that `reference` and `explain` are given for one, and what it usually is.
_OF_LAYERS: dict[str, Any] = {
    "bias": None,
    "channel_axis": -1,
    "stride": 1,
    "groups": 1,
    "activation": None,
    "residual": None,
    "dtype": None,
    "center": None,
}


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
    #: Its arguments, in a form of `checks.quantized`.
    quantised: tuple[Any, Any] | None = None
    center: Array | None = None  # (C,), like the bias but real


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


def is_chain(value: Any) -> bool:
    """Whether this is a `Sequential`, which nothing can be before its file is imported."""
    module = sys.modules.get("conv1x1.sequential")
    return module is not None and isinstance(value, module.Sequential)


def pixels_and_chain(x: Any, w: Any, function: str, given: tuple[Any, ...]) -> tuple[Any, Any]:
    """An array and a chain, in whichever order, once nothing is given that a chain has itself: a bias and so on."""
    if is_chain(x) and is_chain(w):
        raise TypeError(f"{function} takes an array and a chain, got two chains: {function}(x, net)")
    if any(
        isinstance(value, np.ndarray) or value != usual for value, usual in zip(given, _OF_LAYERS.values(), strict=True)
    ):
        raise TypeError(f"a chain has {', '.join(_OF_LAYERS)} of its own: write {function}(x, net)")
    return (w, x) if is_chain(x) else (x, w)


def positive_int(value: Any, name: str) -> int:
    """`value` as an int ≥ 1; booleans and floats are refused."""
    if isinstance(value, (bool, np.bool_)) or not isinstance(value, (int, np.integer)):
        raise TypeError(f"{name} must be an int ≥ 1, got {value!r}")
    number = int(value)  # a subclass may compare as it likes
    if number < 1:
        raise ValueError(f"{name} must be ≥ 1, got {value}")
    return number


def activation(value: Any) -> tuple[str, float, float]:
    """(name, first parameter, second parameter); the name is "" for none."""
    if value is None:
        return "", 0.0, 0.0
    name, *parameters = value if isinstance(value, tuple) and value else (value,)
    if not isinstance(name, str) or name not in ACTIVATIONS:
        from . import activations

        known = ", ".join(sorted(ACTIVATIONS))
        raise ValueError(
            f"activation {spelled(value)} is unknown: expected None, one of {known}, "
            f'("clip", lo, hi) or ("leaky_relu", slope){activations.instead(value, ACTIVATIONS, ACTIVATIONS)}'
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
        raise ValueError(f'activation {value!r} has lo > hi: write ("clip", {parameters[1]!r}, {parameters[0]!r})')
    if name == "leaky_relu" and not numbers:
        numbers = [_LEAKY_RELU_SLOPE]
    return name, *[*numbers, 0.0, 0.0][:2]  # type: ignore[return-value]
