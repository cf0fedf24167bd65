"""A thousand kills of a `stream` that is resumed, a thousand damaged files, and disks that get full."""

from __future__ import annotations

import os
import subprocess
from pathlib import Path
from typing import Any

import numpy as np
import pytest

import conv1x1 as c11


def test_kills(tmp_path: Path, fresh_python: Any, quick: Any, times: Any, seed: int) -> None:
    argv = [str(tmp_path), str(times(1000)), str(seed)]
    run = fresh_python(f"import sys; sys.argv[1:] = {argv!r}\n{quick('test_stream_resume').KILLS}", timeout=3600)
    assert run.returncode == 0, run.stderr
    assert int(run.stdout.split()[0]) == times(1000)


@pytest.mark.filterwarnings("ignore")
@pytest.mark.parametrize("kind", ["npy", "bsq", "bil", "bip", "zarr", "h5", "geotiff", "pages"])
def test_damaged_files(tmp_path: Path, quick: Any, times: Any, seed: int, kind: str) -> None:
    """A thousand of them."""
    quick("test_stream_files").spoil(tmp_path, kind, times(125), seed + 1)


@pytest.mark.parametrize("out", ["y.npy", "y.hdr", "y.zarr", "y.h5:/a/result", "y.tif"])
def test_a_full_disk(tmp_path: Path, quick: Any, out: str) -> None:
    """An error that names the file; once there is room, what was written is completed."""
    files = quick("test_stream_files")
    for library in ("zarr", "h5py", "rasterio"):
        pytest.importorskip(library)
    disk = tmp_path / "disk"
    disk.mkdir()
    command = ["mount", "-t", "tmpfs", "-o", "size=4m", "tmpfs", disk]
    if os.geteuid() or subprocess.run(command, capture_output=True, check=False).returncode:
        pytest.skip("no file system can be mounted here")
    try:
        staged = out in ("y.h5:/a/result", "y.tif")
        x = np.random.default_rng(0).standard_normal((400 if staged else 800, 600, 6)).astype(np.float32)
        with pytest.raises(OSError, match=r"y\."):
            c11.stream(files.LAYERS["last"], x, f"{disk}/{out}", memory="1 MiB")
        assert bool(os.listdir(disk)) == (out not in ("y.npy", "y.hdr"))
        subprocess.run(["mount", "-o", "remount,size=40m", disk], check=True)
        c11.stream(files.LAYERS["last"], x, f"{disk}/{out}", memory="1 MiB", resume=True)
        assert np.array_equal(files.read(f"{disk}/{out}"), files.LAYERS["last"](x))
    finally:
        subprocess.run(["umount", disk], check=True)
