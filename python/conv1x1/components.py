"""Principal components, and those of the least noise: layers that are found from covariances."""

from __future__ import annotations

from typing import Any

import numpy as np

from .checks import geometry
from .checks.arrays import Array, ArrayLike, data_array, spelled
from .elsewhere import module_for
from .layers import Conv1x1, Flat, unpickled
from .moments import Covariance, gathered, without

_ROWS = 2**16  # numbers of x whose differences are taken together


def _rebuilt(
    number: int, cls: type[PrincipalComponents], arrays: dict[str, Flat | None], options: dict[str, Any]
) -> PrincipalComponents:
    made = unpickled(number, cls, PrincipalComponents, arrays)
    variances = made.pop("explained_variance"), float(made.pop("total_variance"))
    self: Any = Conv1x1.__new__(cls, **made, **options)
    _VARIANCES.__set__(self, variances)
    return self  # type: ignore[no-any-return]


class PrincipalComponents(Conv1x1):
    """The layer that `pca` and `mnf` give: x less its mean, times the components. It never changes.

    Its `weight` holds the components, one a row, and its `center` and `bias` the mean.
    """

    __slots__ = ("_variances",)

    _rebuilt = staticmethod(_rebuilt)  # type: ignore[assignment]

    @property
    def explained_variance(self) -> Array:
        """The variance along each component, (components,) of float64, read-only, the largest first."""
        found: Array = _VARIANCES.__get__(self)[0]
        return found

    @property
    def explained_variance_ratio(self) -> Array:
        """The part that each has in the variance of all channels together, (components,) of float64."""
        variances, total = _VARIANCES.__get__(self)
        return np.asarray(variances / total if total else np.zeros_like(variances))

    def _arrays(self) -> dict[str, Any]:
        variances, total = _VARIANCES.__get__(self)
        return super()._arrays() | {"explained_variance": variances, "total_variance": np.float64(total)}

    def __repr__(self) -> str:
        part = 100 * float(self.explained_variance_ratio.sum())
        return f"<PrincipalComponents {self.in_channels} → {self.out_channels}, {part:.1f} % of the variance>"


# Only from here can it be set: a layer never changes.
_VARIANCES = PrincipalComponents.__dict__["_variances"]
delattr(PrincipalComponents, "_variances")


def pca(
    x: Any,
    components: int | float,
    *,
    whiten: bool = False,
    channel_axis: int | str = -1,
    weights: ArrayLike | None = None,
    nodata: ArrayLike | None = None,
    threads: int | None = None,
) -> PrincipalComponents:
    """The principal components of an image's channels, as a layer that turns pixels into them.

    Parameters
    ----------
    x : array_like, path, dask array, xarray.DataArray or Covariance
        Pixels, as for `covariance`; or what was gathered of them in a `Covariance`. Of floats, pixels in which a
        channel is NaN are left out.
    components : int or float
        How many; or, below 1, which part of the variance they are to explain at least.
    whiten : bool, default False
        Whether each component is divided by its standard deviation.
    channel_axis, weights, nodata, threads
        As for `covariance`.

    Returns
    -------
    PrincipalComponents
        A `Conv1x1` with the mean as its center and with `explained_variance` and `explained_variance_ratio`. For pixels
        of integers the center is whole numbers, which cost no digit, else float32; the rest is in the bias. Of each
        component the entry of the largest magnitude is positive, as in scikit-learn.

    Raises
    ------
    TypeError, ValueError
        When an argument does not fit, or when fewer than two pixels count.

    See Also
    --------
    covariance : what they are found from.
    mnf : components by their noise.

    Notes
    -----
    The eigenvectors of the covariance (K. Pearson, On lines and planes of closest fit, Philosophical Magazine 2, 1901),
    by LAPACK through NumPy; eigenvalues below 0, which only rounding makes, count as 0.

    Examples
    --------
    >>> import numpy as np
    >>> from conv1x1 import pca
    >>> along = np.arange(100)
    >>> scene = np.stack([3 * along, 4 * along, along % 2], -1).astype(np.uint16)
    >>> layer = pca(scene, 1)
    >>> layer
    <PrincipalComponents 3 → 1, 100.0 % of the variance>
    >>> layer.weight.round(3)
    array([[0.6, 0.8, 0. ]])
    >>> layer(scene[50]).round(2)
    array([2.5], dtype=float32)
    """
    total, whole = _gathered(x, channel_axis, weights, nodata, threads)
    values, vectors = np.linalg.eigh(total.covariance)
    return _made(components, values[::-1], vectors[:, ::-1].T, total.mean, _number(x, channel_axis), whole, whiten)


def mnf(
    x: ArrayLike,
    components: int | float,
    *,
    channel_axis: int = -1,
    nodata: ArrayLike | None = None,
    threads: int | None = None,
) -> PrincipalComponents:
    """The components of the largest signal to noise (minimum noise fraction), as a layer.

    The noise is found from the differences of neighbours along the last axis of pixels, which share what is signal.

    Parameters
    ----------
    x : array_like
        An image, with neighbours along its last axis besides the channels.
    components, channel_axis, nodata, threads
        As for `pca`. The part of the variance is that in units of noise.

    Returns
    -------
    PrincipalComponents
        Each component has noise of variance 1, and `explained_variance` is signal and noise together.

    Raises
    ------
    TypeError, ValueError
        As for `pca`; or where a channel has no noise at all.

    Notes
    -----
    A. A. Green, M. Berman, P. Switzer, M. D. Craig, A transformation for ordering multispectral data in terms of image
    quality, IEEE Transactions on Geoscience and Remote Sensing 26, 1988.

    Examples
    --------
    >>> import numpy as np
    >>> from conv1x1 import mnf
    >>> random = np.random.default_rng(0)
    >>> scene = np.linspace(0, 9, 2000).reshape(40, 50, 1) + random.normal(size=(40, 50, 4)) * [1, 2, 3, 4]
    >>> layer = mnf(scene, 2)
    >>> bool(layer.explained_variance[0] > 8 > 1.5 > layer.explained_variance[1])
    True
    """
    a = data_array(x, "x")
    axis = geometry.axis(a, channel_axis)
    total, whole = _gathered(a, axis, None, nodata, threads)
    mask = np.moveaxis(np.ma.getmaskarray(a), axis, -1) if np.ma.is_masked(a) else None
    noise = _noise(np.moveaxis(np.ma.getdata(a), axis, -1), mask, nodata)
    variances, vectors = np.linalg.eigh(noise)
    if not variances[0] > 1e-12 * variances[-1]:
        raise ValueError("some mixture of the channels has no noise at all, so that none is the least: use pca(x, …)")
    whitens = vectors / np.sqrt(variances)
    values, mixed = np.linalg.eigh(whitens.T @ total.covariance @ whitens)
    return _made(components, values[::-1], (whitens @ mixed[:, ::-1]).T, total.mean, channel_axis, whole, False)


def _number(x: Any, channel_axis: int | str) -> int:
    """As it was given, or which axis a name means."""
    named = isinstance(channel_axis, str) and module_for(x)
    return int(named.axis_number(x, channel_axis)) if named else geometry.axis_number(channel_axis)


def _gathered(
    x: Any, channel_axis: int | str, weights: Any, nodata: Any, threads: int | None
) -> tuple[Covariance, bool]:
    """The covariance of the pixels, and whether they are whole numbers."""
    if isinstance(x, Covariance):
        if weights is not None or nodata is not None:
            raise TypeError("x is a Covariance, which was told weights and nodata: leave them away")
        return x, x.integers
    total = gathered(x, channel_axis, weights, nodata, threads, nan=True)
    return total, total.integers


def _noise(pixels: Array, mask: Any, nodata: Any) -> Array:
    """Half the covariance of what neighbours along the last axis of pixels differ by."""
    if pixels.ndim < 2 or pixels.shape[-2] < 2:
        raise ValueError(f"x of shape {pixels.shape}, channels last, has no neighbours along its last axis of pixels")
    rows = pixels.reshape(-1, *pixels.shape[-2:]) if pixels.ndim != 3 else pixels
    total = Covariance(rows.shape[-1])
    at_once = max(1, _ROWS // max(1, rows[0].size))
    channels = np.broadcast_to(np.nan if nodata is None else nodata, rows.shape[-1:])
    for first in range(0, len(rows), at_once):
        strip = rows[first : first + at_once]
        counts = without(strip, strip.ndim - 1, channels).reshape(strip.shape[:-1])
        if mask is not None:
            counts &= ~mask.reshape(rows.shape)[first : first + at_once].any(-1)
        strip = strip.astype(np.float64)
        total.update(strip[:, 1:] - strip[:, :-1], weights=counts[:, 1:] & counts[:, :-1])
    return total.covariance / 2


def _made(
    components: Any, values: Array, rows: Array, mean: Array, axis: int, whole: bool, whiten: bool
) -> PrincipalComponents:
    """The layer of the first rows, as many as are asked for."""
    values = np.maximum(values, 0)
    count = _count(components, values)
    rows, kept = rows[:count], values[:count]
    signs = np.sign(rows[np.arange(count), np.abs(rows).argmax(1)])
    rows = rows * np.where(signs == 0, 1, signs)[:, None]
    if whiten:
        rows = rows / np.sqrt(np.maximum(kept, np.finfo(float).eps))[:, None]
    center = np.rint(mean) if whole else mean.astype(np.float32).astype(np.float64)  # sums of float32 take it exactly
    center = np.where(np.isfinite(center), center, mean)
    bias = rows @ (center - mean)
    arrays = {
        "w": rows,
        "bias": bias if bias.any() else None,
        "center": center,
        "explained_variance": kept,
        "total_variance": np.float64(values.sum()),
    }
    flat = {n: None if a is None else (a.tobytes(), a.shape, a.dtype.str) for n, a in arrays.items()}
    return _rebuilt(1, PrincipalComponents, flat, {"channel_axis": axis})


def _count(components: Any, values: Array) -> int:
    """How many of these variances are asked for."""
    if isinstance(components, (bool, np.bool_)) or not isinstance(components, (int, float, np.integer, np.floating)):
        raise TypeError(f"components must be a number of them or a part of the variance, got {spelled(components)}")
    if isinstance(components, (int, np.integer)):
        if not 1 <= components <= len(values):
            raise ValueError(f"components={components}: x has {len(values)} channels, so that there are 1 to as many")
        return int(components)
    if not 0 < components < 1:
        raise ValueError(f"components={components}: expected a whole number, or a part of the variance between 0 and 1")
    total = values.sum()
    return int(np.searchsorted(np.cumsum(values) / total, components) + 1) if total else 1
