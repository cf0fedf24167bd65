#include "plan/costs.h"

#include <algorithm>

#include "call/round.h"
#include "call/types.h"

namespace conv1x1 {

namespace {

// What stays in the first-level cache while something else streams past it.
constexpr size_t first_level_bytes = 24000;

constexpr double load = 0.63, straddle = 2.4, broadcast = 0.67, overlap = 0.8, latency = 6.8;
constexpr double filter_byte = 0.002, pixel_byte = 0.115;
constexpr double call = 42, start = 4, finish = 5;

constexpr double straight_move = 0.15, every_second_move = 0.55, other_move = 1.9, conversion = 0.15;

// What changes its type does so before it is turned.
double turned_move(size_t size) { return size == 1 ? 0.4 : size == 2 ? 0.7 : 1.7; }

double times(size_t n, double cycles) { return static_cast<double>(n) * cycles; }

}  // namespace

CostModel::CostModel(const Machine& machine, const MultiplyFamily& family)
    : family_(family),
      vector_bytes_(static_cast<double>(family.width * size_of(traits(family.operand).sums))),
      fma_((vector_bytes_ > 32 && machine.halves_pair_up ? 1.0 : 0.5) *
           (family.operand == Operand::int16_pairs ? 2 : 1)) {}

double CostModel::multiply(size_t rows, size_t lanes, size_t channels, size_t vectors, Lanes kind) const {
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

double CostModel::column(size_t rows, size_t channels, size_t vectors, Lanes kind, bool streams) const {
  const size_t highest = family_.max_rows[vectors - 1];
  const size_t blocks = ceil_div(rows, highest), low = rows / blocks, higher = rows % blocks;
  return call + times(blocks - higher, block(low, channels, vectors, kind, streams)) +
         (higher ? call + times(higher, block(low + 1, channels, vectors, kind, streams)) : 0);
}

double CostModel::block(size_t rows, size_t channels, size_t vectors, Lanes kind, bool streams) const {
  const double v = static_cast<double>(vectors), r = static_cast<double>(rows), c = static_cast<double>(channels);
  const double fmas = r * v * fma_;
  const double loads = broadcast * r + v * fma_ * load * (kind == Lanes::pixels_in_place ? straddle : 1.0);
  const double streamed = streams ? v * vector_bytes_ : 0;
  double channel = std::max(fmas, loads) + overlap * std::min(fmas, loads);
  channel = kind == Lanes::filters ? channel + filter_byte * streamed : std::max(channel, pixel_byte * streamed);
  return std::max(channel, latency) * c + start + finish * fmas;
}

double move_cycles(Moved moved, size_t size, bool converts) {
  const double cycles = moved == Moved::straight       ? straight_move
                        : moved == Moved::every_second ? every_second_move
                        : moved == Moved::turned       ? turned_move(size)
                                                       : other_move;
  return cycles + (converts ? conversion : 0);
}

double forecast_microseconds(const Problem& p) {
  const double flop = (p.arithmetic == DType::int32 ? 0.5 : 2.0) * static_cast<double>(p.pixels * p.halves) *
                      static_cast<double>(p.in_channels) * static_cast<double>(p.out_channels) *
                      static_cast<double>(p.groups);
  const double bytes =
      static_cast<double>(p.pixels * p.halves * p.groups) *
          static_cast<double>(p.in_channels * size_of(p.x.dtype) + p.out_channels * size_of(p.y.dtype)) +
      static_cast<double>(p.groups * p.in_channels * p.out_channels * size_of(p.arithmetic));
  return flop / 80e3 + bytes / 40e3;
}

}  // namespace conv1x1
