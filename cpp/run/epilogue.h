// What happens to a sum after the bias.
#pragma once

#include "kernels/kernel.h"

namespace conv1x1 {

// + residual (where the problem has one), then the activation.
struct Epilogue {
  Activation activation = Activation::none;
  double a = 0, b = 0;  // clamp, and quantized sums: lo, hi; leaky_relu: the slope
  int zero_point = 0;   // of quantized sums
};

}  // namespace conv1x1
