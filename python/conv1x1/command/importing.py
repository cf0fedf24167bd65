"""`conv1x1 import`: a model of another library, written to a file of this one."""

from __future__ import annotations

import pickle
from argparse import Namespace
from pathlib import Path
from typing import Any

from ..saving import save
from . import MISUSE, Failure

_PICKLES = (".pkl", ".pickle", ".joblib", ".pt", ".pth")


def run(arguments: Namespace) -> None:
    """Import a model, say how it compared with the original, and write it.

    Parameters
    ----------
    arguments : Namespace
        With `model`, `output`, `result`, `channel_axis` and `trust`.

    Raises
    ------
    Failure
        When the file is no model, or the model no chain.
    """
    path = Path(arguments.model)
    suffix = path.suffix.lower()
    if suffix not in (".onnx", *_PICKLES):
        raise Failure(f"{path}: expected a file .onnx, or of an estimator or module {', '.join(_PICKLES)}", MISUSE)
    if not path.is_file():
        raise Failure(f"{path}: there is no such file")
    if suffix != ".onnx" and not arguments.trust:
        raise Failure(
            f"{path}: such a file can run any program when it is read: pass --trust if you know who wrote it, or write "
            "the model as ONNX",
            MISUSE,
        )
    options = {n: v for n in ("result", "channel_axis") if (v := getattr(arguments, n)) is not None}
    try:
        net, compared = _onnx(path, options) if suffix == ".onnx" else _unpickled(path, suffix, options)
    except (ImportError, TypeError, ValueError) as error:
        raise Failure(f"{path}: {error}") from error
    save(arguments.output, net)
    print(net)
    print(f"compared with the original: {compared}")
    print(f"written to {arguments.output}")


def _onnx(path: Path, options: dict[str, Any]) -> tuple[Any, Any]:
    from ..onnx import imported

    if options:
        raise ValueError("a model of ONNX has its own axis and one output: leave --result and --channel-axis out")
    return imported(path, None)


def _unpickled(path: Path, suffix: str, options: dict[str, Any]) -> tuple[Any, Any]:
    """The estimator or module of a file that is trusted."""
    from ..importing import library

    try:
        if suffix == ".joblib":
            model = library("joblib", "sklearn", "a .joblib file").load(path)
        elif suffix in (".pt", ".pth"):
            model = library("torch", "torch", "a file of torch").load(path, map_location="cpu", weights_only=False)
        else:
            with path.open("rb") as file:
                model = pickle.load(file)
    except (ImportError, OSError):
        raise
    except Exception as error:  # what a damaged pickle raises may be anything
        raise ValueError(f"cannot be read ({type(error).__name__}: {error})") from error
    if any(cls.__module__.startswith("torch.") for cls in type(model).__mro__):
        from .. import torch

        if "result" in options:
            raise ValueError("a module of torch has one result: leave --result out")
        return torch.imported(model, options.get("channel_axis", 1), None)
    from .. import sklearn

    return sklearn.imported(model, options.get("channel_axis", -1), options.get("result"), None)
