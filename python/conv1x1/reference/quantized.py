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
from ..checks.arrays import Array, ArrayLike
from . import on_axis, returned, sums


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
    position = geometry.axis(x, channel_axis)

    y = _sums(x, made, position).astype(np.int32)
    return returned(x, on_axis(y, position, made.keep_axis), position, out, finish)


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
    position = geometry.axis(x, channel_axis)

    y = _sums(x, made, position)
    if more.bias is not None:
        y = y + more.bias
    y = y.astype(np.int32)  # a bias of about 2³¹ can make them wrap: so they do in ONNX Runtime
    y = y.astype(np.float32) * (more.x_scale * more.w_scale / more.y_scale)  # float32 at every step
    y = np.clip(y, *more.limits)  # the type's limits less the zero point, or the activation's
    y = np.rint(y).astype(np.int32) + int(more.y_zero_point)  # rint: half to even
    y = on_axis(y.astype(more.y_zero_point.dtype), position, made.keep_axis)
    return returned(x, y, position, out, finish)


def _sums(x: Array, made: quantized.Integer, position: int) -> Array:
    """Σ_c (w − w_zero_point) · (x − x_zero_point) in int64, the filters last."""
    pixels = x.astype(np.int64) - int(made.x_zero_point)
    filters = made.weight.astype(np.int64) - made.w_zero_point[:, None]
    return sums(pixels, filters, position, made.stride, made.groups)
