"""What all importers share: nothing is imported before it is wanted, and what is folded is the same function."""

from __future__ import annotations

import subprocess
import sys
from typing import Any

import numpy as np
import pytest

from conv1x1.importing.comparing import bounded, compare
from conv1x1.importing.steps import Block, Curve, Matrix, Norm, Scale, Soft, Step, elements, fold, widths
from conv1x1.onnx import load
from conv1x1.sklearn import from_estimator
from conv1x1.torch import from_module

X = np.random.default_rng(0).standard_normal((40, 6))


def test_importing_the_package_imports_no_model_library() -> None:
    code = (
        "import sys, conv1x1, conv1x1.sklearn, conv1x1.torch, conv1x1.onnx; "
        "print(sorted({'sklearn', 'torch', 'onnx', 'joblib', 'scipy'} & set(sys.modules)))"
    )
    alone = "import sys, conv1x1; print(sorted(m for m in sys.modules if m.startswith('conv1x1.imp')))"
    for program in (code, alone):
        done = subprocess.run([sys.executable, "-c", program], check=True, capture_output=True, text=True)
        assert done.stdout == "[]\n"


@pytest.mark.parametrize(
    ("library", "extra", "call"),
    [("sklearn", "sklearn", from_estimator), ("torch", "torch", from_module), ("onnx", "onnx", load)],
)
def test_a_library_that_is_missing_is_named_with_its_extra(
    library: str, extra: str, call: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setitem(sys.modules, library, None)
    with pytest.raises(ImportError, match=rf'pip install "\.\[{extra}\]"'):
        call(object())


def some_steps(random: np.random.Generator) -> list[Step]:
    """A chain of anything that is linear, over 6 channels, and of what is not."""

    def numbers(*shape: int) -> Any:
        return random.standard_normal(shape)

    width, steps = 6, list[Step]()
    for _ in range(random.integers(1, 7)):
        kind = random.integers(6)
        after = int(random.choice([2, 4, 6, 12]))
        groups = int(random.choice([1, 2]))
        if kind == 0:
            steps.append(Scale.of(numbers(width), numbers(width), numbers(width)))
        elif kind == 1:
            steps.append(Scale.of(*numbers(3)))
        elif kind == 2:
            steps.append(Curve("tanh"))
        elif kind == 3 and width > 2:
            up = Matrix.of(numbers(width, 4), numbers(width))
            steps.append(Block((Matrix.of(numbers(4, width)), Curve("relu"), up)))
        else:
            steps.append(Matrix.of(numbers(after, width // groups), numbers(after), numbers(width), groups=groups))
            width = after
    return steps


@pytest.mark.drawn
def test_folded_steps_are_the_same_function() -> None:
    random = np.random.default_rng(7)
    shorter = 0
    for _ in range(200):
        steps = some_steps(random)
        folded = fold(steps)
        shorter += len(folded) < len(steps)
        whole, _ = bounded(steps, X)
        np.testing.assert_allclose(bounded(folded, X)[0], whole, rtol=1e-9, atol=1e-9 * np.abs(whole).max())
        assert widths(folded, 6)[-1] == whole.shape[-1]
    assert shorter > 50


@pytest.mark.drawn
def test_layers_are_within_the_bound_that_is_told() -> None:
    """And not by far: a bound that is too wide would let mistakes through."""
    from conv1x1 import Sequential

    random = np.random.default_rng(8)
    x = X.astype(np.float32)
    for _ in range(100):
        steps = fold(some_steps(random)) or (Scale.of(2.0),)
        net = Sequential(elements(steps, -1, 6))
        whole, errors = bounded(steps, x)
        off = np.abs(net(x) - whole)
        assert (off <= errors).all()
        assert compare(steps, x, net(x), whole, "it", doubled=False).difference == off.max()
        with pytest.raises(ValueError, match=r"it was not understood: .* gives .* and it .* rounding explains"):
            compare(steps, x, net(x) + np.float32(300 * errors.max() + 1e-3), whole, "it", doubled=False)


def test_a_softmax_and_a_norm_are_bounded_too() -> None:
    x = X.astype(np.float32)
    for step, whole in (
        (Soft(), np.exp(X) / np.exp(X).sum(-1, keepdims=True)),
        (Norm(6, None, None, 1e-5), (X - X.mean(-1, keepdims=True)) / np.sqrt(X.var(-1, keepdims=True) + 1e-5)),
    ):
        y, errors = bounded([step], x)
        np.testing.assert_allclose(y, whole, atol=1e-6)
        assert (errors < 2e-5).all()


def test_what_folds_to_nothing() -> None:
    assert fold([Scale.of(2.0, 3.0), Scale.of(0.5, 0.0, 3.0)]) == ()
    assert fold([Scale.of(1.0, [5.0, 6.0], [5.0, 6.0])]) == ()


def test_low_rank_stays_two_steps() -> None:
    down, up = Matrix.of(np.ones((2, 6))), Matrix.of(np.ones((6, 2)))
    assert len(fold([down, up])) == 2
    assert len(fold([up, down])) == 1
