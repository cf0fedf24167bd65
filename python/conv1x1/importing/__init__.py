"""Models of other libraries made into chains: what `conv1x1.sklearn`, `conv1x1.torch` and `conv1x1.onnx` share.

Each library's model becomes steps in float64 (`steps`), which are folded, made into layers (`nets`) and compared with
what the model itself makes of 256 pixels (`comparing`). `estimators`, `modules` and `graphs` read the models of
scikit-learn, torch and ONNX; the latter two are graphs, whose values `values` follows. `functions` has what graphs of
torch call, `parts` takes single layers out of those of ONNX. Nothing here is imported before it is wanted.
"""

from __future__ import annotations

import importlib
from typing import Any


def library(name: str, extra: str, what: str) -> Any:
    """A library that `what` needs, imported."""
    try:
        return importlib.import_module(name)
    except ImportError as error:
        raise ImportError(
            f'{what} needs {extra}, which cannot be imported ({error}): pip install ".[{extra}]" in a clone'
        ) from error
