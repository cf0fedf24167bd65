// AVX2 + FMA + F16C kernels. Exports conv1x1_avx2 and nothing else.
#include <immintrin.h>

#include "colour_x86.inl"
#include "convert_x86.inl"
#include "tables.inl"
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
  static Reg broadcast(const char* p) { return _mm256_set1_ps(at<float>(p)->value); }
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
  static Reg broadcast(const char* p) { return _mm256_set1_pd(at<double>(p)->value); }
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

// Sums of pairs of int16: products are added in pairs, and those to the sums.
struct Pairsx8 {
  using Scalar = int32_t;
  using Reg = __m256i;
  using Float = __m256;
  using Mask = size_t;  // how many lanes are on
  static constexpr size_t width = 8;
  static constexpr int registers = 16;
  static constexpr bool all_lanes = false;
  static Mask mask(size_t n) { return n; }
  static __m256i bits(Mask n) {
    return _mm256_cmpgt_epi32(_mm256_set1_epi32(static_cast<int>(n)), _mm256_setr_epi32(0, 1, 2, 3, 4, 5, 6, 7));
  }
  static Reg zero() { return _mm256_setzero_si256(); }
  static Reg broadcast(const char* p) { return _mm256_set1_epi32(at<int32_t>(p)->value); }
  static Reg load(const char* p) { return _mm256_loadu_si256(reinterpret_cast<const Reg*>(p)); }
  static Reg load(const char* p, Mask n) { return _mm256_maskload_epi32(reinterpret_cast<const int*>(p), bits(n)); }
  static void store(char* p, Reg r) { _mm256_storeu_si256(reinterpret_cast<Reg*>(p), r); }
  static void store(char* p, Reg r, Mask n) { _mm256_maskstore_epi32(reinterpret_cast<int*>(p), bits(n), r); }
  static Reg fma(Reg a, Reg b, Reg c) { return _mm256_add_epi32(c, _mm256_madd_epi16(a, b)); }
  static Reg add(Reg a, Reg b) { return _mm256_add_epi32(a, b); }
  static Reg max(Reg lo, Reg r) { return _mm256_max_epi32(lo, r); }
  static Reg min(Reg hi, Reg r) { return _mm256_min_epi32(hi, r); }
  static Float floats(const char* p) { return _mm256_loadu_ps(reinterpret_cast<const float*>(p)); }
  static Float float_broadcast(const char* p) { return _mm256_set1_ps(at<float>(p)->value); }
  static Reg scaled(Reg r, Float scale) { return _mm256_castps_si256(_mm256_mul_ps(_mm256_cvtepi32_ps(r), scale)); }
  static Reg quantized(Reg scaled, Float lo, Float hi, Reg zero_point) {
    const Float inside = _mm256_min_ps(hi, _mm256_max_ps(lo, _mm256_castsi256_ps(scaled)));
    return _mm256_add_epi32(_mm256_cvtps_epi32(inside), zero_point);
  }
  static __m128i bytes(Reg r) {
    const __m256i fours = _mm256_shuffle_epi8(
        r, _mm256_broadcastsi128_si256(_mm_setr_epi8(0, 4, 8, 12, -1, -1, -1, -1, -1, -1, -1, -1, -1, -1, -1, -1)));
    return _mm_unpacklo_epi32(_mm256_castsi256_si128(fours), _mm256_extracti128_si256(fours, 1));
  }
  static void store_bytes(char* p, Reg r) { _mm_storel_epi64(reinterpret_cast<__m128i*>(p), bytes(r)); }
  static void store_bytes(char* p, Reg r, Mask n) {
    const __m128i all = bytes(r);
    __builtin_memcpy(p, &all, n);
  }
};

// Sixteen registers hold rows × vectors accumulators, the vectors and one broadcast (and a product before it is added);
// with one row the vectors are read by the fma itself.
constexpr MultiplyFamily families[] = {
    family<F32x8, 8, 6, 4, 2, 1, 1, 1, 1>(Operand::float32),
    family<F64x4, 8, 6, 4, 2, 1, 1, 1, 1>(Operand::float64),
    family<Pairsx8, 8, 5, 3, 2>(Operand::int16_pairs),
};

// In place of what the compiler makes of the plain loops.
constexpr void offer_own(KernelTable& t) {
  t.move[0] = move<uint8_t, TurnInRegisters<uint8_t>>;
  t.move[1] = move<uint16_t, TurnInRegisters<uint16_t>>;
  t.move[2] = move<uint32_t, TurnInRegisters<uint32_t>>;
  t.move[3] = move<uint64_t, TurnInRegisters<uint64_t>>;
  t.colour[0][0] = colour<FloatPixels, FloatPixels>, t.colour[0][1] = colour<FloatPixels, BytePixels>;
  t.colour[1][0] = colour<BytePixels, FloatPixels>, t.colour[1][1] = colour<BytePixels, BytePixels>;
  t.convert[index(DType::float32)][index(DType::uint8)] = narrow_to_uint8;
  t.convert[index(DType::float32)][index(DType::bfloat16)] = narrow_to_bfloats;
  t.convert[index(DType::float16)][index(DType::float32)] = widen_halves;
  t.convert[index(DType::float32)][index(DType::float16)] = narrow_to_halves;
}

constexpr KernelTable table() {
  KernelTable t{};
  t.isa = Isa::avx2;
  t.families = families;
  t.family_count = sizeof(families) / sizeof(families[0]);
  offer_moves(t);
  offer_own(t);
  offer_vectors<F32x8, F64x4, true>(t);
  offer_steps<F32x8>(t, DType::float32), offer_steps<F64x4>(t, DType::float64);
  t.multiply_adds[index(Operand::int16_pairs)] = multiply_adds<Pairsx8>;
  t.multiply_adds_flop[index(Operand::int16_pairs)] = multiply_adds_flop<Pairsx8, 2>;
  return t;
}

}  // namespace

extern const KernelTable conv1x1_avx2;
const KernelTable conv1x1_avx2 = table();

}  // namespace conv1x1
