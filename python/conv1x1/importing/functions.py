"""Functions and methods of torch, as they are called in traced graphs, as steps."""

from __future__ import annotations

import operator
from collections.abc import Callable
from typing import Any

import numpy as np

from ..checks import Activation
from ..checks.arrays import Array
from .steps import Curve, Largest, Matrix, Norm, Part, Scale, Soft
from .values import (
    Axes,
    NotPointwise,
    Value,
    added,
    averaged,
    channels_of,
    divided,
    flattened,
    multiplied,
    permuted,
    pooled,
    subtracted,
)

#: Activations by the names of functions, of methods and, in small letters, of modules.
CURVES: dict[str, Activation] = {
    name: name for name in ("relu", "relu6", "hardswish", "hardsigmoid", "sigmoid", "silu", "tanh")
}
_ARITHMETIC = ("add", "sub", "mul", "div", "truediv")
_NOTHING = ("dropout", "dropout2d", "dropout3d", "alpha_dropout", "contiguous", "clone", "float", "detach")


class _Sizes:
    """What a module asks of an input's shape, only to hand it on."""

    def __getitem__(self, _: Any) -> _Sizes:
        return self


class Functions:
    """Follows pixels through calls: `function` finds the method for each, by its name."""

    def __init__(self, torch: Any) -> None:
        self.torch = torch
        self.axes = Axes()

    def array(self, tensor: Any) -> Array:
        """A tensor in float64."""
        if type(tensor).__name__ == "UninitializedParameter":
            raise ValueError("the module is lazy and has no weights yet: call it once first")
        with self.torch.no_grad():
            return np.asarray(tensor.detach().cpu().double().numpy())

    def function(self, name: str, args: Any, kwargs: Any) -> Any:
        """A function or method of a value, or of constants."""
        values: list[Any] = []
        self.torch.fx.node.map_aggregate((args, kwargs), lambda a: values.append(a) if isinstance(a, Value) else None)
        if not values:
            return self._constant(name, args, kwargs)
        plain = name.strip("_")
        plain = plain.removeprefix("i") if plain in ("iadd", "isub", "imul", "itruediv") else plain
        if plain not in _ARITHMETIC and (len(values) > 1 or not args or args[0] is not values[0]):
            raise NotPointwise("takes more than one value, or takes them by name")
        if plain in CURVES:
            return args[0].then(Curve(CURVES[plain]))
        if plain in _NOTHING:
            if "dropout" in plain and kwargs.get("training", len(args) > 2 and args[2]):
                raise NotPointwise("is called with training=True: call module.eval() first")
            return args[0]
        made = getattr(self, f"_call_{plain}", None)
        if made is None:
            raise NotPointwise("is not pointwise, or not known here")
        return made(*args, **kwargs)

    def _constant(self, name: str, args: Any, kwargs: Any) -> Any:
        """What does not depend on the pixels, such as a parameter in another shape."""
        owner = next((o for o in (operator, *args[:1], self.torch) if hasattr(o, name)), None)
        given = args[1:] if owner is not operator and owner is not self.torch else args
        try:
            return getattr(owner, name)(*given, **kwargs)
        except Exception as error:
            raise NotPointwise(f"cannot be worked out ({error})") from error

    def _call_gelu(self, x: Value, approximate: str = "none") -> Value:
        return x.then(gelu(approximate))

    def _call_leaky_relu(self, x: Value, negative_slope: float = 0.01, inplace: bool = False) -> Value:
        return x.then(Curve(("leaky_relu", float(negative_slope))))

    def _call_clamp(self, x: Value, min: Any = None, max: Any = None) -> Value:
        return x.then(Curve(("clip", -np.inf if min is None else float(min), np.inf if max is None else float(max))))

    _call_clip = _call_clamp

    def _call_hardtanh(self, x: Value, min_val: float = -1.0, max_val: float = 1.0, inplace: bool = False) -> Value:
        return self._call_clamp(x, min_val, max_val)

    def _call_softmax(self, x: Value, dim: int | None = None, **_: Any) -> Value:
        if dim is None:
            raise NotPointwise("has no dim")
        self.axes.want(x, dim, "a softmax")
        return x.then(Soft())

    def _call_argmax(self, x: Value, dim: int | None = None, keepdim: bool = False) -> Value:
        if dim is None or keepdim:
            raise NotPointwise("is not over the channels alone, which then go: write argmax(dim)")
        self.axes.want(x, dim, "an argmax")
        return x.then(Largest())

    def _call_layer_norm(
        self, x: Value, normalized_shape: Any, weight: Any = None, bias: Any = None, eps: float = 1e-5
    ) -> Value:
        if len(normalized_shape) != 1:
            raise NotPointwise(f"is over {tuple(normalized_shape)}, not over the channels alone")
        self.axes.want(x, -1, "a layer norm")
        weight, bias = (None if a is None else self.array(a) for a in (weight, bias))
        return x.then(Norm(int(normalized_shape[0]), weight, bias, float(eps)))

    def _call_linear(self, x: Value, weight: Any, bias: Any = None) -> Value:
        self.axes.want(x, -1, "a linear layer")
        return x.then(Matrix.of(self.array(weight), None if bias is None else self.array(bias)))

    def _call_permute(self, x: Value, *dims: Any) -> Value:
        axes = dims[0] if len(dims) == 1 and isinstance(dims[0], (tuple, list)) else dims
        return permuted(x, [int(i) % len(axes) for i in axes])

    def _call_flatten(self, x: Value, start_dim: int = 0, end_dim: int = -1) -> Value:
        if (start_dim, end_dim) not in ((1, -1), (1, x.pooled + 1)):
            raise NotPointwise("flattens more than the axes that are pooled")
        return flattened(x)

    def _call_squeeze(self, x: Value, *_: Any) -> Value:
        return flattened(x)

    _call_view = _call_reshape = _call_squeeze  # the comparison tells if that is of another shape

    def _call_size(self, x: Value, *_: Any) -> Any:
        return _Sizes()

    _call_getattr = _call_size

    def _call_neg(self, x: Value) -> Value:
        return x.then(Scale.of(-1.0))

    def _call_pow(self, x: Value, exponent: Any) -> Value:
        if exponent != 2:
            raise NotPointwise("is no square")
        return x.then(Part("square"))

    def _call_sqrt(self, x: Value) -> Value:
        return x.then(Part("root"))

    def _call_mean(self, x: Value, dim: Any = None, keepdim: bool = False) -> Value:
        over = dim if isinstance(dim, int) else dim[0] if isinstance(dim, (tuple, list)) and len(dim) == 1 else None
        if keepdim and over is not None and self.axes.has(x, over, None):
            self.axes.want(x, over, "a mean")
            return averaged(x)
        return self._pool(x, "mean", dim, keepdim)

    def _call_amax(self, x: Value, dim: Any = (), keepdim: bool = False) -> Value:
        return self._pool(x, "max", dim, keepdim)

    def _call_sum(self, x: Value, dim: Any = None, keepdim: bool = False) -> Value:
        return self._pool(x, "sum", dim, keepdim)

    def _pool(self, x: Value, kind: str, dim: Any, keepdim: bool) -> Value:
        dims = [dim] if isinstance(dim, int) else sorted(dim or ())
        if dims not in ([2], [2, 3], [2, 3, 4], [-1], [-2, -1], [-3, -2, -1]):
            raise NotPointwise("is not over all axes after the channels")
        self.axes.want(x, 1, f"a {kind}", len(dims) + 2)
        return pooled(x, kind, len(dims), keepdim)

    def _call_add(self, a: Any, b: Any, alpha: float = 1) -> Value:
        if alpha != 1:
            raise NotPointwise("has an alpha")
        if isinstance(a, Value) and isinstance(b, Value):
            return added(a, b)
        return self._scaled(a, b, lambda n: Scale.of(1.0, n))

    def _call_sub(self, a: Any, b: Any) -> Value:
        if isinstance(a, Value) and isinstance(b, Value):
            return subtracted(a, b)
        flip = isinstance(b, Value)
        return self._scaled(a, b, lambda n: Scale.of(-1.0, n) if flip else Scale.of(1.0, 0.0, n))

    def _call_mul(self, a: Any, b: Any) -> Value:
        if isinstance(a, Value) and isinstance(b, Value):
            return multiplied(a, b)
        return self._scaled(a, b, lambda n: Scale.of(n))

    def _call_truediv(self, a: Any, b: Any) -> Value:
        if isinstance(b, Value):
            return divided(a if isinstance(a, Value) else Value(), b, None)
        return self._scaled(a, b, lambda n: Scale.of(1 / n))

    _call_div = _call_truediv

    def _scaled(self, a: Any, b: Any, step: Callable[[Array], Scale]) -> Value:
        value, constant = (a, b) if isinstance(a, Value) else (b, a)
        if isinstance(constant, self.torch.Tensor):
            constant = self.array(constant)
        numbers, axis = channels_of(constant, "a constant")
        if axis is not None:
            self.axes.want(value, axis, "a constant")
        return value.then(step(numbers))


def gelu(approximate: str) -> Curve:
    """The activation, if it is the one that layers have."""
    if approximate != "none":
        raise NotPointwise(f"is a gelu with approximate={approximate!r}; layers have that of erf, approximate='none'")
    return Curve("gelu")
