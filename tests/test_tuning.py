"""Plans are measured: where calls of a shape come again, the best few plans take turns, and the fastest stays.

Nothing here depends on which is the fastest.
"""

from __future__ import annotations

import os
import threading
from collections.abc import Callable
from itertools import product
from typing import Any

import numpy as np
import pytest

import conv1x1
from conv1x1 import Conv1x1, _conv1x1
from conv1x1.runtime import restricted

if os.environ.get("CONV1X1_TUNE") == "off":
    pytest.skip("whoever runs the tests wants no plans tried", allow_module_level=True)

pytestmark = pytest.mark.calm  # a nervous build keeps not every plan

MOST_CALLS = 41  # the first, and five of each of eight plans

#: A layer and its pixels, of which calls take some tens of microseconds, so that plans are worth trying.
SETUP = """
import os, signal
import numpy as np
from conv1x1 import Conv1x1, _conv1x1, set_num_threads
layer = Conv1x1(np.arange(40 * 60).reshape(40, 60) % 7 - 3.0)
x = (np.arange(900 * 60) % 11).astype(np.float32).reshape(900, 60)
expected = x @ layer.weight.T
def tried(): return layer.plan(x)["tried"]
def settled(): return any(t["chosen"] for t in tried())
def call(): assert np.array_equal(layer(x), expected)
"""


@pytest.fixture
def layer(exact: Callable[..., Any]) -> Conv1x1:
    return Conv1x1(exact(40, 60))


def settle(layer: Conv1x1, x: Any, **options: Any) -> list[Any]:
    """Calls until a plan is settled on, and all that they gave."""
    results = []
    while not any(t["chosen"] for t in layer.plan(x, options.get("threads"))["tried"]):
        assert len(results) < MOST_CALLS
        results.append(layer(x, **options))
    return results


def test_calls_that_come_again_settle_on_a_plan(layer: Conv1x1, exact: Callable[..., Any]) -> None:
    x = exact(900, 60)
    before = layer.plan(x)
    assert before["tried"] == ()
    layer(x)
    assert layer.plan(x)["tried"] == ()  # a short script loses nothing
    calls = 1 + len(settle(layer, x))
    plan = layer.plan(x)
    tried = plan["tried"]
    assert 2 <= len(tried) <= 8
    assert sum(t["calls"] for t in tried) == calls - 1
    assert tried[0].items() >= {name: before[name] for name in tried[0].keys() & before.keys()}.items()
    (chosen,) = (t for t in tried if t["chosen"])
    assert plan.items() >= {name: chosen[name] for name in chosen.keys() & plan.keys()}.items()
    assert all(t["calls"] >= 3 and t["microseconds"] >= 0 for t in tried)
    layer(x)
    assert layer.plan(x) == plan


TYPES = ["float32", "float64", "float16", "uint8", "int16", "complex64"]


@pytest.mark.parametrize("dtype", TYPES)
@pytest.mark.parametrize("axis", [-1, 0])
def test_no_bit_depends_on_the_turn(dtype: str, axis: int, normal: Callable[..., Any]) -> None:
    random = normal(41, 50)
    weights = (random[1:] * 50).astype(np.int8) if dtype == "uint8" else random[1:]
    x = (np.abs(normal(31, 37, 50)) * 50).astype(dtype)
    one = Conv1x1(weights, random[0, :40], channel_axis=axis, activation=None if "complex" in dtype else "relu")
    x = np.ascontiguousarray(np.moveaxis(x, -1, axis))
    with restricted(tile_pixels=10**9):
        expected = one(x, threads=1)
    results = settle(one, x, threads=1)
    assert len(results) > 6
    for y in results:
        np.testing.assert_array_equal(y, expected, strict=True)


def test_functions_share_what_layers_of_their_shape_know(layer: Conv1x1, exact: Callable[..., Any]) -> None:
    x, w = exact(900, 60), exact(40, 60)
    for _ in range(MOST_CALLS):
        conv1x1.conv1x1(x, w)
    assert any(t["chosen"] for t in layer.plan(x)["tried"])
    assert layer.plan(x[:899])["tried"] == layer.plan(x.astype("f8"))["tried"] == ()


def test_tiny_calls_are_not_tried(exact: Callable[..., Any]) -> None:
    tiny, x = Conv1x1(exact(8, 16)), exact(7, 7, 16)
    for _ in range(MOST_CALLS):
        tiny(x)
    assert tiny.plan(x)["tried"] == ()


@pytest.mark.parametrize("only", [{"tile_pixels": 10**6}, {"orientation": "pixels_as_rows"}, {"stages_x": False}])
def test_what_is_asked_for_is_not_tried(only: Any, layer: Conv1x1, exact: Callable[..., Any]) -> None:
    x = exact(900, 60)
    with restricted(**only):
        for _ in range(MOST_CALLS):
            layer(x)
        assert layer.plan(x)["tried"] == ()
    settle(layer, x)
    plan = layer.plan(x)
    with restricted(**only):
        layer(x)
    assert layer.plan(x) == plan  # what was found out is still known


def test_every_instruction_set_is_tried(isa: str, layer: Conv1x1, exact: Callable[..., Any]) -> None:
    x = exact(900, 60)
    settle(layer, x)
    assert all(t["kernel"].startswith(isa.removesuffix("vnni").removesuffix("dot")) for t in layer.plan(x)["tried"])


def test_callers_in_many_threads_settle_together(layer: Conv1x1, exact: Callable[..., Any]) -> None:
    x = exact(900, 60)
    expected, wrong = layer(x), []

    def calls() -> None:
        for _ in range(MOST_CALLS):
            if not np.array_equal(layer(x, threads=2), expected):
                wrong.append(threading.get_ident())

    threads = [threading.Thread(target=calls) for _ in range(4)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert not wrong
    assert any(t["chosen"] for t in layer.plan(x, threads=2)["tried"])


@pytest.mark.parametrize("calls", [1, 2, 9])
def test_both_sides_of_a_fork_settle(calls: int, fresh_python: Callable[..., Any]) -> None:
    code = SETUP + f"set_num_threads(1)\nfor _ in range({calls}): call()\n"
    code += f"""
child = os.fork()
for _ in range({MOST_CALLS}): call()
assert settled()
if child == 0: os._exit(0)
assert os.waitpid(child, 0)[1] == 0
print("done")
"""
    run = fresh_python(code)
    assert run.stdout == "done\n", run.stderr


def test_a_call_that_was_interrupted_counts_for_nothing(fresh_python: Callable[..., Any]) -> None:
    code = """
import signal
import numpy as np
from conv1x1 import Conv1x1
layer, x = Conv1x1(np.ones((256, 256), np.float32)), np.ones((2048, 256), np.float32)
out = np.empty((2048, 256), np.float32)
class Enough(Exception): pass
def stop(*_): raise Enough
def calls(): return [t["calls"] for t in layer.plan(x, threads=1)["tried"]]
signal.signal(signal.SIGALRM, stop)
layer(x, out=out, threads=1), layer(x, out=out, threads=1)
for attempt in range(3):
    known = calls()
    out[:] = 0
    signal.setitimer(signal.ITIMER_REAL, 0.001)
    try:
        layer(x, out=out, threads=1)
    except Enough:
        pass
    signal.setitimer(signal.ITIMER_REAL, 0)
    assert sum(calls()) - sum(known) == int(out.all()) and sum(known) > 0
print("done")
"""
    run = fresh_python(code, CONV1X1_MAX_ISA="portable")  # slow enough to be interrupted
    assert run.stdout == "done\n", run.stderr


def test_plans_of_shape_and_machine_alone(fresh_python: Callable[..., Any]) -> None:
    code = f"""
before = layer.plan(x)
for _ in range({MOST_CALLS}): call()
assert layer.plan(x) == before and before["tried"] == ()
import conv1x1
conv1x1.show_config()
"""
    run = fresh_python(SETUP + code, CONV1X1_TUNE="off")
    assert run.returncode == 0, run.stderr
    assert "as the cost model says, since CONV1X1_TUNE=off" in run.stdout
    run = fresh_python(SETUP + f"for _ in range({MOST_CALLS}): call()\nprint(settled())", CONV1X1_TUNE="on")
    assert run.stdout == "True\n", run.stderr


@pytest.mark.parametrize("value", ["", "OFF", "0", "no", "off ", "é"])
def test_other_values_are_refused(value: str, fresh_python: Callable[..., Any]) -> None:
    run = fresh_python("import conv1x1", CONV1X1_TUNE=value, PYTHONIOENCODING="utf-8")
    last = run.stderr.strip().splitlines()[-1]
    assert last == f"ImportError: CONV1X1_TUNE is '{value}', expected 'on' or 'off'"


def test_the_configuration_says_what_was_tried(
    layer: Conv1x1, exact: Callable[..., Any], capsys: pytest.CaptureFixture[str]
) -> None:
    x = exact(900, 60)
    for _ in range(3):
        layer(x, threads=1)
    conv1x1.show_config()
    shown = capsys.readouterr().out
    assert "plans: measured on real calls that come again; so far for 1 shape\n" in shown
    assert "  900 pixels, 60 → 40, float32 (not settled): " in shown
    assert ": not yet" in shown
    settle(layer, x, threads=1)
    conv1x1.show_config()
    line = capsys.readouterr().out.splitlines()[-1]
    tried = layer.plan(x, threads=1)["tried"]
    assert line.startswith("  900 pixels, 60 → 40, float32: ")
    for t in tried:
        assert f"{t['microseconds']:.1f} µs {t['kernel']} {t['orientation'].removeprefix('pixels_')}" in line
    (shape,) = _conv1x1.config()["tried"]
    assert shape["trials"] == tried


def test_shapes_are_tried_each_on_its_own(layer: Conv1x1, exact: Callable[..., Any]) -> None:
    for pixels, axis in product([500, 900], [-1, 0]):
        one = Conv1x1(layer.weight, channel_axis=axis)
        settle(one, exact(pixels, 60) if axis else exact(60, pixels))
    assert len(_conv1x1.config()["tried"]) == 4
