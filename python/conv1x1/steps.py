"""What stands between and after the layers of a chain: norms, softmax, argmax, pooling."""

from __future__ import annotations

from typing import Any

from .checks import kept, shown
from .checks import sequential as checks
from .checks.arrays import Array, ArrayLike, spelled
from .layers import PICKLES, Flat, flat, unpickled


class Step:
    """What a chain does between and after layers. It never changes."""

    __slots__ = ("__weakref__", "_made")

    def __new__(cls, *made: Any) -> Step:
        self = super().__new__(cls)
        _MADE.__set__(self, kept(made))
        return self

    def _arrays(self) -> dict[str, Any]:
        """The arrays that it was made with, or None, by name."""
        return {}

    def _options(self) -> dict[str, Any]:
        """The other arguments."""
        return {}

    def _told(self) -> checks.Element:
        """What a chain has to know of it."""
        return checks.Element(repr(self), None, None, takes="floats", gives="floats")

    def _step(self) -> checks.Step:
        """What it computes."""
        return checks.Step(self)

    def __reduce__(self) -> tuple[Any, ...]:
        arrays = {n: None if a is None else flat(a) for n, a in self._arrays().items()}
        return _rebuilt_step, (PICKLES, type(self), arrays, self._options())

    def __repr__(self) -> str:
        arrays = [f"{n}={spelled(a.tolist())}" for n, a in self._arrays().items() if a is not None]
        return f"{type(self).__name__}({', '.join(arrays + [f'{n}={v!r}' for n, v in self._options().items()])})"


_MADE = Step.__dict__["_made"]
delattr(Step, "_made")


class LayerNorm(Step):
    """A pixel's channels less their mean, over their deviation, in a `Sequential`.

    ``(x − mean) / √(variance + eps) · weight + bias``, where the variance is the biased one, of all channels.

    Parameters
    ----------
    channels : int
        How many there are.
    weight, bias : array_like, optional
        ``(channels,)``, what each is multiplied by, and what is added to it. Copied, as by `Conv1x1`.
    eps : float, default 1e-5
        Added to the variance.

    Raises
    ------
    TypeError, ValueError
        When an argument does not fit.

    Examples
    --------
    >>> import numpy as np
    >>> from conv1x1 import LayerNorm, Sequential
    >>> Sequential([LayerNorm(2, bias=[0.0, 10.0])])(np.array([[1, 3], [7, 7]], np.float32)).round(3)
    array([[-1., 11.],
           [ 0., 10.]], dtype=float32)
    """

    __slots__ = ()

    def __new__(
        cls, channels: int, weight: ArrayLike | None = None, bias: ArrayLike | None = None, *, eps: float = 1e-5
    ) -> LayerNorm:
        return super().__new__(cls, *checks.layer_norm(channels, weight, bias, eps))  # type: ignore[return-value]

    @property
    def channels(self) -> int:
        """How many channels there are."""
        return int(_MADE.__get__(self)[0])

    @property
    def weight(self) -> Array | None:
        """What each channel is multiplied by, read-only, or None."""
        weight: Array | None = shown(_MADE.__get__(self))[1]
        return weight

    @property
    def bias(self) -> Array | None:
        """What is added to each channel, read-only, or None."""
        bias: Array | None = shown(_MADE.__get__(self))[2]
        return bias

    @property
    def eps(self) -> float:
        """What is added to the variance."""
        return float(_MADE.__get__(self)[3])

    def _arrays(self) -> dict[str, Any]:
        return {"weight": self.weight, "bias": self.bias}

    def _options(self) -> dict[str, Any]:
        return {"channels": self.channels, "eps": self.eps}

    def __repr__(self) -> str:
        given = "".join(f", {n}" for n, a in self._arrays().items() if a is not None)
        return f"LayerNorm({self.channels}{given}, eps={self.eps:g})"

    def _told(self) -> checks.Element:
        return super()._told()._replace(in_channels=self.channels, out_channels=self.channels)

    def _step(self) -> checks.Step:
        return checks.Step(self, self.channels)


class Softmax(Step):
    """A pixel's channels as parts of 1, in a `Sequential`: eˣ of each, over the sum of them.

    The largest is taken off first, so that nothing overflows. All are NaN where one is, or +∞, or where all are −∞.

    Examples
    --------
    >>> import numpy as np
    >>> from conv1x1 import Sequential, Softmax
    >>> Sequential([Softmax()])(np.log([[1.0, 3.0]])).round(12)
    array([[0.25, 0.75]])
    """

    __slots__ = ()

    def __new__(cls) -> Softmax:
        return super().__new__(cls)  # type: ignore[return-value]


class ArgMax(Step):
    """Which channel of a pixel is the largest, at the end of a `Sequential`: the first of equals, or the first NaN.

    The channel axis is dropped, as by `numpy.argmax`. The result is uint8 for up to 256 channels, uint16 for up to
    65,536, else int32; with `labels`, of their type.

    Parameters
    ----------
    labels : array_like of int, optional
        What stands for each channel, ``(channels,)``.

    Raises
    ------
    TypeError, ValueError
        When labels are anything else.

    Examples
    --------
    >>> import numpy as np
    >>> from conv1x1 import ArgMax, Conv1x1, Sequential
    >>> net = Sequential([Conv1x1([[1.0, 0.0], [0.0, 1.0]]), ArgMax(labels=[-1, 300])])
    >>> net(np.array([[0.5, 0.25], [2, 3]], np.float32))
    array([ -1, 300])
    """

    __slots__ = ()

    def __new__(cls, labels: ArrayLike | None = None) -> ArgMax:
        return super().__new__(cls, checks.labels(labels))  # type: ignore[return-value]

    @property
    def labels(self) -> Array | None:
        """The label of each channel, read-only, or None."""
        labels: Array | None = shown(_MADE.__get__(self))[0]
        return labels

    def _arrays(self) -> dict[str, Any]:
        return {"labels": self.labels}

    def _told(self) -> checks.Element:
        ends = "drops the channel axis, so that nothing can follow it: put it at the end"
        return checks.Element(repr(self), None if self.labels is None else len(self.labels), 1, ends=ends)

    def _step(self) -> checks.Step:
        own = None if self.labels is None else self.labels.dtype
        return checks.Step(self, 1, own, drops=True, indexes=own is None)


class Pool(Step):
    """The mean, the largest or the sum of each channel over axes of pixels, which go; in a `Sequential`.

    Elements after it take what is left: a head after global pooling. Only one can be in a chain.

    Parameters
    ----------
    kind : {"mean", "max", "sum"}
        What becomes of the pixels. NaN goes through.
    axes : int or tuple of int, optional
        Axes of x. By default the last two besides the channels, or the last, if there is only one.

    Raises
    ------
    TypeError, ValueError
        When an argument does not fit.

    Examples
    --------
    >>> import numpy as np
    >>> from conv1x1 import Conv1x1, Pool, Sequential
    >>> net = Sequential([Conv1x1(np.ones((16, 192)), activation="relu"), Pool("mean"), Conv1x1(np.ones((10, 16)))])
    >>> net(np.ones((8, 28, 28, 192), np.float32)).shape
    (8, 10)
    """

    __slots__ = ()

    def __new__(cls, kind: str, axes: int | tuple[int, ...] | None = None) -> Pool:
        return super().__new__(cls, *checks.pool(kind, axes))  # type: ignore[return-value]

    @property
    def kind(self) -> str:
        """What becomes of the pixels."""
        return str(_MADE.__get__(self)[0])

    @property
    def axes(self) -> tuple[int, ...] | None:
        """The axes of x that go, or None for those that are meant if none are named."""
        axes: tuple[int, ...] | None = _MADE.__get__(self)[1]
        return axes

    def _options(self) -> dict[str, Any]:
        return {"kind": self.kind, "axes": self.axes}

    def __repr__(self) -> str:
        return f"Pool({self.kind!r}{'' if self.axes is None else f', axes={self.axes}'})"

    def _told(self) -> checks.Element:
        return super()._told()._replace(pools=True)

    def _step(self) -> checks.Step:
        return checks.Step(self, pools=self.axes or "")


def _rebuilt_step(number: int, cls: type[Step], arrays: dict[str, Flat | None], options: dict[str, Any]) -> Step:
    return cls(**unpickled(number, cls, Step, arrays), **options)


_rebuilt_step.__module__ = f"{__package__}.sequential"  # where pickles have always looked for it
