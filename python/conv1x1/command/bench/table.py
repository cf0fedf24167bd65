"""What a person sees of a measurement: a table, as text that grows line by line or as Markdown."""

from __future__ import annotations

import shutil
import sys
from collections import Counter
from collections.abc import Iterable, Iterator, Sequence

from ... import __version__
from .measure import read_levels, roofs
from .peers import Peer
from .results import MARGIN, Rival, Row, machine, summary

_EXPLANATION = (
    "A ratio is the peer's time ÷ conv1x1's: the median of rounds in turn, and its 95 % interval. ▼ is a loss.\n"
    f"Level is within {MARGIN:.0%}, or too noisy to say.\n"
    "Of roof: of the lesser of the multiply-add peak and (bytes that must move) at reading speed, measured beside it."
)


class Table:
    """Lines of cells, printed as they come: the first column to the left, the others to the right.

    Parameters
    ----------
    headings : sequence of str
    widths : sequence of int
        At least; a heading has its room in any case.
    spare : sequence of str
        Headings of columns that go first, in this order, where a terminal is too narrow.
    """

    def __init__(self, headings: Sequence[str], widths: Sequence[int], spare: Sequence[str] = ()) -> None:
        self._widths = {h: max(len(h), w) for h, w in zip(headings, widths, strict=True)}
        self._shown = dict.fromkeys(headings, True)
        room = shutil.get_terminal_size().columns if sys.stdout.isatty() else sys.maxsize
        for heading in spare:
            if sum(self._widths[h] + 2 for h, shown in self._shown.items() if shown) - 2 > room:
                self._shown[heading] = False
        self.line(headings)

    def line(self, cells: Sequence[str]) -> None:
        """Print one.

        Parameters
        ----------
        cells : sequence of str
        """
        cut = [(cell, self._widths[h]) for cell, (h, shown) in zip(cells, self._shown.items(), strict=True) if shown]
        first, *rest = cut
        print("  ".join([f"{first[0]:<{first[1]}}", *(f"{cell:>{width}}" for cell, width in rest)]), flush=True)


def heading(peers: dict[str, Peer], threads: int, numpy_threads: int | None) -> list[str]:
    """What is raced, and on what.

    Parameters
    ----------
    peers : dict of Peer
    threads : int
    numpy_threads : int or None
        See `blas_threads`.

    Returns
    -------
    list of str
        Lines.
    """
    levels = ", ".join(f"{gbs:.0f} from {size}" for size, gbs in read_levels(threads))
    lines = [
        ", ".join([f"conv1x1 {__version__}", *(f"{name} {peer.version}" for name, peer in peers.items())]),
        f"{machine(threads)}; float32, unless a layer says another",
        f"roofs: {roofs(1, threads)[0]:.0f} GFLOP/s of multiply-adds; reads of {levels}, in GB/s",
    ]
    if "numpy" in peers and numpy_threads is None:
        lines.append(
            "NumPy takes as many threads as it likes, so its ratios say little: "
            'pip install ".[bench]" in a clone brings threadpoolctl, which holds it'
        )
    elif "numpy" in peers and numpy_threads != threads:
        lines.append(f"NumPy takes {numpy_threads} thread{'s' * (numpy_threads != 1)}: more, or fewer, it cannot")
    return lines


def text_table(rows: Iterable[Row], labels: Iterable[str], against: Sequence[str]) -> list[Row]:
    """Print a line for each row as it comes, and what they come to.

    Parameters
    ----------
    rows : iterable of Row
    labels : iterable of str
        Of the layers to come.
    against : sequence of str
        The peers.

    Returns
    -------
    list of Row
    """
    label = max(map(len, labels))
    columns = {"layer": label, "chan.": 5, "µs": 8, "GFLOP/s": 7, "GB/s": 5, "of roof": 7, "kernel": 17}
    if len(against) == 1:
        columns |= {f"{against[0]} ÷ conv1x1": 17}
    else:
        columns |= {name: 6 for name in against} | {
            "best ÷ conv1x1": 17,
            "winner": max(map(len, ["conv1x1", *(f"level with {name}" for name in against)])),
        }
    spare = [name for name in ("kernel", "GB/s", "GFLOP/s", "best ÷ conv1x1", "of roof", "µs") if name in columns]
    done, table = [], None
    for row in rows:
        table = table or Table([*columns], [*columns.values()], spare)
        kernel = row.kernel.split("_", 2)[-1].replace("_", " ")  # the instruction set and the type are told already
        cells = [str(row.layer), row.layout, f"{row.seconds * 1e6:,.1f}", f"{row.gflops:.1f}", f"{row.gbs:.1f}"]
        cells += [f"{row.part:.0%}", kernel]
        if len(against) > 1:
            cells += [_ratio(row.rivals.get(name)) for name in against]
        best = row.rivals.get(row.best or "")
        cells.append(_ratio(best) + (f" ({best.low:.2f}–{best.high:.2f})" if best and best.low else ""))
        if len(against) > 1:
            cells.append(row.winner or "–")
        table.line(cells)
        done.append(row)
    print()
    print("\n".join(_summary(done, against)))
    return done


def _ratio(rival: Rival | None) -> str:
    return "–" if rival is None else f"{'▼' if rival.ratio < 1 else ''}{rival.ratio:.2f}"


def _summary(rows: Sequence[Row], against: Sequence[str]) -> Iterator[str]:
    yield _EXPLANATION
    names = {name: name for name in against} | ({"best peer": None} if len(against) > 1 else {})
    for title, name in names.items():
        left = f"{title:<{max(map(len, names))}}  "
        if s := summary(rows, name):
            told = f"geometric mean {s['geometric_mean']:.2f}, worst {s['worst']:.2f}"
            yield f"{left}{told}; ahead in {s['ahead']} and level in {s['level']} of {s['layers']}"
        else:
            yield f"{left}has none of these layers"
    if len(against) > 1:
        counts = Counter(row.winner for row in rows if row.winner)
        yield "winners: " + ", ".join(f"{winner} {number}" for winner, number in counts.most_common())
    for row, name, rival in _losses(rows):
        level = ", level" * rival.level
        yield f"▼ {row.layer}, channels {row.layout}: {name} ({rival.form}) takes {rival.ratio:.2f} of our time{level}"


def _losses(rows: Iterable[Row]) -> list[tuple[Row, str, Rival]]:
    lost = [(row, name, rival) for row in rows for name, rival in row.rivals.items() if rival.ratio < 1]
    return sorted(lost, key=lambda loss: loss[2].ratio)


def markdown(rows: Sequence[Row], lines: Sequence[str], against: Sequence[str], command: str) -> str:
    """The table for a document, with where it is from.

    Parameters
    ----------
    rows : sequence of Row
    lines : sequence of str
        See `heading`.
    against : sequence of str
        The peers.
    command : str
        What makes it.

    Returns
    -------
    str
    """
    known = {name: s for name in against if (s := summary(rows, name))}
    overall = [
        [f"`{name}`", f"{s['geometric_mean']:.2f}", f"{s['worst']:.2f}", s["ahead"], s["level"], s["layers"]]
        for name, s in known.items()
    ]
    layers = [
        [str(row.layer), row.layout, f"{row.seconds * 1e6:,.1f}", f"{row.gflops:.1f}", f"{row.part:.0%}"]
        + [_bold(_ratio(rival := row.rivals.get(name)), bool(rival and rival.ratio < 1)) for name in known]
        + [_bold(row.winner or "–", row.winner not in (None, "conv1x1"))]
        for row in rows
    ]
    parts = [
        f"`{command}` printed this:",
        "\n".join(f"- {line}" for line in lines),
        _EXPLANATION,
        _pipes(["peer", "geometric mean", "worst", "ahead of conv1x1", "level with it", "layers"], 1, overall),
        *_not_won(rows),
        "<details><summary>Every layer</summary>",
        _pipes(["layer", "channels", "µs", "GFLOP/s", "of roof", *known, "winner"], 2, layers),
        "</details>",
    ]
    return "\n\n".join(parts)


def _not_won(rows: Iterable[Row]) -> Iterator[str]:
    """Where peers are ahead of conv1x1, and where they are level with it: a paragraph each."""
    raced = [(row, name, rival) for row in rows for name, rival in row.rivals.items()]
    for title, state in (("Ahead of conv1x1", "ahead"), ("Level with it", "level")):
        found = [
            f"{name} in {row.layer}, channels {row.layout} ({_ratio(rival)})"
            for row, name, rival in raced
            if getattr(rival, state)
        ]
        yield f"{title}: {'; '.join(found) or 'none'}."


def _bold(text: str, bold: bool) -> str:
    return f"**{text}**" if bold else text


def _pipes(headings: Sequence[str], names: int, lines: Iterable[Sequence[object]]) -> str:
    """A table of Markdown, the first columns to the left and the others to the right."""
    rule = ["---" if i < names else "---:" for i in range(len(headings))]
    return "\n".join(f"| {' | '.join(map(str, line))} |" for line in (headings, rule, *lines))
