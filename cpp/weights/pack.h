// Weights as the kernels read them.
#pragma once

#include <cstddef>
#include <memory>

#include "call/problem.h"
#include "kernels/kernel.h"
#include "system/memory.h"
#include "weights/given.h"

namespace conv1x1 {

struct PackedWeights {
  Operand operand;
  size_t width;                              // filters in a panel
  size_t groups, in_channels, out_channels;  // in each group
  // [groups][ceil(out_channels / width)][steps][width], where a step is a channel, or a pair or quad of them side by
  // side; zeros past the last filter and the last channel.
  Buffer panels;
  Buffer rows;  // where plain_rows says so: [groups * out_channels][in_channels, rounded up to whole partials]
  ptrdiff_t row_bytes = 0;
  Buffer bias;    // null for none; [groups][out_channels, rounded up to whole panels], in the type of the sums
  Buffer other;   // likewise; for quads: of pixels of the other type, which had 128 added or taken off; else of
                  // imaginary parts
  Buffer scale;   // of quantized sums, likewise; null for none
  Buffer center;  // null for none; [groups][in_channels], in the type of the sums; of one group again and again
  size_t center_repeats = 1;  // so often, for pixels of few channels to be taken together

  ptrdiff_t panel_bytes() const;
  const char* panel(size_t group, size_t filter) const;  // filter within its group, at its place in its panel
  const char* row(size_t group, size_t filter) const;
  const char* bias_at(size_t group, size_t filter, bool other_one = false) const;  // null for none
  const char* scale_at(size_t group, size_t filter) const;                         // null for none
  const char* center_at(size_t group, size_t channel) const;                       // null for none

 private:
  const char* of_filter(const Buffer&, size_t group, size_t filter) const;
};

// `form`: plain or imaginary of real weights, pairs or doubled of complex ones; for sums of floats. Throws
// std::bad_alloc.
std::unique_ptr<PackedWeights> pack(const GivenLayer&, Operand, size_t width, Form);

}  // namespace conv1x1
