#include "elements.h"

#include <algorithm>
#include <cmath>
#include <cstdint>
#include <cstring>
#include <limits>

#include "call/problem.h"

namespace conv1x1 {
namespace {

template <class T>
T load(const char* at) {
  T value;
  std::memcpy(&value, at, sizeof(value));
  return value;
}

template <class T>
void store(char* at, T value) {
  std::memcpy(at, &value, sizeof(value));
}

// Floats of 16 bits: a sign, an exponent, and a fraction of that many bits.
struct Format {
  int fraction_bits, bias;
  int infinity() const { return (0x7fff >> fraction_bits) << fraction_bits; }
};
constexpr Format half{10, 15}, bfloat{7, 127};

double small_float(uint16_t bits, Format format) {
  const int magnitude = bits & 0x7fff, fraction = magnitude & ((1 << format.fraction_bits) - 1);
  const int exponent = magnitude >> format.fraction_bits, unit = 1 - format.bias - format.fraction_bits;
  const double sign = bits & 0x8000 ? -1 : 1;
  if (magnitude > format.infinity()) return std::numeric_limits<double>::quiet_NaN();
  if (magnitude == format.infinity()) return sign * std::numeric_limits<double>::infinity();
  if (exponent == 0) return sign * std::ldexp(fraction, unit);
  return sign * std::ldexp((1 << format.fraction_bits) + fraction, unit + exponent - 1);
}

uint16_t small_float(double number, Format format) {
  const int sign = std::signbit(number) ? 0x8000 : 0;
  if (std::isnan(number)) return static_cast<uint16_t>(format.infinity() + 1);
  int exponent = 1;
  if (number != 0 && !std::isinf(number)) exponent = std::max(std::ilogb(number) + format.bias, 1);
  // In units of the last bit, as a whole number: where that is one too long, the next exponent takes over by itself.
  const double units = std::nearbyint(std::ldexp(std::abs(number), format.bias + format.fraction_bits - exponent));
  const double magnitude = units + std::ldexp(exponent - 1, format.fraction_bits);
  return static_cast<uint16_t>(sign | static_cast<int>(std::min<double>(magnitude, format.infinity())));
}

template <class T>
T saturated(double number) {
  if (std::isnan(number)) return 0;
  const double whole = std::nearbyint(number), end = std::ldexp(1.0, std::numeric_limits<T>::digits);
  if (whole >= end) return std::numeric_limits<T>::max();
  return whole <= static_cast<double>(std::numeric_limits<T>::lowest()) ? std::numeric_limits<T>::lowest()
                                                                        : static_cast<T>(whole);
}

}  // namespace

double element(const char* at, DType dtype, bool swapped) {
  char bytes[8] = {};
  std::memcpy(bytes, at, size_of(dtype));
  if (swapped) std::reverse(bytes, bytes + size_of(dtype));
  switch (dtype) {
    case DType::float32: return static_cast<double>(load<float>(bytes));
    case DType::float64: return load<double>(bytes);
    case DType::int32: return load<int32_t>(bytes);
    case DType::float16: return small_float(load<uint16_t>(bytes), half);
    case DType::bfloat16: return small_float(load<uint16_t>(bytes), bfloat);
    case DType::uint8: return load<uint8_t>(bytes);
    case DType::int8: return load<int8_t>(bytes);
    case DType::uint16: return load<uint16_t>(bytes);
    case DType::int16: return load<int16_t>(bytes);
    case DType::boolean: return bytes[0] != 0;
    case DType::int64: return static_cast<double>(load<int64_t>(bytes));
    case DType::uint32: return load<uint32_t>(bytes);
    case DType::uint64: return static_cast<double>(load<uint64_t>(bytes));
  }
  return 0;
}

void set_element(char* at, DType dtype, bool swapped, double number) {
  char bytes[8] = {};
  switch (dtype) {
    case DType::float32: store(bytes, static_cast<float>(number)); break;
    case DType::float64: store(bytes, number); break;
    case DType::int32: store(bytes, saturated<int32_t>(number)); break;
    case DType::float16: store(bytes, small_float(number, half)); break;
    case DType::bfloat16: store(bytes, small_float(number, bfloat)); break;
    case DType::uint8: store(bytes, saturated<uint8_t>(number)); break;
    case DType::int8: store(bytes, saturated<int8_t>(number)); break;
    case DType::uint16: store(bytes, saturated<uint16_t>(number)); break;
    case DType::int16: store(bytes, saturated<int16_t>(number)); break;
    case DType::boolean: store(bytes, saturated<uint8_t>(std::abs(number))); break;  // any byte but 0 is true
    case DType::int64: store(bytes, saturated<int64_t>(number)); break;
    case DType::uint32: store(bytes, saturated<uint32_t>(number)); break;
    case DType::uint64: store(bytes, saturated<uint64_t>(number)); break;
  }
  if (swapped) std::reverse(bytes, bytes + size_of(dtype));
  std::memcpy(at, bytes, size_of(dtype));
}

}  // namespace conv1x1
