"""The layers of a graph of ONNX by themselves; and chains of quantised ones."""

from __future__ import annotations

from typing import Any

import numpy as np

from ..layers import Conv1x1
from ..quantized import QConv1x1
from ..sequential import Sequential
from .graphs import Reader, convolution, normalization, product, told
from .steps import elements, fold
from .values import NotPointwise

_ARGUMENTS = ("x_scale", "x_zero_point", "w", "w_scale", "w_zero_point", "y_scale", "y_zero_point", "bias")


def layers(reader: Reader) -> dict[str, Conv1x1 | QConv1x1]:
    """Every 1×1 layer by the name of its node, or else of its result; a batch norm after it is folded."""
    takers: dict[str, list[Any]] = {}
    for node in reader.nodes:
        for name in node.input:
            takers.setdefault(name, []).append(node)
    found: dict[str, Conv1x1 | QConv1x1] = {}
    results = {o.name for o in reader.model.graph.output}
    for node in reader.nodes:
        try:
            layer = _layer(reader, node, takers, results)
        except NotPointwise:
            continue
        if layer is not None:
            found[node.name or node.output[0]] = layer
    return found


def _layer(reader: Reader, node: Any, takers: dict[str, list[Any]], results: set[str]) -> Conv1x1 | QConv1x1 | None:
    args = [None if reader.free(n) else reader.constants.get(n) for n in node.input]
    if node.op_type == "QLinearConv":
        return quantised(reader, node)
    if node.op_type not in ("Conv", "Gemm", "MatMul") or (node.op_type == "MatMul" and not reader.free(node.input[0])):
        return None
    steps: list[Any] = [convolution(reader, node, args)[0] if node.op_type == "Conv" else product(reader, node, args)]
    after = takers.get(node.output[0], [])
    if len(after) == 1 and node.output[0] not in results and node.op_type != "MatMul":
        given = [None if reader.free(n) else reader.constants.get(n) for n in after[0].input]
        if after[0].op_type == "BatchNormalization":
            steps.append(normalization(reader, after[0], given))
    (layer,) = elements(fold(steps), -1 if node.op_type == "MatMul" else 1)
    return layer  # type: ignore[no-any-return]


def quantised(reader: Reader, node: Any) -> QConv1x1:
    """A QLinearConv with a kernel of 1."""
    names = (*_ARGUMENTS[:2], *_ARGUMENTS[2:])
    given: dict[str, Any] = {}
    for name, of in zip(names, node.input[1:], strict=False):
        if reader.free(of):
            raise NotPointwise(f"has a {name} that is not constant")
        given[name] = reader.constants.get(of)
    options = reader.attributes(node)
    w = given.pop("w")
    if any(n != 1 for n in w.shape[2:]):
        raise NotPointwise(f"has a kernel of {w.shape[2:]}")
    if any(options.get("pads", ())):
        raise NotPointwise(f"pads by {options['pads']}")
    strides = options.get("strides", ())
    return QConv1x1(
        w.reshape(w.shape[:2]),
        given.pop("bias", None),
        **{n: np.squeeze(a) if n.startswith("w_") else a.reshape(())[()] for n, a in given.items()},
        channel_axis=1,
        stride=tuple(strides) if any(n != 1 for n in strides) else 1,
        groups=options.get("group", 1),
    )


def quantised_chain(reader: Reader) -> Sequential | QConv1x1:
    """A model of QLinearConv alone, which takes and gives bytes."""
    made = []
    for node in reader.nodes:
        if node.op_type in ("Identity", "Dropout"):
            continue
        if node.op_type in ("QuantizeLinear", "DequantizeLinear"):
            raise ValueError(
                f"{told(node)} turns floats to bytes or back, and a quantised chain takes and gives bytes: take the "
                "part between, onnx.utils.extract_model(path, part, [input], [output]), and use the layers' quantize "
                "and dequantize"
            )
        if node.op_type != "QLinearConv":
            raise ValueError(
                f"{told(node)} is among QLinearConv operators, of which a quantised chain is made; "
                "load(…, layers=True) gives the 1×1 layers, by name"
            )
        try:
            made.append(quantised(reader, node))
        except NotPointwise as error:
            raise ValueError(f"{told(node)} {error}; load(…, layers=True) gives the 1×1 layers, by name") from None
    return made[0] if len(made) == 1 else Sequential(made, channel_axis=1)
