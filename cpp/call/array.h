// A caller's array: where it lies, and what that says of its axes and of its neighbours.
#pragma once

#include <cstddef>

#include "call/types.h"

namespace conv1x1 {

constexpr int max_rank = 64;

// A caller's array: borrowed, strides in bytes.
struct Array {
  char* data = nullptr;
  DType dtype = DType::float32;
  bool swapped = false;  // in the other byte order
  int rank = 0;
  const ptrdiff_t* shape = nullptr;
  const ptrdiff_t* strides = nullptr;
  bool is_complex = false;  // each element is two numbers of `dtype`, the real part and the imaginary one
};

// How long a stride is; of the least one too, which has no opposite.
size_t magnitude(ptrdiff_t stride);

// The axes of an array as they lie in memory, outermost first: NumPy's order "K". That is C order where the axes longer
// than one lie so, else the order of the strides' magnitudes. A stride of 0 says nothing: such an axis keeps its place
// among its neighbours. Of two that are equal an axis of one element is the inner one, as Fortran has it.
void memory_order(const Array&, int* axes);

size_t element_bytes(const Array&);

// One part of an array of complex numbers, as an array; an array of real ones is its real part.
Array part_of(const Array&, bool imaginary);

// Whether two arrays may share a byte; whether an array may hold two elements at one address.
bool may_overlap(const Array&, const Array&);
bool may_overlap_itself(const Array&);

}  // namespace conv1x1
