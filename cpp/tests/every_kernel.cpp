#include "every_kernel.h"

#include <sys/mman.h>
#include <unistd.h>

#include <algorithm>
#include <cmath>
#include <cstdio>
#include <cstdlib>
#include <cstring>
#include <iterator>
#include <limits>
#include <vector>

#include "../conv.h"
#include "../cpu.h"
#include "../plan.h"
#include "../problem.h"
#include "../weights.h"

namespace conv1x1 {
namespace {

class Bytes {
 public:
  Bytes(const uint8_t* bytes, size_t count) : next_(bytes), end_(bytes + count) {}
  // A number below n ≤ 65536.
  size_t below(size_t n) {
    const size_t low = byte();
    return (n > 256 ? low | byte() << 8 : low) % n;
  }
  bool one_in(size_t n) { return below(n) == n - 1; }

 private:
  size_t byte() { return next_ == end_ ? 0 : *next_++; }
  const uint8_t *next_, *end_;
};

// Numbers of a kind: small whole ones, those of every day, or any bits at all.
class Numbers {
 public:
  explicit Numbers(Bytes& bytes) : kind_(bytes.below(3)), state_(bytes.below(65536)) {}
  double next(DType dtype) {
    state_ += 0x9e3779b97f4a7c15u;  // splitmix64
    uint64_t z = state_;
    z = (z ^ (z >> 30)) * 0xbf58476d1ce4e5b9u;
    z = (z ^ (z >> 27)) * 0x94d049bb133111ebu;
    z ^= z >> 31;
    if (kind_ == 0) return static_cast<double>(z % 17) - 8;
    if (kind_ == 1) return static_cast<double>(z >> 11) * 0x1p-51 - 2;
    if (dtype == DType::float64) return from_bits<double>(z);
    return static_cast<double>(from_bits<float>(static_cast<uint32_t>(z >> 32)));
  }

 private:
  template <class T, class Bits>
  static T from_bits(Bits bits) {
    T value;
    std::memcpy(&value, &bits, sizeof(value));
    return value;
  }
  size_t kind_;
  uint64_t state_;
};

double get(const char* at, DType dtype) {
  float single;
  double number;
  if (dtype == DType::float64) return std::memcpy(&number, at, sizeof(number)), number;
  return std::memcpy(&single, at, sizeof(single)), static_cast<double>(single);
}

void put(char* at, DType dtype, double number) {
  const float single = static_cast<float>(number);
  dtype == DType::float64 ? std::memcpy(at, &number, sizeof(number)) : std::memcpy(at, &single, sizeof(single));
}

using Index = std::vector<ptrdiff_t>;

// Moves an index on, the last axis first; false at the end.
bool next_index(Index& index, const Index& shape) {
  for (size_t i = shape.size(); i-- > 0;) {
    if (++index[i] < shape[i]) return true;
    index[i] = 0;
  }
  return false;
}

// An array with memory of its own, that lies in it in any order, with gaps, backwards, at any address.
class Placed {
 public:
  Placed(Bytes& bytes, DType dtype, const Index& shape, bool may_repeat) : dtype_(dtype), shape_(shape) {
    const size_t rank = shape.size();
    const bool plain = bytes.one_in(2);
    std::vector<size_t> order(rank);
    for (size_t i = 0; i < rank; ++i) order[i] = i;
    for (size_t i = plain ? 0 : rank; i > 1; --i) std::swap(order[i - 1], order[bytes.below(i)]);
    strides_.resize(rank);
    ptrdiff_t step = static_cast<ptrdiff_t>(size_of(dtype)), first = 0;
    bytes_ = size_of(dtype);
    for (size_t i = rank; i-- > 0;) {
      const size_t axis = order[i];
      const ptrdiff_t n = std::max<ptrdiff_t>(shape[axis], 1);
      ptrdiff_t stride = step;
      switch (!plain && step * n < 1 << 15 ? bytes.below(10) : 0) {
        case 5: stride += static_cast<ptrdiff_t>(size_of(dtype)); break;
        case 6: stride *= 2; break;
        case 7: stride += 1; break;
        case 8: stride = (stride + 4095) / 4096 * 4096; break;
        case 9: stride = may_repeat ? 0 : stride; break;
        default: break;
      }
      step = std::max(step, stride * n);
      bytes_ += static_cast<size_t>((n - 1) * stride);
      const bool backwards = !plain && bytes.one_in(4);
      if (backwards) first += (n - 1) * stride;
      strides_[axis] = backwards ? -stride : stride;
    }
    const size_t page = static_cast<size_t>(sysconf(_SC_PAGESIZE)), skew = bytes.one_in(4) ? bytes.below(8) : 0;
    const size_t inner = (bytes_ + skew + page - 1) / page * page;
    mapped_bytes_ = inner + 2 * page;
    mapped_ =
        static_cast<char*>(mmap(nullptr, mapped_bytes_, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0));
    if (mapped_ == MAP_FAILED || mprotect(mapped_, page, PROT_NONE) != 0 ||
        mprotect(mapped_ + page + inner, page, PROT_NONE) != 0)
      std::abort();
    memory_ = bytes.one_in(2) ? mapped_ + page + skew : mapped_ + page + inner - skew - bytes_;
    data_ = memory_ + first;
    forget();
  }
  ~Placed() { munmap(mapped_, mapped_bytes_); }
  Placed(const Placed&) = delete;
  Placed& operator=(const Placed&) = delete;

  Array array() const {
    return {data_, dtype_, false, static_cast<int>(shape_.size()), shape_.data(), strides_.data()};
  }
  char* at(const Index& index) const {
    char* p = data_;
    for (size_t i = 0; i < index.size(); ++i) p += index[i] * strides_[i];
    return p;
  }
  void fill(Numbers& numbers) {
    Index index(shape_.size());
    if (std::find(shape_.begin(), shape_.end(), 0) != shape_.end()) return;
    do put(at(index), dtype_, numbers.next(dtype_));
    while (next_index(index, shape_));
  }
  // All of its memory, between the elements too, made what no result is likely to be.
  void forget() { std::memset(memory_, 0x5b, bytes_); }
  std::vector<char> image() const { return {memory_, memory_ + bytes_}; }
  const char* memory() const { return memory_; }
  DType dtype() const { return dtype_; }

 private:
  DType dtype_;
  Index shape_, strides_;
  char *mapped_, *memory_, *data_;
  size_t mapped_bytes_, bytes_;
};

// The definition, in T: the channels in their order, then + bias, + residual, activation.
struct Case {
  size_t groups, in_channels, out_channels;  // in each group
  std::vector<double> weight, bias;          // rounded to their types
  Epilogue epilogue;
  bool fused;

  template <class T>
  T fma(T a, T b, T c) const {
    return fused ? std::fma(a, b, c) : a * b + c;
  }

  template <class T>
  double value(const std::vector<double>& x, size_t filter, const double* residual) const {
    const double* w = weight.data() + filter * in_channels;
    T sums[partials] = {};
    const bool lanes = summation_order(in_channels, out_channels) == Order::lanes;
    for (size_t c = 0; c < in_channels; ++c) {
      T& sum = sums[lanes ? c % partials : 0];
      sum = fma(static_cast<T>(w[c]), static_cast<T>(x[c]), sum);
    }
    for (size_t half = lanes ? partials / 2 : 0; half > 0; half /= 2)
      for (size_t i = 0; i < half; ++i) sums[i] += sums[i + half];
    T y = sums[0];
    if (!bias.empty()) y += static_cast<T>(bias[filter]);
    if (residual) y += static_cast<T>(*residual);
    // Its formulas are pinned elsewhere, by hashes; here one number at a time stands against vectors of them.
    const DType dtype = sizeof(T) == sizeof(double) ? DType::float64 : DType::float32;
    kernels(Isa::portable, Cpu{})
        ->activate[static_cast<size_t>(dtype)](reinterpret_cast<char*>(&y), 1, epilogue.activation, epilogue.a,
                                               epilogue.b);
    return static_cast<double>(y);
  }
};

bool same(double a, double b) { return (std::isnan(a) && std::isnan(b)) || std::memcmp(&a, &b, sizeof(a)) == 0; }

[[noreturn]] void fail(const Plan& plan, const Problem& problem, const char* what) {
  std::fprintf(stderr,
               "%s: isa %s (fused %d), method %d, %zu vectors of %zu, orientation %d, staged %d, scratch %d; "
               "%zu pixels, %zu groups of %zu -> %zu\n",
               what, isa_name(plan.table->isa), plan.table->fused, static_cast<int>(plan.method), plan.vectors,
               plan.family->width, static_cast<int>(plan.orientation), plan.stage_x, plan.scratch_y, problem.pixels,
               problem.groups, problem.in_channels, problem.out_channels);
  std::abort();
}

// Calls fn(machine) for every table of kernels, and in it for every way to restrict the choice.
template <class Fn>
void for_each_machine(DType arithmetic, size_t l2_bytes, Fn fn) {
  std::vector<const KernelTable*> tables;
  for (bool fused : {false, true}) {
    Cpu cpu;
    cpu.fma = fused;
    tables.push_back(kernels(Isa::portable, cpu));
  }
  for (size_t i = 1; i < isa_count; ++i)
    if (cpu().supports[i]) tables.push_back(kernels(static_cast<Isa>(i), cpu()));
  for (const KernelTable* table : tables) {
    Machine machine{table, {}, cpu().halves_pair_up, l2_bytes};
    fn(machine);
    for (size_t f = 0; f < table->family_count; ++f) {
      if (sums_of(table->families[f].operand) != arithmetic) continue;
      machine.only.family = &table->families[f];
      for (machine.only.vectors = 1; machine.only.vectors <= table->families[f].max_vectors; ++machine.only.vectors) {
        for (Orientation orientation : {Orientation::pixels_as_rows, Orientation::pixels_as_lanes}) {
          machine.only.orientation = orientation;
          fn(machine);
        }
      }
    }
  }
}

}  // namespace

size_t check_every_kernel(const uint8_t* data, size_t count) {
  Bytes bytes(data, count);
  const auto some_dtype = [&] { return bytes.one_in(3) ? DType::float64 : DType::float32; };
  const auto some = [&](size_t few, size_t many) { return bytes.below(bytes.one_in(8) ? many : few); };

  Case c;
  c.groups = bytes.one_in(4) ? 1 + bytes.below(4) : 1;
  // What has kernels of its own as often as all else: few filters, few channels.
  const size_t kind = bytes.below(4);
  c.in_channels = kind == 1 ? some(5, 5) : kind == 2 ? 32 + some(40, 200) : some(50, 200);
  c.out_channels = kind == 1 || kind == 2 ? bytes.below(5) : some(20, 90);
  const size_t rank = 1 + bytes.below(4), axis = bytes.one_in(2) ? bytes.below(rank) : rank - 1;
  const bool keep_axis = !(c.groups * c.out_channels == 1 && bytes.one_in(2));
  Index x_shape(rank), full_shape(rank), y_shape;
  size_t steps[max_rank];
  size_t most = 1000;  // pixels
  for (size_t i = 0; i < rank; ++i) {
    steps[i] = i != axis && bytes.one_in(4) ? 1 + bytes.below(3) : 1;
    const size_t n = i == axis ? c.groups * c.in_channels : std::min(most, some(20, 500));
    if (i != axis) most /= std::max<size_t>(n, 1);
    x_shape[i] = static_cast<ptrdiff_t>(n);
    full_shape[i] = static_cast<ptrdiff_t>(i == axis ? c.groups * c.out_channels : (n + steps[i] - 1) / steps[i]);
    if (i != axis || keep_axis) y_shape.push_back(full_shape[i]);
  }
  Numbers numbers(bytes);
  Placed x(bytes, some_dtype(), x_shape, true), y(bytes, some_dtype(), y_shape, false);
  Placed residual(bytes, some_dtype(), y_shape, true);
  const bool adds = bytes.one_in(2);
  x.fill(numbers);
  residual.fill(numbers);
  constexpr Activation activations[] = {Activation::none,      Activation::clamp,       Activation::leaky_relu,
                                        Activation::hardswish, Activation::hardsigmoid, Activation::sigmoid,
                                        Activation::silu,      Activation::tanh,        Activation::gelu};
  c.epilogue.activation = activations[bytes.below(std::size(activations))];
  if (c.epilogue.activation == Activation::clamp) {
    c.epilogue.a = bytes.one_in(2) ? -1 : 0;
    c.epilogue.b = bytes.one_in(2) ? 6 : std::numeric_limits<double>::infinity();
  } else if (c.epilogue.activation == Activation::leaky_relu) {
    c.epilogue.a = 0.125;
  }

  const size_t filters = c.groups * c.out_channels;
  const bool biased = bytes.one_in(2);
  Placed weight(bytes, some_dtype(), {}, false);  // its type decides; the numbers lie without gaps, below
  std::vector<double> w_memory(filters * c.in_channels + 1), b_memory(filters + 1);
  char *w = reinterpret_cast<char*>(w_memory.data()), *b = reinterpret_cast<char*>(b_memory.data());
  const DType w_dtype = weight.dtype(), b_dtype = some_dtype();
  const auto numbers_at = [&](char* at, DType dtype, size_t n) {
    std::vector<double> values(n);
    for (size_t i = 0; i < n; ++i) {
      char* place = at + i * size_of(dtype);
      put(place, dtype, numbers.next(dtype));
      values[i] = get(place, dtype);
    }
    return values;
  };
  c.weight = numbers_at(w, w_dtype, filters * c.in_channels);
  if (biased) c.bias = numbers_at(b, b_dtype, filters);
  const Weights weights({w, w_dtype}, {biased ? b : nullptr, b_dtype}, {}, c.groups, c.out_channels, c.in_channels);
  const int threads = bytes.one_in(4) ? 3 : 1;
  const size_t l2_bytes = size_t{1} << (bytes.one_in(4) ? 13 : 20);  // small: more tiles, and blocks of channels

  const Array x_array = x.array(), y_array = y.array(), residual_array = residual.array();
  const DType arithmetic = x.dtype() == DType::float64 || y.dtype() == DType::float64 ? DType::float64 : DType::float32;
  const Problem problem = make_problem(arithmetic, x_array, y_array, adds ? &residual_array : nullptr,
                                       static_cast<int>(axis), keep_axis, steps, c.groups, filters);
  size_t ways = 0;
  std::vector<char> expected[2];  // y's memory: rounded twice, once
  for (const bool fused : {false, true}) {
    c.fused = fused;
    y.forget();
    if (problem.pixels != 0 && filters != 0) {
      Index index(rank);
      std::vector<double> pixel(c.in_channels);
      do {
        const size_t filter = static_cast<size_t>(index[axis]), group = filter / c.out_channels;
        Index from(rank), to;
        for (size_t i = 0; i < rank; ++i) {
          from[i] = index[i] * static_cast<ptrdiff_t>(steps[i]);
          if (i != axis || keep_axis) to.push_back(index[i]);
        }
        for (size_t k = 0; k < c.in_channels; ++k) {
          from[axis] = static_cast<ptrdiff_t>(group * c.in_channels + k);
          pixel[k] = get(x.at(from), x.dtype());
        }
        const double added = get(residual.at(to), residual.dtype());
        const double value = problem.arithmetic == DType::float64
                                 ? c.value<double>(pixel, filter, adds ? &added : nullptr)
                                 : c.value<float>(pixel, filter, adds ? &added : nullptr);
        put(y.at(to), y.dtype(), value);
      } while (next_index(index, full_shape));
    }
    expected[fused] = y.image();
  }

  for_each_machine(problem.arithmetic, l2_bytes, [&](const Machine& machine) {
    Plan plan = make_plan(problem, machine, threads);
    plan.threads = threads;  // for little work too
    const Layer layer{{x_array.data, y_array.data, adds ? residual_array.data : nullptr},
                      &problem,
                      &plan,
                      &weights.packed(plan.family->operand, plan.family->width),
                      c.epilogue};
    y.forget();
    if (!convolve(&layer, 1, nullptr, nullptr)) fail(plan, problem, "stopped unasked");
    ++ways;
    const std::vector<char>& wanted = expected[machine.table->fused];
    if (std::memcmp(y.memory(), wanted.data(), wanted.size()) == 0) return;
    // NaN may have other bits: take over what was wanted where both are NaN, and look again.
    Index index(y_shape.size());
    if (problem.pixels != 0 && filters != 0) {
      do {
        char* p = y.at(index);
        const double other = get(wanted.data() + (p - y.memory()), y.dtype());
        if (!same(get(p, y.dtype()), other)) {
          std::fprintf(stderr, "%.17g where %.17g is right\n", get(p, y.dtype()), other);
          fail(plan, problem, "a wrong number");
        }
        std::memcpy(p, wanted.data() + (p - y.memory()), size_of(y.dtype()));
      } while (next_index(index, y_shape));
    }
    if (y.image() != wanted) fail(plan, problem, "a byte written between the elements");
  });
  return ways;
}

}  // namespace conv1x1
