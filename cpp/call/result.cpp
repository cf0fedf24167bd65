#include "call/result.h"

#include <algorithm>
#include <cmath>

#include "call/problem.h"

namespace conv1x1 {

namespace {

constexpr double int32_limit = 2147483647, exact_in_float64 = 9007199254740992;

// Whether channels · pixel · weight + bias + residual, whole numbers, is beyond a limit: by one rounding, which keeps
// the sign.
bool beyond(double channels, double pixel, double weight, double bias, double residual, double limit) {
  const double room = limit - bias - residual;
  return room < 0 ||
         (channels > 0 && (std::fma(pixel, weight, -room) > 0 || std::fma(channels, pixel * weight, -room) > 0));
}

// Whether a sum of integers can be beyond what float64 holds exactly.
bool inexact(double pixel, const Range* residual, const Factors& f) {
  return beyond(static_cast<double>(f.in_channels), pixel, f.largest, f.largest_bias, residual ? residual->largest : 0,
                exact_in_float64);
}

}  // namespace

Range range_of(DType dtype) {
  switch (dtype) {
    case DType::boolean: return {dtype, 1};
    case DType::int8: return {dtype, 128};
    case DType::uint8: return {dtype, 255};
    case DType::int16: return {dtype, 32768};
    case DType::uint16: return {dtype, 65535};
    case DType::uint32: return {dtype, 4294967295.0};
    case DType::int64: return {dtype, 0x1p63};
    case DType::uint64: return {dtype, 0x1p64};
    default: return {dtype, 2147483648.0};
  }
}

double bound(uint64_t magnitude) {
  const double nearest = static_cast<double>(magnitude);
  return magnitude <= uint64_t{1} << 53 ? nearest : std::max(nearest, exact_in_float64 + 2);
}

bool is_wide(DType dtype) { return dtype == DType::int64 || dtype == DType::uint32 || dtype == DType::uint64; }

bool is_result(DType dtype) { return dtype != DType::boolean && dtype != DType::uint32 && dtype != DType::uint64; }

bool sums_integers(Range x, const Range* residual, const Factors& f) {
  return f.integers && is_integer(x.dtype) && (!residual || is_integer(residual->dtype));
}

Refusal choose_types(Range x, const Range* residual, const Factors& f, const DType* asked, Types& types) {
  if (f.quantized) {
    types = {DType::int32, *asked};
    return x.dtype == DType::uint8 || x.dtype == DType::int8 ? Refusal::none : Refusal::pixels;
  }
  const auto is_long = [](DType type) { return type == DType::float64 || type == DType::int64; };
  if (!is_integer(x.dtype)) {
    const bool wide = x.dtype == DType::float64 || (asked && is_long(*asked));
    types = {wide ? DType::float64 : DType::float32, asked ? *asked : x.dtype};
    return Refusal::none;
  }
  if (!sums_integers(x, residual, f) || (!f.keeps_integers && !(asked && is_integer(*asked)))) {
    const bool rounded = size_of(x.dtype) >= 4;  // by float32
    types.result = asked ? *asked : rounded ? DType::float64 : DType::float32;
    types.arithmetic = is_long(types.result) ? DType::float64 : DType::float32;
    return Refusal::none;
  }
  const double channels = static_cast<double>(f.in_channels);
  const double pixel = range_of(x.dtype).largest + f.largest_center, weight = range_of(f.weights).largest;
  const bool fits =
      !beyond(channels, pixel, weight, f.largest_bias, residual ? range_of(residual->dtype).largest : 0, int32_limit);
  if (!asked && !fits && size_of(x.dtype) == 1 && weight <= 255) return Refusal::beyond_int32;
  types.result = asked ? *asked : fits && !f.clamps_beyond_int32 ? DType::int32 : DType::int64;
  const bool bytes = size_of(x.dtype) == 1 && f.largest <= 255 && !f.centered;
  const bool from_int32 = types.result != DType::float16 && types.result != DType::bfloat16;
  if (bytes && !residual && f.clamps_to_integers && from_int32 &&
      !beyond(channels, pixel, f.largest, f.largest_bias, 0, int32_limit)) {
    types.arithmetic = DType::int32;
    return Refusal::none;
  }
  types.arithmetic = is_integer(types.result) || types.result == DType::float64 ? DType::float64 : DType::float32;
  return is_integer(types.result) && inexact(x.largest + f.largest_center, residual, f) ? Refusal::inexact
                                                                                        : Refusal::none;
}

std::optional<uint64_t> most_exact(const Range* residual, const Factors& f) {
  if (inexact(0, residual, f)) return std::nullopt;
  uint64_t most = 0;
  for (uint64_t bit = uint64_t{1} << 63; bit; bit >>= 1)
    if (!inexact(bound(most | bit), residual, f)) most |= bit;
  const bool tells = f.largest == 0 && f.largest_center == 0;
  if (!tells && static_cast<double>(most) + f.largest_center >= exact_in_float64) return std::nullopt;
  return most;
}

Reach reach(Range x, const Range* residual, const Factors& f, Refusal refusal) {
  const bool by_type = refusal == Refusal::beyond_int32;
  return {(x.largest + f.largest_center) * (by_type ? range_of(f.weights).largest : f.largest),
          f.largest_bias + (residual ? residual->largest : 0), by_type ? int32_limit : exact_in_float64};
}

}  // namespace conv1x1
