"""How fast layers run here: next to what this machine could do at most, and next to other libraries.

The speed of a machine changes from minute to minute. So the roofs are measured beside each layer, and candidates take
turns (A B C A B C …): only the ratios of one round are compared, and what is told is their median and its interval.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from time import perf_counter, sleep

import numpy as np

from ... import Conv1x1, _conv1x1
from ...checks.arrays import Array
from .peers import Candidate, Peer
from .progress import bar
from .results import Rival, Row, interval, usable_cpus
from .timing import Layer, arrays, check, clock, expected, repetitions

_FEWEST_ROUNDS = 6  # fewer have no interval
_READ_SIZES = (1 << 14, 1 << 27)  # smaller ones are over too soon for a clock; larger ones are memory as well
_LEVELS = (1 << 14, 1 << 19, 1 << 27)  # in the first cache, in the second, in none
_MOST_TRIALS = 40  # calls, after which any plan is settled
_PAUSE = 2e-3  # seconds in which another library's threads stop to spin


def measure_all(
    what: Sequence[tuple[Layer, str]],
    peers: dict[str, Peer],
    threads: int,
    seconds: float,
    rounds: int | None = None,
) -> Iterator[Row]:
    """Measure layers, with a bar on a terminal.

    Parameters
    ----------
    what : sequence of (Layer, layout)
        See `cases`.
    peers, threads
        See `measure`.
    seconds : float
        How long to go on in all, about; a few rounds are made in any case.
    rounds : int, optional
        How many rounds for each layer instead.

    Yields
    ------
    Row

    Raises
    ------
    ArithmeticError
        A result is wrong.
    """
    for done, (layer, layout) in enumerate(what):
        with bar(done, len(what), f"{layer}, {layout}"):
            row = measure(layer, layout, peers, threads, seconds / len(what), rounds)
        yield row


def measure(
    layer: Layer, layout: str, peers: dict[str, Peer], threads: int, seconds: float, rounds: int | None = None
) -> Row:
    """Check, then race, one layer and what the peers have for it.

    Parameters
    ----------
    layer : Layer
    layout : str
        "last" or "first".
    peers : dict of Peer
        By name, made for as many threads.
    threads : int
    seconds, rounds
        See `race`.

    Returns
    -------
    Row

    Raises
    ------
    ArithmeticError
        A result is wrong.
    """
    x, w = arrays(layer, layout)
    truth = expected(layer, layout, x, w)
    run = Conv1x1(w, channel_axis=-1 if layout == "last" else 0, stride=layer.stride, groups=layer.groups)
    y = np.empty(truth.shape, layer.result)
    candidates = [("conv1x1", Candidate("", lambda: run(x, out=y, threads=threads)))]
    candidates += [(name, c) for name, peer in peers.items() for c in peer.candidates(layer, layout, x, w)]
    settle(run, x, threads, candidates[0][1].call)
    for name, candidate in candidates:
        check(name, layer, candidate.result(candidate.call()).reshape(truth.shape), truth)
    del truth

    before = roofs(layer.bytes, threads, layer.weights.name)
    times = race([c.call for _, c in candidates], seconds, rounds, _PAUSE if threads > 1 and peers else 0)
    after = roofs(layer.bytes, threads, layer.weights.name)
    peak, reads = (max(pair) for pair in zip(before, after, strict=True))
    rivals: dict[str, Rival] = {}
    for (name, candidate), column in zip(candidates[1:], times.T[1:], strict=True):
        ratios = column / times[:, 0]
        rival = Rival(candidate.form, float(np.median(column)), float(np.median(ratios)), *interval(ratios.tolist()))
        if name not in rivals or rival.ratio < rivals[name].ratio:
            rivals[name] = rival
    kernel = run.plan(x, threads)["kernel"]
    return Row(layer, layout, float(np.median(times[:, 0])), peak, reads, kernel, len(times), rivals)


def settle(run: Conv1x1, x: Array, threads: int, call: Callable[[], object]) -> None:
    """Call a layer until it has settled on a plan, as it does in a long run.

    Parameters
    ----------
    run : Conv1x1
    x : ndarray
    threads : int
    call : callable
        Calls the layer with that x.
    """
    call()
    call()  # plans are tried from the second call on
    for _ in range(_MOST_TRIALS):
        tried = run.plan(x, threads)["tried"]
        if not tried or any(t["chosen"] for t in tried):
            break
        call()


def race(calls: Sequence[Callable[[], object]], seconds: float, rounds: int | None = None, pause: float = 0) -> Array:
    """Time calls in turn.

    Parameters
    ----------
    calls : sequence of callable
    seconds : float
        How long to go on; a few rounds are made in any case.
    rounds : int, optional
        How many rounds instead.
    pause : float
        Seconds to wait before each turn.

    Returns
    -------
    ndarray, shape (rounds, calls)
        Seconds a call.
    """
    times = [repetitions(call) for call in calls]
    table: list[list[float]] = []
    end = perf_counter() + seconds
    while len(table) < (rounds or _FEWEST_ROUNDS) or (rounds is None and perf_counter() < end):
        turn = []
        for call, number in zip(calls, times, strict=True):
            if pause:
                sleep(pause)
            call()  # the one before has left the caches to itself
            turn.append(clock(call, number))
        table.append(turn)
    return np.array(table)


def roofs(size: int, threads: int, dtype: str = "float32") -> tuple[float, float]:
    """What this machine can do at this moment, at most.

    Parameters
    ----------
    size : int
        How many bytes are read again and again; it decides from which cache.
    threads : int
        One thread is measured; this many are taken to do as many times as much, up to the number of CPUs that it may
        use.
    dtype : str
        The type of the arithmetic: "float32" or "float64".

    Returns
    -------
    peak : float
        GFLOP/s of fused multiply-adds with the instruction set in use.
    reads : float
        GB/s.
    """
    at_once = min(threads, usable_cpus())
    reads = _conv1x1.read_gbs(min(max(size, _READ_SIZES[0]), _READ_SIZES[1]))
    return _conv1x1.peak_gflops(dtype) * at_once, reads * at_once


def read_levels(threads: int) -> list[tuple[str, float]]:
    """How fast memory is read here, near to far.

    Parameters
    ----------
    threads : int
        See `roofs`.

    Returns
    -------
    list of (str, float)
        How much memory, and GB/s.
    """
    names = (f"{size >> 20} MiB" if size >> 20 else f"{size >> 10} KiB" for size in _LEVELS)
    return [(name, roofs(size, threads)[1]) for name, size in zip(names, _LEVELS, strict=True)]
