// Conversions for convert.inl that the compiler does not find: float16 by F16C, and bfloat16 and uint8 by packing.
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

inline void narrow_to_bfloats(const char* src, char* dst, size_t n) noexcept {
  size_t i = 0;
  for (; i + 16 <= n; i += 16) {
    __m256i a[2];
#pragma GCC unroll 2
    for (size_t j = 0; j < 2; ++j) {
      const __m256 v = _mm256_loadu_ps(reinterpret_cast<const float*>(src + 4 * (i + 8 * j)));
      const __m256i bits = _mm256_castps_si256(v), high = _mm256_srli_epi32(bits, 16);
      const __m256i half = _mm256_add_epi32(_mm256_set1_epi32(0x7fff), _mm256_and_si256(high, _mm256_set1_epi32(1)));
      const __m256i rounded = _mm256_srli_epi32(_mm256_add_epi32(bits, half), 16);
      const __m256i nan = _mm256_or_si256(high, _mm256_set1_epi32(0x40));
      a[j] = _mm256_blendv_epi8(rounded, nan, _mm256_castps_si256(_mm256_cmp_ps(v, v, _CMP_UNORD_Q)));
    }
    const __m256i packed = _mm256_permute4x64_epi64(_mm256_packus_epi32(a[0], a[1]), 0xd8);
    _mm256_storeu_si256(reinterpret_cast<__m256i*>(dst + 2 * i), packed);
  }
  if (i < n) convert<float, BFloat>(src + 4 * i, dst + 2 * i, n - i);
}

inline void narrow_to_uint8(const char* src, char* dst, size_t n) noexcept {
  const __m256 high = _mm256_set1_ps(255);
  const __m256i order = _mm256_setr_epi32(0, 4, 1, 5, 2, 6, 3, 7);
  size_t i = 0;
  for (; i + 32 <= n; i += 32) {
    __m256i a[4];
#pragma GCC unroll 4
    for (size_t j = 0; j < 4; ++j) {
      // NaN becomes 0: the maximum is its second argument then.
      const __m256 v = _mm256_loadu_ps(reinterpret_cast<const float*>(src + 4 * (i + 8 * j)));
      a[j] = _mm256_cvtps_epi32(_mm256_min_ps(_mm256_max_ps(v, _mm256_setzero_ps()), high));
    }
    const __m256i packed = _mm256_packus_epi16(_mm256_packs_epi32(a[0], a[1]), _mm256_packs_epi32(a[2], a[3]));
    _mm256_storeu_si256(reinterpret_cast<__m256i*>(dst + i), _mm256_permutevar8x32_epi32(packed, order));
  }
  if (i < n) convert<float, uint8_t>(src + 4 * i, dst + i, n - i);
}

}  // namespace
}  // namespace conv1x1
