"""The arguments of the command `conv1x1`: which there are, their help, and what each may be."""

from __future__ import annotations

import argparse
import math
from collections.abc import Sequence
from pathlib import Path
from typing import Any, NoReturn

from .. import __version__
from ..checks import Activation
from . import MISUSE, Failure

_MOST_THREADS = 1024
_MOST_DIGITS = 18  # more are no number that anything here could be


class _Parser(argparse.ArgumentParser):
    """argparse, with errors of one line and help texts that keep their example lines."""

    def __init__(self, **options: Any) -> None:
        super().__init__(formatter_class=argparse.RawDescriptionHelpFormatter, allow_abbrev=False, **options)

    def parse_known_args(self, args: Any = None, namespace: Any = None) -> Any:
        return super().parse_known_args(None if args is None else _joined(args), namespace)

    def _print_message(self, message: str, file: Any = None) -> None:
        print(message, end="", file=file)  # argparse's own keeps a full disk to itself

    def error(self, message: str) -> NoReturn:
        raise Failure(f"{message} (see {self.prog} --help)", MISUSE)


def _joined(argv: Sequence[str]) -> list[str]:
    """`--at -1,-1` as `--at=-1,-1`: argparse takes what begins with a minus, and is no number, for an option."""
    joined: list[str] = []
    for argument in argv:
        option = joined[-1] if joined else ""
        if argument[:1] == "-" and argument[1:2].isdigit() and option[:2] == "--" and option[2:] and "=" not in option:
            joined[-1] += f"={argument}"
        else:
            joined.append(argument)
    return joined


def parser() -> argparse.ArgumentParser:
    """What takes the arguments apart and names the `command`, None where there is none; it raises `Failure`.

    Returns
    -------
    ArgumentParser
    """
    made = _Parser(
        prog="conv1x1",
        description="Pointwise (1x1) convolution of NumPy arrays.",
        epilog="example:\n  conv1x1 explain --at 3,5",
    )
    made.add_argument("--version", action="version", version=f"conv1x1 {__version__}")
    made.set_defaults(help=made.format_help)
    commands = made.add_subparsers(title="commands", metavar="COMMAND", dest="command")

    command = commands.add_parser(
        "demo",
        help="a photo as 28x28x192, shrunk and brought back",
        description="Fold a photo into 28x28x192, shrink it to one channel and to 16 with 1x1 convolutions,\n"
        "bring it back, time each step against NumPy, and draw it all into one PNG.\n"
        'Needs matplotlib: pip install ".[demo]" in a clone.',
        epilog="example:\n  conv1x1 demo holiday.jpg --output holiday-demo.png",
    )
    command.add_argument("photo", nargs="?", metavar="PHOTO", help="an image file (default: a photo matplotlib ships)")
    png = "conv1x1-demo.png"
    command.add_argument("--output", type=_png, default=png, metavar="FILE.png", help=f"where to draw (default: {png})")

    command = commands.add_parser(
        "info",
        help="version, compiler, instruction sets, kernels, threads",
        description="Show what is installed and what this CPU will run.",
        epilog="example:\n  conv1x1 info",
    )

    _add_explain(commands)
    _add_import(commands)
    _add_apply(commands)
    _add_sums(commands)

    command = commands.add_parser(
        "selftest",
        help="every kernel this CPU can run against the definition",
        description="Compare every kernel this CPU can run with the plain NumPy definition, in a few seconds.\n"
        "The output is fit for a bug report. Exit code 1 if a kernel is wrong.",
        epilog="example:\n  conv1x1 selftest",
    )

    _add_bench(commands)
    return made


def _add_explain(commands: Any) -> None:
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
    command.add_argument(
        "--channel-axis", type=_integer, default=-1, metavar="N", help="the axis of x with the channels"
    )
    command.add_argument("--stride", type=_integers, default=(1,), metavar="N[,N]", help="step between pixels")
    command.add_argument("--groups", type=_integer, default=1, metavar="N", help="groups of channels")
    command.add_argument("--activation", type=_activation, metavar="NAME", help="such as relu, gelu or clip:0,1")
    command.add_argument("--at", type=_integers, metavar="I,J", help="the output pixel to explain")
    command.add_argument("--filter", type=_integer, default=0, metavar="K", help="the filter to explain (default: 0)")
    command.add_argument("--svg", metavar="FILE.svg", help="also draw it into this file")


def _add_import(commands: Any) -> None:
    command = commands.add_parser(
        "import",
        help="a model of ONNX, scikit-learn or torch, as a file of this package",
        description="Make a chain of a model whose every step is pointwise, compare it with the original on 256\n"
        "pixels, and write it to a file for conv1x1.load, which then needs no other library. The import needs the\n"
        'model\'s: pip install ".[onnx]", ".[sklearn]" or ".[torch]" in a clone.',
        epilog="examples:\n  conv1x1 import classifier.onnx -o net.npz\n"
        "  conv1x1 import pipeline.joblib --trust --result predict_proba -o net.npz",
    )
    command.add_argument("model", metavar="MODEL", help="an .onnx file; or a .joblib, .pkl, .pt with --trust")
    command.add_argument("-o", "--output", required=True, metavar="FILE.npz", help="where to write the chain")
    command.add_argument(
        "--trust", action="store_true", help="read a pickle, which can run any program: only if you know who wrote it"
    )
    command.add_argument(
        "--result", metavar="WHAT", help="of an estimator: predict, predict_proba, decision_function or transform"
    )
    command.add_argument("--channel-axis", type=_integer, metavar="N", help="the axis of x that will hold the channels")


def _add_apply(commands: Any) -> None:
    command = commands.add_parser(
        "apply",
        help="a saved net on a file, which may be larger than memory",
        description="Apply a layer or a chain that conv1x1.save or conv1x1 import wrote to every pixel of a\n"
        "file, tile by tile. Files are .npy, .zarr, .h5:/dataset, .tif and the .hdr of ENVI; zarr, HDF5 and TIFF\n"
        'need their libraries: pip install ".[files]" in a clone.',
        epilog="examples:\n  conv1x1 apply net.npz scene.hdr classes.tif --nodata-out 255 --co compress=deflate\n"
        "  conv1x1 apply net.npz scene.npy scores.npy --memory 1GiB --resume",
    )
    command.add_argument("net", metavar="NET.npz", help="what to apply")
    command.add_argument("input", metavar="INPUT", help="the file with the pixels")
    command.add_argument("output", metavar="OUTPUT", help="the file to write, of a kind that its name says")
    command.add_argument(
        "--channel-axis", type=_integer, metavar="N", help="the axis with the channels (default: the net's)"
    )
    _add_work(command)
    command.add_argument("--dtype", "--ot", metavar="TYPE", help="the type of the result, such as uint8")
    command.add_argument("--nodata-when", choices=("any", "all"), default="any", help="in how many channels of a pixel")
    command.add_argument("--nodata-out", type=_number, metavar="V", help="what stands for it in the result")
    command.add_argument("--scaled", action="store_true", default=None, help="apply scale and offset of the file")
    command.add_argument("--unscaled", dest="scaled", action="store_false", help="take the numbers as they are")
    command.add_argument("--resume", action="store_true", help="complete what an earlier run left incomplete")
    command.add_argument("--overwrite", action="store_true", help="replace an existing OUTPUT")
    command.add_argument(
        "--co", type=_option, action="append", default=[], metavar="NAME=VALUE", help="for the library that writes"
    )


def _add_work(command: Any) -> None:
    """How a file is worked through, tile by tile."""
    command.add_argument("--memory", default="256 MiB", metavar="SIZE", help="how much to use (default: 256 MiB)")
    command.add_argument("--threads", type=_threads, metavar="N", help="how many compute (default: all)")
    command.add_argument(
        "--nodata", type=_nodata, metavar="V[,V]", help="what stands for no data (default: as the file tells), or none"
    )
    command.add_argument("-q", "--quiet", action="store_true", help="no progress and no summary")


def _add_sums(commands: Any) -> None:
    pca = commands.add_parser(
        "pca",
        help="the principal components of a file, as a net that apply takes",
        description="Find the principal components of the pixels of a file, which is read once, tile by tile. Files\n"
        "and their libraries are those of conv1x1 apply.",
        epilog="example:\n  conv1x1 pca scene.hdr -k 10 -o pca.npz && conv1x1 apply pca.npz scene.hdr components.npy",
    )
    pca.add_argument("-k", "--components", default="10", metavar="N", help="how many, or which part of the variance")
    pca.add_argument("--whiten", action="store_true", help="divide each by its standard deviation")
    covariance = commands.add_parser(
        "covariance",
        help="mean and covariance of the channels of a file",
        description="Find mean and covariance of the channels of a file, and write them to an .npz of NumPy.",
        epilog="example:\n  conv1x1 covariance scene.npy -o covariance.npz",
    )
    for command in (pca, covariance):
        command.add_argument("input", metavar="INPUT", help="the file with the pixels")
        command.add_argument("-o", "--output", required=True, metavar="FILE.npz", help="where to write")
        command.add_argument(
            "--channel-axis", type=_integer, default=-1, metavar="N", help="the axis with the channels (default: -1)"
        )
        _add_work(command)


def _add_bench(commands: Any) -> None:
    command = commands.add_parser(
        "bench",
        help="how fast layers run here, next to the machine's limits, other libraries or another revision",
        description="Time layers on this machine, in turn with NumPy, and say how near they come to what it could do.\n"
        '--against sets the rivals: other libraries, which pip install ".[peers]" brings in a clone; or\n'
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
    command.add_argument("--threads", type=_threads, default=1, metavar="N", help="for everybody (default: 1)")
    command.add_argument("--isa", metavar="NAME", help="use no more than this instruction set")
    command.add_argument("--seconds", type=_seconds, default=25, metavar="S", help="to measure in all (default: 25)")
    command.add_argument("--rounds", type=_positive, metavar="N", help="rounds for each layer, instead of --seconds")
    command.add_argument("--json", metavar="FILE.json", help="also write all numbers into this file")
    command.add_argument("--plot", type=_picture, metavar="FILE.png|svg", help="also draw a roofline; extra bench")
    command.add_argument("--markdown", action="store_true", help="print the table for a document instead")
    command.add_argument(
        "--fail-above", type=_percentage, metavar="P%", help="exit 1 if slower than the other revision by more than P%%"
    )


def _png(text: str) -> str:
    if Path(text).suffix.lower() != ".png":
        raise argparse.ArgumentTypeError(f"{text!r} does not end in .png")
    return text


def _picture(text: str) -> str:
    if Path(text).suffix.lower() not in (".png", ".svg"):
        raise argparse.ArgumentTypeError(f"{text!r} does not end in .png or .svg")
    return text


def _positive(text: str) -> int:
    if not (text.isascii() and text.isdecimal() and len(text) <= _MOST_DIGITS and int(text) > 0):
        raise argparse.ArgumentTypeError(f"{text!r} is not a whole number from 1")
    return int(text)


def _threads(text: str) -> int:
    threads = _positive(text)
    if threads > _MOST_THREADS:
        raise argparse.ArgumentTypeError(f"{text} is more than {_MOST_THREADS}; more than there are CPUs never helps")
    return threads


def _integer(text: str) -> int:
    digits = text.removeprefix("-")
    if not (digits.isascii() and digits.isdecimal() and len(digits) <= _MOST_DIGITS):
        raise argparse.ArgumentTypeError(f"{text!r} is not an integer")
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


def _number(text: str) -> float:
    try:
        return int(text) if text.lstrip("+-").isdecimal() else float(text)
    except ValueError:
        raise argparse.ArgumentTypeError(f"{text!r} is not a number") from None


def _nodata(text: str) -> Any:
    if text == "none":
        return False
    numbers = [_number(part) for part in text.split(",")]
    return numbers[0] if len(numbers) == 1 else numbers


def _option(text: str) -> tuple[str, str]:
    name, equals, value = text.partition("=")
    if not (name and equals):
        raise argparse.ArgumentTypeError(f"{text!r} is not NAME=VALUE such as compress=deflate")
    return name, value


def _integers(text: str) -> tuple[int, ...]:
    try:
        return tuple(_integer(part.strip()) for part in text.split(","))
    except argparse.ArgumentTypeError:
        raise argparse.ArgumentTypeError(f"{text!r} is not a list of integers such as 3,5") from None


def _activation(text: str) -> Activation:
    name, _, parameters = text.partition(":")
    try:
        numbers = [float(p) for p in parameters.split(",")] if parameters else []
    except ValueError:
        raise argparse.ArgumentTypeError(f"{text!r} is not a name with numbers such as clip:0,1") from None
    return (name, *numbers) if numbers else name  # type: ignore[return-value]  # `explain` checks how many there are
