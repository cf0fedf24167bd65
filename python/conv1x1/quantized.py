"""The quantised layer."""

from __future__ import annotations

import functools
from collections.abc import Callable
from typing import Any, ParamSpec

import numpy as np

from . import _conv1x1
from .arithmetic import default_arithmetic
from .checks import Activation, kept, quantized
from .checks.arrays import Array, ArrayLike, DTypeLike, masked_like
from .layers import Conv1x1, Flat, Layer, told, unpickled

_P = ParamSpec("_P")


def _rebuilt(
    number: int, cls: type[QConv1x1], arrays: dict[str, Flat | None], options: dict[str, Any], snr: float | None
) -> QConv1x1:
    layer = QConv1x1.__new__(cls, **unpickled(number, cls, QConv1x1, arrays), **options)
    _SNR.__set__(layer, snr)
    return layer


def _in_this_order(new: Callable[_P, QConv1x1]) -> Callable[_P, QConv1x1]:
    """Words for a call in another order, above all in ONNX's."""

    @functools.wraps(new)
    def checked(*args: _P.args, **kwargs: _P.kwargs) -> QConv1x1:
        if len(args) > 3:  # the class among them
            raise TypeError(
                f"QConv1x1 takes w and bias by position and the rest by name, got {len(args) - 1} arguments by "
                "position: QConv1x1(w, bias, x_scale=…, x_zero_point=…, w_scale=…, w_zero_point=…, y_scale=…, "
                "y_zero_point=…); ONNX's order is that of the function qlinear_conv1x1"
            )
        if "center" in kwargs:
            raise TypeError("QConv1x1 has no center: x_zero_point is what is taken off its pixels, all channels alike")
        return new(*args, **kwargs)

    return checked


def _whole(x: ArrayLike, scale: np.float32, zero: Any) -> Array:
    """Real numbers over a scale, rounded, plus the zero point, clamped to its type."""
    info = np.iinfo(zero.dtype)
    with np.errstate(over="ignore"):  # what is too far for float32 is clamped in the end
        given = quantized.real_numbers(x)
        whole = np.ma.getdata(given).astype(np.float32)
        whole /= scale
    np.rint(whole, out=whole)
    whole += np.float32(zero)
    np.clip(whole, info.min, info.max, out=whole)
    if isinstance(given, np.ma.MaskedArray):  # there may be NaN under the mask
        whole[np.isnan(whole)] = zero
    return masked_like(whole.astype(zero.dtype), given)


def _real(y: ArrayLike, scale: np.float32, zero: Any) -> Array:
    """Whole numbers less the zero point, times a scale."""
    given = quantized.whole_numbers(y)
    real = np.ma.getdata(given).astype(np.float32)
    real -= np.float32(zero)
    with np.errstate(over="ignore"):
        real *= scale
    return masked_like(real, given)


class QConv1x1(Layer):
    """A quantised pointwise convolution, its weights packed once: ``qlayer(x, *, out=None, threads=None)``.

    A layer is immutable, may be called from several threads at once, and pickles (as its weights, not as packed).
    A call takes x, and by name `out` and `threads`, and raises and returns what `qlinear_conv1x1` does.

    Parameters
    ----------
    w, bias
        As for `qlinear_conv1x1`, which has ONNX's name for the bias, B.
    x_scale, x_zero_point, w_scale, w_zero_point, y_scale, y_zero_point, channel_axis, stride, groups, activation
        As for `qlinear_conv1x1`, and by name; arrays are copied. `x_zero_point` must be a NumPy int8 or uint8, since
        its type is that of the pixels. Weights of shape ``(1, 1, N)`` and ``(N, 1, 1)`` are refused as by `Conv1x1`.

    Raises
    ------
    TypeError, ValueError
        When an argument does not fit, saying what was expected and how to call.

    See Also
    --------
    QConv1x1.from_float : made from a layer of floats and pixels to calibrate it with.

    Examples
    --------
    >>> import numpy as np
    >>> from conv1x1 import QConv1x1
    >>> of_x, of_w = {"x_scale": 0.5, "x_zero_point": np.uint8(128)}, {"w_scale": 0.25, "w_zero_point": 0}
    >>> of_y = {"y_scale": 1.0, "y_zero_point": np.uint8(0)}
    >>> qlayer = QConv1x1(np.ones((16, 192), np.int8), **of_x, **of_w, **of_y, activation="relu")
    >>> qlayer
    <QConv1x1 192 → 16, uint8 · int8 → uint8, channel_axis=-1, activation='relu'>
    >>> int(qlayer(np.full((28, 28, 192), 130, np.uint8))[0, 0, 0])
    48
    """

    __slots__ = ("_snr",)

    _check_call = staticmethod(quantized.call)
    _rebuilt = staticmethod(_rebuilt)

    @_in_this_order
    def __new__(
        cls,
        w: ArrayLike,
        bias: ArrayLike | None = None,
        *,
        x_scale: ArrayLike,
        x_zero_point: ArrayLike,
        w_scale: ArrayLike,
        w_zero_point: ArrayLike,
        y_scale: ArrayLike,
        y_zero_point: ArrayLike,
        channel_axis: int = -1,
        stride: int | tuple[int, ...] = 1,
        groups: int = 1,
        activation: Activation = None,
    ) -> QConv1x1:
        made = quantized.integer(w, x_zero_point, w_zero_point, channel_axis, stride, groups)
        more = quantized.requantize(made, x_scale, w_scale, y_scale, y_zero_point, bias, activation, "bias")
        self = super().__new__(cls, kept(quantized.spec(made, more)))
        _SNR.__set__(self, None)
        return self  # type: ignore[return-value]

    @classmethod
    @default_arithmetic
    def from_float(
        cls, layer: Conv1x1, calibration: ArrayLike, *, dtype: DTypeLike = np.uint8, percentile: float = 100
    ) -> QConv1x1:
        """The quantised form of a layer of floats, for pixels like those in `calibration`.

        Each filter becomes int8 with the zero point 0 and a scale of its own, for its largest weight to be ±127. The
        scales and zero points of x and y follow from the range of `calibration`, and of what `layer` makes of it in
        real numbers: its `dtype`, if it has one, does not count. A range always has 0 in it, which is then held
        exactly; no scale is below the least normal number of float32. `snr` says how good the result is.

        The calibration is read in pieces and not copied; at a `percentile` below 100, only what that leaves out is.

        A chain of layers is made with each layer's `calibration` being the float result of the layer before: then the
        scale and zero point of that result come out the same for both, and the quantised layers fit.

        Parameters
        ----------
        layer : Conv1x1
            Its activation, if any, must be one that `qlinear_conv1x1` knows.
        calibration : array_like of real numbers
            Pixels as `layer` takes them, enough to be typical of all that will come. What is masked is left out.
        dtype : int8 or uint8, default uint8
            The type of x and y.
        percentile : float, default 100
            How much of the values a range must hold, from below and from above: at 100 all of them, from the least to
            the largest; at 99.9 all but the outermost thousandth on each side, which will be clamped.

        Returns
        -------
        QConv1x1

        Raises
        ------
        TypeError, ValueError
            When an argument does not fit, or `calibration` is empty or not finite.

        Examples
        --------
        >>> import numpy as np
        >>> from conv1x1 import Conv1x1, QConv1x1
        >>> random = np.random.default_rng(1)
        >>> layer = Conv1x1(random.normal(size=(16, 192)), random.normal(size=16), activation="relu")
        >>> x = random.normal(size=(28, 28, 192)).astype(np.float32)
        >>> quantised = QConv1x1.from_float(layer, calibration=x)
        >>> quantised
        <QConv1x1 192 → 16, uint8 · int8 → uint8, bias, channel_axis=-1, activation='relu', snr=37.8 dB>
        >>> y = quantised.dequantize(quantised(quantised.quantize(x)))
        >>> bool(np.abs(y - layer(x)).max() < 2)
        True
        """
        from .calibration import prepared, snr  # seldom wanted

        x, real, arguments = prepared(layer, calibration, dtype, percentile)
        made = cls(**arguments)
        _SNR.__set__(made, snr(x, real, lambda piece: made.dequantize(made(made.quantize(piece)))))
        return made

    @default_arithmetic
    def quantize(self, x: ArrayLike) -> Array:
        """Real numbers as the pixels that the layer takes, as ONNX's QuantizeLinear does.

        Parameters
        ----------
        x : array_like of real numbers
            Of any shape. What is outside the type's range is clamped, infinities too. A mask is kept.

        Returns
        -------
        ndarray
            Of the type of `x_zero_point`.

        Raises
        ------
        TypeError, ValueError
            When x holds no real numbers; or NaN, for which ONNX names no integer.

        Examples
        --------
        >>> import numpy as np
        >>> from conv1x1 import QConv1x1
        >>> of_x, of_w = {"x_scale": 0.5, "x_zero_point": np.uint8(128)}, {"w_scale": 1, "w_zero_point": 0}
        >>> layer = QConv1x1(np.ones((1, 1), np.int8), **of_x, **of_w, y_scale=0.25, y_zero_point=np.uint8(0))
        >>> layer.quantize([-1, 0, 2.2, 1000])
        array([126, 128, 132, 255], dtype=uint8)
        """
        return _whole(x, self.x_scale, self.x_zero_point)

    @default_arithmetic
    def dequantize(self, y: ArrayLike) -> Array:
        """The real numbers that a result stands for, as ONNX's DequantizeLinear does.

        Parameters
        ----------
        y : array_like
            A result of the layer, or whole numbers like it. A mask is kept.

        Returns
        -------
        ndarray
            In float32.

        Raises
        ------
        TypeError, ValueError
            When y holds anything but whole numbers.

        Examples
        --------
        >>> import numpy as np
        >>> from conv1x1 import QConv1x1
        >>> of_x, of_w = {"x_scale": 0.5, "x_zero_point": np.uint8(128)}, {"w_scale": 1, "w_zero_point": 0}
        >>> layer = QConv1x1(np.ones((1, 1), np.int8), **of_x, **of_w, y_scale=0.25, y_zero_point=np.uint8(8))
        >>> layer.dequantize(layer(np.array([[128], [131]], np.uint8)))
        array([[0. ],
               [1.5]], dtype=float32)
        """
        return _real(y, self.y_scale, self.y_zero_point)

    @property
    def bias(self) -> Array | None:
        """The bias, (out_channels,) of int32, read-only, or None."""
        return self._requantize.bias

    @property
    def x_scale(self) -> np.float32:
        """The real number between neighbours in x."""
        return self._requantize.x_scale

    @property
    def x_zero_point(self) -> np.int8 | np.uint8:
        """Which number in x stands for 0; its type is x's."""
        return self._given.x_zero_point  # type: ignore[no-any-return]

    @property
    def w_scale(self) -> Array:
        """The real number between neighbours in each filter, (out_channels,), read-only."""
        return self._requantize.w_scale

    @property
    def w_zero_point(self) -> Array:
        """Which number in each filter stands for 0, (out_channels,), read-only."""
        return self._given.w_zero_point

    @property
    def y_scale(self) -> np.float32:
        """The real number between neighbours in the result."""
        return self._requantize.y_scale

    @property
    def y_zero_point(self) -> np.int8 | np.uint8:
        """Which number in the result stands for 0; its type is the result's."""
        return self._requantize.y_zero_point  # type: ignore[no-any-return]

    @property
    def snr(self) -> float | None:
        """Signal to noise on the calibration data, in dB; None for a layer that was not made from floats.

        The signal is what the layer of floats gives, the noise how far the dequantised result is from it. Every 6 dB
        are one bit; 8 bits throughout give 30 to 45.
        """
        return _SNR.__get__(self)  # type: ignore[no-any-return]

    @property
    def _given(self) -> quantized.Integer:
        return self._spec.quantised[0]  # type: ignore[index, no-any-return]

    @property
    def _requantize(self) -> quantized.Requantize:
        return self._spec.quantised[1]  # type: ignore[index, no-any-return]

    def _arrays(self) -> dict[str, Any]:
        more = ("bias", "x_scale", "x_zero_point", "w_scale", "w_zero_point", "y_scale", "y_zero_point")
        return super()._arrays() | told(QConv1x1, self, *more)

    def __reduce__(self) -> tuple[Any, ...]:
        rebuilt, arguments, *state = super().__reduce__()
        return rebuilt, (*arguments, self.snr), *state

    def __repr__(self) -> str:
        types = f"{self.x_zero_point.dtype} · {self.weight.dtype} → {self.y_zero_point.dtype}"
        snr = "" if self.snr is None else f", snr={self.snr:.1f} dB"
        return f"<QConv1x1 {self.in_channels} → {self.out_channels}, {types}{self._described()}{snr}>"


# Only from here can it be set: a layer never changes.
_SNR = QConv1x1.__dict__["_snr"]
delattr(QConv1x1, "_snr")
_conv1x1.document_call(QConv1x1, "x, *, out=None, threads=None", "The result, as `qlinear_conv1x1` gives it.")
