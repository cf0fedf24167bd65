// A convolution made from bytes, run by every kernel this machine can run, and compared with the definition.
//
// The bytes decide on shapes, strides, alignment, byte orders, types, stride, groups, bias, residual, activation or
// zero points and scales, numbers, and how many threads to plan for, however little work there is; any bytes will do.
// The arrays lie against pages that cannot be touched, and none can be written to but y. Bits must be equal, except
// those of NaN, and no byte of y's memory may change but its elements'. What differs is printed, with the bytes, and
// the process aborts.
#pragma once

#include <cstddef>
#include <cstdint>

#include "kernels/kernel.h"

namespace conv1x1 {

struct Compared {
  size_t ways = 0;  // it was computed in; none where an exact sum cannot be promised
  DType x, weight, sums, result;
  bool quantized, centered;
};

// Where there shall be helpers, after make_pool().
Compared check_every_kernel(const uint8_t* bytes, size_t count);

}  // namespace conv1x1
