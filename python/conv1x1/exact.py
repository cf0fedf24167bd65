"""Sums that are never rounded, whatever the order of what they are of."""

from __future__ import annotations

import math
from fractions import Fraction
from typing import Any

import numpy as np

from .checks.arrays import Array

#: Bits of a digit of an exact sum; int64 has room for 2³¹ of them.
DIGIT = 32


class ExactSum:
    """A sum of arrays of float64 that is never rounded, so that their order does not matter."""

    def __init__(self) -> None:
        self.digits: dict[int, Array] = {}  # whole multiples of 2^(32·key)
        self.wrong: Any = False  # where something was infinite or NaN

    def add(self, values: Array) -> None:
        finite = np.isfinite(values)
        self.wrong = self.wrong | ~finite
        rest = np.where(finite, values, 0.0)
        while (largest := float(np.abs(rest).max(initial=0))) > 0:
            key = (math.frexp(largest)[1] - 1) // DIGIT
            digits = np.trunc(np.ldexp(rest, -DIGIT * key))
            self._add_digits(key, digits.astype(np.int64))
            rest = rest - np.ldexp(digits, DIGIT * key)

    def merge(self, other: ExactSum) -> None:
        for key, digits in other.digits.items():
            self._add_digits(key, digits)
        self.wrong = self.wrong | other.wrong

    def _add_digits(self, key: int, digits: Array) -> None:
        self.digits[key] = self.digits[key] + digits if key in self.digits else digits

    def whole(self, least: int, *at: Any) -> Array:
        """Some of it in units of 2^(32·least), as Python's integers."""
        found: Any = 0
        for key, digits in self.digits.items():
            found = found + (digits[at].astype(object) << (DIGIT * (key - least)))
        return np.asarray(found, object)


def divided(above: Array, least: int, below: Fraction) -> Array:
    """Whole numbers in units of 2^(32·least), divided; each result is the nearest float64."""
    ratio = Fraction(2) ** (DIGIT * least) / below
    top, bottom = ratio.numerator, ratio.denominator

    def one(number: int) -> float:
        try:
            return number * top / bottom
        except OverflowError:
            return math.copysign(math.inf, number)

    return np.fromiter((one(number) for number in above), np.float64, len(above))


def halves(a: Array) -> tuple[Array, Array]:
    """Two numbers of at most 26 bits each whose sum is a (T. J. Dekker's splitting, Numer. Math. 18, 1971)."""
    mantissa, exponent = np.frexp(a)
    high = np.ldexp(np.rint(np.ldexp(mantissa, 26)), exponent - 26)
    return high, a - high
