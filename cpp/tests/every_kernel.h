// A convolution made from bytes, run by every kernel this machine can run, and compared with the definition.
//
// The bytes decide on shape, strides, alignment, types, stride, groups, bias, residual, activation, threads and
// numbers; any bytes will do, and where they end there are zeros. The arrays lie against pages that cannot be touched.
// Bits must be equal, except those of NaN, and no byte of y's memory may change but its elements'. What differs is
// printed, and the process aborts.
#pragma once

#include <cstddef>
#include <cstdint>

namespace conv1x1 {

// The number of ways it was computed.
size_t check_every_kernel(const uint8_t* bytes, size_t count);

}  // namespace conv1x1
