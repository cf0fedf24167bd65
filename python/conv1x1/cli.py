"""The command `conv1x1`: see it work on a photo, see the arithmetic, ask what is installed, test it."""

from __future__ import annotations

import argparse
import contextlib
import importlib
import math
import os
import shlex
import sys
import zipfile
from collections.abc import Sequence
from pathlib import Path
from typing import Any, NoReturn

import numpy as np

from . import __version__, explain, show_config
from ._check import Activation, Array
from .runtime import restricted

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
            argv = sys.argv[1:] if argv is None else argv
            arguments = _parser().parse_args(argv, argparse.Namespace(argv=argv))
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
    _add_bench(commands)
    return parser


def _add_bench(commands: Any) -> None:
    command = commands.add_parser(
        "bench",
        help="how fast layers run here, next to the machine's limits, other libraries or another revision",
        description="Time layers on this machine, in turn with NumPy, and say how near they come to what it could do.\n"
        '--against sets the rivals: other libraries, for which there is an extra, pip install "conv1x1[peers]"; or\n'
        "another revision of this package, which is built aside: a git revision of the checkout in the\n"
        "current directory, or a wheel. Every result is checked before anything is timed.",
        epilog="examples:\n  conv1x1 bench\n  conv1x1 bench --threads 2 --json speed.json --plot roofline.svg\n"
        "  conv1x1 bench --against numpy,torch,onnxruntime,openvino,cv2\n"
        "  conv1x1 bench --against git:HEAD~1 --fail-above 5%",
    )
    command.add_argument(
        "--against", default="numpy", metavar="WHOM", help="numpy,torch,onnxruntime,openvino,cv2 | git:REF | FILE.whl"
    )
    command.add_argument(
        "--layers", metavar="FILE.csv", help="in_channels,out_channels,height,width[,stride,groups,dtype,name]"
    )
    command.add_argument("--layout", choices=("last", "first", "both"), default="both", help="where the channels are")
    command.add_argument("--threads", type=_positive, default=1, metavar="N", help="for everybody (default: 1)")
    command.add_argument("--isa", metavar="NAME", help="use no more than this instruction set")
    command.add_argument("--seconds", type=_seconds, default=25, metavar="S", help="to measure in all (default: 25)")
    command.add_argument("--rounds", type=_positive, metavar="N", help="rounds for each layer, instead of --seconds")
    command.add_argument("--json", metavar="FILE.json", help="also write all numbers into this file")
    command.add_argument("--plot", type=_picture, metavar="FILE.png|svg", help="also draw a roofline; extra bench")
    command.add_argument("--markdown", action="store_true", help="print the table for a document instead")
    command.add_argument(
        "--fail-above", type=_percentage, metavar="P%", help="exit 1 if slower than the other revision by more than P%%"
    )
    command.set_defaults(run=_bench)


def _png(text: str) -> str:
    if Path(text).suffix.lower() != ".png":
        raise argparse.ArgumentTypeError(f"{text!r} does not end in .png")
    return text


def _picture(text: str) -> str:
    if Path(text).suffix.lower() not in (".png", ".svg"):
        raise argparse.ArgumentTypeError(f"{text!r} does not end in .png or .svg")
    return text


def _positive(text: str) -> int:
    if not (text.isascii() and text.isdecimal() and int(text) > 0):
        raise argparse.ArgumentTypeError(f"{text!r} is not a whole number from 1")
    return int(text)


def _seconds(text: str) -> float:
    try:
        seconds = float(text)
    except ValueError:
        seconds = math.nan
    if not 0 < seconds < math.inf:
        raise argparse.ArgumentTypeError(f"{text!r} is not a number of seconds")
    return seconds


def _percentage(text: str) -> float:
    try:
        part = float(text.removesuffix("%")) / 100
    except ValueError:
        part = math.nan
    if not text.endswith("%") or not 0 <= part < math.inf:
        raise argparse.ArgumentTypeError(f"{text!r} is not a percentage such as 5%")
    return part


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


def _bench(arguments: argparse.Namespace) -> int:
    from .bench import cases, peers, regression

    revision = arguments.against.startswith("git:") or arguments.against.endswith(".whl")
    against = list(dict.fromkeys(arguments.against.split(",")))
    if not revision and (unknown := [name for name in against if name not in peers.PEERS]):
        raise Failure(
            f"--against: {unknown[0]!r} is not known; valid are a list of {', '.join(peers.PEERS)}, "
            "or alone git:REF or FILE.whl",
            _MISUSE,
        )
    if arguments.fail_above is not None and not revision:
        raise Failure("--fail-above is for --against git:REF or a wheel", _MISUSE)
    if (arguments.plot or arguments.markdown) and revision:
        raise Failure("--plot and --markdown show layers of one revision: leave out --against", _MISUSE)
    for file in (arguments.json, arguments.plot):
        if file and not Path(file).absolute().parent.is_dir():
            raise Failure(f"{file}: there is no such directory")
        if file and Path(file).is_dir():
            raise Failure(f"{file}: is a directory")
    try:
        layers = cases.read_layers(arguments.layers) if arguments.layers else cases.LAYERS
        with restricted(isa=arguments.isa):
            pass
    except ValueError as error:
        raise Failure(str(error), _MISUSE) from error
    try:
        if arguments.plot:
            importlib.import_module("matplotlib.figure")
    except ImportError as error:
        raise Failure(f'the plot needs matplotlib ({error}): pip install "conv1x1[bench]"') from error

    what = cases.cases(layers, arguments.layout)
    try:
        with restricted(isa=arguments.isa):
            return _bench_revision(arguments, what) if revision else _bench_peers(arguments, what, against)
    except (peers.MissingPeer, regression.RevisionError, ArithmeticError) as error:
        raise Failure(str(error)) from error


def _bench_peers(arguments: argparse.Namespace, what: list[Any], against: list[str]) -> int:
    from .bench import measure, peers, results, table

    threads = arguments.threads
    made = {name: peers.PEERS[name](threads) for name in against}
    with peers.blas_threads(threads) as numpy_threads:
        heading = table.heading(made, threads, numpy_threads)
        rows = measure.measure_all(what, made, threads, arguments.seconds, arguments.rounds)
        if arguments.markdown:
            done = list(rows)
            print(table.markdown(done, heading, against, shlex.join(["conv1x1", *arguments.argv])))
        else:
            print("\n".join(heading), end="\n\n", flush=True)
            done = table.text_table(rows, [str(layer) for layer, _ in what], against)
        about = results.environment(threads)
        about["versions"] |= {name: peer.version for name, peer in made.items()}
    if arguments.json:
        results.write_json(arguments.json, about | {"numpy_threads": numpy_threads}, done, against)
    if arguments.plot:
        from .bench import roofline

        roofline.draw(arguments.plot, done, measure.read_levels(threads), results.machine(threads))
    return 0


def _bench_revision(arguments: argparse.Namespace, what: list[Any]) -> int:
    from .bench import regression

    budget = (arguments.threads, arguments.seconds, arguments.rounds)
    with regression.revision(arguments.against) as (name, directory):
        rows, slower = regression.run(what, name, directory, *budget, arguments.fail_above)
    if arguments.json:
        regression.write_json(arguments.json, rows, slower, name, arguments.threads)
    return 1 if slower else 0


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
