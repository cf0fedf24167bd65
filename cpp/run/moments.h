// Sums over pixels: of the product of every two channels, and of every channel. What a covariance is made of.
//
//     out(i, j) = sum over p of weight(p) * v(p, i) * v(p, j),  v(p, c) = x(p, c) - shift(c), and v(p, C) = 1
//
// for j ≤ i ≤ C, in float64: the last row holds the sums of the channels, and at its end that of the weights. There is
// one order of sums, which depends on the numbers of pixels and channels alone: blocks of 4,096 pixels in x's order
// (whatever its strides), each a chain of fused multiply-adds; at most 64 groups of as many blocks, of each group one
// block's sums added after another's; the groups as a tree.
#pragma once

#include "call/array.h"
#include "kernels/kernel.h"

namespace conv1x1 {

struct Moments {
  const Array& x;
  int axis;               // of the channels
  const double* shift;    // one a channel; null for none
  const double* weights;  // one a pixel, in x's order; null for ones
  const bool* keep;       // likewise: the other pixels do not count, whatever they hold
  bool products;          // else the last row alone
  bool exact;             // no sum is ever rounded, so that pixels may come in any order
  double* out;            // (C + 1) × (C + 1)
};

// On at most `threads` threads. False when `stop`, asked now and then on this thread, said to leave. Throws
// std::bad_alloc.
bool moments(const KernelTable&, const Moments&, int threads, bool (*stop)(void*), void* stop_context);

}  // namespace conv1x1
