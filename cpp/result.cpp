#include "result.h"

#include "problem.h"

namespace conv1x1 {

namespace {

// The largest magnitude of a type of integers.
double magnitude(DType dtype) {
  switch (dtype) {
    case DType::boolean: return 1;
    case DType::int8: return 128;
    case DType::uint8: return 255;
    case DType::int16: return 32768;
    case DType::uint16: return 65535;
    default: return 2147483648.0;
  }
}

constexpr double int32_limit = 2147483647, exact_in_float64 = 9007199254740992;

}  // namespace

bool sums_integers(DType x, const DType* residual, const Factors& f) {
  return f.integers && is_integer(x) && (!residual || is_integer(*residual));
}

Refusal choose_types(DType x, const DType* residual, const Factors& f, const DType* asked, Types& types) {
  if (x == DType::int64 || (residual && *residual == DType::int64)) return Refusal::pixels;
  if (f.quantized) {
    types = {DType::int32, *asked};
    return x == DType::uint8 || x == DType::int8 ? Refusal::none : Refusal::pixels;
  }
  const bool wide = asked && (*asked == DType::float64 || *asked == DType::int64);
  if (!is_integer(x)) {
    types = {x == DType::float64 || wide ? DType::float64 : DType::float32, asked ? *asked : x};
    return Refusal::none;
  }
  if (!sums_integers(x, residual, f) || (!f.keeps_integers && !(asked && is_integer(*asked)))) {
    types = {wide ? DType::float64 : DType::float32, asked ? *asked : DType::float32};
    return Refusal::none;
  }
  const double channels = static_cast<double>(f.in_channels), pixel = magnitude(x), weight = magnitude(f.weights);
  const double added = f.largest_bias + (residual ? magnitude(*residual) : 0);
  const double by_type = channels * (pixel * weight) + added, by_value = channels * (pixel * f.largest) + added;
  if (!asked && by_type > int32_limit && size_of(x) == 1 && weight <= 255) return Refusal::beyond_int32;
  types.result = asked ? *asked : by_type <= int32_limit && !f.clamps_beyond_int32 ? DType::int32 : DType::int64;
  const bool bytes = size_of(x) == 1 && f.largest <= 255;
  const bool from_int32 = types.result != DType::float16 && types.result != DType::bfloat16;
  if (bytes && by_value <= int32_limit && !residual && f.clamps_to_integers && from_int32) {
    types.arithmetic = DType::int32;
    return Refusal::none;
  }
  types.arithmetic = is_integer(types.result) || types.result == DType::float64 ? DType::float64 : DType::float32;
  return is_integer(types.result) && by_value > exact_in_float64 ? Refusal::inexact : Refusal::none;
}

Reach reach(DType x, const DType* residual, const Factors& f, Refusal refusal) {
  const bool by_type = refusal == Refusal::beyond_int32;
  return {magnitude(x) * (by_type ? magnitude(f.weights) : f.largest),
          f.largest_bias + (residual ? magnitude(*residual) : 0), by_type ? int32_limit : exact_in_float64};
}

}  // namespace conv1x1
