"""The function and the layer."""

from __future__ import annotations

from typing import Any

import numpy as np

from . import _check, _conv1x1
from ._arithmetic import default_arithmetic
from ._arrays import Array, ArrayLike, DTypeLike
from ._check import Activation
from ._layer import Flat, Layer, told, unpickled

_data_array = default_arithmetic(_check.data_array)
_spec = default_arithmetic(_check.spec)


def conv1x1(
    x: ArrayLike,
    w: ArrayLike,
    bias: ArrayLike | None = None,
    *,
    channel_axis: int = -1,
    stride: int | tuple[int, ...] = 1,
    groups: int = 1,
    activation: Activation = None,
    residual: ArrayLike | None = None,
    dtype: DTypeLike | None = None,
    out: Array | None = None,
    threads: int | None = None,
) -> Array:
    """Pointwise (1×1) convolution: every pixel's C channels become K, by one K×C matrix.

    ``y[p, k] = act(bias[k] + Σ_c w[k, c] · x[p, c] + residual[p, k])`` for every pixel p. x is read as it lies in
    memory, whatever its strides, and never copied as a whole. An int `stride` is for the last two axes besides the
    channels, whatever they are: of (N, L, C) the batch too, where ``stride=(2,)`` is meant.

    Parameters
    ----------
    x : array_like
        Pixels of any rank ≥ 1, with their channels on `channel_axis`: float16, bfloat16 (of the package ml_dtypes),
        float32, float64, complex64, complex128, bool or integers of 8 to 64 bits, with or without a sign; in any
        byte order. What offers DLPack in the CPU's memory, as tensors do, is read there. A masked array gives a masked
        result: all of a pixel is masked where any of its channels is.
    w : array_like
        The filters: ``(K, C/groups)``; or as frameworks store them, ``(K, C/groups, 1, 1)`` (torch, ONNX; also with
        one or three 1s) and ``(1, 1, C/groups, K)`` (TensorFlow, Keras; likewise); or one filter, ``(1, 1, C)`` or
        ``(C, 1, 1)``, which gives K = 1; or ``(C,)``, which gives one number a pixel and drops the channel axis, as
        `numpy.matmul` does with a vector. Of any type that x may have; cast to the type of the sums.
    bias : array_like, optional
        ``(K,)``, added to the sums. Of any such type.
    channel_axis : int, default -1
        The axis of x that holds the channels: -1 for HWC and NHWC, 0 for CHW, 1 for NCHW, any other for the likes of
        BIL. The layout is never guessed.
    stride : int or tuple of int, default 1
        Take every stride-th pixel: for an int along the last two axes besides the channels (or the last, if there is
        only one), for a tuple along the last ``len(stride)``. For pixels in a row, (N, L, C), write ``stride=(2,)``:
        an int would stride the batch too. `Conv1x1.plan` says which axes are strided.
    groups : int, default 1
        Cut the channels and the filters into this many equal parts; each part of the filters sees its part of the
        channels.
    activation : str or tuple, optional
        Applied last: ``"relu"``, ``"relu6"``, ``"leaky_relu"`` (slope 0.01), ``"hardswish"``, ``"hardsigmoid"``,
        ``"sigmoid"``, ``"silu"``, ``"tanh"``, ``"gelu"`` (erf), ``("clip", lo, hi)`` or ``("leaky_relu", slope)``.
        The parameters are rounded to the type of the sums; a slope that is neither 0 nor infinite stays so.
        NaN goes through every one of them. Of real numbers only: refused where any number is complex.
    residual : array_like, optional
        Of the result's shape, added after the bias and before the activation. Of any type that x may have. Of a
        masked array the mask is the result's, too.
    dtype : dtype, optional
        The result's type: any of x's but bool, uint32 and uint64. By default the data decide; see Notes.
    out : ndarray, optional
        Where to write the result: a writable array of its shape, with any strides and byte order; its type decides the
        result's. It may overlap x or the residual: the answer is the one without overlap (through a temporary array).
        Not a masked array; of masked pixels the result is one, of the memory of `out`.
    threads : int, optional
        At most this many threads, `get_num_threads` by default. Small calls use one. No result depends on it.

    Returns
    -------
    ndarray
        x's axes, strided, with K entries on `channel_axis`; or `out`. In memory the axes lie in the order of x's,
        without gaps (NumPy's order "K"): C-contiguous for an x in C order or a slice of one, Fortran-contiguous for one
        in Fortran order. Where x or the residual is masked, a MaskedArray: the numbers are those of the data, whatever
        the mask, and the fill value is x's, where it fits.

    Raises
    ------
    TypeError, ValueError
        When an argument does not fit, or sums of integers might overflow, saying what was expected and how to call;
        `out` is untouched then.
    ImportError
        When `dtype` is ``"bfloat16"`` and ml_dtypes is not installed.
    MemoryError
        When there is no room for the result, or for a tile of it.
    KeyboardInterrupt
        On Ctrl-C in a long call; `out` is incomplete then.

    See Also
    --------
    Conv1x1 : the same with the weights packed once, for many calls.
    reference : the same in plain NumPy, to read.
    explain : the arithmetic of one pixel, written out.

    Notes
    -----
    The type of the result, where neither `dtype` nor `out` says it:

    ==================================  =============================================================================
    x (of complex x, its parts)         result (likewise)
    ==================================  =============================================================================
    float16, bfloat16, float32/64       x's own type: float32 pixels with float64 weights stay float32
    8/16-bit integers, bool, a float    float32: a float, or float64, among weights, bias and residual, or by a curve
    32/64-bit integers, with a float    float64, as NumPy promotes them: likewise; pass ``dtype=np.float32`` for float32
    integers or bool, integers alone    int32; int64 where sums of those types (not: values) might be beyond int32,
                                        or where a clip leaves nothing within it
    ==================================  =============================================================================

    Where x, weights, bias or residual is complex, so is the result: complex128 where the table says float64, else
    complex64. A complex `dtype` or `out` may be asked for with any data; a real one is refused for a complex result.

    A curve is any activation but relu, relu6 and clip. Weights of int32 and wider, which stand for integers of any
    kind, count as the smallest type that holds them. Pixels and weights of 8 bits are never widened by themselves: more
    channels than are sure to fit int32 are refused, and the message says how many fit.

    Sums are in float64 if x or the result is, or the result is int64; in float32 otherwise; x is converted to that type
    first, which rounds integers beyond 2⁵³, and in float32 those beyond 2²⁴. Integers alone are summed exactly for an
    integer result, in int32 or in float64, and refused where a sum might be beyond 2⁵³: by their types; where int64,
    uint32 or uint64 pixels or residuals leave that open, by what they are found to hold. For a float result that is
    asked for, they are summed as floats are, or exactly too if all products are of 8 bits and nothing but a bias is
    added. To integers, results are rounded half to even and saturated, and NaN becomes 0; to float16 and bfloat16 they
    are rounded half to even, and overflow to infinity as in NumPy.

    For float32 each output is summed by fused multiply-adds in a fixed order, in one accumulator with the channels
    ascending, or, with at most 4 filters over at least 32 channels (of one group), in 16 partial sums, channel c in
    number c mod 16, added as a tree. A result therefore depends on its own pixel only: not on threads, batch, layout,
    strides, instruction set or machine. The error is at most γ·(Σ|w||x| + |b|) with γ = n·u/(1 − n·u), n = C + 2,
    u = 2⁻²⁴ [1]_; float64 likewise with u = 2⁻⁵³; results of other types are rounded once more.

    Complex numbers are computed with as the real ones they are made of, and each part of a result is defined as above.
    Complex weights over complex x are a real matrix of 2K filters over 2C channels, real and imaginary parts in turn:
    filter 2k has re, −im for each channel, and filter 2k + 1 has im, re. Over real x they are one of 2K filters over C
    channels, re and im in turn. Real weights are two real convolutions, of x's real parts and of its imaginary ones (of
    no channels, for real x). A real bias or residual is added to real parts alone.

    Besides its result a call takes less than 2 MB of memory for each thread, whatever the arrays. More is needed by an
    `out` that overlaps an input, for a result of its own, and by at most 4 filters over channels that are not
    contiguous, for those of one pixel.

    References
    ----------
    .. [1] N. J. Higham, Accuracy and Stability of Numerical Algorithms, 2nd ed., SIAM 2002, section 3.1.

    Examples
    --------
    28×28 pixels of 192 channels shrink to one channel each, because the 192 products of a pixel are summed:

    >>> import numpy as np
    >>> from conv1x1 import conv1x1
    >>> x = np.ones((28, 28, 192), np.float32)
    >>> w = np.full((1, 1, 192), 0.5, np.float32)
    >>> (x * w).shape
    (28, 28, 192)
    >>> y = conv1x1(x, w)
    >>> y.shape, float(y[0, 0, 0])
    ((28, 28, 1), 96.0)

    Channels first, and a vector of weights: 2·1 + 3·5 = 17.

    >>> m = np.array([[[1, 2], [3, 4]], [[5, 6], [7, 8]]], np.float32)
    >>> conv1x1(m, [2, 3], channel_axis=0)
    array([[17., 22.],
           [27., 32.]], dtype=float32)

    Bytes: integers alone give exact int32, a float among them float32, and `dtype` bytes again, rounded and saturated.

    >>> rgb = np.array([[200, 100, 50], [255, 255, 255]], np.uint8)
    >>> conv1x1(rgb, [77, 150, 29])
    array([31850, 65280], dtype=int32)
    >>> conv1x1(rgb, [0.5, 0.25, 0.5])
    array([150.  , 318.75], dtype=float32)
    >>> conv1x1(rgb, [0.5, 0.25, 0.5], dtype=np.uint8)
    array([150, 255], dtype=uint8)

    Complex numbers, in any of the arguments: (1 + 2j)·1 + 3·1j = 1 + 5j.

    >>> conv1x1(np.array([[1 + 2j, 3], [1j, 0]], np.complex64), [1, 1j])
    array([1.+5.j, 0.+1.j], dtype=complex64)
    """
    y = _conv1x1.conv1x1(x, w, bias, channel_axis, stride, groups, activation, residual, dtype, out, threads)
    if y is NotImplemented:
        x = _data_array(x, "x")
        spec = _spec(w, bias, channel_axis, stride, groups, activation, dtype, x)
        y = _conv1x1.Layer(spec)(x, residual=residual, out=out, threads=threads)
    return y  # type: ignore[no-any-return]


def _rebuilt(number: int, cls: type[Conv1x1], arrays: dict[str, Flat | None], options: dict[str, Any]) -> Conv1x1:
    # By this name, since a subclass may have a __new__ of its own that takes other arguments.
    return Conv1x1.__new__(cls, **unpickled(number, cls, Conv1x1, arrays), **options)


class Conv1x1(Layer):
    """A pointwise convolution, its weights packed once: ``layer(x, *, residual=None, out=None, threads=None)``.

    A layer is immutable, may be called from several threads at once, and pickles (as its weights, not as packed).
    A call takes x, and by name `residual`, `out` and `threads`, and raises and returns what `conv1x1` does. An int
    `stride` is for the last two axes besides the channels: in (N, L, C) the batch too, where ``stride=(2,)`` is meant.

    Parameters
    ----------
    w, bias, channel_axis, stride, groups, activation, dtype
        As for `conv1x1`; w and bias are copied (float16 and bfloat16 as float32, wide integers as int32
        where they fit). Weights of shape ``(1, 1, N)`` and ``(N, 1, 1)`` are refused unless N
        is 1: without an x they might be one filter over N channels or N filters over one.

    Raises
    ------
    TypeError, ValueError, ImportError
        When an argument does not fit, saying what was expected and how to call.

    Examples
    --------
    >>> import numpy as np
    >>> from conv1x1 import Conv1x1
    >>> layer = Conv1x1(np.ones((16, 192), np.float32), activation="relu")
    >>> layer(np.ones((28, 28, 192), np.float32)).shape
    (28, 28, 16)

    One layer takes pixels of any type, and each decides its result's:

    >>> layer(np.ones((28, 28, 192), np.float16)).dtype
    dtype('float16')
    """

    __slots__ = ()

    _check_call = staticmethod(_check.call)
    _rebuilt = staticmethod(_rebuilt)

    def __new__(
        cls,
        w: ArrayLike,
        bias: ArrayLike | None = None,
        *,
        channel_axis: int = -1,
        stride: int | tuple[int, ...] = 1,
        groups: int = 1,
        activation: Activation = None,
        dtype: DTypeLike | None = None,
    ) -> Conv1x1:
        spec = _spec(w, bias, channel_axis, stride, groups, activation, dtype)
        return super().__new__(cls, _check.kept(spec))  # type: ignore[return-value]

    @property
    def weight(self) -> Array:
        """The filters, (out_channels, in_channels/groups), read-only; (in_channels,) where they were given so."""
        spec = self._spec
        return spec.weight if spec.keep_axis else spec.weight[0]

    @property
    def bias(self) -> Array | None:
        """The bias, (out_channels,), read-only, or None."""
        return self._spec.bias

    @property
    def dtype(self) -> np.dtype[Any] | None:
        """The type of the result, or None where the data decide."""
        return self._spec.dtype

    def _options(self) -> dict[str, Any]:
        dtype = self._spec.dtype
        return super()._options() | {"dtype": None if dtype is None else dtype.name}

    def _arrays(self) -> dict[str, Any]:
        return {"w": told(Conv1x1, self, "weight")["weight"], **told(Conv1x1, self, "bias")}

    def __repr__(self) -> str:
        return f"<Conv1x1 {self.in_channels} → {self.out_channels}{self._described()}>"


_conv1x1.document_call(Conv1x1, "x, *, residual=None, out=None, threads=None", "The result, as `conv1x1` gives it.")
