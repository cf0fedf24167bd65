// float16 by F16C, for convert.inl.
#pragma once

#include <immintrin.h>

#include "convert.inl"

namespace conv1x1 {
namespace {

inline void widen_halves(const char* src, char* dst, size_t n) noexcept {
  size_t i = 0;
  for (; i + 8 <= n; i += 8)
    _mm256_storeu_ps(reinterpret_cast<float*>(dst + 4 * i),
                     _mm256_cvtph_ps(_mm_loadu_si128(reinterpret_cast<const __m128i*>(src + 2 * i))));
  if (i < n) convert<Half, float>(src + 2 * i, dst + 4 * i, n - i);
}

inline void narrow_to_halves(const char* src, char* dst, size_t n) noexcept {
  size_t i = 0;
  for (; i + 8 <= n; i += 8)
    _mm_storeu_si128(reinterpret_cast<__m128i*>(dst + 2 * i),
                     _mm256_cvtps_ph(_mm256_loadu_ps(reinterpret_cast<const float*>(src + 4 * i)), 0));
  if (i < n) convert<float, Half>(src + 4 * i, dst + 2 * i, n - i);
}

}  // namespace
}  // namespace conv1x1
