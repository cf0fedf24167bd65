// Kernels for any machine, on 16-byte vectors of the compiler's own. Exports conv1x1_portable and nothing else:
// [0] multiplies and adds with two roundings, for processors that have nothing better; [1] with one (a library
// call a lane where the baseline has no such instruction: slow, and the same bits as every instruction set).
#include "activate.inl"
#include "few_channels.inl"
#include "few_filters.inl"
#include "measure.inl"
#include "move.inl"
#include "multiply.inl"

namespace conv1x1 {
namespace {

inline float fused(float a, float b, float c) { return __builtin_fmaf(a, b, c); }
inline double fused(double a, double b, double c) { return __builtin_fma(a, b, c); }

#ifdef __FP_FAST_FMAF
constexpr bool fma_is_an_instruction = true;
#else
constexpr bool fma_is_an_instruction = false;
#endif

template <class T, bool Fused>
struct Vector {
  using Scalar = T;
  typedef T Reg __attribute__((vector_size(16)));
  using Mask = size_t;  // how many lanes are on
  static constexpr size_t width = 16 / sizeof(T);
  static constexpr int registers = 16;
  static constexpr bool all_lanes = false;
  static Mask mask(size_t n) { return n; }
  static Reg zero() { return Reg{}; }
  static Reg broadcast(const char* p) { return *reinterpret_cast<const T*>(p) - Reg{}; }  // − 0 keeps −0
  static Reg load(const char* p) { return load(p, width); }
  static Reg load(const char* p, Mask m) {
    Reg r{};
    __builtin_memcpy(&r, p, m * sizeof(T));
    return r;
  }
  static void store(char* p, Reg r) { store(p, r, width); }
  static void store(char* p, Reg r, Mask m) { __builtin_memcpy(p, &r, m * sizeof(T)); }
  static Reg fma(Reg a, Reg b, Reg c) {
    if constexpr (!Fused)
      return a * b + c;
    else if constexpr (fma_is_an_instruction)
      return each_fused(a, b, c);
    else
      return called_fused(a, b, c);
  }
  static Reg each_fused(Reg a, Reg b, Reg c) {
    Reg r{};
    for (size_t i = 0; i < width; ++i) r[i] = fused(a[i], b[i], c[i]);
    return r;
  }
  // Out of line, since with library calls inside it would make every kernel ten times as long.
  __attribute__((noinline)) static Reg called_fused(Reg a, Reg b, Reg c) { return each_fused(a, b, c); }
  static Reg fma(Reg a, Reg b, Reg c, Mask m) {
    const Reg r = fma(a, b, c);
    for (size_t i = 0; i < m; ++i) c[i] = r[i];
    return c;
  }
  static Reg add(Reg a, Reg b) { return a + b; }
  static Reg max(Reg lo, Reg r) { return lo > r ? lo : r; }
  static Reg min(Reg hi, Reg r) { return hi < r ? hi : r; }
  static T tree(Reg r) {
    for (size_t half = width / 2; half > 0; half /= 2)
      for (size_t i = 0; i < half; ++i) r[i] += r[i + half];
    return r[0];
  }
  static constexpr int trees_at_once = 1;
  static void trees(const Reg (&r)[1], T* sums) { *sums = tree(r[0]); }
};

template <bool Fused>
constexpr MultiplyFamily families[] = {
    family<Vector<float, Fused>, 4, 4>("portable_f32x4", DType::float32),
    family<Vector<double, Fused>, 4, 4>("portable_f64x2", DType::float64),
};

template <bool Fused>
constexpr KernelTable table = {
    Isa::portable,
    Fused,
    families<Fused>,
    sizeof(families<Fused>) / sizeof(families<Fused>[0]),
    {few_filters<Vector<float, Fused>>, few_filters<Vector<double, Fused>>},
    {"portable_f32_few_filters", "portable_f64_few_filters"},
    {few_channels<float, Fused>, few_channels<double, Fused>},
    {"portable_f32_few_channels", "portable_f64_few_channels"},
    {few_filters_lanes<Vector<float, Fused>>, few_filters_lanes<Vector<double, Fused>>},
    {"portable_f32_few_filters_lanes", "portable_f64_few_filters_lanes"},
    {{copy<float, float>, copy<float, double>}, {copy<double, float>, copy<double, double>}},
    {{add<float, float>, add<float, double>}, {add<double, float>, add<double, double>}},
    {activate_bytes<float>, activate_bytes<double>},
    {multiply_adds<Vector<float, Fused>>, multiply_adds<Vector<double, Fused>>},
    {multiply_adds_flop<Vector<float, Fused>>, multiply_adds_flop<Vector<double, Fused>>},
    read_through<Vector<float, Fused>>,
};

}  // namespace

extern const KernelTable conv1x1_portable[2];
const KernelTable conv1x1_portable[2] = {table<false>, table<true>};

}  // namespace conv1x1
