// AVX-512 (F, BW, DQ, VL) kernels. Exports conv1x1_avx512 and nothing else. Moves, conversions and colour pixels are no
// faster in longer vectors: cpu.cpp takes AVX2's.
#include <immintrin.h>

#include "integers_avx512.inl"
#include "tables.inl"

namespace conv1x1 {
namespace {

struct F32x16 {
  using Scalar = float;
  using Reg = __m512;
  using Mask = __mmask16;
  static constexpr size_t width = 16;
  static constexpr int registers = 32;
  static constexpr bool all_lanes = true;
  static Mask mask(size_t n) { return static_cast<Mask>((1u << n) - 1); }
  static Reg zero() { return _mm512_setzero_ps(); }
  static Reg broadcast(const char* p) { return _mm512_set1_ps(at<float>(p)->value); }
  static Reg load(const char* p) { return _mm512_loadu_ps(p); }
  static Reg load(const char* p, Mask m) { return _mm512_maskz_loadu_ps(m, p); }
  static void store(char* p, Reg r) { _mm512_storeu_ps(p, r); }
  static void store(char* p, Reg r, Mask m) { _mm512_mask_storeu_ps(p, m, r); }
  static Reg fma(Reg a, Reg b, Reg c) { return _mm512_fmadd_ps(a, b, c); }
  static Reg fma(Reg a, Reg b, Reg c, Mask m) { return _mm512_mask3_fmadd_ps(a, b, c, m); }
  static Reg add(Reg a, Reg b) { return _mm512_add_ps(a, b); }
  static Reg max(Reg lo, Reg r) { return _mm512_max_ps(lo, r); }
  static Reg min(Reg hi, Reg r) { return _mm512_min_ps(hi, r); }
  static float tree(Reg r) {
    const __m256 h = _mm256_add_ps(_mm512_castps512_ps256(r), _mm512_extractf32x8_ps(r, 1));
    __m128 s = _mm_add_ps(_mm256_castps256_ps128(h), _mm256_extractf128_ps(h, 1));
    s = _mm_add_ps(s, _mm_movehl_ps(s, s));
    return _mm_cvtss_f32(_mm_add_ss(s, _mm_movehdup_ps(s)));
  }
  static constexpr int trees_at_once = 8;
  static void trees(const Reg (&r)[8], float* sums) {
    // Each step adds two vectors' halves into one, so that the vectors halve in number too: 8, 4, 2, 1 apart.
    Reg eight[4], four[2];
#pragma GCC unroll 4
    for (int i = 0; i < 4; ++i)
      eight[i] =
          add(_mm512_shuffle_f32x4(r[2 * i], r[2 * i + 1], 0x44), _mm512_shuffle_f32x4(r[2 * i], r[2 * i + 1], 0xee));
#pragma GCC unroll 2
    for (int i = 0; i < 2; ++i)
      four[i] = add(_mm512_shuffle_f32x4(eight[2 * i], eight[2 * i + 1], 0x88),
                    _mm512_shuffle_f32x4(eight[2 * i], eight[2 * i + 1], 0xdd));
    const Reg two = add(_mm512_shuffle_ps(four[0], four[1], 0x44), _mm512_shuffle_ps(four[0], four[1], 0xee));
    const Reg one = add(two, _mm512_movehdup_ps(two));
    const __m512i order = _mm512_setr_epi32(0, 4, 8, 12, 2, 6, 10, 14, 0, 0, 0, 0, 0, 0, 0, 0);
    _mm256_storeu_ps(sums, _mm512_castps512_ps256(_mm512_permutexvar_ps(order, one)));
  }
};

struct F64x8 {
  using Scalar = double;
  using Reg = __m512d;
  using Mask = __mmask8;
  static constexpr size_t width = 8;
  static constexpr int registers = 32;
  static constexpr bool all_lanes = true;
  static Mask mask(size_t n) { return static_cast<Mask>((1u << n) - 1); }
  static Reg zero() { return _mm512_setzero_pd(); }
  static Reg broadcast(const char* p) { return _mm512_set1_pd(at<double>(p)->value); }
  static Reg load(const char* p) { return _mm512_loadu_pd(p); }
  static Reg load(const char* p, Mask m) { return _mm512_maskz_loadu_pd(m, p); }
  static void store(char* p, Reg r) { _mm512_storeu_pd(p, r); }
  static void store(char* p, Reg r, Mask m) { _mm512_mask_storeu_pd(p, m, r); }
  static Reg fma(Reg a, Reg b, Reg c) { return _mm512_fmadd_pd(a, b, c); }
  static Reg fma(Reg a, Reg b, Reg c, Mask m) { return _mm512_mask3_fmadd_pd(a, b, c, m); }
  static Reg add(Reg a, Reg b) { return _mm512_add_pd(a, b); }
  static Reg max(Reg lo, Reg r) { return _mm512_max_pd(lo, r); }
  static Reg min(Reg hi, Reg r) { return _mm512_min_pd(hi, r); }
  static double tree(Reg r) {
    const __m256d h = _mm256_add_pd(_mm512_castpd512_pd256(r), _mm512_extractf64x4_pd(r, 1));
    const __m128d s = _mm_add_pd(_mm256_castpd256_pd128(h), _mm256_extractf128_pd(h, 1));
    return _mm_cvtsd_f64(_mm_add_sd(s, _mm_unpackhi_pd(s, s)));
  }
  static constexpr int trees_at_once = 1;
  static void trees(const Reg (&r)[1], double* sums) { *sums = tree(r[0]); }
};

// Half-width vectors: where 17 … 24 filters (or pixels) would leave a third of a full one idle, and two
// halves cost what one full vector does.
struct F32x8 {
  using Scalar = float;
  using Reg = __m256;
  using Mask = __mmask8;
  static constexpr size_t width = 8;
  static constexpr bool all_lanes = true;
  static Mask mask(size_t n) { return static_cast<Mask>((1u << n) - 1); }
  static Reg zero() { return _mm256_setzero_ps(); }
  static Reg broadcast(const char* p) { return _mm256_set1_ps(at<float>(p)->value); }
  static Reg load(const char* p) { return _mm256_loadu_ps(reinterpret_cast<const float*>(p)); }
  static Reg load(const char* p, Mask m) { return _mm256_maskz_loadu_ps(m, p); }
  static void store(char* p, Reg r) { _mm256_storeu_ps(reinterpret_cast<float*>(p), r); }
  static void store(char* p, Reg r, Mask m) { _mm256_mask_storeu_ps(p, m, r); }
  static Reg fma(Reg a, Reg b, Reg c) { return _mm256_fmadd_ps(a, b, c); }
  static Reg add(Reg a, Reg b) { return _mm256_add_ps(a, b); }
  static Reg max(Reg lo, Reg r) { return _mm256_max_ps(lo, r); }
  static Reg min(Reg hi, Reg r) { return _mm256_min_ps(hi, r); }
};

// Sums of pairs of int16: products are added in pairs, and those to the sums.
struct Pairsx16 : S32x16 {
  static Reg fma(Reg a, Reg b, Reg c) { return _mm512_add_epi32(c, _mm512_madd_epi16(a, b)); }
};

// Thirty-two registers hold rows × vectors accumulators, the vectors and one broadcast (and a product before it is
// added).
constexpr MultiplyFamily families[] = {
    family<F32x16, 12, 14, 9, 6, 5, 4, 3, 2>(Operand::float32),
    family<F32x8, 8, 6, 9>(Operand::float32),
    family<F64x8, 8, 14, 9, 6>(Operand::float64),
    family<Pairsx16, 8, 8, 6, 4>(Operand::int16_pairs),
};

constexpr KernelTable table() {
  KernelTable t{};
  t.isa = Isa::avx512;
  t.families = families;
  t.family_count = sizeof(families) / sizeof(families[0]);
  offer_vectors<F32x16, F64x8, true>(t);
  offer_steps<F32x16>(t, DType::float32);
  t.multiply_adds[index(Operand::int16_pairs)] = multiply_adds<Pairsx16>;
  t.multiply_adds_flop[index(Operand::int16_pairs)] = multiply_adds_flop<Pairsx16, 2>;
  return t;
}

}  // namespace

extern const KernelTable conv1x1_avx512;
const KernelTable conv1x1_avx512 = table();

}  // namespace conv1x1
