"""Every type of pixels, weights, residual and result: exact conversions, exact sums, and which type comes out."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest

from conv1x1 import Conv1x1, conv1x1

ONE = np.ones((1, 1))


def converted(x: Any, dtype: Any, filters: int = 1) -> Any:
    """Numbers in another type, by the core: through the way of colour pixels, or that of tiles."""
    return conv1x1(np.ravel(x)[:, None], np.ones((filters, 1)), dtype=dtype)[:, 0]


# ---------------------------------------------------------------------------------------------- conversions


@pytest.mark.parametrize("filters", [1, 5])
@pytest.mark.parametrize(
    ("x_type", "y_type", "first"), [("f4", "i4", 2.0**22), ("f4", "i8", 2.0**22), ("f8", "i8", 2.0**51)]
)
def test_the_last_halves_are_rounded(isa: str, x_type: str, y_type: str, first: float, filters: int) -> None:
    """Where a float has one bit left behind the point."""
    steps = np.arange(0, 20, 0.5)
    x = np.concatenate([first + steps, 2 * first - 0.5 - steps, -first - steps]).astype(x_type)
    assert (x != np.rint(x)).any()
    np.testing.assert_array_equal(converted(x, y_type, filters), np.rint(x).astype(y_type))


@pytest.mark.parametrize("filters", [1, 5])
def test_what_is_too_small_becomes_zero(isa: str, filters: int) -> None:
    x = np.array([1e-60, -1e-60, 5e-324, -5e-324, 2.0**-150, -(2.0**-150), 2.0**-26, -(2.0**-26)])
    y = converted(x, np.float16, filters)
    np.testing.assert_array_equal(y, np.zeros(8))
    np.testing.assert_array_equal(np.signbit(y), x < 0)


def test_an_int64_residual_is_not_rounded() -> None:
    x, w = np.ones((3, 1), np.uint16), np.ones((1, 1), np.int16)
    np.testing.assert_array_equal(conv1x1(x, w, residual=np.full((3, 1), 2**31 - 1)), np.full((3, 1), 2**31))
    with pytest.raises(ValueError, match="residual holds integers beyond int32"):
        Conv1x1(w)(x, np.full((3, 1), 2**60 + 1))
