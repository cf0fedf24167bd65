"""The command `conv1x1`: see it work on a photo, see the arithmetic, ask what is installed, test it."""

from __future__ import annotations

import contextlib
import importlib
import io
import os
import sys
import warnings
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from .. import explain, show_config
from ..checks.arrays import Array
from ..runtime import restricted
from . import INTERRUPTED, MISUSE, Failure, tell

if TYPE_CHECKING:
    from argparse import ArgumentParser, Namespace


def main(argv: Sequence[str] | None = None) -> int:
    """Run the command.

    Parameters
    ----------
    argv : sequence of str, optional
        The arguments; those of the process, which then ends with the command, when left out.

    Returns
    -------
    int
        The exit code: 0, 1 for work that failed, 2 for misuse, 130 after Ctrl-C.
    """
    try:
        code = _run(sys.argv[1:] if argv is None else argv)
    except KeyboardInterrupt:
        code = INTERRUPTED
    if argv is None:
        _drop_what_cannot_be_written()
    return code


def _run(argv: Sequence[str]) -> int:
    try:
        with _stdout():
            try:
                arguments = _parser().parse_args(argv)
                arguments.argv = argv
                code = _COMMANDS[arguments.command](arguments)
            except SystemExit as end:  # argparse, after --help and --version
                code = int(end.code or 0)
            sys.stdout.flush()
        return code
    except Failure as failure:
        tell(failure)
        return failure.code
    except BrokenPipeError:  # the reader has what it wanted
        return 1
    except MemoryError as error:
        tell(f"there is not enough memory{f': {error}' * bool(str(error))}")
        return 1
    except OSError as error:
        words = error.strerror or str(error)
        tell(f"{error.filename}: {words}" if error.filename else words)
        return 1


@contextlib.contextmanager
def _stdout() -> Iterator[None]:
    """Where there is no "→", a "?" is printed instead; where there is no stdout, nothing."""
    stream = sys.stdout
    if stream is None or getattr(stream, "closed", False):
        with contextlib.redirect_stdout(io.StringIO()):
            yield
    elif not isinstance(stream, io.TextIOWrapper):  # somebody's own need not know of encodings
        yield
    else:
        errors = stream.errors
        stream.reconfigure(errors="replace")
        try:
            yield
        finally:
            with contextlib.suppress(OSError, ValueError):
                stream.reconfigure(errors=errors)


def _drop_what_cannot_be_written() -> None:
    """Or the interpreter tries again at exit, complains of that, and exits with 120."""
    for stream in (sys.stdout, sys.stderr):
        try:
            if stream is not None and not stream.closed:
                stream.flush()
        except OSError:
            os.dup2(os.open(os.devnull, os.O_WRONLY), stream.fileno())


def _parser() -> ArgumentParser:
    from .arguments import parser  # not before Ctrl-C is expected

    return parser()


def _help(arguments: Namespace) -> int:
    print(arguments.help(), end="")
    return 0


def _info(_: Namespace) -> int:
    show_config()
    return 0


def _selftest(_: Namespace) -> int:
    from . import selftest

    return 0 if selftest.run() else 1


def _bench(arguments: Namespace) -> int:
    from .bench import cases, peers, regression

    revision = arguments.against.startswith("git:") or arguments.against.endswith(".whl")
    against = list(dict.fromkeys(arguments.against.split(",")))
    if not revision and (unknown := [name for name in against if name not in peers.PEERS]):
        raise Failure(
            f"--against: {unknown[0]!r} is not known; valid are a list of {', '.join(peers.PEERS)}, "
            "or alone git:REF or FILE.whl",
            MISUSE,
        )
    if arguments.fail_above is not None and not revision:
        raise Failure("--fail-above is for --against git:REF or a wheel", MISUSE)
    if (arguments.plot or arguments.markdown) and revision:
        raise Failure("--plot and --markdown show layers of one revision: leave out --against", MISUSE)
    for file in (arguments.json, arguments.plot):
        if file is not None and not Path(file).absolute().parent.is_dir():
            raise Failure(f"{file}: there is no such directory")
        if file is not None and Path(file).is_dir():
            raise Failure(f"{file}: is a directory")
    try:
        layers = cases.read_layers(arguments.layers) if arguments.layers is not None else cases.LAYERS
        with restricted(isa=arguments.isa):
            pass
    except ValueError as error:
        raise Failure(str(error), MISUSE) from error
    if arguments.plot:
        _need_matplotlib("plot", "bench")

    what = cases.cases(layers, arguments.layout)
    try:
        with restricted(isa=arguments.isa):
            return _bench_revision(arguments, what) if revision else _bench_peers(arguments, what, against)
    except (peers.MissingPeer, regression.RevisionError, ArithmeticError) as error:
        raise Failure(str(error)) from error


def _bench_peers(arguments: Namespace, what: list[Any], against: list[str]) -> int:
    import shlex

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


def _bench_revision(arguments: Namespace, what: list[Any]) -> int:
    from .bench import regression

    budget = (arguments.threads, arguments.seconds, arguments.rounds)
    with regression.revision(arguments.against) as (name, directory):
        rows, slower = regression.run(what, name, directory, *budget, arguments.fail_above)
    if arguments.json:
        regression.write_json(arguments.json, rows, slower, name, arguments.threads)
    return 1 if slower else 0


def _demo(arguments: Namespace) -> int:
    from . import demo

    _need_matplotlib("demo", "demo")
    try:
        demo.run(arguments.photo, arguments.output)
    except ArithmeticError as error:
        raise Failure(str(error)) from error
    return 0


def _need_matplotlib(what: str, extra: str) -> None:
    try:
        for module in ("matplotlib", "matplotlib.figure"):
            importlib.import_module(module)
    except (ImportError, ValueError) as error:  # the latter of an MPLBACKEND that it does not know
        raise Failure(f'the {what} needs matplotlib ({error}): pip install ".[{extra}]" in a clone') from error


def _explain(arguments: Namespace) -> int:
    if (arguments.x is None) != (arguments.w is None):
        raise Failure("--x and --w go together: give both, or neither for the 28x28x192 example", MISUSE)
    x, w = (_load(arguments.x), _load(arguments.w)) if arguments.x is not None else _example()
    bias = _load(arguments.bias) if arguments.bias is not None else None
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
    except (IndexError, OverflowError, TypeError, ValueError) as error:
        raise Failure(str(error), MISUSE) from error
    print(explanation)
    if arguments.svg is not None:
        Path(arguments.svg).write_text(explanation.to_svg(), encoding="utf-8")
        print(f"drawn into {arguments.svg}")
    return 0


def _example() -> tuple[Array, Array]:
    """28×28×192 pixels and one 1×1×192 filter, of two decimals, so that the arithmetic can be followed by hand."""
    random = np.random.default_rng(192)
    x, w = (random.standard_normal(shape).round(2).astype(np.float32) for shape in ((28, 28, 192), (1, 1, 192)))
    return x, w


def _import(arguments: Namespace) -> int:
    from . import importing

    importing.run(arguments)
    return 0


def _apply(arguments: Namespace) -> int:
    from . import applying

    return applying.run(arguments)


def _sums(arguments: Namespace) -> int:
    from . import sums

    sums.run(arguments)
    return 0


def _load(path: str) -> Array:
    """The array of a file, of which only what is looked at will be read."""
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")  # a header is read as Python, and a damaged one as odd Python
            array = np.load(path, mmap_mode="r", allow_pickle=False)
    except OSError as error:
        raise Failure(f"{path}: {error.strerror or error}") from error
    except Exception as error:  # what NumPy says of a damaged header may be anything
        raise Failure(f"{path}: not a .npy file of numbers") from error
    if not isinstance(array, np.ndarray):
        array.close()
        raise Failure(f"{path}: an archive of arrays; a .npy file of one array is expected")
    return array


_COMMANDS = {
    None: _help,
    "info": _info,
    "selftest": _selftest,
    "bench": _bench,
    "demo": _demo,
    "explain": _explain,
    "import": _import,
    "apply": _apply,
    "covariance": _sums,
    "pca": _sums,
}
