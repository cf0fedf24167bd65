// What a choice costs: blocks of the multiply kernel, elements that are moved, and a whole call.
#pragma once

#include <cstddef>

#include "call/problem.h"
#include "kernels/kernel.h"
#include "plan/candidates.h"
#include "system/costs.h"

namespace conv1x1 {

enum class Lanes : unsigned char { filters, pixels_staged, pixels_in_place };

// What a block of the multiply kernel costs, in cycles. The form is one of throughputs: fmas and loads overlap, though
// not quite; sums wait for each other when there are few. Pixels that are read where they lie straddle cache lines.
// What a block of rows passes over before the next does, a column of filters or all pixels of the tile, comes from the
// second-level cache when it outgrows the first: pixels, whose channels lie apart, at a limited speed. The numbers are
// those of system/costs.h.
class CostModel {
 public:
  CostModel(const Costs&, const MultiplyFamily&);

  // `channels` steps, `lanes` outputs wide, `rows` high, in columns of at most `vectors` vectors.
  double multiply(size_t rows, size_t lanes, size_t channels, size_t vectors, Lanes) const;

 private:
  double column(size_t rows, size_t channels, size_t vectors, Lanes, bool streams) const;
  double block(size_t rows, size_t channels, size_t vectors, Lanes, bool streams) const;

  const Costs& costs_;
  const MultiplyFamily& family_;
  double vector_bytes_, fma_;
};

// How elements are moved through a tile.
enum class Moved : unsigned char {
  straight,      // contiguous, as the tile is
  every_second,  // every second pixel
  turned,        // contiguous in the other direction, which is turned in registers
  otherwise
};

// Cycles for each element, of that size while it is moved.
double move_cycles(const Costs&, Moved, size_t size, bool converts);

// A rough forecast for one thread: within a third of what most calls take, and of twice what nearly all do.
double forecast_microseconds(const Costs&, const Problem&, const Candidate&);

// How many threads work that takes one so long is worth, no more than `most`.
int worth_threads(const Costs&, double microseconds, int most);

}  // namespace conv1x1
