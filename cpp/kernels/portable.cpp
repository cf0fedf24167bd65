// Kernels for any machine, on 16-byte vectors of the compiler's own. Exports conv1x1_portable and nothing else:
// [0] multiplies and adds with two roundings, for processors that have nothing better; [1] with one (a library
// call a lane where the baseline has no such instruction: slow, and the same bits as every instruction set).
#include "tables.inl"

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
  static constexpr bool all_lanes = Fused && !fma_is_an_instruction;  // next to library calls
  static Mask mask(size_t n) { return n; }
  static Reg zero() { return Reg{}; }
  static Reg broadcast(const char* p) { return at<T>(p)->value - Reg{}; }  // − 0 keeps −0
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

template <class T, bool Fused>
constexpr bool filter_by_filter<Vector<T, Fused>> = true;

// Pairs of int16, and sums of int32.
struct Pairsx4 {
  using Scalar = int32_t;
  typedef int32_t Reg __attribute__((vector_size(16)));
  typedef uint32_t Unsigned __attribute__((vector_size(16)));
  typedef int16_t Pairs __attribute__((vector_size(16)));
  typedef float Float __attribute__((vector_size(16)));
  using Mask = size_t;
  static constexpr size_t width = 4;
  static constexpr int registers = 16;
  static constexpr bool all_lanes = false;
  static Mask mask(size_t n) { return n; }
  static Reg zero() { return Reg{}; }
  static Reg broadcast(const char* p) { return at<int32_t>(p)->value + Reg{}; }
  static Reg load(const char* p) { return load(p, width); }
  static Reg load(const char* p, Mask m) {
    Reg r{};
    __builtin_memcpy(&r, p, m * sizeof(int32_t));
    return r;
  }
  static void store(char* p, Reg r) { store(p, r, width); }
  static void store(char* p, Reg r, Mask m) { __builtin_memcpy(p, &r, m * sizeof(int32_t)); }
  static Reg fma(Reg a, Reg b, Reg c) {
    const Pairs x = bit_cast<Pairs>(a), w = bit_cast<Pairs>(b);
    Reg products{};
    for (size_t i = 0; i < width; ++i) products[i] = x[2 * i] * w[2 * i] + x[2 * i + 1] * w[2 * i + 1];
    return add(c, products);
  }
  static Reg add(Reg a, Reg b) {  // modulo 2^32: a bias may be any
    return bit_cast<Reg>(bit_cast<Unsigned>(a) + bit_cast<Unsigned>(b));
  }
  static Reg max(Reg lo, Reg r) { return lo > r ? lo : r; }
  static Reg min(Reg hi, Reg r) { return hi < r ? hi : r; }
  static Float floats(const char* p) {
    Float f;
    __builtin_memcpy(&f, p, sizeof(f));
    return f;
  }
  static Float float_broadcast(const char* p) { return at<float>(p)->value - Float{}; }
  static Reg scaled(Reg r, Float scale) { return bit_cast<Reg>(__builtin_convertvector(r, Float) * scale); }
  static Reg quantized(Reg scaled, Float lo, Float hi, Reg zero_point) {
    const Float from = bit_cast<Float>(scaled);
    Reg r{};
    for (size_t i = 0; i < width; ++i) {
      const float raised = lo[i] > from[i] ? lo[i] : from[i];
      r[i] = static_cast<int32_t>(whole(hi[i] < raised ? hi[i] : raised)) + zero_point[i];
    }
    return r;
  }
  static void store_bytes(char* p, Reg r) { store_bytes(p, r, width); }
  static void store_bytes(char* p, Reg r, Mask m) {
    for (size_t i = 0; i < m; ++i) p[i] = static_cast<char>(r[i]);
  }
};

// Blocks save loads, which do not count where an fma is four library calls.
template <class T, bool Fused>
constexpr MultiplyFamily floats(Operand operand) {
  if constexpr (Fused && !fma_is_an_instruction)
    return family<Vector<T, Fused>, 4>(operand);
  else
    return family<Vector<T, Fused>, 4, 4>(operand);
}

template <bool Fused>
constexpr MultiplyFamily families[] = {
    floats<float, Fused>(Operand::float32),
    floats<double, Fused>(Operand::float64),
    family<Pairsx4, 4, 3>(Operand::int16_pairs),
};

template <bool Fused>
constexpr KernelTable table() {
  KernelTable t{};
  t.isa = Isa::portable;
  t.families = families<Fused>;
  t.family_count = sizeof(families<Fused>) / sizeof(families<Fused>[0]);
  offer_moves(t);
  offer_vectors<Vector<float, Fused>, Vector<double, Fused>, Fused>(t);
  offer_steps<Vector<float, true>>(t, DType::float32), offer_steps<Vector<double, true>>(t, DType::float64);
  if (!Fused) t.layer_norm[0] = layer_norm<Vector<float, false>>, t.layer_norm[1] = layer_norm<Vector<double, false>>;
  t.multiply_adds[index(Operand::int16_pairs)] = multiply_adds<Pairsx4>;
  t.multiply_adds_flop[index(Operand::int16_pairs)] = multiply_adds_flop<Pairsx4, 2>;
  return t;
}

}  // namespace

extern const KernelTable conv1x1_portable[2];
const KernelTable conv1x1_portable[2] = {table<false>(), table<true>()};

}  // namespace conv1x1
