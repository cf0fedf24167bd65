"""Every kernel this CPU can run, against the definition, at the sizes where kernels break.

A kernel works on tiles of rows × lanes, so each kernel's sizes are those around its tile's edges. All kernels of
one summation order and type are given the cases of all of them, for they must come to the same bits.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping, Sequence
from itertools import cycle, product
from typing import Any, NamedTuple, TypeAlias

import numpy as np

from . import _conv1x1, conv1x1, reference, show_config
from ._check import Activation, Array
from .runtime import restricted

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


class Problem(NamedTuple):
    """A case as arguments of `conv1x1`, with what must come out."""

    case: Case
    arguments: tuple[Array, Array, Array | None]
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
    print("\nEvery kernel against the definition. Errors are in units of the bound, γ_{C+2}·(Σ|w||x| + |b|); integers")
    print("must be exact, and all kernels of one order and type must come to the same bits.\n")
    kernels = _conv1x1.kernels()
    width = max(len(kernel["name"]) for kernel in kernels)
    print(f"{'kernel':<{width}}  {'isa':<8}  {'cases':>5}  {'error':>6}")
    failures = []
    for order, dtype in dict.fromkeys((kernel["order"], kernel["dtype"]) for kernel in kernels):
        family = [kernel for kernel in kernels if (kernel["order"], kernel["dtype"]) == (order, dtype)]
        able = [kernel for kernel in family if kernel["supported"]]
        problems = [problem(case, dtype, seed) for seed, case in enumerate(cases(able))]
        bits: list[bytes] | None = None  # those of the first kernel that is right
        for kernel in family:
            print(f"{kernel['name']:<{width}}  {kernel['isa']:<8}  ", end="")
            if not kernel["supported"]:
                print(f"skipped: this CPU does not run {kernel['isa']}")
                continue
            verdict = check(kernel["name"], problems, bits)
            failures.append(verdict.failure)
            print(f"{len(problems):>5}  {verdict.worst:>6.3f}  {'FAILED' if verdict.failure else 'ok'}", flush=True)
            if verdict.failure:
                print(f"    {verdict.failure}")
            else:
                bits = bits or verdict.results
    wrong = len(failures) - failures.count("")
    print(f"\n{wrong} of {len(failures)} kernels FAILED" if wrong else f"\nall {len(failures)} kernels are right")
    return wrong == 0


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
    for size, variant in zip(sizes(tiles), cycle(_VARIANTS), strict=False):
        yield Case(*size, **variant)
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
        The type of all arrays.
    seed : int
        For the random numbers.

    Returns
    -------
    Problem
        The arguments, what `reference` says, and the error that is allowed.
    """
    random = np.random.default_rng(seed)

    def numbers(*shape: int) -> Array:
        values = random.integers(-8, 9, shape) if case.integers else random.standard_normal(shape)
        return values.astype(dtype)

    def image(pixels: Iterable[int], channels: int) -> Array:
        return numbers(channels, *pixels) if case.channels_first else numbers(*pixels, channels)

    x = image(((n - 1) * case.stride + 1 for n in case.pixels), case.in_channels * case.groups)
    out_channels = case.out_channels * case.groups
    w = numbers(out_channels, case.in_channels)
    bias = numbers(out_channels) if case.bias else None
    residual = image(case.pixels, out_channels) if case.residual else None
    axis = 0 if case.channels_first else -1
    options: dict[str, Any] = {"channel_axis": axis, "stride": case.stride, "groups": case.groups}
    absolute = [None if array is None else np.abs(array) for array in (bias, residual)]
    magnitude = reference(np.abs(x), np.abs(w), absolute[0], residual=absolute[1], **options)
    options |= {"residual": residual, "activation": case.activation}
    u = _UNIT_ROUNDOFF[dtype]
    n = case.in_channels + 2
    return Problem(case, (x, w, bias), options, reference(x, w, bias, **options), n * u / (1 - n * u) * magnitude)


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
                y = conv1x1(*task.arguments, **task.options)
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
    x = task.arguments[0]
    if (y.shape, y.dtype) != (task.expected.shape, x.dtype):
        return 0.0, f"{y.dtype} {y.shape} instead of {x.dtype} {task.expected.shape}"
    if task.case.integers:
        return 0.0, "" if np.array_equal(y, task.expected) else "integers are not exact"
    error = float(np.max(np.abs(y - task.expected) / task.bound))
    return error, "" if error <= _LIMIT[x.dtype.name] else f"error of {error:.3g} bounds"
