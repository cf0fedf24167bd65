"""The definition of a quantised pointwise convolution, to read and to test against.

A quantised array holds whole numbers q of 8 bits. With them go a scale and a zero point, and each q stands for the real
number scale · (q − zero_point). So for a pixel x, a filter w and their result y

    y_scale · (y − y_zero_point) = Σ_c w_scale · (w − w_zero_point) · x_scale · (x − x_zero_point)

and the scales can be taken out of the sum:

    y = (x_scale · w_scale / y_scale) · Σ_c (w − w_zero_point) · (x − x_zero_point) + y_zero_point

The sum is of whole numbers, and exact: `reference_integer` is that. The rest happens once for each number of the
result, and is all that is ever rounded: `reference_qlinear`.
"""

from __future__ import annotations

import numpy as np

from ..arithmetic import default_arithmetic
from ..checks import Activation, floats, geometry, quantized
from ..checks.arrays import Array, ArrayLike, Finish


@default_arithmetic
def reference_integer(
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
    """The sums of a quantised pointwise convolution, in plain NumPy and int64: slow, and short enough to be read.

    It takes the arguments of `conv1x1_integer`, makes the same checks, and walks over the output one pixel at a time.

    Parameters
    ----------
    x, w, x_zero_point, w_zero_point, channel_axis, stride, groups, out, threads
        As in `conv1x1_integer`. `threads` is checked and has no effect.

    Returns
    -------
    ndarray
        The result, in int32; it lies in memory as that of `conv1x1_integer`.

    Raises
    ------
    TypeError, ValueError
        As `conv1x1_integer` does.

    Examples
    --------
    Two channels of 2×2 pixels, and the filter [2, 3]; the first pixel is 2·(1 − 1) + 3·(5 − 1):

    >>> import numpy as np
    >>> from conv1x1 import reference_integer
    >>> x = np.array([[[1, 2], [3, 4]], [[5, 6], [7, 8]]], np.uint8)
    >>> reference_integer(x, np.array([2, 3], np.int8), x_zero_point=1, channel_axis=0)
    array([[12, 17],
           [22, 27]], dtype=int32)
    """
    x = quantized.pixels(x)
    made = quantized.integer(w, x_zero_point, w_zero_point, channel_axis, stride, groups, x)
    quantized.check_out(out, None)
    x, *_, finish = floats.call(quantized.spec(made), x, None, out, threads)
    return _finished(x, _sums(x, made).astype(np.int32), made, out, finish)


@default_arithmetic
def reference_qlinear(
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
    """Quantised pointwise convolution in plain NumPy: slow, short enough to be read, and the same to the bit.

    It takes the arguments of `qlinear_conv1x1`, makes the same checks, and walks over the output one pixel at a time.

    Parameters
    ----------
    x, x_scale, x_zero_point, w, w_scale, w_zero_point, y_scale, y_zero_point, B
        As in `qlinear_conv1x1`.
    channel_axis, stride, groups, activation, out, threads
        As in `qlinear_conv1x1`. `threads` is checked and has no effect.

    Returns
    -------
    ndarray
        The result, in the type of `y_zero_point`; it lies in memory as that of `qlinear_conv1x1`.

    Raises
    ------
    TypeError, ValueError
        As `qlinear_conv1x1` does.

    Examples
    --------
    The sum is 2·(129 − 128) + 3·(127 − 128) = −1 and stands for −0.125, which is −1 in units of y_scale:

    >>> import numpy as np
    >>> from conv1x1 import reference_qlinear
    >>> x = np.array([[129, 127]], np.uint8)
    >>> w = np.array([[2, 3]], np.int8)
    >>> reference_qlinear(x, 0.5, 128, w, 0.25, 0, y_scale=0.125, y_zero_point=np.uint8(100))
    array([[99]], dtype=uint8)
    """
    x = quantized.pixels(x)
    made = quantized.integer(w, x_zero_point, w_zero_point, channel_axis, stride, groups, x)
    more = quantized.requantize(made, x_scale, w_scale, y_scale, y_zero_point, B, activation)
    x, *_, finish = quantized.call(quantized.spec(made, more), x, None, out, threads)

    sums = np.moveaxis(_sums(x, made), made.channel_axis, -1)  # the filters last
    if more.bias is not None:
        sums = sums + more.bias
    sums = sums.astype(np.int32)  # a bias of about 2³¹ can make them wrap: so they do in ONNX Runtime
    with np.errstate(over="ignore"):
        scaled = sums.astype(np.float32) * (more.x_scale * more.w_scale / more.y_scale)  # float32 at every step
    scaled = np.clip(scaled, *more.limits)  # the type's limits less the zero point, or the activation's
    result = np.rint(scaled).astype(np.int32) + int(more.y_zero_point)  # rint: half to even
    result = result.astype(more.y_zero_point.dtype)
    return _finished(x, np.moveaxis(result, -1, made.channel_axis), made, out, finish)


def _sums(x: Array, made: quantized.Integer) -> Array:
    """Σ_c (w − w_zero_point) · (x − x_zero_point) in int64, with the filters on the channel axis."""
    position = geometry.axis(x, made.channel_axis)
    steps = geometry.strides_per_axis(x, position, made.stride)
    shape = geometry.result_shape(x, position, steps, len(made.weight), keep_axis=True)

    pixels = np.moveaxis(x, position, -1).astype(np.int64) - int(made.x_zero_point)  # the channels last
    result = np.moveaxis(np.empty(shape, np.int64), position, -1)
    filters = np.split(made.weight.astype(np.int64) - made.w_zero_point[:, None], made.groups)
    step = [s for i, s in enumerate(steps) if i != position]
    for pixel in np.ndindex(result.shape[:-1]):  # the stride loop: every output pixel …
        source = tuple(i * s for i, s in zip(pixel, step, strict=True))  # … and where it comes from
        channels = np.split(pixels[source], made.groups)
        result[pixel] = np.concatenate([f @ c for f, c in zip(filters, channels, strict=True)])
    return np.moveaxis(result, -1, position)


def _finished(x: Array, result: Array, made: quantized.Integer, out: Array | None, finish: Finish | None) -> Array:
    """The result without its channel axis, if the filter was a vector; in `out`, if there is one; masked, if x is."""
    result = result if made.keep_axis else result.take(0, made.channel_axis)
    if out is None:
        y = geometry.lying_as(x, result, geometry.axis(x, made.channel_axis))
    else:
        y = out
        y[...] = result
    return y if finish is None else finish(y)
