// The front of the core: computes a layer over the pixels, tile by tile.
#pragma once

#include "call/problem.h"
#include "plan/plan.h"
#include "run/epilogue.h"
#include "weights/weights.h"

namespace conv1x1 {

struct Layer {
  Data data;
  const Problem* problem;
  const Plan* plan;
  const PackedWeights* weights;
  Epilogue epilogue;
};

// Computes the layer; every element of y is written. False when `stop`, asked now and then on this thread, said to
// leave: y is then incomplete. Throws std::bad_alloc before y is touched.
bool convolve(const Layer&, bool (*stop)(void*), void* stop_context);

}  // namespace conv1x1
