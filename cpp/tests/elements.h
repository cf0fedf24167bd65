// Elements of every type, as one would read and write them by hand: one at a time, through doubles, which hold each of
// them exactly but int64. Shares nothing with kernels/convert.inl, against which it stands.
#pragma once

#include "kernels/kernel.h"

namespace conv1x1 {

// The element at an address, in this machine's byte order or the other.
double element(const char* at, DType, bool swapped = false);

// Rounded half to even; to integers saturated, with NaN as 0.
void set_element(char* at, DType, bool swapped, double number);

}  // namespace conv1x1
