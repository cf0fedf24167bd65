"""One number of a result, with the whole calculation behind it: as text, as a picture, in a notebook.

`calculation` holds the facts, which `text` and `drawing` tell.
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np

from .. import _conv1x1
from ..arithmetic import default_arithmetic
from ..checks import Activation, Spec, floats, geometry, is_chain, pixels_and_chain
from ..checks.arrays import Array, ArrayLike, DTypeLike, data_array, is_complex
from ..reference.floats import by_parts, exact
from .calculation import Calculation, Place, index_within, of_one_product, pixel_within, steps_of, sum_of

if TYPE_CHECKING:
    from .chain import ChainExplanation
else:  # what `typing.get_type_hints` finds: it is imported with the first chain
    ChainExplanation = Any


@default_arithmetic
def explain(
    x: ArrayLike,
    w: ArrayLike,
    bias: ArrayLike | None = None,
    *,
    channel_axis: int = -1,
    stride: int | tuple[int, ...] = 1,
    groups: int = 1,
    activation: Activation = None,
    residual: ArrayLike | None = None,
    dtype: DTypeLike | None = None,
    center: ArrayLike | None = None,
    at: int | tuple[int, ...] | None = None,
    filter: int = 0,
) -> Explanation | ChainExplanation:
    """Show the real calculation behind one number of the result.

    Multiplying 28×28×192 by 1×1×192 gives 28×28×192 again; what shrinks it is the sum over the channels.
    `explain` shows that with the numbers of the call: print what it returns, show it in a notebook, or save
    its picture with `to_svg`.

    Parameters
    ----------
    x, w, bias, channel_axis, stride, groups, activation, residual, dtype
        As in `conv1x1`; of masked arrays, their data, and the text says where the mask hides the result. Only the
        pixel that is explained is read.
    center
        As in `Conv1x1`.
    at : int or tuple of int, optional
        The pixel of the result, one index for each of its axes besides the channels. Missing indices in front
        are 0, so that `(i, j)` is in the first image of a batch; negative ones count from the end.
    filter : int
        The output channel; of a chain, that of its last layer.

    Returns
    -------
    Explanation
        Text with `str`, a drawing with `to_svg`, and the numbers as attributes. Of a chain, ``explain(net, x, at=…)``,
        a `ChainExplanation`, which has the same of every element on the way of the pixel.

    Raises
    ------
    TypeError, ValueError
        As `conv1x1` does; also ValueError if the result is empty.
    IndexError
        If `at` or `filter` is outside the result.

    Examples
    --------
    Two channels of 2×2 pixels, and the filter [2, 3]:

    >>> from conv1x1 import explain
    >>> e = explain([[[1., 2.], [3., 4.]], [[5., 6.], [7., 8.]]], [2, 3], channel_axis=0)
    >>> calculation, shapes, real_call = str(e).split("\\n\\n")
    >>> print(calculation)
    y[0, 0] = Σ x[:, 0, 0] · w = 17
      channel     0   1
      x           1   5
      w           2   3
      w·x         2  15
      sum         2·1 + 3·5 = 17
    >>> print(shapes)
    What shrinks?
      x (2, 2, 2) · w (2,) → products (2, 2, 2) → sum over the 2 channels → (2, 2)
      Not the multiplication: each channel of each pixel has its product, 2·2·2 of them.
      The SUM over the channels: it makes 1 number of the 2 products of a pixel.
    >>> e.value, float(e.result)
    (17.0, 17.0)
    """
    if is_chain(x) or is_chain(w):
        from .chain import explain_chain

        options = (bias, channel_axis, stride, groups, activation, residual, dtype, center)
        return explain_chain(*pixels_and_chain(x, w, "explain", options), at, filter)
    a = data_array(x, "x")
    given = {"x": a, "residual": residual}
    spec = floats.spec(w, bias, channel_axis, stride, groups, activation, dtype, center, a)
    a, residual, _, _, _ = floats.call(spec, a, residual, None, None, numbers=False)
    place, shapes = _find(a, spec, at, filter)
    index = place.pixel[: place.channel_axis] + (place.filter,) * spec.keep_axis + place.pixel[place.channel_axis :]

    layer = _conv1x1.Layer(spec)
    of_x = _one_pixel(place.source, place.channel_axis)
    of_result = _one_pixel(place.pixel, place.channel_axis if spec.keep_axis else None)
    shown, added = a[of_x], None if residual is None else residual[of_result]
    result = np.ravel(layer(shown, residual=added))
    plan = layer._plan(a, residual, None, None)

    integers = floats.sums_integers(spec, shown, added)
    per_group = spec.weight.shape[1]
    seen = slice(place.first_channel, place.first_channel + per_group)
    channels = exact(np.ravel(shown)[seen], integers)
    off = None if spec.center is None else exact(spec.center[seen], integers)
    factors = channels if off is None else channels - off
    weights = exact(spec.weight[place.filter], integers)
    products = by_parts(np.multiply, weights, factors)
    one_bias = None if spec.bias is None else exact(spec.bias[place.filter], integers).item()
    one_residual = None if residual is None else exact(residual[index], integers).item()
    total = products.sum().item()
    steps = steps_of(sum_of(weights, factors), total, one_bias, one_residual, spec, result.dtype)

    results = math.prod(shapes["result"])
    parameters = sum(a.size for a in (spec.weight, spec.bias, spec.center) if a is not None)
    bytes_of_one = np.dtype(plan["arithmetic"]).itemsize * (2 if is_complex(weights.dtype) else 1)
    bytes_of_x = results // len(spec.weight) * a.shape[place.channel_axis] * a.itemsize
    return Explanation(
        shapes=shapes,
        index=index,
        source=place.source,
        channels=channels,
        weights=weights,
        products=products,
        steps=steps,
        value=steps[-1][2],
        result=result[place.filter],
        flops=of_one_product(weights, channels) * per_group * results,
        bytes_read=bytes_of_x + parameters * bytes_of_one + (0 if residual is None else residual.nbytes),
        bytes_written=results * result.itemsize,
        plan=plan,
        _spec=spec,
        _place=place,
        _center=off,
        _bias=one_bias,
        _residual=one_residual,
        _dtypes=(str(a.dtype), str(result.dtype)),
        _integers=integers,
        _masked=[name for name, array in given.items() if _is_masked(array, of_x if name == "x" else index)],
    )


@dataclass(frozen=True, eq=False, repr=False)
class Explanation(Calculation):
    """One number of a result and how it came about; `explain` makes it.

    Attributes
    ----------
    shapes : dict of str to tuple
        Of `x`, `w`, the `filter`, the `products` of all pixels with it, their `sum`, and the `result`.
    index, source : tuple of int
        Where the number stands in the result, and the pixel of x it comes from, without the channel axis.
    channels, weights, products : ndarray
        The channels the filter looks at, its weights, and one (less its center) times the other: in float64 or
        complex128, or where the call sums integers, in int64, exactly.
    steps : list of tuple
        The calculation line by line, from the sum to the value: name, arithmetic, result.
    value : float, complex or int
        What the steps come to, in float64 or complex128, or in int where the call sums integers; rounded to the
        result's type where that was asked for or is smaller.
    result : numpy.generic
        The number that a call really returns, of the result's type: of `value` it may be off by what the sums round.
        Where a call would mask it, the number under the mask.
    flops, bytes_read, bytes_written : int
        What the whole call computes, in floating-point or integer operations, and the least it moves.
    plan : dict
        How the core would run the call: `Conv1x1.plan`.
    """

    @default_arithmetic
    def __str__(self) -> str:
        from .text import plain  # here, as all that is seldom wanted

        return plain(self)

    __repr__ = __str__

    @default_arithmetic
    def _repr_html_(self) -> str:
        from .text import table

        return f'<div style="max-width:960px">{self.to_svg()}{table(self)}</div>'

    @default_arithmetic
    def to_svg(self) -> str:
        """The calculation as a drawing: one self-contained SVG element, 960 × 600, without scripts or fonts.

        Returns
        -------
        str
            Ready for a file, a slide or a web page.
        """
        from .drawing import draw

        return draw(self)


def _find(x: Array, spec: Spec, at: Any, filter: Any) -> tuple[Place, dict[str, tuple[int, ...]]]:
    """The number that is meant, and the shapes on the way to it."""
    position = geometry.axis(x, spec.channel_axis)
    strides = geometry.strides_per_axis(x, position, spec.stride)
    (out_channels, per_group), keep = spec.weight.shape, spec.keep_axis
    shapes = {
        "x": x.shape,
        "w": spec.weight.shape if keep else (per_group,),
        "filter": (1, per_group) if keep else (per_group,),
        "products": geometry.result_shape(x, position, strides, per_group, True),
        "sum": geometry.result_shape(x, position, strides, 1, keep),
        "result": geometry.result_shape(x, position, strides, out_channels, keep),
    }
    if 0 in shapes["result"]:
        raise ValueError(f"the result has shape {shapes['result']}: it holds no number to explain")
    pixels, steps = (axes[:position] + axes[position + 1 :] for axes in (shapes["products"], strides))
    pixel = pixel_within(at, pixels)
    filter = index_within(filter, out_channels, f"filter={filter!r}", "the channel axis")
    return Place(position, steps, pixel, filter, filter // (out_channels // spec.groups) * per_group), shapes


def _one_pixel(pixel: tuple[int, ...], channel_axis: int | None) -> tuple[Any, ...]:
    """What cuts one pixel out of an array, with all its channels, as an array even where there are no axes."""
    entries = [slice(i, i + 1) for i in pixel]
    if channel_axis is not None:
        entries.insert(channel_axis, slice(None))
    return (*entries, ...)


def _is_masked(a: Any, part: tuple[Any, ...]) -> bool:
    return isinstance(a, np.ma.MaskedArray) and bool(np.ma.getmaskarray(a[part]).any())
