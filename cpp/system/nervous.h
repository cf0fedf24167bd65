// A nervous build (CMake's CONV1X1_NERVOUS, for tests alone): every threshold is as small as it can be, so that what
// only large work meets otherwise, small tests meet. All that is different in it is said here, or asks `nervous`.
#pragma once

#include "system/costs.h"

namespace conv1x1 {

#ifdef CONV1X1_NERVOUS
constexpr bool nervous = true;
#else
constexpr bool nervous = false;
#endif

// Threads and small caches for the smallest work, blocks of few channels, tiles of few pixels, units of little work,
// and special kernels where there is but one pixel.
inline Costs nervous_costs(Costs costs) {
  costs.worth_threads = 0;
  costs.first_level_bytes = 512;
  costs.l2_bytes = 8 << 10;
  costs.set_bytes = costs.far_channel = 256;
  costs.most_scratch_pixels = 1;
  costs.channels_over = 1;
  costs.most_channels = 16;
  costs.box_side = costs.box_step = 1;
  costs.least_blocks = 1;
  costs.longest_unit = costs.longest_portable_unit = 1 << 12;
  costs.shortest_rows = costs.shortest_vectors = costs.shortest_plane = 1;
  return costs;
}

}  // namespace conv1x1
