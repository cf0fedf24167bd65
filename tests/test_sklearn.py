"""Estimators of scikit-learn as chains: the same labels, probabilities and numbers, or a refusal in words."""

from __future__ import annotations

import importlib.util
import pickle
from collections.abc import Callable, Iterator
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import joblib
import numpy as np
import pytest
from threadpoolctl import threadpool_limits

from conv1x1 import ArgMax, Conv1x1, Sequential, load
from conv1x1.command.main import main
from conv1x1.sklearn import from_estimator, imported

sklearn = pytest.importorskip("sklearn", reason="the extra `sklearn` is not installed")

from sklearn import decomposition as de  # noqa: E402
from sklearn import linear_model as lm  # noqa: E402
from sklearn import preprocessing as pre  # noqa: E402
from sklearn.discriminant_analysis import (  # noqa: E402
    LinearDiscriminantAnalysis,
    QuadraticDiscriminantAnalysis,
)
from sklearn.naive_bayes import GaussianNB  # noqa: E402
from sklearn.neural_network import MLPClassifier, MLPRegressor  # noqa: E402
from sklearn.pipeline import Pipeline, make_pipeline  # noqa: E402
from sklearn.svm import SVC, LinearSVC, LinearSVR  # noqa: E402


@pytest.fixture(autouse=True)
def one_thread() -> Iterator[None]:
    """Of the linear algebra that fits these small models: more only wait for one another."""
    with threadpool_limits(1):
        yield


pytestmark = [
    pytest.mark.filterwarnings("ignore::sklearn.exceptions.ConvergenceWarning"),
]

BANDS = 12


def scene(classes: int = 4, spread: float = 50.0, count: int = 400) -> tuple[Any, Any]:
    """Pixels of uint16 about 20,000, as bands have them, and a class of each."""
    random = np.random.default_rng(classes)
    means = 20_000 + 3 * spread * random.standard_normal((classes, BANDS))
    y = random.integers(0, classes, count)
    mixing = random.standard_normal((BANDS, BANDS)) / BANDS**0.5
    x = means[y] + spread * random.standard_normal((count, BANDS)) @ mixing
    return np.rint(x).astype(np.uint16), y


X, Y = scene()
TWO = Y % 2


def scaled(estimator: Any) -> Any:
    return make_pipeline(pre.StandardScaler(), estimator)


def assert_as_its_own(estimator: Any, output: str, x: Any = X, atol: float = 1e-5, **options: Any) -> Any:
    """On an image of integers and on floats, to float32; and in float64, where only folding could be wrong."""
    net = from_estimator(estimator, output=output, **options)
    whole = np.asarray(getattr(estimator, output)(x.astype(np.float64)))
    image = x.reshape(20, -1, x.shape[-1])
    size = max(1.0, float(np.abs(whole).max())) if whole.dtype.kind == "f" else 1
    for pixels in (image, image.astype(np.float32), image.astype(np.float64), image.astype(np.int32)):
        y = net(pixels)
        assert y.shape == image.shape[:2] + whole.shape[1:]
        if output == "predict" and whole.dtype.kind != "f":
            np.testing.assert_array_equal(y.ravel(), whole)
        else:
            tight = 1e-10 if pixels.dtype == np.float64 else atol
            np.testing.assert_allclose(y.reshape(whole.shape), whole, rtol=0, atol=tight * size)
    return net


TRANSFORMERS: list[Callable[[], Any]] = [
    pre.StandardScaler,
    lambda: pre.StandardScaler(with_mean=False),
    lambda: pre.StandardScaler(with_std=False),
    pre.MinMaxScaler,
    lambda: pre.MinMaxScaler((-2, 3), clip=True),
    pre.MaxAbsScaler,
    pre.RobustScaler,
    de.PCA,
    lambda: de.PCA(5),
    lambda: de.PCA(5, whiten=True),
    lambda: de.IncrementalPCA(4),
    lambda: de.TruncatedSVD(4),
    lambda: de.FastICA(4, random_state=0, tol=0.1),
    lambda: de.FactorAnalysis(3),
    lambda: make_pipeline(pre.StandardScaler(), de.PCA(6), pre.StandardScaler()),
    lambda: make_pipeline(pre.MinMaxScaler(clip=True), de.PCA(3)),
    lambda: make_pipeline("passthrough", de.PCA(3), "passthrough"),
]


@pytest.mark.parametrize("make", TRANSFORMERS)
def test_transform(make: Callable[[], Any]) -> None:
    assert_as_its_own(make().fit(X), "transform")


REGRESSORS: list[Callable[[], Any]] = [lm.LinearRegression, lm.Ridge, lm.Lasso]
OF_ONE: list[Callable[[], Any]] = [lambda: LinearSVR(), lambda: lm.SGDRegressor(), lambda: lm.HuberRegressor()]


def targets(*shape: int) -> Any:
    random = np.random.default_rng(1)
    return (X - 20_000.0) @ random.standard_normal((BANDS, *shape)) / 100 + 5


@pytest.mark.parametrize("make", REGRESSORS)
@pytest.mark.parametrize("shape", [(), (1,), (3,)])
def test_regression(make: Callable[[], Any], shape: tuple[int, ...]) -> None:
    """The channels' axis is dropped where scikit-learn drops it: for targets in a row, not in a column."""
    assert_as_its_own(make().fit(X, targets(*shape)), "predict", atol=2e-5)


@pytest.mark.parametrize("make", OF_ONE)
def test_regression_to_one_target(make: Callable[[], Any]) -> None:
    assert_as_its_own(scaled(make()).fit(X, targets()), "predict", atol=2e-5)


@pytest.mark.parametrize("activation", ["identity", "logistic", "tanh", "relu"])
@pytest.mark.parametrize("count", [1, 2])
def test_perceptrons_that_regress(activation: str, count: int) -> None:
    y = (X[:, :count] - 20_000.0) / 100
    model = scaled(MLPRegressor(hidden_layer_sizes=(16, 8), activation=activation, max_iter=5, random_state=0)).fit(
        X, np.squeeze(y)
    )
    assert_as_its_own(model, "predict")


CLASSIFIERS: list[Callable[[], Any]] = [
    lambda: scaled(lm.LogisticRegression()),
    lambda: lm.LogisticRegression(max_iter=20),
    lambda: scaled(LinearSVC()),
    lambda: scaled(lm.RidgeClassifier()),
    lambda: scaled(lm.SGDClassifier(random_state=0)),
    lambda: scaled(lm.Perceptron()),
    LinearDiscriminantAnalysis,
    lambda: make_pipeline(pre.StandardScaler(), de.PCA(6), lm.LogisticRegression()),
    lambda: make_pipeline(LinearDiscriminantAnalysis(n_components=1), lm.LogisticRegression()),
    lambda: scaled(MLPClassifier((16, 8), max_iter=20, random_state=0)),
    lambda: scaled(MLPClassifier((), max_iter=20, random_state=0)),
]


@pytest.mark.parametrize("make", CLASSIFIERS)
@pytest.mark.parametrize("y", [Y, TWO], ids=["four", "two"])
@pytest.mark.parametrize("output", ["predict", "decision_function", "predict_proba"])
def test_classification(make: Callable[[], Any], y: Any, output: str) -> None:
    model = make()
    if not hasattr(model.fit(X, y), output):
        with pytest.raises(ValueError, match=f"no {output}: pass output='predict'"):
            from_estimator(model, output=output)
        return
    assert_as_its_own(model, output)


@pytest.mark.parametrize("solver", ["lbfgs", "liblinear", "newton-cg", "newton-cholesky", "sag", "saga"])
def test_two_classes_are_a_sigmoid_for_every_solver(solver: str) -> None:
    model = scaled(lm.LogisticRegression(solver=solver, max_iter=20)).fit(X, TWO)
    net = assert_as_its_own(model, "predict_proba")
    assert net.activation == "sigmoid"


def test_at_a_score_of_0_the_first_class_is_taken() -> None:
    model = lm.LogisticRegression().fit(X, TWO)
    model.coef_, model.intercept_ = np.array([[1.0] + [0.0] * (BANDS - 1)]), np.array([-20_000.0])
    x = np.full((3, BANDS), 20_000, np.uint16)
    x[:, 0] += np.array([0, 1, 2], np.uint16)
    x[2, 0] = 19_999
    assert from_estimator(model)(x).tolist() == model.predict(x).tolist() == [0, 1, 0]


def test_scores_decide_where_the_probabilities_are_equal() -> None:
    """A probability of exactly ½ in float32 may be on either side: predict compares scores."""
    model = lm.LogisticRegression().fit(X, TWO)
    model.coef_, model.intercept_ = np.array([[1e-9] + [0.0] * (BANDS - 1)]), np.array([0.0])
    x = np.ones((1, BANDS), np.float32)
    assert from_estimator(model, output="predict_proba")(x).tolist() == [[0.5, 0.5]]
    assert from_estimator(model)(x).tolist() == model.predict(x).tolist() == [1]


def test_probabilities_beyond_the_range_of_float32_are_0() -> None:
    model = scaled(lm.LogisticRegression()).fit(X, Y)
    scores = model.decision_function(X)
    model[1].coef_ *= 300 / np.ptp(scores, axis=-1).max()
    y, whole = from_estimator(model, output="predict_proba", pixels=X)(X), model.predict_proba(X)
    assert 0 < whole.min() < 1e-60
    np.testing.assert_allclose(y, whole, atol=1e-5)


def test_means_become_whole_centers_and_lose_nothing() -> None:
    """Bands about 20,000 of a deviation of 50: a mean in the bias would be off by 7e-4."""
    model = scaled(lm.LogisticRegression()).fit(X, Y)
    layer = from_estimator(model, output="decision_function")
    assert isinstance(layer, Conv1x1)
    np.testing.assert_array_equal(layer.center, np.rint(model[0].mean_))
    np.testing.assert_allclose(layer(X), model.decision_function(X), atol=1e-5)


def test_what_is_linear_is_folded() -> None:
    chain = make_pipeline(pre.StandardScaler(), de.PCA(6), pre.StandardScaler(), lm.LogisticRegression()).fit(X, Y)
    net = from_estimator(chain)
    assert [type(e) for e in net] == [Conv1x1, ArgMax]
    assert (net.in_channels, net[0].out_channels) == (BANDS, 4)
    wide = make_pipeline(de.PCA(2), lm.LinearRegression()).fit(X, X.astype(float))
    assert [(e.in_channels, e.out_channels) for e in from_estimator(wide)] == [(BANDS, 2), (2, BANDS)]


def test_bands_that_do_not_vary() -> None:
    x = X.copy()
    x[:, 3] = 777
    for make in (pre.StandardScaler, pre.MinMaxScaler, pre.RobustScaler, lambda: de.PCA(BANDS, whiten=True)):
        model = make().fit(x)
        y, whole = from_estimator(model)(x), model.transform(x)
        np.testing.assert_allclose(y, whole, atol=1e-4)


@pytest.mark.parametrize(
    ("labels", "dtype"),
    [
        ([0, 1, 2, 3], np.uint8),
        ([-1, 0, 5, 7], np.int8),
        ([-1, 3, 300, 301], np.int16),
        ([1, 255, 256, 60_000], np.uint16),
        ([0, 1, 2, 70_000], np.int32),
        ([0, 1, 2, 2**32 - 1], np.uint32),
        ([0, 1, 2, 2**40], np.int64),
        ([0, 1, 2, 2**63], np.uint64),
        ([1.0, 2.0, 3.0, 9.0], np.uint8),
    ],
)
def test_labels_come_back_in_the_smallest_type(labels: list[int], dtype: type) -> None:
    y = np.array(labels, np.uint64 if max(labels) >= 2**63 else None)[Y]
    net = from_estimator(scaled(lm.LogisticRegression()).fit(X, y))
    assert net(X).dtype == dtype
    np.testing.assert_array_equal(net(X), scaled(lm.LogisticRegression()).fit(X, y).predict(X))


def test_booleans_come_back() -> None:
    model = scaled(lm.LogisticRegression()).fit(X, TWO == 1)
    y = from_estimator(model)(X)
    assert y.dtype == bool
    np.testing.assert_array_equal(y, model.predict(X))


def test_names_of_classes_and_bands_are_kept() -> None:
    names = np.array(["water", "crop", "wood", "rock"])
    model = scaled(lm.LogisticRegression()).fit(X, names[Y])
    for output in ("predict", "predict_proba", "decision_function"):
        assert from_estimator(model, output=output).class_names == ("crop", "rock", "water", "wood")
    net = from_estimator(model)
    assert net(X).dtype == np.uint8
    np.testing.assert_array_equal(np.array(net.class_names)[net(X)], model.predict(X))
    two = from_estimator(scaled(LinearSVC()).fit(X, names[TWO]), output="decision_function")
    assert isinstance(two, Conv1x1)  # one score, which has no name


def test_names_of_features_become_names_of_bands() -> None:
    pca = de.PCA(3).fit(X)
    pca.feature_names_in_ = np.array([f"B{i:02}" for i in range(BANDS)], object)
    net = from_estimator(pca)
    assert isinstance(net, Sequential)
    assert net.band_names == tuple(pca.feature_names_in_)
    assert from_estimator(make_pipeline(pca, "passthrough")).band_names == net.band_names


def test_other_axes() -> None:
    model = scaled(lm.LogisticRegression()).fit(X, Y)
    image = X.reshape(20, -1, BANDS)
    for axis in (0, 1, -2):
        net = from_estimator(model, channel_axis=axis)
        np.testing.assert_array_equal(net(np.moveaxis(image, -1, axis)), model.predict(X).reshape(20, -1))
    with pytest.raises(TypeError, match="channel_axis must be an int"):
        from_estimator(model, channel_axis="last")  # type: ignore[arg-type]


def test_the_output_that_an_estimator_is_for() -> None:
    assert from_estimator(de.PCA(3).fit(X)).out_channels == 3
    assert isinstance(from_estimator(LinearDiscriminantAnalysis().fit(X, Y))[-1], ArgMax)
    assert from_estimator(LinearDiscriminantAnalysis().fit(X, Y), output="transform").out_channels == 3


# ------------------------------------------------------------------------------------------------ refusals


class Doubled(pre.StandardScaler):
    """Does something else than the class whose rule it gets."""

    def transform(self, X: Any, copy: Any = None) -> Any:  # noqa: N803
        return 2 * super().transform(X, copy)


def refused(estimator: Any, *words: str, **options: Any) -> None:
    with pytest.raises((TypeError, ValueError)) as caught:
        from_estimator(estimator, **options)
    for word in words:
        assert word in str(caught.value), str(caught.value)


def test_what_is_not_linear_is_refused_by_name() -> None:
    refused(GaussianNB().fit(X, Y), "GaussianNB", "quadratic", "LinearDiscriminantAnalysis")
    refused(QuadraticDiscriminantAnalysis(reg_param=0.1).fit(X, Y), "QuadraticDiscriminantAnalysis", "quadratic")
    refused(SVC().fit(X, Y), "SVC", "MLPClassifier")
    squares = make_pipeline(pre.PolynomialFeatures(2), lm.LogisticRegression(max_iter=2)).fit(X / 2e4, Y)
    refused(squares, "PolynomialFeatures", "StandardScaler")
    refused(lm.PoissonRegressor(max_iter=2).fit(X / 2e4, Y), "PoissonRegressor")
    refused(MLPRegressor(hidden_layer_sizes=(3,), loss="poisson", max_iter=2).fit(X / 2e4, Y), "'exp'")


def test_what_no_chain_does_is_refused() -> None:
    labels = np.stack([Y % 2, Y // 2], -1)
    refused(scaled(MLPClassifier((3,), max_iter=2)).fit(X, labels), "several labels")
    refused(lm.RidgeClassifier().fit(X / 1e4, labels), "several labels")
    model = scaled(lm.SGDClassifier(loss="log_loss")).fit(X, Y)
    refused(model, "sum", 'output="predict"', output="predict_proba")
    refused(LinearSVC().fit(X / 1e4, Y), "no predict_proba", output="predict_proba")
    refused(LinearSVC().fit(X / 1e4, Y), "not known", output="labels")


def test_what_is_no_fitted_estimator_is_refused() -> None:
    refused(lm.LogisticRegression(), "not fitted")
    refused(Pipeline([("scale", pre.StandardScaler()), ("rest", lm.Ridge())]), "not fitted")
    refused(lm.LogisticRegression, "fitted estimator", "fit(X, y)")
    refused(np.ones(3), "fitted estimator")


def test_another_result_than_the_estimators_is_refused_with_both_numbers() -> None:
    refused(Doubled().fit(X), "Doubled.transform", "imported model gives", "and it", "rounding explains")
    refused(Doubled().fit(X), "Doubled.transform", "rounding explains", pixels=X)
    wrong = scaled(lm.LogisticRegression()).fit(X, Y)
    wrong[1].predict = lambda x: np.zeros(len(x), int)
    refused(wrong, "scores are", "rounding explains", pixels=X)


def test_a_mean_that_no_step_knows_is_that_of_the_pixels() -> None:
    """Scores of unscaled pixels about 20,000, of large weights."""
    model = lm.LogisticRegression(max_iter=20).fit(X, Y)
    model.coef_ = model.coef_ * 100
    model.intercept_ = -model.coef_ @ X.mean(0)
    layer = from_estimator(model, output="decision_function", pixels=X)
    whole = model.decision_function(X)
    made_up = from_estimator(model, output="decision_function")
    near, off = (np.abs(net(X) - whole).max() for net in (layer, made_up))
    assert near < 1e-5 * np.abs(whole).max()
    assert off > 5 * near


def test_pixels_to_compare_on() -> None:
    model = scaled(lm.LogisticRegression()).fit(X, Y)
    for pixels in (None, X, X.reshape(20, 20, BANDS), X[:3]):
        _, compared = imported(model, -1, None, pixels)
        assert compared.pixels == (3 if pixels is not None and len(pixels) == 3 else 256)
        assert compared.differing == 0
        assert str(compared).startswith(f"the same labels at {compared.pixels} of")
    _, compared = imported(model, -1, "decision_function", None)
    assert compared.difference <= compared.bound < 1e-3
    refused(model, "(…, 12)", pixels=X.T)


# ------------------------------------------------------------------------------------- what is measured, the command


@pytest.mark.skipif(not Path("/proc/self/clear_refs").exists(), reason="memory is measured on Linux")
@pytest.mark.parametrize("name", ["PCA(20), LogisticRegression", "MLPClassifier((64, 32))"])
def test_what_is_measured_is_the_same(name: str) -> None:
    path = Path(__file__).parent / "benchmarks" / "pixel_classifiers.py"
    spec = importlib.util.spec_from_file_location("pixel_classifiers", path)
    assert spec is not None
    assert spec.loader is not None
    spec.loader.exec_module(measuring := importlib.util.module_from_spec(spec))
    found: list[Any] = []
    for ours in (True, False):
        measuring.measured(name, ours, 24, SimpleNamespace(put=found.append))
    (seconds, _, labels), (their_seconds, _, theirs) = found
    assert min(seconds, their_seconds) > 0
    np.testing.assert_array_equal(labels, theirs)


def test_import_from_a_pickle_that_is_trusted(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    names = np.array(["water", "crop", "wood", "rock"])
    model = scaled(lm.LogisticRegression()).fit(X, names[Y])
    target = tmp_path / "net.npz"
    for name, dump in (("model.joblib", joblib.dump), ("model.pkl", lambda m, path: path.write_bytes(pickle.dumps(m)))):
        dump(model, tmp_path / name)
        assert main(["import", str(tmp_path / name), "-o", str(target)]) == 2
        assert "can run any program" in capsys.readouterr().err
        assert not target.exists()
        assert main(["import", str(tmp_path / name), "--trust", "-o", str(target)]) == 0
        told = capsys.readouterr().out
        assert "the same labels at 256 of 256 pixels" in told
        net = load(target)
        np.testing.assert_array_equal(np.array(net.class_names)[net(X)], model.predict(X))
        assert main(["import", str(tmp_path / name), "--trust", "--result", "labels", "-o", str(target)]) == 1
        assert "'labels' is not known" in capsys.readouterr().err
        target.unlink()
    (tmp_path / "bad.pkl").write_bytes(b"not a pickle")
    assert main(["import", str(tmp_path / "bad.pkl"), "--trust", "-o", str(target)]) == 1
    assert "cannot be read" in capsys.readouterr().err
