"""What a user would call instead: each library in the form that suits it best, imported only when it is asked for.

A peer is made for a number of threads; it has a `version`, and `candidates`: what it can do for one layer, none, one or
several forms. A candidate's `call` is timed; `result` turns what `call` returns into the array it stands for.
"""

from __future__ import annotations

import importlib
import warnings
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Any, NamedTuple, Protocol

import numpy as np

from .._check import Array
from .timing import Layer

_MOST_CV2_CHANNELS = 128  # no image of OpenCV has more


class MissingPeer(ImportError):
    """A peer is not installed; the message names the extra that brings it."""


class Candidate(NamedTuple):
    """One way to compute a layer."""

    form: str
    call: Callable[[], Any]
    result: Callable[[Any], Array] = np.asarray


class Peer(Protocol):
    """See the module."""

    version: str

    def candidates(self, layer: Layer, layout: str, x: Array, w: Array) -> Iterator[Candidate]:
        """The forms to race, for x and w as `arrays` makes them."""


class NumPy:
    """`matmul` into memory that is there already."""

    version = np.__version__

    def __init__(self, threads: int) -> None:
        pass  # `blas_threads` is for the whole process

    def candidates(self, layer: Layer, layout: str, x: Array, w: Array) -> Iterator[Candidate]:
        """See `Peer`."""
        s, g, c = layer.stride, layer.groups, layer.in_channels
        filters = w.reshape(g, -1, c // g)
        if s == g == 1:
            a, b = (w, x.reshape(c, -1)) if layout == "first" else (x.reshape(-1, c), np.ascontiguousarray(w.T))
            y = np.empty((len(a), b.shape[1]), layer.result)
            yield Candidate("matmul", lambda: np.matmul(a, b, out=y))
        elif layout == "first":
            y = np.empty((g, layer.out_channels // g, layer.pixels), layer.result)
            yield Candidate("matmul", lambda: np.matmul(filters, x[:, ::s, ::s].reshape(g, c // g, -1), out=y))
        else:
            y = np.empty((layer.pixels, g, layer.out_channels // g), layer.result)
            columns, out = np.ascontiguousarray(filters.swapaxes(1, 2)), y.swapaxes(0, 1)
            yield Candidate(
                "matmul",
                lambda: np.matmul(x[::s, ::s].reshape(-1, g, c // g).swapaxes(0, 1), columns, out=out),
                lambda _: y,
            )


class Torch:
    """`conv2d`, with the channels_last memory format where the channels are last; `linear` there too."""

    def __init__(self, threads: int) -> None:
        self._torch = _module("torch", "torch")
        self.version = str(self._torch.__version__)
        self._torch.set_num_threads(threads)

    def candidates(self, layer: Layer, layout: str, x: Array, w: Array) -> Iterator[Candidate]:
        """See `Peer`."""
        if layer.dtype not in ("float32", "float64"):
            return
        torch = self._torch
        options = {"stride": layer.stride, "groups": layer.groups}
        image, weight = torch.from_numpy(x)[None], torch.from_numpy(w)
        conv2d, kernel = torch.nn.functional.conv2d, weight[:, :, None, None]
        if layout == "first":
            yield Candidate("conv2d", lambda: conv2d(image, kernel, **options))
            return
        nchw, kernel_last = image.permute(0, 3, 1, 2), kernel.to(memory_format=torch.channels_last)
        yield Candidate(
            "conv2d channels_last",
            lambda: conv2d(nchw, kernel_last, **options),
            lambda y: np.asarray(y.permute(0, 2, 3, 1)),
        )
        if layer.stride == layer.groups == 1:
            yield Candidate("linear", lambda: torch.nn.functional.linear(image, weight))


class OnnxRuntime:
    """A session of one `Conv`, input and output bound."""

    def __init__(self, threads: int) -> None:
        self._ort, self._onnx = _module("onnxruntime", "onnxruntime"), _module("onnxruntime", "onnx")
        self.version = str(self._ort.__version__)
        self._options = self._ort.SessionOptions()
        self._options.intra_op_num_threads = threads
        self._options.log_severity_level = 3  # errors

    def candidates(self, layer: Layer, layout: str, x: Array, w: Array) -> Iterator[Candidate]:
        """See `Peer`."""
        if layout == "last" or layer.dtype != "float32":
            return  # Conv is NCHW in ONNX, and of float32 on a CPU
        model = _onnx_model(self._onnx, layer, w)
        session = self._ort.InferenceSession(model, self._options, providers=["CPUExecutionProvider"])
        binding = session.io_binding()
        binding.bind_cpu_input("x", x[None])
        y = self._ort.OrtValue.ortvalue_from_shape_and_type(_result_shape(layer), np.float32)
        binding.bind_ortvalue_output("y", y)
        yield Candidate("Conv", lambda: session.run_with_iobinding(binding), lambda _: y.numpy())


class OpenVINO:
    """A compiled model of one `Conv`; its infer request reads x where it is."""

    def __init__(self, threads: int) -> None:
        self._ov, self._onnx = _module("openvino", "openvino"), _module("openvino", "onnx")
        self.version = str(self._ov.__version__).split("-")[0]
        self._core = self._ov.Core()
        self._options = {"INFERENCE_NUM_THREADS": threads, "INFERENCE_PRECISION_HINT": "f32"}

    def candidates(self, layer: Layer, layout: str, x: Array, w: Array) -> Iterator[Candidate]:
        """See `Peer`."""
        if layout == "last" or layer.dtype != "float32":
            return
        model = self._core.read_model(_onnx_model(self._onnx, layer, w), b"")
        request = self._core.compile_model(model, "CPU", self._options).create_infer_request()
        request.set_input_tensor(self._ov.Tensor(x[None], shared_memory=True))
        yield Candidate(
            "Conv", lambda: request.infer(share_outputs=True), lambda _: np.asarray(request.get_output_tensor().data)
        )


class OpenCV:
    """`transform`, which multiplies each pixel of an image by a matrix."""

    def __init__(self, threads: int) -> None:
        self._cv2 = _module("cv2", "cv2")
        self.version = str(self._cv2.__version__)
        self._cv2.setNumThreads(threads)

    def candidates(self, layer: Layer, layout: str, x: Array, w: Array) -> Iterator[Candidate]:
        """See `Peer`."""
        few = max(layer.in_channels, layer.out_channels) <= _MOST_CV2_CHANNELS
        if few and layout == "last" and layer.stride == layer.groups == 1 and layer.dtype in ("float32", "float64"):
            y = np.empty((layer.height, layer.width, layer.out_channels), layer.dtype)
            yield Candidate("transform", lambda: self._cv2.transform(x, w, y))


PEERS: dict[str, Callable[[int], Peer]] = {
    "numpy": NumPy,
    "torch": Torch,
    "onnxruntime": OnnxRuntime,
    "openvino": OpenVINO,
    "cv2": OpenCV,
}


@contextmanager
def blas_threads(threads: int) -> Iterator[int | None]:
    """Hold the library behind NumPy's products to a number of threads, inside a `with` block.

    Parameters
    ----------
    threads : int

    Yields
    ------
    int or None
        How many it will use; None where nobody knows: without threadpoolctl, or with a library that it does not know.
    """
    try:
        threadpoolctl = importlib.import_module("threadpoolctl")
    except ImportError:
        yield None
        return
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # what it says of libraries that are not NumPy's
        controller = threadpoolctl.ThreadpoolController().select(user_api="blas")
    with controller.limit(limits=threads):
        yield max((library["num_threads"] for library in controller.info()), default=None)


def _module(peer: str, name: str) -> Any:
    """A module of a peer: not known when types are checked, and never imported before it is asked for."""
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")  # what they say about each other is not ours to pass on
            return importlib.import_module(name)
    except ImportError as error:
        raise MissingPeer(f'{peer} cannot be raced ({error}): pip install "conv1x1[peers]"') from error


def _result_shape(layer: Layer) -> list[int]:
    return [1, layer.out_channels, *(-(-n // layer.stride) for n in (layer.height, layer.width))]


def _onnx_model(onnx: Any, layer: Layer, w: Array) -> bytes:
    helper = importlib.import_module("onnx.helper")
    weight = helper.make_tensor("w", 1, [*w.shape, 1, 1], w.tobytes(), raw=True)
    x = helper.make_tensor_value_info("x", 1, [1, layer.in_channels, layer.height, layer.width])
    y = helper.make_tensor_value_info("y", 1, _result_shape(layer))
    options = {"kernel_shape": [1, 1], "strides": [layer.stride] * 2, "group": layer.groups}
    graph = helper.make_graph([helper.make_node("Conv", ["x", "w"], ["y"], **options)], "layer", [x], [y], [weight])
    model = helper.make_model(graph, opset_imports=[helper.make_opsetid("", 13)], ir_version=8)
    return bytes(model.SerializeToString())
