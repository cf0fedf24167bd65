"""Classifiers of scikit-learn on a scene of uint16: its own `predict`, and the imported net; time and peak of memory.

    python tests/benchmarks/pixel_classifiers.py [--side 1024] [--threads 1]

Each in a process of its own, the best of five calls; labels that differ are counted. Linux; needs the extra `sklearn`.
"""

from __future__ import annotations

import argparse
import multiprocessing
import os
import time
import warnings
from pathlib import Path
from typing import Any

import numpy as np

import conv1x1
from conv1x1.sklearn import from_estimator

BANDS, CLASSES, CALLS = 100, 10, 5


def spectra(count: int, seed: int) -> tuple[Any, Any]:
    """Pixels of classes about typical spectra, and the classes."""
    typical = np.random.default_rng(0).integers(2000, 20000, (CLASSES, BANDS))
    random = np.random.default_rng(seed)
    classes = random.integers(0, CLASSES, count)
    pixels = np.empty((count, BANDS), np.uint16)
    for start in range(0, count, 4096):
        some = slice(start, start + 4096)
        noise = random.standard_normal((len(classes[some]), BANDS), np.float32)
        pixels[some] = (typical[classes[some]] + 1500 * noise).clip(0, 65535)
    return pixels, classes


def trained(name: str) -> Any:
    """A classifier that has seen some pixels."""
    from sklearn.decomposition import PCA
    from sklearn.linear_model import LogisticRegression
    from sklearn.neural_network import MLPClassifier
    from sklearn.pipeline import make_pipeline
    from sklearn.preprocessing import StandardScaler

    last = (
        [PCA(20), LogisticRegression()]
        if name == "PCA(20), LogisticRegression"
        else [MLPClassifier((64, 32), max_iter=20)]
    )
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # it need not converge
        return make_pipeline(StandardScaler(), *last).fit(*spectra(2000, 1))


def memory(what: str) -> float:
    """Of this process, as Linux counts it, in MB."""
    status = Path("/proc/self/status").read_text(encoding="ascii")
    return int(status.partition(f"{what}:")[2].split()[0]) / 1000


def measured(name: str, ours: bool, side: int, results: Any) -> None:
    """The best time, and what the calls took beyond what was there before the first."""
    model = trained(name)
    net = from_estimator(model)
    scene = spectra(side * side, 2)[0].reshape(side, side, BANDS)
    call = (lambda x: net(x)) if ours else (lambda x: model.predict(x.reshape(-1, BANDS)).reshape(x.shape[:2]))
    call(scene[:1])
    Path("/proc/self/clear_refs").write_text("5", encoding="ascii")  # the peak from now on
    before, times = memory("VmRSS"), []
    for _ in range(CALLS):
        start = time.perf_counter()
        labels = call(scene)
        times.append(time.perf_counter() - start)
    results.put((min(times), memory("VmHWM") - before, labels))


def main(argv: list[str] | None = None) -> None:
    """Print a line for each classifier."""
    parser = argparse.ArgumentParser()
    parser.add_argument("--side", type=int, default=1024, help="of the scene, in pixels")
    parser.add_argument("--threads", type=int, default=1, help="for both")
    given = parser.parse_args(argv)
    for name in ("CONV1X1", "OMP", "OPENBLAS", "MKL"):
        os.environ[f"{name}_NUM_THREADS"] = str(given.threads)
    context = multiprocessing.get_context("spawn")
    print(f"conv1x1 {conv1x1.__version__}, {given.side}×{given.side}×{BANDS} uint16, threads: {given.threads}")
    for name in ("PCA(20), LogisticRegression", "MLPClassifier((64, 32))"):
        found = []
        for ours in (True, False):
            results = context.Queue()
            process = context.Process(target=measured, args=(name, ours, given.side, results))
            process.start()
            found.append(results.get())
            process.join()
        (seconds, peak, labels), (their_seconds, their_peak, theirs) = found
        print(
            f"StandardScaler, {name}: {1e3 * seconds:.0f} ms and {peak:.1f} MB; scikit-learn "
            f"{1e3 * their_seconds:.0f} ms and {their_peak:.0f} MB: {their_seconds / seconds:.1f}×; "
            f"labels that differ: {(labels != theirs).sum()}"
        )


if __name__ == "__main__":
    main()
