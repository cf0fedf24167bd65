"""What is wrong is said before anything is written: the right exception, what was expected, what came, what to do."""

from __future__ import annotations

import re
import sys
from typing import Any

import numpy as np
import pytest

import conv1x1 as c11
from conv1x1 import Conv1x1, conv1x1, qlinear_conv1x1, reference

X = np.ones((5, 7, 6), np.float32)
W = np.ones((4, 6), np.float32)
NAN = np.float32("nan")
PIXELS = (
    "supported are float16, bfloat16, float32, float64, complex64, complex128, "
    "bool, uint8, int8, uint16, int16, int32, uint32, int64 and uint64"
)
RESULTS = (
    "supported are float16, bfloat16, float32, float64, complex64, complex128, "
    "uint8, int8, uint16, int16, int32 and int64"
)


class Wrong:
    """Arguments that do not fit, the exception they deserve, and what its message must contain."""

    def __init__(self, name: str, error: type[Exception], *says: str, **arguments: Any) -> None:
        self.name, self.error, self.says = name, error, says
        self.arguments = {"x": X, "w": W} | arguments

    def raised_by(self, call: Any, *args: Any, **kwargs: Any) -> None:
        with pytest.raises(self.error) as info:
            call(*args, **kwargs)
        for fragment in self.says:
            assert fragment in str(info.value)


def masked(*shape: int) -> Any:
    return np.ma.masked_array(np.ones(shape, np.float32), mask=False)


def read_only(*shape: int) -> Any:
    a = np.zeros(shape, np.float32)
    a.flags.writeable = False
    return a


WRONG_X = [
    Wrong("channels", ValueError, "(5, 7, 6)", "6 channels on axis 2", "filters 5", "channel_axis=0", w=W[:, :5]),
    Wrong("channels of no axis", ValueError, "(5, 7, 6)", "6 channels", "filters 3", w=W[:, :3]),
    Wrong("channels first", ValueError, "channel_axis=-1", "pass channel_axis=0", x=np.ones((6, 5, 7), "f")),
    Wrong("channels of NCHW", ValueError, "channel_axis=-1", "pass channel_axis=1", x=np.ones((2, 6, 5, 7), "f")),
    Wrong("no axes", ValueError, "no axes", "(H, W, C)", x=np.float32(3)),
    Wrong("axis too far", ValueError, "channel_axis=3", "3 axes", channel_axis=3),
    Wrong("axis too far back", ValueError, "channel_axis=-4", "3 axes", channel_axis=-4),
    Wrong("axis far too far", ValueError, "channel_axis=1099511627776", "axes", channel_axis=2**40),
    Wrong("axis beyond", ValueError, "channel_axis=-1180591620717411303424", "axes", channel_axis=-(2**70)),
    Wrong("axis float", TypeError, "channel_axis", "int", "1.5", channel_axis=1.5),
    Wrong("axis bool", TypeError, "channel_axis", "int", "True", channel_axis=True),
    Wrong("axis string", TypeError, "channel_axis", "int", "'last'", channel_axis="last"),
    Wrong("axis None", TypeError, "channel_axis", "int", "None", channel_axis=None),
    Wrong(
        "longdouble", TypeError, str(np.dtype(np.longdouble)), PIXELS, "astype(np.float64)", x=X.astype(np.longdouble)
    ),
    Wrong("long complex", TypeError, PIXELS, "x.astype(np.complex128)", x=X.astype(np.clongdouble)),
    Wrong("complex, activated", TypeError, "x has dtype complex64", "leave activation", x=X + 0j, activation="relu"),
    Wrong("complex to float", TypeError, "x has dtype complex64", "np.complex64", x=X + 0j, dtype="f"),
    Wrong("object", TypeError, "object", PIXELS, "x.astype(np.float32)", x=X.astype(object)),
    Wrong("dates", TypeError, "datetime64[s]", PIXELS, "x.astype(np.float64)", x=np.zeros((5, 7, 6), "M8[s]")),
    Wrong("strings", TypeError, "<U1", PIXELS, x=np.array(["a"] * 6)),
    Wrong("string", TypeError, "<U6", PIXELS, x="pixels"),
    Wrong("None", TypeError, "object", PIXELS, x=None),
    Wrong("records", TypeError, PIXELS, x=np.zeros(6, [("v", "f4")])),
]

WRONG_W = [
    Wrong("transposed", ValueError, "(6, 4)", "pass w.T", w=W.T),
    Wrong("transposed, C order", ValueError, "(6, 4)", "pass w.T", w=np.ascontiguousarray(W.T)),
    Wrong("no axes", ValueError, "()", "(K, C/groups)", w=np.float32(3)),
    Wrong("3x3", ValueError, "(4, 6, 3, 3)", "(K, C/groups, 1, 1)", "(1, 1, C/groups, K)", w=np.ones((4, 6, 3, 3))),
    Wrong("too many axes", ValueError, "(4, 6, 1, 1, 1, 1)", "(K, C/groups)", w=np.ones((4, 6, 1, 1, 1, 1))),
    Wrong("one filter too long", ValueError, "has 6", w=np.ones((1, 1, 7))),
    Wrong("vector too long", ValueError, "filters 7", "has 6", w=np.ones(7)),
    Wrong("torch's too wide", ValueError, "filters 7", "has 6", w=np.ones((4, 7, 1, 1))),
    Wrong("long complex", TypeError, "w must hold numbers", "w.astype(np.complex128)", w=W.astype(np.clongdouble)),
    Wrong("complex, activated", TypeError, "w has dtype complex64", "leave activation", w=W + 0j, activation="tanh"),
    Wrong("complex to int", TypeError, "w has dtype complex64", "dtype=np.complex64", w=W + 0j, dtype=np.int8),
    Wrong("longdouble", TypeError, "w must hold numbers", "astype(np.float64)", w=W.astype(np.longdouble)),
    Wrong("dates", TypeError, "w must hold numbers", "datetime64", w=np.zeros((4, 6), "M8[s]")),
    Wrong("object", TypeError, "w must hold numbers", "object", w=W.astype(object)),
    Wrong("strings", TypeError, "w must hold numbers", w=[["a"] * 6]),
    Wrong("None", TypeError, "w must hold numbers", w=None),
    Wrong("masked", TypeError, "w is a masked array", "w.filled", w=masked(4, 6)),
    Wrong("groups of the filters", ValueError, "groups=3", "4 filters", w=np.ones((4, 2)), groups=3),
    Wrong("groups of the channels", ValueError, "filters 12", "has 6", groups=2),
    Wrong("vector in groups", ValueError, "groups=2", w=np.ones(3), groups=2),
    Wrong("more groups than filters", ValueError, "groups=8", "4 filters", groups=8),
    Wrong("groups beyond", ValueError, "groups=1180591620717411303424", groups=2**70),
    Wrong("groups 0", ValueError, "groups", "≥ 1", "0", groups=0),
    Wrong("groups -1", ValueError, "groups", "≥ 1", "-1", groups=-1),
    Wrong("groups True", TypeError, "groups", "int", "True", groups=True),
    Wrong("groups 1.5", TypeError, "groups", "int", "1.5", groups=1.5),
    Wrong("groups None", TypeError, "groups", "int", "None", groups=None),
]

WRONG_OPTIONS = [
    Wrong("bias too short", ValueError, "bias has shape (3,)", "(4,)", bias=np.ones(3)),
    Wrong("bias a number", ValueError, "bias has shape ()", "(4,)", bias=1.0),
    Wrong("bias a column", ValueError, "bias has shape (4, 1)", "(4,)", "np.ravel", bias=np.ones((4, 1))),
    Wrong(
        "bias complex, activated",
        TypeError,
        "'clip'",
        "bias has dtype complex128",
        "leave activation",
        bias=np.ones(4, complex),
        activation=("clip", 0, 1),
    ),
    Wrong(
        "bias complex to float",
        TypeError,
        "dtype=float64",
        "bias has dtype complex128",
        "dtype=np.complex128",
        bias=np.ones(4, complex),
        dtype=float,
    ),
    Wrong("bias strings", TypeError, "bias must hold numbers", bias=["a"] * 4),
    Wrong("bias masked", TypeError, "bias is a masked array", bias=masked(4)),
    Wrong("stride 0", ValueError, "stride must be ≥ 1", "0", stride=0),
    Wrong("stride -1", ValueError, "stride must be ≥ 1", "-1", stride=-1),
    Wrong("strides with 0", ValueError, "stride must be ≥ 1", stride=(1, 0)),
    Wrong("stride empty", ValueError, "stride is empty", "stride=(2, 2)", stride=()),
    Wrong("stride too long", ValueError, "stride=(1, 2, 3)", "3 entries", "2 axes", stride=(1, 2, 3)),
    Wrong("stride float", TypeError, "stride must be an int", "2.0", stride=2.0),
    Wrong("stride bool", TypeError, "stride must be an int", "True", stride=True),
    Wrong("stride with None", TypeError, "stride must be an int", "None", stride=(2, None)),
    Wrong("stride string", TypeError, "stride", stride="2"),
    Wrong("activation unknown", ValueError, "'reul'", "relu6", "hardswish", '("clip", lo, hi)', activation="reul"),
    Wrong("activation a function", ValueError, "unknown", "relu", activation=np.tanh),
    Wrong("activation empty", ValueError, "unknown", activation=()),
    Wrong("activation a list", ValueError, "unknown", activation=["clip", 0, 1]),
    Wrong("clip bare", ValueError, "0 parameters", '("clip", lo, hi)', activation="clip"),
    Wrong("clip with one", ValueError, "1 parameters", '("clip", lo, hi)', activation=("clip", 0)),
    Wrong("clip with three", ValueError, "3 parameters", '("clip", lo, hi)', activation=("clip", 0, 1, 2)),
    Wrong("relu with one", ValueError, "1 parameters", 'activation="relu"', activation=("relu", 0)),
    Wrong("leaky_relu with two", ValueError, "2 parameters", '("leaky_relu", slope)', activation=("leaky_relu", 0, 1)),
    Wrong("clip turned", ValueError, "lo > hi", '("clip", 0, 6)', activation=("clip", 6, 0)),
    Wrong("clip NaN", ValueError, "NaN", activation=("clip", NAN, 1)),
    Wrong("leaky_relu NaN", ValueError, "NaN", activation=("leaky_relu", NAN)),
    Wrong("clip with a string", TypeError, "numbers", activation=("clip", "low", 1)),
    Wrong("clip with None", TypeError, "numbers", activation=("clip", None, 1)),
    Wrong("dtype of another byte order", TypeError, ">f4", "byte order", "dtype=np.float32", dtype=">f4"),
    Wrong("dtype bool", TypeError, "dtype=bool", RESULTS, "pass dtype=np.uint8", dtype=bool),
    Wrong("dtype uint32", TypeError, "dtype=uint32", RESULTS, "pass dtype=np.int64", dtype=np.uint32),
    Wrong("dtype long complex", TypeError, RESULTS, "pass dtype=np.complex128", dtype=np.clongdouble),
    Wrong("dtype complex, activated", TypeError, "dtype=complex128 is asked for", dtype=complex, activation="relu"),
    Wrong("dtype object", TypeError, "dtype=object", RESULTS, dtype=object),
    Wrong("dtype longdouble", TypeError, RESULTS, "pass dtype=np.float64", dtype=np.longdouble),
    Wrong("dtype of a string", TypeError, "dtype=<U3", RESULTS, dtype="U3"),
    Wrong("dtype unknown", TypeError, "smooth", dtype="smooth"),
]

#: Arguments of the call, which a layer takes too.
WRONG_CALL = [
    Wrong("residual of x's shape", ValueError, "residual has shape (5, 7, 6)", "(5, 7, 4)", residual=X),
    Wrong("residual to broadcast", ValueError, "residual has shape (4,)", "(5, 7, 4)", residual=np.ones(4, "f")),
    Wrong(
        "residual complex, activated",
        TypeError,
        "'relu'",
        "residual has dtype complex128",
        "leave activation",
        residual=np.ones((5, 7, 4), complex),
        activation="relu",
    ),
    Wrong(
        "residual complex to float",
        TypeError,
        "float32",
        "residual has dtype complex128",
        "np.complex64",
        residual=np.ones((5, 7, 4), complex),
        dtype="f",
    ),
    Wrong("residual object", TypeError, "residual", "object", PIXELS, residual=np.ones((5, 7, 4), object)),
    Wrong("residual a string", TypeError, "residual", residual="x"),
    Wrong("threads 0", ValueError, "threads must be ≥ 1", "0", threads=0),
    Wrong("threads -1", ValueError, "threads must be ≥ 1", "-1", threads=-1),
    Wrong("threads -2**70", ValueError, "threads must be ≥ 1", threads=-(2**70)),
    Wrong("threads 1.5", TypeError, "threads must be an int", "1.5", threads=1.5),
    Wrong("threads True", TypeError, "threads must be an int", "True", threads=True),
    Wrong("threads a string", TypeError, "threads must be an int", "'2'", threads="2"),
]

WRONG_OUT = [
    Wrong("out of x's shape", ValueError, "out has shape (5, 7, 6)", "(5, 7, 4)", out=np.zeros((5, 7, 6), "f")),
    Wrong("out flat", ValueError, "out has shape (140,)", "(5, 7, 4)", out=np.zeros(140, "f")),
    Wrong("out read-only", ValueError, "read-only", out=read_only(5, 7, 4)),
    Wrong("out broadcast", ValueError, "read-only", out=np.broadcast_to(np.zeros(4, "f"), (5, 7, 4))),
    Wrong("out bool", TypeError, "out has dtype bool", RESULTS, "np.empty((5, 7, 4)", out=np.zeros((5, 7, 4), bool)),
    Wrong("out uint32", TypeError, "out has dtype uint32", RESULTS, out=np.zeros((5, 7, 4), np.uint32)),
    Wrong("out long complex", TypeError, RESULTS, out=np.zeros((5, 7, 4), np.clongdouble)),
    Wrong("out real", TypeError, "out has dtype float32", "x has dtype", x=X + 0j, out=np.zeros((5, 7, 4), "f")),
    Wrong("out complex", TypeError, "'relu'", "out has", out=np.zeros((5, 7, 4), complex), activation="relu"),
    Wrong("out a list", TypeError, "list", "np.empty((5, 7, 4), np.float32)", out=[0.0]),
    Wrong("out a tuple", TypeError, "tuple", out=(np.zeros((5, 7, 4), "f"),)),
    Wrong("out masked", TypeError, "MaskedArray", out=masked(5, 7, 4)),
    Wrong("out and dtype", TypeError, "float32", "dtype=float64", out=np.zeros((5, 7, 4), "f"), dtype=np.float64),
]


def named(*tables: list[Wrong]) -> dict[str, Any]:
    rows = [row for table in tables for row in table]
    return {"argvalues": rows, "ids": [row.name for row in rows]}


@pytest.mark.parametrize("function", [conv1x1, reference])
@pytest.mark.parametrize("wrong", **named(WRONG_X, WRONG_W, WRONG_OPTIONS, WRONG_CALL))
def test_wrong_arguments(function: Any, wrong: Wrong) -> None:
    out = np.full((5, 7, 4), 7, np.float32)
    wrong.raised_by(function, **wrong.arguments)
    arguments = wrong.arguments if "dtype" in wrong.arguments else wrong.arguments | {"out": out}
    wrong.raised_by(function, **arguments)
    assert (out == 7).all()


@pytest.mark.parametrize("function", [conv1x1, reference])
@pytest.mark.parametrize("wrong", **named(WRONG_OUT))
def test_wrong_out(function: Any, wrong: Wrong) -> None:
    wrong.raised_by(function, **wrong.arguments)
    assert isinstance(wrong.arguments["out"], (list, tuple)) or not (wrong.arguments["out"] == 6).any()


def layer_of(arguments: dict[str, Any]) -> tuple[Conv1x1, dict[str, Any]]:
    """The layer for these arguments, and what is left for its call."""
    options = {"w", "bias", "channel_axis", "stride", "groups", "activation", "dtype"} & set(arguments)
    return Conv1x1(**{n: arguments[n] for n in options}), {n: v for n, v in arguments.items() if n not in options}


@pytest.mark.parametrize("wrong", **named(WRONG_X, WRONG_CALL))
def test_wrong_arguments_of_a_layers_call(wrong: Wrong) -> None:
    out = np.full((5, 7, 4), 7, np.float32)

    def made_and_called(**arguments: Any) -> None:
        layer, call = layer_of(arguments)
        layer(**call)

    wrong.raised_by(made_and_called, **wrong.arguments)
    wrong.raised_by(made_and_called, **wrong.arguments, out=out)
    assert (out == 7).all()


@pytest.mark.parametrize("wrong", **named(WRONG_OUT))
def test_wrong_out_of_a_layers_call(wrong: Wrong) -> None:
    layer, call = layer_of(wrong.arguments)
    wrong.raised_by(layer, **call)
    assert isinstance(call["out"], (list, tuple)) or not (call["out"] == 6).any()


NEEDS_X = {"transposed", "transposed, C order", "one filter too long", "vector too long", "torch's too wide"}
NEEDS_X |= {"groups of the channels", "stride too long"}


@pytest.mark.parametrize("wrong", **named([row for row in WRONG_W + WRONG_OPTIONS if row.name not in NEEDS_X]))
def test_wrong_arguments_of_a_layer(wrong: Wrong) -> None:
    arguments = {n: v for n, v in wrong.arguments.items() if n != "x"}
    wrong.raised_by(Conv1x1, **arguments)


@pytest.mark.parametrize("wrong", **named([row for row in WRONG_W + WRONG_OPTIONS if row.name in NEEDS_X]))
def test_a_layer_meets_its_x(wrong: Wrong) -> None:
    """What only x can show is said at the call."""
    w = wrong.arguments["w"]
    layer, call = layer_of(wrong.arguments | {"w": w.reshape(1, -1) if w.shape[:2] == (1, 1) else w})
    for use in (layer, layer.plan):
        with pytest.raises(ValueError, match=r"channels|stride"):
            use(call["x"])


@pytest.mark.parametrize("shape", [(1, 1, 6), (6, 1, 1)])
def test_a_layer_refuses_weights_with_two_readings(shape: Any) -> None:
    with pytest.raises(ValueError, match=r"two readings.*6 channels.*6 filters") as info:
        Conv1x1(np.ones(shape))
    assert "w.reshape(1, -1)" in str(info.value)
    assert "w.reshape(6, 1)" in str(info.value) or "w.reshape(1, 6).T" in str(info.value)
    assert Conv1x1(np.ones((1, 1, 1))).in_channels == 1
    assert Conv1x1(np.ones(shape), groups=6).groups == 6  # groups leave one reading


def test_the_call_of_a_layer() -> None:
    layer = Conv1x1(W)
    usage = r"layer\(x, \*, residual=None, out=None, threads=None\)"
    for args, kwargs, says in [
        ((), {}, "needs an array"),
        ((), {"threads": 1}, "needs an array"),
        ((X, X), {}, r"x alone by position, got 2 arguments: write layer\(x, residual=a\) or layer\(x, out=a\)"),
        ((X, None, None, None, None), {}, "x alone by position, got 5 arguments"),
        ((X,), {"stride": 2}, "no argument 'stride'"),
        ((X,), {"bias": None}, "no argument 'bias'"),
    ]:
        with pytest.raises(TypeError, match=rf"{says}.*{usage}"):
            layer(*args, **kwargs)
    with pytest.raises(TypeError, match="two values for argument 'x'"):
        layer(X, x=X)
    with pytest.raises(TypeError, match="x alone by position"):
        layer(X, None, residual=None)
    assert layer(x=X, threads=1, out=None, residual=None).shape == (5, 7, 4)


def test_results_that_no_memory_can_hold() -> None:
    x = np.broadcast_to(np.float32(1), (2**20, 2**20, 1))
    for function in (conv1x1, lambda x, w: Conv1x1(w)(x)):
        with pytest.raises(MemoryError):
            function(x, np.ones((64, 1), np.float32))
        with pytest.raises((MemoryError, ValueError)):
            function(np.broadcast_to(np.float32(1), (2**30, 2**30, 1)), np.ones((16, 1), np.float32))


@pytest.mark.parametrize("n", [0, -1, 1.5, True, "2", None])
def test_wrong_numbers_of_threads(n: Any) -> None:
    before = c11.get_num_threads()
    error = ValueError if type(n) is int else TypeError
    for function in (c11.set_num_threads, lambda n: c11.num_threads(n).__enter__()):
        with pytest.raises(error, match="≥ 1"):
            function(n)
    assert c11.get_num_threads() == before


@pytest.mark.parametrize("n", [2**31 - 1, 2**31, 2**40, 2**70])
def test_absurd_numbers_of_threads(n: int) -> None:
    """More than there can be are taken for as many as there are units of work."""
    assert conv1x1(X, W, threads=n).shape == (5, 7, 4)
    assert Conv1x1(W)(X, threads=n).shape == (5, 7, 4)
    before = c11.get_num_threads()
    try:
        c11.set_num_threads(n)
        assert conv1x1(X, W).shape == (5, 7, 4)
    finally:
        c11.set_num_threads(before)


@pytest.mark.parametrize("value", ["nonsense", "AVX2", "avx2 ", "neon,avx2"])
def test_an_unknown_instruction_set_in_the_environment(fresh_python: Any, value: str) -> None:
    """The import fails and says which variable, what it holds and what it may hold."""
    run = fresh_python("import conv1x1", CONV1X1_MAX_ISA=value)
    assert run.returncode != 0
    last = run.stderr.strip().splitlines()[-1]
    assert last.startswith(("ValueError", "ImportError"))
    assert f"'{value}'" in last
    assert "portable" in last
    assert "CONV1X1_MAX_ISA" in last


@pytest.mark.parametrize("value", ["0", "-1", "2.5", "2 ", "abc", "", "99999999999999999999"])
def test_a_wrong_number_of_threads_in_the_environment(fresh_python: Any, value: str) -> None:
    run = fresh_python("import conv1x1", CONV1X1_NUM_THREADS=value)
    assert run.returncode != 0
    last = run.stderr.strip().splitlines()[-1]
    assert last.startswith(("ValueError", "ImportError"))
    assert f"CONV1X1_NUM_THREADS is '{value}', expected a whole number ≥ 1" in last


#: Spellings of activations, and what is advised for each; None for nothing.
SPELLINGS: dict[Any, Any] = {
    **dict.fromkeys(("ReLU", "RELU", " relu", "relu_", "nn.ReLU", "torch.nn.functional.relu()", b"relu"), "relu"),
    **dict.fromkeys(("ReLU6", "relu_6"), "relu6"),
    **dict.fromkeys(("SiLU", "swish", "Swish"), "silu"),
    **dict.fromkeys(("Hardswish", "hard_swish", "hard-swish", "h_swish", "HardSwish"), "hardswish"),
    **dict.fromkeys(("HardSigmoid", "hard_sigmoid", "h-sigmoid"), "hardsigmoid"),
    **dict.fromkeys(("Sigmoid", "logistic", "sigmod"), "sigmoid"),
    **dict.fromkeys(("Tanh", np.tanh), "tanh"),
    "GELU": "gelu",
    **dict.fromkeys(("LeakyReLU", "leakyrelu", "lrelu"), "leaky_relu"),
    ("LeakyReLU", 0.2): ("leaky_relu", 0.2),
    ("Clip", 0, 6): ("clip", 0, 6),
    ("clamp", -1.5, 2**24 + 1): ("clip", -1.5, 2**24 + 1),
    "Hardtanh": ("clip", -1, 1),
    type("LeakyReLU", (), {"negative_slope": 0.1})(): ("leaky_relu", 0.1),
    type("Hardtanh", (), {"min_val": -2.0, "max_val": 2.0})(): ("clip", -2.0, 2.0),
    type("ReLU6", (), {"min_val": 0.0, "max_val": 6.0}): "relu6",
    **dict.fromkeys(("linear", "none", "Identity"), "none at all"),
    **dict.fromkeys(("", "elu", "selu", "PReLU", "mish", "gelu_tanh", "quick_gelu", (), 3, True, np.maximum)),
    type("GELU", (), {"approximate": "tanh"})(): None,
}


@pytest.mark.parametrize(("given", "meant"), SPELLINGS.items(), ids=lambda v: repr(v).partition(" object")[0])
def test_an_activation_by_another_name(given: Any, meant: Any) -> None:
    """What is advised runs, and is what others mean by that name; for another function nothing is."""
    for activation in (given, [*given]) if isinstance(given, tuple) else (given,):
        with pytest.raises(ValueError, match="is unknown: expected None, one of") as error:
            conv1x1(X, W, activation=activation)
        call = re.search("activation=(.*)", str(error.value))
        assert (call is None) == (meant is None)
        if call:
            advised = eval(call[1])
            assert advised == (None if meant == "none at all" else meant)
            conv1x1(X, W, activation=advised)


@pytest.mark.parametrize(
    ("given", "advised"), [("ReLU", '"relu"'), ("clamp", '("clip", lo, hi)'), ("Swish", ""), ("GELU", ""), ("mish", "")]
)
def test_an_activation_between_integers_by_another_name(given: Any, advised: str) -> None:
    with pytest.raises(ValueError, match=r'not possible .*"relu6" or \("clip", lo, hi\)') as error:
        qlinear_conv1x1(X.astype("u1"), 1, 0, W.astype("i1"), 1, 0, 1, np.uint8(0), activation=given)
    assert str(error.value).partition(")")[2] == (f"; write activation={advised}" if advised else "")


def test_no_filters_in_too_many_groups() -> None:
    with pytest.raises(ValueError, match=r"groups=1180591620717411303424 does not divide the 0 filters"):
        conv1x1(np.ones((5, 0), np.float32), np.ones((0, 0), np.float32), groups=2**70)


WIDE = np.zeros((2, 65794), np.uint8)
DEEP = {"x": np.zeros((2, 4096), np.int32), "w": np.full((1, 4096), 2048)}
BYTES = [
    Wrong(
        "uint8 · int8",
        ValueError,
        "65794 channels of uint8 with int8 weights",
        "cannot be summed in an int32",
        "at most 65793 channels can",
        "dtype=np.int64",
        "dtype=np.int32",
        x=WIDE,
        w=np.zeros((1, 65794), np.int8),
    ),
    Wrong("a list", ValueError, "with int8 weights", "at most 65793", x=WIDE, w=[0] * 65794),
    Wrong("int8 · uint8", ValueError, "at most 65793", x=WIDE.view(np.int8), w=np.zeros((1, 65794), np.uint8)),
    Wrong(
        "bool and bias",
        ValueError,
        "at most 1 channels can",
        x=X[..., :2] > 0,
        w=np.zeros((1, 2), np.int8),
        bias=[2**31 - 200],
    ),
    Wrong(
        "bias",
        ValueError,
        "up to 2,147,483,640 of bias and residual",
        "no channels can",
        x=WIDE[:, :1],
        w=np.zeros((1, 1), np.int8),
        bias=[2**31 - 8],
    ),
    Wrong(
        "residual",
        ValueError,
        "up to 2,147,483,648 of bias and residual",
        "no channels can",
        x=WIDE[:, :1],
        w=np.zeros((1, 1), np.int8),
        residual=np.zeros((2, 1), np.int32),
    ),
]
BEYOND = [
    Wrong(
        "int32 · int32",
        ValueError,
        "4096 channels of int32 with int16 weights cannot be summed exactly",
        "at most 2048 channels can",
        "dtype=np.float64",
        **DEEP,
    ),
    Wrong("to int64", ValueError, "at most 2048", "dtype=np.float64", **DEEP, dtype=np.int64),
    Wrong("to int8 by a curve", ValueError, "at most 2048", **DEEP, activation="tanh", dtype=np.int8),
]


def layer_function(**arguments: Any) -> Any:
    layer, call = layer_of(arguments)
    return layer(**call)


@pytest.mark.parametrize("function", [conv1x1, reference, layer_function])
@pytest.mark.parametrize("wrong", **named(BYTES, BEYOND))
def test_sums_of_integers_that_may_overflow(function: Any, wrong: Wrong) -> None:
    """Refused by default, with the most channels that fit; and taken with one channel less, or the dtype named."""
    wrong.raised_by(function, **wrong.arguments)
    for dtype in (np.int64, np.int32) if wrong in BYTES else (np.float64,):
        assert function(**wrong.arguments | {"dtype": dtype}).dtype == dtype
    if "no channels can" not in wrong.says and wrong in BYTES:
        fewer = wrong.arguments | {"x": wrong.arguments["x"][..., :-1], "w": np.asarray(wrong.arguments["w"])[..., :-1]}
        assert function(**fewer).dtype == (np.int64 if function is reference else np.int32)


@pytest.mark.parametrize("activation", ["tanh", "leaky_relu"])
def test_a_result_in_float_does_not_overflow(activation: str) -> None:
    """Whatever else leads the call through the checks in Python."""
    w = np.zeros((1, 65794), np.int8)
    for residual in (None, [[0], [0]]):
        assert conv1x1(WIDE, w, activation=activation, residual=residual).dtype == np.float32


def test_bfloat16_without_its_package(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "ml_dtypes", None)
    for function in (conv1x1, reference, layer_function):
        with pytest.raises(
            ImportError, match=r"a type of the package ml_dtypes.*pip install ml_dtypes, or .\.\[bfloat16\]"
        ):
            function(x=X, w=W, dtype="bfloat16")
