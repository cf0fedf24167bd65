"""What the test files share. Every array is seeded by its own shape, so no test depends on the order of the tests.

``--seeds fresh`` draws all random numbers anew, and runs the tests for which that makes a difference: those marked
`drawn`, those with numbers that round (`normal`) and those of hypothesis. The seed that it prints gives the same again.
"""

from __future__ import annotations

import contextlib
import importlib
import os
import secrets
import subprocess
import sys
from collections.abc import Callable, Iterator
from fractions import Fraction
from typing import Any

import hypothesis
import numpy as np
import pytest
from numpy.typing import NDArray

from conv1x1 import _conv1x1
from conv1x1.runtime import restricted

Array = NDArray[Any]
Maker = Callable[..., Array]

UNIT_ROUNDOFF = {"float32": 2.0**-24, "float64": 2.0**-53}

# Neither looks at the clock: other work may keep the machine busy.
UNTIMED: Any = {"deadline": None, "database": None, "suppress_health_check": [hypothesis.HealthCheck.too_slow]}
hypothesis.settings.register_profile("fixed", derandomize=True, **UNTIMED)
hypothesis.settings.register_profile("fresh", derandomize=False, print_blob=False, **UNTIMED)
# Nor at what other tests have imported: it would draw the numbers that stand in those modules too.
with contextlib.suppress(ImportError):
    providers = importlib.import_module("hypothesis.internal.conjecture.providers")
    if hasattr(providers, "_get_local_constants"):
        providers._get_local_constants = providers.Constants


def seeds(argument: str) -> int:
    return secrets.randbelow(10**9) if argument == "fresh" else int(argument)


def pytest_addoption(parser: pytest.Parser) -> None:
    says = "run the tests that draw numbers, all of them from this seed: 'fresh', or one that was printed"
    parser.addoption("--seeds", type=seeds, help=says)


@pytest.hookimpl(tryfirst=True)  # before hypothesis reads its own option
def pytest_configure(config: pytest.Config) -> None:
    config.addinivalue_line("markers", "calm: of thresholds themselves, or of plans that stay, as no nervous build has")
    config.addinivalue_line("markers", "drawn: with numbers or calls drawn at random; --seeds draws others")
    seed = config.getoption("--seeds")
    hypothesis.settings.load_profile("fixed" if seed is None else "fresh")
    if seed is not None:
        config.option.hypothesis_seed = seed
        fixed = np.random.default_rng
        np.random.default_rng = lambda own: fixed(np.append(own, seed))  # type: ignore[assignment]


def pytest_sessionstart(session: pytest.Session) -> None:
    seed = session.config.getoption("--seeds")
    if seed is not None:
        print(f"all random numbers come from seed {seed}: --seeds {seed} gives the same again", flush=True)


#: The files whose tests stop, count or measure threads and processes: with `-n 2 --dist loadgroup` one after another.
ALONE = {"test_bench", "test_hostile", "test_ieee", "test_layer", "test_memory", "test_processes", "test_runtime"}
ALONE |= {"test_threads", "test_throughput"}


@pytest.hookimpl(tryfirst=True)  # before xdist reads the groups
def pytest_collection_modifyitems(config: pytest.Config, items: list[pytest.Item]) -> None:
    if config.pluginmanager.hasplugin("xdist"):
        for item in items:
            item.add_marker(pytest.mark.xdist_group("alone" if item.path.stem in ALONE else item.path.stem))
    if _conv1x1.config()["nervous"]:
        for item in items:
            if item.get_closest_marker("calm"):
                item.add_marker(pytest.mark.skip("this build is nervous"))
    if config.getoption("--seeds") is None:
        return

    def draws(item: pytest.Item) -> bool:
        if {"normal", "seed"} & {*getattr(item, "fixturenames", ())} or item.get_closest_marker("drawn"):
            return True
        return hypothesis.is_hypothesis_test(getattr(item, "obj", None))

    config.hook.pytest_deselected(items=[item for item in items if not draws(item)])
    items[:] = filter(draws, items)


@pytest.fixture(scope="session")
def seed(request: pytest.FixtureRequest) -> int:
    """What Python processes of their own draw from; 0 unless ``--seeds`` says another."""
    return request.config.getoption("--seeds") or 0


@pytest.fixture(autouse=True)
def _plans_of_its_own() -> None:
    """No plan has been tried yet that a test asks for, whatever ran before it."""
    _conv1x1.forget_plans()


@pytest.fixture(params=_conv1x1.config()["isas_supported"])
def isa(request: pytest.FixtureRequest) -> Iterator[str]:
    """The test once for every instruction set of this machine."""
    with restricted(isa=request.param):
        yield request.param


@pytest.fixture(scope="session")
def exact() -> Maker:
    """Small whole numbers: their products and sums are exact in float32, in any order."""

    def make(*shape: int, dtype: Any = np.float32, seed: int = 0, most: int = 8) -> Array:
        return np.random.default_rng([seed, *shape]).integers(-most, most, shape, endpoint=True).astype(dtype)

    return make


@pytest.fixture(scope="session")
def normal() -> Maker:
    """Numbers that round at every step."""

    def make(*shape: int, dtype: Any = np.float32, seed: int = 0) -> Array:
        return np.random.default_rng([seed, *shape]).standard_normal(shape).astype(dtype)

    return make


@pytest.fixture(scope="session")
def within_bound() -> Callable[..., None]:
    """Assert the error that is promised, |ŷ − y| ≤ γ·(Σ|w||x| + |b|) with n = C + 2, on (pixels, filters)."""

    def check(y: Array, x: Array, w: Array, bias: Array | None = None, residual: Array | None = None) -> None:
        wide = np.longdouble if y.dtype == np.float64 else np.float64
        x, w = x.astype(wide), w.astype(wide)
        true, magnitude = x @ w.T, np.abs(x) @ np.abs(w).T
        for term in (bias, residual):
            if term is not None:
                true, magnitude = true + term.astype(wide), magnitude + np.abs(term.astype(wide))
        n = w.shape[1] + 2
        u = UNIT_ROUNDOFF[y.dtype.name]
        assert y.shape == true.shape
        assert (np.abs(y - true) <= n * u / (1 - n * u) * magnitude).all()

    return check


@pytest.fixture(scope="session")
def rounded() -> Callable[[Fraction, Any], float]:
    """A rational number to the nearest float32 or float64, ties to even: what one IEEE operation does."""

    def nearest(value: Fraction, dtype: Any) -> float:
        if dtype == np.float64:
            return float(value)  # Python divides whole numbers with one rounding
        guess = np.float32(float(value))
        near = [guess, np.nextafter(guess, np.float32(-np.inf)), np.nextafter(guess, np.float32(np.inf))]
        return float(min(near, key=lambda v: (abs(Fraction(float(v)) - value), int(v.view(np.int32)) & 1)))

    return nearest


@pytest.fixture(scope="session")
def fresh_python() -> Callable[..., subprocess.CompletedProcess[str]]:
    """Run code in a Python of its own, for what must not touch this one: environment, signals, crashes, memory."""

    def run(code: str, timeout: float = 300, **environment: str) -> subprocess.CompletedProcess[str]:
        env = {k: v for k, v in os.environ.items() if not k.startswith(("CONV1X1_", "OMP_"))} | environment
        command = [sys.executable, "-W", "error", "-X", "faulthandler", "-c", code]
        return subprocess.run(command, env=env, capture_output=True, text=True, timeout=timeout, check=False)

    return run
