"""A chain in words, as its repr has it: a table of its elements."""

from __future__ import annotations

from typing import Any

from .layers import Layer
from .sequential import Sequential, number_of_classes
from .steps import ArgMax, LayerNorm, Pool, Softmax, Step

#: Operations for each channel: of a norm the mean, what is off it, squared and summed, scaled; and so on.
_FLOPS = {LayerNorm: 5, Softmax: 5, ArgMax: 1, Pool: 1}


def table(net: Sequential) -> str:
    """A chain, element by element: its channels, activation, parameters and operations for each pixel."""
    elements, _ = rows(net, "", net.in_channels)
    head = ("element", "channels", "activation", "parameters", "FLOPs a pixel")
    sums = [f"{sum(row[i] for row in elements):,}" for i in (3, 4)]
    lines = [head, *((*row[:3], *(f"{n:,}" for n in row[3:])) for row in elements), ("sum", "", "", *sums)]
    wide = [max(len(line[i]) for line in lines) for i in range(5)]
    options = [net.channel_axis != -1 and f", channel_axis={net.channel_axis}", net.skip and ", skip=True"]
    told = "".join(option for option in options if option)
    steps = Sequential._spec.__get__(net).steps
    gives = (
        f"one of {number_of_classes(steps) or 'them'}" if isinstance(steps[-1].element, ArgMax) else net.out_channels
    )
    text = [f"{type(net).__name__} {net.in_channels or 'any'} → {gives or 'as many'}{told}"]
    for line in lines:
        cells = [cell.ljust(n) if i < 3 else cell.rjust(n) for i, (cell, n) in enumerate(zip(line, wide, strict=True))]
        text.append(f"  {'   '.join(cells)}".rstrip())
    return "\n".join(text)


def rows(net: Sequential, number: str, width: int | None) -> tuple[list[Any], int | None]:
    """Of each element what it is, its channels, activation, parameters and operations; and how many channels leave."""
    found: list[Any] = []
    for i, e in enumerate(net):
        name = f"{number}{i}  {type(e).__name__}"
        if isinstance(e, Sequential):
            inner, width = rows(e, f"{number}{i}.", width)
            found += [(f"{name}{', skip' * e.skip}", "", "", 0, 0), *inner]
        elif isinstance(e, Layer):
            options = {"stride": e.stride, "groups": e.groups}
            name += "".join(f", {n}={v}" for n, v in options.items() if v != 1)
            activation = e.activation
            if isinstance(activation, tuple):
                activation = f"{activation[0]}({', '.join(f'{n:g}' for n in activation[1:])})"
            arrays = e._arrays()
            size = sum(a.size for n, a in arrays.items() if a is not None and n in ("w", "bias", "center"))
            width = e.out_channels
            channels = f"{e.in_channels} → {width}"
            found.append((name, channels, activation or "", size, 2 * arrays["w"].size))
        else:
            size = sum(a.size for n, a in e._arrays().items() if a is not None and n != "labels")
            found.append((name, "" if width is None else str(width), "", size, (width or 0) * _flops(e) + size))
    return found, width


def _flops(step: Step) -> int:
    return next(n for cls, n in _FLOPS.items() if isinstance(step, cls))
