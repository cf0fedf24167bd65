// What a convolution is, one number at a time.
#pragma once

#include <cstddef>
#include <vector>

#include "kernels/kernel.h"
#include "run/convolve.h"

namespace conv1x1 {

// The channels, less their centres, in the order of summation, from zero; + bias, + residual, activation. Whole numbers
// are summed exactly, and a quantized sum, modulo 2^32, is scaled, clamped, rounded, and its zero point added.
struct Definition {
  size_t in_channels, out_channels;  // in each group
  std::vector<double> weight, bias, scale,
      center;  // rounded to their types; bias and centre may be empty, and so is scale unless quantized
  Epilogue epilogue;
  DType arithmetic;  // of the sums
  bool whole;        // all of it is, and the result too
  bool fused;        // with one rounding for a multiplication and an addition

  // A filter's sum over one pixel. The element it becomes is this number, rounded once.
  double operator()(const std::vector<double>& pixel, size_t filter, const double* residual) const;

 private:
  template <class T>
  T sum(const std::vector<double>& pixel, size_t filter, const double* residual) const;
  template <class T>
  double activated(T y) const;
  double quantized(double sum, size_t filter) const;
};

}  // namespace conv1x1
