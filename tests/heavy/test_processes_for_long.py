"""Five hundred exits inside a call, a minute of signals, and a few exits of whole interpreters."""

from __future__ import annotations

from typing import Any

FRESH = """
import threading, time
import numpy as np
from conv1x1 import Conv1x1
layer, x = Conv1x1(np.ones((64, 256))), np.ones((20_000, 256), "f")
def forever():
    while True:
        layer(x, threads=2)
for _ in range(3):
    threading.Thread(target=forever, daemon=True).start()
time.sleep(PAUSE)
"""


def test_exit_with_a_daemon_thread_inside_a_call(fresh_python: Any, quick: Any, times: Any) -> None:
    """Five hundred times for each kind of call."""
    run = fresh_python(quick("test_processes").EXIT, timeout=1800, TIMES=str(times(500)))
    assert (run.returncode, run.stdout) == (0, "done\n"), run.stderr


def test_exit_of_a_whole_interpreter(fresh_python: Any, times: Any) -> None:
    for number in range(times(100)):
        run = fresh_python(FRESH.replace("PAUSE", str(0.0007 * number)))
        assert (run.returncode, run.stderr) == (0, "")


def test_a_storm_of_signals(fresh_python: Any, quick: Any, times: Any) -> None:
    run = fresh_python(quick("test_processes").STORM, timeout=3600, TIMES=str(times(200)))
    assert (run.returncode, run.stdout) == (0, "done\n"), run.stderr


def test_forks(fresh_python: Any, quick: Any, times: Any) -> None:
    for _ in range(times(50)):
        run = fresh_python(quick("test_processes").FORKS, OPENBLAS_NUM_THREADS="1")
        assert (run.returncode, run.stdout) == (0, "done\n"), run.stderr
