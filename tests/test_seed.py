"""The question this project grew from: 28×28×192 times 1×1×192 is 28×28×192; what shrinks it is the sum."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest

from conv1x1 import Conv1x1, conv1x1, reference


@pytest.fixture
def x(normal: Any) -> Any:
    return normal(28, 28, 192)


def test_one_filter_shrinks_192_channels_to_one(x: Any, normal: Any) -> None:
    w = normal(1, 1, 192)
    assert conv1x1(x, w).shape == (28, 28, 1)


@pytest.mark.parametrize("filters", [1, 4, 16, 32, 64])
def test_k_filters_make_k_channels(x: Any, normal: Any, within_bound: Any, filters: int) -> None:
    w = normal(filters, 192)
    y = conv1x1(x, w)
    assert y.shape == (28, 28, filters)
    assert y.dtype == np.float32
    within_bound(y.reshape(-1, filters), x.reshape(-1, 192), w)


def test_the_product_keeps_its_shape_and_the_sum_is_what_shrinks_it(exact: Any) -> None:
    x, w = exact(28, 28, 192), exact(1, 1, 192)
    products = x * w
    assert products.shape == (28, 28, 192)
    assert products.sum(-1).shape == (28, 28)
    np.testing.assert_array_equal(conv1x1(x, w), products.sum(-1, keepdims=True))
    np.testing.assert_array_equal(conv1x1(x, w[0, 0]), products.sum(-1))


@pytest.mark.parametrize("function", [conv1x1, reference, lambda m, w, **k: Conv1x1(w, **k)(m)])
@pytest.mark.parametrize("dtype", [np.float32, np.float64])
def test_the_worked_example(function: Any, dtype: Any) -> None:
    """Pixel by pixel 2·1 + 3·5, 2·2 + 3·6, 2·3 + 3·7, 2·4 + 3·8."""
    m = np.array([[[1, 2], [3, 4]], [[5, 6], [7, 8]]], dtype)
    for w in ([2, 3], np.array([2, 3], dtype)):
        y = function(m, w, channel_axis=0)
        assert y.tolist() == [[17, 22], [27, 32]]
        assert y.shape == (2, 2)


def test_one_filter_as_a_column_and_as_a_needle() -> None:
    m = np.array([[[1, 2], [3, 4]], [[5, 6], [7, 8]]], np.float32)
    for w in (np.full((2, 1, 1), 1.0), np.full((1, 1, 2), 1.0), np.full((1, 2), 1.0)):
        assert conv1x1(m, w, channel_axis=0).tolist() == [[[6, 8], [10, 12]]]


def test_equals_matmul_and_einsum(exact: Any) -> None:
    x, w = exact(28, 28, 192), exact(32, 192)
    y = conv1x1(x, w)
    np.testing.assert_array_equal(y, x @ w.T)
    np.testing.assert_array_equal(y, np.einsum("hwc,kc->hwk", x, w))
    np.testing.assert_array_equal(conv1x1(x, w[0]), x @ w[0])
    chw = np.ascontiguousarray(x.transpose(2, 0, 1))
    np.testing.assert_array_equal(conv1x1(chw, w, channel_axis=0), np.einsum("chw,kc->khw", chw, w))


def test_equals_torch(exact: Any) -> None:
    torch = pytest.importorskip("torch")
    x, w, bias = exact(2, 12, 9, 7), exact(6, 4, 1, 1), exact(6)
    for stride in (1, 2, (2, 3)):
        theirs = torch.nn.functional.conv2d(*map(torch.from_numpy, (x, w, bias)), stride=stride, groups=3)
        ours = conv1x1(x, w, bias, channel_axis=1, stride=stride, groups=3)
        np.testing.assert_array_equal(ours, theirs.numpy())
