#include "call/problem.h"

#include <algorithm>
#include <cstdlib>
#include <limits>

namespace conv1x1 {

namespace {

// Whether x's pixels are nearest along another axis than y's. If so those two come last.
bool turn(const Problem& p, PixelAxes& axes) {
  if (axes.size() < 2) return false;
  const auto nearer = [](const PixelAxis& a, const PixelAxis& b) {
    return (a.x ? std::abs(a.x) : std::numeric_limits<ptrdiff_t>::max()) <
           (b.x ? std::abs(b.x) : std::numeric_limits<ptrdiff_t>::max());
  };
  const auto of_y = axes.end() - 1, of_x = std::min_element(axes.begin(), axes.end(), nearer);
  if (!nearer(*of_x, *of_y)) return false;
  std::rotate(of_x, of_x + 1, of_y);  // now x's before y's
  const size_t x_size = size_of(p.x.dtype);
  const bool whole_pixels = p.in_channels > 1 && p.x.channel == static_cast<ptrdiff_t>(x_size);
  if (whole_pixels || p.out_channels * size_of(p.y.dtype) < p.in_channels * x_size) std::iter_swap(of_y - 1, of_y);
  return true;
}

// An array of so many channels, `stride` bytes apart. Where nobody walks along them, it may be any number, beyond all
// arithmetic too.
Side side_of(const Array& a, size_t channels, ptrdiff_t stride, bool pairs) {
  if (channels <= 1) stride = static_cast<ptrdiff_t>(element_bytes(a));
  Side side{a.dtype, a.swapped, stride};
  if (!a.is_complex) return side;
  const ptrdiff_t part = static_cast<ptrdiff_t>(size_of(a.dtype));
  if (!pairs)
    side.half = part;
  else if (stride == 2 * part || channels == 1)
    side.channel = part;
  else
    side.pair = part;
  return side;
}

// Whether the halves of one pixel and the next follow one another evenly, so that they may be pixels like any others.
bool halves_alternate(const Problem& p, const PixelAxes& axes) {
  if (p.real_residual) return false;
  if (axes.empty()) return true;
  const PixelAxis& inner = axes.back();
  return inner.x == 2 * p.x.half && inner.y == 2 * p.y.half &&
         (!p.adds_residual || inner.residual == 2 * p.residual.half);
}

}  // namespace

Problem make_problem(DType arithmetic, const Array& x, const Array& y, const Array* residual, int channel_axis,
                     bool keep_axis, const size_t* steps, size_t groups, size_t out_channels, Form form,
                     bool has_bias) {
  Problem p;
  p.arithmetic = arithmetic;
  p.groups = groups;
  p.pairs_filters = form == Form::pairs || form == Form::doubled;
  const size_t in_channels = static_cast<size_t>(x.shape[channel_axis]);
  p.in_channels = form == Form::imaginary ? 0 : in_channels / groups * (form == Form::pairs ? 2 : 1);
  p.out_channels = out_channels / groups * (p.pairs_filters ? 2 : 1);
  p.x = side_of(x, in_channels, x.strides[channel_axis], p.pairs_filters);
  const auto result_side = [&](const Array& a) {
    return side_of(a, out_channels, keep_axis ? a.strides[channel_axis] : 0, p.pairs_filters);
  };
  p.y = result_side(y);
  if (residual) p.residual = result_side(*residual);
  p.adds_residual = residual != nullptr;
  p.real_residual = residual && y.is_complex && !residual->is_complex;
  if (form == Form::plain && x.is_complex) p.halves = 2;

  PixelAxes axes;
  p.pixels = 1;
  const bool empty = std::find(y.shape, y.shape + y.rank, 0) != y.shape + y.rank;
  for (int i = 0; i < x.rank; ++i) {
    if (i == channel_axis) continue;
    const int j = i > channel_axis && !keep_axis ? i - 1 : i;
    const size_t n = static_cast<size_t>(y.shape[j]);
    p.pixels *= n;
    if (n == 1 || empty) continue;
    axes.push_back(
        {n, x.strides[i] * static_cast<ptrdiff_t>(steps[i]), y.strides[j], residual ? residual->strides[j] : 0});
  }
  // The result decides the order of the pixels: its innermost axis is walked last.
  sort_axes(axes, [](const PixelAxis& a) { return a.y; });
  if (p.halves == 2 && !has_bias && halves_alternate(p, axes)) {
    axes.push_back({2, p.x.half, p.y.half, p.residual.half});
    p.pixels *= 2;
    p.halves = 1;
  }
  p.all = merge(axes, true, true, p.adds_residual);
  p.source = merge(axes, true, false, false);
  p.target = merge(axes, false, true, p.adds_residual);
  p.boxed = turn(p, p.all);
  if (p.boxed) p.source = p.target = p.all;
  return p;
}

bool planes(const Problem& p) {
  const ptrdiff_t size = static_cast<ptrdiff_t>(size_of(p.arithmetic));
  const auto plane = [&](const Side& side, ptrdiff_t pixel) {
    return side.dtype == p.arithmetic && !side.swapped && pixel == size;
  };
  return !p.all.empty() && plane(p.x, p.all.back().x) && plane(p.y, p.all.back().y);
}

}  // namespace conv1x1
