// The order in which the channels of one output are summed: what a result is, decided from the channel counts alone.
#pragma once

#include <cstddef>

#include "kernels/kernel.h"

namespace conv1x1 {

// Lane order for at most 4 filters over at least 32 channels (both in one group), else chain order. Of floats: sums of
// integers are exact in any.
Order summation_order(size_t in_channels, size_t out_channels);

// Whether a kernel exists that wants the filters as plain rows: for few filters, and for few channels and filters.
bool plain_rows(size_t in_channels, size_t out_channels);

}  // namespace conv1x1
