"""The definitions of the steps of a chain that are no convolutions, to read and to test against: in float64.

Each takes numbers of float64 whose channels are on `axis`. What the core computes is the same in the type of the sums,
each sum in one written order, so that its bits depend on the numbers of one result alone:

- over channels, 16 partial sums from 0, channel c into number c mod 16, then added as a tree, 8, 4, 2, 1 apart;
- over pixels, in C order, blocks of 64 one after another, each a chain from 0; then neighbours in pairs, again and
  again, until one is left, where the last of an odd number waits for the next round.
"""

from __future__ import annotations

import numpy as np

from ..checks.arrays import Array


def softmax(x: Array, axis: int) -> Array:
    """The power of e of each channel, in parts of their sum; the largest is taken off first, so that none overflows.

    A channel of −∞ is 0. All channels of a pixel are NaN where one is, or +∞, or where all are −∞: the largest is
    then no number that can be taken off.
    """
    powers = np.exp(x - x.max(axis, keepdims=True, initial=-np.inf))
    return np.asarray(powers / powers.sum(axis, keepdims=True))


def layer_norm(x: Array, weight: Array | None, bias: Array | None, eps: float, axis: int) -> Array:
    """The channels of a pixel less their mean, over their deviation (biased: of n channels, not n − 1).

    Each is then multiplied by its `weight` and has its `bias` added, where there are such.
    """
    along = [1] * x.ndim
    along[axis] = -1
    centred = x - x.mean(axis, keepdims=True)
    variance = np.square(centred).mean(axis, keepdims=True)
    y = centred / np.sqrt(variance + eps)
    if weight is not None:
        y = y * weight.reshape(along)
    if bias is not None:
        y = y + bias.reshape(along)
    return np.asarray(y)


def arg_max(x: Array, labels: Array | None, axis: int) -> Array:
    """The index of each pixel's largest channel, the first of equals, or the label there; the axis goes.

    The first NaN counts as the largest. Indices are of the first of uint8, uint16 and int32 that holds them.
    """
    index = x.argmax(axis)
    if labels is not None:
        return np.asarray(labels[index])
    channels = x.shape[axis]
    return np.asarray(index).astype(np.uint8 if channels <= 2**8 else np.uint16 if channels <= 2**16 else np.int32)


def pool(x: Array, kind: str, axes: tuple[int, ...]) -> Array:
    """The "mean", "max" or "sum" of each channel over the pixels along `axes`, which go; NaN where one is."""
    if kind == "max":
        return np.asarray(x.max(axes) + 0.0)  # no −0
    total = x.sum(axes)
    return np.asarray(total if kind == "sum" else total / np.prod([x.shape[i] for i in axes], dtype=float))
