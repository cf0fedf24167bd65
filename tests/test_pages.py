"""The pages of docs/: their code runs, block by block, as it stands there, and makes the pictures that are shown."""

import re
import shlex
from pathlib import Path
from typing import Any

import pytest

from conv1x1.command.main import main

DOCS = Path(__file__).parents[1] / "docs"
PAGES = {
    "scikit-learn": (["sklearn"], ["100 → one of 4"]),
    "hyperspectral": (["matplotlib"], ["<PrincipalComponents 60 → 3, 99.", "interrupted\n"]),
    "cluster": (["dask.array", "distributed", "xarray", "zarr"], ["8 → 3"]),
}


def test_every_page_is_run() -> None:
    assert {path.stem for path in DOCS.glob("*.md")} == set(PAGES)


def run(page: str) -> None:
    """All blocks of python in one namespace, and between them the lines of sh that call conv1x1."""
    known: dict[str, Any] = {"__name__": "__main__"}
    for block in re.finditer(r"^```(python|sh)\n(.*?)^```$", page, re.DOTALL | re.MULTILINE):
        language, code = block.groups()
        if language == "python":
            above = "\n" * page.count("\n", 0, block.start(2))  # so that an error tells the line of the page
            exec(compile(above + code, "the page", "exec"), known)
            continue
        for line in code.splitlines():
            if line.startswith("conv1x1 "):
                assert main(shlex.split(line)[1:]) == 0, line


@pytest.mark.parametrize("name", PAGES)
def test_what_a_page_shows_runs(
    name: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    libraries, told = PAGES[name]
    for library in libraries:
        pytest.importorskip(library)
    page = (DOCS / f"{name}.md").read_text(encoding="utf-8")
    monkeypatch.chdir(tmp_path)
    run(page)
    shown = capsys.readouterr().out
    assert all(text in shown for text in told)
    for picture in re.findall(r"!\[.*?\]\((.*?)\)", page, re.DOTALL):
        from matplotlib.image import imread

        kept, made = imread(DOCS / picture), imread(tmp_path / picture)
        assert kept.shape == made.shape
        assert abs(kept - made).mean() < 0.02, f"{picture} is of other code: copy {tmp_path / picture} to docs/"
        assert (DOCS / picture).stat().st_size < 60_000
