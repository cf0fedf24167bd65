"""Benchmarks of another instruction set or NumPy are no match: `--benchmark-compare` says so."""

from __future__ import annotations

from typing import Any

from conv1x1.command.bench.results import environment


def pytest_benchmark_update_machine_info(machine_info: dict[str, Any]) -> None:
    about = environment(threads=1)
    machine_info |= {"isa": about["isa"], "numpy": about["versions"]["numpy"]}
