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

from ...checks.arrays import Array
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
        if layer.plain:
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
    """`conv2d`, with the channels_last memory format where the channels are last, and one product where that does."""

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
            if layer.plain:
                flat = image.reshape(layer.in_channels, -1)
                y = torch.empty((layer.out_channels, layer.pixels), dtype=flat.dtype)
                yield Candidate("matmul", lambda: torch.matmul(weight, flat, out=y))
            return
        nchw, kernel_last = image.permute(0, 3, 1, 2), kernel.to(memory_format=torch.channels_last)
        yield Candidate(
            "conv2d channels_last",
            lambda: conv2d(nchw, kernel_last, **options),
            lambda y: np.asarray(y.permute(0, 2, 3, 1)),
        )
        if layer.plain:
            yield Candidate("linear", lambda: torch.nn.functional.linear(image, weight))


class OnnxRuntime:
    """A session of one `Conv`, or of one `MatMul` where the channels are last, input and output bound."""

    def __init__(self, threads: int) -> None:
        self._ort, self._onnx = _module("onnxruntime", "onnxruntime"), _module("onnxruntime", "onnx")
        self.version = str(self._ort.__version__)
        self._options = self._ort.SessionOptions()
        self._options.intra_op_num_threads = threads
        self._options.log_severity_level = 3  # errors

    def candidates(self, layer: Layer, layout: str, x: Array, w: Array) -> Iterator[Candidate]:
        """See `Peer`."""
        for made in _onnx_models(self._onnx, layer, layout, x, w):
            yield self._candidate(*made)

    def _candidate(self, form: str, model: bytes, x: Array, shape: tuple[int, ...]) -> Candidate:
        session = self._ort.InferenceSession(model, self._options, providers=["CPUExecutionProvider"])
        binding, y = session.io_binding(), self._ort.OrtValue.ortvalue_from_shape_and_type(shape, np.float32)
        binding.bind_cpu_input("x", x)
        binding.bind_ortvalue_output("y", y)
        return Candidate(form, lambda: session.run_with_iobinding(binding), lambda _: y.numpy())


class OpenVINO:
    """A compiled model of one `Conv`, or of one `MatMul`; its infer request reads x where it is."""

    def __init__(self, threads: int) -> None:
        self._ov, self._onnx = _module("openvino", "openvino"), _module("openvino", "onnx")
        self.version = str(self._ov.__version__).split("-")[0]
        self._core = self._ov.Core()
        self._options = {
            "INFERENCE_NUM_THREADS": threads,
            "INFERENCE_PRECISION_HINT": "f32",
            "ENABLE_CPU_PINNING": False,  # on a CPU where another thread runs it would wait for that one
        }

    def candidates(self, layer: Layer, layout: str, x: Array, w: Array) -> Iterator[Candidate]:
        """See `Peer`."""
        for made in _onnx_models(self._onnx, layer, layout, x, w):
            yield self._candidate(*made)

    def _candidate(self, form: str, model: bytes, x: Array, shape: tuple[int, ...]) -> Candidate:
        request = self._core.compile_model(
            self._core.read_model(model, b""), "CPU", self._options
        ).create_infer_request()
        request.set_input_tensor(self._ov.Tensor(x, shared_memory=True))
        return Candidate(
            form, lambda: request.infer(share_outputs=True), lambda _: np.asarray(request.get_output_tensor().data)
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
        if few and layout == "last" and layer.plain and layer.dtype in ("float32", "float64"):
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
        raise MissingPeer(f'{peer} cannot be raced ({error}): pip install ".[peers]" in a clone') from error


def _onnx_models(
    onnx: Any, layer: Layer, layout: str, x: Array, w: Array
) -> Iterator[tuple[str, bytes, Array, tuple[int, ...]]]:
    """Form, model, its x and the shape of its y; of float32, the one type that Conv has on a CPU."""
    if layer.dtype != "float32":
        return
    helper = importlib.import_module("onnx.helper")
    sides = tuple(-(-n // layer.stride) for n in (layer.height, layer.width))

    def model(form: str, weight: Array, source: Array, shape: tuple[int, ...], **options: Any) -> Any:
        weights = helper.make_tensor("w", 1, weight.shape, weight.tobytes(), raw=True)
        ends = [helper.make_tensor_value_info(name, 1, its) for name, its in (("x", source.shape), ("y", shape))]
        node = helper.make_node(form, ["x", "w"], ["y"], **options)
        graph = helper.make_graph([node], "layer", ends[:1], ends[1:], [weights])
        made = helper.make_model(graph, opset_imports=[helper.make_opsetid("", 13)], ir_version=8)
        return form, bytes(made.SerializeToString()), source, shape

    if layout == "first" or layer.one_pixel:  # Conv is NCHW
        image = x.reshape(1, layer.in_channels, layer.height, layer.width)
        options = {"kernel_shape": [1, 1], "strides": [layer.stride] * 2, "group": layer.groups}
        yield model("Conv", w[:, :, None, None], image, (1, layer.out_channels, *sides), **options)
    if layout == "last" and layer.plain:
        pixels = x.reshape(-1, layer.in_channels)
        yield model("MatMul", np.ascontiguousarray(w.T), pixels, (layer.pixels, layer.out_channels))
