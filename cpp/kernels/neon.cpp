// Kernels for AArch64, whose every processor has these vectors and their fused multiply-add. Exports conv1x1_neon and
// nothing else.
#include "convert_neon.inl"
#include "tables.inl"
#include "vectors_neon.inl"

namespace conv1x1 {
namespace {

struct F32x4 : FloatLanes {
  static Reg fma(Reg a, Reg b, Reg c) { return vfmaq_f32(c, a, b); }
  static Reg fma(Reg a, Reg b, Reg c, const Mask& m) {
    const uint32x4_t lane = {0, 1, 2, 3};
    return vbslq_f32(vcltq_u32(lane, vdupq_n_u32(static_cast<uint32_t>(m.on))), fma(a, b, c), c);
  }
  static Reg add(Reg a, Reg b) { return vaddq_f32(a, b); }
  static float tree(Reg r) {
    const float32x2_t s = vadd_f32(vget_low_f32(r), vget_high_f32(r));
    return vget_lane_f32(s, 0) + vget_lane_f32(s, 1);
  }
  static constexpr int trees_at_once = 4;
  static void trees(const Reg (&r)[4], float* sums) {
    // Two vectors' halves into one, then neighbours: 2, 1 apart.
    const Reg first = add(vcombine_f32(vget_low_f32(r[0]), vget_low_f32(r[1])),
                          vcombine_f32(vget_high_f32(r[0]), vget_high_f32(r[1])));
    const Reg second = add(vcombine_f32(vget_low_f32(r[2]), vget_low_f32(r[3])),
                           vcombine_f32(vget_high_f32(r[2]), vget_high_f32(r[3])));
    vst1q_f32(sums, vpaddq_f32(first, second));
  }
};

struct F64x2 : Lanes<float64x2_t, double> {
  static Reg fma(Reg a, Reg b, Reg c) { return vfmaq_f64(c, a, b); }
  static Reg fma(Reg a, Reg b, Reg c, const Mask& m) {
    const Reg r = fma(a, b, c);
    return m.on == 2 ? r : vcopyq_laneq_f64(c, 0, r, 0);
  }
  static Reg add(Reg a, Reg b) { return vaddq_f64(a, b); }
  static double tree(Reg r) { return vgetq_lane_f64(r, 0) + vgetq_lane_f64(r, 1); }
  static constexpr int trees_at_once = 2;
  static void trees(const Reg (&r)[2], double* sums) { vst1q_f64(sums, vpaddq_f64(r[0], r[1])); }
};

// Four filters' partial sums would be 32 vectors, all the registers: they go two at a time.
void few_filters_of_doubles(const FilterRows& a) noexcept {
  switch (a.filters) {
    case 1: return few_filters_of<F64x2, 1>(a);
    case 2: return few_filters_of<F64x2, 2>(a);
    case 3: return few_filters_of<F64x2, 3>(a);
    default: break;
  }
  FilterRows two = a;
  few_filters_of<F64x2, 2>(two);
  two.weights += 2 * a.filter_stride;
  if (a.bias) two.bias += 2 * sizeof(double);
  two.out += 2 * sizeof(double);
  few_filters_of<F64x2, 2>(two);
}

// Pairs of int16: the lanes' first ones, times the row's first, and their second ones, times its second.
struct Pairsx4 : S32x4 {
  static Reg fma(Reg row, Reg lane, Reg c) {
    const int16x4_t pair = vreinterpret_s16_s32(first(row));
    return vmlal_lane_s16(vmlal_lane_s16(c, vmovn_s32(lane), pair, 0), vshrn_n_s32(lane, 16), pair, 1);
  }
};

// Thirty-two registers hold rows × vectors accumulators, the vectors (those of pairs taken apart) and one broadcast.
constexpr MultiplyFamily families[] = {
    family<F32x4, 8, 8, 8, 6, 5, 4>(Operand::float32),
    family<F64x2, 8, 8, 8, 6, 5, 4>(Operand::float64),
    family<Pairsx4, 8, 8, 7, 5>(Operand::int16_pairs),
};

constexpr KernelTable table() {
  KernelTable t{};
  t.isa = Isa::neon;
  t.families = families;
  t.family_count = sizeof(families) / sizeof(families[0]);
  offer_moves(t);
  t.convert[index(DType::float16)][index(DType::float32)] = widen_halves;
  t.convert[index(DType::float32)][index(DType::float16)] = narrow_to_halves;
  offer_vectors<F32x4, F64x2, true>(t);
  offer_steps<F32x4>(t, DType::float32), offer_steps<F64x2>(t, DType::float64);
  t.few_filters[1] = few_filters_of_doubles;
  t.multiply_adds[index(Operand::int16_pairs)] = multiply_adds<Pairsx4>;
  t.multiply_adds_flop[index(Operand::int16_pairs)] = multiply_adds_flop<Pairsx4, 2>;
  return t;
}

}  // namespace

extern const KernelTable conv1x1_neon;
const KernelTable conv1x1_neon = table();

}  // namespace conv1x1
