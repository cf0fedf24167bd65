"""Graphs of ONNX as steps, where every operator is pointwise; and the layers of those where not all are."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import replace
from typing import Any, TypeAlias

import numpy as np

from ..checks import Activation
from ..checks.arrays import Array
from . import library
from .steps import Curve, Largest, Matrix, Norm, Part, Scale, Soft, fold, widths
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
    last_largest,
    multiplied,
    permuted,
    pooled,
    subtracted,
)

_CURVES: dict[str, Activation] = {"Relu": "relu", "Sigmoid": "sigmoid", "Tanh": "tanh", "HardSwish": "hardswish"}
#: Of ai.onnx.ml: what scikit-learn's estimators are written as.
_LEARNT = ("Linear", "Tree", "SVM", "ZipMap", "Normalizer", "Feature", "Label", "Imputer", "OneHot", "ArrayFeature")

Rule: TypeAlias = "Callable[[Reader, Any, Value, list[Any]], Value]"


class Reader:
    """Follows the input of a model through its graph."""

    def __init__(self, model: Any) -> None:
        self.onnx = library("onnx", "onnx", "a model of ONNX")
        self.axes = Axes()
        try:
            self.model = self.onnx.shape_inference.infer_shapes(model)
        except Exception:  # what is odd about the model is told where it matters
            self.model = model
        graph = self.model.graph
        self.opset = next((o.version for o in model.opset_import if o.domain in ("", "ai.onnx")), 1)
        self.constants: dict[str, Any] = {t.name: self.onnx.numpy_helper.to_array(t) for t in graph.initializer}
        self.inputs = [i for i in graph.input if i.name not in self.constants]
        shaped = (*graph.input, *graph.value_info, *graph.output)
        self.shapes = {v.name: _shape(v) for v in shaped if v.type.tensor_type.HasField("shape")}
        self.nodes = list(self._needed())

    def _needed(self) -> Iterator[Any]:
        """The nodes that the outputs depend on and constants do not decide, in order; constants are worked out."""
        graph = self.model.graph
        wanted = {o.name for o in graph.output}
        needed = []
        for node in reversed(graph.node):
            if wanted & set(node.output):
                wanted |= set(node.input)
                needed.append(node)
        for node in reversed(needed):
            if any(self.free(name) for name in node.input) or (not node.input and node.op_type != "Constant"):
                yield node
                continue
            given = {name: self.constants[name] for name in node.input if name}
            opsets = {o.domain: o.version for o in self.model.opset_import}
            self.constants |= dict(zip(node.output, run(node, given, opsets=opsets), strict=False))

    def free(self, name: str) -> bool:
        """Whether a name stands for what depends on the input."""
        return bool(name) and name not in self.constants

    def attributes(self, node: Any) -> dict[str, Any]:
        """Those of a node, text as str."""
        found = {a.name: self.onnx.helper.get_attribute_value(a) for a in node.attribute}
        return {n: v.decode() if isinstance(v, bytes) else v for n, v in found.items()}

    def rank(self, name: str) -> int | None:
        shape = self.shapes.get(name)
        return None if shape is None else len(shape)

    # -------------------------------------------------------------------------------------------- chains

    def read(self) -> Value:
        """What the whole model makes of its input."""
        graph = self.model.graph
        for what, names in (("inputs", [i.name for i in self.inputs]), ("outputs", [o.name for o in graph.output])):
            if len(names) != 1:
                raise ValueError(f"the model has {len(names)} {what}, {', '.join(names)}, and a chain one: {_EXTRACT}")
        strange = {told(node, why): None for node in self.nodes if (why := self._why_not(node))}
        if strange:
            raise ValueError(
                f"not pointwise in this model: {', '.join(strange)}; load(…, layers=True) gives the 1×1 layers in it, "
                "by name"
            )
        known = {self.inputs[0].name: Value()}
        for node in self.nodes:
            try:
                known[node.output[0]] = self._node(node, known)
            except NotPointwise as error:
                raise ValueError(
                    f"{told(node)} {error}; load(…, layers=True) gives the 1×1 layers of a model, by name"
                ) from None
        value = known[graph.output[0].name]
        ended(value)
        return value

    def _why_not(self, node: Any) -> str | None:
        """What is wrong with an operator by itself, "" where it is not known at all."""
        if node.op_type in _RULES and node.domain in ("", "ai.onnx", "ai.onnx.ml"):
            kernel = self._kernel(node)
            return f"kernel {'×'.join(map(str, kernel))}" if any(n != 1 for n in kernel) else None
        if node.domain == "ai.onnx.ml" and node.op_type.startswith(_LEARNT):
            return "of scikit-learn: conv1x1.sklearn.from_estimator takes the estimator itself"
        return "not known here"

    def _kernel(self, node: Any) -> tuple[int, ...]:
        """That of a convolution, () of anything else."""
        if node.op_type != "Conv":
            return ()
        weight = self.constants.get(node.input[1])
        return tuple(self.attributes(node).get("kernel_shape", () if weight is None else weight.shape[2:]))

    def _node(self, node: Any, known: dict[str, Value]) -> Value:
        if any(node.output[1:]):
            raise NotPointwise("has more than one result")
        args: list[Any] = [known[n] if self.free(n) else self.constants.get(n) for n in node.input]
        if not isinstance(args[0], Value) and node.op_type not in ("Add", "Sub", "Mul", "Max", "Min", "Sum", "MatMul"):
            raise NotPointwise("has its pixels as another input than the first")
        first = next(a for a in args if isinstance(a, Value))
        if sum(isinstance(a, Value) for a in args) > 1 and node.op_type not in ("Add", "Sub", "Mul", "Div", "Sum"):
            raise NotPointwise("takes more than one value that is no constant")
        return _RULES[node.op_type](self, node, first, args)

    def want(self, node: Any, value: Value, axis: int, rank: int | None = None) -> None:
        free = next(n for n in node.input if self.free(n))
        rank = rank or self.rank(free)
        self.axes.want(value, axis, told(node), None if value.gone or value.order is not None else rank)


def run(model: Any, given: dict[str, Any], **options: Any) -> list[Any]:
    """What onnx's own definition makes of inputs."""
    with np.errstate(all="ignore"):
        reference = library("onnx.reference", "onnx", "a model of ONNX")
        return list(reference.ReferenceEvaluator(model, new_ops=[_inference()], **options).run(None, given))


def _inference() -> Any:
    """A batch norm that is not in training: before opset 14 the one of onnx always is."""

    class BatchNormalization(library("onnx.reference.op_run", "onnx", "a model of ONNX").OpRun):  # type: ignore[misc]
        op_domain = ""

        def _run(self, x: Any, scale: Any, bias: Any, mean: Any, var: Any, **attributes: Any) -> Any:
            along = (-1, *(1,) * (x.ndim - 2))
            scale, bias, mean, var = (a.reshape(along) for a in (scale, bias, mean, var))
            y = scale * (x - mean) / np.sqrt(var + (attributes.get("epsilon") or 1e-5)) + bias
            return (y.astype(x.dtype),)

    return BatchNormalization


_EXTRACT = "take a part of it, onnx.utils.extract_model(path, part, [input], [output])"


def told(node: Any, why: str | None = None) -> str:
    """A node for a message."""
    name = f" {node.name or (node.output[0] if node.output else '')!r}"
    return f"{node.op_type}{name}{f' ({why})' if why else ''}"


def _shape(info: Any) -> list[int | None]:
    """The dimensions of a tensor, None for those that are left open."""
    return [d.dim_value if d.HasField("dim_value") else None for d in info.type.tensor_type.shape.dim]


def _constant(a: Any, what: str) -> Array:
    if not isinstance(a, np.ndarray):
        raise NotPointwise(f"has {what} that are not constant")
    return a.astype(np.float64)


# --------------------------------------------------------------------------------------------------- rules


def _conv(r: Reader, node: Any, value: Value, args: list[Any]) -> Value:
    step, axes = convolution(r, node, args)
    r.want(node, value, 1, axes + 2)
    return value.then(step)


def convolution(r: Reader, node: Any, args: list[Any]) -> tuple[Matrix, int]:
    """A convolution with a kernel of 1, and how many axes of pixels it takes."""
    given = r.attributes(node)
    weight = _constant(args[1], "weights")
    if any(n != 1 for n in weight.shape[2:]):
        raise NotPointwise(f"has a kernel of {weight.shape[2:]}")
    if any(given.get("pads", ())):
        raise NotPointwise(f"pads by {given['pads']}")
    strides = given.get("strides", ())
    options = {"groups": given.get("group", 1), "stride": tuple(strides) if any(n != 1 for n in strides) else 1}
    bias = _constant(args[2], "biases") if len(args) > 2 and args[2] is not None else None
    return Matrix.of(weight.reshape(weight.shape[:2]), bias, **options), weight.ndim - 2


def product(r: Reader, node: Any, args: list[Any]) -> Matrix:
    """A Gemm or MatMul whose weights are constant."""
    given = r.attributes(node)
    weight = _constant(args[1], "weights")
    if weight.ndim != 2 or given.get("transA", 0):
        raise NotPointwise("is no product of the channels with a matrix")
    if node.op_type == "MatMul":
        return Matrix.of(weight.T)
    weight = given.get("alpha", 1.0) * (weight if given.get("transB", 0) else weight.T)
    if len(args) < 3 or args[2] is None:
        return Matrix.of(weight)
    bias = given.get("beta", 1.0) * _constant(args[2], "biases")
    if bias.size not in (1, len(weight)) or (bias.ndim and bias.shape[-1] != bias.size):
        raise NotPointwise(f"adds a matrix {bias.shape}, not one number a filter")
    return Matrix.of(weight, np.broadcast_to(bias.reshape(-1), len(weight)))


def _product(r: Reader, node: Any, value: Value, args: list[Any]) -> Value:
    if not isinstance(args[0], Value):
        raise NotPointwise("has its weights on the left, which take the channels from the last axis but one")
    r.want(node, value, -1, 2 if node.op_type == "Gemm" else None)
    return value.then(product(r, node, args))


def normalization(r: Reader, node: Any, args: list[Any]) -> Scale:
    """A batch norm, folded into what it multiplies and adds."""
    given = r.attributes(node)
    if given.get("training_mode", 0):
        raise NotPointwise("is in training mode")
    factor, shift, mean, variance = (_constant(a, "numbers") for a in args[1:5])
    return Scale.of(factor / np.sqrt(variance + given.get("epsilon", 1e-5)), shift, mean)


def _batch_norm(r: Reader, node: Any, value: Value, args: list[Any]) -> Value:
    r.want(node, value, 1)
    return value.then(normalization(r, node, args))


def _layer_norm(r: Reader, node: Any, value: Value, args: list[Any]) -> Value:
    given = r.attributes(node)
    rank = r.rank(node.input[0])
    if given.get("axis", -1) not in (-1, None if rank is None else rank - 1):
        raise NotPointwise("is over more than the channels")
    weight = _constant(args[1], "weights").ravel()
    bias = _constant(args[2], "biases").ravel() if len(args) > 2 and args[2] is not None else None
    r.want(node, value, -1)
    return value.then(Norm(len(weight), weight, bias, given.get("epsilon", 1e-5)))


def _softmax(r: Reader, node: Any, value: Value, args: list[Any]) -> Value:
    rank, shape = r.rank(node.input[0]), r.shapes.get(node.input[0])
    axis = r.attributes(node).get("axis", -1 if r.opset >= 13 else 1)
    if r.opset < 13 and not value.gone:
        if shape is None or rank is None:
            raise NotPointwise(f"is of opset {r.opset}, where it flattens axes, and how many there are is not known")
        if any(n != 1 for n in shape[axis % rank + 1 :]):
            raise NotPointwise(
                f"is of opset {r.opset}, where it is over all axes from {axis} on together, not over the channels"
            )
    r.want(node, value, axis)
    return value.then(Soft())


def _arg_max(r: Reader, node: Any, value: Value, args: list[Any]) -> Value:
    given = r.attributes(node)
    r.want(node, value, given.get("axis", 0))
    kept = replace(value, gone=value.gone)
    if given.get("select_last_index", 0):
        width = widths(fold(value.steps), None)[-1] or _width(r, node, given.get("axis", 0))
        if width is None:
            raise NotPointwise("takes the last of equals among nobody says how many channels")
        return kept.then(*last_largest((), width))
    return kept.then(Largest())


def _width(r: Reader, node: Any, axis: int) -> int | None:
    shape = r.shapes.get(node.input[0])
    return None if shape is None else shape[axis]


def _clip(r: Reader, node: Any, value: Value, args: list[Any]) -> Value:
    given = r.attributes(node)
    lo, hi = (args[i] if len(args) > i and args[i] is not None else given.get(n) for i, n in ((1, "min"), (2, "max")))
    limits = (-np.inf if lo is None else float(np.ravel(lo)[0]), np.inf if hi is None else float(np.ravel(hi)[0]))
    if limits[0] > limits[1]:
        limits = (limits[1], limits[1])
    named: dict[Any, Activation] = {(0.0, np.inf): "relu", (0.0, 6.0): "relu6"}
    return value.then(Curve(named.get(limits, ("clip", *limits))))


def _curve(r: Reader, node: Any, value: Value, args: list[Any]) -> Value:
    return value.then(Curve(_CURVES[node.op_type]))


def _limit(lower: bool) -> Rule:
    def rule(r: Reader, node: Any, value: Value, args: list[Any]) -> Value:
        constants = [np.ravel(a) for a in args if not isinstance(a, Value)]
        if len(constants) != 1 or constants[0].size != 1:
            raise NotPointwise("is not of a value and one number")
        n = float(constants[0][0])
        return value.then(Curve("relu" if lower and n == 0 else ("clip", n, np.inf) if lower else ("clip", -np.inf, n)))

    return rule


def _hard_sigmoid(r: Reader, node: Any, value: Value, args: list[Any]) -> Value:
    given = r.attributes(node)
    alpha, beta = given.get("alpha", 0.2), given.get("beta", 0.5)
    if np.isclose(alpha, 1 / 6, rtol=1e-6) and beta == 0.5:
        return value.then(Curve("hardsigmoid"))
    return value.then(Scale.of(alpha, beta), Curve(("clip", 0.0, 1.0)))


def _slope(r: Reader, node: Any, value: Value, args: list[Any]) -> Value:
    if node.op_type == "LeakyRelu":
        return value.then(Curve(("leaky_relu", r.attributes(node).get("alpha", 0.01))))
    slope = _constant(args[1], "slopes")
    if (slope != slope.flat[0]).any():
        raise NotPointwise("has slopes that differ; layers have one")
    return value.then(Curve(("leaky_relu", float(slope.flat[0]))))


def _gelu(r: Reader, node: Any, value: Value, args: list[Any]) -> Value:
    if (kind := r.attributes(node).get("approximate", "none")) != "none":
        raise NotPointwise(f"is a gelu with approximate={kind!r}; layers have that of erf")
    return value.then(Curve("gelu"))


def _swish(r: Reader, node: Any, value: Value, args: list[Any]) -> Value:
    if r.attributes(node).get("alpha", 1.0) != 1:
        raise NotPointwise("has an alpha that is not 1")
    return value.then(Curve("silu"))


def _passed(r: Reader, node: Any, value: Value, args: list[Any]) -> Value:
    if node.op_type == "Dropout" and len(args) > 2 and args[2] is not None and np.ravel(args[2])[0]:
        raise NotPointwise("is in training mode")
    if node.op_type == "Cast" and not value.labels:
        kind = r.onnx.helper.tensor_dtype_to_np_dtype(r.attributes(node)["to"])
        if kind.kind in "iub":
            raise NotPointwise(f"rounds to {kind}")
    return value


def _arithmetic(r: Reader, node: Any, value: Value, args: list[Any]) -> Value:
    op, (a, b) = node.op_type, args
    if isinstance(a, Value) and isinstance(b, Value):
        if op == "Mul":
            return multiplied(a, b)
        if op == "Div":
            return divided(a, b, _width(r, node, -1 if value.order is not None else 1))
        return subtracted(a, b) if op == "Sub" else added(a, b)
    numbers, axis = channels_of(a if isinstance(b, Value) else b, "a constant")
    if axis is not None:
        r.want(node, value, axis)
    if op in ("Add", "Sum"):
        return value.then(Scale.of(1.0, numbers))
    if op == "Sub":
        return value.then(Scale.of(1.0, 0.0, numbers) if isinstance(a, Value) else Scale.of(-1.0, numbers))
    return value.then(Scale.of(numbers if op == "Mul" else 1 / numbers))


def _pool(r: Reader, node: Any, value: Value, args: list[Any]) -> Value:
    rank = r.rank(node.input[0]) or r.axes.rank
    if rank is None:
        raise NotPointwise("pools axes, and how many there are is not known")
    kind = {"A": "mean", "M": "max"}[node.op_type[6]] if node.op_type.startswith("Global") else node.op_type[6:].lower()
    given, keep = r.attributes(node), True
    if not node.op_type.startswith("Global"):
        axes = args[1] if len(args) > 1 and args[1] is not None else given.get("axes")
        keep = bool(given.get("keepdims", 1))
        if kind == "mean" and keep and axes is not None and len(axes) == 1 and r.axes.has(value, int(axes[0]), rank):
            r.want(node, value, int(axes[0]))
            return averaged(value)
        if axes is None or sorted(int(i) % rank for i in axes) != list(range(2, rank)):
            raise NotPointwise("is not over all axes after the channels")
    r.want(node, value, 1, rank)
    return pooled(value, kind, rank - 2, keep)


def _square(r: Reader, node: Any, value: Value, args: list[Any]) -> Value:
    if np.size(args[1]) != 1 or np.ravel(args[1])[0] != 2:
        raise NotPointwise("is no square")
    return value.then(Part("square"))


def _flatten(r: Reader, node: Any, value: Value, args: list[Any]) -> Value:
    if node.op_type == "Flatten" and r.rank(node.input[0]) == 2:
        return value
    if value.labels and node.op_type == "Squeeze":
        return value
    return flattened(value)


def _transpose(r: Reader, node: Any, value: Value, args: list[Any]) -> Value:
    axes = r.attributes(node).get("perm")
    if axes is None:
        raise NotPointwise("turns all axes round")
    return permuted(value, axes)


def _scaler(r: Reader, node: Any, value: Value, args: list[Any]) -> Value:
    given = r.attributes(node)
    r.want(node, value, -1)
    numbers = [np.asarray(given.get(n, [d]), np.float64) for n, d in (("scale", 1.0), ("offset", 0.0))]
    factor, center = (a[0] if a.size == 1 else a for a in numbers)
    return value.then(Scale.of(factor, 0.0, center))


_RULES: dict[str, Rule] = {
    **{name: _curve for name in _CURVES},
    **{name: _passed for name in ("Identity", "Dropout", "Cast")},
    **{name: _arithmetic for name in ("Add", "Sub", "Mul", "Div", "Sum")},
    **{name: _pool for name in ("GlobalAveragePool", "GlobalMaxPool", "ReduceMean", "ReduceMax", "ReduceSum")},
    **{name: _flatten for name in ("Flatten", "Squeeze", "Reshape")},
    **{name: _product for name in ("Gemm", "MatMul")},
    "Conv": _conv,
    "BatchNormalization": _batch_norm,
    "LayerNormalization": _layer_norm,
    "Softmax": _softmax,
    "ArgMax": _arg_max,
    "Clip": _clip,
    "Max": _limit(lower=True),
    "Min": _limit(lower=False),
    "HardSigmoid": _hard_sigmoid,
    "LeakyRelu": _slope,
    "PRelu": _slope,
    "Gelu": _gelu,
    "Swish": _swish,
    "Erf": lambda r, n, v, a: v.then(Part("erf")),
    "Sqrt": lambda r, n, v, a: v.then(Part("root")),
    "Pow": _square,
    "Neg": lambda r, n, v, a: v.then(Scale.of(-1.0)),
    "Transpose": _transpose,
    "Scaler": _scaler,
}
