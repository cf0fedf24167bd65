#include "call/array.h"

#include <algorithm>
#include <cstdlib>
#include <limits>

namespace conv1x1 {

size_t magnitude(ptrdiff_t stride) {
  const size_t bits = static_cast<size_t>(stride);
  return stride < 0 ? 0 - bits : bits;
}

void memory_order(const Array& a, int* axes) {
  for (int i = 0; i < a.rank; ++i) axes[i] = i;
  const auto step = [&](int axis) { return magnitude(a.strides[axis]); };
  bool c_order = true;
  size_t outer = std::numeric_limits<size_t>::max();
  for (int i = 0; i < a.rank && c_order; ++i) {
    if (a.shape[i] == 1 || step(i) == 0) continue;
    c_order = step(i) <= outer;
    outer = step(i);
  }
  if (c_order) return;
  for (int i = a.rank - 1; i-- > 0;) {  // finds its place among the axes after it, as in NumPy's iterator
    int place = i;
    for (int j = i + 1; j < a.rank && step(i) != 0; ++j) {
      const int other = axes[j];
      if (step(other) == 0) continue;
      if (step(other) < step(i) || (step(other) == step(i) && (a.shape[i] != 1 || a.shape[other] == 1))) break;
      place = j;
    }
    std::rotate(axes + i, axes + i + 1, axes + place + 1);
  }
}

namespace {

// The first byte of an array and the one past its last.
void extent(const Array& a, const char*& low, const char*& high) {
  low = a.data;
  high = a.data + element_bytes(a);
  for (int i = 0; i < a.rank; ++i) {
    if (a.shape[i] == 0) {
      high = low;
      return;
    }
    (a.strides[i] < 0 ? low : high) += (a.shape[i] - 1) * a.strides[i];
  }
}

}  // namespace

size_t element_bytes(const Array& a) { return size_of(a.dtype) * (a.is_complex ? 2 : 1); }

Array part_of(const Array& a, bool imaginary) {
  Array part = a;
  part.is_complex = false;
  if (imaginary) part.data += size_of(a.dtype);
  return part;
}

bool may_overlap(const Array& a, const Array& b) {
  const char *a_low, *a_high, *b_low, *b_high;
  extent(a, a_low, a_high);
  extent(b, b_low, b_high);
  return a_low < b_high && b_low < a_high && a_low < a_high && b_low < b_high;
}

bool may_overlap_itself(const Array& a) {
  struct Step {
    ptrdiff_t stride, span;
  } steps[max_rank];
  int count = 0;
  for (int i = 0; i < a.rank; ++i) {
    if (a.shape[i] == 0) return false;
    if (a.shape[i] == 1) continue;
    const ptrdiff_t stride = std::abs(a.strides[i]);
    steps[count++] = {stride, stride * (a.shape[i] - 1)};
  }
  std::sort(steps, steps + count, [](const Step& s, const Step& t) { return s.stride < t.stride; });
  ptrdiff_t covered = static_cast<ptrdiff_t>(element_bytes(a));
  for (int i = 0; i < count; ++i) {
    if (steps[i].stride < covered) return true;
    covered += steps[i].span;
  }
  return false;
}

}  // namespace conv1x1
