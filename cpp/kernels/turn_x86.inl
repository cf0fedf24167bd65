// Square blocks turned in registers, for move.inl: rows of the source become columns of the destination.
#pragma once

#include <immintrin.h>

#include "move.inl"

namespace conv1x1 {
namespace {

template <class T>
struct TurnInRegisters;

template <>
struct TurnInRegisters<uint8_t> {
  static constexpr size_t size = 8;
  static void turn(const char* src, ptrdiff_t src_row, char* dst, ptrdiff_t dst_row) {
    __m128i a[8], pairs[4], fours[4];
#pragma GCC unroll 8
    for (int i = 0; i < 8; ++i) a[i] = _mm_loadl_epi64(reinterpret_cast<const __m128i*>(src + i * src_row));
#pragma GCC unroll 4
    for (int i = 0; i < 4; ++i) pairs[i] = _mm_unpacklo_epi8(a[2 * i], a[2 * i + 1]);
#pragma GCC unroll 2
    for (int i = 0; i < 2; ++i) {
      fours[i] = _mm_unpacklo_epi16(pairs[2 * i], pairs[2 * i + 1]);
      fours[i + 2] = _mm_unpackhi_epi16(pairs[2 * i], pairs[2 * i + 1]);
    }
#pragma GCC unroll 2
    for (int i = 0; i < 2; ++i) {
      const __m128i columns[2] = {_mm_unpacklo_epi32(fours[2 * i], fours[2 * i + 1]),
                                  _mm_unpackhi_epi32(fours[2 * i], fours[2 * i + 1])};
#pragma GCC unroll 2
      for (int j = 0; j < 2; ++j) {
        char* to = dst + (4 * i + 2 * j) * dst_row;
        _mm_storel_epi64(reinterpret_cast<__m128i*>(to), columns[j]);
        _mm_storel_epi64(reinterpret_cast<__m128i*>(to + dst_row), _mm_unpackhi_epi64(columns[j], columns[j]));
      }
    }
  }
};

template <>
struct TurnInRegisters<uint16_t> {
  static constexpr size_t size = 8;
  static void turn(const char* src, ptrdiff_t src_row, char* dst, ptrdiff_t dst_row) {
    __m128i a[8], b[8];
#pragma GCC unroll 8
    for (int i = 0; i < 8; ++i) a[i] = _mm_loadu_si128(reinterpret_cast<const __m128i*>(src + i * src_row));
#pragma GCC unroll 4
    for (int i = 0; i < 4; ++i) {  // pairs of rows: columns 0 … 3, columns 4 … 7
      b[i] = _mm_unpacklo_epi16(a[2 * i], a[2 * i + 1]);
      b[i + 4] = _mm_unpackhi_epi16(a[2 * i], a[2 * i + 1]);
    }
#pragma GCC unroll 4
    for (int i = 0; i < 8; i += 2) {  // fours of rows: two columns each
      a[i] = _mm_unpacklo_epi32(b[i], b[i + 1]);
      a[i + 1] = _mm_unpackhi_epi32(b[i], b[i + 1]);
    }
#pragma GCC unroll 2
    for (int half = 0; half < 8; half += 4) {
#pragma GCC unroll 2
      for (int i = 0; i < 2; ++i) {
        char* to = dst + (half + 2 * i) * dst_row;
        const __m128i top = a[half + i], bottom = a[half + i + 2];
        _mm_storeu_si128(reinterpret_cast<__m128i*>(to), _mm_unpacklo_epi64(top, bottom));
        _mm_storeu_si128(reinterpret_cast<__m128i*>(to + dst_row), _mm_unpackhi_epi64(top, bottom));
      }
    }
  }
};

template <>
struct TurnInRegisters<uint32_t> {
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
struct TurnInRegisters<uint64_t> {
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
