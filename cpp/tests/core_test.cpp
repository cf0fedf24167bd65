// The core on its own, without Python: for sanitizers, and for processors that only an emulator has here.
//
//     core_test [CASES [SEED [ISA]]]
//
// CASES: how many random convolutions to run by every kernel, 300 unless said. SEED: what they are drawn from. ISA: the
// best instruction set that must be found, under an emulator.
#include <sys/wait.h>
#include <unistd.h>

#include <algorithm>
#include <array>
#include <atomic>
#include <cfenv>
#include <cmath>
#include <cstdio>
#include <cstdlib>
#include <cstring>
#include <initializer_list>
#include <iterator>
#include <memory>
#include <random>
#include <string>
#include <thread>
#include <tuple>
#include <vector>

#if defined(__SSE__)
#include <xmmintrin.h>
#endif

#include "call/problem.h"
#include "call/result.h"
#include "elements.h"
#include "every_chain.h"
#include "every_kernel.h"
#include "every_step.h"
#include "every_sum.h"
#include "made_of_bytes.h"
#include "plan/program.h"
#include "plan/trials.h"
#include "run/convolve.h"
#include "system/cpu.h"
#include "system/thread_pool.h"
#include "weights/weights.h"

namespace conv1x1 {
namespace {

std::atomic<int> passed{0}, failed{0};

void check(bool right, const std::string& what) {
  ++(right ? passed : failed);
  if (!right) std::fprintf(stderr, "FAILED: %s\n", what.c_str());
}

// ------------------------------------------------------------------------------------------------ dispatch

#if defined(__x86_64__) || defined(__i386__)

constexpr unsigned fma3 = 1u << 12, osxsave = 1u << 27, avx = 1u << 28, f16c = 1u << 29;           // leaf 1, c
constexpr unsigned avx2 = 1u << 5, f = 1u << 16, dq = 1u << 17, bw = 1u << 30, vl = 1u << 31;      // leaf 7, b
constexpr unsigned vnni = 1u << 11;                                                                // leaf 7, c
constexpr unsigned sse_saved = 0x3, ymm_saved = 0x7, zmm_saved = 0xe7, no_upper_zmm_saved = 0x67;  // XCR0
constexpr unsigned all_one = osxsave | avx | fma3 | f16c, all_512 = f | dq | bw | vl, all_seven = avx2 | all_512;

constexpr struct {
  const char* what;
  unsigned one_c, seven_b, saved;
  bool fma;
  const char* best;
  unsigned seven_c = 0;
} processors[] = {
    {"the bare baseline", 0, 0, 0, false, "portable"},
    {"everything", all_one, all_seven, zmm_saved, true, "avx512"},
    {"AVX without FMA, as in 2011", osxsave | avx, 0, ymm_saved, false, "portable"},
    {"FMA without AVX2, as in AMD's Piledriver", all_one, 0, ymm_saved, true, "portable"},
    {"AVX2 without FMA, as in VIA's", all_one & ~fma3, avx2, ymm_saved, false, "portable"},
    {"AVX2", all_one, avx2, ymm_saved, true, "avx2"},
    {"AVX2, FMA's bit without AVX's", all_one & ~avx, avx2, ymm_saved, false, "portable"},
    {"all of it, no XGETBV", all_one & ~osxsave, all_seven, zmm_saved, false, "portable"},
    {"all of it, nothing saved", all_one, all_seven, 0, false, "portable"},
    {"all of it, only SSE saved", all_one, all_seven, sse_saved, false, "portable"},
    {"all of it, YMM without XMM saved", all_one, all_seven, 0x5, false, "portable"},
    {"all of it, only YMM saved", all_one, all_seven, ymm_saved, true, "avx2"},
    {"all of it, no upper ZMM saved", all_one, all_seven, no_upper_zmm_saved, true, "avx2"},
    {"all of it, no masks saved", all_one, all_seven, 0xc7, true, "avx2"},
    {"all of it, masks without ZMM saved", all_one, all_seven, 0x27, true, "avx2"},
    {"F and CD, as in Xeon Phi", all_one, avx2 | f, zmm_saved, true, "avx2"},
    {"no AVX-512F", all_one, all_seven & ~f, zmm_saved, true, "avx2"},
    {"no AVX-512DQ", all_one, all_seven & ~dq, zmm_saved, true, "avx2"},
    {"no AVX-512BW", all_one, all_seven & ~bw, zmm_saved, true, "avx2"},
    {"no AVX-512VL", all_one, all_seven & ~vl, zmm_saved, true, "avx2"},
    {"AVX-512 without AVX2, which nobody sells", all_one, all_512, zmm_saved, true, "portable"},
    {"everything and VNNI", all_one, all_seven, zmm_saved, true, "avx512vnni", vnni},
    {"all but VNNI, and VNNI's neighbours", all_one, all_seven, zmm_saved, true, "avx512", ~vnni},
    {"VNNI, only YMM saved", all_one, all_seven, ymm_saved, true, "avx2", vnni},
    {"VNNI, no AVX-512BW", all_one, all_seven & ~bw, zmm_saved, true, "avx2", vnni},
};

void test_dispatch() {
  for (const auto& p : processors) {
    X86 answers{};
    answers.one.c = p.one_c;
    answers.seven.b = p.seven_b;
    answers.seven.c = p.seven_c;
    answers.saved = p.saved;
    const Cpu found = x86_cpu(answers);
    check(found.fma == p.fma, std::string("fma with ") + p.what);
    check(isa_name(best_isa(found, nullptr)) == std::string(p.best), std::string("the instruction set with ") + p.what);
    const std::string best = p.best;
    const bool four = best == "avx512vnni", three = four || best == "avx512", two = best != "portable";
    check(found.supports[size_t(Isa::portable)] && found.supports[size_t(Isa::avx2)] == two &&
              found.supports[size_t(Isa::avx512)] == three && found.supports[size_t(Isa::avx512vnni)] == four,
          std::string("what is supported with ") + p.what);
  }
  // Vendor, family, whether a 64-byte operation costs two: Zen 4, Zen 5, Zen 2, and Intel with Zen 4's number.
  constexpr unsigned amd = 0x68747541u, intel = 0x756e6547u;
  for (const auto& [vendor, version, pairs] :
       {std::tuple{amd, 0x00a10f11u, true}, std::tuple{amd, 0x00b00f21u, false}, std::tuple{amd, 0x00830f10u, false},
        std::tuple{intel, 0x00a10f11u, false}}) {
    X86 answers{};
    answers.vendor.b = vendor;
    answers.one.a = version;
    answers.l2.c = 512u << 16;
    const Costs costs = x86_cpu(answers).costs;
    check(costs.fma == 0.5 && costs.wide_fma == (pairs ? 1 : 0.5), "what a fused multiply-add costs");
    check(costs.l2_bytes == 512 << 10, "what the second-level cache holds");
  }
  for (const unsigned vendor : {amd, intel}) {
    X86 answers{};
    answers.vendor.b = vendor;
    answers.seven.c = 1u << 8;  // GFNI
    check((x86_cpu(answers).costs.cycles_in_microsecond == 7000) == (vendor == intel), "what Intel's processors cost");
  }
  check(x86_cpu(X86{}).costs.l2_bytes == 1 << 20, "what the cache of a processor holds that says nothing of it");
}

#else

void test_dispatch() {}

#endif

// Every table of kernels that rounds once.
std::vector<const KernelTable*> fused_tables() {
  Cpu fused;
  fused.fma = true;
  std::vector<const KernelTable*> tables = {kernels(Isa::portable, fused)};
  for (size_t i = 1; i < isa_count; ++i)
    if (cpu().supports[i]) tables.push_back(kernels(static_cast<Isa>(i), cpu()));
  return tables;
}

// ------------------------------------------------------------------------------------------- every kernel

void test_every_kernel(size_t cases, uint64_t seed) {
  std::printf("convolutions drawn from seed %llu\n", static_cast<unsigned long long>(seed));
  std::fflush(stdout);  // before what goes wrong aborts

  std::mt19937_64 random(seed);  // its numbers are the standard's, the same everywhere
  size_t ways = 0, quantized = 0, centered = 0, x[dtype_count] = {}, weight[dtype_count] = {}, sums[dtype_count] = {},
         result[dtype_count] = {};
  for (size_t i = 0; i < cases;) {
    uint8_t bytes[96];
    for (uint8_t& byte : bytes) byte = static_cast<uint8_t>(random() >> 32);
    const Compared compared = check_every_kernel(bytes, sizeof(bytes));
    if (compared.ways == 0) continue;
    ++i;
    ways += compared.ways;
    quantized += compared.quantized;
    centered += compared.centered;
    ++x[size_t(compared.x)], ++weight[size_t(compared.weight)], ++sums[size_t(compared.sums)];
    ++result[size_t(compared.result)];
  }
  std::printf("%zu convolutions, %zu of them quantized, each by every kernel: %zu ways in all\n", cases, quantized,
              ways);
  const auto all_met = [](const auto& counts, std::initializer_list<DType> but = {}) {
    size_t met = but.size();
    for (const size_t count : counts) met += count > 0;
    return met == std::size(counts);
  };
  if (cases < 100) return;
  check(ways >= 4 * cases, "every convolution is computed in several ways");
  check(all_met(x), "pixels of every type");
  check(all_met(weight, {DType::float16, DType::bfloat16, DType::uint32}), "weights of every type");
  check(all_met(result, {DType::boolean, DType::uint32, DType::uint64}), "results of every type");
  for (const DType type : {DType::float32, DType::float64, DType::int32})
    check(sums[size_t(type)] * 10 >= cases, "enough sums of every type");
  check(quantized * 10 >= cases, "enough quantized ones");
  check(centered * 10 >= cases, "enough with a centre");
}

// -------------------------------------------------------------------------------------------- every chain

void test_every_chain(size_t cases, uint64_t seed) {
  std::printf("chains drawn from seed %llu\n", static_cast<unsigned long long>(seed));
  std::fflush(stdout);  // before what goes wrong aborts
  std::mt19937_64 random(seed);
  size_t ways = 0, quantized = 0, lengths[5] = {}, handed[dtype_count] = {}, met[way_count][way_count] = {},
         turned[2][2] = {};
  for (size_t i = 0; i < cases;) {
    uint8_t bytes[160];
    for (uint8_t& byte : bytes) byte = static_cast<uint8_t>(random() >> 32);
    const ComparedChain compared = check_every_chain(bytes, sizeof(bytes));
    if (compared.ways == 0) continue;
    ++i;
    ways += compared.ways;
    quantized += compared.quantized;
    ++lengths[compared.layers];
    for (size_t type = 0; type < dtype_count; ++type) handed[type] += compared.handed[type];
    for (size_t a = 0; a < way_count; ++a)
      for (size_t b = 0; b < way_count; ++b) met[a][b] += compared.met[a][b];
    for (size_t a : {0, 1})
      for (size_t b : {0, 1}) turned[a][b] += compared.turned[a][b];
  }
  std::printf("%zu chains, %zu of them with quantized layers: %zu ways in all\n", cases, quantized, ways);
  if (cases < 500) return;
  for (size_t length = 1; length <= 4; ++length) check(lengths[length] * 10 >= cases, "chains of every length");
  for (const DType type : {DType::float32, DType::float64, DType::int32, DType::float16, DType::bfloat16, DType::uint8,
                           DType::int8, DType::uint16, DType::int16})
    check(handed[size_t(type)] > 0, "every type is handed on: " + std::to_string(size_t(type)));
  for (size_t a = 0; a < way_count; ++a) {
    for (size_t b = 0; b < way_count; ++b) {
      const bool possible = !(a == 4 && (b == 2 || b == 3));  // few channels give few: not many for few filters
      check(met[a][b] > 0 || !possible, "every pair of methods meets: " + std::to_string(a) + std::to_string(b));
    }
  }
  for (size_t a : {0, 1})
    for (size_t b : {0, 1}) check(turned[a][b] > 0, "what is handed on lies either way round");
}

// --------------------------------------------------------------------------------------------- every step

void test_every_step(size_t cases, uint64_t seed) {
  std::mt19937_64 random(seed + 1);
  for (size_t i = 0; i < 4 * cases; ++i) {
    uint8_t bytes[64];
    for (uint8_t& byte : bytes) byte = static_cast<uint8_t>(random() >> 32);
    check_every_step(bytes, sizeof(bytes));
  }
}

// ---------------------------------------------------------------------------------------------- every sum

void test_every_sum(size_t cases, uint64_t seed) {
  std::mt19937_64 random(seed);
  size_t ways = 0;
  for (size_t i = 0; i < cases; ++i) {
    uint8_t bytes[96];
    for (uint8_t& byte : bytes) byte = static_cast<uint8_t>(random() >> 32);
    ways += check_every_sum(bytes, sizeof(bytes), i % 16 ? 300 : i % 64 ? 10000 : 300000);  // blocks; groups of them
  }
  check(ways >= 2 * cases, "every sum over pixels is computed in several ways");
}

// -------------------------------------------------------------------------------- what was found by it

// An array that ends where a page begins that cannot be touched, or as far before it as `skew` says.
std::unique_ptr<Placed> at_the_end(DType dtype, ptrdiff_t count, uint8_t skew = 0) {
  const uint8_t choices[] = {static_cast<uint8_t>(skew ? 3 : 0), skew};
  Bytes bytes(choices, skew ? 2 : 1);
  return std::make_unique<Placed>(bytes, dtype, Index{count}, Placed::Lies::contiguous);
}

// Where rows are filters, a kernel reads the scales of its rows and not as many as there are lanes.
void test_scales_of_rows() {
  for (const KernelTable* table : fused_tables()) {
    for (size_t i = 0; i < table->family_count; ++i) {
      const MultiplyFamily& family = table->families[i];
      const Traits& operand = traits(family.operand);
      if (operand.sums != DType::int32 || (operand.sides && !family.turned)) continue;  // or the rows are pixels
      for (size_t vectors = 1; vectors <= family.max_vectors; ++vectors) {
        const size_t width = family.width, lanes = vectors * width;
        // Filters are rows of one panel, which has a vector's width of them.
        for (size_t rows = 1; rows <= std::min<size_t>(family.max_rows[vectors - 1], width); ++rows) {
          const std::vector<uint32_t> ones(rows + lanes, 0x00010001);
          const auto scales = at_the_end(DType::float32, static_cast<ptrdiff_t>(rows));
          scales->fill([] { return 3; });
          std::vector<uint8_t> out(rows * lanes);
          Multiply m{};
          m.rows = reinterpret_cast<const char*>(ones.data());
          m.row_stride = 4;
          m.lanes = m.rows + 4 * rows;
          m.lane_vector = static_cast<ptrdiff_t>(4 * width);
          m.channels = m.tiles = 1;
          m.out = reinterpret_cast<char*>(out.data());
          m.out_row = static_cast<ptrdiff_t>(lanes);
          m.bias_per_row = true;
          m.scale = scales->array().data;
          m.hi = 255;
          m.last_lanes = width;
          family.fn[vectors - 1][rows - 1](m);
          check(out == std::vector<uint8_t>(rows * lanes, 6), std::string("scaled sums with ") + isa_name(table->isa));
        }
      }
    }
  }
}

// Weights may begin at any address.
void test_weights_at_an_odd_address() {
  for (const DType type : {DType::float32, DType::float64, DType::int32, DType::int16, DType::uint16}) {
    const auto odd = at_the_end(type, 3, 1);
    double next = 0;
    odd->fill([&] { return ++next; });
    const Weights weights({odd->array().data, type}, {}, {}, 1, 3, 1);
    const char* panel = weights.packed(Operand::float64, 4).panel(0, 0);
    check(element(panel, DType::float64) == 1 && element(panel + 16, DType::float64) == 3, "weights at an odd address");
  }
}

// -------------------------------------------------------------------- a plain layer, for bits and threads

// x (pixels, channels) → y (pixels, filters), of thirds and sevenths that round at every step.
template <class T>
struct Plain {
  Plain(size_t pixels, size_t channels, size_t filters, Activation activation = Activation::none, bool adds = false)
      : x(pixels * channels),
        w(filters * channels),
        bias(filters),
        residual(adds ? pixels * filters : 0),
        y(pixels * filters) {
    unsigned state = 1;
    for (auto* values : {&x, &w, &bias, &residual})
      for (T& value : *values) value = static_cast<T>((state = state * 1664525 + 1013904223) >> 20) / 7 - 293;
    dtype = sizeof(T) == sizeof(double) ? DType::float64 : DType::float32;
    weights =
        std::make_unique<Weights>(Given{bytes(w), dtype}, Given{bytes(bias), dtype}, Given{}, 1, filters, channels);
    epilogue = {activation, 0, 6, 0};
    const ptrdiff_t size = sizeof(T), n = static_cast<ptrdiff_t>(pixels);
    const ptrdiff_t c = static_cast<ptrdiff_t>(channels), k = static_cast<ptrdiff_t>(filters);
    const ptrdiff_t x_shape[] = {n, c}, y_shape[] = {n, k}, x_strides[] = {c * size, size},
                    y_strides[] = {k * size, size};
    const size_t steps[] = {1, 1};
    const Array added{bytes(residual), dtype, false, 2, y_shape, y_strides};
    problem = make_problem(dtype, {bytes(x), dtype, false, 2, x_shape, x_strides},
                           {bytes(y), dtype, false, 2, y_shape, y_strides}, adds ? &added : nullptr, 1, true, steps, 1,
                           filters);
  }

  // Threads are worth their while for any work.
  Plan plan(const KernelTable* table, int threads) const {
    Machine machine{table, {}, cpu().costs};
    machine.costs.worth_threads = 0;
    return make_plan(problem, machine, threads);
  }
  bool run(const Plan& plan, std::vector<T>& out, bool (*stop)(void*) = nullptr, void* context = nullptr) {
    const Layer layer{&weights->packed(plan.family->operand, plan.family->width), epilogue};
    return convolve(make_program(problem, plan), {bytes(x), bytes(out), bytes(residual)}, &layer, stop, context);
  }
  std::vector<T> run(const KernelTable* table, int threads) {
    std::vector<T> out(y.size());
    check(run(plan(table, threads), out), "a call that nobody stops ends");
    return out;
  }
  static char* bytes(std::vector<T>& values) { return reinterpret_cast<char*>(values.data()); }

  std::vector<T> x, w, bias, residual, y;
  DType dtype;
  std::unique_ptr<Weights> weights;
  Epilogue epilogue;
  Problem problem;
};

std::string as_hex(uint64_t bits) {
  char text[24];
  std::snprintf(text, sizeof(text), "0x%016llx", static_cast<unsigned long long>(bits));
  return text;
}

// FNV-1a
struct Hash {
  uint64_t total = 0xcbf29ce484222325u;
  void take(const void* bytes, size_t n) {
    const uint8_t* p = static_cast<const uint8_t*>(bytes);
    for (size_t i = 0; i < n; ++i) total = (total ^ p[i]) * 0x100000001b3u;
  }
};

template <class T>
uint64_t hash(const KernelTable* table) {
  Hash all;
  for (Activation activation :
       {Activation::none, Activation::clamp, Activation::leaky_relu, Activation::hardswish, Activation::hardsigmoid,
        Activation::sigmoid, Activation::silu, Activation::tanh, Activation::gelu}) {
    for (const auto& [pixels, channels, filters] :
         {std::tuple{130, 3, 4}, std::tuple{37, 192, 1}, std::tuple{61, 192, 40}, std::tuple{29, 520, 33}}) {
      Plain<T> plain(pixels, channels, filters, activation);
      for (T& value : plain.x) value /= 1 << 12;  // so that activations see more than their ends
      const std::vector<T> y = plain.run(table, 1);
      all.take(y.data(), y.size() * sizeof(T));
    }
  }
  return all.total;
}

void check_bits(const KernelTable* table) {
  const uint64_t single = hash<float>(table), twice = hash<double>(table);
  std::printf("%s: %016llx %016llx\n", isa_name(table->isa), static_cast<unsigned long long>(single),
              static_cast<unsigned long long>(twice));
  check(single == 0x8567cb97afa96856u, std::string("the bits of float32 with ") + isa_name(table->isa));
  check(twice == 0xf5e392a0d87b901fu, std::string("the bits of float64 with ") + isa_name(table->isa));
}

// Of softmax and layer norm, along channels and along pixels, which are the same numbers turned.
template <class T>
uint64_t hash_of_steps(const KernelTable* table) {
  Hash all;
  const size_t type = sizeof(T) == sizeof(double);
  for (const size_t channels : {1, 5, 16, 37, 200}) {
    constexpr size_t pixels = 23;
    const Plain<T> numbers(pixels, channels, 2);
    std::vector<T> x = numbers.x, weight(numbers.w.begin(), numbers.w.begin() + ptrdiff_t(channels)), y(x.size());
    for (T& value : x) value /= 1 << 5;
    for (const bool along : {true, false}) {
      const ptrdiff_t size = sizeof(T), c = static_cast<ptrdiff_t>(channels), p = pixels;
      OverChannels a{};
      a.x = reinterpret_cast<const char*>(x.data());
      a.y = reinterpret_cast<char*>(y.data());
      a.x_pixel = a.y_pixel = along ? c * size : size;
      a.x_channel = a.y_channel = along ? size : p * size;
      a.pixels = pixels;
      a.channels = channels;
      a.eps = 1e-5;
      table->softmax[type](a);
      all.take(y.data(), y.size() * sizeof(T));
      a.weight = a.bias = reinterpret_cast<const char*>(weight.data());
      table->layer_norm[type](a);
      all.take(y.data(), y.size() * sizeof(T));
    }
  }
  return all.total;
}

void check_bits_of_steps(const KernelTable* table) {
  const uint64_t single = hash_of_steps<float>(table), twice = hash_of_steps<double>(table);
  const std::string with = std::string(" of steps with ") + isa_name(table->isa) + ": ";
  check(single == 0x68f2163aa06178adu, "float32" + with + as_hex(single));
  check(twice == 0x03e5cd613923a246u, "float64" + with + as_hex(twice));
}

// The bits are what they are on every machine.
void test_bits() {
  for (const KernelTable* table : fused_tables()) check_bits(table), check_bits_of_steps(table);
}

// ------------------------------------------------------------------------------------- bits of other types

// What calls of other types are hashed of, and what they give on every machine.
constexpr struct {
  const char* what;
  DType x, weight, y, arithmetic;
  bool quantized;
  uint64_t bits;
} calls[] = {
    {"float16", DType::float16, DType::float32, DType::float16, DType::float32, false, 0xbedf36687ca929cc},
    {"bfloat16", DType::bfloat16, DType::float32, DType::bfloat16, DType::float32, false, 0x720e4ff10905dea4},
    {"float16 in doubles", DType::float16, DType::float64, DType::float16, DType::float64, false, 0xe039385114cad0b4},
    {"float32 to uint8", DType::float32, DType::float32, DType::uint8, DType::float32, false, 0xf4e5f1817c09b2ff},
    {"uint8 to float32", DType::uint8, DType::float32, DType::float32, DType::float32, false, 0xbe75dc94457b209e},
    {"int16 to uint16", DType::int16, DType::float32, DType::uint16, DType::float32, false, 0x77e8dac3a3b659bf},
    {"int64", DType::int64, DType::float64, DType::float64, DType::float64, false, 0x01cc89c16263f369},
    {"uint64 to float32", DType::uint64, DType::float32, DType::float32, DType::float32, false, 0xfc1b7507bcff791d},
    {"uint32 to int64", DType::uint32, DType::int16, DType::int64, DType::float64, false, 0x540feb7fadb43e66},
    {"int32 to int64", DType::int32, DType::int16, DType::int64, DType::float64, false, 0x44129c4958d91654},
    {"uint8 to int32", DType::uint8, DType::int8, DType::int32, DType::int32, false, 0x9f5d8c2d7d3459f0},
    {"int8 to int32", DType::int8, DType::int8, DType::int32, DType::int32, false, 0x236be3944f66fc94},
    {"bool to int32", DType::boolean, DType::int8, DType::int32, DType::int32, false, 0x556514263eeb19da},
    {"uint8 with int16 to int8", DType::uint8, DType::int16, DType::int8, DType::int32, false, 0x3d1050501183d6af},
    {"quantised uint8", DType::uint8, DType::int8, DType::uint8, DType::int32, true, 0xcfcb2121305c809a},
    {"quantised int8", DType::int8, DType::int8, DType::int8, DType::int32, true, 0xe564f0605bac24bb},
};

// Numbers of a type: all bytes, or fractions of many sizes; all of them exact, whatever the caller's arithmetic is.
std::vector<char> numbers(DType dtype, size_t n) {
  std::vector<float> wide(n);
  unsigned state = 1;
  for (float& value : wide) {
    state = state * 1664525 + 1013904223;
    value = static_cast<float>(state >> 24) - (dtype == DType::uint8 ? 0.0f : 128.0f);
    const unsigned size = state >> 20 & 15;
    if (!is_integer(dtype)) value *= size == 0 ? 0x1p8f : size < 8 ? 0x1p-16f : 0x1p-4f;
  }
  std::vector<char> bytes(n * size_of(dtype));
  if (dtype == DType::boolean)
    for (size_t i = 0; i < n; ++i) bytes[i] = wide[i] > 0;
  else if (is_wide(dtype))  // any there are: most are rounded on their way to a float
    for (char& byte : bytes) byte = static_cast<char>((state = state * 1664525 + 1013904223) >> 24);
  else if (dtype == DType::float32)
    std::memcpy(bytes.data(), wide.data(), bytes.size());
  else
    kernels(Isa::portable, Cpu{})
        ->convert[size_t(DType::float32)][size_t(dtype)](reinterpret_cast<char*>(wide.data()), bytes.data(), n);
  return bytes;
}

template <class Call>
uint64_t hash_of_call(const Call& call, const Machine& machine, int threads) {
  Hash all;
  for (const auto& [n, c, k] : {std::tuple{1, 37, 9}, std::tuple{2, 3, 4}, std::tuple{3, 20, 40}, std::tuple{5, 64, 7},
                                std::tuple{61, 19, 33}, std::tuple{22, 45, 2}}) {
    const size_t pixels = n, channels = c, filters = k;
    const DType bias_type = call.arithmetic == DType::int32 ? DType::int32 : call.weight;
    std::vector<char> x = numbers(call.x, pixels * channels), w = numbers(call.weight, channels * filters),
                      bias = numbers(bias_type, filters), y(pixels * filters * size_of(call.y));
    const std::vector<float> scale(filters, 0.0123f);
    const Weights weights({w.data(), call.weight}, {bias.data(), bias_type},
                          {call.quantized ? reinterpret_cast<const char*>(scale.data()) : nullptr, DType::float32}, 1,
                          filters, channels);
    Epilogue epilogue{Activation::clamp, -1e6, 1e6, 0};
    if (call.quantized)
      epilogue =
          call.y == DType::uint8 ? Epilogue{Activation::none, -3, 252, 3} : Epilogue{Activation::none, -123, 132, -5};
    for (const bool channels_last : {true, false}) {
      const auto strides = [&](DType dtype, ptrdiff_t of_channel) {
        const ptrdiff_t size = static_cast<ptrdiff_t>(size_of(dtype));
        return channels_last ? std::array{of_channel * size, size} : std::array{size, n * size};
      };
      const auto x_strides = strides(call.x, c), y_strides = strides(call.y, k);
      const ptrdiff_t x_shape[] = {n, c}, y_shape[] = {n, k};
      const size_t steps[] = {1, 1};
      Problem problem =
          make_problem(call.arithmetic, {x.data(), call.x, false, 2, x_shape, x_strides.data()},
                       {y.data(), call.y, false, 2, y_shape, y_strides.data()}, nullptr, 1, true, steps, 1, filters);
      problem.quantized = call.quantized;
      problem.narrow_weights = weights.narrow();
      Plan plan = make_plan(problem, machine, threads);
      plan.threads = std::min(plan.threads, 3);  // who does which part does not matter
      const Layer layer{&weights.packed(plan.family->operand, plan.family->width), epilogue};
      check(convolve(make_program(problem, plan), {x.data(), y.data(), nullptr}, &layer, nullptr, nullptr),
            "a call that nobody stops ends");
      all.take(y.data(), y.size());
    }
  }
  return all.total;
}

// By the kernel of choice, and sums of integers by every kernel; whole, and cut for many threads.
void check_types(const KernelTable* table) {
  for (const auto& call : calls) {
    const auto check_call = [&](const Machine& machine) {
      for (const int threads : {1, 64}) {
        const uint64_t bits = hash_of_call(call, machine, threads);
        check(bits == call.bits, std::string("the bits of ") + call.what + " with " + isa_name(table->isa) + " and " +
                                     std::to_string(threads) + " threads: " + as_hex(bits));
      }
    };
    Machine machine{table, {}, cpu().costs};
    machine.costs.worth_threads = 0;
    check_call(machine);
    if (call.arithmetic != DType::int32) continue;
    for (size_t i = 0; i < table->family_count; ++i) {
      machine.only.family = &table->families[i];
      for (machine.only.vectors = 1; machine.only.vectors <= table->families[i].max_vectors; ++machine.only.vectors) {
        for (Orientation orientation : {Orientation::pixels_as_rows, Orientation::pixels_as_lanes}) {
          machine.only.orientation = orientation;
          check_call(machine);
        }
      }
    }
  }
}

void test_types() {
  for (const KernelTable* table : fused_tables()) check_types(table);
}

// Numbers of any bits at all in every other type: NaN too, which keeps what fits of its bits.
void test_conversions() {
  std::mt19937_64 random(20240229);
  std::vector<char> bytes(size_t{1} << 19), to(bytes.size() * 8);
  for (char& byte : bytes) byte = static_cast<char>(random());
  for (const KernelTable* table : fused_tables()) {
    Hash all;
    for (size_t from = 0; from < dtype_count; ++from) {
      const size_t n = bytes.size() / size_of(static_cast<DType>(from));
      for (size_t other = 0; other < dtype_count; ++other) {
        if (!table->convert[from][other]) continue;
        table->convert[from][other](bytes.data(), to.data(), n);
        all.take(to.data(), n * size_of(static_cast<DType>(other)));
      }
    }
    check(all.total == 0xb1262491f667aeff,
          std::string("conversions with ") + isa_name(table->isa) + ": " + as_hex(all.total));
  }
}

// ------------------------------------------------------------------------------- the caller's arithmetic

#if defined(__SSE__)
constexpr unsigned hostile_modes = 0x1f80 | 0x8000 | 0x4000 | 0x0040;  // flush, round up, subnormal is zero
unsigned get_modes() { return _mm_getcsr(); }
void set_modes(unsigned modes) { _mm_setcsr(modes); }
#elif defined(__aarch64__)
// Other halves, one NaN, flush, round up, flush halves.
constexpr uint64_t hostile_modes = 1u << 26 | 1u << 25 | 1u << 24 | 1u << 22 | 1u << 19;
uint64_t get_modes() {
  uint64_t modes;
  __asm__ volatile("mrs %0, fpcr" : "=r"(modes));
  return modes;
}
void set_modes(uint64_t modes) { __asm__ volatile("msr fpcr, %0" : : "r"(modes) : "memory"); }
#endif

// It changes no bit of a result, and is afterwards what it was, the flags too.
void test_callers_arithmetic() {
  for (const KernelTable* table : fused_tables()) {
    Plain<float> usual(61, 192, 40, Activation::gelu), tiny(61, 64, 8);
    for (float& value : tiny.x) value *= 0x1p-125f;
    for (float& value : tiny.w) value *= 0x1p-20f;
    for (float& value : tiny.bias) value = 0;
    for (Plain<float>* plain : {&usual, &tiny}) {
      const std::vector<float> wanted = plain->run(table, 1);
      const Plan plan = plain->plan(table, 1);
      std::vector<float> y(wanted.size());
      const auto before = get_modes();
      set_modes(hostile_modes);
      std::feclearexcept(FE_ALL_EXCEPT);
      const auto hostile = get_modes();
      plain->run(plan, y);
      const bool kept = get_modes() == hostile && std::fetestexcept(FE_ALL_EXCEPT) == 0;
      set_modes(before);
      check(hostile != before && kept, "the caller's modes and flags stay");
      check(y == wanted, std::string("the caller's modes do not matter with ") + isa_name(table->isa));
      const auto subnormal = [](float value) { return std::fpclassify(value) == FP_SUBNORMAL; };
      check(plain == &usual || std::count_if(y.begin(), y.end(), subnormal) > 400, "subnormal numbers are kept");
    }
    const auto before = get_modes();
    set_modes(hostile_modes);
    check_types(table);
    set_modes(before);
  }
}

// ------------------------------------------------------------------------------------------------ threads

// Runs fn(0), fn(1), … at the same time, as nearly as can be.
template <class Fn>
void at_once(int callers, Fn fn) {
  std::atomic<int> waiting{callers};
  std::vector<std::thread> threads;
  for (int caller = 0; caller < callers; ++caller) {
    threads.emplace_back([&, caller] {
      for (--waiting; waiting > 0;) std::this_thread::yield();
      fn(caller);
    });
  }
  for (std::thread& thread : threads) thread.join();
}

void test_threads() {
  const KernelTable* table = kernels(best_isa(cpu(), nullptr), cpu());
  Plain<float> large(3136, 64, 64), tall(1, 2048, 512), few(20000, 192, 2), quick(784, 64, 64);
  const std::vector<float> alone[] = {large.run(table, 1), tall.run(table, 1), few.run(table, 1), quick.run(table, 1)};
  check(quick.plan(table, 4).threads == 4 && quick.plan(table, 4).tiles > 4, "there is work for four threads");
  std::atomic<int> wrong{0};
  for (int i = 0; i < 200; ++i) wrong += quick.run(table, 4) != alone[3];  // often a helper is the last to end
  check(wrong == 0, "the same bits with several threads");
  // On weights that all callers meet for the first time. One of them gets the pool, the others do without.
  for (int round = 0; round < 8; ++round) {
    Plain<float> first_met(1, 2048, 512);
    at_once(4, [&](int caller) {
      wrong += first_met.run(table, 1 + caller) != alone[1];
      wrong += large.run(table, 4 - caller) != alone[0];
      wrong += few.run(table, 1 + caller) != alone[2];
      set_num_threads(get_num_threads());
    });
  }
  check(wrong == 0, "the same bits from several callers");
}

// Every method, with its tiles and filters cut for more threads than there is work for.
template <class T>
void test_cut_for_many_threads() {
  for (const KernelTable* table : fused_tables()) {
    for (const size_t pixels : {1, 5, 300, 2000}) {
      for (const size_t channels : {1, 2, 3, 4, 32, 50}) {
        for (const size_t filters : {1, 2, 3, 4, 5, 40}) {
          Plain<T> plain(pixels, channels, filters, Activation::leaky_relu, true);
          const Plan whole = plain.plan(table, 1);
          Plan cut = plain.plan(table, 64);
          cut.threads = 3;
          std::vector<T> y(plain.y.size());
          const bool finished = plain.run(cut, y);
          check(finished && y == plain.run(table, 1), "the same bits, cut for many threads");
          check(pixels < 2000 || cut.tiles > whole.tiles, "what is cut has more parts");
        }
      }
    }
  }
}

// Whoever asks meanwhile, and for however many threads.
void test_num_threads_during_calls() {
  const KernelTable* table = kernels(best_isa(cpu(), nullptr), cpu());
  Plain<float> large(3136, 64, 64);
  const std::vector<float> alone = large.run(table, 1);
  std::atomic<int> wrong{0};
  at_once(4, [&](int caller) {
    for (int i = 0; i < 40; ++i) {
      if (caller == 0) set_num_threads(1 + i % 5);
      wrong += large.run(table, get_num_threads()) != alone;
    }
  });
  check(wrong == 0, "the same bits while the number of threads changes");
}

// A child has a pool of its own, and its parent the one it had, whether or not others were calling.
void test_forks() {
  const KernelTable* table = kernels(best_isa(cpu(), nullptr), cpu());
  Plain<float> large(3136, 64, 64);
  const std::vector<float> alone = large.run(table, 1);
  const auto fork_between_calls = [&] {
    std::atomic<int> wrong{large.run(table, 3) != alone};
    std::fflush(stdout);
    const pid_t child = fork();
    if (child == 0) _exit(large.run(table, 3) != alone);
    int status = 1;
    wrong += child < 0 || waitpid(child, &status, 0) != child || status != 0;
    wrong += large.run(table, 3) != alone;
    return wrong == 0;
  };
  alarm(300);  // a helper that is never sent home would be waited for
  for (int i = 0; i < 3; ++i) check(fork_between_calls(), "the same bits on both sides of a fork");
  // Two at once: neither brings back helpers that the other is sending home.
  at_once(2, [&](int) {
    for (int i = 0; i < 100; ++i) check(fork_between_calls(), "the same bits where two fork at once");
  });
  at_once(3, [&](int caller) {
    for (int i = 0; i < 10; ++i)
      check(caller == 0 ? fork_between_calls() : large.run(table, 3) == alone, "the same bits while another forks");
  });
  alarm(0);
}

void test_stop() {
  const KernelTable* table = kernels(best_isa(cpu(), nullptr), cpu());
  for (int threads : {1, 3}) {
    Plain<float> large(20000, 64, 64);
    const Plan plan = large.plan(table, threads);
    int left = 3;
    const auto counts = [](void* context) { return --*static_cast<int*>(context) == 0; };
    const bool finished =
        large.run(plan, large.y, counts, &left);  // helpers may leave their caller less than three units
    check(finished == (left > 0) && (threads > 1 || !finished), "a call that is stopped says so");
  }
}

// ------------------------------------------------------------------------------------------------- chains

// What layers of the same pixels give one after another, a chain of them gives at once.
struct PlainChain {
  PlainChain(Plain<float>& first, Plain<float>& second, Plain<float>& third) : layers{&first, &second, &third} {}

  Program program(const KernelTable* table, int threads, size_t tile_pixels = 0) const {
    const ptrdiff_t n = static_cast<ptrdiff_t>(pixels()), size = sizeof(float);
    const ptrdiff_t c = static_cast<ptrdiff_t>(layers[0]->x.size()) / n,
                    k = static_cast<ptrdiff_t>(layers[2]->bias.size());
    const ptrdiff_t x_shape[] = {n, c}, y_shape[] = {n, k}, x_strides[] = {c * size, size},
                    y_strides[] = {k * size, size};
    const size_t steps[] = {1, 1};
    const Problem call = make_problem(DType::float32, {nullptr, DType::float32, false, 2, x_shape, x_strides},
                                      {nullptr, DType::float32, false, 2, y_shape, y_strides}, nullptr, 1, true, steps,
                                      1, static_cast<size_t>(k));
    std::vector<Link> links;
    for (const Plain<float>* layer : layers) {
      Link link;
      link.in_channels = layer->w.size() / layer->bias.size();
      link.out_channels = layer->bias.size();
      links.push_back(link);
    }
    Machine machine{table, {}, cpu().costs};
    machine.costs.worth_threads = 0;
    machine.only.tile_pixels = tile_pixels;
    return make_program(call, links, machine, threads);
  }

  bool run(const Program& program, std::vector<float>& y, bool (*stop)(void*) = nullptr, void* context = nullptr) {
    std::vector<Layer> operands;
    for (size_t l = 0; l < 3; ++l) {
      const Plan& plan = program.steps[l].plan;
      operands.push_back({&layers[l]->weights->packed(plan.family->operand, plan.family->width), layers[l]->epilogue});
    }
    y.assign(layers[2]->y.size(), -1);
    return convolve(program, {Plain<float>::bytes(layers[0]->x), Plain<float>::bytes(y), nullptr}, operands.data(),
                    stop, context);
  }

  std::vector<float> apart(const KernelTable* table) {
    layers[1]->x = layers[0]->run(table, 1);
    layers[2]->x = layers[1]->run(table, 1);
    return layers[2]->run(table, 1);
  }

  size_t pixels() const { return layers[2]->y.size() / layers[2]->bias.size(); }

  Plain<float>* layers[3];
};

void test_chain() {
  Plain<float> first(3000, 48, 32, Activation::clamp), second(3000, 32, 24), third(3000, 24, 3, Activation::gelu);
  PlainChain chain(first, second, third);
  for (const KernelTable* table : fused_tables()) {
    const std::vector<float> apart = chain.apart(table);
    std::vector<float> together;
    for (int threads : {1, 3}) {
      for (size_t tile : {0, 1, 7, 5000}) {
        const Program program = chain.program(table, threads, tile);
        check(chain.run(program, together), "a chain that nobody stops ends");
        check(together == apart, std::string("a chain of layers with ") + isa_name(table->isa));
        check(threads == 1 || tile > 0 || program.tiles >= 8, "there is work for three threads");
        check(tile == 0 || program.tile_pixels == std::min<size_t>(tile, 3000), "a tile as it is asked for");
      }
    }
    int left = 3;
    const auto counts = [](void* context) { return --*static_cast<int*>(context) == 0; };
    check(!chain.run(chain.program(table, 1, 16), together, counts, &left) && left == 0, "a chain can be stopped");
  }
}

// All that lies between two layers of a chain, and what each of them needs, has a place of its own; and all blocks
// together take what a tile may.
void test_places_of_a_chain() {
  const KernelTable* table = kernels(best_isa(cpu(), nullptr), cpu());
  Plain<float> first(100000, 64, 512), second(100000, 512, 256), third(100000, 256, 10);
  const Program program = PlainChain(first, second, third).program(table, 1);
  const Handed &one = program.steps[0].to, &two = program.steps[1].to;
  check(one.offset + one.bytes <= two.offset && two.offset + two.bytes <= program.own_scratch, "no block overlaps");
  check(program.steps[2].to.bytes == 0, "the last layer writes y");
  const Costs& costs = cpu().costs;
  check(program.own_scratch <= std::min(costs.l2_bytes, costs.most_l2_bytes) / costs.l2_parts,
        "blocks stay in the cache: " + std::to_string(program.own_scratch) + " bytes");
  for (const Step& step : program.steps)
    check(program.own_scratch + step.plan.scratch_bytes <= program.scratch_bytes &&
              step.plan.tile_pixels == program.tile_pixels,
          "every layer has its scratch, of one tile");
}

// Complex filters over complex pixels, then over those, in a chain and one after another; x's channels follow one
// another or lie apart.
void test_chain_of_complex() {
  constexpr ptrdiff_t n = 150, c = 5, k = 6, last = 3, part = sizeof(float);
  const auto numbers_of = [](ptrdiff_t count) { return numbers(DType::float32, static_cast<size_t>(2 * count)); };
  std::vector<char> x = numbers_of(n * c), w1 = numbers_of(c * k), w2 = numbers_of(k * last),
                    middle = numbers_of(n * k), apart = numbers_of(n * last), together = apart;
  const Weights one({w1.data(), DType::float32, true}, {}, {}, 1, k, c),
      two({w2.data(), DType::float32, true}, {}, {}, 1, last, k);
  const size_t steps[] = {1, 1};
  for (const bool channels_last : {true, false}) {
    const auto strides = [&](ptrdiff_t channels) {
      return channels_last ? std::array{channels * 2 * part, 2 * part} : std::array{2 * part, n * 2 * part};
    };
    const auto x_strides = strides(c), middle_strides = strides(k), y_strides = strides(last);
    const ptrdiff_t x_shape[] = {n, c}, middle_shape[] = {n, k}, y_shape[] = {n, last};
    const Array xs{x.data(), DType::float32, false, 2, x_shape, x_strides.data(), true};
    const Array ms{middle.data(), DType::float32, false, 2, middle_shape, middle_strides.data(), true};
    const auto results = [&](std::vector<char>& y) {
      return Array{y.data(), DType::float32, false, 2, y_shape, y_strides.data(), true};
    };
    for (const KernelTable* table : fused_tables()) {
      const Machine machine{table, {}, cpu().costs};
      const auto run = [&](const Weights& weights, const Array& from, const Array& to) {
        const Problem p =
            make_problem(DType::float32, from, to, nullptr, 1, true, steps, 1, weights.out_channels, Form::pairs);
        const Program program = make_program(p, machine, 1);
        const MultiplyFamily& family = *program.steps.front().plan.family;
        const Layer layer{&weights.packed(family.operand, family.width, Form::pairs), {}};
        convolve(program, {from.data, to.data, nullptr}, &layer, nullptr, nullptr);
      };
      run(one, xs, ms);
      run(two, ms, results(apart));
      const Problem call =
          make_problem(DType::float32, xs, results(together), nullptr, 1, true, steps, 1, last, Form::pairs);
      std::vector<Link> links(2);
      std::vector<Layer> operands;
      for (size_t l : {0, 1}) {
        const Weights& weights = l == 0 ? one : two;
        links[l].pairs_filters = true;
        links[l].in_channels = 2 * weights.in_channels;
        links[l].out_channels = 2 * weights.out_channels;
      }
      const Program program = make_program(call, links, machine, 1);
      for (size_t l : {0, 1}) {
        const MultiplyFamily& family = *program.steps[l].plan.family;
        operands.push_back({&(l == 0 ? one : two).packed(family.operand, family.width, Form::pairs), {}});
      }
      std::fill(together.begin(), together.end(), char{0});
      convolve(program, {x.data(), together.data(), nullptr}, operands.data(), nullptr, nullptr);
      check(together == apart, std::string("a chain of complex layers with ") + isa_name(table->isa));
    }
  }
}

// Which candidate calls settle on that take what `time(candidate, call)` says, in microseconds, and after how many.
template <class Time>
size_t settled_on(size_t candidates, Time time, size_t& taken) {
  Trials trials(candidates);
  for (taken = 0; !trials.settled() && taken < 1000; ++taken) {
    const size_t candidate = trials.next();
    trials.took(candidate, time(candidate, taken));
  }
  check(trials.settled(), "trials come to an end");
  return trials.next();
}

void test_trials() {
  size_t taken = 0;
  std::mt19937 random(5);
  const double own[] = {100, 120, 80, 90, 300};
  check(settled_on(
            1, [](size_t, size_t) { return 1.0; }, taken) == 0 &&
            taken == 0,
        "one candidate is not tried");
  check(settled_on(
            5, [&](size_t c, size_t) { return own[c]; }, taken) == 2,
        "the fastest candidate stays");
  check(taken <= 25, "few calls settle it");
  for (int i = 0; i < 100; ++i) {
    const auto noisy = [&](size_t c, size_t) {
      return own[c] * (1 + std::uniform_real_distribution<>(0, 0.03)(random)) + (random() % 10 == 0 ? 500 : 0);
    };
    check(settled_on(5, noisy, taken) == 2, "calls that are disturbed now and then settle on the fastest");
  }
  check(settled_on(
            3, [&](size_t c, size_t n) { return n == 2 ? 1e6 : own[c]; }, taken) == 2,
        "one call that took long does not put its candidate out");
  check(settled_on(
            3, [](size_t, size_t) { return 50.0; }, taken) == 0,
        "of equals the model's own choice stays");
  check(settled_on(
            3, [](size_t c, size_t) { return c == 0 ? 50.0 : 49.8; }, taken) == 0,
        "so it does where another is hardly faster");
  check(settled_on(
            2, [](size_t, size_t) { return 0.0; }, taken) == 0,
        "times too short to measure are equal");
  check(settled_on(
            3, [&](size_t c, size_t n) { return own[c] * (n < 9 ? 1 : 2); }, taken) == 2,
        "a machine that slows down meanwhile is unfair to none");

  Trials threads(2);  // two callers at once: both may get the same candidate, and report in any order
  while (!threads.settled()) {
    const size_t first = threads.next(), second = threads.next();
    threads.took(second, own[second + 1]);
    threads.took(first, own[first + 1]);
  }
  check(threads.next() == 1, "two callers at once settle on the fastest");

  Trials left_behind(2);  // by a fork, or interrupted: a turn whose time never comes
  for (size_t turn = 0; !left_behind.settled() && turn < 100; ++turn) {
    const size_t candidate = left_behind.next();
    if (turn % 2) left_behind.took(candidate, own[candidate + 1]);
  }
  check(left_behind.settled() && left_behind.next() == 1, "times that never come hold nothing up");
  left_behind.took(0, 1);
  check(left_behind.next() == 1, "what comes late changes nothing");
}

// Threads: as many as the work is worth, no more than are allowed; and where that is close, others are tried.
void test_threads_that_the_work_is_worth() {
  for (const KernelTable* table : fused_tables()) {
    Machine machine{table, {}, cpu().costs};
    const std::string on = std::string(" on ") + isa_name(table->isa);
    for (const size_t pixels : {1, 100, 1000, 10000, 1000000}) {
      for (const size_t filters : {4, 40, 400}) {
        const ptrdiff_t n = static_cast<ptrdiff_t>(pixels), k = static_cast<ptrdiff_t>(filters);
        const ptrdiff_t x_shape[] = {n, 64}, y_shape[] = {n, k}, x_strides[] = {64 * 4, 4}, y_strides[] = {k * 4, 4};
        const size_t steps[] = {1, 1};
        const Problem problem =
            make_problem(DType::float32, {nullptr, DType::float32, false, 2, x_shape, x_strides},
                         {nullptr, DType::float32, false, 2, y_shape, y_strides}, nullptr, 1, true, steps, 1, filters);
        const double alone = make_plan(problem, machine, 1).microseconds;
        for (const int most : {1, 2, 7, 64}) {
          const Plan plan = make_plan(problem, machine, most);
          const double share = alone / plan.threads, worth = machine.costs.worth_threads;
          check(plan.threads >= 1 && plan.threads <= most, "no more threads than are allowed" + on);
          check(plan.threads == 1 || share >= worth, "threads that each have enough to do" + on);
          check(plan.threads == most || share < 2 * worth, "all threads that have enough to do" + on);
          for (const Plan& tried : plans_to_try(problem, machine, most, 8))
            check(tried.threads >= 1 && tried.threads <= most && tried.threads <= 2 * plan.threads,
                  "threads that are tried" + on);
        }
      }
    }
  }
}

// The plans that calls take turns with: few, the model's own first, no two alike, and all with its bits.
void test_plans_to_try() {
  for (const KernelTable* table : fused_tables()) {
    Machine machine{table, {}, cpu().costs};
    for (const auto& [pixels, channels, filters] :
         std::vector<std::array<size_t, 3>>{{196, 100, 20}, {49, 512, 512}, {500, 3, 3}, {50, 64, 2}}) {
      Plain<float> plain(pixels, channels, filters);
      const std::string what = " of " + std::to_string(channels) + " channels, " + isa_name(table->isa);
      const std::vector<Plan> plans = plans_to_try(plain.problem, machine, 1, 6);
      const Plan own = make_plan(plain.problem, machine, 1);
      const auto alike = [](const Plan& a, const Plan& b) {
        return a.method == b.method && a.orientation == b.orientation && a.family == b.family &&
               a.vectors == b.vectors && a.stage_x == b.stage_x && a.scratch_y == b.scratch_y && a.threads == b.threads;
      };
      check(!plans.empty() && plans.size() <= 6 && alike(plans[0], own),
            "the model's own plan is the first to be tried" + what);
      check(table->isa == Isa::portable || filters < 20 || plans.size() > 2, "there are others to be tried" + what);
      std::vector<float> y(plain.y.size());
      for (size_t i = 0; i < plans.size(); ++i) {
        for (size_t j = 0; j < i; ++j) check(!alike(plans[i], plans[j]), "no plan is tried twice" + what);
        check(plans[i].cycles <= 2 * own.cycles, "no plan is tried that is forecast to take long" + what);
        check(filters < 512 || plans[i].family->width == own.family->width, "large weights are packed once" + what);
        plain.run(plans[i], y);
        check(y == plain.run(table, 1), "the same bits by every plan that is tried" + what);
      }
      machine.only.tile_pixels = 7;
      check(plans_to_try(plain.problem, machine, 1, 6).size() == 1,
            "where something is asked for, nothing else is tried");
      machine.only = {};
    }
  }
}

}  // namespace
}  // namespace conv1x1

int main(int count, char** arguments) {
  using namespace conv1x1;
  make_pool();
  test_dispatch();
  if (count > 3)
    check(isa_name(best_isa(cpu(), nullptr)) == std::string(arguments[3]), "what this processor has is found");
  test_bits();
  test_types();
  test_conversions();
  test_callers_arithmetic();
  test_threads();
  test_cut_for_many_threads<float>();
  test_cut_for_many_threads<double>();
  test_num_threads_during_calls();
  if (count <= 3) test_forks();  // an emulator of one process does not survive them
  test_stop();
  test_trials();
  test_threads_that_the_work_is_worth();
  test_plans_to_try();
  test_chain();
  test_places_of_a_chain();
  test_chain_of_complex();
  test_scales_of_rows();
  test_weights_at_an_odd_address();
  const size_t cases = count > 1 ? std::strtoul(arguments[1], nullptr, 10) : 300;
  const uint64_t seed = count > 2 ? std::strtoull(arguments[2], nullptr, 10) : 20240229;
  test_every_step(cases, seed);
  test_every_kernel(cases, seed);
  test_every_chain(2 * cases, seed);
  test_every_sum(cases, seed);
  std::printf("%d passed, %d failed\n", passed.load(), failed.load());
  return failed ? 1 : 0;
}
