"""How fast layers run here: next to what this machine could do at most, and next to other libraries.

The speed of a machine changes from minute to minute. So the roofs are measured beside each layer, and candidates take
turns (A B C A B C …): only the ratios of one round are compared, and what is told is their median and their spread.
"""

from __future__ import annotations

import csv
import json
import math
import platform
import sys
from collections import Counter
from collections.abc import Callable, Iterable, Iterator, Sequence
from datetime import datetime, timezone
from pathlib import Path
from time import perf_counter, sleep
from typing import Any, NamedTuple

import numpy as np

from . import Conv1x1, __version__, _conv1x1
from ._check import Array
from ._peers import PEERS, Candidate, Peer, blas_threads
from ._timing import Layer, arrays, check, clock, expected, repetitions

LAYERS = (
    Layer("", 192, 1, 28, 28),
    Layer("", 192, 16, 28, 28),
    Layer("", 192, 64, 28, 28),
    Layer("MobileNetV1", 32, 64, 112, 112),
    Layer("MobileNetV1", 512, 512, 14, 14),
    Layer("MobileNetV2", 24, 144, 56, 56),
    Layer("MobileNetV2", 144, 24, 56, 56),
    Layer("MobileNetV2", 192, 32, 28, 28),
    Layer("MobileNetV2", 960, 320, 7, 7),
    Layer("ResNet-50", 256, 64, 56, 56),
    Layer("ResNet-50", 512, 1024, 28, 28, stride=2),
    Layer("ShuffleNet", 240, 240, 28, 28, groups=3),
    Layer("Squeeze-and-excite", 960, 240, 1, 1),
    Layer("Classifier", 1024, 1000, 1, 1),
    Layer("RGB to grey", 3, 1, 1024, 1024),
    Layer("RGB to RGB", 3, 3, 1024, 1024),
    Layer("Hyperspectral", 224, 10, 256, 256),
)
LAYOUTS = ("last", "first")

_FEWEST_ROUNDS = 5
_READ_SIZES = (1 << 14, 1 << 27)  # smaller ones are over too soon for a clock; larger ones are memory as well
_LEVELS = (1 << 14, 1 << 19, 1 << 27)  # in the first cache, in the second, in none
_PAUSE = 2e-3  # seconds in which another library's threads stop to spin
_REQUIRED = ("in_channels", "out_channels", "height", "width")
_OPTIONAL = ("stride", "groups")


class Rival(NamedTuple):
    """What a peer's best form came to: seconds, and its time ÷ ours: median, 10 % and 90 % of the rounds."""

    form: str
    seconds: float
    ratio: float
    low: float
    high: float

    @property
    def level(self) -> bool:
        """Whether both led in some rounds."""
        return self.low < 1 < self.high


class Row(NamedTuple):
    """A layer in a layout, measured."""

    layer: Layer
    layout: str
    seconds: float
    peak: float  # GFLOP/s, as `reads` for all threads
    reads: float  # GB/s, from as much memory as the layer touches
    kernel: str
    rounds: int
    rivals: dict[str, Rival]

    @property
    def gflops(self) -> float:
        """What was reached."""
        return self.layer.flop / self.seconds / 1e9

    @property
    def gbs(self) -> float:
        """What was read and written, each byte counted once."""
        return self.layer.bytes / self.seconds / 1e9

    @property
    def intensity(self) -> float:
        """FLOPs a byte."""
        return self.layer.flop / self.layer.bytes

    @property
    def roof(self) -> float:
        """What this layer could reach at most, in GFLOP/s."""
        return min(self.peak, self.intensity * self.reads)

    @property
    def best(self) -> str | None:
        """The fastest peer."""
        return min(self.rivals, key=lambda name: self.rivals[name].seconds, default=None)


def read_layers(path: str) -> list[Layer]:
    """Layers from a CSV file.

    Parameters
    ----------
    path : str
        With the columns in_channels, out_channels, height, width and maybe stride and groups; others are ignored.

    Returns
    -------
    list of Layer

    Raises
    ------
    ValueError
        The file is not such a table; the message has the line.
    OSError
        The file cannot be read.
    """
    layers = []
    with open(path, newline="", encoding="utf-8-sig") as file:
        try:
            reader = csv.DictReader(file, skipinitialspace=True)
            columns = [name.strip() for name in reader.fieldnames or ()]
            if missing := [name for name in _REQUIRED if name not in columns]:
                raise ValueError(
                    f"{path}: no column {', '.join(missing)}; needed are {', '.join(_REQUIRED)}, "
                    f"and {', '.join(_OPTIONAL)} may be there"
                )
            reader.fieldnames = columns
            for record in reader:
                layers.append(_layer(record, f"{path}, line {reader.line_num}"))
        except (csv.Error, UnicodeDecodeError) as error:
            raise ValueError(f"{path}: not a CSV file: {error}") from error
    if not layers:
        raise ValueError(f"{path}: no layers below the line of column names")
    return layers


def _layer(record: dict[str, str | None], where: str) -> Layer:
    numbers = {}
    for name in _REQUIRED + _OPTIONAL:
        text = (record.get(name) or "").strip() or ("1" if name in _OPTIONAL else "")
        if not (text.isascii() and text.isdecimal() and int(text) > 0):
            raise ValueError(f"{where}: {name} is {text!r}, and must be a whole number from 1")
        numbers[name] = int(text)
    layer = Layer("", **numbers)
    if layer.in_channels % layer.groups or layer.out_channels % layer.groups:
        raise ValueError(
            f"{where}: {layer.groups} groups do not divide {layer.in_channels} and {layer.out_channels} channels"
        )
    return layer


def cases(layers: Iterable[Layer], layout: str) -> list[tuple[Layer, str]]:
    """What to time.

    Parameters
    ----------
    layers : iterable of Layer
    layout : str
        "last", "first" or "both"; of a single pixel both are the same, so it comes once then.

    Returns
    -------
    list of (Layer, layout)
    """
    if layout != "both":
        return [(layer, layout) for layer in layers]
    return [(layer, which) for layer in layers for which in LAYOUTS[: 1 if layer.height == layer.width == 1 else 2]]


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


def roofs(size: int, threads: int) -> tuple[float, float]:
    """What this machine can do at this moment, at most.

    Parameters
    ----------
    size : int
        How many bytes are read again and again; it decides from which cache.
    threads : int
        One thread is measured; this many are taken to do as many times as much.

    Returns
    -------
    peak : float
        GFLOP/s of fused multiply-adds in float32, with the instruction set in use.
    reads : float
        GB/s.
    """
    reads = _conv1x1.read_gbs(min(max(size, _READ_SIZES[0]), _READ_SIZES[1]))
    return _conv1x1.peak_gflops("float32") * threads, reads * threads


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
    y = np.empty(truth.shape, np.float32)
    candidates = [("conv1x1", Candidate("", lambda: run(x, None, y, threads)))]
    candidates += [(name, c) for name, peer in peers.items() for c in peer.candidates(layer, layout, x, w)]
    for name, candidate in candidates:
        check(name, layer, candidate.result(candidate.call()).reshape(truth.shape), truth)
    del truth

    before = roofs(layer.bytes, threads)
    times = race([c.call for _, c in candidates], seconds, rounds, _PAUSE if threads > 1 and peers else 0)
    peak, reads = (max(pair) for pair in zip(before, roofs(layer.bytes, threads), strict=True))
    rivals: dict[str, Rival] = {}
    for (name, candidate), column in zip(candidates[1:], times.T[1:], strict=True):
        low, ratio, high = (float(q) for q in np.quantile(column / times[:, 0], (0.1, 0.5, 0.9)))
        rival = Rival(candidate.form, float(np.median(column)), ratio, low, high)
        if name not in rivals or rival.seconds < rivals[name].seconds:
            rivals[name] = rival
    kernel = run.plan(x, threads)["kernel"]
    return Row(layer, layout, float(np.median(times[:, 0])), peak, reads, kernel, len(times), rivals)


def geometric_mean(ratios: Iterable[float]) -> float:
    """The mean of ratios.

    Parameters
    ----------
    ratios : iterable of float
        At least one, all above 0.

    Returns
    -------
    float
    """
    logs = [math.log(ratio) for ratio in ratios]
    return math.exp(sum(logs) / len(logs))


class Progress:
    """A bar on stderr, if that is a terminal, that stays below what is printed."""

    def __init__(self, total: int) -> None:
        self._total, self._shown = total, sys.stderr.isatty()

    def show(self, done: int, what: str) -> None:
        """Draw it anew.

        Parameters
        ----------
        done : int
            How many are.
        what : str
            The one in work.
        """
        if self._shown:
            filled = 24 * done // max(self._total, 1)
            bar = f"[{'#' * filled}{'.' * (24 - filled)}] {done}/{self._total} {what}"
            print(f"\r\033[K{bar[:79]}", end="", file=sys.stderr, flush=True)

    def clear(self) -> None:
        """Take it away, for a line of the table or the end."""
        if self._shown:
            print("\r\033[K", end="", file=sys.stderr, flush=True)


class Table:
    """Lines of cells, printed as they come: the first column to the left, the others to the right."""

    def __init__(self, headings: Sequence[str], widths: Sequence[int]) -> None:
        self._widths = [max(len(h), w) for h, w in zip(headings, widths, strict=True)]
        self.line(headings)

    def line(self, cells: Sequence[str]) -> None:
        """Print one.

        Parameters
        ----------
        cells : sequence of str
        """
        first, *rest = zip(cells, self._widths, strict=True)
        print("  ".join([f"{first[0]:<{first[1]}}", *(f"{cell:>{width}}" for cell, width in rest)]))


def run(
    what: Sequence[tuple[Layer, str]],
    against: Sequence[str] = ("numpy",),
    threads: int = 1,
    seconds: float = 25,
    rounds: int | None = None,
) -> list[Row]:
    """Measure layers and print the table.

    Parameters
    ----------
    what : sequence of (Layer, layout)
        See `cases`.
    against : sequence of str
        Names from `PEERS`.
    threads : int
        For everybody.
    seconds : float
        How long to measure in all, about; a few rounds are made in any case.
    rounds : int, optional
        How many rounds for each layer instead.

    Returns
    -------
    list of Row

    Raises
    ------
    MissingPeer
        A peer is not installed.
    ArithmeticError
        A result is wrong.
    """
    peers = {name: PEERS[name](threads) for name in against}
    rows = []
    with blas_threads(threads) as held:
        print(_heading(threads, peers))
        if not held and "numpy" in peers:
            print("NumPy's own library is not known here: it takes what threads it likes.")
        print()
        progress, table = Progress(len(what)), None
        for done, (layer, layout) in enumerate(what):
            progress.show(done, f"{layer}, {layout}")
            row = measure(layer, layout, peers, threads, seconds / len(what), rounds)
            rows.append(row)
            progress.clear()
            table = table or _table([each for each, _ in what], list(against))
            table.line(_cells(row, list(against)))
    print()
    print("\n".join(_summary(rows, list(against))))
    return rows


def _heading(threads: int, peers: dict[str, Peer]) -> str:
    levels = ", ".join(f"{gbs:.0f} from {size}" for size, gbs in read_levels(threads))
    versions = "".join(f", {name} {peer.version}" for name, peer in peers.items())
    return (
        f"conv1x1 {__version__}{versions}\n{machine(threads)}\n"
        f"roofs: {roofs(1, threads)[0]:.0f} GFLOP/s of multiply-adds; reads of {levels}, in GB/s"
    )


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
    return [(_bytes(size), roofs(size, threads)[1]) for size in _LEVELS]


def machine(threads: int) -> str:
    """What something is measured on.

    Parameters
    ----------
    threads : int

    Returns
    -------
    str
    """
    config = _conv1x1.config()
    return f"{config['cpu']}, {config['isa']}, {threads} thread{'s' * (threads != 1)}, float32, {_today()}"


def _today() -> str:
    return datetime.now().astimezone().date().isoformat()


def _bytes(size: int) -> str:
    return f"{size >> 20} MiB" if size >> 20 else f"{size >> 10} KiB"


def _table(layers: Iterable[Layer], against: Sequence[str]) -> Table:
    label = max(len(str(layer)) for layer in layers)
    headings, widths = ["layer", "chan.", "µs", "GFLOP/s", "GB/s", "of roof", "kernel"], [label, 5, 9, 7, 6, 7, 12]
    if len(against) == 1:
        return Table([*headings, f"{against[0]} ÷ conv1x1"], [*widths, 20])
    return Table([*headings, *against, "best peer ÷ conv1x1", "winner"], [*widths, *(6 for _ in against), 20, 7])


def _cells(row: Row, against: Sequence[str]) -> list[str]:
    kernel = row.kernel.split("_", 2)[-1].replace("_", " ")  # the instruction set and the type are in the heading
    cells = [str(row.layer), row.layout, f"{row.seconds * 1e6:,.1f}", f"{row.gflops:.1f}", f"{row.gbs:.1f}"]
    cells += [f"{row.gflops / row.roof:.0%}", kernel]
    best = row.rivals.get(row.best or "")
    if len(against) > 1:
        cells += [_ratio(row.rivals[name].ratio) if name in row.rivals else "–" for name in against]
    cells.append(f"{_ratio(best.ratio)} ({best.low:.2f}–{best.high:.2f})" if best else "–")
    if len(against) > 1:
        cells.append(_winner(row) or "–")
    return cells


def _ratio(ratio: float) -> str:
    return f"{'▼' if ratio < 1 else ''}{ratio:.2f}"


def _winner(row: Row) -> str | None:
    best = row.rivals.get(row.best or "")
    if not best:
        return None
    winner = row.best if best.ratio < 1 else "conv1x1"
    return f"{winner}{' (level)' if best.level else ''}"


def summary(rows: Sequence[Row], name: str | None = None) -> dict[str, Any] | None:
    """A peer's ratios in short.

    Parameters
    ----------
    rows : sequence of Row
    name : str, optional
        The peer; for each row its best one when left out.

    Returns
    -------
    dict or None
        `layers`, `geometric_mean`, `worst`, `below_1`; None if the peer has none of the layers.
    """
    ratios = [row.rivals[peer].ratio for row in rows if (peer := name or row.best) in row.rivals]
    if not ratios:
        return None
    mean, worst, below = geometric_mean(ratios), min(ratios), sum(ratio < 1 for ratio in ratios)
    return {"layers": len(ratios), "geometric_mean": mean, "worst": worst, "below_1": below}


def _summary(rows: Sequence[Row], against: Sequence[str]) -> Iterator[str]:
    yield "A ratio is the peer's time ÷ conv1x1's: the median of rounds in turn (10–90 % of them). ▼ is a loss."
    yield "% of roof: of the lesser of the FMA peak and (bytes that must move) at reading speed, measured beside it."
    names = {name: name for name in against} | ({"best peer": None} if len(against) > 1 else {})
    for heading, name in names.items():
        left = f"{heading:<{max(map(len, names))}}  "
        if s := summary(rows, name):
            mean, worst, below = f"{s['geometric_mean']:.2f}", f"{s['worst']:.2f}", f"{s['below_1']} of {s['layers']}"
            yield f"{left}geometric mean {mean}, worst {worst}, below 1.0: {below}"
        else:
            yield f"{left}has none of these layers"
    if len(against) > 1:
        wins = Counter(winner for row in rows if (winner := _winner(row)))
        yield "won by: " + ", ".join(f"{winner} {number}" for winner, number in wins.most_common())
    for row in sorted(rows, key=lambda row: min((r.ratio for r in row.rivals.values()), default=math.inf)):
        for name, rival in row.rivals.items():
            if rival.ratio < 1:
                yield f"▼ {row.layer}, channels {row.layout}: {name} ({rival.form}) takes {rival.ratio:.2f} of our time"


def environment(threads: int) -> dict[str, Any]:
    """Where and when something was measured.

    Parameters
    ----------
    threads : int

    Returns
    -------
    dict
    """
    config = _conv1x1.config()
    return {
        "date": datetime.now(timezone.utc).isoformat(timespec="seconds"),
        "cpu": config["cpu"],
        "isa": config["isa"],
        "threads": threads,
        "platform": platform.platform(),
        "versions": {"conv1x1": __version__, "numpy": np.__version__, "python": platform.python_version()},
    }


def write_json(path: str, rows: Sequence[Row], against: Sequence[str], threads: int) -> None:
    """Write what was measured.

    Parameters
    ----------
    path : str
        The file.
    rows : sequence of Row
    against : sequence of str
        The peers.
    threads : int
    """
    about = environment(threads)
    about["versions"] |= {name: PEERS[name](threads).version for name in against}
    document = about | {
        "rows": [
            row.layer._asdict()
            | {"layout": row.layout, "seconds": row.seconds, "gflops": row.gflops, "gbs": row.gbs}
            | {"peak_gflops": row.peak, "read_gbs": row.reads, "intensity": row.intensity}
            | {"roof_gflops": row.roof, "of_roof": row.gflops / row.roof, "kernel": row.kernel, "rounds": row.rounds}
            | {"peers": {name: rival._asdict() for name, rival in row.rivals.items()}, "winner": _winner(row)}
            for row in rows
        ],
        "summary": {name: summary(rows, name) for name in against} | {"best peer": summary(rows)},
    }
    Path(path).write_text(json.dumps(document, indent=1) + "\n", encoding="utf-8")
