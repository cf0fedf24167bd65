// What calls of one shape share: the problem and its plan, made at the first such call and looked up by all others.
#pragma once

#include <cstddef>
#include <memory>
#include <vector>

#include "call/problem.h"
#include "plan/plan.h"
#include "settings.h"
#include "weights/weights.h"

namespace conv1x1 {

struct Prepared {
  std::vector<ptrdiff_t> key;
  Problem problem;
  Plan plan;
};

// One convolution of real numbers: all that its problem and plan depend on. Of the arrays that is types, shapes and
// strides, of the weights what they are for, not their numbers.
struct Asked {
  const Settings& settings;
  const Weights& weights;
  Form form;
  DType arithmetic;
  const Array &x, &y;
  const Array* residual;  // null for none
  const Geometry& geometry;
  int threads;
};

// Of the most recent shapes it is there already. The GIL guards them; a call holds on to what it got.
std::shared_ptr<const Prepared> prepare(const Asked&);

// Plans are made anew: the kernels that they choose among are others.
void forget_plans();

}  // namespace conv1x1
