"""What was measured: a row for each layer, what they come to, and all of it as JSON."""

from __future__ import annotations

import json
import math
import os
import platform
from collections.abc import Iterable, Sequence
from datetime import datetime, timezone
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np

from ... import __version__, _conv1x1
from .timing import Layer

MARGIN = 0.03
"""What is called the same: two copies of one revision differ by up to this, from where the system puts their memory."""


class Rival(NamedTuple):
    """What a peer's best form came to: seconds, and its time ÷ ours, with the 95 % interval."""

    form: str
    seconds: float
    ratio: float
    low: float
    high: float

    @property
    def ahead(self) -> bool:
        """Whether the peer leads, for certain and by more than `MARGIN`."""
        return self.high < 1 / (1 + MARGIN)

    @property
    def level(self) -> bool:
        """Whether nobody does."""
        return not self.ahead and self.low <= 1 + MARGIN


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
    def part(self) -> float:
        """What was reached, as a part of the roof."""
        return self.gflops / self.roof

    @property
    def best(self) -> str | None:
        """The peer that comes nearest, or leads."""
        return min(self.rivals, key=lambda name: self.rivals[name].ratio, default=None)

    @property
    def winner(self) -> str | None:
        """The peer that is farthest ahead; or "level with" the nearest one; or conv1x1; None without peers."""
        nearest = sorted(self.rivals, key=lambda name: self.rivals[name].ratio)
        ahead = [name for name in nearest if self.rivals[name].ahead]
        level = [f"level with {name}" for name in nearest if self.rivals[name].level]
        return [*ahead, *level, "conv1x1"][0] if nearest else None

    def record(self) -> dict[str, Any]:
        """All there is to know, for JSON."""
        return self.layer._asdict() | {
            "layout": self.layout,
            "seconds": self.seconds,
            "gflops": self.gflops,
            "gbs": self.gbs,
            "intensity": self.intensity,
            "peak_gflops": self.peak,
            "read_gbs": self.reads,
            "roof_gflops": self.roof,
            "of_roof": self.part,
            "kernel": self.kernel,
            "rounds": self.rounds,
            "peers": {name: rival._asdict() for name, rival in self.rivals.items()},
            "winner": self.winner,
        }


def interval(values: Sequence[float]) -> tuple[float, float]:
    """A 95 % confidence interval of the median, from order alone (the sign test).

    Parameters
    ----------
    values : sequence of float
        Independent of each other, of any distribution.

    Returns
    -------
    low, high : float
        Two of the values; 0 and infinity if there are fewer than six, which never suffice.

    Examples
    --------
    >>> interval([1, 2, 3, 4, 5, 6, 7, 8, 9, 10])
    (2, 9)
    """
    n, ordered = len(values), sorted(values)
    # The median lies below the k-th value as often as n coins show fewer than k heads: at most 1 time in 40 here.
    k, cases = 0, 1
    while 40 * cases <= 2**n:
        k += 1
        cases += math.comb(n, k)
    return (ordered[k - 1], ordered[n - k]) if k else (0.0, math.inf)


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


def summary(rows: Iterable[Row], name: str | None = None) -> dict[str, Any] | None:
    """A peer's ratios in short.

    Parameters
    ----------
    rows : iterable of Row
    name : str, optional
        The peer; for each row its best one when left out.

    Returns
    -------
    dict or None
        `layers`, `geometric_mean`, `worst`, `ahead` (in how many the peer is) and `level`; None if the
        peer has none of the layers.
    """
    rivals = [row.rivals[peer] for row in rows if (peer := name or row.best) in row.rivals]
    if not rivals:
        return None
    ratios, level = [rival.ratio for rival in rivals], sum(rival.level for rival in rivals)
    ahead = sum(rival.ahead for rival in rivals)
    mean, worst = geometric_mean(ratios), min(ratios)
    return {"layers": len(ratios), "geometric_mean": mean, "worst": worst, "ahead": ahead, "level": level}


def usable_cpus() -> int:
    """How many CPUs this process may use, by its affinity and its cgroup's quota.

    Returns
    -------
    int
    """
    cpus = len(os.sched_getaffinity(0))
    return min(cpus, _conv1x1.cgroup_cpus("") or cpus)


def environment(threads: int) -> dict[str, Any]:
    """Where and when something is measured.

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
        "cpus": usable_cpus(),
        "isa": config["isa"],
        "threads": threads,
        "platform": platform.platform(),
        "versions": {"conv1x1": __version__, "numpy": np.__version__, "python": platform.python_version()},
    }


def machine(threads: int) -> str:
    """The same, for a heading.

    Parameters
    ----------
    threads : int

    Returns
    -------
    str
    """
    about, day = environment(threads), datetime.now().astimezone().date()
    cpus, used = (f"{n} {what}{'s' * (n != 1)}" for n, what in ((about["cpus"], "CPU"), (threads, "thread")))
    return f"{about['cpu']}, {cpus}, {about['isa']}, {used}, {day}"


def write_json(path: str, about: dict[str, Any], rows: Sequence[Row], against: Iterable[str]) -> None:
    """Write what was measured.

    Parameters
    ----------
    path : str
        The file.
    about : dict
        See `environment`.
    rows : sequence of Row
    against : iterable of str
        The peers.
    """
    summaries = {name: summary(rows, name) for name in against} | {"best peer": summary(rows)}
    dump(path, about | {"rows": [row.record() for row in rows], "summary": summaries})


def dump(path: str, document: Any) -> None:
    """Write JSON as others read it: an end of an interval that is at infinity is null.

    Parameters
    ----------
    path : str
        The file.
    document : any
        Of dicts, lists, texts and numbers.
    """

    def finite(value: Any) -> Any:
        if isinstance(value, dict):
            return {key: finite(its) for key, its in value.items()}
        if isinstance(value, list | tuple):
            return [finite(its) for its in value]
        return None if value == math.inf else value

    Path(path).write_text(json.dumps(finite(document), indent=1, allow_nan=False) + "\n", encoding="utf-8")
