// A step of a chain made from bytes, softmax, layer norm, argmax or pooling: run by every instruction set there is,
// along channels and along pixels, and compared with the definition.
//
// The bytes decide on sizes, numbers, weights and gaps. The arrays lie against pages that cannot be touched. Bits must
// be equal, except those of NaN, and nothing may be written but the result. What differs is printed, with the bytes,
// and the process aborts.
#pragma once

#include <cstddef>
#include <cstdint>

namespace conv1x1 {

void check_every_step(const uint8_t* bytes, size_t count);

}  // namespace conv1x1
