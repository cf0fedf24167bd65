"""The command `conv1x1`: what each subcommand says, writes and exits with."""

from __future__ import annotations

import math
import subprocess
import sys
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest

import conv1x1
from conv1x1 import cli, demo, selftest

Run = Callable[..., SimpleNamespace]


@pytest.fixture
def run(capsys: pytest.CaptureFixture[str]) -> Run:
    """Run the command; the result has code, out and err."""

    def call(*arguments: object) -> SimpleNamespace:
        capsys.readouterr()
        code = cli.main([str(a) for a in arguments])
        return SimpleNamespace(code=code, **capsys.readouterr()._asdict())

    return call


def assert_one_line_error(result: SimpleNamespace, code: int, *words: str) -> None:
    assert result.code == code
    assert result.err.startswith("conv1x1: error: ")
    assert result.err.count("\n") == 1
    for word in words:
        assert word in result.err


# The command itself


def test_no_command_gives_the_help(run: Run) -> None:
    result = run()
    assert result.code == 0
    assert all(command in result.out for command in ("demo", "info", "explain", "selftest", "bench", "example:"))


@pytest.mark.parametrize("command", ["demo", "info", "explain", "selftest", "bench"])
def test_every_command_has_help_with_an_example(run: Run, command: str) -> None:
    result = run(command, "--help")
    assert result.code == 0
    assert f"\n  conv1x1 {command}" in result.out


def test_version(run: Run) -> None:
    assert run("--version").out == f"conv1x1 {conv1x1.__version__}\n"


@pytest.mark.parametrize(
    "arguments",
    [
        ["frobnicate"],
        ["info", "--loud"],
        ["demo", "--output", "demo.svg"],
        ["explain", "--at", "a,b"],
        ["explain", "--stride", "two"],
        ["explain", "--activation", "clip:0,one"],
        ["explain", "--activation", "frobnicate"],
        ["explain", "--at", "99,99"],
        ["explain", "--filter", "7"],
        ["explain", "--groups", "5"],
        ["explain", "--x", "only-x.npy"],
    ],
)
def test_misuse_is_one_line_and_2(run: Run, arguments: list[str]) -> None:
    assert_one_line_error(run(*arguments), 2)


def test_control_c_is_130(run: Run, monkeypatch: pytest.MonkeyPatch) -> None:
    def interrupted() -> None:
        raise KeyboardInterrupt

    monkeypatch.setattr(cli, "show_config", interrupted)
    result = run("info")
    assert (result.code, result.err) == (130, "")


def test_as_a_module() -> None:
    command = [sys.executable, "-m", "conv1x1"]
    version = subprocess.run([*command, "--version"], capture_output=True, text=True)
    assert (version.returncode, version.stdout) == (0, f"conv1x1 {conv1x1.__version__}\n")
    wrong = subprocess.run([*command, "frobnicate"], capture_output=True, text=True)
    assert (wrong.returncode, wrong.stdout) == (2, "")
    assert "Traceback" not in wrong.stderr


@pytest.mark.parametrize("argument", ["info", "--help"])
def test_a_reader_that_leaves_gets_no_traceback(argument: str) -> None:
    command = [sys.executable, "-m", "conv1x1", argument]
    process = subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.PIPE)
    assert process.stdout
    process.stdout.close()
    _, err = process.communicate()
    assert err == b""


def test_info_is_show_config(run: Run, capsys: pytest.CaptureFixture[str]) -> None:
    conv1x1.show_config()
    expected = capsys.readouterr().out
    result = run("info")
    assert (result.code, result.out) == (0, expected)


# explain


def test_explain_shows_what_shrinks(run: Run) -> None:
    result = run("explain")
    assert result.code == 0
    assert "(28, 28, 192)" in result.out
    assert "(28, 28, 1)" in result.out


def test_explain_draws(run: Run, tmp_path: Path) -> None:
    drawing = tmp_path / "explained.svg"
    result = run("explain", "--at", "3,5", "--svg", drawing)
    assert result.code == 0
    assert str(drawing) in result.out
    assert "<svg" in drawing.read_text(encoding="utf-8")


def test_explain_passes_everything_on(run: Run, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    arrays: dict[str, Any] = {"x": np.ones((8, 5, 6), np.float32), "w": np.ones((4, 2)), "bias": np.arange(4.0)}
    for name, array in arrays.items():
        np.save(tmp_path / f"{name}.npy", array)
    files = [part for name in arrays for part in (f"--{name}", tmp_path / f"{name}.npy")]
    seen: dict[str, Any] = {}

    def explain(x: Any, w: Any, bias: Any, **options: Any) -> str:
        seen.update(options, x=x, w=w, bias=bias)
        return "explained"

    monkeypatch.setattr(cli, "explain", explain)
    options = ["--channel-axis", 0, "--stride", "2,1", "--groups", 4, "--activation", "clip:0,1.5"]
    assert run("explain", *files, *options, "--at", "1,2", "--filter", 3).out == "explained\n"
    for name, array in arrays.items():
        np.testing.assert_array_equal(seen.pop(name), array)
    assert seen == {
        "channel_axis": 0,
        "stride": (2, 1),
        "groups": 4,
        "activation": ("clip", 0.0, 1.5),
        "at": (1, 2),
        "filter": 3,
    }
    run("explain", "--stride", 2, "--activation", "relu")
    assert (seen["stride"], seen["activation"]) == (2, "relu")


@pytest.mark.parametrize("content", ["missing", "empty", "text", "pickle", "archive"])
def test_explain_says_which_file_is_unreadable(run: Run, tmp_path: Path, content: str) -> None:
    bad, w = tmp_path / "bad.npy", tmp_path / "w.npy"
    np.save(w, np.ones((2, 3)))
    if content == "empty":
        bad.touch()
    elif content == "text":
        bad.write_text("1 2 3")
    elif content == "pickle":
        np.save(bad, np.array([{}], dtype=object), allow_pickle=True)
    elif content == "archive":
        with bad.open("wb") as file:
            np.savez(file, a=np.ones(3))
    assert_one_line_error(run("explain", "--x", bad, "--w", w), 1, str(bad))


def test_explain_cannot_write_the_drawing(run: Run, tmp_path: Path) -> None:
    drawing = tmp_path / "missing" / "explained.svg"
    assert_one_line_error(run("explain", "--svg", drawing), 1, str(drawing))


# selftest


def test_selftest_finds_every_kernel_right(run: Run) -> None:
    result = run("selftest")
    assert result.code == 0, result.out
    for kernel in conv1x1._conv1x1.kernels():
        line = next(line for line in result.out.splitlines() if line.startswith(f"{kernel['name']} "))
        assert line.endswith("ok") if kernel["supported"] else "skipped" in line
    conversions = [line.split() for line in result.out.splitlines() if line.startswith("conversions ")]
    assert [(isa, end) for _, isa, *_, end in conversions] == [
        (isa, "ok") for isa in conv1x1._conv1x1.config()["isas_supported"]
    ]


@pytest.fixture
def two_kernels(monkeypatch: pytest.MonkeyPatch) -> list[str | None]:
    """Two kernels that should be the same, and one this CPU lacks; the list names the one in use."""
    shape = {"dtype": "float32", "order": "chain", "rows": 3, "lanes": 4}
    kernels = [{"name": name, "isa": "portable", "supported": True, **shape} for name in ("first", "second")]
    kernels.append({"name": "third", "isa": "avx1024", "supported": False, **shape})
    in_use: list[str | None] = [None]

    @contextmanager
    def restricted(isa: str | None = None, kernel: str | None = None) -> Iterator[None]:
        in_use[0] = kernel
        yield

    monkeypatch.setattr(selftest, "_conv1x1", SimpleNamespace(kernels=lambda: kernels))
    monkeypatch.setattr(selftest, "restricted", restricted)
    return in_use


def test_selftest_skips_what_the_cpu_lacks(run: Run, two_kernels: list[str | None]) -> None:
    result = run("selftest")
    assert result.code == 0, result.out
    assert "third   avx1024   skipped: this CPU does not run avx1024" in result.out
    assert result.out.endswith("\nall 3 kernels and conversions are right\n")


def _large(y: Any) -> Any:
    return y * np.float32(1.01)


def _nan(y: Any) -> Any:
    return y * np.float32("nan")


def _other_bits(y: Any) -> Any:
    return y if (y == np.rint(y)).all() else np.nextafter(y, np.float32(0))


def _inexact(y: Any) -> Any:
    return np.nextafter(y, np.float32(0)) if (y == np.rint(y)).all() else y


def _wrong_shape(y: Any) -> Any:
    return y[..., :-1]


def _wrong_type(y: Any) -> Any:
    return y.astype(np.float64)


def _raises(y: Any) -> Any:
    raise RuntimeError("no such tile")


@pytest.mark.parametrize(
    ("break_", "words"),
    [
        (_large, "bounds, in Case("),
        (_nan, "error of nan bounds, in Case("),
        (_other_bits, "other bits than the kernels before, in Case("),
        (_inexact, "integers are not exact, in Case("),
        (_wrong_shape, "instead of float32"),
        (_wrong_type, "float64"),
        (_raises, "RuntimeError: no such tile, in Case("),
    ],
)
def test_selftest_finds_a_wrong_kernel(
    run: Run,
    monkeypatch: pytest.MonkeyPatch,
    two_kernels: list[str | None],
    break_: Callable[[Any], Any],
    words: str,
) -> None:
    def broken(*arguments: Any, **options: Any) -> Any:
        y = conv1x1.conv1x1(*arguments, **options)
        return break_(y) if two_kernels == ["second"] else y

    monkeypatch.setattr(selftest, "conv1x1", broken)
    result = run("selftest")
    assert result.code == 1
    first, second, complaint = result.out.splitlines()[-6:-3]
    assert first.split()[::4] == ["first", "ok"]
    assert second.split()[::4] == ["second", "FAILED"]
    assert words in complaint
    assert result.out.endswith("\n1 of 3 kernels and conversions FAILED\n")


@pytest.mark.parametrize(
    ("break_", "words"),
    [
        (lambda y: y - 1 if y.dtype == np.int64 else y, "int64 -1 instead of 0"),
        (lambda y: np.where(np.isnan(y), 0, y) if y.dtype == np.float16 else y, "float16 0.0 instead of nan"),
        (lambda y: np.where(y == 255, 0, y) if y.dtype == np.uint8 else y, "uint8 0 instead of 255"),
    ],
)
def test_selftest_finds_a_wrong_conversion(
    run: Run,
    monkeypatch: pytest.MonkeyPatch,
    two_kernels: list[str | None],
    break_: Callable[[Any], Any],
    words: str,
) -> None:
    def broken(*arguments: Any, **options: Any) -> Any:
        y = conv1x1.conv1x1(*arguments, **options)
        return y if "groups" in options else break_(y)

    monkeypatch.setattr(selftest, "conv1x1", broken)
    result = run("selftest")
    assert result.code == 1
    row, complaint = result.out.splitlines()[-7:-5]
    assert row.split()[::4] == ["conversions", "FAILED"]
    assert words in complaint
    assert result.out.endswith("\n1 of 3 kernels and conversions FAILED\n")


# demo


def test_fold_makes_a_block_one_pixel() -> None:
    image = np.arange(16 * 24 * 3).reshape(16, 24, 3)
    pixels = demo.fold(image)
    assert pixels.shape == (2, 3, 192)
    np.testing.assert_array_equal(pixels[1, 2], image[8:, 16:].ravel())


def test_unfold_is_the_inverse_of_fold() -> None:
    image = np.random.default_rng(1).random((224, 224, 3))
    assert demo.fold(image).shape == (28, 28, 192)
    np.testing.assert_array_equal(demo.unfold(demo.fold(image)), image)


def test_psnr() -> None:
    image = np.zeros((4, 4, 3), np.float32)
    assert demo.psnr(image, image + np.float32(0.125)) == pytest.approx(20 * math.log10(8))
    assert demo.psnr(image, image) == math.inf


def test_all_the_principal_filters_lose_nothing() -> None:
    pixels = np.random.default_rng(2).random((6, 7, 5)).astype(np.float32)
    codec = demo.principal_filters(pixels, 5)
    restored = conv1x1.conv1x1(conv1x1.conv1x1(pixels, *codec.shrink), *codec.restore)
    np.testing.assert_allclose(restored, pixels, atol=1e-5)
    assert codec.shares.sum() == pytest.approx(1)
    assert (np.diff(codec.shares) <= 0).all()


def test_race_takes_turns() -> None:
    calls: list[str] = []
    timing = demo.race(lambda: calls.append("ours"), lambda: calls.append("numpy"), seconds=0)
    assert calls[:2] == ["ours", "numpy"]
    assert calls.count("ours") == calls.count("numpy") == len(calls) / 2
    assert min(timing) > 0


def test_demo_does_not_time_wrong_results(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(demo, "Conv1x1", lambda weight, bias: lambda x, out: out.fill(7))
    with pytest.raises(ArithmeticError, match="disagree on 2×2×3 · 1×3"):
        demo.compare(np.ones((2, 2, 3), np.float32), np.ones((1, 3), np.float32), None)


def test_demo_tells_and_draws(run: Run, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    pytest.importorskip("matplotlib")
    monkeypatch.chdir(tmp_path)
    result = run("demo")
    assert result.code == 0, result.err
    for words in (
        "28×28×192",
        "28×28×16",
        "150,528 → 12,544 numbers, 12× fewer",
        "dB PSNR",
        "224×224×3 → 224×224×1, grey",
        "\n  restore  ",
    ):
        assert words in result.out
    assert result.out.endswith("\nDrawn into conv1x1-demo.png\n")
    assert (tmp_path / "conv1x1-demo.png").read_bytes().startswith(b"\x89PNG")


def test_demo_takes_any_photo(run: Run, tmp_path: Path) -> None:
    pytest.importorskip("matplotlib")
    from PIL import Image

    photo, output = tmp_path / "plain.gif", tmp_path / "out.png"
    Image.new("L", (30, 20), 128).save(photo)
    result = run("demo", photo, "--output", output)
    assert result.code == 0, result.err
    assert result.out.startswith("plain.gif: 30×20, smaller than 224 and so enlarged;")
    assert output.exists()


def test_demo_says_what_is_wrong_with_a_file(run: Run, tmp_path: Path) -> None:
    pytest.importorskip("matplotlib")
    missing, text, nowhere = tmp_path / "missing.jpg", tmp_path / "text.jpg", tmp_path / "missing" / "out.png"
    text.write_text("not an image")
    assert_one_line_error(run("demo", missing), 1, str(missing))
    assert_one_line_error(run("demo", text), 1, str(text))
    assert_one_line_error(run("demo", tmp_path), 1, str(tmp_path))
    assert_one_line_error(run("demo", "--output", nowhere), 1, str(nowhere))


def test_demo_without_matplotlib_names_the_extra(run: Run, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "matplotlib", None)
    assert_one_line_error(run("demo"), 1, 'pip install "conv1x1[demo]"')
