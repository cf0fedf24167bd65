"""Threads, configuration, and the choice of instruction set."""

from __future__ import annotations

import platform
from _thread import allocate_lock  # what `threading` has, without the time to import that
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

import numpy as np

from . import _conv1x1
from .checks import positive_int

_MOST_THREADS = 2**31 - 1
_MOST_AT_ONCE = 2**31 - 1  # pixels and filters; more than there are means all
_MOST_SHOWN = 20  # shapes whose plans were tried
# Whose kernels an instruction set uses for all that it has none of its own for.
_BUILDS_ON = {"avx512vnni": "avx512", "neondot": "neon"}
# What the blocks of `restricted` ask for that have not ended, in the order in which they began.
_restrictions: list[dict[str, Any]] = [{}]
_restricting = allocate_lock()


def get_num_threads() -> int:
    """The number of threads a call uses when it does not say.

    At first: the CPUs this process may use, no more than its cgroup's quota and `OMP_NUM_THREADS`; or
    `CONV1X1_NUM_THREADS`, which comes before all of them. No result depends on it.

    Returns
    -------
    int

    Examples
    --------
    >>> import conv1x1
    >>> conv1x1.get_num_threads() >= 1
    True
    """
    return _conv1x1.get_num_threads()


def set_num_threads(n: int) -> None:
    """Set the number of threads for all later calls in this process that do not say.

    Parameters
    ----------
    n : int
        At least 1. Small calls use fewer; more than the machine has CPUs never helps.

    Raises
    ------
    TypeError, ValueError
        If `n` is not an int ≥ 1.

    Examples
    --------
    >>> import conv1x1
    >>> before = conv1x1.get_num_threads()
    >>> conv1x1.set_num_threads(1)
    >>> conv1x1.get_num_threads()
    1
    >>> conv1x1.set_num_threads(before)
    """
    _conv1x1.set_num_threads(min(positive_int(n, "n"), _MOST_THREADS))


@contextmanager
def num_threads(n: int) -> Iterator[None]:
    """Use `n` threads inside a `with` block, in all of this process.

    Blocks may overlap, in several threads: the number is that of the block that began last, until it ends, and once all
    have ended, in whatever order, what it was before the first.

    Parameters
    ----------
    n : int
        As for `set_num_threads`.

    Raises
    ------
    TypeError, ValueError
        If `n` is not an int ≥ 1.

    Examples
    --------
    >>> import conv1x1
    >>> with conv1x1.num_threads(1):
    ...     conv1x1.get_num_threads()
    1
    """
    block = _conv1x1.begin_threads(min(positive_int(n, "n"), _MOST_THREADS))
    try:
        yield
    finally:
        _conv1x1.end_threads(block)


@contextmanager
def restricted(
    isa: str | None = None,
    kernel: str | None = None,
    orientation: str | None = None,
    *,
    stages_x: bool | None = None,
    scratches_y: bool | None = None,
    tile_pixels: int | None = None,
    chunk_filters: int | None = None,
) -> Iterator[None]:
    """Plan as asked for, where it fits, inside a `with` block.

    For tests and measurements; the results are the same. Blocks may overlap, as those of `num_threads` may. What does
    not fit a call, as a kernel for floats does not fit integers, is passed over; `plan` of a layer tells what is done.

    Parameters
    ----------
    isa : str, optional
        An instruction set that this CPU has, as `show_config` lists them.
    kernel : str, optional
        A kernel, as `show_config` lists them.
    orientation : {"pixels_as_rows", "pixels_as_lanes"}, optional
        Which side of the product the pixels are.
    stages_x : bool, optional
        Whether pixels are copied into a tile first. Where they have to be, they are.
    scratches_y : bool, optional
        Whether results are put in a tile first, and from there where they belong. Likewise.
    tile_pixels : int, optional
        Pixels in a tile, at most.
    chunk_filters : int, optional
        Filters that a tile is multiplied with at a time, rounded up to whole vectors; kernels that take all, take all.

    Raises
    ------
    TypeError, ValueError
        If one of them is not such a thing, or not here.

    Examples
    --------
    >>> import numpy as np
    >>> from conv1x1 import Conv1x1
    >>> from conv1x1.runtime import restricted
    >>> layer, x = Conv1x1(np.ones((32, 16))), np.ones((100, 16), np.float32)
    >>> with restricted(stages_x=True, tile_pixels=10):
    ...     plan = layer.plan(x)
    >>> plan["stages_x"], plan["tiles"]
    (True, 10)
    """
    for name, value in (("stages_x", stages_x), ("scratches_y", scratches_y)):
        if value is not None and not isinstance(value, bool):
            raise TypeError(f"expected True, False or None for {name}, got {value!r}")
    wanted: dict[str, Any] = {
        "isa": isa,
        "kernel": kernel,
        "orientation": orientation,
        "stages_x": stages_x,
        "scratches_y": scratches_y,
    }
    for name, most in (("tile_pixels", tile_pixels), ("chunk_filters", chunk_filters)):
        wanted[name] = None if most is None else min(positive_int(most, name), _MOST_AT_ONCE)
    with _restricting:
        _conv1x1.restrict(**wanted)
        _restrictions.append(wanted)
    try:
        yield
    finally:
        with _restricting:
            _restrictions[:] = [others for others in _restrictions if others is not wanted]
            _conv1x1.restrict(**_restrictions[-1])


def _plans(config: dict[str, Any]) -> str:
    if not config["tunes"]:
        return "as the cost model says, since CONV1X1_TUNE=off"
    shapes = len(config["tried"])
    return f"measured on real calls that come again; so far for {shapes} shape{'s' * (shapes != 1)}"


def _tried(shape: dict[str, Any]) -> str:
    """What was tried for calls of one shape, the shortest first, as a line."""
    trials = sorted(shape["trials"], key=lambda t: (not t["chosen"], t["microseconds"] or float("inf")))

    def took(trial: dict[str, Any]) -> str:
        what = trial["kernel"] + " " + trial["orientation"].removeprefix("pixels_")
        what += ", x staged" * trial["stages_x"] + ", y in scratch" * trial["scratches_y"]
        what += f", {trial['threads']} threads" * (trial["threads"] > 1)
        return f"{trial['microseconds']:.1f} µs {what}" if trial["calls"] else f"{what}: not yet"

    size = f"{shape['pixels']:,} pixels, {shape['in_channels']} → {shape['out_channels']}, {shape['arithmetic']}"
    state = "" if trials[0]["chosen"] else " (not settled)"
    return f"{size}{state}: {'; '.join(map(took, trials))}"


def show_config() -> None:
    """Print what this build is, what it found on this machine, and what it uses.

    Examples
    --------
    >>> import conv1x1
    >>> conv1x1.show_config()  # doctest: +ELLIPSIS
    conv1x1 ...
    """
    from . import __version__

    config = _conv1x1.config()
    print(f"conv1x1 {__version__}, compiled by {config['compiler']}")
    print(f"Python {platform.python_version()}, NumPy {np.__version__}, {platform.platform()}")
    print(f"CPU: {config['cpu']}")
    print(
        f"instruction sets: built {', '.join(config['isas_built'])}; "
        f"found {', '.join(config['isas_supported'])}; used {config['isa']}"
    )
    isas = (config["isa"], _BUILDS_ON.get(config["isa"]))
    names = [k["name"] for k in _conv1x1.kernels() if k["isa"] in isas]
    print(f"kernels: {len(names)} for {config['isa']}: {', '.join(names)}")
    print(f"threads: {config['threads']}")
    if config["nervous"]:
        print("a nervous build, for tests: every threshold is as small as it can be, and no plan the usual one")
    print(f"plans: {_plans(config)}")
    for shape in config["tried"][-_MOST_SHOWN:]:
        print(f"  {_tried(shape)}")
    if not config["fused"]:
        print("this CPU has no fused multiply-add: products are rounded before they are added, so the last bits of")
        print("a result may differ from other machines'")
