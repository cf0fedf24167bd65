#include "plan/tiles.h"

#include <algorithm>
#include <cmath>

#include "call/round.h"
#include "call/types.h"
#include "plan/costs.h"

namespace conv1x1 {

namespace {

constexpr size_t line = 64;  // bytes of a cache line, and what tiles are aligned to

bool as_rows(const Plan& plan) { return plan.orientation == Orientation::pixels_as_rows; }

// Filters of one column where those are lanes; else pixels.
size_t column_of(const Plan& plan) { return plan.family->width * plan.vectors; }

// What chunks are whole multiples of.
size_t filter_step(const Plan& plan) { return as_rows(plan) ? column_of(plan) : plan.family->width; }

// The other kernels pass over x once for all filters.
bool cuts_filters(const Plan& plan) { return plan.method == Method::multiply; }

// Pixels along an axis of a box, at most: whole cache lines of an array that is contiguous along it, and enough of the
// others that no line is brought for a few. Equal parts, but that they begin where lines do.
size_t box_side(const Costs& costs, const PixelAxis& axis) {
  const auto step = [](ptrdiff_t bytes) { return bytes ? static_cast<size_t>(std::abs(bytes)) : line; };
  const size_t wanted = std::max(costs.box_side, line / std::min(step(axis.x), step(axis.y)));
  const size_t parts = std::max<size_t>((axis.n + wanted / 2) / wanted, 1);
  return std::min(round_up(ceil_div(axis.n, parts), costs.box_step), axis.n);
}

// A box of at most so many pixels.
void choose_box(Plan& plan, const Problem& p, const Costs& costs, size_t most) {
  for (size_t i = 0; i < 2; ++i) plan.box[i] = box_side(costs, p.all[p.all.size() - 2 + i]);
  while (plan.box[0] * plan.box[1] > most) {
    size_t& longer = plan.box[plan.box[1] >= plan.box[0]];
    longer = ceil_div(longer, 2);
  }
}

size_t boxes(const Plan& plan, const Problem& p) {
  size_t count = 1;
  for (size_t i = 0, outer = p.all.size() - 2; i < p.all.size(); ++i)
    count *= i < outer ? p.all[i].n : ceil_div(p.all[i].n, plan.box[i - outer]);
  return count;
}

void set_tiles(Plan& plan, const Problem& p, size_t tile) {
  plan.tile_pixels = std::min(tile, std::max<size_t>(p.pixels, 1));
  plan.tiles = p.boxed ? boxes(plan, p) : ceil_div(p.pixels, plan.tile_pixels);
}

// All channels, unless a block of the kernel's pixels with all of theirs takes much more than it may.
void choose_channel_block(Plan& plan, const Problem& p, const Costs& costs) {
  plan.channel_block = p.in_channels;
  const size_t size = size_of(p.arithmetic), granule = granule_of(plan);
  const size_t block = as_rows(plan) ? granule * size : round_up(granule * size, line);
  const size_t tallest = std::min(scratch_budget(costs) / block, costs.most_channels);
  if (plan.order != Order::chain || traits(plan.family->operand).together > 1 ||
      p.in_channels <= costs.channels_over * tallest)
    return;
  const size_t blocks = ceil_div(p.in_channels, tallest);
  plan.channel_block = round_up(ceil_div(p.in_channels, blocks), p.x.pair ? 2 : 1);
}

// As many pixels, and filters, as the caches hold.
size_t choose_for_caches(Plan& plan, const Problem& p, const Costs& costs) {
  const size_t size = size_of(p.arithmetic), granule = granule_of(plan), column = column_of(plan);
  const size_t budget = scratch_budget(costs);
  const size_t steps = std::max<size_t>(ceil_div(plan.channel_block, traits(plan.family->operand).together), 1);
  const size_t pixel_bytes = as_rows(plan) && plan.stage_x ? round_up(steps * size, line) : steps * size;
  size_t tile = std::max(budget / pixel_bytes / granule, size_t{1}) * granule;
  if (plan.scratch_y) tile = std::min(tile, std::max(round_up(costs.most_scratch_pixels, granule), granule));
  plan.chunk_filters = std::max<size_t>(p.out_channels, 1);
  if (plan.scratch_y && cuts_filters(plan)) {
    const size_t columns = budget / (std::clamp(p.pixels, size_t{1}, tile) * p.halves * size) / column;
    plan.chunk_filters = std::min(plan.chunk_filters, std::max(columns, size_t{1}) * column);
  }
  return tile;
}

// Enough units that nobody waits long for the last one: smaller tiles first, then fewer filters at a time.
size_t choose_for_threads(Plan& plan, const Problem& p, const Costs& costs, size_t tile) {
  const size_t granule = granule_of(plan), wanted = static_cast<size_t>(plan.threads) * costs.units_for_thread;
  const size_t smallest = as_rows(plan) ? costs.least_blocks * granule : granule;
  const auto units = [&] { return ceil_div(p.pixels, tile) * ceil_div(p.out_channels, plan.chunk_filters) * p.groups; };
  if (units() < wanted) tile = std::min(tile, std::max(smallest, round_up(ceil_div(p.pixels, wanted), granule)));
  if (units() < wanted && cuts_filters(plan)) {
    const size_t parts = ceil_div(wanted, std::max<size_t>(units(), 1));
    plan.chunk_filters = std::min(plan.chunk_filters, round_up(ceil_div(plan.chunk_filters, parts), filter_step(plan)));
  }
  return tile;
}

// No unit of work that takes too long.
void cut_units(Plan& plan, const Problem& p, const Costs& costs) {
  if (!cuts_filters(plan)) return;
  const size_t most = plan.table->isa == Isa::portable ? costs.longest_portable_unit : costs.longest_unit;
  const size_t filters = most / (plan.tile_pixels * p.halves * std::max<size_t>(p.in_channels, 1)),
               step = filter_step(plan);
  plan.chunk_filters = std::min(plan.chunk_filters, std::max(filters / step, size_t{1}) * step);
}

void force(Plan& plan, const Problem& p, const Costs& costs, const Restriction& only) {
  if (only.chunk_filters && cuts_filters(plan))
    plan.chunk_filters =
        std::min(round_up(std::min(only.chunk_filters, p.out_channels), plan.family->width), p.out_channels);
  if (only.tile_pixels) force_pixels(plan, p, costs, only.tile_pixels);
}

}  // namespace

Shape runs_of(const Costs& costs, const Problem& p, const PixelAxes& axes) {
  if (axes.empty()) return {p.pixels ? size_t{1} : 0, 1};
  const size_t length = p.boxed ? box_side(costs, axes.back()) : axes.back().n;
  return {length ? p.pixels / length : 0, length};
}

size_t scratch_budget(const Costs& costs) { return std::min(costs.l2_bytes, costs.most_l2_bytes) / costs.l2_parts; }

size_t granule_of(const Plan& plan) {
  if (plan.method == Method::few_filters) return 1;
  return as_rows(plan) ? plan.family->max_rows[plan.vectors - 1] : column_of(plan);
}

void choose_pixels(Plan& plan, const Problem& p, const Costs& costs, size_t tile) {
  const PixelAxes& walked = plan.stage_x ? p.target : plan.scratch_y ? p.source : p.all;
  const size_t run = runs_of(costs, p, walked).length;
  if (p.boxed) {
    choose_box(plan, p, costs, tile);
    tile = plan.box[0] * plan.box[1];
  } else if (walked.size() > 1 && run > 0 && run < tile) {
    tile = tile / run * run;
  } else if (tile < p.pixels) {
    tile = round_up(ceil_div(p.pixels, ceil_div(p.pixels, tile)), granule_of(plan));
  }
  set_tiles(plan, p, tile);
}

void force_pixels(Plan& plan, const Problem& p, const Costs& costs, size_t tile) {
  if (p.boxed) choose_box(plan, p, costs, tile);
  set_tiles(plan, p, p.boxed ? plan.box[0] * plan.box[1] : tile);
}

void choose_tiles(Plan& plan, const Problem& p, const Machine& machine, int max_threads) {
  const Costs& costs = machine.costs;
  choose_channel_block(plan, p, costs);
  size_t tile = choose_for_caches(plan, p, costs);
  plan.microseconds = forecast_microseconds(costs, p, plan);
  plan.threads = worth_threads(costs, plan.microseconds, max_threads);
  if (plan.threads > 1) tile = choose_for_threads(plan, p, costs, tile);
  choose_pixels(plan, p, costs, tile);
  cut_units(plan, p, costs);
  if (machine.only.tile_pixels || machine.only.chunk_filters) force(plan, p, costs, machine.only);
  plan.chunks = ceil_div(p.out_channels, plan.chunk_filters);
}

void choose_pitches(Plan& plan, const Problem& p, const Costs& costs) {
  const size_t size = size_of(p.arithmetic), line_elements = line / size;
  const bool rows = as_rows(plan);
  // Rows of a tile keep clear of each other's cache sets.
  const size_t way = costs.set_bytes / size;
  const auto pitch = [&](size_t n) {
    const size_t lines = round_up(n, line_elements);
    return lines + (lines % way ? 0 : line_elements);
  };
  // Where a tile's pixels follow one another in the array too, they do so in the tile: one conversion takes them all.
  // So they do in the halves of a tile, which are put together by one call too.
  const auto dense = [&](const Side& side, size_t channels, const PixelAxes& axes, ptrdiff_t PixelAxis::*step) {
    const ptrdiff_t element = static_cast<ptrdiff_t>(size_of(side.dtype) * p.halves);
    const ptrdiff_t pixel = axes.empty() ? 0 : axes.back().*step;
    const bool moves = side.dtype != p.arithmetic || p.halves == 2 || p.centered;
    return rows && p.groups == 1 && moves && side.channel == element &&
           pixel == static_cast<ptrdiff_t>(channels) * element && channels % way != 0;
  };
  const size_t steps = ceil_div(plan.channel_block, traits(plan.family->operand).together);
  const bool x_dense = steps == p.in_channels && dense(p.x, steps, p.source, &PixelAxis::x);
  const bool y_dense = plan.method == Method::few_filters ||
                       (!p.quantized && plan.chunks == 1 && dense(p.y, p.out_channels, p.target, &PixelAxis::y));
  plan.x_pitch = x_dense ? steps : pitch(rows ? steps : plan.tile_pixels);
  plan.y_pitch = y_dense ? plan.chunk_filters : pitch(rows ? plan.chunk_filters : plan.tile_pixels);
  if (plan.stage_x) plan.y_scratch = round_up(plan.x_pitch * (rows ? plan.tile_pixels : steps) * size, line);
  plan.y_half = round_up(plan.y_pitch * (rows ? plan.tile_pixels : plan.chunk_filters) * size, line);
  plan.scratch_bytes = plan.y_scratch + (plan.scratch_y ? plan.y_half * p.halves : 0);
}

}  // namespace conv1x1
