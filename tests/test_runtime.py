"""Threads, environment, configuration, and the choice of instruction set."""

from __future__ import annotations

import os
import time
from itertools import permutations
from typing import Any

import numpy as np
import pytest

import conv1x1 as c11
from conv1x1 import Conv1x1, _conv1x1
from conv1x1.runtime import restricted

SUPPORTED = _conv1x1.config()["isas_supported"]


@pytest.fixture(autouse=True)
def _threads_as_before() -> Any:
    before = c11.get_num_threads()
    yield
    c11.set_num_threads(before)


def printed(run: Any) -> str:
    assert run.returncode == 0, run.stderr
    return run.stdout.strip()


# -------------------------------------------------------------------------------------------------- threads


def test_set_and_get() -> None:
    for n in (1, 3, np.int32(2)):
        c11.set_num_threads(n)
        assert c11.get_num_threads() == n
        assert type(c11.get_num_threads()) is int
        assert _conv1x1.config()["threads"] == n


def test_the_context_restores_what_was_before() -> None:
    c11.set_num_threads(2)
    with c11.num_threads(5):
        assert c11.get_num_threads() == 5
        with c11.num_threads(1):
            assert c11.get_num_threads() == 1
        assert c11.get_num_threads() == 5
    assert c11.get_num_threads() == 2
    with pytest.raises(ZeroDivisionError), c11.num_threads(7):
        _ = 1 / 0
    assert c11.get_num_threads() == 2
    with pytest.raises(ValueError, match="≥ 1"), c11.num_threads(0):
        pass
    assert c11.get_num_threads() == 2


@pytest.mark.parametrize("order", list(permutations(range(3))), ids=str)
def test_blocks_that_end_in_another_order(order: tuple[int, ...]) -> None:
    """As those of several threads do: the last one holds, and in the end all is as it was."""
    c11.set_num_threads(2)
    numbers = [5, 7, 3]
    blocks = {i: c11.num_threads(n) for i, n in enumerate(numbers)}
    for block in blocks.values():
        block.__enter__()
    for i in order:
        blocks.pop(i).__exit__(None, None, None)
        assert c11.get_num_threads() == (numbers[max(blocks)] if blocks else 2)
    with c11.num_threads(5):
        c11.set_num_threads(6)
        with c11.num_threads(7):
            pass
        assert c11.get_num_threads() == 6
    assert c11.get_num_threads() == 2


THREADS = "import conv1x1; print(conv1x1.get_num_threads())"


def test_the_first_number_of_threads(fresh_python: Any) -> None:
    cpus = len(os.sched_getaffinity(0))
    first = int(printed(fresh_python(THREADS)))
    assert 1 <= first <= cpus
    assert int(printed(fresh_python(THREADS, OMP_NUM_THREADS="1"))) == 1
    assert int(printed(fresh_python(THREADS, OMP_NUM_THREADS="1,4"))) == 1
    assert int(printed(fresh_python(THREADS, OMP_NUM_THREADS="4096"))) == first
    assert int(printed(fresh_python(THREADS, OMP_NUM_THREADS="nonsense"))) == first
    one_cpu = f"import os; os.sched_setaffinity(0, [{min(os.sched_getaffinity(0))}]); {THREADS}"
    assert int(printed(fresh_python(one_cpu))) == 1


def test_its_own_variable_comes_before_all(fresh_python: Any) -> None:
    for n in ("1", "7", "007"):
        run = fresh_python(THREADS, CONV1X1_NUM_THREADS=n, OMP_NUM_THREADS="2")
        assert int(printed(run)) == int(n)


IMPORT = """
import os
import numpy
def tasks():
    return len(os.listdir("/proc/self/task"))
before = tasks()
import conv1x1
at_import = tasks() - before
x = numpy.ones((20000, 256), numpy.float32)
layer = conv1x1.Conv1x1(numpy.ones((64, 256), numpy.float32))
layer(x[:10], threads=4), layer.plan(x, threads=4), layer(x, threads=1)
after_small = tasks() - before
layer(x, threads=4)
first = tasks() - before
layer(x, threads=4), layer(x, threads=2)
print(at_import, after_small, first, tasks() - before)
"""


@pytest.mark.calm
def test_threads_start_with_the_first_large_call(fresh_python: Any) -> None:
    assert printed(fresh_python(IMPORT)) == "0 0 3 3"


MANY = """
import os
import numpy
import conv1x1
x, layer = numpy.ones((2000, 256), numpy.float32), conv1x1.Conv1x1(numpy.ones((256, 256), numpy.float32))
plan = layer.plan(x, threads=3000)
units = plan["tiles"] * -(-256 // plan["chunk_filters"])
before = len(os.listdir("/proc/self/task"))
layer(x, threads=3000)
print(len(os.listdir("/proc/self/task")) - before < units, units)
"""


def test_no_more_threads_than_work(fresh_python: Any) -> None:
    """A slip of the keyboard does not fill the machine with threads."""
    assert printed(fresh_python(MANY)).startswith("True")


def test_import_is_quick_and_prints_nothing(fresh_python: Any) -> None:
    run = fresh_python("import sys, conv1x1; print('matplotlib' in sys.modules)")
    assert printed(run) == "False"
    assert run.stderr == ""


# ------------------------------------------------------------------------------------------ instruction sets


@pytest.mark.parametrize("name", SUPPORTED)
def test_the_environment_lowers_the_instruction_set(fresh_python: Any, name: str) -> None:
    code = (
        "import numpy, conv1x1; print(conv1x1._conv1x1.config()['isa'], "
        "conv1x1.Conv1x1(numpy.ones((8, 9))).plan(numpy.ones((7, 9), 'f'))['isa'], "
        "conv1x1.conv1x1(numpy.ones((7, 9), 'f'), numpy.ones((8, 9), 'f')).sum())"
    )
    assert printed(fresh_python(code, CONV1X1_MAX_ISA=name)) == f"{name} {name} 504.0"


def test_the_best_instruction_set_is_used(fresh_python: Any) -> None:
    assert printed(fresh_python("import conv1x1; print(conv1x1._conv1x1.config()['isa'])")) == SUPPORTED[-1]


def test_the_environment_is_read_at_import(fresh_python: Any) -> None:
    """What it holds later, nonsense or not, has no say, and a restriction ends as ever."""
    code = """
import os
from conv1x1 import _conv1x1
from conv1x1.runtime import restricted
isa = _conv1x1.config()["isa"]
for later in ("nonsense", "portable", ""):
    os.environ["CONV1X1_MAX_ISA"] = later
    os.environ["CONV1X1_NUM_THREADS"] = later
    with restricted(isa="portable"):
        assert _conv1x1.config()["isa"] == "portable"
    assert _conv1x1.config()["isa"] == isa
print("done")
"""
    assert printed(fresh_python(code)) == "done"
    assert printed(fresh_python(code, CONV1X1_MAX_ISA="portable")) == "done"


def used(dtype: str = "float32") -> tuple[str, str]:
    """What a call with sums of this type would use."""
    x_type, w_type = ("uint8", "int8") if dtype == "int32" else (dtype, dtype)
    plan = Conv1x1(np.ones((8, 9), w_type)).plan(np.ones((7, 9), x_type))
    return plan["isa"], plan["kernel"]


@pytest.mark.parametrize("name", SUPPORTED)
def test_restricted_and_back(name: str) -> None:
    before = used()
    with restricted(isa=name):
        assert used()[0] == _conv1x1.config()["isa"] == name
    assert used() == before
    with pytest.raises(ZeroDivisionError), restricted(isa=name):
        _ = 1 / 0
    assert used() == before
    for dtype in ("float32", "int32"):
        before = used(dtype)
        kernels = (k["name"] for k in _conv1x1.kernels() if (k["isa"], k["dtype"]) == (name, dtype))
        if kernel := next(kernels, None):
            with restricted(kernel=kernel):
                assert used(dtype) == (name, kernel)
            assert used(dtype) == before


@pytest.mark.skipif(len(SUPPORTED) == 1, reason="needs a slow and a fast instruction set")
def test_restricted_holds_for_shapes_that_are_known() -> None:
    """Results cannot show it, being the same; but the portable kernels are slower by far."""
    x, layer = np.ones((300, 64), np.float32), Conv1x1(np.ones((64, 64), np.float32))

    def seconds() -> float:
        times = []
        for _ in range(7):
            began = time.thread_time()  # whatever else the machine does
            layer(x, threads=1)
            times.append(time.thread_time() - began)
        return min(times)

    with restricted(isa=SUPPORTED[-1]):
        fast = seconds()
        with restricted(isa="portable"):
            assert seconds() > 3 * fast
        assert seconds() < 3 * fast


def test_restricted_within_restricted() -> None:
    before = used()
    with restricted(isa="portable"):
        within = used()
        with restricted(isa=SUPPORTED[-1]):
            assert used()[0] == SUPPORTED[-1]
        assert used() == within
    assert used() == before


@pytest.mark.parametrize("order", list(permutations(range(3))), ids=str)
def test_restrictions_that_end_in_another_order(order: tuple[int, ...]) -> None:
    """As those of several threads do: the last one holds, one of nonsense is none, and in the end all is as it was."""
    before, wanted = used(), [SUPPORTED[0], SUPPORTED[-1], SUPPORTED[0]]
    blocks = {i: restricted(isa=isa) for i, isa in enumerate(wanted)}
    for block in blocks.values():
        block.__enter__()
    for i in order:
        blocks.pop(i).__exit__(None, None, None)
        with pytest.raises(ValueError, match="nonsense"), restricted(isa="nonsense"):
            pass
        assert used()[0] == (wanted[max(blocks)] if blocks else before[0])
    assert used() == before


@pytest.mark.parametrize("orientation", ["pixels_as_rows", "pixels_as_lanes"])
def test_a_kernel_that_has_not_the_orientation_is_not_used(orientation: str) -> None:
    layer, x = Conv1x1(np.ones((8, 9), np.int8)), np.ones((7, 9), np.uint8)
    for kernel in [k["name"] for k in _conv1x1.kernels() if k["dtype"] == "int32" and k["supported"]]:
        with restricted(kernel=kernel, orientation=orientation):
            assert layer.plan(x)["orientation"] == orientation
            assert (layer(x) == 9).all()


@pytest.mark.parametrize(
    ("arguments", "says"),
    [
        ({"isa": "nonsense"}, "'nonsense' is unknown; valid here: portable"),
        ({"isa": ""}, "'' is unknown; valid here: portable"),
        ({"kernel": "nonsense"}, "no kernel 'nonsense'"),
        ({"isa": "portable", "kernel": "avx2_f32_6x16"}, "no kernel 'avx2_f32_6x16'"),
        ({"orientation": "sideways"}, "no orientation 'sideways'; valid: pixels_as_rows, pixels_as_lanes"),
        ({"stages_x": 1}, "expected True, False or None for stages_x, got 1"),
        ({"scratches_y": "no"}, "expected True, False or None for scratches_y, got 'no'"),
        ({"tile_pixels": 0}, "tile_pixels"),
        ({"tile_pixels": True}, "tile_pixels"),
        ({"chunk_filters": 2.0}, "chunk_filters"),
    ],
)
def test_restricted_refuses_what_there_is_not(arguments: Any, says: str) -> None:
    before = used()
    with pytest.raises((TypeError, ValueError), match=says), restricted(**arguments):
        pass
    assert used() == before


# -------------------------------------------------------------------------------------------- configuration


def test_show_config(capsys: Any) -> None:
    c11.set_num_threads(3)
    c11.show_config()
    text = capsys.readouterr().out
    config = _conv1x1.config()
    for part in (
        f"conv1x1 {c11.__version__}",
        config["compiler"],
        f"NumPy {np.__version__}",
        config["cpu"],
        f"built {', '.join(config['isas_built'])}",
        f"found {', '.join(SUPPORTED)}",
        f"used {config['isa']}",
        "threads: 3",
        *(k["name"] for k in _conv1x1.kernels() if k["isa"] == config["isa"]),
        used("float32")[1],
        used("int32")[1],
    ):
        assert part in text
    assert ("no fused multiply-add" in text) == (not config["fused"])
    with restricted(isa="portable"):
        c11.show_config()
        assert "used portable" in capsys.readouterr().out


def test_all_is_there() -> None:
    for name in c11.__all__:
        assert getattr(c11, name).__doc__
