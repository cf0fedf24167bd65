#include "settings.h"

#include <algorithm>

namespace conv1x1 {

namespace {

constexpr struct {
  const char* name;
  Activation activation;
  double a, b;  // where the name fixes them
} activations[] = {
    {"", Activation::none, 0, 0},
    {"relu", Activation::clamp, 0, std::numeric_limits<double>::infinity()},
    {"relu6", Activation::clamp, 0, 6},
    {"hardswish", Activation::hardswish, 0, 0},
    {"hardsigmoid", Activation::hardsigmoid, 0, 0},
    {"sigmoid", Activation::sigmoid, 0, 0},
    {"silu", Activation::silu, 0, 0},
    {"tanh", Activation::tanh, 0, 0},
    {"gelu", Activation::gelu, 0, 0},
};

// Steps for every axis of x; false where the stride does not fit it.
bool steps_for(const Settings& s, const Array& x, int axis, size_t* steps) {
  const int pixel_axes = x.rank - 1;
  const int count = s.stride_count < 0 ? std::min(2, pixel_axes) : s.stride_count;
  if (count > pixel_axes) return false;
  for (int i = 0, pixel = 0; i < x.rank; ++i) {
    steps[i] = 1;
    if (i == axis) continue;
    const int strided = pixel++ - (pixel_axes - count);
    if (strided >= 0) steps[i] = s.strides[s.stride_count < 0 ? 0 : strided];
  }
  return true;
}

}  // namespace

Epilogue epilogue_of(const std::string& name, double a, double b) {
  if (name == "clip") return {Activation::clamp, a, b};
  if (name == "leaky_relu") return {Activation::leaky_relu, a, 0};
  for (const auto& known : activations)
    if (name == known.name) return {known.activation, known.a, known.b};
  throw py::value_error("unknown activation " + name);
}

bool locate(const Settings& s, size_t channels, const Array& x, Geometry& g) {
  if (x.rank == 0) return false;
  g.axis = s.channel_axis < 0 ? s.channel_axis + x.rank : s.channel_axis;
  if (g.axis < 0 || g.axis >= x.rank || static_cast<size_t>(x.shape[g.axis]) != channels ||
      !steps_for(s, x, g.axis, g.steps))
    return false;
  for (int i = 0; i < x.rank; ++i) {
    if (i != g.axis)
      g.shape[g.rank++] = x.shape[i] ? (x.shape[i] - 1) / static_cast<ptrdiff_t>(g.steps[i]) + 1 : 0;
    else if (s.keep_axis)
      g.shape[g.rank++] = static_cast<ptrdiff_t>(s.out_channels);
  }
  return true;
}

void lie_as(const Array& like, const Geometry& g, ElementType type, ptrdiff_t* strides) {
  int axes[max_rank];
  memory_order(like, axes);
  size_t stride = size_of(type.dtype) * (type.is_complex ? 2 : 1);  // which may be beyond any array: NumPy says so
  for (int i = like.rank; i-- > 0;) {
    int axis = axes[i];
    if (like.rank > g.rank && axis >= g.axis && axis-- == g.axis) continue;  // x's channels, which the result has not
    strides[axis] = static_cast<ptrdiff_t>(stride);
    stride *= static_cast<size_t>(std::max<ptrdiff_t>(g.shape[axis], 1));
  }
}

}  // namespace conv1x1
