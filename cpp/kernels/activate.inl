// Activation functions, in place over contiguous values at any address: y[i] = f(y[i]) for i < n, where a and b are
// the bounds of clamp, or a is the slope of leaky_relu. The formulas are those of `activate` in reference.py, for
// infinities too; NaN goes through every one of them.
//
// The same bits on every instruction set: an element meets only + − * /, comparisons, selects, bit casts and integer
// operations, which IEEE 754 defines exactly (in round-to-nearest); no fma, no libm, no table. Nor is there a branch,
// so that the compiler turns each loop into vectors by itself.
//
// Errors, measured against the exact functions, in units in the last place (of the smallest normal number below that):
// sigmoid, silu and tanh less than 2.6, gelu less than 4.5, for float and double, down to the far tails.
#pragma once

#include "anywhere.inl"

namespace conv1x1 {
namespace {

template <class T>
struct Real;

// The x86 min and max: y where y is NaN.
template <class T>
inline T lesser(T bound, T y) {
  return bound < y ? bound : y;
}
template <class T>
inline T greater(T bound, T y) {
  return bound > y ? bound : y;
}

template <class T>
constexpr typename Real<T>::Bits sign_bit = typename Real<T>::Bits(1) << (8 * sizeof(T) - 1);

template <class T>
inline T absolute(T y) {
  return bit_cast<T>(bit_cast<typename Real<T>::Bits>(y) & ~sign_bit<T>);
}
template <class T>
inline T with_sign_of(T y, T magnitude) {
  using Bits = typename Real<T>::Bits;
  return bit_cast<T>(bit_cast<Bits>(absolute(magnitude)) | (bit_cast<Bits>(y) & sign_bit<T>));
}

// c0 + c1 x + c2 x² + …, two coefficients a step: half the latency of Horner's rule, which is what its loop waits for.
template <class T>
inline T polynomial(T, T, T c) {
  return c;
}
template <class T, class... C>
inline T polynomial(T x, T xx, T c0, T c1, C... higher) {
  if constexpr (sizeof...(higher) == 0)
    return c0 + x * c1;
  else
    return (c0 + x * c1) + xx * polynomial(x, xx, higher...);
}

// All that float and double do not share. ln 2 is in two parts as in Cody and Waite (1980): k * ln2_high is exact.
// Coefficients: interpolation at Chebyshev nodes in 60 digits, then rounded; the errors given include the rounding.
template <>
struct Real<float> {
  using Bits = uint32_t;
  static constexpr int fraction_bits = 23, bias = 127;
  static constexpr float integers = 0x1.8p23f, grid = 0x1.8p16f;  // to add them rounds to multiples of 1, of 2^-7
  static constexpr float ln2_high = 0.693359375f, ln2_low = -2.12194440e-4f;
  static constexpr int lift = 64;
  static constexpr float lowered = 0x1p-64f;
  static constexpr float exp_end = 110, gelu_end = 14.5f, gelu_centre = 3.375f;

  // (e^r − 1 − r) / r² on |r| ≤ 0.35; makes e^r − 1 to 2e-9.
  static float exp_series(float r) {
    return polynomial(r, r * r, 0.5f, 0.16666667f, 0.041666456f, 0.0083333105f, 0.0013934532f, 0.0001989197f);
  }
  // See gelu; to 8.2e-9 on x ≤ 14.5.
  static float tail_series(float t) {
    return polynomial(t, t * t, 0.7410803f, -0.5529922f, 0.29537585f, -0.0983843f, 0.008719965f, 0.007824627f,
                      -0.0022543143f, -0.0008503014f, 0.00031343367f, 0.00013742837f);
  }
};

template <>
struct Real<double> {
  using Bits = uint64_t;
  static constexpr int fraction_bits = 52, bias = 1023;
  static constexpr double integers = 0x1.8p52, grid = 0x1.8p33;  // of 1, of 2^-19
  static constexpr double ln2_high = 0.693145751953125, ln2_low = 1.42860682030941723212e-6;
  static constexpr int lift = 128;
  static constexpr double lowered = 0x1p-128;
  static constexpr double exp_end = 755, gelu_end = 38.6, gelu_centre = 5.75;

  // Makes e^r − 1 to 9e-19.
  static double exp_series(double r) {
    return polynomial(r, r * r, 0.5, 0.1666666666666667, 0.04166666666666667, 0.008333333333325551,
                      0.0013888888888883332, 0.00019841269876840357, 2.480158732699005e-05, 2.755725286336732e-06,
                      2.755727183153613e-07, 2.5106262550879078e-08, 2.0915433598076003e-09);
  }
  // To 1.5e-16 on x ≤ 38.75.
  static double tail_series(double t) {
    return polynomial(t, t * t, 0.775666160541775, -0.6935255567228328, 0.5530564397763909, -0.3912771118307658,
                      0.2433460776068965, -0.1310446159442153, 0.059544460652313336, -0.021730593812731645,
                      0.005651495804604544, -0.0005920093303765288, -0.0002801314248264898, 0.00015248986904134405,
                      -1.7645280042472398e-05, -1.1925442055518742e-05, 4.902927761394371e-06, 4.321798410076942e-07,
                      -6.973792676461822e-07, 3.893526058517793e-08, 8.438480056895601e-08, -7.687102259870129e-09,
                      -7.396342499355489e-09);
  }
};

// e^(x + rest) = (1 + fraction) * power / 2^lift: in two parts, since e^x − 1 wants them apart, and lifted or lowered,
// since e^x may leave the normal numbers where the result does not. The rest of no rest is −0, which changes no number.
template <class T>
struct Exponential {
  T fraction, power;
};

template <class T>
inline Exponential<T> exponential(T x, T rest, int lift) {
  using R = Real<T>;
  using Bits = typename R::Bits;
  const T shifted = (x + rest) * T(1.44269504088896340736) + R::integers;
  const T k = shifted - R::integers;
  const T r = ((x - k * R::ln2_high) - k * R::ln2_low) + rest;
  const Bits exponent = bit_cast<Bits>(shifted) + Bits(R::bias + lift);  // k stands in the low bits of `shifted`
  return {r + r * r * R::exp_series(r), bit_cast<T>(exponent << R::fraction_bits)};
}

// e^x / 2^lift for x ≥ −40. Callers say 0 − y: −y turns the sign of NaN or not, as the compiler likes.
template <class T>
inline T lowered_exp(T x) {
  const auto e = exponential(x, T(-0.0), -Real<T>::lift);
  return x > Real<T>::exp_end ? T(__builtin_inf()) : (1 + e.fraction) * e.power;
}

template <class T>
inline T sigmoid(T y) {
  constexpr T one = Real<T>::lowered;
  return one / (one + lowered_exp(0 - lesser(T(40), y)));
}

template <class T>
inline T silu(T y) {
  constexpr T one = Real<T>::lowered;
  return y > 40 ? y : y / (one + lowered_exp(0 - y)) * one;
}

// tanh |y| = z / (z + 2) with z = e^2|y| − 1, as in fdlibm; z keeps its accuracy where it is small.
template <class T>
inline T hyperbolic_tangent(T y) {
  const auto e = exponential(lesser(T(48), 2 * absolute(y)), T(-0.0), 0);
  const T z = e.power * e.fraction + (e.power - 1);
  return with_sign_of(y, z / (z + 2));
}

// y Φ(y) = max(y, 0) − x Φ(−x) with x = |y|, and Φ(−x) = e^(−x²/2) * series(t) / (x + c), where the series, which is
// Mills' ratio times (x + c) / √2π, is a polynomial in t = (x − c) / (x + c), the variable of Schonfelder (1978). x²
// comes in two parts as in Cody (1969): its rounding would grow x²-fold. The one division is x / (x + c): t and the
// result follow from it, and its errors do not grow on the way.
template <class T>
inline T gelu(T y) {
  using R = Real<T>;
  const T x = absolute(y);
  const T head = (x + R::grid) - R::grid;
  const auto e = exponential(T(-0.5) * head * head, T(-0.5) * (x - head) * (x + head), R::lift);
  const T v = x / (x + R::gelu_centre);
  const T series = v * R::tail_series(2 * v - 1);
  const T tail = x > R::gelu_end ? T(0) : (series + series * e.fraction) * e.power * R::lowered;
  return y * (y < 0 ? T(0) : T(1)) - tail;
}

// In the type of the sums, but neither 0 nor infinite unless it is: it meets infinities.
template <class T>
inline T slope_of(double slope) {
  using Bits = typename Real<T>::Bits;
  const T nearest = static_cast<T>(slope), sign = slope < 0 ? T(-1) : T(1), infinity = T(__builtin_inf());
  if (nearest == 0 && slope != 0) return with_sign_of(sign, bit_cast<T>(Bits(1)));
  if (absolute(nearest) == infinity && (slope < 0 ? -slope : slope) != __builtin_inf())
    return with_sign_of(sign, bit_cast<T>(bit_cast<Bits>(infinity) - 1));
  return nearest;
}

template <class T, class F>
inline void for_each(char* y, size_t n, F f) {
  Anywhere<T>* numbers = at<T>(y);
  for (size_t i = 0; i < n; ++i) numbers[i].value = f(numbers[i].value);
}

template <class T>
void activate_bytes(char* y, size_t n, Activation activation, double a, double b) noexcept {
  const T low = static_cast<T>(a), high = static_cast<T>(b);
  const auto hard = [](T v) { return lesser(T(6), greater(T(0), v + 3)) / 6; };
  switch (activation) {
    case Activation::none: return;
    case Activation::clamp: return for_each<T>(y, n, [=](T v) { return lesser(high, greater(low, v)); });
    case Activation::leaky_relu: {
      const T slope = slope_of<T>(a);
      return for_each<T>(y, n, [=](T v) { return v < 0 ? slope * v : v; });
    }
    case Activation::hardsigmoid: return for_each<T>(y, n, hard);
    case Activation::hardswish: return for_each<T>(y, n, [=](T v) { return v * hard(v); });
    case Activation::sigmoid: return for_each<T>(y, n, [](T v) { return sigmoid(v); });
    case Activation::silu: return for_each<T>(y, n, [](T v) { return silu(v); });
    case Activation::tanh: return for_each<T>(y, n, [](T v) { return hyperbolic_tangent(v); });
    case Activation::gelu: return for_each<T>(y, n, [](T v) { return gelu(v); });
  }
}

template <class T>
void activate(T* y, size_t n, Activation activation, double a, double b) noexcept {
  activate_bytes<T>(reinterpret_cast<char*>(y), n, activation, a, b);
}

}  // namespace
}  // namespace conv1x1
