"""`conv1x1 bench`: what it measures, says, writes and exits with. Nothing here depends on how fast anything is."""

from __future__ import annotations

import json
import math
import os
import shlex
import shutil
import subprocess
import sys
import zipfile
from collections.abc import Callable
from contextlib import ExitStack
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest

import conv1x1
from conv1x1 import _conv1x1
from conv1x1.command import main as cli
from conv1x1.command.bench import cases, measure, peers, progress, regression, results, table, timing
from conv1x1.command.bench.timing import Layer
from conv1x1.runtime import restricted

Run = Callable[..., SimpleNamespace]

TINY = "in_channels,out_channels,height,width,stride,groups\n16,8,5,4,1,1\n12,6,7,7,2,3\n9,5,1,1,,\n"
QUICK = ("--rounds", 1)


@pytest.fixture
def run(capsys: pytest.CaptureFixture[str]) -> Run:
    """Run the command; the result has code, out and err."""

    def call(*arguments: object) -> SimpleNamespace:
        capsys.readouterr()
        code = cli.main(["bench", *(str(a) for a in arguments)])
        return SimpleNamespace(code=code, **capsys.readouterr()._asdict())

    return call


@pytest.fixture
def layers(tmp_path: Path) -> Path:
    """A file of three tiny layers: a plain one, one with stride and groups, one of a single pixel."""
    path = tmp_path / "layers.csv"
    path.write_text(TINY)
    return path


@pytest.fixture
def known_roofs(monkeypatch: pytest.MonkeyPatch) -> None:
    """Roofs that take no time to measure."""
    for module in (measure, table):
        monkeypatch.setattr(module, "roofs", lambda size, threads, dtype="": (100.0, 2e3 / (1 + math.log2(size))))


def assert_error(result: SimpleNamespace, code: int, *words: str) -> None:
    assert result.code == code, result.out
    assert result.err.startswith("conv1x1: error: ")
    for word in words:
        assert word in result.err


# Layers


def test_layers_of_a_file(tmp_path: Path) -> None:
    path = tmp_path / "layers.csv"
    path.write_text("networks, width,height,in_channels,out_channels,groups\na;b,4,5,16,8,\nc,1,1,6,4,2\n")
    assert cases.read_layers(str(path)) == [Layer("", 16, 8, 5, 4), Layer("", 6, 4, 1, 1, 1, 2)]
    path.write_text("name,in_channels,out_channels,height,width,dtype\nmine,16,8,5,4,f8\n,6,4,1,1,\n")
    assert cases.read_layers(str(path)) == [Layer("mine", 16, 8, 5, 4, dtype="float64"), Layer("", 6, 4, 1, 1)]


@pytest.mark.parametrize(
    ("text", "words"),
    [
        ("", "line 1 names no column in_channels, out_channels, height, width"),
        ("in_channels,height,width\n1,2,3\n", "no column out_channels; needed are in_channels, out_channels, height"),
        ("in_channels,out_channels,height,width,dtype\n1,2,3,4,float65\n", "line 2: dtype is 'float65'"),
        ("in_channels,out_channels,height,width,dtype\n1,2,3,4,U3\n", "line 2: dtype is 'U3': x has dtype"),
        ('in_channels,out_channels,height,width,dtype\n1,2,3,4,"1,,"\n', "line 2: dtype is '1,,'"),
        ("in_channels,out_channels,height,width\n", "no layers"),
        ("in_channels,out_channels,height,width\n1,2,3,4\n1,2,3,x\n", "line 3: width is 'x'"),
        ("in_channels,out_channels,height,width,dtype\n1,2,3,4,complex64\n", "line 2: dtype is 'complex64'"),
        ('in_channels,out_channels,height,width,dtype\n1,2,3,4,"(1,)f4"\n', "line 2: dtype is '(1,)f4'"),
        ("in_channels,out_channels,height,width\n1,2.0,3,4\n", "line 2: out_channels is '2.0'"),
        ("in_channels,out_channels,height,width\n1,\xb2,3,4\n".encode().decode("latin-1"), "out_channels is '²'"),
        (f"in_channels,out_channels,height,width\n1,{'9' * 5000},3,4\n", "line 2: out_channels is '999"),
        (
            "in_channels,out_channels,height,width\n99999,1,99999,99999\n",
            "line 2: it would take 15,999,680 GB",
        ),
        ("in_channels,out_channels,height,width\n1,2,3," + "4" * 2**18, "layers.csv: not a CSV file: field larger"),
        ("in_channels,out_channels,height,width\n1,0,3,4\n", "line 2: out_channels is '0'"),
        ("in_channels,out_channels,height,width\n1,2,-3,4\n", "line 2: height is '-3'"),
        ("in_channels,out_channels,height,width\n1,2\n", "line 2: height is ''"),
        ("in_channels,out_channels,height,width,groups\n6,8,3,3,4\n", "line 2: 4 groups do not divide 6 and 8"),
        ("in_channels,out_channels,height,width\n\0\xff", "layers.csv"),
    ],
)
def test_a_wrong_file_of_layers(run: Run, tmp_path: Path, text: str, words: str) -> None:
    path = tmp_path / "layers.csv"
    path.write_bytes(text.encode("latin-1"))
    assert_error(run("--layers", path), 2, "layers.csv", words)


def test_a_missing_file_of_layers(run: Run, tmp_path: Path) -> None:
    assert_error(run("--layers", tmp_path / "none.csv"), 1, "none.csv")


def test_one_pixel_has_one_layout() -> None:
    one, more = Layer("", 3, 3, 1, 1), Layer("", 3, 3, 1, 2)
    assert cases.cases([one, more], "both") == [(one, "last"), (more, "last"), (more, "first")]
    assert cases.cases([one, more], "first") == [(one, "first"), (more, "first")]


def test_work_of_a_layer() -> None:
    layer = Layer("ShuffleNet", 12, 6, 7, 5, stride=2, groups=3)
    assert layer.pixels == 4 * 3
    assert layer.flop == 2 * 12 * (12 // 3) * 6
    assert layer.bytes == 4 * (12 * 12 + 12 * 6 + 4 * 6)
    assert str(layer) == "ShuffleNet 7×5 12→6 /2 g3"
    double = layer._replace(dtype="float64")
    assert (double.flop, double.bytes) == (layer.flop, 2 * layer.bytes)
    assert str(double) == "ShuffleNet 7×5 12→6 /2 g3 float64"
    bytes = layer._replace(dtype="uint8")  # with weights and a result of float32
    assert bytes.bytes == layer.bytes - 3 * 12 * 12
    for wide in ("int32", "int64"):  # in float64, as NumPy promotes them
        whole = layer._replace(dtype=wide)
        assert (whole.weights, whole.result) == (np.float64, np.float64)
    assert layer._replace(dtype="float16").bytes == layer.bytes - 2 * 12 * (12 + 6)


def test_cpus_are_those_that_may_be_used(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(_conv1x1, "peak_gflops", lambda _: 10.0)
    for allowed, quota, cpus in ((64, 0, 64), (64, 5, 5), (3, 5, 3), (1, 0, 1)):
        monkeypatch.setattr(os, "sched_getaffinity", lambda _, n=allowed: set(range(n)))
        monkeypatch.setattr(_conv1x1, "cgroup_cpus", lambda _, n=quota: n)
        assert results.environment(1)["cpus"] == cpus
        assert measure.roofs(1000, 10**6)[0] == 10 * cpus


@pytest.mark.parametrize("layout", ["last", "first"])
@pytest.mark.parametrize(
    "layer",
    [
        *cases.LAYERS[:1],
        Layer("", 12, 6, 7, 5, stride=2, groups=3),
        Layer("", 12, 6, 7, 5, stride=2, groups=3, dtype="float64"),
    ],
    ids=str,
)
def test_expected_is_the_reference(layer: Layer, layout: str) -> None:
    x, w = timing.arrays(layer, layout)
    axis = -1 if layout == "last" else 0
    options = {"channel_axis": axis, "stride": layer.stride, "groups": layer.groups}
    truth = timing.expected(layer, layout, x, w)
    np.testing.assert_allclose(truth, conv1x1.reference(x, w, **options), rtol=1e-5, atol=1e-5)
    timing.check("a right one", layer, conv1x1.conv1x1(x, w, **options), truth)
    with pytest.raises(ArithmeticError, match="a wrong one computes"):
        timing.check("a wrong one", layer, truth + 1e-3, truth)


@pytest.mark.parametrize("dtype", ["uint8", "int8", "uint16", "float16"])
def test_arrays_of_types_to_come(dtype: str) -> None:
    layer = Layer("", 12, 6, 7, 5, dtype=dtype)
    x, w = timing.arrays(layer, "last")
    assert (x.dtype, w.dtype, layer.result) == (dtype, "float32", "float16" if dtype == "float16" else "float32")
    assert np.ptp(x.astype(float)) > (3 if dtype == "float16" else 0.9 * np.iinfo(dtype).max)
    truth = timing.expected(layer, "last", x, w)
    timing.check("a right one", layer, (x.astype(np.float32) @ w.T).astype(layer.result), truth)
    with pytest.raises(ArithmeticError):
        timing.check("a wrong one", layer, np.roll(truth, 1), truth)
    (numpy,) = peers.NumPy(1).candidates(layer, "last", x, w)
    y = numpy.result(numpy.call())
    assert y.dtype == layer.result
    timing.check("NumPy", layer, y.reshape(truth.shape), truth)


# Measuring


def test_race_takes_turns() -> None:
    calls: list[str] = []
    table = measure.race([lambda: calls.append("a"), lambda: calls.append("b")], seconds=0, rounds=4)
    assert table.shape == (4, 2)
    assert (table > 0).all()
    order = [name for before, name in zip(["", *calls], calls, strict=False) if name != before]
    assert order[-8:] == ["a", "b"] * 4


@pytest.mark.parametrize(("takes", "times"), [(1e-8, 100_000), (1e-6, 1000), (3e-4, 3), (1.0, 1)])
def test_a_slot_is_long_enough_for_the_clock(monkeypatch: pytest.MonkeyPatch, takes: float, times: int) -> None:
    now = [0.0]
    monkeypatch.setattr(timing, "perf_counter", lambda: now[0])

    def call() -> None:
        now[0] += takes

    assert timing.repetitions(call) == times


def test_row() -> None:
    layer = Layer("", 64, 32, 10, 10)  # 409,600 FLOPs, 46,592 bytes
    row = results.Row(layer, "last", 1e-5, 100.0, 5.0, "some_f32_4x4", 9, {})
    assert row.gflops == pytest.approx(40.96)
    assert row.gbs == pytest.approx(4.6592)
    assert row.intensity == pytest.approx(409_600 / 46_592)
    assert row.roof == pytest.approx(5 * 409_600 / 46_592)  # the memory's
    assert row._replace(reads=50.0).roof == 100  # the arithmetic's
    assert row.best is None


@pytest.mark.parametrize("dtype", ["float32", "float64", "int8"])
def test_no_roof_is_higher_than_a_processor_can_be(isa: str, dtype: str) -> None:
    """At 6.5 GHz, with a multiplication and an addition in each lane of as many vectors as there are ports for them."""
    vector_bytes = {"avx2": 32, "avx512": 64, "avx512vnni": 64}.get(isa, 16)
    ports = 4 if "neon" in isa else 2
    channels = 1 if dtype != "int8" else 4 if isa in ("avx512vnni", "neondot") else 2
    lanes = vector_bytes / (8 if dtype == "float64" else 4)
    assert 0.01 < _conv1x1.peak_gflops(dtype) < 6.5 * lanes * ports * 2 * channels


def test_roofs_are_measured() -> None:
    peak, reads = measure.roofs(1000, 1)
    assert 0.1 < peak < 10_000
    assert 0.1 < reads < 100_000
    assert measure.roofs(1000, 10**6, "float64")[0] < 10_000 * results.usable_cpus()  # of threads, those that can run


def test_nothing_wrong_is_timed() -> None:
    class Wrong:
        version = "1"

        def candidates(self, layer: Layer, layout: str, x: Any, w: Any) -> Any:
            yield peers.Candidate("zeros", lambda: np.zeros((layer.pixels, layer.out_channels)))

    with pytest.raises(ArithmeticError, match="wrong computes 5×4 16→8 wrongly"):
        measure.measure(Layer("", 16, 8, 5, 4), "last", {"wrong": Wrong()}, 1, 0, rounds=1)


# The summary of made-up measurements


def rival(ratio: float, low: float, high: float) -> results.Rival:
    return results.Rival("made up", ratio, ratio, low, high)


@pytest.fixture
def rows() -> list[results.Row]:
    """A win, a loss and a layer that "b" does not have, where both are level."""
    rivals = [
        {"a": rival(4.0, 3.0, 5.0), "b": rival(2.0, 1.5, 2.5)},
        {"a": rival(1.0, 0.9, 1.1), "b": rival(0.5, 0.4, 0.6)},
        {"a": rival(0.99, 0.9, 1.1)},
    ]
    layer = Layer("", 64, 32, 10, 10)
    return [results.Row(layer, "last", 1.0, 100.0, 5.0, "some_f32_4x4", 9, r) for r in rivals]


def test_summary(rows: list[results.Row]) -> None:
    assert results.geometric_mean([1, 4, 16]) == pytest.approx(4)
    assert results.summary(rows, "a") == {
        "layers": 3,
        "geometric_mean": pytest.approx((4 * 0.99) ** (1 / 3)),
        "worst": 0.99,
        "ahead": 0,
        "level": 2,
    }
    b = results.summary(rows, "b")
    assert b == {"layers": 2, "geometric_mean": pytest.approx(1), "worst": 0.5, "ahead": 1, "level": 0}
    best = results.summary(rows)
    assert best is not None
    assert best["geometric_mean"] == pytest.approx(0.99 ** (1 / 3))
    assert results.summary(rows[2:], "b") is None
    assert [row.winner for row in rows] == ["conv1x1", "b", "level with a"]
    assert rows[0]._replace(rivals={}).winner is None
    assert [rival(1, *ends).level for ends in ((1.02, 1.2), (1.04, 1.2), (0.9, 0.98), (0.9, 0.96), (0, math.inf))] == [
        *(True, False, True, False, True),
    ]
    several = {"noisy": rival(0.8, 0.5, 1.2), "fast": rival(0.9, 0.89, 0.91), "faster": rival(0.85, 0.84, 0.86)}
    assert rows[0]._replace(rivals=several).winner == "faster"
    assert rows[0]._replace(rivals={"slow": rival(1.1, 1.09, 1.2), "noisy": rival(1.2, 0.5, 1.5)}).winner == (
        "level with noisy"
    )


def test_losses_are_shown_as_plainly_as_wins(rows: list[results.Row], capsys: pytest.CaptureFixture[str]) -> None:
    assert table.text_table(rows, ["10×10 64→32"], ["a", "b"]) == rows
    lines, text = capsys.readouterr().out.split("\n\n")
    heading, *lines = (line.split("  ") for line in lines.splitlines())
    ends = [[cell.strip() for cell in line if cell][-4:] for line in (heading, *lines)]
    assert ends == [
        ["a", "b", "best ÷ conv1x1", "winner"],
        ["4.00", "2.00", "2.00 (1.50–2.50)", "conv1x1"],
        ["1.00", "▼0.50", "▼0.50 (0.40–0.60)", "b"],
        ["▼0.99", "–", "▼0.99 (0.90–1.10)", "level with a"],
    ]
    assert "b          geometric mean 1.00, worst 0.50; ahead in 1 and level in 0 of 2\n" in text
    assert "winners: conv1x1 1, b 1, level with a 1\n" in text
    assert text.endswith(
        "▼ 10×10 64→32, channels last: b (made up) takes 0.50 of our time\n"
        "▼ 10×10 64→32, channels last: a (made up) takes 0.99 of our time, level\n"
    )


SUMMARY = "| peer | geometric mean | worst | ahead of conv1x1 | level with it | layers |"


def test_markdown(rows: list[results.Row]) -> None:
    blocks = table.markdown(rows, ["a machine"], ["a", "b", "c"], "the command").split("\n\n")
    assert blocks[:2] == ["`the command` printed this:", "- a machine"]
    assert blocks[3].splitlines() == [
        SUMMARY,
        "| --- | ---: | ---: | ---: | ---: | ---: |",
        "| `a` | 1.58 | 0.99 | 0 | 2 | 3 |",
        "| `b` | 1.00 | 0.50 | 1 | 0 | 2 |",
    ]
    assert blocks[4:6] == [
        "Ahead of conv1x1: b in 10×10 64→32, channels last (▼0.50).",
        "Level with it: a in 10×10 64→32, channels last (1.00); a in 10×10 64→32, channels last (▼0.99).",
    ]
    heading, _, *lines = blocks[7].splitlines()
    assert heading == "| layer | channels | µs | GFLOP/s | of roof | a | b | winner |"
    assert [line.split(" | ", 5)[5] for line in lines] == [
        "4.00 | 2.00 | conv1x1 |",
        "1.00 | **▼0.50** | **b** |",
        "**▼0.99** | – | **level with a** |",
    ]


def test_the_readme_holds_what_is_printed() -> None:
    """A block of the form that `--markdown` has now, with its command; see CONTRIBUTING.md for a new one."""
    readme = (Path(__file__).parents[1] / "README.md").read_text(encoding="utf-8")
    blocks = readme.split("<!-- speed -->\n")[1].split("<!-- end of speed -->")[0].split("\n\n")
    command = shlex.split(blocks[0].split("`")[1])
    arguments = cli._parser().parse_args(command[1:])
    assert (command[0], arguments.markdown, arguments.plot) == ("conv1x1", True, "docs/roofline.svg")
    assert (Path(__file__).parents[1] / arguments.plot).exists()
    assert blocks[3].startswith(SUMMARY)
    names = arguments.against.replace(",", " | ")
    assert blocks[7].startswith(f"| layer | channels | µs | GFLOP/s | of roof | {names} | winner |")


def test_a_narrow_terminal_gets_fewer_columns(
    capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    def heading(columns: int) -> str:
        monkeypatch.setenv("COLUMNS", str(columns))
        table.Table(["layer", "one", "two", "three"], [20, 5, 5, 5], spare=["two", "one"]).line(["a", "1", "2", "3"])
        lines = capsys.readouterr().out.splitlines()
        assert len({len(line) for line in lines}) == 1
        return " ".join(lines[0].split())

    assert heading(30) == "layer one two three"  # not a terminal
    monkeypatch.setattr(sys.stdout, "isatty", lambda: True, raising=False)
    assert [heading(columns) for columns in (41, 40, 34, 33, 20)] == [
        "layer one two three",
        "layer one three",
        "layer one three",
        "layer three",
        "layer three",
    ]


# The command


def test_table(run: Run, layers: Path) -> None:
    result = run("--layers", layers, *QUICK)
    assert result.code == 0, result.err
    assert result.err == ""  # no bar where nobody looks
    blocks = result.out.split("\n\n")
    assert blocks[0].startswith(f"conv1x1 {conv1x1.__version__}, numpy {np.__version__}\n")
    assert "1 thread, " in blocks[0]
    heading, *lines = blocks[1].splitlines()
    assert heading.split("  ")[0] == "layer"
    assert heading.endswith("numpy ÷ conv1x1")
    assert [line[:22].split() for line in lines] == [
        ["5×4", "16→8", "last"],
        ["5×4", "16→8", "first"],
        ["7×7", "12→6", "/2", "g3", "last"],
        ["7×7", "12→6", "/2", "g3", "first"],
        ["1×1", "9→5", "last"],
    ]
    assert len({len(line) for line in (heading, *lines)}) == 1
    assert "numpy  geometric mean " in blocks[2]


@pytest.mark.usefixtures("known_roofs")
def test_layout_threads_and_instruction_set(run: Run, layers: Path, tmp_path: Path) -> None:
    written = tmp_path / "speed.json"
    result = run(
        "--layers", layers, *QUICK, "--layout", "first", "--threads", 2, "--isa", "portable", "--json", written
    )
    assert result.code == 0, result.err
    document = json.loads(written.read_text())
    assert (document["isa"], document["threads"]) == ("portable", 2)
    assert {row["layout"] for row in document["rows"]} == {"first"}
    assert all(row["kernel"].startswith("portable_") for row in document["rows"])


def test_json(run: Run, layers: Path, tmp_path: Path) -> None:
    written = tmp_path / "speed.json"
    assert run("--layers", layers, "--rounds", 3, "--json", written).code == 0
    document = json.loads(written.read_text())
    about = {"date", "cpu", "cpus", "isa", "threads", "numpy_threads", "platform", "versions"}
    assert set(document) == {*about, "rows", "summary"}
    assert set(document["versions"]) == {"conv1x1", "numpy", "python"}
    assert len(document["rows"]) == 5
    for row in document["rows"]:
        for name in ("seconds", "gflops", "gbs", "peak_gflops", "read_gbs", "intensity", "roof_gflops", "of_roof"):
            assert 0 < row[name] < math.inf
        assert set(Layer._fields) < set(row)
        assert row["rounds"] == 3
        numpy = row["peers"]["numpy"]
        assert numpy["ratio"] > 0
        assert (numpy["low"], numpy["high"]) == (0, None)  # three rounds have no interval
        assert row["winner"] in ("conv1x1", "numpy", "level with numpy")
    assert document["summary"]["numpy"]["layers"] == 5


def test_benchmarks_of_pytest_have_the_same_fields(run: Run, layers: Path, tmp_path: Path) -> None:
    written, here = tmp_path / "speed.json", tmp_path / "here.json"
    options = "--benchmark-enable", "--benchmark-max-time=0.01", "--benchmark-min-rounds=1", "-p", "no:cacheprovider"
    command = sys.executable, "-m", "pytest", "-q", "-k", "Squeeze", *options, f"--benchmark-json={written}"
    environment = {k: v for k, v in os.environ.items() if not k.startswith("PYTEST_")}  # none of xdist's workers
    benchmarks = Path(__file__).parent / "benchmarks"
    subprocess.run([*command, benchmarks], check=True, capture_output=True, env=environment)
    assert run("--layers", layers, *QUICK, "--json", here).code == 0
    document, ours = json.loads(written.read_text()), json.loads(here.read_text())
    (benchmark,) = document["benchmarks"]
    assert set(benchmark["extra_info"]) == set(ours) - {"rows", "summary"} | set(ours["rows"][0])
    assert set(benchmark["extra_info"]["peers"]["numpy"]) == set(results.Rival._fields)
    assert document["machine_info"]["isa"] == ours["isa"]


@pytest.mark.usefixtures("known_roofs")
@pytest.mark.parametrize("suffix", ["png", "svg"])
def test_plot(run: Run, layers: Path, tmp_path: Path, suffix: str) -> None:
    pytest.importorskip("matplotlib")
    written = tmp_path / f"roofline.{suffix}"
    assert run("--layers", layers, *QUICK, "--plot", written).code == 0
    assert {"png": b"\x89PNG", "svg": b"<svg"}[suffix] in written.read_bytes()[:500]


def test_plot_of_many_layers(tmp_path: Path, rows: list[results.Row]) -> None:
    pytest.importorskip("matplotlib")
    from conv1x1.command.bench import roofline

    many = [row._replace(seconds=1e-5 * (1 + i / 100)) for i, row in enumerate(rows * 20)]
    roofline.draw(str(tmp_path / "many.svg"), many, [("16 KiB", 200.0), ("128 MiB", 20.0)], "a machine")
    assert (tmp_path / "many.svg").stat().st_size > 10_000


def test_plot_without_matplotlib_names_the_extra(run: Run, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "matplotlib.figure", None)
    assert_error(run("--plot", "roofline.png"), 1, 'pip install ".[bench]"')


@pytest.mark.parametrize(
    ("arguments", "words"),
    [
        (["--against", "numpy,frobnicate"], "'frobnicate' is not known; valid are a list of numpy, torch, onnxruntime"),
        (["--against", "git:HEAD,numpy", "--layout", "up"], "up"),
        (["--fail-above", "5%"], "--fail-above is for"),
        (["--against", "numpy,git:HEAD"], "'git:HEAD' is not known; valid are a list of numpy"),
        (["--against", "git:HEAD", "--plot", "a.png"], "leave out"),
        (["--against", "git:HEAD", "--markdown"], "leave out"),
        (["--against", "git:HEAD", "--fail-above", "5"], "'5' is not a percentage such as 5%"),
        (["--against", "git:HEAD", "--fail-above=-5%"], "'-5%' is not a percentage"),
        (["--against", "git:HEAD", "--fail-above", "much%"], "'much%' is not a percentage"),
        (["--isa", "avx1024"], "avx1024"),
        (["--plot", "a.pdf"], "'a.pdf' does not end in .png or .svg"),
        (["--threads", "2147483648"], "2147483648 is more than 1024"),
        (["--threads", "9" * 5000], "is not a whole number from 1"),
        (["--rounds", "٣"], "'٣' is not a whole number from 1"),
        (["--threads", "0"], "'0' is not a whole number from 1"),
        (["--rounds", "few"], "'few' is not a whole number"),
        (["--seconds", "nan"], "'nan' is not a number of seconds"),
    ],
)
def test_misuse(run: Run, arguments: list[str], words: str) -> None:
    assert_error(run(*arguments), 2, words)


def test_a_directory_that_is_not_there(run: Run, tmp_path: Path) -> None:
    assert_error(run("--json", tmp_path / "none" / "a.json"), 1, "a.json: there is no such directory")
    assert_error(run("--json", tmp_path), 1, "is a directory")


def test_fail_above_is_a_part() -> None:
    parser = cli._parser()
    assert parser.parse_args(["bench", "--fail-above", "5%"]).fail_above == pytest.approx(0.05)
    assert parser.parse_args(["bench", "--fail-above", "0.5%"]).fail_above == pytest.approx(0.005)


def test_bar_only_on_a_terminal(capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch) -> None:
    with progress.bar(1, 4, "a layer"):
        assert capsys.readouterr().err == ""
    monkeypatch.setattr(sys.stderr, "isatty", lambda: True, raising=False)
    with ExitStack() as stack:
        stack.enter_context(pytest.raises(KeyboardInterrupt))
        stack.enter_context(progress.bar(1, 4, "a layer"))
        assert capsys.readouterr().err == "\r\033[K[######..................] 1/4 a layer"
        raise KeyboardInterrupt
    assert capsys.readouterr().err == "\r\033[K"  # Ctrl-C leaves nothing of it
    monkeypatch.setenv("COLUMNS", "30")
    with progress.bar(1, 4, "a layer"):
        assert capsys.readouterr().err == "\r\033[K[######..................] 1/"


@pytest.mark.usefixtures("known_roofs")
def test_markdown_of_a_run(run: Run, layers: Path) -> None:
    command = ("--layers", layers, *QUICK, "--markdown")
    result = run(*command)
    assert result.code == 0, result.err
    blocks = result.out.split("\n\n")
    assert blocks[0] == f"`conv1x1 bench {' '.join(map(str, command))}` printed this:"
    assert blocks[1].startswith(f"- conv1x1 {conv1x1.__version__}, numpy {np.__version__}\n- ")
    assert [line.split(" | ")[:2] for line in blocks[7].splitlines()[2:]] == [
        ["| 5×4 16→8", "last"],
        ["| 5×4 16→8", "first"],
        ["| 7×7 12→6 /2 g3", "last"],
        ["| 7×7 12→6 /2 g3", "first"],
        ["| 1×1 9→5", "last"],
    ]


# Peers


@pytest.mark.parametrize("name", list(peers.PEERS))
@pytest.mark.parametrize("dtype", ["float32", "float64"])
def test_peers_compute_the_same(name: str, dtype: str) -> None:
    try:
        peer = peers.PEERS[name](1)
    except peers.MissingPeer:
        pytest.skip(f"{name} is not installed")
    forms = set()
    shapes = Layer("", 12, 6, 7, 5), Layer("", 12, 6, 7, 5, 2, 3), Layer("", 12, 6, 7, 5, 2), Layer("", 9, 1, 1, 1)
    for layer, layout in cases.cases([shape._replace(dtype=dtype) for shape in shapes], "both"):
        x, w = timing.arrays(layer, layout)
        truth = timing.expected(layer, layout, x, w)
        for candidate in peer.candidates(layer, layout, x, w):
            forms.add((candidate.form, layer.one_pixel))
            y = candidate.result(candidate.call())
            assert y.dtype == layer.result
            timing.check(f"{name} {candidate.form}", layer, y.reshape(truth.shape), truth)
    known = {
        "numpy": {"matmul"},
        "torch": {"conv2d", "conv2d channels_last", "linear", "matmul"},
        "onnxruntime": {"Conv", "MatMul"} if dtype == "float32" else set(),
        "openvino": {"Conv", "MatMul"} if dtype == "float32" else set(),
        "cv2": {"transform"},
    }
    assert {form for form, _ in forms} == known[name]
    assert {form for form, one_pixel in forms if one_pixel} == known[name] - {
        "conv2d",
        *(["matmul"] * (name == "torch")),
    }


@pytest.mark.parametrize(("name", "module"), [("torch", "torch"), ("onnxruntime", "onnx"), ("cv2", "cv2")])
def test_a_missing_peer_names_the_extra(run: Run, monkeypatch: pytest.MonkeyPatch, name: str, module: str) -> None:
    if name == "onnxruntime":
        monkeypatch.setitem(sys.modules, "onnxruntime", SimpleNamespace())
    monkeypatch.setitem(sys.modules, module, None)
    assert_error(run("--against", f"numpy,{name}"), 1, f"{name} cannot be raced", 'pip install ".[peers]"')


def test_peers_are_imported_only_when_asked_for(fresh_python: Any) -> None:
    code = """
import sys
from conv1x1 import _conv1x1
from conv1x1.command import main as cli
from conv1x1.command.bench import cases, measure, peers, regression, results, table
extras = "torch", "onnxruntime", "onnx", "openvino", "cv2", "matplotlib", "threadpoolctl"
print([name for name in extras if name in sys.modules])
"""
    assert fresh_python(code).stdout == "[]\n"


def test_numpy_is_held_to_its_threads() -> None:
    controller = pytest.importorskip("threadpoolctl").ThreadpoolController().select(user_api="blas")
    before = controller.info()
    with peers.blas_threads(1) as threads:
        now = {library["num_threads"] for library in controller.info()}
        assert now == ({threads} if before else set())
        assert threads == (1 if before else None)
    assert controller.info() == before


def test_how_many_threads_numpy_takes_is_told(run: Run, layers: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    heading = table.heading({"numpy": peers.NumPy(3)}, 3, 3)
    assert not any("NumPy" in line for line in heading)
    assert "NumPy takes 2 threads" in table.heading({"numpy": peers.NumPy(3)}, 3, 2)[-1]
    monkeypatch.setitem(sys.modules, "threadpoolctl", None)
    result = run("--layers", layers, *QUICK)
    assert result.code == 0, result.err
    assert "NumPy takes as many threads as it likes" in result.out
    assert 'pip install ".[bench]"' in result.out


# Another revision


def test_interval_of_the_median() -> None:
    assert results.interval(range(1, 11)) == (2, 9)  # 97.9 %; (3, 8) is 89 %
    assert results.interval([6, 5, 4, 3, 2, 1]) == (1, 6)  # 96.9 %
    assert results.interval([1, 2, 3, 4, 5]) == (0, math.inf)  # no more than 93.8 %
    assert results.interval([]) == (0, math.inf)
    assert results.interval(range(100)) == (39, 60)


def test_interval_holds_the_median_as_often_as_promised() -> None:
    random = np.random.default_rng(3)
    held = [low <= 1 <= high for low, high in map(results.interval, random.lognormal(0, 0.5, (400, 30)).tolist())]
    assert np.mean(held) > 0.93


@pytest.mark.parametrize(
    ("low", "high", "words"),
    [
        (1.04, 1.2, "faster"),
        (0.8, 0.95, "slower"),
        (0.98, 1.02, "same"),
        (1.01, 1.05, "too noisy"),
        (0.9, 1.1, "too noisy"),
        (0.0, math.inf, "too noisy"),
    ],
)
def test_verdict(low: float, high: float, words: str) -> None:
    assert regression.verdict(low, high) == words
    swapped = {"faster": "slower", "slower": "faster"}.get(words, words)
    assert regression.verdict(1 / high, 1 / low if low else math.inf) == swapped


def test_past_the_limit_is_the_whole_interval() -> None:
    comparison = regression.Comparison(Layer("", 1, 1, 1, 1), "last", 1.1, 1.0, 1 / 1.1, 1 / 1.15, 1 / 1.06, 20, True)
    assert regression.past(comparison, 0.05)
    assert not regression.past(comparison, 0.07)
    assert not regression.past(comparison._replace(low=1.06, high=1.15), 0.05)


def test_a_revision_against_itself(run: Run, layers: Path, capsys: pytest.CaptureFixture[str]) -> None:
    what = [(Layer("", 64, 64, 28, 28), "last"), (Layer("", 64, 64, 14, 14), "first")]
    rows, slower = regression.run(what, "itself", regression.home(), seconds=1, fail_above=0.5)
    assert slower == []
    for row in rows:
        assert row.same_bits
        assert 0 < row.low <= row.ratio <= row.high < math.inf
        assert regression.verdict(row.low, row.high, margin=0.5) in ("same", "too noisy")
    out = capsys.readouterr().out
    assert "28×28 64→64" in out
    assert "OTHER BITS" not in out
    assert out.endswith("passed: 0 of 2 slower by more than 50%\n")


class Slow:
    """Workers without processes: those of this revision take as long as they are told, the other's take 1 s."""

    takes: float = 1.0
    bits = "same"

    def __init__(self, name: str, directory: str) -> None:
        self._this = name == "this revision"

    def ask(self, **request: Any) -> dict[str, Any]:
        if request:
            return {"bits": "this" if self._this and self.bits != "same" else "same"}
        return {"seconds": self.takes if self._this else 1.0}

    def __enter__(self) -> Slow:
        return self

    def __exit__(self, *_: object) -> None:
        pass


@pytest.fixture
def other(monkeypatch: pytest.MonkeyPatch) -> type[Slow]:
    """No build, no processes."""

    class Fake(Slow):
        pass

    class Revision:
        def __init__(self, against: str) -> None:
            pass

        def __enter__(self) -> tuple[str, str]:
            return "another", "nowhere"

        def __exit__(self, *_: object) -> None:
            pass

    monkeypatch.setattr(regression, "Worker", Fake)
    monkeypatch.setattr(regression, "revision", Revision)
    return Fake


@pytest.mark.parametrize(
    ("takes", "limit", "code", "verdict"),
    [(1.1, "5%", 1, "slower"), (1.1, "20%", 0, "slower"), (1.0, "5%", 0, "same"), (0.9, "0%", 0, "faster")],
)
def test_fail_above(
    run: Run, layers: Path, other: type[Slow], tmp_path: Path, takes: float, limit: str, code: int, verdict: str
) -> None:
    other.takes = takes
    written = tmp_path / "regression.json"
    arguments = ("--against", "git:HEAD", "--layers", layers, "--rounds", 12, "--json", written)
    result = run(*arguments, "--fail-above", limit)
    assert result.code == code, result.err
    assert ("FAILED: 5 of 5" if code else "passed: 0 of 5") in result.out
    assert ("once more" in result.out) == bool(code)
    document = json.loads(written.read_text())
    assert {row["verdict"] for row in document["rows"]} == {verdict}
    assert len(document["slower"]) == 5 * code
    assert run(*arguments).code == 0  # nothing is too slow where nobody said what is


def test_only_what_is_slow_twice_fails(run: Run, layers: Path, other: type[Slow], monkeypatch: Any) -> None:
    race, runs = regression._race, []

    def once_slow(*arguments: Any) -> Any:
        other.takes = 1.0 if runs else 1.5
        runs.append(arguments)
        return race(*arguments)

    monkeypatch.setattr(regression, "_race", once_slow)
    result = run("--against", "git:HEAD", "--layers", layers, "--rounds", 12, "--fail-above", "5%")
    assert len(runs) == 2
    assert result.code == 0, result.out
    assert "passed: 0 of 5" in result.out


def test_other_bits_are_told(run: Run, layers: Path, other: type[Slow]) -> None:
    other.bits = "other"
    assert "OTHER BITS in 5 of 5" in run("--against", "git:HEAD", "--layers", layers, "--rounds", 12).out


def test_a_worker_that_fails_says_why(tmp_path: Path) -> None:
    package = tmp_path / "conv1x1"
    package.mkdir()
    (package / "__init__.py").write_text("raise RuntimeError('no good')\n")
    with pytest.raises(regression.RevisionError, match="that one fails: RuntimeError: no good"):
        regression.Worker("that one", str(tmp_path))


def test_a_worker_with_another_package_than_meant(tmp_path: Path) -> None:
    with pytest.raises(regression.RevisionError, match="editable"):
        regression.Worker("that one", str(tmp_path))  # empty: Python goes on to the installed one


OLD = """
class Conv1x1:
    def __init__(self, w, **options):
        pass
    def __call__(self, *arguments):
        raise TypeError("no such pixels")
"""


def test_a_revision_without_a_type_of_pixels(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    package = tmp_path / "conv1x1"
    package.mkdir()
    (package / "__init__.py").write_text(OLD)
    with regression.Worker("the old one", str(tmp_path)) as old:
        assert old.ask(layer=Layer("", 3, 1, 2, 2), layout="last", threads=1) == {"refused": "no such pixels"}
    with pytest.raises(regression.RevisionError, match="the old one takes none of these layers"):
        regression.run([(Layer("", 3, 1, 2, 2), "last")], "the old one", str(tmp_path), rounds=1)
    assert capsys.readouterr().out.splitlines()[-1].split() == ["2×2", "3→1", "last", *"––––", "only", "here"]


def test_only_a_lowered_instruction_set_is_asked_of_another_revision(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    monkeypatch.delenv("CONV1X1_MAX_ISA", raising=False)
    (tmp_path / "conv1x1").mkdir()
    (tmp_path / "conv1x1" / "__init__.py").write_text("import os\nraise RuntimeError(os.getenv('CONV1X1_MAX_ISA'))\n")
    best = _conv1x1.config()["isas_supported"][-1]
    for isa, asked in {"portable": "portable", best: "None"}.items():
        with restricted(isa=isa), pytest.raises(regression.RevisionError, match=asked):
            regression.Worker("it", str(tmp_path))


def git(directory: Path, *arguments: str) -> None:
    identity = ("-c", "user.name=a", "-c", "user.email=a@b", "-c", "commit.gpgsign=false")
    subprocess.run(["git", "-C", directory, *identity, *arguments], check=True, capture_output=True)


@pytest.fixture
def no_pip(monkeypatch: pytest.MonkeyPatch) -> None:
    """Nothing is built here."""
    really = regression._run

    def run(command: Any, directory: str) -> Any:
        if "pip" in command:
            return subprocess.CompletedProcess(command, 1, "", "no compiler\n")
        return really(command, directory)

    monkeypatch.setattr(regression, "_run", run)


@pytest.mark.usefixtures("no_pip")
def test_no_such_revision(run: Run, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    if not shutil.which("git"):
        pytest.skip("git is not installed")
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("GIT_CEILING_DIRECTORIES", str(tmp_path.parent))
    assert_error(run("--against", "git:HEAD"), 1, f"{tmp_path} is no git checkout of conv1x1")

    git(tmp_path, "init", "-q")
    git(tmp_path, "commit", "-q", "--allow-empty", "-m", "empty")
    assert_error(run("--against", "git:v99"), 1, f"{tmp_path} has no revision 'v99'")
    assert_error(run("--against", "git:--help"), 1, "has no revision '--help'")
    assert_error(run("--against", "git:HEAD"), 1, "no revision of conv1x1")

    (tmp_path / "python" / "conv1x1").mkdir(parents=True)
    (tmp_path / "python" / "conv1x1" / "__init__.py").touch()
    git(tmp_path, "add", ".")
    git(tmp_path, "commit", "-q", "-m", "some package")
    assert_error(run("--against", "git:HEAD"), 1, "cannot be built", "no compiler")


def test_no_such_wheel(run: Run) -> None:
    assert_error(run("--against", "conv1x1-9.whl"), 1, "conv1x1-9.whl: there is no such wheel")


def test_a_wheel_of_another_package(run: Run, tmp_path: Path) -> None:
    wheel, about = tmp_path / "other-1-py3-none-any.whl", "other-1.dist-info"
    with zipfile.ZipFile(wheel, "w") as archive:
        archive.writestr("other/__init__.py", "")
        archive.writestr(f"{about}/METADATA", "Metadata-Version: 2.1\nName: other\nVersion: 1\n")
        archive.writestr(f"{about}/WHEEL", "Wheel-Version: 1.0\nRoot-Is-Purelib: true\nTag: py3-none-any\n")
        archive.writestr(f"{about}/RECORD", "")
    assert_error(run("--against", wheel), 1, f"{wheel} is no revision of conv1x1: it brings other, other-1.dist-info")


def test_no_git(run: Run, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("PATH", "")
    assert_error(run("--against", "git:HEAD"), 1, "git is not installed")
