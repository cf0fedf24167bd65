#include "definition.h"

#include <algorithm>
#include <cmath>
#include <cstdint>
#include <type_traits>

#include "call/order.h"
#include "system/cpu.h"

namespace conv1x1 {
namespace {

template <class T>
T multiply_add(T a, T b, T c, bool fused) {
  if constexpr (std::is_floating_point_v<T>)
    return fused ? std::fma(a, b, c) : a * b + c;
  else
    return a * b + c;
}

}  // namespace

template <class T>
T Definition::sum(const std::vector<double>& pixel, size_t filter, const double* residual) const {
  const double* w = weight.data() + filter * in_channels;
  const size_t first = filter / out_channels * in_channels;
  T sums[partials] = {};
  const bool lanes = summation_order(in_channels, out_channels) == Order::lanes;
  for (size_t c = 0; c < in_channels; ++c) {
    T& sum = sums[lanes ? c % partials : 0];
    T x = static_cast<T>(pixel[c]);
    if (!center.empty()) x -= static_cast<T>(center[first + c]);
    sum = multiply_add(static_cast<T>(w[c]), x, sum, fused);
  }
  for (size_t half = lanes ? partials / 2 : 0; half > 0; half /= 2)
    for (size_t i = 0; i < half; ++i) sums[i] += sums[i + half];
  T y = sums[0];
  if (!bias.empty()) y += static_cast<T>(bias[filter]);
  if (residual) y += static_cast<T>(*residual);
  return y;
}

// Its formulas are pinned elsewhere, by hashes; here one number at a time stands against vectors of them.
template <class T>
double Definition::activated(T y) const {
  const DType dtype = sizeof(T) == sizeof(double) ? DType::float64 : DType::float32;
  kernels(Isa::portable, Cpu{})
      ->activate[static_cast<size_t>(dtype)](reinterpret_cast<char*>(&y), 1, epilogue.activation, epilogue.a,
                                             epilogue.b);
  return static_cast<double>(y);
}

double Definition::quantized(double sum, size_t filter) const {
  const float scaled = static_cast<float>(sum) * static_cast<float>(scale[filter]);
  return std::nearbyint(std::clamp(static_cast<double>(scaled), epilogue.a, epilogue.b)) + epilogue.zero_point;
}

double Definition::operator()(const std::vector<double>& pixel, size_t filter, const double* residual) const {
  if (!scale.empty())
    return quantized(static_cast<int32_t>(static_cast<uint32_t>(sum<int64_t>(pixel, filter, residual))), filter);
  if (whole) return activated(static_cast<double>(sum<int64_t>(pixel, filter, residual)));
  return arithmetic == DType::float64 ? activated(sum<double>(pixel, filter, residual))
                                      : activated(sum<float>(pixel, filter, residual));
}

}  // namespace conv1x1
