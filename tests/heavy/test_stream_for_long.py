"""A thousand kills of a `stream` that is resumed."""

from __future__ import annotations

from pathlib import Path
from typing import Any


def test_kills(tmp_path: Path, fresh_python: Any, quick: Any, times: Any, seed: int) -> None:
    argv = [str(tmp_path), str(times(1000)), str(seed)]
    run = fresh_python(f"import sys; sys.argv[1:] = {argv!r}\n{quick('test_stream_resume').KILLS}", timeout=3600)
    assert run.returncode == 0, run.stderr
    assert int(run.stdout.split()[0]) == times(1000)
