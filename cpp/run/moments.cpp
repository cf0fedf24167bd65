#include "run/moments.h"

#include <algorithm>
#include <memory>
#include <new>

#include "call/runs.h"
#include "run/scratch.h"
#include "run/transfer.h"
#include "system/fp_environment.h"
#include "system/thread_pool.h"

namespace conv1x1 {

namespace {

constexpr size_t block_pixels = 4096, most_groups = 64;
constexpr size_t groups_bytes = size_t{4} << 20;  // of all groups' sums, where they are few enough
constexpr size_t tile_bytes = size_t{192} << 10;  // what stays in the second-level cache beside the sums
constexpr ptrdiff_t number = sizeof(double);

size_t rounded_up(size_t n, size_t step) { return (n + step - 1) / step * step; }

// Of float64, and in the shape that loads least.
struct Kernel {
  const MultiplyFamily* family = nullptr;
  size_t vectors = 1;

  size_t rows() const { return family->max_rows[vectors - 1]; }
};

Kernel kernel_of(const KernelTable& table) {
  Kernel best;
  double least = 0;
  for (size_t f = 0; f < table.family_count; ++f)
    for (size_t v = 1; table.families[f].operand == Operand::float64 && v <= table.families[f].max_vectors; ++v) {
      const double loads = 1.0 / table.families[f].max_rows[v - 1] + 1.0 / static_cast<double>(v);
      if (best.family && loads >= least) continue;
      best = {&table.families[f], v};
      least = loads;
    }
  return best;
}

struct Work {
  const KernelTable& table;
  const Moments& asked;
  const Kernel kernel;
  PixelAxes axes = {};
  size_t pixels = 1, channels = 0;
  ptrdiff_t channel_step = 0;
  size_t numbers = 0;  // C + 1, and zeros to whole vectors
  size_t tile_pixels = 0, blocks = 0, groups = 0;
  ptrdiff_t pitch = 0;                  // bytes from pixel to pixel in a tile
  std::unique_ptr<double[]> sums = {};  // of each group
  bool (*stop)(void*) = nullptr;
  void* stop_context = nullptr;

  size_t rows() const { return channels + 1; }
  size_t matrix() const { return rows() * numbers; }
  size_t tile_size() const { return tile_pixels * static_cast<size_t>(pitch); }
  size_t scratch_bytes() const { return tile_size() * (asked.weights ? 2 : 1) + matrix() * sizeof(double); }
};

Work plan(const KernelTable& table, const Moments& asked, bool (*stop)(void*), void* stop_context) {
  Work w{table, asked, kernel_of(table)};
  const Array& x = asked.x;
  for (int i = 0; i < x.rank; ++i)
    if (i != asked.axis) {
      w.pixels *= static_cast<size_t>(x.shape[i]);
      if (x.shape[i] != 1) w.axes.push_back({static_cast<size_t>(x.shape[i]), x.strides[i], 0, 0});
    }
  if (asked.exact && !asked.weights && !asked.keep) sort_axes(w.axes, [](const PixelAxis& axis) { return axis.x; });
  w.axes = merge(w.axes, true, false, false);
  w.channels = static_cast<size_t>(x.shape[asked.axis]);
  w.channel_step = x.strides[asked.axis];
  w.numbers = rounded_up(w.rows(), w.kernel.family->width);
  // Not a power of 2 apart, lest all pixels of a channel be in a few sets of the cache.
  w.pitch = static_cast<ptrdiff_t>(rounded_up(w.numbers * sizeof(double), 64));
  if (w.pitch % 256 == 0) w.pitch += 64;
  w.tile_pixels = std::clamp<size_t>(tile_bytes / static_cast<size_t>(w.pitch), 16, 512);
  w.blocks = (w.pixels + block_pixels - 1) / block_pixels;
  // Of no vector's width: it decides on the order of sums.
  const size_t most = std::clamp<size_t>(groups_bytes / (w.rows() * w.rows() * sizeof(double)), 8, most_groups);
  w.groups = std::min(w.blocks, most);
  w.stop = stop;
  w.stop_context = stop_context;
  return w;
}

// The numbers of pixels [first, first + n), each with its channels, a one and zeros, in rows that are `pitch` apart.
void stage(const Work& w, size_t first, size_t n, char* tile) {
  const Array& x = w.asked.x;
  const ConvertFn convert = x.dtype == DType::float64
                                ? nullptr
                                : w.table.convert[static_cast<size_t>(x.dtype)][static_cast<size_t>(DType::float64)];
  Runs runs(w.axes, first, first + n);
  char* to = tile;
  for (Run run; runs.next(run); to += static_cast<ptrdiff_t>(run.n) * w.pitch)
    transfer(w.table, {x.data + run.x, run.x_step, w.channel_step, to, w.pitch, number, run.n, w.channels},
             {size_of(x.dtype), x.swapped}, {sizeof(double)}, convert);
  for (size_t p = 0; p < n; ++p) {
    double* v = reinterpret_cast<double*>(tile + static_cast<ptrdiff_t>(p) * w.pitch);
    std::fill(v + w.channels, v + w.numbers, 0.0);
    v[w.channels] = 1;
    if (const double* shift = w.asked.shift)
      for (size_t c = 0; c < w.channels; ++c) v[c] -= shift[c];
    const bool counts =
        !(w.asked.keep && !w.asked.keep[first + p]) && !(w.asked.weights && w.asked.weights[first + p] == 0);
    if (!counts) std::fill(v, v + w.numbers, 0.0);
  }
}

// The same, times the pixels' weights.
void weigh(const Work& w, size_t first, size_t n, const char* tile, char* weighed) {
  for (size_t p = 0; p < n; ++p) {
    const double* v = reinterpret_cast<const double*>(tile + static_cast<ptrdiff_t>(p) * w.pitch);
    double* to = reinterpret_cast<double*>(weighed + static_cast<ptrdiff_t>(p) * w.pitch);
    for (size_t c = 0; c < w.numbers; ++c) to[c] = v[c] * w.asked.weights[first + p];
  }
}

// out(i, j) += the sum over n pixels, or = it, for what is on the diagonal or left of it, in whole vectors.
void multiply(const Work& w, const char* rows, const char* lanes, size_t n, double* out, bool resume) {
  const MultiplyFamily& family = *w.kernel.family;
  const size_t vector_count = w.numbers / family.width;
  Multiply m{};
  m.row_stride = number;
  m.row_channel = m.lane_channel = w.pitch;
  m.lane_vector = static_cast<ptrdiff_t>(family.width) * number;
  m.channels = n;
  m.out_row = static_cast<ptrdiff_t>(w.numbers) * number;
  m.resume = resume;
  m.last_lanes = family.width;
  for (size_t row = w.asked.products ? 0 : w.channels; row < w.rows();) {
    const size_t height = std::min(w.rows() - row, w.kernel.rows());
    const size_t needed = std::min(vector_count, (row + height - 1) / family.width + 1);
    m.rows = rows + static_cast<ptrdiff_t>(row) * number;
    for (size_t v = 0; v < needed;) {
      const size_t vectors = std::min(w.kernel.vectors, needed - v);
      m.tiles = vectors == w.kernel.vectors ? (needed - v) / vectors : 1;
      m.step.lanes = m.step.out = static_cast<ptrdiff_t>(vectors) * m.lane_vector;
      m.lanes = lanes + static_cast<ptrdiff_t>(v) * m.lane_vector;
      m.out = reinterpret_cast<char*>(out + row * w.numbers + v * family.width);
      m.ahead = m.rows;
      family.fn[vectors - 1][height - 1](m);
      v += m.tiles * vectors;
    }
    row += height;
  }
}

void sum_block(const Work& w, size_t block, char* tile, double* out) {
  const size_t end = std::min((block + 1) * block_pixels, w.pixels);
  char* weighed = w.asked.weights ? tile + w.tile_size() : tile;
  for (size_t first = block * block_pixels, begin = first; first < end; first += w.tile_pixels) {
    const size_t n = std::min(w.tile_pixels, end - first);
    stage(w, first, n, tile);
    if (w.asked.weights) weigh(w, first, n, tile, weighed);
    multiply(w, weighed, tile, n, out, first != begin);
  }
}

void add(double* to, const double* from, size_t n) {
  for (size_t i = 0; i < n; ++i) to[i] += from[i];
}

bool enter(void* context) noexcept { return thread_scratch(static_cast<Work*>(context)->scratch_bytes()) != nullptr; }

// The sums of one group.
void sum_group(void* context, size_t group) noexcept {
  const DefaultArithmetic arithmetic;
  const Work& w = *static_cast<const Work*>(context);
  char* tile = thread_scratch(w.scratch_bytes());
  double* sums = w.sums.get() + group * w.matrix();
  double* of_block = reinterpret_cast<double*>(tile + w.tile_size() * (w.asked.weights ? 2 : 1));
  const size_t first = w.blocks * group / w.groups, last = w.blocks * (group + 1) / w.groups;
  sum_block(w, first, tile, sums);
  std::fill_n(of_block, w.matrix(), 0.0);
  for (size_t block = first + 1; block < last; ++block) {
    sum_block(w, block, tile, of_block);
    add(sums, of_block, w.matrix());
  }
}

bool stop(void* context) {
  const Work& w = *static_cast<const Work*>(context);
  return w.stop && w.stop(w.stop_context);
}

}  // namespace

bool moments(const KernelTable& table, const Moments& asked, int threads, bool (*stop_asked)(void*),
             void* stop_context) {
  Work w = plan(table, asked, stop_asked, stop_context);
  std::fill_n(asked.out, w.rows() * w.rows(), 0.0);
  if (w.pixels == 0) return true;
  w.sums = std::make_unique<double[]>(w.groups * w.matrix());
  if (!enter(&w)) throw std::bad_alloc();
  const DefaultArithmetic arithmetic;
  if (!run_job({w.groups, enter, sum_group, stop, &w}, threads)) return false;
  for (size_t apart = 1; apart < w.groups; apart *= 2)
    for (size_t group = 0; group + apart < w.groups; group += 2 * apart)
      add(w.sums.get() + group * w.matrix(), w.sums.get() + (group + apart) * w.matrix(), w.matrix());
  for (size_t i = 0; i < w.rows(); ++i) std::copy_n(w.sums.get() + i * w.numbers, i + 1, asked.out + i * w.rows());
  return true;
}

}  // namespace conv1x1
