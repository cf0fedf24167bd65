"""Chains of pointwise steps, which pixels go through strip by strip: nothing in between becomes an array."""

from __future__ import annotations

import functools
from collections.abc import Callable, Iterable, Iterator
from typing import Any, ParamSpec, TypeAlias, overload

import numpy as np

from . import _conv1x1
from .checks import geometry
from .checks import sequential as checks
from .checks.arrays import Array, ArrayLike, is_complex, spelled
from .elsewhere import Outline, module_for, nothing_of
from .layers import PICKLES, CallSignature, Conv1x1, Layer, own_state, unpickled
from .quantized import QConv1x1
from .steps import ArgMax, LayerNorm, Pool, Softmax, Step
from .steps import _rebuilt_step as _rebuilt_step

_P = ParamSpec("_P")


def _rebuilt(number: int, cls: type[Sequential], elements: tuple[Element, ...], options: dict[str, Any]) -> Sequential:
    unpickled(number, cls, Sequential, {})
    return Sequential.__new__(cls, elements, **options)


def _one_list(new: Callable[_P, Sequential]) -> Callable[_P, Sequential]:
    """Words for elements that are given as in torch, one by one."""

    @functools.wraps(new)
    def checked(*args: _P.args, **kwargs: _P.kwargs) -> Sequential:
        if len(args) > 2:
            raise TypeError(
                f"Sequential takes one list of elements, got {len(args) - 1} arguments by position: "
                "write Sequential([first, second, …]), and skip=, channel_axis= by name"
            )
        return new(*args, **kwargs)

    return checked


class Sequential(_conv1x1.Chain):
    """A chain of pointwise steps, each pixel's numbers through all of them: ``net(x, *, out=None, threads=None)``.

    What lies between two elements never becomes an array: pixels go through the chain in strips that fit a cache. The
    result is that of the elements called one after another, to the bit, with the type of the sums between them. That is
    float32, or where x is float64 or holds integers of 32 or 64 bits, float64. The result's type is x's for pixels of
    floats and that of the sums for others, unless the last element has a `dtype`, or `out` says otherwise.

    A chain is immutable, may be called from several threads at once, and pickles. ``len(net)``, ``net[i]`` and loops
    give its elements, ``net[i:j]`` a chain of some of them.

    Parameters
    ----------
    elements : list
        Layers, `Conv1x1`, of which the first may have a stride; `LayerNorm`, `Softmax`, one `Pool`, and `ArgMax` as the
        last; and other chains. Or `QConv1x1` layers, which hand on their bytes as they are, and `ArgMax`.
    skip : bool, default False
        Add the chain's own x to the sums of its last layer, as the residual of `Conv1x1`: before the activation.
    channel_axis : int, optional
        The axis of x that holds the channels, for all elements. By default that of the layers, which must agree.
    band_names, class_names : list of str, optional
        What the channels of x, and those of the result, are called. Names are kept, for those who ask. An x that names
        its bands otherwise is refused: a table of pandas, an array of xarray.

    Raises
    ------
    TypeError, ValueError
        When elements do not fit one another, saying which one expects what, what it gets, and what to do.

    Examples
    --------
    >>> import numpy as np
    >>> from conv1x1 import ArgMax, Conv1x1, Sequential
    >>> random = np.random.default_rng(0)
    >>> net = Sequential([Conv1x1(random.normal(size=(64, 224)), activation="relu"),
    ...                   Conv1x1(random.normal(size=(10, 64)), random.normal(size=10)), ArgMax()])
    >>> net
    Sequential 224 → one of 10
      element      channels   activation   parameters   FLOPs a pixel
      0  Conv1x1   224 → 64   relu             14,336          28,672
      1  Conv1x1   64 → 10                        650           1,280
      2  ArgMax    10                               0              10
      sum                                      14,986          29,962
    >>> scene = random.integers(0, 10000, (32, 32, 224)).astype(np.uint16)
    >>> net(scene).shape, net(scene).dtype
    ((32, 32), dtype('uint8'))
    """

    __slots__ = ("__weakref__", "_state")

    @_one_list
    def __new__(
        cls,
        elements: Iterable[Element],
        *,
        skip: bool = False,
        channel_axis: int | None = None,
        band_names: Iterable[str] | None = None,
        class_names: Iterable[str] | None = None,
    ) -> Sequential:
        found = _elements(elements)
        if not isinstance(skip, (bool, np.bool_)):
            raise TypeError(f"skip must be True or False, got {spelled(skip)}")
        axis = None if channel_axis is None else geometry.axis_number(channel_axis)
        whole = checks.fit([_told(e) for e in found], bool(skip), axis)
        axis = -1 if whole.axis is None else whole.axis
        pool = next((i for i, e in enumerate(found) if _told(e).pools), len(found))
        found = tuple(_along(e, axis) if i <= pool else e for i, e in enumerate(found))
        steps = _unrolled(found, bool(skip))
        bands = checks.names(band_names, "band_names", whole.in_channels, "x's channels")
        classes = checks.names(class_names, "class_names", number_of_classes(steps), "the channels before the end")
        skips = steps[-1].adds is not None
        self: Sequential = super().__new__(cls, _for_the_core(steps), axis, skips)  # type: ignore[assignment]
        _STATE.__set__(self, (found, bool(skip), checks.Spec(whole, steps, axis, bands), classes))
        return self

    def plan(self, x: ArrayLike, threads: int | None = None) -> dict[str, Any]:
        """How a call with this x would run, to read.

        Its keys may change from version to version.

        Parameters
        ----------
        x : array_like
            As for a call; its values do not matter.
        threads : int, optional
            As for a call.

        Returns
        -------
        dict
            Among its entries ``"elements"`` has what `Conv1x1.plan` says of each layer.

        Raises
        ------
        TypeError, ValueError
            As a call does, but for what x holds.
        """
        spec = Sequential._spec.__get__(self)
        a, _, threads, _ = checks.call(spec, x, None, threads)
        if (plan := self._plan(a, threads)) is not NotImplemented:
            return plan  # type: ignore[no-any-return]
        from .strips import planned

        return planned(spec, a, threads)

    def _outline(self, x: Any) -> Outline:
        """What comes of an x of another library, once its channels are sure to be those of the chain."""
        elements, _, spec, _ = _STATE.__get__(self)
        if spec.whole.pools:
            raise TypeError(
                f"x is an array of {type(x).__module__.partition('.')[0]}, of which each pixel stands for itself, and "
                "the chain pools pixels: pass np.asarray(x), or make a chain without Pool, and pool its result"
            )
        position = geometry.axis(x, spec.channel_axis)
        checks.check_names(spec.band_names, x, position)
        nothing = nothing_of(x, position)
        checks.call(spec, nothing, None, None)
        first = elements[0] if isinstance(elements[0], Step) else elements[0]._outline(nothing).unstrided
        rebuilt, (number, cls, _, options), *_ = self.__reduce__()
        return Outline(
            position,
            geometry.strides_per_axis(x, position, spec.whole.stride),
            checks.width(spec, x.shape[position]),
            not spec.steps[-1].drops,
            checks.types(spec, nothing, x.shape[position], None)[-1],
            self if first is elements[0] else rebuilt(number, cls, (first, *elements[1:]), options),
        )

    def __dask_tokenize__(self) -> tuple[Any, ...]:
        """What tells chains apart, for dask: what they are made of."""
        _, parts, state = self.__reduce__()
        return parts, state

    __signature__ = CallSignature()

    @property
    def _spec(self) -> checks.Spec:
        """What calls are checked against."""
        spec: checks.Spec = _STATE.__get__(self)[2]
        return spec

    @property
    def in_channels(self) -> int | None:
        """How many channels x must have; None where any number will do."""
        channels: int | None = _STATE.__get__(self)[2].whole.in_channels
        return channels

    @property
    def out_channels(self) -> int | None:
        """How many channels the last element gives, 1 where it drops their axis; None where it is as many as x has."""
        channels: int | None = _STATE.__get__(self)[2].whole.out_channels
        return channels

    @property
    def channel_axis(self) -> int:
        """The axis of x that holds the channels."""
        return int(_STATE.__get__(self)[2].channel_axis)

    @property
    def skip(self) -> bool:
        """Whether x is added to the sums of the last layer."""
        return bool(_STATE.__get__(self)[1])

    @property
    def band_names(self) -> tuple[str, ...] | None:
        """What x's channels are called, or None."""
        names: tuple[str, ...] | None = _STATE.__get__(self)[2].band_names
        return names

    @property
    def class_names(self) -> tuple[str, ...] | None:
        """What the result's channels are called, those that `ArgMax` chooses among; or None."""
        names: tuple[str, ...] | None = _STATE.__get__(self)[3]
        return names

    def __len__(self) -> int:
        return len(_STATE.__get__(self)[0])

    def __iter__(self) -> Iterator[Element]:
        return iter(_STATE.__get__(self)[0])

    @overload
    def __getitem__(self, index: int) -> Element: ...
    @overload
    def __getitem__(self, index: slice) -> Sequential: ...
    def __getitem__(self, index: int | slice) -> Element | Sequential:
        elements, skip, spec, _ = _STATE.__get__(self)
        if not isinstance(index, slice):
            return elements[index]  # type: ignore[no-any-return]
        some = elements[index]
        return Sequential(some, skip=skip and some == elements, channel_axis=spec.channel_axis)

    def __reduce__(self) -> tuple[Any, ...]:
        elements, skip, spec, classes = _STATE.__get__(self)
        options = {
            "skip": skip,
            "channel_axis": spec.whole.axis,
            "band_names": spec.band_names,
            "class_names": classes,
        }
        return _rebuilt, (PICKLES, type(self), elements, options), self.__getstate__()

    __getstate__ = own_state

    def __repr__(self) -> str:
        from .summary import table

        return table(self)


Element: TypeAlias = Conv1x1 | QConv1x1 | LayerNorm | Softmax | ArgMax | Pool | Sequential

# Only from here can it be set: a chain never changes.
_STATE = Sequential.__dict__["_state"]
delattr(Sequential, "_state")

_conv1x1.document_call(Sequential, "x, *, out=None, threads=None", "The result, as `Conv1x1` gives it.")


# ------------------------------------------------------------------------------------------------- elements


def _elements(given: Any) -> tuple[Element, ...]:
    """The elements of a chain, each of a type that can be one."""
    if isinstance(given, (Layer, Step)):
        raise TypeError(f"Sequential takes a list of elements, got {spelled(given)}: pass a list of it, [element]")
    if isinstance(given, Sequential):
        return tuple(given)
    try:
        found = tuple(given)
    except TypeError:
        raise TypeError(f"Sequential takes a list of elements, got {spelled(given)}: pass [Conv1x1(w), …]") from None
    for i, e in enumerate(found):
        if isinstance(e, (Conv1x1, QConv1x1, Step, Sequential)):
            continue
        hint = ""
        if isinstance(e, type) and issubclass(e, (Step, Layer, Sequential)):
            hint = f": write {e.__name__}(…)"
        elif isinstance(e, (np.ndarray, list)):
            hint = f": pass Conv1x1(elements[{i}])"
        elif isinstance(e, (str, tuple)) or callable(e):
            hint = ': an activation goes to the layer before it, as in Conv1x1(w, bias, activation="relu")'
        raise TypeError(
            f"element {i} is {' '.join(spelled(e).split())}; expected Conv1x1 or QConv1x1, LayerNorm, Softmax, Pool, "
            f"ArgMax or another Sequential{hint}"
        )
    return found


def _told(e: Element) -> checks.Element:
    """What a chain has to know of it."""
    if isinstance(e, Sequential):
        whole: checks.Element = _STATE.__get__(e)[2].whole
        return whole
    if isinstance(e, Step):
        return e._told()
    spec = e._spec
    takes = gives = "floats"
    if spec.quantised is not None:
        takes, gives = str(spec.requantize[4]), str(spec.dtype)  # type: ignore[index]
    drops = "" if spec.keep_axis else "has a vector of weights and drops the channel axis: give the weights as w[None]"
    widths = spec.weight.shape[1] * spec.groups, spec.weight.shape[0]
    return checks.Element(repr(e), *widths, spec.channel_axis, spec.stride, takes, gives, drops, layer=True)


def _along(e: Element, axis: int) -> Element:
    """The element, or one like it whose channels are on that axis."""
    if isinstance(e, Step) or e.channel_axis == axis:
        return e
    rebuilt, (number, cls, parts, options, *more), *_ = e.__reduce__()
    return rebuilt(number, cls, parts, options | {"channel_axis": axis}, *more)  # type: ignore[no-any-return]


def _unrolled(elements: Iterable[Element], skip: bool) -> tuple[checks.Step, ...]:
    """The steps of a chain, those of chains in it among them."""
    steps: list[checks.Step] = []
    for e in elements:
        if isinstance(e, Sequential):
            before = len(steps)
            inner: tuple[checks.Step, ...] = _STATE.__get__(e)[2].steps
            steps += [s if s.adds is None else s._replace(adds=s.adds + before) for s in inner]
        elif isinstance(e, Step):
            steps.append(e._step())
        else:
            spec = e._spec
            has_parts = any(
                t is not None and is_complex(t)
                for t in (spec.weight.dtype, None if spec.bias is None else spec.bias.dtype, spec.dtype)
            )
            steps.append(checks.Step(e, len(spec.weight), spec.dtype, has_parts, not spec.keep_axis))
    if skip:
        last = max(i for i, s in enumerate(steps) if isinstance(s.element, Layer))
        steps[last] = steps[last]._replace(adds=0)
    return tuple(steps)


def number_of_classes(steps: tuple[checks.Step, ...]) -> int | None:
    """Among how many channels the result is, or the largest of them."""
    *before, last = steps
    if not isinstance(last.element, ArgMax):
        return last.channels
    if last.element.labels is not None:
        return len(last.element.labels)
    return next((s.channels for s in reversed(before) if s.channels is not None), None)


# --------------------------------------------------------------------------------------------------- calls


def call(net: Sequential, x: ArrayLike, out: Array | None, threads: int | None) -> Array:
    """A call that the core does not take as it is: wrong, unusual, or of a chain that is not for it."""
    if module := module_for(x):
        return module.called(net, x, None, out, threads)  # type: ignore[no-any-return]
    elements, _, spec, _ = _STATE.__get__(net)
    if len(spec.steps) == 1 and isinstance(elements[0], Layer) and spec.band_names is None:
        return elements[0](x, out=out, threads=threads)
    a, out, threads, finish = checks.call(spec, x, out, threads)
    y = net._run(a, out, threads)
    if y is NotImplemented:
        from .strips import through

        y = through(spec, a, out, threads)
    return y if finish is None else finish(y)


def _for_the_core(steps: tuple[checks.Step, ...]) -> tuple[Any, ...]:
    """The steps of a chain, as the core takes them, if it takes pixels through all of them; else none."""
    *before, last = [s.adds for s in steps]
    skips = last == 0 and isinstance(steps[-1].element, Layer)
    if any(adds is not None for adds in before) or not (last is None or skips) or len(steps) == 1:
        return ()
    channels = next((s.element.in_channels for s in steps if isinstance(s.element, Layer)), 0)
    found: list[Any] = []
    for step in steps:
        e = step.element
        if isinstance(e, Layer):
            found.append(e)
        elif not channels:
            return ()
        elif isinstance(e, LayerNorm):
            given = (e.weight, e.bias)
            forms = [None if a is None else a.astype(t).tobytes() for t in (np.float32, np.float64) for a in given]
            found.append(("layer_norm", e.channels, e.eps, *forms))
        elif isinstance(e, ArgMax):
            labels = e.labels
            dtype = checks.type_of_index(channels) if labels is None else labels.dtype
            found.append(("arg_max", dtype, None if labels is None else labels.tobytes()))
        elif isinstance(e, Softmax):
            found.append(("softmax",))
        else:
            return ()
        channels = step.channels or channels
    return tuple(found) if any(isinstance(e, Layer) for e in found) else ()
