"""What the long tests share. ``python -m pytest tests/heavy`` runs them, with ``--short`` in a tenth of the time."""

from __future__ import annotations

import importlib.util
from collections.abc import Callable
from pathlib import Path
from types import ModuleType

import pytest


def pytest_addoption(parser: pytest.Parser) -> None:
    parser.addoption("--short", action="store_true", help="a tenth of every repetition")


@pytest.fixture(scope="session")
def times(request: pytest.FixtureRequest) -> Callable[[int], int]:
    """How often to do what is done so often in the long run."""
    short = request.config.getoption("--short")
    return lambda number: max(number // 10, 1) if short else number


@pytest.fixture(scope="session")
def quick() -> Callable[[str], ModuleType]:
    """One of the quick test files, to do the same for longer."""

    def load(name: str) -> ModuleType:
        spec = importlib.util.spec_from_file_location(name, Path(__file__).parents[1] / f"{name}.py")
        assert spec is not None
        assert spec.loader is not None
        module = importlib.util.module_from_spec(spec)
        spec.loader.exec_module(module)
        return module

    return load
