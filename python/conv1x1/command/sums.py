"""`conv1x1 covariance` and `conv1x1 pca`: sums over the pixels of a file, which need not fit in memory."""

from __future__ import annotations

import sys
import time
from argparse import Namespace
from typing import Any

import numpy as np

from ..components import pca
from ..saving import save
from ..streaming.sums import of_source
from . import Failure


def run(arguments: Namespace) -> None:
    """Gather the sums, and write what is asked of them.

    Parameters
    ----------
    arguments : Namespace
        With `command`, `input`, `output`, `channel_axis`, `nodata`, `memory`, `threads` and `quiet`; of pca also
        `components` and `whiten`.

    Raises
    ------
    Failure
        When something does not fit, or a tile cannot be read.
    """
    start = time.perf_counter()
    shows = sys.stderr is not None and sys.stderr.isatty() and not arguments.quiet
    try:
        total = of_source(
            arguments.input,
            channel_axis=arguments.channel_axis,
            nodata=arguments.nodata,
            nan=arguments.command == "pca",
            memory=arguments.memory,
            threads=arguments.threads,
            tell=shows,
        )
        told = _pca(total, arguments) if arguments.command == "pca" else _covariance(total, arguments)
    except (ImportError, MemoryError, OSError, RuntimeError, TypeError, ValueError) as error:
        raise Failure(f"{arguments.input}: {error}") from error
    if arguments.quiet:
        return
    left_out = f" ({total.left_out:,} were left out)" if total.left_out else ""
    print(f"{total.count:,} pixels of {total.channels} channels{left_out} in {time.perf_counter() - start:.1f} s")
    print(told)


def _pca(total: Any, arguments: Namespace) -> str:
    components = float(arguments.components)
    count = int(components) if components >= 1 and components == int(components) else components
    layer = pca(total, count, whiten=arguments.whiten, channel_axis=arguments.channel_axis)
    save(arguments.output, layer)
    shares = ", ".join(f"{100 * part:.2f} %" for part in layer.explained_variance_ratio[:10])
    more = " …" if layer.out_channels > 10 else ""
    return f"{layer.out_channels} components explain {shares}{more}\nwritten to {arguments.output}"


def _covariance(total: Any, arguments: Namespace) -> str:
    with open(arguments.output, "xb") as file:
        np.savez(file, mean=total.mean, covariance=total.covariance, count=total.count)
    return f"mean, covariance and count are in {arguments.output}, for numpy.load"
