"""What an activation that is not known by its name may be meant as.

Imported when something is wrong, never before.
"""

from __future__ import annotations

from collections.abc import Collection
from typing import Any

#: What others call our activations, in small letters; and names that are near to ours, of functions that are not.
_ALIASES = {
    "swish": "silu",
    "hswish": "hardswish",
    "hsigmoid": "hardsigmoid",
    "logistic": "sigmoid",
    "expit": "sigmoid",
    "lrelu": "leaky_relu",
    "rectifier": "relu",
    "clamp": "clip",
    "clipbyvalue": "clip",
    "hardtanh": "clip",
}
_OTHER_ACTIVATIONS = (
    *("elu", "selu", "celu", "glu", "prelu", "rrelu", "crelu", "quickgelu", "gelutanh", "gelunew", "gelufast"),
    *("logsigmoid", "mish", "softplus", "softsign", "softmax"),
)
#: A framework's layer of activation has its parameters by these names; with others it is another function.
_PARAMETERS = ("min_val", "max_val", "negative_slope")
_OF_ANOTHER = ("max_value", "threshold", "approximate")


def instead(value: Any, known: Collection[str], possible: Collection[str]) -> str:
    """How the message for an activation that is not `known` by this name ends: the call, if it is a `possible` one."""
    named, *parameters = value if isinstance(value, (tuple, list)) and value else (value,)
    if isinstance(named, bytes):
        named = named.decode(errors="replace")
    if not isinstance(named, str):  # a framework's function, class or layer
        if any(getattr(named, option, None) not in (None, 0, "none") for option in _OF_ANOTHER):
            return ""
        parameters += [getattr(named, n) for n in _PARAMETERS if isinstance(getattr(named, n, None), (int, float))]
        named = getattr(named, "__name__", type(named).__name__)
    plain = "".join(filter(str.isalnum, named.rpartition(".")[2])).lower()
    if plain in ("none", "linear", "identity"):
        return "; write activation=None"
    ours = {name.replace("_", ""): name for name in known} | _ALIASES
    verb = "write"
    if plain not in {*ours, *_OTHER_ACTIVATIONS}:
        from difflib import get_close_matches

        verb = "maybe"
        plain = (*get_close_matches(plain, ours, 1, 0.7), plain)[0]
    if plain not in ours:
        to_the_result = possible is known and (callable(value) or plain in _OTHER_ACTIVATIONS)
        return "; or leave activation away, and apply that function to the result" if to_the_result else ""
    if ours[plain] not in possible:
        return ""
    if plain == "hardtanh" and not parameters:
        parameters = [-1, 1]
    name, takes = ours[plain], {"clip": 2, "leaky_relu": len(parameters[:1])}.get(ours[plain], 0)
    numbers = [repr(p) for p in parameters[:takes]] if len(parameters) >= takes else ["lo", "hi"]
    spelled = f'("{name}", {", ".join(numbers)})' if takes else f'"{name}"'
    return f"; {verb} activation={spelled}"
