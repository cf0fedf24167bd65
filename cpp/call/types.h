// Facts about the types of an array's elements, and about what kernels multiply.
#pragma once

#include <cstddef>

#include "kernels/kernel.h"

namespace conv1x1 {

constexpr size_t size_of(DType dtype) {
  constexpr unsigned char sizes[dtype_count] = {4, 8, 4, 2, 2, 1, 1, 2, 2, 1, 8, 4, 8};
  return sizes[static_cast<size_t>(dtype)];
}
constexpr size_t log2_of(size_t size) { return size == 1 ? 0 : size == 2 ? 1 : size == 4 ? 2 : 3; }
constexpr bool is_integer(DType dtype) {  // booleans included
  return dtype != DType::float32 && dtype != DType::float64 && dtype != DType::float16 && dtype != DType::bfloat16;
}

// Channels that kernels of this kind multiply together, and the type of their sums.
size_t channels_together(Operand);
DType sums_of(Operand);

// Whether it is quads, and the pixels they hold: uint8 or int8. Those of the other type have 128 added or taken off,
// and a bias of their own.
bool is_quads(Operand);
DType pixels_of_quads(Operand);

}  // namespace conv1x1
