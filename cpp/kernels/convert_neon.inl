// Conversions for convert.inl that the compiler does not find: float16, by the processor's own.
#pragma once

#include <arm_neon.h>

#include "convert.inl"

namespace conv1x1 {
namespace {

inline void widen_halves(const char* src, char* dst, size_t n) noexcept {
  size_t i = 0;
  for (; i + 4 <= n; i += 4) {
    float16x4_t halves;
    __builtin_memcpy(&halves, src + 2 * i, sizeof(halves));
    const float32x4_t floats = vcvt_f32_f16(halves);
    __builtin_memcpy(dst + 4 * i, &floats, sizeof(floats));
  }
  if (i < n) convert<Half, float>(src + 2 * i, dst + 4 * i, n - i);
}

inline void narrow_to_halves(const char* src, char* dst, size_t n) noexcept {
  size_t i = 0;
  for (; i + 4 <= n; i += 4) {
    float32x4_t floats;
    __builtin_memcpy(&floats, src + 4 * i, sizeof(floats));
    const float16x4_t halves = vcvt_f16_f32(floats);
    __builtin_memcpy(dst + 2 * i, &halves, sizeof(halves));
  }
  if (i < n) convert<float, Half>(src + 4 * i, dst + 2 * i, n - i);
}

}  // namespace
}  // namespace conv1x1
