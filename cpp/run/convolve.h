// The front of the core: runs a list of layers over the pixels, tile by tile.
#pragma once

#include <cstddef>

#include "call/problem.h"
#include "kernels/kernel.h"
#include "plan/plan.h"
#include "weights/weights.h"

namespace conv1x1 {

// What happens to a sum after the bias: + residual (where the problem has one), then the activation.
struct Epilogue {
  Activation activation = Activation::none;
  double a = 0, b = 0;  // clamp, and quantized sums: lo, hi; leaky_relu: the slope
  int zero_point = 0;   // of quantized sums
};

// One layer of a list. The first layer's x and the last one's y are the call's arrays; what lies between is handed
// on within a tile, and never becomes an array. One convolution is a list of one. A problem of two halves, or one that
// is boxed, stands alone: the layers of a list walk the pixels in one order.
struct Layer {
  Data data;
  const Problem* problem;
  const Plan* plan;
  const PackedWeights* weights;
  Epilogue epilogue;
};

// Computes the layers; every element of the last y is written. False when `stop`, asked now and then on this
// thread, said to leave: y is then incomplete. Throws std::bad_alloc before y is touched.
bool convolve(const Layer* layers, size_t count, bool (*stop)(void*), void* stop_context);

}  // namespace conv1x1
