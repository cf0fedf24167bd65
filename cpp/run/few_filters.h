// Few filters over many channels, in lane order: the vectors run over the channels, or over the pixels.
#pragma once

#include "run/task.h"

namespace conv1x1 {

// Over channels that are contiguous at `x`, or over pixels that are. Of what comes after a sum they add the bias.
void filter_rows(const Task&, const End& x, const End& y);
void filter_lanes(const Task&, const End& x, const End& y);

}  // namespace conv1x1
