"""Fitted estimators of scikit-learn as steps."""

from __future__ import annotations

import warnings
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any, TypeAlias

import numpy as np

from ..checks import Activation
from ..checks.arrays import Array
from . import library
from .comparing import PIXELS
from .steps import Curve, Largest, Matrix, Scale, Soft, Step, centered

OUTPUTS = ("predict", "predict_proba", "decision_function", "transform")
_CURVES: dict[str, Activation] = {"logistic": "sigmoid", "tanh": "tanh", "relu": "relu"}
_TYPES = ("uint8", "int8", "uint16", "int16", "int32", "uint32", "int64", "uint64")

#: In words, what is known by a base class.
_KINDS = {
    "LinearModel": "linear models as LinearRegression, Ridge and Lasso",
    "LinearClassifierMixin": "linear classifiers as LogisticRegression, LinearSVC and LinearDiscriminantAnalysis",
    "SelectorMixin": "what selects features",
}

Rule: TypeAlias = Callable[[Any], list[Step]]


@dataclass(frozen=True)
class Read:
    """A model as it was read."""

    steps: list[Step]
    output: str
    class_names: list[str] | None


def read(estimator: Any, output: str | None) -> Read:
    """The steps of an estimator for one of its outputs, that which it is for where none is named."""
    library("sklearn", "sklearn", "an estimator")
    known = _Rules()
    chain, last = _unrolled(estimator)
    offered = _offered(last)
    if output is None:
        output = next((o for o in ("predict", "transform") if o in offered), "transform")
    if output not in OUTPUTS:
        raise ValueError(f"output={output!r} is not known; {_name(last)} has {', '.join(offered)}")
    if output not in offered and not (last is None and output == "transform"):
        raise ValueError(f"{_name(last)} has no {output}: pass output={' or output='.join(map(repr, offered))}")
    steps = [step for one in chain for step in known.transformed(one)]
    if last is None:
        return Read(steps, output, None)
    if output == "transform":
        return Read(steps + known.transformed(last), output, None)
    if not hasattr(last, "classes_"):
        return Read(steps + known.predicted(last), output, None)
    values, names = _labels(last.classes_)
    if output == "decision_function" and len(last.classes_) == 2:
        names = None  # one score for two
    return Read(steps + _classified(last, known.decided(last), output, values), output, names)


def _name(estimator: Any) -> str:
    return type(estimator).__name__


def _offered(last: Any) -> list[str]:
    return ["transform"] if last is None else [o for o in OUTPUTS if hasattr(last, o)]


def _unrolled(estimator: Any) -> tuple[list[Any], Any]:
    """The transformers of a pipeline, of those in it too, and its last step; None where that passes all through."""
    from sklearn.pipeline import Pipeline
    from sklearn.utils.validation import check_is_fitted

    if estimator is None or (isinstance(estimator, str) and estimator == "passthrough"):
        return [], None
    if isinstance(estimator, type) or not hasattr(estimator, "fit"):
        raise TypeError(
            f"expected a fitted estimator of scikit-learn, got {estimator!r}: pass, say, LogisticRegression().fit(X, y)"
        )
    if isinstance(estimator, Pipeline):
        chain: list[Any] = []
        for _, step in estimator.steps[:-1]:
            before, last = _unrolled(step)
            chain += [*before, *([] if last is None else [last])]
        before, last = _unrolled(estimator.steps[-1][1])
        return chain + before, last
    if hasattr(estimator, "best_estimator_"):  # of a search
        return _unrolled(estimator.best_estimator_)
    check_is_fitted(estimator)
    return [], estimator


def _labels(classes: Any) -> tuple[Array | None, list[str] | None]:
    """Labels in the smallest type that holds them, None where they are 0, 1, 2, …; for those of text, their names."""
    a = np.asarray(classes)
    if all(isinstance(c, (str, np.str_)) for c in a.tolist()):
        return None, [str(c) for c in a.tolist()]
    if a.dtype.kind == "b" or (a.dtype.kind == "O" and all(isinstance(c, (bool, np.bool_)) for c in a.tolist())):
        return a.astype(bool), None
    try:
        whole = a if a.dtype.kind in "iu" else np.array([int(c) for c in a.tolist()])
        if whole.dtype.kind not in "iu" or (whole != a).any():
            raise ValueError("not whole")
    except (TypeError, ValueError, OverflowError):
        raise ValueError(
            f"the labels {a.tolist()[:3]} … are neither integers nor text: fit the estimator to codes, "
            'np.unique(y, return_inverse=True)[1], or pass output="decision_function"'
        ) from None
    if np.array_equal(whole, np.arange(len(whole))):
        return None, None
    small = next(t for t in _TYPES if np.iinfo(t).min <= whole.min() and whole.max() <= np.iinfo(t).max)
    return whole.astype(small), None


# ------------------------------------------------------------------------------------------- what they predict


def _classified(estimator: Any, steps: list[Step], output: str, labels: Array | None) -> list[Step]:
    """The steps to the scores of a classifier, one for two classes, to what is asked of it."""
    name = _name(estimator)
    *before, last = steps
    assert isinstance(last, Matrix)
    two = len(estimator.classes_) == 2
    if output == "decision_function":
        if two:
            last = Matrix(last.weight, last.bias, last.center, keep_axis=False)
        return [*before, last]
    if two:  # their scores are −d and d, of which at d = 0 the first is taken
        sides = np.array([[-1.0], [1.0]])
        last = Matrix(sides @ last.weight, sides[:, 0] * last.bias, last.center)
    if output == "predict":
        return [*before, last, Largest(labels)]
    if two:
        return [*before, last, Curve("sigmoid")]
    loss = getattr(estimator, "loss", "log_loss")
    one_by_one = getattr(estimator, "multi_class", "") == "ovr" or getattr(estimator, "solver", "") == "liblinear"
    if one_by_one or (name == "SGDClassifier") or loss not in ("log_loss", "log"):
        raise ValueError(
            f"{name}.predict_proba of more than two classes divides the sigmoids of its scores by their sum, which no "
            'chain does: pass output="predict" or output="decision_function"'
        )
    return [*before, last, Soft()]


class _Rules:
    """What is known of which estimators; the comparison tells where an own subclass does something else."""

    def __init__(self) -> None:
        from sklearn import (
            decomposition,
            discriminant_analysis,
            feature_selection,
            linear_model,
            neural_network,
            preprocessing,
            random_projection,
        )
        from sklearn.linear_model._base import LinearClassifierMixin, LinearModel

        self.transformers: dict[type, Rule] = {
            preprocessing.StandardScaler: _standard,
            preprocessing.MinMaxScaler: _min_max,
            preprocessing.MaxAbsScaler: _max_abs,
            preprocessing.RobustScaler: _robust,
            decomposition.PCA: _pca,
            decomposition.IncrementalPCA: _pca,
            decomposition.TruncatedSVD: lambda e: [Matrix.of(e.components_)],
            decomposition.FastICA: _ica,
            decomposition.FactorAnalysis: _factors,
            random_projection.GaussianRandomProjection: lambda e: [Matrix.of(e.components_)],
            random_projection.SparseRandomProjection: lambda e: [Matrix.of(_dense(e.components_))],
            discriminant_analysis.LinearDiscriminantAnalysis: _discriminants,
            feature_selection.SelectorMixin: lambda e: [Matrix.of(np.eye(e.n_features_in_)[e.get_support()])],
        }
        self.regressors: dict[type, Rule] = {
            LinearModel: _regression,
            linear_model.SGDRegressor: _regression,
            neural_network.MLPRegressor: _perceptrons,
        }
        self.classifiers: dict[type, Rule] = {
            neural_network.MLPClassifier: _perceptrons,
            LinearClassifierMixin: _linear_scores,
        }

    def transformed(self, estimator: Any) -> list[Step]:
        if _name(estimator) == "FunctionTransformer" and estimator.func is None:
            return []
        return self._of(self.transformers, estimator)

    def predicted(self, estimator: Any) -> list[Step]:
        return self._of(self.regressors, estimator)

    def decided(self, estimator: Any) -> list[Step]:
        made = self._of(self.classifiers, estimator)
        binarizer = getattr(estimator, "_label_binarizer", None)
        if getattr(binarizer, "y_type_", "").startswith("multilabel"):
            raise ValueError(
                f"this {_name(estimator)} was fitted to several labels a pixel, which have no largest score: "
                "fit one for each label"
            )
        return made

    def _of(self, rules: dict[type, Rule], estimator: Any) -> list[Step]:
        for cls, rule in rules.items():
            if isinstance(estimator, cls):
                return rule(estimator)
        name = _name(estimator)
        if name in ("GaussianNB", "QuadraticDiscriminantAnalysis"):
            raise ValueError(
                f"{name} is quadratic in the channels of a pixel, which no chain of linear steps is: "
                "LinearDiscriminantAnalysis is the nearest that is linear"
            )
        known = [_KINDS.get(cls.__name__, cls.__name__) for cls in rules]
        raise ValueError(
            f"{name} is no chain of matrices and activations over the channels of a pixel that is known here; those "
            f"are {', '.join(known)}"
        )


def _dense(coefficients: Any) -> Array:
    """Coefficients, which may be sparse."""
    whole = coefficients.toarray() if hasattr(coefficients, "toarray") else coefficients
    return np.asarray(whole, np.float64)


def _standard(e: Any) -> list[Step]:
    mean = e.mean_ if e.with_mean else np.zeros(e.n_features_in_)
    factor = 1 / e.scale_ if e.with_std else np.ones(e.n_features_in_)
    spread = e.scale_ if e.with_std else None
    return [_scaled(mean, factor, centered(mean, spread))]


def _scaled(mean: Array, factor: Array, center: Array) -> Scale:
    """``(x − mean) · factor``, about a center near the mean."""
    return Scale.of(factor, (center - mean) * factor, center)


def _min_max(e: Any) -> list[Step]:
    center = centered(e.data_min_, e.data_range_)
    scaled = Scale.of(e.scale_, center * e.scale_ + e.min_, center)
    lo, hi = map(float, e.feature_range)
    return [scaled, Curve(("clip", lo, hi))] if getattr(e, "clip", False) else [scaled]


def _max_abs(e: Any) -> list[Step]:
    scaled = Scale.of(1 / e.scale_)
    return [scaled, Curve(("clip", -1.0, 1.0))] if getattr(e, "clip", False) else [scaled]


def _robust(e: Any) -> list[Step]:
    mean = e.center_ if e.with_centering else np.zeros(e.n_features_in_)
    factor = 1 / e.scale_ if e.with_scaling else np.ones(e.n_features_in_)
    return [_scaled(mean, factor, centered(mean, e.scale_ if e.with_scaling else None))]


def _about(mean: Array, spread: Array | None, weight: Array) -> list[Step]:
    """``weight · (x − mean)``, about whole numbers near the mean."""
    center = centered(mean, spread)
    return [Matrix.of(weight, weight @ (center - mean), center)]


def _pca(e: Any) -> list[Step]:
    weight = np.asarray(e.components_, np.float64)
    spread = np.sqrt((weight**2 * e.explained_variance_[:, None]).sum(0) + max(0.0, float(e.noise_variance_)))
    if e.whiten:
        scale = np.sqrt(e.explained_variance_)
        least = np.finfo(scale.dtype).eps
        weight = weight / np.where(scale < least, least, scale)[:, None]
    mean = np.zeros(weight.shape[1]) if e.mean_ is None else np.asarray(e.mean_, np.float64)
    return _about(mean, spread, weight)


def _ica(e: Any) -> list[Step]:
    return _about(e.mean_, None, e.components_) if e.whiten else [Matrix.of(e.components_)]


def _factors(e: Any) -> list[Step]:
    scaled = e.components_ / e.noise_variance_
    inner = np.linalg.inv(np.eye(len(e.components_)) + scaled @ e.components_.T)
    return _about(e.mean_, np.sqrt(np.diag(e.get_covariance())), inner.T @ scaled)


def _discriminants(e: Any) -> list[Step]:
    if e.solver == "lsqr":
        raise ValueError('LinearDiscriminantAnalysis(solver="lsqr") has no transform: fit it with "svd" or "eigen"')
    weight = np.asarray(e.scalings_[:, : e._max_components], np.float64).T
    return _about(e.xbar_, None, weight) if e.solver == "svd" else [Matrix.of(weight)]


def _linear_scores(e: Any) -> list[Step]:
    weight, bias = np.atleast_2d(_dense(e.coef_)), np.ravel(e.intercept_)
    if not hasattr(e, "means_"):
        return [Matrix.of(weight, bias)]
    center = centered(e.priors_ @ e.means_)  # of linear discriminants
    return [Matrix.of(weight, bias + weight @ center, center)]


def _regression(e: Any) -> list[Step]:
    weight = _dense(e.coef_)
    single = weight.ndim == 1
    return [Matrix.of(np.atleast_2d(weight), np.ravel(e.intercept_), keep_axis=not single)]


def _perceptrons(e: Any) -> list[Step]:
    """The matrices and curves of a network, to its scores: what a classifier makes of them is decided elsewhere."""
    outer = {"identity"} if not hasattr(e, "classes_") else {"softmax", "logistic"}
    if e.out_activation_ not in outer:
        raise ValueError(
            f"{_name(e)} has the output activation {e.out_activation_!r}, which layers have not: "
            "fit it with another loss"
        )
    made: list[Step] = []
    for i, (weight, bias) in enumerate(zip(e.coefs_, e.intercepts_, strict=True)):
        last = i == len(e.coefs_) - 1
        single = last and not hasattr(e, "classes_") and weight.shape[1] == 1
        made.append(Matrix.of(weight.T, bias, keep_axis=not single))
        if not last and e.activation != "identity":
            made.append(Curve(_CURVES[e.activation]))
    return made


# ---------------------------------------------------------------------------------------------------- pixels


def pixels(steps: list[Step], given: Any, channels: int) -> Array:
    """256 pixels to compare on: of those given, or made up about the center that the first step takes off."""
    if given is not None:
        rows = np.asarray(given)
        if rows.ndim < 2 or rows.shape[-1] != channels:
            raise ValueError(f"pixels has shape {rows.shape}, expected (…, {channels}), the channels last")
        rows = rows.reshape(-1, channels)
        chosen: Array = rows[np.linspace(0, len(rows) - 1, min(PIXELS, len(rows))).astype(int)].astype(np.float32)
        return chosen
    normal = np.random.default_rng(0).standard_normal((PIXELS, channels))
    first = steps[0] if steps else Scale.of()
    if isinstance(first, Scale):
        with np.errstate(divide="ignore"):
            spread = np.where(first.factor != 0, 1 / np.abs(first.factor), 1.0)
        # of MinMaxScaler's range the middle, of others the center
        middle = first.center + np.where(first.factor != 0, -first.shift / first.factor, 0)
        return (middle + normal * spread).astype(np.float32)
    assert isinstance(first, Matrix)
    size = np.sqrt((first.weight**2).sum(0).mean()) or 1.0
    return (first.center + normal / size).astype(np.float32)


def channels(estimator: Any) -> int:
    """How many features an estimator was fitted to."""
    if hasattr(estimator, "n_features_in_"):
        return int(estimator.n_features_in_)
    for _, step in getattr(estimator, "steps", ()):
        if not isinstance(step, str) and step is not None:
            return channels(step)
    raise ValueError(f"nothing in {_name(estimator)} says how many features it was fitted to")


def original(estimator: Any, output: str, x: Array, names: list[str] | None) -> Array:
    """What scikit-learn makes of pixels, labels of text as their codes."""
    last = _unrolled(estimator)[1]
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # that x has no names
        rows = x.astype(np.float64)
        passes = last is None and not hasattr(estimator, "transform")
        y: Array = rows if passes else np.asarray(getattr(estimator, output)(rows))
    return np.asarray(np.searchsorted(names, y)) if names is not None and output == "predict" else y
