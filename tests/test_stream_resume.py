"""`stream` that was ended: whatever is resumed has the same bytes, and nothing but the same is resumed."""

from __future__ import annotations

import os
import shutil
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest

import conv1x1 as c11
from conv1x1.streaming import journal, pipeline
from conv1x1.streaming.net import Net


def weights(k: int, c: int, seed: int = 0) -> Any:
    return np.random.default_rng([k, c, seed]).standard_normal((k, c)).astype(np.float32)


class Scene:
    """A source, what a layer makes of it, and where that goes."""

    def __init__(self, folder: Path, x: Any) -> None:
        self.x, self.layer = x, c11.Conv1x1(weights(3, 5), activation="relu")
        self.source, self.out, self.journal = folder / "x.npy", folder / "y.npy", folder / "y.npy.conv1x1-journal"
        np.save(self.source, x)
        np.save(folder / "expected.npy", self.layer(x))
        self.expected = (folder / "expected.npy").read_bytes()
        (folder / "expected.npy").unlink()

    def stream(self, layer: Any = None, **options: Any) -> Any:
        options = {"memory": 6000, "threads": 2} | options
        return c11.stream(layer or self.layer, self.source, self.out, **options)

    def interrupted(self, tiles: int = 3) -> None:
        """A run that ends in the middle."""

        def progress(done: int, total: int) -> None:
            if done >= tiles * 10:
                raise InterruptedError("enough")

        def slow(self: Any, *arguments: Any) -> None:
            time.sleep(0.002)
            compute(self, *arguments)

        compute = Net.__call__
        with pytest.MonkeyPatch.context() as patch:
            patch.setattr(Net, "__call__", slow)
            with pytest.raises(InterruptedError):
                self.stream(progress=progress)


@pytest.fixture
def scene(tmp_path: Path, normal: Any, monkeypatch: pytest.MonkeyPatch) -> Scene:
    monkeypatch.setattr(pipeline, "_LOOK", 0.005)
    monkeypatch.setattr(journal, "OFTEN", 0.0)
    return Scene(tmp_path, normal(4000, 5))


def test_a_run_that_ended_is_completed(scene: Scene) -> None:
    scene.interrupted()
    assert scene.journal.exists()
    assert scene.out.stat().st_size == len(scene.expected)
    assert scene.out.read_bytes() != scene.expected
    heard: list[int] = []
    with pytest.raises(FileExistsError, match="overwrite=True to replace it, or resume=True to complete it"):
        scene.stream()
    scene.stream(resume=True, threads=1, progress=lambda done, total: heard.append(done))
    assert heard[0] >= 30
    assert heard[-1] == 4000
    assert scene.out.read_bytes() == scene.expected
    assert not scene.journal.exists()
    before = scene.out.stat().st_mtime_ns
    scene.stream(resume=True)  # there is nothing to do
    assert scene.out.stat().st_mtime_ns == before
    assert not scene.journal.exists()


def test_resume_begins_what_is_not_there(scene: Scene) -> None:
    scene.stream(resume=True)
    assert scene.out.read_bytes() == scene.expected


def test_a_copy_of_the_source_elsewhere_is_the_same_source(scene: Scene, tmp_path: Path) -> None:
    scene.interrupted()
    scene.source = Path(shutil.move(scene.source, tmp_path / "moved.npy"))
    os.utime(scene.source, (0, 0))
    scene.stream(resume=True)
    assert scene.out.read_bytes() == scene.expected


def changed(change: Callable[[Any], Any]) -> Callable[[Scene], Any]:
    def act(scene: Scene) -> None:
        np.save(scene.source, change(scene.x))

    return act


@pytest.mark.parametrize(
    ("act", "options", "says"),
    [
        (lambda s: None, {"layer": c11.Conv1x1(weights(3, 5, 1), activation="relu")}, r"model \(checksum was"),
        (lambda s: None, {"layer": c11.Conv1x1(weights(3, 5))}, r"model \(checksum was"),
        (lambda s: None, {"dtype": np.float64}, r"result \(dtype was <f4 and is <f8"),
        (changed(lambda x: x + 1), {}, r"source \(samples was"),
        (changed(lambda x: x[:3999]), {}, r"source \(shape was \[4000, 5\] and is \[3999, 5\], bytes was"),
        (changed(lambda x: x.astype(np.float64)), {}, r"source \(dtype was <f4 and is <f8.* another result"),
        (changed(lambda x: np.concatenate([x[:-1], -x[-1:]])), {}, r"source \(samples was"),
    ],
)
def test_another_model_or_source_is_refused(scene: Scene, act: Any, options: Any, says: str) -> None:
    scene.interrupted()
    act(scene)
    before = scene.out.read_bytes()
    with pytest.raises(ValueError, match=says):
        scene.stream(resume=True, **options)
    assert scene.out.read_bytes() == before
    assert scene.journal.exists()
    scene.stream(resume=True, overwrite=True, **options)
    assert not scene.journal.exists()
    layer, x = options.get("layer", scene.layer), np.load(scene.source)
    expected = layer(x, out=np.empty((len(x), 3), options.get("dtype", x.dtype)))
    assert np.array_equal(np.load(scene.out), expected)


def test_a_file_of_somebody_else_is_not_resumed(scene: Scene) -> None:
    np.save(scene.out, np.zeros((4000, 3), np.float32))
    with pytest.raises(FileExistsError, match="is not what this makes"):
        scene.stream(resume=True)
    assert not np.load(scene.out).any()
    scene.out.unlink()
    scene.interrupted()
    np.save(scene.out, np.zeros((4000, 2), np.float32))
    with pytest.raises(FileExistsError, match="is not the file that its journal tells of"):
        scene.stream(resume=True)
    assert not np.load(scene.out).any()


def test_too_little_memory_for_the_tiles_it_was_begun_with(scene: Scene) -> None:
    scene.interrupted()
    with pytest.raises(MemoryError, match=r"projected memory .* exceeds allowed memory 500 bytes"):
        scene.stream(resume=True, memory=500)
    scene.stream(resume=True, memory="1 GiB")
    assert scene.out.read_bytes() == scene.expected


def test_a_damaged_journal_costs_tiles_but_no_bytes(scene: Scene) -> None:
    scene.interrupted()
    whole, there = scene.journal.read_bytes(), scene.out.read_bytes()
    assert len(whole.splitlines()) > 2
    random = np.random.default_rng(0)
    for size in (*random.integers(0, len(whole), 8), len(whole) - 1):
        for content in (whole[:size], whole[:size] + b"?" + whole[size + 1 :], whole + whole[:size]):
            scene.journal.write_bytes(content)
            scene.out.write_bytes(there)
            if journal._parsed(content)[0] is None:
                with pytest.raises(FileExistsError, match="is not what this makes"):
                    scene.stream(resume=True)
            else:
                scene.stream(resume=True)
                assert scene.out.read_bytes() == scene.expected


def test_only_one_process_writes(scene: Scene) -> None:
    scene.interrupted()
    first = journal.Journal(str(scene.out))
    with pytest.raises(BlockingIOError, match=r"another process is writing it.*y\.npy"):
        scene.stream(resume=True)
    first.close()
    scene.stream(resume=True)
    assert scene.out.read_bytes() == scene.expected


def test_what_fails_before_the_first_tile_is_there_leaves_nothing(scene: Scene) -> None:
    class Broken(c11.Conv1x1):
        def __call__(self, x: Any, **options: Any) -> Any:
            if x.shape[0] > 5:
                raise ZeroDivisionError("broken")
            return super().__call__(x, **options)

    with pytest.raises(RuntimeError, match=r"tile \d+ of \d+.*computing: broken"):
        scene.stream(Broken(weights(3, 5)), threads=1)
    assert not scene.out.exists()
    assert not scene.journal.exists()


def test_resume_is_for_files() -> None:
    with pytest.raises(ValueError, match="resume=True is for an out that is a path, got None"):
        c11.stream(c11.Conv1x1(weights(3, 5)), np.ones((4, 5)), resume=True)


KILLS = """
import os, random, shutil, signal, sys, time
import numpy as np
import conv1x1 as c11
from conv1x1.streaming import journal, pipeline
from conv1x1.streaming.net import Net

folder, kills, seed = sys.argv[1], int(sys.argv[2]), int(sys.argv[3])
journal.OFTEN, pipeline._LOOK = 0.0, 0.001
random.seed(seed)
source, out = f"{folder}/x.npy", f"{folder}/y.npy"
x = np.random.default_rng(seed).standard_normal((20_000, 24)).astype(np.float32)
np.save(source, x)
layer = c11.Conv1x1(np.random.default_rng(1).standard_normal((8, 24)), activation="relu")
np.save(f"{folder}/expected.npy", layer(x))
expected = open(f"{folder}/expected.npy", "rb").read()

def stream():
    c11.stream(layer, source, out, memory=60_000, threads=2, resume=True)

start = time.perf_counter()
stream()
duration, killed, completed, resumed = time.perf_counter() - start, 0, 0, 0
while killed < kills:
    resumed += os.path.exists(out)
    pid = os.fork()
    if not pid:
        stream()
        os._exit(0)
    time.sleep(random.random() ** 2 * duration)
    os.kill(pid, signal.SIGKILL)
    status = os.waitpid(pid, 0)[1]
    killed += status == signal.SIGKILL
    if status == 0:
        assert open(out, "rb").read() == expected, "after a run that ended by itself"
        assert sorted(os.listdir(folder)) == ["expected.npy", "x.npy", "y.npy"], os.listdir(folder)
        completed += 1
        os.unlink(out)
    elif killed % 5 == 0:
        stream()
        assert open(out, "rb").read() == expected, "after a kill"
        assert sorted(os.listdir(folder)) == ["expected.npy", "x.npy", "y.npy"], os.listdir(folder)
        os.unlink(out)
print(killed, completed, resumed)
"""


def test_kills(tmp_path: Path, fresh_python: Any, seed: int) -> None:
    argv = [str(tmp_path), "10", str(seed)]
    run = fresh_python(f"import sys; sys.argv[1:] = {argv!r}\n{KILLS}")
    assert run.returncode == 0, run.stderr
    killed, _, resumed = map(int, run.stdout.split())
    assert killed == 10
    assert resumed
