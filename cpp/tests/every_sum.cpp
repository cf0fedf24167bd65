#include "every_sum.h"

#include <algorithm>
#include <cmath>
#include <cstdio>
#include <cstdlib>
#include <memory>
#include <vector>

#include "made_of_bytes.h"
#include "run/moments.h"
#include "system/cpu.h"

namespace conv1x1 {
namespace {

constexpr DType types[] = {DType::float32, DType::float64, DType::int32,  DType::float16, DType::bfloat16,
                           DType::uint8,   DType::int8,    DType::uint16, DType::int16,   DType::boolean,
                           DType::int64,   DType::uint32,  DType::uint64};

using Matrix = std::vector<double>;

// As run/moments.h says it, number by number.
struct Definition {
  std::vector<Matrix> pixels;  // of each its channels, a one; nothing where it does not count
  std::vector<double> weights;
  size_t n;  // channels, and the one
  bool products, fused;

  Matrix of_block(size_t block) const {
    Matrix sums(n * n);
    for (size_t p = block * 4096; p < std::min(pixels.size(), (block + 1) * 4096); ++p)
      for (size_t i = products ? 0 : n - 1; i < n; ++i)
        for (size_t j = 0; j <= i; ++j) {
          const double row = pixels[p][i] * weights[p], lane = pixels[p][j];
          sums[i * n + j] = fused ? std::fma(row, lane, sums[i * n + j]) : sums[i * n + j] + row * lane;
        }
    return sums;
  }

  static void add(Matrix& to, const Matrix& from) {
    for (size_t i = 0; i < to.size(); ++i) to[i] += from[i];
  }

  Matrix sums() const {
    const size_t blocks = (pixels.size() + 4095) / 4096;
    const size_t groups = std::min(blocks, std::clamp<size_t>((size_t{4} << 20) / (n * n * 8), 8, 64));
    std::vector<Matrix> found;
    for (size_t group = 0; group < groups; ++group) {
      const size_t first = blocks * group / groups, last = blocks * (group + 1) / groups;
      found.push_back(of_block(first));
      for (size_t block = first + 1; block < last; ++block) add(found.back(), of_block(block));
    }
    for (size_t apart = 1; apart < groups; apart *= 2)
      for (size_t group = 0; group + apart < groups; group += 2 * apart) add(found[group], found[group + apart]);
    return groups ? found[0] : Matrix(n * n);
  }
};

bool same(double one, double other) { return one == other || (std::isnan(one) && std::isnan(other)); }

}  // namespace

size_t check_every_sum(const uint8_t* data, size_t count, size_t most_pixels) {
  Bytes bytes(data, count);
  const bool many = most_pixels > 65536;  // all of them, or hardly any
  const size_t rank = many ? 3 : 1 + bytes.below(4), axis = bytes.below(rank),
               channels = bytes.below(!many && bytes.one_in(4) ? 40 : 9);
  Index shape;
  for (size_t i = 0, left = most_pixels; i < rank; ++i) {
    const size_t n = i == axis ? channels : many ? std::min<size_t>(left, 1000) : bytes.below(left + 1);
    if (i != axis) left = n ? left / n : 0;
    shape.push_back(static_cast<ptrdiff_t>(n));
  }
  const DType dtype = bytes.one_of(types);
  Placed x(bytes, dtype, shape, Placed::Lies::maybe_repeatedly);
  Numbers numbers(bytes);
  x.fill([&] { return numbers.next(dtype); });
  x.seal();
  const Array array = x.array();
  const bool shifts = bytes.one_in(2), weighs = bytes.one_in(3), drops = bytes.one_in(3);
  std::vector<double> shift(channels), weights;
  for (double& s : shift) s = shifts ? numbers.next(DType::float32) : 0;

  Definition definition{{}, {}, channels + 1, !bytes.one_in(4), true};
  std::vector<char> keep;
  Index pixels = shape;
  pixels[axis] = 1;
  size_t pixel_count = 1;
  for (ptrdiff_t n : pixels) pixel_count *= static_cast<size_t>(n);
  // The last axis first is how indices move, and C order here is the first axis first.
  for (size_t p = 0; p < pixel_count; ++p) {
    Index index(rank);
    for (size_t i = rank, rest = p; i-- > 0;) {
      index[i] = static_cast<ptrdiff_t>(rest % static_cast<size_t>(pixels[i]));
      rest /= static_cast<size_t>(pixels[i]);
    }
    weights.push_back(weighs ? static_cast<double>(bytes.below(5)) / 3 : 1);
    keep.push_back(!drops || !bytes.one_in(3));
    Matrix v;
    for (size_t c = 0; c < channels; ++c) {
      index[axis] = static_cast<ptrdiff_t>(c);
      v.push_back(x.get(index) - shift[c]);
    }
    v.push_back(1);
    if (!keep.back() || weights.back() == 0) std::fill(v.begin(), v.end(), 0.0);
    definition.pixels.push_back(v);
  }
  definition.weights = weights;

  const auto kept = std::make_unique<bool[]>(keep.size() + 1);
  std::copy(keep.begin(), keep.end(), kept.get());
  size_t ways = 0;
  for (size_t i = 0; i < isa_count; ++i) {
    const KernelTable* table = kernels(static_cast<Isa>(i), cpu());
    if (!table || static_cast<Isa>(i) > best_isa(cpu(), nullptr)) continue;
    definition.fused = table->fused;
    const Matrix wanted = definition.sums();
    for (int threads : {1, 3}) {
      Matrix found(wanted.size(), -1);
      const Moments asked{array,
                          static_cast<int>(axis),
                          shifts ? shift.data() : nullptr,
                          weighs ? weights.data() : nullptr,
                          drops ? kept.get() : nullptr,
                          definition.products,
                          false,
                          found.data()};
      const bool finished = moments(*table, asked, threads, nullptr, nullptr);
      ++ways;
      for (size_t at = 0; at < wanted.size(); ++at) {
        const size_t row = at / definition.n, column = at % definition.n;
        const bool told = column <= row && (definition.products || row == channels);
        if (finished && (!told || same(found[at], wanted[at]))) continue;
        std::fprintf(stderr,
                     "isa %s, %d threads, %zu pixels of %zu channels: (%zu, %zu) is %.17g where %.17g is right\n",
                     isa_name(table->isa), threads, pixel_count, channels, row, column, found[at], wanted[at]);
        std::fprintf(stderr, "bytes:");
        for (size_t b = 0; b < count; ++b) std::fprintf(stderr, " %02x", data[b]);
        std::fprintf(stderr, "\n");
        std::abort();
      }
    }
  }
  return ways;
}

}  // namespace conv1x1
