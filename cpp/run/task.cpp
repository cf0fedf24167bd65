#include "run/task.h"

#include <algorithm>
#include <cstdint>
#include <cstring>

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

void look(const Task& t, const char* numbers, size_t n) {
  const double most = static_cast<double>(t.limit->most);
  uint64_t bits;
  std::memcpy(&bits, &most, sizeof(bits));
  if (t.plan.table->largest[index(DType::float64)](numbers, n, bits) > bits) t.limit->passed = true;
}

bool raises(const Task& t) {
  const DType x = t.problem.x.dtype, pixel = traits(t.plan.family->operand).pixel;
  return size_of(pixel) == 1 && x != DType::boolean && x != pixel;
}

}  // namespace conv1x1
