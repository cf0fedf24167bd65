"""Modules of torch as steps: known ones by rules, nn.Sequential child by child, all others by what torch.fx traces."""

from __future__ import annotations

import operator
from collections.abc import Callable
from typing import Any, TypeAlias

import numpy as np

from ..checks import Activation
from ..checks.arrays import Array
from . import library
from .steps import Curve, Largest, Matrix, Norm, Part, Scale, Soft
from .values import (
    Axes,
    NotPointwise,
    Value,
    added,
    averaged,
    channels_of,
    divided,
    ended,
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
_LEFT_OUT = ("Dropout", "Dropout1d", "Dropout2d", "Dropout3d", "AlphaDropout", "FeatureAlphaDropout", "Identity")
_NOTHING = ("dropout", "dropout2d", "dropout3d", "alpha_dropout", "contiguous", "clone", "float", "detach")

Rule: TypeAlias = "Callable[[Reader, Any, Value, str], Value]"


class _Sizes:
    """What a module asks of an input's shape, only to hand it on."""

    def __getitem__(self, _: Any) -> _Sizes:
        return self


class Reader:
    """Follows pixels through a module."""

    def __init__(self, module: Any) -> None:
        self.torch = library("torch", "torch", "a module of torch")
        self.axes = Axes()
        inner = {"OptimizedModule": "_orig_mod", "DataParallel": "module", "DistributedDataParallel": "module"}
        self.module = getattr(module, inner.get(type(module).__name__, ""), module)
        if not isinstance(self.module, self.torch.nn.Module) or isinstance(self.module, self.torch.jit.ScriptModule):
            raise TypeError(f"expected a module of torch as it was written, got {_kind(module)}: pass nn.Sequential(…)")

    def read(self) -> Value:
        """What the whole module makes of its input."""
        value = self.through(self.module, Value(), "")
        ended(value)
        return value

    def through(self, module: Any, value: Value, path: str) -> Value:
        """What a module makes of a value; `path` is its name in the whole one's state_dict."""
        nn = self.torch.nn
        rule = self.rule(module)
        if rule is not None:
            self._check_mode(module, path)
            try:
                return rule(self, module, value, path)
            except NotPointwise as error:
                raise ValueError(f"{_told(module, path)} {error}") from None
        if type(module).forward is nn.Sequential.forward:
            for name, child in module.named_children():
                value = self.through(child, value, f"{path}.{name}" if path else name)
            return value
        return self._traced(module, value, path)

    def rule(self, module: Any) -> Rule | None:
        """That of the class whose forward this module has, be it parametrised or an own subclass."""
        mro: tuple[Any, ...] = type(module).__mro__
        for cls in mro:
            if cls.__module__.startswith("torch.nn.modules") and cls.__name__ in _RULES:
                return _RULES[cls.__name__] if type(module).forward is cls.forward else None
            if cls.__module__.startswith("torch.nn.modules") and type(module).forward is cls.__dict__.get("forward"):
                return None if cls.__name__ in ("Sequential", "Module") else _unknown
        return None

    def _check_mode(self, module: Any, path: str) -> None:
        """Whether calls neither draw numbers nor change what the module holds."""
        random = "Dropout" in type(module).__name__ and module.p > 0
        own = module._forward_pre_hooks or hasattr(module, "parametrizations") or hasattr(module, "running_mean")
        if module.training and (random or own):
            raise ValueError(f"{_told(module, path)} is in training mode: call module.eval() first")

    def numbers(self, module: Any, name: str) -> Array | None:
        """A parameter or buffer, as the module would use it now."""
        for hook in module._forward_pre_hooks.values():  # of weight_norm, spectral_norm, prune: they set the weight
            if type(hook).__module__.startswith("torch.nn.utils"):
                hook(module, None)
        found = getattr(module, name)
        return None if found is None else self.array(found)

    def array(self, tensor: Any) -> Array:
        """A tensor in float64."""
        if type(tensor).__name__ == "UninitializedParameter":
            raise ValueError("the module is lazy and has no weights yet: call it once first")
        with self.torch.no_grad():
            return np.asarray(tensor.detach().cpu().double().numpy())

    # ------------------------------------------------------------------------------------------ traced graphs

    def _traced(self, module: Any, value: Value, path: str) -> Value:
        fx = self.torch.fx
        reader = self

        class Tracer(fx.Tracer):  # type: ignore[misc, name-defined]
            def is_leaf_module(self, m: Any, _: str) -> bool:
                return reader.rule(m) is not None or type(m).forward is reader.torch.nn.Sequential.forward

        try:
            graph = Tracer().trace(module)
        except Exception as error:
            raise ValueError(
                f"{_told(module, path)} cannot be traced by torch.fx, which follows no branch on values ({error}): "
                "import its parts, one by one"
            ) from error
        known: dict[Any, Any] = {}
        for node in graph.nodes:
            try:
                known[node] = self._node(node, known, module, value, path)
            except NotPointwise as error:
                raise ValueError(f"{_told(module, path)}: {node.name} {error}") from None
            if node.op == "output":
                return known[node]  # type: ignore[no-any-return]
        raise AssertionError("a graph without an output")

    def _node(self, node: Any, known: dict[Any, Any], module: Any, value: Value, path: str) -> Any:
        args, kwargs = self.torch.fx.node.map_arg((node.args, node.kwargs), lambda n: known[n])
        if node.op == "placeholder":
            if any(isinstance(v, Value) for v in known.values()):
                if node.args:  # a default
                    return node.args[0]
                raise NotPointwise("is a second input")
            return value
        if node.op == "get_attr":
            found = module
            for part in node.target.split("."):
                found = getattr(found, part)
            return found
        if node.op == "call_module":
            child = module.get_submodule(node.target)
            if not isinstance(args[0], Value) or len(args) > 1 or kwargs:
                raise NotPointwise("is called with more than one value")
            return self.through(child, args[0], f"{path}.{node.target}" if path else node.target)
        if node.op == "output":
            if not isinstance(args[0], Value):
                raise NotPointwise("is not one tensor, but " + type(args[0]).__name__)
            return args[0]
        name = node.target if isinstance(node.target, str) else node.target.__name__
        return self.function(name, args, kwargs)

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
        return x.then(_gelu(approximate))

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


def _kind(module: Any) -> str:
    return module.__name__ if isinstance(module, type) else type(module).__name__


def _told(module: Any, path: str) -> str:
    return f"{path or 'the module'} ({type(module).__name__})"


def _gelu(approximate: str) -> Curve:
    if approximate != "none":
        raise NotPointwise(f"is a gelu with approximate={approximate!r}; layers have that of erf, approximate='none'")
    return Curve("gelu")


def _unknown(_: Reader, module: Any, value: Value, path: str) -> Value:
    raise NotPointwise("is not pointwise, or not known here")


# --------------------------------------------------------------------------------------------------- rules


def _conv(reader: Reader, m: Any, value: Value, path: str) -> Value:
    if any(n != 1 for n in m.kernel_size):
        raise ValueError(f"{path + '.' if path else ''}weight is of a kernel {tuple(m.kernel_size)}, not of 1×1")
    if m.padding != "valid" and m.padding != "same" and any(m.padding):
        raise NotPointwise(f"pads by {m.padding}")
    axes = len(m.kernel_size)
    reader.axes.want(value, 1, f"{path} ({type(m).__name__})", axes + 2)
    weight = reader.numbers(m, "weight")
    assert weight is not None
    stride = tuple(m.stride) if any(n != 1 for n in m.stride) else 1
    step = Matrix.of(weight.reshape(weight.shape[:2]), reader.numbers(m, "bias"), groups=m.groups, stride=stride)
    return value.then(step)


def _linear(reader: Reader, m: Any, value: Value, path: str) -> Value:
    reader.axes.want(value, -1, f"{path} ({type(m).__name__})")
    return value.then(Matrix.of(reader.numbers(m, "weight"), reader.numbers(m, "bias")))


def _batch_norm(reader: Reader, m: Any, value: Value, path: str) -> Value:
    mean, variance = reader.numbers(m, "running_mean"), reader.numbers(m, "running_var")
    if mean is None or variance is None:
        name = f"{path}.running_mean" if path else "running_mean"
        raise NotPointwise(f"has no {name}: it takes the batch's own, which is not pointwise")
    if not (type(m).__name__ == "BatchNorm1d" and _is_row(reader, value)):
        rank = {"BatchNorm2d": 4, "BatchNorm3d": 5}.get(type(m).__name__)
        reader.axes.want(value, 1, f"{path} ({type(m).__name__})", rank)
        reader.axes.likely = 3 if type(m).__name__ == "BatchNorm1d" else reader.axes.likely
    weight, bias = reader.numbers(m, "weight"), reader.numbers(m, "bias")
    factor = (1.0 if weight is None else weight) / np.sqrt(variance + m.eps)
    return value.then(Scale.of(factor, 0.0 if bias is None else bias, mean))


def _is_row(reader: Reader, value: Value) -> bool:
    """Whether a value is known to be of (batch, channels): it has been through a Linear, and its axes are not known."""
    return reader.axes.rank is None and any(axis == -1 for axis, _ in reader.axes.wanted)


def _layer_norm(reader: Reader, m: Any, value: Value, path: str) -> Value:
    return reader._call_layer_norm(value, m.normalized_shape, m.weight, m.bias, m.eps)


def _global_pool(kind: str) -> Rule:
    def rule(reader: Reader, m: Any, value: Value, path: str) -> Value:
        axes = int(type(m).__name__[-2])
        sizes = (m.output_size,) * axes if isinstance(m.output_size, int) else tuple(m.output_size)
        if sizes != (1,) * axes:
            raise NotPointwise(f"pools to {sizes}: only to one pixel can it be done here")
        reader.axes.want(value, 1, f"{path} ({type(m).__name__})", axes + 2)
        return pooled(value, kind, axes, keep=True)

    return rule


def _curve(reader: Reader, m: Any, value: Value, path: str) -> Value:
    names = (cls.__name__ for cls in type(m).__mro__)
    return value.then(Curve(CURVES[next(n.lower() for n in names if n in _CURVE_MODULES)]))


def _prelu(reader: Reader, m: Any, value: Value, path: str) -> Value:
    slope = reader.numbers(m, "weight")
    assert slope is not None
    if slope.size != 1:
        raise NotPointwise("has a slope for each channel; layers have one")
    return value.then(Curve(("leaky_relu", float(slope.item()))))


def _softmax(reader: Reader, m: Any, value: Value, path: str) -> Value:
    return reader._call_softmax(value, getattr(m, "dim", -3))


def _flatten(reader: Reader, m: Any, value: Value, path: str) -> Value:
    return reader._call_flatten(value, m.start_dim, m.end_dim)


_CURVE_MODULES = ("ReLU", "ReLU6", "Hardswish", "Hardsigmoid", "Sigmoid", "SiLU", "Tanh")
_RULES: dict[str, Rule] = {
    **{name: _conv for name in ("Conv1d", "Conv2d", "Conv3d")},
    **{name: _batch_norm for name in ("BatchNorm1d", "BatchNorm2d", "BatchNorm3d", "SyncBatchNorm")},
    **{name: _curve for name in _CURVE_MODULES},
    **{name: (lambda r, m, v, p: v) for name in _LEFT_OUT},
    **{f"AdaptiveAvgPool{n}d": _global_pool("mean") for n in (1, 2, 3)},
    **{f"AdaptiveMaxPool{n}d": _global_pool("max") for n in (1, 2, 3)},
    "Linear": _linear,
    "LayerNorm": _layer_norm,
    "LeakyReLU": lambda r, m, v, p: r._call_leaky_relu(v, m.negative_slope),
    "PReLU": _prelu,
    "Hardtanh": lambda r, m, v, p: r._call_hardtanh(v, m.min_val, m.max_val),
    "GELU": lambda r, m, v, p: v.then(_gelu(m.approximate)),
    "Softmax": _softmax,
    "Softmax2d": _softmax,
    "Flatten": _flatten,
}
