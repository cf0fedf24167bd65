// AVX2 + FMA kernels. Exports conv1x1_avx2 and nothing else.
#include <immintrin.h>

#include "activate.inl"
#include "few_channels.inl"
#include "few_filters.inl"
#include "measure.inl"
#include "move.inl"
#include "multiply.inl"
#include "turn_x86.inl"

namespace conv1x1 {
namespace {

struct F32x8 {
  using Scalar = float;
  using Reg = __m256;
  using Mask = __m256i;
  static constexpr size_t width = 8;
  static constexpr int registers = 16;
  static constexpr bool all_lanes = false;
  static Mask mask(size_t n) {
    return _mm256_cmpgt_epi32(_mm256_set1_epi32(static_cast<int>(n)), _mm256_setr_epi32(0, 1, 2, 3, 4, 5, 6, 7));
  }
  static Reg zero() { return _mm256_setzero_ps(); }
  static Reg broadcast(const char* p) { return _mm256_broadcast_ss(reinterpret_cast<const float*>(p)); }
  static Reg load(const char* p) { return _mm256_loadu_ps(reinterpret_cast<const float*>(p)); }
  static Reg load(const char* p, Mask m) { return _mm256_maskload_ps(reinterpret_cast<const float*>(p), m); }
  static void store(char* p, Reg r) { _mm256_storeu_ps(reinterpret_cast<float*>(p), r); }
  static void store(char* p, Reg r, Mask m) { _mm256_maskstore_ps(reinterpret_cast<float*>(p), m, r); }
  static Reg fma(Reg a, Reg b, Reg c) { return _mm256_fmadd_ps(a, b, c); }
  static Reg fma(Reg a, Reg b, Reg c, Mask m) { return _mm256_blendv_ps(c, fma(a, b, c), _mm256_castsi256_ps(m)); }
  static Reg add(Reg a, Reg b) { return _mm256_add_ps(a, b); }
  static Reg max(Reg lo, Reg r) { return _mm256_max_ps(lo, r); }
  static Reg min(Reg hi, Reg r) { return _mm256_min_ps(hi, r); }
  static float tree(Reg r) {
    __m128 s = _mm_add_ps(_mm256_castps256_ps128(r), _mm256_extractf128_ps(r, 1));
    s = _mm_add_ps(s, _mm_movehl_ps(s, s));
    return _mm_cvtss_f32(_mm_add_ss(s, _mm_movehdup_ps(s)));
  }
  static constexpr int trees_at_once = 4;
  static void trees(const Reg (&r)[4], float* sums) {
    // Each step adds two vectors' halves into one, so that the vectors halve in number too: 4, 2, 1 apart.
    Reg four[2];
#pragma GCC unroll 2
    for (int i = 0; i < 2; ++i)
      four[i] = add(_mm256_permute2f128_ps(r[2 * i], r[2 * i + 1], 0x20),
                    _mm256_permute2f128_ps(r[2 * i], r[2 * i + 1], 0x31));
    const Reg two = add(_mm256_shuffle_ps(four[0], four[1], 0x44), _mm256_shuffle_ps(four[0], four[1], 0xee));
    const Reg one = add(two, _mm256_movehdup_ps(two));  // sums 0, _, 2, _ | 1, _, 3, _
    const __m128 low = _mm256_castps256_ps128(one), high = _mm256_extractf128_ps(one, 1);
    _mm_storeu_ps(sums, _mm_unpacklo_ps(_mm_shuffle_ps(low, low, 0x88), _mm_shuffle_ps(high, high, 0x88)));
  }
};

struct F64x4 {
  using Scalar = double;
  using Reg = __m256d;
  using Mask = __m256i;
  static constexpr size_t width = 4;
  static constexpr int registers = 16;
  static constexpr bool all_lanes = false;
  static Mask mask(size_t n) {
    return _mm256_cmpgt_epi64(_mm256_set1_epi64x(static_cast<long long>(n)), _mm256_setr_epi64x(0, 1, 2, 3));
  }
  static Reg zero() { return _mm256_setzero_pd(); }
  static Reg broadcast(const char* p) { return _mm256_broadcast_sd(reinterpret_cast<const double*>(p)); }
  static Reg load(const char* p) { return _mm256_loadu_pd(reinterpret_cast<const double*>(p)); }
  static Reg load(const char* p, Mask m) { return _mm256_maskload_pd(reinterpret_cast<const double*>(p), m); }
  static void store(char* p, Reg r) { _mm256_storeu_pd(reinterpret_cast<double*>(p), r); }
  static void store(char* p, Reg r, Mask m) { _mm256_maskstore_pd(reinterpret_cast<double*>(p), m, r); }
  static Reg fma(Reg a, Reg b, Reg c) { return _mm256_fmadd_pd(a, b, c); }
  static Reg fma(Reg a, Reg b, Reg c, Mask m) { return _mm256_blendv_pd(c, fma(a, b, c), _mm256_castsi256_pd(m)); }
  static Reg add(Reg a, Reg b) { return _mm256_add_pd(a, b); }
  static Reg max(Reg lo, Reg r) { return _mm256_max_pd(lo, r); }
  static Reg min(Reg hi, Reg r) { return _mm256_min_pd(hi, r); }
  static double tree(Reg r) {
    const __m128d s = _mm_add_pd(_mm256_castpd256_pd128(r), _mm256_extractf128_pd(r, 1));
    return _mm_cvtsd_f64(_mm_add_sd(s, _mm_unpackhi_pd(s, s)));
  }
  static constexpr int trees_at_once = 1;
  static void trees(const Reg (&r)[1], double* sums) { *sums = tree(r[0]); }
};

// Sixteen registers hold rows × vectors accumulators, the vectors and one broadcast; with one row the vectors
// are read by the fma itself.
constexpr MultiplyFamily families[] = {
    family<F32x8, 8, 6, 4, 2, 1, 1, 1, 1>("avx2_f32x8", DType::float32),
    family<F64x4, 8, 6, 4, 2, 1, 1, 1, 1>("avx2_f64x4", DType::float64),
};

}  // namespace

extern const KernelTable conv1x1_avx2;
const KernelTable conv1x1_avx2 = {
    Isa::avx2,
    true,
    families,
    sizeof(families) / sizeof(families[0]),
    {few_filters<F32x8>, few_filters<F64x4>},
    {"avx2_f32_few_filters", "avx2_f64_few_filters"},
    {few_channels<float, true>, few_channels<double, true>},
    {"avx2_f32_few_channels", "avx2_f64_few_channels"},
    {few_filters_lanes<F32x8>, few_filters_lanes<F64x4>},
    {"avx2_f32_few_filters_lanes", "avx2_f64_few_filters_lanes"},
    {{copy<float, float, TurnInRegisters<float>>, copy<float, double>},
     {copy<double, float>, copy<double, double, TurnInRegisters<double>>}},
    {{add<float, float>, add<float, double>}, {add<double, float>, add<double, double>}},
    {activate_bytes<float>, activate_bytes<double>},
    {multiply_adds<F32x8>, multiply_adds<F64x4>},
    {multiply_adds_flop<F32x8>, multiply_adds_flop<F64x4>},
    read_through<F32x8>,
};

}  // namespace conv1x1
