// Multiplying: blocks of rows × lanes sums in registers.
#pragma once

#include "run/task.h"

namespace conv1x1 {

// Whether the kernel does the activation too, on the way out.
bool fuses_clamp(const Task&);

// Channels [channel, channel + channels) of the group, which begin at `x`, by all filters of the task. The sums are
// taken up again from `y` unless they begin; where they end, bias, a residual that fits and a clamp come to them.
// Channels of `x` are the kernel's numbers.
void multiply(const Task&, size_t channel, size_t channels, const End& x, const End& y);

}  // namespace conv1x1
