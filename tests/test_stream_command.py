"""`conv1x1 apply`: what it writes, what it says, and how it ends."""

from __future__ import annotations

import os
import shlex
import signal
import subprocess
import sys
from pathlib import Path
from typing import Any

import numpy as np
import pytest

import conv1x1 as c11
from conv1x1.command.main import main

LAYER = c11.Conv1x1(np.arange(18).reshape(3, 6) % 5 - 2.0, channel_axis=0)


@pytest.fixture
def folder(tmp_path: Path, exact: Any, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.chdir(tmp_path)
    np.save("x.npy", exact(6, 40, 50, dtype=np.uint8, most=7) % 8)
    c11.save("net.npz", LAYER)
    c11.save("classes.npz", c11.Sequential([LAYER, c11.ArgMax()]))
    return tmp_path


def test_it_writes_what_stream_writes_and_sums_up(folder: Path, capsys: Any) -> None:
    assert main(["apply", "net.npz", "x.npy", "y.npy", "--threads", "1", "--memory", "100kB"]) == 0
    out, err = capsys.readouterr()
    assert np.array_equal(np.load("y.npy"), LAYER(np.load("x.npy")))
    lines = out.splitlines()
    assert lines[0].startswith("2,000 pixels of 6 channels → 3, float32, in ")
    assert lines[1].startswith("read 0.00 GB, ")
    assert lines[2].startswith("time of the threads: reading ")
    assert lines[3] == "the result is in y.npy"
    assert not err
    assert main(["apply", "net.npz", "x.npy", "y.npy", "--resume"]) == 0
    assert capsys.readouterr().out == "y.npy is complete: there was nothing to do\n"


def test_its_options_are_those_of_stream(folder: Path, capsys: Any) -> None:
    np.save("last.npy", np.moveaxis(np.load("x.npy"), 0, 2))
    options = ["--channel-axis", "-1", "--dtype", "int16", "--nodata", "7", "--nodata-when", "all", "-q"]
    assert main(["apply", "net.npz", "last.npy", "y.npy", *options, "--nodata-out", "-9"]) == 0
    assert capsys.readouterr() == ("", "")
    x = np.load("x.npy")
    expected = c11.stream(LAYER, x, dtype=np.int16, nodata=7, nodata_when="all", nodata_out=-9)
    assert np.array_equal(np.load("y.npy"), np.moveaxis(expected, 0, 2))
    options = ["--overwrite", "--nodata", "1,2,3,4,5,6", "--nodata-out=9"]
    assert main(["apply", "classes.npz", "x.npy", "y.npy", *options]) == 0
    assert np.array_equal(np.load("y.npy") == 9, (x == np.arange(1, 7)[:, None, None]).any(0))


@pytest.mark.parametrize(
    ("arguments", "code", "says"),
    [
        (["classes.npz", "x.npy", "y.npy", "--nodata", "7"], 1, "pass --nodata-out 255, or --nodata none"),
        (["net.npz", "x.npy", "x.npy", "--overwrite"], 1, "out is the source itself"),
        (["net.npz", "x.npy", "net.npz"], 1, "of no kind"),
        (["net.npz", "y.npy", "z.npy"], 1, "y.npy: No such file or directory"),
        (["x.npy", "x.npy", "y.npy"], 1, "x.npy"),
        (["net.npz", "x.npy", "y.npy", "--memory", "much"], 1, "--memory 'much' is no size"),
        (["net.npz", "x.npy", "y.npy", "--memory", "20"], 1, "pass --memory '1 MiB' or more"),
        (["net.npz", "x.npy", "y.npy", "--channel-axis", "1"], 1, "6: pass --channel-axis 0"),
        (["net.npz", "x.npy", "y.npy", "--dtype", "uint7"], 1, "uint7"),
        (["net.npz", "x.npy", "y.npy", "--nodata", "a"], 2, "'a' is not a number"),
        (["net.npz", "x.npy", "y.npy", "--co", "a"], 2, "'a' is not NAME=VALUE"),
        (["net.npz", "x.npy", "y.npy", "--threads", "0"], 2, "'0' is not a whole number"),
        (["net.npz", "x.npy"], 2, "OUTPUT"),
    ],
)
def test_what_is_wrong_is_said_in_the_words_of_the_command(
    folder: Path, capsys: Any, arguments: Any, code: int, says: str
) -> None:
    before = sorted(os.listdir())
    assert main(["apply", *arguments]) == code
    out, err = capsys.readouterr()
    assert not out
    assert err.startswith("conv1x1: error: ")
    assert err.count("\n") == 1
    assert says in err
    assert sorted(os.listdir()) == before


def test_an_existing_file_is_said_in_the_words_of_the_command(folder: Path, capsys: Any) -> None:
    Path("y.npy").write_bytes(b"dear")
    assert main(["apply", "net.npz", "x.npy", "y.npy"]) == 1
    assert capsys.readouterr().err == "conv1x1: error: y.npy: exists: pass --overwrite to replace it\n"


SLOW = """
import signal
signal.signal(signal.SIGINT, signal.default_int_handler)  # ignored where the tests run in the background
import sys, time
from conv1x1.command.main import main
from conv1x1.streaming import journal, pipeline
from conv1x1.streaming.net import Net
journal.OFTEN, pipeline._LOOK = 0.0, 0.001
compute, tiles = Net.__call__, []
def slow(self, *arguments):
    compute(self, *arguments)
    tiles.append(1)
    if len(tiles) == 9:
        print("nine", flush=True)
    time.sleep(0.01 if len(tiles) < 9 else 0.1)
Net.__call__ = slow
sys.argv = ["conv1x1", *sys.argv[1:]]
sys.exit(main(sys.argv[1:]))
"""


@pytest.mark.parametrize(("number", "code"), [(signal.SIGINT, 130), (signal.SIGTERM, 143)])
def test_the_last_line_of_what_was_ended_resumes_it(folder: Path, number: int, code: int) -> None:
    command = ["apply", "net.npz", "x.npy", "a result.npy", "--memory", "5kB", "--threads", "1"]
    with subprocess.Popen(
        [sys.executable, "-c", SLOW, *command], stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True
    ) as run:
        assert run.stdout is not None
        assert run.stdout.readline() == "nine\n"
        run.send_signal(number)
        _, err = run.communicate(timeout=60)
    assert run.returncode == code, err
    interrupted, again = err.splitlines()
    assert interrupted.startswith("interrupted: ")
    assert "of 2000 pixels are in a result.npy" in interrupted
    words = shlex.split(again)
    assert words == ["conv1x1", *command, "--resume"]
    assert main(words[1:]) == 0
    assert np.array_equal(np.load("a result.npy"), LAYER(np.load("x.npy")))
