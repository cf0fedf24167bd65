#include "run/stage.h"

#include <algorithm>

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
  constexpr size_t chunk = 512, high = 16;  // pixels and channels that are rows of the kernel's numbers at a time
  alignas(64) char rows_of_numbers[high * chunk * 2];
  const size_t depth = t.depth(), in_channels = t.problem.in_channels;
  const ptrdiff_t size = element_size(t), row = static_cast<ptrdiff_t>(chunk) * size;
  const RowsFn join = t.plan.table->join[depth - 2][log2_of(static_cast<size_t>(size))];
  const PixelAxes& axes = t.problem.source;
  const bool in_place = !to_operand(t) && axes.size() <= 1 && (axes.empty() || axes.back().x == size);
  const Pixels& pixels = t.pixels;
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
          rows[d] = in_place ? t.x.data + offset(t.problem.x, block + own) + static_cast<ptrdiff_t>(first) * size
                             : rows_of_numbers + static_cast<ptrdiff_t>(own) * row;
        }
        join({numbers, rows, n});
      }
    }
  }
}

}  // namespace

void stage(const Task& t, size_t channel, size_t channels, const Block& to) {
  if (t.depth() > 1 && !t.rows()) return stage_together(t, to);
  move_pixels(t, channel, channels, t.pixels.first, t.pixels.last,
              {to.data, to.pixel, t.rows() ? element_size(t) : to.channel});
}

}  // namespace conv1x1
