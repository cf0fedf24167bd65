"""The functions that convolve: of numbers as they are, and of quantised ones."""

from __future__ import annotations

from typing import Any

from . import _conv1x1
from .arithmetic import default_arithmetic
from .checks import Activation, floats, quantized
from .checks.arrays import Array, ArrayLike, DTypeLike, data_array
from .elsewhere import module_for
from .layers import layer_of

_data_array = default_arithmetic(data_array)


def conv1x1(
    x: ArrayLike,
    w: ArrayLike,
    bias: ArrayLike | None = None,
    *,
    channel_axis: int | str = -1,
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
        result: all of a pixel is masked where any of its channels is. A dask array gives one, lazily, and an
        xarray.DataArray one with its coordinates: see `conv1x1.dask.called` and `conv1x1.xarray.apply`.
    w : array_like
        The filters: ``(K, C/groups)``; or as frameworks store them, ``(K, C/groups, 1, 1)`` (torch, ONNX; also with
        one or three 1s) and ``(1, 1, C/groups, K)`` (TensorFlow, Keras; likewise); or one filter, ``(1, 1, C)`` or
        ``(C, 1, 1)``, which gives K = 1; or ``(C,)``, which gives one number a pixel and drops the channel axis, as
        `numpy.matmul` does with a vector. Of any type that x may have; cast to the type of the sums.
    bias : array_like, optional
        ``(K,)``, added to the sums. Of any such type.
    channel_axis : int, default -1
        The axis of x that holds the channels: -1 for HWC and NHWC, 0 for CHW, 1 for NCHW, any other for the likes of
        BIL. The layout is never guessed. For a DataArray also the name of a dimension.
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
        elsewhere = module_for(x)
        a: Any = x if elsewhere else _data_array(x, "x")
        axis = elsewhere.axis_number(x, channel_axis) if elsewhere else channel_axis
        spec = floats.spec(w, bias, axis, stride, groups, activation, dtype, x=a)
        layer = layer_of(spec) if elsewhere else _conv1x1.Layer(spec)
        y = layer(a, residual=residual, out=out, threads=threads)
    return y  # type: ignore[no-any-return]


def qlinear_conv1x1(
    x: ArrayLike,
    x_scale: ArrayLike,
    x_zero_point: ArrayLike,
    w: ArrayLike,
    w_scale: ArrayLike,
    w_zero_point: ArrayLike,
    y_scale: ArrayLike,
    y_zero_point: ArrayLike,
    B: ArrayLike | None = None,  # noqa: N803  (ONNX's name)
    *,
    channel_axis: int = -1,
    stride: int | tuple[int, ...] = 1,
    groups: int = 1,
    activation: Activation = None,
    out: Array | None = None,
    threads: int | None = None,
) -> Array:
    """Pointwise convolution of quantised arrays: ONNX's QLinearConv with a 1×1 kernel, its arguments in ONNX's order.

    A quantised array holds whole numbers q of 8 bits that stand for the real numbers ``scale · (q − zero_point)``.
    Where x, w and y stand for real numbers so, y is the convolution of x and w, rounded to what y can hold.

    Parameters
    ----------
    x : array_like, int8 or uint8
        Pixels of any rank ≥ 1, with their channels on `channel_axis`.
    x_scale : float
        The real number between neighbours in x; like all scales > 0, and taken as float32.
    x_zero_point : int
        Which number in x stands for 0. A NumPy scalar or array must be of x's type.
    w : array_like, int8 or uint8
        The filters, in any form that `conv1x1` takes.
    w_scale, w_zero_point : float and int, or (K,) of them
        As for x; for all filters, or for each. Zero points that are NumPy arrays must be of w's type.
    y_scale : float
        As for x.
    y_zero_point : numpy.int8 or numpy.uint8
        As for x. Its type is the result's type.
    B : array_like of int, optional
        The bias, ``(K,)`` of int32, in units of ``x_scale · w_scale``.
    channel_axis, stride, groups
        As for `conv1x1`.
    activation : str or tuple, optional
        ``"relu"``, ``"relu6"`` or ``("clip", lo, hi)``, in real numbers: what narrows the range of the result.
    out : ndarray, optional
        Where to write the result: a writable array of its shape and type, with any strides.
    threads : int, optional
        At most this many threads, `get_num_threads` by default. No result depends on it.

    Returns
    -------
    ndarray
        x's axes, strided, with K entries on `channel_axis`; of the type of `y_zero_point`. In memory its axes lie in
        x's order, without gaps; or it is `out`.

    Raises
    ------
    TypeError, ValueError
        When an argument does not fit, saying what was expected and how to call; `out` is untouched then. Among them
        is a number of channels with which a sum might leave int32: 33,025 for uint8 times uint8 without zero points.
    MemoryError, KeyboardInterrupt
        As in `conv1x1`.

    See Also
    --------
    QConv1x1 : the same with the weights packed once, for many calls; and made from a layer of floats.
    conv1x1_integer : the sums alone, in int32.
    reference_qlinear : the same in plain NumPy, to read.

    Notes
    -----
    The result is defined to the bit, and is the one of ONNX Runtime on a CPU with VNNI:

    1. the sum of ``(w − w_zero_point) · (x − x_zero_point)``, plus B, exactly, in int32 (only with a B of about 2³¹
       can it wrap, as ONNX Runtime's does);
    2. as float32, times ``x_scale · w_scale / y_scale``, which is worked out in float32 from left to right;
    3. clamped to the type's limits less ``y_zero_point``, and to the activation's limits divided by ``y_scale`` in
       float32;
    4. rounded, half to even, and ``y_zero_point`` added.

    Zero points cost nothing: they are taken from the weights and folded into the bias before the first pixel.

    What a network passes: pixels are uint8. After a ReLU6 they stand for 0 … 6, so the scale is 6/255 and the zero
    point 0; after a layer without activation, as at the end of a MobileNet's block, they stand for about −a … a, and
    the zero point is near 128. Weights are int8 with a scale for each filter and the zero point 0. `y_scale` and
    `y_zero_point` of one layer are `x_scale` and `x_zero_point` of the next. Layers that were made for speed on other
    CPUs hold weights of 7 bits, for sums of int16 not to saturate; here nothing saturates, and 8 bits are right.

    Examples
    --------
    x stands for 0.5·1 and 0.5·(−1), the filter for 0.25·2 and 0.25·3, so y for 0.25 − 0.375 = −0.125:

    >>> import numpy as np
    >>> from conv1x1 import qlinear_conv1x1
    >>> x = np.array([[129, 127]], np.uint8)
    >>> w = np.array([[2, 3]], np.int8)
    >>> y = qlinear_conv1x1(x, 0.5, 128, w, 0.25, 0, y_scale=0.125, y_zero_point=np.uint8(100))
    >>> y
    array([[99]], dtype=uint8)
    >>> 0.125 * (int(y[0, 0]) - 100)
    -0.125
    """
    a = quantized.pixels(x)
    made = quantized.integer(w, x_zero_point, w_zero_point, channel_axis, stride, groups, a)
    more = quantized.requantize(made, x_scale, w_scale, y_scale, y_zero_point, B, activation)
    quantized.check_out(out, more)
    return _conv1x1.Layer(quantized.spec(made, more))(a, out=out, threads=threads)


def conv1x1_integer(
    x: ArrayLike,
    w: ArrayLike,
    x_zero_point: ArrayLike = 0,
    w_zero_point: ArrayLike = 0,
    *,
    channel_axis: int = -1,
    stride: int | tuple[int, ...] = 1,
    groups: int = 1,
    out: Array | None = None,
    threads: int | None = None,
) -> Array:
    """Pointwise convolution of whole numbers of 8 bits: ONNX's ConvInteger with a 1×1 kernel.

    The sums of ``(w − w_zero_point) · (x − x_zero_point)`` over the channels, exactly, in int32.

    Parameters
    ----------
    x : array_like, int8 or uint8
        Pixels of any rank ≥ 1, with their channels on `channel_axis`.
    w : array_like, int8 or uint8
        The filters, in any form that `conv1x1` takes.
    x_zero_point : int, default 0
        Taken from all of x. A NumPy scalar or array must be of x's type.
    w_zero_point : int or (K,) of int, default 0
        Taken from all filters, or from each. A NumPy scalar or array must be of w's type.
    channel_axis, stride, groups
        As for `conv1x1`.
    out : ndarray, optional
        Where to write the result: a writable int32 array of its shape, with any strides.
    threads : int, optional
        At most this many threads, `get_num_threads` by default. No result depends on it.

    Returns
    -------
    ndarray
        x's axes, strided, with K entries on `channel_axis`; int32. In memory its axes lie in x's order, without gaps;
        or it is `out`.

    Raises
    ------
    TypeError, ValueError, MemoryError, KeyboardInterrupt
        As in `qlinear_conv1x1`.

    See Also
    --------
    qlinear_conv1x1 : with scales, and a result of 8 bits.
    reference_integer : the same in plain NumPy, to read.

    Examples
    --------
    The pixel is 1, −1 and the filter 2, 3, so the sum is 2 − 3:

    >>> import numpy as np
    >>> from conv1x1 import conv1x1_integer
    >>> conv1x1_integer(np.uint8([[129, 127]]), np.int8([[2, 3]]), x_zero_point=128)
    array([[-1]], dtype=int32)
    """
    a = quantized.pixels(x)
    made = quantized.integer(w, x_zero_point, w_zero_point, channel_axis, stride, groups, a)
    quantized.check_out(out, None)
    return _conv1x1.Layer(quantized.spec(made))(a, out=out, threads=threads)
