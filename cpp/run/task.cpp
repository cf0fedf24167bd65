#include "run/task.h"

#include <algorithm>

namespace conv1x1 {

Pixels pixels_of(const Program& program, size_t tile) {
  const PixelAxes& axes = program.boxed;
  if (axes.empty()) {
    const size_t first = tile * program.tile_pixels;
    return {first, std::min(first + program.tile_pixels, program.pixels)};
  }
  Pixels box{0, 1, true};
  for (size_t i = axes.size(); i-- > 0;) {
    const PixelAxis& axis = axes[i];
    const bool inside = i + 2 >= axes.size();
    const size_t side = inside ? program.box[i + 2 - axes.size()] : 1, sides = (axis.n + side - 1) / side;
    const size_t first = tile % sides * side;
    tile /= sides;
    const ptrdiff_t at = static_cast<ptrdiff_t>(first);
    box.start.x += at * axis.x;
    box.start.y += at * axis.y;
    box.start.residual += at * axis.residual;
    if (!inside) continue;
    PixelAxis& own = box.box[i + 2 - axes.size()] = axis;
    own.n = std::min(side, axis.n - first);
    box.last *= own.n;
  }
  return box;
}

bool raises(const Task& t) {
  const DType x = t.problem.x.dtype, pixel = traits(t.plan.family->operand).pixel;
  return size_of(pixel) == 1 && x != DType::boolean && x != pixel;
}

}  // namespace conv1x1
