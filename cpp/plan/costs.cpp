#include "plan/costs.h"

#include <algorithm>

#include "call/round.h"
#include "call/types.h"

namespace conv1x1 {

namespace {

double times(size_t n, double cycles) { return static_cast<double>(n) * cycles; }

}  // namespace

CostModel::CostModel(const Costs& costs, const MultiplyFamily& family)
    : costs_(costs),
      family_(family),
      vector_bytes_(static_cast<double>(family.width * size_of(traits(family.operand).sums))),
      fma_((vector_bytes_ > 32 ? costs.wide_fma : costs.fma) *
           costs.instructions[static_cast<size_t>(family.operand)]) {}

double CostModel::multiply(size_t rows, size_t lanes, size_t channels, size_t vectors, Lanes kind) const {
  if (rows == 0 || lanes == 0) return 0;
  const size_t needed = ceil_div(lanes, family_.width), columns = ceil_div(needed, vectors);
  const size_t narrow = needed / columns, wider = needed % columns;
  const auto all = [&](size_t count, size_t v) {
    if (count == 0) return 0.0;
    const double passed = vector_bytes_ * static_cast<double>(channels * (kind == Lanes::filters ? v : needed));
    return times(count, column(rows, channels, v, kind, passed > static_cast<double>(costs_.first_level_bytes)));
  };
  return all(columns - wider, narrow) + all(wider, narrow + 1);
}

double CostModel::column(size_t rows, size_t channels, size_t vectors, Lanes kind, bool streams) const {
  const size_t highest = family_.max_rows[vectors - 1];
  const size_t blocks = ceil_div(rows, highest), low = rows / blocks, higher = rows % blocks;
  return costs_.call + times(blocks - higher, block(low, channels, vectors, kind, streams)) +
         (higher ? costs_.call + times(higher, block(low + 1, channels, vectors, kind, streams)) : 0);
}

double CostModel::block(size_t rows, size_t channels, size_t vectors, Lanes kind, bool streams) const {
  const double v = static_cast<double>(vectors), r = static_cast<double>(rows), c = static_cast<double>(channels);
  const double fmas = r * v * fma_;
  const double loads =
      costs_.broadcast * r + v * fma_ * costs_.load * (kind == Lanes::pixels_in_place ? costs_.straddle : 1.0);
  const double streamed = streams ? v * vector_bytes_ : 0;
  double channel = std::max(fmas, loads) + costs_.overlap * std::min(fmas, loads);
  channel = kind == Lanes::filters ? channel + costs_.filter_byte * streamed
                                   : std::max(channel, costs_.pixel_byte * streamed);
  return std::max(channel, costs_.latency) * c + costs_.start + costs_.finish * fmas;
}

double move_cycles(const Costs& costs, Moved moved, size_t size, bool converts) {
  const double cycles = moved == Moved::straight       ? costs.straight_move
                        : moved == Moved::every_second ? costs.every_second_move
                        : moved == Moved::turned       ? costs.turned_move[std::min<size_t>(log2_of(size), 2)]
                                                       : costs.other_move;
  return cycles + (converts ? costs.conversion : 0);
}

double forecast_microseconds(const Costs& costs, const Problem& p, const Candidate& candidate) {
  const double pixels = static_cast<double>(p.pixels * p.halves * p.groups),
               weights = static_cast<double>(p.groups * p.in_channels * p.out_channels);
  const double bytes =
      pixels * static_cast<double>(p.in_channels * size_of(p.x.dtype) + p.out_channels * size_of(p.y.dtype)) +
      weights * static_cast<double>(size_of(p.arithmetic));
  const double work =
      candidate.method == Method::multiply
          ? static_cast<double>(p.groups * p.halves) * candidate.cycles / costs.cycles_in_microsecond
          : 2 * pixels * static_cast<double>(p.in_channels * p.out_channels) / costs.flop_in_microsecond;
  return work + bytes / costs.bytes_in_microsecond;
}

int worth_threads(const Costs& costs, double microseconds, int most) {
  return microseconds < most * costs.worth_threads ? std::max(1, static_cast<int>(microseconds / costs.worth_threads))
                                                   : most;
}

}  // namespace conv1x1
