"""Estimators of scikit-learn as layers and chains, which then need no scikit-learn: `from_estimator`."""

from __future__ import annotations

from typing import Any

import numpy as np

from .checks import geometry
from .checks.arrays import ArrayLike
from .importing import comparing, estimators
from .importing.steps import Scale, elements, fold
from .layers import Conv1x1
from .sequential import Sequential


def from_estimator(
    estimator: Any, *, channel_axis: int = -1, output: str | None = None, pixels: ArrayLike | None = None
) -> Conv1x1 | Sequential:
    """A fitted estimator of scikit-learn, or a pipeline of them, as a chain over the channels of every pixel.

    ``net(scene)`` is what ``estimator.predict(scene.reshape(-1, channels))`` gives, as an image. Means that are taken
    off become the first layer's `center`, all that is linear is folded in float64, and the result is compared with the
    estimator's on 256 pixels.

    Known are StandardScaler, MinMaxScaler, MaxAbsScaler, RobustScaler; PCA, IncrementalPCA, TruncatedSVD, FastICA,
    FactorAnalysis, random projections, what selects features; LinearDiscriminantAnalysis; linear regressions as
    LinearRegression, Ridge and Lasso; linear classifiers as LogisticRegression, LinearSVC, RidgeClassifier and
    SGDClassifier; MLPClassifier, MLPRegressor; and what a search over them found.

    Parameters
    ----------
    estimator : estimator or Pipeline
        Fitted. Of a pipeline, steps that are ``"passthrough"`` are left out.
    channel_axis : int, default -1
        The axis of x that holds the channels, scikit-learn's features.
    output : str, optional
        ``"predict"`` (the default of all that predict): labels, in the smallest type that holds them; of labels that
        are text their codes, the index in ``net.class_names``. ``"predict_proba"``, ``"decision_function"``;
        ``"transform"``.
    pixels : array_like, optional
        Pixels to compare on, ``(…, channels)``. By default they are made up about the estimator's means.

    Returns
    -------
    Conv1x1 or Sequential
        A chain where there is more than one layer, or where there are names: `feature_names_in_` is kept in
        `band_names`.

    Raises
    ------
    ImportError
        When scikit-learn is not installed.
    TypeError, ValueError
        When the estimator is not fitted, not linear and no perceptron, fitted to several labels a pixel, or if the
        result differs from its own by more than rounding; saying which step it is, or both numbers.

    Examples
    --------
    >>> import numpy as np
    >>> from sklearn.linear_model import LogisticRegression  # doctest: +SKIP
    >>> from conv1x1.sklearn import from_estimator
    >>> random = np.random.default_rng(0)
    >>> spectra, fields = random.normal(100, 30, (500, 12)), random.integers(0, 3, 500)
    >>> net = from_estimator(LogisticRegression(max_iter=9).fit(spectra, fields))  # doctest: +SKIP
    >>> net(random.integers(0, 200, (64, 64, 12), np.uint16)).shape  # doctest: +SKIP
    (64, 64)
    """
    return imported(estimator, channel_axis, output, pixels)[0]


def imported(
    estimator: Any, channel_axis: int, output: str | None, pixels: ArrayLike | None
) -> tuple[Conv1x1 | Sequential, comparing.Comparison]:
    """The chain, and how it compared."""
    axis = geometry.axis_number(channel_axis)
    found = estimators.read(estimator, output)
    channels = estimators.channels(estimator)
    x = estimators.pixels(found.steps, pixels, channels)
    steps = fold([*(() if pixels is None else (Scale.about(x),)), *found.steps])
    bands = [str(n) for n in getattr(estimator, "feature_names_in_", ())] or None

    def made(along: int) -> Conv1x1 | Sequential:
        parts = elements(steps or (Scale.of(),), along, channels)
        if len(parts) == 1 and isinstance(parts[0], Conv1x1) and bands is None and found.class_names is None:
            return parts[0]
        return Sequential(parts, channel_axis=along, band_names=bands, class_names=found.class_names)

    net = made(axis)
    theirs = estimators.original(estimator, found.output, x, found.class_names)
    ours = (net if axis == -1 else made(-1))(x)
    what = f"{type(estimator).__name__}.{found.output}"
    return net, comparing.compare(steps, x, np.asarray(ours), theirs, what, doubled=False)
