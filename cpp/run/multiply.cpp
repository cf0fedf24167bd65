#include "run/multiply.h"

#include <algorithm>

namespace conv1x1 {

namespace {

// What to ask the memory for while a block is multiplied: pixels `blocks` blocks of rows on.
struct Ahead {
  const char* data = nullptr;
  ptrdiff_t pixel = 0, channel = 0;
  ptrdiff_t blocks = 0;
};

// x's pixels of the tile after this one, which are staged next, where they lie as this one's do; else nothing.
Ahead next_tile(const Task& t) {
  const Side& side = t.problem.x;
  const PixelAxes& axes = t.problem.source;
  if (axes.size() != 1 || t.pixels.last == t.problem.pixels) return {};
  const PixelAxis& axis = axes.back();
  const bool contiguous = (t.rows() ? side.channel : axis.x) == static_cast<ptrdiff_t>(size_of(side.dtype));
  if (!contiguous) return {};
  return {t.x.data + static_cast<ptrdiff_t>(t.pixels.last) * axis.x, axis.x,
          side.channel * static_cast<ptrdiff_t>(t.depth()), 0};
}

// Calls fn(first, count, n) for `total` in equal parts of at most `most`: `count` parts of n, at most two kinds.
template <class Fn>
void split(size_t total, size_t most, Fn fn) {
  if (total == 0) return;
  const size_t parts = (total + most - 1) / most, low = total / parts, higher = total % parts;
  if (higher) fn(size_t{0}, higher, low + 1);
  fn(higher * (low + 1), parts - higher, low);
}

// Cuts `lanes` into columns of equal width, as nearly as can be, and calls fn(first lane, columns, vectors, lanes in
// the last vector) for each of them, or `together` for all of a width.
template <class Fn>
void for_each_column(const Plan& plan, size_t lanes, bool together, Fn fn) {
  const size_t width = plan.family->width, needed = (lanes + width - 1) / width;
  split(needed, plan.vectors, [&](size_t first, size_t count, size_t vectors) {
    const size_t columns = together ? count : 1, end = first + count * vectors;
    for (size_t v = first; v < end; v += columns * vectors)
      fn(v * width, columns, vectors, v + columns * vectors == needed ? lanes - (needed - 1) * width : width);
  });
}

// `m` as it stands for the first of `rows` rows; every row moves bias and scale on by `bias_row` bytes.
void multiply_rows(const Plan& plan, const Multiply& m, size_t vectors, size_t rows, ptrdiff_t bias_row,
                   const Ahead& ahead) {
  const MultiplyFamily& family = *plan.family;
  split(rows, family.max_rows[vectors - 1], [&](size_t first, size_t count, size_t height) {
    Multiply block = m;
    const ptrdiff_t row = static_cast<ptrdiff_t>(first);
    block.rows += row * m.row_stride;
    block.out += row * m.out_row;
    if (block.bias) block.bias += row * bias_row;
    if (block.scale) block.scale += row * bias_row;
    if (block.residual) block.residual += row * m.residual_row;
    block.blocks = count;
    if (plan.orientation == Orientation::pixels_as_rows) {
      const ptrdiff_t high = static_cast<ptrdiff_t>(height);
      block.ahead = ahead.data + (row + ahead.blocks * high) * ahead.pixel;
      block.ahead_block = high * ahead.pixel;
      block.ahead_channel = block.ahead_block / static_cast<ptrdiff_t>(std::max<size_t>(m.channels, 1));
      block.ahead_blocks = count;
    } else if (first > 0) {
      block.ahead_blocks = 0;
    }
    family.fn[vectors - 1][height - 1](block);
  });
}

// What all blocks of a task have in common; bias, scale and residual are those of its first filter.
Multiply common(const Task& t, size_t channel, size_t channels) {
  const bool ends = channel + channels == t.problem.in_channels;
  Multiply m{};
  m.channels = (channels + t.depth() - 1) / t.depth();
  m.resume = channel > 0;
  m.bias_per_row = !t.rows();
  m.clamp = ends && fuses_clamp(t);
  m.lo = t.epilogue.a;
  m.hi = t.epilogue.b;
  m.zero_point = t.epilogue.zero_point;
  if (t.problem.arithmetic == DType::int32 && m.clamp) {
    m.lo = std::clamp(m.lo, -2147483648.0, 2147483647.0);
    m.hi = std::clamp(m.hi, -2147483648.0, 2147483647.0);
  }
  if (ends) m.bias = t.weights.bias_at(t.group, t.filter, t.second_half || raises(t));
  if (t.problem.quantized) m.scale = t.weights.scale_at(t.group, t.filter);
  if (ends && t.plan.fuse_residual) m.residual = t.residual;
  return m;
}

const char* moved(const char* data, ptrdiff_t bytes) { return data ? data + bytes : nullptr; }

void pixels_as_rows(const Task& t, const Multiply& first, ptrdiff_t skipped, const End& from, const End& to,
                    const Ahead& ahead) {
  Multiply m = first;
  m.lane_vector = t.weights.panel_bytes();
  m.lane_channel = static_cast<ptrdiff_t>(t.plan.family->width) * t.size();
  const ptrdiff_t size = t.size(), out_size = t.out_size();
  const bool one_block = t.pixels.count() <= t.plan.family->max_rows[t.plan.vectors - 1];
  for_each_column(t.plan, t.filters, one_block, [&](size_t lane, size_t columns, size_t vectors, size_t last_lanes) {
    const ptrdiff_t lane_bytes = static_cast<ptrdiff_t>(lane) * size;
    const ptrdiff_t out_bytes = static_cast<ptrdiff_t>(lane) * out_size;
    m.lanes = t.weights.panel(t.group, t.filter + lane) + skipped;
    m.columns = columns;
    m.last_lanes = last_lanes;
    m.bias = moved(first.bias, lane_bytes);
    m.scale = moved(first.scale, lane_bytes);
    for_each_run(t, from, to, [&](const Block& x, const Block& y, const Run& run) {
      m.rows = x.data;
      m.row_stride = x.pixel;
      m.row_channel = x.channel;
      m.out = y.data + out_bytes;
      m.out_row = y.pixel;
      m.residual = moved(first.residual, run.residual + lane_bytes);
      m.residual_row = run.residual_step;
      multiply_rows(t.plan, m, vectors, run.n, 0, ahead.data ? ahead : Ahead{x.data, x.pixel, 0, 1});
    });
  });
}

void pixels_as_lanes(const Task& t, const Multiply& first, ptrdiff_t skipped, const End& from, const End& to,
                     const Ahead& ahead) {
  const size_t width = t.plan.family->width;
  const ptrdiff_t size = t.size(), out_size = t.out_size();
  Multiply m = first;
  m.row_stride = size;
  m.row_channel = m.lane_vector = static_cast<ptrdiff_t>(width) * size;
  m.residual_row = t.problem.residual.channel;
  for_each_run(t, from, to, [&](const Block& x, const Block& y, const Run& run) {
    m.lane_channel = x.channel;
    m.out_row = y.channel;
    for_each_column(t.plan, run.n, true, [&](size_t lane, size_t columns, size_t vectors, size_t last_lanes) {
      const ptrdiff_t lane_bytes = static_cast<ptrdiff_t>(lane) * size;
      const ptrdiff_t out_bytes = static_cast<ptrdiff_t>(lane) * out_size;
      m.lanes = x.data + lane_bytes;
      m.columns = columns;
      m.last_lanes = last_lanes;
      for (size_t k = 0; k < t.filters; k += width) {
        const ptrdiff_t row = static_cast<ptrdiff_t>(k);
        m.rows = t.weights.panel(t.group, t.filter + k) + skipped;
        m.lanes_ahead = k == 0 && from.walked;
        m.ahead = ahead.data + static_cast<ptrdiff_t>(lane) * ahead.pixel;
        m.ahead_channel = ahead.channel;
        m.ahead_column = static_cast<ptrdiff_t>(vectors * width) * ahead.pixel;
        m.ahead_blocks = k == 0 && ahead.data ? static_cast<size_t>((m.ahead_column + 63) / 64) : 0;
        m.out = y.data + out_bytes + row * y.channel;
        m.bias = moved(first.bias, row * size);
        m.scale = moved(first.scale, row * size);
        m.residual = moved(first.residual, run.residual + lane_bytes + row * m.residual_row);
        multiply_rows(t.plan, m, vectors, std::min(width, t.filters - k), size, {});
      }
    });
  });
}

}  // namespace

bool fuses_clamp(const Task& t) {
  return t.plan.method == Method::multiply && t.epilogue.activation == Activation::clamp && !t.problem.quantized &&
         (!t.problem.adds_residual || t.plan.fuse_residual);
}

void multiply(const Task& t, size_t channel, size_t channels, const End& x, const End& y) {
  const Multiply m = common(t, channel, channels);
  const ptrdiff_t skipped = static_cast<ptrdiff_t>(channel * t.plan.family->width) * t.size();
  const Ahead ahead = t.plan.stage_x && t.x.walked ? next_tile(t) : Ahead{};
  (t.rows() ? pixels_as_rows : pixels_as_lanes)(t, m, skipped, x, y, ahead);
}

}  // namespace conv1x1
