"""Models of ONNX as layers and chains, which then need no onnx: `load`."""

from __future__ import annotations

import os
from typing import Any, Literal, overload

import numpy as np

from .checks.arrays import Array, ArrayLike
from .importing import comparing, graphs, library, nets, parts
from .importing.steps import fold, widths
from .importing.values import NotPointwise
from .layers import Conv1x1
from .quantized import QConv1x1
from .sequential import Sequential


@overload
def load(
    path_or_model: Any, *, layers: Literal[False] = False, pixels: ArrayLike | None = None
) -> Conv1x1 | QConv1x1 | Sequential: ...
@overload
def load(
    path_or_model: Any, *, layers: Literal[True], pixels: ArrayLike | None = None
) -> dict[str, Conv1x1 | QConv1x1]: ...
def load(path_or_model: Any, *, layers: bool = False, pixels: ArrayLike | None = None) -> Any:
    """A model of ONNX whose every operator is pointwise, as a chain over the channels of every pixel; or its layers.

    What is linear is folded in float64. The channels stay on the model's axis: for convolutions the second, for
    products of matrices (MatMul) and layer norms the last. The result is compared with the model's on 256 pixels.

    Known are Conv with kernels of 1, Gemm, MatMul, BatchNormalization, LayerNormalization; Relu, LeakyRelu, PRelu of
    one slope, Clip, Max and Min with a number, HardSigmoid, HardSwish, Sigmoid, Swish, Tanh, Gelu (of erf), also
    written as several operators; Softmax, ArgMax; pooling to one pixel, flattened; Add, Sub, Mul, Div with constants,
    and Add of an earlier value; Cast, Identity, Dropout; Scaler of ai.onnx.ml; chains of QLinearConv.

    Parameters
    ----------
    path_or_model : path, bytes or onnx.ModelProto
        With one input and one output.
    layers : bool, default False
        Return the 1×1 layers in the model, whatever else there is: a dict from a node's name to its layer, a batch norm
        after it folded, no activation.
    pixels : array_like, optional
        An input of the model to compare on. By default it is made up.

    Returns
    -------
    Conv1x1, QConv1x1, Sequential or dict
        An axis that ArgMax or pooling keeps with one entry (`keepdims`) goes, and labels are of the smallest type.

    Raises
    ------
    ImportError
        When onnx is not installed.
    ValueError
        When an operator is not pointwise: all those are named; when the result differs from the model's by more than
        rounding, with both numbers.
    OSError
        When the file cannot be read.

    Examples
    --------
    >>> from conv1x1.onnx import load
    >>> net = load("classifier.onnx")  # doctest: +SKIP
    >>> layers = load("mobilenetv2.onnx", layers=True)  # doctest: +SKIP
    """
    if layers:
        return parts.layers(graphs.Reader(_model(path_or_model)))
    return imported(path_or_model, pixels)[0]


def imported(
    path_or_model: Any, pixels: ArrayLike | None
) -> tuple[Conv1x1 | QConv1x1 | Sequential, comparing.Comparison]:
    """The chain, and how it compared."""
    model = _model(path_or_model)
    reader = graphs.Reader(model)
    if any(node.op_type == "QLinearConv" for node in reader.nodes):
        return _quantised(reader, pixels)
    try:
        value = reader.read()
        wanted = reader.axes.settled()
    except NotPointwise as error:
        raise ValueError(f"the model {error}") from None
    steps = fold(value.steps)
    rank = reader.axes.rank or reader.rank(reader.inputs[0].name) or (2 if wanted in (None, -1) else 4)
    place, axis = nets.axis_of(wanted, rank)
    given = None if pixels is None else np.shape(pixels)
    known = given[place] if given and len(given) == rank else None
    width = widths(steps, None)[0] or _declared(reader, place) or known
    x = _input(reader, nets.pixels(pixels, width or 3, rank, place, _declared(reader, 0)))
    theirs = np.asarray(graphs.run(reader.model, {reader.inputs[0].name: x})[0])
    if value.labels and theirs.ndim == (2 if value.gone else rank):
        theirs = theirs.squeeze(place if not value.gone else 1)
    return nets.compared(steps, value, axis, x, theirs, place, "the model", width)


def _model(given: Any) -> Any:
    """A model, read from a file where one is named."""
    onnx = library("onnx", "onnx", "a model of ONNX")
    try:
        if isinstance(given, bytes):
            return onnx.load_from_string(given)
        if isinstance(given, (str, os.PathLike)):
            return onnx.load(os.fspath(given))
    except OSError:
        raise
    except Exception as error:  # what protobuf says of a damaged file
        raise ValueError(f"{given if not isinstance(given, bytes) else 'the bytes'}: not a model of ONNX") from error
    if not isinstance(given, onnx.ModelProto):
        raise TypeError(f"expected a path or an onnx.ModelProto, got {type(given).__name__}")
    return given


def _declared(reader: graphs.Reader, axis: int) -> int | None:
    """How long an axis of the input is, where the model says it."""
    shape = reader.shapes.get(reader.inputs[0].name)
    return None if shape is None or axis >= len(shape) else shape[axis]


def _input(reader: graphs.Reader, x: Array) -> Array:
    """In the type of the input."""
    onnx = reader.onnx
    dtype = onnx.helper.tensor_dtype_to_np_dtype(reader.inputs[0].type.tensor_type.elem_type)
    return x.astype(dtype) if dtype.kind == "f" else np.abs(20 * x).astype(dtype)


def _quantised(reader: graphs.Reader, pixels: ArrayLike | None) -> tuple[QConv1x1 | Sequential, comparing.Comparison]:
    net = parts.quantised_chain(reader)
    first: Any = net if isinstance(net, QConv1x1) else net[0]
    zero = first.x_zero_point.dtype
    x = np.random.default_rng(0).integers(0, 256, (4, first.in_channels, 8, 8), np.uint8).view(zero)
    x = x if pixels is None else np.asarray(pixels, zero)
    ours, theirs = net(x), graphs.run(reader.model, {reader.inputs[0].name: x})[0]
    apart = np.abs(ours.astype(int) - theirs)
    if ours.shape != theirs.shape or apart.max(initial=0) > 1:  # of a rounding that the definition makes in float64
        raise ValueError(
            f"the model was not understood: the imported one is {apart.max()} off, where rounding explains 1"
        )
    return net, comparing.Comparison(x.size // x.shape[1], float(apart.max(initial=0)), 1.0, 0, False)
