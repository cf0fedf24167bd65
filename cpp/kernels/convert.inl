// Numbers of one type turned into those of another, contiguous on both sides, at any address.
//
// To integers: rounded half to even, saturated, NaN to 0. To smaller floats: rounded half to even, overflow to
// infinity, NaN to a quiet NaN with what fits of its payload. The same bits on every instruction set: selects, integer
// operations and exactly rounded ones only, without a branch, so that the compiler turns each loop into vectors by
// itself. Where the processor converts halves, an instruction-set file says so with CONV1X1_HALVES (halves_x86.inl):
// the same values.
#pragma once

#include "anywhere.inl"
#include "compiler.h"

namespace conv1x1 {
namespace {

struct Half {
  uint16_t bits;
};
struct BFloat {
  uint16_t bits;
};
struct Boolean {
  uint8_t byte;  // true where it is not 0
};

template <class T>
constexpr bool is_float = false;
template <>
constexpr bool is_float<float> = true;
template <>
constexpr bool is_float<double> = true;

template <class T>
struct Limits;
template <>
struct Limits<uint8_t> {
  static constexpr int64_t low = 0, high = 255;
};
template <>
struct Limits<int8_t> {
  static constexpr int64_t low = -128, high = 127;
};
template <>
struct Limits<uint16_t> {
  static constexpr int64_t low = 0, high = 65535;
};
template <>
struct Limits<int16_t> {
  static constexpr int64_t low = -32768, high = 32767;
};
template <>
struct Limits<int32_t> {
  static constexpr int64_t low = -2147483647 - 1, high = 2147483647;
};
template <>
struct Limits<int64_t> {
  static constexpr int64_t low = -9223372036854775807 - 1, high = 9223372036854775807;
};

inline float widened(Half h) {
  // The exponent moves from bias 15 to 127 by a multiplication, which sets subnormals right too.
  const uint32_t magnitude = (h.bits & 0x7fffu) << 13, sign = (h.bits & 0x8000u) << 16;
  const uint32_t scaled = bit_cast<uint32_t>(bit_cast<float>(magnitude) * 0x1p112f);
  const uint32_t beyond = magnitude | 0x7f800000u | ((h.bits & 0x3ffu) ? 0x400000u : 0u);  // infinity, NaN
  return bit_cast<float>(sign | (magnitude >= 0x0f800000u ? beyond : scaled));
}

inline float widened(BFloat b) { return bit_cast<float>(static_cast<uint32_t>(b.bits) << 16); }

inline Half halved(float value) {
  const uint32_t bits = bit_cast<uint32_t>(value), magnitude = bits & 0x7fffffffu;
  // Below 2^-14, adding 0.5 leaves the multiple of 2^-24 in the lowest bits, rounded.
  const uint32_t subnormal = bit_cast<uint32_t>(bit_cast<float>(magnitude) + 0.5f) - 0x3f000000u;
  const uint32_t normal = (magnitude - 0x38000000u + 0xfffu + ((magnitude >> 13) & 1)) >> 13;
  const uint32_t beyond = magnitude > 0x7f800000u ? 0x7e00u | ((magnitude >> 13) & 0x3ffu) : 0x7c00u;
  const uint32_t half = magnitude >= 0x47800000u ? beyond : magnitude < 0x38800000u ? subnormal : normal;
  return {static_cast<uint16_t>(half | (bits >> 16 & 0x8000u))};
}

inline BFloat truncated(float value) {
  const uint32_t bits = bit_cast<uint32_t>(value);
  const uint32_t rounded = (bits + 0x7fffu + ((bits >> 16) & 1)) >> 16, nan = (bits >> 16) | 0x40u;
  return {static_cast<uint16_t>((bits & 0x7fffffffu) > 0x7f800000u ? nan : rounded)};
}

// The float next to a double on the side of zero, with its last bit set where it is not the double itself: rounding it
// again, to a type of two bits less or fewer, is rounding the double.
inline float rounded_to_odd(double value) {
  const float nearest = static_cast<float>(value);
  const uint32_t bits = bit_cast<uint32_t>(nearest);
  const double back = nearest;
  const bool inexact = back < value || back > value;  // not for NaN
  const bool too_far = __builtin_fabs(back) > __builtin_fabs(value);
  return bit_cast<float>(inexact ? (bits - (too_far ? 1 : 0)) | 1 : bits);
}

template <class T>
struct Shape;
template <>
struct Shape<float> {
  using Bits = uint32_t;
  static constexpr float unit = 0x1p23f;  // from here on there are no fractions
};
template <>
struct Shape<double> {
  using Bits = uint64_t;
  static constexpr double unit = 0x1p52;
};

// Rounded half to even: where a unit has been added, there is no place for a fraction.
template <class T>
inline T whole(T v) {
  using Bits = typename Shape<T>::Bits;
  constexpr Bits sign_bit = Bits(1) << (8 * sizeof(T) - 1);
  const Bits bits = bit_cast<Bits>(v);
  const T magnitude = bit_cast<T>(bits & ~sign_bit);
  const T rounded = (magnitude + Shape<T>::unit) - Shape<T>::unit;
  return bit_cast<T>((bits & sign_bit) | bit_cast<Bits>(magnitude < Shape<T>::unit ? rounded : magnitude));
}

template <class D, class S>
inline D saturated(S value) {
  constexpr S low = static_cast<S>(Limits<D>::low), high = static_cast<S>(Limits<D>::high);
  const S number = value == value ? value : S(0);
  const S above = number > low ? number : low;
  if constexpr (sizeof(D) < 4) {
    // A unit and a half added leaves the rounded number in the lowest bits, of negative ones too.
    using Bits = typename Shape<S>::Bits;
    constexpr S shift = Shape<S>::unit + Shape<S>::unit / 2;
    const S inside = above < high ? above : high;
    return static_cast<D>(bit_cast<Bits>(inside + shift) - bit_cast<Bits>(shift));
  } else {
    // `high` may have been rounded up: what reaches it is set by hand.
    const S inside = above < high ? above : S(0);
    const D converted = static_cast<D>(whole(inside));
    return above < high ? converted : static_cast<D>(Limits<D>::high);
  }
}

// One number; what is not here is not needed.
template <class S, class D>
inline D converted(S v) {
  if constexpr (is_float<S> && is_float<D>)
    return static_cast<D>(v);
  else if constexpr (is_float<S>)
    return saturated<D>(v);
  else if constexpr (is_float<D> || sizeof(D) > sizeof(S))
    return static_cast<D>(v);
  else
    return static_cast<D>(v < S(Limits<D>::low) ? S(Limits<D>::low) : v > S(Limits<D>::high) ? S(Limits<D>::high) : v);
}
// 64-bit integers: each half of the bits stands in the fraction of a double by itself; their sum is rounded once. (The
// upper half of a negative number is that of one larger by 2^63.) Processors of before AVX-512 have no instruction.
template <>
inline double converted<uint64_t, double>(uint64_t v) {
  const double high = bit_cast<double>((v >> 32) | 0x4530000000000000u) - (0x1p84 + 0x1p52);
  return high + bit_cast<double>((v & 0xffffffffu) | 0x4330000000000000u);
}
template <>
inline double converted<int64_t, double>(int64_t v) {
  const uint64_t bits = static_cast<uint64_t>(v);
  const double high = bit_cast<double>((bits >> 32) ^ 0x4530000080000000u) - (0x1p84 + 0x1p63 + 0x1p52);
  return high + bit_cast<double>((bits & 0xffffffffu) | 0x4330000000000000u);
}
// By way of a double that has them whole, or else with its last bit set for what is cut off: rounded once, to a float.
template <>
inline float converted<uint64_t, float>(uint64_t v) {
  const uint64_t odd = (v | ((v & 2047) + 2047)) & ~uint64_t{2047};
  return static_cast<float>(converted<uint64_t, double>(v >> 53 ? odd : v));
}
template <>
inline float converted<int64_t, float>(int64_t v) {
  const int64_t odd = (v | ((v & 2047) + 2047)) & ~int64_t{2047};
  return static_cast<float>(
      converted<int64_t, double>((static_cast<uint64_t>(v) + (uint64_t{1} << 53)) >> 54 ? odd : v));
}
template <>
inline float converted<Half, float>(Half v) {
  return widened(v);
}
template <>
inline float converted<BFloat, float>(BFloat v) {
  return widened(v);
}
template <>
inline double converted<Half, double>(Half v) {
  return widened(v);
}
template <>
inline double converted<BFloat, double>(BFloat v) {
  return widened(v);
}
template <>
inline Half converted<float, Half>(float v) {
  return halved(v);
}
template <>
inline BFloat converted<float, BFloat>(float v) {
  return truncated(v);
}
template <>
inline Half converted<double, Half>(double v) {
  return halved(rounded_to_odd(v));
}
template <>
inline BFloat converted<double, BFloat>(double v) {
  return truncated(rounded_to_odd(v));
}
template <>
inline float converted<Boolean, float>(Boolean v) {
  return v.byte != 0;
}
template <>
inline double converted<Boolean, double>(Boolean v) {
  return v.byte != 0;
}
template <>
inline uint8_t converted<Boolean, uint8_t>(Boolean v) {
  return v.byte != 0;
}
template <>
inline int16_t converted<Boolean, int16_t>(Boolean v) {
  return v.byte != 0;
}

template <class S, class D>
void convert(const char* src, char* dst, size_t n) noexcept {
  const Anywhere<S>* __restrict from = at<S>(src);
  Anywhere<D>* __restrict to = at<D>(dst);
  for (size_t i = 0; i < n; ++i) to[i].value = converted<S, D>(from[i].value);
}

// To float32, a block at a time: most 64-bit integers fit 32 bits, and those cost a third.
template <class S>
void narrow_to_floats(const char* src, char* dst, size_t n) noexcept {
  constexpr size_t block = 64;
  constexpr uint64_t reach = S(-1) > S(0) ? 0 : uint64_t{1} << 31;  // to what is not negative, if it fits
  const Anywhere<S>* from = at<S>(src);
  Anywhere<float>* to = at<float>(dst);
  for (; n > 0; from += block, to += block) {
    const size_t count = n < block ? n : block;
    uint64_t bits = 0;
    for (size_t i = 0; i < count; ++i) bits |= static_cast<uint64_t>(from[i].value) + reach;
    if (bits >> (reach ? 32 : 31))
      convert<S, float>(reinterpret_cast<const char*>(from), reinterpret_cast<char*>(to), count);
    else
      for (size_t i = 0; i < count; ++i) to[i].value = static_cast<float>(static_cast<int32_t>(from[i].value));
    n -= count;
  }
}

// Magnitudes of floats are in the order of their bits.
template <class T>
uint64_t bits_of(T value) {
  return static_cast<uint64_t>(value);
}
template <>
inline uint64_t bits_of<double>(double value) {
  uint64_t bits;
  __builtin_memcpy(&bits, &value, sizeof bits);
  return bits & uint64_t(-1) >> 1;
}

// What is beyond int64 counts as its largest. A block with nothing larger than what was met is passed over quickly.
template <class T>
uint64_t largest(const char* numbers, size_t n, uint64_t found) noexcept {
  constexpr size_t block = 256;
  constexpr uint64_t most = uint64_t(-1) >> 1;
  constexpr bool is_float = T(0.5) != T(0), is_signed = T(-1) < T(0) && !is_float;
  const Anywhere<T>* from = at<T>(numbers);
  for (; n > 0; from += block) {
    const size_t count = n < block ? n : block;
    uint64_t beyond = 0;  // its first bit: of a number too large, or too far below 0
#pragma GCC unroll 4
    for (size_t i = 0; i < count; ++i) {
      const uint64_t v = bits_of(from[i].value);
      beyond |= found - v;
      if (!is_float) beyond |= is_signed ? v + found : v;
    }
    if (beyond > most) {
      for (size_t i = 0; i < count; ++i) {
        const uint64_t v = bits_of(from[i].value);
        const uint64_t magnitude = is_signed && v > most ? 0 - v : v;
        found = magnitude < found ? found : magnitude < most ? magnitude : most;
      }
    }
    n -= count;
  }
  return found;
}

inline void raise_int8(const char* src, char* dst, size_t n) noexcept {
  for (size_t i = 0; i < n; ++i) dst[i] = static_cast<char>(src[i] ^ 0x80);
}

template <class T>
void add(const char* src, char* dst, size_t n) noexcept {
  const Anywhere<T>* __restrict from = at<T>(src);
  Anywhere<T>* __restrict to = at<T>(dst);
  for (size_t i = 0; i < n; ++i) to[i].value += from[i].value;
}

template <class S, class T>
void center(const Center& a) noexcept {
  const size_t rows = a.rows, length = a.length;
  const Anywhere<T>* off = at<T>(a.center);
  for (size_t i = 0; i < rows; ++i) {
    const Anywhere<S>* from = at<S>(a.src + static_cast<ptrdiff_t>(i) * a.src_row);
    Anywhere<T>* to = at<T>(a.dst + static_cast<ptrdiff_t>(i) * a.dst_row);
    if (a.of_rows) {
      const T one = off[i].value;
      CONV1X1_INDEPENDENT_TURNS
      for (size_t j = 0; j < length; ++j) to[j].value = converted<S, T>(from[j].value) - one;
    } else {
      CONV1X1_INDEPENDENT_TURNS
      for (size_t j = 0; j < length; ++j) to[j].value = converted<S, T>(from[j].value) - off[j].value;
    }
  }
}

}  // namespace
}  // namespace conv1x1
