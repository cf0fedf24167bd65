"""xarray's arrays: dimensions by name, and coordinates, names and attributes kept where they stay true.

`conv1x1`, layers and chains come here with a DataArray as x; `apply` has what can be said beside.
"""

from __future__ import annotations

from collections.abc import Hashable, Mapping
from typing import Any

import numpy as np

from .elsewhere import module_for
from .moments import Covariance

#: What is said of x's numbers and bands, and no longer true of a result's: packing, gaps, meaning, wavelengths.
LIES = frozenset(
    [
        "scale_factor",
        "add_offset",
        "scales",
        "offsets",
        "_FillValue",
        "missing_value",
        "nodata",
        "nodatavals",
        "valid_range",
        "valid_min",
        "valid_max",
        "actual_range",
        "units",
        "long_name",
        "standard_name",
        "description",
        "descriptions",
        "wavelength",
        "wavelengths",
        "wavelength_units",
        "fwhm",
        "band_names",
        "bands",
        "_Unsigned",
        "dtype",
        "flag_values",
        "flag_meanings",
        "flag_masks",
        "statistics",
    ]
)


def apply(
    layer: Any,
    x: Any,
    *,
    channel_axis: Hashable | None = None,
    new_dim: Hashable | None = None,
    coords: Any = None,
    keep_attrs: bool | None = None,
    residual: Any = None,
    threads: int | None = None,
) -> Any:
    """What a layer gives for a DataArray, as a DataArray: lazily, where x is in dask's chunks.

    Parameters
    ----------
    layer : Conv1x1, QConv1x1 or Sequential
    x : xarray.DataArray
    channel_axis : hashable or int, optional
        The dimension of x that holds the channels, by its name or its number; that of the layer by default.
    new_dim : hashable, optional
        What this dimension is called in the result; as in x by default.
    coords : array_like or mapping, optional
        Of the result's channels: one for each filter, or several by name. Those of x's channels are not kept.
    keep_attrs : bool, optional
        True keeps all attributes of x, False none. By default those are left out that are about x's numbers, such as
        ``scale_factor``, ``_FillValue``, ``units``, ``long_name`` and wavelengths; see `LIES`.
    residual : array_like, optional
        As for a call of the layer. A DataArray's dimensions are brought in order by their names.
    threads : int, optional
        As for a call of the layer.

    Returns
    -------
    xarray.DataArray
        With x's name, and its coordinates but those along the channels.

    Raises
    ------
    TypeError, ValueError
        As a call of the layer does.

    Examples
    --------
    >>> import numpy as np, xarray
    >>> from conv1x1 import Conv1x1
    >>> from conv1x1.xarray import apply
    >>> scene = xarray.DataArray(np.ones((3, 2, 5), np.float32), dims=("band", "y", "x"), coords={"y": [10, 20]})
    >>> grey = apply(Conv1x1([[0.25, 0.5, 0.25]]), scene, channel_axis="band", new_dim="grey", coords=["luma"])
    >>> grey.dims, grey.shape, grey.y.values.tolist(), grey.grey.item()
    (('grey', 'y', 'x'), (1, 2, 5), [10, 20], 'luma')
    """
    import xarray

    dim = x.dims[axis_number(x, layer.channel_axis if channel_axis is None else channel_axis)]
    pixels = [d for d in x.dims if d != dim]
    dims = list(pixels)
    dims.insert(layer.channel_axis % x.ndim, dim)
    there = x.transpose(*dims)  # as the layer takes it
    outline = layer._outline(there)
    keeps = outline.keeps_axis
    added = {}
    if residual is not None:
        added["residual"] = residual
        if isinstance(residual, xarray.DataArray):
            of_y = dim if dim in residual.dims else new_dim
            added["residual"] = residual.transpose(*(of_y if d == dim else d for d in dims if d != dim or keeps)).data
    y = layer(there.data, **added, threads=threads)
    taken = dict(zip(dims, outline.taken(), strict=True))
    kept = {n: c[{d: taken[d] for d in c.dims}] for n, c in x.coords.items() if dim not in c.dims}
    if any(step > 1 for step in outline.steps):
        kept = {n: _without_transform(c) for n, c in kept.items()}
    if keeps:
        named = dim if new_dim is None else new_dim
        dims[outline.position], order = named, [named if d == dim else d for d in x.dims]
        kept |= _labels(getattr(layer, "class_names", None) if coords is None else coords, named)
    elif coords is not None or new_dim is not None:
        raise ValueError("the result has no channel axis, so that new_dim and coords name nothing: leave them away")
    else:
        dims = order = pixels
    attrs = {n: v for n, v in x.attrs.items() if keep_attrs or (keep_attrs is None and n not in LIES)}
    return xarray.DataArray(y, dims=dims, coords=kept, name=x.name, attrs=attrs).transpose(*order)


def called(layer: Any, x: Any, residual: Any, out: Any, threads: Any) -> Any:
    """A layer's result for a DataArray, as one."""
    if out is not None:
        raise TypeError("x is a DataArray, whose result is one: leave out away, or pass x.data, and out as an array")
    return apply(layer, x, residual=residual, threads=threads)


def covariance(x: Any, axis: int, weights: Any, nodata: Any, threads: int | None) -> Any:
    """The covariance of a DataArray's numbers; weights in order of its other dimensions."""
    if isinstance(weights, type(x)):
        weights = weights.transpose(*(d for i, d in enumerate(x.dims) if i != axis)).data
    if module := module_for(x.data):
        return module.covariance(x.data, axis, weights, nodata, threads)
    total = Covariance(x.shape[axis])
    return total.update(x.data, channel_axis=axis, weights=weights, nodata=nodata, threads=threads)


def axis_number(x: Any, channel_axis: Hashable) -> int:
    """Which axis of x a dimension's name, or a number, means."""
    if not hasattr(x, "get_axis_num"):
        raise TypeError("x is a Dataset, whose variables are arrays of their own: pass x.to_dataarray('band')")
    if isinstance(channel_axis, (int, np.integer)) and channel_axis not in x.dims:
        if not -x.ndim <= channel_axis < x.ndim:
            raise ValueError(f"channel_axis={channel_axis} is outside x, which has the dimensions {x.dims}")
        return int(channel_axis) % int(x.ndim)
    if channel_axis not in x.dims:
        raise ValueError(f"channel_axis={channel_axis!r} is no dimension of x, which has {x.dims}")
    return int(x.get_axis_num(channel_axis))


def _labels(coords: Any, dim: Hashable) -> dict[Hashable, Any]:
    if coords is None:
        return {}
    if isinstance(coords, Mapping):
        return {n: c if hasattr(c, "dims") else (dim, c) for n, c in coords.items()}
    return {dim: list(coords) if isinstance(coords, tuple) else coords}


def _without_transform(c: Any) -> Any:
    """A coordinate that says where pixels are by their number (rioxarray's), without that: every other is left out."""
    if "GeoTransform" not in c.attrs:
        return c
    c = c.copy()
    del c.attrs["GeoTransform"]
    return c
