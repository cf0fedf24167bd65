"""Modules of torch as layers and chains, which then need no torch: `from_module`."""

from __future__ import annotations

import copy
from typing import Any

import numpy as np

from .checks import geometry
from .checks.arrays import ArrayLike
from .importing import comparing, modules, nets
from .importing.steps import fold, widths
from .importing.values import NotPointwise
from .layers import Conv1x1
from .sequential import Sequential


def from_module(module: Any, *, channel_axis: int = 1, pixels: ArrayLike | None = None) -> Conv1x1 | Sequential:
    """A module of torch whose every step is pointwise, as a chain over the channels of every pixel.

    BatchNorm is folded in float64. `nn.Sequential` is walked child by child, what else is there is traced by torch.fx,
    in the order of its `forward`. The result is compared with the module's on 256 pixels.

    Known are Conv1d, Conv2d and Conv3d with kernels of 1, Linear, BatchNorm, LayerNorm over the channels, ReLU, ReLU6,
    LeakyReLU, PReLU of one slope, Hardtanh, Hardswish, Hardsigmoid, Sigmoid, SiLU, Tanh, GELU (that of erf: the
    approximate one is refused), Softmax; pooling to one pixel; functions and methods that are these; constants that are
    added or multiplied; residual blocks. Dropout and Identity are left out.

    Parameters
    ----------
    module : torch.nn.Module
        In the mode of `eval` where that makes a difference. Weights that are computed, of `weight_norm` or
        parametrisations, are taken as they are now.
    channel_axis : int, default 1
        The axis of x that will hold the channels; with Linear layers alone, which take them last, -1 is meant.
    pixels : array_like, optional
        An input of the module to compare on. By default it is made up.

    Returns
    -------
    Conv1x1 or Sequential

    Raises
    ------
    ImportError
        When torch is not installed.
    TypeError, ValueError
        When something in the module is not pointwise, or in training mode, named as in its `state_dict`; when the
        result differs from its own by more than rounding, with both numbers.

    Examples
    --------
    >>> import numpy as np
    >>> from torch import nn  # doctest: +SKIP
    >>> from conv1x1.torch import from_module
    >>> net = from_module(nn.Sequential(nn.Conv2d(3, 16, 1), nn.ReLU(), nn.Conv2d(16, 3, 1)))  # doctest: +SKIP
    >>> net(np.ones((8, 3, 28, 28), np.float32)).shape  # doctest: +SKIP
    (8, 3, 28, 28)
    """
    return imported(module, channel_axis, pixels)[0]


def imported(
    module: Any, channel_axis: int, pixels: ArrayLike | None
) -> tuple[Conv1x1 | Sequential, comparing.Comparison]:
    """The chain, and how it compared."""
    axis = geometry.axis_number(channel_axis)
    reader = modules.Reader(module)
    torch, module = reader.torch, reader.module
    try:
        value = reader.read()
        wanted = reader.axes.settled()
    except NotPointwise as error:
        raise ValueError(f"the module {error}") from None
    steps = fold(value.steps)
    given = None if pixels is None else np.shape(pixels)
    rank = reader.axes.rank or (len(given) if given else 2 if wanted in (None, -1) else reader.axes.likely)
    place, own = nets.axis_of(wanted, rank)
    axis = own if axis == 1 else axis
    width = widths(steps, None)[0] or (given[place] if given and len(given) == rank else None)
    x = nets.pixels(pixels, width or 3, rank, place)
    with torch.no_grad():
        theirs = _original(module, torch.from_numpy(x), torch)
    return nets.compared(steps, value, axis, x, theirs, place, type(module).__name__, width)


def _original(module: Any, x: Any, torch: Any) -> Any:
    """What the module makes of pixels, where and as it is; one of half precision, in single."""
    numbers = next((p for p in module.parameters() if p.is_floating_point()), x)
    if numbers.dtype in (torch.float16, torch.bfloat16):
        module = copy.deepcopy(module).float()
        numbers = numbers.float()
    return module(x.to(numbers)).float().cpu().numpy()
