"""Models of ONNX as chains: the numbers of ONNX Runtime, and of the package's own cases, or a refusal by name."""

from __future__ import annotations

import importlib
import warnings
from pathlib import Path
from typing import Any

import numpy as np
import pytest

import conv1x1
from conv1x1 import Conv1x1, QConv1x1, Sequential
from conv1x1.command.main import main
from conv1x1.onnx import imported, load
from conv1x1.sequential import LayerNorm

onnx = pytest.importorskip("onnx", reason="the extra `onnx` is not installed")
runtime = pytest.importorskip("onnxruntime", reason="the extra `peers` is not installed")
helper = onnx.helper
FLOAT = onnx.TensorProto.FLOAT


def numbers(*shape: int) -> Any:
    return np.random.default_rng(shape).standard_normal(shape).astype(np.float32)


Node = tuple[Any, ...]  # operator, further inputs (arrays or names), attributes, then maybe the domain


def model(
    nodes: list[Node], shape: Any = ("N", 5, "H", "W"), opset: int = 18, dtype: int = FLOAT, ml: bool = False
) -> Any:
    """One operator after another; where an operator's inputs have a "_", it is the result of the one before."""
    made, constants, before = [], [], "x"
    for i, (op, inputs, attributes) in enumerate(nodes):
        names = []
        for j, given in enumerate(inputs if "_" in [g for g in inputs if isinstance(g, str)] else ("_", *inputs)):
            if isinstance(given, str):
                names.append(before if given == "_" else given)
                continue
            constants.append(onnx.numpy_helper.from_array(np.asarray(given), f"c{i}_{j}"))
            names.append(f"c{i}_{j}")
        domain = "ai.onnx.ml" if ml and op in ("Scaler", "LinearClassifier") else ""
        before = f"t{i}"
        made.append(helper.make_node(op, names, [before], name=f"{op.lower()}{i}", domain=domain, **attributes))
    graph = helper.make_graph(
        made,
        "chain",
        [helper.make_tensor_value_info("x", dtype, shape)],
        [onnx.ValueInfoProto(name=before)],
        constants,
    )
    opsets = [helper.make_opsetid("", opset), *([helper.make_opsetid("ai.onnx.ml", 3)] if ml else [])]
    return typed(helper.make_model(graph, opset_imports=opsets, ir_version=8))


def typed(m: Any) -> Any:
    """With the types of its outputs, which the runtime wants to know."""
    try:
        inferred = onnx.shape_inference.infer_shapes(m)
    except Exception:  # of classifiers, which have two results
        return m
    for output in m.graph.output:
        known = next((o for o in inferred.graph.output if o.name == output.name), None)
        kind = known.type.tensor_type.elem_type if known is not None else 0
        output.CopyFrom(helper.make_tensor_value_info(output.name, kind or FLOAT, None))
    return m


def run(m: Any, x: Any) -> Any:
    options = runtime.SessionOptions()
    options.intra_op_num_threads = 1
    options.log_severity_level = 3
    session = runtime.InferenceSession(m.SerializeToString(), options, providers=["CPUExecutionProvider"])
    return session.run(None, {session.get_inputs()[0].name: x})[0]


def assert_as_the_runtime(m: Any, x: Any, squeeze: Any = (), atol: float = 1e-5) -> Any:
    net, whole = load(m), run(m, x)
    y = net(x)
    whole = whole.squeeze(squeeze) if squeeze else whole
    assert y.shape == whole.shape
    if whole.dtype.kind == "f":
        np.testing.assert_allclose(y, whole, atol=atol, rtol=1e-5)
    else:
        np.testing.assert_array_equal(y, whole)
    return net


def conv(k: int, c: int, bias: bool = True, **attributes: Any) -> Node:
    groups = attributes.get("group", 1)
    return ("Conv", [numbers(k, c // groups, 1, 1) / 2, *([numbers(k)] if bias else [])], attributes)


def norm(c: int, **attributes: Any) -> Node:
    return (
        "BatchNormalization",
        [numbers(c), numbers(c, 1)[:, 0], numbers(2, c)[0], np.abs(numbers(3, c)[0]) + 0.5],
        attributes,
    )


X = numbers(2, 5, 4, 6)


# ------------------------------------------------------------------------------------------------ generated


CHAINS: list[list[Node]] = [
    [conv(7, 5)],
    [conv(7, 5, bias=False), norm(7), ("Relu", [], {}), conv(3, 7), ("Softmax", [], {"axis": 1})],
    [norm(5, epsilon=1e-3), conv(6, 5), ("Identity", [], {}), ("Dropout", [], {}), ("Sigmoid", [], {})],
    [conv(6, 5, strides=[2, 2]), ("LeakyRelu", [], {}), conv(6, 6, group=3)],
    [conv(6, 5), ("Clip", [np.float32(0), np.float32(6)], {}), conv(4, 6), ("Tanh", [], {})],
    [conv(6, 5), ("HardSigmoid", [], {}), conv(4, 6), ("HardSigmoid", [], {"alpha": 1 / 6})],
    [conv(6, 5), ("HardSwish", [], {}), ("PRelu", [np.full((6, 1, 1), 0.1, np.float32)], {})],
    [("Sub", [numbers(5, 1, 1)], {}), ("Div", [np.abs(numbers(1, 5, 1, 1)) + 1], {}), conv(3, 5)],
    [conv(3, 5), ("Mul", [np.float32(3)], {}), ("Add", [numbers(3, 1, 1)], {}), ("Neg", [], {})],
    [conv(3, 5), ("Max", [np.float32(0.1)], {}), ("Min", [np.float32(0.8)], {})],
    [conv(3, 5), ("Sub", [np.float32(1), "_"], {}), ("Cast", [], {"to": FLOAT})],
    [conv(6, 5), ("Relu", [], {}), ("GlobalAveragePool", [], {}), ("Flatten", [], {}), ("Gemm", [numbers(6, 4)], {})],
    [conv(6, 5), ("ReduceMean", [np.array([2, 3])], {"keepdims": 0}), ("MatMul", [numbers(6, 4)], {})],
    [conv(6, 5), ("GlobalMaxPool", [], {}), ("Reshape", [np.array([0, -1])], {}), ("Add", [numbers(6)], {})],
    [("Transpose", [], {"perm": [0, 2, 3, 1]}), ("MatMul", [numbers(5, 7)], {}), ("Add", [numbers(7)], {}),
     ("Relu", [], {}), ("Transpose", [], {"perm": [0, 3, 1, 2]}), conv(2, 7)],
]  # fmt: skip


@pytest.mark.parametrize("nodes", CHAINS)
def test_chains(nodes: list[Node]) -> None:
    assert_as_the_runtime(model(nodes), X)
    assert_as_the_runtime(model(nodes, (2, 5, 4, 6)), X)


def test_sixteen_random_chains() -> None:
    random = np.random.default_rng(5)
    curves: list[Node] = [(op, [], {}) for op in ("Relu", "Sigmoid", "Tanh", "HardSwish", "LeakyRelu", "Identity")]
    for _ in range(16):
        nodes, width = [], 5
        for _ in range(random.integers(1, 5)):
            after = int(random.integers(1, 20))
            nodes += [conv(after, width), *([norm(after)] if random.random() < 0.5 else [])]
            nodes.append(curves[random.integers(len(curves))])
            width = after
        nodes.append(conv(9, width))  # what is the largest of saturated numbers, rounding may decide
        nodes += [[], [("Softmax", [], {"axis": 1})], [("ArgMax", [], {"axis": 1, "keepdims": 0})]][random.integers(3)]
        assert_as_the_runtime(model(nodes), X)


@pytest.mark.parametrize("trans_b", [0, 1])
@pytest.mark.parametrize("bias", [(), (4,), (1, 4), (1,)])
def test_gemm(trans_b: int, bias: tuple[int, ...]) -> None:
    weight = numbers(4, 5) if trans_b else numbers(5, 4)
    inputs = [weight, *([numbers(*bias)] if bias else [])]
    nodes: list[Node] = [("Gemm", inputs, {"alpha": 0.5, "beta": 3.0, "transB": trans_b}), ("Relu", [], {})]
    assert assert_as_the_runtime(model(nodes, ("N", 5)), numbers(9, 5)).channel_axis in (1, -1)


def test_products_take_the_last_axis() -> None:
    nodes: list[Node] = [
        *(("LayerNormalization", [numbers(5), numbers(5)], {}), ("MatMul", [numbers(5, 8)], {})),
        *(("Add", [numbers(8)], {}), ("Relu", [], {}), ("MatMul", [numbers(8, 3)], {}), ("Softmax", [], {})),
    ]
    assert assert_as_the_runtime(model(nodes, ("N", "T", 5)), numbers(2, 7, 5)).channel_axis == -1


def test_clip_by_attribute_or_input() -> None:
    for limits in ({"min": -0.5}, {"max": 0.5}, {"min": 0.0, "max": 6.0}, {}):
        assert_as_the_runtime(model([conv(3, 5), ("Clip", [], limits)], opset=10), X)
    for given in ([np.float32(-0.5)], ["", np.float32(0.5)], []):
        assert_as_the_runtime(model([conv(3, 5), ("Clip", given, {})]), X)


@pytest.mark.parametrize("keepdims", [None, 0, 1])
@pytest.mark.parametrize("last", [0, 1])
def test_argmax(keepdims: int | None, last: int) -> None:
    """Its axis is kept with one entry, unless it says otherwise; here it goes. Of equals the last, if asked for."""
    kept = {} if keepdims is None else {"keepdims": keepdims}
    equal = ("Clip", [np.float32(-0.1), np.float32(0.1)], {})
    nodes: list[Node] = [conv(4, 5), equal, ("ArgMax", [], {"axis": 1, "select_last_index": last, **kept})]
    net = assert_as_the_runtime(model(nodes), X, () if keepdims == 0 else 1)
    assert net(X).dtype == np.uint8
    refused(model([conv(4, 5), ("ArgMax", [], {})]), "ArgMax", "axis 0")


def test_softmax_of_old_opsets() -> None:
    """Before opset 13 it is over all axes from the first on together, which is the same where those are of length 1."""
    assert_as_the_runtime(
        model([("Gemm", [numbers(5, 4)], {}), ("Softmax", [], {})], ("N", 5), opset=11), numbers(3, 5)
    )
    head: list[Node] = [conv(4, 5), ("GlobalAveragePool", [], {}), ("Flatten", [], {}), ("Softmax", [], {})]
    assert_as_the_runtime(model(head, opset=11), X)
    last: list[Node] = [("MatMul", [numbers(5, 4)], {}), ("Softmax", [], {"axis": 2})]
    assert_as_the_runtime(model(last, ("N", "T", 5), opset=11), numbers(2, 3, 5))
    one: list[Node] = [conv(4, 5), ("Softmax", [], {"axis": 1})]
    assert_as_the_runtime(model(one, ("N", 5, 1, 1), opset=11), X[:, :, :1, :1])
    refused(model(one, opset=11), "opset 11", "all axes from 1 on together")


def test_activations_written_as_several_operators() -> None:
    """As torch writes those that an opset has not."""
    half, root = np.float32(0.5), np.float32(2**0.5)
    gelu = [("Div", ["c", root], {}), ("Erf", [], {}), ("Add", [np.float32(1)], {})]

    def chain(*tail: Node) -> Any:
        m = model([conv(4, 5), *tail])
        for node in m.graph.node:
            node.input[:] = ["t0" if name == "c" else name for name in node.input]
        return m

    first = chain(("Div", ["_", root], {}), *gelu[1:], ("Mul", ["c", "_"], {}), ("Mul", [half], {}))
    second = chain(("Div", ["_", root], {}), *gelu[1:], ("Mul", [half], {}), ("Mul", ["c", "_"], {}))
    assert [assert_as_the_runtime(m, X).activation for m in (first, second)] == ["gelu", "gelu"]
    assert assert_as_the_runtime(chain(("Sigmoid", [], {}), ("Mul", ["_", "c"], {})), X).activation == "silu"
    hard = [("HardSigmoid", [], {"alpha": 1 / 6}), ("Mul", ["c", "_"], {})]
    assert assert_as_the_runtime(chain(*hard), X).activation == "hardswish"
    steps = [("Add", [np.float32(3)], {}), ("Clip", [np.float32(0), np.float32(6)], {}), ("Mul", ["c", "_"], {})]
    assert assert_as_the_runtime(chain(*steps, ("Div", [np.float32(6)], {})), X).activation == "hardswish"
    refused(chain(("Tanh", [], {}), ("Mul", ["c", "_"], {})), "Mul", "multiplies")


@pytest.mark.parametrize("opset", [9, 13, 15])
def test_batch_norms_of_every_opset(opset: int) -> None:
    """That of onnx's own definition is always in training before opset 14."""
    nodes: list[Node] = [conv(7, 5), ("Relu", [], {}), norm(7), conv(3, 7), norm(3, epsilon=1e-3)]
    assert_as_the_runtime(model(nodes, opset=opset), X)


def test_layer_norms_written_as_several_operators() -> None:
    """As torch writes them before opset 17."""
    mean: Node = ("ReduceMean", ["_"], {"axes": [-1]})
    nodes: list[Node] = [
        *(("MatMul", [numbers(5, 6)], {}), mean, ("Sub", ["t0", "_"], {}), ("Pow", [np.float32(2)], {}), mean),
        *(("Add", [np.float32(1e-4)], {}), ("Sqrt", [], {}), ("Div", ["t2", "_"], {}), ("Mul", [numbers(6)], {})),
        *(("Add", [numbers(6)], {}), ("MatMul", [numbers(6, 3)], {})),
    ]
    net = assert_as_the_runtime(model(nodes, ("N", "T", 5), opset=13), numbers(2, 7, 5))
    assert [type(e) for e in net] == [Conv1x1, LayerNorm, Conv1x1]
    refused(model(nodes[:5], ("N", "T", 5), opset=13), "'deviation'", "layer norm")
    nodes[3] = ("Pow", [np.float32(3)], {})
    refused(model(nodes, ("N", "T", 5), opset=13), "Pow 'pow3'", "square")


def test_residual_blocks() -> None:
    m = model(
        [conv(4, 5), conv(8, 4), ("Relu", [], {}), conv(4, 8), ("Add", ["t0", "_"], {}), ("Relu", [], {}), conv(2, 4)]
    )
    net = assert_as_the_runtime(m, X)
    assert [isinstance(e, Sequential) and e.skip for e in net] == [False, True, False]
    assert_as_the_runtime(model([conv(4, 5), ("Relu", [], {}), ("Add", ["t0", "_"], {})]), X)


def test_integer_pixels_behind_a_cast() -> None:
    nodes: list[Node] = [("Cast", [], {"to": FLOAT}), ("Div", [np.float32(255)], {}), conv(3, 5)]
    pixels = np.random.default_rng(0).integers(0, 256, (2, 5, 4, 6), np.uint8)
    assert_as_the_runtime(model(nodes, dtype=onnx.TensorProto.UINT8), pixels)
    refused(model([conv(3, 5), ("Cast", [], {"to": onnx.TensorProto.INT32})]), "Cast", "rounds")


def test_scaler_of_scikit_learn() -> None:
    nodes: list[Node] = [
        ("Scaler", [], {"offset": [1.0, 2.0, 3.0, 4.0, 5.0], "scale": [0.5] * 5}),
        ("Gemm", [numbers(5, 3)], {}),
    ]
    assert_as_the_runtime(model(nodes, ("N", 5), ml=True), numbers(7, 5))
    learnt: list[Node] = [("LinearClassifier", [], {"coefficients": [1.0] * 10, "classlabels_ints": [0, 1]})]
    refused(model(learnt, ("N", 5), ml=True), "LinearClassifier", "from_estimator")


# --------------------------------------------------------------------------------------------- the package's own


def own_cases(*files: str) -> list[Any]:
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        for name in files:
            importlib.import_module(f"onnx.backend.test.case.node.{name}")
        return list(importlib.import_module("onnx.backend.test.case.node")._NodeTestCases)


#: The files of their operators.
POINTWISE = (
    *("relu", "leakyrelu", "sigmoid", "tanh", "hardswish", "hardsigmoid", "clip", "gelu", "softmax", "argmax", "gemm"),
    *(
        "batch_normalization",
        "layernormalization",
        "globalaveragepool",
        "globalmaxpool",
        "identity",
        "dropout",
        "prelu",
    ),
    *("swish", "neg", "erf"),
)


def test_onnx_own_cases() -> None:
    """Each with all inputs but the first made constant: it is as ONNX says, or refused."""
    done: dict[str, int] = {}
    for case in own_cases(*POINTWISE):
        node = case.model.graph.node[0]
        if len(case.model.graph.node) > 1 or len(case.model.graph.output) > 1 or not case.data_sets:
            continue
        inputs, outputs = case.data_sets[0]
        if not all(isinstance(a, np.ndarray) and a.dtype == np.float32 and a.ndim > 1 for a in inputs[:1]):
            continue
        m = onnx.ModelProto()
        m.CopyFrom(case.model)
        given = [i.name for i in m.graph.input]
        for name, a in zip(given[1:], inputs[1:], strict=True):
            m.graph.initializer.append(onnx.numpy_helper.from_array(np.asarray(a), name))
        try:
            net = load(m)
        except ValueError:
            continue
        y = net(inputs[0])
        np.testing.assert_allclose(y, np.asarray(outputs[0]).reshape(y.shape), rtol=1e-5, atol=1e-5)
        done[node.op_type.lower()] = done.get(node.op_type.lower(), 0) + 1
    curves = {"relu", "leakyrelu", "sigmoid", "tanh", "hardswish", "hardsigmoid", "clip", "gelu"}
    more = {"softmax", "argmax", "gemm", "batchnormalization", "globalaveragepool", "globalmaxpool", "identity"}
    assert set(done) >= curves | more
    assert sum(done.values()) >= 50


# -------------------------------------------------------------------------------------------------- layers


def test_layers_by_name() -> None:
    nodes: list[Node] = [
        conv(8, 5), norm(8), ("Relu", [], {}), ("Conv", [numbers(8, 8, 3, 3)], {"pads": [1, 1, 1, 1]}), conv(6, 8),
        ("GlobalAveragePool", [], {}), ("Flatten", [], {}), ("Gemm", [numbers(6, 4), numbers(4)], {}),
    ]  # fmt: skip
    m = model(nodes)
    found = load(m, layers=True)
    assert list(found) == ["conv0", "conv4", "gemm7"]
    assert all(isinstance(layer, Conv1x1) for layer in found.values())
    expected = run(model(nodes[:2]), X)
    np.testing.assert_allclose(found["conv0"](X), expected, rtol=1e-5, atol=1e-5)
    refused(m, "Conv 'conv3' (kernel 3×3)", "layers=True")


def test_operators_that_are_not_pointwise_are_all_named() -> None:
    nodes: list[Node] = [
        ("MaxPool", [], {"kernel_shape": [2, 2]}), conv(4, 5), ("Softplus", [], {}), ("Exp", [], {}), ("Relu", [], {}),
    ]  # fmt: skip
    refused(model(nodes), "MaxPool 'maxpool0'", "Softplus 'softplus2'", "Exp 'exp3'", "layers=True")
    refused(model([conv(4, 5, pads=[1, 1, 1, 1])]), "Conv 'conv0' pads")
    refused(model([("MatMul", [numbers(5, 5), "_"], {})], ("N", 5, 5)), "MatMul 'matmul0'", "left")
    refused(model([conv(4, 5), ("Softmax", [], {"axis": 3})]), "axis 3", "axis 1")
    refused(model([conv(4, 5), ("Gelu", [], {"approximate": "tanh"})], opset=20), "erf")


def refused(m: Any, *words: str, **options: Any) -> None:
    with pytest.raises((TypeError, ValueError)) as caught:
        load(m, **options)
    for word in words:
        assert word in str(caught.value), str(caught.value)


# ----------------------------------------------------------------------------------------------- quantised


def qconv(k: int, c: int, x: tuple[Any, Any], y: tuple[Any, Any]) -> Node:
    w = np.random.default_rng(k).integers(-50, 51, (k, c, 1, 1)).astype(np.int8)
    bias = np.arange(k, dtype=np.int32) * 50
    scales = (np.arange(k) + 5).astype(np.float32) / 2000
    return ("QLinearConv", ["_", *x, w, scales, np.zeros(k, np.int8), *y, bias], {})


def test_quantised_chains() -> None:
    of = [(np.float32(s), np.uint8(z)) for s, z in ((0.02, 120), (0.05, 100), (0.1, 0))]
    m = model([qconv(8, 5, *of[:2]), qconv(3, 8, *of[1:])], dtype=onnx.TensorProto.UINT8)
    m.graph.output[0].type.tensor_type.elem_type = onnx.TensorProto.UINT8
    net = load(m)
    assert [type(e) for e in net] == [QConv1x1, QConv1x1]
    pixels = np.random.default_rng(0).integers(0, 256, (2, 5, 4, 6), np.uint8)
    whole = run(m, pixels)
    assert np.abs(net(pixels).astype(int) - whole).max() <= 1  # its sums may saturate on some CPUs
    assert list(load(m, layers=True)) == ["qlinearconv0", "qlinearconv1"]
    floats = model([("QuantizeLinear", [*of[0]], {}), qconv(8, 5, *of[:2])])
    refused(floats, "QuantizeLinear 'quantizelinear0'", "quantize")


# --------------------------------------------------------------------------------------------------- files


def test_files_bytes_and_what_is_neither(tmp_path: Path) -> None:
    m = model([conv(3, 5)])
    path = tmp_path / "model.onnx"
    onnx.save(m, str(path))
    for given in (path, str(path), m.SerializeToString(), m):
        assert load(given).out_channels == 3
    path.write_bytes(b"\xff" * 100)
    refused(path, "model.onnx: not a model")
    with pytest.raises(FileNotFoundError):
        load(tmp_path / "none.onnx")
    refused(3, "expected a path")


def test_one_input_and_one_output() -> None:
    m = model([conv(3, 5), ("Relu", [], {})])
    m.graph.output.append(helper.make_tensor_value_info("t0", FLOAT, None))
    refused(m, "2 outputs, t1, t0", "extract_model")
    two = model([conv(3, 5), ("Add", ["_", "t0"], {})])
    two.graph.input.append(helper.make_tensor_value_info("z", FLOAT, None))
    refused(two, "2 inputs, x, z")


def test_pixels_to_compare_on() -> None:
    m = model([conv(3, 5), ("Relu", [], {})])
    _, compared = imported(m, X)
    assert (compared.pixels, compared.difference <= compared.bound < 1e-4) == (48, True)
    refused(m, "(2, 4, 6, 5)", pixels=np.moveaxis(X, 1, -1))


def test_import(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    path, target = tmp_path / "model.onnx", tmp_path / "net.npz"
    onnx.save(model([conv(7, 5), norm(7), ("Relu", [], {}), conv(3, 7)]), str(path))
    assert main(["import", str(path), "-o", str(target)]) == 0
    assert "256 pixels, largest difference" in capsys.readouterr().out
    np.testing.assert_array_equal(conv1x1.load(target)(X), load(path)(X))
    onnx.save(model([("MaxPool", [], {"kernel_shape": [2, 2]})]), str(path))
    for arguments, word in (
        ([str(path)], "MaxPool"),
        ([str(path), "--channel-axis", "0"], "own axis"),
        ([str(tmp_path / "none.onnx")], "no such file"),
        ([str(tmp_path)], "expected a file .onnx"),
    ):
        assert main(["import", *arguments, "-o", str(target)]) in (1, 2)
        told = capsys.readouterr().err
        assert word in told
        assert told.count("\n") == 1
