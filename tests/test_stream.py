"""`stream`: the bits of a call, whatever the tiles; memory within its limit; nothing overwritten, nothing lost."""

from __future__ import annotations

import os
import signal
import threading
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest

import conv1x1 as c11

Maker = Any


def weights(k: int, c: int) -> Any:
    return np.random.default_rng([k, c]).standard_normal((k, c)).astype(np.float32)


def saved(path: Path, x: Any) -> str:
    np.save(path, x)
    return str(path)


# ---------------------------------------------------------------------------------------------- the same bits


@pytest.mark.parametrize("order", ["C", "F"])
@pytest.mark.parametrize("channel_axis", [0, 1, 2, 3])
def test_the_bits_are_those_of_a_call(tmp_path: Path, normal: Maker, order: Any, channel_axis: int) -> None:
    x = np.asarray(normal(5, 6, 7, 9), order=order)
    w = weights(4, x.shape[channel_axis])
    swapped = saved(tmp_path / "x.npy", x.astype(">f4"))
    for w_, stride in ((w, 1), (w[0], 1), (w, (2,)), (w, (3, 2))):
        layer = c11.Conv1x1(w_, channel_axis=channel_axis, stride=stride)
        y = layer(x)
        np.save(tmp_path / "expected.npy", y)
        for memory, threads in ((3000, 1), (20_000, 2), ("1 MiB", 3)):
            out = str(tmp_path / "y.npy")
            assert c11.stream(layer, swapped, out, memory=memory, threads=threads, overwrite=True) is out
            assert Path(out).read_bytes() == (tmp_path / "expected.npy").read_bytes()
            made = c11.stream(layer, x, memory=memory, threads=threads)
            assert made.tobytes() == y.tobytes()
            assert made.strides == y.strides
            assert c11.stream(layer, x, out=np.zeros_like(y), memory=memory).tobytes() == y.tobytes()


class Sliced:
    """What has a shape, a type and slices, and counts what is done with them."""

    def __init__(self, array: Any, chunks: tuple[int, ...]) -> None:
        self.array, self.shape, self.dtype, self.chunks = array, array.shape, array.dtype, chunks
        self.seen = np.zeros(array.shape, np.int32)

    def __getitem__(self, region: Any) -> Any:
        self.seen[region] += 1
        return self.array[region].copy()

    def __setitem__(self, region: Any, tile: Any) -> None:
        self.seen[region] += 1
        self.array[region] = tile
        for s, n, whole in zip(region, self.chunks, self.shape, strict=True):
            assert s.start % n == 0
            assert s.stop % n == 0 or s.stop == whole


@pytest.mark.parametrize("memory", [400_000, "1 MiB"])
def test_whatever_has_slices_is_read_once_and_written_in_whole_chunks(normal: Maker, memory: Any) -> None:
    x = normal(6, 50, 40)
    layer = c11.Conv1x1(weights(3, 6), channel_axis=0, stride=(1, 2))
    source, target = Sliced(x, (2, 12, 8)), Sliced(np.zeros((3, 50, 20), np.float64), (3, 8, 16))
    assert c11.stream(layer, source, target, memory=memory, threads=2) is target
    assert np.array_equal(target.array, layer(x, out=np.empty((3, 50, 20))))
    assert (source.seen == 1).all()
    assert (target.seen == 1).all()


def test_the_channels_are_where_channel_axis_says(normal: Maker) -> None:
    x, layer = normal(4, 5, 6, 7), c11.Conv1x1(weights(3, 5), stride=2)
    y = c11.stream(layer, x, channel_axis=1)
    assert y.shape == (4, 3, 3, 4)
    assert np.array_equal(y, np.moveaxis(layer(np.moveaxis(x, 1, -1)), -1, 1))


def test_types_of_results(tmp_path: Path, exact: Maker) -> None:
    x = exact(20, 30, 5, dtype=np.uint8, most=7)
    layer = c11.Conv1x1(weights(3, 5))
    source = saved(tmp_path / "x.npy", x)
    assert np.array_equal(c11.stream(layer, source, dtype=np.uint8), layer(x, out=np.empty((20, 30, 3), np.uint8)))
    with pytest.raises(TypeError, match="uint32"):
        c11.stream(layer, source, dtype=np.uint32)
    with pytest.raises(ValueError, match="dtype=uint8, but out holds float64"):
        c11.stream(layer, source, np.empty((20, 30, 3)), dtype=np.uint8)


# -------------------------------------------------------------------------------------------------- memory

LIMITED = """
import resource, sys
import numpy as np
import conv1x1 as c11
layer = c11.Conv1x1(np.ones((2, 224), np.int8), channel_axis=int(sys.argv[3]))
def memory(name):
    with open("/proc/self/status") as file:
        return next(int(line.split()[1]) for line in file if line.startswith(name)) << 10
layer(np.ones((100, 224) if sys.argv[3] == "-1" else (224, 100), np.uint8))
before = memory("VmRSS")
if sys.argv[5] != "map":
    resource.setrlimit(resource.RLIMIT_AS, (400 << 20, 400 << 20))
source = np.load(sys.argv[1], mmap_mode="r") if sys.argv[5] == "map" else sys.argv[1]
c11.stream(layer, source, sys.argv[2], memory=sys.argv[4], threads=2, dtype=np.uint8)
print(memory("VmHWM") - before)
"""


@pytest.mark.parametrize(
    ("channel_axis", "memory", "kind"), [(-1, "12 MiB", "path"), (0, "48 MiB", "path"), (-1, "40 MiB", "map")]
)
def test_peak_memory(tmp_path: Path, fresh_python: Any, channel_axis: int, memory: str, kind: str) -> None:
    shape = (224, 1200, 1500) if channel_axis == 0 else (1200, 1500, 224)
    source = tmp_path / "x.npy"  # 400 MB that take no room on the disk
    np.lib.format.open_memmap(source, "w+", np.uint8, shape)._mmap.close()  # type: ignore[attr-defined]
    argv = [str(source), str(tmp_path / "y.npy"), str(channel_axis), memory, kind]
    run = fresh_python(f"import sys; sys.argv[1:] = {argv!r}\n{LIMITED}")
    assert run.returncode == 0, run.stderr
    assert 2**20 < int(run.stdout) <= int(memory.split()[0]) * 2**20
    assert not np.load(tmp_path / "y.npy", mmap_mode="r").any()


def test_what_cannot_fit_is_refused_with_both_numbers() -> None:
    source = Sliced(np.zeros((64, 64, 8), np.float32), (64, 64, 4))
    target = np.zeros((64, 64, 3), np.float32)
    with pytest.raises(
        MemoryError, match=r"projected memory .* exceeds allowed memory 97.66 KiB.*64×64×8.*memory='2 MiB'"
    ):
        c11.stream(c11.Conv1x1(weights(3, 8)), source, target, memory=100_000)
    assert not source.seen.any()


# ------------------------------------------------------------------------------- nothing is lost or overwritten


def test_no_file_is_overwritten(tmp_path: Path, normal: Maker) -> None:
    source, out = saved(tmp_path / "x.npy", normal(4, 5)), tmp_path / "y.npy"
    layer = c11.Conv1x1(weights(3, 5))
    out.write_bytes(b"dear")
    with pytest.raises(FileExistsError, match=r"overwrite=True.*y\.npy"):
        c11.stream(layer, source, out)
    with pytest.raises(ValueError, match="out is the source itself"):
        c11.stream(layer, source, source, overwrite=True)
    (tmp_path / "link.npy").symlink_to(source)
    with pytest.raises(ValueError, match="out is the source itself"):
        c11.stream(layer, source, tmp_path / "link.npy", overwrite=True)
    with pytest.raises(ValueError, match="5 channels"):
        c11.stream(c11.Conv1x1(weights(3, 6)), source, out, overwrite=True)
    with pytest.raises(FileNotFoundError, match="no such directory"):
        c11.stream(layer, source, tmp_path / "nowhere" / "y.npy")
    assert out.read_bytes() == b"dear"
    assert sorted(p.name for p in tmp_path.iterdir()) == ["link.npy", "x.npy", "y.npy"]


def test_a_full_disk_is_seen_before_the_first_tile(tmp_path: Path, normal: Maker, fresh_python: Any) -> None:
    source, out = saved(tmp_path / "x.npy", normal(1000, 8)), tmp_path / "y.npy"
    out.write_bytes(b"dear")
    run = fresh_python(f"""
import resource, numpy as np, conv1x1 as c11
resource.setrlimit(resource.RLIMIT_FSIZE, (8000, 8000))
try:
    c11.stream(c11.Conv1x1(np.ones((8, 8), np.float32)), {source!r}, {str(out)!r}, overwrite=True)
except OSError as error:
    print(error)
""")
    assert "no room for 31.38 KiB" in run.stdout, run.stderr
    assert out.read_bytes() == b"dear"
    assert sorted(p.name for p in tmp_path.iterdir()) == ["x.npy", "y.npy"]


def test_an_error_names_tile_and_file(tmp_path: Path, normal: Maker) -> None:
    source = saved(tmp_path / "x.npy", normal(1000, 5))

    waiting = threading.Event()

    class Slow(c11.Conv1x1):
        def __call__(self, x: Any, **options: Any) -> Any:
            if x.shape[0] > 3:
                waiting.wait(10)
            return super().__call__(x, **options)

    layer = Slow(weights(3, 5))
    threading.Timer(0.05, lambda: (os.truncate(source, 12_000), waiting.set())).start()
    with pytest.raises(OSError, match=r"tile \d+ of \d+, \[\d+:\d+, 0:5\]: reading .*x\.npy.* has become shorter"):
        c11.stream(layer, source, tmp_path / "y.npy", memory=4000, threads=1)


@pytest.fixture
def handled() -> Iterator[None]:
    """Signals as usual, of which a process that was started in the background may ignore one."""
    usual = {signal.SIGINT: signal.default_int_handler, signal.SIGTERM: signal.SIG_DFL}
    before = {number: signal.signal(number, handler) for number, handler in usual.items()}
    yield
    for number, handler in before.items():
        signal.signal(number, handler)


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM])
def test_signals_end_it_within_a_tile(handled: None, tmp_path: Path, normal: Maker, number: Any) -> None:
    before = signal.getsignal(number)
    tiles = []

    def progress(done: int, total: int) -> None:
        tiles.append(done)
        if done:
            signal.raise_signal(number)

    class Slow(c11.Conv1x1):
        def __call__(self, x: Any, **options: Any) -> Any:
            threading.Event().wait(0.01)
            return super().__call__(x, **options)

    with pytest.raises(KeyboardInterrupt):
        c11.stream(Slow(weights(3, 5)), normal(4000, 5), memory=4000, threads=1, progress=progress)
    assert tiles[-1] < 4000
    assert signal.getsignal(number) == before


def test_progress_is_told_in_pixels(normal: Maker) -> None:
    heard: list[tuple[int, int]] = []
    c11.stream(c11.Conv1x1(weights(3, 5)), normal(40, 30, 5), memory=4000, progress=lambda *told: heard.append(told))
    assert heard == sorted(heard)
    assert heard[-1] == (1200, 1200)


# ------------------------------------------------------------------------------------------- what is refused


@pytest.mark.parametrize(
    ("options", "error", "says"),
    [
        ({"memory": "much"}, ValueError, "memory='much' is no size"),
        ({"memory": 0}, ValueError, "memory must be ≥ 1 byte"),
        ({"memory": 1.5}, TypeError, "memory must be a number of bytes"),
        ({"threads": 0}, ValueError, "threads"),
        ({"progress": 3}, TypeError, "progress must be"),
        ({"layer": np.ones((3, 5))}, TypeError, "layer must be"),
        ({"channel_axis": 5}, ValueError, "channel_axis=5"),
        ({"source": [[1.0] * 5]}, TypeError, "source must be a path, or an array"),
        ({"source": np.ma.masked_array(np.ones((4, 5)))}, TypeError, r"masked array: pass source\.filled"),
        ({"source": np.zeros((0, 5))}, ValueError, "no pixels"),
        ({"source": np.zeros((4, 5), "S3")}, TypeError, "supported"),
        ({"source": "x.doc"}, ValueError, r"'x\.doc' is of no kind .* \.npy"),
        ({"source": "x.npy"}, FileNotFoundError, r"x\.npy"),
        ({"out": np.zeros((4, 4))}, ValueError, r"out has shape \(4, 4\); the result has \(4, 3\)"),
        ({"out": np.broadcast_to(np.zeros(3), (4, 3))}, ValueError, "read-only"),
        ({"out": 3}, TypeError, "out must be a path, or an array"),
    ],
)
def test_bad_arguments(options: Any, error: Any, says: str) -> None:
    given = {"layer": c11.Conv1x1(weights(3, 5)), "source": np.ones((4, 5), np.float32)} | options
    with pytest.raises(error, match=says):
        c11.stream(given.pop("layer"), given.pop("source"), **given)


def test_an_out_that_overlaps_the_source_is_refused() -> None:
    x = np.ones((4, 5), np.float32)
    with pytest.raises(ValueError, match="overlaps"):
        c11.stream(c11.Conv1x1(weights(5, 5)), x, x)


def damaged(good: bytes) -> dict[str, tuple[bytes, str]]:
    body = good[128:]
    return {
        "empty": (b"", "no .npy file"),
        "text": (b"hello, world" * 20, "no .npy file"),
        "half": (good[:-40], "truncated"),
        "more": (good + b"12345", "5 bytes more"),
        "no body": (good[:128], "truncated"),
        "no header": (good[:60], "no .npy file"),
        "another version": (good[:6] + b"\x09" + good[7:], "no .npy file"),
        "a header that lies": (good.replace(b"(40, 5)", b"(90, 5)"), "truncated"),
        "a negative shape": (good.replace(b"(40, 5), }", b"(-40, -5)}"), "damaged"),
        "objects": (good.replace(b"'<f4'", b"'|O' "), "no numbers"),
        "text as numbers": (good.replace(b"'<f4'", b"'|S4'"), "supported|no numbers"),
        "code": (good.replace(b"'descr'", b"print()"), "no .npy file"),
        "zeros": (bytes(128) + body, "no .npy file"),
    }


@pytest.mark.parametrize("name", damaged(b""))
def test_damaged_files_are_refused(tmp_path: Path, normal: Maker, name: str) -> None:
    good = Path(saved(tmp_path / "good.npy", normal(40, 5))).read_bytes()
    content, says = damaged(good)[name]
    (tmp_path / "x.npy").write_bytes(content)
    with pytest.raises((ValueError, TypeError), match=says):
        c11.stream(c11.Conv1x1(weights(3, 5)), tmp_path / "x.npy", tmp_path / "y.npy")
    assert sorted(p.name for p in tmp_path.iterdir()) == ["good.npy", "x.npy"]


def test_what_is_no_file_is_refused(tmp_path: Path) -> None:
    (tmp_path / "folder.npy").mkdir()
    os.mkfifo(tmp_path / "pipe.npy")
    for name, says in (("folder.npy", "is a directory"), ("pipe.npy", "no regular file")):
        with pytest.raises(ValueError, match=says):
            c11.stream(c11.Conv1x1(weights(3, 5)), tmp_path / name)


def test_maps_are_read_where_they_lie(tmp_path: Path, normal: Maker) -> None:
    x = normal(40, 30, 6)
    path = saved(tmp_path / "x.npy", x)
    layer = c11.Conv1x1(weights(3, 6))
    shared = np.load(path, mmap_mode="r+")
    shared[1, 2] = x[1, 2] = 7  # what was written to it counts
    private = np.load(path, mmap_mode="c")
    private[3] = -7
    for a in (shared, shared[5:20], shared[:, 3:9], shared[::2], shared.transpose(1, 0, 2), private, private[1:]):
        assert np.array_equal(c11.stream(layer, a, memory="30 kB"), layer(np.array(a)))
    np.save(tmp_path / "other.npy", -x)
    os.replace(tmp_path / "other.npy", path)  # the map is of a file that has no name any more
    assert np.array_equal(c11.stream(layer, shared), layer(x))
