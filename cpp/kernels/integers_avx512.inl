// Vectors of int32 sums, for multiply.inl: all but the multiplication.
#pragma once

#include <immintrin.h>

#include "anywhere.inl"
#include "multiply.inl"

namespace conv1x1 {
namespace {

struct S32x16 {
  using Scalar = int32_t;
  using Reg = __m512i;
  using Float = __m512;
  using Mask = __mmask16;
  static constexpr size_t width = 16;
  static constexpr int registers = 32;
  static constexpr bool all_lanes = true;
  static Mask mask(size_t n) { return static_cast<Mask>((1u << n) - 1); }
  static Reg zero() { return _mm512_setzero_si512(); }
  static Reg broadcast(const char* p) { return _mm512_set1_epi32(at<int32_t>(p)->value); }
  static Reg load(const char* p) { return _mm512_loadu_si512(p); }
  static Reg load(const char* p, Mask m) { return _mm512_maskz_loadu_epi32(m, p); }
  static void store(char* p, Reg r) { _mm512_storeu_si512(p, r); }
  static void store(char* p, Reg r, Mask m) { _mm512_mask_storeu_epi32(p, m, r); }
  static Reg add(Reg a, Reg b) { return _mm512_add_epi32(a, b); }
  static Reg max(Reg lo, Reg r) { return _mm512_max_epi32(lo, r); }
  static Reg min(Reg hi, Reg r) { return _mm512_min_epi32(hi, r); }
  static Float floats(const char* p) { return _mm512_loadu_ps(p); }
  static Float float_broadcast(const char* p) { return _mm512_set1_ps(at<float>(p)->value); }
  static Reg scaled(Reg r, Float scale) { return _mm512_castps_si512(_mm512_mul_ps(_mm512_cvtepi32_ps(r), scale)); }
  static Reg quantized(Reg scaled, Float lo, Float hi, Reg zero_point) {
    const Float inside = _mm512_min_ps(hi, _mm512_max_ps(lo, _mm512_castsi512_ps(scaled)));
    return _mm512_add_epi32(_mm512_cvtps_epi32(inside), zero_point);
  }
  static void store_bytes(char* p, Reg r) { _mm_storeu_si128(reinterpret_cast<__m128i*>(p), _mm512_cvtepi32_epi8(r)); }
  static void store_bytes(char* p, Reg r, Mask m) { _mm_mask_storeu_epi8(p, m, _mm512_cvtepi32_epi8(r)); }
};

}  // namespace
}  // namespace conv1x1
