"""Two revisions of this package in turn: which one is faster, and how sure that is.

A process can hold one of them, so each has a worker process. They take turns, one waits while the other runs, and each
round of the two gives one ratio. The interval for the median of the ratios takes nothing for granted about noise.
"""

from __future__ import annotations

import json
import os
import subprocess
import sys
import tempfile
from collections import Counter
from collections.abc import Iterator, Sequence
from contextlib import ExitStack, contextmanager, suppress
from pathlib import Path
from time import perf_counter
from types import TracebackType
from typing import Any, NamedTuple

import numpy as np

from ... import __version__, _conv1x1
from . import timing
from .progress import bar
from .results import MARGIN, dump, environment, geometric_mean, interval, machine
from .table import Table
from .timing import Layer

_FEWEST_ROUNDS = 11
_PAIRS = 3


class RevisionError(Exception):
    """The other revision cannot be had, built or run."""


class Comparison(NamedTuple):
    """A layer in both revisions: seconds, and the other's time ÷ this one's with its 95 % interval."""

    layer: Layer
    layout: str
    this: float
    other: float
    ratio: float
    low: float
    high: float
    rounds: int
    same_bits: bool

    @property
    def verdict(self) -> str:
        """What can be said of this revision: see `verdict`."""
        return verdict(self.low, self.high)


def verdict(low: float, high: float, margin: float = MARGIN) -> str:
    """What an interval of ratios, the other's time ÷ this one's, says of this revision.

    Parameters
    ----------
    low, high : float
        The interval.
    margin : float
        By how much two that are called the same may differ.

    Returns
    -------
    str
        "faster" or "slower" if the whole interval is beyond the margin, "same" if all of it is inside; "too noisy" if
        it has a part on either side, so that it takes more rounds or a quieter machine to say.

    Examples
    --------
    >>> verdict(1.1, 1.2), verdict(0.99, 1.01), verdict(0.9, 1.2)
    ('faster', 'same', 'too noisy')
    """
    if low > 1 + margin:
        return "faster"
    if high < 1 / (1 + margin):
        return "slower"
    return "same" if low >= 1 / (1 + margin) and high <= 1 + margin else "too noisy"


def past(comparison: Comparison, limit: float) -> bool:
    """Whether this revision is slower by more than a limit, by the whole interval.

    Parameters
    ----------
    comparison : Comparison
    limit : float
        A part of the other's time, such as 0.05.

    Returns
    -------
    bool
    """
    return comparison.high < 1 / (1 + limit)


@contextmanager
def revision(against: str) -> Iterator[tuple[str, str]]:
    """Another revision, installed aside for the length of a `with` block.

    Parameters
    ----------
    against : str
        "git:REF" for the checkout in the current directory, or the path of a wheel.

    Yields
    ------
    name : str
        What to call it.
    directory : str
        Where to import it from.

    Raises
    ------
    RevisionError
        With what to do about it.
    """
    with tempfile.TemporaryDirectory(prefix="conv1x1-bench-") as work:
        if against.startswith("git:"):
            source = os.path.join(work, "conv1x1.zip")
            name = _archive(against, source)
        else:
            source, name = os.path.abspath(against), against
            if not os.path.isfile(source):
                raise RevisionError(f"{against}: there is no such wheel")
        print(f"Installing {name} aside: a minute or two if it has to be built …", flush=True)
        target = os.path.join(work, "site")
        pip = [sys.executable, "-m", "pip", "install", "--quiet", "--no-deps", "--disable-pip-version-check"]
        result = _run([*pip, "--target", target, source], work)
        if result.returncode:
            last = "\n".join((result.stdout + result.stderr).strip().splitlines()[-20:])
            raise RevisionError(f"{name} cannot be built or installed; pip's last words:\n{last}")
        if not os.path.isdir(os.path.join(target, "conv1x1")):
            brought = ", ".join(sorted({*os.listdir(target)} - {"__pycache__"}))
            raise RevisionError(f"{name} is no revision of conv1x1: it brings {brought}")
        yield name, target


def _archive(against: str, path: str) -> str:
    """Write the files of a commit, as git has them, into an archive that pip takes."""
    reference, here = against.removeprefix("git:"), os.getcwd()
    try:
        top = _run(["git", "rev-parse", "--show-toplevel"], here)
    except FileNotFoundError:
        raise RevisionError(f"{against}: git is not installed") from None
    if top.returncode:
        words = top.stderr.strip().splitlines()
        raise RevisionError(f"{against}: {here} is no git checkout of conv1x1 ({words[0] if words else 'git fails'})")
    git = ["git", "-C", top.stdout.removesuffix("\n")]
    commit = _run([*git, "rev-parse", "--verify", "--quiet", "--end-of-options", f"{reference}^{{commit}}"], here)
    if commit.returncode:
        raise RevisionError(f"{against}: {git[-1]} has no revision {reference!r}")
    id = commit.stdout.strip()
    if _run([*git, "cat-file", "-e", f"{id}:python/conv1x1/__init__.py"], here).returncode:
        raise RevisionError(f"{against}: no revision of conv1x1 (it has no python/conv1x1)")
    archive = _run([*git, "archive", "--format=zip", "--prefix=conv1x1/", f"--output={path}", id], here)
    if archive.returncode:
        raise RevisionError(f"{against}: git archive fails: {archive.stderr.strip()}")
    return f"{against} ({id[:10]})"


def _run(command: Sequence[str], directory: str) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        command, cwd=directory, capture_output=True, text=True, errors="replace", stdin=subprocess.DEVNULL, check=False
    )


class Worker:
    """A process with a revision, asked through a pipe; it sleeps between the questions."""

    def __init__(self, name: str, directory: str) -> None:
        self._name, self._stderr = name, tempfile.TemporaryFile(mode="w+", errors="replace")  # noqa: SIM115
        config = _conv1x1.config()
        lowered = config["isa"] != config["isas_supported"][-1]  # the best has no name in a revision that lacks it
        self._process = subprocess.Popen(
            [sys.executable, timing.__file__, directory],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            stderr=self._stderr,
            text=True,
            env=os.environ | ({"CONV1X1_MAX_ISA": config["isa"]} if lowered else {}),
        )
        try:
            hello = self._answer()
            if not os.path.samefile(hello["home"], directory):
                raise RevisionError(
                    f"{name}: Python takes conv1x1 from {hello['home']} instead of {directory}: "
                    "is there an editable installation? Install the package as such"
                )
        except BaseException:
            self.close()
            raise

    def ask(self, **request: Any) -> dict[str, Any]:
        """Send a request of `timing.main`.

        Parameters
        ----------
        **request
            Its keys.

        Returns
        -------
        dict
            The answer.

        Raises
        ------
        RevisionError
            The worker has failed.
        """
        assert self._process.stdin
        with suppress(BrokenPipeError):  # the answer says why
            self._process.stdin.write(json.dumps(request) + "\n")
            self._process.stdin.flush()
        return self._answer()

    def _answer(self) -> dict[str, Any]:
        assert self._process.stdout
        line = self._process.stdout.readline()
        if not line:
            self._process.wait()
            self._stderr.seek(0)
            words = self._stderr.read().strip().splitlines()
            raise RevisionError(f"{self._name} fails: {words[-1] if words else f'exit {self._process.returncode}'}")
        answer: dict[str, Any] = json.loads(line)
        return answer

    def close(self) -> None:
        """End the process."""
        for pipe in (self._process.stdin, self._process.stdout):
            assert pipe
            with suppress(BrokenPipeError):
                pipe.close()
        self._process.wait()
        self._stderr.close()

    def __enter__(self) -> Worker:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()


def home() -> str:
    """Where the running revision is imported from.

    Returns
    -------
    str
    """
    return str(Path(_conv1x1.__file__).parents[1])


def compare(
    layer: Layer, layout: str, pairs: Sequence[tuple[Worker, Worker]], threads: int, seconds: float, rounds: int | None
) -> Comparison | None:
    """Race both revisions on one layer.

    Parameters
    ----------
    layer, layout, threads
        What to run.
    pairs : sequence of (Worker, Worker)
        Of this revision and the other; each pair does its part, as a process may be lucky with its memory.
    seconds : float
        How long to go on.
    rounds : int, optional
        How many rounds instead.

    Returns
    -------
    Comparison or None
        None if the other revision has no such pixels.
    """
    question = {"layer": layer, "layout": layout, "threads": threads}
    answers = [worker.ask(**question) for pair in pairs for worker in pair]
    if any("refused" in answer for answer in answers):
        return None
    bits = {answer["bits"] for answer in answers}
    times: list[tuple[float, float]] = []
    end = perf_counter() + seconds
    while len(times) < (rounds or _FEWEST_ROUNDS) or (rounds is None and perf_counter() < end):
        this, other = pairs[len(times) % len(pairs)]
        if len(times) // len(pairs) % 2:  # nobody is always the first
            second, first = other.ask()["seconds"], this.ask()["seconds"]
            times.append((first, second))
        else:
            times.append((this.ask()["seconds"], other.ask()["seconds"]))
    table = np.array(times)
    ratios = table[:, 1] / table[:, 0]
    low, high = interval(ratios.tolist())
    ours, theirs = (float(t) for t in np.median(table, axis=0))
    return Comparison(layer, layout, ours, theirs, float(np.median(ratios)), low, high, len(times), len(bits) == 1)


def run(
    what: Sequence[tuple[Layer, str]],
    name: str,
    directory: str,
    threads: int = 1,
    seconds: float = 25,
    rounds: int | None = None,
    fail_above: float | None = None,
) -> tuple[list[Comparison], list[Comparison]]:
    """Race this revision against another and print the table.

    Parameters
    ----------
    what : sequence of (Layer, layout)
    name, directory : str
        Of the other revision, see `revision`.
    threads : int
    seconds : float
        How long to measure in all, about.
    rounds : int, optional
        How many rounds for each layer instead.
    fail_above : float, optional
        Which slowdown is too much, such as 0.05.

    Returns
    -------
    comparisons : list of Comparison
    slower : list of Comparison
        Those that were past `fail_above` and in a second run, by new workers, again.
    """
    print(f"this: conv1x1 {__version__} in {home()}; other: {name}")
    print(f"{machine(threads)}\n")
    rows = _race(what, name, directory, threads, seconds, rounds)
    if not rows:
        raise RevisionError(f"{name} takes none of these layers: it has no such pixels")
    counts = Counter(row.verdict for row in rows)
    print(f"\nother ÷ this: the median of rounds in turn, and its 95 % interval; same is within {MARGIN:.0%}.")
    print(f"geometric mean {geometric_mean(row.ratio for row in rows):.3f}; this revision is", end=" ")
    print(", ".join(f"{verdict} {counts[verdict]}" for verdict in ("faster", "same", "slower", "too noisy")))
    if different := [row for row in rows if not row.same_bits]:
        print(
            f"OTHER BITS in {len(different)} of {len(rows)}: " + ", ".join(f"{r.layer} {r.layout}" for r in different)
        )
    if fail_above is None:
        return rows, []
    slower = [row for row in rows if past(row, fail_above)]
    if slower:
        print(f"\nSlower by more than {100 * fail_above:g}% in the whole interval; once more, with new workers:\n")
        again = [(row.layer, row.layout) for row in slower]
        share = 2 * seconds / len(rows) * len(again)
        slower = [row for row in _race(again, name, directory, threads, share, rounds) if past(row, fail_above)]
        print()
    print(f"{'FAILED' if slower else 'passed'}: {len(slower)} of {len(rows)} slower by more than {100 * fail_above:g}%")
    return rows, slower


def _race(
    what: Sequence[tuple[Layer, str]], name: str, directory: str, threads: int, seconds: float, rounds: int | None
) -> list[Comparison]:
    width = max(len(str(layer)) for layer, _ in what)
    headings = ("layer", "chan.", "this, µs", "other, µs", "other ÷ this", "95 % interval", "verdict")
    rows = []
    with ExitStack() as stack:
        with bar(0, len(what), "starting"):
            here = [(("this revision", home()), (name, directory)) for _ in range(_PAIRS)]
            pairs = [(stack.enter_context(Worker(*a)), stack.enter_context(Worker(*b))) for a, b in here]
        table = Table(headings, (width, 5, 9, 9, 12, 13, 9), spare=("other, µs", "this, µs"))
        for done, (layer, layout) in enumerate(what):
            with bar(done, len(what), f"{layer}, {layout}"):
                row = compare(layer, layout, pairs, threads, seconds / len(what), rounds)
            if row is None:
                table.line([str(layer), layout, "–", "–", "–", "–", "only here"])
                continue
            rows.append(row)
            cells = [str(layer), layout, f"{row.this * 1e6:,.1f}", f"{row.other * 1e6:,.1f}", f"{row.ratio:.3f}"]
            table.line([*cells, f"{row.low:.3f}–{row.high:.3f}", row.verdict])
    return rows


def write_json(path: str, rows: Sequence[Comparison], slower: Sequence[Comparison], other: str, threads: int) -> None:
    """Write what was measured.

    Parameters
    ----------
    path : str
        The file.
    rows, slower : sequence of Comparison
        See `run`.
    other : str
        The other revision.
    threads : int
    """

    def plain(row: Comparison) -> dict[str, Any]:
        return row.layer._asdict() | row._asdict() | {"layer": str(row.layer), "verdict": row.verdict}

    document = environment(threads) | {
        "other": other,
        "rows": [plain(row) for row in rows],
        "slower": [plain(row) for row in slower],
    }
    dump(path, document)
