"""The command `conv1x1`: see it work on a photo, see the arithmetic, ask what is installed, test it."""

from __future__ import annotations

import argparse
import contextlib
import os
import sys
import zipfile
from collections.abc import Sequence
from pathlib import Path
from typing import Any, NoReturn

import numpy as np

from . import __version__, explain, show_config
from ._check import Activation, Array

_MISUSE = 2
_INTERRUPTED = 130  # what a shell reports for a command ended by Ctrl-C


class Failure(Exception):
    """A message for the person at the terminal, and the exit code that goes with it."""

    def __init__(self, message: str, code: int = 1) -> None:
        super().__init__(message)
        self.code = code


class _Parser(argparse.ArgumentParser):
    """argparse, with errors of one line and help texts that keep their example lines."""

    def __init__(self, **options: Any) -> None:
        super().__init__(formatter_class=argparse.RawDescriptionHelpFormatter, allow_abbrev=False, **options)

    def error(self, message: str) -> NoReturn:
        raise Failure(f"{message} (see {self.prog} --help)", _MISUSE)


def main(argv: Sequence[str] | None = None) -> int:
    """Run the command.

    Parameters
    ----------
    argv : sequence of str, optional
        The arguments; those of the process when left out.

    Returns
    -------
    int
        The exit code: 0, 1 for work that failed, 2 for misuse, 130 after Ctrl-C.
    """
    with contextlib.suppress(AttributeError):  # a stdout that somebody replaced need not be a text stream
        sys.stdout.reconfigure(errors="replace")  # type: ignore[union-attr]  # a terminal without "→" shows "?"
    try:
        try:
            arguments = _parser().parse_args(argv)
            code = int(arguments.run(arguments))
        except SystemExit as end:  # argparse, after --help and --version
            code = int(end.code or 0)
        sys.stdout.flush()
        return code
    except Failure as failure:
        print(f"conv1x1: error: {failure}", file=sys.stderr)
        return failure.code
    except KeyboardInterrupt:
        return _INTERRUPTED
    except BrokenPipeError:
        # The reader is gone; without this the interpreter would flush at exit, fail again and say so.
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        return 1
    except OSError as error:
        about = f"{error.filename}: {error.strerror}" if error.filename and error.strerror else str(error)
        print(f"conv1x1: error: {about}", file=sys.stderr)
        return 1


def _parser() -> argparse.ArgumentParser:
    parser = _Parser(
        prog="conv1x1",
        description="Pointwise (1x1) convolution of NumPy arrays.",
        epilog="example:\n  conv1x1 explain --at 3,5",
    )
    parser.add_argument("--version", action="version", version=f"conv1x1 {__version__}")
    parser.set_defaults(run=lambda _: _help(parser))
    commands = parser.add_subparsers(title="commands", metavar="COMMAND")

    command = commands.add_parser(
        "demo",
        help="a photo as 28x28x192, shrunk and brought back",
        description="Fold a photo into 28x28x192, shrink it to one channel and to 16 with 1x1 convolutions,\n"
        "bring it back, time each step against NumPy, and draw it all into one PNG.\n"
        'Needs matplotlib: pip install "conv1x1[demo]".',
        epilog="example:\n  conv1x1 demo holiday.jpg --output holiday-demo.png",
    )
    command.add_argument("photo", nargs="?", metavar="PHOTO", help="an image file (default: a photo matplotlib ships)")
    png = "conv1x1-demo.png"
    command.add_argument("--output", type=_png, default=png, metavar="FILE.png", help=f"where to draw (default: {png})")
    command.set_defaults(run=_demo)

    command = commands.add_parser(
        "info",
        help="version, compiler, instruction sets, kernels, threads",
        description="Show what is installed and what this CPU will run.",
        epilog="example:\n  conv1x1 info",
    )
    command.set_defaults(run=_info)

    command = commands.add_parser(
        "explain",
        help="the arithmetic of one output pixel",
        description="Show the real arithmetic of one output pixel, and what shrinks the channels.\n"
        "Without --x and --w: one 1x1x192 filter over a made-up 28x28x192 input.",
        epilog="examples:\n  conv1x1 explain --at 3,5 --svg explained.svg\n"
        "  conv1x1 explain --x image.npy --w weights.npy --channel-axis 0 --activation relu --filter 7",
    )
    command.add_argument("--x", metavar="FILE.npy", help="the pixels")
    command.add_argument("--w", metavar="FILE.npy", help="the filters, (K, C) or as a framework stores them")
    command.add_argument("--bias", metavar="FILE.npy", help="one number for each filter")
    command.add_argument("--channel-axis", type=int, default=-1, metavar="N", help="the axis of x with the channels")
    command.add_argument("--stride", type=_integers, default=(1,), metavar="N[,N]", help="step between pixels")
    command.add_argument("--groups", type=int, default=1, metavar="N", help="groups of channels")
    command.add_argument("--activation", type=_activation, metavar="NAME", help="such as relu, gelu or clip:0,1")
    command.add_argument("--at", type=_integers, metavar="I,J", help="the output pixel to explain")
    command.add_argument("--filter", type=int, default=0, metavar="K", help="the filter to explain (default: 0)")
    command.add_argument("--svg", metavar="FILE.svg", help="also draw it into this file")
    command.set_defaults(run=_explain)

    command = commands.add_parser(
        "selftest",
        help="every kernel this CPU can run against the definition",
        description="Compare every kernel this CPU can run with the plain NumPy definition, in a few seconds.\n"
        "The output is fit for a bug report. Exit code 1 if a kernel is wrong.",
        epilog="example:\n  conv1x1 selftest",
    )
    command.set_defaults(run=_selftest)
    return parser


def _png(text: str) -> str:
    if Path(text).suffix.lower() != ".png":
        raise argparse.ArgumentTypeError(f"{text!r} does not end in .png")
    return text


def _integers(text: str) -> tuple[int, ...]:
    try:
        return tuple(int(part) for part in text.split(","))
    except ValueError:
        raise argparse.ArgumentTypeError(f"{text!r} is not a list of integers such as 3,5") from None


def _activation(text: str) -> Activation:
    name, _, parameters = text.partition(":")
    try:
        numbers = [float(p) for p in parameters.split(",")] if parameters else []
    except ValueError:
        raise argparse.ArgumentTypeError(f"{text!r} is not a name with numbers such as clip:0,1") from None
    return (name, *numbers) if numbers else name  # type: ignore[return-value]  # `explain` checks how many there are


def _help(parser: argparse.ArgumentParser) -> int:
    parser.print_help()
    return 0


def _info(_: argparse.Namespace) -> int:
    show_config()
    return 0


def _selftest(_: argparse.Namespace) -> int:
    from . import selftest

    return 0 if selftest.run() else 1


def _demo(arguments: argparse.Namespace) -> int:
    from . import demo

    try:
        demo.run(arguments.photo, arguments.output)
    except ImportError as error:
        raise Failure(f'the demo needs matplotlib ({error}): pip install "conv1x1[demo]"') from error
    except ArithmeticError as error:
        raise Failure(str(error)) from error
    return 0


def _explain(arguments: argparse.Namespace) -> int:
    if (arguments.x is None) != (arguments.w is None):
        raise Failure("--x and --w go together: give both, or neither for the 28x28x192 example", _MISUSE)
    x, w = (_load(arguments.x), _load(arguments.w)) if arguments.x else _example()
    bias = _load(arguments.bias) if arguments.bias else None
    stride = arguments.stride[0] if len(arguments.stride) == 1 else arguments.stride
    where = {} if arguments.at is None else {"at": arguments.at}
    try:
        explanation = explain(
            x,
            w,
            bias,
            channel_axis=arguments.channel_axis,
            stride=stride,
            groups=arguments.groups,
            activation=arguments.activation,
            filter=arguments.filter,
            **where,
        )
    except (IndexError, TypeError, ValueError) as error:
        raise Failure(str(error), _MISUSE) from error
    print(explanation)
    if arguments.svg:
        Path(arguments.svg).write_text(explanation.to_svg(), encoding="utf-8")
        print(f"drawn into {arguments.svg}")
    return 0


def _example() -> tuple[Array, Array]:
    """28×28×192 pixels and one 1×1×192 filter, of two decimals, so that the arithmetic can be followed by hand."""
    random = np.random.default_rng(192)
    x, w = (random.standard_normal(shape).round(2).astype(np.float32) for shape in ((28, 28, 192), (1, 1, 192)))
    return x, w


def _load(path: str) -> Array:
    try:
        array = np.load(path, allow_pickle=False)
    except (ValueError, EOFError, zipfile.BadZipFile) as error:
        raise Failure(f"{path}: not a .npy file of numbers") from error
    if not isinstance(array, np.ndarray):
        array.close()
        raise Failure(f"{path}: an archive of arrays; a .npy file of one array is expected")
    return array
