// Square blocks turned in AVX registers, for move.inl: rows of the source become columns of the destination.
#pragma once

#include <immintrin.h>

#include <cstddef>

namespace conv1x1 {
namespace {

template <class T>
struct TurnInRegisters;

template <>
struct TurnInRegisters<float> {
  static constexpr size_t size = 8;
  static void turn(const char* src, ptrdiff_t src_row, char* dst, ptrdiff_t dst_row) {
    __m256 a[8], b[8];
#pragma GCC unroll 8
    for (int i = 0; i < 8; ++i) a[i] = _mm256_loadu_ps(reinterpret_cast<const float*>(src + i * src_row));
#pragma GCC unroll 4
    for (int i = 0; i < 8; i += 2) {  // pairs, in each half
      b[i] = _mm256_unpacklo_ps(a[i], a[i + 1]);
      b[i + 1] = _mm256_unpackhi_ps(a[i], a[i + 1]);
    }
#pragma GCC unroll 2
    for (int i = 0; i < 8; i += 4) {  // fours
      a[i] = _mm256_shuffle_ps(b[i], b[i + 2], 0x44);
      a[i + 1] = _mm256_shuffle_ps(b[i], b[i + 2], 0xee);
      a[i + 2] = _mm256_shuffle_ps(b[i + 1], b[i + 3], 0x44);
      a[i + 3] = _mm256_shuffle_ps(b[i + 1], b[i + 3], 0xee);
    }
#pragma GCC unroll 4
    for (int i = 0; i < 4; ++i) {  // both halves
      b[i] = _mm256_permute2f128_ps(a[i], a[i + 4], 0x20);
      b[i + 4] = _mm256_permute2f128_ps(a[i], a[i + 4], 0x31);
    }
#pragma GCC unroll 8
    for (int i = 0; i < 8; ++i) _mm256_storeu_ps(reinterpret_cast<float*>(dst + i * dst_row), b[i]);
  }
};

template <>
struct TurnInRegisters<double> {
  static constexpr size_t size = 4;
  static void turn(const char* src, ptrdiff_t src_row, char* dst, ptrdiff_t dst_row) {
    __m256d a[4], b[4];
#pragma GCC unroll 4
    for (int i = 0; i < 4; ++i) a[i] = _mm256_loadu_pd(reinterpret_cast<const double*>(src + i * src_row));
#pragma GCC unroll 2
    for (int i = 0; i < 4; i += 2) {
      b[i] = _mm256_unpacklo_pd(a[i], a[i + 1]);
      b[i + 1] = _mm256_unpackhi_pd(a[i], a[i + 1]);
    }
#pragma GCC unroll 2
    for (int i = 0; i < 2; ++i) {
      _mm256_storeu_pd(reinterpret_cast<double*>(dst + i * dst_row), _mm256_permute2f128_pd(b[i], b[i + 2], 0x20));
      _mm256_storeu_pd(reinterpret_cast<double*>(dst + (i + 2) * dst_row),
                       _mm256_permute2f128_pd(b[i], b[i + 2], 0x31));
    }
  }
};

}  // namespace
}  // namespace conv1x1
