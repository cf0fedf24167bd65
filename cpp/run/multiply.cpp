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

const char* moved(const char* data, ptrdiff_t bytes) { return data ? data + bytes : nullptr; }

// Multiplies `rows` rows of `columns` columns, of which `m` stands at the first; afterwards it is past these rows.
// Every row moves bias and scale on by `bias_row` bytes. ask(m, first row, height) says what to ask the memory for
// meanwhile.
template <class Ask>
void multiply_rows(const Task& t, Multiply& m, size_t columns, size_t vectors, size_t rows, ptrdiff_t bias_row,
                   Ask ask) {
  const MultiplyFamily& family = *t.plan.family;
  m.same_lanes = t.rows() && columns == 1;
  const ptrdiff_t lanes = static_cast<ptrdiff_t>(vectors * family.width), of_lanes = bias_row ? 0 : lanes;
  const auto if_any = [](const char* p, ptrdiff_t bytes) { return p ? bytes : 0; };
  const Multiply::Step across{0,
                              static_cast<ptrdiff_t>(vectors) * m.lane_vector,
                              lanes * t.out_size(),
                              if_any(m.bias, of_lanes * t.size()),
                              if_any(m.residual, lanes * t.size()),
                              if_any(m.scale, of_lanes * static_cast<ptrdiff_t>(sizeof(float))),
                              0};
  split(rows, family.max_rows[vectors - 1], [&](size_t first, size_t count, size_t height) {
    const auto down = [&](size_t blocks) {
      const ptrdiff_t n = static_cast<ptrdiff_t>(blocks * height);
      return Multiply::Step{n * m.row_stride,
                            0,
                            n * m.out_row,
                            if_any(m.bias, n * bias_row),
                            if_any(m.residual, n * m.residual_row),
                            if_any(m.scale, n * bias_row),
                            0};
    };
    const size_t together = m.same_lanes ? count : 1;
    const Multiply::Step next = down(together);
    m.tiles = m.same_lanes ? count : columns;
    m.step = m.same_lanes ? down(1) : across;
    for (size_t block = 0; block < count; block += together) {
      ask(m, first + block * height, height);
      family.fn[vectors - 1][height - 1](m);
      m.rows += next.rows;
      m.out += next.out;
      m.bias += next.bias;
      m.residual += next.residual;
      m.scale += next.scale;
    }
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
    m.last_lanes = last_lanes;
    for_each_run(t, from, to, [&](const Block& x, const Block& y, const Run& run) {
      m.rows = x.data;
      m.row_stride = x.pixel;
      m.row_channel = x.channel;
      m.out = y.data + out_bytes;
      m.out_row = y.pixel;
      m.bias = moved(first.bias, lane_bytes);
      m.scale = moved(first.scale, lane_bytes);
      m.residual = moved(first.residual, run.residual + lane_bytes);
      m.residual_row = run.residual_step;
      const Ahead pixels = ahead.data ? ahead : Ahead{x.data, x.pixel, 0, 1};
      multiply_rows(t, m, columns, vectors, run.n, 0, [&](Multiply& block, size_t row, size_t height) {
        const ptrdiff_t high = static_cast<ptrdiff_t>(height), step = high * pixels.pixel;
        block.ahead = pixels.data + (static_cast<ptrdiff_t>(row) + pixels.blocks * high) * pixels.pixel;
        block.ahead_channel = step / static_cast<ptrdiff_t>(std::max<size_t>(m.channels, 1));
        block.step.ahead = block.same_lanes ? step : 0;
      });
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
      const ptrdiff_t ahead_column = static_cast<ptrdiff_t>(vectors * width) * ahead.pixel;
      m.lanes = x.data + lane_bytes;
      m.last_lanes = last_lanes;
      for (size_t k = 0; k < t.filters; k += width) {
        const ptrdiff_t row = static_cast<ptrdiff_t>(k);
        m.rows = t.weights.panel(t.group, t.filter + k) + skipped;
        m.out = y.data + out_bytes + row * y.channel;
        m.bias = moved(first.bias, row * size);
        m.scale = moved(first.scale, row * size);
        m.residual = moved(first.residual, run.residual + lane_bytes + row * m.residual_row);
        multiply_rows(t, m, columns, vectors, std::min(width, t.filters - k), size,
                      [&](Multiply& block, size_t row_of_panel, size_t height) {
                        // The first blocks of rows ask for a line of each column's lanes, one after another.
                        const ptrdiff_t lines = static_cast<ptrdiff_t>(row_of_panel / height) * 64;
                        const bool asks = k == 0 && ahead.data && lines < ahead_column;
                        block.lanes_ahead = k + row_of_panel == 0 && from.walked;
                        block.ahead =
                            asks ? ahead.data + static_cast<ptrdiff_t>(lane) * ahead.pixel + lines : block.rows;
                        block.ahead_channel = asks ? ahead.channel : 0;
                        block.step.ahead = asks ? ahead_column : 0;
                      });
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
