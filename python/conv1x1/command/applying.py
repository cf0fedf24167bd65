"""`conv1x1 apply`: a saved net on a file, by `stream`, and in the end what it took."""

from __future__ import annotations

import re
import shlex
import sys
from argparse import Namespace

from ..saving import load
from ..streaming import job, journal
from ..streaming.pipeline import Terminated, Times
from . import INTERRUPTED, Failure

_TERMINATED = 143  # what a shell reports for a command ended by SIGTERM
#: Advice for callers of `stream`, as it is for the command.
_WORDS = {
    r"\bresume=True": "--resume",
    r"\boverwrite=True": "--overwrite",
    r"\bscaled=True": "--scaled",
    r"\bscaled=False": "--unscaled",
    r"\bnodata=False": "--nodata none",
    r"\b(nodata|nodata_out|nodata_when|memory|dtype|channel_axis)=(?=\S)": r"--\1 ",
    r"--(\w+)_(\w+) ": r"--\1-\2 ",
}


def run(arguments: Namespace) -> int:
    """Apply the net, and say what it took.

    Parameters
    ----------
    arguments : Namespace
        As the parser makes them.

    Returns
    -------
    int
        The exit code: 0, 130 after Ctrl-C, 143 after SIGTERM.

    Raises
    ------
    Failure
        When something does not fit, or a tile cannot be read or written.
    """
    terminal = sys.stderr is not None and sys.stderr.isatty()
    asked = job.Asked(
        memory=arguments.memory,
        threads=arguments.threads,
        progress=terminal and not arguments.quiet,
        resume=arguments.resume,
        overwrite=arguments.overwrite,
        channel_axis=arguments.channel_axis,
        dtype=arguments.dtype,
        nodata=arguments.nodata,
        nodata_when=arguments.nodata_when,
        nodata_out=arguments.nodata_out,
        scaled=arguments.scaled,
        options=dict(arguments.co) or None,
    )
    try:
        outcome = job.run(load(arguments.net), arguments.input, arguments.output, asked)
    except KeyboardInterrupt as end:
        _tell(
            f"interrupted: {_in_words_of_the_command(str(end).partition(';')[0]) or 'nothing was written'}; resume by"
        )
        _tell(_again(arguments))
        return _TERMINATED if isinstance(end, Terminated) else INTERRUPTED
    except (ImportError, MemoryError, OSError, RuntimeError, TypeError, ValueError) as error:
        raise Failure(_in_words_of_the_command(_told(error)) + _resumable(arguments)) from error
    if not arguments.quiet:
        print(_summary(outcome, arguments))
    return 0


def _summary(outcome: job.Outcome, arguments: Namespace) -> str:
    times, net = outcome.times, outcome.net
    if not times.pixels:
        return f"{arguments.output} is complete: there was nothing to do"
    spent = times.reading + times.computing + times.writing
    shares = [f"{word} {getattr(times, word) / spent:.0%}" for word in ("reading", "computing", "writing")]
    seconds = max(times.elapsed, 1e-9)
    rates = [f"{word} {n / 1e9:.2f} GB, {n / seconds / 1e9:.2f} GB/s" for word, n in _bytes(times)]
    return "\n".join(
        [
            f"{times.pixels:,} pixels of {net.channels} channels → {net.out_channels}, {net.dtype}, in {seconds:.1f} s",
            "; ".join(rates),
            f"time of the threads: {', '.join(shares)}",
            f"the result is in {arguments.output}",
        ]
    )


def _bytes(times: Times) -> tuple[tuple[str, int], ...]:
    return ("read", times.read), ("written", times.written)


def _told(error: Exception) -> str:
    if isinstance(error, OSError) and error.strerror:
        return f"{error.filename}: {error.strerror}" if error.filename else error.strerror
    return str(error) or type(error).__name__


def _in_words_of_the_command(text: str) -> str:
    for call, option in _WORDS.items():
        text = re.sub(call, option, text)
    return text


def _resumable(arguments: Namespace) -> str:
    """After an error in the middle: how to go on."""
    from os.path import getsize

    try:
        begun = getsize(journal.path_of(arguments.output.partition(":")[0])) > 0
    except OSError:
        begun = False
    return f"\nwhat was written stays; go on by\n{_again(arguments)}" if begun and not arguments.resume else ""


def _again(arguments: Namespace) -> str:
    """The command that resumes."""
    argv = [a for a in arguments.argv if a not in ("--resume", "--overwrite")]
    return shlex.join(["conv1x1", *argv, "--resume"])


def _tell(line: str) -> None:
    if sys.stderr is not None:
        print(line, file=sys.stderr, flush=True)
