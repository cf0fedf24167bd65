"""QLinearConv and ConvInteger as ONNX means them: its own cases, and random models run by ONNX Runtime, bit for bit."""

from __future__ import annotations

import importlib
from typing import Any

import numpy as np
import pytest

from conv1x1 import conv1x1_integer, qlinear_conv1x1, reference_integer, reference_qlinear

onnx = pytest.importorskip("onnx", reason="the extra `peers` is not installed")
runtime = pytest.importorskip("onnxruntime", reason="the extra `peers` is not installed")

INT8, UINT8 = np.int8, np.uint8
#: (x and y, w) in QLinearConv, (x, w) in ConvInteger: what ONNX Runtime has for a CPU.
QLINEAR_TYPES = [(UINT8, UINT8), (UINT8, INT8), (INT8, INT8)]
INTEGER_TYPES = [*QLINEAR_TYPES, (INT8, UINT8)]
CALLS = {"QLinearConv": (qlinear_conv1x1, reference_qlinear), "ConvInteger": (conv1x1_integer, reference_integer)}
F = np.float32


def same(a: Any, b: Any) -> None:
    assert (a.shape, a.dtype) == (b.shape, b.dtype)
    np.testing.assert_array_equal(a, b)


def run(op: str, inputs: dict[str, Any], constants: bool = True, optimised: bool = True, **attributes: Any) -> Any:
    """What ONNX Runtime makes of a model of one node, its x (or all) given at run time, the rest constant."""
    free = {n: v for n, v in inputs.items() if n == "x" or not constants}
    result = onnx.TensorProto.INT32 if op == "ConvInteger" else onnx.helper.np_dtype_to_tensor_dtype(inputs["x"].dtype)
    graph = onnx.helper.make_graph(
        [onnx.helper.make_node(op, list(inputs), ["y"], **attributes)],
        op,
        [
            onnx.helper.make_tensor_value_info(n, onnx.helper.np_dtype_to_tensor_dtype(v.dtype), v.shape)
            for n, v in free.items()
        ],
        [onnx.helper.make_tensor_value_info("y", result, None)],
        [onnx.numpy_helper.from_array(v, n) for n, v in inputs.items() if n not in free],
    )
    model = onnx.helper.make_model(graph, opset_imports=[onnx.helper.make_opsetid("", 13)], ir_version=8)
    options = runtime.SessionOptions()
    options.intra_op_num_threads = 1
    if not optimised:
        options.graph_optimization_level = runtime.GraphOptimizationLevel.ORT_DISABLE_ALL
    session = runtime.InferenceSession(model.SerializeToString(), options, providers=["CPUExecutionProvider"])
    return session.run(None, free)[0]


# --------------------------------------------------------------------------------------------- ONNX's own cases


def own_cases() -> list[Any]:
    """The package makes its cases when their modules are imported: these two, of hundreds."""
    for name in ("qlinearconv", "convinteger"):
        importlib.import_module(f"onnx.backend.test.case.node.{name}")
    return list(importlib.import_module("onnx.backend.test.case.node")._NodeTestCases)


def test_onnx_own_cases() -> None:
    """Those with a 1×1 kernel: one at the time of writing, of QLinearConv; both of ConvInteger are 2×2."""
    done = []
    for case in own_cases():
        (node,) = case.model.graph.node
        if node.op_type not in CALLS or node.attribute:
            continue
        for inputs, outputs in case.data_sets:
            if inputs[3 if node.op_type == "QLinearConv" else 1].shape[2:] == (1, 1):
                for call in CALLS[node.op_type]:
                    same(call(*inputs, channel_axis=1), outputs[0])
                done.append(case.name)
    assert "test_qlinearconv" in done


# ------------------------------------------------------------------------------------- against ONNX Runtime


def saturates() -> bool:
    """Whether ONNX Runtime's sums of uint8 times int8 do, as on CPUs without VNNI: it adds two products in int16."""
    x, w = np.full((1, 4, 1, 1), 255, UINT8), np.full((1, 4, 1, 1), 127, INT8)
    one = {"x_scale": F(1), "x_zero_point": UINT8(0), "w": w, "w_scale": F(1), "w_zero_point": INT8(0)}
    inputs = {"x": x, **one, "y_scale": F(1000), "y_zero_point": UINT8(0)}
    return bool(
        run("QLinearConv", {n: np.asarray(v) for n, v in inputs.items()}).item() != np.rint(4 * 255 * 127 / 1000)
    )


def in_seven_bits(inputs: dict[str, Any]) -> dict[str, Any]:
    """The same with the int8 side of mixed types halved, so that two products fit int16: ONNX Runtime is exact then."""
    mixed = inputs["x"].dtype != inputs["w"].dtype
    return inputs | {n: inputs[n] >> 1 for n in ("x", "w") if mixed and inputs[n].dtype == INT8}


def numbers(random: Any, dtype: Any, *shape: int) -> Any:
    """Any numbers of a type, or nothing but its ends."""
    info = np.iinfo(dtype)
    if random.random() < 0.15:
        return random.choice([info.min, info.max], shape).astype(dtype)
    return random.integers(info.min, info.max, shape, dtype, endpoint=True)


def a_model(seed: int, x_type: Any, w_type: Any) -> tuple[dict[str, Any], dict[str, Any]]:
    """Inputs of a QLinearConv and its attributes."""
    random = np.random.default_rng(seed)
    groups = int(random.choice([1, 1, 1, 2, 4]))
    per_group, filters = (
        int(random.choice([1, 3, 4, 8, 16, 33, 64, 130])),
        groups * int(random.choice([1, 2, 5, 8, 17, 40])),
    )
    pixels = int(random.choice([1, 3, 7])), int(random.choice([1, 5, 8]))
    each = random.random() < 0.5
    w_scale = F(random.uniform(1e-4, 0.1, filters)) if each else F(random.uniform(1e-4, 0.1))
    x_scale = F(random.uniform(1e-3, 0.1))
    y_scale = F(x_scale * w_scale.mean() * np.sqrt(per_group) * 3000 * random.uniform(0.3, 3))
    if random.random() < 0.3:  # powers of two: ties at .5
        w_scale = np.full_like(w_scale, 0.5)
        x_scale, y_scale = F(0.25), F(2.0 ** int(random.integers(-3, 8)))
    kind = random.integers(3)
    zero = numbers(random, w_type, filters)
    w_zero = [w_type(0), zero[0], np.full(filters, zero[0])][kind]
    inputs = {
        "x": numbers(random, x_type, int(random.choice([1, 2])), per_group * groups, *pixels),
        "x_scale": x_scale,
        "x_zero_point": numbers(random, x_type, 1)[0],
        "w": numbers(random, w_type, filters, per_group, 1, 1),
        "w_scale": w_scale,
        "w_zero_point": w_zero,
        "y_scale": y_scale,
        "y_zero_point": numbers(random, x_type, 1)[0],
    }
    if random.random() < 0.7:
        most = 2 ** int(random.choice([8, 15, 31]))  # the last makes sums wrap
        inputs["B"] = random.integers(-most, most, filters).astype(np.int32)
    stride = int(random.choice([1, 1, 2]))
    return {n: np.asarray(v) for n, v in inputs.items()}, {"groups": groups, "stride": stride}


@pytest.mark.drawn
@pytest.mark.parametrize(("x_type", "w_type"), QLINEAR_TYPES)
def test_qlinear_models(x_type: Any, w_type: Any) -> None:
    """By the definition on every CPU; by ONNX Runtime where its sums are exact."""
    results, halved = set(), saturates()
    for seed in range(250):
        inputs, options = a_model(seed, x_type, w_type)
        if seed % 5 == 0:
            defined = reference_qlinear(**inputs, channel_axis=1, **options)
            same(qlinear_conv1x1(**inputs, channel_axis=1, **options), defined)
        if halved:
            inputs = in_seven_bits(inputs)
        y = run(
            "QLinearConv",
            inputs,
            constants=seed % 4 > 0,
            optimised=seed % 3 > 0,
            group=options["groups"],
            strides=[options["stride"]] * 2,
        )
        same(qlinear_conv1x1(**inputs, channel_axis=1, **options), y)
        same(qlinear_conv1x1(**inputs | {"x": np.moveaxis(inputs["x"], 1, -1)}, **options), np.moveaxis(y, 1, -1))
        results.update(np.unique(y).tolist())
    assert len(results) == 256  # the models are worth something


@pytest.mark.drawn
@pytest.mark.parametrize(("x_type", "w_type"), INTEGER_TYPES)
def test_integer_models(x_type: Any, w_type: Any) -> None:
    """Likewise."""
    halved = saturates()
    for seed in range(100):
        inputs, options = a_model(seed, x_type, w_type)
        inputs = {n: inputs[n] for n in ("x", "w", "x_zero_point", "w_zero_point")}
        inputs["w_zero_point"] = inputs["w_zero_point"].ravel()[:1].reshape(())  # ONNX Runtime has one for all filters
        if seed % 4 == 0:
            del inputs["w_zero_point"]
        if seed % 5 == 0:
            defined = reference_integer(**inputs, channel_axis=1, **options)
            same(conv1x1_integer(**inputs, channel_axis=1, **options), defined)
        if halved:
            inputs = in_seven_bits(inputs)
        y = run("ConvInteger", inputs, group=options["groups"], strides=[options["stride"]] * 2)
        same(conv1x1_integer(**inputs, channel_axis=1, **options), y)


@pytest.mark.drawn
@pytest.mark.parametrize(("dtype", "zero"), [(UINT8, 0), (UINT8, 128), (INT8, 0), (INT8, -128)])
def test_every_rounding_near_a_tie(dtype: Any, zero: int) -> None:
    """Sums next to every half of the range, for many multipliers, each filter with a sum of its own."""
    random = np.random.default_rng(3)
    info = np.iinfo(dtype)
    halves = np.arange(info.min - zero - 2, info.max - zero + 2) + 0.5
    for x_scale, w_scale, y_scale in F(random.uniform(1e-3, 1, (40, 3)) * 10.0 ** random.integers(-3, 1, (40, 3))):
        near = np.round(halves / (float(x_scale) * float(w_scale) / float(y_scale)))[:, None] + [-1, 0, 1]
        sums = near[np.abs(near) < 2**31].astype(np.int32)
        inputs = {
            "x": np.zeros((1, 1, 1, 1), dtype),
            "x_scale": x_scale,
            "x_zero_point": dtype(0),
            "w": np.zeros((len(sums), 1, 1, 1), INT8),
            "w_scale": w_scale,
            "w_zero_point": np.int8(0),
            "y_scale": y_scale,
            "y_zero_point": dtype(zero),
            "B": sums,
        }
        inputs = {n: np.asarray(v) for n, v in inputs.items()}
        same(qlinear_conv1x1(**inputs, channel_axis=1), run("QLinearConv", inputs))
