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

// What there is to know of an operand. Another one is another line below, its name in kernel.h, and its kernels.
struct Traits {
  const char* name;  // in those of its kernels
  DType weight;      // of one channel, as packed …
  DType pixel;  // … and as a kernel reads it. Where it is of 8 bits, pixels of the other such type have 128 added
                // or taken off, and a bias of their own
  DType sums;
  size_t together;  // channels in a step: multiplied together, side by side in one element of the sums' size
  bool sides;       // weights and pixels are not alike to its kernels: those whose lanes are pixels are `turned`
};

inline constexpr Traits operand_traits[operand_count] = {
    {"f32", DType::float32, DType::float32, DType::float32, 1, false},  // float32
    {"f64", DType::float64, DType::float64, DType::float64, 1, false},  // float64
    {"i16", DType::int16, DType::int16, DType::int32, 2, false},        // int16_pairs
    {"i8", DType::int8, DType::uint8, DType::int32, 4, true},           // int8_quads
    {"i8", DType::int8, DType::int8, DType::int32, 4, true},            // signed_quads
};

constexpr const Traits& traits(Operand operand) { return operand_traits[static_cast<size_t>(operand)]; }

}  // namespace conv1x1
