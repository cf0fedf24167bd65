"""The command `conv1x1`: what each subcommand says, writes and exits with."""

from __future__ import annotations

import errno
import io
import math
import os
import shlex
import subprocess
import sys
import tracemalloc
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest

import conv1x1
from conv1x1.command import demo, selftest
from conv1x1.command import main as cli
from conv1x1.command.bench import measure, table

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
    commands = ("demo", "info", "explain", "import", "apply", "selftest", "bench")
    assert all(command in result.out for command in (*commands, "example:"))


@pytest.mark.parametrize("command", ["demo", "info", "explain", "import", "apply", "selftest", "bench"])
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
        ["explain", "--at", "-99,-1"],
        ["explain", "--at", "-"],
        ["explain", "--at", "٣,٥"],
        ["explain", "--at", f"{10**30},0"],
        ["explain", "--at", "9" * 5000],
        ["explain", "--stride", "-1,-1"],
        ["explain", "--stride", "1,1,1"],
        ["explain", "--groups", str(10**12)],
        ["explain", "--groups", str(2**64)],
        ["explain", "--filter", str(-(2**63))],
        ["explain", "--channel-axis", str(10**15)],
        ["explain", "--activation", "clip:nan,1"],
        ["demo", "--output", "-1,-1"],
    ],
)
def test_misuse_is_one_line_and_2(run: Run, arguments: list[str]) -> None:
    assert_one_line_error(run(*arguments), 2)


@pytest.mark.parametrize(
    ("command", "where", "name"),
    [
        ("info", cli, "show_config"),
        ("explain", cli, "explain"),
        ("selftest", selftest, "run"),
        ("demo", demo, "run"),
        ("bench", measure, "measure"),
        ("info", cli, "_parser"),
    ],
)
def test_control_c_is_130_and_a_bug_a_traceback(
    run: Run, monkeypatch: pytest.MonkeyPatch, command: str, where: Any, name: str
) -> None:
    def ends(*_: Any, **__: Any) -> None:
        raise error

    if command == "demo":
        pytest.importorskip("matplotlib")
    monkeypatch.setattr(table, "heading", lambda *_: ["quick"])
    monkeypatch.setattr(where, name, ends)
    error: BaseException = KeyboardInterrupt()
    result = run(command)
    assert (result.code, result.err) == (130, "")
    error = MemoryError("Unable to allocate 7 TiB")
    assert_one_line_error(run(command), 1, "there is not enough memory: Unable to allocate 7 TiB")
    error = PermissionError(13, "Permission denied", "a.json")
    assert_one_line_error(run(command), 1, "error: a.json: Permission denied")
    error = RuntimeError("a bug")
    with pytest.raises(RuntimeError, match="a bug"):
        run(command)


def test_control_c_while_the_package_is_imported(tmp_path: Path) -> None:
    """130 for the command, started either way; an exception for all others."""
    (tmp_path / "numpy.py").write_text("raise KeyboardInterrupt")
    (tmp_path / "conv1x1").write_text("import sys, conv1x1.command.main\nsys.exit(conv1x1.command.main.main())")
    environment = os.environ | {"PYTHONPATH": str(tmp_path)}

    def start(*arguments: object) -> subprocess.CompletedProcess[str]:
        return subprocess.run([sys.executable, *arguments], capture_output=True, text=True, env=environment)  # type: ignore[list-item]

    for arguments in (("-m", "conv1x1", "info"), (tmp_path / "conv1x1", "info")):
        result = start(*arguments)
        assert (result.returncode, result.stderr) == (130, "")
    assert start("-c", "import conv1x1").stderr.endswith("\nKeyboardInterrupt\n")


@pytest.mark.parametrize("setting", ["CONV1X1_MAX_ISA=avx1024", "CONV1X1_NUM_THREADS=many"])
def test_a_bad_environment(tmp_path: Path, setting: str) -> None:
    """One line and 2 for the command, started either way; an ImportError for all others."""
    (tmp_path / "conv1x1").write_text("import sys, conv1x1.command.main\nsys.exit(conv1x1.command.main.main())")
    name, value = setting.split("=")
    environment = os.environ | {name: value}
    for arguments in (("-m", "conv1x1", "info"), ("-mconv1x1",), (str(tmp_path / "conv1x1"), "--version")):
        result = subprocess.run([sys.executable, *arguments], capture_output=True, text=True, env=environment)
        assert (result.returncode, result.stdout) == (2, "")
        assert result.stderr.startswith(f"conv1x1: error: {name}")
        assert result.stderr.count("\n") == 1
    result = subprocess.run([sys.executable, "-c", "import conv1x1"], capture_output=True, text=True, env=environment)
    assert f"ImportError: {name}" in result.stderr


def test_stdout_stays_as_it_was(monkeypatch: pytest.MonkeyPatch) -> None:
    """And where it does not know "→", a "?" is printed."""
    for encoding, errors in (("ascii", "strict"), ("utf-8", "strict"), ("latin-1", "backslashreplace")):
        raw = io.BytesIO()
        stream = io.TextIOWrapper(raw, encoding=encoding, errors=errors)
        monkeypatch.setattr(sys, "stdout", stream)
        for arguments, code in ((["explain"], 0), (["--version"], 0), (["explain", "--filter", "7"], 2)):
            assert cli.main(arguments) == code
            assert sys.stdout is stream
            assert (stream.encoding, stream.errors) == (encoding, errors)
        assert ("→" if encoding == "utf-8" else "?") in raw.getvalue().decode(encoding)


@pytest.mark.parametrize("closed", [True, False])
def test_without_a_stdout_the_work_is_done(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path, two_kernels: list[str | None], closed: bool
) -> None:
    stream = None
    if closed:
        stream = io.StringIO()
        stream.close()
    layers = tmp_path / "layers.csv"
    layers.write_text("in_channels,out_channels,height,width\n4,4,1,1\n")
    numbers, drawing = tmp_path / "numbers.json", tmp_path / "drawing.svg"
    bench = ["bench", "--rounds", 1, "--layers", layers, "--json", numbers]
    monkeypatch.setattr(table, "heading", lambda *_: ["quick"])
    for command in ([], ["--help"], ["info"], ["explain", "--svg", drawing], ["selftest"], bench):
        monkeypatch.setattr(sys, "stdout", stream)
        assert cli.main([str(argument) for argument in command]) == 0
        assert sys.stdout is stream
    assert numbers.exists()
    assert drawing.exists()
    monkeypatch.setattr(sys, "stderr", stream)
    assert cli.main(["explain", "--filter", "7"]) == 2


def test_streams_that_are_closed_or_full() -> None:
    """As processes, whose interpreter has a last word at exit."""
    command = f"{shlex.quote(sys.executable)} -m conv1x1"
    script = "\n".join(
        f"{command} {rest}; echo $?"
        for rest in (
            "explain >&-",
            "info >/dev/full",
            "--version >/dev/full",
            "explain --help >/dev/full",
            "--at 2>&- >&-",
            "frobnicate 2>/dev/full",
            "info >/dev/full 2>&1",
        )
    )
    result = subprocess.run(["bash", "-c", script], capture_output=True, text=True)
    assert result.stdout.split() == ["0", "1", "1", "1", "2", "2", "1"]
    assert result.stderr == 3 * "conv1x1: error: No space left on device\n"


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


@pytest.mark.parametrize("at", [["--at", "-1,-1"], ["--at=-1,-1"], ["--at", "27,-1"]])
def test_explain_counts_from_the_end(run: Run, at: list[str]) -> None:
    result = run("explain", *at)
    assert result.code == 0, result.err
    assert result.out.startswith("y[27, 27, 0] = ")


def test_explain_reads_no_more_than_the_pixel(run: Run, tmp_path: Path) -> None:
    x, w = np.zeros((500, 500, 20), np.float32), np.ones((1, 20), np.float32)
    for name, array in (("x", x), ("w", w)):
        np.save(tmp_path / f"{name}.npy", array)
    tracemalloc.start()
    try:
        assert run("explain", "--x", tmp_path / "x.npy", "--w", tmp_path / "w.npy").code == 0
        assert tracemalloc.get_traced_memory()[1] < x.nbytes / 4
    finally:
        tracemalloc.stop()


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


@pytest.mark.parametrize(
    "content", ["missing", "empty", "text", "pickle", "archive", "directory", "cut", "huge", "deep", "no permission"]
)
def test_explain_says_which_file_is_unreadable(
    run: Run, tmp_path: Path, content: str, monkeypatch: pytest.MonkeyPatch
) -> None:
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
    elif content == "directory":
        bad.mkdir()
    elif content != "missing":
        np.save(bad, np.ones((5, 3)))
        data = bad.read_bytes()
        if content == "cut":
            data = data[:-1]
        elif content == "huge":
            data = data.replace(b"(5, 3), }" + b" " * 20, b"(" + b"9" * 18 + b", 999), }")
        elif content == "deep":
            data = data[:10] + b"(" * 110 + data[120:]
        bad.write_bytes(data)
        if content == "no permission":
            bad.chmod(0)
            if os.access(bad, os.R_OK):  # root reads everything, but for what open refuses

                def refusing(file: Any, *options: Any, **more: Any) -> Any:
                    if file == str(bad):
                        raise PermissionError(errno.EACCES, os.strerror(errno.EACCES), file)
                    return opened(file, *options, **more)

                opened = open
                monkeypatch.setattr("builtins.open", refusing)
    assert_one_line_error(run("explain", "--x", bad, "--w", w), 1, str(bad))


def test_explain_of_damaged_headers(run: Run, tmp_path: Path) -> None:
    """With every byte of it changed: whatever NumPy makes of one, there is a line about it, or an explanation."""
    files = [tmp_path / "x.npy", tmp_path / "w.npy"]
    for path, array in zip(files, (np.ones((4, 6), np.float32), np.ones((3, 6))), strict=True):
        np.save(path, array)
    sound = files[0].read_bytes()
    for place in range(128):
        for byte in {sound[place] ^ 1, sound[place] ^ 128, ord("("), ord("'"), ord("\\"), 0}:
            files[0].write_bytes(sound[:place] + bytes([byte]) + sound[place + 1 :])
            result = run("explain", "--x", files[0], "--w", files[1])
            assert result.err.count("\n") == (result.code != 0), (place, byte, result.err)
            assert result.code in (0, 1, 2)


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


def test_selftest_finds_a_kernel_that_requantises_wrongly(
    run: Run, monkeypatch: pytest.MonkeyPatch, two_kernels: list[str | None]
) -> None:
    def broken(*arguments: Any, **options: Any) -> Any:
        y = conv1x1.qlinear_conv1x1(*arguments, **options)
        y.flat[-1] += two_kernels == ["second"]
        return y

    for kernel in selftest._conv1x1.kernels():
        kernel["dtype"] = "int32"
    monkeypatch.setattr(selftest, "qlinear_conv1x1", broken)
    result = run("selftest")
    assert result.code == 1
    first, second, complaint = result.out.splitlines()[-6:-3]
    assert first.split()[::4] == ["first", "ok"]
    assert second.split()[::4] == ["second", "FAILED"]
    assert "integers are not exact, in Case(" in complaint
    assert "quantised=True" in complaint


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
    from PIL import Image

    missing, text, nowhere = tmp_path / "missing.jpg", tmp_path / "text.jpg", tmp_path / "missing" / "out.png"
    text.write_text("not an image")
    cut = tmp_path / "cut.png"
    Image.effect_noise((400, 300), 50).save(cut)
    cut.write_bytes(cut.read_bytes()[:5000])
    assert_one_line_error(run("demo", cut), 1, str(cut))
    assert_one_line_error(run("demo", missing), 1, str(missing))
    assert_one_line_error(run("demo", text), 1, str(text))
    assert_one_line_error(run("demo", tmp_path), 1, str(tmp_path))
    assert_one_line_error(run("demo", ""), 1)
    assert_one_line_error(run("demo", "--output", nowhere), 1, str(nowhere))


def test_demo_without_matplotlib_names_the_extra(run: Run, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "matplotlib", None)
    assert_one_line_error(run("demo"), 1, 'pip install ".[demo]"')
