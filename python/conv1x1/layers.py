"""Layers: what all have in common, what they tell of themselves and how they travel; and the one of floats."""

from __future__ import annotations

import copyreg
from collections.abc import Callable
from typing import TYPE_CHECKING, Any, TypeAlias

import numpy as np

from . import _conv1x1
from .checks import Activation, Spec, floats, geometry, kept
from .checks.arrays import Array, ArrayLike, DTypeLike, bfloat16, spelled
from .elsewhere import Outline, nothing_of

if TYPE_CHECKING:
    from inspect import Signature

PICKLES = 1  # the number of their form
Flat: TypeAlias = tuple[bytes, tuple[int, ...], str]


class CallSignature:
    """What `inspect.signature` is told of a layer: before Python 3.13 it asks no type of C. Of a class it knows."""

    def __get__(self, layer: Any, cls: type[Any]) -> Signature:
        if layer is None:
            raise AttributeError("__signature__")
        import inspect

        signature = inspect.signature(cls.__call__)
        return signature.replace(parameters=list(signature.parameters.values())[1:])


def own_state(made: Any) -> Any:
    """What a subclass has of its own, as `object.__getstate__` gives it from Python 3.11 on."""
    slots = {n: getattr(made, n) for n in copyreg._slotnames(type(made)) if hasattr(made, n)}  # type: ignore[attr-defined]
    own = getattr(made, "__dict__", None) or None
    return (own, slots) if slots else own


class Layer(_conv1x1.Layer):
    """A convolution with its weights packed once. It never changes."""

    __slots__ = ("__weakref__",)

    __signature__ = CallSignature()
    _check_call: Callable[..., Any]  # `call` of the module that checks calls of such a layer
    _rebuilt: Callable[..., Layer]  # what a pickle names

    @property
    def weight(self) -> Array:
        """The filters, (out_channels, in_channels/groups), read-only; (in_channels,) where they were given so."""
        given = self._given
        matrix: Array = given.weight
        return matrix if given.keep_axis else matrix[0]

    @property
    def in_channels(self) -> int:
        """How many channels x must have."""
        spec = self._spec
        return int(spec.weight.shape[1]) * spec.groups

    @property
    def out_channels(self) -> int:
        """How many filters there are."""
        return int(self._spec.weight.shape[0])

    @property
    def channel_axis(self) -> int:
        """The axis of x that holds the channels."""
        return self._spec.channel_axis

    @property
    def stride(self) -> int | tuple[int, ...]:
        """The stride, as it was given."""
        return self._spec.stride

    @property
    def groups(self) -> int:
        """Into how many parts channels and filters are cut."""
        return self._spec.groups

    @property
    def activation(self) -> Activation:
        """The activation, with its parameters where it has any, or None."""
        return _as_given(self._spec)

    def plan(self, x: ArrayLike, threads: int | None = None) -> dict[str, Any]:
        """How a call with this x would run: kernel, tile, threads and the like, to read.

        Its keys may change from version to version. Among them are ``"strided_axes"``, the axes of x along which
        pixels are left out, ``"memory_order"``, the axes of the result as they lie in memory, outermost first,
        ``"kernel"`` and ``"threads"``. Where calls of this shape come again, the best few plans take turns on them,
        until one has shown to be the fastest: ``"tried"`` says which, and what they took. No bit depends on it, and the
        environment variable ``CONV1X1_TUNE=off`` keeps it from happening.

        Parameters
        ----------
        x : array_like
            As for a call; its values do not matter. The plan is for a call without a residual, and for a result that
            lies as x does.
        threads : int, optional
            As for a call.

        Returns
        -------
        dict

        Raises
        ------
        TypeError, ValueError
            As a call does, but for what x holds.

        Examples
        --------
        >>> import numpy as np
        >>> from conv1x1 import Conv1x1
        >>> plan = Conv1x1(np.ones((16, 192)), stride=2).plan(np.ones((28, 28, 192), np.float32))
        >>> plan["order"], plan["strided_axes"]
        ('chain', (0, 1))
        >>> Conv1x1(np.ones((16, 192))).plan(np.ones((192, 28, 28)).transpose(1, 2, 0))["memory_order"]
        (2, 0, 1)
        """
        a, _, _, threads, _ = self._check_call(self._spec, x, None, None, threads, numbers=False)
        return self._plan(a, None, None, threads)

    @property
    def _given(self) -> Any:
        """What has the filters as they were given, `weight` and `keep_axis`."""
        return self._spec

    def _outline(self, x: Any) -> Outline:
        """What comes of an x of another library, once its channels are sure to be those of the layer."""
        spec = self._spec
        position = geometry.check_channels(x, spec.channel_axis, spec.weight.shape[1], spec.groups)
        steps = geometry.strides_per_axis(x, position, spec.stride)
        name = self.plan(nothing_of(x, position))["dtype"]
        dtype = np.dtype(bfloat16("x") if name == "bfloat16" else name)
        rebuilt, (number, cls, arrays, options, *more), *_ = self.__reduce__()
        unstrided = self if spec.stride == 1 else rebuilt(number, cls, arrays, options | {"stride": 1}, *more)
        return Outline(position, steps, len(spec.weight), spec.keep_axis, dtype, unstrided)

    def _arrays(self) -> dict[str, Any]:
        """The arrays and scalars of NumPy that the layer is made of, or None, by the names of its arguments."""
        return {"w": told(Layer, self, "weight")["weight"]}

    def _options(self) -> dict[str, Any]:
        """The other arguments."""
        return told(Layer, self, "channel_axis", "stride", "groups", "activation")

    def _described(self) -> str:
        """The end of a `repr`: whether there are a bias and a center, and options that are not the usual ones."""
        options = [f", {n}={v!r}" for n, v in self._options().items() if n == "channel_axis" or v not in (1, None)]
        given = [f", {name}" for name in ("bias", "center") if self._arrays().get(name) is not None]
        return "".join([*given, *options])

    __getstate__ = own_state

    def __dask_tokenize__(self) -> tuple[Any, ...]:
        """What tells layers apart, for dask: the type, and what it was made of."""
        made, parts, state = self.__reduce__()
        return made.__name__, parts, state

    def __reduce__(self) -> tuple[Any, ...]:
        arrays = {n: None if a is None else flat(np.asarray(a)) for n, a in self._arrays().items()}
        return self._rebuilt, (PICKLES, type(self), arrays, self._options()), self.__getstate__()


def _as_given(spec: Spec) -> Activation:
    name, a, b = spec.activation
    return ("clip", a, b) if name == "clip" else ("leaky_relu", a) if name == "leaky_relu" else name or None


def told(cls: type[Layer], layer: Layer, *names: str) -> dict[str, Any]:
    """What the properties of a class tell of a layer, whatever a subclass makes of them."""
    return {name: vars(cls)[name].__get__(layer) for name in names}


def flat(a: Array) -> Flat:
    """An array for a pickle. NumPy's own form has bits in it that crash NumPy once they are tampered with."""
    return a.tobytes(), a.shape, a.dtype.str


def _unflat(a: Flat) -> Array:
    data, shape, dtype = a
    return np.frombuffer(data, dtype).reshape(shape)


def unpickled(number: int, cls: type, base: type, arrays: dict[str, Flat | None]) -> dict[str, Any]:
    """The arrays of a pickle, once its form is one that is known."""
    if number != PICKLES:
        raise ValueError(
            f"the pickle of a layer has form {spelled(number)}, and this conv1x1 knows {PICKLES}: "
            "load it with the version that wrote it, or with a newer one"
        )
    if not (isinstance(cls, type) and issubclass(cls, base)):
        raise TypeError(f"expected {base.__name__} or a subclass of it, got {cls!r}")
    return {n: None if a is None else _unflat(a) for n, a in arrays.items()}


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
    center : array_like, optional
        ``(C,)``, taken off x before it is multiplied, in the type of the sums: ``w · (x − center)``, where the
        difference is rounded once. Exactly, for whole numbers and pixels of at most 16 bits, where a bias of
        ``−w @ center`` would round what is left of large sums: means of bands, of a scaler, of principal components.
        Copied as the bias is, and a float among weights, bias and center makes sums of floats. Real, as all else
        then is.

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

    Bands about 20,000, of which only the deviations count:

    >>> float(Conv1x1([0.5, 2], center=[20000, 20010])(np.array([20003, 20008], np.uint16)))
    -2.5
    """

    __slots__ = ()

    _check_call = staticmethod(floats.call)
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
        center: ArrayLike | None = None,
    ) -> Conv1x1:
        made = floats.spec(w, bias, channel_axis, stride, groups, activation, dtype, center)
        return super().__new__(cls, kept(made))  # type: ignore[return-value]

    @property
    def bias(self) -> Array | None:
        """The bias, (out_channels,), read-only, or None."""
        return self._spec.bias

    @property
    def center(self) -> Array | None:
        """What is taken off each channel of x, (in_channels,), read-only, or None."""
        return self._spec.center

    @property
    def dtype(self) -> np.dtype[Any] | None:
        """The type of the result, or None where the data decide."""
        return self._spec.dtype

    def _options(self) -> dict[str, Any]:
        dtype = self._spec.dtype
        return super()._options() | {"dtype": None if dtype is None else dtype.name}

    def _arrays(self) -> dict[str, Any]:
        arrays = super()._arrays() | told(Conv1x1, self, "bias", "center")
        if arrays["center"] is None:  # older versions, which know none, load the pickle
            del arrays["center"]
        return arrays

    def __repr__(self) -> str:
        return f"<Conv1x1 {self.in_channels} → {self.out_channels}{self._described()}>"


def layer_of(spec: Spec) -> Conv1x1:
    """The layer with these arguments."""
    return Conv1x1(
        spec.weight if spec.keep_axis else spec.weight[0],
        spec.bias,
        channel_axis=spec.channel_axis,
        stride=spec.stride,
        groups=spec.groups,
        activation=_as_given(spec),
        dtype=spec.dtype,
        center=spec.center,
    )


_conv1x1.document_call(Conv1x1, "x, *, residual=None, out=None, threads=None", "The result, as `conv1x1` gives it.")
