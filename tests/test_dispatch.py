"""The instruction set is chosen by what this CPU has, and on lesser CPUs the package runs as well.

What the choice makes of CPUs that are neither here nor emulated is tested in the core itself: cpp/tests/core_test.cpp.
"""

from __future__ import annotations

import os
import platform
import shutil
import subprocess
import sys
from typing import Any

import pytest

from conv1x1 import _conv1x1

#: The flags (on AArch64: features) of /proc/cpuinfo that an instruction set needs. Linux lists one only if it saves the
#: registers.
AVX2 = {"avx", "avx2", "fma", "f16c"}
AVX512 = AVX2 | {"avx512f", "avx512bw", "avx512dq", "avx512vl"}
FLAGS = {
    "portable": set(),
    "avx2": AVX2,
    "avx512": AVX512,
    "avx512vnni": AVX512 | {"avx512_vnni"},
    "neon": {"asimd"},
    "neondot": {"asimd", "asimddp"},
}

on_known = pytest.mark.skipif(platform.machine() not in {"x86_64", "aarch64"}, reason="on x86-64 and AArch64 only")

#: Prints what was found, and a hash of results in both orders of summation, with every kind of arithmetic.
LOOK = """
import hashlib
import numpy as np
from conv1x1 import Conv1x1, _conv1x1
total = hashlib.sha256()
rng = np.random.default_rng(0)
for pixels, channels, filters in [(130, 3, 4), (37, 192, 1), (61, 192, 40), (50, 31, 3), (29, 520, 33)]:
    for dtype in ("float32", "float64"):
        x, w = (rng.integers(-999, 999, shape).astype(dtype) / 7 for shape in ((pixels, channels), (filters, channels)))
        for activation in (None, "relu6", "gelu", "tanh"):
            total.update(Conv1x1(w, w[:, 0].copy(), activation=activation)(x).tobytes())
config = _conv1x1.config()
print(",".join(config["isas_supported"]), config["isa"], config["fused"], total.hexdigest())
"""


@on_known
def test_what_is_found_is_what_linux_says() -> None:
    with open("/proc/cpuinfo") as file:
        flags = {word for line in file if line.startswith(("flags", "Features")) for word in line.split(":")[1].split()}
    config = _conv1x1.config()
    assert config["isas_supported"] == [isa for isa in config["isas_built"] if flags >= FLAGS[isa]]


def emulated(cpu: str, *arguments: str, **environment: str) -> subprocess.CompletedProcess[str]:
    """Python on another CPU."""
    emulator = shutil.which("qemu-x86_64")
    if emulator is None or platform.machine() != "x86_64":
        pytest.skip("needs qemu-x86_64 (Debian: qemu-user) on x86-64")
    env = {k: v for k, v in os.environ.items() if not k.startswith(("CONV1X1_", "OMP_"))} | environment
    command = [emulator, "-cpu", cpu, sys.executable, *arguments]
    return subprocess.run(command, env=env, capture_output=True, text=True, timeout=300, check=False)


#: The self-test of the best instruction set that there is (the others are those of lesser CPUs), on every third of its
#: cases: under an emulator all of them take a hundred times as long.
SELFTEST = """
import runpy, sys
from itertools import islice
from conv1x1 import _conv1x1
from conv1x1.command import selftest
kernels, best, cases = _conv1x1.kernels(), _conv1x1.config()["isa"], selftest.cases
_conv1x1.kernels = lambda: [k for k in kernels if k["isa"] == best]
print(sum(k["isa"] == best for k in kernels), "kernels")
selftest.cases = lambda kernels: islice(cases(kernels), 0, None, 3)
sys.argv[1:] = ["selftest"]
runpy.run_module("conv1x1", run_name="__main__")
"""


@pytest.mark.parametrize(("cpu", "isas"), [("Nehalem", ["portable"]), ("Haswell", ["portable", "avx2"])])
def test_every_kernel_of_a_lesser_cpu(cpu: str, isas: list[str]) -> None:
    run = emulated(cpu, "-c", SELFTEST)
    assert run.returncode == 0, run.stdout + run.stderr
    assert f"found {', '.join(isas)}; used {isas[-1]}" in run.stdout
    kernels = int(run.stdout.split(maxsplit=1)[0])  # without an instruction for fma the portable ones are others
    assert kernels >= sum(k["isa"] == isas[-1] for k in _conv1x1.kernels())
    assert f"all {kernels + 1} kernels and conversions are right" in run.stdout
    assert ("may differ" in run.stdout) == (isas == ["portable"])


def test_the_same_bits_on_another_cpu(fresh_python: Any) -> None:
    here, there = fresh_python(LOOK).stdout.split(), emulated("Haswell", "-c", LOOK).stdout.split()
    assert there[:3] == ["portable,avx2", "avx2", "True"]
    if here[2] == "False":
        pytest.skip("this CPU has no fused multiply-add")
    assert here[3] == there[3]


TWO_ROUNDINGS = """
import numpy as np
from conv1x1 import conv1x1
rng = np.random.default_rng(0)
for pixels, channels, filters in [(130, 3, 4), (37, 192, 1), (61, 50, 40), (50, 31, 3), (9, 47, 4), (29, 520, 5)]:
    for dtype in (np.float32, np.float64):
        x, w = (rng.integers(-999, 999, shape).astype(dtype) / 7 for shape in ((pixels, channels), (filters, channels)))
        partial = np.zeros((16 if channels >= 32 and filters <= 4 else 1, pixels, filters), dtype)
        for c in range(channels):
            partial[c % len(partial)] += x[:, c, None] * w[:, c]
        while len(partial) > 1:
            partial = partial[: len(partial) // 2] + partial[len(partial) // 2 :]
        for y in (conv1x1(x, w), conv1x1(np.ascontiguousarray(x.T), w, channel_axis=0).T):
            assert y.tobytes() == partial[0].tobytes(), (pixels, channels, filters, dtype)
print("done")
"""


def test_the_bits_without_fused_multiply_add() -> None:
    """They are defined too: the same two orders, and every product rounded before it is added."""
    run = emulated("Nehalem", "-c", TWO_ROUNDINGS)
    assert (run.returncode, run.stdout) == (0, "done\n"), run.stderr


def test_an_instruction_set_that_the_cpu_lacks_is_refused() -> None:
    run = emulated("Nehalem", "-c", "import conv1x1", CONV1X1_MAX_ISA="avx2")
    assert run.returncode == 1
    assert "'avx2' is not supported by this CPU; valid here: portable" in run.stderr
