#include "run/stage.h"

#include <algorithm>

#include "system/nervous.h"

namespace conv1x1 {

namespace {

// Bytes of one channel in a staged tile.
ptrdiff_t element_size(const Task& t) { return t.size() / static_cast<ptrdiff_t>(t.depth()); }

// From x's type to what the kernel takes.
ConvertFn to_operand(const Task& t) {
  if (raises(t)) return t.plan.table->raise_int8;
  const DType x = t.problem.x.dtype, pixel = traits(t.plan.family->operand).pixel;
  return conversion(*t.plan.table, x, x == DType::boolean && size_of(pixel) == 1 ? DType::uint8 : pixel);
}

const char* channel_of(const Task& t, size_t channel) { return t.x.data + offset(t.problem.x, channel); }

// Channels of pixels [first, last), converted.
void move_pixels(const Task& t, size_t channel, size_t channels, size_t first, size_t last, Block to) {
  const Side& side = t.problem.x;
  const KernelTable& table = *t.plan.table;
  const Elements from = elements(side), into{static_cast<size_t>(element_size(t))};
  const ConvertFn convert = to_operand(t);
  if (!t.x.walked)
    return transfer(table,
                    {channel_of(t, channel) + static_cast<ptrdiff_t>(first - t.pixels.first) * t.x.pixel, t.x.pixel,
                     t.x.channel, to.data, to.pixel, to.channel, last - first, channels},
                    from, into, convert);
  if (t.pixels.boxed && !side.pair) {
    const PixelAxis &row = t.pixels.box[0], &column = t.pixels.box[1];
    return transfer(table, channel_of(t, channel) + static_cast<ptrdiff_t>(first / column.n) * row.x, to.data,
                    {{(last - first) / column.n, row.x, static_cast<ptrdiff_t>(column.n) * to.pixel},
                     {column.n, column.x, to.pixel},
                     {channels, t.x.channel, to.channel}},
                    from, into, convert);
  }
  Runs runs(t.pixels.walk(t.problem.source), first, last);
  for (Run run; runs.next(run); to.data += static_cast<ptrdiff_t>(run.n) * to.pixel) {
    const char* x = channel_of(t, channel) + run.x;
    if (side.pair)
      transfer_pairs(table, {x, run.x_step, t.x.channel, to.data, to.pixel, 2 * to.channel, run.n, channels / 2},
                     side.pair, to.channel, from, into, convert);
    else
      transfer(table, {x, run.x_step, t.x.channel, to.data, to.pixel, to.channel, run.n, channels}, from, into,
               convert);
  }
}

// Pixels as lanes, each with the numbers of a pair or quad of channels. Where the last one wants channels that are
// not there, any numbers will do: their weights are 0.
void stage_together(const Task& t, const Block& to) {
  // Pixels and channels that are rows of the kernel's numbers at a time; no row of a box is longer.
  constexpr size_t chunk = nervous ? 128 : 512, high = 16;
  alignas(64) char rows_of_numbers[high * chunk * 2];
  const size_t depth = t.depth(), in_channels = t.problem.in_channels;
  const ptrdiff_t size = element_size(t), row = static_cast<ptrdiff_t>(chunk) * size;
  const RowsFn join = t.plan.table->join[depth - 2][log2_of(static_cast<size_t>(size))];
  const PixelAxes& axes = t.problem.source;
  const bool even = axes.size() <= 1 && (axes.empty() || axes.back().x == size);
  const bool in_place = !to_operand(t) && (t.x.walked ? even : t.x.pixel == size);
  const Pixels& pixels = t.pixels;
  const size_t origin = t.x.walked ? 0 : pixels.first;                                   // the pixel that x begins with
  const size_t most = pixels.boxed ? chunk / pixels.box[1].n * pixels.box[1].n : chunk;  // whole rows of a box
  for (size_t first = pixels.first; first < pixels.last; first += most) {
    const size_t n = std::min(most, pixels.last - first);
    char* numbers = to.data + static_cast<ptrdiff_t>(first - pixels.first) * to.pixel;
    for (size_t block = 0; block < in_channels; block += high) {
      const size_t channels = std::min(high, in_channels - block);
      if (!in_place) move_pixels(t, block, channels, first, first + n, {rows_of_numbers, size, row});
      for (size_t c = 0; c < channels; c += depth, numbers += to.channel) {
        char* rows[most_rows] = {};
        for (size_t d = 0; d < depth; ++d) {
          const size_t own = c + d < channels ? c + d : c;
          rows[d] = in_place
                        ? t.x.data + offset(t.problem.x, block + own) + static_cast<ptrdiff_t>(first - origin) * size
                        : rows_of_numbers + static_cast<ptrdiff_t>(own) * row;
        }
        join({numbers, rows, n});
      }
    }
  }
}

// Takes the centre off rows of pixels or, where those are lanes, of channels. Short pixels without gaps are taken
// several at a time.
void subtract(const Task& t, CenterFn fn, Center rows, size_t row_bytes) {
  const size_t together = t.weights.center_repeats;
  const ptrdiff_t dense = static_cast<ptrdiff_t>(rows.length) * t.size();
  if (!rows.of_rows && together > 1 && rows.length == t.problem.in_channels && rows.dst_row == dense &&
      rows.src_row == static_cast<ptrdiff_t>(row_bytes)) {
    Center most = rows, rest = rows;
    most.rows = rows.rows / together;
    most.length = rows.length * together;
    most.src_row *= static_cast<ptrdiff_t>(together);
    most.dst_row *= static_cast<ptrdiff_t>(together);
    rest.src += static_cast<ptrdiff_t>(most.rows) * most.src_row;
    rest.dst += static_cast<ptrdiff_t>(most.rows) * most.dst_row;
    rest.length = rows.rows % together * rows.length;
    rest.rows = 1;
    fn(most);
    return fn(rest);
  }
  if (!is_far(rows.src_row)) return fn(rows);
  for (Center row = rows; row.rows > 0; --row.rows, row.src += row.src_row, row.dst += row.dst_row) {
    if (row.rows > rows_ahead) ask_for(row.src + static_cast<ptrdiff_t>(rows_ahead) * row.src_row, row_bytes);
    Center one = row;
    one.rows = 1;
    fn(one);
    if (row.of_rows) row.center += t.size();
  }
}

// In one step, where x's elements are converted in rows as they lie: contiguous along channels or, for lanes, pixels.
bool convert_centered(const Task& t, const char* center, size_t channel, size_t channels, Block to) {
  const Side& side = t.problem.x;
  const size_t size = size_of(side.dtype);
  const CenterFn fn = t.plan.table->center[index(side.dtype)][index(t.problem.arithmetic)];
  if (!fn || side.swapped || (t.x.walked && t.pixels.boxed)) return false;
  const ptrdiff_t element = static_cast<ptrdiff_t>(size);
  const PixelAxes& axes = t.problem.source;
  if (t.rows() ? side.channel != element : !axes.empty() && axes.back().x != element) return false;
  const auto convert = [&](const char* x, ptrdiff_t pixel, size_t n) {
    const Center rows = t.rows() ? Center{x, pixel, to.data, to.pixel, n, channels, center, false}
                                 : Center{x, t.x.channel, to.data, to.channel, channels, n, center, true};
    subtract(t, fn, rows, rows.length * size);
    to.data += static_cast<ptrdiff_t>(n) * to.pixel;
  };
  const char* x = channel_of(t, channel);
  if (!t.x.walked) {
    convert(x, t.x.pixel, t.pixels.count());
    return true;
  }
  Runs runs(t.pixels.walk(axes), t.pixels.first, t.pixels.last);
  for (Run run; runs.next(run);) convert(x + run.x, run.x_step, run.n);
  return true;
}

// Else in parts that are still in the first-level cache when the centre is taken off: as many pixels, of whole rows of
// a box, or channels.
void move_centered(const Task& t, const char* center, size_t channel, size_t channels, const Block& to) {
  if (convert_centered(t, center, channel, channels, to)) return;
  constexpr size_t part_bytes = 16384, fewest = 32;
  const CenterFn fn = t.plan.table->center[index(t.problem.arithmetic)][index(t.problem.arithmetic)];
  const size_t size = static_cast<size_t>(t.size()), first = t.pixels.first, last = t.pixels.last;
  const auto most = [&](size_t length) { return std::max(part_bytes / (length * size + 1), fewest); };
  if (t.rows()) {
    const size_t whole = t.pixels.boxed ? t.pixels.box[1].n : 1, part = (most(channels) + whole - 1) / whole * whole;
    for (size_t p = first; p < last; p += part) {
      const size_t n = std::min(part, last - p);
      const Block at = to.at(static_cast<ptrdiff_t>(p - first) * to.pixel);
      move_pixels(t, channel, channels, p, p + n, at);
      subtract(t, fn, {at.data, at.pixel, at.data, at.pixel, n, channels, center, false}, channels * size);
    }
    return;
  }
  const size_t pixels = last - first, part = most(pixels);
  for (size_t c = 0; c < channels; c += part) {
    const size_t n = std::min(part, channels - c);
    const Block at = to.at(static_cast<ptrdiff_t>(c) * to.channel);
    move_pixels(t, channel + c, n, first, last, at);
    fn({at.data, at.channel, at.data, at.channel, n, pixels, center + c * size, true});
  }
}

// Holds what was moved to a tile against the limit.
void look_at(const Task& t, size_t channels, const Block& at) {
  const size_t pixels = t.pixels.count();
  size_t rows = t.rows() ? pixels : channels, length = t.rows() ? channels : pixels;
  const ptrdiff_t row = t.rows() ? at.pixel : at.channel;
  if (row == static_cast<ptrdiff_t>(length) * t.size()) {
    length *= rows;
    rows = 1;
  }
  for (size_t i = 0; i < rows; ++i) look(t, at.data + static_cast<ptrdiff_t>(i) * row, length);
}

}  // namespace

void stage(const Task& t, size_t channel, size_t channels, const Block& to) {
  if (t.depth() > 1 && !t.rows()) return stage_together(t, to);
  const Block numbers{to.data, to.pixel, t.rows() ? element_size(t) : to.channel};
  if (const char* center = t.weights.center_at(t.group, channel))
    move_centered(t, center, channel, channels, numbers);
  else
    move_pixels(t, channel, channels, t.pixels.first, t.pixels.last, numbers);
  if (t.limit) look_at(t, channels, numbers);
}

}  // namespace conv1x1
