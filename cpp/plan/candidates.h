// What multiplies, and what is moved before and after: the ways there are, and the one that costs least.
#pragma once

#include "call/problem.h"
#include "plan/machine.h"
#include "plan/plan.h"

namespace conv1x1 {

// Fills in method, orientation, family, vectors, stage_x and scratch_y, of a plan that has its table and its order.
void choose_kernel(Plan&, const Problem&, const Machine&);

// The family whose vectors tiles are measured in, where its kernels are not what multiplies.
const MultiplyFamily* any_family(const Problem&, const Machine&);

}  // namespace conv1x1
