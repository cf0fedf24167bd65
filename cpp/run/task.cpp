#include "run/task.h"

#include <algorithm>

namespace conv1x1 {

Pixels pixels_of(const Problem& p, const Plan& plan, size_t tile) {
  if (!p.boxed) {
    const size_t first = tile * plan.tile_pixels;
    return {first, std::min(first + plan.tile_pixels, p.pixels)};
  }
  Pixels box{0, 1, true};
  for (size_t i = p.all.size(); i-- > 0;) {
    const PixelAxis& axis = p.all[i];
    const bool inside = i + 2 >= p.all.size();
    const size_t side = inside ? plan.box[i + 2 - p.all.size()] : 1, sides = (axis.n + side - 1) / side;
    const size_t first = tile % sides * side;
    tile /= sides;
    const ptrdiff_t at = static_cast<ptrdiff_t>(first);
    box.start.x += at * axis.x;
    box.start.y += at * axis.y;
    box.start.residual += at * axis.residual;
    if (!inside) continue;
    PixelAxis& own = box.box[i + 2 - p.all.size()] = axis;
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
