"""Every kernel this CPU can run, against the definition, at the sizes where kernels break.

A kernel works on tiles of rows × lanes, so each kernel's sizes are those around its tile's edges. All kernels of
one summation order and type are given the cases of all of them, for they must come to the same bits. Before them come
the conversions between the types of pixels and of results, with the numbers where conversions break.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping, Sequence
from itertools import cycle, product
from typing import Any, NamedTuple, TypeAlias

import numpy as np

from .. import _conv1x1, conv1x1, qlinear_conv1x1, reference, reference_qlinear, show_config
from ..checks import Activation
from ..checks.arrays import PIXELS, RESULTS, WIDE, Array
from ..reference.floats import cast, exact
from ..runtime import restricted

Kernel: TypeAlias = Mapping[str, Any]
Size: TypeAlias = tuple[tuple[int, ...], int, int, bool]  # the first four of Case

_UNIT_ROUNDOFF = {"float32": 2.0**-24, "float64": 2.0**-53}
# The most that an error may be, in units of the bound: the reference of float64 is in float64 too, and rounds as well.
_LIMIT = {"float32": 1, "float64": 2}
_VARIANTS: tuple[dict[str, Any], ...] = (
    {},
    {"integers": True, "bias": True},
    {"bias": True, "activation": "relu"},
    {"stride": 2, "residual": True},
    {"groups": 2, "bias": True, "activation": ("leaky_relu", 0.25)},
    {"integers": True, "groups": 3, "stride": 2, "residual": True, "activation": "relu6"},
    {"stride": 3, "bias": True, "activation": ("clip", -1, 2)},
)
# The same for kernels of integers, which add no residual and know no activations but clamps.
_INTEGER_VARIANTS: tuple[dict[str, Any], ...] = (
    {},
    {"bias": True},
    {"bias": True, "activation": "relu"},
    {"stride": 2},
    {"groups": 2, "bias": True, "activation": ("clip", -9000, 20000)},
    {"groups": 3, "stride": 2, "activation": "relu6"},
)
# And for their sums as quantised numbers of one byte, as the kernels store them themselves.
_QUANTISED_VARIANTS: tuple[dict[str, Any], ...] = (
    {},
    {"bias": True, "activation": "relu"},
    {"stride": 2, "bias": True},
    {"groups": 2, "activation": ("clip", -3, 5)},
    {"groups": 3, "stride": 2, "bias": True, "activation": "relu6"},
)
_CURVED = ("hardsigmoid", "hardswish", "sigmoid", "silu", "tanh", "gelu")


class Case(NamedTuple):
    """One convolution; the channels are those of one group."""

    pixels: tuple[int, ...]  # of the result
    in_channels: int
    out_channels: int
    channels_first: bool
    integers: bool = False  # small ones, whose sums are exact
    groups: int = 1
    stride: int = 1
    bias: bool = False
    residual: bool = False
    activation: Activation = None
    quantised: bool = False  # pixels, weights and result stand for real numbers


class Problem(NamedTuple):
    """A case as arguments of `conv1x1` or `qlinear_conv1x1`, with what must come out."""

    case: Case
    arguments: tuple[Any, ...]
    options: dict[str, Any]
    expected: Array
    bound: Array


class Verdict(NamedTuple):
    """What became of one kernel."""

    worst: float  # error, in units of the bound
    failure: str  # the first one; "" for none
    results: list[bytes]


def run() -> bool:
    """Test every kernel and print a report fit for a bug report.

    Returns
    -------
    bool
        Whether every kernel that this CPU can run is right.
    """
    show_config()
    print("\nEvery kernel against the definition. Errors are in units of the bound, γ_{C+2}·(Σ|w||x| + |b|); integers,")
    print("quantised numbers and conversions must be exact, and all kernels of one order and type must come to the")
    print("same bits.\n")
    kernels = _conv1x1.kernels()
    width, isa_width = (max(len(kernel[key]) for kernel in kernels) for key in ("name", "isa"))
    print(f"{'kernel':<{width}}  {'isa':<{isa_width}}  {'cases':>5}  {'error':>6}")
    failures: list[str] = []

    def report(count: int, worst: float, failure: str) -> None:
        failures.append(failure)
        print(f"{count:>5}  {worst:>6.3f}  {'FAILED' if failure else 'ok'}", flush=True)
        if failure:
            print(f"    {failure}")

    conversions = list(_conversions())
    for isa in dict.fromkeys(kernel["isa"] for kernel in kernels if kernel["supported"]):
        print(f"{'conversions':<{width}}  {isa:<{isa_width}}  ", end="")
        report(len(conversions), 0, check_conversions(isa, conversions))
    for order, dtype in dict.fromkeys((kernel["order"], kernel["dtype"]) for kernel in kernels):
        family = [kernel for kernel in kernels if (kernel["order"], kernel["dtype"]) == (order, dtype)]
        able = [kernel for kernel in family if kernel["supported"]]
        problems = [problem(case, dtype, seed) for seed, case in enumerate(cases(able))]
        bits: list[bytes] | None = None  # those of the first kernel that is right
        for kernel in family:
            print(f"{kernel['name']:<{width}}  {kernel['isa']:<{isa_width}}  ", end="")
            if not kernel["supported"]:
                print(f"skipped: this CPU does not run {kernel['isa']}")
                continue
            verdict = check(kernel["name"], problems, bits)
            report(len(problems), verdict.worst, verdict.failure)
            if not verdict.failure:
                bits = bits or verdict.results
    wrong, what = len(failures) - failures.count(""), f"{len(failures)} kernels and conversions"
    print(f"\n{wrong} of {what} FAILED" if wrong else f"\nall {what} are right")
    return wrong == 0


def _conversions() -> Iterator[tuple[Array, np.dtype[Any], Array]]:
    """Pixels, a type, and what they are in it, for every pair of types."""
    ends = [2.0**n for n in (-149, -126, -25, -24, -14, 7, 8, 11, 15, 16, 24, 31, 53, 63, 127)]
    near = [v * f for v in ends for f in (1 - 2.0**-12, 1 - 2.0**-53, 1, 1 + 2.0**-52, 1 + 2.0**-10)]
    halves = [v + 0.5 for v in (0, 1, 2, 126, 127, 254, 255, 32767, 65535, 2.0**22 + 1, 2.0**51 + 1)]
    positive = [0, 1, 2, 3, 254, 65503, 65519, 65520, 1e-60, 1e60, np.inf, *near, *halves]
    numbers = np.array([*positive, *(-v for v in positive), np.nan])
    for pixel in PIXELS:
        summable = np.clip(numbers, -(2.0**53), 2.0**53) if pixel in WIDE else numbers  # exactly, in float64
        x = cast(summable, pixel)
        numbers_of_x = exact(x, pixel.kind in "biu")
        for dtype in RESULTS:
            if dtype.kind == "c" or pixel.kind != "c":
                yield x, dtype, cast(numbers_of_x, dtype)


def check_conversions(isa: str, conversions: Iterable[tuple[Array, np.dtype[Any], Array]]) -> str:
    """Convert all pixels to all types, by convolutions with weights of 1.

    Parameters
    ----------
    isa : str
        The instruction set.
    conversions : iterable of (ndarray, dtype, ndarray)
        Pixels, the type of the result, and the result.

    Returns
    -------
    str
        The first failure; "" for none.
    """
    with restricted(isa=isa):
        for x, dtype, expected in conversions:
            for filters in (1, 5):  # a few of them have a way of their own
                y = conv1x1(x[:, None], np.ones((filters, 1), np.int8), dtype=dtype)
                wrong = (y != expected[:, None]) & ~(np.isnan(y) & np.isnan(expected[:, None]))
                if wrong.any():
                    pixel = int(np.argwhere(wrong)[0, 0])
                    return f"{x.dtype} {x[pixel]} becomes {dtype} {y[pixel, 0]} instead of {expected[pixel]}"
    return ""


def cases(kernels: Sequence[Kernel]) -> Iterator[Case]:
    """What to try on kernels of one order and type.

    Parameters
    ----------
    kernels : sequence of mapping
        Entries of `_conv1x1.kernels()`.

    Yields
    ------
    Case
        Sizes one below, at and one above each kernel's tile, in both layouts, each with the next choice of the
        other arguments; then the activations that are curves.
    """
    lanes_order = any(kernel["order"] == "lanes" for kernel in kernels)
    sizes = _lanes_sizes if lanes_order else _chain_sizes
    tiles = sorted({(kernel["rows"], kernel["lanes"]) for kernel in kernels})
    integers = any(kernel["dtype"] == "int32" for kernel in kernels)
    for size, variant in zip(sizes(tiles), cycle(_INTEGER_VARIANTS if integers else _VARIANTS), strict=False):
        yield Case(*size, **variant)
    if integers:
        for size, variant in zip(sizes(tiles), cycle(_QUANTISED_VARIANTS), strict=False):
            yield Case(*size, **variant, quantised=True)
        return
    for activation, channels_first in product(_CURVED, (False, True)):
        # Enough channels that the rounding of the curve itself is nothing beside the bound of their sum.
        yield Case((5, 7), 67, 3 if lanes_order else 11, channels_first, bias=True, activation=activation)


def _around(n: int) -> range:
    return range(max(n - 1, 1), n + 2)


def _chain_sizes(tiles: Iterable[tuple[int, int]]) -> Iterator[Size]:
    in_channels = cycle((1, 2, 3, 5, 7, 11, 13, 31))  # below 32 even few filters are summed in chain order
    for rows, lanes in tiles:
        for r, n in product(_around(rows), _around(lanes)):
            yield (r,), next(in_channels), n, False  # channels last: rows are pixels and lanes are filters …
            yield (n,), next(in_channels), r, True  # … channels first: the other way round
    for channels_first in (False, True):
        yield (7, 19), 67, 37, channels_first
        yield (1,), 193, 131, channels_first


def _lanes_sizes(tiles: Iterable[tuple[int, int]]) -> Iterator[Size]:
    in_channels = cycle((32, 33, 47, 48, 49, 97, 193))
    out_channels = cycle((1, 2, 3, 4))
    edges = {n for tile in tiles for edge in tile for n in _around(edge)}
    for pixels, channels_first in product(sorted(edges), (False, True)):
        for _ in range(4):
            yield (pixels,), next(in_channels), next(out_channels), channels_first


def problem(case: Case, dtype: str, seed: int) -> Problem:
    """A case with numbers in it.

    Parameters
    ----------
    case : Case
        What to make.
    dtype : str
        The type of all arrays; of int32 sums, the pixels are uint8 or int8 and the weights int8, of any value.
    seed : int
        For the random numbers.

    Returns
    -------
    Problem
        The arguments, what `reference` says, and the error that is allowed.
    """
    random = np.random.default_rng(seed)
    integers = dtype == "int32"

    def numbers(kind: str, *shape: int) -> Array:
        if integers:
            limits = np.iinfo(kind)
            return random.integers(max(limits.min, -(2**20)), min(limits.max, 2**20), shape, endpoint=True).astype(kind)
        values = random.integers(-8, 9, shape) if case.integers else random.standard_normal(shape)
        return values.astype(kind)

    def image(kind: str, pixels: Iterable[int], channels: int) -> Array:
        return numbers(kind, channels, *pixels) if case.channels_first else numbers(kind, *pixels, channels)

    pixels = ((n - 1) * case.stride + 1 for n in case.pixels)
    x = image(("uint8", "int8")[seed % 2] if integers else dtype, pixels, case.in_channels * case.groups)
    out_channels = case.out_channels * case.groups
    w = numbers("int8" if integers else dtype, out_channels, case.in_channels)
    bias = numbers(dtype, out_channels) if case.bias else None
    residual = image(dtype, case.pixels, out_channels) if case.residual else None
    axis = 0 if case.channels_first else -1
    options: dict[str, Any] = {"channel_axis": axis, "stride": case.stride, "groups": case.groups}

    if case.quantised:
        options["activation"] = case.activation
        quantised = _quantised(case, x, w, bias, random)
        expected = reference_qlinear(*quantised, **options)
        return Problem(case, quantised, options, expected, np.zeros(expected.shape))

    def absolute(a: Array | None) -> Any:
        return None if a is None else np.abs(a.astype(np.float64))

    magnitude = reference(absolute(x), absolute(w), absolute(bias), residual=absolute(residual), **options)
    options |= {"residual": residual, "activation": case.activation}
    u = _UNIT_ROUNDOFF.get(dtype, 0)  # sums of integers are exact
    n = case.in_channels + 2
    return Problem(case, (x, w, bias), options, reference(x, w, bias, **options), n * u / (1 - n * u) * magnitude)


def _quantised(case: Case, x: Array, w: Array, bias: Array | None, random: np.random.Generator) -> tuple[Any, ...]:
    """The arguments of `qlinear_conv1x1`, for results in all of their type's range and some beyond it."""
    dtype = random.choice(np.array(["uint8", "int8"]))
    x_zero, y_zero = (random.integers(-20, 20) + (128 if t == "uint8" else 0) for t in (x.dtype, dtype))
    x_scale, y_scale, spread = 0.1, 0.05, 74**2 * case.in_channels**0.5  # that of sums of products of any bytes
    w_scale = 80 * y_scale / (x_scale * spread) * random.uniform(0.5, 1.5, len(w))
    b = None if bias is None else bias // 16
    return x, x_scale, x.dtype.type(x_zero), w, w_scale, np.int8(0), y_scale, np.dtype(dtype).type(y_zero), b


def check(name: str, problems: Iterable[Problem], bits: Sequence[bytes] | None) -> Verdict:
    """Give every problem to one kernel.

    Parameters
    ----------
    name : str
        The kernel.
    problems : iterable of Problem
        What to compute.
    bits : sequence of bytes or None
        The results that another kernel of the same order and type came to.

    Returns
    -------
    Verdict
        The largest error, the first failure and all results.
    """
    worst, failure = 0.0, ""
    results: list[bytes] = []
    for number, task in enumerate(problems):
        try:
            with restricted(kernel=name):
                y = (qlinear_conv1x1 if task.case.quantised else conv1x1)(*task.arguments, **task.options)
            error, complaint = _judge(task, y)
        except Exception as exception:  # a report with this in its line is worth more than a traceback
            return Verdict(worst, failure or f"{type(exception).__name__}: {exception}, in {task.case}", results)
        results.append(y.tobytes())
        if not complaint and bits is not None and results[-1] != bits[number]:
            complaint = "other bits than the kernels before"
        worst = max(worst, error)
        failure = failure or (complaint and f"{complaint}, in {task.case}")
    return Verdict(worst, failure, results)


def _judge(task: Problem, y: Array) -> tuple[float, str]:
    """The largest error of a result, in units of the bound, and what is wrong with it, "" for nothing."""
    w = task.arguments[1]
    sums = np.dtype(np.int32)
    dtype = task.expected.dtype if task.case.quantised else sums if w.dtype == np.int8 else w.dtype
    if (y.shape, y.dtype) != (task.expected.shape, dtype):
        return 0.0, f"{y.dtype} {y.shape} instead of {dtype} {task.expected.shape}"
    if task.case.integers or dtype.kind in "iu":
        return 0.0, "" if np.array_equal(y, task.expected) else "integers are not exact"
    error = float(np.max(np.abs(y - task.expected) / task.bound))
    return error, "" if error <= _LIMIT[dtype.name] else f"error of {error:.3g} bounds"
