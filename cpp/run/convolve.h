// The front of the core: runs a program over the pixels of a call, tile by tile.
#pragma once

#include "call/problem.h"
#include "plan/program.h"
#include "run/epilogue.h"
#include "run/over_channels.h"
#include "weights/weights.h"

namespace conv1x1 {

// What a step of a program is given, besides its plan: weights packed as its plan wants them.
struct Layer {
  const PackedWeights* weights = nullptr;  // null where it has no filters, and of what is no layer
  Epilogue epilogue;
  OverChannelsNumbers numbers = {};  // of what is no layer
};

// One for each step. Every element of y is written. False when `stop`, asked now and then on this thread, said to
// leave: y is then incomplete, as it is where x's limit was passed. Throws std::bad_alloc before y is touched.
bool convolve(const Program&, const Data&, const Layer* layers, bool (*stop)(void*), void* stop_context);

}  // namespace conv1x1
