#include "plan/candidates.h"

#include <algorithm>
#include <cmath>

#include "call/order.h"
#include "call/round.h"
#include "call/types.h"
#include "plan/costs.h"
#include "plan/tiles.h"

namespace conv1x1 {

namespace {

ptrdiff_t inner_x(const PixelAxes& axes) { return axes.empty() ? 0 : axes.back().x; }
ptrdiff_t inner_y(const PixelAxes& axes) { return axes.empty() ? 0 : axes.back().y; }

// What is moved for a kernel: what has to be, what had better be, and what it costs.
class Moves {
 public:
  Moves(const Costs& costs, const Problem& p, Method method, Orientation orientation, const MultiplyFamily& family)
      : costs_(costs), p_(p), family_(family), rows_(orientation == Orientation::pixels_as_rows) {
    const ptrdiff_t x_size = static_cast<ptrdiff_t>(size_of(p.x.dtype)),
                    y_size = static_cast<ptrdiff_t>(size_of(p.y.dtype));
    const Traits& of = traits(family.operand);
    x_fits_ = p.x.dtype == of.pixel && !p.x.swapped && !p.x.pair;
    y_fits_ = p.quantized || (p.y.dtype == p.arithmetic && !p.y.swapped && !p.y.pair);
    x_contiguous_ = rows_ ? p.x.channel == x_size : inner_x(p.source) == x_size || p.pixels == 1;
    y_contiguous_ = rows_ ? p.y.channel == y_size || p.out_channels == 1 : inner_y(p.target) == y_size || p.pixels == 1;
    const bool broadcast = method == Method::multiply && rows_;  // numbers of x from anywhere
    const bool together = of.together == 1 || (rows_ && x_contiguous_ && p.in_channels % of.together == 0);
    must_stage = !x_fits_ || !together || !(broadcast || x_contiguous_) || p.centered;
    must_scratch = !y_fits_ || !y_contiguous_;
    const bool far = broadcast && static_cast<size_t>(std::abs(p.x.channel)) >= costs.far_channel;
    stage = must_stage || far || short_runs(must_scratch ? p.source : p.all);
  }

  bool must_stage, must_scratch;
  bool stage;  // had better be
  bool scratch(bool staged) const { return must_scratch || (staged && short_runs(p_.target)); }

  // Runs of pixels as the kernel meets them.
  Shape shape(bool staged, bool scratched) const {
    if (staged && scratched) return {1, p_.pixels};
    return runs_of(costs_, p_, staged ? p_.target : scratched ? p_.source : p_.all);
  }

  double cycles(bool staged, bool scratched) const {
    const ptrdiff_t x_size = static_cast<ptrdiff_t>(size_of(p_.x.dtype));
    const bool turns = rows_ ? inner_x(p_.source) == x_size : p_.x.channel == x_size;
    const Moved x = x_contiguous_                                ? Moved::straight
                    : !rows_ && inner_x(p_.source) == 2 * x_size ? Moved::every_second
                    : turns                                      ? Moved::turned
                                                                 : Moved::otherwise;
    const Moved y = y_contiguous_ ? Moved::straight : Moved::turned;
    const size_t size = size_of(p_.arithmetic) / traits(family_.operand).together;
    double of_pixel = 0;
    if (staged) of_pixel += move_cycles(costs_, x, size, !x_fits_ || p_.centered) * static_cast<double>(p_.in_channels);
    if (scratched)
      of_pixel += move_cycles(costs_, y, size_of(p_.y.dtype), !y_fits_) * static_cast<double>(p_.out_channels);
    return of_pixel * static_cast<double>(p_.pixels);
  }

 private:
  // Pixels come in runs where they are not evenly spaced; runs much shorter than a block are gathered first.
  bool short_runs(const PixelAxes& axes) const {
    const Shape walked = runs_of(costs_, p_, axes);
    return walked.runs > 1 && walked.length < (rows_ ? costs_.shortest_rows : costs_.shortest_vectors * family_.width);
  }

  const Costs& costs_;
  const Problem& p_;
  const MultiplyFamily& family_;
  const bool rows_;
  bool x_fits_, y_fits_;  // they hold what a kernel reads and writes; their strides are another matter
  bool x_contiguous_, y_contiguous_;
};

// Whether a family's kernels can compute the problem in that orientation.
bool fits(const Problem& p, const MultiplyFamily& family, bool rows) {
  const Traits& of = traits(family.operand);
  return of.sums == p.arithmetic && (of.weight != DType::int8 || p.narrow_weights) &&
         (!of.sides || family.turned != rows);
}

double multiply_cycles(const Costs& costs, const Problem& p, const Candidate& c, const Moves& moves) {
  const CostModel model(costs, *c.family);
  const Shape shape = moves.shape(c.stage_x, c.scratch_y);
  const size_t steps = ceil_div(p.in_channels, traits(c.family->operand).together), width = c.family->width;
  double cycles = 0;
  if (c.orientation == Orientation::pixels_as_rows) {
    cycles = model.multiply(shape.length, p.out_channels, steps, c.vectors, Lanes::filters);
  } else {
    const Lanes kind = c.stage_x ? Lanes::pixels_staged : Lanes::pixels_in_place;
    const auto filters = [&](size_t n) { return model.multiply(n, shape.length, steps, c.vectors, kind); };
    cycles = static_cast<double>(p.out_channels / width) * filters(width) + filters(p.out_channels % width);
  }
  return cycles * static_cast<double>(shape.runs);
}

class Enumeration {
 public:
  Enumeration(const Problem& p, const Machine& machine, bool all)
      : p_(p), costs_(machine.costs), table_(*machine.table), all_(all) {}

  std::vector<Candidate> candidates() {
    found_.reserve(all_ ? 256 : 32);
    if (p_.arithmetic != DType::int32 && summation_order(p_.in_channels, p_.out_channels) == Order::lanes) {
      add_few_filters();
      return std::move(found_);
    }
    const bool few = few_channels_fit();
    if (few) add_few_channels();
    if (few && !all_) return std::move(found_);
    for (size_t f = 0; f < table_.family_count; ++f)
      for (Orientation orientation : {Orientation::pixels_as_rows, Orientation::pixels_as_lanes})
        if (fits(p_, table_.families[f], orientation == Orientation::pixels_as_rows))
          add({Method::multiply, orientation, &table_.families[f]}, few);
    return std::move(found_);
  }

 private:
  // In every column, and with whatever may be moved.
  void add(Candidate c, int unusual) {
    const Moves moves(costs_, p_, c.method, c.orientation, *c.family);
    for (c.stage_x = moves.must_stage;; c.stage_x = true) {
      const bool scratch = moves.scratch(c.stage_x);
      for (c.scratch_y = moves.must_scratch;; c.scratch_y = true) {
        c.unusual = unusual + (c.stage_x != moves.stage) + (c.scratch_y != scratch);
        if ((all_ || c.unusual == 0) && !too_tall(c)) add_columns(c, moves);
        if (c.scratch_y) break;
      }
      if (c.stage_x) break;
    }
  }

  void add_columns(Candidate c, const Moves& moves) {
    const double moved = moves.cycles(c.stage_x, c.scratch_y);
    const bool multiplies = c.method == Method::multiply;
    for (c.vectors = 1; c.vectors <= (multiplies ? c.family->max_vectors : 1); ++c.vectors) {
      c.cycles = (multiplies ? multiply_cycles(costs_, p_, c, moves) : 0.0) + moved;
      found_.push_back(c);
    }
  }

  // A staged tile of lanes is a vector wide at least; and all channels high, where sums cannot be left and resumed.
  bool too_tall(const Candidate& c) const {
    return c.method == Method::few_filters_lanes && c.stage_x &&
           c.family->width * p_.in_channels * size_of(p_.arithmetic) > scratch_budget(costs_);
  }

  // Few filters over many channels: along the channels, unless lanes of pixels are there or are made well.
  void add_few_filters() {
    const MultiplyFamily* first = any_family(p_, table_);
    for (const MultiplyFamily* family = first; family < table_.families + table_.family_count; ++family) {
      if (!fits(p_, *family, true)) continue;
      const Moves lanes(costs_, p_, Method::few_filters_lanes, Orientation::pixels_as_lanes, *family);
      Candidate staged{Method::few_filters_lanes, Orientation::pixels_as_lanes, family};
      staged.stage_x = true;
      const ptrdiff_t size = static_cast<ptrdiff_t>(size_of(p_.x.dtype));
      const bool staged_well = inner_x(p_.source) == size && !too_tall(staged);
      const bool along_channels = p_.x.channel == size || (lanes.stage && !staged_well);
      const int other = family != first;
      add({Method::few_filters, Orientation::pixels_as_rows, family}, other + !along_channels);
      add({Method::few_filters_lanes, Orientation::pixels_as_lanes, family}, other + along_channels);
      if (!all_) return;
    }
  }

  void add_few_channels() {
    Candidate c{Method::few_channels, planes(p_) ? Orientation::pixels_as_lanes : Orientation::pixels_as_rows,
                any_family(p_, table_)};
    if (p_.boxed) {
      c.scratch_y = packed(p_.x, p_.in_channels, p_.all.back().x);
      c.stage_x = !c.scratch_y;
    }
    found_.push_back(c);
  }

  // Whether whole pixels follow one another.
  static bool packed(const Side& side, size_t channels, ptrdiff_t pixel) {
    const ptrdiff_t size = static_cast<ptrdiff_t>(size_of(side.dtype));
    return !side.swapped && !side.pair && (channels == 1 || side.channel == size) &&
           pixel == static_cast<ptrdiff_t>(channels) * size;
  }

  // Planes on both sides are for a single filter: the multiply kernel reads x once for several.
  bool few_channels_fit() const {
    if (p_.all.empty() || p_.groups != 1 || p_.arithmetic == DType::int32) return false;
    if (!plain_rows(p_.in_channels, p_.out_channels)) return false;
    if (p_.adds_residual && (p_.y.dtype != p_.arithmetic || p_.boxed)) return false;
    const PixelAxis& inner = p_.all.back();
    const bool long_enough = inner.n >= costs_.shortest_plane;
    const auto movable = [](const Side& side) { return !side.swapped && !side.pair; };
    const auto in_planes = [&](const Side& side, ptrdiff_t pixel) {
      return movable(side) && pixel == static_cast<ptrdiff_t>(size_of(side.dtype)) && long_enough;
    };
    const bool x_packed = packed(p_.x, p_.in_channels, inner.x), y_packed = packed(p_.y, p_.out_channels, inner.y);
    return (planes(p_) && p_.out_channels == 1 && long_enough) || (x_packed && y_packed) ||
           (!p_.adds_residual && ((y_packed && in_planes(p_.x, inner.x)) || (x_packed && in_planes(p_.y, inner.y)))) ||
           (p_.boxed && p_.halves == 1 && ((x_packed && movable(p_.y)) || (y_packed && movable(p_.x))));
  }

  const Problem& p_;
  const Costs& costs_;
  const KernelTable& table_;
  const bool all_;
  std::vector<Candidate> found_;
};

// Leaves those that are as wanted, if there are any.
template <class Wanted>
void keep(std::vector<Candidate>& all, Wanted wanted) {
  if (std::any_of(all.begin(), all.end(), wanted))
    all.erase(std::remove_if(all.begin(), all.end(), [&](const Candidate& c) { return !wanted(c); }), all.end());
}

void restrict_to(std::vector<Candidate>& all, const Restriction& only, DType arithmetic) {
  if (only.method && only.method_sums == arithmetic)
    keep(all, [&](const Candidate& c) { return c.method == *only.method; });
  if (only.orientation)
    keep(all,
         [&](const Candidate& c) { return c.method != Method::few_channels && c.orientation == *only.orientation; });
  if (only.family)
    keep(all, [&](const Candidate& c) {
      return c.method != Method::few_channels && c.family == only.family &&
             (c.method != Method::multiply || c.vectors == only.vectors);
    });
  if (only.stage_x) keep(all, [&](const Candidate& c) { return c.stage_x == *only.stage_x; });
  if (only.scratch_y) keep(all, [&](const Candidate& c) { return c.scratch_y == *only.scratch_y; });
}

}  // namespace

std::vector<Candidate> candidates(const Problem& p, const Machine& machine, bool all) {
  return Enumeration(p, machine, all).candidates();
}

Candidate choose_candidate(const Problem& p, const Machine& machine) {
  const bool restricts = machine.only.chooses();
  std::vector<Candidate> all = candidates(p, machine, restricts);
  if (restricts) restrict_to(all, machine.only, p.arithmetic);
  return *std::min_element(all.begin(), all.end(), [](const Candidate& a, const Candidate& b) {
    return a.unusual != b.unusual ? a.unusual < b.unusual : a.cycles < b.cycles;
  });
}

std::vector<Candidate> rivals(const Problem& p, const Machine& machine, const Candidate& chosen) {
  const Costs& costs = machine.costs;
  const bool small = p.groups * p.in_channels * p.out_channels * size_of(p.arithmetic) <= costs.small_panels;
  const auto moves_alike = [](const Candidate& a, const Candidate& b) {
    return a.orientation == b.orientation && a.stage_x == b.stage_x && a.scratch_y == b.scratch_y;
  };
  const auto worth_it = [&](const Candidate& c) {
    const bool same = moves_alike(c, chosen) && c.family == chosen.family && c.vectors == chosen.vectors;
    const bool panels = c.family->operand == chosen.family->operand && c.family->width == chosen.family->width;
    return !same && c.method == chosen.method && c.cycles <= costs.worth_trying * chosen.cycles && (panels || small);
  };
  std::vector<Candidate> all = candidates(p, machine), best;
  std::sort(all.begin(), all.end(), [](const Candidate& a, const Candidate& b) { return a.cycles < b.cycles; });
  for (const Candidate& c : all) {
    const bool first = std::none_of(best.begin(), best.end(), [&](const Candidate& o) { return moves_alike(o, c); });
    if (worth_it(c) && (c.unusual == 0 || (c.unusual == 1 && first))) best.push_back(c);
  }
  return best;
}

const MultiplyFamily* any_family(const Problem& p, const KernelTable& table) {
  const MultiplyFamily* family = table.families;
  while (traits(family->operand).sums != p.arithmetic) ++family;
  return family;
}

}  // namespace conv1x1
