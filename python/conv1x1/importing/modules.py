"""Modules of torch as steps: known ones by rules, nn.Sequential child by child, all others by what torch.fx traces."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, TypeAlias

import numpy as np

from ..checks.arrays import Array
from . import library
from .functions import CURVES, Functions, gelu
from .steps import Curve, Matrix, Scale
from .values import NotPointwise, Value, ended, pooled

_LEFT_OUT = ("Dropout", "Dropout1d", "Dropout2d", "Dropout3d", "AlphaDropout", "FeatureAlphaDropout", "Identity")

Rule: TypeAlias = "Callable[[Reader, Any, Value, str], Value]"


class Reader(Functions):
    """Follows pixels through a module."""

    def __init__(self, module: Any) -> None:
        super().__init__(library("torch", "torch", "a module of torch"))
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


def _kind(module: Any) -> str:
    return module.__name__ if isinstance(module, type) else type(module).__name__


def _told(module: Any, path: str) -> str:
    return f"{path or 'the module'} ({type(module).__name__})"


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
    "GELU": lambda r, m, v, p: v.then(gelu(m.approximate)),
    "Softmax": _softmax,
    "Softmax2d": _softmax,
    "Flatten": _flatten,
}
