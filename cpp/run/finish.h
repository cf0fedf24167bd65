// Finishing: what the kernel has not done to the sums, and their way to where they shall be.
#pragma once

#include "run/task.h"

namespace conv1x1 {

// Where the kernel did not: adds the residual and applies the activation to the sums at `sums`. Then, if `moves`, they
// go from there to the task's y, converted.
void finish(const Task&, const End& sums, bool moves);

// Both halves of complex results, from two blocks to the task's y.
void put_together(const Task&, const Block& first, const Block& second);

}  // namespace conv1x1
