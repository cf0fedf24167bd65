// Sums over pixels, made from bytes, by every instruction set of this machine, and compared with the definition: bits
// must be equal, whatever the strides, the byte order and the threads. x lies against pages that cannot be touched.
// What differs is printed, with the bytes, and the process aborts.
#pragma once

#include <cstddef>
#include <cstdint>

namespace conv1x1 {

// The number of ways that it was computed in. `pixels` is about how many there are at most.
size_t check_every_sum(const uint8_t* bytes, size_t count, size_t pixels);

}  // namespace conv1x1
