#include "plan/plan.h"

#include <algorithm>
#include <cmath>
#include <limits>

#include "system/fp_environment.h"

namespace conv1x1 {

Order summation_order(size_t in_channels, size_t out_channels) {
  return out_channels <= 4 && in_channels >= 32 ? Order::lanes : Order::chain;
}

bool plain_rows(size_t in_channels, size_t out_channels) {
  const bool few_channels = in_channels >= 1 && in_channels <= 4 && out_channels >= 1 && out_channels <= 4;
  return few_channels || summation_order(in_channels, out_channels) == Order::lanes;
}

bool planes(const Problem& p) {
  const ptrdiff_t size = static_cast<ptrdiff_t>(size_of(p.arithmetic));
  const auto plane = [&](const Side& side, ptrdiff_t pixel) {
    return side.dtype == p.arithmetic && !side.swapped && pixel == size;
  };
  return !p.all.empty() && plane(p.x, p.all.back().x) && plane(p.y, p.all.back().y);
}

namespace {

size_t ceil_div(size_t a, size_t b) { return (a + b - 1) / b; }
size_t round_up(size_t n, size_t multiple) { return ceil_div(n, multiple) * multiple; }

// What stays in the first-level cache while something else streams past it.
constexpr size_t first_level_bytes = 24000;

// What a tile grows with at most: some machines tell of an L2 cache of many megabytes.
constexpr size_t most_l2_bytes = size_t{2} << 20;

// Multiply-adds in one unit of work at most: signals are looked at between units, and Ctrl-C shall not wait for long.
// Some milliseconds with vectors, ten or twenty without.
constexpr size_t longest_unit = size_t{1} << 28, longest_portable_unit = size_t{1} << 23;

// Pixels along an axis of a box, at most: whole cache lines of an array that is contiguous along it, and enough of the
// others that no line is brought for a few. Equal parts, but that they begin where lines do.
size_t box_side(const PixelAxis& axis) {
  constexpr size_t line = 64, enough = 32;
  const auto step = [](ptrdiff_t bytes) { return bytes ? static_cast<size_t>(std::abs(bytes)) : line; };
  const size_t wanted = std::max(enough, line / std::min(step(axis.x), step(axis.y)));
  const size_t parts = std::max<size_t>((axis.n + wanted / 2) / wanted, 1);
  return std::min(round_up(ceil_div(axis.n, parts), 16), axis.n);
}

// How many runs of pixels a walk over `axes` has, and how long each is.
struct Shape {
  size_t runs, length;
};

Shape runs_of(const Problem& p, const PixelAxes& axes) {
  if (axes.empty()) return {p.pixels ? size_t{1} : 0, 1};
  const size_t length = p.boxed ? box_side(axes.back()) : axes.back().n;
  return {length ? p.pixels / length : 0, length};
}

ptrdiff_t inner_x(const PixelAxes& axes) { return axes.empty() ? 0 : axes.back().x; }
ptrdiff_t inner_y(const PixelAxes& axes) { return axes.empty() ? 0 : axes.back().y; }

enum class Lanes : unsigned char { filters, pixels_staged, pixels_in_place };

// What a block of the multiply kernel costs, in cycles. The form is one of throughputs: fmas and loads overlap, though
// not quite; sums wait for each other when there are few. Pixels that are read where they lie straddle cache lines.
// What a block of rows passes over before the next does, a column of filters or all pixels of the tile, comes from the
// second-level cache when it outgrows the first: pixels, whose channels lie apart, at a limited speed. The constants
// are fitted to measured times of every kernel in both orientations on real layers (see cpp/README.md).
class CostModel {
 public:
  CostModel(const Machine& machine, const MultiplyFamily& family)
      : family_(family),
        vector_bytes_(static_cast<double>(family.width * size_of(sums_of(family.operand)))),
        fma_((vector_bytes_ > 32 && machine.halves_pair_up ? 1.0 : 0.5) *
             (family.operand == Operand::int16_pairs ? 2 : 1)) {}

  // `channels` steps, `lanes` outputs wide, `rows` high, in columns of at most `vectors` vectors.
  double multiply(size_t rows, size_t lanes, size_t channels, size_t vectors, Lanes kind) const {
    if (rows == 0 || lanes == 0) return 0;
    const size_t needed = ceil_div(lanes, family_.width), columns = ceil_div(needed, vectors);
    const size_t narrow = needed / columns, wider = needed % columns;
    const auto all = [&](size_t count, size_t v) {
      if (count == 0) return 0.0;
      const double passed = vector_bytes_ * static_cast<double>(channels * (kind == Lanes::filters ? v : needed));
      return times(count, column(rows, channels, v, kind, passed > first_level_bytes));
    };
    return all(columns - wider, narrow) + all(wider, narrow + 1);
  }

 private:
  double column(size_t rows, size_t channels, size_t vectors, Lanes kind, bool streams) const {
    const size_t highest = family_.max_rows[vectors - 1];
    const size_t blocks = ceil_div(rows, highest), low = rows / blocks, higher = rows % blocks;
    return call + times(blocks - higher, block(low, channels, vectors, kind, streams)) +
           (higher ? call + times(higher, block(low + 1, channels, vectors, kind, streams)) : 0);
  }

  double block(size_t rows, size_t channels, size_t vectors, Lanes kind, bool streams) const {
    const double v = static_cast<double>(vectors), r = static_cast<double>(rows), c = static_cast<double>(channels);
    const double fmas = r * v * fma_;
    const double loads = broadcast * r + v * fma_ * load * (kind == Lanes::pixels_in_place ? straddle : 1.0);
    const double streamed = streams ? v * vector_bytes_ : 0;
    double channel = std::max(fmas, loads) + overlap * std::min(fmas, loads);
    channel = kind == Lanes::filters ? channel + filter_byte * streamed : std::max(channel, pixel_byte * streamed);
    return std::max(channel, latency) * c + start + finish * fmas;
  }

  static double times(size_t n, double cycles) { return static_cast<double>(n) * cycles; }

  static constexpr double load = 0.63, straddle = 2.4, broadcast = 0.67, overlap = 0.8, latency = 6.8;
  static constexpr double filter_byte = 0.002, pixel_byte = 0.115;
  static constexpr double call = 42, start = 4, finish = 5;
  const MultiplyFamily& family_;
  double vector_bytes_, fma_;
};

// Cycles for each element that goes through a tile: contiguous as the tile is, every second pixel, or contiguous in the
// other direction, which is turned in registers; and all else. Where its type changes, a little more.
constexpr double straight_move = 0.15, every_second_move = 0.55, other_move = 1.9, conversion = 0.15;

// Of elements of that size: what changes its type does so before it is turned.
double turned_move(size_t size) { return size == 1 ? 0.4 : size == 2 ? 0.7 : 1.7; }

struct Layout {
  Orientation orientation;
  bool stage_x, scratch_y;
  double move_cycles;   // for each pixel
  size_t runs, length;  // of pixels, as the kernel meets them
};

// Whether x holds what a kernel takes, so that it can be read where it lies; its strides are another matter.
bool x_fits(const Problem& p, Operand operand) {
  if (is_quads(operand)) return p.x.dtype == pixels_of_quads(operand);
  return operand != Operand::int16_pairs && p.x.dtype == p.arithmetic && !p.x.swapped && !p.x.pair;
}

Layout lay_out(const Problem& p, Orientation orientation, const MultiplyFamily* family, Operand operand) {
  const ptrdiff_t x_size = static_cast<ptrdiff_t>(size_of(p.x.dtype)),
                  y_size = static_cast<ptrdiff_t>(size_of(p.y.dtype));
  const bool rows = orientation == Orientation::pixels_as_rows;
  const bool y_fits = p.quantized || (p.y.dtype == p.arithmetic && !p.y.swapped && !p.y.pair);
  Layout layout{orientation, !x_fits(p, operand), !y_fits, 0, 1, p.pixels};
  const bool x_contiguous = rows ? p.x.channel == x_size : inner_x(p.source) == x_size || p.pixels == 1;
  const bool y_contiguous =
      rows ? p.y.channel == y_size || p.out_channels == 1 : inner_y(p.target) == y_size || p.pixels == 1;
  if (channels_together(operand) > 1 && (!rows || !x_contiguous || p.in_channels % channels_together(operand) != 0))
    layout.stage_x = true;
  if (!y_contiguous) layout.scratch_y = true;
  if (rows && family) {
    // Pixels may be broadcast from anywhere, but channels a page apart fight for the same cache sets.
    if (std::abs(p.x.channel) >= 4096) layout.stage_x = true;
  } else if (!x_contiguous) {
    layout.stage_x = true;
  }
  // Pixels come in runs where they are not evenly spaced; runs much shorter than a block are gathered first.
  const size_t shortest = rows ? 4 : 2 * (family ? family->width : 16);
  const Shape in_place = runs_of(p, layout.scratch_y ? p.source : p.all);
  if (!layout.stage_x && in_place.runs > 1 && in_place.length < shortest) layout.stage_x = true;
  if (layout.stage_x && !layout.scratch_y) {
    const Shape out = runs_of(p, p.target);
    if (out.runs > 1 && out.length < shortest) layout.scratch_y = true;
  }
  if (!(layout.stage_x && layout.scratch_y)) {
    const PixelAxes& walked = layout.stage_x ? p.target : layout.scratch_y ? p.source : p.all;
    const Shape shape = runs_of(p, walked);
    layout.runs = shape.runs;
    layout.length = shape.length;
  }
  const bool x_turns = rows ? inner_x(p.source) == x_size : p.x.channel == x_size;
  const double x_move = x_contiguous                               ? straight_move
                        : !rows && inner_x(p.source) == 2 * x_size ? every_second_move
                        : x_turns ? turned_move(size_of(p.arithmetic) / channels_together(operand))
                                  : other_move;
  const double y_move = (y_contiguous ? straight_move : turned_move(size_of(p.y.dtype))) + (y_fits ? 0 : conversion);
  if (layout.stage_x)
    layout.move_cycles += (x_move + (x_fits(p, operand) ? 0 : conversion)) * static_cast<double>(p.in_channels);
  if (layout.scratch_y) layout.move_cycles += y_move * static_cast<double>(p.out_channels);
  return layout;
}

void adopt(Plan& plan, const Layout& layout) {
  plan.orientation = layout.orientation;
  plan.stage_x = layout.stage_x;
  plan.scratch_y = layout.scratch_y;
}

// Whether a restriction's family can compute the problem, in the restriction's orientation.
bool fits(const Restriction& only, const Problem& p) {
  if (!only.family || sums_of(only.family->operand) != p.arithmetic) return false;
  if (!is_quads(only.family->operand)) return true;
  const bool lanes = only.orientation.value_or(Orientation::pixels_as_rows) == Orientation::pixels_as_lanes;
  return p.narrow_weights && (!only.orientation || only.family->turned == lanes);
}

void choose_chain(Plan& plan, const Problem& p, const Machine& machine) {
  double best = std::numeric_limits<double>::infinity();
  for (size_t f = 0; f < machine.table->family_count; ++f) {
    const MultiplyFamily& family = machine.table->families[f];
    if (sums_of(family.operand) != p.arithmetic) continue;
    const bool forced = fits(machine.only, p);
    if (forced && machine.only.family != &family) continue;
    const CostModel cost(machine, family);
    const size_t steps = ceil_div(p.in_channels, channels_together(family.operand));
    for (Orientation orientation : {Orientation::pixels_as_rows, Orientation::pixels_as_lanes}) {
      if (machine.only.orientation.value_or(orientation) != orientation) continue;
      const bool rows = orientation == Orientation::pixels_as_rows;
      if (is_quads(family.operand) && (!p.narrow_weights || family.turned == rows)) continue;
      const Layout layout = lay_out(p, orientation, &family, family.operand);
      const Lanes kind = rows ? Lanes::filters : layout.stage_x ? Lanes::pixels_staged : Lanes::pixels_in_place;
      for (size_t vectors = 1; vectors <= family.max_vectors; ++vectors) {
        if (forced && machine.only.vectors != vectors) continue;
        const auto filters = [&](size_t n) { return cost.multiply(n, layout.length, steps, vectors, kind); };
        double cycles = rows ? cost.multiply(layout.length, p.out_channels, steps, vectors, kind)
                             : static_cast<double>(p.out_channels / family.width) * filters(family.width) +
                                   filters(p.out_channels % family.width);
        cycles = cycles * static_cast<double>(layout.runs) + layout.move_cycles * static_cast<double>(p.pixels);
        if (cycles < best) {
          best = cycles;
          adopt(plan, layout);
          plan.family = &family;
          plan.vectors = vectors;
        }
      }
    }
  }
}

// The family whose vectors tiles are measured in, where its kernels are not what multiplies.
const MultiplyFamily* any_family(const Problem& p, const Machine& machine) {
  const MultiplyFamily* family = machine.table->families;
  while (sums_of(family->operand) != p.arithmetic) ++family;
  return fits(machine.only, p) ? machine.only.family : family;
}

// Whether whole pixels follow one another.
bool packed(const Side& side, size_t channels, ptrdiff_t pixel) {
  const ptrdiff_t size = static_cast<ptrdiff_t>(size_of(side.dtype));
  return !side.swapped && !side.pair && (channels == 1 || side.channel == size) &&
         pixel == static_cast<ptrdiff_t>(channels) * size;
}

// Planes on both sides are for a single filter: the multiply kernel reads x once for several.
bool few_channels_fit(const Problem& p, const Machine& machine) {
  const auto movable = [](const Side& side) { return !side.swapped && !side.pair; };
  const auto in_planes = [&](const Side& side, ptrdiff_t pixel) {
    return movable(side) && pixel == static_cast<ptrdiff_t>(size_of(side.dtype)) && p.all.back().n >= 64;
  };
  const bool x_packed = !p.all.empty() && packed(p.x, p.in_channels, p.all.back().x);
  const bool y_packed = !p.all.empty() && packed(p.y, p.out_channels, p.all.back().y);
  return !machine.only.family && !machine.only.orientation && p.arithmetic != DType::int32 &&
         plain_rows(p.in_channels, p.out_channels) && summation_order(p.in_channels, p.out_channels) == Order::chain &&
         p.groups == 1 && !p.all.empty() && (!p.adds_residual || (p.y.dtype == p.arithmetic && !p.boxed)) &&
         ((planes(p) && p.out_channels == 1 && p.all.back().n >= 64) || (x_packed && y_packed) ||
          (!p.adds_residual &&
           ((y_packed && in_planes(p.x, p.all.back().x)) || (x_packed && in_planes(p.y, p.all.back().y)))) ||
          (p.boxed && p.halves == 1 && ((x_packed && movable(p.y)) || (y_packed && movable(p.x)))));
}

// What a tile of pixels, and one of results, may take.
size_t scratch_budget(const Machine& machine) { return std::min(machine.l2_bytes, most_l2_bytes) / 4; }

void choose_lanes(Plan& plan, const Problem& p, const Machine& machine) {
  plan.family = any_family(p, machine);
  const ptrdiff_t size = static_cast<ptrdiff_t>(size_of(p.x.dtype));
  const Operand operand = plan.family->operand;
  const Layout lanes = lay_out(p, Orientation::pixels_as_lanes, plan.family, operand);
  // A staged tile of lanes is a vector wide at least, however many channels there are.
  const size_t least = plan.family->width * p.in_channels * size_of(p.arithmetic);
  const bool staged_well = inner_x(p.source) == size && least <= scratch_budget(machine);
  if (p.x.channel == size || (lanes.stage_x && !staged_well)) {
    plan.method = Method::few_filters;
    adopt(plan, lay_out(p, Orientation::pixels_as_rows, nullptr, operand));
  } else {
    plan.method = Method::few_filters_lanes;
    adopt(plan, lanes);
  }
}

// A box of at most so many pixels.
void choose_box(Plan& plan, const Problem& p, size_t most) {
  for (size_t i = 0; i < 2; ++i) plan.box[i] = box_side(p.all[p.all.size() - 2 + i]);
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

void choose_tiles(Plan& plan, const Problem& p, const Machine& machine, int max_threads) {
  const size_t size = size_of(p.arithmetic), budget = scratch_budget(machine);
  const bool rows = plan.orientation == Orientation::pixels_as_rows;
  const size_t column = plan.family->width * plan.vectors;
  const size_t granule = plan.method == Method::few_filters ? 1
                         : rows                             ? plan.family->max_rows[plan.vectors - 1]
                                                            : column;

  plan.channel_block = p.in_channels;
  const size_t depth = channels_together(plan.family->operand);
  const size_t tallest = budget / (rows ? granule * size : round_up(granule * size, 64));
  if (plan.order == Order::chain && depth == 1 && p.in_channels > 2 * tallest) {
    const size_t blocks = ceil_div(p.in_channels, tallest);
    plan.channel_block = round_up(ceil_div(p.in_channels, blocks), p.x.pair ? 2 : 1);
  }
  const size_t steps = std::max<size_t>(ceil_div(plan.channel_block, depth), 1);
  const size_t pixel_bytes = steps * size;
  size_t tile =
      std::max(budget / (rows && plan.stage_x ? round_up(pixel_bytes, 64) : pixel_bytes) / granule, size_t{1}) *
      granule;
  if (plan.scratch_y) tile = std::min(tile, std::max(round_up(1024, granule), granule));
  plan.chunk_filters = std::max<size_t>(p.out_channels, 1);
  const bool cuts_filters = plan.method == Method::multiply;  // the other kernels pass over x once for all filters
  if (plan.scratch_y && cuts_filters) {
    const size_t columns = budget / (std::clamp(p.pixels, size_t{1}, tile) * p.halves * size) / column;
    plan.chunk_filters = std::min(plan.chunk_filters, std::max(columns, size_t{1}) * column);
  }

  const double flop = (p.arithmetic == DType::int32 ? 0.5 : 2.0) * static_cast<double>(p.pixels * p.halves) *
                      static_cast<double>(p.in_channels) * static_cast<double>(p.out_channels) *
                      static_cast<double>(p.groups);
  const double bytes =
      static_cast<double>(p.pixels * p.halves * p.groups) *
          static_cast<double>(p.in_channels * size_of(p.x.dtype) + p.out_channels * size_of(p.y.dtype)) +
      static_cast<double>(p.groups * p.in_channels * p.out_channels * size);
  plan.microseconds = flop / 80e3 + bytes / 40e3;
  plan.threads = plan.microseconds < machine.worth_threads ? 1 : max_threads;
  if (plan.threads > 1) {
    // Enough units that nobody waits long for the last one: smaller tiles first, then fewer filters at a time.
    const size_t wanted = static_cast<size_t>(plan.threads) * 8;
    const size_t smallest = rows ? 4 * granule : granule;
    const auto units = [&] {
      return ceil_div(p.pixels, tile) * ceil_div(p.out_channels, plan.chunk_filters) * p.groups;
    };
    if (units() < wanted) tile = std::min(tile, std::max(smallest, round_up(ceil_div(p.pixels, wanted), granule)));
    if (units() < wanted && cuts_filters) {
      const size_t parts = ceil_div(wanted, std::max<size_t>(units(), 1));
      const size_t chunk =
          round_up(ceil_div(plan.chunk_filters, parts), std::max(plan.family->width, rows ? column : 0));
      plan.chunk_filters = std::min(plan.chunk_filters, chunk);
    }
  }
  const PixelAxes& walked = plan.stage_x ? p.target : plan.scratch_y ? p.source : p.all;
  const size_t run = runs_of(p, walked).length;
  if (p.boxed) {
    choose_box(plan, p, tile);
    tile = plan.box[0] * plan.box[1];
  } else if (walked.size() > 1 && run > 0 && run < tile)
    tile = tile / run * run;
  else if (tile < p.pixels)
    tile = round_up(ceil_div(p.pixels, ceil_div(p.pixels, tile)), granule);  // tiles of a size
  tile = std::min(tile, std::max<size_t>(p.pixels, 1));
  plan.tiles = p.boxed ? boxes(plan, p) : ceil_div(p.pixels, tile);
  plan.tile_pixels = tile;
  if (cuts_filters) {
    const size_t most = plan.table->isa == Isa::portable ? longest_portable_unit : longest_unit;
    const size_t filters = most / (tile * p.halves * std::max<size_t>(p.in_channels, 1)),
                 step = rows ? column : plan.family->width;
    plan.chunk_filters = std::min(plan.chunk_filters, std::max(filters / step, size_t{1}) * step);
  }
  plan.chunks = ceil_div(p.out_channels, plan.chunk_filters);
}

// A call of its own, so that none of its arithmetic comes before or after the modes are set.
[[gnu::noinline]] Plan choose(const Problem& p, const Machine& machine, int max_threads) {
  Plan plan;
  plan.table = machine.table;
  plan.order = p.arithmetic == DType::int32 ? Order::chain : summation_order(p.in_channels, p.out_channels);
  if (p.pixels == 0 || p.out_channels == 0) {  // nothing to do; and sizes below are then of what is in memory
    plan.family = any_family(p, machine);
    plan.tiles = plan.chunks = 0;
    return plan;
  }
  if (few_channels_fit(p, machine)) {
    plan.method = Method::few_channels;
    plan.family = any_family(p, machine);
    plan.orientation = planes(p) ? Orientation::pixels_as_lanes : Orientation::pixels_as_rows;
    if (p.boxed) {
      plan.scratch_y = packed(p.x, p.in_channels, p.all.back().x);
      plan.stage_x = !plan.scratch_y;
    }
  } else if (plan.order == Order::chain) {
    choose_chain(plan, p, machine);
  } else {
    choose_lanes(plan, p, machine);
  }
  choose_tiles(plan, p, machine, max_threads);

  const ptrdiff_t size = static_cast<ptrdiff_t>(size_of(p.arithmetic));
  const bool rows = plan.orientation == Orientation::pixels_as_rows;
  const bool residual_contiguous =
      rows ? p.residual.channel == size : !p.target.empty() && p.target.back().residual == size;
  plan.fuse_residual = plan.method == Method::multiply && p.adds_residual && p.residual.dtype == p.arithmetic &&
                       !p.residual.swapped && !p.residual.pair && !(p.pairs_filters && p.real_residual) &&
                       residual_contiguous && !plan.scratch_y;

  // Rows of a tile keep clear of each other's cache sets: never a multiple of 4096 bytes apart.
  const size_t line = 64 / static_cast<size_t>(size);
  const auto pitch = [&](size_t n) { return round_up(n, line) + (round_up(n, line) % (32 * line) ? 0 : line); };
  // Where a tile's pixels follow one another in the array too, they do so in the tile: one conversion takes them all.
  // So they do in the halves of a tile, which are put together by one call too.
  const auto dense = [&](const Side& side, size_t channels, ptrdiff_t pixel) {
    const ptrdiff_t element = static_cast<ptrdiff_t>(size_of(side.dtype) * p.halves);
    return rows && p.groups == 1 && (side.dtype != p.arithmetic || p.halves == 2) && side.channel == element &&
           pixel == static_cast<ptrdiff_t>(channels) * element && channels % (32 * line) != 0;
  };
  const size_t steps = ceil_div(plan.channel_block, channels_together(plan.family->operand));
  const bool x_dense = steps == p.in_channels && dense(p.x, steps, inner_x(p.source));
  const bool y_dense = plan.method == Method::few_filters ||
                       (!p.quantized && plan.chunks == 1 && dense(p.y, p.out_channels, inner_y(p.target)));
  plan.x_pitch = x_dense ? steps : pitch(rows ? steps : plan.tile_pixels);
  plan.y_pitch = y_dense ? plan.chunk_filters : pitch(rows ? plan.chunk_filters : plan.tile_pixels);
  size_t elements = 0;
  if (plan.stage_x) elements += round_up(plan.x_pitch * (rows ? plan.tile_pixels : steps), line);
  if (plan.scratch_y)
    elements += round_up(plan.y_pitch * (rows ? plan.tile_pixels : plan.chunk_filters), line) * p.halves;
  plan.scratch_bytes = elements * static_cast<size_t>(size);
  return plan;
}

}  // namespace

Plan make_plan(const Problem& p, const Machine& machine, int max_threads) {
  const DefaultArithmetic arithmetic_mode;
  return choose(p, machine, max_threads);
}

}  // namespace conv1x1
