"""Sums over pixels: means, covariances, and the principal components that come of them."""

from __future__ import annotations

import math
import os
from collections.abc import Iterator
from fractions import Fraction
from typing import Any, NamedTuple

import numpy as np

from . import _conv1x1
from .arithmetic import default_arithmetic
from .checks import geometry, positive_int
from .checks.arrays import Array, ArrayLike, bare, data_array, is_complex, is_integer, spelled
from .elsewhere import module_for
from .exact import DIGIT, ExactSum, divided, halves

#: Products of 16-bit integers, summed over so many pixels, are whole numbers that float64 holds.
_EXACT_PIXELS = 2**21
_EXACT = tuple(map(np.dtype, ("bool", "uint8", "int8", "uint16", "int16")))
#: How many numbers of x are looked at together for what is not to be counted.
_STRIP = 2**17


class _Pixels(NamedTuple):
    """Pixels, and which of them count how much."""

    x: Array
    axis: int
    weights: Array | None = None  # one a pixel, in C order; none of them is 0 where `keep` says no
    keep: Array | None = None  # likewise
    exact: bool = False  # sums of so many products are whole numbers that float64 holds

    @property
    def size(self) -> int:
        """How many pixels there are."""
        return math.prod(n for i, n in enumerate(self.x.shape) if i != self.axis)

    def counted(self) -> int:
        """How many of them count."""
        which = self.keep if self.weights is None else self.weights
        return self.size if which is None else int(np.count_nonzero(which))

    def parts(self) -> Iterator[_Pixels]:
        """So few at a time that their sums are exact."""
        if self.size <= _EXACT_PIXELS:
            yield self
            return
        along = next(i for i, n in enumerate(self.x.shape) if i != self.axis and n > 1)
        half, n = self.x.shape[along] // 2, self.size // self.x.shape[along]
        for part in (slice(None, half), slice(half, None)):
            keep = None if self.keep is None else self.keep.reshape(-1, n)[part].ravel()
            yield from self._replace(x=self.x[(slice(None),) * along + (part,)], keep=keep).parts()


@default_arithmetic
def _pixels(x: ArrayLike, channel_axis: int, channels: int, weights: Any, nodata: Any) -> _Pixels:
    """The arguments of one call, checked."""
    a = data_array(x, "x")
    axis = geometry.axis(a, channel_axis)
    if is_complex(a.dtype):
        raise TypeError(f"x has dtype {a.dtype}; covariances are of real numbers: pass x.real, and x.imag")
    if not a.shape[axis]:
        raise ValueError(f"x of shape {a.shape} has no channels on axis {axis}")
    if a.shape[axis] != channels:
        raise ValueError(f"x of shape {a.shape} has {a.shape[axis]} channels on axis {axis}, expected {channels}")
    shape = a.shape[:axis] + a.shape[axis + 1 :]
    mask = np.ma.getmask(a)
    a = bare(a)
    keep = None if mask is np.ma.nomask else ~np.asarray(mask).any(axis).ravel()
    if nodata is not None:
        given = _nodata(nodata, a.shape[axis])
        found = without(a, axis, given)
        keep = found if keep is None else keep & found
    if weights is not None:
        weights = _weights(weights, shape)
        if weights.dtype == bool:
            keep, weights = weights if keep is None else keep & weights, None
        elif keep is not None:
            weights, keep = np.where(keep, weights, 0.0), None
    return _Pixels(a, axis, weights, keep, weights is None and a.dtype.newbyteorder("=") in _EXACT)


def _nodata(nodata: Any, channels: int) -> Array:
    given = np.asarray(nodata)
    if given.dtype.kind not in "biuf" or given.shape not in ((), (channels,)):
        raise ValueError(f"nodata must be a number, or one for each of the {channels} channels, got {spelled(nodata)}")
    return np.broadcast_to(given, (channels,))


def _weights(weights: Any, shape: tuple[int, ...]) -> Array:
    given = np.asarray(weights)
    if given.dtype.kind not in "biuf":
        raise TypeError(f"weights must be real numbers, one a pixel, got dtype {given.dtype}")
    if given.shape != shape:
        raise ValueError(f"weights has shape {given.shape}, expected x's without the channels, {shape}")
    if given.dtype == bool:
        return np.ascontiguousarray(given).ravel()
    flat = np.ascontiguousarray(given, np.float64).ravel()
    if not (flat >= 0).all() or np.isinf(flat).any():
        raise ValueError("weights must be finite and not negative: pass 0 for pixels that do not count")
    return flat


def without(a: Array, axis: int, nodata: Array) -> Array:
    """Which pixels have no channel that is nodata, in C order; looked at strip by strip."""
    pixels = np.moveaxis(a, axis, -1)
    keep = np.empty(pixels.shape[:-1], bool)
    rows = max(1, _STRIP // max(1, math.prod(pixels.shape[1:]))) if keep.ndim else 1
    for first in range(0, pixels.shape[0] if keep.ndim else 1, rows):
        part = slice(first, first + rows) if keep.ndim else ...
        strip = pixels[part]
        keep[part] = ~((strip == nodata) | (np.isnan(nodata) & (strip != strip))).any(-1)
    return keep.ravel()


class Covariance:
    """The mean and the covariance of pixels that come in parts: tiles of a scene, chunks of a dask array.

    What the parts bring is added without rounding, so that their order, and how they were merged, change no bit. For
    pixels of 8 or 16 bits without weights the parts are exact too, and the result is the exact covariance, rounded
    once, whatever the parts. For others the sums of a part are those of `covariance`, about its own mean.

    Parameters
    ----------
    channels : int
        How many channels the pixels have.

    Examples
    --------
    >>> import numpy as np
    >>> from conv1x1 import Covariance
    >>> scene = np.arange(24, dtype=np.uint16).reshape(4, 3, 2) ** 2
    >>> upper, lower = Covariance(2).update(scene[:2]), Covariance(2).update(scene[2:])
    >>> both = lower.merge(upper)
    >>> both.count, both.mean
    (12, array([168.66666667, 191.66666667]))
    >>> bool((both.covariance == Covariance(2).update(scene).covariance).all())
    True
    """

    def __init__(self, channels: int) -> None:
        self._channels = positive_int(channels, "channels")
        self._count = self._left_out = 0
        self._integers = True
        self._weight, self._squared, self._sum, self._products = (ExactSum() for _ in range(4))

    @property
    def channels(self) -> int:
        """How many channels the pixels have."""
        return self._channels

    @property
    def count(self) -> int:
        """How many pixels were counted."""
        return self._count

    @property
    def left_out(self) -> int:
        """How many were not: masked, nodata, or of weight 0."""
        return self._left_out

    @property
    def integers(self) -> bool:
        """Whether all pixels so far were whole numbers."""
        return self._integers

    def update(
        self,
        x: ArrayLike,
        *,
        channel_axis: int = -1,
        weights: ArrayLike | None = None,
        nodata: ArrayLike | None = None,
        threads: int | None = None,
    ) -> Covariance:
        """Add pixels.

        Parameters
        ----------
        x, channel_axis, weights, nodata, threads
            As for `covariance`.

        Returns
        -------
        Covariance
            This one.

        Raises
        ------
        TypeError, ValueError
            When an argument does not fit; nothing is added then.
        """
        pixels = _pixels(x, channel_axis, self._channels, weights, nodata)
        threads = _conv1x1.get_num_threads() if threads is None else positive_int(threads, "threads")
        if pixels.exact:
            added = [_part(part, np.zeros(self._channels), threads) for part in pixels.parts()]
        else:
            _, sums, weight = _part(pixels, None, threads, products=False)
            mean = _mean(sums, weight)
            added = [_part(pixels, mean, threads)]
        for (products, sums, weight), shift in ((a, np.zeros(self._channels) if pixels.exact else mean) for a in added):
            self._add(products, sums, weight, shift)
        counted = pixels.counted()
        self._integers &= is_integer(pixels.x.dtype)
        self._count += counted
        self._left_out += pixels.size - counted
        self._squared.add(np.asarray(float(counted) if pixels.weights is None else math.fsum(pixels.weights**2)))
        return self

    @default_arithmetic
    def _add(self, products: Array, sums: Array, weight: float, shift: Array) -> None:
        """Add sums about `shift` as what they are about zero: Σxy + s·Σy + Σx·s + s·s·Σ1, no product rounded."""
        self._products.add(products)
        self._sum.add(sums)
        self._weight.add(np.asarray(weight))
        if not shift.any():
            return
        for s in halves(shift):
            for half in halves(np.asarray(weight)):
                self._sum.add(s * half)
            for half in halves(sums):
                product = np.multiply.outer(s, half)
                self._products.add(np.tril(product))
                self._products.add(np.tril(product.T))
            for other in halves(shift):
                for product in halves(np.tril(np.multiply.outer(s, other))):
                    for half in halves(np.asarray(weight)):
                        self._products.add(product * half)

    def merge(self, other: Covariance) -> Covariance:
        """Add the pixels of another one.

        Parameters
        ----------
        other : Covariance
            Of as many channels; it is not changed.

        Returns
        -------
        Covariance
            This one.

        Raises
        ------
        TypeError, ValueError
            When it is something else, or of other channels.
        """
        if not isinstance(other, Covariance):
            raise TypeError(f"merge takes a Covariance, got {spelled(other)}: add pixels by update(x)")
        if other.channels != self._channels:
            raise ValueError(f"merge takes a Covariance of {self._channels} channels, got one of {other.channels}")
        self._count += other._count
        self._left_out += other._left_out
        self._integers &= other._integers
        for mine, theirs in zip(self._sums(), other._sums(), strict=True):
            mine.merge(theirs)
        return self

    def _sums(self) -> tuple[ExactSum, ...]:
        return self._weight, self._squared, self._sum, self._products

    @property
    def mean(self) -> Array:
        """The mean of each channel, (channels,) of float64, each the nearest to the exact one of what was added."""
        weight = self._total(self._weight)
        if not weight:
            raise ValueError("there are no pixels to take the mean of: none was counted")
        least = min(self._sum.digits, default=0)
        mean = divided(self._sum.whole(least, slice(None)) + np.zeros(self._channels, int), least, weight)
        mean[np.broadcast_to(self._sum.wrong, mean.shape)] = np.nan
        return mean

    @property
    def covariance(self) -> Array:
        """The covariance of the channels, (channels, channels) of float64, as `numpy.cov` defines it.

        It is symmetric, to the bit. Where a pixel was infinite or NaN, so are the entries of its channels: NaN.
        """
        weight, squared = self._total(self._weight), self._total(self._squared)
        scale = weight * weight - squared
        if scale <= 0:
            raise ValueError(f"a covariance takes at least two pixels; {self._count} were counted")
        c = self._channels
        least_sum = min(self._sum.digits, default=0)
        least = min(self._products.digits, default=0)
        sums = self._sum.whole(least_sum, slice(None)) + np.zeros(c, int)
        unit = Fraction(2) ** (DIGIT * (2 * least_sum - least))
        found = np.empty((c, c))
        for i in range(c):
            products = self._products.whole(least, i, slice(i + 1)) + np.zeros(i + 1, int)
            # weight·Σxy − Σx·Σy as whole numbers over one denominator
            bottom = math.lcm(weight.denominator, unit.denominator)
            above = products * int(weight * bottom) - sums[i] * sums[: i + 1] * int(unit * bottom)
            found[i, : i + 1] = divided(above, least, scale * bottom)
        found = np.tril(found) + np.tril(found, -1).T
        wrong = np.broadcast_to(self._sum.wrong, (c,))
        found[wrong] = np.nan
        found[:, wrong] = np.nan
        return found

    def _total(self, one: ExactSum) -> Fraction:
        least = min(one.digits, default=0)
        return Fraction(int(one.whole(least, ...)[()])) * Fraction(2) ** (DIGIT * least)

    def __repr__(self) -> str:
        return f"<Covariance of {self._channels} channels, {self._count:,} pixels>"


@default_arithmetic
def _mean(sums: Array, weight: float) -> Array:
    """About what to sum: about the mean, or 0 where there is none."""
    mean = sums / weight
    return np.where(np.isfinite(mean), mean, 0.0)


def _part(pixels: _Pixels, shift: Array | None, threads: int, products: bool = True) -> tuple[Array, Array, float]:
    """The sums of products, of channels and of weights, about `shift`."""
    shift = shift if shift is not None and shift.any() else None
    found = _conv1x1.moments(pixels.x, pixels.axis, shift, pixels.weights, pixels.keep, products, pixels.exact, threads)
    return np.ascontiguousarray(found[:-1, :-1]), found[-1, :-1].copy(), float(found[-1, -1])


def gathered(
    x: Any, channel_axis: Any, weights: Any, nodata: Any, threads: int | None, nan: bool = False
) -> Covariance:
    """The sums of all pixels of x: a file's, another library's array, or one of NumPy's; NaN is nodata if `nan`."""
    if isinstance(x, (str, os.PathLike)):
        from .streaming.sums import of_source

        if weights is not None:
            raise TypeError("weights go with arrays; of a file pass nodata=, or gather its tiles in a Covariance")
        return of_source(x, channel_axis=channel_axis, nodata=nodata, threads=threads, nan=nan)
    module = module_for(x)
    a: Any = x if module else data_array(x, "x")
    axis = module.axis_number(x, channel_axis) if module else geometry.axis(a, channel_axis)
    if nan and nodata is None and not is_integer(a.dtype):
        nodata = np.nan
    if module:
        return module.covariance(x, axis, weights, nodata, threads)  # type: ignore[no-any-return]
    total = Covariance(a.shape[axis] or 1)  # which of no channels says so itself
    return total.update(a, channel_axis=axis, weights=weights, nodata=nodata, threads=threads)


def covariance(
    x: ArrayLike,
    *,
    channel_axis: int = -1,
    weights: ArrayLike | None = None,
    nodata: ArrayLike | None = None,
    threads: int | None = None,
) -> tuple[Array, Array]:
    """The mean and the covariance of an image's channels: ``numpy.cov`` without a copy of the image in floats.

    Parameters
    ----------
    x : array_like
        Pixels of any rank, with their channels on `channel_axis`, of any real type that `conv1x1` takes. Read as it
        lies in memory. Of a masked array, pixels with a masked channel are left out. A dask array is read chunk by
        chunk, by its own scheduler; the file of a path tile by tile, as by `stream`.
    channel_axis : int, default -1
        The axis of x that holds the channels.
    weights : array_like, optional
        How much each pixel counts, of x's shape without the channels; of bool, whether it does. As `aweights` of
        `numpy.cov`: a pixel of weight 0 is left out, whatever it holds.
    nodata : scalar or array_like, optional
        A number, or one for each channel: pixels in which any channel is this are left out. NaN may be one.
    threads : int, optional
        At most this many threads, `get_num_threads` by default. No result depends on it.

    Returns
    -------
    mean : ndarray
        ``(C,)`` of float64.
    covariance : ndarray
        ``(C, C)`` of float64, symmetric to the bit; sums are divided by the number of pixels less one.

    Raises
    ------
    TypeError, ValueError
        When an argument does not fit, or when fewer than two pixels count.
    MemoryError
        When there is no room for the sums.

    See Also
    --------
    Covariance : the same of pixels that come in parts.
    pca : the principal components, as a layer.

    Notes
    -----
    For pixels of 8 or 16 bits without weights the sums are exact, and each number of the result is the exact one,
    rounded once. Others are summed in float64 about their mean (two passes), in one order, which depends on the
    numbers of pixels and channels alone: blocks of 4,096 pixels in C order, each a chain of fused multiply-adds; groups
    of blocks; and the groups as a tree. So no result depends on threads, strides, layout, instruction set or machine.

    Examples
    --------
    >>> import numpy as np
    >>> from conv1x1 import covariance
    >>> scene = np.array([[[1, 2], [3, 7]], [[5, 9], [7, 6]]], np.uint8)
    >>> mean, found = covariance(scene)
    >>> mean
    array([4., 6.])
    >>> found
    array([[6.66666667, 4.66666667],
           [4.66666667, 8.66666667]])
    >>> bool(np.allclose(found, np.cov(scene.reshape(-1, 2).T)))
    True
    """
    total = gathered(x, channel_axis, weights, nodata, threads)
    return total.mean, total.covariance
