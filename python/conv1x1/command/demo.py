"""A photo as 28×28×192: shrunk by 1×1 convolutions, brought back, timed against NumPy, drawn.

Every step is a small function; `run` tells the story. matplotlib and Pillow are imported only where a file is
read or drawn.
"""

from __future__ import annotations

import math
import warnings
from collections.abc import Callable
from pathlib import Path
from time import perf_counter
from typing import Any, NamedTuple

import numpy as np

from .. import Conv1x1
from ..checks.arrays import Array

SIDE = 224
BLOCK = 8
FILTERS = 16

_QUIET = "#5b6470"


class Codec(NamedTuple):
    """Filters that shrink a picture's blocks and filters that bring them back, each a weight and a bias."""

    shrink: tuple[Array, Array]
    restore: tuple[Array, Array]
    shares: Array  # of the blocks' variance, for each filter


class Timing(NamedTuple):
    """Median seconds of two calls that took turns, and the median of their ratio in each round."""

    ours: float
    numpy: float
    ratio: float


def fold(image: Array, block: int = BLOCK) -> Array:
    """Every block of an image as one pixel.

    Parameters
    ----------
    image : ndarray, shape (H, W, C)
        `block` divides H and W.
    block : int
        The side of a block.

    Returns
    -------
    ndarray, shape (H/block, W/block, block·block·C)
        The channels of a pixel are its block, row by row.
    """
    height, width, channels = image.shape
    blocks = image.reshape(height // block, block, width // block, block, channels).swapaxes(1, 2)
    return blocks.reshape(height // block, width // block, -1)


def unfold(pixels: Array, block: int = BLOCK) -> Array:
    """The image that `fold` took apart.

    Parameters
    ----------
    pixels : ndarray, shape (H, W, block·block·C)
        What `fold` returns.
    block : int
        The side of a block.

    Returns
    -------
    ndarray, shape (H·block, W·block, C)
        The image.
    """
    height, width, _ = pixels.shape
    blocks = pixels.reshape(height, width, block, block, -1).swapaxes(1, 2)
    return blocks.reshape(height * block, width * block, -1)


def principal_filters(pixels: Array, count: int = FILTERS) -> Codec:
    """The filters that keep most of a picture: the principal components of its pixels.

    Parameters
    ----------
    pixels : ndarray, shape (H, W, C)
        The folded picture.
    count : int
        How many filters, at most C.

    Returns
    -------
    Codec
        `shrink`, (count, C) and (count,), takes away the mean pixel and measures what is left along each component;
        `restore`, (C, count) and (C,), adds the components up again, on top of the mean.
    """
    flat = pixels.reshape(-1, pixels.shape[-1]).astype(np.float64)
    mean = flat.mean(axis=0)
    variances, vectors = np.linalg.eigh((flat - mean).T @ (flat - mean))  # ascending
    filters = vectors[:, ::-1][:, :count].T
    filters = filters * np.where(filters.sum(axis=1, keepdims=True) < 0, -1, 1)  # an eigenvector has no sign of its own
    variances = np.maximum(variances, np.finfo(float).tiny)  # a plain picture has none
    shares = variances[::-1][:count] / variances.sum()
    shrink, restore = (filters, -filters @ mean), (filters.T, mean)
    float32 = [(w.astype(np.float32), b.astype(np.float32)) for w, b in (shrink, restore)]
    return Codec(float32[0], float32[1], shares)


def psnr(image: Array, other: Array) -> float:
    """Peak signal-to-noise ratio of two images with values in [0, 1].

    Parameters
    ----------
    image, other : ndarray
        Images of the same shape.

    Returns
    -------
    float
        Decibels; infinite for equal images.
    """
    error = float(np.mean((image.astype(np.float64) - other) ** 2))
    return -10 * math.log10(error) if error else math.inf


def race(ours: Callable[[], object], numpy: Callable[[], object], seconds: float = 0.1) -> Timing:
    """Time two calls in turn, so that both see the same moments of a machine whose speed changes.

    Parameters
    ----------
    ours, numpy : callable
        The two contestants, called without arguments.
    seconds : float
        How long to go on.

    Returns
    -------
    Timing
        Medians over the rounds.
    """
    rounds: list[tuple[float, float]] = []
    for _ in range(3):  # both warm: threads started, memory mapped
        ours(), numpy()
    end = perf_counter() + seconds
    while not rounds or perf_counter() < end:
        start = perf_counter()
        ours()
        middle = perf_counter()
        numpy()
        rounds.append((middle - start, perf_counter() - middle))
    times = np.array(rounds)
    first, second = np.median(times, axis=0)
    return Timing(float(first), float(second), float(np.median(times[:, 1] / times[:, 0])))


def compare(pixels: Array, weight: Array, bias: Array | None) -> Timing:
    """Time one 1×1 convolution against NumPy's matrix product, once both are known to agree.

    Parameters
    ----------
    pixels : ndarray, shape (H, W, C)
        The input.
    weight, bias : ndarray, shapes (K, C) and (K,)
        The filters; without a bias NumPy has none to add either.

    Returns
    -------
    Timing
        See `race`. Both write into an array made before.

    Raises
    ------
    ArithmeticError
        The two do not agree.
    """
    layer = Conv1x1(weight, bias)
    flat = pixels.reshape(-1, pixels.shape[-1])
    ours = np.empty((*pixels.shape[:-1], len(weight)), np.float32)
    theirs = np.empty((len(flat), len(weight)), np.float32)

    def numpy() -> None:
        np.matmul(flat, weight.T, out=theirs)
        if bias is not None:
            np.add(theirs, bias, out=theirs)

    layer(pixels, out=ours)
    numpy()
    if not np.allclose(ours, theirs.reshape(ours.shape), rtol=1e-4, atol=1e-4):
        raise ArithmeticError(f"conv1x1 and NumPy disagree on {shape(pixels)} · {shape(weight)}: run conv1x1 selftest")
    return race(lambda: layer(pixels, out=ours), numpy)


def load_photo(path: str | None) -> tuple[Array, str, tuple[int, int]]:
    """Read a photo, cut the largest square from its centre and scale it to 224×224.

    Parameters
    ----------
    path : str or None
        Any file Pillow reads; None for the portrait of Grace Hopper that matplotlib ships.

    Returns
    -------
    image : ndarray, shape (224, 224, 3)
        float32 in [0, 1].
    name : str
        The file's name.
    size : tuple of int
        The photo's own width and height.

    Raises
    ------
    OSError
        The file is missing or no image.
    """
    from matplotlib import cbook
    from PIL import Image, ImageOps

    path = str(cbook.get_sample_data("grace_hopper.jpg", asfileobj=False)) if path is None else path
    try:
        with warnings.catch_warnings(), Image.open(path) as file:
            warnings.simplefilter("ignore")
            photo = ImageOps.exif_transpose(file).convert("RGB")
    except Exception as error:  # what Pillow says of a damaged file may be anything
        words = getattr(error, "strerror", None) or error
        raise OSError(f"{path}: {words}") from error
    square = ImageOps.fit(photo, (SIDE, SIDE), Image.Resampling.LANCZOS)
    return np.asarray(square, np.float32) / np.float32(255), Path(path).name, photo.size


def draw(output: str, image: Array, thumbnail: Array, codes: Array, restored: Array, codec: Codec) -> None:
    """Draw the photo, what the convolutions made of it, and the filters, into one PNG.

    Parameters
    ----------
    output : str
        The file to write.
    image, thumbnail, codes, restored : ndarray, shapes (224, 224, 3), (28, 28, 1), (28, 28, 16), (224, 224, 3)
        The pictures.
    codec : Codec
        The filters.
    """
    from matplotlib.figure import Figure

    left, width, height = 0.6, 13.0, 7.85  # inches, as all below
    side, gap, small, small_gap = 3.6, 0.5, 0.64, 0.104
    figure = Figure(figsize=(width, height), dpi=120, facecolor="white")

    def text(x: float, y: float, words: str, size: float, **style: Any) -> None:
        figure.text(x / width, y / height, words, fontsize=size, **style)

    def heading(x: float, y: float, words: str, below: str) -> None:
        text(x, y, words, 13, weight="bold")
        text(x, y - 0.28, below, 10.5, color=_QUIET)

    def panel(x: float, y: float, edge: float, picture: Array, **options: Any) -> None:
        axes = figure.add_axes((x / width, y / height, edge / width, edge / height))
        axes.imshow(picture, interpolation="nearest", **options)
        axes.set_axis_off()

    before, after = shape(fold(image)), shape(codes)
    text(left, 7.33, "A 1×1 convolution: each pixel times a filter, summed over the channels", 17, weight="bold")
    x = left
    heading(x, 6.83, "The photo", f"{shape(image)}, folded into {before}")
    panel(x, 2.81, side, image)
    x += side + gap
    heading(x, 6.83, "One filter, the mean", f"{before} · 1×1×192 → {shape(thumbnail)}")
    panel(x, 2.81, side, thumbnail, cmap="gray", vmin=0, vmax=1)
    x += side + gap
    heading(x, 6.83, f"16 filters and back: {psnr(image, restored):.1f} dB PSNR", f"{before} → {after} → {before}")
    panel(x, 2.81, side, restored)

    heading(left, 2.35, "The 16 filters", "1×1×192 each, drawn as the 8×8×3 it looks for in a block (stretched)")
    note = f"below each: its channel of the {after}, and its share of the variance"
    text(width - left, 2.07, note, 10.5, color=_QUIET, ha="right")
    for i, (weights, share) in enumerate(zip(codec.shrink[0], codec.shares, strict=True)):
        x = left + i * (small + small_gap)
        panel(x, 1.31, small, (0.5 + 0.5 * weights / np.abs(weights).max()).reshape(BLOCK, BLOCK, 3))
        panel(x, 0.57, small, codes[..., i], cmap="gray")
        text(x + small / 2, 0.37, f"{share:.1%}", 9, color=_QUIET, ha="center")
    figure.savefig(output, format="png")


def shape(array: Array) -> str:
    """An array's shape as people say it.

    Parameters
    ----------
    array : ndarray

    Returns
    -------
    str
        Such as "28×28×192".
    """
    return "×".join(map(str, array.shape))


def run(photo: str | None, output: str) -> None:
    """Tell the story of one photo on stdout and draw it.

    Parameters
    ----------
    photo : str or None
        See `load_photo`.
    output : str
        The PNG to write.
    """
    image, name, (width, height) = load_photo(photo)
    enlarged = ", smaller than 224 and so enlarged" if min(width, height) < SIDE else ""
    x = fold(image)
    channels = x.shape[-1]
    print(f"{name}: {width}×{height}{enlarged}; its central square, scaled to {shape(image)}.")
    print(f"Every {BLOCK}×{BLOCK} block of RGB becomes one pixel of {channels} channels: {shape(image)} → {shape(x)}.")

    mean = np.full((1, channels), 1 / channels, np.float32)
    thumbnail = Conv1x1(mean)(x)
    print(
        f"\nOne filter, 1×1×{channels}: every weight 1/{channels}, the mean of a block.\n"
        f"  multiply   {shape(x)} · 1×1×{channels} → {shape(x)} products: nothing has shrunk yet\n"
        f"  sum        over the {channels} channels of each pixel → {shape(thumbnail)}: a thumbnail"
    )

    photo_bytes = np.rint(image * 255).astype(np.uint8)
    grey = Conv1x1([[0.299, 0.587, 0.114]], dtype=np.uint8)(photo_bytes)
    (red, green, blue), made = photo_bytes[SIDE // 2, SIDE // 2], grey[SIDE // 2, SIDE // 2, 0]
    print(
        f"\nOne filter of three weights, on the photo's own bytes: {shape(photo_bytes)} → {shape(grey)}, grey.\n"
        f"  the pixel in the middle: 0.299·{red} + 0.587·{green} + 0.114·{blue} = "
        f"{0.299 * red + 0.587 * green + 0.114 * blue:.3f}, rounded to {made}; uint8 in, uint8 out"
    )

    codec = principal_filters(x)
    codes = Conv1x1(*codec.shrink)(x)
    restored = np.clip(unfold(Conv1x1(*codec.restore)(codes)), 0, 1)
    print(
        f"\n{FILTERS} filters: the principal components of this picture's own blocks.\n"
        f"  shrink     {shape(x)} · {FILTERS} filters 1×1×{channels} → {shape(codes)}:"
        f" {x.size:,} → {codes.size:,} numbers, {x.size / codes.size:.0f}× fewer\n"
        f"  restore    {shape(codes)} · {channels} filters 1×1×{FILTERS} → {shape(x)}, plus the mean block as bias\n"
        f"  unfold     {shape(x)} → {shape(restored)}: the picture again, {psnr(image, restored):.1f} dB PSNR"
    )

    print(f"\n  {'':<9}{'conv1x1':>12}{'NumPy':>12}{'NumPy/conv1x1':>17}")
    for step, pixels, weight, bias in (
        ("mean", x, mean, None),
        ("shrink", x, *codec.shrink),
        ("restore", codes, *codec.restore),
    ):
        t = compare(pixels, weight, bias)
        print(f"  {step:<9}{t.ours * 1e6:>9.1f} µs{t.numpy * 1e6:>9.1f} µs{t.ratio:>16.2f}×")
    print(
        "  Medians of calls made in turn, each with the threads it takes by default, on the same arrays and\n"
        "  with the same results; NumPy is matmul(x2d, w.T, out=), and += bias where there is one."
    )

    draw(output, image, thumbnail, codes, restored, codec)
    print(f"\nDrawn into {output}")
