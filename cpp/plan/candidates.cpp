#include "plan/candidates.h"

#include <cmath>
#include <limits>

#include "call/order.h"
#include "call/round.h"
#include "call/types.h"
#include "plan/costs.h"
#include "plan/tiles.h"

namespace conv1x1 {

namespace {

ptrdiff_t inner_x(const PixelAxes& axes) { return axes.empty() ? 0 : axes.back().x; }
ptrdiff_t inner_y(const PixelAxes& axes) { return axes.empty() ? 0 : axes.back().y; }

struct Layout {
  Orientation orientation;
  bool stage_x, scratch_y;
  double move_cycles;   // for each pixel
  size_t runs, length;  // of pixels, as the kernel meets them
};

// Whether x holds what a kernel takes, so that it can be read where it lies; its strides are another matter.
bool x_fits(const Problem& p, Operand operand) {
  return p.x.dtype == traits(operand).pixel && !p.x.swapped && !p.x.pair;
}

Layout lay_out(const Costs& costs, const Problem& p, Orientation orientation, const MultiplyFamily* family,
               Operand operand) {
  const ptrdiff_t x_size = static_cast<ptrdiff_t>(size_of(p.x.dtype)),
                  y_size = static_cast<ptrdiff_t>(size_of(p.y.dtype));
  const bool rows = orientation == Orientation::pixels_as_rows;
  const bool y_fits = p.quantized || (p.y.dtype == p.arithmetic && !p.y.swapped && !p.y.pair);
  Layout layout{orientation, !x_fits(p, operand), !y_fits, 0, 1, p.pixels};
  const bool x_contiguous = rows ? p.x.channel == x_size : inner_x(p.source) == x_size || p.pixels == 1;
  const bool y_contiguous =
      rows ? p.y.channel == y_size || p.out_channels == 1 : inner_y(p.target) == y_size || p.pixels == 1;
  if (traits(operand).together > 1 && (!rows || !x_contiguous || p.in_channels % traits(operand).together != 0))
    layout.stage_x = true;
  if (!y_contiguous) layout.scratch_y = true;
  if (rows && family) {
    // Pixels may be broadcast from anywhere, but channels a page apart fight for the same cache sets.
    if (static_cast<size_t>(std::abs(p.x.channel)) >= costs.far_channel) layout.stage_x = true;
  } else if (!x_contiguous) {
    layout.stage_x = true;
  }
  // Pixels come in runs where they are not evenly spaced; runs much shorter than a block are gathered first.
  const size_t shortest = rows ? costs.shortest_rows : costs.shortest_vectors * family->width;
  const Shape in_place = runs_of(costs, p, layout.scratch_y ? p.source : p.all);
  if (!layout.stage_x && in_place.runs > 1 && in_place.length < shortest) layout.stage_x = true;
  if (layout.stage_x && !layout.scratch_y) {
    const Shape out = runs_of(costs, p, p.target);
    if (out.runs > 1 && out.length < shortest) layout.scratch_y = true;
  }
  if (!(layout.stage_x && layout.scratch_y)) {
    const PixelAxes& walked = layout.stage_x ? p.target : layout.scratch_y ? p.source : p.all;
    const Shape shape = runs_of(costs, p, walked);
    layout.runs = shape.runs;
    layout.length = shape.length;
  }
  const bool x_turns = rows ? inner_x(p.source) == x_size : p.x.channel == x_size;
  if (layout.stage_x) {
    const Moved moved = x_contiguous                               ? Moved::straight
                        : !rows && inner_x(p.source) == 2 * x_size ? Moved::every_second
                        : x_turns                                  ? Moved::turned
                                                                   : Moved::otherwise;
    layout.move_cycles +=
        move_cycles(costs, moved, size_of(p.arithmetic) / traits(operand).together, !x_fits(p, operand)) *
        static_cast<double>(p.in_channels);
  }
  if (layout.scratch_y)
    layout.move_cycles +=
        move_cycles(costs, y_contiguous ? Moved::straight : Moved::turned, size_of(p.y.dtype), !y_fits) *
        static_cast<double>(p.out_channels);
  return layout;
}

void adopt(Plan& plan, const Layout& layout) {
  plan.orientation = layout.orientation;
  plan.stage_x = layout.stage_x;
  plan.scratch_y = layout.scratch_y;
}

bool holds_weights(const Problem& p, const MultiplyFamily& family) {
  return traits(family.operand).weight != DType::int8 || p.narrow_weights;
}

bool takes(const MultiplyFamily& family, bool rows) { return !traits(family.operand).sides || family.turned != rows; }

// Whether a restriction's family can compute the problem, in the restriction's orientation.
bool fits(const Restriction& only, const Problem& p) {
  if (!only.family || traits(only.family->operand).sums != p.arithmetic) return false;
  return holds_weights(p, *only.family) &&
         (!only.orientation || takes(*only.family, *only.orientation == Orientation::pixels_as_rows));
}

void choose_chain(Plan& plan, const Problem& p, const Machine& machine) {
  double best = std::numeric_limits<double>::infinity();
  for (size_t f = 0; f < machine.table->family_count; ++f) {
    const MultiplyFamily& family = machine.table->families[f];
    if (traits(family.operand).sums != p.arithmetic) continue;
    const bool forced = fits(machine.only, p);
    if (forced && machine.only.family != &family) continue;
    const CostModel cost(machine.costs, family);
    const size_t steps = ceil_div(p.in_channels, traits(family.operand).together);
    for (Orientation orientation : {Orientation::pixels_as_rows, Orientation::pixels_as_lanes}) {
      if (machine.only.orientation.value_or(orientation) != orientation) continue;
      const bool rows = orientation == Orientation::pixels_as_rows;
      if (!holds_weights(p, family) || !takes(family, rows)) continue;
      const Layout layout = lay_out(machine.costs, p, orientation, &family, family.operand);
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
    return movable(side) && pixel == static_cast<ptrdiff_t>(size_of(side.dtype)) &&
           p.all.back().n >= machine.costs.shortest_plane;
  };
  const bool x_packed = !p.all.empty() && packed(p.x, p.in_channels, p.all.back().x);
  const bool y_packed = !p.all.empty() && packed(p.y, p.out_channels, p.all.back().y);
  return !machine.only.family && !machine.only.orientation && p.arithmetic != DType::int32 &&
         plain_rows(p.in_channels, p.out_channels) && summation_order(p.in_channels, p.out_channels) == Order::chain &&
         p.groups == 1 && !p.all.empty() && (!p.adds_residual || (p.y.dtype == p.arithmetic && !p.boxed)) &&
         ((planes(p) && p.out_channels == 1 && p.all.back().n >= machine.costs.shortest_plane) ||
          (x_packed && y_packed) ||
          (!p.adds_residual &&
           ((y_packed && in_planes(p.x, p.all.back().x)) || (x_packed && in_planes(p.y, p.all.back().y)))) ||
          (p.boxed && p.halves == 1 && ((x_packed && movable(p.y)) || (y_packed && movable(p.x)))));
}

void choose_lanes(Plan& plan, const Problem& p, const Machine& machine) {
  plan.family = any_family(p, machine);
  const ptrdiff_t size = static_cast<ptrdiff_t>(size_of(p.x.dtype));
  const Operand operand = plan.family->operand;
  const Layout lanes = lay_out(machine.costs, p, Orientation::pixels_as_lanes, plan.family, operand);
  // A staged tile of lanes is a vector wide at least, however many channels there are.
  const size_t least = plan.family->width * p.in_channels * size_of(p.arithmetic);
  const bool staged_well = inner_x(p.source) == size && least <= scratch_budget(machine.costs);
  if (p.x.channel == size || (lanes.stage_x && !staged_well)) {
    plan.method = Method::few_filters;
    adopt(plan, lay_out(machine.costs, p, Orientation::pixels_as_rows, nullptr, operand));
  } else {
    plan.method = Method::few_filters_lanes;
    adopt(plan, lanes);
  }
}

}  // namespace

const MultiplyFamily* any_family(const Problem& p, const Machine& machine) {
  const MultiplyFamily* family = machine.table->families;
  while (traits(family->operand).sums != p.arithmetic) ++family;
  return fits(machine.only, p) ? machine.only.family : family;
}

void choose_kernel(Plan& plan, const Problem& p, const Machine& machine) {
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
}

}  // namespace conv1x1
