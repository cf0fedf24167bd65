#include "call/runs.h"

#include <algorithm>

namespace conv1x1 {

namespace {

// Wraps around where there can be no such array: it is only planned for.
ptrdiff_t extent_of(size_t n, ptrdiff_t stride) { return static_cast<ptrdiff_t>(n * static_cast<size_t>(stride)); }

}  // namespace

PixelAxes merge(const PixelAxes& axes, bool by_x, bool by_y, bool by_residual) {
  PixelAxes merged;
  for (const PixelAxis& inner : axes) {
    PixelAxis* outer = merged.empty() ? nullptr : &merged.back();
    if (outer && (!by_x || outer->x == extent_of(inner.n, inner.x)) &&
        (!by_y || outer->y == extent_of(inner.n, inner.y)) &&
        (!by_residual || outer->residual == extent_of(inner.n, inner.residual)))
      *outer = {outer->n * inner.n, inner.x, inner.y, inner.residual};
    else
      merged.push_back(inner);
  }
  return merged;
}

PixelAxes axes_of(const Array& a) {
  PixelAxes axes;
  for (int i = 0; i < a.rank; ++i)
    if (a.shape[i] == 0 || (a.shape[i] > 1 && a.strides[i] != 0))
      axes.push_back({static_cast<size_t>(a.shape[i]), a.strides[i], 0, 0});
  sort_axes(axes, [](const PixelAxis& axis) { return axis.x; });
  return merge(axes, true, false, false);
}

Runs::Runs(Walk walk, size_t first, size_t last) : walk_(walk), left_(last - first) {
  for (size_t i = walk.count; i-- > 0;) {
    index_[i] = first % walk.axes[i].n;
    first /= walk.axes[i].n;
  }
}

bool Runs::next(Run& run) {
  if (left_ == 0) return false;
  run = {0, 0, 0, 1, 0, 0, 0};
  if (walk_.count != 0) {
    const size_t inner = walk_.count - 1;
    for (size_t i = 0; i <= inner; ++i) {
      const ptrdiff_t at = static_cast<ptrdiff_t>(index_[i]);
      run.x += at * walk_.axes[i].x;
      run.y += at * walk_.axes[i].y;
      run.residual += at * walk_.axes[i].residual;
    }
    const PixelAxis& axis = walk_.axes[inner];
    run.n = std::min(left_, axis.n - index_[inner]);
    run.x_step = axis.x;
    run.y_step = axis.y;
    run.residual_step = axis.residual;
    index_[inner] = 0;
    for (size_t i = inner; i-- > 0 && ++index_[i] == walk_.axes[i].n;) index_[i] = 0;
  }
  left_ -= run.n;
  return true;
}

}  // namespace conv1x1
