// Axes of pixels, and how they are walked: in the evenly spaced runs that they are made of.
#pragma once

#include <algorithm>
#include <cstddef>
#include <vector>

#include "call/array.h"

namespace conv1x1 {

struct PixelAxis {
  size_t n;
  ptrdiff_t x, y, residual;  // bytes from one pixel to the next
};

using PixelAxes = std::vector<PixelAxis>;  // outermost first

// The outermost first, as `stride` says.
template <class Stride>
void sort_axes(PixelAxes& axes, Stride stride) {
  std::stable_sort(axes.begin(), axes.end(),
                   [&](const PixelAxis& a, const PixelAxis& b) { return magnitude(stride(a)) > magnitude(stride(b)); });
}

// Makes one of axes that lie evenly in memory, in each of the arrays named.
PixelAxes merge(const PixelAxes&, bool by_x, bool by_y, bool by_residual);

// The axes that lead to all numbers of an array, as `x`, in the order that they lie in memory; merged.
PixelAxes axes_of(const Array&);

// A run of evenly spaced pixels: offsets of its first pixel, and steps.
struct Run {
  ptrdiff_t x, y, residual;
  size_t n;
  ptrdiff_t x_step, y_step, residual_step;
};

// Axes to walk, borrowed.
struct Walk {
  Walk(const PixelAxis* of, size_t n) : axes(of), count(n) {}
  Walk(const PixelAxes& of) : Walk(of.data(), of.size()) {}

  const PixelAxis* axes;
  size_t count;
};

// The runs that make up pixels [first, last) of a walk.
class Runs {
 public:
  Runs(Walk, size_t first, size_t last);
  bool next(Run&);

 private:
  const Walk walk_;
  size_t left_;
  size_t index_[max_rank];
};

}  // namespace conv1x1
