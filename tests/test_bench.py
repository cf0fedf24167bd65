"""`conv1x1 bench`: what it measures, says, writes and exits with. Nothing here depends on how fast anything is."""

from __future__ import annotations

import json
import math
import shutil
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest

import conv1x1
from conv1x1 import _peers, _regression, _timing, bench, cli
from conv1x1._timing import Layer

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
    monkeypatch.setattr(bench, "roofs", lambda size, threads: (100.0 * threads, 2e3 / (1 + math.log2(size))))


def assert_error(result: SimpleNamespace, code: int, *words: str) -> None:
    assert result.code == code, result.out
    assert result.err.startswith("conv1x1: error: ")
    for word in words:
        assert word in result.err


# Layers


def test_layers_of_a_file(tmp_path: Path) -> None:
    path = tmp_path / "layers.csv"
    path.write_text("networks, width,height,in_channels,out_channels,groups\na;b,4,5,16,8,\nc,1,1,6,4,2\n")
    assert bench.read_layers(str(path)) == [Layer("", 16, 8, 5, 4), Layer("", 6, 4, 1, 1, 1, 2)]


@pytest.mark.parametrize(
    ("text", "words"),
    [
        ("", "no column in_channels, out_channels, height, width"),
        ("in_channels,height,width\n1,2,3\n", "no column out_channels; needed are in_channels, out_channels, height"),
        ("in_channels,out_channels,height,width\n", "no layers"),
        ("in_channels,out_channels,height,width\n1,2,3,4\n1,2,3,x\n", "line 3: width is 'x'"),
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
    assert bench.cases([one, more], "both") == [(one, "last"), (more, "last"), (more, "first")]
    assert bench.cases([one, more], "first") == [(one, "first"), (more, "first")]


def test_work_of_a_layer() -> None:
    layer = Layer("ShuffleNet", 12, 6, 7, 5, stride=2, groups=3)
    assert layer.pixels == 4 * 3
    assert layer.flop == 2 * 12 * (12 // 3) * 6
    assert layer.bytes == 4 * (12 * 12 + 12 * 6 + 4 * 6)
    assert str(layer) == "ShuffleNet 7×5 12→6 /2 g3"


@pytest.mark.parametrize("layout", ["last", "first"])
@pytest.mark.parametrize("layer", [*bench.LAYERS[:1], Layer("", 12, 6, 7, 5, stride=2, groups=3)], ids=str)
def test_expected_is_the_reference(layer: Layer, layout: str) -> None:
    x, w = _timing.arrays(layer, layout)
    axis = -1 if layout == "last" else 0
    options = {"channel_axis": axis, "stride": layer.stride, "groups": layer.groups}
    truth = _timing.expected(layer, layout, x, w)
    np.testing.assert_allclose(truth, conv1x1.reference(x, w, **options), rtol=1e-5, atol=1e-5)
    _timing.check("a right one", layer, conv1x1.conv1x1(x, w, **options), truth)
    with pytest.raises(ArithmeticError, match="a wrong one computes"):
        _timing.check("a wrong one", layer, truth + 1e-3, truth)


# Measuring


def test_race_takes_turns() -> None:
    calls: list[str] = []
    table = bench.race([lambda: calls.append("a"), lambda: calls.append("b")], seconds=0, rounds=4)
    assert table.shape == (4, 2)
    assert (table > 0).all()
    order = [name for before, name in zip(["", *calls], calls, strict=False) if name != before]
    assert order[-8:] == ["a", "b"] * 4


def test_a_slot_is_long_enough_for_the_clock() -> None:
    times = _timing.repetitions(lambda: None)
    assert times > 1000
    assert _timing.repetitions(lambda: _timing.clock(lambda: None, 100_000)) < 10


def test_row() -> None:
    layer = Layer("", 64, 32, 10, 10)  # 409,600 FLOPs, 46,592 bytes
    row = bench.Row(layer, "last", 1e-5, 100.0, 5.0, "some_f32_4x4", 9, {})
    assert row.gflops == pytest.approx(40.96)
    assert row.gbs == pytest.approx(4.6592)
    assert row.intensity == pytest.approx(409_600 / 46_592)
    assert row.roof == pytest.approx(5 * 409_600 / 46_592)  # the memory's
    assert row._replace(reads=50.0).roof == 100  # the arithmetic's
    assert row.best is None


def test_roofs_are_measured() -> None:
    peak, reads = bench.roofs(1000, 1)
    assert 0.1 < peak < 10_000
    assert 0.1 < reads < 100_000


def test_nothing_wrong_is_timed(monkeypatch: pytest.MonkeyPatch) -> None:
    class Wrong:
        version = "1"

        def __init__(self, threads: int) -> None:
            pass

        def candidates(self, layer: Layer, layout: str, x: Any, w: Any) -> Any:
            yield _peers.Candidate("zeros", lambda: np.zeros((layer.pixels, layer.out_channels)))

    monkeypatch.setitem(_peers.PEERS, "wrong", Wrong)
    with pytest.raises(ArithmeticError, match="wrong computes 5×4 16→8 wrongly"):
        bench.run([(Layer("", 16, 8, 5, 4), "last")], ["wrong"], rounds=1)


# The summary of made-up measurements


def rival(ratio: float, low: float, high: float, seconds: float = 1.0) -> bench.Rival:
    return bench.Rival("made up", seconds, ratio, low, high)


@pytest.fixture
def rows() -> list[bench.Row]:
    """A win, a loss and a layer that "b" does not have, where both are level."""
    rivals = [
        {"a": rival(4.0, 3.0, 5.0, 4.0), "b": rival(2.0, 1.5, 2.5, 2.0)},
        {"a": rival(1.0, 0.9, 1.1, 1.0), "b": rival(0.5, 0.4, 0.6, 0.5)},
        {"a": rival(1.01, 0.9, 1.1, 1.01)},
    ]
    layer = Layer("", 64, 32, 10, 10)
    return [bench.Row(layer, "last", 1.0, 100.0, 5.0, "some_f32_4x4", 9, r) for r in rivals]


def test_summary(rows: list[bench.Row]) -> None:
    assert bench.geometric_mean([1, 4, 16]) == pytest.approx(4)
    assert bench.summary(rows, "a") == {
        "layers": 3,
        "geometric_mean": pytest.approx((4 * 1.01) ** (1 / 3)),
        "worst": 1.0,
        "below_1": 0,
    }
    assert bench.summary(rows, "b") == {"layers": 2, "geometric_mean": pytest.approx(1), "worst": 0.5, "below_1": 1}
    best = bench.summary(rows)
    assert best is not None
    assert best["geometric_mean"] == pytest.approx(1.01 ** (1 / 3))
    assert bench.summary(rows[2:], "b") is None


def test_losses_are_shown_as_plainly_as_wins(rows: list[bench.Row]) -> None:
    lines = [bench._cells(row, ["a", "b"]) for row in rows]
    assert lines[0][-4:] == ["4.00", "2.00", "2.00 (1.50–2.50)", "conv1x1"]
    assert lines[1][-4:] == ["1.00", "▼0.50", "▼0.50 (0.40–0.60)", "b"]
    assert lines[2][-4:] == ["1.01", "–", "1.01 (0.90–1.10)", "conv1x1 (level)"]
    text = "\n".join(bench._summary(rows, ["a", "b"]))
    assert "b          geometric mean 1.00, worst 0.50, below 1.0: 1 of 2" in text
    assert "won by: conv1x1 1, b 1, conv1x1 (level) 1" in text
    assert text.endswith("▼ 10×10 64→32, channels last: b (made up) takes 0.50 of our time")


# The command


def test_table(run: Run, layers: Path) -> None:
    result = run("--layers", layers, *QUICK)
    assert result.code == 0, result.err
    assert result.err == ""  # no bar where nobody looks
    blocks = result.out.split("\n\n")
    assert blocks[0].startswith(f"conv1x1 {conv1x1.__version__}, numpy {np.__version__}\n")
    assert "1 thread, float32" in blocks[0]
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
    assert set(document) == {"date", "cpu", "isa", "threads", "platform", "versions", "rows", "summary"}
    assert set(document["versions"]) == {"conv1x1", "numpy", "python"}
    assert len(document["rows"]) == 5
    for row in document["rows"]:
        for name in ("seconds", "gflops", "gbs", "peak_gflops", "read_gbs", "intensity", "roof_gflops", "of_roof"):
            assert 0 < row[name] < math.inf
        assert set(Layer._fields) < set(row)
        assert row["rounds"] == 3
        numpy = row["peers"]["numpy"]
        assert 0 < numpy["low"] <= numpy["ratio"] <= numpy["high"]
        assert row["winner"].split()[0] in ("conv1x1", "numpy")
    assert document["summary"]["numpy"]["layers"] == 5


@pytest.mark.usefixtures("known_roofs")
@pytest.mark.parametrize("suffix", ["png", "svg"])
def test_plot(run: Run, layers: Path, tmp_path: Path, suffix: str) -> None:
    pytest.importorskip("matplotlib")
    written = tmp_path / f"roofline.{suffix}"
    assert run("--layers", layers, *QUICK, "--plot", written).code == 0
    assert {"png": b"\x89PNG", "svg": b"<svg"}[suffix] in written.read_bytes()[:500]


def test_plot_of_many_layers(tmp_path: Path, rows: list[bench.Row]) -> None:
    pytest.importorskip("matplotlib")
    from conv1x1 import _roofline

    many = [row._replace(seconds=1e-5 * (1 + i / 100)) for i, row in enumerate(rows * 20)]
    _roofline.draw(str(tmp_path / "many.svg"), many, [("16 KiB", 200.0), ("128 MiB", 20.0)], "a machine")
    assert (tmp_path / "many.svg").stat().st_size > 10_000


def test_plot_without_matplotlib_names_the_extra(run: Run, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "matplotlib.figure", None)
    assert_error(run("--plot", "roofline.png"), 1, 'pip install "conv1x1[demo]"')


@pytest.mark.parametrize(
    ("arguments", "words"),
    [
        (["--against", "numpy,frobnicate"], "'frobnicate' is not known; valid are numpy, torch, onnxruntime"),
        (["--against", "git:HEAD,numpy", "--layout", "up"], "up"),
        (["--fail-above", "5%"], "--fail-above is for"),
        (["--against", "git:HEAD", "--plot", "a.png"], "leave out"),
        (["--against", "git:HEAD", "--fail-above", "5"], "'5' is not a percentage such as 5%"),
        (["--against", "git:HEAD", "--fail-above=-5%"], "'-5%' is not a percentage"),
        (["--against", "git:HEAD", "--fail-above", "much%"], "'much%' is not a percentage"),
        (["--isa", "avx1024"], "avx1024"),
        (["--plot", "a.pdf"], "'a.pdf' does not end in .png or .svg"),
        (["--threads", "0"], "'0' is not a whole number from 1"),
        (["--rounds", "few"], "'few' is not a whole number"),
        (["--seconds", "nan"], "'nan' is not a number of seconds"),
    ],
)
def test_misuse(run: Run, arguments: list[str], words: str) -> None:
    assert_error(run(*arguments), 2, words)


def test_a_directory_that_is_not_there(run: Run, tmp_path: Path) -> None:
    assert_error(run("--json", tmp_path / "none" / "a.json"), 1, "a.json: there is no such directory")


def test_fail_above_is_a_part() -> None:
    parser = cli._parser()
    assert parser.parse_args(["bench", "--fail-above", "5%"]).fail_above == pytest.approx(0.05)
    assert parser.parse_args(["bench", "--fail-above", "0.5%"]).fail_above == pytest.approx(0.005)


def test_bar_only_on_a_terminal(capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(sys.stderr, "isatty", lambda: True, raising=False)
    progress = bench.Progress(4)
    progress.show(1, "a layer")
    progress.clear()
    drawn = capsys.readouterr().err
    assert "[######..................] 1/4 a layer" in drawn
    assert drawn.endswith("\r\033[K")


# Peers


@pytest.mark.parametrize("name", list(_peers.PEERS))
def test_peers_compute_the_same(name: str) -> None:
    try:
        peer = _peers.PEERS[name](1)
    except _peers.MissingPeer:
        pytest.skip(f"{name} is not installed")
    forms = set()
    for layer in (
        Layer("", 12, 6, 7, 5),
        Layer("", 12, 6, 7, 5, 2, 3),
        Layer("", 12, 6, 7, 5, 2),
        Layer("", 9, 1, 1, 1),
    ):
        for layout in bench.LAYOUTS:
            x, w = _timing.arrays(layer, layout)
            truth = _timing.expected(layer, layout, x, w)
            for candidate in peer.candidates(layer, layout, x, w):
                forms.add(candidate.form)
                y = candidate.result(candidate.call())
                _timing.check(f"{name} {candidate.form}", layer, y.reshape(truth.shape), truth)
    assert forms


@pytest.mark.parametrize(("name", "module"), [("torch", "torch"), ("onnxruntime", "onnx"), ("cv2", "cv2")])
def test_a_missing_peer_names_the_extra(run: Run, monkeypatch: pytest.MonkeyPatch, name: str, module: str) -> None:
    if name == "onnxruntime":
        monkeypatch.setitem(sys.modules, "onnxruntime", SimpleNamespace())
    monkeypatch.setitem(sys.modules, module, None)
    assert_error(run("--against", f"numpy,{name}"), 1, f"{name} cannot be raced", 'pip install "conv1x1[peers]"')


def test_peers_are_imported_only_when_asked_for(fresh_python: Any) -> None:
    code = """
import sys
from conv1x1 import _peers, _regression, bench, cli
print([name for name in ("torch", "onnxruntime", "onnx", "openvino", "cv2", "matplotlib") if name in sys.modules])
"""
    assert fresh_python(code).stdout == "[]\n"


def test_numpy_is_held_to_its_threads() -> None:
    with _peers.blas_threads(1) as held:
        assert [get() for _, get in _peers._blas_controls()] == [1] * held * len(list(_peers._blas_controls()))
    with _peers.blas_threads(1) as again:
        assert again == held


# Another revision


def test_interval_of_the_median() -> None:
    assert _regression.interval(range(1, 11)) == (2, 9)  # 97.9 %; (3, 8) is 89 %
    assert _regression.interval([6, 5, 4, 3, 2, 1]) == (1, 6)  # 96.9 %
    assert _regression.interval([1, 2, 3, 4, 5]) == (0, math.inf)  # no more than 93.8 %
    assert _regression.interval([]) == (0, math.inf)
    assert _regression.interval(range(100)) == (39, 60)


def test_interval_holds_the_median_as_often_as_promised() -> None:
    random = np.random.default_rng(3)
    held = [low <= 1 <= high for low, high in map(_regression.interval, random.lognormal(0, 0.5, (400, 30)).tolist())]
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
    assert _regression.verdict(low, high) == words
    swapped = {"faster": "slower", "slower": "faster"}.get(words, words)
    assert _regression.verdict(1 / high, 1 / low if low else math.inf) == swapped


def test_past_the_limit_is_the_whole_interval() -> None:
    comparison = _regression.Comparison(Layer("", 1, 1, 1, 1), "last", 1.1, 1.0, 1 / 1.1, 1 / 1.15, 1 / 1.06, 20, True)
    assert _regression.past(comparison, 0.05)
    assert not _regression.past(comparison, 0.07)
    assert not _regression.past(comparison._replace(low=1.06, high=1.15), 0.05)


def test_a_revision_against_itself(run: Run, layers: Path, capsys: pytest.CaptureFixture[str]) -> None:
    what = [(Layer("", 64, 64, 28, 28), "last"), (Layer("", 64, 64, 14, 14), "first")]
    rows, slower = _regression.run(what, "itself", _regression.home(), seconds=1, fail_above=0.5)
    assert slower == []
    for row in rows:
        assert row.same_bits
        assert 0 < row.low <= row.ratio <= row.high < math.inf
        assert _regression.verdict(row.low, row.high, margin=0.5) in ("same", "too noisy")
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

    monkeypatch.setattr(_regression, "Worker", Fake)
    monkeypatch.setattr(_regression, "revision", Revision)
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
    race, runs = _regression._race, []

    def once_slow(*arguments: Any) -> Any:
        other.takes = 1.0 if runs else 1.5
        runs.append(arguments)
        return race(*arguments)

    monkeypatch.setattr(_regression, "_race", once_slow)
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
    with pytest.raises(_regression.RevisionError, match="that one fails: RuntimeError: no good"):
        _regression.Worker("that one", str(tmp_path))


def test_a_worker_with_another_package_than_meant(tmp_path: Path) -> None:
    with pytest.raises(_regression.RevisionError, match="editable"):
        _regression.Worker("that one", str(tmp_path))  # empty: Python goes on to the installed one


def git(directory: Path, *arguments: str) -> None:
    identity = ("-c", "user.name=a", "-c", "user.email=a@b", "-c", "commit.gpgsign=false")
    subprocess.run(["git", "-C", directory, *identity, *arguments], check=True, capture_output=True)


@pytest.fixture
def no_pip(monkeypatch: pytest.MonkeyPatch) -> None:
    """Nothing is built here."""
    really = _regression._run

    def run(command: Any, directory: str) -> Any:
        if "pip" in command:
            return subprocess.CompletedProcess(command, 1, "", "no compiler\n")
        return really(command, directory)

    monkeypatch.setattr(_regression, "_run", run)


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


def test_no_git(run: Run, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("PATH", "")
    assert_error(run("--against", "git:HEAD"), 1, "git is not installed")
